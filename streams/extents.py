"""Which contexts the archive knows, and whether their runs have changed since a law was fitted there."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from models.contexts import context_id
from models.settings import Settings
from streams.clickhouse import query
from streams.context_keys import key_sql
from streams.cut import Cut, below_condition


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
    key_lists: list[list[str]] = [[], *settings.context_keys]
    keys = list(dict.fromkeys(key for each in key_lists for key in each))
    sql, parameters = _statement(keys, key_lists, settings.context_values)
    condition, cut_parameters = below_condition(cut)
    found = query(settings, sql.replace("{condition}", condition), parameters=parameters | cut_parameters)
    by_outside = {_outside(keys, each): each for each in key_lists}
    extents: dict[str, Extent] = {}
    for outside, runs, fingerprint, *texts in found.rows:
        value_of = dict(zip(keys, texts, strict=True))
        pairs = [(key, value_of[key]) for key in by_outside[outside]]
        # A run that lacks a key of the list is in no context of it.
        if runs and all(value for _, value in pairs):
            extents[context_id(pairs)] = Extent(runs, fingerprint)
    return extents


def _outside(keys: Sequence[str], grouped: Sequence[str]) -> int:
    """Give GROUPING's number for the rows that are grouped by these keys."""
    return int("".join("0" if key in grouped else "1" for key in keys) or "0", 2)


def _statement(keys: Sequence[str], key_lists: Sequence[Sequence[str]], most: int) -> tuple[str, dict[str, str]]:
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
        "{texts}": ", ".join(texts),
        "{sets}": ", ".join(f"({each})" for each in dict.fromkeys(sets)),
        "{most}": str(most),
    }
    sql = files("streams").joinpath("sql", "extents.sql").read_text(encoding="utf-8")
    for place, part in parts.items():
        sql = sql.replace(place, part)
    return sql, parameters
