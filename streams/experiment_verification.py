"""Verify an experiment from its topics: the chain of its seals, and that every assignment was made under it."""

from dataclasses import dataclass, field

import msgspec

from agents.definitions import assignment_mac, digest, outcome_mac, sealed_truly, truly_written
from agents.experiment_records import UNREADABLE, difference, moment, read_sealed
from models.errors import InvalidExperiment, QueryError, StackError
from models.experiments import Assignment, Finding, Notes, Result, Sealed, StatusRecord
from models.settings import Settings
from models.topics import ASSIGNMENTS, EXPERIMENTS
from streams.clickhouse import query
from streams.kafka_clients import read_compacted

KINDS: dict[str, type[StatusRecord | Result | Notes | Finding]] = {
    "status": StatusRecord,
    "result": Result,
    "notes": Notes,
    "finding": Finding,
}
"""The records beside a definition that bear a MAC."""

ARCHIVED = """
SELECT version, record FROM scaling_experiments
WHERE experiment_id = {experiment:String} AND kind = 'definition' ORDER BY version, offset
"""


@dataclass(slots=True)
class Verification:
    """What was checked, what was found wrong, and what could not be checked."""

    experiment_id: str
    versions: int = 0
    assignments: int = 0
    problems: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


async def verify_experiment(settings: Settings, experiment_id: str) -> Verification:
    """Check an experiment from the topic.

    Every record of a definition that the topic still has is looked at, also one that a later record has replaced; those
    that compaction has taken are found in ClickHouse's history.

    Raises:
        InvalidExperiment: There is no such experiment.
        NotReachable: Kafka does not answer.
    """
    found = Verification(experiment_id)
    records = await _definitions(settings, experiment_id)
    if not records:
        raise InvalidExperiment(f"there is no sealed version of {experiment_id} on {EXPERIMENTS}")
    secret = settings.experiment_secret
    if not secret:
        found.unchecked.append("seals and tokens: set SCALING_EXPERIMENT_SECRET, or name the stack's folder (--state)")
    archived = _archived(settings, experiment_id, found)
    true = _true_versions(found, records, archived, secret)
    found.versions = len(records)
    _check_chain(found, true)
    await _check_assignments(found, settings, true, secret)
    if secret:
        await _check_records(found, settings, secret)
    return found


def _true_versions(
    found: Verification,
    records: dict[int, list[bytes | None]],
    archived: dict[int, list[Sealed]],
    secret: str,
) -> dict[int, Sealed]:
    """Find each version's sealed record, and name every other that stands under its key."""
    true: dict[int, Sealed] = {}
    for number, values in sorted(records.items()):
        readable = [sealed for sealed in map(read_sealed, values) if sealed is not None]
        whole = [each for each in (*readable, *archived.get(number, ())) if _whole(each, secret)]
        if not whole:
            found.problems.append(f"version {number}: no record of it has a true {'seal' if secret else 'hash'}")
            continue
        first = true[number] = whole[0]
        others = [(read_sealed(value), value is None) for value in values]
        wrong = {difference(first, other, gone=gone) for other, gone in others if other != first}
        wrong |= {difference(first, each) for each in archived.get(number, ()) if each != first}
        found.problems.extend(f"version {number}: {what}" for what in sorted(wrong))
    return true


def _check_chain(found: Verification, true: dict[int, Sealed]) -> None:
    for number, sealed in sorted(true.items()):
        before = true.get(number - 1)
        expected = None if before is None else before.sha256
        if number > 1 and before is None:
            found.problems.append(f"version {number}: the version before it is missing")
        elif sealed.previous_sha256 != expected:
            found.problems.append(f"version {number}: it does not follow from version {number - 1} (previous_sha256)")


async def _check_assignments(found: Verification, settings: Settings, true: dict[int, Sealed], secret: str) -> None:
    prefix = f"{found.experiment_id}|".encode()
    newest: dict[bytes, bytes | None] = {}
    async for record in read_compacted(settings, ASSIGNMENTS):
        if (record.key or b"").startswith(prefix):
            newest[record.key] = record.value
    found.assignments = len(newest)
    for key, value in newest.items():
        name = key.decode(errors="replace")
        try:
            assignment = msgspec.json.decode(value or b"", type=Assignment)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found.problems.append(f"assignment {name}: it was deleted or cannot be read")
            continue
        sealed = true.get(assignment.version)
        if secret and assignment_mac(assignment, secret) != assignment.mac:
            found.problems.append(f"assignment {name}: it was not made, or was changed, by somebody without the secret")
        elif secret and outcome_mac(assignment, secret) != assignment.outcome_mac:
            found.problems.append(f"assignment {name}: what became of it was changed by somebody without the secret")
        elif sealed is None:
            found.problems.append(f"assignment {name}: its version {assignment.version} is missing")
        elif assignment.definition_sha256 != sealed.sha256:
            found.problems.append(
                f"assignment {name}: it was made under the definition {assignment.definition_sha256[:12]}, the sealed "
                f"one is {sealed.sha256[:12]}"
            )
        elif moment(assignment.assigned_at) < sealed.sealed_at:
            found.problems.append(f"assignment {name}: it was made before the definition was sealed")


async def _check_records(found: Verification, settings: Settings, secret: str) -> None:
    """Check the MAC of the newest status, result, notes and finding of each version."""
    newest: dict[str, bytes | None] = {}
    async for record in read_compacted(settings, EXPERIMENTS):
        name = (record.key or b"").decode(errors="replace")
        if name.split("|")[0] == found.experiment_id and name.rpartition("|")[2] in KINDS:
            newest[name] = record.value
    for name, value in newest.items():
        kind = name.rpartition("|")[2]
        try:
            msgspec.json.decode(value or b"", type=KINDS[kind])
        except UNREADABLE:
            found.problems.append(f"{name}: it was deleted or cannot be read")
            continue
        if not truly_written(name, value or b"", secret):
            found.problems.append(f"{name}: it was changed by somebody without the secret")


async def _definitions(settings: Settings, experiment_id: str) -> dict[int, list[bytes | None]]:
    """Read every record of a definition that the topic has, by version, in the order of the topic."""
    found: dict[int, list[bytes | None]] = {}
    async for record in read_compacted(settings, EXPERIMENTS):
        name, number, kind = (*(record.key or b"").decode(errors="replace").split("|"), "", "")[:3]
        if name == experiment_id and kind == "definition" and number.isdecimal():
            found.setdefault(int(number), []).append(record.value)
    return found


def _archived(settings: Settings, experiment_id: str, found: Verification) -> dict[int, list[Sealed]]:
    try:
        rows = query(settings, ARCHIVED, parameters={"experiment": experiment_id}).rows
    except (QueryError, StackError) as error:
        found.unchecked.append(f"ClickHouse's history: {error}")
        return {}
    history: dict[int, list[Sealed]] = {}
    for number, record in rows:
        sealed = read_sealed(str(record).encode())
        if sealed is not None:
            history.setdefault(int(number), []).append(sealed)
    return history


def _whole(sealed: Sealed, secret: str) -> bool:
    return sealed_truly(sealed, secret) if secret else digest(sealed.definition) == sealed.sha256
