"""The value of an experiment against its closed form, brute force, and what must hold of any information."""

import doctest
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

from analytics import experiment_value
from analytics.experiment_baseline import baseline_of
from analytics.experiment_value import (
    Belief,
    Outlook,
    Suggestion,
    Worth,
    belief_of,
    bias_of,
    context_words,
    flat_belief,
    suggest,
    value_of_information,
)
from analytics.moments import Floats
from analytics.published import Fitting
from analytics.ready_made import READY_MADE
from models.dimensions import Dimension, Outcome
from models.errors import NotEnoughData
from models.laws import CurvePoint, Law, Published, ValueRow

Make = Callable[..., Law]
NORMAL = NormalDist()
START = datetime(2026, 3, 1, tzinfo=UTC)


def belief(mean: list[float], se: list[float], noise: float = 0.24, bias: float = 0.0) -> Belief:
    """Believe means with independent errors, and a slope over doublings that may be off."""
    x = 2.0 ** np.arange(len(mean))
    away = np.log(x) - np.log(x).mean()
    covariance = np.diag(np.square(se)) + bias**2 * np.outer(away, away)
    return Belief(tuple(x.tolist()), np.array(mean), covariance, np.full(len(mean), noise))


def worth(known: Belief, dollars: list[float], value: float = 1.0, n: float = 100) -> Worth:
    """Value an experiment."""
    return value_of_information(known, np.array(dollars), value, n)


def closed_form(advantage: float, sd: float) -> float:
    """Give E[max(0, D)] - max(0, d), D ~ Normal(d, sd²): what choosing between two gains by knowing D."""
    z = advantage / sd
    return sd * NORMAL.pdf(z) + advantage * NORMAL.cdf(z) - max(advantage, 0.0)


@pytest.mark.parametrize("value", [1.0, 4.0])
@pytest.mark.parametrize(("gain", "price"), [(0.05, 0.05), (0.05, 0.1), (0.1, 0.02), (0.0, 0.3)])
def test_two_values_have_a_closed_form(gain: float, price: float, value: float) -> None:
    """The advantage of the second value is Normal; an experiment with noise reveals a share of its variance."""
    n, noise, first, second = 80, 0.2, 0.03, 0.05
    found = worth(belief([0.5, 0.5 + gain], [first, second], noise), [0.1, 0.1 + price], value, n)
    advantage = value * gain - price
    known = sum(v**2 / (v + noise / n) for v in (first**2, second**2))
    tolerance = 0.03 * value * math.hypot(first, second)
    assert found.sample == pytest.approx(closed_form(advantage, value * math.sqrt(known)), abs=tolerance)
    assert found.perfect == pytest.approx(closed_form(advantage, value * math.hypot(first, second)), abs=tolerance)


def brute_force(known: Belief, dollars: Floats, value: float, n: int, rng: np.random.Generator) -> float:
    """Simulate 8,000 experiments, and weigh 4,000 possible truths by how likely each makes what was seen."""
    variance = known.noise / n
    truths = rng.multivariate_normal(known.mean, known.covariance, 4_000)
    seen = rng.multivariate_normal(known.mean, known.covariance, 8_000)
    seen += rng.normal(0, np.sqrt(variance), seen.shape)
    log_weight = seen @ (truths / variance).T - (truths * truths / variance).sum(axis=1) / 2
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    utility = value * (weight @ truths / weight.sum(axis=1, keepdims=True)) - dollars
    now = int((value * known.mean - dollars).argmax())
    return float((utility.max(axis=1) - utility[:, now]).mean())


@pytest.mark.parametrize("bias", [0.0, 0.08])
def test_nested_simulation_agrees(bias: float) -> None:
    """Brute force without any formula, for two values and for four, with and without a slope in doubt."""
    rng = np.random.default_rng(7)
    for means, se in (([0.5, 0.56], [0.05, 0.05]), ([0.5, 0.55, 0.58, 0.59], [0.03, 0.03, 0.04, 0.05])):
        known = belief(means, se, bias=bias)
        dollars = np.linspace(0, 0.03 * (len(means) - 1), len(means))
        expected = brute_force(known, dollars, 1.0, 60, rng)
        assert worth(known, dollars.tolist(), 1.0, 60).sample == pytest.approx(expected, rel=0.07)


