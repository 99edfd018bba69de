"""What an HTTP service must know of a SQL statement: where an INSERT's data start, and the format of its answer."""

import re
from dataclasses import dataclass
from pathlib import Path

# Comments and quoted text are whole tokens, so that a word inside them is never taken for a keyword.
TOKEN = re.compile(
    rb"""(?P<skip>\s+|--[^\n]*|\#[^\n]*|/\*.*?\*/)
    |'(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | `(?:[^`\\]|\\.|``)*`
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)
DATA_START = re.compile(rb"[ \t\f]*\r?\n?")
OUTPUT_FORMAT = re.compile(rb"\bFORMAT\s+([A-Za-z0-9_]+)\s*(?:SETTINGS\b[^()]*)?[;\s]*$", re.IGNORECASE)
ANSWERING = {b"SELECT", b"WITH", b"SHOW", b"DESCRIBE", b"DESC", b"EXPLAIN", b"EXISTS", b"CHECK", b"FROM", b"("}
INLINE = {b"VALUES", b"SELECT", b"WITH"}


@dataclass(frozen=True, slots=True)
class Insert:
    """An INSERT ... [SETTINGS ...] FORMAT statement taken apart."""

    head: str
    settings: str
    format: str
    data: bytes

    def from_file(self, path: Path) -> str:
        """Write the statement that reads the data from a file."""
        infile = f"FROM INFILE {quoted(str(path), chr(39))} COMPRESSION 'none'"
        return "\n".join([self.head, infile, self.settings, f"FORMAT {self.format}"])


def quoted(text: str, quote: str) -> str:
    r"""Quote text for SQL.

    >>> quoted("it's", "'")
    "'it\\'s'"
    """
    escaped = text.replace("\\", "\\\\").replace(quote, "\\" + quote)
    return f"{quote}{escaped}{quote}"


def split_insert(text: bytes) -> Insert | None:
    """Take an INSERT whose data follow in the text apart; None for every other statement.

    The data may be binary. They start after the first line break behind the format's name or, where there is none,
    after the blanks behind it.
    """
    depth = 0
    settings_at: int | None = None
    format_at: int | None = None
    first = True
    for token in TOKEN.finditer(text):
        if token["skip"] is not None:
            continue
        word = (token["word"] or b"").upper()
        if first:
            if word != b"INSERT":
                return None
            first = False
        elif format_at is not None:
            start = DATA_START.match(text, token.end())
            assert start is not None
            name = token.group().decode(errors="replace")
            head_end = format_at if settings_at is None else settings_at
            head, settings = text[:head_end].decode(errors="replace"), text[head_end:format_at].decode(errors="replace")
            return Insert(head.rstrip(), settings.rstrip(), name, text[start.end() :])
        elif depth == 0 and word in INLINE:
            return None
        elif depth == 0 and word == b"SETTINGS":
            settings_at = token.start()
        elif depth == 0 and word == b"FORMAT":
            format_at = token.start()
        depth += {b"(": 1, b")": -1}.get(token.group(), 0)
    return None


def answers(text: bytes) -> bool:
    """Whether the statement has a result, even an empty one."""
    for token in TOKEN.finditer(text):
        if token["skip"] is None:
            return (token["word"] or token.group()).upper() in ANSWERING
    return False


def output_format(text: bytes) -> str | None:
    """Read the FORMAT clause at the end of a statement with a result."""
    found = OUTPUT_FORMAT.search(text[-4096:])
    return found[1].decode() if found else None


def file_access(text: bytes, *, readonly: bool) -> str | None:
    """Name the word by which a statement would reach files of the machine, or give None.

    `INTO OUTFILE` writes wherever the process may, at any level of readonly; the function file() reads. The data of an
    INSERT are not looked at.
    """
    insert = split_insert(text)
    head = text if insert is None else insert.head.encode()
    last = b""
    for token in TOKEN.finditer(head):
        if token["skip"] is not None:
            continue
        if token["word"] is not None and token["word"].upper() == b"OUTFILE":
            return "INTO OUTFILE"
        if readonly and token.group() == b"(" and last.strip(b'`"').upper() == b"FILE":
            return "file()"
        # A function may be handed over by its name: APPLY(file), arrayMap(file, ...).
        if readonly and token.group().strip(b'`"').upper() == b"FILE" and last.upper() in {b"(", b"APPLY"}:
            return "file()"
        last = token.group()
    return None
