"""A trial: one sealed version of an experiment as its owner keeps it, with everything assigned under it."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from msgspec.structs import replace

from agents.definitions import assignment_id, assignment_mac, numeric, random_key
from analytics import randomisation
from analytics.adaptive import neyman_shares, thompson_shares
from analytics.moments import Floats
from analytics.randomisation import Place
from analytics.task_filter import complexity_of, field_of, mismatch
from analytics.trial_rows import measured
from models.contexts import context_id
from models.dimensions import LESS_IS_BETTER
from models.experiments import Assignment, Finding, Joined, Notes, Result, Sealed, Status, StatusRecord, Value

BATCH = 50
"""Assignments between two looks of an adaptive rule at the outcomes."""

LEAST_SEEN = 5
"""Outcomes that every value needs before an adaptive rule leaves equal shares."""

MOST_REPEATS = 100

MOST_GIVEN = 3
"""Assignments given out at the most, as a multiple of the plan."""

FIRST_UNPRICED = 3
"""Assignments for each value that a budget in dollars allows before any run has told its cost."""


class Refused(Exception):  # noqa: N818 - the answer, not a mistake
    """There is no assignment; `kind` says why in a word, the message in a sentence."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a rule has drawn: which value, from which place of which stratum, and with which probabilities."""

    arm: int
    stratum: str
    place: Place
    shares: Sequence[float]
    propensity: float


