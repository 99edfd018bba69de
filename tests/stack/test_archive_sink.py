"""The archive on a real ClickHouse."""

import asyncio
import gc
import json
import math
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec
import numpy as np
import pytest
import pytest_asyncio

from agents.archive import LAWS, OBSERVATIONS, RECORDS, REJECTED, archive_laws, archive_rejected, archive_runs
from agents.decode import EventDecoder
from agents.rejects import reject_record
from models.batches import Batch
from models.errors import QueryError, StackError
from models.laws import Estimate, Law, PowerFit, Reference
from models.settings import Settings
from streams.clickhouse import ClickHouseSink, apply_schema, query

pytestmark = pytest.mark.stack

NOW = 1_750_000_000_123
PAGE = Path(__file__).parents[2] / "docs" / "clickhouse.md"


@pytest_asyncio.fixture
async def archive_settings(stack: Settings) -> AsyncIterator[Settings]:
    """Settings of a database of the test's own, with the schema applied."""
    settings = stack.model_copy(update={"clickhouse_database": f"archive_{uuid4().hex}", "partitions": 1})
    await apply_schema(settings)
    yield settings
    query(settings, f"DROP DATABASE {settings.clickhouse_database}", readonly=False)


@pytest_asyncio.fixture
async def sink(archive_settings: Settings) -> AsyncIterator[ClickHouseSink]:
    """Yield a sink that soon gives up on errors that time does not heal."""
    opened = ClickHouseSink(archive_settings, refusals=3, first_pause=0.01, longest_pause=0.05)
    yield opened
    await opened.close()


async def until_retrying(sink: ClickHouseSink, insert: asyncio.Task[None]) -> None:
    """Wait until an insert has failed for the first time."""
    while not sink.retrying and not insert.done():  # noqa: ASYNC110 - a state to be seen from outside, as health is
        await asyncio.sleep(0.01)
    assert sink.retrying


async def until_failures(sink: ClickHouseSink, count: int) -> None:
    """Wait until so many attempts have failed."""
    while sink.failures < count:  # noqa: ASYNC110 - a state to be seen from outside
        await asyncio.sleep(0.01)


class Gate:
    """A way to ClickHouse, on a port of its own, that can be shut: whoever comes then is turned away."""

    def __init__(self, settings: Settings) -> None:
        self._real = urlsplit(settings.clickhouse)
        self._behind = settings
        self._server: asyncio.Server | None = None
        self._port = 0
        self._connections: set[asyncio.StreamWriter] = set()

    @property
    def settings(self) -> Settings:
        """Settings that lead through the gate."""
        return self._behind.model_copy(update={"clickhouse": f"http://127.0.0.1:{self._port}"})

    async def open(self) -> None:
        """Let connections through."""
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Cut all connections, and let none through."""
        if self._server is not None:
            self._server.close()
            for writer in self._connections:
                writer.transport.abort()
            await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        """Open it."""
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Shut it."""
        await self.shut()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection(self._real.hostname, self._real.port)
        self._connections |= {writer, to_writer}
        await asyncio.gather(self._pipe(reader, to_writer), self._pipe(to_reader, writer))

    @staticmethod
    async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


def batch_of(*values: bytes | None, first_offset: int = 0, topic: str = "scaling.runs") -> Batch:
    """Make a batch of these values."""
    count = len(values)
    offsets = range(first_offset, first_offset + count)
    return Batch(topic, 0, offsets, [NOW] * count, [None] * count, values, [()] * count)


def event(run: str, **fields: Any) -> bytes:  # noqa: ANN401 - any field
    """Write an event as JSON."""
    return json.dumps({"agent_run_id": run} | fields).encode()


async def store(sink: ClickHouseSink, settings: Settings, batch: Batch) -> None:
    """Archive a batch of runs."""
    observations, records = archive_runs(batch, EventDecoder(settings), settings, NOW)
    await sink.insert(OBSERVATIONS, observations)
    await sink.insert(RECORDS, records)


