"""`scaling laws compare`: whether contexts scale alike."""

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from analytics.comparison import Comparison, ContextSlope, compare_scaling_by_context
from cli.laws import JsonOption, read_laws, select, wide_console
from cli.output import print_json, remark
from cli.settings_of import StateOption, settings_of
from models.contexts import GLOBAL, context_pairs
from models.dimensions import Dimension, Outcome
from models.errors import NotEnoughData
from models.laws import Law


def compare(
    dimension: Annotated[Dimension, typer.Option("--dimension", help="What is scaled.")],
    outcome: Annotated[Outcome, typer.Option("--outcome", help="What it buys.")],
    key: Annotated[
        str, typer.Option("--key", metavar="KEY[,KEY...]", help="The keys of the contexts that are compared.")
    ] = "project",
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Compare how contexts scale: their slopes, Cochran's Q that all are equal, and every pair, adjusted by Holm.

    The slope is that of the outcome on ln x (of ln y for time and cost), of the law that speaks in each context. It is
    in units of the outcome: where one exponent holds everywhere, a context whose level is higher has a steeper slope.

    Example: scaling laws compare --dimension agent_count --outcome success --key project
    """
    laws = asyncio.run(read_laws(settings_of(state)))
    chosen = siblings(select(laws, "speaking"), dimension, outcome, key)
    slopes: list[ContextSlope] = []
    left_out: dict[str, str] = {}
    for law in chosen:
        try:
            slopes.append(context_slope(law))
        except NotEnoughData as reason:
            left_out[law.context] = str(reason)
    found = compare_scaling_by_context(slopes)
    if as_json:
        print_json(document(slopes, found, left_out))
        return
    wide = wide_console()
    wide.print(slopes_table(slopes, dimension, outcome))
    wide.print(joint_test(found), markup=False, soft_wrap=True)
    wide.print(pairs_table(found))
    for context, why in left_out.items():
        remark(f"left out: {context}: {why}")


def siblings(laws: Sequence[Law], dimension: Dimension, outcome: Outcome, key: str) -> list[Law]:
    """Choose the laws of contexts of exactly these keys.

    Raises:
        NotEnoughData: There are fewer than two.
    """
    of_both = [law for law in laws if (law.dimension, law.outcome) == (dimension, outcome) and law.context != GLOBAL]
    keys_of = {law.context: ",".join(name for name, _ in context_pairs(law.context)) for law in of_both}
    chosen = [law for law in of_both if keys_of[law.context] == key]
    if len(chosen) < 2:  # noqa: PLR2004 - a comparison
        there = ", ".join(sorted(set(keys_of.values()))) or "none"
        raise NotEnoughData(
            f"{len(chosen)} contexts of --key {key} have a law of {outcome} over {dimension}, a comparison needs 2: "
            f"the keys of contexts with laws are {there}"
        )
    return chosen


def context_slope(law: Law) -> ContextSlope:
    """Take what a comparison needs from a law: its trend, and n and Σ n (ln x - mean)² from its values above zero.

    Raises:
        NotEnoughData: The law has no trend, or values without a number.
    """
    rows = [(row.x, row.n) for row in law.values if row.x is not None and row.x > 0]
    if law.trend is None or not law.trend.se > 0 or not rows:
        reason = law.missing.get("published", "its runs leave no slope with an error")
        raise NotEnoughData(f"law {law.law_id} has no trend to compare: {reason}")
    x, n = np.array(rows).T
    ln_x = np.log(x)
    spread = float(n @ (ln_x - n @ ln_x / n.sum()) ** 2)
    clusters = re.match(r"(\d+) ", law.clusters or "")
    dof = int(clusters[1]) - 1 if clusters else None
    return ContextSlope(law.context, law.trend, int(n.sum()), len(rows), spread, dof)


def document(slopes: Sequence[ContextSlope], found: Comparison, left_out: dict[str, str]) -> dict[str, Any]:
    """Put everything into one document."""
    return {"contexts": slopes, "heterogeneity": found.heterogeneity, "pairs": found.pairs, "left_out": left_out}


def slopes_table(slopes: Sequence[ContextSlope], dimension: Dimension, outcome: Outcome) -> Table:
    """Show the slope of each context."""
    table = Table(title=f"Slopes of {outcome} on ln {dimension}", title_justify="left")
    table.add_column("context", overflow="fold")
    for name in ("n", "values", "slope", "95 % interval"):
        table.add_column(name, justify="right")
    for each in slopes:
        slope = each.slope
        table.add_row(
            escape(each.context),
            f"{each.n:,}",
            str(each.values),
            f"{slope.estimate:.4f}",
            rf"\[{slope.lo:.4f}, {slope.hi:.4f}]",
        )
    return table


def joint_test(found: Comparison) -> str:
    """Say what Cochran's Q found."""
    test = found.heterogeneity
    alike = "differ beyond chance" if test.p <= 0.05 else "do not differ beyond chance"  # noqa: PLR2004 - the usual level
    held = "one variance a run for all contexts" if test.pooled_variance else "each context's own variance"
    return (
        f"The slopes {alike}: Cochran's Q = {test.q:.2f} on {test.dof} degrees of freedom, p = {test.p:.2g}, "
        f"I² = {test.i_squared:.0%} ({held}). Common slope {test.common.estimate:.4f} "
        f"[{test.common.lo:.4f}, {test.common.hi:.4f}]."
    )


def pairs_table(found: Comparison) -> Table:
    """Show the difference of each pair, the surest first."""
    table = Table(title="Differences, first less second", title_justify="left")
    table.add_column("first", overflow="fold")
    table.add_column("second", overflow="fold")
    for name in ("difference", "95 % interval", "p", "p adjusted (Holm)"):
        table.add_column(name, justify="right")
    for pair in sorted(found.pairs, key=lambda pair: pair.p):
        difference = pair.difference
        table.add_row(
            escape(pair.first),
            escape(pair.second),
            f"{difference.estimate:+.4f}",
            rf"\[{difference.lo:+.4f}, {difference.hi:+.4f}]",
            f"{pair.p:.3g}",
            f"{pair.p_adjusted:.3g}",
        )
    return table
