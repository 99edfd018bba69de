"""Verdicts: every branch, by what the intervals show, and sentences that name their uncertainty."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from analytics.ready_made import AGENT_COUNT, MODEL_SIZE
from analytics.verdicts import amount, ends_early, judge, judge_knee, too_early
from models.dimensions import Outcome
from models.experiments import ArmResult, Definition, Effect, Verdict
from models.laws import Estimate, Knee

SEQUENTIAL = replace(AGENT_COUNT, minimum_effect=0.1, stopping="sequential", direction="increase")


def effect(
    lo: float, hi: float, *, one_look: tuple[float, float] = (-9.0, 9.0), equivalence: tuple[float, float] = (-9.0, 9.0)
) -> Effect:
    """Make an effect whose interval at any look ends here, and its other intervals there."""
    estimate = Estimate((lo + hi) / 2, 0.02, *one_look)
    return Effect("success", "along the line", estimate, lo, hi, 1.0, 1.0, 1.0, 1.0, *equivalence, 600)


DIRECTIONS: list[tuple[str, float, float, Verdict, str]] = [
    # direction, the interval at any look, the verdict, how its sentence begins
    ("increase", 0.02, 0.30, Verdict.SUPPORTED, "Success rises by"),
    ("increase", 0.02, 0.08, Verdict.REFUTED, "An effect, but smaller than 10.0 points."),
    ("increase", -0.05, 0.08, Verdict.REFUTED, "No effect larger than 10.0 points."),
    ("increase", -0.30, -0.02, Verdict.REFUTED, "The opposite of what was expected."),
    ("increase", -0.05, 0.30, Verdict.UNDETERMINED, "Undetermined: neither an effect nor the absence of one of 10.0"),
    ("increase", -0.50, 0.08, Verdict.REFUTED, "No rise larger than 10.0 points."),
    ("increase", -0.10, 0.08, Verdict.REFUTED, "No rise larger than 10.0 points."),
    ("increase", 0.0, 0.1, Verdict.UNDETERMINED, "Undetermined"),
    ("decrease", -0.30, -0.02, Verdict.SUPPORTED, "Success falls by"),
    ("decrease", -0.08, -0.02, Verdict.REFUTED, "An effect, but smaller than 10.0 points."),
    ("decrease", -0.08, 0.05, Verdict.REFUTED, "No effect larger than 10.0 points."),
    ("decrease", -0.08, 0.50, Verdict.REFUTED, "No fall larger than 10.0 points."),
    ("decrease", -0.08, 0.10, Verdict.REFUTED, "No fall larger than 10.0 points."),
    ("decrease", 0.02, 0.30, Verdict.REFUTED, "The opposite of what was expected."),
    ("decrease", 0.02, 0.08, Verdict.REFUTED, "The opposite of what was expected."),
    ("decrease", -0.30, 0.05, Verdict.UNDETERMINED, "Undetermined"),
    ("either", 0.02, 0.30, Verdict.SUPPORTED, "Success rises by"),
    ("either", -0.30, -0.02, Verdict.SUPPORTED, "Success falls by"),
    ("either", 0.02, 0.08, Verdict.REFUTED, "An effect, but smaller than 10.0 points."),
    ("either", -0.08, -0.02, Verdict.REFUTED, "An effect, but smaller than 10.0 points."),
    ("either", -0.08, 0.08, Verdict.REFUTED, "No effect larger than 10.0 points."),
    ("either", -0.30, 0.08, Verdict.UNDETERMINED, "Undetermined"),
    ("either", -0.08, 0.30, Verdict.UNDETERMINED, "Undetermined"),
]


@pytest.mark.parametrize(("direction", "lo", "hi", "verdict", "begins"), DIRECTIONS)
def test_a_sequential_experiment_is_judged_by_what_holds_at_any_look(
    direction: Any,  # noqa: ANN401 - one of three words
    lo: float,
    hi: float,
    verdict: Verdict,
    begins: str,
) -> None:
    """Supported, smaller, none, opposite, or undetermined; whether it is over does not matter."""
    definition = replace(SEQUENTIAL, direction=direction)
    for final in (False, True):
        found = judge(definition, effect(lo, hi), 0.83, final=final)
        assert found.verdict is verdict
        assert found.sentence.startswith(begins)
        assert "95 % at any look" in found.sentence
        assert ("with power 0.83" in found.sentence) == (verdict is not Verdict.SUPPORTED)
    assert "power" not in judge(definition, effect(lo, hi), None, final=True).sentence


@pytest.mark.parametrize(("direction", "lo", "hi", "verdict", "begins"), DIRECTIONS)
def test_a_fixed_experiment_is_judged_once_at_its_end(
    direction: Any,  # noqa: ANN401 - one of three words
    lo: float,
    hi: float,
    verdict: Verdict,
    begins: str,
) -> None:
    """For an effect by the interval at 1 - alpha, against one by that at 1 - 2 alpha; before, nothing is said."""
    definition = replace(SEQUENTIAL, direction=direction, stopping="fixed")
    seen = effect(-9, 9, one_look=(lo, hi), equivalence=(lo, hi))
    assert judge(definition, seen, 0.83, final=True).verdict is verdict
    assert judge(definition, seen, 0.83, final=True).sentence.startswith(begins)
    early = judge(definition, seen, 0.83, final=False)
    assert early.verdict is Verdict.UNDETERMINED
    assert early.sentence.startswith("Not judged yet: this experiment has one look, at its end. Success ")


ENDINGS: list[tuple[str, float, float, bool]] = [
    # direction, the interval at any look, whether it is enough to end
    ("increase", 0.02, 0.30, True),  # an effect
    ("increase", -0.09, 0.09, True),  # none of the least size, either way
    ("increase", 0.02, 0.08, True),  # an effect, but a smaller one
    ("increase", -0.30, -0.02, True),  # the opposite
    ("increase", -0.50, 0.08, False),  # no rise, but how far it falls is open
    ("increase", -0.10, 0.08, False),
    ("increase", -0.05, 0.30, False),
    ("decrease", -0.30, -0.02, True),
    ("decrease", -0.09, 0.09, True),
    ("decrease", 0.02, 0.30, True),
    ("decrease", -0.08, 0.50, False),
    ("decrease", -0.30, 0.05, False),
    ("either", 0.02, 0.30, True),
    ("either", -0.30, -0.02, True),
    ("either", -0.09, 0.09, True),
    ("either", -0.30, 0.08, False),
]


@pytest.mark.parametrize(("direction", "lo", "hi", "ends"), ENDINGS)
def test_an_experiment_ends_early_when_nothing_is_left_to_tell(
    direction: Any,  # noqa: ANN401 - one of three words
    lo: float,
    hi: float,
    ends: bool,  # noqa: FBT001 - expected
) -> None:
    """At an effect, its opposite, or the absence of both; where one side alone is ruled out it goes on."""
    definition = replace(SEQUENTIAL, direction=direction)
    verdict = judge(definition, effect(lo, hi), None, final=False).verdict
    assert ends_early(definition, effect(lo, hi), verdict) is ends
    assert not ends_early(definition, effect(lo, hi), Verdict.UNDETERMINED)
    assert not ends_early(definition, None, verdict)


def test_only_what_is_ruled_out_on_both_sides_is_called_no_effect() -> None:
    """In a fixed experiment both ends of the interval of two one-sided tests have to lie within the least effect."""
    fixed = replace(SEQUENTIAL, stopping="fixed")
    both = effect(-9, 9, one_look=(-0.2, 0.2), equivalence=(-0.09, 0.09))
    assert judge(fixed, both, None, final=True).sentence.startswith("No effect larger than 10.0 points.")
    one = effect(-9, 9, one_look=(-0.2, 0.2), equivalence=(-0.11, 0.09))
    assert judge(fixed, one, None, final=True).sentence.startswith("No rise larger than 10.0 points.")


def test_an_effect_beyond_all_numbers_is_told_all_the_same() -> None:
    """An estimate or an end of the interval of ln time whose exponential no float holds is cut, not an error."""
    slow = replace(SEQUENTIAL, outcome=Outcome.TIME_TO_COMPLETE, direction="decrease")
    for lo, hi in ((-2000.0, 2000.0), (800.0, 5000.0), (-5000.0, -800.0)):
        found = judge(slow, effect(lo, hi), 0.5, final=False)
        assert found.sentence
        assert "inf" not in found.sentence
    assert judge(slow, effect(-2000, 2000), None, final=False).sentence.startswith("Undetermined")
    for value in (709.9, 1e308):
        assert amount(Outcome.TOTAL_COST, value) == amount(Outcome.TOTAL_COST, 300.0)
    assert amount(Outcome.TOTAL_COST, -1e308) == "-100.0 %"


def test_each_interval_has_its_own_part_in_a_fixed_verdict() -> None:
    """The one for an effect cannot rule one out, the narrower one for equivalence cannot show one."""
    fixed = replace(SEQUENTIAL, stopping="fixed")
    shown = effect(-9, 9, one_look=(0.01, 0.3), equivalence=(-0.02, 0.2))
    assert judge(fixed, shown, None, final=True).verdict is Verdict.SUPPORTED
    ruled_out = effect(-9, 9, one_look=(-0.1, 0.12), equivalence=(-0.05, 0.09))
    assert judge(fixed, ruled_out, None, final=True).verdict is Verdict.REFUTED
    neither = effect(0.01, 0.05, one_look=(-0.1, 0.12), equivalence=(-0.05, 0.11))
    assert judge(fixed, neither, None, final=True).verdict is Verdict.UNDETERMINED


ENDS = st.floats(-0.5, 0.5)


@given(st.tuples(ENDS, ENDS), st.sampled_from(["increase", "decrease", "either"]))
def test_a_mirrored_effect_has_the_mirrored_verdict(ends: tuple[float, float], direction: Any) -> None:  # noqa: ANN401
    """Turning the sign of the interval and the direction round changes no verdict."""
    lo, hi = min(ends), max(ends)
    turned = {"increase": "decrease", "decrease": "increase", "either": "either"}[direction]
    one = judge(replace(SEQUENTIAL, direction=direction), effect(lo, hi), None, final=True)
    other = judge(replace(SEQUENTIAL, direction=turned), effect(-hi, -lo), None, final=True)
    assert one.verdict is other.verdict


def test_a_sentence_says_how_much_and_how_sure() -> None:
    """The estimate, what it is the change of, the level, both ends and the runs."""
    found = judge(replace(SEQUENTIAL, alpha=0.1), effect(0.05, 0.25), 0.9, final=False)
    assert found.sentence == (
        "Success rises by 15.0 points along the line (90 % at any look: +5.0 points to +25.0 points; 600 runs)."
    )
    fixed = judge(replace(SEQUENTIAL, stopping="fixed"), effect(-9, 9, one_look=(-0.05, 0.2)), 0.9, final=True)
    assert "Success changes by +0.0 points along the line (95 % at this look: -5.0 points to +20.0 p" in fixed.sentence
    assert fixed.sentence.endswith(" A design of this size sees an effect of 10.0 points with power 0.90.")


@pytest.mark.parametrize(
    ("outcome", "value", "signed", "plain"),
    [
        (Outcome.SUCCESS, 0.123, "+12.3 points", "12.3 points"),
        (Outcome.QUALITY_SCORE, -0.05, "-5.0 points", "-5.0 points"),
        (Outcome.TIME_TO_COMPLETE, 0.6931471805599453, "+100.0 %", "100.0 %"),
        (Outcome.TIME_TO_COMPLETE, -0.6931471805599453, "-50.0 %", "50.0 %"),
        (Outcome.TOTAL_COST, 0.0953101798, "+10.0 %", "10.0 %"),
    ],
)
def test_amounts_are_points_or_per_cent(outcome: Outcome, value: float, signed: str, plain: str) -> None:
    """Success and quality in points, time and cost, whose scale is ln, in per cent."""
    assert amount(outcome, value) == signed
    assert amount(outcome, value, signed=False) == plain


KNEE: Definition = replace(AGENT_COUNT, estimand="knee", knee_at_most=4.0, stopping="fixed")


def a_knee(value: float, lo: float, hi: float) -> Knee:
    """Make a knee with its interval."""
    return Knee(value, lo, hi, "a step costs more than it brings", 0.05, 0.0, supported=True)


@pytest.mark.parametrize(
    ("knee", "verdict", "begins"),
    [
        (a_knee(3, 2, 4), Verdict.SUPPORTED, "Returns end at 3 (95 %: 2 to 4): a step costs more than it brings."),
        (a_knee(8, 6, 8), Verdict.REFUTED, "Later than 4. Returns end at 8 (95 %: 6 to 8)"),
        (a_knee(3, 2, 6), Verdict.UNDETERMINED, "Undetermined: the interval holds 4. Returns end at 3"),
        (a_knee(6, 4, 8), Verdict.UNDETERMINED, "Undetermined: the interval holds 4."),
        (
            replace(a_knee(3, 2, 4), supported=False),
            Verdict.UNDETERMINED,
            "Undetermined: there are no returns that could end (the gain up to 3 is no more than noise).",
        ),
        (None, Verdict.UNDETERMINED, "Undetermined: there is no knee to judge (too few runs)."),
    ],
)
def test_a_knee_is_judged_by_its_interval_once(knee: Knee | None, verdict: Verdict, begins: str) -> None:
    """At most where the hypothesis has it, later, or the interval holds that place; before the end nothing is said."""
    found = judge_knee(KNEE, knee, "too few runs", final=True)
    assert found.verdict is verdict
    assert found.sentence.startswith(begins)
    early = judge_knee(KNEE, knee, "too few runs", final=False)
    assert (early.verdict, early.sentence) == (
        Verdict.UNDETERMINED,
        "Not judged yet: this experiment has one look, at its end.",
    )


def arm(value: float | str, measured: int) -> ArmResult:
    """Make the row of a value with so many measured runs."""
    return ArmResult(value, measured, 0, 0, measured, 0, measured, measured, 0, 0.0)


def test_below_the_least_number_of_runs_nothing_is_judged() -> None:
    """The sentence counts the values that are short and names the shortest."""
    enough = [arm(1.0, 30), arm(2.0, 31)]
    assert too_early(SEQUENTIAL, enough) is None
    found = too_early(SEQUENTIAL, [*enough, arm(4.0, 29), arm(8.0, 3)])
    assert found is not None
    assert found.verdict is Verdict.UNDETERMINED
    assert found.sentence == "Too early to tell: 2 of 4 values have fewer than 30 measured runs (8 has 3)."
    named = too_early(MODEL_SIZE, [arm("small", 3), arm("large", 50)])
    assert named is not None
    assert named.sentence.endswith("(small has 3).")
