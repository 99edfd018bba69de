"""Which contexts the archive knows, and whether their runs have changed since a law was fitted there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from models.contexts import context_id, context_pairs
from models.settings import Settings
from streams.clickhouse import query
from streams.context_keys import key_sql
from streams.cut import Cut, below_condition

NO_KEY = ""


@dataclass(frozen=True, slots=True)
class Extent:
    """How many runs a context has, and a fingerprint of them and their contents."""

    runs: int
    fingerprint: int


def read_extents(settings: Settings, cut: Cut) -> dict[str, Extent]:
    """Read the contexts of the runs below a cut; of each key list those with the most runs, `context_values` of them.

    Two extents of a context are equal where its runs and their contents are: a repeated record changes nothing, and a
    correction that moves a run to another context changes both.

    Raises:
        QueryError: ClickHouse refused the query.
        NotReachable: ClickHouse does not answer.
    """
    return {
        context: Extent(runs, fingerprint)
        for context, (runs, fingerprint) in by_context(settings, cut, "extents").items()
        if runs
    }


def by_context(settings: Settings, cut: Cut, name: str) -> dict[str, tuple[Any, ...]]:
    """Read numbers for each context of the runs below a cut; of each key list those with the most runs.

    Args:
        settings: Where ClickHouse is, the key lists, and how many contexts of each count.
        cut: Up to where runs are in.
        name: A file of streams/sql whose statement gives `outside`, the numbers, and the context's keys.

    Raises:
        QueryError: ClickHouse refused the query.
        NotReachable: ClickHouse does not answer.
    """
    # Grouping sets need a key: where there is none, one that no run has makes no context.
    key_lists: list[list[str]] = [[], *(settings.context_keys or [[NO_KEY]])]
    keys = list(dict.fromkeys(key for each in key_lists for key in each))
    sql, parameters = _statement(name, keys, key_lists, settings.context_values)
    condition, cut_parameters = below_condition(cut)
    found = query(settings, sql.replace("{condition}", condition), parameters=parameters | cut_parameters)
    by_outside = {_outside(keys, each): each for each in key_lists}
    numbers: dict[str, tuple[Any, ...]] = {}
    for outside, *values in found.rows:
        value_of = dict(zip(keys, values[-len(keys) :], strict=True))
        numbers[context_id([(key, value_of[key]) for key in by_outside[outside]])] = tuple(values[: -len(keys)])
    return numbers


def absence(context: str, extents: Mapping[str, Extent], settings: Settings) -> str:
    """Say why a context is not among the extents."""
    keys = [key for key, _ in context_pairs(context)]
    named = " and ".join(keys)
    if keys and keys not in settings.context_keys:
        return f"the setting context_keys no longer has contexts by {named}"
    alike = sum([key for key, _ in context_pairs(other)] == keys for other in extents)
    if keys and alike >= settings.context_values:
        return f"{alike} contexts by {named} have more runs, and the setting context_values keeps no more"
    return "no run is in the context any more: they were corrected"


def _outside(keys: Sequence[str], grouped: Sequence[str]) -> int:
    """Give GROUPING's number for the rows that are grouped by these keys."""
    return int("".join("0" if key in grouped else "1" for key in keys) or "0", 2)


def _statement(
    name: str, keys: Sequence[str], key_lists: Sequence[Sequence[str]], most: int
) -> tuple[str, dict[str, str]]:
    texts: list[str] = []
    parameters: dict[str, str] = {}
    for number, key in enumerate(keys):
        text, more = key_sql(key, f"key_{number}")
        texts.append(f"{text} AS text_{number}")
        parameters |= more
    names = [f"text_{number}" for number in range(len(keys))]
    sets = [", ".join(names[keys.index(key)] for key in each) for each in key_lists]
    parts = {
        "{outside}": f"GROUPING({', '.join(names)})",
        "{names}": ", ".join(names),
        "{complete}": " AND ".join(["1", *(f"(GROUPING({name}) = 1 OR {name} != '')" for name in names)]),
        "{texts}": ", ".join(texts),
        "{sets}": ", ".join(f"({each})" for each in dict.fromkeys(sets)),
        "{most}": str(most),
    }
    sql = files("streams").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    for place, part in parts.items():
        sql = sql.replace(place, part)
    return sql, parameters
