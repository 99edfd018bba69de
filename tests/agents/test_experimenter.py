"""The owner of experiments: their lives, every answer it gives, and that no replay, restart or forgery changes them."""

import dataclasses
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agents.definitions import digest, read_definition, seal, sealed_truly, with_mac
from agents.experiment_records import NEXT_STEPS, Snapshot, moment
from agents.experiment_results import analyse
from agents.experimenter import LARGEST_REQUEST, MOST_EXPERIMENTS, Experimenter
from agents.flush import Flush, Record
from agents.lawbook import LawBook
from agents.trial import FIRST_UNPRICED, MOST_GIVEN
from analytics.partitions import partition_of
from models.dimensions import Dimension, Outcome
from models.errors import SettingsError
from models.events import RunEvent
from models.experiments import (
    Assignment,
    Definition,
    Draft,
    Finding,
    Label,
    Notes,
    Reply,
    RequestsCut,
    Result,
    Sealed,
    Status,
    StatusRecord,
    Verdict,
)
from models.laws import Law
from models.settings import load_settings
from models.topics import ASSIGN_REPLIES, ASSIGNMENTS_TABLE, EXPERIMENTS_TABLE, FINDINGS, LAWS

SECRET = "0123456789abcdef"  # noqa: S105 - a test's
SETTINGS = load_settings(partitions=1, experiment_secret=SECRET, bootstrap_draws=100)
BEGIN = 1_750_000_000.0
FIELDS: dict[str, Any] = {
    "experiment_id": "agents",
    "name": "Agents",
    "hypothesis": "More agents succeed more often",
    "dimension_tested": "agent_count",
    "values_tested": [1, 4],
    "control_value": 1,
    "min_samples_per_value": 2,
    "planned_per_value": 3,
    "stratify_by": [],
    "expire_seconds": 600,
}
Tables = dict[str, dict[bytes, bytes]]


def definition(**fields: object) -> dict[str, Any]:
    """Give the fields of a definition."""
    return {**FIELDS, **fields}


@dataclass(slots=True)
class Office:
    """An owner with what it has written: each step is one flush, as the worker makes it."""

    owner: Experimenter = field(default_factory=lambda: Experimenter(0, SETTINGS))
    tables: Tables = field(default_factory=lambda: {EXPERIMENTS_TABLE: {}, ASSIGNMENTS_TABLE: {}})
    now: float = BEGIN
    records: list[Record] = field(default_factory=list)
    requests: int = 0

    def write(self) -> Flush:
        """Write what has changed."""
        flush = self.owner.store.drain()
        for name, changes in flush.tables.items():
            for key, value in changes.items():
                if value is None:
                    self.tables[name].pop(key, None)
                else:
                    self.tables[name][key] = value
        self.records += flush.records
        return flush

    def say(self, payload: bytes | None, age: float = 0.0) -> Flush:
        """Handle a payload that was sent `age` seconds ago."""
        self.owner.handle(payload, self.now - age, self.now)
        return self.write()

    def ask(self, kind: str, age: float = 0.0, **fields: object) -> Reply:
        """Ask for something and read the reply."""
        self.requests += 1
        request = {"kind": kind, "request_id": f"request-{self.requests}", **fields}
        (reply,) = replies(self.say(json.dumps(request).encode(), age))
        assert reply.request_id == request["request_id"]
        return reply

    def begin(self, **fields: object) -> Reply:
        """Create and start an experiment."""
        made = definition(**fields)
        assert self.ask("create", definition=made).status is Status.DRAFT
        return self.ask("start", experiment_id=made["experiment_id"])

    def assign(self, task: str, experiment: str = "agents", **fields: object) -> Reply:
        """Ask for the value of a task."""
        return self.ask("assign", experiment_id=experiment, task={"task_id": task, **fields})

    def join(self, reply: Reply, task: str, order: tuple[int, int] = (0, 1), **fields: Any) -> Flush:  # noqa: ANN401
        """Bring the run of an assignment, which did what it was told."""
        event: dict[str, Any] = {
            "agent_run_id": f"run-{task}",
            "task_id": task,
            "experiment_id": reply.experiment_id,
            "assignment_token": reply.assignment_token,
            "agent_count": int(float(reply.assigned_value or 1)),
            "success": True,
            **fields,
        }
        self.owner.join(msgspec.convert(event, RunEvent), order, self.now)
        return self.write()

    def tick(self, seconds: float = 0.0) -> Flush:
        """Let time pass."""
        self.now += seconds
        self.owner.tick(self.now)
        return self.write()

    def refresh(self) -> Flush:
        """Work out the results that have changed."""
        for snapshot in self.owner.snapshots():
            self.owner.conclude(snapshot, analyse(snapshot, SETTINGS, self.now), self.now)
        return self.write()

    def stored(self, key: str) -> bytes:
        """Give a record as it was written."""
        return self.tables[EXPERIMENTS_TABLE][key.encode()]

    def status(self, version: int = 1, experiment: str = "agents") -> StatusRecord:
        """Read the status of a version as it was written."""
        return msgspec.json.decode(self.stored(f"{experiment}|{version}|status"), type=StatusRecord)

    def result(self, version: int = 1) -> Result:
        """Read the result of a version as it was written."""
        return msgspec.json.decode(self.stored(f"agents|{version}|result"), type=Result)

    def notes(self, version: int = 1) -> Notes:
        """Read the notes of a version as they were written."""
        return msgspec.json.decode(self.stored(f"agents|{version}|notes"), type=Notes)

    def assignments(self) -> list[Assignment]:
        """Read the assignments as they were written."""
        return [msgspec.json.decode(each, type=Assignment) for each in self.tables[ASSIGNMENTS_TABLE].values()]

    def reopened(self, tables: Tables | None = None, seed: int | None = None) -> "Office":
        """Start again from what was written (or other tables), read in the order of a compacted topic."""
        stored = {name: list((tables or self.tables)[name].items()) for name in self.tables}
        for items in stored.values():
            if seed is not None:
                random.Random(seed).shuffle(items)  # noqa: S311 - a repeatable test
        again = Office(tables={name: dict(items) for name, items in stored.items()}, now=self.now)
        again.requests = self.requests
        again.owner.store.load(again.tables)
        return again


def replies(flush: Flush) -> list[Reply]:
    """Read the replies of a flush."""
    found = [record for record in flush.records if record.topic == ASSIGN_REPLIES]
    assert all(record.key == msgspec.json.decode(record.value or b"")["request_id"].encode() for record in found)
    return [msgspec.json.decode(record.value or b"", type=Reply) for record in found]


def running(**fields: object) -> Office:
    """Open an office with an experiment that runs."""
    office = Office()
    office.begin(**fields)
    return office


# --- lives ------------------------------------------------------------------------------------------------------------


def test_from_a_draft_to_a_finding() -> None:
    """Drafted, sealed, assigned to the planned size, joined, completed, analysed: each step is in the tables."""
    office = Office()
    drafted = office.ask("create", definition=definition(), by="ada")
    assert (drafted.version, drafted.status, drafted.message) == (0, Status.DRAFT, "drafted agents")
    assert list(office.tables[EXPERIMENTS_TABLE]) == [b"agents|0|draft"]
    assert msgspec.json.decode(office.stored("agents|0|draft"), type=Draft).by == "ada"

    started = office.ask("start", experiment_id="agents", by="ada")
    sealed = msgspec.json.decode(office.stored("agents|1|definition"), type=Sealed)
    assert (started.version, started.status) == (1, Status.RUNNING)
    assert started.message == f"agents is sealed ({sealed.sha256[:12]}) and runs"
    assert sealed_truly(sealed, SECRET)
    assert (sealed.definition, sealed.by, sealed.sealed_at) == (read_definition(definition()), "ada", moment(BEGIN))
    assert set(office.tables[EXPERIMENTS_TABLE]) == {b"agents|1|definition", b"agents|1|status"}
    assert (office.status().status, office.status().by) == (Status.RUNNING, "ada")

    given = {f"t{n}": office.assign(f"t{n}") for n in range(6)}
    stored = {each.unit: each for each in office.assignments()}
    assert {f"task={task}": reply.assigned_value for task, reply in given.items()} == {
        unit: each.value for unit, each in stored.items()
    }
    assert sorted(float(each.value) for each in stored.values()) == [1.0, 1.0, 1.0, 4.0, 4.0, 4.0]
    assert all(reply.propensity == 0.5 for reply in given.values())
    office.tick(1)
    office.refresh()
    assert office.assign("t6").refusal == "sufficient"
    assert (office.result().status, office.result().runs) == (Status.RUNNING, 0)
    for number, (task, reply) in enumerate(given.items()):
        office.join(reply, task, success=bool(number % 2), total_cost=0.5)
    office.tick(1)
    assert office.status().status is Status.COMPLETED
    assert office.status().reason == "every value has its 3 assignments"
    assert not [record for record in office.records if record.topic == FINDINGS]
    flush = office.refresh()
    assert office.status().status is Status.ANALYZED
    (record,) = [record for record in flush.records if record.topic == FINDINGS]
    finding = msgspec.json.decode(record.value or b"", type=Finding)
    assert (record.key, record.partition) == (b"agents|1", 0)
    assert msgspec.json.decode(office.stored("agents|1|finding"), type=Finding) == with_mac(
        "agents|1|finding", finding, SECRET
    )
    assert (finding.runs, finding.dollars, finding.label, finding.sha256) == (6, 3.0, Label.CONFIRMATORY, sealed.sha256)
    laws = [msgspec.json.decode(record.value or b"", type=Law) for record in flush.records if record.topic == LAWS]
    assert [(law.tier, law.context, law.evidence) for law in laws] == [
        ("experiment", "experiment=agents", "randomised")
    ]
    office.refresh()
    settled = office.refresh()
    assert (settled.records, settled.tables) == ([], {EXPERIMENTS_TABLE: {}, ASSIGNMENTS_TABLE: {}})
    assert sum(record.topic == FINDINGS for record in office.records) == 1


