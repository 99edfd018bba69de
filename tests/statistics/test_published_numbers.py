"""Laws of published runs say what their authors' tables say, and no more than the runs can tell."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agents.mapping import parse_mapping
from agents.raw_laws import RawRuns, Wanted
from analytics.averaging import average
from analytics.families import ATTEMPT_CURVES
from analytics.points import independent
from models.dimensions import Dimension, Outcome
from models.laws import Law
from models.settings import load_settings

pytestmark = pytest.mark.statistics

DATA = Path(__file__).parents[3] / "shared" / "data"
CONCAVE = (
    "logarithmic",
    "quadratic_log",
    "power_ceiling",
    "saturating_exponential",
    "michaelis_menten",
    "plateau",
)
"""Families whose gains shrink; a power is left out, for its exponent may be above one."""


def laws_of(folder: str, dimension: Dimension, *, renames: tuple[str, ...] = (), without: bytes = b"") -> list[Law]:
    """Fit success over a dimension from the published rows, as `scaling fit` does."""
    path = DATA / folder / "events.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"the public runs of {folder} are not beside the project")
    change = parse_mapping(renames, None)
    runs = RawRuns(load_settings(partitions=1))
    rows = gzip.decompress(path.read_bytes()).splitlines()
    kept = [change.apply(row) if change else row for row in rows if not without or without not in row]
    for start in range(0, len(kept), 20_000):
        assert runs.add(kept[start : start + 20_000]) == []
    return list(runs.laws(Wanted(None, dimension, Outcome.SUCCESS)))


def test_a_weak_peak_is_not_called_one(record: Callable[..., None]) -> None:
    """DyLAN: 70.5 % with four agents, 69.5 % with seven: no gain is claimed beyond four, nor a fall."""
    (law,) = [law for law in laws_of("dylan_mmlu_team_size", Dimension.AGENT_COUNT) if law.context == "global"]
    x, n, mean = (np.array([getattr(row, name) for row in law.values], float) for name in ("x", "n", "mean"))
    assert dict(zip(x.tolist(), mean.round(4).tolist(), strict=True)) == {2: 0.6839, 3: 0.6992, 4: 0.7052, 7: 0.6949}
    points = independent(x, n, mean, n * mean * (1 - mean), binary=True)
    gain, _, lo, hi = average(points, ATTEMPT_CURVES, bounds=(0.0, 1.0)).contrast(2, 3)

    record("DyLAN", "gain in success from 4 to 7 agents", gain, threshold="its interval contains 0", runs=law.n,
           reference=f"[{lo:+.4f}, {hi:+.4f}]; rows {mean[3] - mean[2]:+.4f}")  # fmt: skip
    assert lo < 0 < hi
    assert law.published is not None
    assert law.published.change is not None
    assert law.published.direction in {"no effect", "undetermined"}
    assert law.published.change.lo < 0 < law.published.change.hi
    assert law.knee is not None
    assert (law.knee.supported, law.knee.value) == (False, 2)
    assert "hardly changes" in law.sentence
    assert "association" in law.sentence


def test_turns_bring_less_and_less(record: Callable[..., None]) -> None:
    """MINT: success by turn limit is concave for nearly every model; the authors' straight line is a summary."""
    laws = laws_of(
        "mint_bench",
        Dimension.ITERATIONS,
        renames=("max_iterations=total_iterations",),
        without=b'"feedback_provider"',
    )
    curves = [law for law in laws if law.context.startswith("model=") and law.published is not None]
    concave = np.zeros(len(curves))
    linear = np.zeros(len(curves))
    for place, law in enumerate(curves):
        assert law.published is not None
        assert law.basis == "dose"
        assert law.published.direction == "rises"
        concave[place] = sum(law.published.weights.get(name, 0.0) for name in CONCAVE)
        linear[place] = law.published.weights["linear"]

    record("MINT", "models", len(curves), threshold=">= 50", runs=sum(law.n for law in curves))
    record("MINT", "share of models whose concave families outweigh the line", (concave > linear).mean(),
           threshold="> .9", runs=len(curves))  # fmt: skip
    record("MINT", "share of models whose concave families outweigh it tenfold", (concave > 10 * linear).mean(),
           threshold="> .8", runs=len(curves))  # fmt: skip
    assert len(curves) >= 50
    assert (concave > linear).mean() > 0.9
    assert (concave > 10 * linear).mean() > 0.8


def test_longer_contexts_lose_answers(record: Callable[..., None]) -> None:
    """BABILong: success falls over the context for both models, by as much as the rows have it.

    The two together are no law: only the better model was asked beyond 128k, so their mixture rises again there.
    """
    laws = laws_of("babilong_context", Dimension.CONTEXT)
    models = [law for law in laws if law.context.startswith("model=")]
    assert len(models) == 2
    for law in models:
        assert law.published is not None
        assert law.published.direction == "falls"
        change = law.published.change
        assert change is not None
        first, last = (next(row for row in rows if row.x) for rows in (law.values, law.values[::-1]))
        record("BABILong", f"change of success over context, {law.context}", change.estimate,
               threshold="falls; the rows' change inside the interval", runs=law.n,
               reference=f"rows {last.mean - first.mean:+.3f}")  # fmt: skip
        assert change.hi < -0.3
        assert change.lo <= last.mean - first.mean <= change.hi
        assert law.knee is not None
        assert not law.knee.supported
        assert "falls" in law.sentence