def test_more_doubt_is_worth_more() -> None:
    """Larger errors and a larger bias both raise what an experiment is worth; the truth is worth more than it."""
    values = [worth(belief([0.5, 0.55], [se, se]), [0.0, 0.05]) for se in (0.01, 0.03, 0.06, 0.12)]
    assert [each.sample for each in values] == sorted(each.sample for each in values)
    biased = [worth(belief([0.5, 0.55, 0.6], [0.02] * 3, bias=b), [0.0, 0.05, 0.1]) for b in (0.0, 0.03, 0.1)]
    assert [each.sample for each in biased] == sorted(each.sample for each in biased)
    assert biased[2].sample > 2 * biased[0].sample
    for each in values + biased:
        assert 0 < each.sample < each.perfect


def test_more_runs_tell_more_up_to_the_truth() -> None:
    """The value of an experiment rises with its size towards that of knowing the law."""
    known = belief([0.5, 0.55, 0.58], [0.04] * 3, bias=0.05)
    sizes = [worth(known, [0.0, 0.04, 0.08], n=n) for n in (5, 30, 200, 1000, 1e9)]
    assert [each.sample for each in sizes] == sorted(each.sample for each in sizes)
    assert sizes[-1].sample == pytest.approx(sizes[-1].perfect, rel=1e-4)
    assert len({each.perfect for each in sizes}) == 1


def test_nothing_is_worth_knowing_where_it_could_change_nothing() -> None:
    """A value that costs far more than it could ever bring is never chosen; nor is anything learnt without doubt."""
    assert worth(belief([0.5, 0.55], [0.02, 0.02]), [0.0, 5.0]) == Worth(0.0, 0.0)
    assert worth(belief([0.5, 0.55], [0.0, 0.0]), [0.0, 0.05]) == Worth(0.0, 0.0)
    assert worth(belief([0.5, 0.55], [0.02, 0.02]), [0.0, 0.05], value=0.0) == Worth(0.0, 0.0)


def test_dollars_scale() -> None:
    """Twice the value of a success and twice the costs are worth twice; equal extra costs change nothing."""
    known, dollars = belief([0.5, 0.55, 0.57], [0.03] * 3, bias=0.03), [0.1, 0.14, 0.2]
    once = worth(known, dollars)
    assert worth(known, [2 * x for x in dollars], 2.0).sample == pytest.approx(2 * once.sample)
    assert worth(known, [x + 7 for x in dollars]).sample == pytest.approx(once.sample)


def published(x: list[float], mean: list[float], half: float = 0.0392, factor: float | None = None) -> Published:
    """Publish a curve whose 95 % intervals are `half` wide on each side."""
    curve = [CurvePoint(at, y, y - half, y + half) for at, y in zip(x, mean, strict=True)]
    return Published("logarithmic", {}, {}, curve, "", "rises", mean_factor=factor)


def agents_law(make: Make, context: str = "global", **fields: Any) -> Law:  # noqa: ANN401 - any field
    """Make a law of success over agents, with errors of .02."""
    curve = published([1, 2, 4, 8], [0.5, 0.55, 0.58, 0.6])
    known: dict[str, Any] = {"evidence": "associational", "published": curve, "basis": "realised"}
    return make(Dimension.AGENT_COUNT, Outcome.SUCCESS, context=context, **(known | fields))


