"""Drift: scores and detector against the matrix definition on raw rows, its state, alarms and causes."""

from dataclasses import dataclass

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from analytics.buckets import Buckets
from analytics.cells import Cells
from analytics.drift import STATE, Detector, drift_cause, judge
from analytics.moments import Floats
from models.dimensions import Outcome
from models.errors import NotEnoughData

LEVELS = np.array([1.0, 2, 3, 4, 6, 8])


@dataclass(frozen=True, slots=True)
class Runs:
    """The raw runs of one law, bucket by bucket."""

    g: list[Floats]
    y: list[Floats]

    def buckets(self) -> Buckets:
        """Reduce them to moments of one law."""
        cells = [Cells.from_rows({"g": g, "y": y}, value=np.zeros(len(g))) for g, y in zip(self.g, self.y, strict=True)]
        return Buckets.from_moments(
            np.array([[cell.n.sum() for cell in cells]]),
            np.array([[cell.mean[0] if len(cell.n) else np.zeros(2) for cell in cells]]),
            np.array([[cell.comoment[0] if len(cell.n) else np.zeros((2, 2)) for cell in cells]]),
        )


def runs(seed: int, change: float = 0.0, *, buckets: int = 20, shift: float = 0.0, scale: float = 1.0) -> Runs:
    """Draw buckets of 5 to 40 runs of y = .4 + .15 ln x, whose level moves by `change` at half of the time."""
    rng = np.random.default_rng(seed)
    made = Runs([], [])
    for bucket in range(buckets):
        g = np.log(rng.choice(LEVELS, rng.integers(5, 40), p=rng.dirichlet(np.ones(6))))
        y = 0.4 + 0.15 * g + change * (bucket >= buckets // 2) + rng.normal(0, 0.2, len(g)) + rng.normal(0, 0.03)
        made.g.append(g)
        made.y.append(shift + scale * y)
    return made


def by_definition(made: Runs) -> Floats:
    """Compute the scores z [T, 2] from raw rows with matrices: no moments, no closed forms."""
    squares, design, seen = [[1.0, 1.0], [1.0, 1.0]], np.zeros((0, 2)), np.zeros(0)
    z: list[list[float]] = []
    for g, y in zip(made.g, made.y, strict=True):
        X = sm.add_constant(g, has_constant="add")
        row = [np.nan, np.nan]
        if len(seen) >= 30:
            past = sm.OLS(seen, design).fit()
            A, A_past = X.T @ X, design.T @ design
            omega = past.mse_resid * (A + A @ np.linalg.inv(A_past) @ A)
            scores = np.linalg.solve(np.linalg.cholesky(omega), X.T @ (y - X @ past.params))
            for j, score in enumerate(scores.tolist()):
                square = max(float(np.mean(squares[j])), 0.5)
                row[j] = stats.norm.ppf(stats.t.cdf(score / np.sqrt(square), len(squares[j])))
                squares[j].append(min(score**2, 9 * square))
        z.append(row)
        design, seen = np.vstack((design, X)), np.concatenate((seen, y))
    return np.array(z)


def test_the_scores_are_those_of_the_raw_rows() -> None:
    """Least squares on raw rows, Cholesky factors and scipy's distributions give the same z, bucket by bucket."""
    for seed in range(5):
        made = runs(seed)
        detector, z = judge(made.buckets(), list(range(20)), 20)
        expected = by_definition(made)
        np.testing.assert_allclose(z[0], expected, rtol=1e-7, atol=1e-9)
        known = expected[~np.isnan(expected)]
        forward = detector.forward_chaining(0)
        assert forward.mean_square == pytest.approx(float((known**2).mean()), rel=1e-7)
        assert forward.inside == pytest.approx(float((np.abs(known) <= 1.959964).mean()))
        assert forward.buckets == int((~np.isnan(expected[:, 0])).sum())


def test_the_evidence_is_the_mixture_of_sixteen_shiryaev_roberts_sums() -> None:
    """R is the mean over level, slope and effects of the summed likelihood ratios since each possible change."""
    detector, z = judge(runs(3).buckets(), list(range(20)), 20)
    known = z[0][~np.isnan(z[0, :, 0])]
    total = 0.0
    for component in known.T:
        for effect in (-1, -0.5, -0.25, -0.125, 0.125, 0.25, 0.5, 1):
            log_ratios = effect * component - effect**2 / 2
            total += sum(np.exp(log_ratios[change:].sum()) for change in range(len(log_ratios)))
    assert float(detector.value[0]) == pytest.approx(total / 16, rel=1e-9)
    report = detector.drift(0)
    assert (report.alarm, report.since, report.cause, report.buckets) == (False, None, "none", len(known))
    assert report.evidence == pytest.approx(total / 16, rel=1e-9)


def test_many_laws_at_once_are_each_law_alone() -> None:
    """Twelve laws in one array give bit for bit what each gives by itself."""
    alone = [runs(seed, change=0.3 * (seed % 2)).buckets() for seed in range(12)]
    together = Buckets(
        *(np.concatenate(parts) for parts in zip(*((b.n, b.mean, b.comoment) for b in alone), strict=True))
    )
    detector, z = judge(together, list(range(20)), 20, limit=50)
    for law, buckets in enumerate(alone):
        one, z_one = judge(buckets, list(range(20)), 20, limit=50)
        np.testing.assert_array_equal(z[law], z_one[0])
        np.testing.assert_array_equal(detector.pack()[law], one.pack()[0])
    assert 0 < (detector.sounded > 0).sum() < 12


def test_units_and_offsets_do_not_matter() -> None:
    """Outcomes in other units, 1e6 from zero, and other units of x give the same scores."""
    _, z = judge(runs(4).buckets(), list(range(20)), 20)
    _, far = judge(runs(4, shift=1e6, scale=1000.0).buckets(), list(range(20)), 20)
    np.testing.assert_allclose(far, z, rtol=1e-6, atol=1e-8)
    made = runs(4)
    _, moved = judge(Runs([g + np.log(1000) for g in made.g], made.y).buckets(), list(range(20)), 20)
    np.testing.assert_allclose(moved, z, rtol=1e-6, atol=1e-8)


def test_raw_sums_say_the_same_as_moments() -> None:
    """A, C and yy of the rows give the scores of their moments."""
    made = runs(6)
    design = [np.column_stack((np.ones_like(g), g)) for g in made.g]
    sums = Buckets.from_sums(
        np.array([[float(len(y)) for y in made.y]]),
        np.array([[X.T @ X for X in design]]),
        np.array([[X.T @ y for X, y in zip(design, made.y, strict=True)]]),
        np.array([[float(y @ y) for y in made.y]]),
    )
    np.testing.assert_allclose(judge(sums, list(range(20)), 20)[1], by_definition(made)[None], rtol=1e-6, atol=1e-8)


def test_the_state_carries_on_from_its_row() -> None:
    """Stopped after any bucket, packed to 39 floats and restored, the detector ends where it would have."""
    buckets = runs(8, change=0.25).buckets()
    whole, z = judge(buckets, list(range(20)), 20, limit=100)
    assert whole.pack().shape == (1, STATE) == (1, 39)
    for stop in (0, 1, 7, 13, 19):
        state, first = judge(buckets, list(range(20)), stop, limit=100)
        rest = Buckets(buckets.n[:, stop:], buckets.mean[:, stop:], buckets.comoment[:, stop:])
        restored = Detector.unpack(np.array(state.pack().tolist()))
        state, second = judge(rest, list(range(stop, 20)), 20 - stop, detector=restored, limit=100)
        np.testing.assert_array_equal(state.pack(), whole.pack())
        np.testing.assert_array_equal(np.concatenate((first, second), axis=1), z)


def test_a_bucket_without_runs_changes_nothing() -> None:
    """Empty buckets in between leave a law's state and scores as they are without them."""
    made, gaps = runs(9), Runs([], [])
    for g, y in zip(made.g, made.y, strict=True):
        gaps.g.extend((np.zeros(0), g))
        gaps.y.extend((np.zeros(0), y))
    dense, z = judge(made.buckets(), list(range(20)), 20)
    sparse, z_gaps = judge(gaps.buckets(), list(range(40)), 40)
    np.testing.assert_array_equal(sparse.pack(), dense.pack())
    np.testing.assert_array_equal(z_gaps[:, 1::2], z)
    assert np.isnan(z_gaps[:, ::2]).all()


def test_the_open_bucket_is_not_judged() -> None:
    """Half of the last bucket's runs are still missing and would look like a drift: only complete buckets count."""
    made = runs(10)
    made.y[-1] += 5
    before, _ = judge(made.buckets(), list(range(20)), 19, limit=100)
    after, _ = judge(made.buckets(), list(range(20)), 20, limit=100)
    assert not before.drift(0, limit=100).alarm
    assert after.drift(0, limit=100).alarm


def test_an_alarm_starts_a_new_epoch_with_its_bucket() -> None:
    """Afterwards the reference is the bucket in which it sounded and what came later, and the alarm stays told."""
    buckets = runs(11, change=0.5).buckets()
    day = 86_400.0
    detector, _ = judge(buckets, [day * bucket for bucket in range(20)], 20)
    report = detector.drift(0, cause="law")
    assert report.alarm
    assert report.evidence >= report.limit == 1e4
    assert report.cause == "law"
    sounded = int(detector.since[0] / day)
    assert 10 <= sounded < 20
    assert report.since == f"1970-01-{1 + sounded:02}T00:00:00Z"
    assert float(detector.reference.n[0]) == buckets.n[0, sounded:].sum()
    rest = Buckets(buckets.n[:, sounded:], buckets.mean[:, sounded:], buckets.comoment[:, sounded:])
    fresh, _ = judge(rest, list(range(20 - sounded)), 20 - sounded)
    np.testing.assert_array_equal(detector.evidence, fresh.evidence)
    np.testing.assert_array_equal(detector.reference.comoment, fresh.reference.comoment)


def test_a_bucket_of_one_setting_speaks_of_the_level_only() -> None:
    """Where all runs of a bucket have the same x there is no score for the slope."""
    made = runs(12)
    made.g[15] = np.full_like(made.g[15], np.log(4))
    _, z = judge(made.buckets(), list(range(20)), 20)
    assert np.isfinite(z[0, 14:17, 0]).all()
    assert np.isnan(z[0, 15, 1])
    assert np.isfinite(z[0, [14, 16], 1]).all()


def test_a_setting_never_seen_has_no_prediction() -> None:
    """While all runs had x = 2 the law says nothing of x = 8; a bucket there is learnt from, not judged."""
    rng = np.random.default_rng(13)
    made = Runs([np.full(20, np.log(2)) for _ in range(8)], [rng.normal(0.5, 0.1, 20) for _ in range(8)])
    made.g[5], made.y[5] = np.full(20, np.log(8)), rng.normal(0.9, 0.1, 20)
    _, z = judge(made.buckets(), list(range(8)), 8)
    assert np.isfinite(z[0, [3, 4, 6, 7], 0]).all()
    assert np.isnan(z[0, 5]).all()
    assert np.isnan(z[0, :5, 1]).all()


def test_what_always_succeeded_and_now_fails_is_a_drift() -> None:
    """A failure in every other bucket is no alarm; ten of 25 are, within ten buckets."""
    g = np.log(LEVELS[np.arange(25) % 6])
    good, one, bad = np.ones(25), np.ones(25), np.ones(25)
    one[3], bad[:10] = 0, 0
    for last, alarm in (([one, good] * 5, False), ([bad] * 10, True)):
        made = Runs([g] * 30, [good] * 20 + last).buckets()
        detector, _ = judge(made, list(range(30)), 30, detector=Detector.start(1, pseudo=1.0))
        assert bool(detector.sounded[0] > 0) == alarm
    unjudged, _ = judge(made, list(range(30)), 20)
    with pytest.raises(NotEnoughData, match="500 runs and none was judged"):
        unjudged.drift(0)


def test_rare_failures_are_judged_when_five_have_come_or_are_expected() -> None:
    """At a rate of .88 two buckets of 25 are judged as one; a bucket in which eight fail is judged alone."""
    g = np.log(LEVELS[np.arange(25) % 6])
    usual, bad = np.ones(25), np.ones(25)
    usual[[3, 11, 20]], bad[:8] = 0, 0
    buckets = Runs([g] * 13, [usual] * 12 + [bad]).buckets()
    state, waiting = Detector.start(1, pseudo=1.0), []
    for number in range(13):
        state, _ = state.push(buckets.at(number), float(number))
        waiting.append(float(state.pending.n[0]))
    assert waiting == [0, 0, 25, 0, 25, 0, 25, 0, 25, 0, 25, 0, 0]
    assert float(state.reference.n[0]) == 13 * 25
    assert state.drift(0).buckets == 6
    alone = Detector.start(1)
    for number in range(13):
        alone, _ = alone.push(buckets.at(number), float(number))
    assert alone.drift(0).buckets == 11


def test_another_mix_of_settings_is_seen_in_the_mean_of_ln_x_and_not_in_the_law() -> None:
    """When the settings move from 1..8 to 6 and 8 the law stands, and the detector of their mean sounds."""
    rng = np.random.default_rng(14)
    made = Runs([], [])
    for bucket in range(60):
        made.g.append(np.log(rng.choice(LEVELS[4:] if bucket >= 40 else LEVELS, 30)))
        made.y.append(0.4 + 0.15 * made.g[-1] + rng.normal(0, 0.2, 30))
    law, _ = judge(made.buckets(), list(range(60)), 60)
    n, mean = np.full((1, 60), 30.0), np.array([[g.mean() for g in made.g]])
    m2 = np.array([[((g - g.mean()) ** 2).sum() for g in made.g]])
    mix, z = judge(Buckets.of_means(n, mean, m2), list(range(60)), 60)
    assert not law.drift(0).alarm
    assert mix.drift(0).alarm
    assert 40 <= mix.since[0] < 46
    assert np.isnan(z[0, :, 1]).all()


def harder(seed: int) -> tuple[list[Floats], list[Floats], list[Floats]]:
    """Draw g, y = .5 + .1 g - .8 z + noise and z bucket by bucket: z moves from .3 to .6 at half of 60, g with it."""
    rng = np.random.default_rng(seed)
    g, y, z = list[Floats](), list[Floats](), list[Floats]()
    for bucket in range(60):
        z.append((0.3 if bucket < 30 else 0.6) + rng.uniform(-0.2, 0.2, 30))
        g.append(np.log(LEVELS[rng.binomial(5, z[-1])]))
        y.append(0.5 + 0.1 * g[-1] - 0.8 * z[-1] + rng.normal(0, 0.2, 30))
    return g, y, z


def of_three(*columns: list[Floats]) -> tuple[Floats, Floats, Floats]:
    """Reduce the columns of one law to n [1, T], means [1, T, v] and co-moments [1, T, v, v]."""
    rows = [np.column_stack(parts) for parts in zip(*columns, strict=True)]
    n = np.array([[float(len(row)) for row in rows]])
    products = [np.cov(row, rowvar=False, bias=True) * len(row) for row in rows]
    return n, np.array([[row.mean(axis=0) for row in rows]]), np.array([products])


def test_outcomes_net_of_complexity_are_those_of_the_raw_rows() -> None:
    """Statsmodels' coefficient of z, with a constant for each bucket, taken off every row gives the same moments."""
    g, y, z = harder(15)
    buckets = Buckets.net(*of_three(g, y, z))
    constants = np.kron(np.eye(60), np.ones((30, 1)))
    design = np.column_stack((np.concatenate(z), np.concatenate(g), constants))
    coefficient = float(sm.OLS(np.concatenate(y), design).fit().params[0])
    assert coefficient == pytest.approx(-0.8, abs=0.1)
    net = [one - coefficient * other for one, other in zip(y, z, strict=True)]
    expected = Buckets.from_moments(*of_three(g, net))
    np.testing.assert_array_equal(buckets.n, expected.n)
    np.testing.assert_allclose(buckets.mean, expected.mean, rtol=1e-9)
    np.testing.assert_allclose(buckets.comoment, expected.comoment, rtol=1e-9, atol=1e-9)


def test_harder_tasks_are_seen_in_the_mean_of_complexity_and_not_in_the_law() -> None:
    """When complexity moves, and the settings with it, what is left at equal complexity stands; the raw law sounds."""
    g, y, z = harder(16)
    n, mean, comoment = of_three(g, y, z)
    starts = list(range(60))
    net, _ = judge(Buckets.net(n, mean, comoment), starts, 60)
    raw, _ = judge(Buckets.from_moments(n, mean[..., :2], comoment[..., :2, :2]), starts, 60)
    tasks, _ = judge(Buckets.of_means(n, mean[..., 2], comoment[..., 2, 2]), starts, 60)
    assert not net.drift(0).alarm
    assert raw.drift(0).alarm
    assert tasks.drift(0).alarm
    assert 30 <= tasks.since[0] < 33


def test_complexity_that_the_setting_determines_or_that_does_not_vary_takes_nothing_away() -> None:
    """With z a multiple of g, the same everywhere, or not there, the outcome stays as it is."""
    g, y, _ = harder(17)
    n, mean, comoment = of_three(g, y)
    expected = Buckets.from_moments(n, mean, comoment)
    for z in ([0.1 * part for part in g], [np.full(30, 0.4)] * 60, [np.zeros(30)] * 60):
        buckets = Buckets.net(*of_three(g, y, z))
        np.testing.assert_allclose(buckets.mean, expected.mean, rtol=1e-12)
        np.testing.assert_allclose(buckets.comoment, expected.comoment, rtol=1e-12, atol=1e-12)


def test_outcomes_that_complexity_explains_to_the_last_digit_have_no_variance() -> None:
    """A line in z leaves exactly nothing, which no bucket can be judged by, instead of rounding."""
    g, _, z = harder(18)
    buckets = Buckets.net(*of_three(g, [0.9 - 0.8 * part for part in z], z))
    np.testing.assert_array_equal(buckets.comoment[..., 2], 0)
    detector, _ = judge(buckets, list(range(60)), 60)
    with pytest.raises(NotEnoughData, match="none was judged"):
        detector.drift(0)


@pytest.mark.parametrize(
    ("outcome", "moved", "mix_moved", "cause"),
    [
        (Outcome.SUCCESS, {Outcome.SUCCESS}, False, "law"),
        (Outcome.TOTAL_COST, {Outcome.TOTAL_COST}, False, "price"),
        (Outcome.TOTAL_COST, {Outcome.TOTAL_COST}, True, "price"),
        (Outcome.TOTAL_COST, {Outcome.TOTAL_COST, Outcome.TIME_TO_COMPLETE}, False, "law"),
        (Outcome.SUCCESS, {Outcome.SUCCESS}, True, "law"),
        (Outcome.SUCCESS, {Outcome.TOTAL_COST}, True, "mix"),
        (Outcome.QUALITY_SCORE, {Outcome.TOTAL_COST}, False, "none"),
    ],
)
def test_the_cause_is_told_from_what_else_moved(
    outcome: Outcome,
    moved: set[Outcome],
    mix_moved: bool,  # noqa: FBT001 - a column of the table
    cause: str,
) -> None:
    """Law, price, mix or none, by the alarms of all four outcomes and of the settings."""
    four = list(Outcome)[:4]
    assert drift_cause(outcome, {one: one in moved for one in four}, mix_moved=mix_moved) == cause


def test_a_cost_that_moved_alone_in_sight_is_not_called_a_price() -> None:
    """Without a judged sibling nobody knows whether the rest stood still."""
    assert drift_cause(Outcome.TOTAL_COST, {Outcome.TOTAL_COST: True}, mix_moved=False) == "law"


def test_more_complete_buckets_than_there_are_cannot_be_judged() -> None:
    """The count of complete buckets is checked before anything is judged."""
    with pytest.raises(NotEnoughData, match="between 0 and the 20 buckets"):
        judge(runs(1).buckets(), list(range(20)), 21)


def test_before_a_bucket_is_judged_there_is_no_report() -> None:
    """The first 30 runs only teach."""
    detector, _ = judge(runs(1).buckets(), list(range(20)), 1)
    with pytest.raises(NotEnoughData, match="none was judged"):
        detector.drift(0)
    with pytest.raises(NotEnoughData, match="none was judged"):
        Detector.start(3).forward_chaining(2)
