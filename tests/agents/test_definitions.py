"""Definitions: each rule with its message, one normal form and hash, and seals that nobody can make or move."""

import hashlib
import hmac
import json
import tomllib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agents.definitions import (
    assignment_id,
    assignment_mac,
    assignment_named,
    assignment_token,
    check_definition,
    check_secret,
    digest,
    numeric,
    outcome_mac,
    random_key,
    read_definition,
    same_mac,
    seal,
    sealed_truly,
    truly_written,
    with_mac,
)
from analytics.ready_made import READY_MADE
from models.errors import InvalidExperiment, SettingsError
from models.experiments import Assignment, Definition, Joined, Notes, RequestsCut, Sealed, Status, StatusRecord

SECRET = "0123456789abcdef"  # noqa: S105 - a test's
OTHER = "fedcba9876543210"
FIELDS: dict[str, Any] = {
    "experiment_id": "agents-1",
    "name": "Agents",
    "hypothesis": "More agents succeed more often",
    "dimension_tested": "agent_count",
    "values_tested": [1, 2, 4],
    "control_value": 1,
}


def definition(**fields: object) -> Definition:
    """Read the definition of these fields and those above."""
    return read_definition({**FIELDS, **fields})


# --- rules ------------------------------------------------------------------------------------------------------------

