"""The owner of the experiments of one partition: answers requests, joins outcomes, and decides when an experiment ends.

Everything happens in memory first; the store hands over what changed as one flush, which the caller writes as one
transaction before it sends the replies. So whoever has a reply has an assignment in the log. A request or an outcome
that is read twice changes nothing: the same unit has the same assignment, the same run the same place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import structlog
from msgspec.structs import replace

from agents.definitions import (
    assignment_named,
    assignment_token,
    check_definition,
    check_secret,
    digest,
    seal,
)
from agents.experiment_law import contexts_spoken_for, law_tier
from agents.experiment_records import NEXT_STEPS, UNREADABLE, Snapshot, content_of, finding_of, moment
from agents.experiment_results import ratio_alarm
from agents.experiment_store import ExperimentStore, encode
from agents.flush import Record
from agents.outcome_events import corrected, joined_run, unproven
from agents.tasks import contexts_of_task
from agents.trial import Refused, Trial
from analytics.partitions import partition_of
from analytics.verdicts import ends_early
from models.errors import InvalidEvent, InvalidExperiment
from models.events import RunEvent
from models.experiments import (
    AmendRequest,
    Assignment,
    AssignRequest,
    CreateRequest,
    Draft,
    Reply,
    Request,
    Result,
    Sealed,
    StartRequest,
    Status,
    StatusRecord,
    StopRequest,
    Verdict,
)
from models.laws import Law, law_id
from models.settings import Settings
from models.topics import ASSIGN_REPLIES, FINDINGS, LAWS

MOST_EXPERIMENTS = 1000
LARGEST_REQUEST = 256 * 1024

log = structlog.get_logger(__name__)
_read_request = msgspec.json.Decoder(Request).decode


class _Addressed(msgspec.Struct):
    request_id: str
    experiment_id: str = ""


@dataclass(slots=True)
class Counts:
    """What an experimenter has met since it was created."""

    assigned: int = 0
    refused: int = 0
    late: int = 0
    joined: int = 0
    unreadable: int = 0


class Experimenter:
    """The experiments of one partition.

    `store` holds their state, and what waits to be written.

    Args:
        partition: Which; an experiment lives where its id hashes to.
        settings: Partitions, complexity scale, context keys and the secret.

    Raises:
        SettingsError: The secret is missing or short.
    """

    def __init__(self, partition: int, settings: Settings) -> None:
        self.counts = Counts()
        self._partition = partition
        self._settings = settings
        self._secret = check_secret(settings.experiment_secret)
        self._scale = settings.complexity_scale.model_dump()
        self.store = ExperimentStore(self._secret)

    def handle(self, payload: bytes | None, asked: float, now: float, *, replayed: bool = False) -> None:
        """Answer one request; what is wrong with it becomes the reply.

        Args:
            payload: The request.
            asked: When it reached Kafka, seconds since the epoch.
            now: The time.
            replayed: It has been carried out before, and is read again because that was not committed.
        """
        try:
            request = self._read(payload)
        except InvalidExperiment as error:
            self._refuse_unread(payload, str(error))
            return
        try:
            reply = self._again(request) if replayed else self._answer(request, asked, now)
        except Refused as refusal:
            self.counts.refused += 1
            self.counts.late += refusal.kind == "late"
            reply = Reply(request.request_id, _experiment_of(request), refusal=refusal.kind, message=str(refusal))
        except (InvalidExperiment, InvalidEvent, RecursionError) as error:
            self.counts.refused += 1
            reply = Reply(request.request_id, _experiment_of(request), refusal="invalid", message=str(error))
        self._say(reply)

    def join(self, event: RunEvent, order: tuple[int, int], completed: float) -> None:
        """Join a run that names an experiment with its assignment; without a valid token it is no evidence.

        Args:
            event: The run.
            order: Its revision and offset in scaling.runs.
            completed: When it was completed, seconds since the epoch.
        """
        versions = self.store.versions.get(event.experiment_id or "")
        if not versions:
            return
        named = assignment_named(event.assignment_token)
        trial, assignment = self._assigned(versions, named[0]) if named else (versions[-1], None)
        reason = unproven(event, assignment)
        if reason is not None:
            self.store.note_unproven(trial, event.agent_run_id, reason)
            return
        assert assignment is not None
        changed = trial.joined(assignment, joined_run(event, order, completed, trial.sealed.definition, self._scale))
        if changed is not None:
            self.counts.joined += 1
            self.store.put(trial, changed)
            if corrected(assignment.run, changed.run):
                self.store.note_correction(trial)

    def tick(self, now: float) -> None:
        """Expire assignments without an outcome, and end experiments that have all they wanted or may spend."""
        for trial in self.store.trials:
            for expired in trial.overdue(now):
                self.store.put(trial, expired)
            if not trial.running:
                continue
            definition = trial.sealed.definition
            if trial.notes.tampering:
                self._end(trial, Status.STOPPED, f"tampering: {trial.notes.tampering[0]}", "tampering", now)
            elif trial.sufficient():
                # Whatever the budget: it is spoken for by the plan, unless a place is lost.
                if not trial.pending:
                    reason = f"every value has its {definition.planned_per_value} assignments"
                    self._end(trial, Status.COMPLETED, reason, "planned", now)
            elif trial.exhausted():
                reason = f"the budget is used up: {sum(trial.counts)} runs, {trial.dollars:.2f} dollars"
                self._end(trial, Status.COMPLETED, reason, "budget", now)
            elif trial.lossy():
                reason = f"{len(trial.assignments)} assignments led to only {sum(trial.counts)} runs"
                self._end(trial, Status.STOPPED, reason, "loss", now)

    def snapshots(self) -> list[Snapshot]:
        """Take what must be analysed: the trials that have changed since their last result."""
        taken = []
        for trial in self.store.trials:
            if not trial.dirty:
                continue
            trial.dirty = False
            over = trial.status.status in {Status.COMPLETED, Status.STOPPED}
            taken.append(
                Snapshot(
                    trial.sealed,
                    trial.status,
                    trial.notes,
                    # In one order however they were read, so that a restart works out the same result.
                    tuple(each for _, each in sorted(trial.assignments.items())),
                    trial.result,
                    trial.finding,
                    tuple(self.store.deviations(trial)),
                    final=over and trial.pending == 0 and trial.finding is None,
                    looks_before=self._looks_before(trial),
                )
            )
        return taken

    def _looks_before(self, trial: Trial) -> int:
        """Count the looks at earlier versions: laws are numbered on from them."""
        versions = self.store.versions[trial.sealed.definition.experiment_id]
        earlier = [each.result for each in versions if each.sealed.version < trial.sealed.version]
        return max((result.look for result in earlier if result is not None), default=0)

    def conclude(self, snapshot: Snapshot, result: Result, now: float, laws: Sequence[Law] = ()) -> None:
        """Publish a result and its laws, and end the experiment where it says so.

        Args:
            snapshot: What they were worked out from.
            result: The result.
            now: The time.
            laws: Of the contexts that the experiment speaks for; where it cannot be trusted they are withdrawn.
        """
        definition = snapshot.sealed.definition
        trial = self.store.trial(definition.experiment_id, snapshot.sealed.version)
        assert trial is not None
        if snapshot.final and not trial.dirty:
            status = Status.ANALYZED if trial.status.status is Status.COMPLETED else Status.STOPPED
            result = replace(result, status=status)
            trial.finding = finding_of(snapshot.sealed, result)
            since = moment(now) if status is Status.ANALYZED else trial.status.since
            self.store.set_status(trial, replace(trial.status, status=status, since=since))
            self.store.keep(trial, "finding", trial.finding)
            self.store.publish(Record(FINDINGS, 0, trial.name.encode(), encode(trial.finding)))
        if trial.result is None or content_of(result) != content_of(trial.result):
            trial.result = result
            self.store.keep(trial, "result", result)
            self._publish_laws(snapshot, result, laws)
        if not trial.running:
            return
        alarm = ratio_alarm(result)
        if alarm is not None:
            self._end(trial, Status.STOPPED, alarm, "sample_ratio", now)
        elif definition.stopping == "sequential" and ends_early(definition, result.effect, result.verdict):
            cause = "effect" if result.verdict is Verdict.SUPPORTED else "futility"
            self._end(trial, Status.COMPLETED, f"{cause}: {result.sentence}", cause, now)

    def _publish_laws(self, snapshot: Snapshot, result: Result, laws: Sequence[Law]) -> None:
        versions = self.store.versions[snapshot.sealed.definition.experiment_id]
        if versions[-1].sealed.version > snapshot.sealed.version:
            return  # the law of a later version stands under the same id
        for law in ([] if result.law is None else [result.law]) + list(laws):
            self.store.publish(Record(LAWS, 0, law.law_id.encode(), encode(law)))
        if snapshot.notes.tampering or ratio_alarm(result) is not None:
            definition = snapshot.sealed.definition
            for context in contexts_spoken_for(snapshot):
                name = law_id(context, definition.dimension_tested, definition.outcome, law_tier(definition))
                self.store.publish(Record(LAWS, 0, name.encode(), None))

    def _read(self, payload: bytes | None) -> Request:
        if payload is None or len(payload) > LARGEST_REQUEST:
            size = 0 if payload is None else len(payload)
            raise InvalidExperiment(f"the request has {size} bytes: send a JSON object of 1 to {LARGEST_REQUEST}")
        try:
            request: Request = _read_request(payload)
        except UNREADABLE as error:
            raise InvalidExperiment(f"the request is not valid: {error}") from None
        return request

    def _refuse_unread(self, payload: bytes | None, reason: str) -> None:
        self.counts.unreadable += 1
        try:
            asker = msgspec.json.decode(payload or b"", type=_Addressed)
        except UNREADABLE:
            log.warning("request without an address", partition=self._partition, reason=reason)
            return
        self._say(Reply(asker.request_id[:256], asker.experiment_id[:64], refusal="invalid", message=reason))

    def _answer(self, request: Request, asked: float, now: float) -> Reply:
        experiment = _experiment_of(request)
        if partition_of(experiment.encode(), self._settings.partitions) != self._partition:
            raise Refused("invalid", f"publish requests about {experiment} under that key, by murmur2")
        if isinstance(request, AssignRequest):
            return self._assign(request, asked, now)
        if isinstance(request, CreateRequest):
            return self._create(request, now)
        if isinstance(request, StartRequest):
            return self._start(request, now)
        if isinstance(request, AmendRequest):
            return self._amend(request, now)
        return self._stop(request, now)

    def _again(self, request: Request) -> Reply:
        """Answer a request that is in: with the assignment it led to, or with where the experiment stands now."""
        experiment = _experiment_of(request)
        if isinstance(request, CreateRequest) and experiment in self.store.drafts:
            return Reply(
                request.request_id, experiment, version=0, status=Status.DRAFT, message=f"drafted {experiment}"
            )
        trial = self._newest(experiment)
        if isinstance(request, AssignRequest):
            assignment = trial.known(unit_of(request))
            if assignment is None:
                raise Refused("late", "not assigned: unavailable; the request was read again after a restart")
            return _assigned_reply(request, assignment)
        number, status = trial.sealed.version, trial.status.status
        message = f"version {number} of {experiment} is {status}"
        return Reply(request.request_id, experiment, version=number, status=status, message=message)

    def _assign(self, request: AssignRequest, asked: float, now: float) -> Reply:
        trial = self._newest(request.experiment_id)
        unit = unit_of(request)
        contexts = contexts_of_task(request.task, self._settings)
        if now - asked > request.patience:
            # The caller has gone on without: an assignment now would be one that no run follows.
            raise Refused("late", f"not assigned: unavailable; the request waited {now - asked:.1f} s")
        known = len(trial.assignments)
        assignment = trial.assign(unit, request.task, contexts, self._scale, now)
        if assignment.assignment_id not in trial.assignments:
            self.store.put(trial, assignment)
        self.counts.assigned += len(trial.assignments) - known
        return _assigned_reply(request, assignment)

    def _create(self, request: CreateRequest, now: float) -> Reply:
        definition = check_definition(request.definition)
        experiment = definition.experiment_id
        if experiment in self.store.versions:
            raise InvalidExperiment(f"experiment {experiment} was started: amend it, or choose another id")
        self._check_lost(experiment)
        known = self.store.drafts.get(experiment)
        if known is None and len(self.store.drafts) + len(self.store.versions) >= MOST_EXPERIMENTS:
            raise InvalidExperiment(f"this partition has {MOST_EXPERIMENTS} experiments: reuse a draft")
        if known is not None and not request.replace and known.definition != definition:
            raise InvalidExperiment(
                f"there is another draft of {experiment}: replace it (--replace), or choose another id"
            )
        self.store.keep_draft(Draft(definition, moment(now), request.by))
        return Reply(request.request_id, experiment, version=0, status=Status.DRAFT, message=f"drafted {experiment}")

    def _check_lost(self, experiment: str) -> None:
        if experiment in self.store.lost:
            raise InvalidExperiment(
                f"experiment {experiment} was started, and its definition is gone: choose another id"
            )

    def _start(self, request: StartRequest, now: float) -> Reply:
        experiment = request.experiment_id
        versions = self.store.versions.get(experiment)
        if versions:
            if not versions[-1].running:
                raise InvalidExperiment(
                    f"experiment {experiment} is {versions[-1].status.status}: create a new one under another id"
                )
            message = f"{experiment} runs already"
        else:
            self._check_lost(experiment)
            draft = self.store.drafts.get(experiment)
            if draft is None:
                raise Refused("unknown", f"there is no draft of {experiment}: create it first")
            # A draft has no seal: what stands on the topic need not be what was checked.
            definition = check_definition(draft.definition)
            versions = [self._begin(seal(definition, self._secret, previous=None, at=moment(now), by=request.by))]
            self.store.drop_draft(experiment)
            message = f"{experiment} is sealed ({versions[-1].sealed.sha256[:12]}) and runs"
        newest = versions[-1]
        return Reply(
            request.request_id, experiment, version=newest.sealed.version, status=newest.status.status, message=message
        )

    def _amend(self, request: AmendRequest, now: float) -> Reply:
        definition = check_definition(request.definition)
        trial = self._newest(definition.experiment_id)
        if digest(definition) != trial.sealed.sha256:
            if trial.running:
                number = trial.sealed.version + 1
                self._end(trial, Status.STOPPED, f"amended: version {number} follows", "stopped", now, request.by)
            trial = self._begin(
                seal(
                    definition,
                    self._secret,
                    previous=trial.sealed,
                    at=moment(now),
                    by=request.by,
                    reason=request.reason,
                )
            )
        number = trial.sealed.version
        told = "is sealed; its results are exploratory"
        if number == 1:
            told = "is this definition already"
        return Reply(
            request.request_id,
            definition.experiment_id,
            version=number,
            status=trial.status.status,
            message=f"version {number} of {definition.experiment_id} {told}",
        )

    def _stop(self, request: StopRequest, now: float) -> Reply:
        trial = self._newest(request.experiment_id)
        if trial.running:
            self._end(trial, Status.STOPPED, f"by hand: {request.reason}", "stopped", now, request.by)
        return Reply(
            request.request_id,
            request.experiment_id,
            version=trial.sealed.version,
            status=trial.status.status,
            message=f"{request.experiment_id} is {trial.status.status}: {trial.status.reason}",
        )

    def _say(self, reply: Reply) -> None:
        self.store.publish(Record(ASSIGN_REPLIES, 0, reply.request_id.encode(), encode(reply)))

    def _begin(self, sealed: Sealed) -> Trial:
        experiment, number = sealed.definition.experiment_id, sealed.version
        status = StatusRecord(
            experiment, number, Status.RUNNING, sealed.sealed_at, "started", NEXT_STEPS["running"], sealed.by
        )
        trial = Trial(sealed, status, self._secret)
        self.store.versions.setdefault(experiment, []).append(trial)
        self.store.keep_definition(trial)
        self.store.set_status(trial, status)
        return trial

    def _end(  # noqa: PLR0917 - what a status says
        self, trial: Trial, status: Status, reason: str, cause: str, now: float, by: str = ""
    ) -> None:
        since, next_step = moment(now), NEXT_STEPS[cause]
        record = replace(trial.status, status=status, since=since, reason=reason, next_step=next_step, by=by)
        self.store.set_status(trial, record)

    def _newest(self, experiment: str) -> Trial:
        versions = self.store.versions.get(experiment)
        if versions:
            return versions[-1]
        if experiment in self.store.drafts:
            raise Refused("not_running", f"experiment {experiment} is a draft: start it")
        raise Refused("unknown", f"there is no experiment {experiment}")

    def _assigned(self, versions: list[Trial], identifier: str) -> tuple[Trial, Assignment | None]:
        for trial in versions:
            if identifier in trial.assignments:
                return trial, trial.assignments[identifier]
        return versions[-1], None


def unit_of(request: AssignRequest) -> str:
    """Name what is assigned: the task, else the run, else the request itself.

    Raises:
        InvalidEvent: task_id is no text of 1 to 256 characters.
    """
    task = request.task.get("task_id")
    if task is not None:
        if not isinstance(task, str) or not 1 <= len(task) <= 256:  # noqa: PLR2004 - as an identifier
            raise InvalidEvent(f"task field task_id = {task!r:.100}: give a text of 1 to 256 characters")
        return f"task={task}"
    return f"run={request.agent_run_id}" if request.agent_run_id else f"request={request.request_id}"


def _assigned_reply(request: AssignRequest, assignment: Assignment) -> Reply:
    return Reply(
        request.request_id,
        request.experiment_id,
        version=assignment.version,
        assigned_value=assignment.value,
        assignment_token=assignment_token(assignment),
        propensity=assignment.propensity,
    )


def _experiment_of(request: Request) -> str:
    if isinstance(request, CreateRequest | AmendRequest):
        return request.definition.experiment_id
    return request.experiment_id
