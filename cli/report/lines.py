"""Pictures of lines with their bands: as plain numbers, as interactive figures and as rows of text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plotly.graph_objects import Figure

from cli.report.figures import BLUE, GREEN, SKY_BLUE, UPRIGHT, VERMILLION, escaped, laid_out, titled
from cli.report.pictures import Bar, Interval, Picture

COLOURS = (BLUE, VERMILLION, GREEN, SKY_BLUE)
DASHES = ("solid", "dash", "dot", "dashdot")
BAND = 0.16
"""Opacity of a band."""

MOST_ROWS = 8
"""Rows of text for each line at the most."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A point of a line.

    Attributes:
        x: A number, or a moment (RFC 3339).
        y: The estimate.
        lo: The lower end of the band; None without one. Likewise `hi`.
        label: Where it is, in words.
        text: What it says, in words.
    """

    x: float | str
    y: float
    lo: float | None
    hi: float | None
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A named line."""

    name: str
    spots: Sequence[Spot]


@dataclass(frozen=True, slots=True)
class Lines:
    """A picture of lines.

    Attributes:
        name: Unique within a report.
        title: What is seen.
        caption: How to read it.
        axis: What is measured; `prefix` and `suffix` go with its numbers.
        along: What x is: moments where `date`.
        lines: At least one, each with a spot.
        logarithmic: Whether the axis of what is measured is.
        level: A value that the lines are held against.
    """

    name: str
    title: str
    caption: str
    axis: str
    along: str
    lines: Sequence[Line]
    prefix: str = ""
    suffix: str = ""
    date: bool = False
    logarithmic: bool = False
    level: float | None = None


def lines_figure(picture: Lines) -> dict[str, Any]:
    """Draw a picture of lines: data and layout as plotly.js takes them."""
    figure = Figure(layout={"template": "none"})
    for place, line in enumerate(picture.lines):
        for trace in _traces(line, COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]):
            figure.add_trace(trace)
    if picture.level is not None:
        figure.add_shape(
            type="line",
            x0=0,
            x1=1,
            xref="paper",
            y0=picture.level,
            y1=picture.level,
            line={"color": "rgba(128, 128, 128, 0.8)", "width": 1.5},
            layer="below",
        )
    figure.update_xaxes(
        title=titled(picture.along),
        type="date" if picture.date else "linear",
        automargin=True,
        zeroline=False,
        fixedrange=True,
    )
    figure.update_yaxes(
        title=titled(picture.axis),
        type="log" if picture.logarithmic else "linear",
        tickprefix=picture.prefix,
        ticksuffix=picture.suffix,
        automargin=True,
        zeroline=False,
        fixedrange=True,
    )
    figure.update_layout(height=UPRIGHT)
    return laid_out(figure)


def as_rows(picture: Lines) -> Picture:
    """Turn lines into one row for each spot, evenly thinned."""
    kept = [(line, spot) for line in picture.lines for spot in thinned(line.spots)]
    return Picture(
        name=picture.name,
        title=picture.title,
        caption=picture.caption,
        axis=picture.axis,
        bars=[
            Bar(
                label=f"{line.name}, {spot.label}",
                place=place,
                middle=spot.y,
                narrow=None,
                wide=None if spot.lo is None or spot.hi is None else Interval(spot.lo, spot.hi),
                text=spot.text,
            )
            for place, (line, spot) in enumerate(kept)
        ],
        prefix=picture.prefix,
        suffix=picture.suffix,
    )


def thinned(spots: Sequence[Spot], most: int = MOST_ROWS) -> Sequence[Spot]:
    """Keep the first spot, the last, and some evenly between."""
    if len(spots) <= most:
        return spots
    return [spots[round(place * (len(spots) - 1) / (most - 1))] for place in range(most)]


def _traces(line: Line, colour: str, dash: str) -> list[dict[str, Any]]:
    x = [spot.x for spot in line.spots]
    name = escaped(line.name)
    edge: dict[str, Any] = {"type": "scatter", "mode": "lines", "x": x, "line": {"width": 0}, "legendgroup": name}
    edge |= {"hoverinfo": "skip", "showlegend": False}
    banded = all(spot.lo is not None for spot in line.spots)
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    band = [
        edge | {"y": [spot.lo for spot in line.spots]},
        edge
        | {
            "y": [spot.hi for spot in line.spots],
            "fill": "tonexty",
            "fillcolor": f"rgba({red}, {green}, {blue}, {BAND})",
        },
    ]
    middle = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": x,
        "y": [spot.y for spot in line.spots],
        "name": name,
        "legendgroup": name,
        "line": {"color": colour, "width": 2.5, "dash": dash},
        "marker": {"color": colour, "size": 7},
        "customdata": [escaped(f"{line.name}, {spot.label}: {spot.text}") for spot in line.spots],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    return [*(band if banded else []), middle]