def test_an_outcome_after_the_conclusion_is_taken_in_and_told() -> None:
    """The finding stays as it was; the result goes on and says how many runs came later."""
    office = running(planned_per_value=2, assignment="least")
    given = {f"t{n}": office.assign(f"t{n}") for n in range(4)}
    for task in ("t0", "t1", "t2"):
        office.join(given[task], task)
    office.tick(700)
    assert office.status().status is Status.RUNNING
    office.join(office.assign("t4"), "t4")
    office.tick()
    office.refresh()
    assert office.status().status is Status.ANALYZED
    finding = office.stored("agents|1|finding")
    office.join(given["t3"], "t3")
    office.refresh()
    assert (office.result().runs, office.result().data["runs_after_conclusion"]) == (5, "1")
    assert office.stored("agents|1|finding") == finding


def test_stopped_by_hand_is_exploratory() -> None:
    """It assigns nothing more, waits for what is under way, and its finding says that it was stopped and why."""
    office = running()
    given = office.assign("t0")
    stopped = office.ask("stop", experiment_id="agents", reason="the budget moved", by="ada")
    assert (stopped.status, stopped.message) == (Status.STOPPED, "agents is stopped: by hand: the budget moved")
    assert office.assign("t1").refusal == "not_running"
    office.refresh()
    assert b"agents|1|finding" not in office.tables[EXPERIMENTS_TABLE]
    office.join(given, "t0")
    office.refresh()
    assert office.status().status is Status.STOPPED
    finding = msgspec.json.decode(office.stored("agents|1|finding"), type=Finding)
    assert finding.label is Label.EXPLORATORY
    assert (finding.verdict, finding.p) == (Verdict.UNDETERMINED, 1.0)
    assert office.result().deviations == ["stopped: by hand: the budget moved"]


def test_an_amendment_is_a_new_version_and_exploratory_for_good() -> None:
    """Versions are chained; the old one stops; the new one says against the first one what was changed, and why."""
    office = running()
    first = office.assign("t0")
    amended = office.ask("amend", definition=definition(alpha=0.01), reason="too lax", by="ada")
    assert (amended.version, amended.status) == (2, Status.RUNNING)
    again = office.ask("amend", definition=definition(alpha=0.01, minimum_effect=0.2), reason="too fine")
    assert again.message == "version 3 of agents is sealed; its results are exploratory"
    versions = [msgspec.json.decode(office.stored(f"agents|{n}|definition"), type=Sealed) for n in (1, 2, 3)]
    assert [each.previous_sha256 for each in versions] == [None, versions[0].sha256, versions[1].sha256]
    assert all(sealed_truly(each, SECRET) for each in versions)
    assert [office.status(n).status for n in (1, 2, 3)] == [Status.STOPPED, Status.STOPPED, Status.RUNNING]
    assert office.status(1).reason == "amended: version 2 follows"
    second = office.assign("t0")
    assert (first.version, second.version) == (1, 3)
    assert first.assignment_token != second.assignment_token
    office.join(first, "t0")
    office.join(second, "t0")
    office.refresh()
    assert [office.result(n).runs for n in (1, 2, 3)] == [1, 0, 1]
    assert office.result(3).label is Label.EXPLORATORY
    assert office.result(3).deviations == [
        "amended after the start (too fine): minimum_effect 0.1 -> 0.2; alpha 0.05 -> 0.01"
    ]
    back = office.ask("amend", definition=definition(), reason="as it was")
    office.refresh()
    assert office.result(back.version or 0).label is Label.EXPLORATORY


def test_an_amendment_that_changes_nothing_is_told_so() -> None:
    """The sealed definition given again makes no version, whatever numbers it is written with."""
    office = running(context_filter={"lines": {"max": 10}})
    reply = office.ask("amend", definition=definition(context_filter={"lines": {"max": 10.0}}), reason="none")
    assert (reply.version, reply.status) == (1, Status.RUNNING)
    assert reply.message == "version 1 of agents is this definition already"


def test_a_clear_effect_ends_a_sequential_experiment() -> None:
    """As soon as the interval that holds at any look says so; a fixed one goes on to its size."""
    for stopping, expected in (("sequential", Status.COMPLETED), ("fixed", Status.RUNNING)):
        office = running(planned_per_value=100, stopping=stopping, min_samples_per_value=10)
        for number in range(60):
            reply = office.assign(f"t{number}")
            office.join(reply, f"t{number}", success=reply.assigned_value == 4.0)
        office.refresh()
        assert office.status().status is expected
        assert (office.result().verdict is Verdict.SUPPORTED) == (stopping == "sequential")
        if stopping == "sequential":
            assert office.status().reason == f"effect: {office.result().sentence}"
            assert office.assign("late").refusal == "not_running"


def test_a_ruled_out_effect_ends_a_sequential_experiment_as_futile() -> None:
    """No effect of the size worth knowing is a finding like any other."""
    office = running(planned_per_value=5000, minimum_effect=0.5, min_samples_per_value=10)
    for number in range(400):
        office.join(office.assign(f"t{number}"), f"t{number}", success=number % 4 < 2)
    office.refresh()
    assert office.result().verdict is Verdict.REFUTED
    assert (office.status().status, office.status().reason) == (
        Status.COMPLETED,
        f"futility: {office.result().sentence}",
    )


def test_a_rise_that_is_ruled_out_alone_ends_nothing() -> None:
    """Where it may still fall by more than the least effect, the planned runs go on to tell how far."""
    office = running(planned_per_value=200, minimum_effect=0.1, min_samples_per_value=10)
    seen = dict.fromkeys((1.0, 4.0), 0)
    for number in range(260):
        reply = office.assign(f"t{number}")
        value = float(reply.assigned_value or 0)
        seen[value] += 1
        office.join(reply, f"t{number}", success=seen[value] % 20 < (11 if value == 1 else 8))
    office.refresh()
    assert office.result().verdict is Verdict.REFUTED
    assert office.result().sentence.startswith("No rise larger than 10.0 points.")
    assert office.status().status is Status.RUNNING
    assert office.assign("next").refusal is None


def test_the_opposite_of_what_was_expected_ends_a_sequential_experiment() -> None:
    """That it falls is shown: more runs would not make it rise."""
    office = running(planned_per_value=200, min_samples_per_value=10)
    for number in range(60):
        reply = office.assign(f"t{number}")
        office.join(reply, f"t{number}", success=reply.assigned_value == 1.0)
    office.refresh()
    assert office.result().sentence.startswith("The opposite of what was expected.")
    assert (office.status().status, office.status().next_step) == (Status.COMPLETED, NEXT_STEPS["futility"])


def test_values_that_lose_their_runs_stop_the_experiment() -> None:
    """Where one value's runs never come, the sample ratio of the completed raises the alarm, and it stops."""
    office = running(planned_per_value=500, expire_seconds=60)
    for number in range(300):
        reply = office.assign(f"t{number}")
        if reply.assigned_value == 1.0 or number % 5 == 0:
            office.join(reply, f"t{number}", success=number % 2 == 0)
    office.refresh()
    assert office.status().status is Status.RUNNING
    office.tick(61)
    office.refresh()
    assert office.status().status is Status.STOPPED
    assert office.status().reason.startswith("sample ratio mismatch among completed runs: [")
    office.refresh()
    assert office.result().label is Label.EXPLORATORY


def test_an_alarm_that_first_sounds_at_the_last_look_makes_the_finding_exploratory() -> None:
    """In a short experiment losses are judged only when all is over: then the finding names them all the same."""
    office = running(planned_per_value=500, budget_runs=160, expire_seconds=600)
    given = {f"t{number}": office.assign(f"t{number}") for number in range(160)}
    for number, (task, reply) in enumerate(given.items()):
        if reply.assigned_value == 1.0 or number % 10 == 0:
            office.join(reply, task, success=number % 2 == 0)
    office.tick(1)
    office.refresh()
    assert office.status().status is Status.COMPLETED
    assert (office.result().label, office.result().next_step) == (Label.CONFIRMATORY, NEXT_STEPS["budget"])
    office.tick(601)
    office.refresh()
    finding = msgspec.json.decode(office.stored("agents|1|finding"), type=Finding)
    assert office.status().status is Status.ANALYZED
    assert (finding.label, office.result().label) == (Label.EXPLORATORY, Label.EXPLORATORY)
    (told,) = office.result().deviations
    assert told.startswith("sample ratio mismatch among completed runs: [")
    assert office.result().next_step == NEXT_STEPS["sample_ratio"]


def corrected(office: Office, given: dict[str, Reply], right: Callable[[Reply, int], bool]) -> None:
    """Bring a second revision of every run, which says what truly happened."""
    for number, (task, reply) in enumerate(given.items()):
        office.join(reply, task, order=(1, number), success=right(reply, number))


