"""The topics on the broker: created as models.topics describes them, and compared with it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, KafkaError, for_code

from models.errors import StackError
from models.settings import Settings
from models.topics import TOPICS, TopicSpec
from streams.kafka_security import connection, require_access, unreachable

NO_ERROR = 0
TOPIC_ALREADY_EXISTS = 36
RETRY_SECONDS = 1.0


async def create_topics(settings: Settings, timeout: float = 30) -> list[str]:  # noqa: ASYNC109 - patience with a broker that starts
    """Create the topics that do not exist, and check the partitions of those that do.

    Args:
        settings: The broker's address, the partitions of scaling.runs and the replicas.
        timeout: Seconds to wait for the broker.

    Returns:
        The names of the topics created.

    Raises:
        NotReachable: Kafka does not answer in time.
        StackError: A topic has another number of partitions, or Kafka refuses to create one.
    """
    async with connected_admin(settings, timeout) as admin:
        found = await partition_counts(admin)
        _require_partitions(found, settings)
        wanted = [_new_topic(spec, settings) for spec in TOPICS if spec.name not in found]
        if not wanted:
            return []
        try:
            response = await admin.create_topics(wanted, timeout_ms=int(timeout * 1000))
        except KafkaError as error:
            raise StackError(f"Kafka at {settings.kafka} did not create the topics: {error}") from error
        created = []
        for name, code, reason in response.topic_errors:
            if code == NO_ERROR:
                created.append(name)
            elif code != TOPIC_ALREADY_EXISTS:
                message = f"Kafka at {settings.kafka} refused to create the topic {name}: {reason or for_code(code)}"
                raise StackError(message)
        if len(created) < len(wanted):  # another process was faster: its topics must be right as well
            _require_partitions(await partition_counts(admin), settings)
        return created


async def missing_topics(settings: Settings, timeout: float = 30) -> list[str]:  # noqa: ASYNC109 - as above
    """List the topics that the broker does not have.

    Raises:
        NotReachable: Kafka does not answer in time.
    """
    async with connected_admin(settings, timeout) as admin:
        found = await partition_counts(admin)
    return [spec.name for spec in TOPICS if spec.name not in found]


def wanted_partitions(spec: TopicSpec, settings: Settings) -> int:
    """Say how many partitions a topic must have."""
    return spec.partitions or settings.partitions


@asynccontextmanager
async def connected_admin(settings: Settings, timeout: float) -> AsyncIterator[AIOKafkaAdminClient]:  # noqa: ASYNC109 - as above
    """Connect to the broker, trying again until the time is up.

    Raises:
        NotReachable: Kafka does not answer in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        admin = AIOKafkaAdminClient(**connection(settings))
        try:
            async with asyncio.timeout_at(deadline):
                await admin.start()
            break
        except (KafkaConnectionError, TimeoutError, OSError):
            await admin.close()
            await require_access(settings)
            if loop.time() + RETRY_SECONDS >= deadline:
                raise unreachable(settings) from None
            await asyncio.sleep(RETRY_SECONDS)
    try:
        yield admin
    finally:
        await admin.close()


async def wait_for_coordinator(admin: AIOKafkaAdminClient, group: str, timeout: float = 30) -> None:  # noqa: ASYNC109 - as above
    """Wait until a consumer group can be asked for; the first ask of a new broker makes it create its offsets topic.

    Raises:
        KafkaError: There is no coordinator in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        try:
            await admin.find_coordinator(group)
        except KafkaError as error:
            if not error.retriable or loop.time() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return


async def partition_counts(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Read how many partitions each topic on the broker has."""
    return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}


def partition_mismatch(found: dict[str, int], settings: Settings) -> str | None:
    """Say which existing topic has another number of partitions than it must have."""
    for spec in TOPICS:
        wanted = wanted_partitions(spec, settings)
        if found.get(spec.name, wanted) != wanted:
            return (
                f"topic {spec.name} has {found[spec.name]} partitions and the settings want {wanted}: set "
                f"SCALING_PARTITIONS to what the deployment was made with, or rebuild it on new topics"
            )
    return None


def _require_partitions(found: dict[str, int], settings: Settings) -> None:
    mismatch = partition_mismatch(found, settings)
    if mismatch is not None:
        raise StackError(mismatch)


def _new_topic(spec: TopicSpec, settings: Settings) -> NewTopic:
    return NewTopic(
        spec.name,
        wanted_partitions(spec, settings),
        settings.replication,
        topic_configs={"cleanup.policy": "compact" if spec.compact else "delete", **dict(spec.config)},
    )
