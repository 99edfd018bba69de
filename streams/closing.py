"""Close Kafka's clients in time and to the end, whatever state their broker is in.

A TLS connection ends once both sides have said so. Kafka reads no goodbye that came in while it was busy with a request
of the same connection: asyncio and uvloop then wait 30 seconds for its answer, for each connection, and aiokafka 0.14
has no setting for it. Here a connection that its broker leaves open is aborted after a second: all that a client wants
to know of the broker, it has waited for before it closes.

A consumer of aiokafka 0.14 that is stopped while a fetch of its waits to be tried again raises the cancellation of that
fetch, and leaves the rest of itself open: whoever stops it seems to be cancelled himself, and ends in the middle of his
own cleaning up. Here a consumer that is stopped waits for its fetches, and raises nothing of theirs.
"""

import asyncio
import contextlib
from typing import Any

from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.errors import KafkaError

GOODBYE_SECONDS = 1.0
"""More than the half second that a fetch without records keeps a broker busy."""

_close = AIOKafkaConnection.close
_close_fetcher = Fetcher.close


def _close_soon(self: Any, reason: Any = None, exc: Any = None) -> Any:  # noqa: ANN401 - aiokafka's
    writer = self._writer
    closed: asyncio.Future[None] | None = _close(self, reason, exc)
    if writer is not None and closed is not None and not closed.done():
        giving_up = self._loop.call_later(GOODBYE_SECONDS, writer.transport.abort)
        closed.add_done_callback(lambda _: giving_up.cancel())
    return closed


async def _close_fetcher_whole(self: Any) -> None:  # noqa: ANN401 - aiokafka's
    # The first of them starts the others: it ends before they are counted.
    for fetches in ([self._fetch_task], self._pending_tasks):
        for fetch in list(fetches):
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)
    self._pending_tasks.clear()
    # What ended the first of them was raised to whoever asked for records.
    with contextlib.suppress(KafkaError):
        await _close_fetcher(self)


def close_to_the_end() -> None:
    """Let every connection of this process be closed within GOODBYE_SECONDS, and every consumer be stopped whole."""
    AIOKafkaConnection.close = _close_soon
    Fetcher.close = _close_fetcher_whole
