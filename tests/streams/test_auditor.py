"""Which contexts a round of the audit takes, in which order, and when it publishes what."""

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec
import pytest

from agents.audit import AuditHeading
from agents.joint_audit import Audited
from agents.published_laws import content
from agents.related import related
from models.dimensions import Source
from models.errors import NotReachable
from models.joint_laws import JointLaw, LawRecord, read_record
from models.laws import Estimate, Law, law_id
from models.settings import load_settings
from streams.auditor import LAWS_AT_ONCE, AuditService, Round
from streams.drifts import drifts_of
from streams.extents import Extent, absence


def service(audited: dict[str, Extent]) -> AuditService:
    """Make an auditor that has audited these contexts as they were then."""
    made = AuditService(load_settings())
    made._audited.update(audited)
    return made


def test_the_context_with_the_most_new_runs_comes_first() -> None:
    """New contexts count all their runs; equal ones go by name; what has not changed is left out."""
    extents = {"a": Extent(10, 1), "b": Extent(50, 2), "c": Extent(100, 3), "d": Extent(40, 4), "e": Extent(7, 5)}
    audited = {"a": Extent(5, 9), "b": Extent(50, 2), "c": Extent(99, 8), "e": Extent(2, 6)}
    assert service(audited)._changed(extents, {}) == ["d", "a", "e", "c"]


def test_a_context_that_failed_goes_last() -> None:
    """A context that cannot be audited does not keep the others from being audited."""
    made = service({})
    made._failures["big"] += 1
    assert made._changed({"big": Extent(1000, 1), "small": Extent(1, 2)}, {}) == ["small", "big"]


def test_a_context_that_was_corrected_is_taken_though_it_has_fewer_runs() -> None:
    """A correction changes contents, or moves a run away; a context that lost its last run is among them, once."""
    made = service({"changed": Extent(5, 1), "fewer": Extent(5, 2), "gone": Extent(5, 3)})
    extents = {"changed": Extent(5, 7), "fewer": Extent(4, 8)}
    assert made._changed(extents, {}) == ["changed", "fewer", "gone"]
    made._audited |= {**extents, "gone": Extent(0, 0)}
    assert made._changed(extents, {}) == []


def test_contexts_that_have_only_published_laws_are_taken_once() -> None:
    """After a restart a context with laws and without runs is looked at: its laws may have to be withdrawn."""
    made = service({})
    made._published.take("gone|agent_count|success|audited", LAW)
    assert made._changed({}, {}) == ["gone"]
    made._audited["gone"] = Extent(0, 0)
    assert made._changed({}, {}) == []


LAW = (
    b'{"law_id":"gone|agent_count|success|audited","tier":"audited","context":"gone","dimension":"agent_count",'
    b'"outcome":"success","version":3,"epoch":1,"fitted_at":"2026-01-01T00:00:00Z","n":5,"status":"exploratory",'
    b'"evidence":"associational","settings_hash":""}'
)


