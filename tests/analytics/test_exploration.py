"""Exploration: figures against brute force, scipy and planted truths, and the sentences that they become."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analytics.association import correlation, correlation_ratio, likeness
from analytics.exploration import Exploration, explore
from analytics.learnable import Learnable, effect_text, learnable
from analytics.moments import Floats
from analytics.sample import Sample
from models.contexts import GLOBAL
from models.dimensions import LIVE_OUTCOMES, Basis, Dimension, Outcome
from models.errors import NotEnoughData

AGENTS = (Dimension.AGENT_COUNT, Basis.REALISED)
LIMIT = (Dimension.ITERATIONS, Basis.DOSE)
USED = (Dimension.ITERATIONS, Basis.REALISED)
TOKENS = (Dimension.CONTEXT, Basis.REALISED)
LABEL = (Dimension.MODEL_SIZE, Basis.CATEGORY)


def sample(size: int, **fields: Any) -> Sample:  # noqa: ANN401 - columns by name
    """Make runs of which only the given columns say anything."""
    outcomes = {outcome: np.full(size, np.nan) for outcome in LIVE_OUTCOMES} | fields.get("outcomes", {})
    groups = {name: np.full(size, -1) for name in ("project", "task_type", "model", "task_id")}
    return Sample(
        dimensions=fields.get("dimensions", {}),
        outcomes={outcome: np.asarray(y, np.float64) for outcome, y in outcomes.items()},
        complexity=fields.get("complexity", np.full(size, np.nan)),
        groups=groups | fields.get("groups", {}),
        contexts={GLOBAL: np.arange(size)} | fields.get("contexts", {}),
        names=fields.get("names", {}),
    )


def explored(size: int, **fields: Any) -> tuple[Exploration, Learnable]:  # noqa: ANN401 - columns by name
    """Explore runs and say what can be learnt."""
    found = explore(sample(size, **fields))
    return found, learnable(found)


@pytest.fixture
def planted() -> dict[str, Any]:
    """2,400 runs: harder tasks get more agents; agents and iterations go together; quality is missing on failures."""
    rng = np.random.default_rng(11)
    size = 2400
    task = np.arange(size) % 240
    complexity = (np.arange(240) * 0.6180339 % 1)[task]
    agents = 1.0 + rng.binomial(7, complexity)
    iterations = np.clip(agents + rng.integers(-1, 2, size), 1, 8)
    success = (rng.random(size) < 0.9 - 0.6 * complexity).astype(np.float64)
    quality = np.where((success == 1) | (rng.random(size) < 0.3), rng.random(size), np.nan)
    return {
        "dimensions": {AGENTS: agents, LIMIT: iterations, TOKENS: rng.integers(1000, 90_000, size).astype(np.float64)},
        "outcomes": {Outcome.SUCCESS: success, Outcome.QUALITY_SCORE: quality},
        "complexity": complexity,
        "groups": {"task_id": task, "project": task % 3},
        "contexts": {"project=a": np.flatnonzero(task % 3 == 0)},
    }


def test_correlation_is_that_of_scipy() -> None:
    """Spearman's rho with ties; nothing where one side does not vary."""
    rng = np.random.default_rng(2)
    x, y = rng.integers(1, 6, 200).astype(np.float64), rng.normal(size=200).round(1)
    assert correlation(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert correlation(x, np.ones(200)) is None
    assert correlation(x[:2], y[:2]) is None


def test_the_correlation_ratio_is_near_zero_by_chance_and_near_one_by_law() -> None:
    """Forty groups of noise give no association, unlike the plain ratio; groups that tell the number give one."""
    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(40), 10)
    noise = [correlation_ratio(rng.normal(size=400), codes) or 0.0 for _ in range(200)]
    plain = []
    for _ in range(200):
        ranks = stats.rankdata(rng.normal(size=400)).reshape(40, 10)
        plain.append(np.sqrt(ranks.mean(axis=1).var() / ranks.var()))
    assert np.mean(np.square(noise)) < 0.02
    assert np.mean(plain) > 0.3
    assert correlation_ratio(codes + rng.normal(size=400) / 100, codes) == pytest.approx(1, abs=0.01)
    assert correlation_ratio(np.arange(4.0), np.arange(4)) is None


def test_likeness_finds_a_planted_intraclass_correlation() -> None:
    """Runs that share half of their variance have a likeness of one half; independent ones none."""
    rng = np.random.default_rng(4)
    codes = np.repeat(np.arange(500), 6)
    shared = rng.normal(size=500)[codes] + rng.normal(size=3000)
    assert likeness(shared, codes) == pytest.approx(0.5, abs=0.05)
    assert likeness(rng.normal(size=3000), codes) == pytest.approx(0, abs=0.03)
    assert likeness(rng.normal(size=5), np.arange(5)) == 0.0


