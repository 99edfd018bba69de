"""The Universal Scalability Law against a Gamma regression of raw rows, published figures, and exact curves."""

import warnings

import numpy as np
import pytest
import statsmodels.api as sm
from statsmodels.tools.sm_exceptions import ModelWarning

from analytics.cells import Cells
from analytics.moments import Floats
from analytics.scalability import fit_throughput, fit_time
from models.dimensions import Variable
from models.errors import NotEnoughData

P = np.array([1.0, 2, 3, 4, 6, 8])


def time_of(p: Floats, first: float = 100, contention: float = 0.08, coherence: float = 0.02) -> Floats:
    """Write the law anew."""
    return np.asarray(first * (1 + contention * (p - 1) + coherence * p * (p - 1)) / p)


def rows(mean: Floats, n: int, seed: int = 0, cv: float = 0.4) -> tuple[Floats, Floats]:
    """Draw Gamma times around the mean at each p."""
    p = np.repeat(P, n)
    return p, np.repeat(mean, n) * np.random.default_rng(seed).gamma(cv**-2, cv**2, len(p))


def cells_of(p: Floats, y: Floats) -> Cells:
    """Reduce raw rows."""
    return Cells.from_rows({Variable.X: p, "time_to_complete": y})


def exact(mean: Floats, spread: float = 0.1) -> Cells:
    """Make cells whose means are exactly as given, two runs each."""
    p, y = np.repeat(P, 2), np.repeat(mean, 2) * np.tile([1 - spread, 1 + spread], len(P))
    return cells_of(p, y)