SIZES: dict[str, Any] = {
    "dimension_tested": "model_size",
    "values_tested": ["small", "large"],
    "control_value": "small",
    "estimand": "contrast",
}
KNEE: dict[str, Any] = {"estimand": "knee", "knee_at_most": 4, "stopping": "fixed"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        # what a single field may hold
        ({"experiment_id": "a b"}, "the definition is not valid: Expected `str` matching regex"),
        ({"experiment_id": "agents\n"}, "the definition is not valid: Expected `str` matching regex"),
        ({"experiment_id": "a|b"}, "the definition is not valid: Expected `str` matching regex"),
        ({"name": ""}, "the definition is not valid: Expected `str` of length >= 1"),
        ({"hypothesis": "x" * 2001}, "the definition is not valid: Expected `str` of length <= 2000"),
        ({"dimension_tested": "agents"}, "the definition is not valid: Invalid enum value 'agents'"),
        ({"values_tested": [1]}, "the definition is not valid: Expected `array` of length >= 2"),
        ({"values_tested": list(range(1, 18))}, "the definition is not valid: Expected `array` of length <= 16"),
        ({"alpha": 0.3}, "the definition is not valid: Expected `float` <= 0.2"),
        ({"alpha": 9e-7}, "alpha = 9e-07 is below 1e-06: no experiment is that sure"),
        ({"alpha": 1e-300}, "alpha = 1e-300 is below 1e-06: no experiment is that sure"),
        ({"minimum_effect": 0}, "the definition is not valid: Expected `float` > 0.0"),
        ({"stopping": "never"}, "the definition is not valid: Invalid enum value 'never'"),
        ({"budget_dollars": -1}, "the definition is not valid: Expected `float` > 0.0"),
        ({"run_dollars": 0}, "the definition is not valid: Expected `float` > 0.0"),
        ({"analysis_version": 2}, "analysis_version = 2: this deployment has 1; leave it out"),
        ({"analysis_version": 0}, "analysis_version = 0: this deployment has 1; leave it out"),
        ({"hypotesis": "x"}, "the definition is not valid: Object contains unknown field `hypotesis`"),
        # values
        ({"values_tested": [1, 2, 2]}, "values_tested = [1.0, 2.0, 2.0]: give each value once"),
        ({"values_tested": [0, 1]}, "values_tested = [0.0, 1.0]: numbers must be above 0"),
        ({"values_tested": [1, float("inf")]}, "values_tested = [1.0, inf]: numbers must be above 0"),
        ({"values_tested": [2, 1]}, "values_tested = [2.0, 1.0]: give them in ascending order"),
        ({"values_tested": [1, 2.5]}, "values_tested = [1.0, 2.5]: agent_count is a count, give whole numbers"),
        (
            {"values_tested": ["small", "large"]},
            "values_tested = ['small', 'large']: only model_size has categories, which are small, medium, large; give",
        ),
        ({"values_tested": [1, "2"]}, "values_tested = [1.0, '2']: only model_size has categories"),
        ({**SIZES, "values_tested": ["small", "huge"]}, "values_tested = ['small', 'huge']: only model_size has"),
        ({"control_value": 3}, "control_value = 3.0: choose one of values_tested [1.0, 2.0, 4.0]"),
        ({"contrast_value": 3}, "contrast_value = 3.0: choose one of [1.0, 2.0, 4.0] other than the control"),
        ({"contrast_value": 1}, "contrast_value = 1.0: choose one of [1.0, 2.0, 4.0] other than the control"),
        # filters
        ({"context_filter": {"project": None}}, "context_filter.project = None: give a scalar"),
        ({"exclusions": {"lines": {}}}, "exclusions.lines = {}: an object has at least one of min, max and not"),
        # the question
        (
            {"outcome": "success_times_quality"},
            "outcome = success_times_quality: choose one of success, quality_score, time_to_complete, total_cost",
        ),
        ({"secondary_outcomes": ["quality_given_success"]}, "outcome = quality_given_success: choose one of success"),
        ({"secondary_outcomes": ["success"]}, "secondary_outcomes holds success, which is the outcome: name others"),
        ({**SIZES, "estimand": "slope"}, "estimand = slope: categories have no order; use contrast"),
        ({**SIZES, **KNEE}, "estimand = knee: categories have no order; use contrast"),
        ({**KNEE, "knee_at_most": None}, "estimand = knee needs knee_at_most: where the hypothesis says that returns"),
        (
            {**KNEE, "stopping": "sequential"},
            "estimand = knee needs stopping = fixed and alpha = 0.05: its interval is",
        ),
        ({"families": ["cubic"]}, "families = ['cubic']: success may follow "),
        ({"missing_quality": "zero"}, "missing_quality = zero is about quality_score, the outcome is success"),
        # the course
        ({"planned_per_value": 29}, "planned_per_value = 29 is below min_samples_per_value = 30"),
        ({**SIZES, "assignment": "neyman"}, "assignment = neyman learns slopes, which categories do not have: use"),
        (
            {"assignment": "neyman", "values_tested": list(range(1, 12))},
            "assignment = neyman keeps 5% for each value, which half of all assignments must hold: test at most 10 val",
        ),
        (
            {"assignment": "switchback", "switchback_seconds": 60, "washout_seconds": 60},
            "washout_seconds = 60 leaves nothing of switchback_seconds = 60",
        ),
        (
            {"dimension_tested": "parallelism_level"},
            "assignment = blocks: runs at the same time disturb each other, so parallelism is randomised by time block",
        ),
    ],
)
def test_each_rule_names_field_value_and_rule(fields: dict[str, Any], message: str) -> None:
    """What breaks a rule is refused in a sentence that says which field, which value, and what would do."""
    with pytest.raises(InvalidExperiment) as refused:
        definition(**fields)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    "fields",
    [
        SIZES,
        KNEE,
        {"contrast_value": 2, "estimand": "contrast"},
        {"values_tested": [0.5, 7.5], "control_value": 0.5, "dimension_tested": "model_size"},
        {"outcome": "quality_score", "missing_quality": "zero", "secondary_outcomes": ["success"]},
        {"assignment": "neyman", "values_tested": list(range(1, 11))},
        {"assignment": "thompson", "values_tested": list(range(1, 17))},
        {"assignment": "switchback", "dimension_tested": "parallelism_level", "washout_seconds": 1799},
        {"planned_per_value": 30},
        {"alpha": 1e-6},
        {"analysis_version": 1},
        {"run_dollars": 0.25},
        {"run_dollars": 0.25, "budget_dollars": 10},
    ],
)
def test_what_keeps_the_rules_is_taken(fields: dict[str, Any]) -> None:
    """At the edge of each rule a definition is still valid, and its normal form is a fixed point."""
    found = definition(**fields)
    assert check_definition(found) == found
    assert numeric(found.values_tested) is not isinstance(found.control_value, str)


