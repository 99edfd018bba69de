"""What others write is shown and never run: on terminals, and in every kind of block that a page is made of."""

import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
import typer
from rich.table import Table
from rich.text import Text

from cli.law_page import describe
from cli.laws import laws_table
from cli.output import print_json, say
from cli.report.blocks import Badge, Block, Facts, Grid, Highlight, Items, Page, Section
from cli.report.blocks import Text as Paragraph
from cli.report.writing import html_page, markdown_page
from cli.terminal import SafeConsole, visible
from models.laws import Law

ORDERS = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\x00\x08\r"
MARKUP = "</p></td></script><script>document.documentElement.dataset.owned='yes'</script><img src=x onerror=alert(1)>"
HOSTILE = f"[bold]{MARKUP}\"'`{{{{7*7}}}}{ORDERS}<svg/onload=alert(1)><!--"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)


def harmless(text: str) -> bool:
    """Whether a terminal would be given no order by a text."""
    return not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def test_a_law_page_gives_a_terminal_no_orders(make_law: Callable[..., Law]) -> None:
    """Escape sequences, marks of direction and other controls in names are shown as signs, in tables and in lines."""
    law = make_law(context=f"project={HOSTILE}", sentence=HOSTILE)
    shown = StringIO()
    console = SafeConsole(file=shown, force_terminal=True, color_system=None, width=200)
    console.print(laws_table([law]))
    describe(law, console)
    table = Table(HOSTILE.replace("[", r"\["), title=Text(HOSTILE))
    table.add_row(Text(HOSTILE))
    console.print(table)
    console.print(HOSTILE, markup=False, soft_wrap=True)
    assert harmless(shown.getvalue())
    assert "␛]0;owned" in shown.getvalue()


def test_lines_and_json_give_a_terminal_no_orders(capsys: pytest.CaptureFixture[str]) -> None:
    """Plain lines show signs; JSON has escapes, and reads back as what it was."""
    say(HOSTILE)
    print_json({HOSTILE: [HOSTILE]})
    told = capsys.readouterr().out
    assert harmless(told)
    assert visible(HOSTILE) in told
    assert r"\u202e" in told


class Elements(HTMLParser):
    """Lists the elements and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take an element down."""
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


def hostile_page() -> Page:
    """Make a page of every kind of block, hostile in every text."""
    grid = Grid(HOSTILE, [HOSTILE, HOSTILE, HOSTILE, HOSTILE], "lprc", [[HOSTILE] * 4] * 2)
    blocks: list[Block] = [
        Paragraph(HOSTILE),
        Paragraph(HOSTILE, note=True),
        Items([HOSTILE]),
        Facts([(HOSTILE, HOSTILE)]),
        grid,
    ]
    sections = [Section(HOSTILE, blocks), Section(HOSTILE, [Paragraph(HOSTILE)], level=3)]
    return Page(HOSTILE, HOSTILE, [Badge(HOSTILE, "good")], HOSTILE, [Highlight(HOSTILE, HOSTILE, HOSTILE)], sections)


def test_no_block_of_a_page_lets_markup_in() -> None:
    """All reports are pages of these blocks: none of the texts becomes an element, nor a template."""
    html = html_page(hostile_page())
    assert html.count("<script") == 3
    for broken in ("<img", "<svg/", "<!--\n", "49"):
        assert broken not in html.partition("<body")[2].partition("<script")[0]
    markdown = markdown_page(hostile_page())
    assert "<script" not in markdown
    assert "<img" not in markdown


@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome is on PATH: install Debian's chromium")
def test_a_browser_runs_nothing_of_a_hostile_page(tmp_path: Path) -> None:
    """Chromium finds no element that a text brought along, and no script of it has run."""
    path = tmp_path / "page.html"
    path.write_text(html_page(hostile_page()), encoding="utf-8")
    assert BROWSER is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    quiet = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"]
    found = subprocess.run(
        [BROWSER, *flags, *quiet, "--virtual-time-budget=5000", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    seen = Elements()
    seen.feed(found.stdout)
    assert "</html>" in found.stdout
    assert not {"img", "svg/onload"} & set(seen.tags)
    assert seen.tags.count("script") == 3
    assert not [name for name in seen.attributes if name.startswith("on") or name == "data-owned"]


def test_a_crash_shows_no_variables() -> None:
    """Where a command crashes, typer's traceback has no values of variables, among which secrets would be."""
    from cli.main import app  # noqa: PLC0415 - only here

    assert isinstance(app, typer.Typer)
    assert not app.pretty_exceptions_show_locals
