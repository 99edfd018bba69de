"""Pictures drawn in monospaced text: a row for each estimate, with its intervals on a common axis."""

from collections.abc import Sequence

from cli.report.numbers import number
from cli.report.pictures import Bar, Picture

WIDTH = 45
LONGEST_LABEL = 24

ESTIMATE, LAW, BOTH = "●", "x", "◆"
ONE_LOOK, ANY_LOOK, SHADED, ZERO = "━", "·", "░", "│"


def text_plot(picture: Picture) -> str:
    """Draw a picture as lines of text.

    ● is the estimate, ━ its interval for one look, · the one at any look; x is the law at the value, ◆ law and estimate
    at once. ░ are changes that count as none, │ is zero.
    """
    axis = _Axis(*_range(picture))
    labels = [_label(bar) for bar in picture.bars]
    width = max(map(len, labels))
    rows = [
        f"{label:<{width}} {_row(bar, picture, axis)} {bar.text}"
        for label, bar in zip(labels, picture.bars, strict=True)
    ]
    return "\n".join([_head(picture, axis, width), *rows, *_key(picture)])


class _Axis:
    """Columns of numbers."""

    def __init__(self, lo: float, hi: float) -> None:
        spare = (hi - lo) * 0.02 or 1.0
        self.lo, self.hi = lo - spare, hi + spare

    def column(self, value: float) -> int:
        share = (value - self.lo) / (self.hi - self.lo)
        return min(max(round(share * (WIDTH - 1)), 0), WIDTH - 1)


def _range(picture: Picture) -> tuple[float, float]:
    ends = [bar.middle for bar in picture.bars]
    for interval in (picture.shaded, *(each for bar in picture.bars for each in (bar.narrow, bar.wide))):
        if interval is not None:
            ends += [interval.lo, interval.hi]
    ends += [point.middle for point in picture.curve]
    return min(ends), max(ends)


def _head(picture: Picture, axis: _Axis, width: int) -> str:
    left, right = (f"{picture.prefix}{number(end)}{picture.suffix}" for end in (axis.lo, axis.hi))
    return f"{'':<{width}} {left}{right:>{WIDTH - len(left)}}"


def _row(bar: Bar, picture: Picture, axis: _Axis) -> str:
    cells = [" "] * WIDTH

    def fill(lo: float, hi: float, mark: str) -> None:
        for column in range(axis.column(lo), axis.column(hi) + 1):
            cells[column] = mark

    if picture.shaded is not None:
        fill(picture.shaded.lo, picture.shaded.hi, SHADED)
        fill(0.0, 0.0, ZERO)
    if bar.wide is not None:
        fill(bar.wide.lo, bar.wide.hi, ANY_LOOK)
    if bar.narrow is not None:
        fill(bar.narrow.lo, bar.narrow.hi, ONE_LOOK)
    cells[axis.column(bar.middle)] = ESTIMATE
    for point in picture.curve:
        if abs(point.x - bar.place) <= 1e-9 * abs(bar.place):
            column = axis.column(point.middle)
            cells[column] = BOTH if cells[column] == ESTIMATE else LAW
    return "".join(cells).rstrip().ljust(WIDTH)


def _key(picture: Picture) -> Sequence[str]:
    parts = [f"{ESTIMATE} estimate", f"{ONE_LOOK} one look", f"{ANY_LOOK} any look"]
    if picture.curve:
        parts += [f"{LAW} averaged law", f"{BOTH} both"]
    if picture.shaded is not None:
        parts += [f"{SHADED} ± minimum effect", f"{ZERO} zero"]
    if picture.knee is not None:
        parts.append(picture.knee.text)
    return ["", "   ".join(parts)]


def _label(bar: Bar) -> str:
    label = bar.label if len(bar.label) <= LONGEST_LABEL else f"{bar.label[: LONGEST_LABEL - 1]}…"
    return f"{label} ({bar.note})" if bar.note else label
