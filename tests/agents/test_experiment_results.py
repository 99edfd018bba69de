"""What an experiment says at a look: all of it can be known or has its reason, at any size and for any outcome."""

import math
import random
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from scipy import stats

from agents.definitions import read_definition, seal, with_mac
from agents.experiment_records import NEXT_STEPS, Snapshot, content_of, finding_of, moment
from agents.experiment_results import analyse
from analytics.arm_means import arm_means, effect_of
from analytics.sample_ratio import attrition_e_value, attrition_test, sample_ratio_e_value
from analytics.trial_rows import rows_of
from models.dimensions import Outcome
from models.experiments import (
    Assignment,
    Finding,
    Joined,
    Label,
    Notes,
    Result,
    Sealed,
    Status,
    StatusRecord,
    Value,
    Verdict,
)
from models.settings import load_settings

SECRET = "0123456789abcdef"  # noqa: S105 - a test's
SETTINGS = load_settings(bootstrap_draws=100)
BEGIN = 1_750_000_000.0
FIELDS: dict[str, Any] = {
    "experiment_id": "agents",
    "name": "Agents",
    "hypothesis": "More agents succeed more often",
    "dimension_tested": "agent_count",
    "values_tested": [1, 2, 4],
    "control_value": 1,
    "min_samples_per_value": 20,
    "planned_per_value": 40,
    "expire_seconds": 3600,
}


def sealed(**fields: object) -> Sealed:
    """Seal a definition with these fields."""
    return seal(read_definition({**FIELDS, **fields}), SECRET, previous=None, at=moment(BEGIN), by="")


def assigned(version: Sealed, number: int, value: Value, run: Joined | None = None, **fields: Any) -> Assignment:  # noqa: ANN401
    """Make an assignment, one every second."""
    values = version.definition.values_tested
    timed = version.definition.assignment == "switchback"
    known: dict[str, Any] = {
        "experiment_id": "agents",
        "version": 1,
        "assignment_id": f"{number:05d}",
        "definition_sha256": version.sha256,
        "unit": f"task=t{number}",
        "value": value,
        "stratum": "s",
        "block": number // 5 if timed else number // 50,
        "place": 0,
        "propensity": 1 / len(values),
        "propensities": [1 / len(values)] * len(values),
        "assigned_at": BEGIN + number,
        "mac": "",
        "run": run,
    }
    return Assignment(**(known | fields))


def a_run(number: int, value: Value, **fields: Any) -> Joined:  # noqa: ANN401 - any outcome
    """Make a run that did what it was assigned."""
    return Joined(f"r{number}", BEGIN + number + 60, (0, number), **({"actual_value": value} | fields))


def trial(version: Sealed, n: int, slope: float = 0.0, seed: int = 1) -> list[Assignment]:
    """Make n runs that succeed more often with ln x, less often with complexity, and cost a little."""
    rng = np.random.default_rng(seed)
    values = version.definition.values_tested
    made = []
    for number in range(n):
        value, z = values[number % len(values)], float(rng.random())
        success = float(rng.random() < 0.6 + slope * math.log(float(value)) - 0.4 * (z - 0.5))
        run = a_run(number, value, success=success, quality_score=float(rng.beta(3, 2)), total_cost=0.5)
        made.append(assigned(version, number, value, run, complexity=z))
    return made


def snapshot(version: Sealed, made: Sequence[Assignment], **fields: Any) -> Snapshot:  # noqa: ANN401 - any part
    """Take a snapshot of a running experiment."""
    status = StatusRecord("agents", 1, Status.RUNNING, moment(BEGIN), "started", "Wait.")
    known: dict[str, Any] = {
        "sealed": version,
        "status": status,
        "notes": Notes(),
        "assignments": tuple(made),
        "previous": None,
        "finding": None,
        "deviations": (),
        "final": False,
    }
    return Snapshot(**(known | fields))


def look(version: Sealed, made: Sequence[Assignment], now: float = BEGIN, **fields: Any) -> Result:  # noqa: ANN401
    """Analyse an experiment."""
    return analyse(snapshot(version, made, **fields), SETTINGS, now)


# --- whatever has come so far -----------------------------------------------------------------------------------------