@pytest.mark.parametrize("made", READY_MADE.values(), ids=READY_MADE)
def test_the_ready_made_definitions_keep_the_rules(made: Definition) -> None:
    """Each is valid as it stands, and in its normal form."""
    assert check_definition(made) == made


# --- normal form and hash ---------------------------------------------------------------------------------------------

TOML = """
experiment_id = "agents-1"
name = "Agents"
hypothesis = "More agents succeed more often"
dimension_tested = "agent_count"
values_tested = [1, 2, 4]
control_value = 1
knee_at_most = 4
minimum_effect = 1
budget_dollars = 50
context_filter = { lines = { min = 10, max = 5000, not = [77, 78] }, files = [1, 2], tested = true, min_complexity = 0 }
exclusions = { lines = 13 }
"""


def as_numbers(fields: Any, kind: type[int | float]) -> Any:  # noqa: ANN401 - any JSON
    """Write every whole number of a JSON value as this kind of number."""
    if isinstance(fields, dict):
        return {name: as_numbers(value, kind) for name, value in fields.items()}
    if isinstance(fields, list):
        return [as_numbers(value, kind) for value in fields]
    return kind(fields) if isinstance(fields, int | float) and not isinstance(fields, bool) else fields


def test_the_hash_is_that_of_the_canonical_json_however_numbers_were_written() -> None:
    """From TOML, JSON or Python, with 1 or 1.0, a definition is one: numbers are floats, and the hash is theirs."""
    plain = tomllib.loads(TOML)
    found = read_definition(plain)
    others = [
        read_definition(as_numbers(plain, int)),
        read_definition(as_numbers(plain, float)),
        read_definition(json.loads(json.dumps(plain))),
        read_definition(json.loads(json.dumps(as_numbers(plain, float)))),
        check_definition(msgspec.json.decode(json.dumps(plain), type=Definition)),
        check_definition(msgspec.json.decode(msgspec.json.encode(found), type=Definition)),
        check_definition(Definition(**as_numbers(plain, int))),
    ]
    told = as_numbers(plain, float) | {"analysis_version": 1}
    canonical = json.dumps(told, sort_keys=True, separators=(",", ":"))
    expected = hashlib.sha256(canonical.encode()).hexdigest()
    assert {digest(each) for each in [found, *others]} == {expected}
    assert '"lines":{"max":5000.0,"min":10.0,"not":[77.0,78.0]}' in canonical


def test_a_hash_outlives_the_code_that_made_it() -> None:
    """Defaults are not in it, so a field that is added later changes no old hash; which analysis was sealed is."""
    told = (
        b'{"analysis_version":1,"control_value":1.0,"dimension_tested":"agent_count","experiment_id":"agents-1",'
        b'"hypothesis":"More agents succeed more often","name":"Agents","values_tested":[1.0,2.0,4.0]}'
    )
    assert digest(definition()) == hashlib.sha256(told).hexdigest()


def test_the_order_of_keys_and_fields_given_at_their_default_change_nothing() -> None:
    """A definition that spells everything out in another order has the hash of the short one."""
    short = definition(context_filter={"project": "a", "lines": 1})
    spelt = msgspec.to_builtins(short)
    backwards = {name: spelt[name] for name in reversed(spelt)} | {"context_filter": {"lines": 1, "project": "a"}}
    assert digest(read_definition(backwards)) == digest(short)


CHANGED: dict[str, Any] = {
    "experiment_id": "agents-2",
    "name": "Agent",
    "hypothesis": "More agents succeed less often",
    "dimension_tested": "attempts",
    "values_tested": [1, 2, 3],
    "control_value": 2,
    "context_filter": {"project": "atlas"},
    "outcome": "total_cost",
    "estimand": "contrast",
    "contrast_value": 2,
    "knee_at_most": 3,
    "direction": "either",
    "families": ["linear"],
    "minimum_effect": 0.11,
    "min_samples_per_value": 31,
    "planned_per_value": 201,
    "alpha": 0.04,
    "stopping": "fixed",
    "assignment": "least",
    "stratify_by": ["project"],
    "switchback_seconds": 1801,
    "washout_seconds": 1,
    "exclusions": {"lines": 1},
    "missing_quality": "zero",
    "adjust_for_complexity": False,
    "secondary_outcomes": ["total_cost"],
    "budget_dollars": 1.0,
    "budget_runs": 1,
    "run_dollars": 0.5,
    "expire_seconds": 21_601,
    "analysis_version": 2,
}


