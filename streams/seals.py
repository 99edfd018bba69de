"""Watch the topic of experiments for definitions that their owner did not write."""

from collections.abc import Awaitable, Callable

from models.settings import Settings
from models.topics import EXPERIMENTS
from streams.kafka_clients import POLL_MS, reader

Suspect = Callable[[bytes | None, bytes | None], Awaitable[None]]


async def watch_seals(settings: Settings, suspect: Suspect) -> None:
    """Show every record of scaling.experiments to `suspect`, as (key, value), for ever.

    Raises:
        NotReachable: Kafka does not answer at the start.
        StackError: The topic does not exist.
    """
    async with reader(settings, EXPERIMENTS) as records:
        while True:
            for found in (await records.getmany(timeout_ms=POLL_MS)).values():
                for record in found:
                    await suspect(record.key, record.value)