def test_what_was_concluded_from_wrong_data_ends_with_the_interval_of_the_right_ones() -> None:
    """A stop for an effect that was none: after the correction nothing of the looks before is left in the result."""
    office = running(planned_per_value=100, min_samples_per_value=10)
    given = {f"t{number}": office.assign(f"t{number}") for number in range(61)}
    for task, reply in list(given.items())[:-1]:
        office.join(reply, task, success=reply.assigned_value == 4.0)
    office.refresh()
    wrong = office.result()
    assert (office.status().status, wrong.verdict, wrong.corrections) == (
        Status.COMPLETED,
        Verdict.SUPPORTED,
        0,
    )
    corrected(office, dict(list(given.items())[:-1]), lambda _, number: number % 4 < 2)
    assert office.notes().corrections > 0
    trial = office.owner.store.versions["agents"][0]
    office.refresh()
    right = office.result()
    alone = analyse(alone_of(office), SETTINGS, office.now)
    assert right.corrections == office.notes().corrections
    assert right.effect == alone.effect
    assert wrong.effect is not None
    assert right.effect is not None
    assert right.effect.anytime_lo < 0 < right.effect.anytime_hi < wrong.effect.anytime_lo
    assert right.effect.best_e_value == right.effect.e_value < wrong.effect.best_e_value
    assert right.verdict is Verdict.UNDETERMINED
    office.join(given["t60"], "t60", success=True)
    assert trial.pending == 0
    office.refresh()
    after, single = office.result().effect, analyse(alone_of(office), SETTINGS, office.now).effect
    assert after is not None
    assert single is not None
    assert after.anytime_lo == max(right.effect.anytime_lo, single.anytime_lo)
    assert after.anytime_hi == min(right.effect.anytime_hi, single.anytime_hi)
    assert after.best_e_value == max(right.effect.best_e_value, single.e_value)
    finding = msgspec.json.decode(office.stored("agents|1|finding"), type=Finding)
    assert (finding.verdict, finding.effect) == (Verdict.UNDETERMINED, after)


def alone_of(office: Office) -> Snapshot:
    """Take the experiment as if nobody had looked at it before."""
    trial = office.owner.store.versions["agents"][0]
    trial.dirty = True
    (taken,) = office.owner.snapshots()
    return dataclasses.replace(taken, previous=None)


def test_a_revision_that_says_the_same_is_no_correction() -> None:
    """A run that is told again, later or in a later revision, corrects nothing; one that reads differently does."""
    office = running()
    reply = office.assign("t0")
    office.join(reply, "t0", quality_score=0.5)
    office.now += 5
    office.join(reply, "t0", order=(1, 9), quality_score=0.5)
    (kept,) = office.assignments()
    assert kept.run is not None
    assert (kept.run.order, kept.run.completed_at) == ((1, 9), BEGIN + 5)
    assert office.owner.store.versions["agents"][0].notes.corrections == 0
    for at, fields in enumerate([{"quality_score": 0.6}, {"quality_score": 0.6, "agent_count": 7}]):
        office.join(reply, "t0", order=(2, at), **fields)
        assert office.notes().corrections == at + 1
    office.join(reply, "t0", order=(1, 99), quality_score=0.1)
    office.join(reply, "t0", agent_run_id="again", quality_score=0.2)
    assert office.notes().corrections == 2
    office.refresh()
    assert office.result().corrections == 2


def test_laws_of_an_amended_experiment_are_numbered_on() -> None:
    """Whoever keeps the newest law of an id takes that of the new version, and none of the old one's after it."""
    office = running(planned_per_value=40)
    for number in range(12):
        office.join(office.assign(f"t{number}"), f"t{number}", success=number % 3 == 0)
        office.refresh()
    looks = office.result().look
    assert looks > 3
    office.ask("amend", definition=definition(planned_per_value=40, alpha=0.01), reason="too lax")
    for number in range(12):
        office.join(office.assign(f"t{number}"), f"t{number}", success=number % 4 == 0)
        office.refresh()
    laws = [msgspec.json.decode(record.value or b"", type=Law) for record in office.records if record.topic == LAWS]
    assert next(law.version for law in laws if law.epoch == 2) == looks + 1
    versions = [law.version for law in laws]
    assert versions == sorted(set(versions))
    book = LawBook()
    for law in laws:
        book.put(law)
    assert book.get("experiment=agents", Dimension.AGENT_COUNT, Outcome.SUCCESS, "experiment") == laws[-1]
    assert laws[-1].epoch == 2


def test_an_amended_experiments_laws_are_numbered_on_after_a_restart_too() -> None:
    """The looks before are read from the stored results of the earlier versions."""
    office = running(planned_per_value=40)
    for number in range(6):
        office.join(office.assign(f"t{number}"), f"t{number}")
        office.refresh()
    looks = office.result().look
    office.ask("amend", definition=definition(planned_per_value=40, alpha=0.01), reason="too lax")
    again = office.reopened()
    again.join(again.assign("t0"), "t0")
    again.refresh()
    law = again.result(2).law
    assert law is not None
    assert (again.result(2).look, law.version) == (looks + 1, looks + 1)


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ({"budget_runs": 2}, "the budget is used up: 2 runs, 6.00"),
        ({"budget_dollars": 5}, "the budget is used up: 2 r"),
    ],
)
def test_a_budget_ends_an_experiment(budget: dict[str, Any], reason: str) -> None:
    """When it is used up, asking is refused, and the next tick completes the experiment."""
    office = running(**budget)
    for task in ("t0", "t1"):
        office.join(office.assign(task), task, total_cost=3.0)
    refused = office.assign("t2")
    assert (refused.refusal, refused.message) == ("budget", "the experiment's budget is used up")
    office.tick(1)
    assert office.status().status is Status.COMPLETED
    assert office.status().reason.startswith(reason)


def test_an_experiment_waits_for_its_first_prices() -> None:
    """With a budget in dollars and no price, a few runs a value go out; it runs on, and opens when one has told."""
    office = running(planned_per_value=100, budget_dollars=50)
    given = {f"t{number}": office.assign(f"t{number}") for number in range(2 * FIRST_UNPRICED)}
    assert {reply.refusal for reply in given.values()} == {None}
    refused = office.assign("more")
    assert (refused.refusal, refused.message) == (
        "budget",
        "the first runs have yet to tell what a run costs: run without, and ask again",
    )
    office.tick(1)
    assert office.status().status is Status.RUNNING
    office.join(given["t0"], "t0", total_cost=0.5)
    assert office.assign("more").refusal is None


@pytest.mark.parametrize("stopping", ["fixed", "sequential"])
@pytest.mark.parametrize("budget", [{"budget_runs": 4}, {"budget_dollars": 2, "run_dollars": 0.5}])
def test_a_budget_that_holds_the_whole_plan_does_not_end_it_early(budget: dict[str, Any], stopping: str) -> None:
    """While the last planned runs are under way the budget is spoken for; when they are in, the plan was reached."""
    office = running(planned_per_value=2, stopping=stopping, **budget)
    given = {f"t{number}": office.assign(f"t{number}") for number in range(4)}
    office.tick(1)
    assert office.status().status is Status.RUNNING
    for task, reply in given.items():
        office.join(reply, task, total_cost=0.5)
    office.tick(1)
    assert office.status().reason == "every value has its 2 assignments"
    office.refresh()
    assert (office.result().label, office.result().deviations) == (Label.CONFIRMATORY, [])


def test_a_budget_that_is_used_up_by_what_did_not_come_ends_the_experiment() -> None:
    """Assignments that were given out count whether a run came or not: no place is filled again."""
    office = running(planned_per_value=2, budget_runs=4)
    given = {f"t{number}": office.assign(f"t{number}") for number in range(4)}
    for task in ("t0", "t1", "t2"):
        office.join(given[task], task)
    office.tick(601)
    assert office.status().status is Status.COMPLETED
    assert office.status().reason == "the budget is used up: 3 runs, 0.00 dollars"


# --- replays ----------------------------------------------------------------------------------------------------------

