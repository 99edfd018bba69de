"""ClickHouse is away for two minutes under load: laws go on, nothing is lost, and the archive catches up.

`PYTHONPATH=. python bench/outage.py --rate 5000 --down 120`
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from cli.laws import read_laws
from models.topics import ARCHIVE_APP
from tests.faults.audit import audit, lags
from tests.faults.harness import CLICKHOUSE, UnderFaults, settings_under_faults
from tests.faults.publisher import Publisher
from tests.faults.scenario import live_rule, record

LAW = "global|agent_count|success|live"
SEED = 20261201


async def show(stack: UnderFaults, publisher: Publisher, since: float, state: str) -> int:
    """Print a line of the course; give the archive's lag."""
    behind = sum((await lags(stack.settings, ARCHIVE_APP)).values())
    seen = next((law.n for law in await read_laws(stack.settings) if law.law_id == LAW), 0)
    sent = publisher.ledger.records
    print(f"{time.monotonic() - since:7.1f} {state:>10} {sent:>10,} {seen:>12,} {behind:>12,}", flush=True)
    return behind


async def measure(rate: float, before: float, down: float, every: float) -> int:
    """Publish before, during and after the outage; give the number of differences that the audit finds."""
    with tempfile.TemporaryDirectory(prefix="scaling-outage-") as folder:
        stack = UnderFaults(Path(folder), settings_under_faults())
        try:
            await stack.start()
            publisher, stop = Publisher(stack.settings, SEED, rate), asyncio.Event()
            await publisher.start()
            publishing = asyncio.create_task(publisher.publish_until(stop))
            start = time.monotonic()
            print(f"{'seconds':>7} {'ClickHouse':>10} {'published':>10} {'runs in law':>12} {'archive lag':>12}")

            async def course(seconds: float, state: str) -> None:
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    await show(stack, publisher, start, state)
                    await asyncio.sleep(every)

            await course(before, "up")
            async with stack.down(CLICKHOUSE):
                await course(down, "down")
            back = time.monotonic()
            # Caught up: no more behind than a few seconds of what is being published.
            while await show(stack, publisher, start, "back") > 3 * rate:  # noqa: ASYNC110 - Kafka is asked
                await asyncio.sleep(1)
            print(f"caught up {time.monotonic() - back:.1f} s after ClickHouse came back, at {rate:.0f} events/s")
            stop.set()
            await publishing
            await publisher.finish()
            findings = await audit(stack.settings, publisher.ledger, stack.stop_workers, live=live_rule(), laws=2)
            record("ClickHouse away under load", SEED, 1, findings, time.monotonic() - start)
        finally:
            await stack.stop()
    return len(findings.differences)


def main() -> None:
    """Read the arguments, and fail where something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=5000, help="records a second")
    parser.add_argument("--before", type=float, default=15, help="seconds before the outage")
    parser.add_argument("--down", type=float, default=120, help="seconds of the outage")
    parser.add_argument("--every", type=float, default=5, help="seconds between lines")
    given = parser.parse_args()
    sys.exit(1 if asyncio.run(measure(given.rate, given.before, given.down, given.every)) else 0)


if __name__ == "__main__":
    main()
