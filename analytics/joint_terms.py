"""The terms of joint laws: what names such as "ln_agents^2" and "agents*iterations/parallelism" stand for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from analytics.moments import Floats
from models.dimensions import Dimension

SHORT: dict[Dimension, str] = {
    Dimension.AGENT_COUNT: "agents",
    Dimension.ITERATIONS: "iterations",
    Dimension.PARALLELISM_LEVEL: "parallelism",
    Dimension.CONTEXT: "context",
    Dimension.MODEL_SIZE: "size",
    Dimension.ATTEMPTS: "attempts",
}
"""What the dimensions are called in terms."""

LONG: dict[str, Dimension] = {short: dimension for dimension, short in SHORT.items()}

ONE = "1"
COMPLEXITY = "complexity"
LOG = "ln_"
CATEGORY = "size="
SQUARE = "^2"
TIMES = "*"
OVER = "/"

Column = Callable[[str], Floats]
"""Gives the column [G] of a named factor, or of a named setting."""


@dataclass(frozen=True, slots=True)
class Term:
    """A product of factors besides complexity, and whether complexity is a factor too."""

    factors: tuple[str, ...]
    with_complexity: bool


def parse_term(name: str) -> Term:
    """Read a term's name.

    >>> parse_term("complexity*ln_agents")
    Term(factors=('ln_agents',), with_complexity=True)
    >>> parse_term("ln_context^2")
    Term(factors=('ln_context', 'ln_context'), with_complexity=False)
    """
    factors: list[str] = []
    for part in name.split(TIMES):
        factors += [part.removesuffix(SQUARE)] * (2 if part.endswith(SQUARE) else 1)
    rest = tuple([factor for factor in factors if factor not in {ONE, COMPLEXITY}])
    return Term(rest, COMPLEXITY in factors)


def term_columns(terms: Sequence[Term], factor: Column, size: int) -> Floats:
    """Multiply the factors of each term, complexity left out. [G, p]."""
    known = {name: factor(name) for name in dict.fromkeys(name for term in terms for name in term.factors)}
    columns = np.ones((len(terms), size))
    for place, term in enumerate(terms):
        for name in term.factors:
            columns[place] *= known[name]
    return columns.T


def monomial_columns(names: Sequence[str], setting: Column, size: int) -> Floats:
    """Multiply the settings above each monomial's stroke and divide by that below it. [G, m].

    >>> of = {"agents": np.array([4.0]), "iterations": np.array([3.0]), "parallelism": np.array([2.0])}
    >>> monomial_columns(["1", "agents", "agents*iterations/parallelism"], of.__getitem__, 1)
    array([[1., 4., 6.]])
    """
    columns = np.ones((len(names), size))
    for place, name in enumerate(names):
        above, _, below = name.partition(OVER)
        for part in above.split(TIMES):
            if part != ONE:
                columns[place] *= setting(part)
        if below:
            columns[place] /= setting(below)
    return columns.T
