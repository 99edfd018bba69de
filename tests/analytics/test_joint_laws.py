"""Joint laws against penalised likelihoods maximised by scipy, planted prices and curves, and formulas by hand."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from analytics.allocation_worlds import cells_of
from analytics.joint_cells import JointCells, Moments
from analytics.joint_laws import Predictor, SettingGrid, fit_joint_law
from analytics.moments import Floats, unpack
from models.dimensions import Basis, Dimension, Outcome
from models.errors import NotEnoughData
from models.joint_laws import JointLaw

AGENTS, ITERATIONS, SLOTS = Dimension.AGENT_COUNT, Dimension.ITERATIONS, Dimension.PARALLELISM_LEVEL
CONTEXT, SIZE, ATTEMPTS = Dimension.CONTEXT, Dimension.MODEL_SIZE, Dimension.ATTEMPTS
THREE = (AGENTS, ITERATIONS, CONTEXT)
SHORT = {AGENTS: "agents", ITERATIONS: "iterations", CONTEXT: "context", SLOTS: "parallelism", SIZE: "size"}

Settings = dict[Dimension, Floats]
Price = Callable[[Floats, Floats, Floats], Floats]

NOW = "2026-03-01T00:00:00Z"


def settings_of(rng: np.random.Generator, size: int) -> Settings:
    """Draw settings uniformly and independently."""
    return {
        AGENTS: rng.integers(1, 9, size).astype(np.float64),
        ITERATIONS: rng.integers(1, 11, size).astype(np.float64),
        CONTEXT: rng.choice(np.arange(4.0, 101, 4), size) * 1000,
    }


def chance(settings: Mapping[Dimension, Floats], z: Floats | float) -> Floats:
    """Give a success probability that is additive in its logit."""
    a, i, c = (np.log(settings[each]) for each in THREE)
    return np.asarray(expit(-5 + 0.5 * a - 0.1 * a * a + 0.4 * i + 0.4 * c - 1.5 * (z - 0.5) + 0.3 * (z - 0.5) * a))


def noisy(rng: np.random.Generator, mean: Floats, cv: float = 0.5) -> Floats:
    """Draw lognormal values of a mean."""
    sigma = np.sqrt(np.log1p(cv * cv))
    return np.asarray(mean * rng.lognormal(-(sigma**2) / 2, sigma, len(mean)))


def middle(z: Floats) -> Floats:
    """Give the middle of the bin that stands for a complexity."""
    return np.asarray((np.minimum(np.floor(z * 10), 9) + 0.5) / 10)


def fit(cells: JointCells, outcome: Outcome) -> JointLaw:
    """Fit a law without a heading of its own."""
    return fit_joint_law(cells, outcome, context="global", fitted_at=NOW)


def grid_of(z: float | None = 0.5, **at: Floats | float) -> SettingGrid:
    """Make a full grid, changed by the short names of dimensions."""
    axes = np.meshgrid(np.arange(1.0, 9), np.arange(1.0, 11), np.arange(4.0, 101, 4) * 1000, indexing="ij")
    values = {each: axis.ravel() for each, axis in zip(THREE, axes, strict=True)}
    return SettingGrid(values | {each: np.asarray(at[name]) for each, name in SHORT.items() if name in at}, z)


def success_cells(seed: int, size: int = 4000) -> tuple[Settings, Floats, Floats, JointCells]:
    """Draw runs of success."""
    rng = np.random.default_rng(seed)
    settings, z = settings_of(rng, size), rng.random(size)
    y = (rng.random(size) < chance(settings, z)).astype(np.float64)
    return settings, z, y, cells_of(settings, z, {Outcome.SUCCESS: y})


def columns(law: JointLaw, settings: Mapping[Dimension, Floats], z: Floats) -> Floats:
    """Write the terms of a law out by hand. [R, p]."""
    ln = {f"ln_{SHORT[each]}": np.log(values) - law.centres[f"ln_{SHORT[each]}"] for each, values in settings.items()}
    away = z - law.centres["complexity"]
    known = {"1": np.ones(len(z)), "complexity": away, "complexity*ln_agents": away * ln["ln_agents"]}
    known |= ln | {f"{name}^2": column**2 for name, column in ln.items()}
    return np.stack([known[term] for term in law.terms], axis=1)


# --- success and quality ----------------------------------------------------------------------------------------------


def test_a_law_of_success_maximises_the_penalised_likelihood_of_the_raw_runs() -> None:
    """Scipy finds the same coefficients on 0/1 runs, each standardised column drawn to 0 by 0.3."""
    settings, z, y, cells = success_cells(1, 1500)
    law = fit(cells, Outcome.SUCCESS)
    assert set(law.terms) == {
        "1", "ln_agents", "ln_iterations", "ln_context", "complexity",
        "ln_agents^2", "ln_iterations^2", "ln_context^2", "complexity*ln_agents",
    }  # fmt: skip
    X = columns(law, settings, middle(z))
    ridge = np.where(np.array(law.terms) == "1", 0.0, 0.3 * X.var(axis=0))

    def loss(beta: Floats) -> float:
        eta = X @ beta
        return float(np.logaddexp(0, eta).sum() - y @ eta + beta @ (ridge * beta) / 2)

    def slope(beta: Floats) -> Floats:
        return np.asarray(X.T @ (expit(X @ beta) - y) + ridge * beta)

    best = minimize(loss, np.zeros(X.shape[1]), jac=slope, method="BFGS", options={"gtol": 1e-7})
    np.testing.assert_allclose(law.coefficients, best.x, atol=2e-5)
    assert (law.link, law.base, law.n) == ("logit", {}, 1500)
    assert law.dispersion == pytest.approx(1.0, abs=0.1)


def test_cells_and_the_runs_in_them_give_the_same_law() -> None:
    """Merging runs that share all settings, bin and cluster changes nothing."""
    rng = np.random.default_rng(2)
    settings = {AGENTS: rng.choice([1.0, 2, 4], 3000), ITERATIONS: rng.choice([1.0, 3, 9], 3000)}
    z, group = rng.choice([0.15, 0.55, 0.85], 3000), rng.integers(0, 8, 3000)
    quality = rng.beta(3, 2, 3000) * (1 - 0.5 * z)
    single = replace(cells_of(settings, z, {Outcome.QUALITY_SCORE: quality}), task_group=group)
    keys = np.stack((settings[AGENTS], settings[ITERATIONS], z, group))
    _, first, place = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    n = np.bincount(place).astype(np.float64)
    mean = np.bincount(place, quality) / n
    m2 = np.asarray(np.bincount(place, (quality - mean[place]) ** 2), np.float64)
    mask = np.zeros(3000, dtype=bool)
    mask[first] = True
    by_row = np.argsort(first)
    merged = replace(
        single.where(mask),
        outcomes={Outcome.QUALITY_SCORE: Moments(n[by_row], mean[by_row], m2[by_row])},
    )
    one, other = fit(single, Outcome.QUALITY_SCORE), fit(merged, Outcome.QUALITY_SCORE)
    assert len(merged) == 3 * 3 * 3 * 8
    np.testing.assert_allclose(other.coefficients, one.coefficients, rtol=1e-8)
    np.testing.assert_allclose(other.covariance, one.covariance, rtol=1e-6, atol=1e-12)
    assert other.dispersion == pytest.approx(one.dispersion)
    assert other.typical == pytest.approx(one.typical)


def test_intervals_of_predictions_cover() -> None:
    """Over many data sets 95 % intervals of the logit at near and far settings hold the truth."""
    grid = SettingGrid(
        {AGENTS: np.array([1.0, 4, 8]), ITERATIONS: np.array([10.0, 5, 1]), CONTEXT: np.array([4e3, 32e3, 1e5])}, 0.3
    )
    truth = chance(grid.values, 0.3)
    inside = []
    for seed in range(80):
        predictor = Predictor.of(fit(success_cells(seed, 1200)[3], Outcome.SUCCESS))
        eta, right = (np.log(p / (1 - p)) for p in (predictor.mean(grid), truth))
        inside.append(np.abs(eta - right) <= 1.96 * predictor.se(grid))
    assert (np.mean(inside, axis=0) >= 0.88).all()
    assert np.mean(inside) >= 0.92


# --- prices and times -------------------------------------------------------------------------------------------------

PRICES: dict[str, Price] = {
    "multiplicative": lambda a, i, c: a * i * (0.01 + 0.6e-6 * c),
    "nested": lambda a, i, c: a * (0.02 + i * (0.005 + 0.6e-6 * c)),
    "additive": lambda a, i, c: 0.05 * a + 0.02 * i + 3e-6 * c,
}


def cost_law(price: Price, seed: int, size: int = 10_000) -> JointLaw:
    """Fit costs of cv 0.5 that also rise with complexity."""
    rng = np.random.default_rng(seed)
    settings, z = settings_of(rng, size), rng.random(size)
    mean = price(*(settings[each] for each in THREE)) * np.exp(0.6 * (z - 0.5))
    return fit(cells_of(settings, z, {Outcome.TOTAL_COST: noisy(rng, mean)}), Outcome.TOTAL_COST)


@pytest.mark.parametrize("price", PRICES)
def test_a_price_comes_out_within_a_few_per_cent_over_the_grid(price: str) -> None:
    """From 10,000 noisy runs: multiplicative, nested and additive prices alike, at their corners too."""
    law = cost_law(PRICES[price], 3)
    grid = grid_of(0.5)
    truth = PRICES[price](*(grid.values[each] for each in THREE))
    off = np.abs(Predictor.of(law).mean(grid) / truth - 1)
    assert np.quantile(off, 0.99) <= 0.06
    assert off.max() <= 0.10
    assert np.sqrt((off**2).mean()) <= 0.025
    assert law.link == "log"
    assert law.dispersion == pytest.approx(0.25, rel=0.25)
    assert all(value > 0 for value in law.base.values())


def test_a_price_list_can_be_read_off() -> None:
    """A price of so many dollars a token of each iteration of each agent is the monomial's own price."""
    rng = np.random.default_rng(4)
    settings = settings_of(rng, 20_000)
    mean = settings[AGENTS] * settings[ITERATIONS] * settings[CONTEXT] * 5e-7
    cells = cells_of(settings, np.full(20_000, 0.5), {Outcome.TOTAL_COST: noisy(rng, mean, 0.05)})
    law = fit(cells, Outcome.TOTAL_COST)
    assert law.base["agents*iterations*context"] == pytest.approx(5e-7, rel=0.02)
    assert law.missing["complexity"].startswith("it does not vary")


