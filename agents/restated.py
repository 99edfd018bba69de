"""The tables of a partition computed anew, beside those that are in force: what differs, and what must be written."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.flush import Flush, Record
from agents.live_grams import OUTCOMES, REGRESSORS
from agents.moment_table import HEADER, decode_rows
from agents.observer import BARRIER, CELL, CUT, GRAM
from analytics.moments import Moments, triangle
from analytics.partitions import partition_of
from models.contexts import GLOBAL
from models.dimensions import OUTCOME_VARIABLES, VARIABLES
from models.topics import CELLS_TABLE, DEDUPE_TABLE, GRAMS_TABLE, IMPORTS_TABLE, STATS

Table = Mapping[bytes, bytes]
EQUAL = 1e-9
"""Means and spreads that differ by less, relative to the larger of value and deviation, are equal."""
PREFIXES = {CELLS_TABLE: CELL, GRAMS_TABLE: GRAM}
"""What precedes the keys of a table on scaling.stats."""
VARIABLES_OF_WIDTH = {
    8 * (HEADER + variables + len(triangle(variables)[0])): variables
    for variables in (len(OUTCOME_VARIABLES), len(VARIABLES), len(REGRESSORS) + len(OUTCOMES))
}
"""How many variables a table value of a length holds."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs in one context: its runs before and after, and how many of its cells and Grams are not equal."""

    context: str
    runs_before: int
    runs_after: int
    cells: int


def replacing(flush: Flush, stored: Mapping[str, Table], partitions: int) -> Flush:
    """Turn the first flush of an observer that began without state into one that replaces the stored tables.

    The stored cut stands, since both hold up to the same offset, and so do the tallies of imports. Dead letters and
    outcomes of experiments, which the owner has published before, are left out.

    Args:
        flush: Everything that was computed anew.
        stored: The tables as they are.
        partitions: Of scaling.stats.
    """
    tables: dict[str, dict[bytes, bytes | None]] = {IMPORTS_TABLE: {}}
    removed: list[Record] = []
    for name in (CELLS_TABLE, GRAMS_TABLE, DEDUPE_TABLE):
        gone = sorted(stored[name].keys() - flush.tables[name].keys())
        tables[name] = dict.fromkeys(gone) | flush.tables[name]
        if name in PREFIXES:
            removed += [
                Record(STATS, partition_of(context_of(key), partitions), PREFIXES[name] + key, None) for key in gone
            ]
    tables[CELLS_TABLE] |= {key: value for key, value in stored[CELLS_TABLE].items() if is_cut(key)}
    wanted = (*PREFIXES.values(), BARRIER.encode())
    records = [record for record in flush.records if record.topic == STATS and (record.key or b"").startswith(wanted)]
    return Flush(tables, [*removed, *records], flush.offset)


def differences(stored: Mapping[str, Table], anew: Mapping[str, Mapping[bytes, bytes | None]]) -> list[Difference]:
    """Compare tables context by context; the contexts in which nothing differs are left out.

    Args:
        stored: The tables as they are.
        anew: The tables as they would be; None where a key is gone.
    """
    unequal: Counter[str] = Counter()
    runs: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for name in PREFIXES:
        for keys, before, after in _pairs(stored[name], anew[name]):
            for key, differs in zip(keys, _differ(before, after).tolist(), strict=True):
                unequal[context_of(key).decode()] += differs
            if name == GRAMS_TABLE:
                for key, old, new in zip(keys, before[0].tolist(), after[0].tolist(), strict=True):
                    counted = runs[context_of(key).decode()]
                    counted[0] += old
                    counted[1] += new
    found = [
        Difference(context, round(runs[context][0]), round(runs[context][1]), cells)
        for context, cells in unequal.items()
        if cells
    ]
    return sorted(found, key=lambda each: (each.context != GLOBAL, each.context))


def runs_in(grams: Mapping[bytes, bytes | None]) -> int:
    """Count the runs of a partition: each is in one Gram of the global context."""
    values = [value for key, value in grams.items() if value is not None and context_of(key) == GLOBAL.encode()]
    _, _, (n, _, _) = decode_rows(values, len(REGRESSORS) + len(OUTCOMES))
    return round(float(n.sum()))


def context_of(key: bytes) -> bytes:
    """Read the context that a cell or a Gram is of."""
    return key.split(b"|", 2)[1]


def is_cut(key: bytes) -> bool:
    """Tell whether a key of the cells is that of the cut."""
    return key.endswith(f"|{CUT}".encode())


def _pairs(stored: Table, anew: Mapping[bytes, bytes | None]) -> Iterator[tuple[list[bytes], Moments, Moments]]:
    """Line up the moments of all keys, kind by kind; a key that is missing, or empty, has none of anything."""
    there = {key: value for key, value in anew.items() if value is not None}
    by_width: defaultdict[int, list[bytes]] = defaultdict(list)
    for key in sorted(key for key in stored.keys() | there.keys() if not is_cut(key)):
        by_width[len(stored.get(key) or there[key])].append(key)
    for width, keys in by_width.items():
        variables = VARIABLES_OF_WIDTH[width]
        empty = bytes((1,)) + bytes(width - 1)
        before, after = (
            decode_rows([table.get(key, empty) for key in keys], variables)[2] for table in (stored, there)
        )
        yield keys, before, after


def _differ(before: Moments, after: Moments) -> NDArray[np.bool_]:
    """Tell which rows are not equal: counts exactly, means and sums of squares within EQUAL."""
    (n, mean, comoment), (n_after, mean_after, comoment_after) = before, after
    first, second = triangle(mean.shape[1])
    squares, squares_after = comoment[:, first == second], comoment_after[:, first == second]
    runs = np.maximum(n, 1.0)[:, None]
    spread = np.maximum(squares, squares_after) + runs * np.maximum(np.abs(mean), np.abs(mean_after)) ** 2
    far = np.abs(mean - mean_after) > EQUAL * np.sqrt(spread / runs)
    wide = np.abs(squares - squares_after) > EQUAL * spread
    differs: NDArray[np.bool_] = (n != n_after) | (far | wide).any(axis=1)
    return differs
