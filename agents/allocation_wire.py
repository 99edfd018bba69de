"""Allocation requests and replies as bytes, for whatever carries them."""

from datetime import datetime

import msgspec

from agents.allocator import Allocator
from models.allocations import (
    AdviseRequest,
    AllocateRequest,
    Decision,
    PortfolioRequest,
    Refusal,
    Reply,
    Request,
)
from models.errors import (
    BudgetTooSmall,
    InvalidEvent,
    NotEnoughData,
    ScalingError,
    SettingsError,
    TargetOutOfReach,
)

ERRORS: dict[str, type[ScalingError]] = {
    error.__name__: error for error in (BudgetTooSmall, InvalidEvent, NotEnoughData, SettingsError, TargetOutOfReach)
}

_encode = msgspec.json.Encoder().encode
_read_request: msgspec.json.Decoder[Request] = msgspec.json.Decoder(AllocateRequest | PortfolioRequest | AdviseRequest)
_read_reply = msgspec.json.Decoder(Reply)


def encode_request(request: Request) -> bytes:
    """Encode a request as JSON."""
    return _encode(request)


def decode_request(payload: bytes) -> Request:
    """Decode a request.

    Raises:
        InvalidEvent: It breaks a rule; the message names the field and the rule.
    """
    try:
        return _read_request.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEvent(f"the allocation request is not valid: {error}") from None


def answer(payload: bytes, request_id: str, allocator: Allocator, now: datetime) -> tuple[bytes, list[Decision]]:
    """Answer one request; what is wrong with it becomes the reply's error.

    Args:
        payload: The request.
        request_id: The key of its record, for a reply to a request that cannot be read.
        allocator: With the laws known now.
        now: When.

    Returns:
        The reply, and the decisions that were made.
    """
    try:
        request = decode_request(payload)
        if isinstance(request, AllocateRequest):
            allocation, decision = allocator.allocate(request, now)
            return _encode(Reply(request.request_id, allocation=allocation)), [decision]
        if isinstance(request, PortfolioRequest):
            shared, decisions = allocator.share(request, now)
            return _encode(Reply(request.request_id, portfolio=shared)), decisions
        return _encode(Reply(request.request_id, advice=allocator.advise(request))), []
    except ScalingError as error:
        return encode_refusal(request_id, error), []


def encode_refusal(request_id: str, error: Exception) -> bytes:
    """Encode a reply that says why there is no answer."""
    return _encode(Reply(request_id, error=Refusal(type(error).__name__, str(error))))


def decode_reply(payload: bytes) -> Reply:
    """Decode a reply.

    Raises:
        ScalingError: The reply carries an error: it is raised as what it was, BudgetTooSmall for instance.
        InvalidEvent: The reply is not valid.
    """
    try:
        reply = _read_reply.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEvent(f"the allocation reply is not valid: {error}") from None
    if reply.error is not None:
        raise ERRORS.get(reply.error.kind, ScalingError)(reply.error.message)
    return reply