@pytest.mark.parametrize("factor", [1.0, 1e-7])
def test_a_price_list_without_noise_is_known_exactly(factor: float) -> None:
    """Computed costs are the same in every run of a setting: the law is the list itself, without error."""
    rng = np.random.default_rng(5)
    settings = settings_of(rng, 2000)
    mean = factor * (0.01 + 0.02 * settings[ITERATIONS] + settings[AGENTS] * settings[CONTEXT] * 1e-6)
    law = fit(cells_of(settings, rng.random(2000), {Outcome.TOTAL_COST: mean}), Outcome.TOTAL_COST)
    predictor = Predictor.of(law)
    np.testing.assert_allclose(predictor.mean(SettingGrid(settings)), mean, rtol=1e-9)
    assert law.base["iterations"] == pytest.approx(0.02 * factor)
    assert law.dispersion == 0
    assert predictor.se(SettingGrid(settings)).max() == 0


def test_a_price_that_is_no_sum_of_products_bends() -> None:
    """Where the price is a product of powers, squares and products come in and the grid is met within 3 %."""
    law = cost_law(lambda a, i, c: 0.01 * a**1.2 * (1 + i**0.5) * (1 + c / 20_000) ** 0.7, 5, 30_000)
    grid = grid_of(0.5)
    a, i, c = (grid.values[each] for each in THREE)
    truth = 0.01 * a**1.2 * (1 + i**0.5) * (1 + c / 20_000) ** 0.7
    off = Predictor.of(law).mean(grid) / truth - 1
    assert np.sqrt((off**2).mean()) <= 0.03
    assert "ln_iterations^2" in law.terms


