"""Numbers of experiments as people read them: percent and points, seconds and dollars, p and e.

The analysis has success and quality on [0, 1], and time and cost as logarithms. Shown are percent and percentage
points, and seconds and dollars (geometric means) with changes in percent.
"""

import math
from datetime import UTC, datetime

from models.dimensions import LESS_IS_BETTER, Outcome
from models.laws import Estimate

MOST = 20.0
"""Logarithms are held within ±20 before they are raised: a factor of half a billion is beyond every scale."""

LEAST_P = 0.0001
LARGEST_E = 1e6


def shown_mean(outcome: Outcome, value: float) -> float:
    """Turn a mean on the scale of the analysis into percent, seconds or dollars.

    >>> shown_mean(Outcome.SUCCESS, 0.5), round(shown_mean(Outcome.TIME_TO_COMPLETE, 3.401197), 3)
    (50.0, 30.0)
    """
    return _raised(value) if outcome in LESS_IS_BETTER else 100 * value


def shown_change(outcome: Outcome, change: float) -> float:
    """Turn a change on the scale of the analysis into percentage points, or percent for time and cost.

    >>> shown_change(Outcome.SUCCESS, 0.125), round(shown_change(Outcome.TOTAL_COST, -0.223144), 2)
    (12.5, -20.0)
    """
    return 100 * (_raised(change) - 1) if outcome in LESS_IS_BETTER else 100 * change


def change_unit(outcome: Outcome) -> str:
    """Name the unit of a shown change."""
    return "%" if outcome in LESS_IS_BETTER else "points"


def affixes(outcome: Outcome) -> tuple[str, str]:
    """Give what stands before and behind a shown mean."""
    return {Outcome.TIME_TO_COMPLETE: ("", " s"), Outcome.TOTAL_COST: ("$", "")}.get(outcome, ("", " %"))


def shown_text(outcome: Outcome, value: float) -> str:
    """Write a mean that is already in percent, seconds or dollars, with its unit.

    >>> shown_text(Outcome.SUCCESS, 52.04), shown_text(Outcome.TIME_TO_COMPLETE, 1234.5)
    ('52.0 %', '1,234 s')
    >>> shown_text(Outcome.TOTAL_COST, 0.25321), shown_text(Outcome.TOTAL_COST, 12.5)
    ('$0.253', '$12.50')
    """
    if outcome is Outcome.TOTAL_COST:
        return dollars(value)
    before, behind = affixes(outcome)
    digits = number(value) if outcome in LESS_IS_BETTER else f"{value:.1f}"
    return f"{before}{digits}{behind}"


def mean_text(outcome: Outcome, value: float) -> str:
    """Write a mean on the scale of the analysis with its unit."""
    return shown_text(outcome, shown_mean(outcome, value))


def mean_with_interval(outcome: Outcome, mean: Estimate) -> str:
    """Write a mean on the scale of the analysis with its interval.

    >>> mean_with_interval(Outcome.SUCCESS, Estimate(0.52, 0.02, 0.48, 0.56))
    '52.0 % [48.0, 56.0]'
    """
    return f"{mean_text(outcome, mean.estimate)} {means_between(outcome, mean.lo, mean.hi)}"


def means_between(outcome: Outcome, lo: float, hi: float) -> str:
    """Write an interval of means on the scale of the analysis, without the unit."""
    return shown_between(outcome, shown_mean(outcome, lo), shown_mean(outcome, hi))


def shown_between(outcome: Outcome, lo: float, hi: float) -> str:
    """Write an interval that is already in percent, seconds or dollars, without the unit.

    >>> shown_between(Outcome.SUCCESS, 48.0, 56.02)
    '[48.0, 56.0]'
    """
    before, behind = affixes(outcome)
    ends = (shown_text(outcome, end).removeprefix(before).removesuffix(behind) for end in (lo, hi))
    return f"[{', '.join(ends)}]"


def change_text(outcome: Outcome, change: float, *, width: float = 1.0) -> str:
    """Write a change on the scale of the analysis with its unit; `width` is that of its interval, as it is shown.

    >>> change_text(Outcome.SUCCESS, 0.12), change_text(Outcome.TOTAL_COST, -0.223144)
    ('+12.0 points', '-20.0 %')
    """
    return f"{_signed(shown_change(outcome, change), width)} {change_unit(outcome)}"


