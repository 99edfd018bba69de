"""Ask Kafka how transactions stand: two questions that aiokafka 0.14 has no method for."""

from collections import defaultdict
from collections.abc import Iterable

import msgspec
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import CoordinatorNotAvailableError, KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

UNKNOWN_TRANSACTIONAL_ID = 105
TEXT = CompactString("utf-8")
TAGS = ("tags", TaggedFields)


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
                ("transactional_id", TEXT),
                ("state", TEXT),
                ("timeout_ms", Int32),
                ("start_time_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                ("topics", CompactArray(("topic", TEXT), ("partitions", CompactArray(Int32)), TAGS)),
                TAGS,
            ),
        ),
        TAGS,
    )


class DescribeTransactionsRequest_v0(RequestStruct):  # type: ignore[misc]  # noqa: N801
    """How do these transactional ids stand?"""

    FLEXIBLE_VERSION = True
    API_KEY = 65
    API_VERSION = 0
    RESPONSE_TYPE = DescribeTransactionsResponse_v0
    SCHEMA = Schema(("transactional_ids", CompactArray(TEXT)), TAGS)


class DescribeTransactionsRequest(Request[DescribeTransactionsRequest_v0]):  # type: ignore[misc]
    """The same, in the version that the broker knows."""

    API_KEY = 65

    def __init__(self, transactional_id: str) -> None:
        self._transactional_id = transactional_id

    def build(self, request_struct_class: type[DescribeTransactionsRequest_v0]) -> DescribeTransactionsRequest_v0:
        """Build the request."""
        return request_struct_class([self._transactional_id], {})


class DescribeProducersResponse_v0(Response):  # type: ignore[misc]  # noqa: N801
    """What a leader knows of those who write into its partitions."""

    API_KEY = 61
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("error_message", TEXT),
                        (
                            "producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_timestamp", Int64),
                                ("coordinator_epoch", Int32),
                                ("transaction_start_offset", Int64),
                                TAGS,
                            ),
                        ),
                        TAGS,
                    ),
                ),
                TAGS,
            ),
        ),
        TAGS,
    )


class DescribeProducersRequest_v0(RequestStruct):  # type: ignore[misc]  # noqa: N801
    """Who writes into these partitions?"""

    FLEXIBLE_VERSION = True
    API_KEY = 61
    API_VERSION = 0
    RESPONSE_TYPE = DescribeProducersResponse_v0
    SCHEMA = Schema(("topics", CompactArray(("topic", TEXT), ("partitions", CompactArray(Int32)), TAGS)), TAGS)


class DescribeProducersRequest(Request[DescribeProducersRequest_v0]):  # type: ignore[misc]
    """The same, in the version that the broker knows."""

    API_KEY = 61

    def __init__(self, places: Iterable[TopicPartition]) -> None:
        topics: defaultdict[str, list[int]] = defaultdict(list)
        for topic, partition in places:
            topics[topic].append(partition)
        self._topics: list[tuple[str, list[int], dict[int, bytes]]] = [
            (topic, partitions, {}) for topic, partitions in topics.items()
        ]

    def build(self, request_struct_class: type[DescribeProducersRequest_v0]) -> DescribeProducersRequest_v0:
        """Build the request."""
        return request_struct_class(self._topics, {})


class LastTransaction(msgspec.Struct, frozen=True):
    """How the last transaction of a transactional id stands, and the epoch of its producer."""

    state: str
    epoch: int

    @property
    def committed(self) -> bool:
        """Whether it was committed; one that is under way will be aborted by whoever takes over."""
        return self.state in {"PrepareCommit", "CompleteCommit"}


async def last_transaction(client: AIOKafkaClient, transactional_id: str) -> LastTransaction | None:
    """Ask the coordinator for the last transaction of a transactional id; None where it knows of none.

    Raises:
        KafkaError: It does not answer, or refuses to.
    """
    if not client.cluster.brokers():
        await client.force_metadata_update()
        raise CoordinatorNotAvailableError("no broker is ready")
    coordinator = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
    response = await client.send(coordinator, DescribeTransactionsRequest(transactional_id))
    ((error, _, state, _, _, _, epoch, *_),) = response.states
    if error == UNKNOWN_TRANSACTIONAL_ID:
        return None
    if error:
        raise for_code(error)(transactional_id)
    return LastTransaction(state, epoch)


async def open_places(
    client: AIOKafkaClient, cluster: ClusterMetadata, places: Iterable[TopicPartition], producer_id: int
) -> set[TopicPartition]:
    """Ask the leaders of partitions in which of them a producer has a transaction without an end.

    Raises:
        KafkaError: One of them does not answer, or no longer leads.
    """
    by_leader: defaultdict[int, list[TopicPartition]] = defaultdict(list)
    for place in places:
        leader = cluster.leader_for_partition(place)
        by_leader[-1 if leader is None else leader].append(place)
    found = set()
    for leader, led in by_leader.items():
        if leader < 0:
            raise CoordinatorNotAvailableError(f"no broker leads {led[0]}")
        response = await client.send(leader, DescribeProducersRequest(led))
        for topic, partitions, _ in response.topics:
            for partition, error, _, producers, _ in partitions:
                if error:
                    raise for_code(error)(f"{topic}-{partition}")
                if any(each[0] == producer_id and each[5] >= 0 for each in producers):
                    found.add(TopicPartition(topic, partition))
    return found


def passing(error: BaseException) -> bool:
    """Tell whether the same question may have an answer later; what says no more than KafkaError is lost metadata."""
    return isinstance(error, KafkaError) and (bool(error.retriable) or type(error) is KafkaError)
