"""Who does something, and why: options of the commands whose doings are kept."""

import getpass
from typing import Annotated

import typer

ByOption = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who does this; absent: the user's name.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept.")]


def who(by: str | None) -> str:
    """Give the name that was given, else the user's."""
    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