def change_with_interval(outcome: Outcome, change: Estimate) -> str:
    """Write a change on the scale of the analysis with its interval.

    >>> change_with_interval(Outcome.SUCCESS, Estimate(0.12, 0.03, 0.061, 0.179))
    '+12.0 points [+6.1, +17.9]'
    """
    width = shown_change(outcome, change.hi) - shown_change(outcome, change.lo)
    told = change_text(outcome, change.estimate, width=width)
    return f"{told} {changes_between(outcome, change.lo, change.hi)}"


def changes_between(outcome: Outcome, lo: float, hi: float) -> str:
    """Write an interval of changes on the scale of the analysis, without the unit."""
    ends = shown_change(outcome, lo), shown_change(outcome, hi)
    return f"[{', '.join(_signed(end, ends[1] - ends[0]) for end in ends)}]"


def size_text(outcome: Outcome, size: float) -> str:
    """Write the size of a change, which has no sign; on the logarithm it is the larger of both factors.

    >>> size_text(Outcome.SUCCESS, 0.1), size_text(Outcome.TIME_TO_COMPLETE, 0.1)
    ('10 points', '10.5 %')
    """
    shown = shown_change(outcome, abs(size))
    return f"{_trimmed(f'{shown:,.2f}' if shown < 1 else f'{shown:,.1f}')} {change_unit(outcome)}"


def number(value: float) -> str:
    """Write a number with three significant digits and no exponent, whole from a thousand on.

    >>> number(0.04567), number(34.15), number(1234.4)
    ('0.0457', '34.1', '1,234')
    """
    if not math.isfinite(value):
        return "unbounded"
    places = 0 if value == 0 else min(6, max(0, 2 - math.floor(math.log10(abs(value)))))
    return f"{value:,.{places}f}"


def plain(value: float) -> str:
    """Write a number as it was given: 4, 0.5, 16,000.

    >>> plain(4.0), plain(0.07), plain(16000)
    ('4', '0.07', '16,000')
    """
    return f"{value:,.0f}" if value == round(value) else f"{value:,.6g}"


def dollars(value: float) -> str:
    """Write an amount of money: cents from a dollar on, three digits below.

    >>> dollars(1234.5), dollars(0.0042), dollars(0)
    ('$1,234.50', '$0.00420', '$0.00')
    """
    if value == 0 or abs(value) >= 1:
        return f"${value:,.2f}"
    return f"${number(value)}"


def p_text(p: float) -> str:
    """Write a p-value.

    >>> p_text(0.0321), p_text(1.0), p_text(3e-9)
    ('0.032', '1', '< 0.0001')
    """
    return f"< {LEAST_P:.4f}" if p < LEAST_P else f"{p:.2g}"


def e_text(e: float) -> str:
    """Write an e-value.

    >>> e_text(0.4321), e_text(12345.6), e_text(1e30)
    ('0.432', '12,346', '> 1,000,000')
    """
    return f"> {LARGEST_E:,.0f}" if e > LARGEST_E else number(e)


def percent(share: float) -> str:
    """Write a share.

    >>> percent(0.8312), percent(0.95)
    ('83.1 %', '95 %')
    """
    return f"{_trimmed(f'{100 * share:.1f}')} %"


def time_text(moment: str) -> str:
    """Write a moment (RFC 3339) in UTC; what is none stays as it is.

    >>> time_text("2026-03-01T05:00:00Z"), time_text("soon")
    ('2026-03-01 05:00 UTC', 'soon')
    """
    try:
        return f"{datetime.fromisoformat(moment).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return moment


def duration(seconds: float) -> str:
    """Write a length of time in the largest unit that it is a whole number of.

    >>> duration(21_600), duration(1800), duration(3600), duration(90)
    ('6 hours', '30 minutes', '1 hour', '90 seconds')
    """
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size:,.0f} {unit}{'' if seconds == size else 's'}"
    return f"{seconds:,.0f} second{'' if seconds == 1 else 's'}"


def _raised(value: float) -> float:
    return math.exp(min(max(value, -MOST), MOST))


def _signed(value: float, width: float) -> str:
    if not math.isfinite(value):
        return "unbounded"
    places = 2 if width < 1 else 1
    text = f"{value:+,.{places}f}"
    return text if float(text.replace(",", "")) else f"{0:.{places}f}"


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
