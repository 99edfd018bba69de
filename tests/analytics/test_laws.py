"""Laws from cells, checked against laws from raw rows on random and on real runs."""

import gzip
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from analytics.cells import LOG_VARIABLES, Cells, LawCells, law_cells, law_variables
from analytics.equality import compare_laws
from analytics.intervals import t_quantile, z_quantile
from analytics.laws import Heading, fit_law
from analytics.moments import Floats
from analytics.rows import fit_rows
from models.dimensions import CLIP, LIVE_OUTCOMES, Basis, Dimension, Outcome
from models.laws import Law

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
LEVELS = np.array([0.0, 1, 2, 3, 4, 6, 8, 16])


def heading(outcome: Outcome, dimension: Dimension = Dimension.AGENT_COUNT, basis: Basis = Basis.REALISED) -> Heading:
    """Give what a record says besides the fits."""
    return Heading(
        context="global",
        dimension=dimension,
        outcome=outcome,
        basis=basis,
        sources=["observational"],
        lineage={0: 10},
        settings_hash="abc",
        fitted_at="2026-01-01T00:00:00Z",
    )


def outcome_rows(rng: np.random.Generator, x: Floats, outcome: Outcome) -> Floats:
    """Draw an outcome that depends on x, zeros included where they occur in practice."""
    size = len(x)
    level = 0.25 * np.maximum(x, 0.5) ** 0.15
    if outcome == Outcome.SUCCESS:
        return (rng.random(size) < level).astype(np.float64)
    if outcome == Outcome.QUALITY_SCORE:
        return np.where(rng.random(size) < 0.1, 0.0, np.clip(rng.normal(level, 0.1), 0, 1))
    noise = rng.lognormal(0, 0.6, size)
    return np.where(rng.random(size) < 0.05, 0.0 if outcome == Outcome.TOTAL_COST else 1e-4, noise * 40 / (1 + level))


def cells_of(
    x: Floats, y: Floats, outcome: Outcome, value: Floats | None = None, binned: Floats | None = None
) -> LawCells:
    """Reduce rows in two halves that are then merged, as two partitions would be."""
    seen = np.isfinite(y)
    value = x if value is None else value
    flags = np.zeros(len(x), np.bool_) if binned is None else binned > 0
    columns = {"x": x, "ln_x": np.log(np.where(x > 0, x, 1.0)), str(outcome): y}
    if outcome in LOG_VARIABLES:
        columns[str(LOG_VARIABLES[outcome])] = np.log(np.maximum(np.where(seen, y, 1.0), CLIP))
    parts = []
    for half in (0, 1):
        rows = seen & (np.arange(len(x)) % 2 == half)
        parts.append(
            Cells.from_rows(
                {name: column[rows] for name, column in columns.items()}, value=value[rows], binned=flags[rows]
            )
        )
    return law_cells(parts[0] + parts[1], outcome)


def quarter_octave(x: Floats) -> Floats:
    """Give the middle of the quarter-octave bin that holds x."""
    return np.asarray(np.exp2((np.floor(np.log2(x) * 4) + 0.5) / 4))


def round_trip(law: Law) -> Law:
    """Send a law through JSON, where every number must be finite."""
    return msgspec.json.decode(msgspec.json.encode(law), type=Law)


@pytest.mark.parametrize("outcome", list(LIVE_OUTCOMES))
@pytest.mark.parametrize("seed", range(6))
def test_a_law_from_cells_equals_the_law_from_rows(outcome: Outcome, seed: int) -> None:
    """With zeros of x and of y and with missing outcomes, no number of the record differs beyond rounding."""
    rng = np.random.default_rng(seed)
    x = rng.choice(LEVELS, 700)
    y = outcome_rows(rng, x, outcome)
    y[rng.random(700) < 0.1] = np.nan
    law = fit_law(cells_of(x, y, outcome), **heading(outcome))
    check = fit_rows(x, y, np.zeros(700, np.bool_), x, **heading(outcome))
    assert compare_laws(law, check) == []
    assert law.published is not None
    assert law.missing.keys() == check.missing.keys()
    assert law.excluded_zeros == int((np.isfinite(y) & (x == 0)).sum())
    assert round_trip(law) == law