def test_doubt_follows_the_evidence(make_law: Make) -> None:
    """Randomised laws have no bias, adjusted ones little, others 0.1 or what the adjustment would take out."""
    assert bias_of(agents_law(make_law, evidence="randomised")) == 0
    assert bias_of(agents_law(make_law, evidence="adjusted", confounding_gap=0.4)) == 0.03
    assert bias_of(agents_law(make_law)) == 0.1
    assert bias_of(agents_law(make_law, confounding_gap=-0.3)) == 0.3
    assert bias_of(agents_law(make_law, confounding_gap=0.02)) == 0.1


def test_a_law_is_read_with_its_errors(make_law: Make) -> None:
    """Means and errors are the curve's, a run's noise that of a rate, the bias a rank-one part along ln x."""
    found = belief_of(agents_law(make_law))
    away = np.log([1, 2, 4, 8]) - np.log([1, 2, 4, 8]).mean()
    assert list(found.values) == [1, 2, 4, 8]
    assert found.mean == pytest.approx([0.5, 0.55, 0.58, 0.6])
    assert found.noise == pytest.approx(found.mean * (1 - found.mean))
    assert found.covariance == pytest.approx(0.02**2 * np.eye(4) + 0.01 * np.outer(away, away), rel=1e-3)
    many = published((2.0 ** np.arange(40)).tolist(), np.linspace(0.3, 0.7, 40).tolist())
    thinned = belief_of(agents_law(make_law, published=many))
    assert (len(thinned.values), thinned.values[0], thinned.values[-1]) == (8, 1, 2.0**39)


def test_the_noise_of_quality_is_read_from_its_table(make_law: Make) -> None:
    """Student's intervals give back the deviation of the single runs that they were made of."""
    rng = np.random.default_rng(7)
    rows, squares = [], 0.0
    for x, n in ((1.0, 40), (4.0, 90)):
        runs = rng.normal(0.5, 0.15, n)
        half = float(student.ppf(0.975, n - 1)) * runs.std(ddof=1) / math.sqrt(n)
        rows.append(ValueRow(n=n, mean=runs.mean(), lo=runs.mean() - half, hi=runs.mean() + half, x=x))
        squares += float(((runs - runs.mean()) ** 2).sum())
    law = make_law(outcome=Outcome.QUALITY_SCORE, values=rows, published=published([1, 4], [0.5, 0.5]))
    assert belief_of(law).noise == pytest.approx([squares / 128] * 2)


def test_categories_are_a_unit_apart(make_law: Make) -> None:
    """A table of sizes has no ln x; a law without curve or categories is no belief."""
    rows = [
        ValueRow(n=50, mean=m, lo=m - 0.0392, hi=m + 0.0392, label=name) for name, m in (("small", 0.5), ("large", 0.6))
    ]
    found = belief_of(make_law(Dimension.MODEL_SIZE, values=rows))
    assert list(found.values) == ["small", "large"]
    assert found.covariance == pytest.approx(
        0.02**2 * np.eye(2) + 0.01 * np.array([[0.25, -0.25], [-0.25, 0.25]]), rel=1e-3
    )
    with pytest.raises(NotEnoughData, match="says nothing of two values: too few"):
        belief_of(make_law(missing={"published": "too few"}))


def test_without_a_law_all_values_are_alike() -> None:
    """The flat belief has no error but the slope's."""
    definition = READY_MADE["attempts"]
    found = flat_belief(definition, baseline_of(definition, [], Fitting(), {}))
    assert found.mean == pytest.approx([0.6] * 4)
    away = np.log([1, 2, 3, 4]) - np.log([1, 2, 3, 4]).mean()
    assert found.covariance == pytest.approx(0.01 * np.outer(away, away))
    assert found.noise == pytest.approx([0.24] * 4)


def rows(count: int) -> list[dict[str, Any]]:
    """Give runs over two days that cost 0.1 dollars an agent."""
    return [
        {
            "agent_run_id": f"run-{number}",
            "completed_at": START + timedelta(days=2) * (number / count),
            "agent_count": 2 ** (number % 4),
            "total_cost": 0.1 * 2 ** (number % 4) + 0.001 * (number % 3),
            "success": number % 5 < 3,
        }
        for number in range(count)
    ]


