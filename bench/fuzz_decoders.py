"""What the system does with bytes from outside: one function a decoder, each total, and a fuzzer over all of them.

Run with atheris in an environment of its own, see docs/security.md: `fuzz_decoders.py CORPUS -max_total_time=600`.
"""

import gc
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import FunctionType

import msgspec
import structlog
from aiokafka import ConsumerRecord

from agents.accept import import_id_of
from agents.allocation_wire import answer, decode_reply
from agents.allocator import Allocator
from agents.archive import archive_laws, archive_rejected, archive_runs
from agents.archive_allocations import archive_decisions, archive_overrides, archive_tests
from agents.archive_experiments import archive_assignments, archive_experiments, archive_findings
from agents.decode import EventDecoder
from agents.definitions import read_definition
from agents.experimenter import Experimenter
from agents.outcome_events import source_of
from agents.rejects import reject_record
from models.allocations import ABTest, AllocateRequest, Override, PortfolioRequest, Setting
from models.batches import Batch
from models.errors import InvalidEvent, InvalidExperiment, ScalingError
from models.settings import load_settings
from models.topics import SOURCE_HEADER
from streams.allocator import AllocatorService
from streams.experiment_log import Course, take

SETTINGS = load_settings(partitions=1, experiment_secret="0123456789abcdef", max_event_bytes=4096)  # noqa: S106 - a fuzzer's
DECODER = EventDecoder(SETTINGS)
OURS = {"agents", "analytics", "models", "streams"}
NOW = 1_750_000_000.0
WHEN = datetime.fromtimestamp(NOW, UTC)
ARCHIVED = (
    *(archive_laws, archive_rejected, archive_decisions, archive_overrides, archive_tests),
    *(archive_assignments, archive_findings),
)


def batch_of(value: bytes, key: bytes = b"a|1|definition") -> Batch:
    """Make a batch of one record that is hostile in every part."""
    return Batch(
        "t", 0, [7], [int(NOW * 1000)], [key], [value], [(("import-id", value), (value.decode("latin1"), key))]
    )


def runs(value: bytes) -> None:
    """Stats and archive: an event is counted or a dead letter; a dead letter can be written, and read again."""
    batch = batch_of(value, value)
    found = DECODER.decode_batch([value, None, value])
    assert len(found.events) + len(found.rejections) == 3
    archive_runs(batch, DECODER, SETTINGS, int(NOW * 1000))
    _, letter = reject_record(batch, 0, "x", import_id_of(batch.headers[0]))
    columns, problems = archive_rejected(batch_of(letter))
    assert columns
    assert not problems


def archived(value: bytes) -> None:
    """The archive: every record of every topic is a row or a problem."""
    for archive in ARCHIVED:
        archive(batch_of(value))
    archive_experiments(batch_of(value, b"a|1|definition"), 1)
    archive_experiments(batch_of(value, value), 1)


def requests(value: bytes) -> None:
    """The allocator: every request has a reply."""
    reply, _ = answer(value, "r", Allocator(SETTINGS), WHEN)
    replies(reply)


def replies(value: bytes) -> None:
    """Who asked the allocator: a reply is an answer, or an error of ours."""
    try:
        decode_reply(value)
    except ScalingError:
        return


def experiments(value: bytes) -> None:
    """The owner of experiments: every request is answered or counted as unreadable."""
    owner = Experimenter(0, SETTINGS)
    owner.handle(value, NOW, NOW)
    owner.handle(value, NOW, NOW, replayed=True)
    owner.store.drain()


def definitions(value: bytes) -> None:
    """A definition from a file: one, or a named mistake."""
    try:
        fields = msgspec.json.decode(value)
        read_definition(fields)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidExperiment):
        return


def followed(value: bytes) -> None:
    """The allocator's topics: every record is taken, or counted as unreadable, and answers go on."""
    service = AllocatorService(SETTINGS)
    for topic in service._followed:  # noqa: SLF001 - the seam that Kafka calls
        for key in (b"global|agent_count|success|live", b"global|joint|success|audited", value):
            service.learn(topic, ConsumerRecord("t", 0, 7, 0, 0, key, value, None, len(key), len(value), ()))
    answer(REQUEST, "r", service.allocator, WHEN)


def headers(value: bytes) -> None:
    """Headers that our own workers write may be anybody's."""
    try:
        source_of([(SOURCE_HEADER, value)])
    except (InvalidEvent, ValueError):
        return


def courses(value: bytes) -> None:
    """Who lists experiments passes over what cannot be read."""
    for kind in ("draft", "definition", "status", "result", "notes", "nonsense"):
        try:
            take(Course("a"), 1, kind, value)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError):
            continue


TARGETS: tuple[Callable[[bytes], None], ...] = (
    *(runs, archived, requests, replies, experiments, definitions, followed, headers, courses),
)
EVENT = (
    b'{"agent_run_id":"r","task_complexity":"high","project_characteristics":{"a":1e308,"b":null},"agent_count":3,'
    b'"completed_at":"2026-01-01T00:00:00Z","success":true,"total_cost":0.5,"experiment_id":"e","assigned_value":2}'
)
DEFINITION = (
    b'{"experiment_id":"e","name":"n","hypothesis":"h","dimension_tested":"agent_count","values_tested":[1,4],'
    b'"control_value":1,"context_filter":{"min_complexity":"low","a":{"min":1,"not":["x"]}}}'
)
REQUEST = msgspec.json.encode(AllocateRequest("r", {"project": "a", "task_complexity": 0.5}, budget=2.0))
SEEDS = (
    EVENT,
    REQUEST,
    msgspec.json.encode(PortfolioRequest("r", [{"project": "a"}], budget=3.0)),
    msgspec.json.encode(Override("o", "ann", "x", "2026-03-01T00:00:00Z", "project=a")),
    msgspec.json.encode(ABTest("t1", Setting(3, 5, 32_000, 2), "ann", "x", "2026-03-01T00:00:00Z")),
    b'{"kind":"assign","request_id":"q","experiment_id":"e","task":{"task_id":"t"}}',
    DEFINITION,
    b'{"agent_run_id":"r","x":' + b"[" * 3000,
    b'{"agent_run_id":"r","assigned_value":1e400}',
    b"12:1750000000000",
)


def one_input(data: bytes) -> None:
    """Hand an input to the target that its first byte names."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


def main() -> None:
    """Fuzz until told to stop; a failure writes its input beside the corpus."""
    atheris = import_module("atheris")  # only where it is installed
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for number, target in enumerate(TARGETS):
        for place, seed in enumerate(SEEDS):
            (corpus / f"{target.__name__}-{place}").write_bytes(bytes([number]) + seed)
    for function in gc.get_objects():
        if isinstance(function, FunctionType) and (function.__module__ or "").partition(".")[0] in OURS:
            atheris.instrument_func(function)
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