def view(settings: Settings, name: str, order: str) -> list[dict[str, Any]]:
    """Read a view without its time of ingestion."""
    lines = query(settings, f"SELECT * EXCEPT (ingested_at) FROM {name} ORDER BY {order}", fmt="JSONEachRow")
    return [json.loads(line) for line in lines.splitlines()]


async def test_the_schema_can_be_applied_again(archive_settings: Settings) -> None:
    """Applying it twice changes nothing: the tables and views are those of the page."""
    before = query(archive_settings, "SHOW TABLES")
    await apply_schema(archive_settings)

    assert query(archive_settings, "SHOW TABLES") == before
    assert {row[0] for row in before.rows} == {
        *("scaling_observations", "scaling_records", "scaling_rejected", "scaling_laws"),
        *("observations", "records", "rejected", "laws", "law_history"),
        *("scaling_experiments", "scaling_assignments", "scaling_findings"),
        *("experiments", "experiment_assignments", "findings"),
        *("scaling_decisions", "scaling_overrides", "scaling_tests"),
        *("decisions", "decision_outcomes", "overrides", "ab_tests"),
    }


async def test_a_run_is_read_back_as_it_was_published(archive_settings: Settings, sink: ClickHouseSink) -> None:
    """Every field comes back with its value and type; what was absent is null and never NaN or zero."""
    fields = {
        "revision": 2,
        "project": "größer & co",
        "task_type": "bug",
        "task_id": "T-1",
        "model": "m",
        "task_complexity": 0.65,
        "agent_count": 1_000_000,
        "parallelism_level": 2,
        "total_iterations": 0,
        "max_iterations": 10,
        "retry_limit": 2,
        "context_budget": 10**12,
        "retry_count": 1,
        "context_tokens": 150_000,
        "model_size_category": "large",
        "model_params_b": 0.1,
        "success": False,
        "quality_score": 1 / 3,
        "time_to_complete": 1e-9,
        "total_cost": 0,
        "cost_source": "reported",
        "decision_id": "d",
        "policy_version": "p",
        "propensity": 0.25,
        "experiment_id": "e",
        "assigned_value": "4",
        "assignment_token": "t",
    }
    full = event("a", completed_at="2025-06-15T12:00:00.007Z", project_characteristics={"team": "🙂"}, **fields)
    await store(sink, archive_settings, batch_of(full, event("b"), first_offset=7))

    first, second = view(archive_settings, "observations", "agent_run_id")

    assert {name: first[name] for name in fields} == fields
    assert json.loads(first["project_characteristics"]) == {"team": "🙂"}
    assert [first[name] for name in ("completed_at", "complexity_band", "offset")] == [
        "2025-06-15 12:00:00.007",
        "medium",
        7,
    ]
    stamp = datetime.fromtimestamp(NOW / 1000, tz=UTC)
    assert second["completed_at"] == stamp.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    assert [second[name] for name in fields if name != "revision"] == [None] * (len(fields) - 1)
    assert second["project_characteristics"] == "{}"


async def test_a_batch_inserted_twice_counts_once(archive_settings: Settings, sink: ClickHouseSink) -> None:
    """Delivery may repeat batches, cut differently; the views stay the same."""
    values = [event(f"run-{number}", agent_count=number + 1) for number in range(100)]
    await store(sink, archive_settings, batch_of(*values))
    before = [view(archive_settings, name, "offset") for name in ("observations", "records")]
    await store(sink, archive_settings, batch_of(*values))
    await store(sink, archive_settings, batch_of(*values[30:], first_offset=30))

    assert [view(archive_settings, name, "offset") for name in ("observations", "records")] == before
    assert [len(rows) for rows in before] == [100, 100]


@pytest.mark.parametrize("corrected_first", [False, True])
async def test_the_higher_revision_replaces_in_whatever_order_they_come(
    archive_settings: Settings, sink: ClickHouseSink, *, corrected_first: bool
) -> None:
    """A correction replaces the whole run, an older revision that comes later does not; records keep both."""
    plain, corrected = event("run", success=True, total_cost=1), event("run", revision=1, success=False)
    values = [corrected, plain] if corrected_first else [plain, corrected]
    for offset, value in enumerate(values):
        await store(sink, archive_settings, batch_of(value, first_offset=offset))

    (run,) = view(archive_settings, "observations", "offset")
    assert (run["revision"], run["success"], run["total_cost"]) == (1, False, None)
    assert len(view(archive_settings, "records", "offset")) == 2


