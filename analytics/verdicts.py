"""Verdicts: what an effect says of a hypothesis, in a word and in a sentence that names its uncertainty.

"No effect" has to be shown like any other finding: it is the statement that an effect of the size worth knowing, fixed
beforehand, is ruled out. Where neither an effect nor its absence is shown, the verdict is undetermined.
"""

import math
from dataclasses import dataclass

from models.dimensions import LESS_IS_BETTER, Outcome
from models.experiments import ArmResult, Definition, Effect, Verdict
from models.laws import Knee

LARGEST_LN = 300.0
"""Changes are told up to here: e to it is finite."""

SUBJECTS = {
    Outcome.SUCCESS: "success",
    Outcome.QUALITY_SCORE: "quality",
    Outcome.TIME_TO_COMPLETE: "time",
    Outcome.TOTAL_COST: "cost",
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its sentence."""

    verdict: Verdict
    sentence: str


def judge(definition: Definition, effect: Effect, power: float | None, *, final: bool) -> Judgement:
    """Judge an effect.

    A sequential experiment is judged by the interval that holds at any look; a fixed one once, when it is over: for an
    effect by the interval at 1 - alpha, against one by two one-sided tests at alpha (the interval at 1 - 2 alpha).

    Args:
        definition: Direction, minimum effect and stopping rule.
        effect: The effect.
        power: P(a design of this size sees the minimum effect).
        final: Whether all outcomes are in.
    """
    if definition.stopping == "fixed" and not final:
        return Judgement(
            Verdict.UNDETERMINED,
            f"Not judged yet: this experiment has one look, at its end. {_told(definition, effect)}",
        )
    least, (lo, hi) = definition.minimum_effect, _shown(definition, effect)
    ruled_lo, ruled_hi = _ruled(definition, effect)
    towards = {"increase": (lo > 0, ruled_hi < least), "decrease": (hi < 0, ruled_lo > -least)}
    either = (lo > 0 or hi < 0, ruled_lo > -least and ruled_hi < least)
    there, ruled_out = towards.get(definition.direction, either)
    told, size = _told(definition, effect), amount(definition.outcome, least, signed=False)
    seen = "" if power is None else f" A design of this size sees an effect of {size} with power {power:.2f}."
    if ruled_out and there:
        return Judgement(Verdict.REFUTED, f"An effect, but smaller than {size}. {told}{seen}")
    if ruled_out:
        what = f"No effect larger than {size}"
        if opposite(definition, lo, hi):
            what = "The opposite of what was expected"
        elif not (ruled_lo > -least and ruled_hi < least):
            what = f"No {'rise' if definition.direction == 'increase' else 'fall'} larger than {size}"
        return Judgement(Verdict.REFUTED, f"{what}. {told}{seen}")
    if there:
        return Judgement(Verdict.SUPPORTED, told)
    why = f"Undetermined: neither an effect nor the absence of one of {size} is shown. {told}"
    return Judgement(Verdict.UNDETERMINED, why + seen)


def ends_early(definition: Definition, effect: Effect | None, verdict: Verdict) -> bool:
    """Tell whether a sequential experiment has shown enough to end before its planned size.

    That is an effect, the opposite of the expected one, or that there is none of the least size in either direction;
    where only the expected direction is ruled out, the planned runs still tell how far the other one goes.
    """
    if effect is None or verdict is Verdict.UNDETERMINED:
        return False
    lo, hi = effect.anytime_lo, effect.anytime_hi
    inside = lo > -definition.minimum_effect and hi < definition.minimum_effect
    return verdict is Verdict.SUPPORTED or inside or opposite(definition, lo, hi)


def opposite(definition: Definition, lo: float, hi: float) -> bool:
    """Tell whether an interval shows the opposite of what was expected."""
    return (definition.direction == "increase" and hi < 0) or (definition.direction == "decrease" and lo > 0)


def judge_knee(definition: Definition, knee: Knee | None, reason: str, *, final: bool) -> Judgement:
    """Judge the hypothesis that returns end at `knee_at_most` or earlier, by the interval of the knee.

    Args:
        definition: Of an experiment whose estimand is the knee.
        knee: The averaged law's knee.
        reason: Why there is none.
        final: Whether all outcomes are in.
    """
    if not final:
        return Judgement(Verdict.UNDETERMINED, "Not judged yet: this experiment has one look, at its end.")
    if knee is None:
        return Judgement(Verdict.UNDETERMINED, f"Undetermined: there is no knee to judge ({reason}).")
    if not knee.supported:
        why = f"the gain up to {knee.value:g} is no more than noise"
        return Judgement(Verdict.UNDETERMINED, f"Undetermined: there are no returns that could end ({why}).")
    most = definition.knee_at_most or knee.value
    told = f"Returns end at {knee.value:g} (95 %: {knee.lo:g} to {knee.hi:g}): {knee.rule}."
    if knee.hi <= most:
        return Judgement(Verdict.SUPPORTED, told)
    if knee.lo > most:
        return Judgement(Verdict.REFUTED, f"Later than {most:g}. {told}")
    return Judgement(Verdict.UNDETERMINED, f"Undetermined: the interval holds {most:g}. {told}")


def too_early(definition: Definition, arms: list[ArmResult]) -> Judgement | None:
    """Say that a value has not its least number of measured runs yet, or None where all have."""
    floor = definition.min_samples_per_value
    short = [arm for arm in arms if arm.measured < floor]
    if not short:
        return None
    fewest = min(short, key=lambda arm: arm.measured)
    value = fewest.value if isinstance(fewest.value, str) else f"{fewest.value:g}"
    return Judgement(
        Verdict.UNDETERMINED,
        f"Too early to tell: {len(short)} of {len(arms)} values have fewer than {floor} measured runs "
        f"({value} has {fewest.measured}).",
    )


def amount(outcome: Outcome, effect: float, *, signed: bool = True) -> str:
    """Write an effect for people: points for success and quality; for time and cost, whose scale is ln, per cent."""
    sign = "+" if signed else ""
    if outcome in LESS_IS_BETTER:
        change = _per_cent(effect)
        return f"{change:{sign}.1f} %" if signed else f"{abs(change):.1f} %"
    return f"{100 * effect:{sign}.1f} points"


def _told(definition: Definition, effect: Effect) -> str:
    """Say how the outcome changes, with the interval that the verdict rests on."""
    outcome, estimate = definition.outcome, effect.estimate
    lo, hi = _shown(definition, effect)
    when = "at any look" if definition.stopping == "sequential" else "at this look"
    verb = "rises" if lo > 0 else "falls" if hi < 0 else "changes"
    size = amount(outcome, estimate.estimate)
    size = size if verb == "changes" else size.lstrip("+-")
    ends = f"{amount(outcome, lo)} to {amount(outcome, hi)}"
    return (
        f"{SUBJECTS[outcome].capitalize()} {verb} by {size} {effect.what} "
        f"({100 * (1 - definition.alpha):g} % {when}: {ends}; {effect.n} runs)."
    )


def _shown(definition: Definition, effect: Effect) -> tuple[float, float]:
    if definition.stopping == "sequential":
        return effect.anytime_lo, effect.anytime_hi
    return effect.estimate.lo, effect.estimate.hi


def _ruled(definition: Definition, effect: Effect) -> tuple[float, float]:
    if definition.stopping == "sequential":
        return effect.anytime_lo, effect.anytime_hi
    return effect.equivalence_lo, effect.equivalence_hi


def _per_cent(ln_ratio: float) -> float:
    return 100 * math.expm1(min(ln_ratio, LARGEST_LN))