COURSES = st.fixed_dictionaries(
    {
        "assignment": st.sampled_from(["blocks", "least", "switchback", "neyman", "thompson"]),
        "outcome": st.sampled_from(["success", "quality_score", "time_to_complete", "total_cost"]),
        "question": st.sampled_from(
            [
                {"estimand": "slope"},
                {"estimand": "contrast"},
                {"estimand": "knee", "knee_at_most": 2, "stopping": "fixed"},
            ]
        ),
        "sizes": st.booleans(),
        "adjust_for_complexity": st.booleans(),
        "min_samples_per_value": st.sampled_from([2, 5]),
        "washout_seconds": st.sampled_from([0, 2]),
    }
)


def course(drawn: dict[str, Any]) -> Sealed:
    """Seal a definition that keeps the rules from what was drawn."""
    fields = {name: value for name, value in drawn.items() if name not in {"question", "sizes"}} | drawn["question"]
    if drawn["sizes"] and fields["assignment"] != "neyman":
        fields |= {"dimension_tested": "model_size", "values_tested": ["small", "medium", "large"]}
        fields |= {"control_value": "small", "estimand": "contrast"}
    others = [each for each in ("success", "quality_score", "total_cost") if each != fields["outcome"]]
    return sealed(**fields, switchback_seconds=5, secondary_outcomes=others, exclusions={"project": "x"})


def fate(rng: random.Random, number: int, value: Value, grain: int) -> dict[str, Any]:
    """Draw what became of an assignment; a small grain makes outcomes alike."""

    def drawn(low: float, high: float) -> float | None:
        return None if rng.random() < 0.2 else low + (high - low) * rng.randrange(grain) / grain

    if rng.random() < 0.3:
        return {"expired": rng.random() < 0.5}
    outcome = {
        "success": rng.choice([None, 0.0, 1.0, 1.0]),
        "quality_score": drawn(0, 1),
        "time_to_complete": drawn(1, 900),
        "total_cost": drawn(0, 3),
    }
    actual = rng.choice([value, value, None, 3.0])
    return {"run": a_run(number, value, **outcome, actual_value=actual, excluded=rng.random() < 0.1)}