def test_any_single_field_changes_the_hash() -> None:
    """No field is left out of the hash, and no two changes have the same."""
    assert set(CHANGED) == set(Definition.__struct_fields__)
    first = definition()
    changed = [
        digest(msgspec.convert({**msgspec.to_builtins(first), name: CHANGED[name]}, Definition)) for name in CHANGED
    ]
    assert len({digest(first), *changed}) == 1 + len(CHANGED)


@settings(max_examples=100)
@given(st.integers(1, 10**9), st.floats(1e-9, 10, exclude_min=True), st.text(min_size=1, max_size=200))
def test_a_definition_read_back_from_its_record_is_the_same(most: int, least: float, name: str) -> None:
    """Whatever the numbers and texts, writing and reading keeps the hash, so that a seal stays true."""
    made = definition(name=name, minimum_effect=least, context_filter={"lines": {"max": most}, "title": name})
    sealed = seal(made, SECRET, previous=None, at="2026-01-01T00:00:00.000Z", by=name)
    again = msgspec.json.decode(msgspec.json.encode(sealed), type=Sealed)
    assert again == sealed
    assert sealed_truly(again, SECRET)


# --- seals and tokens -------------------------------------------------------------------------------------------------

AT = "2026-01-01T00:00:00.000Z"
FIRST = seal(definition(), SECRET, previous=None, at=AT, by="ada")
SECOND = seal(definition(alpha=0.01), SECRET, previous=FIRST, at=AT, by="ada", reason="a stricter level")


def test_versions_are_chained_and_verify() -> None:
    """Each version holds the hash of the one before; hash and seal are true under the secret that made them."""
    assert (FIRST.version, FIRST.previous_sha256) == (1, None)
    assert (SECOND.version, SECOND.previous_sha256) == (2, FIRST.sha256)
    assert FIRST.sha256 == digest(FIRST.definition) != SECOND.sha256
    assert all(sealed_truly(each, SECRET) for each in (FIRST, SECOND))


@pytest.mark.parametrize(
    "changes",
    [
        {"definition": replace(SECOND.definition, alpha=0.02)},
        {
            "definition": replace(SECOND.definition, alpha=0.02),
            "sha256": digest(replace(SECOND.definition, alpha=0.02)),
        },
        {"definition": FIRST.definition, "sha256": FIRST.sha256},
        {"version": 3},
        {"sha256": "0" * 64},
        {"previous_sha256": None},
        {"previous_sha256": "0" * 64},
        {"sealed_at": "2025-12-31T00:00:00.000Z"},
        {"code_version": "0.0.0"},
        {"reason": "a typing mistake"},
        {"by": "eve"},
        {"seal": FIRST.seal},
        {"seal": ""},
        {"seal": "ü" * 64},
    ],
)
def test_no_part_of_a_sealed_version_can_be_changed(changes: dict[str, Any]) -> None:
    """Whoever changes the record, and makes its hash again, still has no seal for it."""
    assert not sealed_truly(replace(SECOND, **changes), SECRET)


def test_a_seal_is_nothing_under_another_secret() -> None:
    """Another deployment neither makes nor believes it."""
    assert not sealed_truly(FIRST, OTHER)
    assert seal(definition(), OTHER, previous=None, at=AT, by="ada").seal != FIRST.seal


def an_assignment() -> Assignment:
    """Make an assignment with its MAC."""
    made = Assignment(
        "agents-1", 1, assignment_id("agents-1", 1, "task=t"), FIRST.sha256, "task=t", 2.0, "project=a", 3, 1,
        0.25, [0.5, 0.25, 0.25], 1_750_000_000.25, "", 0.5, ["global"],
    )  # fmt: skip
    return replace(made, mac=assignment_mac(made, SECRET))


