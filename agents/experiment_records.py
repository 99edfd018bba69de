"""What is written about an experiment besides its definition: what to do next, what it found, how records differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from models.experiments import Assignment, Finding, Notes, Result, Sealed, StatusRecord

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError)
"""What reading a record that somebody else wrote may raise; JSON can be nested deeper than a stack."""

NEXT_STEPS: Mapping[str, str] = {
    "running": "Nothing: orchestrators ask for assignments, the result is refreshed as runs come in.",
    "effect": "Use it: the report has the recommended value. Outcomes still on their way are taken in.",
    "futility": "Keep the finding: more runs of this design would not change it. Test another dimension.",
    "planned": "Read the report. If it is undetermined, its detectable effect says what a larger experiment needs.",
    "budget": "Read the report. To go on, start a new experiment with a larger budget.",
    "sample_ratio": "Find out why some values lose runs (time-outs, crashes, filters), mend it, and start again.",
    "loss": "Find out why so many assignments lead to no outcome; the report says at which values.",
    "stopped": "Read the report: what was ended by hand is exploratory. Start a new experiment to confirm it.",
    "tampering": "Find out who writes to scaling.experiments (verify names what was changed). Start a new experiment.",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a result is worked out from; it does not change while that happens beside the event loop."""

    sealed: Sealed
    status: StatusRecord
    notes: Notes
    assignments: tuple[Assignment, ...]
    previous: Result | None
    finding: Finding | None
    deviations: tuple[str, ...]
    final: bool
    looks_before: int = 0

    @property
    def look(self) -> int:
        """Number the next look: on from the last one, and from those at earlier versions."""
        return 1 + (self.looks_before if self.previous is None else max(self.previous.look, self.looks_before))


def content_of(result: Result) -> Result:
    """Leave out of a result what differs although it says the same: when it was worked out, and at which look."""
    law = None if result.law is None else replace(result.law, version=0, fitted_at="")
    return replace(result, analysed_at="", look=0, law=law, mac="")


def finding_of(sealed: Sealed, result: Result) -> Finding:
    """Write down what an experiment found, once and for all."""
    definition = sealed.definition
    knee = result.law.knee if result.law is not None else None
    effect = result.effect
    sequential = definition.stopping == "sequential"
    early = any(arm.measured < definition.min_samples_per_value for arm in result.arms)
    return Finding(
        experiment_id=definition.experiment_id,
        version=sealed.version,
        name=definition.name,
        hypothesis=definition.hypothesis,
        dimension=definition.dimension_tested.value,
        outcome=definition.outcome.value,
        context_filter=definition.context_filter,
        values=definition.values_tested,
        verdict=result.verdict,
        label=result.label,
        sentence=result.sentence,
        concluded_at=result.analysed_at,
        sha256=sealed.sha256,
        runs=result.runs,
        dollars=result.dollars,
        # An experiment without an effect to test, a knee, or too early to, spends its place in the ledger all the same.
        p=1.0
        if effect is None or early or definition.estimand == "knee"
        else effect.anytime_p
        if sequential
        else effect.p,
        alpha=definition.alpha,
        minimum_effect=definition.minimum_effect,
        effect=effect,
        power=result.power,
        knee=None if knee is None else knee.value,
        recommended_value=None if result.law is None else result.law.reference.recommended_value,
    )


def moment(now: float) -> str:
    """Write seconds since the epoch as RFC 3339 in UTC."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def changed_fields(old: Any, new: Any) -> list[str]:  # noqa: ANN401 - two definitions
    """Name the fields in which two definitions differ, with both values, cut where they are long."""
    before, after = msgspec.to_builtins(old), msgspec.to_builtins(new)
    return [f"{name} {before[name]!r:.200} -> {after[name]!r:.200}" for name in before if before[name] != after[name]]


def read_sealed(value: bytes | None) -> Sealed | None:
    """Read a sealed version, or None where it is none."""
    try:
        return msgspec.json.decode(value or b"", type=Sealed)
    except UNREADABLE:
        return None


def difference(sealed: Sealed, other: Sealed | None, *, gone: bool = False) -> str:
    """Say how a record differs from the version that was sealed; `gone` says that it is a tombstone."""
    if other is None:
        return f"the sealed definition was {'deleted' if gone else 'replaced by something unreadable'}"
    changes = changed_fields(sealed.definition, other.definition)
    return "the sealed definition was changed: " + ("; ".join(changes) or "its seal, not its fields")