def outlook(horizon_days: float = 30.0, value: float = 2.0, **runs: int) -> Outlook:
    """Look out from so many runs in two days in the global context, and in projects by name."""
    by_context = {"global": rows(runs.pop("everywhere", 2000))}
    by_context |= {f"project={name}": rows(count) for name, count in runs.items()}
    return Outlook(by_context, 2.0, Fitting(value_of_success=value), horizon_days)


def one(found: list[Suggestion], dimension: Dimension, context: str = "global") -> Suggestion:
    """Choose a suggestion."""
    return next(each for each in found if (each.dimension, each.context) == (dimension, context))


def test_each_suggestion_is_savings_over_costs(make_law: Make) -> None:
    """Dollars a run, times runs a day, times days; over what 200 runs at each value of the law cost."""
    found = one(suggest([agents_law(make_law)], outlook()), Dimension.AGENT_COUNT)
    assert list(found.values) == [1, 2, 4, 8]
    assert found.dollars == pytest.approx(200 * 1.5, rel=0.01)
    assert found.runs_a_day == 1000
    dollars = np.array([0.1, 0.2, 0.4, 0.8])
    alone = value_of_information(belief_of(agents_law(make_law)), dollars, 2.0, 200)
    assert found.worth.sample == pytest.approx(alone.sample, rel=0.05)
    assert found.saving == pytest.approx(found.worth.sample * 1000 * 30)
    assert found.most == pytest.approx(found.worth.perfect * 1000 * 30)
    assert found.per_dollar == pytest.approx(found.saving / found.dollars)
    assert found.best == 1
    assert found.sentence == f"Agents in all runs: knowing would save about ${found.saving:,.0f} a month, costs $301."
    dear = one(suggest([agents_law(make_law)], outlook(value=3.0)), Dimension.AGENT_COUNT)
    assert dear.best == 2
    week = one(suggest([agents_law(make_law)], outlook(7.0)), Dimension.AGENT_COUNT)
    assert week.saving == pytest.approx(found.saving * 7 / 30)
    assert " in 7 days, costs" in week.sentence


def test_better_evidence_leaves_less_to_learn(make_law: Make) -> None:
    """The same curve is worth less of an experiment the better it is founded."""
    grades = [
        one(suggest([agents_law(make_law, evidence=evidence)], outlook()), Dimension.AGENT_COUNT).saving
        for evidence in ("randomised", "adjusted", "associational")
    ]
    assert grades == sorted(grades)
    assert grades[0] < grades[2] / 2


def test_costs_come_from_the_cost_law_of_the_same_runs(make_law: Make) -> None:
    """A median curve times its mean factor, read between its values; the runs' own costs where it does not reach."""
    costs = published([1, 3, 8], [0.05, 0.15, 0.4], factor=2.0)
    law = make_law(Dimension.AGENT_COUNT, Outcome.TOTAL_COST, published=costs, basis="realised")
    found = one(suggest([agents_law(make_law), law], outlook()), Dimension.AGENT_COUNT)
    assert found.dollars == pytest.approx(200 * 2 * (0.05 + 0.1 + 0.2 + 0.4))
    short = make_law(Dimension.AGENT_COUNT, Outcome.TOTAL_COST, published=published([1, 4], [9, 9]), basis="realised")
    other = make_law(Dimension.AGENT_COUNT, Outcome.TOTAL_COST, published=costs, basis="dose")
    for useless in (short, other):
        beside = one(suggest([agents_law(make_law), useless], outlook()), Dimension.AGENT_COUNT)
        assert beside.dollars == pytest.approx(200 * 1.5, rel=0.01)