def test_spreads_count_by_context(planted: dict[str, Any]) -> None:
    """Runs, gaps, distinct and supported values, least and most, by brute force."""
    planted["dimensions"][AGENTS][::4] = np.nan
    found, _ = explored(2400, **planted)
    assert [spread.context for spread in found.spreads] == [GLOBAL] * 3 + ["project=a"] * 3
    rows = planted["contexts"]["project=a"]
    spread = next(one for one in found.spreads if (one.context, one.dimension) == ("project=a", "agent_count"))
    x = [value for value in planted["dimensions"][AGENTS][rows].tolist() if value == value]  # noqa: PLR0124 - not nan
    assert (spread.n, spread.lo, spread.hi, spread.median) == (len(x), min(x), max(x), np.median(x))
    assert spread.missing == pytest.approx(1 - len(x) / len(rows))
    assert spread.values == len(set(x))
    assert spread.supported == sum(x.count(value) >= 30 for value in set(x))


def test_coverage_counts_the_cross_and_names_its_empty_corners(planted: dict[str, Any]) -> None:
    """Shares of pairs tried at all and with 30 runs, by brute force; many values are put into octaves."""
    found, said = explored(2400, **planted)
    cover = {(one.first, one.second): one for one in found.coverage}
    pairs = list(zip(*(planted["dimensions"][slot].tolist() for slot in (AGENTS, LIMIT)), strict=True))
    both = cover["agents", "the iteration limit"]
    assert both.pairs == 64
    assert both.tried == pytest.approx(len(set(pairs)) / 64)
    assert both.supported == pytest.approx(sum(pairs.count(pair) >= 30 for pair in set(pairs)) / 64)
    assert both.empty_corners == ("agents 1 with the iteration limit 8", "agents 8 with the iteration limit 1")
    assert cover["agents", "used context"].pairs == 8 * 8
    assert any(told.startswith("Never tried together: agents 1 with the iteration limit 8") for told in said.mind)


def test_what_moves_together_is_told(planted: dict[str, Any]) -> None:
    """Planted confounding is found with its figure; what is independent is not called confounded."""
    found, said = explored(2400, **planted)
    linked = {(one.first, one.second): one.value for one in found.associations if one.linked}
    assert set(linked) == {
        ("agents", "the iteration limit"),
        ("agents", "complexity"),
        ("the iteration limit", "complexity"),
    }
    rho = stats.spearmanr(planted["dimensions"][AGENTS], planted["dimensions"][LIMIT]).statistic
    assert linked["agents", "the iteration limit"] == pytest.approx(rho)
    told = f"Agents and the iteration limit move together (rho {rho:.2f}): their effects cannot be told apart."
    assert told in said.mind
    assert any("Agents and complexity move together" in text and "mixes the two" in text for text in said.mind)
    assert len(found.associations) == 6 + 4


def test_missing_quality_is_traced_to_failures(planted: dict[str, Any]) -> None:
    """Shares among failed and successful runs, and what to read instead; complete fields depend on nothing."""
    found, said = explored(2400, **planted)
    missing = {one.field: one for one in found.missing}
    failed = planted["outcomes"][Outcome.SUCCESS] == 0
    absent = np.isnan(planted["outcomes"][Outcome.QUALITY_SCORE])
    on = next(one for one in missing["quality_score"].depends_on if one.field == "success")
    assert on.low_share == pytest.approx(absent[failed].mean())
    assert on.high_share == 0
    assert missing["success"].share == 0
    assert missing["success"].depends_on == ()
    told = f"Quality is missing in {absent[failed].mean():.0%} of failed and 0% of successful runs: "
    assert any(text.startswith(told) and "quality given success" in text for text in said.mind)


def test_gaps_at_random_depend_on_nothing() -> None:
    """Completely random gaps are no finding, in a hundred sets of runs."""
    findings = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        cost = np.where(rng.random(300) < 0.3, np.nan, 1.0)
        success = rng.integers(0, 2, 300)
        found = explore(sample(300, outcomes={Outcome.TOTAL_COST: cost, Outcome.SUCCESS: success}))
        findings += sum(len(one.depends_on) for one in found.missing)
    assert findings <= 2


