"""Definitions of experiments: checked as a whole, written canonically, hashed and sealed.

The hash says whether anything of a definition differs; the seal, an HMAC under the deployment's secret, says that the
owner of the experiments wrote it. Whoever can write to the topic can change a record and its hash, but not its seal.
"""

import hashlib
import hmac
import math
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import msgspec
from msgspec import structs
from msgspec.structs import replace

from analytics.published import curve_families
from analytics.task_filter import check_filter, normal_filter
from models.dimensions import LIVE_OUTCOMES, SIZE_CATEGORIES, Dimension, Outcome
from models.errors import InvalidExperiment, SettingsError
from models.experiments import (
    ANALYSIS_VERSION,
    Assignment,
    Definition,
    Finding,
    Notes,
    RequestsCut,
    Result,
    Sealed,
    StatusRecord,
    Value,
)

WHOLE = frozenset({Dimension.AGENT_COUNT, Dimension.ITERATIONS, Dimension.PARALLELISM_LEVEL, Dimension.ATTEMPTS})
"""Dimensions whose values are counts."""

LEAST_SHARE = 0.05
"""Adaptive assignment gives no value a smaller share."""

Record = TypeVar("Record", bound=StatusRecord | Notes | Result | Finding | RequestsCut)

TOKEN = "v1"  # noqa: S105 - the first part of a token
KNEE_ALPHA = 0.05
"""The interval of a knee is one of 95 %."""

LEAST_ALPHA = 1e-6
"""Below it quantiles of several intervals together cannot be found."""

LEAST_SECRET = 16
"""Characters that a secret must have."""


def read_definition(fields: Any) -> Definition:  # noqa: ANN401 - what a file or a request holds
    """Read a definition from plain values and check it.

    Raises:
        InvalidExperiment: A field has a wrong value, or they do not go together; the message names the rule.
    """
    try:
        return check_definition(msgspec.convert(fields, Definition))
    except msgspec.ValidationError as error:
        raise InvalidExperiment(f"the definition is not valid: {error}") from None


def check_definition(definition: Definition) -> Definition:
    """Check that the fields of a definition go together, and give it in its normal form: numbers as floats.

    Raises:
        InvalidExperiment: They do not; the message names field, value and rule.
    """
    definition = msgspec.convert(msgspec.to_builtins(definition), Definition)
    _check_version(definition)
    _check_values(definition)
    check_filter(definition.context_filter)
    check_filter(definition.exclusions, "exclusions")
    _check_question(definition)
    _check_course(definition)
    return replace(
        definition,
        context_filter=normal_filter(definition.context_filter),
        exclusions=normal_filter(definition.exclusions),
    )


def numeric(values: Sequence[Value]) -> bool:
    """Tell whether the values are numbers, which slopes and curves need."""
    return all(not isinstance(value, str) for value in values)


def canonical(definition: Definition) -> bytes:
    """Write a definition as the one JSON text that is hashed: keys sorted, fields at their default left out.

    So a field that a later version of this code adds, with a default that means what was done before, leaves the hash
    of older definitions as it is; a default that is there must never change.
    """
    defaults = {
        each.name: each.default if each.default_factory is msgspec.NODEFAULT else each.default_factory()
        for each in msgspec.structs.fields(Definition)
    }
    # The one default that changes with the code: which analysis was sealed is told always.
    del defaults["analysis_version"]
    fields = msgspec.structs.asdict(definition).items()
    told = {name: value for name, value in fields if name not in defaults or value != defaults[name]}
    return msgspec.json.encode(told, order="sorted")


def digest(definition: Definition) -> str:
    """Hash a definition: SHA-256 of its canonical JSON, hexadecimal."""
    return hashlib.sha256(canonical(definition)).hexdigest()


def seal(definition: Definition, secret: str, *, previous: Sealed | None, at: str, by: str, reason: str = "") -> Sealed:
    """Seal a definition as the version after `previous`."""
    made = Sealed(
        definition=definition,
        version=1 if previous is None else previous.version + 1,
        sha256=digest(definition),
        previous_sha256=None if previous is None else previous.sha256,
        sealed_at=at,
        seal="",
        code_version=code_version(),
        reason=reason,
        by=by,
    )
    return replace(made, seal=_seal(made, secret))


def sealed_truly(sealed: Sealed, secret: str) -> bool:
    """Tell whether hash and seal of a version are those of its definition."""
    return digest(sealed.definition) == sealed.sha256 and same_mac(_seal(sealed, secret), sealed.seal)


