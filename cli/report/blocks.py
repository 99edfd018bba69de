"""What a report is made of; its forms (HTML, Markdown) differ only in how they write these blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from cli.report.lines import Lines
from cli.report.pictures import Picture

Tone = Literal["good", "bad", "open", "firm", "loose", "plain"]


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; a `note` is set smaller."""

    text: str
    note: bool = False
    kind: ClassVar[str] = "text"


@dataclass(frozen=True, slots=True)
class Items:
    """A list of sentences."""

    items: Sequence[str]
    kind: ClassVar[str] = "items"


@dataclass(frozen=True, slots=True)
class Facts:
    """Rows of a name and what holds."""

    rows: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True, slots=True)
class Grid:
    """A table; `align` has a letter for each column: l words, p sentences, r numbers, c code."""

    caption: str
    head: Sequence[str]
    align: str
    rows: Sequence[Sequence[str]]
    kind: ClassVar[str] = "grid"


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture."""

    picture: Picture | Lines
    kind: ClassVar[str] = "drawing"


Block = Text | Items | Facts | Grid | Drawing


@dataclass(frozen=True, slots=True)
class Section:
    """Blocks under a heading of level 2 or 3."""

    title: str
    blocks: Sequence[Block]
    level: int = 2


@dataclass(frozen=True, slots=True)
class Badge:
    """A word that stands out."""

    text: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class Highlight:
    """A number that a hurried reader takes away, with what it is and what stands behind it."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A report as a whole."""

    title: str
    subtitle: str
    badges: Sequence[Badge]
    summary: str
    highlights: Sequence[Highlight]
    sections: Sequence[Section]