REQUESTS: dict[str, dict[str, Any]] = {
    "create": {"definition": definition(experiment_id="other")},
    "start": {"experiment_id": "drafted"},
    "amend": {"definition": definition(alpha=0.01), "reason": "why"},
    "stop": {"experiment_id": "agents", "reason": "why"},
    "assign": {"experiment_id": "agents", "task": {"task_id": "t9"}},
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_request_that_is_read_twice_changes_nothing(kind: str) -> None:
    """The second reading writes no new state and gives an answer of the same content."""
    office = running()
    office.ask("create", definition=definition(experiment_id="drafted"))
    office.assign("t0")
    payload = json.dumps({"kind": kind, "request_id": "r", **REQUESTS[kind]}).encode()
    (first,) = replies(office.say(payload))
    before = {name: dict(table) for name, table in office.tables.items()}
    (second,) = replies(office.say(payload))
    assert first.refusal is None
    assert replace(second, message="") == replace(first, message="")
    assert office.tables == before


def test_commands_that_are_read_again_in_their_order_change_nothing() -> None:
    """A draft is not drafted again once it runs, and what was stopped does not start again."""
    office = Office()
    commands: list[dict[str, Any]] = [
        {"kind": "create", "definition": definition()},
        {"kind": "start", "experiment_id": "agents"},
        {"kind": "stop", "experiment_id": "agents", "reason": "why"},
    ]
    payloads = [json.dumps({"request_id": f"r{at}", **each}).encode() for at, each in enumerate(commands)]
    for payload in payloads:
        office.say(payload)
    before = {name: dict(table) for name, table in office.tables.items()}
    answers = [replies(office.say(payload))[0] for payload in payloads]
    assert [answer.refusal for answer in answers] == ["invalid", "invalid", None]
    assert office.tables == before


def test_an_outcome_that_is_read_twice_changes_nothing() -> None:
    """The same run writes nothing again; neither does the same repeat, or the same unproven run."""
    office = running()
    reply = office.assign("t0")
    events: list[dict[str, Any]] = [
        {},
        {"agent_run_id": "again"},
        {"agent_run_id": "odd", "assignment_token": "v1.a.b"},
    ]
    for event in events:
        assert any(office.join(reply, "t0", **event).tables.values())
        assert not any(office.join(reply, "t0", **event).tables.values())
    (kept,) = office.assignments()
    assert kept.repeats == ["again"]
    assert office.owner.counts.joined == 2


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fields", "refusal", "message"),
    [
        ("assign", {"experiment_id": "none", "task": {}}, "unknown", "there is no experiment none"),
        ("assign", {"experiment_id": "drafted", "task": {}}, "not_running", "experiment drafted is a draft: start it"),
        (
            "assign",
            {"experiment_id": "agents", "task": {"project": "b"}},
            "no_match",
            "the task does not take part: project = 'b' does not match 'a'",
        ),
        (
            "assign",
            {"experiment_id": "agents", "task": {"task_id": 7}},
            "invalid",
            "task field task_id = 7: give a text",
        ),
        ("assign", {"experiment_id": "agents", "task": {"task_id": "x" * 257}}, "invalid", "task field task_id = 'xx"),
        (
            "assign",
            {"experiment_id": "agents", "task": {"task_complexity": "extreme"}},
            "invalid",
            "task field task_complexity = 'extreme': give a number in [0, 1] or one of",
        ),
        (
            "assign",
            {"experiment_id": "agents", "task": {"project_characteristics": 1}},
            "invalid",
            "task field project_characteristics = 1: give an object",
        ),
        (
            "create",
            {"definition": definition(alpha=0.01)},
            "invalid",
            "experiment agents was started: amend it, or choose another id",
        ),
        (
            "create",
            {"definition": definition(experiment_id="drafted", alpha=0.01)},
            "invalid",
            "there is another draft of drafted: replace it (--replace), or choose another id",
        ),
        ("create", {"definition": definition(experiment_id="new", control_value=2)}, "invalid", "control_value = 2.0"),
        ("start", {"experiment_id": "none"}, "unknown", "there is no draft of none: create it first"),
        ("start", {"experiment_id": "over"}, "invalid", "experiment over is stopped: create a new one under another"),
        ("amend", {"definition": definition(experiment_id="none"), "reason": "w"}, "unknown", "there is no experiment"),
        (
            "amend",
            {"definition": definition(experiment_id="drafted"), "reason": "w"},
            "not_running",
            "experiment drafted",
        ),
        ("amend", {"definition": definition(control_value=2), "reason": "w"}, "invalid", "control_value = 2.0: choose"),
        ("stop", {"experiment_id": "none", "reason": "w"}, "unknown", "there is no experiment none"),
    ],
)
def test_every_refusal_names_its_kind_and_its_reason(
    kind: str, fields: dict[str, Any], refusal: str, message: str
) -> None:
    """The reply bears the experiment, a word and a sentence; nothing is written for it."""
    office = running(context_filter={"project": "a"})
    office.begin(experiment_id="over")
    office.ask("stop", experiment_id="over", reason="w")
    office.ask("create", definition=definition(experiment_id="drafted"))
    before = {name: dict(table) for name, table in office.tables.items()}
    reply = office.ask(kind, **fields)
    assert (reply.refusal, reply.message[: len(message)]) == (refusal, message)
    assert reply.experiment_id == fields.get("experiment_id", fields.get("definition", {}).get("experiment_id"))
    assert (reply.assigned_value, reply.assignment_token, reply.status) == (None, None, None)
    assert office.tables == before
    assert (office.owner.counts.refused, office.owner.counts.assigned) == (1, 0)


def test_when_the_samples_suffice_nobody_is_sent() -> None:
    """While the last planned runs are under way the answer is "sufficient", when all are in it is "not_running"."""
    office = running(planned_per_value=2)
    given = {f"t{number}": office.assign(f"t{number}") for number in range(4)}
    for seconds in (0, 1, 500):
        refused = office.assign("t4")
        assert (refused.refusal, refused.message) == ("sufficient", "every value has its 2 assignments")
        office.tick(seconds)
        assert office.status().status is Status.RUNNING
    for task, reply in given.items():
        office.join(reply, task)
    office.tick()
    assert office.status().status is Status.COMPLETED
    assert office.assign("t4").refusal == "not_running"
    assert office.assign("t0") == replace(given["t0"], request_id=f"request-{office.requests}")


def test_an_expiry_reopens_a_place() -> None:
    """Where a run does not come the experiment goes on until another has; only then has it all that was planned."""
    office = running(planned_per_value=2, assignment="least", expire_seconds=60)
    given = {f"t{number}": office.assign(f"t{number}") for number in range(4)}
    for task in ("t0", "t1", "t2"):
        office.join(given[task], task)
    office.tick(61)
    assert office.status().status is Status.RUNNING
    another = office.assign("t4")
    assert another.assigned_value == given["t3"].assigned_value
    assert office.assign("t5").refusal == "sufficient"
    office.tick()
    assert office.status().status is Status.RUNNING
    office.join(another, "t4")
    office.tick()
    assert (office.status().status, office.status().reason) == (
        Status.COMPLETED,
        "every value has its 2 assignments",
    )


def test_an_experiment_whose_runs_never_come_is_stopped() -> None:
    """After three times its planned assignments it ends with cause loss, says so, and is exploratory."""
    office = running(planned_per_value=2, expire_seconds=60)
    for number in range(MOST_GIVEN * 4):
        assert office.status().status is Status.RUNNING
        assert office.assign(f"t{number}").refusal is None
        office.tick(61)
    assert office.status().status is Status.STOPPED
    assert office.status().reason == "12 assignments led to only 0 runs"
    assert office.status().next_step == NEXT_STEPS["loss"]
    office.refresh()
    assert office.result().deviations == ["stopped: 12 assignments led to only 0 runs"]


def test_a_late_request_makes_no_assignment() -> None:
    """Whoever waited no longer has gone on alone: no slot is used up, and the next one in time gets the first."""
    office, other = running(), running()
    late = office.ask("assign", age=1.5, experiment_id="agents", task={"task_id": "t0"})
    assert late.refusal == "late"
    assert late.message == "not assigned: unavailable; the request waited 1.5 s"
    assert office.assignments() == []
    assert (office.owner.counts.late, office.owner.counts.refused, office.owner.counts.assigned) == (1, 1, 0)
    patient = office.ask("assign", age=1.5, experiment_id="agents", task={"task_id": "t0"}, patience=2)
    assert patient.assigned_value == other.assign("t0").assigned_value
    again = office.ask("assign", age=1.5, experiment_id="agents", task={"task_id": "t0"})
    assert again.refusal == "late"


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "the request is not valid: Input data was truncated"),
        (b"not JSON", "the request is not valid: JSON is malformed"),
        (b'{"kind": "assign", "request_id": "r\xff"}', "the request is not valid: "),
        (None, f"the request has 0 bytes: send a JSON object of 1 to {LARGEST_REQUEST}"),
        (b"[" * 100_000 + b"]" * 100_000, "the request is not valid: "),
        (b'{"kind": "assign", "request_id": 7}', "the request is not valid: "),
    ],
)
def test_what_names_no_asker_gets_no_reply(payload: bytes | None, message: str) -> None:
    """Nobody could read it: it is counted, and the worker goes on."""
    office = running()
    assert replies(office.say(payload)) == []
    assert office.owner.counts.unreadable == 1
    assert message
    assert office.assign("t0").refusal is None


NESTED = b'{"kind": "assign", "request_id": "r", "experiment_id": "agents", "task": {"x": '


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b'{"request_id": "r"}', "the request is not valid: Object missing required field `kind`"),
        (b'{"kind": "guess", "request_id": "r"}', "the request is not valid: Invalid value 'guess'"),
        (
            b'{"kind": "start", "request_id": "r", "experiment_id": "a b"}',
            "the request is not valid: Expected `str` ma",
        ),
        (b'{"kind": "start", "request_id": "r"}', "the request is not valid: Object missing required field"),
        (b'{"kind": "create", "request_id": "r", "definition": {"x": 1}}', "the request is not valid: Object "),
        (NESTED + b'"' + b"x" * LARGEST_REQUEST + b'"}}', "the request has "),
    ],
)
def test_what_is_no_request_is_refused_with_the_rule(payload: bytes, message: str) -> None:
    """If the asker can be made out, the reply says what is wrong; nothing else happens."""
    office = running()
    (reply,) = replies(office.say(payload))
    assert (reply.request_id, reply.refusal, reply.message[: len(message)]) == ("r", "invalid", message)