ALTERED: dict[str, Any] = {
    "experiment_id": "agents-2",
    "version": 2,
    "assignment_id": "0" * 24,
    "definition_sha256": SECOND.sha256,
    "unit": "task=u",
    "value": 4.0,
    "stratum": "project=b",
    "block": 4,
    "place": 2,
    "propensity": 0.5,
    "propensities": [0.25, 0.25, 0.5],
    "assigned_at": 1_750_000_000.5,
    "complexity": None,
    "contexts": ["global", "project=a"],
}
FATE = {"mac", "expired", "run", "repeats", "outcome_mac", "schema_version"}
"""What comes after an assignment was made."""

RUN = Joined("r", 1_750_000_060.5, (0, 7), 2.0, 1.0, 0.75, 60.5, 0.25)


def test_a_mac_binds_all_that_an_assignment_was_made_with() -> None:
    """Any other value of any field has another MAC, and so has any other secret; what comes later does not move it."""
    made = an_assignment()
    assert set(ALTERED) | FATE == set(Assignment.__struct_fields__)
    for name, value in ALTERED.items():
        assert assignment_mac(replace(made, **{name: value}), SECRET) != made.mac, name
    assert assignment_mac(made, OTHER) != made.mac
    later = replace(made, expired=True, repeats=["r2"])
    assert assignment_mac(later, SECRET) == made.mac
    assert assignment_mac(msgspec.json.decode(msgspec.json.encode(made), type=Assignment), SECRET) == made.mac


def test_an_outcome_is_bound_to_its_assignment() -> None:
    """Any other run, expiry or repeat has another MAC, and so has the same outcome of another assignment."""
    made = replace(an_assignment(), run=RUN, repeats=["r2"])
    true = outcome_mac(made, SECRET)
    other: dict[str, list[Any]] = {
        "run": [None, *(replace(RUN, **{name: value}) for name, value in OTHER_RUN.items())],
        "expired": [True],
        "repeats": [[], ["r2", "r3"]],
    }
    assert set(OTHER_RUN) == set(Joined.__struct_fields__)
    macs = [outcome_mac(replace(made, **{name: value}), SECRET) for name, values in other.items() for value in values]
    macs += [outcome_mac(replace(made, mac="0" * 64), SECRET), outcome_mac(made, OTHER)]
    assert len({true, *macs}) == 1 + len(macs)
    assert outcome_mac(replace(made, outcome_mac=true), SECRET) == true
    assert outcome_mac(msgspec.json.decode(msgspec.json.encode(made), type=Assignment), SECRET) == true


OTHER_RUN: dict[str, Any] = {
    "agent_run_id": "q",
    "completed_at": 1_750_000_061.5,
    "order": (1, 7),
    "actual_value": 4.0,
    "success": 0.0,
    "quality_score": 0.5,
    "time_to_complete": 61.5,
    "total_cost": 0.5,
    "excluded": True,
}


RECORDS: list[tuple[Any, Any]] = [
    (StatusRecord("agents-1", 1, Status.RUNNING, AT, "started", "wait"), {"status": Status.ANALYZED}),
    (Notes({"r": "no assignment token"}, ["x"], 2), {"tampering": []}),
    (RequestsCut(7, 1000), {"offset": 8}),
]


@pytest.mark.parametrize(("record", "changes"), RECORDS)
def test_a_record_beside_a_definition_is_bound_to_its_key(record: Any, changes: dict[str, Any]) -> None:  # noqa: ANN401
    """Its MAC is that of its content and its key: another key, content or secret has another, its own MAC has none."""
    made = with_mac("agents-1|1|status", record, SECRET)
    assert replace(made, mac="") == record
    assert with_mac("agents-1|1|status", made, SECRET) == made
    assert (
        with_mac("agents-1|1|status", msgspec.json.decode(msgspec.json.encode(made), type=type(made)), SECRET) == made
    )
    others = [
        with_mac("agents-1|2|status", record, SECRET),
        with_mac("agents-2|1|status", record, SECRET),
        with_mac("agents-1|1|status", record, OTHER),
        with_mac("agents-1|1|status", replace(record, **changes), SECRET),
    ]
    assert len({made.mac, *(each.mac for each in others)}) == 5


