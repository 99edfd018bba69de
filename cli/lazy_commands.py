"""Commands that are imported when they are run: importing all of them takes longer than most of them do."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command


class _Commands(Mapping[str, Any]):
    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - Typer's commands have no public type
        return _command(name, self._places[name])

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - as above
        # That of Mapping would take a KeyError of an import for a command that does not exist.
        return self[name] if name in self._places else default

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def lazily(places: Mapping[str, str]) -> type[TyperGroup]:
    """Make a group whose commands are imported one by one; its help imports them all.

    Args:
        places: By the name of a command, where it is (module:attribute): a function, or a Typer of more commands.
    """

    class Lazy(TyperGroup):
        def __init__(self, **given: Any) -> None:  # noqa: ANN401 - what Typer says of a group
            super().__init__(**given)
            self.commands = _Commands(places)  # type: ignore[assignment]

    return Lazy


def find(place: str) -> Any:  # noqa: ANN401 - whatever is there
    """Import what is at a place, module:attribute."""
    module, attribute = place.split(":")
    return getattr(import_module(module), attribute)


@cache
def _command(name: str, place: str) -> Any:  # noqa: ANN401 - Typer's commands have no public type
    found, around = find(place), typer.Typer(add_completion=False)
    around.callback()(lambda: None)
    if isinstance(found, typer.Typer):
        around.add_typer(found, name=name)
    else:
        around.command(name)(found)
    return get_command(around).commands[name]  # type: ignore[attr-defined]
