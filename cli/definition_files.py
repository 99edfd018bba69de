"""Definitions of experiments as people name them: ready-made ones, and files."""

from pathlib import Path
from typing import Any

import msgspec

from agents.definitions import read_definition
from analytics.ready_made import READY_MADE
from models.errors import InvalidExperiment
from models.experiments import Definition

READERS = {".json": msgspec.json.decode, ".toml": msgspec.toml.decode}


def is_file(source: str) -> bool:
    """Tell whether a source is meant as a file."""
    return Path(source).suffix in READERS


def definition_of(source: str) -> Definition:
    """Read a definition: a ready-made one by its name, else a JSON or TOML file.

    Raises:
        InvalidExperiment: There is neither, or the file holds no valid definition.
    """
    if source in READY_MADE:
        return READY_MADE[source]
    if not is_file(source):
        names = ", ".join(READY_MADE)
        raise InvalidExperiment(f"there is no experiment {source}: choose one of {names}, or a .json or .toml file")
    path = Path(source)
    try:
        return read_definition(READERS[path.suffix](path.read_bytes()))
    except OSError as error:
        raise InvalidExperiment(f"{source} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InvalidExperiment(f"{source} cannot be read: {error}") from None


def changed(definition: Definition, changes: dict[str, Any]) -> Definition:
    """Change fields of a definition, and check it again.

    Raises:
        InvalidExperiment: The changed definition breaks a rule.
    """
    return read_definition(msgspec.to_builtins(definition) | changes)
