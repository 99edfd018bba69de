"""The report of an experiment, for people: one HTML file that needs nothing else, or Markdown."""

import base64
import hashlib
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from cli.report.blocks import Drawing, Page
from cli.report.figures import figure_of
from cli.report.lines import Lines, as_rows, lines_figure
from cli.report.pictures import Picture
from cli.report.sections import Report, page_of
from cli.report.text_plot import text_plot
from models.errors import ScalingError

__all__ = ["Report", "html_report", "markdown_report", "write_report"]

DRAW = """
const figures = JSON.parse(document.getElementById("figures").textContent);
const options = {displayModeBar: false, responsive: true};
const plots = Object.keys(figures).map((name) => document.getElementById(name));
for (const plot of plots) Plotly.newPlot(plot, figures[plot.id].data, figures[plot.id].layout, options);
const resize = (size) => plots.forEach((plot) => Plotly.relayout(plot, size));
window.addEventListener("beforeprint", () => resize({width: 640}));
window.addEventListener("afterprint", () => resize({width: null, autosize: true}));
"""
"""Draws each picture in its place; on paper at a width that fits a page."""

MARKDOWN_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
MARKDOWN_MARKS = re.compile(r"([\\`*_\[\]{}#|~$])")
MARKDOWN_START = re.compile(r"^(\d*)([-+=.)])(?=\s|[-=]*$)")
FENCE = "```"


def html_report(report: Report) -> str:
    """Write a report as one HTML file that works offline and in which nothing can run but its own two scripts.

    Raises:
        InvalidExperiment: No version of the experiment was sealed.
    """
    return html_page(page_of(report))


def html_page(page: Page) -> str:
    """Write a page as one HTML file that works offline and in which nothing can run but its own two scripts."""
    scripts = [get_plotlyjs(), DRAW]
    return (
        _html()
        .get_template("report.html.j2")
        .render(
            page=page,
            figures={drawing.picture.name: _figure(drawing.picture) for drawing in _drawings(page)},
            scripts=scripts,
            hashes=[_csp_hash(script) for script in scripts],
        )
    )


def markdown_report(report: Report) -> str:
    """Write a report as Markdown, its pictures as text.

    Raises:
        InvalidExperiment: No version of the experiment was sealed.
    """
    return markdown_page(page_of(report))


def markdown_page(page: Page) -> str:
    """Write a page as Markdown, its pictures as text."""
    return _markdown().get_template("report.md.j2").render(page=page)


def write_report(report: Report, path: Path) -> None:
    """Write a report to a file, as `write_page` does.

    Raises:
        ScalingError: The name ends otherwise, there is no such folder, or the file cannot be written.
        InvalidExperiment: No version of the experiment was sealed.
    """
    write_page(page_of(report), path)


def write_page(page: Page, path: Path) -> None:
    """Write a page to a file: .html or .htm as HTML, .md as Markdown; a reader never sees half of it.

    Raises:
        ScalingError: The name ends otherwise, there is no such folder, or the file cannot be written.
    """
    forms = {".html": html_page, ".htm": html_page, ".md": markdown_page}
    form = forms.get(path.suffix.lower())
    if form is None:
        raise ScalingError(f"{path} does not end in {', '.join(forms)}: the ending says how the report is written")
    if not path.parent.is_dir():
        raise ScalingError(f"there is no folder {path.parent} for the report: make it or name another one")
    text = form(page)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
        unfinished.replace(path)
    except OSError as error:
        raise ScalingError(f"the report cannot be written to {path}: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def escape_markdown(text: str) -> str:
    r"""Write a text so that Markdown shows it as it is: no HTML, no marks, no links, one line.

    >>> print(escape_markdown("<b>a</b> | [x](y)"))
    &lt;b&gt;a&lt;/b&gt; \| \[x\](y)
    """
    line = " ".join(text.split())
    line = MARKDOWN_MARKS.sub(r"\\\1", line)
    line = "".join(MARKDOWN_ENTITIES.get(letter, letter) for letter in line)
    return MARKDOWN_START.sub(r"\1\\\2", line).replace("://", ":&#47;&#47;")


def fenced(text: str) -> str:
    """Put text into a code block whose fence is longer than any run of backticks in it."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(len(FENCE), longest + 1)
    return f"{fence}text\n{text}\n{fence}"


class _Ready(str):
    """Markdown that is ready as it stands."""

    __slots__ = ()


def _figure(picture: Picture | Lines) -> dict[str, Any]:
    return lines_figure(picture) if isinstance(picture, Lines) else figure_of(picture)


def _text(picture: Picture | Lines) -> str:
    return text_plot(as_rows(picture) if isinstance(picture, Lines) else picture)


def _drawings(page: Page) -> list[Drawing]:
    return [block for section in page.sections for block in section.blocks if isinstance(block, Drawing)]


@lru_cache(maxsize=1)
def _html() -> Environment:
    environment = Environment(
        loader=PackageLoader("cli.report"),
        autoescape=True,
        finalize=_unbroken,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["text_plot"] = _text
    return environment


@lru_cache(maxsize=1)
def _markdown() -> Environment:
    """Make the environment of Markdown: whatever is put into the template is escaped unless it is ready."""
    environment = Environment(  # noqa: S701 - it has an escape of its own
        loader=PackageLoader("cli.report"),
        finalize=_finalized,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plot"] = lambda picture: _Ready(fenced(_text(picture)))
    environment.filters["heading"] = lambda level: _Ready("#" * level)
    environment.filters["rule"] = lambda align: _Ready(" | ".join("--:" if each == "r" else "---" for each in align))
    return environment


def _unbroken(value: Any) -> Any:  # noqa: ANN401 - whatever a template shows
    """Keep a number and its percent sign on one line; markup stays as it is."""
    return value.replace(" %", "\N{NO-BREAK SPACE}%") if type(value) is str else value


def _finalized(value: Any) -> str:  # noqa: ANN401 - whatever a template shows
    return value if isinstance(value, _Ready) else escape_markdown(str(value))


def _csp_hash(script: str) -> str:
    """Name a script in a content security policy by its hash."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