@dataclass(slots=True)
class Trial:
    """One version of an experiment. `assignments` are by id; whoever changes one calls `put`."""

    sealed: Sealed
    status: StatusRecord
    secret: str
    notes: Notes = field(default_factory=Notes)
    result: Result | None = None
    finding: Finding | None = None
    assignments: dict[str, Assignment] = field(default_factory=dict)
    dirty: bool = True
    _counted: Counter[int] = field(default_factory=Counter)
    _open: dict[str, None] = field(default_factory=dict)
    _dollars: dict[str, float] = field(default_factory=dict)
    _last: dict[str, Place] = field(default_factory=dict)
    _shares: tuple[int, tuple[float, ...]] | None = None

    @property
    def name(self) -> str:
        """Give the experiment's id and the version."""
        return f"{self.sealed.definition.experiment_id}|{self.sealed.version}"

    @property
    def running(self) -> bool:
        """Tell whether tasks are assigned."""
        return self.status.status is Status.RUNNING

    @property
    def pending(self) -> int:
        """Count the assignments whose outcome may still come."""
        return len(self._open)

    @property
    def dollars(self) -> float:
        """Sum what the experiment's runs have cost."""
        return math.fsum(self._dollars.values())

    @property
    def counts(self) -> list[int]:
        """Count the assignments of each value that have an outcome or may still get one."""
        return [self._counted[arm] for arm in range(len(self.sealed.definition.values_tested))]

    def arm(self, value: Value) -> int:
        """Find the place of a value among those tested."""
        return self.sealed.definition.values_tested.index(value)

    def put(self, assignment: Assignment) -> None:
        """Keep an assignment, new or changed."""
        arm = self.arm(assignment.value)
        old = self.assignments.get(assignment.assignment_id)
        if old is not None:
            self._counted[arm] -= old.run is not None or not old.expired
        self.assignments[assignment.assignment_id] = assignment
        self._counted[arm] += assignment.run is not None or not assignment.expired
        if assignment.run is None and not assignment.expired:
            self._open[assignment.assignment_id] = None
        else:
            self._open.pop(assignment.assignment_id, None)
        cost = None if assignment.run is None else assignment.run.total_cost
        if cost is not None:
            self._dollars[assignment.assignment_id] = cost
        else:
            self._dollars.pop(assignment.assignment_id, None)
        place, last = Place(assignment.block, assignment.place), self._last.get(assignment.stratum)
        if last is None or (last.block, last.position) < (place.block, place.position):
            self._last[assignment.stratum] = place
        if self._shares is None or assignment.block >= self._shares[0]:
            # After a restart the batch goes on with the shares it began with, whatever outcomes have come since.
            self._shares = assignment.block, tuple(assignment.propensities)
        self.dirty = True

    def sufficient(self) -> bool:
        """Tell whether every value has its planned number of assignments, those that may still expire among them."""
        planned = self.sealed.definition.planned_per_value
        if self.sealed.definition.assignment in {"neyman", "thompson"}:
            return sum(self.counts) >= planned * len(self.counts)
        return min(self.counts) >= planned

    def exhausted(self) -> bool:
        """Tell whether the budget is used up; what is under way, or tells no cost, counts at the expected price."""
        definition = self.sealed.definition
        if definition.budget_runs is not None and len(self.assignments) >= definition.budget_runs:
            return True
        return definition.budget_dollars is not None and self.committed >= definition.budget_dollars

    def lossy(self) -> bool:
        """Tell whether so many assignments led to nothing that the plan will not be reached."""
        definition = self.sealed.definition
        return len(self.assignments) >= MOST_GIVEN * definition.planned_per_value * len(definition.values_tested)

    @property
    def price(self) -> float:
        """Give what a run is expected to cost: what was foretold, or the mean price so far where that is more."""
        known = self.dollars / len(self._dollars) if self._dollars else 0.0
        return max(self.sealed.definition.run_dollars or 0.0, known)

    @property
    def committed(self) -> float:
        """Sum what the runs have cost, and may cost as far as they have not told."""
        expired = len(self.assignments) - sum(self.counts)
        return self.dollars + self.price * (len(self.assignments) - len(self._dollars) - expired)

    def _priceless(self) -> bool:
        """Tell whether a budget in dollars has to wait for the first runs to tell what a run costs."""
        definition = self.sealed.definition
        if definition.budget_dollars is None or self.price > 0:
            return False
        return sum(self.counts) >= FIRST_UNPRICED * len(definition.values_tested)

    def known(self, unit: str) -> Assignment | None:
        """Give the assignment that a unit has, if it has one."""
        return self.assignments.get(assignment_id(self.sealed.definition.experiment_id, self.sealed.version, unit))

    def assign(
        self, unit: str, task: Mapping[str, Any], contexts: Sequence[str], scale: Mapping[str, float], now: float
    ) -> Assignment:
        """Give a unit its value: the one it has, or a new one, which the caller must `put` and write.

        Args:
            unit: The task or run.
            task: Its fields.
            contexts: The contexts it belongs to.
            scale: The numbers that stand for complexity labels.
            now: Seconds since the epoch.

        Raises:
            Refused: The task does not take part, the samples suffice, or the budget is used up.
        """
        definition, number = self.sealed.definition, self.sealed.version
        known = self.known(unit)
        if known is not None:
            return known
        if not self.running:
            raise Refused(
                "not_running", f"experiment {definition.experiment_id} is {self.status.status}: run without it"
            )
        if self.notes.tampering:
            raise Refused("not_running", f"experiment {definition.experiment_id}: {self.notes.tampering[0]}")
        reason = mismatch(definition.context_filter, task, scale)
        if reason is not None:
            raise Refused("no_match", f"the task does not take part: {reason}")
        if self.sufficient():
            raise Refused("sufficient", f"every value has its {definition.planned_per_value} assignments")
        if self.exhausted():
            raise Refused("budget", "the experiment's budget is used up")
        if self._priceless():
            raise Refused("budget", "the first runs have yet to tell what a run costs: run without, and ask again")
        drawn = self._draw(task, scale, now)
        made = Assignment(
            experiment_id=definition.experiment_id,
            version=number,
            assignment_id=assignment_id(definition.experiment_id, number, unit),
            definition_sha256=self.sealed.sha256,
            unit=unit,
            value=definition.values_tested[drawn.arm],
            stratum=drawn.stratum,
            block=drawn.place.block,
            place=drawn.place.position,
            propensity=drawn.propensity,
            propensities=list(drawn.shares),
            assigned_at=now,
            mac="",
            complexity=complexity_of(task, scale),
            contexts=list(contexts),
        )
        return replace(made, mac=assignment_mac(made, self.secret))

    def overdue(self, now: float) -> list[Assignment]:
        """List the assignments whose outcome has not come in time, as expired."""
        limit = now - self.sealed.definition.expire_seconds
        waiting = (self.assignments[identifier] for identifier in self._open)
        return [replace(each, expired=True) for each in waiting if each.assigned_at < limit]

    def joined(self, assignment: Assignment, run: Joined) -> Assignment | None:
        """Give an assignment with its run: the first run of a unit counts, in its newest revision.

        Returns:
            The changed assignment; None where the run changes nothing.
        """
        known = assignment.run
        if known is None:
            return replace(assignment, run=run)
        if known.agent_run_id == run.agent_run_id:
            return replace(assignment, run=run) if run.order > known.order else None
        if run.agent_run_id in assignment.repeats or len(assignment.repeats) >= MOST_REPEATS:
            return None
        return replace(assignment, repeats=[*assignment.repeats, run.agent_run_id])

    def _draw(self, task: Mapping[str, Any], scale: Mapping[str, float], now: float) -> Drawn:
        definition = self.sealed.definition
        return RULES[definition.assignment](self, task, scale, now)

    def _key(self) -> bytes:
        return random_key(self.secret, self.sealed.definition.experiment_id, self.sealed.version)

    def _in_blocks(self, task: Mapping[str, Any], scale: Mapping[str, float], _: float) -> Drawn:
        definition, key = self.sealed.definition, self._key()
        values = len(definition.values_tested)
        pairs = [(name, field_of(task, name, scale)) for name in definition.stratify_by]
        stratum = context_id([(name, "-" if found is None else str(found)) for name, found in pairs])
        place = randomisation.following(key, stratum, values, self._last.get(stratum))
        share = 1 / values
        return Drawn(randomisation.value_at(key, stratum, values, place), stratum, place, (share,) * values, share)

    def _by_fewest(self, *_: object) -> Drawn:
        counts, key = self.counts, self._key()
        drawn = len(self.assignments)
        arm, tied = randomisation.fewest(counts, randomisation.uniform(key, "fewest", drawn))
        shares = tuple(1 / tied if count == min(counts) else 0.0 for count in counts)
        return Drawn(arm, "all", Place(drawn, 0), shares, 1 / tied)

    def _by_time(self, _: Mapping[str, Any], __: Mapping[str, float], now: float) -> Drawn:
        definition, key = self.sealed.definition, self._key()
        values, number = len(definition.values_tested), int(now // definition.switchback_seconds)
        arm = randomisation.switchback(key, number, values)
        stratum = f"time={number}"
        last = self._last.get(stratum)
        place = Place(number, 0 if last is None else last.position + 1)
        return Drawn(arm, stratum, place, (1 / values,) * values, 1 / values)

    def _adaptively(self, *_: object) -> Drawn:
        key, drawn = self._key(), len(self.assignments)
        batch = drawn // BATCH
        if self._shares is None or self._shares[0] != batch:
            self._shares = batch, self._adapted(batch)
        shares = self._shares[1]
        arm = randomisation.drawn(shares, randomisation.uniform(key, "adaptive", drawn))
        return Drawn(arm, "all", Place(batch, drawn - batch * BATCH), shares, shares[arm])

    def _adapted(self, batch: int) -> tuple[float, ...]:
        """Turn the outcomes so far into the next batch's shares; equal ones until every value has some."""
        definition = self.sealed.definition
        values = len(definition.values_tested)
        rows = [(self.arm(each.value), y) for each, y in self._outcomes()]
        arms, y = np.array([arm for arm, _ in rows], np.int64), np.array([y for _, y in rows])
        n = np.bincount(arms, minlength=values)[:values]
        if n.min() < LEAST_SEEN:
            return (1 / values,) * values
        mean = np.bincount(arms, y, values) / n
        # Where all outcomes of a value are alike, the pooled spread stands in.
        sd = np.sqrt(np.bincount(arms, (y - mean[arms]) ** 2, values) / (n - 1))
        sd = np.where(sd > 0, sd, max(float(sd.mean()), 1e-6))
        shares: Floats
        if definition.assignment == "neyman":
            assert numeric(definition.values_tested)
            shares = neyman_shares(np.log(np.array(definition.values_tested, np.float64)), sd)
        else:
            more = definition.outcome not in LESS_IS_BETTER
            shares = thompson_shares(mean, sd / np.sqrt(n), self._key(), batch, more_is_better=more)
        return tuple(shares.tolist())

    def _outcomes(self) -> Iterator[tuple[Assignment, float]]:
        definition = self.sealed.definition
        # In one order however they were read, so that sums round alike and a restart finds the same shares.
        for _, each in sorted(self.assignments.items()):
            y = measured(each, definition, definition.outcome)
            if not math.isnan(y):
                yield each, y


Rule = Callable[[Trial, Mapping[str, Any], Mapping[str, float], float], Drawn]

RULES: Mapping[str, Rule] = {
    "blocks": Trial._in_blocks,  # noqa: SLF001 - the rules are the trial's own
    "least": Trial._by_fewest,  # noqa: SLF001
    "switchback": Trial._by_time,  # noqa: SLF001
    "neyman": Trial._adaptively,  # noqa: SLF001
    "thompson": Trial._adaptively,  # noqa: SLF001
}
