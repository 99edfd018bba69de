"""Hazards of attempts, against counts by hand and statsmodels' survival function."""

import numpy as np
import pytest
from statsmodels.duration.survfunc import SurvfuncRight

from analytics.cells import Cells
from analytics.hazards import AttemptCounts, fit_hazards
from analytics.least_squares import line
from analytics.moments import Floats, Ints
from models.dimensions import Variable
from models.errors import NotEnoughData


def runs(seed: int, n: int, limit: Ints | int) -> tuple[Ints, Floats]:
    """Draw attempts made and success of runs that stop at success or at their limit, of tasks that differ."""
    rng = np.random.default_rng(seed)
    first = rng.geometric(np.maximum(rng.beta(0.8, 1.6, n), 1e-9))
    return np.minimum(first, limit).astype(np.int64), (first <= limit).astype(np.float64)


def test_counts_say_who_was_at_risk() -> None:
    """A run counts at every attempt it made, and as a success only at its last."""
    counts = AttemptCounts.from_runs(np.array([1, 3, 3, 2]), np.array([4.0, 2, 1, 3]), np.array([4.0, 1, 0, 0]))
    assert counts.at_risk.tolist() == [[10, 6, 3]]
    assert counts.succeeded.tolist() == [[4, 0, 1]]


def test_counts_add_up_to_those_of_all_runs() -> None:
    """Two parts of different length, added, are the counts of the whole."""
    attempts, success = runs(1, 60, 5)
    whole = AttemptCounts.from_runs(attempts, np.ones(60), success)
    short = attempts <= 2
    parts = [AttemptCounts.from_runs(attempts[m], np.ones(int(m.sum())), success[m]) for m in (short, ~short)]
    for added in (parts[0] + parts[1], parts[1] + parts[0]):
        assert added.at_risk.tolist() == whole.at_risk.tolist()
        assert added.succeeded.tolist() == whole.succeeded.tolist()


def test_law_agrees_with_statsmodels_survival() -> None:
    """1 - P(k) and its error are Kaplan and Meier's and Greenwood's, with limits that differ between runs."""
    limit = np.random.default_rng(7).integers(1, 7, 300)
    attempts, success = runs(2, 300, limit)
    law = fit_hazards(AttemptCounts.from_runs(attempts, np.ones(300), success))
    survival = SurvfuncRight(attempts.astype(float), success)
    places = survival.surv_times.astype(int) - 1
    assert law.probability[places] == pytest.approx(1 - survival.surv_prob, abs=1e-12)
    assert law.se[places] == pytest.approx(survival.surv_prob_se, abs=1e-12)
    assert ((law.lo < law.probability) & (law.probability < law.hi)).all()


def test_success_by_attempts_made_has_the_wrong_sign() -> None:
    """Success falls with the attempts made, significantly, though each attempt more helps by the hazards."""
    attempts, success = runs(3, 600, 6)
    cells = Cells.from_rows({Variable.X: attempts.astype(float), "success": success})
    slope = line(cells, "success", Variable.LN_X).coefficient
    law = fit_hazards(AttemptCounts.from_runs(attempts, np.ones(600), success))
    assert slope.hi < 0
    assert (np.diff(law.probability) > 0).all()
    by_attempts = [float(success[attempts == a].mean()) for a in range(1, 7)]
    assert by_attempts[:5] == [1, 1, 1, 1, 1]
    assert by_attempts[5] < 0.25


def test_strata_are_weighted_by_their_runs() -> None:
    """The stratified law is the mean of the strata's own laws, by their share of the runs."""
    attempts, success = runs(4, 200, 4)
    stratum = np.random.default_rng(5).integers(0, 2, 200)
    both = fit_hazards(AttemptCounts.from_runs(attempts, np.ones(200), success, stratum=stratum))
    own = [
        fit_hazards(AttemptCounts.from_runs(attempts[mask], np.ones(int(mask.sum())), success[mask]))
        for mask in (stratum == 0, stratum == 1)
    ]
    share = float((stratum == 1).mean())
    expected = (1 - share) * own[0].probability + share * own[1].probability
    assert both.probability == pytest.approx(expected, abs=1e-12)
    spread = share * (1 - share) * (own[1].probability - own[0].probability) ** 2 / 200
    variance = (1 - share) ** 2 * own[0].se ** 2 + share**2 * own[1].se ** 2 + spread
    assert both.se == pytest.approx(np.sqrt(variance), abs=1e-12)


def test_a_stratum_that_gave_up_ends_the_law_and_one_that_succeeded_does_not() -> None:
    """Beyond the last attempt of runs that failed nothing is known; where all succeeded nothing more can come."""
    attempts, n = np.array([1, 2, 4]), np.array([5.0, 5.0, 10.0])
    stratum = np.array([0, 0, 1])
    gave_up = fit_hazards(AttemptCounts.from_runs(attempts, n, np.array([2.0, 1.0, 5.0]), stratum=stratum))
    succeeded = fit_hazards(AttemptCounts.from_runs(attempts, n, np.array([5.0, 5.0, 5.0]), stratum=stratum))
    assert len(gave_up.probability) == 2
    assert succeeded.probability.tolist() == pytest.approx([0.25, 0.5, 0.5, 0.75])


def test_certainty_has_an_open_interval() -> None:
    """Three successes of three runs are not proof of P = 1, nor three failures of P = 0."""
    sure = fit_hazards(AttemptCounts.from_runs(np.array([1]), np.array([3.0]), np.array([3.0])))
    none = fit_hazards(AttemptCounts.from_runs(np.array([1]), np.array([3.0]), np.array([0.0])))
    assert (sure.probability[0], sure.hi[0]) == (1, 1)
    assert 0.1 < sure.lo[0] < 0.9
    assert (none.probability[0], none.lo[0]) == (0, 0)
    assert 0.1 < none.hi[0] < 0.9


def test_counts_that_are_none_are_refused() -> None:
    """Zero attempts, more successes than runs, an empty stratum: each is told."""
    with pytest.raises(NotEnoughData, match="1 attempt or more"):
        AttemptCounts.from_runs(np.array([0]), np.array([3.0]), np.array([1.0]))
    with pytest.raises(NotEnoughData, match="1 attempt or more"):
        AttemptCounts.from_runs(np.array([1]), np.array([3.0]), np.array([4.0]))
    gap = AttemptCounts.from_runs(np.array([1]), np.array([3.0]), np.array([1.0]), stratum=np.array([1]))
    with pytest.raises(NotEnoughData, match="a stratum has no runs"):
        fit_hazards(gap)
