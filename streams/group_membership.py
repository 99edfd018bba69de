"""What aiokafka 0.14 leaves out of being a member of a consumer group.

- A member says that it lives only once its rebalance listener is done, however long that takes: see `keep_alive`.
- The leader of a group shares out what its metadata knows at that moment. Just after a broker's restart that may be
  nothing, and it looks again after five minutes. Here it waits for the topics first.
- A static member that is started again takes over what it had, without a look at whether that is everything. If the
  assignment was incomplete, it stays so for ever. Here a member that is missing topics asks once for another one.
"""

import asyncio
from collections.abc import Collection
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.group_coordinator import GroupCoordinator

REBALANCE_SECONDS = 120.0
"""How long a group waits for members that still restore when others come or go; a dead one is known by its session."""
SECOND_LOOK_SECONDS = 5.0
METADATA_SECONDS = 3.0
"""The leader's patience for topics to become known; less than the shortest session."""
PAUSE_SECONDS = 0.1

log = structlog.get_logger(__name__)

_assign = GroupCoordinator._perform_assignment  # noqa: SLF001 - aiokafka has no door for it


def keep_alive(consumer: AIOKafkaConsumer) -> None:
    """Let a member of a group say that it lives while its rebalance listener works.

    aiokafka begins with that only once the listener is done. One that restores tables for longer than the session would
    be thrown out of the group, join again, restore again, and so on for ever. To be called in the consumer's own loop,
    whose group waits REBALANCE_SECONDS for it when others come or go meanwhile.
    """
    consumer._coordinator._start_heartbeat_task()  # noqa: SLF001 - aiokafka does the same, only later


class SecondLook:
    """Asks once for another assignment if the first one has left topics out; others may have them, or nobody."""

    def __init__(self) -> None:
        self._taken = False

    def take(self, consumer: AIOKafkaConsumer, assigned: Collection[str]) -> None:
        """Take note of an assignment. To be called in the consumer's own loop.

        Args:
            consumer: The member.
            assigned: The topics of which it has partitions.
        """
        missing = sorted(set(consumer.subscription()) - set(assigned))
        if missing and not self._taken:
            self._taken = True
            asyncio.get_running_loop().call_later(SECOND_LOOK_SECONDS, _ask_again, consumer, missing)


def _ask_again(consumer: AIOKafkaConsumer, missing: list[str]) -> None:
    log.info("asking for an assignment once more", without=missing)
    consumer._coordinator.request_rejoin()  # noqa: SLF001


async def _assign_what_there_is(self: Any, response: Any) -> Any:  # noqa: ANN401 - aiokafka's
    """Share out partitions once all topics that this member has subscribed to are known."""
    deadline = asyncio.get_running_loop().time() + METADATA_SECONDS
    topics = self._subscription.subscription.topics
    while (unknown := [topic for topic in topics if not self._cluster.partitions_for_topic(topic)]) and (
        asyncio.get_running_loop().time() < deadline
    ):
        await self._client.force_metadata_update()
        await asyncio.sleep(PAUSE_SECONDS)
    if unknown:
        log.warning("topics unknown to the broker are assigned to nobody", topics=sorted(unknown))
    return await _assign(self, response)


def assign_what_there_is() -> None:
    """Let every group's leader in this process wait for its topics before it shares them out."""
    GroupCoordinator._perform_assignment = _assign_what_there_is  # noqa: SLF001
