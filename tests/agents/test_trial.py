"""A trial: who gets which value under each rule, what counts, when it is enough, and that a restart changes nothing."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agents.definitions import assignment_id, assignment_mac, random_key, read_definition, seal
from agents.trial import BATCH, FIRST_UNPRICED, LEAST_SEEN, MOST_GIVEN, Refused, Trial
from analytics.adaptive import FLOOR, neyman_shares, thompson_shares
from analytics.randomisation import drawn, uniform
from models.experiments import Assignment, Definition, Joined, Status, StatusRecord, Value

SECRET = "0123456789abcdef"  # noqa: S105 - a test's
SCALE = {"trivial": 0.1, "low": 0.35, "medium": 0.65, "high": 0.9}
BEGIN = 1_750_000_000.0
AT = "2025-06-15T15:06:40.000Z"
FIELDS: dict[str, Any] = {
    "experiment_id": "agents",
    "name": "Agents",
    "hypothesis": "More agents succeed more often",
    "dimension_tested": "agent_count",
    "values_tested": [1, 2, 4],
    "control_value": 1,
    "min_samples_per_value": 2,
}
Task = dict[str, Any]


def trial_of(**fields: object) -> Trial:
    """Begin a trial of a definition with these fields."""
    definition: Definition = read_definition({**FIELDS, **fields})
    sealed = seal(definition, SECRET, previous=None, at=AT, by="")
    return Trial(sealed, StatusRecord(definition.experiment_id, 1, Status.RUNNING, AT, "", ""), SECRET)


def assign(trial: Trial, unit: str, task: Task | None = None, now: float = BEGIN) -> Assignment:
    """Give a unit its value and keep it."""
    made = trial.assign(unit, task or {}, ["global"], SCALE, now)
    trial.put(made)
    return made


def finish(trial: Trial, made: Assignment, run: str = "", **fields: Any) -> Assignment | None:  # noqa: ANN401 - any outcome
    """Join a run with an assignment as it stands, and keep it where it changes something."""
    known = trial.assignments[made.assignment_id]
    joined = Joined(run or f"run-{made.unit}", made.assigned_at + 60, (0, 1), made.value, **fields)
    changed = trial.joined(known, joined)
    if changed is not None:
        trial.put(changed)
    return changed


def rebuilt(trial: Trial, order: Iterable[Assignment]) -> Trial:
    """Build a trial again from what was stored of it, read in some order."""
    again = Trial(trial.sealed, trial.status, SECRET)
    for each in order:
        again.put(msgspec.json.decode(msgspec.json.encode(each), type=Assignment))
    return again


# --- what an assignment is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["blocks", "least", "switchback", "neyman", "thompson"])
def test_an_assignment_says_what_it_was_made_with(rule: str) -> None:
    """It names its unit, its definition and its chances, carries the task's complexity, and its MAC is true."""
    trial = trial_of(assignment=rule)
    made = assign(trial, "task=t", {"task_complexity": "high", "project": "a b"})
    assert made.assignment_id == assignment_id("agents", 1, "task=t")
    assert (made.version, made.definition_sha256) == (1, trial.sealed.sha256)
    assert made.mac == assignment_mac(replace(made, mac=""), SECRET)
    assert (made.complexity, made.contexts, made.assigned_at) == (0.9, ["global"], BEGIN)
    assert made.propensity == made.propensities[trial.arm(made.value)]
    assert sum(made.propensities) == pytest.approx(1)
    assert made.stratum == {"blocks": "project=a%20b&complexity_band=high", "switchback": "time=972222"}.get(
        rule, "all"
    )


@pytest.mark.parametrize("rule", ["blocks", "least", "switchback", "neyman", "thompson"])
def test_the_same_unit_always_gets_the_same_answer(rule: str) -> None:
    """Asked again, later, with other fields, after others, or when the trial is over: the answer does not move."""
    trial = trial_of(assignment=rule, planned_per_value=30, context_filter={"project": "a"})
    first = assign(trial, "task=t", {"project": "a"})
    others = [assign(trial, f"task={n}", {"project": "a"}, BEGIN + 7200 * n) for n in range(20)]
    trial.status = replace(trial.status, status=Status.STOPPED)
    assert trial.assign("task=t", {"project": "b"}, [], SCALE, BEGIN + 9e6) == first
    assert all(trial.assign(each.unit, {}, [], SCALE, BEGIN) == each for each in others)


# --- the rules --------------------------------------------------------------------------------------------------------