class Later(Notes, frozen=True, omit_defaults=True):
    """Notes as a later version might have them."""

    mood: str = ""


@pytest.mark.parametrize("record", [record for record, _ in RECORDS] + [Later({}, ["x"], mood="good")])
def test_a_stored_record_is_believed_as_it_was_written(record: Any) -> None:  # noqa: ANN401
    """With fields that this version does not know, and without those that it would write; and only so."""
    key = "agents-1|1|notes"
    fields = msgspec.json.decode(msgspec.json.encode(with_mac(key, record, SECRET)))
    value = msgspec.json.encode(fields)
    assert truly_written(key, value, SECRET)
    assert not truly_written("agents-1|2|notes", value, SECRET)
    assert not truly_written(key, value, OTHER)
    others = [fields | {"schema_version": 2}, fields | {"added": 1}, {"mac": fields["mac"]}, fields | {"mac": None}]
    others += [{name: content for name, content in fields.items() if name != gone} for gone in fields]
    assert not any(truly_written(key, msgspec.json.encode(other), SECRET) for other in others)


def test_a_token_names_its_assignment() -> None:
    """The token of an assignment reads back as its id and MAC; other texts are no tokens."""
    made = an_assignment()
    assert assignment_named(assignment_token(made)) == (made.assignment_id, made.mac)
    for token in (None, "", "v1", "v1.a", "v2.a.b", "v1.a.b.c", f"V1.{made.assignment_id}.{made.mac}"):
        assert assignment_named(token) is None


def test_an_assignment_is_named_by_experiment_version_and_unit() -> None:
    """The name is the same for whoever asks, and no two lists of parts share one."""
    parts = [("a", 1, "task=t"), ("b", 1, "task=t"), ("a", 2, "task=t"), ("a", 1, "task=u"), ("a", 1, 'task=t",1')]
    names = [assignment_id(*each) for each in parts]
    expected = hashlib.sha256(b'["a",1,"task=t"]').hexdigest()[:24]
    assert names[0] == expected
    assert len(set(names)) == len(parts)


def test_macs_are_compared_whatever_they_hold() -> None:
    """A text that is not ASCII is no MAC, and no error either."""
    assert same_mac("abc", "abc")
    assert not same_mac("abc", "äbc")


# --- the secret -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["", "0123456789abcde"])
def test_a_short_secret_is_refused(secret: str) -> None:
    """Nothing is sealed, named or drawn with it; the message tells how to set one, and never the secret."""
    with pytest.raises(SettingsError) as refused:
        check_secret(secret)
    told = str(refused.value)
    assert told.startswith(f"setting experiment_secret has {len(secret)} characters and needs 16: set SCALING_EXP")
    assert not secret or secret not in told
    for use in (
        lambda: seal(definition(), secret, previous=None, at=AT, by=""),
        lambda: sealed_truly(FIRST, secret),
        lambda: assignment_mac(an_assignment(), secret),
        lambda: outcome_mac(an_assignment(), secret),
        lambda: with_mac("cut|0|requests", RequestsCut(), secret),
        lambda: random_key(secret, "agents-1", 1),
    ):
        with pytest.raises(SettingsError):
            use()


def test_the_key_of_a_randomisation_follows_from_secret_experiment_and_version() -> None:
    """It is the HMAC of both under the secret, so no two versions draw alike."""
    expected = hmac.new(SECRET.encode(), b"randomisation|agents-1|1", "sha256").digest()
    assert random_key(SECRET, "agents-1", 1) == expected
    keys = {random_key(*parts) for parts in [(SECRET, "agents-1", 1), (OTHER, "agents-1", 1), (SECRET, "agents-1", 2)]}
    assert len(keys | {random_key(SECRET, "agents-2", 1)}) == 4
    assert check_secret(SECRET) == SECRET
