"""The `scaling` command."""

import logging
import sys

import typer

from cli.lazy_commands import lazily
from cli.output import say
from models.errors import ScalingError

COMMANDS = {
    "demo": "cli.demo:demo",
    "up": "cli.up:up",
    "import": "cli.importing:import_files",
    "explore": "cli.explore:explore_runs",
    "fit": "cli.fitting:fit",
    "simulate": "cli.simulating:simulate_runs",
    "hypotheses": "cli.hypotheses:hypotheses",
    "query": "cli.query:query",
    "allocate": "cli.allocating:allocate",
    "portfolio": "cli.allocating:portfolio",
    "advise": "cli.allocating:advise",
    "evaluate": "cli.evaluating:evaluate",
    "rebuild": "cli.rebuild:rebuild",
    "doctor": "cli.doctor:doctor",
    "settings": "cli.settings_table:settings",
    "metrics": "cli.metrics_table:metrics",
    "ab": "cli.ab:app",
    "experiment": "cli.experiment_commands:app",
    "laws": "cli.law_commands:app",
    "override": "cli.overriding:app",
    "rejected": "cli.rejected:app",
    "topics": "cli.topics:app",
    "worker": "cli.worker:app",
}

app = typer.Typer(
    cls=lazily(COMMANDS),
    name="scaling",
    help="Learn live, from run-completion events, what more agents, iterations, parallelism, context, model size and "
    "retries are worth.",
    epilog="Exit codes: 0 it worked; 1 an error that the message explains; 2 wrong usage; 3 an import finished with "
    "rejected records, a law differs from its runs, or an experiment from its seals; 4 a demo's intervals did not "
    "cover the truth; 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def scaling() -> None:
    """See the help of the application."""


def main() -> None:
    """Run the command; an error of ours is one sentence and exit status 1."""
    # What the clients warn about while they try again is not for people; workers log it all the same.
    for client in ("aiokafka", "clickhouse_connect"):
        logging.getLogger(client).addHandler(logging.NullHandler())
    try:
        app()
    except ScalingError as error:
        say(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
