import gzip
import http.client
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import psutil
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from psutil import RLIM_INFINITY, RLIMIT_FSIZE

from deploy.machine import LOOPBACK, claim_port
from models.settings import Settings, load_settings

pytestmark = [pytest.mark.stack]

COLUMNS = {
    "id": "UInt64",
    "name": "LowCardinality(String)",
    "at": "DateTime64(6, 'UTC')",
    "value": "Nullable(Float64)",
    "tags": "Array(String)",
}


@pytest.fixture
def table(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty table of this test's own."""
    name = f"t_{abs(hash(request.node.name))}"
    columns = ", ".join(f"{column} {kind}" for column, kind in COLUMNS.items())
    client.command(f"CREATE TABLE {name} ({columns}) ENGINE = MergeTree ORDER BY id")
    yield name
    client.command(f"DROP TABLE {name}")
    client.close()


def ask(
    services: Settings, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], bytes]:
    """Send one plain HTTP request."""
    url = urlsplit(services.clickhouse)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
    try:
        connection.request(method, target, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def test_columns_make_the_round_trip(client: Client, table: str) -> None:
    """A columnar insert of given types and settings comes back equal, nulls and arrays included."""
    count = 20_000
    columns: list[list[Any]] = [
        list(range(count)),
        [f"name {number % 7}" for number in range(count)],
        [1_700_000_000_000_000 + number for number in range(count)],
        [None if number % 3 == 0 else number / 8 for number in range(count)],
        [[str(number), "é"] for number in range(count)],
    ]
    summary = client.insert(
        table,
        columns,
        column_names=list(COLUMNS),
        column_type_names=list(COLUMNS.values()),
        column_oriented=True,
        settings={"async_insert": 0, "insert_deduplicate": 0},
    )
    assert summary.written_rows == count
    ticks = f"SELECT id, name, toUnixTimestamp64Micro(at), value, tags FROM {table} ORDER BY id"
    result = client.query(ticks, column_oriented=True)
    assert [list(column) for column in result.result_columns] == columns


def test_parameters_are_bound_by_the_server(client: Client, table: str) -> None:
    """Typed parameters keep quotes, tabs and thousands of values intact."""
    odd = "it's a \t tab, a \\ backslash and {x}"
    client.insert(table, [[1, odd, 0, 1.5, []]], column_names=list(COLUMNS), column_type_names=list(COLUMNS.values()))
    many = list(range(30_000))
    rows = client.query(
        f"SELECT name, value FROM {table} WHERE name = {{name:String}} AND id IN {{ids:Array(UInt64)}}",
        parameters={"name": odd, "ids": many},
    ).result_rows
    assert rows == [(odd, 1.5)]


def test_server_errors_keep_their_code_and_text(client: Client, table: str) -> None:
    """The client sees ClickHouse's own error number and message."""
    with pytest.raises(DatabaseError, match=r"Code: 47\. DB::Exception.*nope.*UNKNOWN_IDENTIFIER") as raised:
        client.query(f"SELECT nope FROM {table}")
    assert raised.value.code == 47
    with pytest.raises(DatabaseError, match="SYNTAX_ERROR"):
        client.command("SELEC 1")


def test_a_broken_insert_leaves_nothing(client: Client, table: str) -> None:
    """Rows that cannot be read are refused with the row's number, and the table stays empty."""
    with pytest.raises(DatabaseError, match="at row 2"):
        client.raw_insert(table, ["id"], b'{"id": 1}\n{"id": "x"}\n', fmt="JSONEachRow")
    assert client.command(f"SELECT count() FROM {table}") == 0


def test_settings_and_limits_hold_for_inserts_too(client: Client, services: Settings, table: str) -> None:
    """An insert obeys the settings of its URL and of its text, and the server's own limits."""
    client.command(f"CREATE TABLE {table}_parted (id UInt64) ENGINE = MergeTree PARTITION BY id ORDER BY id")
    try:
        with pytest.raises(DatabaseError, match="TOO_MANY_PARTS"):
            client.insert(f"{table}_parted", [[number] for number in range(101)], column_names=["id"])
        limited = f"INSERT INTO {table}_parted SETTINGS max_partitions_per_insert_block = 1 FORMAT CSV\n1\n2".encode()
        assert ask(services, "POST", "/", limited)[1]["x-clickhouse-exception-code"] == "252"
        unknown = f'INSERT INTO {table}_parted FORMAT JSONEachRow\n{{"id": 1, "more": 2}}'.encode()
        assert ask(services, "POST", "/?input_format_skip_unknown_fields=0", unknown)[0] == 400
        assert ask(services, "POST", "/?input_format_skip_unknown_fields=1", unknown)[0] == 200
        assert ask(services, "POST", "/", f"INSERT INTO {table}_parted FORMAT Native\n".encode())[0] == 200
        assert client.command(f"SELECT count() FROM {table}_parted") == 1
    finally:
        client.command(f"DROP TABLE {table}_parted")


def test_settings_last_for_one_statement(client: Client) -> None:
    """A setting of one query does not leak into the next."""
    query = "SELECT getSetting('max_block_size')"
    default = client.command(query)
    assert client.command(query, settings={"max_block_size": 123}) == 123
    assert client.command(query) == default


@pytest.mark.parametrize("readonly", [1, 2])
def test_readonly_is_honoured(services: Settings, table: str, readonly: int) -> None:
    """A read-only request can read and cannot write, nor lift its own restriction."""
    for sql, expected in [
        (f"SELECT count() FROM {table}", 200),
        (f"INSERT INTO {table} (id) VALUES (1)", 500),
        (f'INSERT INTO {table} (id) FORMAT JSONEachRow {{"id": 1}}', 500),
        (f"DROP TABLE {table}", 500),
        (f"SET readonly = 0; DROP TABLE {table}", 500),
    ]:
        status, headers, text = ask(services, "POST", f"/?readonly={readonly}&max_threads=1", sql.encode())
        assert status == expected, (sql, text)
        assert (headers.get("x-clickhouse-exception-code") == "164") == (expected == 500)


def test_get_requests_cannot_write(services: Settings, table: str) -> None:
    """A link that is followed changes nothing, as with ClickHouse's own server."""
    status, _, text = ask(services, "GET", "/?query=" + quote(f"DROP TABLE {table}"))
    assert status == 500
    assert b"READONLY" in text


def test_the_query_of_the_url_and_the_body_are_joined(services: Settings, table: str) -> None:
    """Curl's way to insert a file: the statement in the URL, the rows in the body, compressed or not."""
    target = "/?" + urlencode({"query": f"INSERT INTO {table} (id, name) FORMAT CSV", "database": "default"})
    assert ask(services, "POST", target, b'1,"a"\n2,"b"\n')[0] == 200
    packed = gzip.compress(b'3,"c"\n') + gzip.compress(b'4,"d"\n')
    status, headers, _ = ask(services, "POST", target, packed, {"Content-Encoding": "gzip"})
    assert status == 200
    assert '"written_rows": "2"' in headers["x-clickhouse-summary"]
    _, headers, text = ask(
        services, "POST", "/?default_format=JSONCompactEachRow", f"SELECT id, name FROM {table} ORDER BY id".encode()
    )
    assert headers["x-clickhouse-format"] == "JSONCompactEachRow"
    assert text == b'[1, "a"]\n[2, "b"]\n[3, "c"]\n[4, "d"]\n'


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip"])
def test_every_compression_of_the_client_is_understood(services: Settings, table: str, compress: str) -> None:
    """clickhouse-connect may compress its blocks in any of its ways."""
    import clickhouse_connect  # noqa: PLC0415

    url = urlsplit(services.clickhouse)
    packing = clickhouse_connect.get_client(host=url.hostname or "", port=url.port or 0, compress=compress)
    packing.insert(table, [[number, "x" * 50] for number in range(5000)], column_names=["id", "name"])
    assert packing.command(f"SELECT count(), sum(id) FROM {table}") == ["5000", str(sum(range(5000)))]
    packing.close()


def test_an_unknown_encoding_and_a_broken_body_are_refused(services: Settings) -> None:
    """The answer names what can be sent."""
    status, _, text = ask(services, "POST", "/", b"x", {"Content-Encoding": "br"})
    assert status == 501
    assert b"zstd" in text
    assert ask(services, "POST", "/", b"not gzip", {"Content-Encoding": "gzip"})[0] == 500


def test_other_hosts_and_their_pages_are_refused(services: Settings) -> None:
    """A web page that points its own name at this machine, or posts here, gets nothing."""
    assert ask(services, "POST", "/", b"SELECT 1", {"Host": "evil.example"})[0] == 400
    assert ask(services, "POST", "/", b"SELECT 1", {"Origin": "https://evil.example"})[0] == 403
    assert ask(services, "POST", "/", b"SELECT 1", {"Origin": "http://localhost:3000"})[0] == 200


def test_unknown_settings_databases_and_tables_are_not_found(services: Settings) -> None:
    """Statuses follow ClickHouse's: 404 for names that do not exist, 400 for text that cannot be parsed."""
    assert ask(services, "POST", "/?no_such_setting=1", b"SELECT 1")[0] == 404
    assert ask(services, "POST", "/?database=nope", b"SELECT 1")[0] == 404
    assert ask(services, "POST", "/", b"SELECT * FROM nope")[0] == 404
    assert ask(services, "POST", "/", b"SELEC 1")[0] == 400


def test_times_are_utc(client: Client) -> None:
    """The engine's zone is UTC whatever this machine's is."""
    assert client.command("SELECT timezone()") == "UTC"
    client.close()


def test_it_ends_in_time_though_a_statement_runs_and_keeps_what_was_inserted(tmp_path: Path) -> None:
    """SIGTERM cuts a long statement off; rows of finished inserts are there after the next start."""
    settings = load_settings(clickhouse=f"http://{LOOPBACK}:{claim_port('ClickHouse', 0)}")
    with served(settings, tmp_path) as service:
        assert ask(settings, "POST", "/", b"CREATE TABLE kept (x UInt8) ENGINE = MergeTree ORDER BY x")[0] == 200
        assert ask(settings, "POST", "/", b"INSERT INTO kept FORMAT CSV 7")[0] == 200
        endless = b"SELECT count() FROM numbers(1000000000000000) WHERE sipHash64(number) = 1"
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(ask, settings, "POST", "/", endless)
            until_answers(settings)
            service.terminate()
            service.wait(5)
            assert isinstance(answer.exception(), Exception) or answer.result()[0] == 500
    with served(settings, tmp_path) as service:
        assert ask(settings, "POST", "/", b"SELECT x FROM kept")[2] == b"7\n"
        service.terminate()
        service.wait(5)


def test_a_full_disk_refuses_inserts_and_loses_none_that_was_acknowledged(tmp_path: Path) -> None:
    """The engine passes over a write that fails in its middle; so no insert begins where one may."""
    settings = load_settings(clickhouse=f"http://{LOOPBACK}:{claim_port('ClickHouse', 0)}")
    text = "x" * 40
    with served(settings, tmp_path) as service:
        assert (
            ask(settings, "POST", "/", b"CREATE TABLE kept (x UInt32, s String) ENGINE = MergeTree ORDER BY x")[0]
            == 200
        )
        process, acknowledged = psutil.Process(service.pid), 0
        for limit in (RLIM_INFINITY, 512, 1024 * 1024, RLIM_INFINITY):
            process.rlimit(RLIMIT_FSIZE, (limit, RLIM_INFINITY))
            rows = "".join(f"{number},{text}{number * 7919}\n" for number in range(100))
            status, _, said = ask(settings, "POST", "/", f"INSERT INTO kept FORMAT CSV {rows}".encode())
            assert status == (200 if limit == RLIM_INFINITY else 500)
            assert status == 200 or (b"bytes are left" in said and b"NOT_ENOUGH_SPACE" in said)
            acknowledged += 100 * (status == 200)
        assert ask(settings, "POST", "/", b"SELECT count(), uniq(s) FROM kept")[2] == f"{acknowledged}\t100\n".encode()
        service.terminate()
        service.wait(5)


@contextmanager
def served(settings: Settings, state: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the service as its own process."""
    port = str(urlsplit(settings.clickhouse).port)
    command = [sys.executable, "-P", "-m", "deploy.clickhouse", "--state", str(state), "--port", port]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as service:
        try:
            until_answers(settings)
            yield service
        finally:
            service.kill()


def until_answers(settings: Settings) -> None:
    """Wait until the service answers pings, which it does beside a running statement."""
    for _ in range(600):
        with suppress(OSError):
            if ask(settings, "GET", "/ping")[0] == 200:
                return
        time.sleep(0.05)
    pytest.fail("the service does not answer")


def test_ping_and_an_empty_request_answer_ok(services: Settings) -> None:
    """Health checks get what ClickHouse's server says."""
    assert ask(services, "GET", "/ping")[2] == b"Ok.\n"
    assert ask(services, "GET", "/")[2] == b"Ok.\n"