@pytest.mark.parametrize("depth", [*range(860, 1010, 3), 5000, 100_000])
def test_no_depth_of_nesting_stops_the_worker(depth: int) -> None:
    """A task or a filter that is nested deeper than the stack is refused, wherever that is found out."""
    office = running()
    deep = b"[" * depth + b"]" * depth
    filtered = json.dumps(definition(experiment_id="deep", context_filter={"x": "DEEP"})).encode()
    for payload in (
        NESTED + deep + b"}}",
        NESTED.replace(b'"x"', b'"project"') + deep + b"}}",
        b'{"kind": "create", "request_id": "r", "definition": ' + filtered.replace(b'"DEEP"', deep) + b"}",
    ):
        office.say(payload)
    assert office.assign("t0").refusal is None
    assert "deep" not in office.owner.store.drafts


def test_a_request_in_another_partition_is_refused() -> None:
    """Only the owner of an experiment's partition answers for it."""
    owner = Experimenter(0, load_settings(partitions=4, experiment_secret=SECRET))
    elsewhere = next(f"e{n}" for n in range(50) if partition_of(f"e{n}".encode(), 4) != 0)
    here = next(f"e{n}" for n in range(50) if partition_of(f"e{n}".encode(), 4) == 0)
    office = Office(owner)
    refused = office.ask("create", definition=definition(experiment_id=elsewhere))
    assert (refused.refusal, refused.message) == (
        "invalid",
        f"publish requests about {elsewhere} under that key, by murmur2",
    )
    assert office.ask("create", definition=definition(experiment_id=here)).refusal is None


def test_a_draft_can_be_replaced_on_purpose() -> None:
    """Another definition takes the draft's place only where the request says so; the same one is no conflict."""
    office = Office()
    office.ask("create", definition=definition())
    assert office.ask("create", definition=definition()).refusal is None
    assert office.ask("create", definition=definition(alpha=0.01), replace=True).refusal is None
    assert office.ask("start", experiment_id="agents").status is Status.RUNNING
    sealed = msgspec.json.decode(office.stored("agents|1|definition"), type=Sealed)
    assert sealed.definition.alpha == 0.01


def test_a_partition_takes_a_thousand_experiments() -> None:
    """One more is refused; a known draft can still be replaced."""
    office = Office()
    for number in range(MOST_EXPERIMENTS):
        draft = Draft(read_definition(definition(experiment_id=f"e{number}")), "2026-01-01T00:00:00Z")
        office.owner.store.keep_draft(draft)
    refused = office.ask("create", definition=definition())
    assert refused.message == "this partition has 1000 experiments: reuse a draft"
    assert office.ask("create", definition=definition(experiment_id="e5", alpha=0.01), replace=True).refusal is None


def test_the_unit_is_the_task_else_the_run_else_the_request() -> None:
    """Without a task id the run is what was assigned, without both each request is a unit of its own."""
    office = running()
    office.ask("assign", experiment_id="agents", task={"task_id": "t"}, agent_run_id="r")
    office.ask("assign", experiment_id="agents", task={}, agent_run_id="r")
    office.ask("assign", experiment_id="agents", task={})
    assert [each.unit for each in office.assignments()] == ["task=t", "run=r", f"request=request-{office.requests}"]


def test_without_a_secret_there_is_no_owner() -> None:
    """A worker without it does not begin."""
    with pytest.raises(SettingsError, match="experiment_secret"):
        Experimenter(0, load_settings(partitions=1))


# --- runs that prove nothing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"assignment_token": None}, "no assignment token"),
        ({"assignment_token": "mine"}, "the assignment token has another form"),
        ({"assignment_token": "v1.0123.4567"}, "the token names no assignment"),
        ({"assignment_token": lambda token: token[:-1] + ("0" if token[-1] != "0" else "1")}, "the token was not made"),
        ({"assignment_token": lambda token: token[:-1] + "ü"}, "the token was not made by this deployment"),
        ({"task_id": "t1"}, "the token is that of task t0"),
        ({"assigned_value": 3}, "assigned_value = 3.0 is not the "),
        ({"assigned_value": "small"}, "assigned_value = small is not the "),
    ],
)
def test_a_run_without_a_valid_token_is_named_and_not_counted(event: dict[str, Any], reason: str) -> None:
    """It stands in the notes with its reason, in the result as a number, and in no value's runs."""
    office = running()
    reply = office.assign("t0")
    told = {name: value(reply.assignment_token) if callable(value) else value for name, value in event.items()}
    office.join(reply, "t0", agent_run_id="odd", **told)
    (told_reason,) = office.notes().unproven.values()
    assert list(office.notes().unproven) == ["odd"]
    assert told_reason.startswith(reason)
    office.refresh()
    assert (office.result().unproven, office.result().runs) == (1, 0)
    assert [each.run for each in office.assignments()] == [None]
    assert office.owner.counts.joined == 0


def test_the_token_of_a_run_is_no_other_runs() -> None:
    """Where no task was named, the run that was assigned has to be the one that comes."""
    office = running()
    reply = office.ask("assign", experiment_id="agents", task={}, agent_run_id="mine")
    office.join(reply, "t0", agent_run_id="other", task_id=None)
    assert office.notes().unproven == {"other": "the token is that of run mine"}
    office.join(reply, "t0", agent_run_id="mine", task_id=None)
    (kept,) = office.assignments()
    assert kept.run is not None
    assert kept.run.agent_run_id == "mine"


def test_a_run_without_a_task_id_goes_by_its_token_and_may_echo_its_value_as_text() -> None:
    """What it leaves out is not held against it; a number that it echoes as text is that number."""
    office = running()
    reply = office.assign("t0")
    office.join(reply, "t0", task_id=None, assigned_value=f"{reply.assigned_value:g}")
    assert [each.run is not None for each in office.assignments()] == [True]


def test_a_token_of_another_experiment_names_nothing_here() -> None:
    """An experiment's runs bear its own tokens."""
    office = running()
    office.begin(experiment_id="other")
    reply = office.assign("t0", "other")
    office.join(reply, "t0", experiment_id="agents")
    assert office.notes().unproven == {"run-t0": "the token names no assignment"}
    assert not any(office.join(reply, "t0", experiment_id="unheard-of").tables.values())


def test_a_thousand_unproven_runs_are_remembered() -> None:
    """Then no more: the notes are one record."""
    office = running()
    for number in range(1010):
        event = RunEvent(agent_run_id=f"r{number}", experiment_id="agents")
        office.owner.join(event, (0, number), BEGIN)
    office.write()
    assert len(office.notes().unproven) == 1000


# --- restarts ---------------------------------------------------------------------------------------------------------

Step = Callable[[Office], object]


@dataclass(slots=True)
class Chance:
    """Draws what may happen to an office; `tokens` are those that one has given: experiment, task, token."""

    rng: random.Random
    tokens: list[tuple[str, str, str]] = field(default_factory=list)

    def step(self) -> Step:
        """Draw one step."""
        kinds = [self.assign] * 8 + [self.outcome] * 6 + [self.time] * 2 + [self.command] * 2 + [self.odd]
        return self.rng.choice(kinds)()

    def assign(self) -> Step:
        """Ask for a value, now and then too late."""
        experiment, task, age = self.experiment(), f"t{self.rng.randrange(150)}", self.rng.choice([0, 0, 0, 2])
        project = self.rng.choice("ab")

        def step(office: Office) -> None:
            reply = office.ask("assign", age, experiment_id=experiment, task={"task_id": task, "project": project})
            if reply.assignment_token is not None:
                self.tokens.append((experiment, task, reply.assignment_token))

        return step

    def outcome(self) -> Step:
        """Bring a run, a revision, a repeat, or one that proves nothing."""
        rng = self.rng
        if not self.tokens:
            return self.time()
        experiment, task, token = rng.choice(self.tokens)
        run, order = rng.choice([f"run-{task}"] * 5 + ["again"]), (rng.randrange(2), rng.randrange(9))
        token = rng.choice([token] * 20 + ["", token[:-1] + "z", "v1.a.b"])
        fields = {"success": rng.random() < 0.6, "quality_score": rng.random(), "total_cost": rng.random()}
        reply = Reply("", experiment, assigned_value=rng.choice([1.0, 4.0]), assignment_token=token)
        return lambda office: office.join(reply, task, order, agent_run_id=run, **fields)

    def time(self) -> Step:
        """Let time pass, or results be worked out."""
        seconds = self.rng.choice([0, 0.5, 5, 400])
        return lambda office: office.tick(seconds) if seconds else office.refresh()

    def command(self) -> Step:
        """Draft, start, amend, or, seldom, stop."""
        experiment, rng = self.experiment(), self.rng
        asked = definition(experiment_id=experiment, **COURSES[experiment], alpha=rng.choice([0.05, 0.05, 0.01]))
        commands: list[Step] = [
            lambda office: office.ask("create", definition=asked, replace=True),
            lambda office: office.ask("start", experiment_id=experiment),
            lambda office: office.ask("amend", definition=asked, reason="why"),
            lambda office: office.ask("stop", experiment_id=experiment, reason="why"),
        ]
        return rng.choices(commands, [3, 3, 3, 1])[0]

    def odd(self) -> Step:
        """Send something that is no request."""
        payload = self.rng.choice([b"", b"x", b'{"request_id": "r"}', None])
        return lambda office: office.say(payload)

    def experiment(self) -> str:
        """Choose an experiment."""
        return self.rng.choice(list(COURSES))


