"""Which contexts a round of the audit takes, and in which order."""

import asyncio
import socket
from datetime import UTC, datetime

import pytest

from models.errors import NotReachable
from models.settings import load_settings
from streams.auditor import AuditService
from streams.extents import Extent


def service(audited: dict[str, Extent]) -> AuditService:
    """Make an auditor that has audited these contexts as they were then."""
    made = AuditService(load_settings())
    made._audited.update(audited)
    return made


def test_the_context_with_the_most_new_runs_comes_first() -> None:
    """New contexts count all their runs; equal ones go by name; what has not changed is left out."""
    extents = {"a": Extent(10, 1), "b": Extent(50, 2), "c": Extent(100, 3), "d": Extent(40, 4), "e": Extent(7, 5)}
    audited = {"a": Extent(5, 9), "b": Extent(50, 2), "c": Extent(99, 8), "e": Extent(2, 6)}
    assert service(audited)._changed(extents, {}) == ["d", "a", "e", "c"]


def test_a_context_that_failed_goes_last() -> None:
    """A context that cannot be audited does not keep the others from being audited."""
    made = service({})
    made._failures["big"] += 1
    assert made._changed({"big": Extent(1000, 1), "small": Extent(1, 2)}, {}) == ["small", "big"]


def test_a_context_that_was_corrected_is_taken_though_it_has_fewer_runs() -> None:
    """A correction changes contents, or moves a run away; a context that lost its last run is among them, once."""
    made = service({"changed": Extent(5, 1), "fewer": Extent(5, 2), "gone": Extent(5, 3)})
    extents = {"changed": Extent(5, 7), "fewer": Extent(4, 8)}
    assert made._changed(extents, {}) == ["changed", "fewer", "gone"]
    made._audited |= {**extents, "gone": Extent(0, 0)}
    assert made._changed(extents, {}) == []


def test_contexts_that_have_only_published_laws_are_taken_once() -> None:
    """After a restart a context with laws and without runs is looked at: its laws may have to be withdrawn."""
    made = service({})
    made._published.take("gone|agent_count|success|audited", LAW)
    assert made._changed({}, {}) == ["gone"]
    made._audited["gone"] = Extent(0, 0)
    assert made._changed({}, {}) == []


LAW = (
    b'{"law_id":"gone|agent_count|success|audited","tier":"audited","context":"gone","dimension":"agent_count",'
    b'"outcome":"success","version":3,"epoch":1,"fitted_at":"2026-01-01T00:00:00Z","n":5,"status":"exploratory",'
    b'"evidence":"associational","settings_hash":""}'
)


async def test_without_kafka_the_audit_does_not_start() -> None:
    """The error names the address and what to start, and no process is left."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        settings = load_settings(kafka=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(NotReachable, match="start it with scaling up"):
            await AuditService(settings).run(asyncio.Event())


def test_a_context_whose_law_has_drifted_is_taken_without_new_runs() -> None:
    """A new alarm is reason enough; the same alarm is not one again."""
    extents = {"global": Extent(10, 1), "project=a": Extent(5, 2)}
    made = service(extents)
    alarm = {"project=a": {"project=a|agent_count|success|audited": datetime(2026, 1, 1, tzinfo=UTC)}}
    assert made._changed(extents, alarm) == ["project=a"]
    made._drifts = dict(alarm)
    assert made._changed(extents, alarm) == []
