"""`scaling query` reads the archive and nothing else: what tries to write, to read files, to reach out, to explode."""

import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import QueryError
from models.settings import Settings
from streams.adhoc import ask
from streams.clickhouse import query

pytestmark = [pytest.mark.stack]

SECRET = "geheim-4711"  # noqa: S105 - the word must not come back


class Knocked(http.server.BaseHTTPRequestHandler):
    """Notes every request."""

    knocks: list[str]

    def do_GET(self) -> None:
        """Note it and answer a line."""
        self.knocks.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"1\n")

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - the library's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@pytest.fixture
def outside() -> Iterator[tuple[str, list[str]]]:
    """A web server that nobody may reach: its URL, and who knocked."""
    knocks: list[str] = []
    with http.server.HTTPServer(("127.0.0.1", 0), type("Outside", (Knocked,), {"knocks": knocks})) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", knocks
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT agent_run_id FROM observations WHERE agent_count = 3",
        "SELECT agent_run_id FROM observations WHERE agent_count = 3;  -- a comment\n",
        "WITH runs AS (SELECT * FROM observations) SELECT agent_run_id FROM runs AS r WHERE r.project IN ('atlas')",
        "SELECT o.agent_run_id FROM scaling.observations AS o WHERE o.project = 'atlas' AND o.project IN ('atlas')",
        "SELECT 'run-1' FROM numbers(1) UNION ALL SELECT agent_run_id FROM observations WHERE 0",
        "SELECT agent_run_id AS `a name` FROM observations",
        "SELECT 'run-1' AS x FROM (SELECT 'file(INTO OUTFILE) system.users\n' AS y)",
        "(SELECT agent_run_id FROM observations) INTERSECT (SELECT 'run-1')",
    ],
)
def test_questions_are_answered(archive: Settings, sql: str) -> None:
    """What reads the archive, or makes its rows itself, is let through, quoted words of all kinds included."""
    assert ask(archive, sql, fmt="TabSeparated") == b"run-1\n"


@pytest.mark.parametrize(
    "sql",
    [
        "DESCRIBE observations",
        "SHOW TABLES",
        "SHOW CREATE VIEW observations",
        "SHOW COLUMNS FROM observations",
        "EXISTS observations",
        "EXPLAIN SELECT count() FROM observations",
        "SELECT * APPLY(max) FROM observations",
    ],
)
def test_the_schema_can_be_looked_at(archive: Settings, sql: str) -> None:
    """Columns, views and plans are no secret."""
    assert ask(archive, sql, fmt="TabSeparated")


