"""Work out what an experiment says now, from its assignments: at any time, and in the way that was sealed."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.special import ndtr, ndtri

from agents.definitions import code_version, numeric
from agents.experiment_law import experiment_law
from agents.experiment_records import NEXT_STEPS, Snapshot, moment
from analytics.arm_means import (
    ADJUSTABLE,
    arm_means,
    contrasts_of,
    effect_of,
    effect_weights,
    planned_information,
)
from analytics.arm_results import arm_results
from analytics.confidence_sequences import confidence_sequence
from analytics.moments import Ints
from analytics.one_look_tests import omnibus_test, trend_test
from analytics.power_analysis import POWER
from analytics.sample_ratio import attrition_e_value, attrition_test, sample_ratio_e_value
from analytics.trial_rows import TrialRows, rows_of
from analytics.verdicts import Judgement, judge, judge_knee, too_early
from models.dimensions import Outcome
from models.errors import NotEnoughData
from models.experiments import (
    ANALYSIS_VERSION,
    ArmResult,
    Assignment,
    Contrast,
    Definition,
    Effect,
    Label,
    OneLookTest,
    Result,
    SampleRatio,
    Secondary,
    Status,
    Verdict,
)
from models.laws import Law
from models.settings import Settings

RATIO_ALPHA = 0.001
"""An experiment stops at a sample-ratio alarm, so false ones must be rare."""

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Analysis:
    """One look at an experiment. `missing` collects, part by part, why something is not known."""

    snapshot: Snapshot
    settings: Settings
    now: float
    rows: TrialRows
    missing: dict[str, str]

    @property
    def definition(self) -> Definition:
        """Give the sealed definition."""
        return self.snapshot.sealed.definition

    def attempt(self, part: str, make: Callable[[], Part]) -> Part | None:
        """Make a part of the result; where the runs do not allow it, keep the reason."""
        try:
            return make()
        except NotEnoughData as reason:
            self.missing[part] = str(reason)
            return None


def analyse(snapshot: Snapshot, settings: Settings, now: float) -> Result:
    """Work out a result.

    The headline compares runs by the value that they were assigned, whatever they did (intention to treat).

    Args:
        snapshot: The experiment.
        settings: The price table and the bootstrap draws of the law.
        now: The time, seconds since the epoch.
    """
    definition, previous = snapshot.sealed.definition, snapshot.previous
    rows = rows_of(snapshot.assignments, definition, definition.outcome)
    analysis = Analysis(snapshot, settings, now, rows, {})
    arms = arm_results(snapshot.assignments, rows, definition)
    carried = previous if previous is not None and _carries(previous, snapshot) else None
    before = None if carried is None else carried.unadjusted or carried.effect
    unadjusted = analysis.attempt("effect", lambda: _effect(rows, definition, definition.outcome, before))
    effect, saved = _headline(analysis, unadjusted, None if carried is None else carried.effect)
    law = analysis.attempt("law", lambda: experiment_law(snapshot, settings, now))
    power = None if effect is None else _power(definition, effect)
    judgement = _judge(analysis, arms, effect, law, power)
    ratios = _sample_ratios(analysis)
    alarms = [told_alarm(ratio) for ratio in ratios if ratio.alarm]
    deviations = [*_deviations(analysis), *alarms]
    runs = [each.run for each in snapshot.assignments if each.run is not None]
    return Result(
        experiment_id=definition.experiment_id,
        version=snapshot.sealed.version,
        sha256=snapshot.sealed.sha256,
        analysed_at=moment(now),
        status=snapshot.status.status,
        label=Label.EXPLORATORY if deviations else Label.CONFIRMATORY,
        deviations=deviations,
        verdict=judgement.verdict,
        sentence=judgement.sentence,
        next_step=NEXT_STEPS["sample_ratio"] if alarms else snapshot.status.next_step,
        look=snapshot.look,
        runs=len(runs),
        arms=arms,
        contrasts=analysis.attempt("contrasts", lambda: _contrasts(analysis)) or [],
        tests=_tests(analysis),
        sample_ratio=ratios,
        effect=effect,
        unadjusted=unadjusted if saved is not None else None,
        per_protocol=analysis.attempt("per_protocol", lambda: _per_protocol(analysis)),
        variance_saved=saved,
        attrition_p=analysis.attempt("attrition_p", lambda: _attrition(analysis)),
        power=power,
        detectable_effect=None if effect is None else _detectable(definition, effect),
        law=law,
        secondary=[_secondary(analysis, outcome, carried) for outcome in definition.secondary_outcomes],
        dollars=math.fsum(run.total_cost for run in runs if run.total_cost is not None),
        unpriced=sum(run.total_cost is None for run in runs),
        repeats=sum(len(each.repeats) for each in snapshot.assignments),
        unproven=len(snapshot.notes.unproven),
        corrections=snapshot.notes.corrections,
        code_version=code_version(),
        data=_data(analysis),
        missing=analysis.missing,
    )


def _carries(previous: Result, snapshot: Snapshot) -> bool:
    """Tell whether what was ruled out before stays ruled out.

    It does from when every value has its least number of runs, so that estimates count as normal, and until a run is
    corrected: looks at data that were wrong are no looks at these.
    """
    floor = snapshot.sealed.definition.min_samples_per_value
    burnt_in = all(arm.measured >= floor for arm in previous.arms)
    return burnt_in and previous.corrections == snapshot.notes.corrections


def ratio_alarm(result: Result) -> str | None:
    """Say which sample-ratio alarm a result has, or None where it has none."""
    alarm = next((ratio for ratio in result.sample_ratio if ratio.alarm), None)
    return None if alarm is None else told_alarm(alarm)


def told_alarm(alarm: SampleRatio) -> str:
    """Write a sample-ratio alarm."""
    return f"sample ratio mismatch among {alarm.stage} runs: {alarm.counts}, e-value {alarm.e_value:.3g}"


def _effect(
    rows: TrialRows, definition: Definition, outcome: Outcome, before: Effect | None, *, adjusted: bool = False
) -> Effect:
    return effect_of(arm_means(rows, definition, outcome, adjusted=adjusted), definition, outcome, before)


def _headline(
    analysis: Analysis, unadjusted: Effect | None, before: Effect | None
) -> tuple[Effect | None, float | None]:
    """Give the sealed headline: with complexity taken out where that was sealed and is possible, and what it saved."""
    definition, rows = analysis.definition, analysis.rows
    if not definition.adjust_for_complexity or unadjusted is None:
        return unadjusted, None
    if definition.assignment not in ADJUSTABLE:
        analysis.missing["variance_saved"] = f"complexity is not taken out where assignment = {definition.assignment}"
        return unadjusted, None
    means = analysis.attempt("effect", lambda: arm_means(rows, definition, definition.outcome, adjusted=True))
    if means is None:
        return unadjusted, None
    return effect_of(means, definition, definition.outcome, before), means.saved


def _judge(
    analysis: Analysis, arms: list[ArmResult], effect: Effect | None, law: Law | None, power: float | None
) -> Judgement:
    definition, final = analysis.definition, analysis.snapshot.final or analysis.snapshot.finding is not None
    early = too_early(definition, arms)
    if early is not None:
        return early
    if definition.estimand == "knee":
        knee, reasons = (None, analysis.missing) if law is None else (law.knee, law.missing)
        return judge_knee(definition, knee, reasons.get("knee", reasons.get("law", "not known")), final=final)
    if effect is None:
        return Judgement(Verdict.UNDETERMINED, f"Undetermined: {analysis.missing.get('effect', 'no effect is known')}.")
    return judge(definition, effect, power, final=final)


def _contrasts(analysis: Analysis) -> list[Contrast]:
    definition = analysis.definition
    adjusted = definition.adjust_for_complexity and definition.assignment in ADJUSTABLE
    means = arm_means(analysis.rows, definition, definition.outcome, adjusted=adjusted)
    return contrasts_of(means, definition, definition.outcome)


def _per_protocol(analysis: Analysis) -> Effect:
    rows = analysis.rows.where(analysis.rows.complied)
    return _effect(rows, analysis.definition, analysis.definition.outcome, None)


def _secondary(analysis: Analysis, outcome: Outcome, previous: Result | None) -> Secondary:
    definition = analysis.definition
    known = {each.outcome: each for each in (previous.secondary if previous else ())}.get(outcome.value)
    before = None if known is None else known.effect
    try:
        rows = rows_of(analysis.snapshot.assignments, definition, outcome)
        return Secondary(outcome.value, _effect(rows, definition, outcome, before))
    except NotEnoughData as reason:
        return Secondary(outcome.value, missing=str(reason))


def _tests(analysis: Analysis) -> list[OneLookTest]:
    """Give the trend test on ln x and the omnibus test, for one look, where runs are independent."""
    definition = analysis.definition
    if definition.assignment not in ADJUSTABLE:
        analysis.missing["tests"] = (
            f"classical tests need independent runs, which assignment = {definition.assignment} are not"
        )
        return []
    tests = [analysis.attempt("tests.omnibus", lambda: omnibus_test(analysis.rows, definition))]
    if numeric(definition.values_tested):
        tests.insert(0, analysis.attempt("tests.trend", lambda: trend_test(analysis.rows, definition)))
    return [test for test in tests if test is not None]


def _sample_ratios(analysis: Analysis) -> list[SampleRatio]:
    """Check the shares of the values among assignments, and among those whose outcome had its time to come."""
    definition, assignments = analysis.definition, analysis.snapshot.assignments
    values = len(definition.values_tested)
    places = np.array([definition.values_tested.index(each.value) for each in assignments], np.int64)
    found = []
    if definition.assignment in ADJUSTABLE:
        counts = np.bincount(places, minlength=values)
        found.append(_ratio("assigned", counts, sample_ratio_e_value(counts)))
    else:
        analysis.missing["sample_ratio.assigned"] = (
            f"assignment = {definition.assignment} gives no equal shares to hold it to"
        )
    ripe = np.array([_ripe(each, analysis) for each in assignments], np.bool_)
    out = np.bincount(places[ripe], minlength=values) if len(places) else np.zeros(values, np.int64)
    if out.min() > 0:
        back = np.array([each.run is not None for each in assignments], np.bool_)
        returned = np.bincount(places[ripe & back], minlength=values)
        found.append(_ratio("completed", returned, attrition_e_value(returned, out)))
    else:
        analysis.missing["sample_ratio.completed"] = (
            f"not every value has an assignment older than expire_seconds = {definition.expire_seconds} yet: "
            "younger ones may still be on their way, slow values longer"
        )
    return found


def _ripe(assignment: Assignment, analysis: Analysis) -> bool:
    """Tell whether an assignment's outcome has had its time to come, however long runs of its value take."""
    if analysis.snapshot.final or analysis.snapshot.finding is not None:
        return True
    return assignment.assigned_at < analysis.now - analysis.definition.expire_seconds


