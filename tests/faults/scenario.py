"""A scenario: a long-lived stack, a publisher that goes on through all faults, and the audit at the end."""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from tests.faults.audit import Findings, audit
from tests.faults.harness import UnderFaults
from tests.faults.publisher import Mix, Publisher
from tests.faults.raw_columns import Which
from tests.faults.schedule import Fault

TABLE = "SCALING_FAULT_TABLE"
"""Names a file to which every scenario adds its row, one JSON object a line."""
LIVE = "SCALING_FAULT_LIVE"
"""Which event of a run live laws promise to count: `newest`, or `first` for a version that takes nothing out."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the audit table."""

    scenario: str
    seed: int
    faults: int
    published: int
    accepted: int
    duplicates: int
    corrections: int
    rejected: int
    differences: int
    seconds: float


def live_rule() -> Which:
    """Read which event of a run the live laws must count."""
    return "first" if os.environ.get(LIVE) == "first" else "newest"


async def run_scenario(
    name: str,
    state: Path,
    seed: int,
    faults: Sequence[Fault],
    *,
    rate: float = 300,
    mix: Mix | None = None,
    laws: int = 6,
) -> Findings:
    """Publish through all faults, then audit; print and record the row.

    Args:
        name: Of the scenario.
        state: A folder of its own.
        seed: Of the records, and of the faults if they were drawn; named where something differs.
        faults: One after another; a fault may begin while the stack still suffers from the one before.
        rate: Records a second besides those of the faults.
        mix: What they are.
        laws: How many laws of each tier are fitted anew.
    """
    start = time.monotonic()
    print(f"{name}, seed {seed}: {len(faults)} faults", flush=True)  # noqa: T201
    stack = UnderFaults(state)
    try:
        await stack.start()
        publisher = Publisher(stack.settings, seed, rate, mix)
        await publisher.start()
        stop = asyncio.Event()
        publishing = asyncio.create_task(publisher.publish_until(stop))
        for fault in faults:
            await asyncio.sleep(fault.gap)
            print(f"{time.monotonic() - start:7.1f} s  {fault.told}", flush=True)  # noqa: T201
            await fault.run(stack, publisher)
            if publishing.done():
                break
        stop.set()
        await publishing
        await publisher.finish()
        findings = await audit(
            stack.settings, publisher.ledger, stack.stop_workers, live=live_rule(), laws=laws, seed=seed
        )
    finally:
        await stack.stop()
    record(name, seed, len(faults), findings, time.monotonic() - start)
    return findings


def record(name: str, seed: int, faults: int, findings: Findings, seconds: float) -> None:
    """Print a row of the audit table, and add it to the file that SCALING_FAULT_TABLE names."""
    row = Row(
        name,
        seed,
        faults,
        findings.published,
        findings.accepted,
        findings.duplicates,
        findings.corrections,
        findings.rejected,
        len(findings.differences),
        round(seconds, 1),
    )
    print(f"{asdict(row)}\n  compared: {dict(findings.checked)}", flush=True)  # noqa: T201
    for difference in findings.differences:
        print(f"  DIFFERS (seed {seed}): {difference}", flush=True)  # noqa: T201
    if os.environ.get(TABLE):
        with Path(os.environ[TABLE]).open("ab") as file:
            file.write(msgspec.json.encode(asdict(row)) + b"\n")
