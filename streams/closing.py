"""Close TLS connections without waiting long for the broker's goodbye.

A TLS connection ends once both sides have said so. Kafka reads no goodbye that came in while it was busy with a request
of the same connection: asyncio and uvloop then wait 30 seconds for its answer, for each connection, and aiokafka 0.14
has no setting for it. Here a connection that its broker leaves open is aborted after a second: all that a client wants
to know of the broker, it has waited for before it closes.
"""

import asyncio
from typing import Any

from aiokafka.conn import AIOKafkaConnection

GOODBYE_SECONDS = 1.0
"""More than the half second that a fetch without records keeps a broker busy."""

_close = AIOKafkaConnection.close


def _close_soon(self: Any, reason: Any = None, exc: Any = None) -> Any:  # noqa: ANN401 - aiokafka's
    writer = self._writer
    closed: asyncio.Future[None] | None = _close(self, reason, exc)
    if writer is not None and closed is not None and not closed.done():
        giving_up = self._loop.call_later(GOODBYE_SECONDS, writer.transport.abort)
        closed.add_done_callback(lambda _: giving_up.cancel())
    return closed


def close_soon() -> None:
    """Let every connection of this process be closed within GOODBYE_SECONDS."""
    AIOKafkaConnection.close = _close_soon
