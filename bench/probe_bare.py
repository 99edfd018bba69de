"""Baseline: read the topic with aiokafka and parse every record with orjson, nothing else."""

import sys
import time

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from models.settings import load_settings
from models.topics import RUNS


async def main(count: int) -> None:
    """Print the CPU seconds that `count` records cost."""
    settings = load_settings()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=settings.fetch_bytes,
        max_poll_records=settings.poll_records,
    )
    await consumer.start()
    consumer.assign([TopicPartition(RUNS, 0)])
    start = time.process_time()
    seen = 0
    while seen < count:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            for record in records:
                orjson.loads(record.value)
            seen += len(records)
    cpu = time.process_time() - start
    await consumer.stop()
    print(orjson.dumps({"cpu": cpu}).decode())


uvloop.run(main(int(sys.argv[1])))