@pytest.mark.parametrize("outcome", list(LIVE_OUTCOMES))
@pytest.mark.parametrize("seed", range(3))
def test_binned_context_tokens_give_the_same_law_from_cells_and_rows(outcome: Outcome, seed: int) -> None:
    """Least squares sees every token count; HC3 and the power law see the bin's geometric mean on both ways."""
    rng = np.random.default_rng(seed)
    x = np.round(rng.lognormal(9, 1.2, 900))
    x[:40] = 0
    y = outcome_rows(rng, x / 8000, outcome)
    value = np.where(x > 64, quarter_octave(np.maximum(x, 1)), x)
    binned = x > 64
    law = fit_law(cells_of(x, y, outcome, value, binned.astype(np.float64)), **heading(outcome, Dimension.CONTEXT))
    check = fit_rows(x, y, binned, value, **heading(outcome, Dimension.CONTEXT))
    assert compare_laws(law, check) == []
    assert law.reference.linear is not None
    slope, intercept = np.polyfit(x, y, 1)
    assert law.reference.linear.coefficient.estimate == pytest.approx(slope, rel=1e-6)
    assert law.reference.linear.intercept.estimate == pytest.approx(intercept, rel=1e-6)


@pytest.mark.parametrize("outcome", list(LIVE_OUTCOMES))
def test_categories_give_a_table_and_a_recommendation_without_a_number(outcome: Outcome) -> None:
    """Model sizes without a parameter count have values, small first, and no regression; the reasons say why."""
    rng = np.random.default_rng(20)
    x = rng.choice([1.0, 4.0, 16.0], 300)
    y = outcome_rows(rng, x, outcome)
    labels = [{1.0: "small", 4.0: "medium", 16.0: "large"}[size] for size in x]
    columns = {"x": np.zeros(300), "ln_x": np.zeros(300), str(outcome): y}
    if outcome in LOG_VARIABLES:
        columns[str(LOG_VARIABLES[outcome])] = np.log(np.maximum(y, CLIP))
    cells = law_cells(Cells.from_rows(columns, label=labels), outcome)
    details = heading(outcome, Dimension.MODEL_SIZE, Basis.CATEGORY)
    law = fit_law(cells, **details)
    zeros = np.zeros(300)
    check = fit_rows(zeros, y, np.zeros(300, np.bool_), zeros, labels=labels, **details)
    assert compare_laws(law, check) == []
    assert [row.label for row in law.values] == ["small", "medium", "large"]
    assert [row.x for row in law.values] == [None] * 3
    assert (law.published, law.power, law.knee) == (None, None, None)
    assert "categories" in law.missing["published"]
    assert "recommended category is" in law.missing["reference.recommended_value"]
    assert law.status == "established"
    assert round_trip(law) == law


@pytest.mark.parametrize(
    ("runs", "status"),
    [
        ([], "insufficient"),
        ([500], "insufficient"),
        ([500, 29], "insufficient"),
        ([500, 30], "exploratory"),
        ([99, 99, 99], "exploratory"),
        ([100, 100], "established"),
        ([500, 199], "established"),
        ([200, 200], "actionable"),
    ],
)
def test_the_status_follows_the_runs_that_two_values_have(runs: list[int], status: str) -> None:
    """Where nothing changes, 30 runs at each of two values give a law, 100 a knee, and 200 make it actionable."""
    x = np.repeat(np.arange(1.0, len(runs) + 1), runs)
    y = np.concatenate([np.zeros(0), *((np.arange(count) < count / 2).astype(np.float64) for count in runs)])
    law = fit_law(cells_of(x, y, Outcome.SUCCESS), **heading(Outcome.SUCCESS))
    assert (law.status, law.n) == (status, sum(runs))
    assert (law.published is None) == (status == "insufficient")
    assert (law.knee is not None) == (status in {"established", "actionable"})
    if status == "insufficient":
        assert {"published", "knee"} <= law.missing.keys()
    if len(runs) < 2:
        assert {"power", "reference.power", "reference.knee"} <= law.missing.keys()
    elif status == "insufficient":
        assert "a law needs 30 runs at each of two values, the second best supported has 29" in law.missing["published"]
        assert law.power is not None
        assert law.reference.power is not None
    if status == "exploratory":
        assert f"has {sorted(runs)[-2]}" in law.missing["knee"]
    assert round_trip(law) == law


