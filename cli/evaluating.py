"""`scaling evaluate`: what a policy would have brought."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from agents.evaluate import Evaluation
from agents.past_decisions import Valued
from agents.policies import Policy, parse_policy, read_rules
from cli.laws import JsonOption, wide_console
from cli.output import print_json
from cli.settings_of import StateOption, settings_of
from models.contexts import GLOBAL
from models.errors import SettingsError
from models.laws import Estimate
from streams.decision_log import evaluate_policy

FILE = "@"


def evaluate(  # noqa: PLR0917 - the options of the command
    policy: Annotated[
        str,
        typer.Argument(
            metavar="POLICY",
            help="logged: what was done; greedy: the allocator's choice before exploration; a fixed setting such as "
            "agent_count=3,max_iterations=5, what is left out as chosen; or @FILE.json with a list of rules.",
        ),
    ],
    outcome: Annotated[
        Valued, typer.Option("--outcome", help="What is valued; net: value of a success less the cost, in dollars.")
    ] = Valued.SUCCESS,
    value: Annotated[
        float | None,
        typer.Option(
            "--value", metavar="DOLLARS", help="Of a success, for net; absent: the setting value_of_success.", min=0
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Only what was decided from then on: RFC 3339, or a date in UTC."),
    ] = None,
    context: Annotated[
        str, typer.Option("--context", metavar="CONTEXT", help="Only these tasks, such as project=atlas.")
    ] = GLOBAL,
    test: Annotated[bool, typer.Option("--test/--no-test", help="Whether decisions in A/B tests count.")] = True,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Value a policy from the log of decisions: what it would have brought, without trying it.

    Doubly robust and cross-fitted; beside it the two values by weights alone (SNIPS, IPS) and by the outcome model
    alone. Decisions count in which what was done is what the policy does; where they are worth fewer than 200, there is
    no value. A file of rules is such as [{"context": "complexity_band=high", "setting": {"agent_count": 4}}]: the first
    rule that a task meets decides, and the allocator's choice where none does.

    Example: scaling evaluate agent_count=3,max_iterations=5 --outcome net --value 2
    """
    chosen = policy_of(policy)
    if value is not None and (outcome is not Valued.NET or not math.isfinite(value)):
        raise typer.BadParameter(f"--value {value:g}: give it with --outcome {Valued.NET}, and finite")
    found = evaluate_policy(
        settings_of(state), chosen, outcome, value=value, since=moment(since), context=context, tests=test
    )
    if as_json:
        print_json(found)
        return
    wide = wide_console()
    wide.print(values_table(found))
    for line in remarks(found):
        wide.print(line, markup=False, soft_wrap=True)


def policy_of(text: str) -> Policy:
    """Read a policy, or the file that has its rules.

    Raises:
        SettingsError: It is none; the message names what is wrong.
    """
    if not text.startswith(FILE):
        return parse_policy(text)
    try:
        return read_rules(text, Path(text.removeprefix(FILE)).read_bytes())
    except OSError as error:
        raise SettingsError(f"policy {text} cannot be read: {error.strerror}") from None


def moment(text: str | None) -> datetime | None:
    """Read a time; without a zone it is UTC."""
    if text is None:
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"--since {text}: give a date such as 2026-01-31, or a time in RFC 3339") from None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def values_table(found: Evaluation) -> Table:
    """Show the values beside each other."""
    table = Table(title=f"{found.policy}: {found.outcome}", title_justify="left")
    table.add_column("")
    for name in ("value", "95 % interval"):
        table.add_column(name, justify="right")
    rows: dict[str, Estimate] = {
        "doubly robust": found.found.value,
        "SNIPS": found.found.snips,
        "IPS": found.found.ips,
        "what was done": found.found.logged,
        "difference": found.found.gain,
    }
    for name, each in rows.items():
        table.add_row(name, f"{each.estimate:.4f}", rf"\[{each.lo:.4f}, {each.hi:.4f}]")
    table.add_row("outcome model alone", f"{found.found.modelled:.4f}", "")
    return table


def remarks(found: Evaluation) -> Iterator[str]:
    """Say the value in words, what it rests on, and what to be careful about."""
    yield found.sentence
    values = found.found
    yield (
        f"{values.n:,} decisions about {found.tasks:,} tasks; in {values.matched:,} of them the policy does what was "
        f"done, worth {values.ess:,.0f} of its own."
    )
    left_out = {
        "without a run yet": found.pending,
        "whose run lacks the outcome": found.incomplete,
        "without a propensity": found.without_propensity,
    }
    if any(left_out.values()):
        yield "Left out: " + ", ".join(f"{n:,} {why}" for why, n in left_out.items() if n) + "."
    for note in found.notes:
        yield f"Mind that {note}."