@settings(max_examples=150)
@given(
    drawn=COURSES,
    n=st.integers(0, 60),
    grain=st.sampled_from([1, 2, 1000]),
    seed=st.integers(0, 10**6),
    final=st.booleans(),
)
def test_there_is_a_result_whatever_has_come_so_far(
    drawn: dict[str, Any],
    n: int,
    grain: int,
    seed: int,
    final: bool,  # noqa: FBT001 - drawn
) -> None:
    """No number of runs, no pattern of outcomes breaks a look; what is not known has its reason; and it can be kept."""
    version, rng = course(drawn), random.Random(seed)  # noqa: S311 - a repeatable test
    values = version.definition.values_tested
    made = []
    for number in range(n):
        value = values[number // 5 % 3] if drawn["assignment"] == "switchback" else rng.choice(values)
        complexity = rng.choice([None, 0.5, rng.random()])
        made.append(assigned(version, number, value, **fate(rng, number, value, grain), complexity=complexity))
    first = look(version, made[: n // 2], BEGIN + n)
    found = look(version, made, BEGIN + rng.choice([n, 9999]), previous=first, final=final)
    read = msgspec.json.decode(msgspec.json.encode(found), type=Result)
    assert read == found
    assert with_mac("agents|1|result", read, SECRET) == with_mac("agents|1|result", found, SECRET)
    finding = finding_of(version, found)
    kept = msgspec.json.decode(msgspec.json.encode(finding), type=Finding)
    assert with_mac("agents|1|finding", kept, SECRET) == with_mac("agents|1|finding", finding, SECRET)
    assert found.runs == sum(each.run is not None for each in made)
    assert found.look == 2
    assert (found.effect is None) <= ("effect" in found.missing)
    assert (found.law is None) <= ("law" in found.missing)
    assert (not found.contrasts) <= ("contrasts" in found.missing)
    assert len(found.arms) == 3
    assert found.sentence


# --- the headline -----------------------------------------------------------------------------------------------------


def test_the_headline_is_by_assigned_value_and_without_complexity() -> None:
    """It is the adjusted effect of all runs; the unadjusted one and what it saved stand beside it."""
    version = sealed()
    made = trial(version, 300)
    found = look(version, made)
    rows = rows_of(made, version.definition, Outcome.SUCCESS)
    for effect, adjusted in ((found.effect, True), (found.unadjusted, False)):
        means = arm_means(rows, version.definition, Outcome.SUCCESS, adjusted=adjusted)
        assert effect == effect_of(means, version.definition, Outcome.SUCCESS)
    assert found.variance_saved is not None
    assert found.variance_saved > 0
    plain = look(sealed(adjust_for_complexity=False), trial(sealed(adjust_for_complexity=False), 300))
    assert (plain.effect, plain.unadjusted, plain.variance_saved) == (found.unadjusted, None, None)


def test_per_protocol_leaves_out_who_went_another_way() -> None:
    """The headline keeps them under their assigned value."""
    version = sealed(adjust_for_complexity=False)
    made = [
        replace(each, run=replace(each.run, actual_value=1.0)) if at % 4 == 0 and each.run is not None else each
        for at, each in enumerate(trial(version, 300, 0.2))
    ]
    found = look(version, made)
    followed = [each for each in made if each.run is not None and each.run.actual_value == each.value]
    means = arm_means(rows_of(followed, version.definition, Outcome.SUCCESS), version.definition, Outcome.SUCCESS)
    assert found.per_protocol == effect_of(means, version.definition, Outcome.SUCCESS)
    assert found.effect is not None
    assert found.effect.n == 300


def test_looks_are_carried_from_the_least_number_of_runs_on() -> None:
    """What a look ruled out stays ruled out, but only once every value has its least number of runs."""
    version = sealed()
    made = trial(version, 300, 0.1)
    early, middle = look(version, made[:30]), look(version, made[:150])
    alone = look(version, made)
    assert look(version, made, previous=early).effect == alone.effect
    carried = look(version, made, previous=middle)
    assert carried.effect is not None
    assert alone.effect is not None
    assert middle.effect is not None
    assert carried.effect.anytime_lo == max(middle.effect.anytime_lo, alone.effect.anytime_lo)
    assert carried.effect.anytime_hi == min(middle.effect.anytime_hi, alone.effect.anytime_hi)
    assert carried.effect.best_e_value == max(middle.effect.e_value, alone.effect.e_value)
    assert content_of(look(version, made, previous=carried)) == content_of(carried)


def test_after_a_correction_nothing_is_carried_until_the_look_after() -> None:
    """A look at data that were wrong leaves no bound and no evidence; the looks after the correction carry again."""
    version = sealed(secondary_outcomes=["quality_score"])
    made = trial(version, 300, 0.1)
    wrong = look(version, trial(version, 240, 0.4))
    again = look(version, made[:240], previous=wrong, notes=Notes(corrections=5))
    alone = look(version, made[:240])
    assert (again.corrections, again.look) == (5, 2)
    assert (again.effect, again.unadjusted, again.secondary) == (alone.effect, alone.unadjusted, alone.secondary)
    assert look(version, made[:240], previous=wrong).effect != alone.effect
    after, single = look(version, made, previous=again, notes=Notes(corrections=5)), look(version, made)
    assert after.effect is not None
    assert again.effect is not None
    assert single.effect is not None
    assert after.effect.anytime_lo == max(again.effect.anytime_lo, single.effect.anytime_lo)
    assert after.effect.best_e_value == max(again.effect.e_value, single.effect.e_value)
    once_more = look(version, made, previous=after, notes=Notes(corrections=6))
    assert once_more.effect == single.effect


def test_power_is_that_of_this_looks_own_sequence() -> None:
    """What looks before have ruled out narrows the interval, not the error: it makes no effect easier to see."""
    version = sealed()
    made = trial(version, 300)
    alone = look(version, made)
    lucky = look(version, trial(version, 240, 0.1))
    carried = look(version, made, previous=lucky)
    assert alone.effect is not None
    assert carried.effect is not None
    width = alone.effect.anytime_hi - alone.effect.anytime_lo
    assert carried.effect.anytime_hi - carried.effect.anytime_lo < 0.9 * width
    assert (carried.power, carried.detectable_effect) == (alone.power, alone.detectable_effect)
    z = stats.norm.ppf(0.8) * alone.effect.estimate.se
    assert alone.detectable_effect == pytest.approx(width / 2 + z)


@pytest.mark.parametrize("stopping", ["fixed", "sequential"])
def test_power_is_the_chance_that_the_minimum_effect_is_seen(stopping: str) -> None:
    """By simulation of the estimate at this error: how often the interval excludes zero, and where that is 80 %."""
    version = sealed(stopping=stopping, adjust_for_complexity=False)
    found = look(version, trial(version, 600))
    assert found.effect is not None
    assert found.power is not None
    assert found.detectable_effect is not None
    estimate = found.effect.estimate
    half = (estimate.hi - estimate.lo) / 2
    if stopping == "sequential":
        half = (found.effect.anytime_hi - found.effect.anytime_lo) / 2
    noise = np.random.default_rng(1).normal(0, estimate.se, 400_000)
    assert found.power == pytest.approx((np.abs(0.1 + noise) > half).mean(), abs=0.003)
    assert (np.abs(found.detectable_effect + noise) > half).mean() == pytest.approx(0.8, abs=0.003)


def test_secondary_outcomes_are_told_without_a_verdict() -> None:
    """Each has its effect, or the reason why not; missing quality does not touch the headline."""
    version = sealed(secondary_outcomes=["quality_score", "time_to_complete"])
    found = look(version, trial(version, 200))
    quality, time = found.secondary
    assert quality.effect is not None
    assert (quality.outcome, quality.effect.n) == ("quality_score", 200)
    assert (time.effect, time.missing) == (None, "value 1 has 0 measured runs and needs 2: wait for outcomes")


def test_an_experiment_without_runs_says_so() -> None:
    """Every part that needs runs has its reason, and nothing is concluded."""
    found = look(sealed(), [])
    assert found.verdict is Verdict.UNDETERMINED
    assert found.sentence.startswith("Too early to tell: 3 of 3 values have fewer than 20 measured runs")
    assert {"effect", "law", "contrasts", "per_protocol", "attrition_p", "tests.trend", "tests.omnibus"} <= set(
        found.missing
    )
    assert (found.runs, found.dollars, found.unpriced, found.look) == (0, 0.0, 0, 1)


def test_money_repeats_and_data_are_counted() -> None:
    """What runs have cost, how many said nothing of it, repeated units, and which data the result rests on."""
    version = sealed()
    made = [
        assigned(version, 0, 1.0, a_run(0, 1.0, total_cost=0.5), repeats=["a", "b"]),
        assigned(version, 1, 2.0, a_run(1, 2.0)),
        assigned(version, 2, 4.0),
    ]
    found = look(version, made, notes=Notes(unproven={"x": "no assignment token"}))
    assert (found.dollars, found.unpriced, found.repeats, found.unproven) == (0.5, 1, 2, 1)
    assert found.data == {
        "assignments": "3",
        "runs": "2",
        "first_assigned_at": moment(BEGIN),
        "last_assigned_at": moment(BEGIN + 2),
    }


def test_classical_tests_and_shares_need_independent_runs() -> None:
    """Blocks have a trend and an omnibus test and equal shares; other assignments say why not."""
    blocks = look(sealed(), trial(sealed(), 200))
    assert [each.name for each in blocks.tests] == ["Cochran-Armitage trend", "Pearson χ²"]
    for rule in ("switchback", "neyman", "thompson"):
        version = sealed(assignment=rule)
        found = look(version, trial(version, 200))
        assert found.tests == []
        assert found.missing["tests"].endswith(f"which assignment = {rule} are not")
        assert found.missing["sample_ratio.assigned"].startswith(f"assignment = {rule} gives no equal shares")
        assert found.missing["variance_saved"] == f"complexity is not taken out where assignment = {rule}"


# --- whether the values kept their runs -------------------------------------------------------------------------------


def losing(version: Sealed, n: int) -> list[Assignment]:
    """Make assignments of which the largest value loses half of its runs."""
    made = trial(version, n)
    return [replace(each, run=None) if each.value == 4.0 and at % 2 else each for at, each in enumerate(made)]


def test_attrition_is_judged_among_those_whose_time_is_over() -> None:
    """Before an assignment has had its time, slow is not lost; afterwards the evidence is that of the counts."""
    version = sealed()
    made = losing(version, 600)
    young = look(version, made, BEGIN + 3600)
    assert [each.stage for each in young.sample_ratio] == ["assigned"]
    assert young.missing["sample_ratio.completed"].startswith("not every value has an assignment older than")
    half = look(version, made, BEGIN + 3600 + 300)
    old = look(version, made, BEGIN + 3600 + 600)
    for found, ripe in ((half, 300), (old, 600)):
        assigned_to_all, completed = found.sample_ratio
        assert assigned_to_all.counts == [200, 200, 200]
        assert assigned_to_all.e_value == sample_ratio_e_value(np.array([200, 200, 200]))
        counts = np.array([sum(e.value == v and e.run is not None for e in made[:ripe]) for v in (1.0, 2.0, 4.0)])
        out = np.full(3, ripe // 3)
        assert completed.counts == counts.tolist()
        assert completed.e_value == pytest.approx(attrition_e_value(counts, out))
        assert completed.alarm == (completed.e_value >= completed.limit == 1000)
        assert found.attrition_p == pytest.approx(attrition_test(counts, out))
        assert found.attrition_p == pytest.approx(
            stats.chi2_contingency([counts, out - counts], correction=False).pvalue
        )
    assert old.sample_ratio[1].alarm
    assert look(version, made, final=True).sample_ratio[1] == old.sample_ratio[1]


def test_shares_that_were_not_kept_raise_the_alarm() -> None:
    """Where assignments themselves are not balanced, something assigns besides the owner."""
    version = sealed()
    made = [each for at, each in enumerate(trial(version, 1500)) if each.value != 4.0 or at % 3 == 0 or at % 2]
    (found, *_) = look(version, made).sample_ratio
    assert (found.stage, found.alarm) == ("assigned", True)


@pytest.mark.parametrize("status", list(Status)[1:])
def test_an_alarm_makes_a_result_exploratory_whatever_the_status(status: Status) -> None:
    """It is named among the deviations, and what to do next is to find out why, also when the experiment is over."""
    version = sealed()
    made = losing(version, 600)
    record = StatusRecord("agents", 1, status, moment(BEGIN), "started", "Wait.")
    before = look(version, made, BEGIN + 3600, status=record)
    assert (before.label, before.deviations, before.next_step) == (Label.CONFIRMATORY, [], "Wait.")
    found = look(version, made, BEGIN + 3600, status=record, final=True, deviations=("tampering: x",))
    (_, alarm) = found.sample_ratio
    assert alarm.alarm
    assert found.label is Label.EXPLORATORY
    assert found.deviations == [
        "tampering: x",
        f"sample ratio mismatch among completed runs: {alarm.counts}, e-value {alarm.e_value:.3g}",
    ]
    assert found.next_step == NEXT_STEPS["sample_ratio"]
    assert finding_of(version, found).label is Label.EXPLORATORY


def test_every_alarm_is_named() -> None:
    """Where assignments and completed runs are both out of balance, both are deviations."""
    version = sealed()
    made = [each for at, each in enumerate(losing(version, 1500)) if each.value != 4.0 or at % 3 == 0 or at % 2]
    made = [each for each in made if each.value != 2.0 or int(each.assignment_id) % 2]
    found = look(version, made, final=True)
    assert [each.alarm for each in found.sample_ratio] == [True, True]
    assert [each.split(" runs:")[0] for each in found.deviations] == [
        "sample ratio mismatch among assigned",
        "sample ratio mismatch among completed",
    ]


# --- labels -----------------------------------------------------------------------------------------------------------


def test_a_result_is_confirmatory_unless_something_differs() -> None:
    """What the owner noted, another analysis, another definition, an assignment before the seal: each is told."""
    version = sealed()
    made = trial(version, 60)
    assert (look(version, made).label, look(version, made).deviations) == (Label.CONFIRMATORY, [])
    cases: list[tuple[Result, str]] = [
        (look(version, made, deviations=("stopped: by hand: w",)), "stopped: by hand: w"),
        (
            look(version, [replace(made[0], definition_sha256="other"), *made[1:]]),
            "1 assignments were made under another definition",
        ),
        (
            look(version, [replace(made[0], assigned_at=BEGIN - 1), *made[1:]]),
            "assignments were made before the definition was sealed",
        ),
    ]
    other: Sealed = replace(version, definition=replace(version.definition, analysis_version=7))
    cases.append((look(other, made), "sealed for analysis 7, analysed by 1"))
    for found, deviation in cases:
        assert (found.label, found.deviations) == (Label.EXPLORATORY, [deviation])


@pytest.mark.parametrize(("stopping", "label"), [("fixed", Label.EXPLORATORY), ("sequential", Label.CONFIRMATORY)])
def test_a_budget_that_ends_a_fixed_experiment_early_is_a_deviation(stopping: str, label: Label) -> None:
    """Its one look was to be at the planned size; a sequential one may end at any."""
    version = sealed(stopping=stopping)
    ended = StatusRecord("agents", 1, Status.COMPLETED, moment(BEGIN), "the budget is used up: 60 runs", "Read.")
    assert look(version, trial(version, 60), status=ended, final=True).label is label


def test_a_fixed_experiment_is_judged_at_its_end_and_stays_judged() -> None:
    """Before, it has no verdict; once there is a finding, later runs are judged like those before."""
    version = sealed(stopping="fixed")
    made = trial(version, 120, 0.25)
    early = look(version, made)
    assert (early.verdict, early.sentence[:15]) == (Verdict.UNDETERMINED, "Not judged yet:")
    final = look(version, made, final=True)
    assert final.verdict is Verdict.SUPPORTED
    finding = finding_of(version, final)
    after = look(version, [*made, *trial(version, 150, 0.25)[120:]], finding=finding)
    assert after.verdict is Verdict.SUPPORTED
    assert after.data["runs_after_conclusion"] == "30"


def test_a_knee_is_judged_from_the_law_of_these_runs() -> None:
    """Where no knee can be found the verdict says why."""
    version = sealed(estimand="knee", knee_at_most=2, stopping="fixed")
    found = look(version, trial(version, 90), final=True)
    assert found.verdict is Verdict.UNDETERMINED
    assert found.sentence.startswith("Undetermined: there is no knee to judge (")
    assert found.law is not None
    assert found.law.missing["knee"] in found.sentence


@pytest.mark.parametrize("rule", ["neyman", "thompson", "switchback"])
def test_a_result_without_a_law_says_why(rule: str) -> None:
    """Adaptive draws and shares of success have none: the reason stands among what is missing."""
    version = sealed(assignment=rule, switchback_seconds=5)
    found = look(version, trial(version, 200))
    assert found.law is None
    assert found.missing["law"].startswith(f"a law takes runs as independent, which those of assignment = {rule} are")
    assert all((arm.anytime_lo, arm.anytime_hi, arm.per_protocol) == (None, None, None) for arm in found.arms)


@pytest.mark.parametrize("outcome", ["time_to_complete", "total_cost"])
@pytest.mark.parametrize("direction", ["increase", "decrease"])
def test_a_change_beyond_all_numbers_does_not_break_a_look(outcome: str, direction: str) -> None:
    """A few runs as far apart as events may be have an interval whose end no float holds as a ratio."""
    version = sealed(outcome=outcome, direction=direction, min_samples_per_value=2, planned_per_value=100_000)
    made = [
        assigned(version, at, value, a_run(at, value, **{outcome: [1e-3, 1e9][at % 2]}))
        for at, value in enumerate([1.0, 2.0, 4.0] * 3)
    ]
    found = look(version, made, final=True)
    assert found.effect is not None
    assert found.effect.anytime_hi > math.log(sys.float_info.max)
    assert found.sentence
    assert "inf" not in found.sentence
    assert msgspec.json.decode(msgspec.json.encode(found), type=Result) == found


# --- findings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stopping", ["fixed", "sequential"])
def test_a_finding_has_the_p_of_its_stopping_rule(stopping: str) -> None:
    """One look's p where there was one, the one valid at any look where there were many."""
    version = sealed(stopping=stopping)
    found = look(version, trial(version, 150, 0.1), final=True)
    finding = finding_of(version, found)
    assert found.effect is not None
    assert finding.p == (found.effect.p if stopping == "fixed" else found.effect.anytime_p)
    assert (finding.runs, finding.dollars, finding.effect) == (150, 75.0, found.effect)
    assert (finding.verdict, finding.sentence, finding.sha256) == (found.verdict, found.sentence, version.sha256)


@pytest.mark.parametrize("stopping", ["fixed", "sequential"])
def test_a_finding_from_too_few_runs_claims_nothing(stopping: str) -> None:
    """Below the least number of runs errors are not normal yet: whatever the p would be, it is 1."""
    version = sealed(stopping=stopping, outcome="quality_score", adjust_for_complexity=False)
    made = [
        assigned(version, at, value, a_run(at, value, quality_score=float(value) / 5 + at / 1000))
        for at, value in enumerate([1.0, 2.0, 4.0] * 3)
    ]
    found = look(version, made, final=True)
    assert found.effect is not None
    assert found.effect.p < 1e-6
    assert finding_of(version, found).p == 1.0
    assert finding_of(version, look(version, [])).p == 1.0
