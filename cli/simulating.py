"""`scaling simulate`: runs of a world whose scaling laws are known."""

import gzip
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Annotated

import orjson
import typer

from analytics.simulation import simulate
from analytics.world import World, confounded_world
from cli.output import print_json
from models.errors import ScalingError


def simulate_runs(
    runs: Annotated[int, typer.Option("--runs", min=1, metavar="N", help="How many runs.")] = 10_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same runs.")] = 1,
    confounded: Annotated[
        bool,
        typer.Option("--confounded", help="Give harder tasks more agents, as people do: turns the plain law round."),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Where to write; .gz compresses. Absent: standard output."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="With -o: print one JSON document that says what was planted.")
    ] = False,
) -> None:
    """Write the completion events of simulated runs as JSON Lines.

    Exit status: 0, or 1 on errors, 2 on wrong usage.

    Example: scaling simulate --runs 20000 -o runs.jsonl.gz
    """
    if as_json and output is None:
        raise typer.BadParameter("--json needs -o FILE: standard output carries the runs")
    world = confounded_world() if confounded else World()
    try:
        with _opened(output) as file:
            file.writelines(orjson.dumps(event) + b"\n" for event in simulate(world, runs, seed))
    except OSError as error:
        if output is None:
            raise
        raise ScalingError(f"{output} cannot be written: {error.strerror}; choose another file") from None
    if as_json:
        print_json({"file": output, "runs": runs, "seed": seed, "confounded": confounded, "planted": world.planted()})


def _opened(output: Path | None) -> IO[bytes] | nullcontext[IO[bytes]]:
    if output is None:
        return nullcontext(sys.stdout.buffer)
    return gzip.open(output, "wb") if output.suffix == ".gz" else output.open("wb")  # type: ignore[return-value]
