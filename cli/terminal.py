"""What others wrote, on a terminal: characters that move its cursor, hide text or give it orders are shown instead."""

import re
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
"""C0 and C1 controls but tab and line feed, marks of direction, invisible characters, and other ends of lines."""

CONTROL_PICTURES = 0x2400
DELETE = 0x7F


def visible(text: str) -> str:
    r"""Show unseen characters as signs that do nothing.

    >>> visible("a\x1b[2Jb\u202ec")
    'a␛[2Jb�c'
    """
    return UNSEEN.sub(_sign, text)


def escaped(json: str) -> str:
    r"""Write unseen characters in the strings of a JSON document as escapes.

    >>> escaped('"a\x9bb"')
    '"a\\u009bb"'
    """
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", json)


class SafeConsole(Console):
    """A console that writes its own controls, and shows those in texts."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render, with every text made visible."""
        for segment in super().render(renderable, options):
            if segment.control is None and UNSEEN.search(segment.text):
                yield Segment(visible(segment.text), segment.style)
            else:
                yield segment


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code == DELETE:
        return "\N{SYMBOL FOR DELETE}"
    return chr(CONTROL_PICTURES + code) if code < ord(" ") else "\N{REPLACEMENT CHARACTER}"