async def test_without_kafka_the_audit_does_not_start() -> None:
    """The error names the address and what to start, and no process is left."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        settings = load_settings(kafka=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(NotReachable, match="start it with scaling up"):
            await AuditService(settings).run(asyncio.Event())


def test_a_context_whose_law_has_drifted_is_taken_without_new_runs() -> None:
    """A new alarm is reason enough; the same alarm is not one again."""
    extents = {"global": Extent(10, 1), "project=a": Extent(5, 2)}
    made = service(extents)
    alarm = {"project=a": {"project=a|agent_count|success|audited": datetime(2026, 1, 1, tzinfo=UTC)}}
    assert made._changed(extents, alarm) == ["project=a"]
    made._drifts = dict(alarm)
    assert made._changed(extents, alarm) == []
    assert made._changed(extents, {}) == ["project=a"]


def test_a_drift_is_compared_where_the_context_is_audited() -> None:
    """A drift that is no more is news as well; one of a context that has no audited laws never is."""
    made = service({"project=a": Extent(5, 2)})
    drifts = drifts_of({"project=a|agent_count|success|live": JANUARY, "project=other|context|success|live": JANUARY})
    assert made._drifted(made._audited, drifts) == {"project=a"}
    made._remember("project=a", {"project=a": Extent(5, 2)}, drifts)
    assert made._drifted(made._audited, drifts) == set()
    assert made._changed({"project=a": Extent(5, 2)}, drifts) == []
    assert made._drifted(made._audited, {}) == {"project=a"}
    made._remember("project=a", {"project=a": Extent(5, 2)}, {})
    assert made._drifted(made._audited, {}) == set()


def test_a_law_of_quality_and_success_drifts_when_the_later_of_them_has() -> None:
    """Cost and time have no part in it, and other dimensions and contexts neither."""
    found = drifts_of(
        {
            "project=a|agent_count|success|live": FEBRUARY,
            "project=a|agent_count|quality_score|live": JANUARY,
            "project=a|iterations|quality_score|live": JANUARY,
            "project=a|context|total_cost|live": FEBRUARY,
            "project=b|agent_count|time_to_complete|live": JANUARY,
        }
    )
    assert found == {
        "project=a": {
            "project=a|agent_count|success|audited": FEBRUARY,
            "project=a|agent_count|quality_score|audited": JANUARY,
            "project=a|agent_count|quality_given_success|audited": FEBRUARY,
            "project=a|agent_count|success_times_quality|audited": FEBRUARY,
            "project=a|iterations|quality_score|audited": JANUARY,
            "project=a|iterations|quality_given_success|audited": JANUARY,
            "project=a|iterations|success_times_quality|audited": JANUARY,
            "project=a|context|total_cost|audited": FEBRUARY,
            "project=a|joint|success|audited": FEBRUARY,
            "project=a|joint|quality_score|audited": JANUARY,
            "project=a|joint|total_cost|audited": FEBRUARY,
        },
        "project=b": {
            "project=b|agent_count|time_to_complete|audited": JANUARY,
            "project=b|joint|time_to_complete|audited": JANUARY,
        },
    }


def test_a_joint_law_drifts_when_the_last_of_its_outcomes_laws_has() -> None:
    """Whatever the dimension, and in whichever order they are read; other outcomes have no part in it."""
    live = {
        "global|agent_count|success|live": JANUARY,
        "global|attempts|success|live": FEBRUARY,
        "global|iterations|success|live": JANUARY,
        "global|iterations|total_cost|live": JANUARY,
    }
    for given in (live, dict(reversed(live.items()))):
        drifted = drifts_of(given)["global"]
        assert {name: since for name, since in drifted.items() if "|joint|" in name} == {
            "global|joint|success|audited": FEBRUARY,
            "global|joint|total_cost|audited": JANUARY,
        }


JANUARY, FEBRUARY = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)


class Topic:
    """A producer that keeps what it is given, transaction by transaction."""

    def __init__(self) -> None:
        """Start empty."""
        self.records: list[list[LawRecord]] = []

    @property
    def sent(self) -> list[list[Law]]:
        """Give the laws of one dimension in each transaction."""
        return [[each for each in part if isinstance(each, Law)] for part in self.records]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Begin a transaction."""
        self.records.append([])
        yield

    async def send(self, _topic: str, value: bytes, key: bytes, **_place: int) -> asyncio.Future[None]:
        """Keep a law."""
        self.records[-1].append(read_record(key.decode(), value))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


def law(project: str, slope: float, dimension: str = "agent_count") -> Law:
    """Make a law of success in one project, as a fit gives it."""
    return Law(
        law_id=law_id(f"project={project}", dimension, "success", "audited"),
        tier="audited",
        context=f"project={project}",
        dimension=dimension,
        outcome="success",
        version=1,
        epoch=1,
        fitted_at="2026-01-01T00:00:00Z",
        n=1000,
        status="established",
        evidence="associational",
        settings_hash="",
        basis="realised",
        trend=Estimate(slope, 0.03, slope - 0.06, slope + 0.06),
        e_value=30.0,
    )


def heading(project: str) -> AuditHeading:
    """Make the heading of a project's laws."""
    return AuditHeading(f"project={project}", (Source.OBSERVATIONAL,), {0: 9}, "", "2026-01-02T00:00:00Z")


