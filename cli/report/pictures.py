"""The pictures of an experiment as plain numbers, before they are drawn as a figure or as text.

Everything is as it is shown: percent and points, seconds and dollars.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from analytics.sentences import DIMENSION_WORDS, OUTCOME_WORDS
from cli.report.numbers import (
    affixes,
    change_unit,
    change_with_interval,
    changes_between,
    mean_with_interval,
    percent,
    plain,
    shown_change,
    shown_mean,
    size_text,
)
from cli.report.words import value_text
from models.dimensions import LESS_IS_BETTER, Outcome
from models.experiments import ArmResult, Definition, Effect, Result
from models.laws import CurvePoint, Estimate, Knee, Published

SAME = 1e-9
WIDE_RATIO = 6.0
"""Values that span more than this are drawn on a logarithmic axis, as the slope on ln x has them."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The ends of an interval."""

    lo: float
    hi: float


@dataclass(frozen=True, slots=True)
class Bar:
    """An estimate with its interval for one look and the one that holds at any look.

    Attributes:
        label: What it belongs to.
        place: Where on the axis of the values; among rows its number.
        middle: The estimate.
        narrow: The interval for one look.
        wide: The interval at any look.
        text: The same in words.
        note: What is special about it.
    """

    label: str
    place: float
    middle: float
    narrow: Interval | None
    wide: Interval | None
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a curve with its band."""

    x: float
    middle: float
    lo: float
    hi: float


@dataclass(frozen=True, slots=True)
class Marked:
    """A marked value on the axis of the values, with an interval."""

    value: float
    lo: float
    hi: float
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Bars along the tested values (`upright`), or one below the other around zero.

    Attributes:
        name: Unique within a report.
        title: What is seen.
        caption: How to read it.
        axis: What is measured; `prefix` and `suffix` go with its numbers.
        bars: At least one.
        along: What the values are, for upright bars; on a logarithmic axis where `logarithmic`.
        shaded: Changes that count as none.
        curve: A law drawn through upright bars.
        knee: Where the law stops paying.
    """

    name: str
    title: str
    caption: str
    axis: str
    bars: Sequence[Bar]
    prefix: str = ""
    suffix: str = ""
    along: str = ""
    logarithmic: bool = False
    shaded: Interval | None = None
    curve: Sequence[Point] = field(default_factory=tuple)
    knee: Marked | None = None

    @property
    def upright(self) -> bool:
        """Whether the bars stand along the axis of the values."""
        return bool(self.along)


def outcome_picture(result: Result, definition: Definition) -> Picture | None:
    """Picture the mean outcome at each value with the averaged law; None where no value is reported."""
    outcome, level = definition.outcome, percent(1 - definition.alpha)
    reported = [(arm, arm.mean) for arm in result.arms if arm.mean is not None]
    if not reported:
        return None
    places = _places(definition)
    numeric = all(not isinstance(value, str) for value in definition.values_tested)
    published = result.law.published if result.law is not None and numeric else None
    knee = result.law.knee if result.law is not None and published is not None else None
    typical = "geometric mean" if outcome in LESS_IS_BETTER else "mean"
    law = f" The line is the averaged law, its band holds at {percent(0.95)} at each value." if published else ""
    ends = [place for value, place in places.items() if not isinstance(value, str)]
    prefix, suffix = affixes(outcome)
    return Picture(
        name="outcome-by-value",
        title=f"{_capital(OUTCOME_WORDS[outcome])} by value",
        caption=f"Points are the {typical} of the runs assigned to a value. Bold intervals hold at {level} for one "
        f"look, light ones at any look.{law}",
        axis=OUTCOME_WORDS[outcome],
        bars=[_arm_bar(arm, mean, places.get(arm.value, 0.0), definition) for arm, mean in reported],
        prefix=prefix,
        suffix=suffix,
        along=DIMENSION_WORDS[definition.dimension_tested],
        logarithmic=numeric and min(ends) > 0 and max(ends) / min(ends) > WIDE_RATIO,
        curve=_curve(published, outcome),
        knee=_marked(knee),
    )


