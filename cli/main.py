"""The `scaling` command."""

import logging
import sys

import typer

from cli import (
    ab,
    allocating,
    comparing,
    demo,
    doctor,
    evaluating,
    experiment,
    experiment_demo,
    experiment_planning,
    explore,
    fitting,
    hypotheses,
    importing,
    laws,
    metrics_table,
    overriding,
    query,
    rebuild,
    rejected,
    settings_table,
    simulating,
    topics,
    up,
    verify,
    worker,
)
from cli.output import say
from models.errors import ScalingError

app = typer.Typer(
    name="scaling",
    help="Learn live, from run-completion events, what more agents, iterations, parallelism, context, model size and "
    "retries are worth.",
    epilog="Exit codes: 0 it worked; 1 an error that the message explains; 2 wrong usage; 3 an import finished with "
    "rejected records, a law differs from its runs, or an experiment from its seals; 4 a demo's intervals did not "
    "cover the truth; 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(demo.demo)
app.command()(up.up)
app.command("import")(importing.import_files)
app.command("explore")(explore.explore_runs)
app.command()(fitting.fit)
app.command("simulate")(simulating.simulate_runs)
app.command()(hypotheses.hypotheses)
app.command()(query.query)
app.command()(allocating.allocate)
app.command()(allocating.portfolio)
app.command()(allocating.advise)
app.command("evaluate")(evaluating.evaluate)
app.command()(rebuild.rebuild)
app.command()(doctor.doctor)
app.command()(settings_table.settings)
app.command()(metrics_table.metrics)
laws.app.command("verify")(verify.verify)
laws.app.command("compare")(comparing.compare)
experiment.app.command("plan")(experiment_planning.plan)
experiment.app.command("suggest")(experiment_planning.suggest)
experiment.app.command("demo")(experiment_demo.demo)
app.add_typer(ab.app, name="ab")
app.add_typer(experiment.app, name="experiment")
app.add_typer(laws.app, name="laws")
app.add_typer(overriding.app, name="override")
app.add_typer(rejected.app, name="rejected")
app.add_typer(topics.app, name="topics")
app.add_typer(worker.app, name="worker")


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
