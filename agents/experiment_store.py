"""The state of one partition's experiments in memory, and what of it waits to be written."""

from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from agents.definitions import (
    assignment_mac,
    check_definition,
    outcome_mac,
    same_mac,
    sealed_truly,
    truly_written,
    with_mac,
)
from agents.experiment_records import NEXT_STEPS, UNREADABLE, changed_fields, difference, read_sealed
from agents.flush import Flush, Record
from agents.trial import Trial
from models.errors import InvalidExperiment
from models.experiments import Assignment, Draft, Finding, Notes, RequestsCut, Result, Sealed, Status, StatusRecord
from models.topics import ASSIGNMENTS_TABLE, EXPERIMENTS_TABLE

MOST_UNPROVEN = 1000
MOST_TAMPERING = 100
LONGEST_NUMBER = 9

BESIDE = frozenset({"status", "result", "notes", "finding"})
CUT, REQUESTS = "cut", "requests"
"""The parts of the key of the cut; no kind of record about an experiment is called requests."""

log = structlog.get_logger(__name__)
encode = msgspec.json.Encoder().encode


class ExperimentStore:
    """Drafts and trials by experiment; every change is kept for the next flush.

    `lost` are experiments of which records are there, but no definition any more. `cut` says which requests are in:
    those are not carried out again.

    Args:
        secret: What seals and tokens are checked with.
    """

    def __init__(self, secret: str) -> None:
        self.drafts: dict[str, Draft] = {}
        self.versions: dict[str, list[Trial]] = {}
        self.lost: set[str] = set()
        self.cut = RequestsCut()
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
            try:
                self._load_record(name.decode(), value, tables[EXPERIMENTS_TABLE])
            except (*UNREADABLE, InvalidExperiment) as error:
                log.warning("record not believed", key=name.decode(errors="replace"), reason=str(error))
        for versions in self.versions.values():
            versions.sort(key=lambda trial: trial.sealed.version)
        self._find_lost(tables[EXPERIMENTS_TABLE])
        for name, value in tables[ASSIGNMENTS_TABLE].items():
            self._load_assignment(name.decode(errors="replace"), value)

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
        assignment = replace(assignment, outcome_mac=outcome_mac(assignment, self._secret))
        trial.put(assignment)
        name = f"{assignment.experiment_id}|{assignment.assignment_id}".encode()
        self._tables[ASSIGNMENTS_TABLE][name] = encode(assignment)

    def keep_definition(self, trial: Trial) -> None:
        """Keep the sealed definition of a trial."""
        self._tables[EXPERIMENTS_TABLE][f"{trial.name}|definition".encode()] = encode(trial.sealed)

    def keep(self, trial: Trial, kind: str, record: StatusRecord | Notes | Result | Finding) -> None:
        """Keep a record of a trial under its MAC: status, result, notes or finding."""
        key = f"{trial.name}|{kind}"
        self._tables[EXPERIMENTS_TABLE][key.encode()] = encode(with_mac(key, record, self._secret))

    def set_status(self, trial: Trial, status: StatusRecord) -> None:
        """Give a trial a new status."""
        trial.status = status
        trial.dirty = True
        self.keep(trial, "status", status)
        log.info("experiment", experiment=trial.name, status=status.status.value, reason=status.reason)

    def note_unproven(self, trial: Trial, run: str, reason: str) -> None:
        """Remember a run that named the experiment without a valid token; the first 1,000 of them."""
        known = trial.notes.unproven
        if run in known or len(known) >= MOST_UNPROVEN:
            return
        self.set_notes(trial, replace(trial.notes, unproven={**known, run: reason}))
        if len(known) + 1 == MOST_UNPROVEN:
            log.warning(
                "cap reached", experiment=trial.name, what=f"{MOST_UNPROVEN} unproven runs are noted, no further"
            )

    def note_correction(self, trial: Trial) -> None:
        """Count a joined run that was replaced by another revision: what was seen before no longer holds."""
        self.set_notes(trial, replace(trial.notes, corrections=trial.notes.corrections + 1))

    def suspect(self, key: str, found: bytes | None) -> bool:
        """Compare a record of scaling.experiments with what was written; a foreign definition is noted and undone.

        Where this owner has itself begun from a foreign record, the true one takes its place.

        Returns:
            Whether it was foreign.
        """
        experiment, number, kind = (*key.split("|"), "", "")[:3]
        versions = self.versions.get(experiment)
        if not versions or kind != "definition" or not number.isdecimal() or len(number) > LONGEST_NUMBER:
            return False
        trial, other = self.trial(experiment, int(number)), read_sealed(found)
        if trial is None:
            self._suspect(versions[-1], f"version {number}: somebody else wrote one")
            return True
        if other == trial.sealed:
            return False
        if other is not None and sealed_truly(other, self._secret) and not sealed_truly(trial.sealed, self._secret):
            other, trial.sealed = trial.sealed, other
            self._suspect(trial, f"version {number}: {difference(trial.sealed, other)}")
        else:
            self._suspect(trial, f"version {number}: {difference(trial.sealed, other, gone=found is None)}")
        self.keep_definition(trial)
        return True

    def pass_requests(self, partition: int, cut: RequestsCut) -> None:
        """Note that all requests up to a cut are in; it is written with what they changed, if they changed anything."""
        self.cut = cut
        if any(self._tables.values()):
            key = f"{CUT}|{partition}|{REQUESTS}"
            self._tables[EXPERIMENTS_TABLE][key.encode()] = encode(with_mac(key, cut, self._secret))

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
        known = trial.notes.tampering
        if what not in known and len(known) < MOST_TAMPERING:
            self.set_notes(trial, replace(trial.notes, tampering=[*known, what]))

    def set_notes(self, trial: Trial, notes: Notes) -> None:
        """Give a trial new notes."""
        trial.notes = notes
        trial.dirty = True
        self.keep(trial, "notes", notes)

    def _load_record(self, name: str, value: bytes, table: Mapping[bytes, bytes]) -> None:
        """Take up a draft or a version; the records beside a version are read with it.

        Raises:
            ValueError: The key is not that of its record.
            InvalidExperiment: The definition bears no true seal, and breaks a rule.
            msgspec.MsgspecError: The record cannot be read.
        """
        experiment, number, kind = name.split("|")
        if (experiment, kind) == (CUT, REQUESTS):
            cut = msgspec.json.decode(value, type=RequestsCut)
            if not truly_written(name, value, self._secret):
                raise ValueError("it was not written by this deployment")
            self.cut = cut
        elif kind == "draft":
            draft = msgspec.json.decode(value, type=Draft)
            if (draft.definition.experiment_id, "0") != (experiment, number):
                raise ValueError(f"the draft is one of {draft.definition.experiment_id}")
            self.drafts[experiment] = draft
        elif kind == "definition":
            sealed = msgspec.json.decode(value, type=Sealed)
            if (sealed.definition.experiment_id, str(sealed.version)) != (experiment, number):
                raise ValueError(f"the definition is version {sealed.version} of {sealed.definition.experiment_id}")
            if not sealed_truly(sealed, self._secret):
                # Nobody has checked it: what breaks a rule could not be analysed.
                check_definition(sealed.definition)
            self._load_version(sealed, table)

    def _load_version(self, sealed: Sealed, table: Mapping[bytes, bytes]) -> None:
        experiment, number = sealed.definition.experiment_id, sealed.version
        problems = []

        def read(kind: str, what: type[Any]) -> Any:  # noqa: ANN401 - as the type says
            stored = table.get(f"{experiment}|{number}|{kind}".encode())
            try:
                record = None if stored is None else msgspec.json.decode(stored, type=what)
            except UNREADABLE:
                problems.append(f"the {kind} was replaced by something unreadable")
                return None
            if stored is not None and not truly_written(f"{experiment}|{number}|{kind}", stored, self._secret):
                problems.append(f"the {kind} was not written by this deployment")
                return None
            return record

        reason, step = "its status was lost", NEXT_STEPS["tampering"]
        lost = StatusRecord(experiment, number, Status.STOPPED, sealed.sealed_at, reason, step)
        status = read("status", StatusRecord)
        trial = Trial(
            sealed,
            status or lost,
            self._secret,
            read("notes", Notes) or Notes(),
            read("result", Result),
            read("finding", Finding),
        )
        self.versions.setdefault(experiment, []).append(trial)
        if status is None:
            problems = problems or ["the status was deleted"]
            self.set_status(trial, lost)
        if not sealed_truly(sealed, self._secret):
            problems.append("the record was not sealed by this deployment")
        for what in problems:
            self._suspect(trial, f"version {number}: {what}")

    def _find_lost(self, table: Mapping[bytes, bytes]) -> None:
        """Find the versions whose records stand without their definition: somebody has deleted or replaced it."""
        for name in table:
            experiment, number, kind = (*name.decode(errors="replace").split("|"), "", "")[:3]
            if kind not in BESIDE or not number.isdecimal() or len(number) > LONGEST_NUMBER:
                continue
            if self.trial(experiment, int(number)) is None and experiment not in self.lost:
                log.error("tampering", experiment=f"{experiment}|{number}", what="its sealed definition is gone")
                self.lost.add(experiment)
                for trial in self.versions.get(experiment, [])[-1:]:
                    self._suspect(trial, f"version {number}: the sealed definition was deleted")

    def _load_assignment(self, name: str, value: bytes) -> None:
        try:
            assignment = msgspec.json.decode(value, type=Assignment)
        except UNREADABLE:
            newest = self.versions.get(name.partition("|")[0], [])[-1:]
            for trial in newest:
                self._suspect(trial, f"assignment {name} was replaced by something unreadable")
            return
        owner = self.trial(assignment.experiment_id, assignment.version)
        if owner is None:
            return
        if not same_mac(assignment_mac(assignment, self._secret), assignment.mac):
            self._suspect(owner, f"assignment {name} was not made by this deployment")
        elif assignment.value not in owner.sealed.definition.values_tested:
            # Its MAC is true, so it is the definition that was changed.
            self._suspect(owner, f"assignment {name} has the value {assignment.value}, which is not tested")
        elif len(assignment.propensities) != len(owner.sealed.definition.values_tested):
            self._suspect(owner, f"assignment {name} was drawn from {len(assignment.propensities)} values")
        else:
            owner.put(assignment)
            if not same_mac(outcome_mac(assignment, self._secret), assignment.outcome_mac):
                self._suspect(owner, f"what became of assignment {name} was not written by this deployment")
