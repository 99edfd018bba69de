"""Verdicts of whole experiments: a hundred looks at flat ones, planted rises, runs that go another way, time blocks.

Most looks here go through what decides a verdict (`arm_means`, `effect_of`, `judge`), carried from look to look as the
owner does it, and leave out the law, which decides nothing about a slope; the first test holds that route against
`analyse` itself, look by look.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from msgspec.structs import replace
from scipy import stats

from agents.definitions import check_definition, seal
from agents.experiment_records import Snapshot, moment
from agents.experiment_results import analyse
from analytics.arm_means import arm_means, effect_of, effect_weights
from analytics.experiment_planning import foresee, standard_error
from analytics.moments import Floats, Ints
from analytics.ready_made import AGENT_COUNT, PARALLELISM
from analytics.trial_rows import TrialRows
from analytics.verdicts import Judgement, ends_early, judge
from models.dimensions import Outcome
from models.errors import NotEnoughData
from models.experiments import Assignment, Definition, Effect, Joined, Notes, Result, Status, StatusRecord, Verdict
from models.settings import load_settings

pytestmark = pytest.mark.statistics

Choose = Callable[[int, int], int]
Record = Callable[..., None]

SECRET = "0123456789abcdef"  # noqa: S105 - a test's
SETTINGS = load_settings(bootstrap_draws=100)
BEGIN = 1_750_000_000.0
VALUES = np.array([1.0, 2, 3, 4, 6, 8])
LINE = (np.log(VALUES) - np.log(VALUES).mean()) / np.log(8)
LOOKS = 100
STEP = 12
"""Runs between two looks: two at each value, so that the planned 200 are reached at the last."""

FLAT = replace(AGENT_COUNT, direction="either", minimum_effect=0.1, planned_per_value=200, min_samples_per_value=30)
HARDNESS = 0.4
"""How much success falls from the easiest to the hardest task."""


# --- simulated experiments --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Drawn:
    """Runs in permuted blocks of two of each value: assigned and used value, complexity, success. [N] each."""

    arm: Ints
    used: Ints
    complexity: Floats
    success: Floats

    def rows(self, n: int) -> TrialRows:
        """Give the first n runs as an analysis reads them."""
        first = slice(0, n)
        return TrialRows(
            self.arm[first],
            self.success[first],
            self.complexity[first],
            self.arm[first] == self.used[first],
            np.arange(n),
            np.full((n, 6), 1 / 6),
            np.zeros(n, np.int64),
        )


def draw(rng: np.random.Generator, runs: int, rise: float = 0.0, strayed: float = 0.0) -> Drawn:
    """Draw an experiment whose success rises by `rise` along ln x; a share of runs uses a value drawn at random."""
    arm = np.argsort(rng.random((runs // STEP, STEP)), axis=1).reshape(-1) % 6
    used = np.where(rng.random(runs) < strayed, rng.integers(6, size=runs), arm)
    z = rng.random(runs)
    success = rng.random(runs) < 0.6 + rise * LINE[used] - HARDNESS * (z - 0.5)
    return Drawn(arm, used, z, success.astype(np.float64))


@dataclass(frozen=True, slots=True)
class Look:
    """What one look says: its headline and its verdict, the first from two runs a value on."""

    effect: Effect
    judgement: Judgement | None


def looks_at(drawn: Drawn, definition: Definition, sizes: Sequence[int]) -> Iterator[Look]:
    """Look at an experiment at these sizes, carrying from look to look what the owner carries."""
    outcome, before = definition.outcome, None
    for n in sizes:
        rows = drawn.rows(n)
        enough = int(np.bincount(rows.arm).min()) >= definition.min_samples_per_value
        try:
            means = arm_means(rows, definition, outcome, adjusted=True)
        except NotEnoughData:
            # A few runs that are alike at each value: the headline is then the one without adjustment.
            assert not enough
            means = arm_means(rows, definition, outcome)
        effect = effect_of(means, definition, outcome, before)
        before = effect if enough else None
        yield Look(effect, judge(definition, effect, None, final=False) if enough else None)


def verdicts(looks: Sequence[Look]) -> list[Verdict]:
    """List the verdicts of the looks that have one."""
    return [look.judgement.verdict for look in looks if look.judgement is not None]


def conclusion(drawn: Drawn, definition: Definition, sizes: Sequence[int]) -> Judgement:
    """Give the judgement that the owner ends a sequential experiment with: the first that is enough, or the last."""
    last = None
    for look in looks_at(drawn, definition, sizes):
        last = look.judgement or last
        if look.judgement is not None and ends_early(definition, look.effect, look.judgement.verdict):
            break
    assert last is not None
    return last


def sees(effect: Effect) -> bool:
    """Tell whether the interval for one look excludes zero."""
    return effect.estimate.lo > 0 or effect.estimate.hi < 0


def slack(rate: float, experiments: int) -> float:
    """Give three standard errors of a share: what chance may add to it."""
    return 3 * math.sqrt(rate * (1 - rate) / experiments)


def analysed(drawn: Drawn, definition: Definition, sizes: Sequence[int]) -> Iterator[Result]:
    """Look at the same experiment through the whole analysis, from assignments on."""
    definition = check_definition(definition)
    version = seal(definition, SECRET, previous=None, at=moment(BEGIN), by="")
    status = StatusRecord(definition.experiment_id, 1, Status.RUNNING, moment(BEGIN), "started", "")
    made = [
        Assignment(
            definition.experiment_id, 1, f"{at:05d}", version.sha256, f"task=t{at}", definition.values_tested[arm], "s",
            at // STEP, at % STEP, 1 / 6, [1 / 6] * 6, BEGIN + at, "", complexity=z,
            run=Joined(f"r{at}", BEGIN + at, (0, at), float(VALUES[used]), success=y, total_cost=0.1),
        )
        for at, (arm, used, z, y) in enumerate(
            zip(drawn.arm.tolist(), drawn.used.tolist(), drawn.complexity.tolist(), drawn.success.tolist(), strict=True)
        )
    ]  # fmt: skip
    previous = None
    for n in sizes:
        taken = Snapshot(version, status, Notes(), tuple(made[:n]), previous, None, (), final=False)
        previous = analyse(taken, SETTINGS, BEGIN + n)
        yield previous


EVERY = range(STEP, LOOKS * STEP + 1, STEP)


def test_the_short_route_is_the_whole_analysis(simulations: Choose) -> None:
    """At look after look both have the same effect to the last digit, and the same verdict and words."""
    rng = np.random.default_rng(1410)
    sizes = EVERY[:: simulations(4, 1)]
    for number in range(simulations(1, 10)):
        drawn = draw(rng, LOOKS * STEP, rise=0.15 * (number % 2), strayed=0.05)
        for look, result in zip(looks_at(drawn, FLAT, sizes), analysed(drawn, FLAT, sizes), strict=True):
            assert result.effect == look.effect
            if look.judgement is None:
                assert result.sentence.startswith("Too early to tell")
                continue
            assert result.verdict is look.judgement.verdict
            assert result.sentence.startswith(look.judgement.sentence.removesuffix("."))
            assert result.power is not None


# --- looking always ---------------------------------------------------------------------------------------------------


def test_t14_a_hundred_looks_at_flat_experiments(simulations: Choose, record: Record) -> None:
    """At most one in twenty is ever called supported; an interval for one look finds an effect in one of three."""
    experiments = simulations(300, 2000)
    rng = np.random.default_rng(1411)
    supported = naive = waiting = 0
    for _ in range(experiments):
        looks = list(looks_at(draw(rng, LOOKS * STEP), FLAT, EVERY))
        supported += Verdict.SUPPORTED in verdicts(looks)
        naive += any(sees(look.effect) for look in looks)
        waiting += any(sees(look.effect) for look in looks if look.judgement is not None)
    rate, one_look = supported / experiments, naive / experiments
    record(
        "T14",
        "whole analysis: one-look intervals, 100 looks at no effect",
        one_look,
        threshold=">= .30",
        runs=experiments,
    )
    record(
        "T14",
        "whole analysis: ever supported, 100 looks at no effect",
        rate,
        threshold="<= .05",
        runs=experiments,
        reference=f"one-look interval {one_look:.3f}, from 30 runs a value on {waiting / experiments:.3f}",
    )
    assert rate <= 0.05
    assert one_look >= 0.30 - (slack(0.3, experiments) if experiments < 2000 else 0)


@pytest.mark.parametrize(("strayed", "share"), [(0.0, 1.0), (0.05, 0.95)])
def test_t14_the_planted_effect_is_covered_at_all_looks(
    strayed: float, share: float, simulations: Choose, record: Record
) -> None:
    """The interval that is carried on holds the effect of assigning, which is less where some runs go another way."""
    experiments, rise = simulations(150, 2000), 0.2
    rng = np.random.default_rng(1412)
    covered = at_one_look = found = 0
    stops: list[int] = []
    for _ in range(experiments):
        looks = list(looks_at(draw(rng, LOOKS * STEP, rise, strayed), FLAT, EVERY))
        held = [look.effect for look in looks if look.judgement is not None]
        covered += all(effect.anytime_lo <= share * rise <= effect.anytime_hi for effect in held)
        at_one_look += held[-1].estimate.lo <= share * rise <= held[-1].estimate.hi
        first = next((at for at, look in enumerate(looks) if Verdict.SUPPORTED in verdicts([look])), None)
        found += first is not None
        stops += [] if first is None else [(first + 1) * STEP]
    name = f"whole analysis: rise of {rise:.0%}, {strayed:.0%} of runs stray"
    record("T14", f"{name}: covered at all looks", covered / experiments, threshold=">= .95", runs=experiments)
    record(
        "T14",
        f"{name}: covered at the last by one look's",
        at_one_look / experiments,
        threshold=".95",
        runs=experiments,
    )
    record("T15", f"{name}: ever supported", found / experiments, threshold=">= .80", runs=experiments)
    record("T15", f"{name}: median runs until then", float(np.median(stops)), threshold="<= 800", runs=experiments)
    assert covered / experiments >= 0.95
    assert at_one_look / experiments == pytest.approx(0.95, abs=slack(0.95, experiments))
    assert found / experiments >= 0.8
    assert np.median(stops) <= 800


def test_t15_a_flat_law_is_called_flat_at_the_planned_size(simulations: Choose, record: Record) -> None:
    """With 1,000 runs a value and looks on the way nine of ten end as "no effect", with the power that was foretold."""
    definition = replace(FLAT, planned_per_value=1000)
    experiments, runs = simulations(150, 2000), 6000
    error = standard_error(definition, np.full(6, 1000.0), math.sqrt(0.6 * 0.4))
    foretold = foresee(definition.minimum_effect, error, definition.alpha, sequential=True)
    rng = np.random.default_rng(1413)
    refuted = supported = 0
    for number in range(experiments):
        drawn = draw(rng, runs)
        last = conclusion(drawn, definition, range(600, runs + 1, 600))
        refuted += last.sentence.startswith("No effect larger than 10.0 points.")
        supported += last.verdict is Verdict.SUPPORTED
        if number < simulations(1, 10):
            (whole,) = analysed(drawn, definition, [runs])
            assert whole.power is not None
            assert whole.power >= 0.8
            assert whole.power >= foretold.power - 0.01
            assert f"with power {whole.power:.2f}" in whole.sentence or whole.verdict is Verdict.SUPPORTED
            assert whole.verdict is not Verdict.REFUTED or "No effect larger than 10.0 points" in whole.sentence
    rate = refuted / experiments
    record(
        "T15",
        "whole analysis: flat law refuted, 1,000 runs a value",
        rate,
        threshold=">= .90",
        runs=experiments,
        reference=f"foretold {foretold.equivalence_power:.3f} for a look at the end",
    )
    record("T15", "whole analysis: flat law supported", supported / experiments, threshold="<= .05", runs=experiments)
    assert foretold.power >= 0.8
    assert rate >= 0.90
    assert rate >= foretold.equivalence_power - slack(foretold.equivalence_power, experiments)
    assert supported / experiments <= 0.05


def test_t15_the_ready_made_experiment_calls_a_flat_truth_flat(simulations: Choose, record: Record) -> None:
    """At its 200 runs a value and 20 points eight of ten end as "no effect" on both sides, though it expects a rise."""
    experiments, planned = simulations(120, 2000), 6 * AGENT_COUNT.planned_per_value
    rng = np.random.default_rng(1416)
    flat = one_sided = supported = 0
    for _ in range(experiments):
        last = conclusion(draw(rng, planned), AGENT_COUNT, range(planned // 10, planned + 1, planned // 10))
        flat += last.sentence.startswith("No effect larger than 20.0 points.")
        one_sided += last.sentence.startswith("No rise larger than 20.0 points.")
        supported += last.verdict is Verdict.SUPPORTED
    record(
        "T15",
        "ready-made experiment on agents: flat truth called flat, ten looks",
        flat / experiments,
        threshold=">= .80",
        runs=experiments,
        reference=f"only a rise ruled out {one_sided / experiments:.3f}, supported {supported / experiments:.3f}",
    )
    assert flat / experiments >= 0.8
    assert supported / experiments <= 0.05


# --- time blocks ------------------------------------------------------------------------------------------------------


def in_blocks(rng: np.random.Generator, per_value: int, effect: float) -> TrialRows:
    """Draw a switchback of four values: some runs a block, each block with a level of its own in ln time."""
    blocks = 4 * per_value
    assigned = np.concatenate([rng.permutation(4) for _ in range(per_value)])
    block = np.repeat(np.arange(blocks), rng.poisson(8, blocks) + 1)
    arm, n = assigned[block], len(block)
    line = np.log([1.0, 2, 4, 8]) / np.log(8)
    y = 5 + effect * line[arm] + rng.normal(0, 0.4, blocks)[block] + rng.normal(0, 0.8, n)
    return TrialRows(arm, y, np.full(n, np.nan), np.ones(n, np.bool_), block, np.full((n, 4), 0.25), block)


@pytest.mark.parametrize("per_value", [3, 10, 25])
def test_t14_the_interval_of_a_switchback_covers(per_value: int, simulations: Choose, record: Record) -> None:
    """By time block it covers a planted change of -0.3 with few blocks too; as if runs were independent it does not."""
    experiments, planted = simulations(800, 5000), -0.3
    rng = np.random.default_rng(1414)
    weights, _ = effect_weights(PARALLELISM)
    covered = naive = 0
    for _ in range(experiments):
        rows = in_blocks(rng, per_value, planted)
        clustered = effect_of(
            arm_means(rows, PARALLELISM, Outcome.TIME_TO_COMPLETE), PARALLELISM, Outcome.TIME_TO_COMPLETE
        ).estimate
        independent = arm_means(rows, replace(PARALLELISM, assignment="blocks"), Outcome.TIME_TO_COMPLETE)
        half = stats.norm.ppf(0.975) * math.sqrt(weights**2 @ independent.variance)
        covered += clustered.lo <= planted <= clustered.hi
        naive += abs(float(weights @ independent.mean) - planted) <= half
    record(
        "T14",
        f"whole analysis: switchback interval covers, {per_value} blocks a value",
        covered / experiments,
        threshold=">= .92",
        runs=experiments,
        reference=f"as if runs were independent {naive / experiments:.3f}",
    )
    assert covered / experiments >= 0.92
    assert naive / experiments <= 0.85


def test_t14_looks_at_a_flat_switchback(simulations: Choose, record: Record) -> None:
    """Looked at after every group of four blocks, at most one flat switchback in twenty is ever called an effect."""
    experiments, groups = simulations(150, 2000), 60
    definition = replace(PARALLELISM, direction="either", min_samples_per_value=30, planned_per_value=500)
    rng = np.random.default_rng(1415)
    ever = naive = 0
    for _ in range(experiments):
        rows = in_blocks(rng, groups, 0.0)
        before, seen, fooled = None, False, False
        for group in range(2, groups + 1, 2):
            part = rows.where(rows.cluster < 4 * group)
            try:
                means = arm_means(part, definition, Outcome.TIME_TO_COMPLETE)
            except NotEnoughData:
                continue
            if int(np.bincount(part.arm).min()) < definition.min_samples_per_value:
                continue
            before = effect_of(means, definition, Outcome.TIME_TO_COMPLETE, before)
            seen |= judge(definition, before, None, final=False).verdict is Verdict.SUPPORTED
            fooled |= sees(before)
        ever += seen
        naive += fooled
    record(
        "T14",
        "whole analysis: flat switchback ever supported, 30 looks",
        ever / experiments,
        threshold="<= .05",
        runs=experiments,
        reference=f"one-look interval {naive / experiments:.3f}",
    )
    assert ever / experiments <= 0.05
    assert naive / experiments >= 0.15