def _ratio(stage: str, counts: Ints, evidence: float) -> SampleRatio:
    return SampleRatio(stage, evidence, 1 / RATIO_ALPHA, evidence >= 1 / RATIO_ALPHA, counts.tolist())


def _attrition(analysis: Analysis) -> float:
    definition, values = analysis.definition, len(analysis.definition.values_tested)
    ripe = [each for each in analysis.snapshot.assignments if _ripe(each, analysis)]
    places = np.array([definition.values_tested.index(each.value) for each in ripe], np.int64)
    back = np.array([each.run is not None for each in ripe], np.bool_)
    return float(attrition_test(np.bincount(places[back], minlength=values), np.bincount(places, minlength=values)))


def _power(definition: Definition, effect: Effect) -> float:
    """Give P(an effect of the minimum size is seen) at this standard error, by the rule that was sealed."""
    z = definition.minimum_effect / effect.estimate.se
    reach = _reach(definition, effect)
    return float(ndtr(z - reach) + ndtr(-z - reach))


def _detectable(definition: Definition, effect: Effect) -> float:
    """Give the effect that is seen with a power of 0.8."""
    return (_reach(definition, effect) + float(ndtri(POWER))) * effect.estimate.se


def _reach(definition: Definition, effect: Effect) -> float:
    """Give how many standard errors an effect must lie from zero to be seen at this look."""
    if definition.stopping == "sequential":
        weights, _ = effect_weights(definition)
        tuned = planned_information(definition, definition.outcome, weights)
        return float(confidence_sequence(0.0, effect.estimate.se, tuned, definition.alpha)[1]) / effect.estimate.se
    return (effect.estimate.hi - effect.estimate.lo) / 2 / effect.estimate.se