@pytest.mark.parametrize(("successes", "status"), [((4, 36), "actionable"), ((18, 22), "exploratory")])
def test_evidence_makes_a_law_of_few_runs_actionable(successes: tuple[int, int], status: str) -> None:
    """Forty runs at each of two values: from 10 % to 90 % is beyond doubt (e >= 20), from 45 % to 55 % is not."""
    x = np.repeat([1.0, 8.0], 40)
    y = np.concatenate([np.arange(40) < count for count in successes]).astype(np.float64)
    law = fit_law(cells_of(x, y, Outcome.SUCCESS), **heading(Outcome.SUCCESS))
    assert law.status == status
    assert law.e_value is not None
    assert (law.e_value >= 20) == (status == "actionable")


def test_a_law_without_variation_or_with_single_runs_says_what_is_missing() -> None:
    """All runs alike give no error to estimate; a value with one run has no interval; both are said, part by part."""
    x = np.array([1.0] * 40 + [2.0] * 40)
    alike = fit_law(cells_of(x, np.ones(80), Outcome.SUCCESS), **heading(Outcome.SUCCESS))
    assert alike.published is None
    assert "the same success" in alike.missing["published"]
    assert [row.mean for row in alike.values] == [1, 1]
    x, y = np.array([1.0, 1, 1, 2]), np.array([3.0, 5, 4, 2])
    single = fit_law(cells_of(x, y, Outcome.TOTAL_COST), **heading(Outcome.TOTAL_COST))
    assert [row.x for row in single.values] == [1]
    assert "one run" in single.missing["values"]
    assert "HC1" in single.missing["reference.linear.hc3"]
    check = fit_rows(x, y, np.zeros(4, np.bool_), x, **heading(Outcome.TOTAL_COST))
    assert compare_laws(single, check) == []


def test_the_record_is_small_and_names_its_key() -> None:
    """Even with 512 values a record stays below 64 KiB; its key is context, dimension, outcome and tier."""
    x = np.repeat(np.arange(1.0, 513.0), 120)
    y = (np.random.default_rng(22).random(len(x)) < 0.5).astype(np.float64)
    law = fit_law(cells_of(x, y, Outcome.SUCCESS), **heading(Outcome.SUCCESS))
    assert len(msgspec.json.encode(law)) < 64 * 1024
    assert law.law_id == "global|agent_count|success|live"
    assert law.lineage == {"0": 10}
    assert law.published is not None
    assert len(law.published.curve) == 64
    assert (law.published.curve[0].x, law.published.curve[-1].x) == (1, 512)
    assert "reference.success_rate_by_value" in law.missing


def test_clusters_widen_a_law_without_moving_its_means() -> None:
    """Given the same cells by project, x = 0 among them, the trend's variance is that of the projects' sums."""
    rng = np.random.default_rng(25)
    x, project = rng.choice(LEVELS, 2000), rng.integers(0, 12, 2000)
    y = np.clip(0.4 + 0.1 * np.log(np.maximum(x, 1)) + rng.normal(0, 0.2, 12)[project] + rng.normal(0, 0.1, 2000), 0, 1)
    columns = {"x": x, "quality_score": y, "clipped_ln_quality": np.log(np.maximum(y, CLIP))}
    apart = law_cells(Cells.from_rows(columns), Outcome.QUALITY_SCORE)
    by_project = Cells.from_rows(columns, cluster=project).select(law_variables(Outcome.QUALITY_SCORE))
    together = LawCells(by_project)
    details = heading(Outcome.QUALITY_SCORE)
    plain, law = fit_law(apart, **details), fit_law(apart, clustered=together, **details)
    assert (plain.published, law.published) != (None, None)
    assert plain.trend is not None
    assert law.trend is not None
    assert law.published is not None
    assert law.published.overdispersion > 3
    assert [row.mean for row in law.values] == [row.mean for row in plain.values]
    assert law.trend.estimate == plain.trend.estimate
    # By hand: what each run pulls at the slope, its residual from its value's mean, summed by project.
    kept = x > 0
    z, residual, weight = np.log(x[kept]), y[kept].copy(), np.zeros(int(kept.sum()))
    pooled = sum(float(((y[x == at] - y[x == at].mean()) ** 2).sum()) for at in LEVELS[1:]) / (kept.sum() - 7)
    for at in LEVELS[1:]:
        own = y[x == at]
        variance = (4 * pooled + ((own - own.mean()) ** 2).sum()) / (4 + len(own) - 1) / len(own)
        residual[x[kept] == at] -= own.mean()
        weight[x[kept] == at] = 1 / variance / len(own)
    z = z - (weight @ z) / weight.sum()
    pull = weight * z / (weight @ (z * z))
    sums = np.bincount(project[kept], pull * residual)
    expected = np.sqrt(12 / 11 * float(sums @ sums)) * t_quantile(11) / z_quantile()
    assert law.trend.se == pytest.approx(expected, rel=1e-6)


