"""The law book: the newest law of each id, and which of them speaks for a task."""

from collections.abc import Callable, Iterator, Sequence

from models.contexts import GLOBAL, context_pairs
from models.dimensions import Dimension, Outcome
from models.errors import NotEnoughData
from models.laws import Law, law_id

MIN_RUNS = 30
"""Runs that a value needs before it counts as evidence: the design document's minimum per condition."""

MIN_VALUES = 2


def has_power(law: Law) -> bool:
    """Tell whether the law has a published power fit."""
    return law.published is not None and law.published.family == "power" and "exponent" in law.published.params


def has_line(law: Law) -> bool:
    """Tell whether the law has a linear fit, whose slope is a unit cost."""
    return law.reference.linear is not None


def supported(law: Law) -> bool:
    """Tell whether at least two values of the dimension have at least 30 runs each."""
    return sum(row.n >= MIN_RUNS for row in law.values) >= MIN_VALUES


class LawBook:
    """Keeps the newest law of each id: the highest version; at equal versions, the last to arrive."""

    def __init__(self) -> None:
        self._laws: dict[str, Law] = {}

    def __len__(self) -> int:
        return len(self._laws)

    def __iter__(self) -> Iterator[Law]:
        return iter(self._laws.values())

    def put(self, law: Law) -> None:
        """Take a law in, unless a newer version of it is there."""
        known = self._laws.get(law.law_id)
        if known is None or law.version >= known.version:
            self._laws[law.law_id] = law

    def delete(self, identifier: str) -> None:
        """Forget a law, as its tombstone on the topic asks; an unknown one is no error."""
        self._laws.pop(identifier, None)

    def get(self, context: str, dimension: Dimension, outcome: Outcome, tier: str = "live") -> Law:
        """Look up one law.

        Raises:
            NotEnoughData: There is no such law yet.
        """
        identifier = law_id(context, dimension, outcome, tier)
        try:
            return self._laws[identifier]
        except KeyError:
            message = f"there is no law {identifier} yet: publish runs that carry {dimension} and {outcome}"
            raise NotEnoughData(message) from None

    def choose(
        self,
        contexts: Sequence[str],
        dimension: Dimension,
        outcome: Outcome,
        fitted: Callable[[Law], bool] = has_power,
    ) -> Law:
        """Choose the law that speaks for a task: the most specific context whose law has enough behind it.

        A context with more key=value pairs is more specific; among equals the earlier one wins; the global context
        comes last. A law has enough behind it when two of its values have 30 runs each and the fit asked for exists.

        Args:
            contexts: The task's contexts in the configured order of the keys.
            dimension: What is scaled.
            outcome: What it buys.
            fitted: Which fit is asked for.

        Raises:
            NotEnoughData: Not even the global context has such a law.
        """
        for context in ranked(contexts):
            law = self._laws.get(law_id(context, dimension, outcome, "live"))
            if law is not None and fitted(law) and supported(law):
                return law
        message = (
            f"no law of {outcome} over {dimension} has {MIN_RUNS} runs at each of {MIN_VALUES} values, "
            f"not even the {GLOBAL} one: publish runs that vary {dimension}"
        )
        raise NotEnoughData(message)


def ranked(contexts: Sequence[str]) -> list[str]:
    """Order contexts from the most specific to the global one, which is always there.

    >>> ranked(["global", "project=a", "project=a&model=m", "model=m"])
    ['project=a&model=m', 'project=a', 'model=m', 'global']
    """
    specific = (context for context in contexts if context != GLOBAL)
    return [*sorted(specific, key=lambda context: -len(context_pairs(context))), GLOBAL]
