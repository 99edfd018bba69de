"""What the closed loop has shown, held against the planted truth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from agents.ab_result import Verdict, percent_more
from agents.evaluate import Evaluation
from analytics.confidence_sequences import confidence_sequence
from analytics.moments import Floats
from analytics.outcome_per_cost import Arm as Moments
from analytics.outcome_per_cost import outcome_difference
from analytics.sentences import count
from cli.closed_loop_team import Ran
from cli.closed_loop_truth import LoopWorld, Truth
from cli.closed_loop_view import Sharpened
from cli.report.ab_page import ABReport
from cli.report.numbers import percent
from models.allocations import Arm


@dataclass(frozen=True, slots=True)
class Compared:
    """Something that was measured, with its interval at any look, beside what was planted; all of one unit."""

    name: str
    unit: str
    measured: float
    lo: float
    hi: float
    planted: float

    @property
    def covered(self) -> bool:
        """Tell whether the interval has the truth in it."""
        return self.lo <= self.planted <= self.hi

    @property
    def cells(self) -> list[str]:
        """Write everything."""
        return [
            self.name,
            f"{self._text(self.measured)} {self.unit}",
            f"[{self._text(self.lo)}, {self._text(self.hi)}]",
            f"{self._text(self.planted)} {self.unit}",
            "yes" if self.covered else "no",
        ]

    def _text(self, value: float) -> str:
        return f"{value:+.1f}"


HEAD = ["dynamic less fixed", "measured", "95 %, any look", "planted", "covered"]


@dataclass(frozen=True, slots=True, eq=False)
class Conclusion:
    """Everything there is to tell at the end.

    Attributes:
        report: The A/B test as it ended.
        loop_world: The truth.
        ran: All tasks that were allocated.
        laws: The versions of the joint law, and what each made of the fixed setting.
        greedy: The off-policy value of what the allocator chose; or why there is none.
    """

    report: ABReport
    loop_world: LoopWorld
    ran: Sequence[Ran]
    laws: Sequence[Sharpened]
    greedy: Evaluation | str

    @property
    def dynamic(self) -> list[Ran]:
        """List the tasks of the dynamic arm."""
        return [each for each in self.ran if each.allocation.arm == Arm.DYNAMIC]

    @property
    def truth(self) -> Truth:
        """Say what the tasks of the dynamic arm bring in truth."""
        tasks = self.dynamic
        return self.loop_world.truth([each.allocation.setting for each in tasks], complexities(tasks))

    @property
    def compared(self) -> list[Compared]:
        """Hold what was measured against the truth; empty before the test has enough runs."""
        look, plan, truth = self.report.reading.look, self.report.reading.plan, self.truth
        if look is None:
            return []
        dynamic, fixed = (_costs(self.report.log.arms[arm].moments) for arm in Arm)
        usual = float(fixed.pooled.mean[0, 0])
        dearer = outcome_difference(dynamic, fixed, binary=False)
        of_cost = plan.runs_per_arm / (2 * self.report.test.cost_cv**2)
        success = confidence_sequence(
            look.difference.estimate, look.difference.se, plan.difference_information, plan.alpha
        )
        cost = confidence_sequence(dearer.estimate / usual, dearer.se / usual, of_cost, plan.alpha)
        return [
            Compared(
                "successes per dollar",
                "%",
                percent_more(look.gain.estimate),
                percent_more(look.gain_lo),
                percent_more(look.gain_hi),
                100 * truth.gain,
            ),
            _compared(
                "success", "points", look.difference.estimate, success, truth.given.success - truth.fixed.success
            ),
            _compared("cost", "%", dearer.estimate / usual, cost, truth.given.cost / truth.fixed.cost - 1),
        ]

    @property
    def covered(self) -> bool:
        """Tell whether the interval of the gain in successes per dollar has the planted one in it."""
        return bool(self.compared) and self.compared[0].covered

    @property
    def found(self) -> bool:
        """Tell whether the test says better, and by what was planted."""
        return self.report.verdict == Verdict.BETTER and self.covered

    @property
    def greedy_truth(self) -> float:
        """Give the true success of what the allocator chose, over all tasks."""
        return float(self.loop_world.success([each.choice for each in self.ran], complexities(self.ran)).mean())

    def sentences(self) -> Iterator[str]:
        """Say in words what the tables leave out."""
        truth, dynamic = self.truth, self.dynamic
        yield (
            f"The best settings within the budget would bring {100 * truth.best_gain:+.1f} % successes per dollar and "
            f"{100 * (truth.best.success - truth.fixed.success):+.1f} points of success; of these points "
            f"{percent(truth.share)} were reached."
        )
        explored = sum(each.allocation.explored for each in dynamic)
        versions = len({tuple(each.allocation.laws.items()) for each in self.ran})
        yield (
            f"{count(len(self.ran), 'task')} were allocated under {count(versions, 'version')} of the laws; "
            f"{explored:,} of {count(len(dynamic), 'dynamic task')} explored."
        )
        yield from self._law_sentences()
        yield self._greedy_sentence()
        if self.report.verdict != Verdict.BETTER:
            yield "Dynamic allocation was not found better: give the test more tasks (--tasks), or try another --seed."
        elif not self.found:
            yield "The interval misses the planted gain, as sound ones do in up to 5 of 100 streams: try a new --seed."

    def _law_sentences(self) -> Iterator[str]:
        if self.laws:
            first, last = self.laws[0], self.laws[-1]
            ends = ", then ".join(
                f"{100 * (each.success.hi - each.success.lo):.1f} points wide (version {each.version}, "
                f"{count(each.runs, 'run')})"
                for each in (first, last)
            )
            yield f"The joint law's interval of success at the fixed setting was {ends}."

    def _greedy_sentence(self) -> str:
        if isinstance(self.greedy, str):
            return f"scaling evaluate greedy says nothing: {self.greedy}"
        value, truth = self.greedy.found.value, self.greedy_truth
        covers = "covers" if value.lo <= truth <= value.hi else "does NOT cover"
        return (
            f"scaling evaluate greedy, from the log alone: success {100 * value.estimate:.1f} % "
            f"[{100 * value.lo:.1f}, {100 * value.hi:.1f}]; it {covers} the true {100 * truth:.1f} %."
        )


def complexities(ran: Sequence[Ran]) -> Floats:
    """Give the complexity of tasks. [N]."""
    return np.array([each.complexity for each in ran])


def _costs(arm: Moments) -> Moments:
    """Put the cost where the outcome is."""
    return Moments(arm.n, arm.mean[:, ::-1], arm.comoment[:, ::-1])


def _compared(name: str, unit: str, measured: float, ends: tuple[Floats, Floats], planted: float) -> Compared:
    lo, hi = (100 * float(end) for end in ends)
    return Compared(name, unit, 100 * measured, lo, hi, 100 * planted)