async def test_of_equal_revisions_the_later_record_stands(archive_settings: Settings, sink: ClickHouseSink) -> None:
    """Without revisions the last record of a run counts, also across months."""
    values = [
        event("run", completed_at="2025-05-01T00:00:00Z", agent_count=1),
        event("run", completed_at="2025-01-01T00:00:00Z", agent_count=2),
    ]
    await store(sink, archive_settings, batch_of(*values))

    assert [run["agent_count"] for run in view(archive_settings, "observations", "offset")] == [2]


async def test_fields_of_the_characteristics_are_columns(archive_settings: Settings, sink: ClickHouseSink) -> None:
    """A project given under project_characteristics can be grouped by like any other."""
    inner = {"project": "inner", "model_params_b": 7, "lang": "py"}
    await store(sink, archive_settings, batch_of(event("run", project_characteristics=inner)))
    sql = "SELECT project, model_params_b, JSONExtractString(project_characteristics, 'lang') FROM observations"

    assert list(query(archive_settings, sql).rows) == [("inner", 7.0, "py")]


async def test_rejects_and_laws_are_read_back(archive_settings: Settings, sink: ClickHouseSink) -> None:
    """A reject keeps its payload and headers; of a law the view has the newest version, the history all."""
    source = Batch("scaling.runs", 3, [9], [NOW], [b"k"], [b"\xff"], [[("trace", b"1")]])
    rejects, _ = archive_rejected(batch_of(reject_record(source, 0, "not JSON", None)[1]))
    power = PowerFit(Estimate(0.4, 0.1, 0.2, 0.6), Estimate(1.0, 0.1, 0.8, 1.2), 0.9, "logarithmic", "none")
    law = Law("l", "live", "global", "agent_count", "success", 1, 1, "2025-06-15T12:00:00Z", 9, "ok", "adjusted", "h")
    versions = [
        law,
        msgspec.structs.replace(law, version=2, reference=Reference(power=power)),
        msgspec.structs.replace(law, epoch=0, version=5),
    ]
    laws, _ = archive_laws(batch_of(*map(msgspec.json.encode, versions)))
    for _ in range(2):
        await sink.insert(REJECTED, rejects)
        await sink.insert(LAWS, laws)

    (reject,) = view(archive_settings, "rejected", "offset")
    (newest,) = view(archive_settings, "laws", "law_id")
    assert [reject[name] for name in ("partition", "offset", "payload", "encoding", "key", "headers")] == [
        *(3, 9, "/w==", "base64", "k", {"trace": "1"})
    ]
    assert (newest["epoch"], newest["version"], newest["exponent"], newest["knee"]) == (1, 2, 0.4, None)
    assert msgspec.json.decode(newest["record"], type=Law) == versions[1]
    assert len(view(archive_settings, "law_history", "epoch")) == 3


async def test_numpy_columns_are_inserted_like_lists(archive_settings: Settings, sink: ClickHouseSink) -> None:
    """Arrays are columns, too."""
    columns = {"partition": np.array([1, 2]), "offset": np.array([3, 4]), "agent_run_id": np.array(["a", "b"])}
    await sink.insert(RECORDS, columns)

    sql = "SELECT partition, offset, agent_run_id, revision FROM records ORDER BY offset"
    assert list(query(archive_settings, sql).rows) == [(1, 3, "a", 0), (2, 4, "b", 0)]


async def test_a_column_that_the_table_lacks_is_told(sink: ClickHouseSink) -> None:
    """A table of another version is not retried for ever: the message names table, column and what to do."""
    with pytest.raises(StackError, match=r"scaling_records at http://.* has no column colour: .*add the column"):
        await sink.insert(RECORDS, {"offset": [1], "colour": ["red"]})


