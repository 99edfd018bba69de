"""Baseline: a plain Faust agent, one event at a time, that keeps the same statistics in an ordinary Faust table."""

import asyncio
import math
import os
import sys
import time
from typing import Any

import faust
import numpy as np
import orjson

from bench.events import CONTEXT_KEYS
from models.contexts import complexity_band, contexts_of
from models.dimensions import CLIP, MASK_BITS
from models.settings import load_settings
from models.topics import RUNS

DIMENSIONS = ("agent_count", "max_iterations", "parallelism_level", "context_tokens", "retry_limit", "model_params_b")
COUNT = int(sys.argv[1])
CELL = np.dtype([("n", "<f8"), ("mean", "<f8", 8), ("comoment", "<f8", (8, 8))])


def outcomes(event: dict[str, Any]) -> tuple[int, Any]:
    """Read the mask and the eight outcome variables of an event."""
    mask = sum(bit for name, bit in MASK_BITS.items() if name in event)
    cost, quality = event.get("total_cost", 0.0), event.get("quality_score", 0.0)
    seconds = event.get("time_to_complete", 1.0)
    return mask, np.array(
        (
            event["success"],
            quality,
            seconds,
            cost,
            math.log(max(seconds, CLIP)),
            math.log(cost) if cost > 0 else 0.0,
            math.log(max(quality, CLIP)),
            math.log(max(cost, CLIP)),
        )
    )


def push(cell: bytes | None, y: Any) -> bytes:  # noqa: ANN401 - a numpy vector
    """Add one event to a cell (Welford)."""
    state = np.zeros(1, dtype=CELL) if cell is None else np.frombuffer(bytearray(cell), dtype=CELL)
    state["n"] += 1
    delta = y - state["mean"][0]
    state["mean"][0] += delta / state["n"][0]
    state["comoment"][0] += np.outer(delta, y - state["mean"][0])
    return state.tobytes()


def main() -> None:
    """Print the CPU seconds that the events cost."""
    settings = load_settings()
    app = faust.App(
        "bench-per-event",
        broker=f"kafka://{settings.kafka}",
        web_enabled=False,
        topic_partitions=1,
        topic_disable_leader=True,
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
    )
    table = app.Table("cells", key_type=bytes, value_type=bytes, partitions=1)
    topic = app.topic(RUNS, value_serializer="raw")
    start = time.process_time()
    seen = 0

    async def observe(stream: Any) -> None:  # noqa: ANN401 - a Faust stream
        nonlocal seen, start
        async for value in stream:
            if seen == 0:
                start = time.process_time()
            event = orjson.loads(value)
            mask, y = outcomes(event)
            keys = {name: event[name] for name in ("project", "task_type", "model")}
            keys["complexity_band"] = complexity_band(event["task_complexity"])
            for context in contexts_of(keys, CONTEXT_KEYS):
                for dimension in DIMENSIONS:
                    key = f"{context}|{dimension}|{event[dimension]}|{mask}".encode()
                    table[key] = push(table.get(key), y)
            seen += 1
            if seen == COUNT:
                await app.producer.flush()
                print(orjson.dumps({"cpu": time.process_time() - start}).decode(), flush=True)
                os._exit(0)

    app.agent(topic)(observe)
    faust.Worker(
        app, loop=asyncio.new_event_loop(), loglevel="WARNING", redirect_stdouts=False, quiet=True, stdout=sys.stderr
    ).execute_from_commandline()


main()
