"""What is published already: laws are numbered on from it, and one that says nothing new is not published again."""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import msgspec
import xxhash

from agents.audit import TIER, AuditHeading, expired
from agents.joint_audit import expired_jointly
from models.joint_laws import LawRecord, is_joint, read_record
from models.laws import context_of

DIGITS = 9
NONE: Mapping[str, str] = MappingProxyType({})
ROUNDING = 1e-13
"""Sums in another order differ by this much around zero; a law is new where a digit that means something is."""


class Numbered(msgspec.Struct):
    """What every record of a law has, of whatever schema version."""

    law_id: str
    version: int
    epoch: int = 1
    epoch_since: str | None = None


class PublishedLaws:
    """The audited laws on scaling.laws: the version and the content of each."""

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}
        self._contents: dict[str, int] = {}
        self._by_context: defaultdict[str, set[str]] = defaultdict(set)
        self._epochs: dict[str, tuple[int, str | None]] = {}

    def epoch(self, identifier: str, since: str | None) -> int:
        """Number the epoch of a law that began at `since`: the published one if it is that, else the next.

        None is the beginning of the runs: the first epoch, or a later one where a drift has turned out to be none.
        """
        number, began = self._epochs.get(identifier, (1, None))
        return number if began == since else number + 1

    @property
    def contexts(self) -> list[str]:
        """The contexts that have laws which are not expired."""
        return sorted(context for context, laws in self._by_context.items() if laws)

    def take(self, key: str, value: bytes | None) -> LawRecord | None:
        """Take in one record of the topic, and give the audited law that it holds, if it holds one.

        A law that cannot be read any more keeps its numbers alone.

        Raises:
            msgspec.MsgspecError: The record is no law of any version.
        """
        if not key.endswith(f"|{TIER}"):
            return None
        if value is None:
            self._contents.pop(key, None)
            self._by_context[context_of(key)].discard(key)
            return None
        try:
            law = read_record(key, value)
        except msgspec.ValidationError:
            known = msgspec.json.decode(value, type=Numbered)
            self._versions[known.law_id] = known.version
            self._epochs[known.law_id] = known.epoch, known.epoch_since
            return None
        self.confirm([law])
        return law

    def reserve(self, key: str, value: bytes | None) -> None:
        """Give no law the number of a record that was written, whether it was committed or not.

        Raises:
            msgspec.MsgspecError: The record is no law of any version.
        """
        if key.endswith(f"|{TIER}") and value is not None:
            version = msgspec.json.decode(value, type=Numbered).version
            self._versions[key] = max(version, self._versions.get(key, 0))

    def withdrawals(
        self,
        heading: AuditHeading,
        given: Container[str],
        drifts: Mapping[str, str] = NONE,
        reason: str | None = None,
        *,
        missing: Mapping[str, str] = NONE,
    ) -> list[LawRecord]:
        """Write the records that withdraw the laws of a context which it no longer gives.

        Args:
            heading: The context, and what the records say besides.
            given: Ids of the laws that it gives.
            drifts: By law id: since when the runs are of the law's epoch, where it has drifted.
            reason: Why; absent: no run of a law's epoch carries its dimension and its outcome.
            missing: By law id: the law's own reason, where it has one.
        """
        gone = sorted(name for name in self._by_context.get(heading.context, ()) if name not in given)
        began = {name: drifts.get(name) for name in gone}
        return [
            (expired_jointly if is_joint(name) else expired)(
                name, replace(heading, epoch=self.epoch(name, since), since=since), missing.get(name, reason)
            )
            for name, since in began.items()
        ]

    def renew(self, laws: Iterable[LawRecord]) -> list[LawRecord]:
        """Number the laws that say something new."""
        return [
            msgspec.structs.replace(law, version=self._versions.get(law.law_id, 0) + 1)
            for law in laws
            if content(law) != self._contents.get(law.law_id)
        ]

    def confirm(self, laws: Iterable[LawRecord]) -> None:
        """Remember laws that have been published."""
        for law in laws:
            self._versions[law.law_id] = law.version
            self._contents[law.law_id] = content(law)
            self._epochs[law.law_id] = law.epoch, law.epoch_since
            known = self._by_context[law.context]
            if law.status == "expired":
                known.discard(law.law_id)
            else:
                known.add(law.law_id)


def content(law: LawRecord) -> int:
    """Hash what a law says, to nine digits; when it was fitted, on what and as which version is left out."""
    said = msgspec.structs.replace(law, version=0, fitted_at="", lineage={})
    return xxhash.xxh64_intdigest(msgspec.json.encode(_rounded(msgspec.to_builtins(said))))


def _rounded(part: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(part, dict):
        return {name: _rounded(each) for name, each in part.items()}
    if isinstance(part, list):
        return [_rounded(each) for each in part]
    if isinstance(part, float):
        return 0.0 if abs(part) < ROUNDING else float(f"{part:.{DIGITS}g}")
    return part
