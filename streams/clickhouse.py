"""Everything that is said to ClickHouse: the schema, inserts that do not give up, and queries."""

import asyncio
import re
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, overload
from urllib.parse import urlsplit

import numpy as np
import structlog
from clickhouse_connect.datatypes.base import ClickHouseType
from clickhouse_connect.datatypes.registry import get_from_name
from clickhouse_connect.driver.exceptions import Error, OperationalError
from clickhouse_connect.driver.httpclient import HttpClient
from clickhouse_connect.driver.httputil import all_managers, get_pool_manager
from numpy.typing import NDArray
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_exponential, wait_fixed, wait_random
from urllib3 import PoolManager

from models.errors import NotReachable, QueryError, SettingsError, StackError
from models.settings import Settings
from streams.migration import additions, table_of
from streams.tls import tls_context

log = structlog.get_logger()

Column = Sequence[Any] | NDArray[Any]

SCHEMA = (
    *("database", "observations", "records", "rejected", "laws"),
    *("experiments", "assignments", "findings"),
    *("decisions", "overrides", "tests"),
)
"""The files of streams/sql, in the order in which they are applied."""

INSERT_SETTINGS = {
    # An insert has succeeded when its rows are stored, not when they are queued.
    "async_insert": 0,
    # ReplacingMergeTree collapses repeated rows; dropping a block because it came before would undo a rebuild.
    "insert_deduplicate": 0,
    "deduplicate_insert": "disable",
}
PASSING = frozenset(
    {
        "ABORTED",
        "ALL_CONNECTION_TRIES_FAILED",
        "CANNOT_SCHEDULE_TASK",
        "KEEPER_EXCEPTION",
        "MEMORY_LIMIT_EXCEEDED",
        "NETWORK_ERROR",
        "NOT_ENOUGH_SPACE",
        "NO_FREE_CONNECTION",
        "NO_ZOOKEEPER",
        "QUERY_WAS_CANCELLED",
        "QUOTA_EXCEEDED",
        "S3_ERROR",
        "SOCKET_TIMEOUT",
        "TABLE_IS_READ_ONLY",
        "TIMEOUT_EXCEEDED",
        "TOO_FEW_LIVE_REPLICAS",
        "TOO_MANY_PARTS",
        "TOO_MANY_SIMULTANEOUS_QUERIES",
        "TOO_SLOW",
        "UNKNOWN_STATUS_OF_INSERT",
        "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE",
    }
)
"""Errors of a server that is overloaded, starting, stopping, full or cut off; the same request may succeed later."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DEFAULT_PORTS = {"http": 8123, "https": 8443}
CONNECT_SECONDS = 5
INSERT_SECONDS = 30
SCHEMA_RETRY_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Rows:
    """The result of a query: names and ClickHouse types of its columns, and its rows."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


