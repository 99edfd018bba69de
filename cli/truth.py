"""How the laws that were learnt compare with those that the simulated world was given."""

from dataclasses import dataclass

from agents.lawbook import LawBook
from analytics.intervals import LEVEL, bonferroni, t_quantile
from analytics.world import Planted
from models.contexts import GLOBAL
from models.errors import NotEnoughData
from models.laws import Law

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
    if law.published is None:
        raise NotEnoughData(f"law {law.law_id} has no published fit yet: publish runs at two values or more")
    exponent = law.published.params["exponent"]
    freedom = law.n - law.excluded_zeros - PARAMETERS
    half = t_quantile(freedom, bonferroni(LEVEL, intervals)) * exponent.se
    return Comparison(planted, law, exponent.estimate, exponent.estimate - half, exponent.estimate + half)
