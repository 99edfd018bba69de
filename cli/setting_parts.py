"""Read parts of a setting from the command line."""

from collections.abc import Sequence
from typing import Annotated, TypeVar

import msgspec
import typer

from models.allocations import NUMBERS, Parts, Pins

Record = TypeVar("Record", bound=Parts)

PinOption = Annotated[
    list[str] | None,
    typer.Option("--pin", metavar="PART=VALUE", help=f"Pin a part: {', '.join(NUMBERS)} or model_size; repeatable."),
]
CapOption = Annotated[
    list[str] | None, typer.Option("--cap", metavar="PART=VALUE", help="Cap a part that is a number; repeatable.")
]


def pins_of(texts: Sequence[str] | None) -> Pins:
    """Read pins such as agent_count=3."""
    return _read(texts, Pins, "--pin", (*NUMBERS, "model_size"))


def caps_of(texts: Sequence[str] | None) -> Parts:
    """Read caps such as max_iterations=4."""
    return _read(texts, Parts, "--cap", NUMBERS)


def _read(texts: Sequence[str] | None, kind: type[Record], option: str, known: Sequence[str]) -> Record:
    given: dict[str, str] = {}
    for text in texts or []:
        name, _, value = text.partition("=")
        if name not in known or not value:
            raise typer.BadParameter(f"{option} {text}: give one of {', '.join(known)} and a value, as agent_count=3")
        given[name] = value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(f"{option} {' '.join(texts or [])}: {error}") from None