def test_blocks_are_balanced_within_every_stratum_at_any_moment() -> None:
    """However projects and complexities arrive, counts in a stratum never differ by more than one block's two."""
    rng = random.Random(1)  # noqa: S311 - a repeatable test
    trial = trial_of(values_tested=[1, 2, 3, 4, 6, 8])
    counts: defaultdict[str, Counter[Value]] = defaultdict(Counter)
    blocks: defaultdict[tuple[str, int], list[Value]] = defaultdict(list)
    for number in range(900):
        task: Task = {"project": rng.choice("aab"), "task_complexity": rng.choice(["low", 0.9])}
        made = assign(trial, f"task={number}", task)
        counts[made.stratum][made.value] += 1
        blocks[made.stratum, made.block].append(made.value)
        seen = [counts[made.stratum][value] for value in trial.sealed.definition.values_tested]
        assert max(seen) - min(seen) <= 2
        assert made.propensities == [1 / 6] * 6
        assert made.place == len(blocks[made.stratum, made.block]) - 1
    assert len(counts) == 4
    newest = {stratum: max(block for name, block in blocks if name == stratum) for stratum in counts}
    whole = [Counter(values) for (stratum, block), values in blocks.items() if block < newest[stratum]]
    assert {tuple(sorted(block.values())) for block in whole} == {(1,) * 6, (2,) * 6}
    assert len({tuple(values) for values in blocks.values() if len(values) == 6}) > 10


def test_strata_are_the_sealed_fields_and_unknown_ones_share_a_stratum() -> None:
    """A characteristic counts like a field; a task without it goes with the others that lack it; none at all: one."""
    trial = trial_of(stratify_by=["language"])
    tasks: list[Task] = [{"language": "go"}, {"project_characteristics": {"language": "go"}}, {}, {"language": None}]
    found = [assign(trial, f"task={at}", task).stratum for at, task in enumerate(tasks)]
    assert found == ["language=go", "language=go", "language=-", "language=-"]
    assert assign(trial_of(stratify_by=[]), "task=t", {"project": "a"}).stratum == "global"


def test_the_fewest_assignments_decide_and_ties_are_drawn() -> None:
    """By brute force: the value has the least count, its propensity is one over those tied, and all tied come up."""
    trial = trial_of(assignment="least")
    count: Counter[Value] = Counter()
    ties: defaultdict[int, set[Value]] = defaultdict(set)
    for number in range(90):
        made = assign(trial, f"task={number}")
        least = [value for value in (1.0, 2.0, 4.0) if count[value] == min(count[v] for v in (1.0, 2.0, 4.0))]
        assert made.value in least
        assert made.propensities == [1 / len(least) if value in least else 0.0 for value in (1.0, 2.0, 4.0)]
        ties[len(least)].add(made.value)
        count[made.value] += 1
    assert set(count.values()) == {30}
    assert ties[3] == {1.0, 2.0, 4.0}