def test_repeats_say_whether_tasks_are_compared_with_themselves() -> None:
    """Tasks run at every value hold difficulty fixed; tasks of one value each do not; shared ids are ambiguous."""
    task = np.arange(400) % 40
    crossed, nested = np.arange(400) // 100 + 1.0, task % 4 + 1.0
    success = (np.arange(400) * 0.6180339 % 1 < 0.5).astype(np.float64)
    fields: dict[str, Any] = {
        "dimensions": {AGENTS: crossed, LIMIT: nested},
        "groups": {"task_id": task, "task_type": np.arange(400) // 200},
        "outcomes": {Outcome.SUCCESS: success},
    }
    found, said = explored(400, **fields)
    assert found.repeats is not None
    assert found.repeats.across == {"agents": 1.0, "the iteration limit": 0.0}
    assert (found.repeats.tasks, found.repeats.runs_per_task, found.repeats.ambiguous) == (40, 10, 40)
    assert "Most tasks were run at several values of agents (100%): difficulty can be held fixed there." in said.mind
    assert (
        "Few tasks were run at several values of the iteration limit (0%): difficulty may explain the law." in said.mind
    )
    assert any(text.startswith("40 task ids occur with several") for text in said.mind)


def test_repeated_trials_are_rated_at_each_setting_alone() -> None:
    """Any and all of k are those of every draw of k trials; settings and models are kept apart, thin ones left out."""
    rng = np.random.default_rng(6)
    # 30 tasks of 3 trials at 2 agents; at 5 agents 15 of 4 and 10 of 2; 19 at 9 agents; the other model once a task.
    sizes = [*[(2.0, 0, task, 3) for task in range(30)], *[(5.0, 0, task, 4 - 2 * (task < 10)) for task in range(25)]]
    sizes += [*[(9.0, 0, task, 2) for task in range(19)], *[(2.0, 1, task, 1) for task in range(30)]]
    agents, model, task = (np.array([row[at] for row in sizes for _ in range(int(row[3]))]) for at in range(3))
    success = (rng.random(len(agents)) < 0.2 + 0.6 * task / 30).astype(np.float64)
    found, said = explored(
        len(agents),
        dimensions={AGENTS: agents, USED: rng.integers(1, 9, len(agents)).astype(np.float64)},
        outcomes={Outcome.SUCCESS: success},
        groups={"task_id": task.astype(np.int64), "model": model.astype(np.int64)},
        names={"model": ["m1", "m2"]},
    )
    told = [(one.setting, one.tasks, one.trials, one.forecast_trials) for one in found.trials]
    assert told == [("agents 2 and model m1", 30, 3, 6), ("agents 5 and model m1", 25, 2, 4)]
    for one, x in zip(found.trials, (2.0, 5.0), strict=True):
        inside = (agents == x) & (model == 0)
        counts = [success[inside & (task == name)].tolist() for name in np.unique(task[inside])]
        assert [rate.k for rate in one.rates] == list(range(1, one.trials + 1))
        for rate in one.rates:
            draws = [list(combinations(trials, rate.k)) for trials in counts if len(trials) >= one.trials]
            some = np.mean([np.mean([any(draw) for draw in drawn]) for drawn in draws])
            every = np.mean([np.mean([all(draw) for draw in drawn]) for drawn in draws])
            assert (rate.any_of.estimate, rate.all_of.estimate) == pytest.approx((some, every))
    assert said.can[-2].startswith("At agents 2 and model m1, 30 tasks with at least 3 trials each: one trial solves ")
    assert found.repeats is not None


def test_twice_the_trials_are_forecast() -> None:
    """Chances uniform over tasks: 8 trials solve 1 - 1/9 of them, and shares of new tasks lie in the interval."""
    rng = np.random.default_rng(12)
    task = np.repeat(np.arange(400), 4)
    success = (rng.random(1600) < rng.random(400)[task]).astype(np.float64)
    found, said = explored(1600, outcomes={Outcome.SUCCESS: success}, groups={"task_id": task})
    (one,) = found.trials
    assert (one.setting, one.tasks, one.forecast_trials) == ("", 400, 8)
    assert one.forecast is not None
    assert one.forecast.estimate == pytest.approx(8 / 9, abs=0.02)
    shares = (rng.random((2000, 400, 1)) > rng.random((2000, 400, 8))).any(axis=2).mean(axis=1)
    assert np.mean((one.forecast.lo <= shares) & (shares <= one.forecast.hi)) > 0.9
    assert "; of as many new tasks 8 trials would solve 8" in said.can[-1]


def test_many_trials_are_told_at_powers_of_two() -> None:
    """Twenty trials: 1, 2, 4, 8, 16 and the last; nineteen tasks, or tasks tried once, are none."""

    def trials(tasks: int, each: int) -> list[list[int]]:
        task = np.repeat(np.arange(tasks), each)
        found, _ = explored(
            len(task), outcomes={Outcome.SUCCESS: np.arange(len(task)) % 3 == 0}, groups={"task_id": task}
        )
        return [[rate.k for rate in one.rates] for one in found.trials]

    assert trials(20, 20) == [[1, 2, 4, 8, 16, 20]]
    assert trials(19, 20) == []
    assert trials(40, 1) == []


def test_values_of_one_model_only_are_told() -> None:
    """Where a value was tried with one model alone, its effect cannot be told from that model's."""
    model = np.repeat([0, 1], 200)
    limit = np.where(model == 1, np.tile([1.0, 2, 5, 10], 100), np.tile([1.0, 2, 1, 2], 100))
    found, said = explored(400, dimensions={LIMIT: limit}, groups={"model": model})
    assert [(one.variable, one.group, one.values) for one in found.confined] == [
        ("the iteration limit", "model", ("5", "10"))
    ]
    assert "The iteration limit at 5 and 10: tried with one model only, not to be told from it." in said.mind


@pytest.mark.parametrize("clusters", [None, 60])
def test_the_least_change_shows_in_four_of_five_samples(clusters: int | None) -> None:
    """Slopes planted at the least change are found in about 80 % of simulated samples, also with alike tasks."""
    rng = np.random.default_rng(8)
    size, x = 1200, np.tile([1.0, 2, 4, 8], 300)
    ln_x = np.log(x) - np.log(x).mean()
    task = np.arange(size) % (clusters or size)

    def noise() -> Floats:
        # Tasks differ in their slopes: independent-run errors of the slope would be far too small.
        return rng.normal(size=size) + (0.6 * rng.normal(size=size)[task] * ln_x if clusters else 0.0)

    groups = {"task_id": task} if clusters else {}
    one = explore(
        sample(size, dimensions={AGENTS: x}, outcomes={Outcome.QUALITY_SCORE: noise()}, groups=groups)
    ).sensitivity[0]
    slopes = np.array([float(ln_x @ noise()) / float(ln_x @ ln_x) for _ in range(2000)])
    shown = np.abs(slopes + one.least_slope) > 1.96 * slopes.std()
    assert shown.mean() == pytest.approx(0.8, abs=0.12)
    assert one.least_total == pytest.approx(one.least_slope * np.log(8))
    assert (one.inflation > 3) == bool(clusters)
    assert one.power < 0.8 or one.least_total <= 0.1


def test_what_would_show_is_told_by_its_power(planted: dict[str, Any]) -> None:
    """A change of ten points that shows is something these runs can tell; what is too weak stands under cannot."""
    found, said = explored(2400, **planted)
    by = {(one.outcome, one.dimension): one for one in found.sensitivity}
    agents = by[Outcome.SUCCESS, Dimension.AGENT_COUNT]
    assert (agents.n, agents.lo, agents.hi) == (2400, 1, 8)
    told = f"{effect_text(agents)} of success (2,400 runs)"
    assert any(text.startswith("Agents from 1 to 8: ") and told in text for text in said.can) == (agents.power >= 0.8)
    assert any(text.startswith("Agents from 1 to 8: ") and told in text for text in said.cannot) == (agents.power < 0.8)
    small, weak = explored(
        40, dimensions={AGENTS: np.tile([1.0, 2], 20)}, outcomes={Outcome.SUCCESS: np.arange(40) % 3 > 0}
    )
    assert small.sensitivity[0].power < 0.2
    assert weak.cannot[-1].startswith("Agents from 1 to 2: less than a change of ")
    assert weak.can == ()


def test_what_was_not_varied_is_said() -> None:
    """Absent and constant dimensions, used amounts, narrow ranges and too few runs each have their sentence."""
    _, said = explored(
        200,
        dimensions={
            AGENTS: np.full(200, 3.0),
            USED: np.tile([10.0, 12.0], 100),
            TOKENS: np.arange(200) + 1000.0,
            LABEL: np.zeros(200),
        },
        outcomes={Outcome.SUCCESS: np.arange(200) % 2},
    )
    assert said.cannot[:5] == (
        "No run carries quality, time to complete or cost: there is no law of them.",
        "No run says anything about parallel agents or attempts: nothing can be learnt about them.",
        "Agents: always 3, so nothing about more or less.",
        "Context: fewer than 2 of 200 values have 30 runs.",
        "Model size: always one category, so nothing about more or less.",
    )
    assert "Used iterations: from 10 to 12 is less than a factor of 2." in said.mind
    assert any(text.startswith("Used iterations are outcomes of difficulty") for text in said.mind)
    assert any(text.startswith("No run names its task") for text in said.mind)
    assert any(text.startswith("No run carries a task complexity") for text in said.mind)


def test_nothing_is_not_explored() -> None:
    """No runs are an error, not an empty page."""
    with pytest.raises(NotEnoughData, match="there are 0 runs"):
        explore(sample(0))
