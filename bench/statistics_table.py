"""Write the figures of the statistics tests into docs/statistics.md, beside their thresholds."""

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "docs" / "statistics.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def table(lines: list[str]) -> str:
    """Turn recorded figures into a table, in the order of their tests."""
    figures = [json.loads(line) for line in lines if line.strip()]
    figures.sort(key=lambda figure: (order(figure["test"]), figure["figure"]))
    rows = ["| " + " | ".join(row(each)) + " |" for each in figures]
    return "\n".join(
        ["| test | figure | measured | threshold | simulations | for comparison |", "|---|---|---|---|---|---|", *rows]
    )


def row(figure: dict[str, Any]) -> tuple[str, ...]:
    """Write one figure's columns."""
    value, runs = f"{figure['value']:.4g}", f"{figure['runs']:,}"
    return figure["test"], told(figure["figure"]), value, told(figure["threshold"]), runs, told(figure["reference"])


def told(text: str) -> str:
    """Write text so that it stays in its column."""
    return text.replace("|", r"\|")


def order(test: str) -> tuple[int, str]:
    """Sort T2 before T10, and tests without a number last."""
    digits = "".join(character for character in test if character.isdigit())
    return (int(digits) if test.startswith("T") and digits else 1000, test)


def main(recorded: Path) -> None:
    """Replace what stands between the marks.

    Raises:
        SystemExit: The page has no marks, or nothing was recorded.
    """
    lines = recorded.read_text(encoding="utf-8").splitlines()
    page = PAGE.read_text(encoding="utf-8")
    if BEGIN not in page or END not in page or not lines:
        sys.exit(f"{PAGE.name} needs the marks {BEGIN} and {END}, and {recorded} at least one figure")
    head, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n{table(lines)}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    print(f"{len(lines)} figures written to {PAGE.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
