"""The ClickHouse engine (chDB) on one folder: one statement at a time, each with settings of its own."""

import errno
import re
import resource
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from chdb.session import Session

from deploy.statements import answers, output_format, quoted, split_insert
from models.errors import QueryError, StackError

CODE = re.compile(r"Code: (\d+)\.")
UNKNOWN_EXCEPTION = 1002

# chDB says that it is typed, but its sessions are not.
connect: Callable[[str], Any] = Session

RESERVE = 64 * 1024 * 1024
"""Bytes of the disk that inserts leave free."""


class EngineError(QueryError):
    """The engine refused a statement. Its text is ClickHouse's own; `code` is ClickHouse's error number."""

    def __init__(self, text: str) -> None:
        found = CODE.search(text)
        self.code = int(found[1]) if found else UNKNOWN_EXCEPTION
        super().__init__(text[found.start() :] if found else f"Code: {UNKNOWN_EXCEPTION}. DB::Exception: {text}")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as it came over HTTP: its text (an INSERT's data behind it), and what applies to it alone."""

    text: bytes
    database: str = ""
    default_format: str = "TabSeparated"
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """What a statement answered. `format` is None for a statement without a result."""

    body: bytes
    format: str | None
    summary: Mapping[str, int]


class Engine:
    """The engine that owns a folder.

    A statement runs on a connection of its own (2 ms), so that its settings and its database end with it.

    Args:
        folder: Where the tables are; made if missing.

    Raises:
        StackError: The folder cannot be opened, for instance because another process owns it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = str(folder)
        try:
            # Held open: the engine unloads its tables with the last connection.
            self._keeper = connect(self._folder)
            self.version = self._keeper.query("SELECT version()", "TabSeparated").bytes().decode().strip()
        except RuntimeError as error:
            message = (
                f"ClickHouse cannot open {folder}: stop what else uses it, or choose another state folder ({error})"
            )
            raise StackError(message) from error
        self._uploads = folder / "uploads"
        self._uploads.mkdir(exist_ok=True)
        for left in self._uploads.iterdir():  # what a kill has left
            left.unlink()

    def close(self) -> None:
        """Give the folder back."""
        self._keeper.close()

    def run(self, statement: Statement) -> Result:
        """Run a statement.

        Raises:
            EngineError: ClickHouse refused it.
        """
        connection = connect(self._folder)
        try:
            if statement.database:
                connection.query(f"USE {quoted(statement.database, '`')}")
            # In one SET: readonly among them must not shut out the others.
            if statement.settings:
                pairs = (
                    f"{quoted(name, '`')} = {quoted(value, chr(39))}" for name, value in statement.settings.items()
                )
                connection.query(f"SET {', '.join(pairs)}")
            return self._insert_or_query(connection, statement)
        except RuntimeError as error:
            raise EngineError(str(error)) from None
        except OSError as error:
            message = f"Code: 243. DB::Exception: the insert's data cannot be stored: {error}. (NOT_ENOUGH_SPACE)"
            raise EngineError(message) from None
        finally:
            connection.close()

    def _insert_or_query(self, connection: Any, statement: Statement) -> Result:  # noqa: ANN401 - chDB's untyped session
        insert = split_insert(statement.text)
        if insert is None:
            return self._query(connection, statement, statement.text.decode(errors="replace"))
        self._require_room(len(insert.data))
        with NamedTemporaryFile(dir=self._uploads, prefix="insert-") as file:
            file.write(insert.data)
            file.flush()
            return self._query(connection, statement, insert.from_file(Path(file.name)))

    def _require_room(self, size: int) -> None:
        """Refuse an insert while the disk is nearly full.

        chDB 4.4 passes over a write of a part's data that fails in its middle, and acknowledges the insert; the part is
        found broken later. So no insert may meet the end of the disk.
        """
        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        free = shutil.disk_usage(self._folder).free
        room = free if limit == resource.RLIM_INFINITY else min(free, limit)
        if room < size + RESERVE:
            raise OSError(
                errno.ENOSPC, f"{room:,} bytes are left, and {size + RESERVE:,} must be free", str(self._folder)
            )

    @staticmethod
    def _query(connection: Any, statement: Statement, text: str) -> Result:  # noqa: ANN401 - as above
        answer = connection.query(text, statement.default_format, params=dict(statement.parameters))
        body = answer.bytes() or b""
        summary = {
            "read_rows": answer.storage_rows_read(),
            "read_bytes": answer.storage_bytes_read(),
            "written_rows": answer.rows_written(),
            "written_bytes": answer.bytes_written(),
            "result_rows": answer.rows_read(),
            "result_bytes": len(body),
            "elapsed_ns": int(answer.elapsed() * 1e9),
        }
        shown = (output_format(statement.text) or statement.default_format) if answers(statement.text) else None
        return Result(body, shown, summary)