def audited(project: str, *slopes: float) -> Audited:
    """Make what the audit of a project gives: a law of this slope, or none."""
    return Audited(heading(project), [law(project, slope) for slope in slopes])


SLOPES = {"a": 0.05, "b": 0.09, "c": 0.14, "d": 0.2}
FITTED = {law(name, slope).law_id: law(name, slope) for name, slope in SLOPES.items()}
A, E = law("a", 0.0).law_id, law("e", 0.0).law_id


def restarted(topic: Topic) -> tuple[AuditService, Topic]:
    """Make an auditor that has read what another one published."""
    made, more = service({}), Topic()
    made._producer = more  # type: ignore[assignment]
    for each in [each for part in topic.records for each in part]:
        made._take(each.law_id, msgspec.json.encode(each))
    return made, more


async def first_round() -> tuple[AuditService, Topic]:
    """Let an auditor have its first round, with four projects."""
    made, topic = restarted(Topic())
    for name, slope in SLOPES.items():
        assert made._learn(audited(name, slope), {}) == []
    await made._relate()
    return made, topic


async def test_the_first_round_publishes_each_law_once_when_all_are_known() -> None:
    """Nothing is published before every context has been fitted, and then with what the laws make of each other."""
    _, topic = await first_round()
    (sent,) = topic.sent
    assert {each.law_id: each for each in sent} == related(FITTED, {})
    assert all(each.version == 1 and each.pooling is not None for each in sent)


async def test_a_restart_publishes_nothing_that_is_known() -> None:
    """Also where a slope has moved since by too little to tell its siblings, who would say it otherwise anew."""
    made, topic = await first_round()
    await made._renew(made._learn(audited("a", 0.0501), {}))
    await made._relate()
    assert [each.law_id for part in topic.sent[1:] for each in part] == [A]
    again, more = restarted(topic)
    for name, slope in (SLOPES | {"a": 0.0501}).items():
        assert again._learn(audited(name, slope), {}) == []
    assert await again._relate() == 0
    assert more.sent == []


async def test_a_restart_withdraws_at_the_end_of_its_round() -> None:
    """What a context no longer gives is withdrawn, together with what its siblings say without it."""
    _, topic = await first_round()
    made, more = restarted(topic)
    for name, slope in SLOPES.items():
        assert made._learn(audited(name, *([slope] if name != "d" else [])), {}) == []
    await made._relate()
    (sent,) = more.sent
    assert {each.law_id: each.status for each in sent} == {
        each.law_id: "expired" if each.context == "project=d" else "established" for each in FITTED.values()
    }
    assert {each.version for each in sent} == {2}
    assert [each.pooling.contexts for each in sent if each.pooling] == [3, 3, 3]


async def test_a_later_round_publishes_what_was_told_before_at_once() -> None:
    """A law keeps what its siblings last said until the round's end; a new one waits; one that is gone is withdrawn."""
    made, topic = await first_round()
    known = {each.law_id: each for each in topic.sent[0]}
    await made._renew(made._learn(audited("a", 0.4), {}))
    await made._renew(made._learn(audited("e", 0.3), {}))
    await made._renew(made._learn(audited("d"), {}))
    (changed,), (gone,) = topic.sent[1:]
    assert (changed.law_id, changed.trend, changed.version) == (A, law("a", 0.4).trend, 2)
    assert (changed.pooling, changed.validation) == (known[A].pooling, known[A].validation)
    assert (gone.context, gone.status) == ("project=d", "expired")
    await made._relate()
    last = {each.law_id: each for each in topic.sent[3]}
    now = {name: each for name, each in FITTED.items() if each.context != "project=d"}
    now |= {A: law("a", 0.4), E: law("e", 0.3)}
    expected = related(now, known)
    assert last.keys() == now.keys()
    assert all(content(last[name]) == content(expected[name]) for name in now)
    assert (last[A].version, last[E].version) == (3, 1)
    assert await made._relate() == 0