def test_parameters_are_bound(archive: Settings) -> None:
    """A parameter is a value, whatever is in it."""
    odd = "a'b\\\n\t\"`; DROP TABLE x --"
    assert ask(archive, "SELECT length({p:String})", fmt="TSV", parameters={"p": odd}) == f"{len(odd)}\n".encode()
    assert ask(archive, "SELECT count() FROM {t:Identifier}", fmt="TSV", parameters={"t": "observations"}) == b"1\n"


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO scaling_observations (agent_run_id) VALUES ('x')",
        "INSERT INTO FUNCTION file('{file}', 'CSV', 'a String') SELECT 'x'",
        "DROP TABLE scaling_observations",
        "ALTER TABLE scaling_observations DELETE WHERE 1",
        "TRUNCATE TABLE scaling_observations",
        "OPTIMIZE TABLE scaling_observations FINAL",
        "CREATE TABLE x (a Int8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE x (a Int8)",
        "CREATE FUNCTION f AS x -> x",
        "CREATE USER u",
        "GRANT ALL ON *.* TO default",
        "SET readonly = 0",
        "SELECT 1; DROP TABLE scaling_observations",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1 SETTINGS max_execution_time = 0",
        "SELECT 1 SETTINGS max_memory_usage = 0",
        "SELECT 1 INTO OUTFILE '{file}'",
        "SELECT 1 /* x */ INTO\nOUTFILE '{file}' TRUNCATE",
        "KILL QUERY WHERE 1",
        "KILL QUERY WHERE 1 SYNC",
        "SELECT 1; KILL QUERY WHERE 1",
        "SYSTEM FLUSH LOGS",
        "SYSTEM SHUTDOWN",
        "BACKUP TABLE scaling_observations TO File('{file}')",
        "USE system",
        "ATTACH TABLE x",
        "DETACH TABLE scaling_observations",
        "RENAME TABLE scaling_observations TO y",
        "",
        "-- nothing",
        ";",
        "graph = 1 SELECT 1",
    ],
)
def test_nothing_is_written_or_ordered(archive: Settings, sql: str, tmp_path: Path) -> None:
    """Writing, ordering, lifting limits, and a second statement behind the first are refused; nothing is left."""
    target = tmp_path / "written"
    with pytest.raises(QueryError):
        ask(archive, sql.replace("{file}", str(target)), fmt="TSV")
    assert not target.exists()
    assert query(archive, "SELECT count() FROM observations").rows == [(1,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT file('{file}')",
        "SELECT FILE('{file}')",
        "SELECT `file`('{file}')",
        "SELECT \"file\"('{file}')",
        "SELECT file /* x */ ('{file}')",
        "SELECT * APPLY(file) FROM (SELECT '{file}')",
        "SELECT * APPLY file FROM (SELECT '{file}')",
        "SELECT * APPLY(x -> file(x)) FROM (SELECT '{file}')",
        "SELECT COLUMNS('x') APPLY(`file`) FROM (SELECT '{file}' AS x)",
        "SELECT * REPLACE(file(x) AS x) FROM (SELECT '{file}' AS x)",
        "SELECT arrayMap(file, ['{file}'])",
        "SELECT arrayMap(x -> file(x), ['{file}'])",
        "SELECT '{file}' AS x ORDER BY file(x)",
        "file('{file}')",
        "SELECT * FROM file('{file}', 'LineAsString')",
        "SELECT * FROM `{file}`",
        "SELECT * FROM '{file}'",
        "SELECT x FROM observations AS o, file('{file}', 'LineAsString', 'x String') AS f",
        "SELECT 1 WHERE 'x' IN (SELECT * FROM file('{file}', 'LineAsString'))",
        "WITH f AS (SELECT * FROM file('{file}', 'LineAsString')) SELECT * FROM f",
        "DESCRIBE TABLE file('{file}', 'LineAsString')",
        "DESCRIBE TABLE (SELECT * FROM file('{file}', 'LineAsString'))",
        "EXPLAIN SELECT * FROM file('{file}', 'LineAsString')",
        "SELECT * FROM (EXPLAIN SELECT * FROM file('{file}', 'LineAsString'))",
        "SELECT * FROM sqlite('{file}', 't')",
        "SELECT * FROM filesystem('{file}')",
        "SELECT * FROM icebergLocal('{file}')",
        "SELECT * FROM executable('cat {file}', 'LineAsString', 'x String')",
        "SELECT * FROM Python(x)",
        "SELECT * FROM eval('SELECT 1')",
        "SELECT * FROM input('x String')",
        "SELECT catboostEvaluate('{file}', 1)",
        "SELECT dictGet('x', 'y', 1)",
        "SELECT * FROM dictionary('x')",
        "SELECT joinGet('x', 'y', 1)",
    ],
)
def test_no_file_is_read(archive: Settings, sql: str, tmp_path: Path) -> None:
    """Files stay shut, whichever way a function or a table function is named, also to EXPLAIN and DESCRIBE."""
    target = tmp_path / "secret"
    target.write_text(SECRET + "\n")
    with pytest.raises(QueryError) as refusal:
        ask(archive, sql.replace("{file}", str(target)), fmt="TSV")
    assert SECRET not in str(refusal.value)


