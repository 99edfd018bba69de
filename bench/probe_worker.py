"""The stats worker as it runs in production, from ready to everything committed; then its laws are checked."""

import asyncio
import os
import sys
import time
from typing import Any

import orjson
import uvloop
from faust.types import TP

from agents.observer import BARRIER, CUT
from agents.raw_laws import RawRuns
from agents.refit import Refitter
from analytics.equality import compare_laws
from bench.events import events
from models.settings import Settings, load_settings
from models.topics import CELLS_TABLE, RUNS
from streams.ledger import Ledger
from streams.stats_app import create_stats_app
from streams.worker import configure_logging, run_worker


async def check(settings: Settings, count: int) -> dict[str, float]:
    """Refit all laws from the stored cells and compare them with fits over the raw rows."""
    ledger = Ledger(settings)
    await ledger.take(1, [0])
    cells = ledger.owned[0].tables[CELLS_TABLE]
    refitter = Refitter(settings)
    for key, value in cells.items():
        if not key.endswith(CUT.encode()):
            refitter.stage(b"cell|" + key, value)
    refitter.stage(f"{BARRIER}|0".encode(), cells[f"0|{CUT}".encode()])
    start = time.process_time()
    laws = refitter.fit(refitter.snapshot())
    refit = time.process_time() - start
    await ledger.release()
    raw = RawRuns(settings)
    raw.add(list(events(count, seed=7)))
    expected = {law.law_id: law for law in raw.laws()}
    differences = sum(len(compare_laws(law, expected[law.law_id])) for law in laws) + abs(len(laws) - len(expected))
    return {
        "refit": refit,
        "laws": len(laws),
        "contexts": len({law.context for law in laws}),
        "cells": len(cells),
        "differences": differences,
    }


def main(count: int) -> None:
    """Print the CPU seconds that `count` records cost, and the check's figures."""
    settings = load_settings()

    def create(settings: Settings) -> Any:  # noqa: ANN401 - a Faust app
        app = create_stats_app(settings, refit=False)

        async def measure(app: Any) -> None:  # noqa: ANN401 - a Faust app
            start = time.process_time()
            while (app.consumer._committed_offset.get(TP(RUNS, 0)) or 0) < count:  # noqa: ASYNC110, SLF001
                await asyncio.sleep(0.05)
            cpu = time.process_time() - start
            figures = await asyncio.to_thread(uvloop.run, check(settings, count))
            print(orjson.dumps({"cpu": cpu} | figures).decode(), flush=True)
            os._exit(0)

        app.task(measure)
        return app

    configure_logging(settings)
    run_worker(create, settings)


main(int(sys.argv[1]))
