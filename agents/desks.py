"""Desks: the work of an agent on each owned partition, begun from its tables and dropped with it."""

from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from agents.flush import Flush


class Owned(Protocol):
    """A source partition that this worker owns."""

    @property
    def tables(self) -> Mapping[str, Mapping[bytes, bytes]]:
        """The stored tables of the partition."""

    @property
    def swollen(self) -> bool:
        """Whether the changelogs have grown so far beyond the tables that everything should be written once more."""

    async def write(self, flush: Flush) -> bool:
        """Write a flush, all or nothing; False when the partition is no longer owned."""


class OfOwned(Protocol):
    """The work on one owned partition."""

    owned: Owned


Desk = TypeVar("Desk", bound=OfOwned)


class Desks(Generic[Desk]):
    """The desks of an agent.

    Args:
        partitions: Gives the owned partitions at any moment.
        begin: Begins the work on a partition, from its tables.
    """

    def __init__(self, partitions: Callable[[], Mapping[int, Owned]], begin: Callable[[int, Owned], Desk]) -> None:
        self._partitions = partitions
        self._begin = begin
        self._desks: dict[int, Desk] = {}

    @property
    def known(self) -> Mapping[int, Desk]:
        """The partitions that are being worked on."""
        return self._desks

    def at(self, partition: int) -> Desk | None:
        """Give the desk of a partition, a new one after a change of ownership; None when it is not owned."""
        owned = self._partitions().get(partition)
        desk = self._desks.get(partition)
        if owned is None:
            self._desks.pop(partition, None)
            return None
        if desk is None or desk.owned is not owned:
            desk = self._desks[partition] = self._begin(partition, owned)
        return desk

    def drop_revoked(self) -> None:
        """Forget the desks of partitions that are no longer owned."""
        owned = self._partitions()
        self._desks = {number: desk for number, desk in self._desks.items() if owned.get(number) is desk.owned}
