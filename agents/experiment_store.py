"""The state of one partition's experiments in memory, and what of it waits to be written."""

from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from agents.definitions import assignment_mac, sealed_truly
from agents.experiment_records import changed_fields, difference
from agents.flush import Flush, Record
from agents.trial import Trial
from models.experiments import Assignment, Draft, Finding, Notes, Result, Sealed, Status, StatusRecord
from models.topics import ASSIGNMENTS_TABLE, EXPERIMENTS_TABLE

MOST_UNPROVEN = 5000

log = structlog.get_logger(__name__)
encode = msgspec.json.Encoder().encode


class ExperimentStore:
    """Drafts and trials by experiment; every change is kept for the next flush.

    Args:
        secret: What seals and tokens are checked with.
    """

    def __init__(self, secret: str) -> None:
        self.drafts: dict[str, Draft] = {}
        self.versions: dict[str, list[Trial]] = {}
        self._secret = secret
        self._tables: dict[str, dict[bytes, bytes | None]] = {EXPERIMENTS_TABLE: {}, ASSIGNMENTS_TABLE: {}}
        self._records: list[Record] = []

    @property
    def trials(self) -> list[Trial]:
        """List the versions of all experiments."""
        return [trial for versions in self.versions.values() for trial in versions]

    def load(self, tables: Mapping[str, Mapping[bytes, bytes]]) -> None:
        """Take up stored state. What does not bear this deployment's seal or MAC is not believed, and noted."""
        for name, value in sorted(tables[EXPERIMENTS_TABLE].items()):
            experiment, _, kind = name.decode().split("|")
            if kind == "draft":
                self.drafts[experiment] = msgspec.json.decode(value, type=Draft)
            elif kind == "definition":
                self._load_version(name.decode(), value, tables[EXPERIMENTS_TABLE])
        for versions in self.versions.values():
            versions.sort(key=lambda trial: trial.sealed.version)
        for name, value in tables[ASSIGNMENTS_TABLE].items():
            assignment = msgspec.json.decode(value, type=Assignment)
            trial = self.trial(assignment.experiment_id, assignment.version)
            if trial is None:
                continue
            if assignment_mac(assignment, self._secret) != assignment.mac:
                self._suspect(trial, f"assignment {name.decode()} was not made by this deployment")
            else:
                trial.put(assignment)

    def trial(self, experiment: str, number: int) -> Trial | None:
        """Give a version of an experiment, or None where it is not known."""
        return next((each for each in self.versions.get(experiment, ()) if each.sealed.version == number), None)

    def publish(self, record: Record) -> None:
        """Send a record out with the next flush."""
        self._records.append(record)

    def keep_draft(self, draft: Draft) -> None:
        """Keep a draft, or replace it."""
        name = draft.definition.experiment_id
        self.drafts[name] = draft
        self._tables[EXPERIMENTS_TABLE][f"{name}|0|draft".encode()] = encode(draft)

    def drop_draft(self, name: str) -> None:
        """Forget a draft."""
        del self.drafts[name]
        self._tables[EXPERIMENTS_TABLE][f"{name}|0|draft".encode()] = None

    def put(self, trial: Trial, assignment: Assignment) -> None:
        """Keep an assignment of a trial, new or changed."""
        trial.put(assignment)
        name = f"{assignment.experiment_id}|{assignment.assignment_id}".encode()
        self._tables[ASSIGNMENTS_TABLE][name] = encode(assignment)

    def keep(self, trial: Trial, kind: str, record: msgspec.Struct) -> None:
        """Keep a record of a trial: definition, status, result, notes or finding."""
        self._tables[EXPERIMENTS_TABLE][f"{trial.name}|{kind}".encode()] = encode(record)

    def set_status(self, trial: Trial, status: StatusRecord) -> None:
        """Give a trial a new status."""
        trial.status = status
        trial.dirty = True
        self.keep(trial, "status", status)
        log.info("experiment", experiment=trial.name, status=status.status.value, reason=status.reason)

    def note_unproven(self, trial: Trial, run: str, reason: str) -> None:
        """Remember a run that named the experiment without a valid token; the first 5,000 of them."""
        known = trial.notes.unproven
        if run in known or len(known) >= MOST_UNPROVEN:
            return
        self.set_notes(trial, replace(trial.notes, unproven={**known, run: reason}))

    def suspect(self, key: str, found: bytes | None) -> bool:
        """Compare a record of scaling.experiments with what was written; a foreign definition is noted and undone.

        Returns:
            Whether it was foreign.
        """
        experiment, number, kind = (*key.split("|"), "", "")[:3]
        trial = self.trial(experiment, int(number)) if number.isdecimal() else None
        if trial is None or kind != "definition" or found == encode(trial.sealed):
            return False
        what = f"version {number}: {difference(trial.sealed, found)}"
        if what not in trial.notes.tampering:
            self._suspect(trial, what)
            self.keep(trial, "definition", trial.sealed)
        return True

    def drain(self) -> Flush:
        """Take everything that changed since the last drain."""
        tables, records = self._tables, self._records
        self._tables, self._records = {EXPERIMENTS_TABLE: {}, ASSIGNMENTS_TABLE: {}}, []
        return Flush(tables, records)

    @property
    def changed(self) -> bool:
        """Tell whether there is anything to write."""
        return bool(self._records) or any(self._tables.values())

    def deviations(self, trial: Trial) -> list[str]:
        """Say how the course of a trial differs from what was sealed first."""
        versions = self.versions[trial.sealed.definition.experiment_id]
        first = versions[0].sealed
        found = [f"tampering: {what}" for what in trial.notes.tampering]
        if trial.sealed.version > 1:
            changes = "; ".join(changed_fields(first.definition, trial.sealed.definition))
            found.append(f"amended after the start ({trial.sealed.reason}): {changes}")
        if trial.status.status is Status.STOPPED:
            found.append(f"stopped: {trial.status.reason}")
        return found

    def _suspect(self, trial: Trial, what: str) -> None:
        log.error("tampering", experiment=trial.name, what=what)
        if what not in trial.notes.tampering:
            self.set_notes(trial, replace(trial.notes, tampering=[*trial.notes.tampering, what]))

    def set_notes(self, trial: Trial, notes: Notes) -> None:
        """Give a trial new notes."""
        trial.notes = notes
        trial.dirty = True
        self.keep(trial, "notes", notes)

    def _load_version(self, name: str, value: bytes, table: Mapping[bytes, bytes]) -> None:
        stem = name.rpartition("|")[0]

        def read(kind: str, what: type[Any]) -> Any:  # noqa: ANN401 - as the type says
            stored = table.get(f"{stem}|{kind}".encode())
            return None if stored is None else msgspec.json.decode(stored, type=what)

        sealed, status = msgspec.json.decode(value, type=Sealed), read("status", StatusRecord)
        if status is None:
            log.error("version without a status", key=name)
            return
        trial = Trial(
            sealed,
            status,
            self._secret,
            read("notes", Notes) or Notes(),
            read("result", Result),
            read("finding", Finding),
        )
        self.versions.setdefault(sealed.definition.experiment_id, []).append(trial)
        if not sealed_truly(sealed, self._secret):
            self._suspect(trial, f"version {sealed.version}: the record was not sealed by this deployment")