def test_all_tasks_of_a_time_block_get_one_value() -> None:
    """The clock decides: one value a block, every value once in each group of blocks, whatever arrives when."""
    trial = trial_of(assignment="switchback", switchback_seconds=600, planned_per_value=1000)
    values: defaultdict[int, set[Value]] = defaultdict(set)
    rng = random.Random(2)  # noqa: S311 - a repeatable test
    for number in range(800):
        now = BEGIN + rng.random() * 600 * 60
        made = assign(trial, f"task={number}", now=now)
        assert made.block == int(now / 600)
        values[made.block].add(made.value)
    assert all(len(found) == 1 for found in values.values())
    groups: defaultdict[int, list[set[Value]]] = defaultdict(list)
    for block, found in values.items():
        groups[block // 3].append(found)
    complete = [set[Value]().union(*found) for found in groups.values() if len(found) == 3]
    assert len(complete) >= 18
    assert all(found == {1.0, 2.0, 4.0} for found in complete)
    places = [(each.block, each.place) for each in trial.assignments.values()]
    assert len(set(places)) == len(places)


def play(trial: Trial, count: int, begin: int = 0, rate: Callable[[Value], float] | None = None) -> list[Assignment]:
    """Assign tasks one after another; every one but the last three has its outcome when the next comes."""
    rng = np.random.default_rng(begin)
    made = []
    for number in range(begin, begin + count):
        made.append(assign(trial, f"task={number}", now=BEGIN + number))
        if len(made) > 3:
            done = made[-4]
            chance = 0.5 if rate is None else rate(done.value)
            finish(trial, done, success=float(rng.random() < chance), quality_score=float(rng.beta(2, 2)))
    return made


@pytest.mark.parametrize(
    ("rule", "outcome"), [("neyman", "success"), ("thompson", "success"), ("neyman", "quality_score")]
)
def test_adaptive_shares_are_those_of_the_outcomes_when_the_batch_began(rule: str, outcome: str) -> None:
    """In every batch of fifty: equal shares until each value has five outcomes, then the rule's; draws are theirs."""
    trial = trial_of(assignment=rule, outcome=outcome, planned_per_value=200)
    key = random_key(SECRET, "agents", 1)
    equal_batches = 0
    for batch in range(6):
        seen = [(each.value, getattr(each.run, outcome)) for each in trial.assignments.values() if each.run is not None]
        y = [np.array([y for value, y in seen if value == each]) for each in (1.0, 2.0, 4.0)]
        if min(map(len, y)) < LEAST_SEEN:
            expected = np.full(3, 1 / 3)
            equal_batches += 1
        else:
            sd = np.array([each.std(ddof=1) for each in y])
            mean, n = np.array([each.mean() for each in y]), np.array([len(each) for each in y])
            if rule == "neyman":
                expected = neyman_shares(np.log([1, 2, 4]), sd)
            else:
                expected = thompson_shares(mean, sd / np.sqrt(n), key, batch)
        for at, made in enumerate(play(trial, BATCH, batch * BATCH, lambda value: 0.3 + 0.15 * float(value))):
            assert (made.block, made.place) == (batch, at)
            np.testing.assert_allclose(made.propensities, expected, rtol=1e-12)
            assert trial.arm(made.value) == drawn(made.propensities, uniform(key, "adaptive", batch * BATCH + at))
    assert equal_batches == 1


@pytest.mark.parametrize(("rule", "most"), [("neyman", 10), ("thompson", 16)])
def test_no_adaptive_share_is_below_five_per_cent(rule: str, most: int) -> None:
    """With as many values as the rule allows, and one of them far ahead, each keeps its floor."""
    trial = trial_of(assignment=rule, values_tested=list(range(1, most + 1)), planned_per_value=200)
    shares = [made.propensities for made in play(trial, 8 * BATCH, rate=lambda value: 0.05 + 0.9 * (value == 1.0))]
    assert min(map(min, shares)) >= FLOOR - 1e-12
    assert max(map(max, shares)) > 1.5 / most


def test_outcomes_that_do_not_vary_leave_the_shares_finite() -> None:
    """Where one value's runs, or all runs, ended alike, the others' spread stands in, and nothing fails."""
    for rule in ("neyman", "thompson"):
        for rate in (1.0, 0.0):
            made = play(trial_of(assignment=rule), 3 * BATCH, rate=lambda _, rate=rate: rate)  # type: ignore[misc]
            assert all(np.isfinite(each.propensities).all() for each in made)
            assert min(min(each.propensities) for each in made) >= FLOOR - 1e-12


def test_less_is_better_for_time_and_cost() -> None:
    """Thompson's rule favours the value whose runs are cheapest."""
    trial = trial_of(assignment="thompson", outcome="total_cost", planned_per_value=200)
    rng = np.random.default_rng(3)
    for number in range(4 * BATCH):
        made = assign(trial, f"task={number}")
        finish(trial, made, total_cost=float(np.exp(rng.normal(np.log(made.value), 0.3))))
    last = list(trial.assignments.values())[-1]
    assert last.propensities[0] > 0.85


@pytest.mark.parametrize("rule", ["neyman", "thompson"])
def test_a_restart_within_a_batch_goes_on_with_its_shares(rule: str) -> None:
    """Outcomes that come between the restart and the next batch do not move the shares of the one under way."""
    trial = trial_of(assignment=rule, planned_per_value=200)
    play(trial, 2 * BATCH + 20, rate=lambda value: 0.2 + 0.15 * float(value))
    again = rebuilt(trial, reversed(trial.assignments.values()))
    before = list(trial.assignments.values())[-1].propensities
    for each in list(again.assignments.values())[:3]:
        finish(again, each, success=1.0)
    made = play(again, 30, 2 * BATCH + 20)
    assert all(each.propensities == before for each in made)
    assert assign(again, "task=next").propensities != before


# --- what counts ------------------------------------------------------------------------------------------------------


def test_expiry_frees_the_count_and_a_late_outcome_counts_all_the_same() -> None:
    """An assignment without an outcome is taken off its value's count, and put back when its run comes after all."""
    trial = trial_of(assignment="least", expire_seconds=60)
    made = [assign(trial, f"task={number}", now=BEGIN + number) for number in range(3)]
    assert (trial.counts, trial.pending) == ([1, 1, 1], 3)
    assert trial.overdue(BEGIN + 60) == []
    expired = trial.overdue(BEGIN + 61.5)
    assert [each.unit for each in expired] == ["task=0", "task=1"]
    for each in expired:
        trial.put(each)
    arm = trial.arm(made[0].value)
    assert trial.counts[arm] == 0
    assert (sum(trial.counts), trial.pending) == (1, 1)
    assert trial.overdue(BEGIN + 61.5) == []
    assert {assign(trial, f"task={number}").value for number in (3, 4)} == {made[0].value, made[1].value}
    late = finish(trial, made[0], success=1.0)
    assert late is not None
    assert late.expired
    assert late.run is not None
    assert (trial.counts[arm], trial.pending) == (2, 3)
    assert trial.overdue(BEGIN + 9e9)
    assert made[0].unit not in {each.unit for each in trial.overdue(BEGIN + 9e9)}


def test_the_first_run_of_a_unit_counts_in_its_newest_revision() -> None:
    """A later revision replaces it, an earlier or equal one does not; a run of another id is a repeat, once."""
    trial = trial_of()
    made = assign(trial, "task=t")

    def join(run: str, order: tuple[int, int], cost: float) -> bool:
        changed = trial.joined(trial.assignments[made.assignment_id], Joined(run, BEGIN, order, total_cost=cost))
        if changed is not None:
            trial.put(changed)
        return changed is not None

    assert [join("a", (0, 7), 1.0), join("a", (0, 7), 2.0), join("a", (0, 5), 3.0)] == [True, False, False]
    assert [join("a", (1, 3), 4.0), join("a", (0, 99), 5.0), join("a", (1, 4), 6.0)] == [True, False, True]
    assert [join("b", (9, 9), 7.0), join("b", (10, 9), 8.0), join("c", (0, 1), 9.0)] == [True, False, True]
    kept = trial.assignments[made.assignment_id]
    assert kept.run == Joined("a", BEGIN, (1, 4), total_cost=6.0)
    assert kept.repeats == ["b", "c"]
    assert (trial.dollars, sum(trial.counts), trial.pending) == (6.0, 1, 0)


def test_repeats_are_remembered_up_to_a_hundred() -> None:
    """A unit that runs for ever does not grow for ever."""
    trial = trial_of()
    made = assign(trial, "task=t")
    changes = [finish(trial, made, f"run-{number}") for number in range(150)]
    assert sum(change is not None for change in changes) == 101
    assert len(trial.assignments[made.assignment_id].repeats) == 100


# --- when it is enough ------------------------------------------------------------------------------------------------


def refusal(trial: Trial, unit: str = "task=new", task: Task | None = None) -> tuple[str, str]:
    """Ask for a value and give the refusal."""
    with pytest.raises(Refused) as refused:
        trial.assign(unit, task or {}, [], SCALE, BEGIN)
    return refused.value.kind, str(refused.value)


@pytest.mark.parametrize("rule", ["blocks", "least", "neyman", "thompson"])
def test_the_samples_suffice_at_the_planned_size(rule: str) -> None:
    """Every value has its planned number; where shares are adaptive, all together have as many."""
    trial = trial_of(assignment=rule, planned_per_value=4, stratify_by=[])
    made = 0
    while not trial.sufficient():
        assign(trial, f"task={made}")
        made += 1
    assert refusal(trial) == ("sufficient", "every value has its 4 assignments")
    if rule in {"neyman", "thompson"}:
        assert made == 12
    else:
        assert min(trial.counts) == 4
        assert max(trial.counts) <= (4 if rule == "least" else 6)


def test_expired_assignments_do_not_suffice() -> None:
    """What brought nothing is assigned again."""
    trial = trial_of(planned_per_value=2, assignment="least", expire_seconds=10)
    for number in range(6):
        assign(trial, f"task={number}")
    assert trial.sufficient()
    for each in trial.overdue(BEGIN + 11):
        trial.put(each)
    assert not trial.sufficient()
    assert assign(trial, "task=7").value in {1.0, 2.0, 4.0}


def test_a_budget_of_runs_ends_the_assignments() -> None:
    """As many assignments as were allowed have been given out, whatever they cost, those that expired included."""
    trial = trial_of(budget_runs=5, expire_seconds=10)
    for number in range(5):
        assert not trial.exhausted()
        assign(trial, f"task={number}")
        if number < 2:
            trial.put(*trial.overdue(BEGIN + 11))
    assert (sum(trial.counts), len(trial.assignments)) == (3, 5)
    assert trial.exhausted()
    assert refusal(trial) == ("budget", "the experiment's budget is used up")


def test_a_budget_of_dollars_counts_what_is_under_way_at_the_mean_price() -> None:
    """Two priced runs at 3 dollars in the mean and n others, under way or without a price, make 6 + 3 n."""
    trial = trial_of(budget_dollars=16)
    made = [assign(trial, f"task={number}") for number in range(5)]
    assert not trial.exhausted()
    finish(trial, made[0], total_cost=2.0)
    assert (trial.dollars, trial.committed, trial.exhausted()) == (2.0, 10.0, False)
    finish(trial, made[1], total_cost=4.0)
    assert (trial.price, trial.committed, trial.exhausted()) == (3.0, 15.0, False)
    finish(trial, made[2])
    assert (trial.pending, trial.committed) == (2, 15.0)
    assign(trial, "task=5")
    assert (trial.committed, trial.exhausted()) == (18.0, True)
    trial.put(replace(trial.assignments[made[3].assignment_id], expired=True))
    assert (trial.committed, trial.exhausted()) == (15.0, False)
    trial.put(replace(trial.assignments[made[0].assignment_id], run=Joined("run-task=0", BEGIN, (1, 2))))
    assert (trial.dollars, trial.price, trial.committed) == (4.0, 4.0, 20.0)


def test_a_foretold_price_counts_until_runs_are_dearer() -> None:
    """What is under way or tells no price counts at the greater of what was foretold and the mean so far."""
    trial = trial_of(budget_dollars=100, run_dollars=2)
    made = [assign(trial, f"task={number}") for number in range(3)]
    assert (trial.price, trial.committed) == (2.0, 6.0)
    finish(trial, made[0], total_cost=1.0)
    assert (trial.price, trial.committed) == (2.0, 5.0)
    finish(trial, made[1], total_cost=5.0)
    assert (trial.price, trial.committed) == (3.0, 9.0)
    finish(trial, made[2])
    assert (trial.price, trial.committed) == (3.0, 9.0)


def test_before_any_price_is_known_only_a_few_runs_a_value_go_out() -> None:
    """A budget in dollars opens with three a value; a price opens the next places, an end without one does not."""
    trial = trial_of(budget_dollars=100)
    made = [assign(trial, f"task={number}") for number in range(3 * FIRST_UNPRICED)]
    assert refusal(trial) == ("budget", "the first runs have yet to tell what a run costs: run without, and ask again")
    assert (trial.running, trial.exhausted(), trial.sufficient()) == (True, False, False)
    assert trial.assign(made[0].unit, {}, [], SCALE, BEGIN) == made[0]
    finish(trial, made[0])
    assert refusal(trial)[0] == "budget"
    finish(trial, made[1], total_cost=0.5)
    assert [assign(trial, f"task=next-{number}").unit for number in range(30)]
    for fields in ({"budget_dollars": 100, "run_dollars": 1.0}, {"budget_runs": 100}, {}):
        free = trial_of(**fields)
        assert [assign(free, f"task={number}").unit for number in range(4 * FIRST_UNPRICED)]


@settings(max_examples=100)
@given(
    price=st.floats(0.1, 5),
    share=st.floats(0.5, 2),
    foretold=st.booleans(),
    budget=st.floats(20, 60),
    seed=st.integers(0, 10**6),
)
def test_a_budget_is_not_passed_by_more_than_one_run(
    price: float,
    share: float,
    foretold: bool,  # noqa: FBT001 - drawn
    budget: float,
    seed: int,
) -> None:
    """However answers and outcomes come, and some without a price: a run's price over the budget is the most.

    Where nothing was foretold, or too little, the runs that went out before one told its price may be dearer still.
    """
    rng = random.Random(seed)  # noqa: S311 - a repeatable test
    told = {"run_dollars": price * share} if foretold else {}
    trial = trial_of(budget_dollars=budget, planned_per_value=1000, **told)
    waiting: list[Assignment] = []
    before = 0
    for number in range(1000):
        try:
            waiting.append(assign(trial, f"task={number}"))
        except Refused:
            if trial.exhausted():
                break
        else:
            before = before if trial.dollars else len(trial.assignments)
        if waiting and rng.random() < 0.5:
            finish(trial, waiting.pop(rng.randrange(len(waiting))), total_cost=None if rng.random() < 0.3 else price)
    assert trial.exhausted()
    spent = price * len(trial.assignments)
    enough = foretold and share >= 1
    assert spent <= (budget + price if enough else max(budget + price, price * before)) * (1 + 1e-9)
    if enough and trial.dollars == 0:
        assert len(trial.assignments) == math.ceil(budget / (price * share) * (1 - 1e-12))


@pytest.mark.parametrize("rule", ["blocks", "least", "neyman"])
def test_a_trial_that_loses_its_runs_is_known_by_three_times_its_plan(rule: str) -> None:
    """Assignments that led to nothing free their places, but not for ever."""
    trial = trial_of(assignment=rule, planned_per_value=2, expire_seconds=10)
    for number in range(MOST_GIVEN * 6):
        assert not trial.lossy()
        assign(trial, f"task={number}")
        for each in trial.overdue(BEGIN + 11):
            trial.put(each)
    assert (trial.lossy(), trial.sufficient(), trial.counts) == (True, False, [0, 0, 0])


def test_a_trial_that_does_not_run_or_a_task_outside_it_is_refused_with_the_reason() -> None:
    """The refusal says what the trial is, or what of the task does not match."""
    trial = trial_of(context_filter={"min_complexity": "medium"})
    assert refusal(trial, task={"task_complexity": "low"}) == (
        "no_match",
        "the task does not take part: task_complexity 0.35 is below min_complexity medium",
    )
    trial.status = replace(trial.status, status=Status.COMPLETED)
    assert refusal(trial) == ("not_running", "experiment agents is completed: run without it")


def test_a_trial_that_was_tampered_with_assigns_nothing() -> None:
    """From the moment that a record was found changed, nobody is sent under it."""
    trial = trial_of()
    trial.notes = replace(trial.notes, tampering=["version 1: changed"])
    kind, message = refusal(trial)
    assert kind == "not_running"
    assert "version 1: changed" in message


# --- restarts ---------------------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(
    rule=st.sampled_from(["blocks", "least", "switchback", "neyman", "thompson"]),
    outcome=st.sampled_from(["success", "quality_score", "total_cost"]),
    steps=st.integers(1, 300),
    seed=st.integers(0, 10**6),
    after=st.integers(1, 60),
)
@example(rule="neyman", outcome="quality_score", steps=248, seed=1, after=1)
def test_a_trial_rebuilt_in_any_order_continues_exactly_as_the_undisturbed_one(
    rule: str, outcome: str, steps: int, seed: int, after: int
) -> None:
    """Assignments, outcomes and expiries make the state; read back in any order, the next assignments are the same."""
    rng = random.Random(seed)  # noqa: S311 - a repeatable test
    trial = trial_of(
        assignment=rule,
        outcome=outcome,
        planned_per_value=1000,
        switchback_seconds=7,
        budget_dollars=1e6,
        run_dollars=1.0,
    )
    made: list[Assignment] = []
    for number in range(steps):
        step = rng.choice("aaafffx")
        if step == "a" or not made:
            made.append(assign(trial, f"task={number}", a_task(rng), BEGIN + number))
        elif step == "f":
            y = {
                "success": float(rng.random() < 0.7),
                "quality_score": rng.random(),
                "total_cost": rng.lognormvariate(0, 1),
            }
            finish(trial, rng.choice(made), "", **y)
        else:
            trial.put(replace(trial.assignments[rng.choice(made).assignment_id], expired=True))
    stored = list(trial.assignments.values())
    rng.shuffle(stored)
    again = rebuilt(trial, stored)
    assert (again.counts, again.pending, again.dollars) == (trial.counts, trial.pending, trial.dollars)
    assert (again.sufficient(), again.exhausted()) == (trial.sufficient(), trial.exhausted())
    assert (again.price, again.committed, again.lossy()) == (trial.price, trial.committed, trial.lossy())
    for number in range(after):
        task, now = a_task(rng), BEGIN + steps + number
        assert assign(again, f"task=after-{number}", task, now) == assign(trial, f"task=after-{number}", task, now)


def a_task(rng: random.Random) -> Task:
    """Draw a task of two projects and five complexities."""
    return {"project": rng.choice("ab"), "task_complexity": rng.randrange(5) / 5}