COURSES: dict[str, dict[str, Any]] = {
    "agents": {"stratify_by": ["project"], "planned_per_value": 40},
    "fewest": {"assignment": "least", "planned_per_value": 4},
    "adaptive": {"assignment": "neyman", "outcome": "quality_score", "budget_dollars": 40, "planned_per_value": 60},
}


def written(office: Office, step: Step) -> tuple[Tables, Sequence[Record]]:
    """Take a step; give all that is stored then, and the records that went out with it."""
    before = len(office.records)
    step(office)
    # Experiments that end at the same moment have no order among them.
    records = sorted(office.records[before:], key=lambda record: (record.topic, record.key or b""))
    return {name: dict(table) for name, table in office.tables.items()}, records


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), before=st.integers(0, 250), after=st.integers(1, 60))
def test_an_owner_that_starts_again_goes_on_as_if_nothing_had_happened(seed: int, before: int, after: int) -> None:
    """Cut anywhere, read back in any order: the same further replies, tables and records as without the restart."""
    chance, office = Chance(random.Random(seed)), Office()  # noqa: S311 - a repeatable test
    for name, course in COURSES.items():
        office.begin(experiment_id=name, **course)
    for _ in range(before):
        chance.step()(office)
    again = office.reopened(seed=seed)
    assert not again.owner.store.changed
    for trial in office.owner.store.trials:
        # A restart works every result out again; as time passes an old one may have become another.
        trial.dirty = True
    for _ in range(after):
        step = chance.step()
        assert written(again, step) == written(office, step)


# --- tampering --------------------------------------------------------------------------------------------------------


def tampered(office: Office, **changes: object) -> bytes:
    """Change the sealed definition as somebody could who writes to the topic: its hash is made again, its seal not."""
    sealed = msgspec.json.decode(office.stored("agents|1|definition"), type=Sealed)
    other: Definition = replace(sealed.definition, **changes)
    return msgspec.json.encode(replace(sealed, definition=other, sha256=digest(other)))


def test_a_changed_definition_is_named_undone_and_ends_the_experiment() -> None:
    """Each changed field is told with both values; the true record is written back; what follows is exploratory."""
    office = running()
    reply = office.assign("t0")
    true = office.stored("agents|1|definition")
    assert not office.owner.store.suspect("agents|1|definition", true)
    assert office.owner.store.suspect("agents|1|definition", tampered(office, alpha=0.2, minimum_effect=0.05))
    flush = office.write()
    assert flush.tables[EXPERIMENTS_TABLE][b"agents|1|definition"] == true
    told = "version 1: the sealed definition was changed: minimum_effect 0.1 -> 0.05; alpha 0.05 -> 0.2"
    assert office.notes().tampering == [told]
    refused = office.assign("t1")
    assert (refused.refusal, refused.message) == ("not_running", f"experiment agents: {told}")
    office.tick()
    assert (office.status().status, office.status().reason) == (Status.STOPPED, f"tampering: {told}")
    office.join(reply, "t0")
    office.refresh()
    assert office.result().label is Label.EXPLORATORY
    assert office.result().deviations == [f"tampering: {told}", f"stopped: tampering: {told}"]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (None, "the sealed definition was deleted"),
        (b"{", "the sealed definition was replaced by something unreadable"),
        (b'{"definition": {"context_filter": ' + b"[" * 100_000, "the sealed definition was replaced by something unr"),
        (lambda true: true.replace(b'"by":""', b'"by":"eve"'), "the sealed definition was changed: its seal, not its"),
    ],
)
def test_whatever_stands_in_the_place_of_a_definition_is_told(
    found: bytes | Callable[[bytes], bytes] | None, told: str
) -> None:
    """A deletion, something unreadable, or other words around the same definition: all are foreign, and undone."""
    office = running()
    true = office.stored("agents|1|definition")
    assert office.owner.store.suspect("agents|1|definition", found(true) if callable(found) else found)
    assert office.owner.store.drain().tables[EXPERIMENTS_TABLE][b"agents|1|definition"] == true
    (what,) = office.owner.store.versions["agents"][0].notes.tampering
    assert what.startswith(f"version 1: {told}")


def test_the_same_forgery_is_undone_each_time_and_noted_once() -> None:
    """Whoever insists does not win: the last record of the key is always the owner's."""
    office = running()
    forged, true = tampered(office, alpha=0.2), office.stored("agents|1|definition")
    for _ in range(3):
        assert office.owner.store.suspect("agents|1|definition", forged)
        assert office.write().tables[EXPERIMENTS_TABLE][b"agents|1|definition"] == true
    assert len(office.notes().tampering) == 1


@pytest.mark.parametrize(
    "key",
    [
        "none|1|definition",
        "agents|1|status",
        "agents|2|status",
        "agents",
        "agents|x|definition",
        f"agents|{'1' * 5000}|definition",
        "a|b|c|d",
        "",
    ],
)
def test_other_records_are_not_suspected(key: str) -> None:
    """Only definitions of experiments that it knows are the owner's to defend; a key of 5,000 digits is no version."""
    office = running()
    assert not office.owner.store.suspect(key, b"{}")
    assert not office.owner.store.changed


def test_a_definition_without_a_true_seal_is_not_believed_after_a_restart() -> None:
    """What was changed while nobody watched is noted, assigns nothing, ends, and is exploratory."""
    office = running()
    reply = office.assign("t0")
    office.tables[EXPERIMENTS_TABLE][b"agents|1|definition"] = tampered(office, alpha=0.2)
    again = office.reopened()
    told = "version 1: the record was not sealed by this deployment"
    assert again.assign("t1").refusal == "not_running"
    assert again.notes().tampering == [told]
    again.tick()
    assert again.status().reason == f"tampering: {told}"
    again.join(reply, "t0")
    again.refresh()
    assert again.result().label is Label.EXPLORATORY
    assert f"tampering: {told}" in again.result().deviations
    assert "1 assignments were made under another definition" in again.result().deviations
    assert again.reopened().owner.store.versions["agents"][0].notes.tampering == [told]


@pytest.mark.parametrize(("values", "untested", "drawn"), [([1.0, 2.0], 3, 6), ([1.0, 2.0, 3.0, 4.0], 0, 9)])
def test_a_definition_that_lost_or_gained_a_value_does_not_stop_its_owner(
    values: list[float], untested: int, drawn: int
) -> None:
    """Assignments that cannot be of a changed definition are set apart and named until the true one is back."""
    office = running(values_tested=[1, 2, 4])
    true = office.stored("agents|1|definition")
    for number in range(9):
        office.join(office.assign(f"t{number}"), f"t{number}", success=number % 2 == 0)
    office.tables[EXPERIMENTS_TABLE][b"agents|1|definition"] = tampered(office, values_tested=values)
    again = office.reopened()
    again.tick()
    again.refresh()
    assert again.status().status is Status.STOPPED
    notes = again.notes().tampering
    assert sum("which is not tested" in what for what in notes) == untested
    assert sum("was drawn from 3 values" in what for what in notes) == drawn
    assert [arm.assigned for arm in again.result().arms] == [0] * len(values)
    assert again.owner.store.suspect("agents|1|definition", true)
    again.refresh()
    restored = again.reopened()
    restored.owner.store.versions["agents"][0].dirty = True
    restored.refresh()
    assert [arm.assigned for arm in restored.result().arms] == [3, 3, 3]
    assert restored.result().label is Label.EXPLORATORY


@pytest.mark.parametrize(
    "changes",
    [
        {"control_value": 3.0},
        {"contrast_value": 7.0, "estimand": "contrast"},
        {"values_tested": [4.0, 1.0]},
        {"values_tested": [-1.0, 1.0, 4.0]},
        {"values_tested": [1.0, "small", 4.0]},
        {"outcome": Outcome.SUCCESS_TIMES_QUALITY},
        {"secondary_outcomes": [Outcome.QUALITY_GIVEN_SUCCESS]},
        {"alpha": 1e-300},
    ],
)
def test_a_forged_definition_that_breaks_a_rule_does_not_stop_its_owner(changes: dict[str, Any]) -> None:
    """Nobody could analyse it: it is as unreadable as any junk, its id is kept, and others go on."""
    office = concluded()
    office.tables[EXPERIMENTS_TABLE][b"agents|1|definition"] = tampered(office, **changes)
    again = office.reopened()
    assert again.owner.store.lost == {"agents"}
    assert list(again.owner.store.versions) == ["other"]
    again.tick()
    again.refresh()
    assert again.ask("create", definition=definition()).refusal == "invalid"
    assert again.owner.store.versions["other"][0].notes.tampering == []


def test_an_assignment_without_a_true_mac_is_not_believed_after_a_restart() -> None:
    """Its value, its chances or its unit were changed: it counts for nothing, is named, and the experiment ends."""
    office = running()
    replies_by_task = {f"t{n}": office.assign(f"t{n}") for n in range(2)}
    (key, value), _ = office.tables[ASSIGNMENTS_TABLE].items()
    kept = msgspec.json.decode(value, type=Assignment)
    office.tables[ASSIGNMENTS_TABLE][key] = msgspec.json.encode(replace(kept, propensities=[0.9, 0.1]))
    again = office.reopened()
    again.write()
    assert again.notes().tampering == [f"assignment {key.decode()} was not made by this deployment"]
    again.join(replies_by_task["t0"], "t0")
    assert again.notes().unproven == {"run-t0": "the token names no assignment"}
    again.tick()
    assert again.status().status is Status.STOPPED


