"""Pictures drawn as interactive figures, in colours that people with any colour vision can tell apart.

Colours of text, grid and axes are left to the page, which knows whether it is light or dark.

References:
    Okabe and Ito (2008), "Color Universal Design".
"""

import math
from collections.abc import Sequence
from typing import Any

from plotly.graph_objects import Figure

from cli.report.pictures import Bar, Interval, Picture, Point

BLUE = "#0072B2"
SKY_BLUE = "#56B4E9"
VERMILLION = "#D55E00"
LIGHT_VERMILLION = "rgba(213, 94, 0, 0.16)"
GREEN = "#009E73"
LIGHT_GREEN = "rgba(0, 158, 115, 0.08)"
GREY = "rgba(128, 128, 128, 0.2)"
CLEAR = "rgba(0, 0, 0, 0)"

RANKS = {"for one look": 1, "at any look": 2, "averaged law": 3, "region": 4}
"""The order of the legend."""

BESIDE, BELOW = 24, 14
"""Characters of a label beside its row, and below its bar."""

APART = 0.04
"""The least share of the axis between two labels, which is a line's height on a phone."""

ROW = 46
FRAME = 120
UPRIGHT = 420
ROOM, SIDES = 0.05, 0.08


def figure_of(picture: Picture) -> dict[str, Any]:
    """Draw a picture: data and layout as plotly.js takes them."""
    figure = Figure(layout={"template": "none"})
    if picture.upright:
        _draw_upright(figure, picture)
    else:
        _draw_rows(figure, picture)
    return laid_out(figure)


def laid_out(figure: Figure) -> dict[str, Any]:
    """Give a figure the look of the report: data and layout as plotly.js takes them."""
    figure.update_layout(
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 12.5},
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        margin={"l": 12, "r": 12, "t": 8, "b": 8},
        autosize=True,
        legend={
            "orientation": "h",
            "traceorder": "normal",
            "yanchor": "bottom",
            "y": 1.0,
            "x": 0,
            "itemclick": False,
            "itemdoubleclick": False,
        },
        hoverlabel={"align": "left"},
        dragmode=False,
    )
    drawn: dict[str, Any] = figure.to_plotly_json()
    drawn["layout"].pop("template", None)
    return drawn