def assignment_id(experiment_id: str, number: int, unit: str) -> str:
    """Name the assignment of a unit: the same unit has the same name, whoever asks and however often."""
    return hashlib.sha256(msgspec.json.encode([experiment_id, number, unit])).hexdigest()[:24]


def assignment_mac(assignment: Assignment, secret: str) -> str:
    """Bind what an assignment was made with to the secret: all of it but its fate."""
    return _mac(
        secret,
        "assignment",
        assignment.experiment_id,
        assignment.version,
        assignment.assignment_id,
        assignment.definition_sha256,
        assignment.unit,
        assignment.value,
        assignment.stratum,
        assignment.block,
        assignment.place,
        assignment.propensity,
        assignment.propensities,
        assignment.assigned_at,
        assignment.complexity,
        assignment.contexts,
    )


def outcome_mac(assignment: Assignment, secret: str) -> str:
    """Bind what became of an assignment to the secret."""
    return _mac(secret, "outcome", assignment.mac, assignment.run, assignment.expired, assignment.repeats)


def with_mac(key: str, record: Record, secret: str) -> Record:
    """Give a record beside a definition its MAC: nobody without the secret can change it, or move it."""
    bare = structs.replace(record, mac="")
    return structs.replace(bare, mac=_mac(secret, "record", key, bare))


def truly_written(key: str, value: bytes, secret: str) -> bool:
    """Tell whether a stored record bears the MAC of what it says.

    All that it says counts as it stands there: also fields that only a newer version knows, and the absence of those
    that an older one did not write.

    Raises:
        msgspec.MsgspecError: The value is no JSON object.
    """
    fields = msgspec.json.decode(value, type=dict[str, Any])
    found = str(fields.get("mac", ""))
    without = {name: content for name, content in fields.items() if name != "mac"}
    # Without its MAC a record has the field empty, or, where its kind omits defaults, not at all.
    return any(same_mac(_mac(secret, "record", key, bare), found) for bare in (fields | {"mac": ""}, without))


def assignment_token(assignment: Assignment) -> str:
    """Write the token that the run of an assignment must echo."""
    return f"{TOKEN}.{assignment.assignment_id}.{assignment.mac}"


def assignment_named(token: str | None) -> tuple[str, str] | None:
    """Read a token: the id of its assignment and the MAC; None where it has another form."""
    parts = (token or "").split(".")
    return (parts[1], parts[2]) if len(parts) == 3 and parts[0] == TOKEN else None  # noqa: PLR2004 - of three parts


def same_mac(one: str, other: str) -> bool:
    """Compare two MACs in a time that does not tell where they differ; what is given need not be ASCII."""
    return hmac.compare_digest(one.encode(), other.encode())


def random_key(secret: str, experiment_id: str, number: int) -> bytes:
    """Derive the key of an experiment's randomisation: nobody without the secret can foretell an assignment."""
    return hmac.new(_key(secret), f"randomisation|{experiment_id}|{number}".encode(), hashlib.sha256).digest()


def check_secret(secret: str) -> str:
    """Refuse a secret that is missing or short.

    Raises:
        SettingsError: It is; the message says how to set one.
    """
    if len(secret) < LEAST_SECRET:
        raise SettingsError(
            f"setting experiment_secret has {len(secret)} characters and needs {LEAST_SECRET}: set "
            "SCALING_EXPERIMENT_SECRET to a random text, the same for all workers (openssl rand -hex 32)"
        )
    return secret


def code_version() -> str:
    """Name the version of this code."""
    try:
        return version("orchestration-scaling-laws")
    except PackageNotFoundError:
        return "unknown"


def _check_version(definition: Definition) -> None:
    if definition.analysis_version != ANALYSIS_VERSION:
        raise InvalidExperiment(
            f"analysis_version = {definition.analysis_version}: this deployment has {ANALYSIS_VERSION}; leave it out"
        )


