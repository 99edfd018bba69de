"""Golden states, recorded by versions before this one: this version reads them all, to the same laws."""

import gzip
import json
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.archive import archive_laws
from agents.archive_allocations import archive_decisions, archive_overrides, archive_tests
from agents.archive_experiments import archive_assignments, archive_findings
from agents.decode import EventDecoder
from agents.experiment_store import ExperimentStore
from agents.moment_table import decode_rows
from agents.observer import Cut, Observer, read_cut
from agents.refit import Refitter
from agents.tallies import Tallies, Tally
from analytics.equality import compare_laws
from models.allocations import ABTest, Decision, Override
from models.batches import Batch
from models.errors import StackError
from models.experiments import (
    Assignment,
    Draft,
    Finding,
    Notes,
    RequestsCut,
    Result,
    Sealed,
    Status,
    StatusRecord,
    Verdict,
)
from models.joint_laws import JointLaw
from models.laws import Law
from models.topics import ASSIGNMENTS_TABLE, CELLS_TABLE, DEDUPE_TABLE, EXPERIMENTS_TABLE, GRAMS_TABLE, IMPORTS_TABLE
from tests.golden import record

STATES = sorted(Path(__file__).parent.glob("*.json.gz"))
CUT = b"0|cut"


@pytest.fixture(params=STATES, ids=[file.name.partition(".")[0] for file in STATES])
def state(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Give a recorded state: tables by key, records in a list."""
    found = json.loads(gzip.decompress(request.param.read_bytes()))
    tables = {
        name: {b64decode(key): b64decode(value) for key, value in table} for name, table in found.pop("tables").items()
    }
    return {"tables": tables, **{name: list(map(b64decode, records)) for name, records in found.items()}}


def opened(state: dict[str, Any]) -> Observer:
    """Restore the stats worker's state."""
    observer = Observer(0, record.settings(), EventDecoder(record.settings()))
    observer.load(state["tables"])
    return observer


def test_the_tables_give_the_recorded_laws(state: dict[str, Any]) -> None:
    """Cells and Grams of a version before are read to the laws that it published, to 1e-9."""
    refitter = Refitter(record.settings())
    for prefix, table in ((b"cell|", CELLS_TABLE), (b"gram|", GRAMS_TABLE)):
        for key, value in state["tables"][table].items():
            if key != CUT:
                refitter.stage(prefix + key, value)
    refitter.stage(b"barrier|0", state["tables"][CELLS_TABLE][CUT])
    laws = {law.law_id: law for law in refitter.fit(refitter.snapshot())}
    recorded = [msgspec.json.decode(value, type=Law) for value in state["laws"]]
    assert recorded
    for law in recorded:
        assert compare_laws(laws[law.law_id], law) == []


def test_a_restored_worker_goes_on_where_the_other_stopped(state: dict[str, Any]) -> None:
    """Events below the cut are skipped, a known run is a duplicate, a new one is counted, and so is its import."""
    observer, events = opened(state), record.values()
    assert observer.next_offset == len(events)
    observer.observe(record.batch_of(events, 0))
    assert (observer.counts.replayed, observer.counts.accepted) == (len(events), 0)
    new = (b'{"agent_run_id": "new", "agent_count": 2, "success": true}', events[0][1])
    observer.observe(record.batch_of([events[3], new], len(events)))
    assert (observer.counts.duplicate, observer.counts.accepted, observer.counts.rejected) == (1, 1, 0)
    (tally,) = observer.drain().tables[IMPORTS_TABLE].values()
    known = msgspec.json.decode(tally or b"", type=Tally)
    assert (known.accepted, known.duplicate, known.rejected) == (record.RUNS_COUNT + 1, 2, 1)


def test_the_same_events_give_the_same_tables(state: dict[str, Any]) -> None:
    """What this version writes for the recorded events has the keys and the moments of what that one wrote."""
    tables, _ = record.observed()
    for name in (CELLS_TABLE, GRAMS_TABLE, DEDUPE_TABLE, IMPORTS_TABLE):
        assert tables[name].keys() == state["tables"][name].keys()


def test_experiments_are_taken_up_without_suspicion(state: dict[str, Any]) -> None:
    """Seals, MACs, results, notes and assignments of a version before are believed as they stand."""
    store = ExperimentStore(record.SECRET)
    store.load(state["tables"])
    (trial,) = store.trials
    assert (trial.status.status, trial.notes.tampering, store.lost) == (Status.ANALYZED, [], set())
    assert trial.notes.unproven.keys() == {f"forged-t{number}" for number in range(6)}
    assert trial.result is not None
    assert trial.result.verdict in set(Verdict)
    assert trial.result.runs == len(state["tables"][ASSIGNMENTS_TABLE]) == 6
    assert list(store.drafts) == ["later"]
    assert not store.changed
    (finding,) = (msgspec.json.decode(value, type=Finding) for value in state["findings"])
    assert (finding.experiment_id, finding.runs) == ("agents", 6)


def test_the_archive_takes_every_record(state: dict[str, Any]) -> None:
    """Laws, decisions, overrides, tests, assignments and findings of a version before have rows."""
    takers: dict[str, Callable[[Batch], tuple[Any, list[str]]]] = {
        "laws": archive_laws,
        "joint_laws": archive_laws,
        "decisions": archive_decisions,
        "overrides": archive_overrides,
        "tests": archive_tests,
        "findings": archive_findings,
    }
    kinds = {"laws": Law, "joint_laws": JointLaw}
    for name, take in takers.items():
        values, kind = state[name], kinds.get(name)
        keys = [msgspec.json.decode(value, type=kind).law_id.encode() if kind else b"k" for value in values]
        count = len(values)
        columns, problems = take(Batch("t", 0, range(count), [record.STAMP] * count, keys, values, [()] * count))
        assert (problems, {len(column) for column in columns.values()}) == ([], {count})
    stored = state["tables"][ASSIGNMENTS_TABLE]
    count = len(stored)
    columns, problems = archive_assignments(
        Batch("t", 0, range(count), [record.STAMP] * count, list(stored), list(stored.values()), [()] * count)
    )
    assert (problems, len(columns["unit"])) == ([], count)


KINDS: tuple[type[Any], ...] = (
    *(Law, JointLaw, Cut, Tally),
    *(Sealed, Draft, StatusRecord, Assignment, Notes, Result, Finding, RequestsCut),
    *(Decision, Override, ABTest),
)


@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
def test_a_newer_version_is_refused_by_name_and_value(kind: type[Any]) -> None:
    """Never read as if it were one that is known; the message says what to do."""
    newest = kind.NEWEST
    state = json.loads(gzip.decompress(STATES[-1].read_bytes()))
    texts = [value for name, records in state.items() if name != "tables" for value in records]
    texts += [value for table in state["tables"].values() for _, value in table]
    found = [each for each in map(b64decode, texts) if readable(each, kind)]
    value = msgspec.json.decode(min(found, key=len) if found else b"{}")
    assert value.get("schema_version", newest) == newest
    with pytest.raises(
        msgspec.ValidationError,
        match=f"^{kind.__name__} has schema_version {newest + 1} and this program reads 1 to {newest}: run .*/upgrade",
    ):
        msgspec.json.decode(msgspec.json.encode(value | {"schema_version": newest + 1}), type=kind)


def readable(value: bytes, kind: type[Any]) -> bool:
    """Tell whether a record is one of a kind: it reads, and writes itself as it was."""
    try:
        return msgspec.json.encode(msgspec.json.decode(value, type=kind)) == value
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False


def test_a_newer_table_stops_the_worker_with_what_to_do(state: dict[str, Any]) -> None:
    """Cells, Grams, run ids, tallies and the cut: each is refused at the start, before anything is written."""
    tables = state["tables"]
    cell = next(key for key in tables[CELLS_TABLE] if key != CUT)
    newer: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
        CELLS_TABLE: (cell, lambda value: (2).to_bytes(8, "little") + value[8:] + bytes(8)),
        GRAMS_TABLE: (next(iter(tables[GRAMS_TABLE])), lambda value: (2).to_bytes(8, "little") + value[8:]),
        DEDUPE_TABLE: (next(iter(tables[DEDUPE_TABLE])), lambda value: b"\x02" + value[1:]),
        IMPORTS_TABLE: (next(iter(tables[IMPORTS_TABLE])), of_version_2),
    }
    for name, (key, renew) in newer.items():
        changed = tables | {name: tables[name] | {key: renew(tables[name][key])}}
        with pytest.raises(StackError, match=r"has schema_version 2 and this program reads 1 to 1: run .*upgrade\.md"):
            opened({"tables": changed})
    with pytest.raises(StackError, match="Cut has schema_version 2"):
        read_cut(of_version_2(tables[CELLS_TABLE][CUT]))


def of_version_2(value: bytes) -> bytes:
    """Make a JSON record one of version 2."""
    return msgspec.json.encode(msgspec.json.decode(value) | {"schema_version": 2})


def test_every_record_says_its_version() -> None:
    """Also those that leave their defaults out."""
    latest = record.state()
    assert all(b'"schema_version":' in b64decode(value) for name in ("laws", "findings", "decisions", "overrides",
        "tests", "joint_laws") for value in latest[name])  # fmt: skip
    for name in (EXPERIMENTS_TABLE, ASSIGNMENTS_TABLE, IMPORTS_TABLE):
        assert all(b'"schema_version":' in b64decode(value) for _, value in latest["tables"][name])
    tallies = Tallies(0)
    tallies.add("march", Tally(accepted=1))
    assert all(b'"schema_version":1' in (value or b"") for value in tallies.drain().values())
    grams = list(record.observed()[0][GRAMS_TABLE].values())
    assert len(decode_rows(grams, 13)[0]) == len(grams)
