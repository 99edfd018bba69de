"""A finding of the doctor."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, whether it is well, and what was found or what to do."""

    name: str
    ok: bool
    message: str