def _deviations(analysis: Analysis) -> list[str]:
    snapshot, found = analysis.snapshot, list(analysis.snapshot.deviations)
    sealed = snapshot.sealed
    if sealed.definition.analysis_version != ANALYSIS_VERSION:
        found.append(f"sealed for analysis {sealed.definition.analysis_version}, analysed by {ANALYSIS_VERSION}")
    foreign = sum(each.definition_sha256 != sealed.sha256 for each in snapshot.assignments)
    if foreign:
        found.append(f"{foreign} assignments were made under another definition")
    first = min((each.assigned_at for each in snapshot.assignments), default=math.inf)
    if first < math.inf and moment(first) < sealed.sealed_at:
        found.append("assignments were made before the definition was sealed")
    status = snapshot.status.status
    short = status in {Status.COMPLETED, Status.ANALYZED} and snapshot.status.reason.startswith("the budget")
    if short and sealed.definition.stopping == "fixed":
        found.append("the budget ended the experiment before its planned size")
    return found


def _data(analysis: Analysis) -> dict[str, str]:
    """Say which data the result rests on."""
    assignments = analysis.snapshot.assignments
    runs = sorted(each.run.agent_run_id for each in assignments if each.run is not None)
    told = {"assignments": str(len(assignments)), "runs": str(len(runs))}
    if assignments:
        told["first_assigned_at"] = moment(min(each.assigned_at for each in assignments))
        told["last_assigned_at"] = moment(max(each.assigned_at for each in assignments))
    finding = analysis.snapshot.finding
    if finding is not None:
        told["concluded_at"] = finding.concluded_at
        told["runs_after_conclusion"] = str(len(runs) - finding.runs)
    return told
