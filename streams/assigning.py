"""Ask the owner of an experiment: for a task's value, which never holds up a run, and with the commands of people."""

import asyncio
import uuid
from typing import Any

import msgspec
from aiokafka.errors import KafkaError

from models.errors import InvalidExperiment, NotReachable
from models.experiments import AmendRequest, AssignRequest, CreateRequest, Reply, Request
from models.settings import Settings
from models.topics import ASSIGN_REPLIES, ASSIGN_REQUESTS
from streams.exchange import Exchange

PATIENCE = 1.0
"""Seconds that a caller waits for an assignment before it runs without one."""

UNAVAILABLE = "unavailable"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Reply).decode


class Assigner(Exchange):
    """Asks for assignments over Kafka; open it once, ask as often as you like, from as many tasks as you like.

    An answer that comes later than the caller waited is void: the caller has gone on without it.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, ASSIGN_REQUESTS, ASSIGN_REPLIES)

    async def assign(
        self,
        experiment_id: str,
        task: dict[str, Any],
        *,
        agent_run_id: str | None = None,
        patience: float = PATIENCE,
    ) -> Reply:
        """Ask for a task's value; the answer comes within `patience` seconds, whatever happens.

        Returns:
            The assignment; or why there is none: refusal "unavailable" where nobody answered in time.
        """
        request = AssignRequest(str(uuid.uuid4()), experiment_id, task, agent_run_id, patience)
        try:
            async with asyncio.timeout(patience):
                reply, waited_ms = await self._ask(request)
        except (TimeoutError, KafkaError):
            waited_ms, reply = 0, None
        if reply is None or waited_ms > patience * 1000:
            message = f"not assigned: unavailable; no answer within {patience:g} s"
            return Reply(request.request_id, experiment_id, refusal=UNAVAILABLE, message=message)
        return reply

    async def command(self, request: Request, seconds: float = 20.0) -> Reply:
        """Send a command and wait for its answer.

        Raises:
            NotReachable: Nobody answered in time.
            InvalidExperiment: The command was refused; the message says why.
        """
        try:
            async with asyncio.timeout(seconds):
                reply, _ = await self._ask(request)
        except (TimeoutError, KafkaError):
            raise NotReachable(
                f"nobody answered on {ASSIGN_REPLIES} within {seconds:g} s: start scaling worker experiments"
            ) from None
        if reply.refusal is not None:
            raise InvalidExperiment(reply.message)
        return reply

    async def _ask(self, request: Request) -> tuple[Reply, int]:
        """Send a request and wait for its reply: with the milliseconds between the two by the broker's clock."""
        definition = isinstance(request, CreateRequest | AmendRequest)
        key = request.definition.experiment_id if definition else request.experiment_id  # type: ignore[union-attr]
        record, waited_ms = await self.ask(request.request_id, _encode(request), key)
        return _decode(record.value), waited_ms
