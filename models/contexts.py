"""Contexts: the groups of runs within which laws are learnt."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote, unquote

GLOBAL = "global"
OTHER = "other"

BANDS: tuple[tuple[float, str], ...] = ((0.2, "trivial"), (0.5, "low"), (0.8, "medium"))
HIGHEST_BAND = "high"


def complexity_band(complexity: float) -> str:
    """Name the band of a task complexity in [0, 1]: trivial < 0.2 <= low < 0.5 <= medium < 0.8 <= high."""
    for upper, name in BANDS:
        if complexity < upper:
            return name
    return HIGHEST_BAND


def context_id(pairs: Sequence[tuple[str, str]]) -> str:
    """Join key=value pairs to a context id, each part percent-encoded; no pair is the global context.

    >>> context_id([("project", "web shop"), ("task_type", "bug&fix")])
    'project=web%20shop&task_type=bug%26fix'
    """
    return "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in pairs) or GLOBAL


def context_pairs(context: str) -> list[tuple[str, str]]:
    """Take a context id apart again."""
    if context == GLOBAL:
        return []
    return [(unquote(key), unquote(value)) for key, _, value in (pair.partition("=") for pair in context.split("&"))]


def parent(context: str) -> str | None:
    """Drop the last pair of a context; the global context has no parent."""
    pairs = context_pairs(context)
    return context_id(pairs[:-1]) if pairs else None


def contexts_of(values: Mapping[str, str], key_lists: Sequence[Sequence[str]]) -> list[str]:
    """List the contexts that a run with these key values belongs to, the global one first."""
    complete = (keys for keys in key_lists if all(key in values for key in keys))
    return [GLOBAL, *(context_id([(key, values[key]) for key in keys]) for keys in complete)]