JUNK: list[tuple[str, bytes, bytes]] = [
    (EXPERIMENTS_TABLE, b"junk", b"{}"),
    (EXPERIMENTS_TABLE, b"\xff|1|definition", b"{}"),
    (EXPERIMENTS_TABLE, b"a|b|c|d", b"{}"),
    (EXPERIMENTS_TABLE, b"other|1|definition", b"{"),
    (EXPERIMENTS_TABLE, b"other|1|definition", b"[" * 100_000),
    (EXPERIMENTS_TABLE, b"other|0|draft", b'{"definition": 7}'),
    (EXPERIMENTS_TABLE, b"other|1|status", b"{"),
    (EXPERIMENTS_TABLE, b"other|" + b"9" * 5000 + b"|definition", b"{}"),
    (EXPERIMENTS_TABLE, b"agents|" + b"9" * 5000 + b"|status", b"{}"),
    (EXPERIMENTS_TABLE, b"cut|" + b"9" * 5000 + b"|requests", b"{}"),
    (ASSIGNMENTS_TABLE, b"junk", b"{"),
    (ASSIGNMENTS_TABLE, b"none|" + b"9" * 5000, b"{"),
    (ASSIGNMENTS_TABLE, b"\xff", b"\xff"),
    (ASSIGNMENTS_TABLE, b"none|0", b"[" * 100_000),
]


@pytest.mark.parametrize(("table", "key", "value"), JUNK)
def test_foreign_records_do_not_keep_an_owner_from_starting(table: str, key: bytes, value: bytes) -> None:
    """What has another key or form is passed over; the experiments of the partition go on."""
    office = running()
    first = office.assign("t0")
    office.tables[table][key] = value
    again = office.reopened()
    assert again.assign("t0") == replace(first, request_id=f"request-{again.requests}")
    assert set(again.owner.store.versions) == {"agents"}
    assert again.owner.store.versions["agents"][0].running


def test_a_true_record_under_another_key_is_not_believed() -> None:
    """A sealed version or a draft counts under its own key only: an old one cannot be played back as another."""
    office = running()
    office.ask("amend", definition=definition(alpha=0.01), reason="w")
    office.ask("create", definition=definition(experiment_id="drafted"))
    stored = office.tables[EXPERIMENTS_TABLE]
    stored[b"agents|2|definition"] = stored[b"agents|1|definition"]
    stored[b"other|1|definition"], stored[b"other|1|status"] = (
        stored[b"agents|1|definition"],
        stored[b"agents|1|status"],
    )
    stored[b"other|0|draft"] = stored[b"drafted|0|draft"]
    again = office.reopened()
    assert {name: [trial.sealed.version for trial in each] for name, each in again.owner.store.versions.items()} == {
        "agents": [1]
    }
    assert set(again.owner.store.drafts) == {"drafted"}


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        ("status", None, "version 1: the status was deleted"),
        ("status", b"{", "version 1: the status was replaced by something unreadable"),
        ("notes", b"[]", "version 1: the notes was replaced by something unreadable"),
        ("result", b"{}", "version 1: the result was replaced by something unreadable"),
        ("finding", b"7", "version 1: the finding was replaced by something unreadable"),
    ],
)
def test_what_stands_beside_a_version_does_not_make_it_vanish(kind: str, value: bytes | None, told: str) -> None:
    """A status that is gone, or a part that cannot be read, is noted, and the experiment ends; its runs stay."""
    office = running()
    reply = office.assign("t0")
    office.tables[EXPERIMENTS_TABLE].pop(f"agents|1|{kind}".encode(), None)
    if value is not None:
        office.tables[EXPERIMENTS_TABLE][f"agents|1|{kind}".encode()] = value
    again = office.reopened()
    again.tick()
    assert again.notes().tampering == [told]
    assert again.status().status is Status.STOPPED
    again.join(reply, "t0")
    assert [each.run is not None for each in again.assignments()] == [True]
    assert again.ask("create", definition=definition()).refusal == "invalid"


def test_an_assignment_that_cannot_be_read_is_noted_with_its_experiment() -> None:
    """It is lost: the experiment that its key names says so."""
    office = running()
    office.assign("t0")
    (key,) = office.tables[ASSIGNMENTS_TABLE]
    office.tables[ASSIGNMENTS_TABLE][key] = b"{"
    again = office.reopened()
    again.write()
    assert again.notes().tampering == [f"assignment {key.decode()} was replaced by something unreadable"]


def test_what_is_noted_of_tampering_does_not_grow_for_ever() -> None:
    """A hundred forged assignments are named; more add nothing."""
    office = running()
    for number in range(150):
        office.tables[ASSIGNMENTS_TABLE][f"agents|{number}".encode()] = b"{"
    again = office.reopened()
    again.write()
    assert len(again.notes().tampering) == 100


def test_a_draft_that_was_changed_on_the_topic_is_checked_before_it_is_sealed() -> None:
    """A draft bears no seal; what breaks a rule is refused at the start, however it came there."""
    office = Office()
    office.ask("create", definition=definition())
    draft = msgspec.json.decode(office.stored("agents|0|draft"), type=Draft)
    forged = replace(draft, definition=replace(draft.definition, values_tested=[4.0, 1.0]))
    office.tables[EXPERIMENTS_TABLE][b"agents|0|draft"] = msgspec.json.encode(forged)
    refused = office.reopened().ask("start", experiment_id="agents")
    assert (refused.refusal, refused.message) == (
        "invalid",
        "values_tested = [4.0, 1.0]: give them in ascending order",
    )


def concluded() -> Office:
    """Open an office with an experiment that has everything beside it: status, notes, result and finding."""
    office = running()
    office.begin(experiment_id="other")
    for experiment in ("agents", "other"):
        for number in range(6):
            reply = office.assign(f"t{number}", experiment)
            office.join(reply, f"t{number}", success=number % 2 == 0, total_cost=0.5)
        office.join(replace(reply, assignment_token=None), "odd", agent_run_id="odd")
    office.tick(1)
    office.refresh()
    assert office.status().status is Status.ANALYZED
    return office


BESIDE: dict[str, tuple[type[Any], dict[str, object]]] = {
    "status": (StatusRecord, {"status": Status.RUNNING}),
    "notes": (Notes, {"unproven": {}}),
    "result": (Result, {"sentence": "Agents work wonders."}),
    "finding": (Finding, {"p": 1e-9}),
}


@pytest.mark.parametrize("forgery", ["changed", "moved", "bare", "made with another secret"])
@pytest.mark.parametrize("kind", BESIDE)
def test_a_record_beside_a_definition_that_bears_no_true_mac_is_not_believed(kind: str, forgery: str) -> None:
    """Changed, taken from another experiment, or made elsewhere: it is named and counts for nothing."""
    office = concluded()
    what, changes = BESIDE[kind]
    key = f"agents|1|{kind}"
    record = msgspec.json.decode(office.stored(key), type=what)
    forged = {
        "changed": replace(record, **changes),
        "moved": msgspec.json.decode(office.stored(f"other|1|{kind}"), type=what),
        "bare": replace(record, mac=""),
        "made with another secret": with_mac(key, record, "fedcba9876543210"),
    }[forgery]
    office.tables[EXPERIMENTS_TABLE][key.encode()] = msgspec.json.encode(forged)
    again = office.reopened()
    again.write()
    told = f"version 1: the {kind} was not written by this deployment"
    assert again.notes().tampering == [told]
    trial = again.owner.store.versions["agents"][0]
    assert trial.sealed == office.owner.store.versions["agents"][0].sealed
    assert (trial.result is None, trial.finding is None) == (kind == "result", kind == "finding")
    if kind == "status":
        assert (again.status().status, again.status().reason) == (Status.STOPPED, "its status was lost")
    else:
        assert again.status().status is Status.ANALYZED
    assert again.owner.store.versions["other"][0].notes.tampering == []
    again.refresh()
    assert again.result().label is Label.EXPLORATORY
    assert again.result().runs == 6
    assert again.reopened().owner.store.versions["agents"][0].notes.tampering == [told]


@pytest.mark.parametrize(
    "changes", [{"run": None}, {"expired": True}, {"repeats": ["again"]}, {"success": 0.0}, {"outcome_mac": ""}]
)
def test_an_outcome_that_somebody_else_wrote_is_noted(changes: dict[str, Any]) -> None:
    """What became of an assignment bears a MAC of its own: a run taken away, changed or added is told."""
    office = running()
    reply = office.assign("t0")
    office.join(reply, "t0", success=True)
    ((key, value),) = office.tables[ASSIGNMENTS_TABLE].items()
    kept = msgspec.json.decode(value, type=Assignment)
    assert kept.run is not None
    forged = replace(kept, run=replace(kept.run, **changes)) if "success" in changes else replace(kept, **changes)
    office.tables[ASSIGNMENTS_TABLE][key] = msgspec.json.encode(forged)
    again = office.reopened()
    again.write()
    told = f"what became of assignment {key.decode()} was not written by this deployment"
    assert again.notes().tampering == [told]
    again.tick()
    assert again.status().status is Status.STOPPED


