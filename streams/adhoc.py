"""Queries of people: read-only, bounded in time, rows and memory, and about nothing but the archive's own database.

ClickHouse's `readonly` alone does not do it: it lets `file()` read, `DESCRIBE TABLE url()` reach the network, `KILL
QUERY` end the work of others, and `INTO OUTFILE` write on the machine of an embedded engine. So a query is looked at
first, as the server itself understands it: as the one statement it is (`formatQuery`, which runs nothing), and as its
syntax tree (`EXPLAIN AST`). What is not known to be harmless is refused.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from models.errors import QueryError
from models.settings import Settings
from streams.clickhouse import query

SECONDS = 60
ROWS = 1_000_000
LONGEST_QUERY = 256 * 1024
LIMITS: Mapping[str, int] = {
    "max_memory_usage": 2 * 1024**3,
    "max_rows_to_read": 2_000_000_000,
    "max_result_bytes": 1024**3,
    "max_temporary_data_on_disk_size_for_query": 4 * 1024**3,
    "max_ast_depth": 1000,
    "max_ast_elements": 50_000,
    "max_expanded_ast_elements": 500_000,
}
"""Beyond time and the rows of a result; bytes where it says so."""

STATEMENTS = frozenset(
    {
        *(
            "SelectWithUnionQuery",
            "SelectIntersectExceptQuery",
            "Explain",
            "DescribeQuery",
            "ShowTables",
            "ShowColumns",
        ),
        *("ShowCreateTableQuery", "ShowCreateViewQuery", "ExistsTableQuery", "ExistsViewQuery"),
    }
)
SELECTS = frozenset({"SelectWithUnionQuery", "SelectIntersectExceptQuery"})
SHOWN = frozenset({"TABLES", "COLUMNS", "CREATE", "FULL", "EXTENDED"})
TABLE_FUNCTIONS = frozenset(
    {
        *("generaterandom", "generateseries", "generate_series", "null", "numbers", "numbers_mt", "values", "view"),
        *("zeros", "zeros_mt"),
    }
)
"""Table functions that make their rows themselves."""

OUTWARD = re.compile(
    r"files?|ai(classify|embed|extract|filter|generate\w*|redact|similarity|translate)|catboost\w*|evalmlmethod"
    r"|dict(get|has|is|ionary)\w*|region(to|in|hierarchy)\w*|joinget\w*|hascolumnintable|sleep\w*|generateserialid"
    r"|addressto\w+|filesystem\w*|getmacro|getserver\w+|showcertificate|shobjdescription|tcpport|getoskernelversion"
    r"|(full)?hostname|fqdn|displayname|serveruuid|structureto\w+|zookeeper\w+|__\w+",
    re.IGNORECASE,
)
"""Functions that reach files, the network, dictionaries, models or the server itself, or that only wait."""

OTHER_DATABASES = frozenset({"system", "information_schema"})
WORD = re.compile(
    r"""'(?:[^'\\]|\\.|'')*'|"(?P<double>(?:[^"\\]|\\.|"")*)"|`(?P<back>(?:[^`\\]|\\.|``)*)`|(?P<word>\w+)"""
)
NODE = re.compile(r"(?P<indent> *)(?P<kind>[A-Za-z:]+)(?: (?P<text>.*))?")
DECORATION = re.compile(r"(?: \(alias .*\))?(?: \(children \d+\))?$", re.DOTALL)
NAMED = re.compile(r":\s*Identifier\s*}", re.IGNORECASE)
TABLE_NAME = re.compile(r"\w+(\.\w+)?")
FORMAT = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a syntax tree: its kind, what it names, its place in its parent, and what it lies in."""

    kind: str
    name: str
    place: int
    within: tuple["Node", ...]


def ask(settings: Settings, sql: str, *, fmt: str, parameters: Mapping[str, Any] | None = None) -> bytes:
    """Answer a person's query.

    Args:
        settings: Where ClickHouse is.
        sql: One statement; `{name:Type}` stands for a parameter.
        fmt: The output format, by its name in ClickHouse.
        parameters: The values of the parameters, bound by the server.

    Raises:
        QueryError: The query does more than read the archive, or ClickHouse refused it.
        NotReachable: ClickHouse does not answer.
    """
    if not FORMAT.fullmatch(fmt):
        raise QueryError(f"format {fmt!r:.80}: give the name of a format, such as JSON or CSVWithNames")
    bound = dict(parameters or {})
    statement = _one_statement(settings, sql)
    refusal = _refused_word(statement) or _refused_names(statement, bound)
    if refusal is None:
        # From here on there is one statement, so that EXPLAIN explains all of it and nothing is run behind it.
        # A format of its own would belong to the statement that is explained.
        tree = query(settings, f"EXPLAIN AST {statement}", fmt="", parameters=bound, seconds=SECONDS, limits=LIMITS)
        refusal = refused(statement, tree.decode(errors="replace").split("\n"), settings.clickhouse_database)
    if refusal is not None:
        raise QueryError(f"{refusal}: a query reads the views of {settings.clickhouse_database} and nothing else")
    return query(settings, statement, fmt=fmt, parameters=bound, seconds=SECONDS, rows=ROWS, limits=LIMITS)


def refused(statement: str, tree: list[str], database: str) -> str | None:
    """Say why a statement is not let through, or None where it is.

    Args:
        statement: One statement, as `formatQuery` writes it.
        tree: The lines of its EXPLAIN AST.
        database: The only database it may name.
    """
    nodes = list(_nodes(tree))
    if not nodes or nodes[0].kind not in STATEMENTS:
        return f"{statement.split(maxsplit=1)[0]:.40} is no question"
    if nodes[0].kind == "Explain" and not {node.kind for node in nodes if len(node.within) == 1} <= SELECTS:
        return "EXPLAIN of anything but a SELECT is refused"
    if nodes[0].kind.startswith("Show") and _shows_elsewhere(statement, database):
        return "SHOW of anything but the database's own tables is refused"
    return next((reason for node in nodes if (reason := _refused_node(node, database))), None)


def _one_statement(settings: Settings, sql: str) -> str:
    if len(sql) > LONGEST_QUERY:
        raise QueryError(f"the query has {len(sql)} characters: at most {LONGEST_QUERY} are read")
    found = query(settings, "SELECT formatQuerySingleLine({sql:String})", parameters={"sql": sql}, limits=LIMITS)
    return str(found.rows[0][0])


def _words(statement: str) -> list[str]:
    """List the words of a statement, and its quoted names; texts are passed over."""
    return [
        next(text for text in (match["word"], match["back"], match["double"]) if text is not None)
        for match in WORD.finditer(statement)
        if match.lastgroup is not None
    ]


def _refused_word(statement: str) -> str | None:
    # A syntax tree leaves out which function APPLY applies, and a name with a line break would forge a line of it.
    for word in _words(statement):
        if word.upper() == "OUTFILE":
            return "INTO OUTFILE writes files"
        if OUTWARD.fullmatch(word):
            return f"{word} reaches beyond the archive"
        if "\\" in word or not word.isprintable():
            return f"the name {word!r:.80} has characters that no name of ours has"
    return None


def _refused_names(statement: str, parameters: Mapping[str, Any]) -> str | None:
    """Refuse a name with a line break where a parameter stands for a name."""
    if NAMED.search(statement) is None or all(str(value).isprintable() for value in parameters.values()):
        return None
    return "a parameter of type Identifier is a printable name"


def _refused_node(node: Node, database: str) -> str | None:
    parent = node.within[-1].kind if node.within else ""
    if node.kind == "TableIdentifier":
        return _refused_table(node.name, database)
    if node.kind == "Function" and parent in {"TableExpression", "DescribeQuery", "Explain"}:
        return None if node.name.lower() in TABLE_FUNCTIONS else f"the table function {node.name} is not allowed"
    if node.kind in {"Function", "Identifier"} and OUTWARD.fullmatch(node.name):
        return f"{node.name} reaches beyond the archive"
    before, dot, _ = node.name.partition(".")
    if node.kind == "Identifier" and dot and (before.lower() in OTHER_DATABASES or _right_of_in(node)):
        return _refused_table(node.name, database)
    return None


def _right_of_in(node: Node) -> bool:
    """Whether a name stands where a table may stand without FROM: x IN table."""
    return node.place == 1 and len(node.within) > 1 and node.within[-2].name.lower().endswith("in")


def _refused_table(name: str, database: str) -> str | None:
    if not TABLE_NAME.fullmatch(name):
        return f"the table {name!r:.80} is none of the archive's"
    before, dot, _ = name.partition(".")
    return f"the database {before} is another one" if dot and before != database else None


def _shows_elsewhere(statement: str, database: str) -> bool:
    words = _words(statement)
    if len(words) < 2 or words[1].upper() not in SHOWN:  # noqa: PLR2004 - SHOW and what
        return True
    named = [after for word, after in pairwise(words[1:]) if word.upper() in {"FROM", "IN"}]
    return bool({word.lower() for word in words[1:]} & OTHER_DATABASES) or (
        words[1].upper() == "TABLES" and any(name != database for name in named)
    )


def _nodes(tree: list[str]) -> Iterator[Node]:
    within: list[tuple[int, Node]] = []
    places: dict[int, int] = {}
    for line in tree:
        found = NODE.fullmatch(line)
        if found is None:
            continue
        depth = len(found["indent"])
        while within and within[-1][0] >= depth:
            within.pop()
        places = {level: count for level, count in places.items() if level <= depth}
        places[depth] = places.get(depth, -1) + 1
        name = DECORATION.sub("", f" {found['text'] or ''}").strip()
        node = Node(found["kind"], name, places[depth], tuple(each for _, each in within))
        within.append((depth, node))
        yield node
