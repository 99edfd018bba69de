"""Ask Kafka how transactions stand: two questions that aiokafka 0.14 has no method for."""

from enum import StrEnum
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaError,
    NotCoordinatorForGroupError,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.1
READ_COMMITTED = 1
LATEST = -1
ANY_REPLICA = -1
UNKNOWN_TRANSACTIONAL_ID = 105
AWAY = (CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorForGroupError)


class Outcome(StrEnum):
    """How the last transaction of a transactional id ended, or will end once it is taken over."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    NONE = "none"
    """There never was one, or it is forgotten."""


class DescribeTransactionsResponse_v0(Response):  # type: ignore[misc]  # noqa: N801 - aiokafka's names
    """What the coordinator knows of transactional ids."""

    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "states",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", CompactString("utf-8")),
                ("state", CompactString("utf-8")),
                ("timeout_ms", Int32),
                ("start_time_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                (
                    "topics",
                    CompactArray(
                        ("topic", CompactString("utf-8")), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class DescribeTransactionsRequest_v0(RequestStruct):  # type: ignore[misc]  # noqa: N801 - aiokafka's names
    """The question."""

    FLEXIBLE_VERSION = True
    API_KEY = 65
    API_VERSION = 0
    RESPONSE_TYPE = DescribeTransactionsResponse_v0
    SCHEMA = Schema(("transactional_ids", CompactArray(CompactString("utf-8"))), ("tags", TaggedFields))


class DescribeTransactionsRequest(Request[DescribeTransactionsRequest_v0]):  # type: ignore[misc]
    """The question, in the version that the broker knows."""

    API_KEY = 65

    def __init__(self, transactional_id: str) -> None:
        self._transactional_id = transactional_id

    def build(self, request_struct_class: type[DescribeTransactionsRequest_v0]) -> DescribeTransactionsRequest_v0:
        """Build the request."""
        return request_struct_class([self._transactional_id], {})


async def last_outcome(client: AIOKafkaClient, transactional_id: str) -> Outcome:
    """Ask how the last transaction of a transactional id ended; one that is under way will be aborted.

    Raises:
        KafkaError: The coordinator does not answer, or refuses to.
    """
    async for attempt in AsyncRetrying(
        wait=wait_fixed(PAUSE_SECONDS),
        stop=stop_after_delay(PATIENCE_SECONDS),
        retry=retry_if_exception_type(AWAY),
        reraise=True,
    ):
        with attempt:
            coordinator = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
            response = await client.send(coordinator, DescribeTransactionsRequest(transactional_id))
            (described,) = response.states
            return _outcome(*described[:3])
    raise AssertionError("the last attempt raises")


def _outcome(error: int, transactional_id: str, state: str) -> Outcome:
    if error == UNKNOWN_TRANSACTIONAL_ID:
        return Outcome.NONE
    if error:
        raise for_code(error)(transactional_id)
    return Outcome.COMMITTED if state in {"PrepareCommit", "CompleteCommit"} else Outcome.ABORTED


async def stable_offset(client: AIOKafkaClient, place: TopicPartition) -> int | None:
    """Ask up to where a partition is readable, that is where its first transaction without an end begins.

    Returns:
        The offset; None where its leader does not answer.
    """
    leader = client.cluster.leader_for_partition(place)
    try:
        if leader is None or leader < 0:
            raise NotCoordinatorForGroupError(f"nobody leads {place}")
        request = OffsetRequest(ANY_REPLICA, READ_COMMITTED, [(place.topic, [(place.partition, LATEST)])])
        response = await client.send(leader, request)
    except KafkaError:
        await client.force_metadata_update()
        return None
    ((_, (found,)),) = response.topics
    return _offset(*found)


def _offset(_partition: int, error: int, _timestamp: int, offset: int, *_: Any) -> int | None:  # noqa: ANN401
    return None if error else offset