def _check_values(definition: Definition) -> None:
    values, dimension = definition.values_tested, definition.dimension_tested
    if len({str(value) for value in values}) < len(values):
        raise InvalidExperiment(f"values_tested = {values}: give each value once")
    if numeric(values):
        numbers = [float(value) for value in values]
        if not all(math.isfinite(value) and value > 0 for value in numbers):
            raise InvalidExperiment(f"values_tested = {values}: numbers must be above 0")
        if numbers != sorted(numbers):
            raise InvalidExperiment(f"values_tested = {values}: give them in ascending order")
        if dimension in WHOLE and not all(value.is_integer() for value in numbers):
            raise InvalidExperiment(f"values_tested = {values}: {dimension} is a count, give whole numbers")
    elif dimension is not Dimension.MODEL_SIZE or not set(values) <= set(SIZE_CATEGORIES):
        raise InvalidExperiment(
            f"values_tested = {values}: only model_size has categories, which are {', '.join(SIZE_CATEGORIES)}; "
            "give numbers"
        )
    if definition.control_value not in values:
        raise InvalidExperiment(f"control_value = {definition.control_value}: choose one of values_tested {values}")
    contrast = definition.contrast_value
    if contrast is not None and (contrast not in values or contrast == definition.control_value):
        raise InvalidExperiment(f"contrast_value = {contrast}: choose one of {values} other than the control")


def _check_question(definition: Definition) -> None:
    outcome = definition.outcome
    for each in (outcome, *definition.secondary_outcomes):
        if each not in LIVE_OUTCOMES:
            raise InvalidExperiment(f"outcome = {each}: choose one of {', '.join(LIVE_OUTCOMES)}")
    if outcome in definition.secondary_outcomes:
        raise InvalidExperiment(f"secondary_outcomes holds {outcome}, which is the outcome: name others")
    if definition.estimand != "contrast" and not numeric(definition.values_tested):
        raise InvalidExperiment(f"estimand = {definition.estimand}: categories have no order; use contrast")
    if definition.estimand == "knee":
        if definition.knee_at_most is None:
            raise InvalidExperiment("estimand = knee needs knee_at_most: where the hypothesis says that returns end")
        if definition.stopping != "fixed" or definition.alpha != KNEE_ALPHA:
            raise InvalidExperiment(
                f"estimand = knee needs stopping = fixed and alpha = {KNEE_ALPHA}: its interval is of 95 %, at one look"
            )
    known = curve_families(definition.dimension_tested, outcome)
    unknown = [family for family in definition.families if family not in known]
    if unknown:
        raise InvalidExperiment(f"families = {unknown}: {outcome} may follow {', '.join(known)}")
    if definition.missing_quality == "zero" and outcome is not Outcome.QUALITY_SCORE:
        raise InvalidExperiment(f"missing_quality = zero is about quality_score, the outcome is {outcome}")


def _check_course(definition: Definition) -> None:
    if definition.alpha < LEAST_ALPHA:
        raise InvalidExperiment(f"alpha = {definition.alpha:g} is below {LEAST_ALPHA:g}: no experiment is that sure")
    planned, floor = definition.planned_per_value, definition.min_samples_per_value
    if planned < floor:
        raise InvalidExperiment(f"planned_per_value = {planned} is below min_samples_per_value = {floor}")
    if definition.assignment == "neyman" and not numeric(definition.values_tested):
        raise InvalidExperiment("assignment = neyman learns slopes, which categories do not have: use blocks")
    # Half of Neyman's shares are equal ones; the other half may leave a value nothing.
    if definition.assignment == "neyman" and len(definition.values_tested) * LEAST_SHARE > 1 / 2:
        raise InvalidExperiment(
            f"assignment = neyman keeps {LEAST_SHARE:.0%} for each value, which half of all assignments must hold: "
            f"test at most {0.5 / LEAST_SHARE:.0f} values, not {len(definition.values_tested)}"
        )
    if definition.assignment == "switchback" and definition.washout_seconds >= definition.switchback_seconds:
        raise InvalidExperiment(
            f"washout_seconds = {definition.washout_seconds} leaves nothing of switchback_seconds = "
            f"{definition.switchback_seconds}"
        )
    if definition.assignment != "switchback" and definition.dimension_tested is Dimension.PARALLELISM_LEVEL:
        raise InvalidExperiment(
            f"assignment = {definition.assignment}: runs at the same time disturb each other, so parallelism is "
            "randomised by time block; use switchback"
        )


def _seal(sealed: Sealed, secret: str) -> str:
    return _mac(
        secret,
        "definition",
        sealed.definition.experiment_id,
        sealed.version,
        sealed.sha256,
        sealed.previous_sha256,
        sealed.sealed_at,
        sealed.code_version,
        sealed.reason,
        sealed.by,
    )


def _mac(secret: str, *parts: object) -> str:
    return hmac.new(_key(secret), msgspec.json.encode(parts), hashlib.sha256).hexdigest()


def _key(secret: str) -> bytes:
    return check_secret(secret).encode()
