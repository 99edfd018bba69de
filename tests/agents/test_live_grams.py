"""Grams by time bucket: which runs share one, and how old buckets become history."""

from collections.abc import Iterable

import numpy as np
import pytest

from agents.columns import to_columns
from agents.context_index import ContextIndex
from agents.live_grams import OUTCOMES, REGRESSORS, LiveGrams
from agents.moment_table import decode_rows
from models.cells import GramKey
from models.events import RunEvent
from models.settings import load_settings

SETTINGS = load_settings(context_keys=[])
VARIABLES = len(REGRESSORS) + len(OUTCOMES)
KEPT = 2


class Kept:
    """Grams of one context whose buckets are 10 s long, with what has been written of them."""

    def __init__(self) -> None:
        self.index = ContextIndex([], 10)
        self.grams = LiveGrams(0, self.index, 10, KEPT)
        self.stored: dict[bytes, bytes] = {}

    def fold(self, events: Iterable[tuple[RunEvent, float]]) -> None:
        """Fold one batch and write what changed."""
        runs, completed = zip(*events, strict=True)
        columns = to_columns(runs, np.array(completed), SETTINGS)
        self.grams.fold(columns, self.index.codes(columns.keys, len(runs)))
        for key, value in self.grams.table.drain(0).items():
            if value is None:
                self.stored.pop(key, None)
            else:
                self.stored[key] = value

    def counts(self) -> dict[int | None, float]:
        """Count runs by bucket, None for history."""
        found: dict[int | None, float] = {}
        for key, value in self.stored.items():
            bucket = GramKey.decode(key).bucket
            found[bucket] = found.get(bucket, 0) + decode_rows([value], VARIABLES)[2][0][0]
        return found


def test_old_buckets_are_folded_into_history_and_late_events_follow_them() -> None:
    """The last buckets stand apart; what is older, or comes too late for its bucket, is in history; nothing is lost."""
    kept = Kept()
    kept.fold([(RunEvent("a"), 5.0), (RunEvent("b"), 15.0)])
    assert kept.counts() == {0: 1, 1: 1}
    kept.fold([(RunEvent("c"), 25.0), (RunEvent("late"), 6.0)])
    assert kept.counts() == {None: 2, 1: 1, 2: 1}
    kept.fold([(RunEvent("d"), 99.0)])
    assert kept.counts() == {None: 4, 9: 1}


def test_history_after_a_restart_goes_on_where_it_was() -> None:
    """What was retired stays retired: a late event of a retired bucket joins history, not a bucket of its own."""
    kept = Kept()
    kept.fold([(RunEvent("a"), 5.0), (RunEvent("b"), 45.0)])
    again = LiveGrams(0, kept.index, 10, KEPT)
    again.load(list(kept.stored.items()))
    kept.grams = again
    kept.fold([(RunEvent("late"), 15.0), (RunEvent("due"), 35.0)])
    assert kept.counts() == {None: 2, 3: 1, 4: 1}


def test_merged_history_has_the_moments_of_all_its_runs() -> None:
    """Regressors and outcomes of retired buckets come together as if they had been one batch."""
    rng = np.random.default_rng(3)
    kept = Kept()
    agents, time = rng.integers(1, 9, 40), rng.lognormal(3, 1, 40)
    for at in range(0, 40, 8):
        kept.fold(
            (RunEvent(f"r{place}", agent_count=int(agents[place]), time_to_complete=float(time[place])), place * 5.0)
            for place in range(at, at + 8)
        )
    kept.fold([(RunEvent("end", agent_count=1, time_to_complete=1.0), 10_000.0)])
    ((value),) = (value for key, value in kept.stored.items() if GramKey.decode(key).bucket is None)
    _, buckets, (n, mean, comoment) = decode_rows([value], VARIABLES)
    names = (*REGRESSORS, *OUTCOMES)
    first, second = names.index("ln_agent_count"), names.index("time_to_complete")
    full = np.zeros((VARIABLES, VARIABLES))
    full[np.triu_indices(VARIABLES)] = comoment[0]
    assert n[0] == 40
    assert buckets[0] == 1000 - KEPT
    assert mean[0, first] == pytest.approx(np.log(agents).mean(), rel=1e-14)
    assert full[first, second] == pytest.approx(np.cov(np.log(agents), time)[0, 1] * 39, rel=1e-12)
    assert full[second, second] == pytest.approx(np.var(time) * 40, rel=1e-12)


def test_presence_tells_which_regressors_a_run_has_and_in_which_basis() -> None:
    """A limit wins over a count, zero counts as absent (it has no logarithm), complexity comes last."""
    kept = Kept()
    kept.fold(
        [
            (RunEvent("a", agent_count=2, max_iterations=3, total_iterations=4, task_complexity=0.5), 0.0),
            (RunEvent("b", agent_count=2, max_iterations=0, total_iterations=4, model_params_b=7.0), 0.0),
            (RunEvent("c", context_tokens=0, retry_limit=0), 0.0),
        ]
    )
    assert {GramKey.decode(key).presence for key in kept.stored} == {"rd----r", "rr--r--", "-----d-"}