def test_fitting_is_a_pure_function() -> None:
    """The same cells give the same record, bit for bit, whatever the order in which they were merged."""
    rng = np.random.default_rng(23)
    x = rng.choice(LEVELS, 300)
    y = outcome_rows(rng, x, Outcome.SUCCESS)
    cells = cells_of(x, y, Outcome.SUCCESS)
    details = heading(Outcome.SUCCESS)
    assert msgspec.json.encode(fit_law(cells, **details)) == msgspec.json.encode(fit_law(cells, **details))


def test_the_knee_of_time_and_cost_counts_a_fall_as_a_gain() -> None:
    """The reference rule always stops at the first value of a falling outcome; the law's own knee does not."""
    x = np.repeat([1.0, 2, 3, 4], 100)
    y = np.tile([0.999, 1.001], 200) * np.repeat([10.0, 6, 5, 4.99], 100)
    law = fit_law(cells_of(x, y, Outcome.TIME_TO_COMPLETE), **heading(Outcome.TIME_TO_COMPLETE))
    assert law.reference.knee is not None
    assert law.reference.knee.value == 1
    assert law.knee is not None
    assert (law.knee.value, law.knee.lo, law.knee.hi) == (3, 3, 3)
    assert law.knee.supported
    assert law.knee.rule == "the next unit saves less than 5 %"
    cost = fit_law(cells_of(x, y, Outcome.TOTAL_COST), **heading(Outcome.TOTAL_COST))
    assert cost.knee is None
    assert "cost has no knee" in cost.missing["knee"]
    assert law.reference.diminishing_returns == 2
    assert law.reference.recommended_value == 4


def test_comparison_finds_what_differs() -> None:
    """Numbers beyond the tolerance, a missing part, another count: each is named; rounding is not."""
    rng = np.random.default_rng(24)
    x = rng.choice(LEVELS, 300)
    y = outcome_rows(rng, x, Outcome.QUALITY_SCORE)
    law = fit_law(cells_of(x, y, Outcome.QUALITY_SCORE), **heading(Outcome.QUALITY_SCORE))
    assert law.power is not None
    assert law.published is not None
    power, published = law.power, law.published

    def of_power(share: float) -> Law:
        moved = msgspec.structs.replace(power.exponent, estimate=power.exponent.estimate + share * power.exponent.se)
        return msgspec.structs.replace(law, power=msgspec.structs.replace(power, exponent=moved))

    def of_curve(share: float) -> Law:
        first = published.curve[0]
        moved = msgspec.structs.replace(first, mean=first.mean + share * (first.hi - first.lo))
        curve = [moved, *published.curve[1:]]
        return msgspec.structs.replace(law, published=msgspec.structs.replace(published, curve=curve))

    assert compare_laws(law, of_power(1e-10)) == []
    assert [text.partition(":")[0] for text in compare_laws(law, of_power(1e-7))] == ["power.exponent"]
    assert compare_laws(law, of_curve(1e-7)) == []
    assert [text.partition(":")[0] for text in compare_laws(law, of_curve(1e-5))] == ["published.curve[1].mean"]
    assert compare_laws(law, msgspec.structs.replace(law, version=9, tier="rows", fitted_at="later")) == []
    without = msgspec.structs.replace(law, published=None, n=1)
    assert [text.partition(":")[0] for text in compare_laws(law, without)] == ["n", "published"]
    one_more = np.append(y, 0.5)
    other = fit_law(cells_of(np.append(x, 1.0), one_more, Outcome.QUALITY_SCORE), **heading(Outcome.QUALITY_SCORE))
    assert len(compare_laws(law, other)) > 10


