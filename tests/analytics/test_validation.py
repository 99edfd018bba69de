import numpy as np
import numpy.typing as npt
import pytest
import statsmodels.api as sm
from scipy.stats import norm

from analytics.joint_cells import JointCells, Moments, Slot
from analytics.pooling import pool
from analytics.validation import FoldedRows, Predict, five_fold, holdout, leave_one_context_out, score, validate
from models.dimensions import Basis, Dimension, Outcome
from models.errors import NotEnoughData

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

VALUES = np.array([1.0, 2.0, 3.0, 4.0, 6.0, 8.0])
AGENTS: Slot = (Dimension.AGENT_COUNT, Basis.REALISED)


def log_line(x: Floats, n: Floats, mean: Floats, _: Floats) -> Predict:
    """Fit a line over ln x."""
    slope, intercept = np.polyfit(np.log(x), mean, 1, w=np.sqrt(n))
    return lambda at: np.asarray(intercept + slope * np.log(at))


def grand_mean(_: Floats, n: Floats, mean: Floats, __: Floats) -> Predict:
    """Fit a constant."""
    return lambda at: np.full(len(at), float(n @ mean) / float(n.sum()))


def raw(runs: int, slope: float, seed: int = 1) -> tuple[Floats, Floats, Ints]:
    """Draw runs at six values with unequal noise, and their folds."""
    rng = np.random.default_rng(seed)
    x = rng.choice(VALUES, runs)
    return x, 0.3 + slope * np.log(x) + rng.normal(0, 0.3 + 0.05 * x), rng.integers(0, 5, runs)


def rows(x: Floats, y: Floats, fold: Ints) -> FoldedRows:
    """Merge single runs."""
    return FoldedRows.merge(x, np.ones(len(x)), y, np.zeros(len(x)), fold)


def test_rows_merge_by_value_and_fold() -> None:
    """Counts, means and squared deviations are those of the runs, in the order of value and fold."""
    x, y, fold = raw(300, 0.2)
    merged = rows(x, y, fold)
    keys = sorted(set(zip(x.tolist(), fold.tolist(), strict=True)))
    assert list(zip(merged.x.tolist(), merged.fold.tolist(), strict=True)) == keys
    for place, (value, part) in enumerate(keys):
        runs = y[(x == value) & (fold == part)]
        assert merged.n[place] == len(runs)
        assert merged.mean[place] == pytest.approx(runs.mean())
        assert merged.m2[place] == pytest.approx(((runs - runs.mean()) ** 2).sum())


@pytest.mark.parametrize("every", [False, True])
def test_losses_are_those_of_single_held_out_runs(every: bool) -> None:  # noqa: FBT001 - a parameter
    """Loss, baseline, ceiling and skill agree with refitting on raw runs and scoring them one by one."""
    x, y, fold = raw(1500, 0.3)
    found = (five_fold if every else holdout)(rows(x, y, fold), log_line)
    errors, flat, values, outcomes, predictions = [], [], [], [], []
    for part in range(5 if every else 1):
        learn, held = fold != part, fold == part
        slope, intercept = np.polyfit(np.log(x[learn]), y[learn], 1)
        prediction = intercept + slope * np.log(x[held])
        errors.append((y[held] - prediction) ** 2)
        flat.append((y[held] - y[learn].mean()) ** 2)
        values.append(x[held])
        outcomes.append(y[held])
        predictions.append(prediction)
    held_x, held_y, said = (np.concatenate(each) for each in (values, outcomes, predictions))
    noise = sum(held_y[held_x == value].var(ddof=1) * (held_x == value).sum() for value in VALUES) / len(held_y)
    assert found.n == len(held_y)
    assert found.loss == pytest.approx(np.concatenate(errors).mean())
    assert found.baseline == pytest.approx(np.concatenate(flat).mean())
    assert found.ceiling == pytest.approx(noise)
    assert found.skill == pytest.approx((found.baseline - found.loss) / (found.baseline - found.ceiling))
    line = sm.OLS(held_y, sm.add_constant(said)).fit(cov_type="HC3", use_t=True)
    assert found.calibration is not None
    assert found.calibration.estimate == pytest.approx(line.params[1])
    assert found.calibration.se == pytest.approx(line.bse[1], rel=0.01)


def test_a_law_that_overstates_is_not_calibrated() -> None:
    """Predictions that spread twice too far have a calibration slope of a half."""
    x, y, fold = raw(4000, 0.3)

    def twice(values: Floats, n: Floats, mean: Floats, m2: Floats) -> Predict:
        fitted, centre = log_line(values, n, mean, m2), float(n @ mean) / float(n.sum())
        return lambda at: np.asarray(centre + 2 * (fitted(at) - centre))

    honest, bold = (five_fold(rows(x, y, fold), fit).calibration for fit in (log_line, twice))
    assert honest is not None
    assert bold is not None
    assert honest.lo < 1 < honest.hi
    assert bold.lo < 0.5 < bold.hi < 0.6


def test_a_constant_has_no_skill_and_no_calibration() -> None:
    """A law that predicts one number scores 0 where values differ, and its calibration is not known."""
    x, y, fold = raw(600, 0.4)
    found = holdout(rows(x, y, fold), grand_mean)
    assert found.skill == pytest.approx(0.0, abs=1e-12)
    assert found.calibration is None


def test_held_out_values_that_do_not_differ_have_no_skill() -> None:
    """On a flat truth the skill is a ratio of noise: at most one in thirty of 200 draws gets one."""
    skills = [holdout(rows(*raw(300, 0.0, seed)), log_line).skill for seed in range(200)]
    assert sum(skill is not None for skill in skills) <= 6