async def test_many_laws_go_out_in_several_transactions() -> None:
    """A round of any size stays below what the broker allows one transaction."""
    made, topic = restarted(Topic())
    laws = [law("a", 0.1, f"dimension {number}") for number in range(LAWS_AT_ONCE + 1)]
    assert await made._renew(laws) == LAWS_AT_ONCE + 1
    assert [len(part) for part in topic.sent] == [LAWS_AT_ONCE, 1]


async def test_a_law_whose_drift_is_no_more_is_numbered_on() -> None:
    """Fitted from all runs again it says epoch 1; published it is the epoch after the one that was none."""
    made, topic = await first_round()
    begun = msgspec.structs.replace(law("a", 0.3), epoch=2, epoch_since="2026-01-01T00:00:00Z")
    made._learn(Audited(heading("a"), [begun]), {A: "2026-01-01T00:00:00Z"})
    await made._relate()
    made._learn(audited("a", 0.05), {})
    await made._relate()
    told = [(each.version, each.epoch, each.epoch_since) for part in topic.sent for each in part if each.law_id == A]
    assert told == [(1, 1, None), (2, 2, "2026-01-01T00:00:00Z"), (3, 3, None)]


async def test_a_context_beyond_those_that_are_kept_is_withdrawn_and_forgotten() -> None:
    """Its laws end with the reason, once, and it is a new context should it come back."""
    made, topic = await first_round()
    extents = {f"project={name}": Extent(10, 1) for name in SLOPES}
    for name in extents:
        made._remember(name, extents, {})
    others = {name: extents[name] for name in extents if name != "project=d"}
    made._settings = load_settings(context_values=3)
    for _ in range(2):
        waiting = made._changed(others, {})
        await made._audit_waiting(Round({0: 9}, others, {}, deque(waiting)))
    (gone,) = topic.sent[1]
    assert (gone.context, gone.status, len(topic.sent)) == ("project=d", "expired", 2)
    assert "context_values" in gone.missing["values"]
    assert (waiting, made._changed(others, {})) == ([], [])
    assert "project=d" not in {*made._audited, *made._drifts}
    assert made._changed(extents, {}) == ["project=d"]


def test_the_absence_of_a_context_has_a_reason() -> None:
    """Its runs are gone, its key list keeps no more contexts, or there is no such list any more."""
    settings = load_settings(context_keys=[["project"], ["project", "model"]], context_values=2)
    extents = {"global": Extent(5, 1), "project=a": Extent(3, 2), "project=b": Extent(2, 3)}
    assert "context_values" in absence("project=c", extents, settings)
    assert "they were corrected" in absence("project=a&model=m", extents, settings)
    assert "they were corrected" in absence("global", {}, settings)
    assert "context_keys no longer has contexts by model" in absence("model=m", extents, settings)


async def test_joint_laws_are_published_at_once_and_pooled_with_none(make_joint_law: Callable[..., JointLaw]) -> None:
    """They wait for no other context; after a restart they are known, begin new epochs and expire with their reason."""
    made, topic = restarted(Topic())
    joint = make_joint_law(context="project=a")
    name, since = joint.law_id, "2026-02-01T00:00:00Z"
    assert made._learn(Audited(heading("a"), [law("a", 0.05), joint]), {}) == [joint]
    await made._renew([joint])
    await made._relate()
    assert [[each.law_id for each in part] for part in topic.records] == [[name], [A]]
    assert made._fitted.keys() == made._told.keys() == {A}

    again, more = restarted(topic)
    begun = msgspec.structs.replace(joint, n=100, epoch_since=since)
    await again._renew(again._learn(Audited(heading("a"), [law("a", 0.05), begun]), {name: since}))
    ((second,),) = more.records
    assert (second.law_id, second.version, second.epoch, second.epoch_since) == (name, 2, 2, since)
    await again._renew(again._learn(Audited(heading("a"), [law("a", 0.05)], {name: "too few runs"}), {name: since}))
    await again._relate()
    (gone,) = more.records[-1]
    assert (gone.law_id, gone.status, gone.version, gone.epoch) == (name, "expired", 3, 2)
    assert gone.missing == {"terms": "too few runs"}
