"""The `scaling` command."""

import sys

import typer

from cli import worker
from models.errors import ScalingError

app = typer.Typer(
    name="scaling",
    help="Learn live, from run-completion events, what more agents, iterations, parallelism, context, model size and "
    "retries are worth.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(worker.app, name="worker")


def main() -> None:
    """Run the command; an error of ours is one sentence and exit status 1."""
    try:
        app()
    except ScalingError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