def test_ceiling_is_what_the_true_law_loses() -> None:
    """Over 400 holdouts of six runs a value the truth's loss is the ceiling on average, not below or above it."""
    excess = []
    for seed in range(400):
        part = holdout(rows(*raw(180, 0.3, seed)), lambda *_: lambda at: np.asarray(0.3 + 0.3 * np.log(at)))
        excess.append(part.loss - part.ceiling)
    assert abs(np.mean(excess)) < 3 * np.std(excess) / 400**0.5
    assert np.std(excess) / 400**0.5 < 0.003


def test_outcomes_without_noise_reach_a_ceiling_of_zero() -> None:
    """An exact law has loss 0 and skill 1."""
    x, _, fold = raw(200, 0.0)
    found = holdout(rows(x, np.log(x), fold), log_line)
    assert found.loss == pytest.approx(0.0, abs=1e-20)
    assert found.skill == pytest.approx(1.0)


def joint_cells(x: Floats, y: Floats, fold: Ints, *, binned: bool = False) -> JointCells:
    """Put each run into a cell of its own; a bin's nominal value is the power of two below."""
    size = len(x)
    nominal = 2.0 ** np.floor(np.log2(x)) if binned else x
    return JointCells(
        design={AGENTS: nominal},
        ln_x={AGENTS: np.log(x)},
        binned={AGENTS: np.full(size, binned)},
        category=(None,) * size,
        complexity=np.full(size, -1),
        fold=fold,
        project=np.full(size, -1),
        task_group=np.zeros(size, np.int64),
        outcomes={Outcome.QUALITY_SCORE: Moments((y > -0.2).astype(np.float64), y, np.zeros(size))},
    )


def test_joint_cells_are_validated_as_their_runs() -> None:
    """The joint cells of an outcome give the same figures as its runs, without those that lack it."""
    x, y, fold = raw(500, 0.3)
    kept = y > -0.2
    found = validate(joint_cells(x, y, fold), AGENTS, Outcome.QUALITY_SCORE, log_line)
    direct = rows(x[kept], y[kept], fold[kept])
    assert found.holdout == holdout(direct, log_line)
    assert found.five_fold == five_fold(direct, log_line)


def test_a_bin_stands_at_the_geometric_mean_of_its_runs() -> None:
    """The fit sees one x a bin, the same in all folds."""
    x, y, fold = raw(500, 0.3)
    seen: list[Floats] = []

    def watch(values: Floats, n: Floats, mean: Floats, m2: Floats) -> Predict:
        seen.append(values)
        return log_line(values, n, mean, m2)

    kept = y > -0.2
    validate(joint_cells(x, y, fold, binned=True), AGENTS, Outcome.QUALITY_SCORE, watch)
    bins = 2.0 ** np.floor(np.log2(x))
    expected = [np.exp(np.log(x[kept & (bins == each)]).mean()) for each in (1, 2, 4, 8)]
    assert len(seen) == 6
    for values in seen:
        np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_each_context_is_predicted_from_the_others() -> None:
    """The interval is that of a new context with the left-out error; coverage counts, skill is against slope zero."""
    rng = np.random.default_rng(5)
    variances = rng.uniform(0.02, 0.05, 8) ** 2
    slopes = 0.2 + rng.normal(0, np.sqrt(0.05**2 + variances))
    slopes[3] = 0.9
    found = leave_one_context_out(slopes, variances)
    covered, misses = [], []
    for place, transfer in enumerate(found):
        others = pool(np.delete(slopes, place), np.delete(variances, place))
        total = others.tau**2 + others.centre_variance + variances[place]
        reach = float(others.weight @ norm.cdf((slopes[place] - others.centre) / np.sqrt(total)))
        covered.append(0.025 <= reach <= 0.975)
        misses.append(slopes[place] - float(others.weight @ others.centre))
        assert transfer.covered == covered[-1]
    assert not covered[3]
    skill = 1 - sum(miss**2 for miss in misses) / float(slopes @ slopes)
    assert all(each.coverage == sum(covered) / 8 and each.contexts == 8 for each in found)
    assert [each.skill for each in found] == pytest.approx([skill] * 8)


def test_too_little_is_said_so() -> None:
    """An empty fold, single runs, absent outcomes and few contexts raise NotEnoughData with the reason."""
    x, y, fold = raw(100, 0.2)
    with pytest.raises(NotEnoughData, match="outside fold 0"):
        holdout(rows(x, y, np.maximum(fold, 1)), log_line)
    with pytest.raises(NotEnoughData, match="are in fold 0"):
        holdout(rows(x, y, np.zeros(100, np.int64)), log_line)
    with pytest.raises(NotEnoughData, match="predicts no number at x = 1"):
        holdout(rows(x, y, fold), lambda *_: lambda at: np.where(at > 1, at, np.nan))
    with pytest.raises(NotEnoughData, match="noise needs two"):
        score(rows(VALUES, VALUES, np.zeros(6, np.int64)), VALUES, VALUES)
    with pytest.raises(NotEnoughData, match="no run carries both"):
        validate(joint_cells(x, np.full(100, -1.0), fold), AGENTS, Outcome.QUALITY_SCORE, log_line)
    with pytest.raises(NotEnoughData, match="categories"):
        validate(joint_cells(x, y, fold), (Dimension.MODEL_SIZE, Basis.CATEGORY), Outcome.QUALITY_SCORE, log_line)
    with pytest.raises(NotEnoughData, match="at least 4 contexts, there are 3"):
        leave_one_context_out(np.zeros(3), np.ones(3))
