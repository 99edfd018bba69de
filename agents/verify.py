"""Whether a law says what its raw runs say: it is compared with its refit, part by part."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agents.refits import MERGED
from analytics.equality import AVERAGED, compare_laws
from analytics.laws import explained
from models.laws import Adjusted, Law, Validation
from models.settings import Settings

LEAST = 1e-12
"""What rounding may do to a number that should be zero."""

HEADING = "heading"
PARTS = (HEADING, "values", "reference", "power", "published", "knee")
"""The parts that compare_laws compares; its remarks begin with their names, those on the heading with a field's."""

NOT_COMPARED = {
    "drift": "it depends on when each time bucket was judged",
    "pooling": "it depends on the laws of other contexts",
    "adjusted_significance": "it depends on all other laws",
}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a law: where it differs from the refit, or why it was not compared; neither means that it is equal."""

    name: str
    differences: list[str] = field(default_factory=list)
    not_compared: str = ""

    @property
    def verdict(self) -> str:
        """Say equal, differs or not compared."""
        if self.differences:
            return "differs"
        return "not compared" if self.not_compared else "equal"


def compare(law: Law, refit: Law, settings: Settings) -> list[Part]:
    """Compare a law with its refit, part by part; what the runs of one context do not determine is named.

    Tolerances are those of `analytics.equality.compare_laws`; parts it does not know may differ by 1e-6 of their
    value or standard error.
    """
    live = law.tier == "live"
    drifted = live and law.drift is not None and law.drift.alarm
    expected = msgspec.structs.replace(refit, status="drifted" if drifted else refit.status)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for remark in compare_laws(law, expected):
        name = re.match("[a-z_]+", remark)
        found[name[0] if name and name[0] in PARTS else HEADING].append(remark)
    if law.settings_hash != settings.validation_hash:
        found[HEADING].append(
            f"settings_hash: {law.settings_hash}, here {settings.validation_hash}: verify with the workers' settings"
        )
    parts = [Part(name, found[name]) for name in PARTS]
    parts.append(Part("trend", [*_alike("trend", law.trend, refit.trend), *_evidential(law.e_value, refit.e_value)]))
    parts.append(_compare_adjusted(law, refit))
    if law.scalability is not None or refit.scalability is not None:
        parts.append(Part("scalability", list(_alike("scalability", law.scalability, refit.scalability))))
    parts += _compare_validation(law, refit)
    parts.append(Part("text", list(_compare_text(law, expected))))
    parts += [Part(name, not_compared=why) for name, why in NOT_COMPARED.items() if getattr(law, name) is not None]
    return parts


def _compare_adjusted(law: Law, refit: Law) -> Part:
    """Compare the adjusted part; of a live law without its method, which is another, and errors that are not known."""
    one, other = law.adjusted, refit.adjusted
    remarks = [*_alike("confounding_gap", law.confounding_gap, refit.confounding_gap)]
    if law.tier == "live" and one is not None and other is not None:
        merged = other.method == MERGED
        return Part(
            "adjusted", [*_alike("adjusted", _known(one, merged=merged), _known(other, merged=merged)), *remarks]
        )
    remarks += _alike("tipping_reliability", law.tipping_reliability, refit.tipping_reliability)
    return Part("adjusted", [*_alike("adjusted", one, other), *remarks])


def _known(adjusted: Adjusted, *, merged: bool) -> dict[str, Any]:
    """Take what two ways to the same slope have in common."""
    said: dict[str, Any] = msgspec.to_builtins(adjusted)
    del said["method"]
    if merged:
        said.pop("sign_differs", None)
        for name in ("slope", "naive"):
            said[name] = {"estimate": said[name]["estimate"], "se_classical": said[name]["se_classical"]}
    return said


def _compare_validation(law: Law, refit: Law) -> Iterator[Part]:
    one, other = law.validation or Validation(), refit.validation or Validation()
    for name in ("holdout", "five_fold"):
        if getattr(one, name) is not None or getattr(other, name) is not None:
            what = f"validation.{name}"
            yield Part(what, list(_alike(what, getattr(one, name), getattr(other, name))))
    if one.forward is not None:
        yield Part("validation.forward", not_compared=NOT_COMPARED["drift"])
    if one.transfer is not None:
        yield Part("validation.transfer", not_compared=NOT_COMPARED["pooling"])


def _compare_text(law: Law, expected: Law) -> Iterator[str]:
    """Write the texts from the refit, and from the law where that is not determined by the runs of one context."""
    told = explained(
        msgspec.structs.replace(
            expected,
            adjusted=law.adjusted,
            tipping_reliability=law.tipping_reliability,
            drift=law.drift,
            validation=law.validation,
            pooling=law.pooling,
            epoch_since=law.epoch_since,
        )
    )
    if told.sentence != law.sentence:
        yield f"sentence: {law.sentence!r}, and from the runs {told.sentence!r}"
    if told.lint != law.lint:
        yield f"lint: {law.lint}, and from the runs {told.lint}"


def _evidential(one: float | None, other: float | None) -> Iterator[str]:
    """Compare e-values by their logarithms, in which they are computed."""
    logs = [None if each is None else math.log(max(each, 1e-300)) for each in (one, other)]
    if list(_alike("ln e_value", logs[0], logs[1])):
        yield f"e_value: {one} and {other}"


def _alike(name: str, one: object, other: object, size: float = 0.0) -> Iterator[str]:
    """Compare what is made of numbers, texts, lists and structs; an estimate's numbers to its own error."""
    p, q = msgspec.to_builtins(one), msgspec.to_builtins(other)
    if isinstance(p, dict) and isinstance(q, dict):
        size = max(float(each.get("se") or 0.0) for each in (p, q))
        for key in sorted(p.keys() | q.keys()):
            yield from _alike(f"{name}.{key}", p.get(key), q.get(key), size)
    elif isinstance(p, list) and isinstance(q, list) and len(p) == len(q):
        for place, (left, right) in enumerate(zip(p, q, strict=True)):
            yield from _alike(f"{name}[{place}]", left, right, size)
    elif isinstance(p, float) and isinstance(q, float | int):
        if abs(p - q) > max(AVERAGED * max(abs(p), abs(q), size), LEAST):
            yield f"{name}: {p!r} and {q!r}"
    elif p != q:
        yield f"{name}: {p} and {q}"
