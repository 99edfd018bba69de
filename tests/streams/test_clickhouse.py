"""What needs no ClickHouse: addresses, the text of the schema, errors, and inserts while nothing answers."""

import asyncio
import re
import socket

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from models.errors import NotReachable, SettingsError, StackError
from models.settings import load_settings
from streams.clickhouse import SCHEMA, ClickHouseSink, _message, address, apply_schema, query, schema_statements


@pytest.fixture
def nobody() -> str:
    """Give the URL of a port where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


async def until_retrying(sink: ClickHouseSink, insert: asyncio.Task[None]) -> None:
    """Wait until an insert has failed for the first time."""
    while not sink.retrying and not insert.done():  # noqa: ASYNC110 - a state to be seen from outside, as health is
        await asyncio.sleep(0.01)
    assert sink.retrying


@pytest.mark.parametrize("url", ["127.0.0.1:8123", "ftp://127.0.0.1", "http://", "tcp://clickhouse:9000"])
def test_an_address_is_an_http_url(url: str) -> None:
    """Another kind of address is refused with the setting's name and the rule."""
    with pytest.raises(SettingsError, match=re.escape(f"setting clickhouse = {url!r}: must be http:// or https://")):
        address(load_settings(clickhouse=url))


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    """User and password have settings of their own, so that the address can be logged."""
    with pytest.raises(SettingsError, match="clickhouse_password") as refusal:
        address(load_settings(clickhouse="https://me:geheim@db:8443"))
    assert "geheim" not in str(refusal.value)


def test_the_schema_is_one_statement_each_that_can_be_repeated() -> None:
    """Every statement names the database and may be applied to what is there already."""
    statements = schema_statements("somewhere")
    bare = [re.sub(r"^--.*\n", "", statement, flags=re.MULTILINE).strip() for statement in statements]

    assert bare[0] == "CREATE DATABASE IF NOT EXISTS somewhere"
    for statement in bare[1:]:
        assert re.match(r"CREATE (TABLE IF NOT EXISTS|OR REPLACE VIEW) somewhere\.\w+\s", statement)
    assert "{database}" not in "".join(statements)


def test_every_table_and_view_is_explained() -> None:
    """Each file begins with a comment that names it."""
    assert [schema_statements("x")[0].splitlines()[0].split(":")[0]] == ["-- database"]
    heads = [statement.splitlines()[0] for statement in schema_statements("x") if statement.startswith("-- ")]
    assert [name for name in SCHEMA if not any(head.startswith(f"-- {name}: ") for head in heads)] == []


async def test_a_schema_that_cannot_be_applied_says_where_and_what_to_start(nobody: str) -> None:
    """After the time given, the message names the address and the command."""
    with pytest.raises(NotReachable, match=f"does not answer at {nobody}: start it with `scaling up`"):
        await apply_schema(load_settings(clickhouse=nobody), timeout=0.3)


def test_a_query_says_where_it_found_nobody(nobody: str) -> None:
    """A refused connection is told from a refused query."""
    with pytest.raises(NotReachable, match=nobody):
        query(load_settings(clickhouse=nobody), "SELECT 1")


async def test_an_insert_keeps_trying_until_the_sink_is_closed(nobody: str) -> None:
    """While nothing answers the sink says that it retries; closing it ends the wait with an error."""
    sink = ClickHouseSink(load_settings(clickhouse=nobody), refusals=1, first_pause=0.001, longest_pause=3600.0)
    assert not sink.retrying
    insert = asyncio.create_task(sink.insert("scaling_records", {"offset": [1]}))
    await until_retrying(sink, insert)
    await sink.close()

    with pytest.raises(StackError, match="closed"):
        await insert
    assert not sink.retrying


async def test_an_insert_that_is_retried_can_be_cancelled(nobody: str) -> None:
    """Cancelling is not an error to be retried."""
    sink = ClickHouseSink(load_settings(clickhouse=nobody), first_pause=0.001, longest_pause=0.01)
    insert = asyncio.create_task(sink.insert("scaling_records", {"offset": [1]}))
    await until_retrying(sink, insert)
    insert.cancel()

    with pytest.raises(asyncio.CancelledError):
        await insert
    assert not sink.retrying
    await sink.close()


async def test_the_first_failures_are_logged_and_then_fewer(nobody: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Attempts 1, 2, 4, 8, ... are logged with table and address, and the password never is."""
    sink = ClickHouseSink(
        load_settings(clickhouse=nobody, clickhouse_password="geheim"),  # noqa: S106 - the word must not come back
        first_pause=0.001,
        longest_pause=0.001,
    )
    insert = asyncio.create_task(sink.insert("scaling_records", {"offset": [1]}))
    output = ""
    while len(re.findall("clickhouse_insert_failed", output)) < 4:
        await asyncio.sleep(0.02)
        output += capsys.readouterr().out
    insert.cancel()
    await asyncio.gather(insert, return_exceptions=True)
    await sink.close()

    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    assert [int(number) for number in re.findall(r"attempt=(\d+)", plain)][:4] == [1, 2, 4, 8]
    assert nobody in plain
    assert "geheim" not in plain


async def test_columns_have_one_length(nobody: str) -> None:
    """Columns of different lengths would shift rows; they are refused before anything is sent."""
    sink = ClickHouseSink(load_settings(clickhouse=nobody))
    with pytest.raises(ValueError, match=r"\[1, 2\] rows"):
        await sink.insert("scaling_records", {"offset": [1], "partition": [1, 2]})


async def test_no_rows_need_no_server(nobody: str) -> None:
    """Inserting nothing is done at once."""
    await ClickHouseSink(load_settings(clickhouse=nobody)).insert("scaling_records", {"offset": [], "partition": []})


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (
            "Received ClickHouse exception, code: 60, server response: Code: 60. DB::Exception: No table a.b. "  # noqa: ISC004
            "(UNKNOWN_TABLE) (version 26.2.4.23 (official build)) (for url http://127.0.0.1:8123)",
            "No table a.b. (UNKNOWN_TABLE)",
        ),
        ("Code: 1. DB::Exception: no. (X) (version 26.9.2.1). Stack trace:\n0. main", "no. (X)."),
        ("Error connecting (for url http://127.0.0.1:8123)", "Error connecting"),
        ("", "DatabaseError"),
    ],
)
def test_an_error_is_the_servers_own_sentence(told: str, kept: str) -> None:
    """Address, version and stack trace are left out."""
    assert _message(DatabaseError(told)) == kept
