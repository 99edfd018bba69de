"""Records and filters that are made to break: too large, too deep, too long, not numbers; at every consumer."""

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.accept import accept, import_id_of
from agents.decode import EventDecoder
from agents.definitions import read_definition
from agents.experimenter import LARGEST_REQUEST, Experimenter
from agents.moment_table import decode_rows, encode_rows
from agents.rejects import reject_record
from analytics import moments
from analytics.task_filter import MOST_CHOICES, MOST_ENTRIES, check_filter, mismatch
from bench.fuzz_decoders import EVENT, REQUEST, SEEDS, TARGETS, batch_of
from models.allocations import ABTest
from models.batches import Batch
from models.errors import InvalidExperiment
from models.settings import load_settings
from models.topics import IMPORT_HEADER

SETTINGS = load_settings(partitions=1, experiment_secret="0123456789abcdef")  # noqa: S106 - a test's
DECODER = EventDecoder(SETTINGS)
FILTER_FIELDS = {"experiment_id": "e", "name": "n", "hypothesis": "h", "dimension_tested": "agent_count"}
DEEP = 100_000

BOMBS = {
    "larger than max_event_bytes": b'{"agent_run_id":"r","project":"' + b"x" * (2 * 1024 * 1024) + b'"}',
    "a list in a list in a list": b'{"agent_run_id":"r","x":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "an object in an object": b'{"agent_run_id":"r","x":' + b'{"a":' * DEEP + b"1" + b"}" * (DEEP + 1),
    "deep where it is known": b'{"agent_run_id":"r","project_characteristics":{"a":' + b"[" * DEEP,
    "only opened": b"[" * 1_000_000,
    "seventy thousand keys": b'{"agent_run_id":"r",'
    + b",".join(b'"k%d":1' % number for number in range(70_000))
    + b"}",
    "a million keys": b'{"agent_run_id":"r",' + b",".join(b'"k%d":1' % number for number in range(1_000_000)) + b"}",
    "many characteristics": json.dumps(
        {"agent_run_id": "r", "project_characteristics": {f"k{number}": 1 for number in range(1_000)}}
    ).encode(),
    "a number of 5,000 digits": b'{"agent_run_id":"r","agent_count":' + b"9" * 5000 + b"}",
    "a number beyond floats": b'{"agent_run_id":"r","total_cost":1e400}',
    "a cost of 1e308": b'{"agent_run_id":"r","total_cost":1e308}',
    "NaN": b'{"agent_run_id":"r","total_cost":NaN}',
    "minus infinity": b'{"agent_run_id":"r","quality_score":-Infinity}',
    "not UTF-8": b'{"agent_run_id":"\xff\xfe"}',
    "half a surrogate": b'{"agent_run_id":"\\ud800"}',
    "binary": bytes(range(256)) * 10,
    "nothing": b"",
    "only a null": b"null",
    "an id of a megabyte": b'{"agent_run_id":"' + b"r" * 1_000_000 + b'"}',
}
TAKEN = {
    "a characteristic of 1e308": b'{"agent_run_id":"r","project_characteristics":{"a":1e308},"success":true}',
    "a whole number of 300 digits": b'{"agent_run_id":"r","project_characteristics":{"a":' + b"9" * 300 + b"}}",
    "the same key twice": b'{"agent_run_id":"q","agent_run_id":"r"}',
    "the largest time": b'{"agent_run_id":"r","completed_at":"9999-12-31T23:59:59Z","time_to_complete":1e9}',
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_a_dead_letter_and_its_neighbours_count(name: str) -> None:
    """Stats and archive: the record becomes a dead letter that Kafka takes; those beside it are runs."""
    value = BOMBS[name]
    good = b'{"agent_run_id":"r","success":true}'
    headers = [(("x" * 10_000, value[:100_000]),) * 200] * 3
    batch = Batch("scaling.runs", 0, [1, 2, 3], [0, 0, 0], [value, None, b"k"], [good, value, good], headers)
    found = accept(batch, DECODER, SETTINGS)
    assert (found.indices, [rejection.index for rejection in found.rejections]) == ([0, 2], [1])
    _, letter = reject_record(batch, 1, found.rejections[0].reason, "import")
    assert len(letter) < 1024 * 1024


@pytest.mark.parametrize("name", [*BOMBS, *TAKEN])
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_no_bomb_stops_a_consumer(name: str, target: Any) -> None:  # noqa: ANN401 - a function of bytes
    """Every consumer of every topic answers, keeps or passes over it."""
    target((BOMBS | TAKEN)[name])


def test_a_request_that_is_too_large_is_answered_by_its_size() -> None:
    """The owner of experiments does not read it."""
    owner = Experimenter(0, SETTINGS)
    owner.handle(b"x" * (LARGEST_REQUEST + 1), 0.0, 0.0)
    assert owner.counts.unreadable == 1


def nested(depth: int) -> Any:  # noqa: ANN401 - any JSON
    """Nest objects in lists."""
    value: Any = 1
    for _ in range(depth):
        value = [{"min": value}]
    return value


@pytest.mark.parametrize(
    "conditions",
    [
        {str(number): 1 for number in range(MOST_ENTRIES + 1)},
        {"a": list(range(MOST_CHOICES + 1))},
        {"a": {"not": list(range(MOST_CHOICES + 1))}},
        {"a": "x" * 257},
        {"x" * 257: 1},
        {"a": nested(400)},
        {"a": {"min": {"min": 1}}},
        {"a": [["x"]]},
        {"a": {"not": [["x"]]}},
        {"a": 10**400},
        {"a": math.inf},
        {"a": math.nan},
        {"a": {"regex": "(a+)+$"}},
        {"a": {"$where": "__import__('os').system('true')"}},
        {"a": {}},
        {"a": []},
        {"a": None},
        {"min_complexity": "__import__('os')"},
        {"min_complexity": 2},
    ],
)
def test_filters_neither_grow_nor_run(conditions: dict[str, Any]) -> None:
    """Too many entries, choices or levels, texts too long, expressions and operators that there are not: refused."""
    with pytest.raises(InvalidExperiment):
        check_filter(conditions)
    with pytest.raises(InvalidExperiment):
        read_definition({**FILTER_FIELDS, "context_filter": conditions, "values_tested": [1, 2], "control_value": 1})


@pytest.mark.parametrize("code", ["__import__('os').abort()", "{{7*7}}", "${jndi:ldap://x}", "%s%n", "(a+)+$", ".*"])
def test_code_in_a_filter_is_a_text(code: str) -> None:
    """It is equal to itself and matches nothing else."""
    check_filter({"project": code})
    assert mismatch({"project": code}, {"project": code}, {}) is None
    assert mismatch({"project": code}, {"project": "atlas"}, {}) is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300)
@given(conditions=st.dictionaries(st.text(max_size=8) | st.just("min_complexity"), JSON, max_size=5), task=JSON)
def test_any_filter_is_refused_or_answers(conditions: dict[str, Any], task: Any) -> None:  # noqa: ANN401 - any JSON
    """A filter that passes its check gives an answer about every task."""
    try:
        check_filter(conditions)
    except InvalidExperiment:
        return
    found = mismatch(conditions, task if isinstance(task, dict) else {"project": task}, {"high": 0.9})
    assert found is None or found


def mutated(seed: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
    """Put some bytes in the place of others."""
    for at, length, new in cuts:
        place = at % (len(seed) + 1)
        seed = seed[:place] + new + seed[place + length :]
    return seed


MUTATIONS = st.builds(
    mutated,
    st.sampled_from([*SEEDS, EVENT, REQUEST]),
    st.lists(
        st.tuples(
            st.integers(0, 4000),
            st.integers(0, 8),
            st.binary(max_size=6) | st.sampled_from([b"1e309", b"null", b'"', b"[[", b"-1", b"{}", b"\\ud800"]),
        ),
        max_size=5,
    ),
)


@settings(max_examples=400)
@given(value=MUTATIONS | st.binary(max_size=64) | JSON.map(msgspec.json.encode))
def test_decoders_are_total(value: bytes) -> None:
    """The targets of the fuzzer, with whatever hypothesis makes of valid records."""
    for target in TARGETS:
        target(value)


FLOATS = st.floats(-1e12, 1e12)


@settings(max_examples=100)
@given(
    rows=st.lists(st.lists(FLOATS, min_size=3, max_size=3), min_size=1, max_size=6),
    offset=st.integers(0, 2**62),
    bucket=st.integers(-(2**31), 2**31),
)
def test_stored_moments_read_back(rows: list[list[float]], offset: int, bucket: int) -> None:
    """A table entry has its offset, its bucket and its moments, bit for bit."""
    n, mean, comoment = moments.from_rows(np.array(rows))
    stored = np.atleast_1d(n), np.atleast_2d(mean), np.atleast_2d(comoment)
    values = encode_rows(offset, np.array([bucket]), stored)
    offsets, buckets, found = decode_rows(values, 3)
    assert offsets.tolist() == [offset]
    assert buckets.tolist() == [bucket]
    for one, other in zip(found, stored, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/passwd", "a/b", "..", ".", "a\\b", "a\x00b", "a\n", "", "a b", "x" * 65]
)
def test_ids_are_no_paths(name: str) -> None:
    """Ids of experiments and A/B tests are names: whoever makes a file of one stays in its folder."""
    fields = {"values_tested": [1, 2], "control_value": 1}
    with pytest.raises(InvalidExperiment):
        read_definition({**FILTER_FIELDS, **fields, "experiment_id": name})
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"test_id": name}, ABTest)


def test_hostile_headers_are_read_by_everyone() -> None:
    """Names and values of headers may be anything."""
    batch = batch_of(b"\xff" * 5000, b"\x00")
    _, letter = reject_record(batch, 0, "x" * 100_000, import_id_of([(IMPORT_HEADER, b"\xff\xed\xa0\x80")]))
    assert len(letter) < 1024 * 1024
