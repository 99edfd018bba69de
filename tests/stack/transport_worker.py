"""A worker on the batching transport: `python transport_worker.py KAFKA NAME` copies topic NAME to NAME-seen.

A third argument is how many seconds it takes to restore its partitions, a fourth one its instance id.
"""

import asyncio
import sys
from typing import Any

import faust
from aiokafka import AIOKafkaProducer
from faust.types import TP

from streams.transport import BatchApp, BatchSchema, current_batches

SESSION_SECONDS = 6.0


def create_app(kafka: str, name: str, restoring: str = "0", instance: str = "") -> BatchApp:
    """Copy what is seen, and acknowledge a batch only once its copy has arrived."""
    app = BatchApp(
        name,
        broker=f"kafka://{kafka}",
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=4,
        stream_buffer_maxsize=16,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        broker_commit_interval=0.5,
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=1.5,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=instance or None,
        # Without standbys Faust shares out as aiokafka does.
        table_standby_replicas=0 if instance else 1,
    )

    async def copy(stream: Any) -> None:  # noqa: ANN401 - a Faust stream
        async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
            async for batch, event in current_batches(stream, lambda: app.consumer):
                for value in batch.values:
                    await producer.send(f"{name}-seen", value)
                await producer.flush()
                event.ack()

    async def restore(_app: BatchApp, assigned: set[TP], **_: Any) -> None:  # noqa: ANN401 - a Faust signal
        print(f"assigned {len(assigned)}", flush=True)  # noqa: T201 - for the test
        await asyncio.sleep(float(restoring))

    app.on_partitions_assigned.connect(restore, weak=False)
    app.agent(app.topic(name, schema=BatchSchema(), allow_empty=True), name=f"{name}.copy")(copy)
    return app


if __name__ == "__main__":
    faust.Worker(create_app(*sys.argv[1:]), loglevel="ERROR", redirect_stdouts=False).execute_from_commandline()