class ClickHouseSink:
    """Inserts columns, and keeps trying while ClickHouse is down or overloaded.

    Args:
        settings: Where ClickHouse is.
        refusals: How often an insert may be refused by an error that time does not heal.
        first_pause: Seconds before the second attempt; doubled before each further one.
        longest_pause: Seconds between attempts at the most.
    """

    def __init__(
        self, settings: Settings, *, refusals: int = 8, first_pause: float = 0.2, longest_pause: float = 5.0
    ) -> None:
        self._settings = settings
        self._refusals = refusals
        self._wait = wait_exponential(multiplier=first_pause, max=longest_pause) + wait_random(0, first_pause)
        self._closed = asyncio.Event()
        self._failing: set[str] = set()
        self.failures = 0
        self._client: HttpClient | None = None
        self._client_lock = threading.Lock()
        self._types: dict[str, dict[str, ClickHouseType]] = {}

    @property
    def retrying(self) -> bool:
        """Whether an insert has failed and has not succeeded since."""
        return bool(self._failing)

    async def insert(self, table: str, columns: Mapping[str, Column]) -> None:
        """Insert columns of equal length; return when they are stored.

        A DateTime64 column takes integer ticks. A column that is left out takes its default. An insert that failed
        halfway is repeated as a whole, so the table must collapse repeated rows.

        Raises:
            StackError: The table lacks a column, ClickHouse keeps refusing the rows, or the sink was closed meanwhile.
        """
        lengths = {len(values) for values in columns.values()}
        if len(lengths) != 1:
            raise ValueError(f"columns of {table} have {sorted(lengths)} rows; give all the same number")
        if lengths == {0}:
            return
        refused = 0
        attempts = AsyncRetrying(
            wait=self._wait,
            sleep=self._pause,
            retry=retry_if_exception(lambda error: isinstance(error, Exception) and not isinstance(error, StackError)),
            reraise=True,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    if self._closed.is_set():
                        raise StackError(f"the insert into {table} was given up because the sink was closed")
                    number = attempt.retry_state.attempt_number
                    try:
                        await asyncio.to_thread(self._insert_now, table, columns)
                    except StackError:
                        raise
                    except Exception as error:
                        refused += not _passes(error)
                        if refused >= self._refusals:
                            raise StackError(self._refusal(table, error)) from error
                        self._failed(table, number, error)
                        _let_go(error)
                        raise
                    if number > 1:
                        log.info("clickhouse_insert_recovered", table=table, attempts=number)
        finally:
            self._failing.discard(table)

    async def close(self) -> None:
        """Give up inserts that are being retried and close the connections."""
        self._closed.set()
        if self._client is not None:
            await asyncio.to_thread(_disconnect, self._client.http)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), seconds)

    def _failed(self, table: str, number: int, error: Exception) -> None:
        self._failing.add(table)
        self.failures += 1
        # Attempts 1, 2, 4, 8, ...: an outage of a night is a dozen lines.
        if number & (number - 1) == 0:
            log.warning(
                "clickhouse_insert_failed",
                table=table,
                clickhouse=address(self._settings),
                attempt=number,
                reason=_message(error),
            )

    def _refusal(self, table: str, error: Exception) -> str:
        return (
            f"ClickHouse at {address(self._settings)} refused an insert into {table} {self._refusals} times: "
            f"{_message(error)}; put right what it names and start the archive worker again, nothing is lost"
        )

    def _insert_now(self, table: str, columns: Mapping[str, Column]) -> None:
        client = self._connected()
        types = self._types.get(table)
        if types is None:
            types = self._types[table] = _describe(client, table)
        missing = columns.keys() - types.keys()
        if missing:
            self._types.pop(table)
            raise StackError(
                f"table {table} at {address(self._settings)} has no column {', '.join(sorted(missing))}: "
                "it was made by another version; add the column as in streams/sql, or drop the table and rebuild it"
            )
        rows = [values.tolist() if isinstance(values, np.ndarray) else values for values in columns.values()]
        try:
            client.insert(
                table,
                rows,
                column_names=list(columns),
                column_types=[types[name] for name in columns],
                column_oriented=True,
                settings=_allowed(client, INSERT_SETTINGS),
            )
        finally:
            # The client's context of an insert refers to itself: it waits, with this list, for the garbage collector.
            rows.clear()

    def _connected(self) -> HttpClient:
        with self._client_lock:
            if self._client is None:
                self._client = _connect(self._settings, INSERT_SECONDS)
            return self._client


def _let_go(error: BaseException) -> None:
    """Empty the frames that an error and those before it came through: they hold the rows, in cycles with the error."""
    waiting, seen = [error], {id(error)}
    while waiting:
        one = waiting.pop()
        traceback.clear_frames(one.__traceback__)
        before = [each for each in (one.__cause__, one.__context__) if each is not None and id(each) not in seen]
        seen |= set(map(id, before))
        waiting += before


