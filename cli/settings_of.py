"""Which deployment a command talks to: the settings given, or the embedded stack that runs beside it."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.stack import running_stack
from models.errors import StackError
from models.settings import Settings, load_settings

DEFAULT_STATE = Path(".scaling")
ADDRESSES = {"kafka", "clickhouse"}

StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        help="State folder of the embedded stack to talk to. Absent: the addresses in the environment or scaling.toml, "
        "else the stack that runs on .scaling, else the default addresses.",
    ),
]


def settings_of(state: Path | None = None) -> Settings:
    """Read the settings, and take the addresses of an embedded stack where they are not given.

    Args:
        state: The state folder of a stack that must be running. Absent: an address that the environment or
            scaling.toml gives wins over the stack that may run on .scaling; the two are never mixed.

    Raises:
        SettingsError: A setting has a wrong value.
        StackError: No stack runs on the state folder.
    """
    settings = load_settings()
    found = running_stack(state or DEFAULT_STATE)
    if state is not None and found is None:
        raise StackError(f"no stack runs on {state}: start one with scaling up --state {state}, or leave --state out")
    if found is None or (state is None and ADDRESSES & settings.model_fields_set):
        return settings
    return load_settings(**found)
