"""What it costs to see to it that transactions end for their readers, and what is left of them where a broker dies.

`PYTHONPATH=. python bench/transactions.py --deaths 16`

First transactions over four partitions one after the other, by aiokafka's producer and by ours, in turns. Then eight
writers, each of which goes on from what it can read, and dies in the middle of a transaction now and then, beside a
broker that is killed and stopped in turns. At the end every transaction must be there once, and whole: one record in a
partition of its writer's own, three in a topic that all share.
"""

import argparse
import asyncio
import contextlib
import logging
import random
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from deploy.stack import KAFKA, Stack, StackOptions
from models.errors import ScalingError
from models.settings import Settings, load_settings
from streams.kafka_clients import read_compacted
from streams.kafka_security import connection
from streams.transactions import TransactionalProducer

WRITERS = 8
OWN, SHARED, TIMED = "bench.own", "bench.shared", "bench.timed"
PARTITIONS = 4
BESIDE = 3
"""Records of each transaction in the shared topic."""
LIFE_SECONDS = 6.0
PATIENCE = 60.0


def producer_of(settings: Settings, number: int) -> TransactionalProducer:
    """Make the producer of a writer."""
    return TransactionalProducer(settings, f"writer-{number}", own=[TopicPartition(OWN, number)], topics=[SHARED])


async def write(producer: AIOKafkaProducer, number: int, count: int) -> None:
    """Write one transaction."""
    async with producer.transaction():
        await send(producer, number, count, BESIDE)


async def send(producer: AIOKafkaProducer, number: int, count: int, beside: int) -> None:
    """Send the records of one transaction, or the first of them."""
    await producer.send_and_wait(OWN, b"%d" % count, b"writer", partition=number)
    for place in range(beside):
        value = b"%d" % (count * WRITERS + number)
        await producer.send_and_wait(SHARED, value, b"writer", partition=(count + place) % PARTITIONS)


async def numbers(settings: Settings, topic: str, partition: int) -> list[int]:
    """Read what readers of committed records see."""
    return [int(record.value or b"-1") async for record in read_compacted(settings, topic, [partition])]


async def time_transactions(settings: Settings, count: int) -> None:
    """Time transactions one after the other, of both producers in turns."""
    plain = AIOKafkaProducer(**connection(settings), transactional_id="plain-0")
    ours = TransactionalProducer(settings, "timed-0", topics=[TIMED])
    seconds: dict[str, list[float]] = {"aiokafka": [], "ours": []}
    await asyncio.gather(plain.start(), ours.start())
    try:
        for turn in range(8):
            name, producer = ("aiokafka", plain) if turn % 2 else ("ours", ours)
            for _ in range(count):
                begun = time.perf_counter()
                async with producer.transaction():
                    for partition in range(PARTITIONS):
                        await producer.send_and_wait(TIMED, b"timed", partition=partition)
                if turn > 1:  # the first two warm up
                    seconds[name].append(time.perf_counter() - begun)
    finally:
        await asyncio.gather(plain.stop(), ours.stop())
    medians = {name: statistics.median(each) * 1000 for name, each in seconds.items()}
    print(
        f"a transaction, median of {len(seconds['ours'])}: {medians['aiokafka']:.1f} ms, and ours {medians['ours']:.1f}"
    )


async def live(settings: Settings, number: int, stop: asyncio.Event, acknowledged: list[int]) -> None:
    """Write until `stop`, each life from what the last ones left; say where something acknowledged is gone."""
    chance = random.Random(number)  # noqa: S311 - a seed to rerun
    while not stop.is_set():
        producer = producer_of(settings, number)
        with contextlib.suppress(KafkaError, ScalingError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await producer.start()
                count = len(await numbers(settings, OWN, number))
            if count <= acknowledged[number]:
                print(f"  writer {number}: {acknowledged[number] + 1} acknowledged, {count} to be read")
            until = time.monotonic() + chance.expovariate(1 / LIFE_SECONDS)
            while not stop.is_set() and time.monotonic() < until:
                await write(producer, number, count)
                acknowledged[number] = count
                count += 1
            await producer.begin_transaction()
            await send(producer, number, count, 1)
        # It dies in the middle: nothing is aborted, and nobody says goodbye.
        if producer._sender.sender_task is not None:  # noqa: SLF001 - aiokafka has no way to die
            producer._sender.sender_task.cancel()  # noqa: SLF001
        await producer.client.close()
        producer._closed = True  # noqa: SLF001


async def beside_a_dying_broker(stack: Stack, settings: Settings, deaths: int) -> None:
    """Let the writers live beside a broker that is killed and stopped in turns; count what is missing or in excess."""
    stop, acknowledged = asyncio.Event(), [-1] * WRITERS
    broker, chance = stack.supervised(KAFKA), random.Random(0)  # noqa: S311 - a seed to rerun
    async with asyncio.TaskGroup() as writers:
        for number in range(WRITERS):
            writers.create_task(live(settings, number, stop, acknowledged))
        for _ in range(deaths):
            await asyncio.sleep(chance.uniform(3, 6))
            if chance.random() < 0.5:
                broker.kill()
            else:
                await broker.stop()
                await broker.start()
            await asyncio.sleep(8)
        stop.set()
    for number in range(WRITERS):
        async with producer_of(settings, number):
            """What the last life left is ended."""
    shared = Counter[int]()
    for partition in range(PARTITIONS):
        shared.update(await numbers(settings, SHARED, partition))
    wrong = 0
    for number in range(WRITERS):
        own = await numbers(settings, OWN, number)
        wrong += own != list(range(len(own)))
        wrong += len(own) <= acknowledged[number]
        expected = {count * WRITERS + number: BESIDE for count in range(len(own))}
        found = {value: times for value, times in shared.items() if value % WRITERS == number}
        wrong += sum(found.get(key) != expected.get(key) for key in found | expected)
    print(f"{deaths} deaths of the broker, {sum(acknowledged) + WRITERS} transactions acknowledged: {wrong} wrong")


async def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, default=100, help="in a turn")
    parser.add_argument("--deaths", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(
            StackOptions(state=Path(folder), kafka_port=0, clickhouse_port=0, restarts=100_000), load_settings()
        )
        settings = await stack.start(workers=False)
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        try:
            admin = AIOKafkaAdminClient(**connection(settings))
            await admin.start()
            topics = {OWN: WRITERS, SHARED: PARTITIONS, TIMED: PARTITIONS}
            await admin.create_topics([NewTopic(name, count, 1) for name, count in topics.items()])
            await admin.close()
            await time_transactions(settings, options.transactions)
            await beside_a_dying_broker(stack, settings, options.deaths)
        finally:
            await stack.stop()


if __name__ == "__main__":
    asyncio.run(main())
