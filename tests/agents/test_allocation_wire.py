"""Requests and replies as bytes."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.allocation_wire import ERRORS, answer, decode_reply, decode_request, encode_refusal, encode_request
from agents.allocator import Allocator
from analytics.allocation_worlds import AllocationWorld
from models.allocations import (
    MOST_TASKS,
    AdviseRequest,
    AllocateRequest,
    Attitude,
    Decision,
    Objective,
    Parts,
    Pins,
    PortfolioRequest,
    Request,
    Risk,
)
from models.errors import BudgetTooSmall, InvalidEvent, NotEnoughData, ScalingError
from models.joint_laws import JointLaw

TOO_MANY: list[dict[str, Any]] = [{}] * (MOST_TASKS + 1)
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
TASK = {"project": "web", "task_complexity": 0.4}
REQUESTS: list[Request] = [
    AllocateRequest("r-1", TASK, 0.6),
    AllocateRequest(
        "r-1",
        TASK,
        None,
        Objective.LEAST_COST,
        "success",
        0.2,
        risk=Risk(Attitude.TAIL_MEAN, share=0.5, overspend=0.3),
        pins=Pins(agent_count=2),
        caps=Parts(max_iterations=4),
        by="ada",
        reason="incident",
        model_sizes=["small"],
        front=True,
        native=["langgraph"],
        explore=False,
    ),
    PortfolioRequest("r-1", [TASK, {}], 2.0),
    AdviseRequest("r-1", 2, 1, 0.1, 8000, task=TASK, value=3.0),
]


@pytest.fixture
def allocator(
    joint_laws: Callable[..., tuple[JointLaw, ...]],
    make_world: Callable[..., AllocationWorld],
    make_allocator: Callable[..., Allocator],
) -> Allocator:
    """Make an allocator that knows the laws of a world."""
    return make_allocator(joint_laws(make_world()))


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: type(each).__name__)
def test_what_is_asked_over_the_wire_is_answered_as_if_asked_directly(request_: Request, allocator: Allocator) -> None:
    """Requests travel as JSON that names their kind; replies and decisions come back whole."""
    payload = encode_request(request_)
    assert decode_request(payload) == request_
    assert json.loads(payload)["kind"] in {"allocate", "portfolio", "advise"}
    reply, decisions = answer(payload, "r-1", allocator, NOW)
    told = decode_reply(reply)
    assert told.request_id == "r-1"
    if isinstance(request_, AllocateRequest):
        direct, decision = allocator.allocate(request_, NOW)
        assert (told.allocation, decisions) == (direct, [decision])
    elif isinstance(request_, PortfolioRequest):
        shared, logged = allocator.share(request_, NOW)
        assert (told.portfolio, decisions) == (shared, logged)
    else:
        assert (told.advice, decisions) == (allocator.advise(request_), [])
    for decision in decisions:
        assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "truncated"),
        (b"\xff\xfe", "not valid"),
        (b"[]", "got `array`"),
        (b'{"request_id": "r"}', "kind"),
        (b'{"kind": "guess", "request_id": "r"}', "guess"),
        (b'{"kind": "allocate", "request_id": ""}', "request_id"),
        (b'{"kind": "allocate", "request_id": "r", "budgt": 1}', "unknown field `budgt`"),
        (b'{"kind": "allocate", "request_id": "r", "budget": 0}', "budget"),
        (b'{"kind": "allocate", "request_id": "r", "budget": 1e400}', "budget"),
        (b'{"kind": "allocate", "request_id": "r", "budget": 1, "method": "exact"}', "method"),
        (b'{"kind": "allocate", "request_id": "r", "budget": 1, "objective": "best"}', "objective"),
        (b'{"kind": "allocate", "request_id": "r", "budget": 1, "risk": {"overspend": 1}}', "overspend"),
        (b'{"kind": "allocate", "request_id": "r", "budget": 1, "risk": {"kapa": 1}}', "unknown field `kapa`"),
        (b'{"kind": "allocate", "request_id": "r", "budget": 1, "pins": {"agents": 1}}', "unknown field `agents`"),
        (b'{"kind": "allocate", "request_id": "r", "budget": 1, "pins": {"agent_count": 0}}', "agent_count"),
        (
            b'{"kind": "allocate", "request_id": "r", "budget": 1, "caps": {"model_size": "s"}}',
            "unknown field `model_size`",
        ),
        (b'{"kind": "allocate", "request_id": "r", "budget": 1, "task": {"task_complexity": "?"}}', "task_complexity"),
        (
            b'{"kind": "allocate", "request_id": "r", "task": ' + b'{"a":' * 9999 + b"1" + b"}" * 9999 + b"}",
            "not valid",
        ),
        (b'{"kind": "portfolio", "request_id": "r", "tasks": [], "budget": 1}', "tasks"),
        (b'{"kind": "portfolio", "request_id": "r", "tasks": [{}]}', "budget"),
        (encode_request(PortfolioRequest("r", TOO_MANY, 2.0)), "length <= 1000"),
        (b'{"kind": "advise", "request_id": "r", "agent_count": 1}', "missing required field"),
        (b'{"kind": "allocate", "request_id": "r"}', "budget = null"),
    ],
)
def test_a_wrong_request_is_answered_with_its_error(
    payload: bytes, reason: str, make_allocator: Callable[..., Allocator]
) -> None:
    """A request that cannot be read or obeyed gets a reply under its key that says why, and no decision."""
    reply, decisions = answer(payload, "r", make_allocator(), NOW)
    assert json.loads(reply)["request_id"] == "r"
    assert decisions == []
    with pytest.raises(InvalidEvent, match=reason):
        decode_reply(reply)


def test_errors_come_back_as_what_they_were(make_allocator: Callable[..., Allocator]) -> None:
    """A budget too small is BudgetTooSmall on the asking side; an unreadable reply is InvalidEvent."""
    with pytest.raises(BudgetTooSmall, match="allow that"):
        decode_reply(answer(encode_request(AllocateRequest("r", {}, 0.01)), "r", make_allocator(), NOW)[0])
    with pytest.raises(NotEnoughData):
        decode_reply(answer(encode_request(REQUESTS[3]), "r", make_allocator(), NOW)[0])
    for kind, error in ERRORS.items():
        with pytest.raises(error, match="why") as caught:
            decode_reply(encode_refusal("r", error("why")))
        assert type(caught.value).__name__ == kind
    with pytest.raises(ScalingError, match="a surprise"):
        decode_reply(encode_refusal("r", KeyError("a surprise")))
    for reply in (b"?", b"{}", b'{"request_id": 7}', b"\xff"):
        with pytest.raises(InvalidEvent, match="the allocation reply is not valid"):
            decode_reply(reply)


scalar = st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False) | st.text(max_size=20)


@given(
    st.dictionaries(
        st.sampled_from(["project", "model", "task_complexity", "task_id", "project_characteristics", "other"])
        | st.text(),
        scalar | st.lists(scalar, max_size=3) | st.dictionaries(st.text(), scalar, max_size=3),
        max_size=8,
    )
)
def test_whatever_a_task_says_there_is_an_answer_and_a_decision_that_can_be_written(
    make_allocator: Callable[..., Allocator], task: dict[str, Any]
) -> None:
    """Or an error that names what is wrong; nothing else is raised."""
    try:
        payload = msgspec.json.encode({"kind": "allocate", "request_id": "r", "budget": 1, "task": task})
    except (OverflowError, ValueError):
        payload = json.dumps({"kind": "allocate", "request_id": "r", "budget": 1, "task": task}).encode()
    reply, decisions = answer(payload, "r", make_allocator(), NOW)
    if decisions:
        assert decode_reply(reply).allocation is not None
        assert msgspec.json.decode(msgspec.json.encode(decisions[0]), type=Decision).decision_id == "r"
    else:
        with pytest.raises(InvalidEvent):
            decode_reply(reply)
