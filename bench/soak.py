"""Run a stack for a long time under load and kills: the memory of each process over time, and an audit at the end.

`PYTHONPATH=. python bench/soak.py --minutes 20 --rate 2500 --kill-every 60`

The horizon of duplicates is short, so that what it remembers is full after two minutes: from then on nothing may grow.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import msgspec
import numpy as np
import psutil

from models.errors import ScalingError
from tests.faults.audit import audit
from tests.faults.harness import CLICKHOUSE, KAFKA, WORKERS, UnderFaults, settings_under_faults
from tests.faults.publisher import Mix, Publisher
from tests.faults.scenario import live_rule, record

MIB = 1024**2
WARM_SECONDS = 60.0
"""A process counts from this age on: what it loads at its start is no leak."""
DEDUPE_RUNS = 50_000
REMEMBERED = 20_000
QUARTERS = 4

Sample = tuple[float, int, float, float]
"""Share of the soak that is over, process id, seconds since its start, MiB."""


def memory(pid: int) -> float:
    """Measure the resident memory of a process and its own children, in MiB."""
    process = psutil.Process(pid)
    return float(sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / MIB)


def slope(samples: list[Sample]) -> float:
    """Fit the growth in MiB an hour within the lives of a process; nan where none lasted.

    Each life has a level of its own, so that a restart is no fall.
    """
    lives: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
    for _, pid, age, mib in samples:
        if age >= WARM_SECONDS:
            lives[pid].append((age, mib))
    centred = [np.array(life) - np.mean(life, axis=0) for life in lives.values() if len(life) > 1]
    if not centred:
        return float("nan")
    age, mib = np.concatenate(centred).T
    return float((age @ mib) / (age @ age) * 3600) if age.any() else float("nan")


def quarters(samples: list[Sample]) -> list[float]:
    """Give the median MiB of warm lives in each quarter of the soak; nan where there was none."""
    found: list[list[float]] = [[] for _ in range(QUARTERS)]
    for over, _, age, mib in samples:
        if age >= WARM_SECONDS:
            found[min(int(over * QUARTERS), QUARTERS - 1)].append(mib)
    return [float(np.median(each)) if each else float("nan") for each in found]


def show(samples: dict[str, list[Sample]]) -> None:
    """Print the memory of every process."""
    heads = "".join(f"{f'quarter {number + 1}':>11}" for number in range(QUARTERS))
    print(f"{'process':>12} {'lives':>6}{heads} {'most MiB':>10} {'MiB an hour':>12}")
    for name, found in samples.items():
        lives = len({pid for _, pid, _, _ in found})
        told = "".join(f"{mib:>11.0f}" for mib in quarters(found))
        most = max(mib for *_, mib in found)
        print(f"{name:>12} {lives:>6}{told} {most:>10.0f} {slope(found):>12.1f}", flush=True)


async def watch(stack: UnderFaults, samples: dict[str, list[Sample]], every: float, seconds: float) -> None:
    """Sample the memory of every process until cancelled."""
    begin = time.monotonic()
    while True:
        over = (time.monotonic() - begin) / seconds
        for name in (*WORKERS, KAFKA, CLICKHOUSE):
            with contextlib.suppress(ScalingError, psutil.Error):
                pid = stack.process(name).pid
                samples[name].append((over, pid, time.time() - psutil.Process(pid).create_time(), memory(pid)))
        await asyncio.sleep(every)


async def measure(given: argparse.Namespace) -> int:
    """Run the soak; give the number of differences that the audit finds."""
    chance = random.Random(given.seed)  # noqa: S311 - a seed to rerun
    samples: dict[str, list[Sample]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="scaling-soak-") as folder:
        stack = UnderFaults(Path(folder), settings_under_faults().model_copy(update={"dedupe_runs": DEDUPE_RUNS}))
        try:
            await stack.start()
            mix = Mix(0.02, 0.01, 0.005, 0, 0)
            publisher = Publisher(stack.settings, given.seed, given.rate, mix, REMEMBERED)
            stop = asyncio.Event()
            await publisher.start()
            publishing = asyncio.create_task(publisher.publish_until(stop))
            watching = asyncio.create_task(watch(stack, samples, given.sample_every, given.minutes * 60))
            start, kills = time.monotonic(), 0
            while (time.monotonic() - start) < given.minutes * 60:
                await asyncio.sleep(given.kill_every)
                victim = chance.choice((*WORKERS, CLICKHOUSE, KAFKA))
                await stack.kill(victim)
                kills += 1
                sent = publisher.ledger.records
                print(f"{time.monotonic() - start:7.0f} s  kill -9 {victim}, {sent:,} published", flush=True)
            stop.set()
            await publishing
            await publisher.finish()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            show(samples)
            if given.samples:
                given.samples.write_bytes(msgspec.json.encode(samples))
            findings = await audit(stack.settings, publisher.ledger, stack.stop_workers, live=live_rule(), laws=4)
            record(f"soak of {given.minutes:g} min", given.seed, kills, findings, time.monotonic() - start)
        finally:
            await stack.stop()
    return len(findings.differences)


def main() -> None:
    """Read the arguments, and fail where something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--rate", type=float, default=2500, help="records a second: half of what the machine sustains")
    parser.add_argument("--kill-every", type=float, default=60, help="seconds between kills")
    parser.add_argument("--sample-every", type=float, default=5, help="seconds between samples of memory")
    parser.add_argument("--samples", type=Path, metavar="FILE", help="where all samples go, as JSON")
    parser.add_argument("--seed", type=int, default=20261202)
    sys.exit(1 if asyncio.run(measure(parser.parse_args())) else 0)


if __name__ == "__main__":
    main()
