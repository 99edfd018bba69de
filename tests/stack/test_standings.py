"""Where the laws stand is known whatever transactions hide: no number is given twice."""

from collections.abc import Callable
from itertools import chain

import pytest

from models.laws import Law
from models.settings import Settings
from models.topics import LAWS
from streams.law_topic import encode, law_producer, publish_laws
from streams.refitter import read_standings

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="session")]


async def versions(settings: Settings, context: str) -> list[int]:
    """Read the versions that the next laws of a context are numbered from."""
    standing = chain.from_iterable((await read_standings(settings)).values())
    return [law.version for law in standing if law.law_id.startswith(context)]


async def test_laws_behind_a_transaction_that_is_not_over_count(stack: Settings, make_law: Callable[..., Law]) -> None:
    """A committed law is out of sight while an earlier transaction hangs, and one without its end marker is, too."""
    context = "project=standings"
    producers = [law_producer(stack, f"standings-{n}") for n in range(2)]
    hanging, other = producers
    for producer in producers:
        await producer.start()
    try:
        await publish_laws(other, [make_law(context=context, version=6)], "")
        unseen = make_law(context=context, version=8)
        await hanging.begin_transaction()
        await hanging.send_and_wait(LAWS, encode(unseen), unseen.law_id.encode(), partition=0)
        assert await versions(stack, context) == [8]
        await hanging.abort_transaction()
        await hanging.begin_transaction()
        await hanging.send_and_wait(LAWS, None, b"project=elsewhere|agent_count|success|live", partition=0)
        await publish_laws(other, [make_law(context=context, version=9)], "")
        assert await versions(stack, context) == [9]
        await hanging.abort_transaction()
    finally:
        for producer in producers:
            await producer.stop()