@pytest.mark.parametrize(
    ("table", "columns"), [("scaling_nothing", {"offset": [1]}), (RECORDS, {"partition": [70_000], "offset": [1]})]
)
async def test_an_insert_that_is_refused_again_and_again_is_given_up(
    sink: ClickHouseSink, table: str, columns: dict[str, list[Any]]
) -> None:
    """A missing table or a value that no column holds is raised after the number of refusals that was set."""
    with pytest.raises(StackError, match=f"refused an insert into {table} 3 times: .*nothing is lost"):
        await sink.insert(table, columns)
    assert not sink.retrying


async def test_an_error_that_passes_is_retried_until_it_has_passed(archive_settings: Settings) -> None:
    """Too many parts are not held against the insert: it waits, says so, and succeeds when the cause is gone."""
    parted = "CREATE TABLE busy (a UInt8) ENGINE = MergeTree PARTITION BY a ORDER BY a"
    query(archive_settings, parted, readonly=False)
    sink = ClickHouseSink(archive_settings, refusals=1, first_pause=0.01, longest_pause=0.05)
    waiting = asyncio.create_task(sink.insert("busy", {"a": list(range(101))}))
    await until_retrying(sink, waiting)
    whole = "CREATE OR REPLACE TABLE busy (a UInt8) ENGINE = MergeTree ORDER BY a"
    await asyncio.to_thread(query, archive_settings, whole, readonly=False)
    await waiting

    assert not sink.retrying
    assert list(query(archive_settings, "SELECT sum(a) FROM busy").rows) == [(5050,)]
    await sink.close()


async def test_rows_survive_an_outage(archive_settings: Settings) -> None:
    """An insert begun while nothing answers is done when ClickHouse is there, and the sink goes on as before."""
    async with Gate(archive_settings) as gate:
        await gate.shut()
        sink = ClickHouseSink(gate.settings, refusals=1, first_pause=0.01, longest_pause=0.05)
        waiting = asyncio.create_task(store(sink, gate.settings, batch_of(event("a"))))
        await until_retrying(sink, waiting)
        await gate.open()
        await waiting
        await store(sink, gate.settings, batch_of(event("b"), first_offset=1))

        assert not sink.retrying
        assert [run["agent_run_id"] for run in view(archive_settings, "observations", "offset")] == ["a", "b"]
        await sink.close()


async def test_inserts_keep_no_rows(archive_settings: Settings) -> None:
    """Rows that were written, after whatever errors, do not wait in frames and cycles for the garbage collector."""
    count = 4040

    def held() -> int:
        return sum(isinstance(each, list) and len(each) >= count for each in gc.get_objects())

    parted = "CREATE TABLE many (a UInt8) ENGINE = MergeTree PARTITION BY a ORDER BY a"
    query(archive_settings, parted, readonly=False)
    async with Gate(archive_settings) as gate:
        sink = ClickHouseSink(gate.settings, refusals=1, first_pause=0.01, longest_pause=0.05)
        gc.collect()
        before = held()
        gc.disable()
        try:
            waiting = asyncio.create_task(sink.insert("many", {"a": [row % 101 for row in range(count)]}))
            await until_failures(sink, 3)
            await gate.shut()
            await until_failures(sink, 6)
            whole = "CREATE OR REPLACE TABLE many (a UInt8) ENGINE = MergeTree ORDER BY a"
            await asyncio.to_thread(query, archive_settings, whole, readonly=False)
            await gate.open()
            await waiting
            del waiting
            # The thread of the insert lets go of it a moment later.
            async with asyncio.timeout(5):
                while held() > before:  # noqa: ASYNC110 - a state to be seen from outside
                    await asyncio.sleep(0.05)
        finally:
            gc.enable()
            await sink.close()