def test_sizes_are_paid_for_by_their_own_costs(make_law: Make) -> None:
    """Categories take their costs from the table of the cost law."""

    def table(outcome: Outcome, means: list[float]) -> Law:
        labels = zip(("small", "medium", "large"), means, strict=True)
        values = [ValueRow(n=50, mean=m, lo=m - 0.04, hi=m + 0.04, label=name) for name, m in labels]
        return make_law(Dimension.MODEL_SIZE, outcome, values=values, basis="category")

    laws = [table(Outcome.QUALITY_SCORE, [0.5, 0.55, 0.6]), table(Outcome.TOTAL_COST, [0.1, 0.2, 0.6])]
    found = one(suggest(laws, outlook()), Dimension.MODEL_SIZE)
    assert found.dollars == pytest.approx(200 * 0.9)
    assert found.saving > 0


def test_dimensions_without_a_law_are_taken_as_flat(make_law: Make) -> None:
    """Each dimension has a candidate; those without a law are said to have none, over all runs."""
    found = suggest([agents_law(make_law, "project=a")], outlook(a=500))
    assert {each.dimension for each in found} == set(Dimension)
    assert [(each.context, each.law_id is None) for each in found if each.dimension is Dimension.AGENT_COUNT] == [
        ("project=a", False)
    ]
    attempts = one(found, Dimension.ATTEMPTS)
    assert (attempts.evidence, attempts.law_id) == ("none", None)
    assert attempts.notes[0] == "There is no law yet: all values are taken to bring 0.60."
    assert attempts.saving > 0
    # Time has no price, so parallelism is about success.
    assert one(found, Dimension.PARALLELISM_LEVEL).outcome is Outcome.SUCCESS


def test_the_most_for_each_dollar_comes_first(make_law: Make) -> None:
    """A busy project before a quiet one; nothing to gain comes last, and ties have an order of their own."""
    laws = [agents_law(make_law, f"project={name}") for name in ("quiet", "busy", "gone")]
    found = [each for each in suggest(laws, outlook(quiet=100, busy=1500)) if each.dimension is Dimension.AGENT_COUNT]
    assert [each.context for each in found] == ["project=busy", "project=quiet", "project=gone"]
    assert found[0].per_dollar > 10 * found[1].per_dollar
    assert found[2].per_dollar == 0
    assert found[2].sentence == "Agents in project gone: no run of it came lately, so knowing would save nothing."
    everything = suggest(laws, outlook(quiet=100, busy=1500))
    assert [each.per_dollar for each in everything] == sorted((each.per_dollar for each in everything), reverse=True)
    assert suggest(laws, outlook(quiet=100, busy=1500)) == everything


def test_an_experiment_that_could_change_nothing_says_so(make_law: Make) -> None:
    """Where success is worth a cent, one agent is best whatever is found."""
    found = one(suggest([agents_law(make_law, evidence="adjusted")], outlook(value=0.01)), Dimension.AGENT_COUNT)
    assert (found.saving, found.per_dollar) == (0, 0)
    assert found.sentence == (
        "Agents in all runs: knowing would change nothing, 1 is best whatever 200 runs a value show."
    )


def test_free_runs_are_no_division_by_zero(make_law: Make) -> None:
    """Where all values cost nothing, what is saved is saved for nothing."""
    free = make_law(Dimension.AGENT_COUNT, Outcome.TOTAL_COST, published=published([1, 8], [0, 0]), basis="realised")
    assert one(suggest([agents_law(make_law), free], outlook()), Dimension.AGENT_COUNT).per_dollar == math.inf


def test_nobody_to_serve_is_worth_nothing(make_law: Make) -> None:
    """Without past runs every saving is zero, and every candidate is still there."""
    found = suggest([agents_law(make_law)], Outlook({}, 0.0, Fitting()))
    assert len(found) == len(Dimension)
    assert {each.saving for each in found} == {0.0}


def test_contexts_are_named_as_in_speech() -> None:
    """Keys and values are decoded and joined."""
    assert context_words("model_size_category=large") == "model size category large"
    assert context_words("project=a%26b&task_type=fix") == "project a&b and task type fix"


def test_examples_in_the_docstrings_hold() -> None:
    """The examples run."""
    assert doctest.testmod(experiment_value).failed == 0