def contrast_picture(result: Result, definition: Definition) -> Picture | None:
    """Picture the contrasts with the control; None where there are none."""
    if not result.contrasts:
        return None
    outcome, level = definition.outcome, percent(1 - definition.alpha)
    bars = [
        Bar(
            label=f"{value_text(each.value)} against {value_text(each.over)}",
            place=place,
            middle=shown_change(outcome, each.difference.estimate),
            narrow=_changes(outcome, each.difference.lo, each.difference.hi),
            wide=_changes(outcome, each.anytime_lo, each.anytime_hi),
            text=change_with_interval(outcome, each.difference),
        )
        for place, each in enumerate(result.contrasts)
    ]
    return Picture(
        name="contrasts",
        title="Contrasts with the control",
        caption=f"All bold intervals hold together at {level} for one look, all light ones at any look. "
        f"{_none_words(definition)}",
        axis=f"change in {OUTCOME_WORDS[outcome]}, {change_unit(outcome)}",
        bars=bars,
        shaded=_none_region(definition),
    )


def effect_picture(result: Result, definition: Definition) -> Picture | None:
    """Picture the effect with its three intervals; None where there is no effect."""
    effect = result.effect
    if effect is None:
        return None
    outcome, alpha = Outcome(effect.outcome), definition.alpha
    rows = [
        ("one look", percent(1 - alpha), effect.estimate.lo, effect.estimate.hi),
        ("any look", percent(1 - alpha), effect.anytime_lo, effect.anytime_hi),
        ("equivalence", percent(1 - 2 * alpha), effect.equivalence_lo, effect.equivalence_hi),
    ]
    middle = shown_change(outcome, effect.estimate.estimate)
    bars = [
        Bar(
            label=f"{name}, {level}",
            place=place,
            middle=middle,
            narrow=None if name == "any look" else _changes(outcome, lo, hi),
            wide=_changes(outcome, lo, hi) if name == "any look" else None,
            text=_effect_text(outcome, effect, lo, hi),
        )
        for place, (name, level, lo, hi) in enumerate(rows)
    ]
    return Picture(
        name="effect",
        title="The effect",
        caption=f"{_none_words(definition)} An equivalence interval inside of it shows that there is no effect worth "
        "knowing; an interval clear of zero shows that there is one.",
        axis=f"change in {OUTCOME_WORDS[outcome]}, {change_unit(outcome)}",
        bars=bars,
        shaded=_none_region(definition),
    )


def pictures(result: Result, definition: Definition) -> list[Picture]:
    """Give all pictures that a result allows."""
    made = (make(result, definition) for make in (effect_picture, outcome_picture, contrast_picture))
    return [picture for picture in made if picture is not None]


def _arm_bar(arm: ArmResult, mean: Estimate, place: float, definition: Definition) -> Bar:
    outcome = definition.outcome
    wide = None
    if arm.anytime_lo is not None and arm.anytime_hi is not None:
        wide = Interval(shown_mean(outcome, arm.anytime_lo), shown_mean(outcome, arm.anytime_hi))
    return Bar(
        label=value_text(arm.value),
        place=place,
        middle=shown_mean(outcome, mean.estimate),
        narrow=Interval(shown_mean(outcome, mean.lo), shown_mean(outcome, mean.hi)),
        wide=wide,
        text=mean_with_interval(outcome, mean),
        note="control" if arm.value == definition.control_value else "",
    )


def _places(definition: Definition) -> dict[object, float]:
    """Place each value on the axis: numbers where they are, categories side by side."""
    return {
        value: float(at) if isinstance(value, str) else float(value)
        for at, value in enumerate(definition.values_tested)
    }


def _curve(published: Published | None, outcome: Outcome) -> list[Point]:
    """Read the law's curve, which is on the scale of the outcome itself; rates become percent."""
    scale = 1.0 if outcome in LESS_IS_BETTER else 100.0
    points: Sequence[CurvePoint] = published.curve if published is not None else ()
    return [Point(each.x, scale * each.mean, scale * each.lo, scale * each.hi) for each in points]


def _marked(knee: Knee | None) -> Marked | None:
    if knee is None:
        return None
    doubt = "" if knee.supported else "?"
    return Marked(knee.value, knee.lo, knee.hi, f"knee {plain(knee.value)}{doubt} [{plain(knee.lo)}, {plain(knee.hi)}]")


def _changes(outcome: Outcome, lo: float, hi: float) -> Interval:
    return Interval(shown_change(outcome, lo), shown_change(outcome, hi))


def _effect_text(outcome: Outcome, effect: Effect, lo: float, hi: float) -> str:
    return f"{change_with_interval(outcome, effect.estimate).split(' [')[0]} {changes_between(outcome, lo, hi)}"


def _none_region(definition: Definition) -> Interval:
    return _changes(definition.outcome, -definition.minimum_effect, definition.minimum_effect)


def _none_words(definition: Definition) -> str:
    return f"The shaded region is ± the minimum effect of {size_text(definition.outcome, definition.minimum_effect)}."


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