def test_fit_agrees_with_a_gamma_regression_of_raw_rows() -> None:
    """Coefficients, classical and HC1 errors are those of a Gamma GLM with identity link on (1, 1/p, p)."""
    p, y = rows(time_of(P), 50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        model = sm.GLM(
            y, np.stack((np.ones(len(p)), 1 / p, p), 1), family=sm.families.Gamma(sm.families.links.Identity())
        )
        glm = model.fit(tol=1e-14)
    score = model.score_obs(glm.params, scale=1.0)
    bread = glm.normalized_cov_params
    fit = fit_time(cells_of(p, y), "time_to_complete", error="HC1")
    assert fit.beta == pytest.approx(glm.params, rel=1e-8)
    assert fit.covariance_classical == pytest.approx(glm.cov_params(), rel=1e-7)
    assert fit.covariance == pytest.approx(bread @ score.T @ score @ bread * len(y) / (len(y) - 3), rel=1e-7)


def test_the_law_is_read_off_the_linear_fit() -> None:
    """Exact means give back T(1), contention, coherence, the curve, and the optimum √((1 - sigma) / kappa)."""
    fit = fit_time(exact(time_of(P)), "time_to_complete")
    law = fit.law()
    assert law.first.estimate == pytest.approx(100, rel=1e-9)
    assert law.contention.estimate == pytest.approx(0.08, rel=1e-8)
    assert law.coherence.estimate == pytest.approx(0.02, rel=1e-8)
    assert law.optimum is not None
    assert law.optimum.estimate == pytest.approx((0.92 / 0.02) ** 0.5, rel=1e-8)
    assert [point.mean for point in fit.curve(np.array([1.0, 5, 12]))] == pytest.approx(
        time_of(np.array([1.0, 5, 12])), rel=1e-9
    )


def test_delta_method_errors_are_numerical_derivatives() -> None:
    """The errors of T(1), sigma, kappa and ln p* follow from the covariance and differences of their formulas."""
    p, y = rows(time_of(P), 100, seed=3)
    fit = fit_time(cells_of(p, y), "time_to_complete")
    law = fit.law()

    def derived(beta: Floats) -> Floats:
        first = float(beta.sum())
        return np.array([first, 1 - beta[1] / first, beta[2] / first, 0.5 * np.log(beta[1] / beta[2])])

    steps = np.diag(1e-6 * np.abs(fit.beta))
    jacobian = np.stack([(derived(fit.beta + h) - derived(fit.beta - h)) / (2 * h.sum()) for h in steps], axis=1)
    expected = np.sqrt(np.diag(jacobian @ fit.covariance @ jacobian.T))
    assert law.optimum is not None
    found = [law.first.se, law.contention.se, law.coherence.se, law.optimum.se / law.optimum.estimate]
    assert found == pytest.approx(expected, rel=1e-6)
    assert law.optimum.lo * law.optimum.hi == pytest.approx(law.optimum.estimate**2)


def test_an_optimum_that_is_not_there_is_told() -> None:
    """Time that only falls, or only rises, has no interior optimum; the rest of the law stands."""
    falls = fit_time(exact(10 + 50 / P - 0.01 * P), "time_to_complete")
    with pytest.raises(NotEnoughData, match="no interior optimum: time does not rise"):
        falls.optimum()
    assert falls.law().optimum is None
    rises = fit_time(exact(100 - 5 / P + 20 * P), "time_to_complete")
    with pytest.raises(NotEnoughData, match="no interior optimum: time does not fall"):
        rises.optimum()
    assert rises.law().contention.estimate > 1


def test_clusters_widen_the_errors() -> None:
    """Runs whose project moves all their times together get the error of projects, not of runs."""
    rng = np.random.default_rng(5)
    project = rng.integers(0, 12, 600)
    p = rng.choice(P, 600)
    y = time_of(p) * np.exp(rng.normal(0, 0.5, 12))[project] * np.exp(rng.normal(0, 0.2, 600))
    cells = Cells.from_rows({Variable.X: p, "time_to_complete": y}, cluster=project)
    by_project = fit_time(cells, "time_to_complete", error="CR1").law()
    by_run = fit_time(cells, "time_to_complete").law()
    assert by_project.first.se > 1.5 * by_run.first.se
    assert by_project.first.estimate == by_run.first.estimate


def test_what_the_time_law_needs_is_told() -> None:
    """Two values, an outcome of zero, and runs without any spread are refused."""
    with pytest.raises(NotEnoughData, match="needs 3 distinct values and 4 runs, there are 2"):
        fit_time(cells_of(np.array([1.0, 1, 2, 2]), np.ones(4)), "time_to_complete")
    with pytest.raises(NotEnoughData, match="mean time_to_complete > 0"):
        fit_time(cells_of(np.repeat(P, 2), np.repeat([0.0, 1, 2, 3, 4, 5], 2)), "time_to_complete")
    with pytest.raises(NotEnoughData, match="no error to estimate"):
        fit_time(exact(time_of(P), spread=0), "time_to_complete")


def test_throughput_agrees_with_published_figures() -> None:
    """The classic load test gives the published contention, coherence and throughput of one user, with their errors."""
    load = np.array([1.0, 18, 36, 72, 108, 144, 216])
    throughput = np.array([64.9, 995.9, 1652.4, 1853.2, 1828.9, 1775.0, 1702.2])
    law = fit_throughput(load, throughput)
    figures = [(law.contention, 7), (law.coherence, 7), (law.first, 3)]
    assert [(round(f.estimate, digits), round(f.se, digits)) for f, digits in figures] == [
        (0.0277285, 0.0091217),
        (0.0001044, 0.0000199),
        (89.995, 14.213),
    ]
    assert law.dof == 4


def test_throughput_recovers_an_exact_curve() -> None:
    """Throughputs 1 / T(p), the last digit disturbed, give back the law of T(p)."""
    p = np.array([1.0, 2, 4, 8, 16, 32])
    law = fit_throughput(p, 1 / time_of(p) * (1 + 1e-9 * np.array([1, -1, 1, -1, 1, -1])))
    assert law.first.estimate == pytest.approx(0.01, rel=1e-6)
    assert law.contention.estimate == pytest.approx(0.08, rel=1e-6)
    assert law.coherence.estimate == pytest.approx(0.02, rel=1e-6)


def test_what_the_throughput_law_needs_is_told() -> None:
    """Two loads, three rows, and a throughput of zero are refused."""
    with pytest.raises(NotEnoughData, match="needs 3 distinct loads"):
        fit_throughput(np.array([1.0, 2, 2, 1]), np.ones(4))
    with pytest.raises(NotEnoughData, match="values above 0"):
        fit_throughput(P, np.array([0.0, 1, 2, 3, 4, 5]))
    with pytest.raises(NotEnoughData, match="needs more than 3 runs, there are 3"):
        fit_throughput(np.array([1.0, 2, 4]), np.array([1.0, 1.8, 2.9]))
