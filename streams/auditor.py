"""The auditor: refit the laws of every context whose runs in ClickHouse have changed, and publish what is new."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import structlog
from aiokafka.errors import KafkaError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from agents.audit import AuditHeading
from agents.joint_audit import Audited
from agents.published_laws import PublishedLaws
from agents.related import as_told, related
from models.errors import Fenced, NotReachable, QueryError
from models.joint_laws import LawRecord
from models.laws import Law
from models.metrics import AUDIT_WORKER, CONTEXTS_AUDITED, LAWS_PUBLISHED, ROUND_SECONDS
from models.settings import Settings
from streams.audit_process import audit, start_processes, stop_processes
from streams.cut import Cut, read_cut
from streams.drifts import Drifts, read_drifts
from streams.endpoint import endpoint
from streams.extents import Extent, absence, read_extents
from streams.law_topic import law_producer, publish_laws, take_laws
from streams.transactions import TransactionalProducer
from streams.vitals import Vitals

TRANSACTIONAL_ID = "scaling-audit"
TAKEN_OVER = "another auditor has taken over the audited laws: this one stops; run one `scaling worker audit`"
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
LAWS_AT_ONCE = 500
"""Laws in one transaction, which the broker gives up after a minute."""

NOTHING = Extent(0, 0)

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Round:
    """What one round has done so far."""

    cut: Cut
    extents: Mapping[str, Extent]
    drifts: Mapping[str, Drifts]
    waiting: deque[str]
    contexts: int = 0
    published: int = 0
    failed: int = 0


class AuditService:
    """Audits the contexts round by round; all laws of a round see the runs below the same cut.

    A round takes every context whose runs have changed, the one with the most new runs first and those that failed
    last, and ends when it has had them all; so none starves, and rounds do not overlap. At its end all laws of one
    dimension are told what they make of each other. The first round publishes none of them before that; in later ones a
    law that others were related to before is published at once, with what was told of it then. Joint laws are related
    to no others, and published at once. There is one auditor: a second one takes the transactional id over, and the
    first stops at its next publication.
    """

    def __init__(self, settings: Settings, vitals: Vitals | None = None) -> None:
        self._settings = settings
        self.vitals = vitals or Vitals(AUDIT_WORKER)
        self.vitals.ready_unless(lambda: self._waits)
        self._waits: str | None = "the published laws are being read"
        self._published = PublishedLaws()
        self._audited: dict[str, Extent] = {}
        self._drifts: dict[str, Drifts] = {}
        self._fitted: dict[str, Law] = {}
        self._withdrawn: dict[str, LawRecord] = {}
        self._told: dict[str, Law] = {}
        self._unrelated = False
        self._had_a_round = False
        self._failures: defaultdict[str, int] = defaultdict(int)
        self._cut: Cut | None = None
        self._producer: TransactionalProducer | None = None
        self._publishing = asyncio.Lock()
        self._pool: ProcessPoolExecutor | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Audit until `stop` is set.

        Raises:
            Fenced: Another auditor has taken over.
            NotReachable: Kafka does not answer at the start.
            StackError: scaling.laws does not exist.
        """
        self._pool = start_processes(self._settings)
        work, stopped = asyncio.create_task(self._work()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            work.cancel()
            stopped.cancel()
            await asyncio.gather(work, stopped, return_exceptions=True)
            stop_processes(self._pool)
            if self._producer is not None:
                await self._producer.stop()

    async def _work(self) -> None:
        # The topic is read after the older auditor is fenced, or it could publish between.
        self._producer = law_producer(self._settings, TRANSACTIONAL_ID)
        await self._producer.start()
        await take_laws(self._settings, self._take)
        # What is out of sight, behind a transaction that is not over or without its end marker, keeps its number.
        await take_laws(self._settings, self._published.reserve, committed=False)
        self._waits = "ClickHouse has not told yet what is in it"
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._settings.audit_seconds
            async for attempt in AsyncRetrying(
                wait=wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE),
                retry=retry_if_exception_type((NotReachable, QueryError)),
                before_sleep=self._say_what_it_waits_for,
            ):
                with attempt:
                    await self._round()
            await asyncio.sleep(due - loop.time())

    def _say_what_it_waits_for(self, state: RetryCallState) -> None:
        reason = str(state.outcome.exception()) if state.outcome is not None else "no outcome"
        self._waits = f"the audit waits for ClickHouse: {reason}"
        # Attempts 1, 2, 4, 8, ...: an outage of a night is a dozen lines.
        number = state.attempt_number
        if number & (number - 1) == 0:
            log.warning("audit_waits_for_clickhouse", attempt=number, reason=reason)

    def _take(self, key: str, value: bytes | None) -> None:
        law = self._published.take(key, value)
        if isinstance(law, Law):
            self._told[law.law_id] = law

    async def _round(self) -> None:
        """Audit what has changed since the last round.

        Raises:
            QueryError: ClickHouse refused to say what has changed.
            NotReachable: ClickHouse does not answer; what is audited by then counts.
        """
        began = time.monotonic()
        cut = await asyncio.to_thread(read_cut, self._settings)
        drifts = await asyncio.to_thread(read_drifts, self._settings)
        if cut == self._cut and not self._drifted(self._audited, drifts):
            self._waits = None
            return
        extents = await asyncio.to_thread(read_extents, self._settings, cut)
        self._waits = None
        current = Round(cut, extents, drifts, deque(self._changed(extents, drifts)))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._settings.audit_processes):
                    group.create_task(self._audit_waiting(current))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        current.published += await self._relate()
        # A context that failed is tried again in the next round, with new runs or without.
        self._cut = None if current.failed else cut
        if current.contexts or current.failed:
            spent = time.monotonic() - began
            self.vitals.observe(ROUND_SECONDS, spent)
            log.info(
                "audit_round",
                contexts=current.contexts,
                laws=current.published,
                failed=current.failed,
                seconds=round(spent, 3),
            )

    def _changed(self, extents: Mapping[str, Extent], drifts: Mapping[str, Drifts]) -> list[str]:
        """List the contexts to audit in their order; one that has lost all its runs is among them."""
        known = {*extents, *self._audited, *self._published.contexts}
        changed = {name for name in known if self._audited.get(name) != extents.get(name, NOTHING)}
        changed |= self._drifted(known, drifts)

        def new_runs(name: str) -> int:
            return extents.get(name, NOTHING).runs - self._audited.get(name, NOTHING).runs

        return sorted(changed, key=lambda name: (self._failures[name], -new_runs(name), name))

    def _drifted(self, known: Iterable[str], drifts: Mapping[str, Drifts]) -> set[str]:
        """Find those of the known contexts in which a law has drifted, or a drift is no more; others have no laws."""
        return {name for name in known if self._drifts.get(name, {}) != drifts.get(name, {})}

    async def _audit_waiting(self, current: Round) -> None:
        while current.waiting:
            context = current.waiting.popleft()
            try:
                current.published += await self._audit(context, current)
            except (Fenced, NotReachable, KafkaError):
                raise
            except Exception as error:
                # One context that cannot be had must not take the audit from all others.
                log.exception("audit_failed", context=context, reason=str(error))
                current.failed += 1
                self._failures[context] += 1
                self.vitals.count(CONTEXTS_AUDITED, result="failed")
            else:
                current.contexts += 1
                self.vitals.count(CONTEXTS_AUDITED, result="audited")
                self._failures.pop(context, None)
                self._remember(context, current.extents, current.drifts)

    def _remember(self, context: str, extents: Mapping[str, Extent], drifts: Mapping[str, Drifts]) -> None:
        """Remember as what a context was audited; one that has no extent any more is forgotten with its laws."""
        if context in extents:
            self._audited[context] = extents[context]
            self._drifts[context] = drifts.get(context, {})
        else:
            self._audited.pop(context, None)
            self._drifts.pop(context, None)

    async def _audit(self, context: str, current: Round) -> int:
        """Fit the laws of a context and publish those that are new and can be told already; give their number."""
        drifts = current.drifts.get(context, {})
        since = {name: _text(when) for name, when in drifts.items()}
        fitted_at = _text(datetime.now(UTC), "milliseconds")
        if context in current.extents:
            audited = await self._fit(context, current.cut, fitted_at, drifts)
            return await self._renew(self._learn(audited, since))
        gone = Audited(AuditHeading(context, (), current.cut, self._settings.validation_hash, fitted_at), [])
        return await self._renew(self._learn(gone, since, absence(context, current.extents, self._settings)))

    async def _fit(self, context: str, cut: Cut, fitted_at: str, drifts: Drifts) -> Audited:
        pool, loop = self._pool, asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(pool, audit, self._settings, context, dict(cut), fitted_at, drifts)
        except BrokenProcessPool:
            if self._pool is pool:
                self._pool = start_processes(self._settings)
            raise

    def _learn(self, audited: Audited, drifts: Mapping[str, str], reason: str | None = None) -> list[LawRecord]:
        """Take in all laws of a context; give what can be published before the end of the round.

        Args:
            audited: The laws that it gives now.
            drifts: By law id: since when the runs are of the law's epoch, where it has drifted.
            reason: Why it gives no others, where that is not what its runs carry.
        """
        heading = audited.heading
        for kept in (self._fitted, self._withdrawn):
            for name in [name for name, law in kept.items() if law.context == heading.context]:
                del kept[name]
        # A law whose drift is no more begins with the first run again, but not as epoch 1: newer epochs come first.
        numbered = {
            law.law_id: msgspec.structs.replace(law, epoch=self._published.epoch(law.law_id, law.epoch_since))
            for law in audited.laws
        }
        withdrawn = self._published.withdrawals(heading, numbered, drifts, reason, missing=audited.missing)
        fitted = {name: law for name, law in numbered.items() if isinstance(law, Law)}
        joint = [law for law in numbered.values() if not isinstance(law, Law)]
        self._fitted |= fitted
        self._withdrawn |= {law.law_id: law for law in withdrawn}
        self._unrelated = True
        if not self._had_a_round:
            return [*joint]
        told = [as_told(law, self._told.get(name)) for name, law in fitted.items()]
        return [*joint, *(law for law in told if law is not None), *withdrawn]

    async def _relate(self) -> int:
        """Set all laws beside each other, and publish what is new: fits, pooling, transfer, significance, withdrawals.

        A context that could not be had in any round yet is not among them.
        """
        if not self._unrelated:
            return 0
        self._told = await asyncio.to_thread(related, dict(self._fitted), self._told, self._settings.significance_scope)
        published = await self._renew([*self._told.values(), *self._withdrawn.values()])
        self._withdrawn.clear()
        self._unrelated, self._had_a_round = False, True
        return published

    async def _renew(self, laws: Sequence[LawRecord]) -> int:
        assert self._producer is not None
        async with self._publishing:
            new = await asyncio.to_thread(self._published.renew, laws)
            for first in range(0, len(new), LAWS_AT_ONCE):
                part = new[first : first + LAWS_AT_ONCE]
                await publish_laws(self._producer, part, TAKEN_OVER)
                self._published.confirm(part)
                self.vitals.count(LAWS_PUBLISHED, len(part))
        return len(new)


def _text(when: datetime, precision: str = "auto") -> str:
    return when.isoformat(timespec=precision).replace("+00:00", "Z")


async def run_auditor(settings: Settings, stop: asyncio.Event) -> None:
    """Run the auditor until `stop` is set.

    Raises:
        Fenced: Another auditor has taken over.
        NotReachable: Kafka does not answer at the start.
        StackError: scaling.laws does not exist.
    """
    service = AuditService(settings)
    async with endpoint(settings, service.vitals):
        await service.run(stop)
