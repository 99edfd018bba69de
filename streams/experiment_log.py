"""Read experiments back from their topics."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from agents.experiment_store import REQUESTS
from analytics.partitions import partition_of
from models.errors import InvalidExperiment
from models.experiments import Assignment, Definition, Draft, Finding, Notes, Result, Sealed, Status, StatusRecord
from models.settings import Settings
from models.topics import ASSIGNMENTS, EXPERIMENTS, FINDINGS
from streams.kafka_clients import read_compacted


@dataclass(slots=True)
class Course:
    """An experiment as its topic has it: its draft, or its sealed versions with what became of each."""

    experiment_id: str
    draft: Draft | None = None
    versions: dict[int, Sealed] = field(default_factory=dict)
    statuses: dict[int, StatusRecord] = field(default_factory=dict)
    results: dict[int, Result] = field(default_factory=dict)
    notes: dict[int, Notes] = field(default_factory=dict)

    @property
    def newest(self) -> int:
        """Give the number of the newest version; 0 for a draft."""
        return max(self.versions, default=0)

    @property
    def definition(self) -> Definition:
        """Give the newest definition, sealed or drafted."""
        if self.versions:
            return self.versions[self.newest].definition
        assert self.draft is not None
        return self.draft.definition

    @property
    def status(self) -> Status:
        """Say where the experiment stands."""
        known = self.statuses.get(self.newest)
        return Status.DRAFT if known is None else known.status


async def read_courses(settings: Settings) -> dict[str, Course]:
    """Read all experiments.

    Raises:
        NotReachable: Kafka does not answer.
        StackError: The topic does not exist.
    """
    courses: dict[str, Course] = {}
    async for record in read_compacted(settings, EXPERIMENTS):
        experiment, number, kind = (*(record.key or b"").decode(errors="replace").split("|"), "", "")[:3]
        if kind == REQUESTS or record.partition != partition_of(experiment.encode(), settings.partitions):
            continue  # its owner writes elsewhere
        course = courses.setdefault(experiment, Course(experiment))
        try:
            take(course, int(number), kind, record.value)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError):
            continue  # what cannot be read is named by verification
    return {name: course for name, course in courses.items() if course.draft or course.versions}


async def read_course(settings: Settings, experiment_id: str) -> Course:
    """Read one experiment.

    Raises:
        InvalidExperiment: There is none of this id; the message names those that are there.
        NotReachable: Kafka does not answer.
    """
    courses = await read_courses(settings)
    if experiment_id not in courses:
        known = ", ".join(sorted(courses)) or "none"
        raise InvalidExperiment(f"there is no experiment {experiment_id} (there are: {known})")
    return courses[experiment_id]


async def read_findings(settings: Settings) -> list[Finding]:
    """Read the register of findings, in the order of the tests."""
    found = []
    async for record in read_compacted(settings, FINDINGS):
        try:
            found.append(msgspec.json.decode(record.value or b"", type=Finding))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue  # no owner wrote it; it takes no place
    return found


async def read_assignments(settings: Settings, experiment_id: str) -> list[Assignment]:
    """Read the newest record of each assignment of an experiment."""
    prefix, found = f"{experiment_id}|".encode(), dict[bytes, bytes]()
    async for record in read_compacted(settings, ASSIGNMENTS):
        if (record.key or b"").startswith(prefix) and record.value is not None:
            found[record.key] = record.value
    return [msgspec.json.decode(value, type=Assignment) for value in found.values()]


def take(course: Course, number: int, kind: str, value: bytes | None) -> None:
    """Take one record of an experiment in; the newest of a key counts.

    Raises:
        msgspec.MsgspecError: It cannot be read.
    """
    if kind == "draft":
        course.draft = None if value is None else msgspec.json.decode(value, type=Draft)
    elif value is None:
        return
    elif kind == "definition":
        course.versions[number] = msgspec.json.decode(value, type=Sealed)
    elif kind == "status":
        course.statuses[number] = msgspec.json.decode(value, type=StatusRecord)
    elif kind == "result":
        course.results[number] = msgspec.json.decode(value, type=Result)
    elif kind == "notes":
        course.notes[number] = msgspec.json.decode(value, type=Notes)


def running(courses: Iterable[Course]) -> list[Course]:
    """Keep the experiments that assign."""
    return [course for course in courses if course.status is Status.RUNNING]
