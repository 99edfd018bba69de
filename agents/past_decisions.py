"""Decisions of the allocator with what their runs brought."""

from dataclasses import dataclass
from enum import StrEnum

from models.allocations import Setting
from models.contexts import GLOBAL


class Valued(StrEnum):
    """What is valued; `net` is the worth of a success less the cost, in dollars."""

    SUCCESS = "success"
    QUALITY_SCORE = "quality_score"
    TOTAL_COST = "total_cost"
    NET = "net"


@dataclass(frozen=True, slots=True)
class PastDecision:
    """A decision with what its run brought.

    Attributes:
        choice: What the allocator chose before exploration.
        propensity: The probability, at the time, of `setting`.
        ended: Whether a run has echoed the decision; what that run lacks is None.
    """

    decision_id: str
    setting: Setting
    choice: Setting
    propensity: float
    contexts: tuple[str, ...] = (GLOBAL,)
    complexity: float | None = None
    task_id: str | None = None
    ended: bool = True
    success: float | None = None
    quality_score: float | None = None
    total_cost: float | None = None

    @property
    def task(self) -> str:
        """Name what the decision was about: the task, or the decision itself where that is not known."""
        return self.task_id or self.decision_id

    def brought(self, outcome: Valued, value: float) -> float | None:
        """Give the outcome; None where it is not known."""
        if outcome is not Valued.NET:
            known: float | None = getattr(self, outcome)
            return known
        if self.success is None or self.total_cost is None:
            return None
        return value * self.success - self.total_cost