def test_the_outcome_of_another_assignment_is_not_believed() -> None:
    """A true outcome is true for its own assignment only."""
    office = running()
    for number in range(2):
        office.join(office.assign(f"t{number}"), f"t{number}", success=number == 0)
    (one, other), stored = office.tables[ASSIGNMENTS_TABLE], office.tables[ASSIGNMENTS_TABLE]
    first, second = (msgspec.json.decode(stored[key], type=Assignment) for key in (one, other))
    stored[one] = msgspec.json.encode(replace(first, run=second.run, outcome_mac=second.outcome_mac))
    again = office.reopened()
    again.write()
    assert again.notes().tampering == [f"what became of assignment {one.decode()} was not written by this deployment"]


def test_a_foreign_cut_is_not_followed() -> None:
    """Requests would be passed over: a cut of another hand, or of another partition, is as none."""
    office = running()
    office.ask("create", definition=definition(experiment_id="drafted"))
    office.owner.store.keep_draft(office.owner.store.drafts["drafted"])
    office.owner.store.pass_requests(0, RequestsCut(7, 1000))
    office.write()
    true = office.reopened().owner.store.cut
    assert (true.offset, true.timestamp) == (7, 1000)
    forgeries = {
        b"cut|0|requests": msgspec.json.encode(RequestsCut(10**9, 10**15)),
        b"cut|1|requests": office.stored("cut|0|requests"),
    }
    for key, value in forgeries.items():
        stored = {name: dict(table) for name, table in office.tables.items()}
        del stored[EXPERIMENTS_TABLE][b"cut|0|requests"]
        stored[EXPERIMENTS_TABLE][key] = value
        again = office.reopened(stored)
        assert again.owner.store.cut == RequestsCut()
        assert again.owner.store.versions["agents"][0].running


def test_what_a_deployment_wrote_it_reads_back_unchanged() -> None:
    """Every record, of drafts, versions, results, findings and outcomes, is true for an owner that starts again."""
    office = concluded()
    office.begin(experiment_id="sizes", dimension_tested="model_size", values_tested=["small", "large"],
                 control_value="small", estimand="contrast")  # fmt: skip
    office.ask("create", definition=definition(experiment_id="drafted"))
    office.ask("amend", definition=definition(alpha=0.01), reason="w")
    for number in range(5):
        office.join(office.assign(f"t{number}"), f"t{number}", quality_score=number / 7)
    office.tick(601)
    office.refresh()
    office.owner.store.keep_draft(office.owner.store.drafts["drafted"])
    office.owner.store.pass_requests(0, RequestsCut(7, 1000))
    office.write()
    again = office.reopened(seed=3)
    assert not again.owner.store.changed
    assert again.owner.store.drafts == office.owner.store.drafts
    assert again.owner.store.lost == set()
    trials = {trial.name: trial for trial in again.owner.store.trials}
    assert sorted(trials) == sorted(trial.name for trial in office.owner.store.trials)
    for trial in office.owner.store.trials:
        read = trials[trial.name]
        assert (read.sealed, read.assignments.keys()) == (trial.sealed, trial.assignments.keys())
        assert read.notes.tampering == []
        for kind in BESIDE:
            ours, theirs = getattr(trial, kind), getattr(read, kind)
            assert (theirs and replace(theirs, mac="")) == (ours and replace(ours, mac=""))


@pytest.mark.parametrize("gone", [None, b"{", b'{"definition": 7}'])
def test_records_whose_definition_is_gone_reserve_its_id(gone: bytes | None) -> None:
    """Whoever deletes a definition does not get its experiment begun anew under the same name."""
    office = running()
    office.assign("t0")
    office.tables[EXPERIMENTS_TABLE].pop(b"agents|1|definition")
    if gone is not None:
        office.tables[EXPERIMENTS_TABLE][b"agents|1|definition"] = gone
    again = office.reopened()
    assert again.owner.store.lost == {"agents"}
    refused = again.ask("create", definition=definition())
    assert (refused.refusal, refused.message) == (
        "invalid",
        "experiment agents was started, and its definition is gone: choose another id",
    )
    assert again.ask("create", definition=definition(experiment_id="other")).refusal is None
    assert again.assign("t0").refusal == "unknown"


def test_a_draft_under_a_lost_id_is_not_started() -> None:
    """Putting a draft in the place of a deleted definition does not begin the experiment anew either."""
    office = running()
    office.assign("t0")
    del office.tables[EXPERIMENTS_TABLE][b"agents|1|definition"]
    draft = Draft(read_definition(definition(alpha=0.2)), moment(BEGIN))
    office.tables[EXPERIMENTS_TABLE][b"agents|0|draft"] = msgspec.json.encode(draft)
    again = office.reopened()
    refused = again.ask("start", experiment_id="agents")
    assert (refused.refusal, refused.message) == (
        "invalid",
        "experiment agents was started, and its definition is gone: choose another id",
    )
    assert b"agents|1|definition" not in again.tables[EXPERIMENTS_TABLE]


def test_a_lost_later_version_is_noted_on_the_newest_that_is_left() -> None:
    """An amendment that vanished does not leave the version before it as if nothing had been."""
    office = running()
    office.ask("amend", definition=definition(alpha=0.01), reason="w")
    del office.tables[EXPERIMENTS_TABLE][b"agents|2|definition"]
    again = office.reopened()
    again.write()
    assert again.notes(1).tampering == ["version 2: the sealed definition was deleted"]
    assert again.owner.store.lost == {"agents"}


def test_a_forged_definition_taken_at_the_start_gives_way_to_the_true_one() -> None:
    """An owner that began from a forgery takes the true record when it meets it, and tells what was changed."""
    office = running()
    reply = office.assign("t0")
    true = office.stored("agents|1|definition")
    office.tables[EXPERIMENTS_TABLE][b"agents|1|definition"] = tampered(office, alpha=0.2)
    again = office.reopened()
    again.write()
    assert again.owner.store.suspect("agents|1|definition", true)
    again.write()
    assert again.stored("agents|1|definition") == true
    (trial,) = again.owner.store.versions["agents"]
    assert msgspec.json.encode(trial.sealed) == true
    assert again.notes().tampering == [
        "version 1: the record was not sealed by this deployment",
        "version 1: the sealed definition was changed: alpha 0.05 -> 0.2",
    ]
    assert not again.owner.store.suspect("agents|1|definition", true)
    assert again.owner.store.suspect("agents|1|definition", tampered(again, alpha=0.1))
    again.write()
    assert again.notes().tampering[-1] == "version 1: the sealed definition was changed: alpha 0.05 -> 0.1"
    again.tick()
    assert again.status().status is Status.STOPPED
    again.join(reply, "t0")
    again.refresh()
    assert again.result().sha256 == trial.sealed.sha256
    assert "assignments were made under another definition" not in "; ".join(again.result().deviations)


def test_a_version_that_somebody_else_adds_is_noted_on_the_newest() -> None:
    """Only the owner amends: the experiment that runs says that somebody else wrote one, and ends."""
    office = running()
    office.ask("amend", definition=definition(alpha=0.01), reason="w")
    sealed = msgspec.json.decode(office.stored("agents|2|definition"), type=Sealed)
    for found in (msgspec.json.encode(replace(sealed, version=3)), b"{"):
        assert office.owner.store.suspect("agents|3|definition", found)
    office.tick()
    assert office.notes(2).tampering == ["version 3: somebody else wrote one"]
    assert b"agents|1|notes" not in office.tables[EXPERIMENTS_TABLE]
    assert office.status(2).reason == "tampering: version 3: somebody else wrote one"


def test_a_record_without_a_field_at_its_default_is_the_same() -> None:
    """What another version of the code wrote without a field, or spelt out, is no forgery."""
    office = running()
    true = office.stored("agents|1|definition")
    fields = json.loads(true)
    for name in ("run_dollars", "expire_seconds", "stopping"):
        fields["definition"].pop(name)
    fields["definition"]["expire_seconds"] = 600
    del fields["schema_version"]
    assert not office.owner.store.suspect("agents|1|definition", json.dumps(fields, indent=2).encode())
    assert not office.owner.store.changed


def test_long_texts_of_a_forged_definition_are_cut_in_the_notes() -> None:
    """However much somebody writes, what is noted of it stays short enough to be kept."""
    office = running()
    filters = {f"key{at}": "y" * 1000 for at in range(1000)}
    for changes in ({"hypothesis": "x" * 2000}, {"context_filter": filters}, {"stratify_by": ["z" * 250] * 4}):
        assert office.owner.store.suspect("agents|1|definition", tampered(office, **changes))
    office.write()
    assert len(office.notes().tampering) == 3
    assert all(len(told) < 600 for told in office.notes().tampering)
    assert (
        office.notes()
        .tampering[0]
        .startswith("version 1: the sealed definition was changed: hypothesis 'More agents succeed more often' -> 'xxx")
    )


def test_another_deployments_experiments_are_not_believed() -> None:
    """A version sealed with another secret assigns nothing here."""
    other = seal(read_definition(definition()), "fedcba9876543210", previous=None, at=moment(BEGIN), by="")
    office = running()
    office.tables[EXPERIMENTS_TABLE][b"agents|1|definition"] = msgspec.json.encode(other)
    again = office.reopened()
    assert again.assign("t0").refusal == "not_running"
