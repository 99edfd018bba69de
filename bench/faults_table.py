"""Write the audit table of the fault-injection tests into docs/guarantees.md, with the command that reproduces it."""

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "docs" / "guarantees.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
COLUMNS = (
    *("scenario", "seed", "faults", "published", "accepted", "duplicates", "corrections", "rejected"),
    *("differences", "seconds"),
)
ADDED = COLUMNS[2:]
COMMAND = "`make test-faults` runs them and writes this table."


def table(lines: list[str]) -> str:
    """Turn recorded scenarios into a table, and add them up; of a scenario and seed the last record counts."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for line in lines:
        row = json.loads(line)
        rows[row["scenario"], row["seed"]] = row
    ordered = [rows[key] for key in sorted(rows)]
    total = {"scenario": "**all**", "seed": ""} | {name: sum(row[name] for row in ordered) for name in ADDED}
    shown = [f"| {' | '.join(told(row[name]) for name in COLUMNS)} |" for row in (*ordered, total)]
    return "\n".join([f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *shown])


def told(value: object) -> str:
    """Write a cell: numbers with separators, seeds as they are typed."""
    if isinstance(value, float):
        return f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and value < 10_000_000 else str(value)


def main(recorded: Path) -> None:
    """Replace what stands between the marks.

    Raises:
        SystemExit: The page has no marks, or nothing was recorded.
    """
    lines = [line for line in recorded.read_text(encoding="utf-8").splitlines() if line.strip()]
    page = PAGE.read_text(encoding="utf-8")
    if BEGIN not in page or END not in page or not lines:
        sys.exit(f"{PAGE.name} needs the marks {BEGIN} and {END}, and {recorded} at least one scenario")
    head, _, rest = page.partition(BEGIN)
    made = f"{BEGIN}\n\n{table(lines)}\n\n{COMMAND}\n\n{END}"
    PAGE.write_text(f"{head}{made}{rest.partition(END)[2]}", encoding="utf-8")
    print(f"{len(lines)} scenarios written to {PAGE.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
