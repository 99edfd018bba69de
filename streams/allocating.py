"""Ask an allocator: for a setting, a portfolio, or advice to a run that is under way."""

import asyncio

from aiokafka.errors import KafkaError

from agents.allocation_wire import decode_reply, encode_request
from models.allocations import (
    Advice,
    AdviseRequest,
    AllocateRequest,
    Allocation,
    PortfolioAllocation,
    PortfolioRequest,
    Reply,
    Request,
)
from models.errors import InvalidEvent, NotReachable
from models.settings import Settings
from models.topics import ALLOCATE_REPLIES, ALLOCATE_REQUESTS
from streams.exchange import Exchange

PATIENCE = 20.0
"""Seconds that a caller waits for an answer."""


class Allocating(Exchange):
    """A door to the allocators over Kafka; open it once, ask as often as you like, from as many tasks as you like.

    Example:
        async with Allocating(load_settings()) as allocator:
            answer = await allocator.allocate(AllocateRequest("run-17", {"project": "atlas"}, budget=2.0))
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, ALLOCATE_REQUESTS, ALLOCATE_REPLIES)

    async def allocate(self, request: AllocateRequest, patience: float = PATIENCE) -> Allocation:
        """Ask what to give a task.

        Raises:
            NotReachable: No allocator answered within `patience` seconds.
            ScalingError: As `agents.allocator.Allocator.allocate`.
        """
        reply = await self._ask(request, patience)
        if reply.allocation is None:
            raise InvalidEvent("the reply has no allocation: ask again")
        return reply.allocation

    async def share(self, request: PortfolioRequest, patience: float = PATIENCE) -> PortfolioAllocation:
        """Ask what to give a queue of tasks together; raises as `allocate`."""
        reply = await self._ask(request, patience)
        if reply.portfolio is None:
            raise InvalidEvent("the reply has no portfolio: ask again")
        return reply.portfolio

    async def advise(self, request: AdviseRequest, patience: float = PATIENCE) -> Advice:
        """Ask whether another iteration is worth it; raises as `allocate`."""
        reply = await self._ask(request, patience)
        if reply.advice is None:
            raise InvalidEvent("the reply has no advice: ask again")
        return reply.advice

    async def _ask(self, request: Request, patience: float) -> Reply:
        try:
            async with asyncio.timeout(patience):
                record, _ = await self.ask(request.request_id, encode_request(request))
        except (TimeoutError, KafkaError):
            message = f"nobody answered on {ALLOCATE_REPLIES} within {patience:g} s: start scaling worker allocator"
            raise NotReachable(message) from None
        return decode_reply(record.value)