def test_errors_of_prices_cover() -> None:
    """Intervals of ln cost hold the truth over settings and data sets about as often as they say."""
    grid = grid_of(0.3)
    truth = PRICES["nested"](*(grid.values[each] for each in THREE)) * np.exp(0.6 * -0.2)
    inside = []
    for seed in range(25):
        predictor = Predictor.of(cost_law(PRICES["nested"], 100 + seed, 2000))
        inside.append(np.abs(np.log(predictor.mean(grid) / truth)) <= 1.96 * predictor.se(grid))
    assert np.mean(inside) >= 0.85


def test_time_follows_the_scalability_law() -> None:
    """T = A + B a i / p + C p comes out within 10 % everywhere, its best parallelism within one step."""
    rng = np.random.default_rng(6)
    settings, z = settings_of(rng, 12_000), rng.random(12_000)
    settings[SLOTS] = rng.integers(1, 9, 12_000).astype(np.float64)

    def mean(a: Floats, i: Floats, p: Floats) -> Floats:
        return 60 * (0.2 + 0.3 * a * i / p + 0.2 * p)

    seconds = noisy(rng, mean(settings[AGENTS], settings[ITERATIONS], settings[SLOTS]) * np.exp(0.3 * (z - 0.5)))
    law = fit(cells_of(settings, z, {Outcome.TIME_TO_COMPLETE: seconds}), Outcome.TIME_TO_COMPLETE)
    assert {"agents*iterations/parallelism", "parallelism"} <= set(law.base)
    predictor, slots = Predictor.of(law), np.arange(1.0, 9)
    for a, i in ((2.0, 3.0), (4.0, 5.0), (8.0, 2.0)):
        at = SettingGrid({AGENTS: np.full(8, a), ITERATIONS: np.full(8, i), SLOTS: slots}, 0.5)
        truth = mean(np.full(8, a), np.full(8, i), slots)
        np.testing.assert_allclose(predictor.mean(at), truth, rtol=0.10)
        assert abs(int(predictor.mean(at).argmin()) - int(truth.argmin())) <= 1