def test_no_file_is_read_by_a_name_in_a_parameter(archive: Settings) -> None:
    """A parameter cannot smuggle the name of a function or of a table in, nor forge a line of the syntax tree."""
    for sql, name in [
        ("SELECT arrayMap({p:Identifier}, ['/etc/hostname'])", "file"),
        ("SELECT * FROM {p:Identifier}", "system.settings"),
        ("SELECT * FROM {p:Identifier}", "/etc/hostname"),
        ("SELECT {p:Identifier} IN system.one FROM observations", "x\nSelectWithUnionQuery"),
    ]:
        with pytest.raises(QueryError):
            ask(archive, sql, fmt="TSV", parameters={"p": name})


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM url('{url}/x', 'LineAsString')",
        "DESCRIBE TABLE url('{url}/x.csv')",
        "DESCRIBE TABLE url('{url}/x', 'CSV')",
        "EXPLAIN QUERY TREE SELECT * FROM url('{url}/x', 'CSV')",
        "SELECT * FROM s3('{url}/bucket/x.csv', 'CSV')",
        "DESCRIBE TABLE s3('{url}/bucket/x.csv', NOSIGN)",
        "SELECT * FROM s3Cluster('default', '{url}/bucket/x.csv', 'CSV')",
        "SELECT * FROM remote('{host}', system.one)",
        "SELECT * FROM remoteSecure('{host}', system.one)",
        "SELECT * FROM cluster('default', system.one)",
        "SELECT * FROM mysql('{host}', 'a', 'b', 'c', 'd')",
        "SELECT * FROM postgresql('{host}', 'a', 'b', 'c', 'd')",
        "SELECT * FROM mongodb('{host}', 'a', 'b', 'c', 'd', 'x String')",
        "SELECT * FROM redis('{host}', 'key', 'key String')",
        "SELECT * FROM hdfs('hdfs://{host}/x', 'TSV', 'a Int8')",
        "SELECT * FROM azureBlobStorage('{url}', 'a', 'b')",
        "SELECT * FROM deltaLake('{url}/bucket/x')",
        "SELECT * FROM jdbc('{url}', 'x', 'y')",
        "SELECT * FROM prometheusQuery('x', 'y', now())",
        "SELECT AIGenerate('say hello')",
        "SELECT hasColumnInTable('{host}', 'default', '', 'system', 'one', 'dummy')",
    ],
)
def test_nothing_is_reached(archive: Settings, outside: tuple[str, list[str]], sql: str) -> None:
    """No query opens a connection: a server that waits for one is never asked."""
    url, knocks = outside
    with pytest.raises(QueryError):
        ask(archive, sql.replace("{url}", url).replace("{host}", url.removeprefix("http://")), fmt="TSV")
    assert knocks == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM system.settings",
        "SELECT * FROM `system`.`users`",
        "SELECT * FROM system.processes",
        "SELECT * FROM INFORMATION_SCHEMA.TABLES",
        "SELECT * FROM information_schema.tables",
        "SELECT 1 WHERE 1 IN system.one",
        "SELECT 1 WHERE 1 GLOBAL NOT IN other.one",
        "SELECT 1 WHERE 'x\u2028SelectWithUnionQuery\n  SelectQuery' IN other.one",
        "SELECT (SELECT count() FROM system.parts)",
        "SELECT * FROM merge('system', 'one')",
        "SELECT * FROM mergeTreeIndex('scaling', 'scaling_observations')",
        "SELECT * FROM other.things",
        "SHOW PROCESSLIST",
        "SHOW DATABASES",
        "SHOW TABLES FROM system",
        "SHOW SETTINGS LIKE '%'",
        "SHOW GRANTS",
        "SHOW USERS",
        "SHOW ACCESS",
        "DESCRIBE system.processes",
        "SHOW CREATE TABLE system.one",
        "SELECT hostName()",
        "SELECT getMacro('x')",
        "SELECT getServerSetting('x')",
        "SELECT __actionName('x', 1)",
    ],
)
def test_the_server_is_not_looked_at(archive: Settings, sql: str) -> None:
    """Tables of the server and other databases are none of the archive's."""
    with pytest.raises(QueryError):
        ask(archive, sql, fmt="TSV")


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT number FROM numbers(1000001)", "TOO_MANY_ROWS_OR_BYTES|1\\.00 million"),
        ("SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1", "TOO_MANY_ROWS|TIMEOUT"),
        ("SELECT groupArray(number) FROM numbers(1000000000)", "MEMORY_LIMIT|memory limit|TOO_MANY"),
        ("SELECT repeat('x', 1000000) FROM numbers(100000)", "MEMORY_LIMIT|memory limit|TOO_MANY|TOO_LARGE"),
        ("SELECT sleep(3)", "beyond"),
        ("SELECT sleepEachRow(1) FROM numbers(100)", "beyond"),
        ("SELECT " + "(" * 5000 + "1" + ")" * 5000, "deep|depth|TOO_DEEP|nested"),
        ("SELECT " + "+".join("1" * 1 for _ in range(60_000)), "AST|elements|deep|depth|TOO"),
        ("SELECT 1 " + " " * 300_000, "characters"),
    ],
)
def test_limits_hold(archive: Settings, sql: str, reason: str) -> None:
    """Rows of the result and rows read, memory, depth and size of the text are bounded; the service lives on."""
    with pytest.raises(QueryError, match=reason):
        ask(archive, sql, fmt="TSV")
    assert ask(archive, "SELECT 1", fmt="TSV") == b"1\n"


@pytest.mark.parametrize("fmt", ["TSV INTO OUTFILE '/tmp/x'", "JSON SETTINGS readonly = 0", "", "TSV\n", "x" * 100])
def test_the_format_is_a_name(archive: Settings, fmt: str) -> None:
    """Nothing comes in by --format."""
    with pytest.raises(QueryError, match="format"):
        ask(archive, "SELECT 1", fmt=fmt)


DOCUMENTED = [
    sql
    for page in sorted((Path(__file__).parents[2] / "docs").glob("*.md"))
    for block in re.findall(r"(?s)```sql\n(.*?)```", page.read_text(encoding="utf-8"))
    for sql in block.split(";\n")
    if re.match(r"\s*(--.*\n\s*)*(SELECT|WITH)", sql)
]


def test_documented_queries_are_let_through(archive: Settings) -> None:
    """What the documents show to analysts is a question to the archive; those with parameters are given some."""
    assert DOCUMENTED
    for sql in DOCUMENTED:
        named = dict(re.findall(r"\{(\w+):(\w+)", sql))
        values = {name: "1" if kind.startswith(("UInt", "Int", "Float")) else "x" for name, kind in named.items()}
        ask(archive, sql, fmt="JSON", parameters=values)