async def test_parameters_are_bound_by_the_server(archive_settings: Settings) -> None:
    """A value is never part of the statement."""
    parameters = {"text": "'; DROP TABLE x; --", "number": 2, "list": ["a", "b"]}
    sql = "SELECT {text:String} AS t, {number:UInt8} + 1 AS n, {list:Array(String)} AS l"
    result = query(archive_settings, sql, parameters=parameters)

    assert (result.columns, result.types) == (("t", "n", "l"), ("String", "UInt16", "Array(String)"))
    assert list(result.rows) == [("'; DROP TABLE x; --", 3, ["a", "b"])]
    assert (
        query(archive_settings, sql, parameters=parameters, fmt="CSV") == b"\"'; DROP TABLE x; --\",3,\"['a','b']\"\n"
    )


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO scaling_records (offset) VALUES (1)",
        "INSERT INTO scaling_records (offset) FORMAT TSV\n1\n",
        "INSERT INTO FUNCTION file('written.csv', 'CSV') SELECT 1",
        "TRUNCATE TABLE scaling_records",
        "DROP VIEW observations",
        "CREATE TABLE mine (a UInt8) ENGINE = Memory",
        "SELECT 1 SETTINGS readonly = 0",
        "SET readonly = 0",
    ],
)
@pytest.mark.parametrize("fmt", [None, "CSV"])
async def test_a_query_writes_nothing(archive_settings: Settings, sql: str, fmt: Any) -> None:  # noqa: ANN401 - chooses an overload
    """Whatever changes data, schema, files or the read-only mode itself is refused by the server."""
    before = query(archive_settings, "SHOW TABLES").rows
    with pytest.raises(QueryError):
        query(archive_settings, sql, fmt=fmt)
    assert query(archive_settings, "SHOW TABLES").rows == before
    assert list(query(archive_settings, "SELECT count() FROM records").rows) == [(0,)]


async def test_a_refused_query_tells_the_servers_reason_alone(archive_settings: Settings) -> None:
    """The message is ClickHouse's sentence, without address, version or stack trace."""
    with pytest.raises(QueryError) as refusal:
        query(archive_settings, "SELECT colour FROM records")
    assert re.search(r"^Unknown expression.*colour", str(refusal.value))
    assert not re.search(r"https?://|version|Stack trace", str(refusal.value))


async def test_a_result_is_whole_or_an_error(archive_settings: Settings) -> None:
    """A result beyond the row limit, or a query beyond the time limit, is refused and never cut short."""
    assert len(query(archive_settings, "SELECT * FROM numbers(10)", rows=10).rows) == 10
    with pytest.raises(QueryError, match="TOO_MANY_ROWS"):
        query(archive_settings, "SELECT * FROM numbers(100000)", rows=10)
    with pytest.raises(QueryError, match="TIMEOUT_EXCEEDED"):
        query(archive_settings, "SELECT sum(sleepEachRow(0.1)) FROM numbers(30)", seconds=1)


async def test_a_proxy_of_the_environment_is_not_asked(
    archive_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ClickHouse is reached directly though a proxy is set for the outside world."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    assert list(query(archive_settings, "SELECT 1").rows) == [(1,)]


async def test_the_queries_of_the_page_run(archive_settings: Settings, sink: ClickHouseSink) -> None:
    """Every query that docs/clickhouse.md shows runs on the schema, and those about runs have rows."""
    runs = [
        event(
            f"run-{number}",
            project=f"p{number % 3}",
            task_id=f"t{number % 7}",
            task_complexity=number % 10 / 10,
            agent_count=number % 4 + 1,
            success=number % 3 > 0,
            quality_score=number % 5 / 4,
            time_to_complete=1 + number % 11,
            total_cost=0.1 * (number % 4 + 1),
            experiment_id="e",
            assigned_value=number % 2,
            propensity=0.5,
            project_characteristics={"language": "py"},
        )
        for number in range(200)
    ]
    await store(sink, archive_settings, batch_of(*runs, *(event(f"run-{number}", revision=1) for number in range(3))))
    blocks = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)

    assert len(blocks) == 12
    for block in blocks:
        result = query(archive_settings, block)
        assert result.rows or re.search(r"FROM (laws|law_history|rejected|decision_outcomes)", block), block
        numbers = [value for row in result.rows for value in row if isinstance(value, float)]
        assert not any(math.isnan(number) for number in numbers), block