def escaped(text: str) -> str:
    """Write a text so that plotly.js, which reads a little HTML, shows it as it is."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def titled(text: str) -> dict[str, Any]:
    """Write the title of an axis."""
    return {"text": escaped(text), "font": {"size": 13}, "standoff": 12}


def _label(bar: Bar, most: int = BESIDE) -> str:
    """Label a bar; a long name is cut."""
    return escaped(bar.label if len(bar.label) <= most else f"{bar.label[: most - 1]}…")


def _labelled(picture: Picture) -> list[Bar]:
    """Choose the bars whose labels have room, from the last one on; the first one is the control as a rule."""
    lo, hi = _span(picture)
    kept: list[tuple[float, Bar]] = []
    for bar in sorted(picture.bars, key=lambda each: -each.place):
        at = math.log10(bar.place) if picture.logarithmic else bar.place
        if not kept or kept[-1][0] - at >= APART * (hi - lo):
            kept.append((at, bar))
    return [bar for _, bar in kept]


def _draw_upright(figure: Figure, picture: Picture) -> None:
    if picture.curve:
        _add_curve(figure, list(picture.curve))
    for trace in _bar_traces(picture, "y"):
        figure.add_trace(trace)
    if picture.knee is not None:
        _add_knee(figure, picture)
    labelled = _labelled(picture)
    figure.update_xaxes(
        title=titled(picture.along),
        type="log" if picture.logarithmic else "linear",
        range=_span(picture),
        tickvals=[bar.place for bar in labelled],
        ticktext=[f"{_label(bar, BELOW)}<br>{escaped(bar.note)}" for bar in labelled],
        ticklabeloverflow="allow",
        automargin=True,
        zeroline=False,
        fixedrange=True,
    )
    figure.update_yaxes(
        title=titled(picture.axis),
        tickprefix=picture.prefix,
        ticksuffix=picture.suffix,
        automargin=True,
        zeroline=False,
        fixedrange=True,
    )
    figure.update_layout(height=UPRIGHT)


def _draw_rows(figure: Figure, picture: Picture) -> None:
    for trace in _bar_traces(picture, "x"):
        figure.add_trace(trace)
    if picture.shaded is not None:
        figure.add_shape(
            type="rect",
            x0=picture.shaded.lo,
            x1=picture.shaded.hi,
            y0=0,
            y1=1,
            yref="paper",
            line={"width": 0},
            fillcolor=GREY,
            layer="below",
            name="± minimum effect",
            legendrank=RANKS["region"],
            showlegend=True,
        )
    figure.update_xaxes(
        title=titled(picture.axis),
        range=_range(picture),
        zeroline=True,
        zerolinewidth=2,
        automargin=True,
        fixedrange=True,
    )
    figure.update_yaxes(
        tickvals=[bar.place for bar in picture.bars],
        ticktext=[_label(bar) for bar in picture.bars],
        range=[len(picture.bars) - 0.5, -0.5],
        ticklabelstandoff=10,
        showgrid=False,
        zeroline=False,
        automargin=True,
        fixedrange=True,
    )
    figure.update_layout(height=FRAME + ROW * len(picture.bars))


def _span(picture: Picture) -> list[float]:
    """Hold all tested values, with some room on both sides; on a logarithmic axis in powers of ten."""
    places = [math.log10(bar.place) if picture.logarithmic else bar.place for bar in picture.bars]
    room = SIDES * (max(places) - min(places)) or 1.0
    return [min(places) - room, max(places) + room]


def _range(picture: Picture) -> list[float]:
    """Hold all intervals and the shaded region, with some room on both sides."""
    intervals = [each for bar in picture.bars for each in (bar.narrow, bar.wide)]
    known = [each for each in (picture.shaded, *intervals) if each is not None]
    lo, hi = min(each.lo for each in known), max(each.hi for each in known)
    return [lo - ROOM * (hi - lo), hi + ROOM * (hi - lo)]


def _bar_traces(picture: Picture, along: str) -> list[dict[str, Any]]:
    """Draw the light intervals, and over them the bold ones with their estimates."""
    bars = picture.bars
    wide = [bar for bar in bars if bar.wide is not None]
    traces = []
    if wide:
        ends = _error(wide, [bar.wide for bar in wide])
        traces.append(
            _trace(wide, along, "at any look", ends | {"color": SKY_BLUE, "thickness": 1.5, "width": 7})
            | {"marker": {"color": SKY_BLUE, "size": 7}}
        )
    ends = _error(bars, [bar.narrow for bar in bars])
    traces.append(
        _trace(bars, along, "for one look", ends | {"color": BLUE, "thickness": 3.5, "width": 0})
        | {"marker": {"color": BLUE, "size": 9}}
    )
    return traces


def _trace(bars: Sequence[Bar], along: str, name: str, error: dict[str, Any]) -> dict[str, Any]:
    places, middles = [bar.place for bar in bars], [bar.middle for bar in bars]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "legendrank": RANKS[name],
        "x": middles if along == "x" else places,
        "y": places if along == "x" else middles,
        f"error_{along}": error,
        "customdata": [f"{_label(bar)}: {bar.text}" for bar in bars],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _error(bars: Sequence[Bar], intervals: Sequence[Interval | None]) -> dict[str, Any]:
    pairs = list(zip(bars, intervals, strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(ends.hi - bar.middle, 0.0) if ends else 0.0 for bar, ends in pairs],
        "arrayminus": [max(bar.middle - ends.lo, 0.0) if ends else 0.0 for bar, ends in pairs],
    }


def _add_curve(figure: Figure, curve: list[Point]) -> None:
    x = [point.x for point in curve]
    edge = {"type": "scatter", "mode": "lines", "x": x, "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    figure.add_trace(edge | {"y": [point.lo for point in curve]})
    figure.add_trace(edge | {"y": [point.hi for point in curve], "fill": "tonexty", "fillcolor": LIGHT_VERMILLION})
    figure.add_trace(
        {
            "type": "scatter",
            "mode": "lines",
            "x": x,
            "y": [point.middle for point in curve],
            "name": "averaged law",
            "legendrank": RANKS["averaged law"],
            "line": {"color": VERMILLION, "width": 2.5},
            "hoverinfo": "skip",
        }
    )


def _add_knee(figure: Figure, picture: Picture) -> None:
    knee = picture.knee
    assert knee is not None
    tall = {"y0": 0, "y1": 1, "yref": "paper", "layer": "below"}
    figure.add_shape(type="rect", x0=knee.lo, x1=knee.hi, line={"width": 0}, fillcolor=LIGHT_GREEN, **tall)
    figure.add_shape(
        type="line",
        x0=knee.value,
        x1=knee.value,
        line={"color": GREEN, "width": 2, "dash": "dash"},
        name=escaped(knee.text),
        legendrank=RANKS["region"],
        showlegend=True,
        **tall,
    )