def test_free_runs_are_no_obstacle() -> None:
    """A cost of zero has no logarithm, but a share in the mean."""
    rng = np.random.default_rng(7)
    settings = settings_of(rng, 3000)
    cost = noisy(rng, PRICES["nested"](*(settings[each] for each in THREE))) * (rng.random(3000) < 0.9)
    law = fit(cells_of(settings, rng.random(3000), {Outcome.TOTAL_COST: cost}), Outcome.TOTAL_COST)
    everywhere = Predictor.of(law).mean(SettingGrid(settings, 0.5)).mean()
    assert everywhere == pytest.approx(cost.mean(), rel=0.03)


# --- which dimensions -------------------------------------------------------------------------------------------------


def test_a_dimension_is_measured_by_its_dose_where_that_varies() -> None:
    """Limits first; where the limit is always the same, what the run used; the law says which."""
    settings, _, _, cells = success_cells(8)
    used = np.maximum(1, np.round(settings[ITERATIONS] * 0.7))
    design = dict(cells.design) | {(ITERATIONS, Basis.REALISED): used}
    both = replace(cells, design=design, ln_x=dict(cells.ln_x) | {(ITERATIONS, Basis.REALISED): np.log(used)})
    assert fit(both, Outcome.SUCCESS).bases["iterations"] == "dose"
    design[ITERATIONS, Basis.DOSE] = np.full(len(used), 10.0)
    always = replace(
        both, design=design, ln_x=dict(both.ln_x) | {(ITERATIONS, Basis.DOSE): np.full(len(used), np.log(10))}
    )
    law = fit(always, Outcome.SUCCESS)
    assert law.bases["iterations"] == "realised"
    assert law.support["iterations"] == [1.0, 7.0]


def test_a_dimension_that_does_not_vary_is_named_with_its_value() -> None:
    """It is no term; the reason is given, and the value at which the law holds."""
    settings, z, y, _ = success_cells(9)
    settings[SLOTS] = np.where(np.arange(len(y)) < 29, 2.0, 3.0)
    law = fit(cells_of(settings, z, {Outcome.SUCCESS: y}), Outcome.SUCCESS)
    assert not any("parallelism" in term for term in law.terms)
    assert law.missing["parallelism_level"] == "it does not vary: fewer than 30 runs are off its commonest value"
    assert law.typical["parallelism_level"] == pytest.approx(3.0, rel=0.01)
    assert "parallelism_level" not in law.support
    assert law.missing["attempts"] == "no run says it"