def events(name: str) -> list[dict[str, float]]:
    """Read the runs of a real data set, or skip."""
    path = DATA / name / "events.jsonl.gz"
    if not path.exists():
        pytest.skip(f"the real data set {name} is not beside the project (../shared/data)")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def column(runs: list[dict[str, float]], name: str) -> Floats:
    """Take one field of each run; nan where it is absent."""
    return np.array([float(run.get(name, np.nan)) for run in runs])


def test_real_team_sizes_show_that_more_agents_bring_nothing_that_matters() -> None:
    """DyLAN's accuracies come out as published; cells and rows agree, and every change is below 5 points."""
    runs = events("dylan_mmlu_team_size")
    x, y = column(runs, "agent_count"), column(runs, "success")
    law = fit_law(cells_of(x, y, Outcome.SUCCESS), **heading(Outcome.SUCCESS))
    check = fit_rows(x, y, np.zeros(len(x), np.bool_), x, **heading(Outcome.SUCCESS))
    assert compare_laws(law, check) == []
    assert [(row.x, row.n, round(row.mean, 4)) for row in law.values] == [
        (2, 2809, 0.6839),
        (3, 2809, 0.6992),
        (4, 2809, 0.7052),
        (7, 2809, 0.6949),
    ]
    assert law.power is not None
    assert law.power.exponent.lo < 0 < law.power.exponent.hi
    assert law.published is not None
    assert law.published.direction == "no effect"
    assert law.published.change is not None
    assert -0.05 < law.published.change.lo < 0 < law.published.change.hi < 0.05
    assert law.knee is not None
    assert (law.knee.value, law.knee.supported) == (2, False)
    assert law.reference.recommended_value == 3


@pytest.mark.parametrize("outcome", [Outcome.SUCCESS, Outcome.QUALITY_SCORE])
def test_real_iterations_of_tau_bench_agree_from_cells_and_rows(outcome: Outcome) -> None:
    """Used iterations of 200 real runs, many of them single at their value: every number agrees with the rows'."""
    runs = events("tau_bench_gpt4o_airline")
    x, y = column(runs, "total_iterations"), column(runs, outcome)
    law = fit_law(cells_of(x, y, outcome), **heading(outcome, Dimension.ITERATIONS))
    check = fit_rows(x, y, np.zeros(len(x), np.bool_), x, **heading(outcome, Dimension.ITERATIONS))
    assert compare_laws(law, check) == []
    assert law.n == 200
    assert law.reference.power is not None
    assert law.reference.power.exponent.estimate < 0
    expected = np.polyfit(np.log(x), np.log(np.maximum(y, CLIP)), 1)
    assert law.reference.power.exponent.estimate == pytest.approx(expected[0], rel=1e-9)


def test_real_context_lengths_fall_and_zero_tokens_are_counted_apart() -> None:
    """BABILong: accuracy falls with context; runs at 0 tokens stay in the table and out of the power law."""
    runs = [run for run in events("babilong_context") if "gemini" in str(run["agent_run_id"])]
    x, y = column(runs, "context_tokens"), column(runs, "success")
    value = np.where(x > 64, quarter_octave(np.maximum(x, 1)), x)
    law = fit_law(cells_of(x, y, Outcome.SUCCESS, value, (x > 64).astype(np.float64)), **heading(Outcome.SUCCESS))
    check = fit_rows(x, y, x > 64, value, **heading(Outcome.SUCCESS))
    assert compare_laws(law, check) == []
    assert law.excluded_zeros == int((x == 0).sum()) > 0
    assert law.values[0].x == 0
    assert law.power is not None
    assert law.power.exponent.hi < 0
    assert law.published is not None
    assert law.published.direction == "falls"
