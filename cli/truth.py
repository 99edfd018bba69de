"""How the laws that were learnt compare with those that the simulated world was given."""

from collections.abc import Iterator
from dataclasses import dataclass

from agents.lawbook import LawBook
from analytics.intervals import LEVEL, bonferroni, t_quantile
from analytics.world import Planted
from models.contexts import GLOBAL
from models.errors import NotEnoughData
from models.laws import Adjusted, Estimate, Law

PARAMETERS = 2


@dataclass(frozen=True, slots=True)
class Comparison:
    """A planted law beside its estimate; [lo, hi] is simultaneous over all the planted laws."""

    planted: Planted
    law: Law
    estimate: float
    lo: float
    hi: float

    @property
    def covered(self) -> bool:
        """Whether the interval has the truth in it."""
        return self.lo <= self.planted.exponent <= self.hi


def compare(planted: Planted, book: LawBook, intervals: int) -> Comparison:
    """Compare a planted law with the published one of the global context.

        estimate ± t · se, t the quantile of Student's t with n - 2 degrees of freedom at level 1 - 0.05 / intervals

    Args:
        planted: The truth.
        book: The laws as they stand.
        intervals: How many laws are compared, all of which shall be covered at once in 95 % of the streams.

    Raises:
        NotEnoughData: The law has no exponent yet.
    """
    law = book.get(GLOBAL, planted.dimension, planted.outcome)
    if law.power is None:
        raise NotEnoughData(f"law {law.law_id} has no power fit yet: publish runs at two values or more")
    exponent = law.power.exponent
    freedom = law.n - law.excluded_zeros - PARAMETERS
    half = t_quantile(freedom, bonferroni(LEVEL, intervals)) * exponent.se
    return Comparison(planted, law, exponent.estimate, exponent.estimate - half, exponent.estimate + half)


@dataclass(frozen=True, slots=True)
class Confounding:
    """A planted law that harder tasks hide: its plain estimates, and those within equals.

    Attributes:
        planted: The truth.
        live: The live law, adjusted by least squares on its Grams.
        audited: The audited law, adjusted by AIPW.
        exponent: The plain exponent of the mean.
        linear: What the live law's adjustment found.
        augmented: What the audited law's adjustment found.
    """

    planted: Planted
    live: Law
    audited: Law
    exponent: Estimate
    linear: Adjusted
    augmented: Adjusted

    @property
    def naive_is_wrong(self) -> bool:
        """Whether the plain law lies, beyond doubt, on the wrong side of zero."""
        return all(_side(each) == -self._truth for each in (self.exponent, self.linear.naive, self.augmented.naive))

    @property
    def adjusted_is_right(self) -> bool:
        """Whether both adjusted laws lie, beyond doubt, on the right side of zero, and the audited one says so."""
        right = all(_side(each.slope) == self._truth for each in (self.linear, self.augmented))
        return right and self.audited.evidence == "adjusted"

    @property
    def seen_through(self) -> bool:
        """Whether the plain law deceives and the adjusted ones do not."""
        return self.naive_is_wrong and self.adjusted_is_right

    @property
    def level(self) -> float:
        """The mean of the outcome over all runs: a slope on ln x divided by it is, about, an exponent."""
        rows = self.live.values
        return sum(row.n * row.mean for row in rows) / sum(row.n for row in rows)

    def conclusions(self) -> Iterator[str]:
        """Say plainly what was found."""
        yield f"{self.audited.sentence}"
        yield f"Evidence: {self.audited.evidence}. Planted exponent: {self.planted.exponent:+.2f}."
        yield (
            "The naive law has the WRONG sign: hard tasks get more agents and fail more often."
            if self.naive_is_wrong
            else "The naive law does not lie on the wrong side of zero: in this stream it does not deceive."
        )
        yield (
            "The adjusted law has the RIGHT sign: at equal complexity, more agents bring more success."
            if self.adjusted_is_right
            else "The adjusted law does NOT lie on the right side of zero with evidence `adjusted`."
        )

    @property
    def _truth(self) -> int:
        return 1 if self.planted.exponent > 0 else -1


def confounding(planted: Planted, book: LawBook) -> Confounding:
    """Take the plain and the adjusted laws of the global context.

    Raises:
        NotEnoughData: A law, its exponent or its adjusted part is not there.
    """
    live, audited = (book.get(GLOBAL, planted.dimension, planted.outcome, tier) for tier in ("live", "audited"))
    for law in (live, audited):
        if law.adjusted is None:
            reason = law.missing.get("adjusted", "it was not adjusted")
            raise NotEnoughData(f"law {law.law_id} has no adjusted part: {reason}")
    if live.power is None or live.adjusted is None or audited.adjusted is None:
        raise NotEnoughData(f"law {live.law_id} has no power fit yet: publish runs at two values or more")
    return Confounding(planted, live, audited, live.power.exponent, live.adjusted, audited.adjusted)


def _side(estimate: Estimate) -> int:
    """Give the side of zero on which the whole interval lies; 0 where it has zero in it."""
    return int(estimate.lo > 0) - int(estimate.hi < 0)
