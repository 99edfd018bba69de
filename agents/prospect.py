"""A prospect: all that is known of what the settings would bring for a task, from whatever source."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agents.recent import Recent
from analytics.outlook import Outlook
from analytics.setting_grid import Flags
from models.allocations import Method, Setting
from models.dimensions import Outcome
from models.joint_laws import JointLaw
from models.laws import Estimate, Law

DRAWS = 16
"""Laws drawn for each prospect: opposite pairs."""

CHOICES = 256
"""Choices remembered for each prospect: one for each budget, objective and set of rules."""

AnyLaw = Law | JointLaw


@dataclass(frozen=True, slots=True, eq=False)
class Prospect:
    """What the settings would bring.

    Attributes:
        outlook: The settings that the source speaks of, and its predictions.
        outcome: What is bought.
        method: The source.
        laws: Those used.
        cost_source: The law of cost, or price_table with the entry used.
        usual: What tasks like this were given so far, as near as the grid has it.
        expect: Predicts the mean outcomes of settings, each where a law speaks, with 95 % intervals.
        slowed: Where a slot more would leave near-linear speed-up; None where no joint law of time decides the slots.
            [G]
        held: Where parts without a law keep their defaults; a budget that does not reach for them frees this rule. [G]
        notes: Laws that do not speak, and why; dimensions without a law.
        design: A coarse design, over the defaults where they are held, where exploration goes. [G]
        choices: What was chosen from it lately.
    """

    outlook: Outlook
    outcome: Outcome
    method: Method
    laws: tuple[AnyLaw, ...]
    cost_source: str
    usual: Setting | None
    expect: Callable[[Sequence[Setting]], dict[str, list[Estimate]]]
    slowed: Flags | None = None
    held: Flags | None = None
    notes: tuple[str, ...] = ()
    design: Flags = field(init=False, repr=False)
    choices: Recent[object, Any] = field(default_factory=lambda: Recent(CHOICES), repr=False)

    def __post_init__(self) -> None:
        allowed = np.ones(len(self.outlook.grid), np.bool_) if self.held is None else self.held
        object.__setattr__(self, "design", self.outlook.grid.design(allowed))

    def barred(self, part: str, cap: int) -> bool:
        """Tell whether a cap leaves nothing of a part; of parallelism there is one value for each number of agents."""
        column = getattr(self.outlook.grid, part)
        values = column if self.held is None else column[self.held]
        return cap < int(values.max() if part == "parallelism" else values.min())

    @property
    def versions(self) -> dict[str, int]:
        """Give the ids of the laws and their versions."""
        return {law.law_id: law.version for law in self.laws}

    @property
    def evidence(self) -> str:
        """Give the weakest evidence label among the laws; none without laws."""
        order = ("associational", "adjusted", "randomised")
        labels = {law.evidence for law in self.laws}
        return next((label for label in order if label in labels), "none")