def test_a_dimension_that_few_runs_say_is_left_out_and_runs_without_the_others_are() -> None:
    """A tenth of runs with retries is not enough; a tenth without agents is not counted."""
    settings, _, y, cells = success_cells(10)
    few, most = np.arange(len(y)) % 10 == 0, np.arange(len(y)) % 10 != 1
    retries = np.where(few, 1.0 + np.arange(len(y)) // 10 % 3, np.nan)
    agents = np.where(most, settings[AGENTS], np.nan)
    design = dict(cells.design) | {(ATTEMPTS, Basis.DOSE): retries, (AGENTS, Basis.REALISED): agents}
    law = fit(replace(cells, design=design), Outcome.SUCCESS)
    assert law.missing["attempts"] == "only 10% of the runs say it"
    assert law.n == most.sum()


def test_dimensions_that_are_never_said_together_do_not_empty_the_law() -> None:
    """The dimension that more runs say is kept."""
    settings, _, y, cells = success_cells(11)
    half = np.arange(len(y)) < 0.55 * len(y)
    design = dict(cells.design) | {
        (ITERATIONS, Basis.DOSE): np.where(half, settings[ITERATIONS], np.nan),
        (CONTEXT, Basis.DOSE): np.where(half[::-1], settings[CONTEXT], np.nan),
    }
    law = fit(replace(cells, design=design), Outcome.SUCCESS)
    assert {"agent_count", "iterations"} == set(law.bases)
    assert law.missing["context"] == "too few runs say it together with the other dimensions"


def test_a_model_size_without_a_number_has_a_term_for_each_category() -> None:
    """Predictions differ by category as the runs do; the commonest is the one that is given nothing."""
    rng = np.random.default_rng(12)
    settings, z = settings_of(rng, 6000), rng.random(6000)
    label = rng.choice(["large", "medium", "small"], 6000, p=[0.2, 0.5, 0.3])
    lift = np.select([label == "large", label == "small"], [0.8, -0.6], 0.0)
    p = chance(settings, z)
    y = (rng.random(6000) < expit(np.log(p / (1 - p)) + lift)).astype(np.float64)
    cells = replace(cells_of(settings, z, {Outcome.SUCCESS: y}), category=tuple(label.tolist()))
    law = fit(cells, Outcome.SUCCESS)
    assert law.categories == ["medium", "small", "large"]
    assert law.bases["model_size"] == "category"
    predictor, values = Predictor.of(law), grid_of().values
    eta = {name: np.log((p := predictor.mean(SettingGrid(values, 0.5, name))) / (1 - p)) for name in law.categories}
    np.testing.assert_allclose(eta["large"] - eta["medium"], 0.8, atol=0.3)
    np.testing.assert_allclose(eta["small"] - eta["medium"], -0.6, atol=0.3)
    several = SettingGrid({AGENTS: np.array([3.0, 3])}, 0.5, ["large", "small"])
    assert np.diff(predictor.mean(several))[0] < 0
    np.testing.assert_array_equal(
        predictor.mean(SettingGrid(values, 0.5)), predictor.mean(SettingGrid(values, 0.5, "medium"))
    )


def test_a_category_with_few_runs_is_not_in_the_law() -> None:
    """Its runs are left out, and what is asked of it is not supported."""
    settings, _, _, cells = success_cells(31)
    label = np.where(np.arange(4000) % 3 == 0, "small", "large")
    label[:29] = "huge"
    law = fit(replace(cells, category=tuple(label.tolist())), Outcome.SUCCESS)
    assert law.categories == ["large", "small"]
    assert law.n == 4000 - 29
    grid = SettingGrid({AGENTS: settings[AGENTS][:3]}, 0.5, ["small", "huge", "large"])
    np.testing.assert_array_equal(Predictor.of(law).supported(grid), [True, False, True])


def test_a_missing_complexity_counts_as_the_mean_one() -> None:
    """A third of runs without a score stay in the law; with none there is no such term."""
    _, _, _, cells = success_cells(13, 9000)
    unknown = replace(cells, complexity=np.where(np.arange(9000) % 3 == 0, -1, cells.complexity))
    law, whole = fit(unknown, Outcome.SUCCESS), fit(cells, Outcome.SUCCESS)
    assert law.n == 9000
    assert law.evidence == "adjusted"
    place = law.terms.index("complexity")
    assert law.coefficients[place] == pytest.approx(whole.coefficients[place], abs=0.2)
    none = fit(replace(cells, complexity=np.full(9000, -1)), Outcome.SUCCESS)
    assert none.missing["complexity"] == "only 0% of the runs say it"
    assert "complexity" not in none.terms
    assert none.evidence == "associational"


def test_bins_stand_at_the_mean_logarithm_of_their_runs() -> None:
    """What a bin's x is to the law is the geometric mean of its runs, not its nominal value."""
    settings, _, _, cells = success_cells(14)
    slot = (CONTEXT, Basis.DOSE)
    nominal = 2.0 ** ((np.floor(4 * np.log2(settings[CONTEXT])) + 0.5) / 4)
    binned = replace(cells, design=dict(cells.design) | {slot: nominal})
    law = fit(binned, Outcome.SUCCESS)
    assert law.typical["context"] == pytest.approx(float(np.exp(np.log(settings[CONTEXT]).mean())), rel=1e-6)
    assert law.support["context"][1] <= 100_000


@pytest.mark.parametrize(("size", "dropped"), [(60, True), (400, False)])
def test_few_runs_have_few_terms(size: int, dropped: bool) -> None:  # noqa: FBT001 - a parameter
    """Ten runs a term: squares are the first to go, and are named."""
    law = fit(success_cells(15, size)[3], Outcome.SUCCESS)
    assert len(law.terms) <= size / 10
    assert ("ln_context^2" in law.missing) is dropped
    assert law.status == ("exploratory" if dropped else "established")


def test_few_costs_have_no_monomials() -> None:
    """With 60 runs eight prices would be noise: the law is a product of powers."""
    law = cost_law(PRICES["multiplicative"], 16, 60)
    assert law.base == {}
    assert "fewer than 10 for each monomial" in law.missing["base"]


@pytest.mark.parametrize(
    ("size", "fixed", "reason"),
    [(29, False, "needs 30 runs with success, there are 29"), (500, True, "no dimension varies")],
)
def test_without_runs_or_variation_there_is_no_law(size: int, fixed: bool, reason: str) -> None:  # noqa: FBT001
    """The message says what to do."""
    settings, z, y, _ = success_cells(17, size)
    if fixed:
        settings = {each: np.full(size, 3.0) for each in settings}
    with pytest.raises(NotEnoughData, match=reason):
        fit(cells_of(settings, z, {Outcome.SUCCESS: y}), Outcome.SUCCESS)


# --- uncertainty ------------------------------------------------------------------------------------------------------


def test_what_never_varied_apart_is_not_known_apart() -> None:
    """Agents and iterations that always went together share the effect, with an error that says so."""
    rng = np.random.default_rng(18)
    agents = rng.integers(1, 9, 4000).astype(np.float64)
    y = (rng.random(4000) < expit(-1 + 0.6 * np.log(agents))).astype(np.float64)
    cells = cells_of({AGENTS: agents, ITERATIONS: agents}, rng.random(4000), {Outcome.SUCCESS: y})
    predictor = Predictor.of(fit(cells, Outcome.SUCCESS))
    along = predictor.se(SettingGrid({AGENTS: np.array([1.0, 8]), ITERATIONS: np.array([1.0, 8])}, 0.5))
    across = predictor.se(SettingGrid({AGENTS: np.array([1.0, 8]), ITERATIONS: np.array([8.0, 1])}, 0.5))
    assert (along < 0.25).all()
    assert (across > 1.5).all()


def with_projects(seed: int, projects: int) -> JointCells:
    """Draw runs whose projects have levels and slopes of their own."""
    rng = np.random.default_rng(seed)
    settings, z = settings_of(rng, 3000), rng.random(3000)
    project = rng.integers(0, projects, 3000)
    level, slope = rng.normal(0, 0.6, projects)[project], rng.normal(0, 0.4, projects)[project]
    y = (rng.random(3000) < expit(level + slope * np.log(settings[AGENTS]))).astype(np.float64)
    return replace(cells_of(settings, z, {Outcome.SUCCESS: y}), project=project)


@pytest.mark.parametrize("projects", [7, 40])
def test_projects_widen_errors_and_never_narrow_them(projects: int) -> None:
    """Runs of a project go together: errors grow, and in no direction are they below those of independent runs."""
    cells = with_projects(19, projects)
    one = fit(cells, Outcome.SUCCESS)
    alone = fit(replace(cells, project=np.full(3000, -1), task_group=np.full(3000, -1)), Outcome.SUCCESS)
    assert (one.clusters, alone.clusters) == ("project", None)
    np.testing.assert_allclose(one.coefficients, alone.coefficients)
    wide, narrow = (unpack(np.asarray(law.covariance)) for law in (one, alone))
    place = one.terms.index("ln_agents")
    assert wide[place, place] > 1.5 * narrow[place, place]
    assert np.linalg.eigvalsh(wide - narrow).min() > -1e-9 * np.linalg.eigvalsh(wide).max()


# --- predictions ------------------------------------------------------------------------------------------------------


def test_predictions_are_the_terms_times_their_coefficients() -> None:
    """Mean, error and draws agree with the formulas written out by hand."""
    settings, z, _, cells = success_cells(20, 2000)
    law = fit(cells, Outcome.SUCCESS)
    predictor, grid = Predictor.of(law), SettingGrid(settings, z)
    X, V = columns(law, settings, z), unpack(np.asarray(law.covariance))
    beta = np.asarray(law.coefficients)
    np.testing.assert_allclose(predictor.mean(grid), expit(X @ beta))
    np.testing.assert_allclose(predictor.se(grid), np.sqrt(np.einsum("ij,jk,ik->i", X, V, X)), rtol=1e-8)
    drawn = predictor.coefficients(20_000)
    np.testing.assert_allclose(np.cov(drawn), V, atol=0.05 * np.abs(V).max())
    np.testing.assert_allclose(predictor.draws(6, grid), expit(X @ predictor.coefficients(6)).T)


def test_draws_come_in_pairs_and_again_the_same() -> None:
    """Two of a pair are opposite, so that an even number has the law as its mean; a new version draws anew."""
    law = fit(success_cells(21)[3], Outcome.SUCCESS)
    predictor = Predictor.of(law)
    drawn = predictor.coefficients(8)
    np.testing.assert_allclose(drawn.mean(axis=1), law.coefficients, atol=1e-12)
    np.testing.assert_array_equal(drawn, Predictor.of(law).coefficients(8))
    np.testing.assert_array_equal(drawn[:, :5], predictor.coefficients(5))
    assert not np.allclose(drawn, Predictor.of(msgspec.structs.replace(law, version=2)).coefficients(8))
    assert predictor.draws(3, grid_of()).shape == (3, 2000)


@pytest.mark.parametrize("outcome", [Outcome.SUCCESS, Outcome.TOTAL_COST])
def test_a_surface_is_the_law_at_any_complexity(outcome: Outcome) -> None:
    """What was evaluated once for a grid gives mean, error and draws of each task."""
    law = cost_law(PRICES["nested"], 22, 3000) if outcome is Outcome.TOTAL_COST else fit(success_cells(22)[3], outcome)
    predictor = Predictor.of(law)
    surface = predictor.surface(grid_of(), draws=5)
    for z in (0.0, 0.37, None):
        grid = grid_of(z)
        np.testing.assert_allclose(surface.mean(z), predictor.mean(grid), rtol=1e-12)
        np.testing.assert_allclose(surface.se(z), predictor.se(grid), rtol=1e-7)
        np.testing.assert_allclose(surface.draws(z), predictor.draws(5, grid), rtol=1e-10)


def test_a_law_without_complexity_is_the_same_for_every_task() -> None:
    """A task's complexity is ignored where the law has none."""
    cells = replace(success_cells(23)[3], complexity=np.full(4000, -1))
    predictor = Predictor.of(fit(cells, Outcome.SUCCESS))
    surface = predictor.surface(grid_of())
    np.testing.assert_array_equal(surface.mean(0.1), predictor.mean(grid_of(0.9)))
    np.testing.assert_allclose(surface.se(0.1), predictor.se(grid_of(None)))


def test_settings_that_are_not_given_are_the_typical_ones() -> None:
    """A grid of agents alone is evaluated at the geometric mean of the rest."""
    law = fit(success_cells(24)[3], Outcome.SUCCESS)
    predictor, agents = Predictor.of(law), np.arange(1.0, 9)
    full = {AGENTS: agents} | {each: np.full(8, law.typical[each.value]) for each in (ITERATIONS, CONTEXT)}
    np.testing.assert_allclose(
        predictor.mean(SettingGrid({AGENTS: agents})),
        predictor.mean(SettingGrid(full, law.typical["complexity"])),
    )


def test_extrapolation_ends_at_half_as_much_again() -> None:
    """Beyond 1.5 times the greatest value, and below the least, predictions stand still and are not supported."""
    settings, z, y, _ = success_cells(25)
    settings[AGENTS] = np.random.default_rng(25).integers(2, 5, len(y)).astype(np.float64)
    predictor = Predictor.of(fit(cells_of(settings, z, {Outcome.SUCCESS: y}), Outcome.SUCCESS))
    grid = SettingGrid({AGENTS: np.arange(1.0, 9)}, 0.5)
    np.testing.assert_array_equal(predictor.supported(grid), [False, True, True, True, True, True, False, False])
    mean = predictor.mean(grid)
    assert mean[0] == mean[1]
    assert mean[5] == mean[6] == mean[7]
    assert len(set(mean[1:6].tolist())) == 5


def test_a_single_odd_run_does_not_widen_the_range() -> None:
    """The range ends where ten runs reach."""
    settings, z, y, _ = success_cells(26)
    settings[CONTEXT][:9] = 5e6
    law = fit(cells_of(settings, z, {Outcome.SUCCESS: y}), Outcome.SUCCESS)
    assert law.support["context"] == [4000.0, 100_000.0]


def test_the_variance_of_a_run_is_that_of_its_law() -> None:
    """Binomial for success, a share of the squared mean for costs."""
    success = Predictor.of(fit(success_cells(27)[3], Outcome.SUCCESS))
    cost = Predictor.of(cost_law(PRICES["nested"], 27, 4000))
    mean = np.array([0.2, 0.5])
    np.testing.assert_allclose(success.variance_of_run(mean), mean * (1 - mean), rtol=0.1)
    np.testing.assert_allclose(cost.variance_of_run(mean), 0.25 * mean**2, rtol=0.3)


def test_the_whole_grid_is_predicted_in_milliseconds() -> None:
    """Eight agents, ten iterations, a hundred contexts, slots up to the agents: 36,000 settings."""
    rng = np.random.default_rng(28)
    settings, z = settings_of(rng, 4000), rng.random(4000)
    settings[SLOTS] = rng.integers(1, 9, 4000).astype(np.float64)
    y = (rng.random(4000) < chance(settings, z)).astype(np.float64)
    predictor = Predictor.of(fit(cells_of(settings, z, {Outcome.SUCCESS: y}), Outcome.SUCCESS))
    axes = np.meshgrid(np.arange(1.0, 9), np.arange(1.0, 11), np.arange(1.0, 101) * 1000, np.arange(1.0, 9))
    kept = axes[3] <= axes[0]
    grid = SettingGrid({each: axis[kept] for each, axis in zip((*THREE, SLOTS), axes, strict=True)}, 0.5)
    assert len(grid) == 36_000
    surface = predictor.surface(grid, draws=10)

    def fastest(what: Callable[[], object]) -> float:
        spent = []
        for _ in range(5):
            start = time.process_time()
            what()
            spent.append(time.process_time() - start)
        return min(spent)

    assert fastest(lambda: predictor.mean(grid)) < 0.05
    assert fastest(lambda: surface.mean(0.3)) < 0.01


# --- the record -------------------------------------------------------------------------------------------------------


def test_the_record_carries_its_heading_and_reads_back() -> None:
    """Context, tier, lineage and sources are the caller's; JSON and back predicts the same, within 64 KiB."""
    law = fit_joint_law(
        success_cells(29)[3],
        Outcome.SUCCESS,
        context="project=a",
        fitted_at=NOW,
        settings_hash="abc",
        lineage={0: 10, 3: 7},
        sources=["observational"],
        tier="experiment",
        version=4,
        epoch=2,
        evidence="randomised",
    )
    assert law.law_id == "project=a|joint|success|experiment"
    assert (law.version, law.epoch, law.evidence, law.status) == (4, 2, "randomised", "actionable")
    assert (law.lineage, law.sources, law.settings_hash) == ({"0": 10, "3": 7}, ["observational"], "abc")
    payload = msgspec.json.encode(law)
    assert len(payload) < 64 * 1024
    again = msgspec.json.decode(payload, type=JointLaw)
    np.testing.assert_array_equal(Predictor.of(again).mean(grid_of()), Predictor.of(law).mean(grid_of()))


def test_all_six_dimensions_stay_within_64_kib() -> None:
    """With squares and products of everything the record takes a sixth of what it may."""
    rng = np.random.default_rng(30)
    settings, z = settings_of(rng, 3000), rng.random(3000)
    settings |= {SLOTS: rng.integers(1, 9, 3000).astype(np.float64)}
    settings[ATTEMPTS] = rng.integers(1, 5, 3000).astype(np.float64)
    settings[SIZE] = rng.choice([3.0, 8, 27, 70], 3000)
    bent = np.exp(sum(0.3 * np.log(values) ** 2 / np.log(values).max() for values in settings.values()))
    for outcome in (Outcome.TOTAL_COST, Outcome.TIME_TO_COMPLETE):
        law = fit(cells_of(settings, z, {outcome: noisy(rng, np.asarray(bent))}), outcome)
        assert len(law.bases) == 6
        assert len(msgspec.json.encode(law)) < 16 * 1024