async def apply_schema(settings: Settings, timeout: float = 30.0) -> None:  # noqa: ASYNC109 - waits for a server to start
    """Create the database, its tables and its views, add what older tables lack; wait for ClickHouse to answer.

    Raises:
        NotReachable: ClickHouse did not answer within `timeout` seconds.
        StackError: ClickHouse refused the schema.
    """
    attempts = AsyncRetrying(
        wait=wait_fixed(SCHEMA_RETRY_SECONDS),
        stop=stop_after_delay(timeout),
        retry=retry_if_exception(lambda error: isinstance(error, Error) and _passes(error)),
        reraise=True,
    )
    try:
        async for attempt in attempts:
            with attempt:
                await asyncio.to_thread(_apply, settings)
    except OperationalError as error:
        raise _not_reachable(settings) from error
    except Error as error:
        raise StackError(f"ClickHouse at {address(settings)} refused the schema: {_message(error)}") from error


def schema_statements(database: str) -> list[str]:
    """List the statements of the schema. The name of the database is an identifier that the settings have checked."""
    sources = (files("streams").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8") for name in SCHEMA)
    return [
        statement.strip().replace("{database}", database)
        for source in sources
        for statement in source.split(";\n")
        if statement.strip()
    ]


@overload
def query(
    settings: Settings,
    sql: str,
    *,
    fmt: None = None,
    parameters: Mapping[str, Any] | None = None,
    readonly: bool = True,
    seconds: int = 60,
    rows: int = 1_000_000,
    limits: Mapping[str, int] | None = None,
) -> Rows: ...


@overload
def query(
    settings: Settings,
    sql: str,
    *,
    fmt: str,
    parameters: Mapping[str, Any] | None = None,
    readonly: bool = True,
    seconds: int = 60,
    rows: int = 1_000_000,
    limits: Mapping[str, int] | None = None,
) -> bytes: ...


def query(
    settings: Settings,
    sql: str,
    *,
    fmt: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    readonly: bool = True,
    seconds: int = 60,
    rows: int = 1_000_000,
    limits: Mapping[str, int] | None = None,
) -> Rows | bytes:
    """Run a query.

    Args:
        settings: Where ClickHouse is.
        sql: One statement; `{name:Type}` stands for a parameter.
        fmt: A ClickHouse output format such as CSVWithNames; the result is then its bytes.
        parameters: The values of the parameters, bound by the server.
        readonly: Refuse everything that writes.
        seconds: Longest execution time.
        rows: Most rows of a result; a larger one is an error, never a part of it.
        limits: Further settings of the query.

    Raises:
        QueryError: ClickHouse refused the query; the message is its own.
        NotReachable: ClickHouse does not answer.
    """
    bounds: dict[str, Any] = {
        **(limits or {}),
        "max_execution_time": seconds,
        "max_result_rows": rows,
        "result_overflow_mode": "throw",
    }
    if readonly:
        # Level 1 and not 2, which would still let INSERT INTO FUNCTION write files and SETTINGS lift the limits.
        bounds["readonly"] = 1
    bound = dict(parameters) if parameters else None
    with _query_errors(settings):
        client = _connect(settings, seconds + CONNECT_SECONDS)
        try:
            allowed = _allowed(client, bounds)
            if fmt is not None:
                return client.raw_query(sql, parameters=bound, settings=allowed, fmt=fmt)
            result = client.query(sql, parameters=bound, settings=allowed)
        finally:
            _disconnect(client.http)
    return Rows(tuple(result.column_names), tuple(kind.name for kind in result.column_types), result.result_rows)


def address(settings: Settings) -> str:
    """Give the URL of ClickHouse as it may be shown: settings keep user and password apart from it.

    Raises:
        SettingsError: The URL is not one, or holds a user.
    """
    parts = urlsplit(settings.clickhouse)
    if parts.username or parts.password:
        raise SettingsError("setting clickhouse holds a user: set clickhouse_user and clickhouse_password instead")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError(f"setting clickhouse = {settings.clickhouse!r}: must be http:// or https:// and a host")
    return settings.clickhouse


def _connect(settings: Settings, answer_seconds: int, *, database: bool = True) -> HttpClient:
    parts = urlsplit(address(settings))
    host = parts.hostname or ""
    # A pool of our own: a proxy of the environment is for the outside world, and ClickHouse stands beside us.
    ca_file = settings.clickhouse_ca_file
    if ca_file:
        tls_context(ca_file, "clickhouse")  # a file that is none is told now, and not as a server that does not answer
    pool = get_pool_manager(ca_cert=ca_file or None)
    try:
        return HttpClient(
            parts.scheme,
            host,
            parts.port or DEFAULT_PORTS[parts.scheme],
            settings.clickhouse_user,
            settings.clickhouse_password,
            settings.clickhouse_database if database else None,
            proxy_path=parts.path,
            pool_mgr=pool,
            # Requests of several threads may overlap, which a session forbids.
            autogenerate_session_id=False,
            query_retries=0,
            connect_timeout=CONNECT_SECONDS,
            send_receive_timeout=answer_seconds,
            compress=False if host in LOOPBACK else "lz4",
            tz_mode="aware",
        )
    except BaseException:
        _disconnect(pool)
        raise


def _apply(settings: Settings) -> None:
    client = _connect(settings, INSERT_SECONDS, database=False)
    try:
        for statement in schema_statements(settings.clickhouse_database):
            client.command(statement)
            # Before the views that follow it: a view has the columns that its table had when it was made.
            for change in _additions(client, statement, settings.clickhouse_database):
                client.command(change)
                log.info("clickhouse_schema_changed", statement=change)
    finally:
        _disconnect(client.http)


def _additions(client: HttpClient, statement: str, database: str) -> list[str]:
    table = table_of(statement)
    if table is None:
        return []
    bound = {"database": database, "table": table.name.rpartition(".")[2]}
    found = {
        what: {
            name
            for (name,) in client.query(
                f"SELECT name FROM system.{what} WHERE database = {{database:String}} AND table = {{table:String}}",  # noqa: S608 - one of two names
                parameters=bound,
            ).result_rows
        }
        for what in ("columns", "data_skipping_indices")
    }
    return list(additions(table, found["columns"], found["data_skipping_indices"]))


def _allowed(client: HttpClient, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the settings that this server does not know or does not let this user change; it would refuse all."""
    known = client.server_settings
    return {name: value for name, value in wanted.items() if name in known and not known[name].readonly}


def _disconnect(pool: PoolManager) -> None:
    pool.clear()
    # The library counts the age of every pool it has made, also of those that nobody uses any more.
    all_managers.pop(pool, None)


def _describe(client: HttpClient, table: str) -> dict[str, ClickHouseType]:
    rows = client.query(f"DESCRIBE TABLE {table}").result_rows
    return {row[0]: get_from_name(row[1]) for row in rows}


def _passes(error: Exception) -> bool:
    """Whether the same request may succeed later: no answer, or an answer that says so."""
    return isinstance(error, OperationalError) or (isinstance(error, Error) and error.name in PASSING)


@contextmanager
def _query_errors(settings: Settings) -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise _not_reachable(settings) from error
    except Error as error:
        raise QueryError(_message(error)) from error


def _not_reachable(settings: Settings) -> NotReachable:
    return NotReachable(
        f"ClickHouse does not answer at {address(settings)}: "
        "start it with `scaling up`, or set SCALING_CLICKHOUSE to where it runs"
    )


def _message(error: Exception) -> str:
    """Take the server's own sentence out of an error: no URL, version or stack trace."""
    text = re.sub(r"\s*\(for url [^()]*\)\s*$", "", str(error))
    text = re.sub(r"\s*\(version \d[^()]*(?:\([^()]*\))?[^()]*\)", "", text)
    text = re.split(r",?\s*Stack trace", text, maxsplit=1)[0]
    return text.rpartition("DB::Exception: ")[2].strip() or type(error).__name__
