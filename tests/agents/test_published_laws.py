"""Numbering laws on, and leaving out those that say nothing new."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from agents.audit import AuditHeading, expired
from agents.published_laws import PublishedLaws, content
from models.dimensions import Source
from models.joint_laws import JointLaw
from models.laws import Law, ValueRow

HEADING = AuditHeading("global", (Source.OBSERVATIONAL,), {0: 5}, "hash", "2026-01-02T00:00:00Z")


def law(name: str = "success", *, tier: str = "audited", mean: float = 0.5, version: int = 1) -> Law:
    """Make a law that says a mean."""
    return Law(
        law_id=f"global|agent_count|{name}|{tier}",
        tier=tier,
        context="global",
        dimension="agent_count",
        outcome=name,
        version=version,
        epoch=1,
        fitted_at="2026-01-01T00:00:00Z",
        n=10,
        status="exploratory",
        evidence="associational",
        settings_hash="hash",
        values=[ValueRow(n=10, mean=mean, lo=0.0, hi=1.0, x=1.0)],
        lineage={"0": 5},
    )


def record(one: Law) -> tuple[str, bytes]:
    """Write the law as a record of the topic."""
    return one.law_id, msgspec.json.encode(one)


def test_laws_are_numbered_on_from_what_is_published() -> None:
    """A new law is version 1; one that was published gets the next number, once it has been confirmed."""
    published = PublishedLaws()
    published.take(*record(law(version=41)))
    new = published.renew([law(mean=0.6), law("total_cost")])
    assert [(each.outcome, each.version) for each in new] == [("success", 42), ("total_cost", 1)]
    assert published.renew([law(mean=0.6), law("total_cost")]) == new
    published.confirm(new)
    assert published.renew([law(mean=0.6), law("total_cost")]) == []
    assert [each.version for each in published.renew([law(mean=0.7), law("total_cost")])] == [43]


@pytest.mark.parametrize(
    "changes",
    [{"version": 9}, {"fitted_at": "2030-01-01T00:00:00Z"}, {"lineage": {"0": 99}}, {"n": 10}],
)
def test_a_law_that_says_the_same_is_not_new(changes: dict[str, object]) -> None:
    """Version, time and lineage are no news."""
    assert content(msgspec.structs.replace(law(), **changes)) == content(law())


@pytest.mark.parametrize(("mean", "new"), [(0.5 + 1e-15, False), (0.5 + 1e-7, True), (0.6, True)])
def test_rounding_is_no_news(mean: float, new: bool) -> None:  # noqa: FBT001 - a case
    """Sums in another order change the last digits; what changes the ninth digit is news."""
    assert (content(law(mean=mean)) != content(law())) is new
    assert (content(law(mean=0.0)) != content(law(mean=1e-17))) is False


def test_laws_whose_runs_are_gone_are_withdrawn_once() -> None:
    """A law that the context no longer gives becomes expired, and comes back with the next number."""
    published = PublishedLaws()
    published.take(*record(law(version=3)))
    assert published.contexts == ["global"]
    assert published.withdrawals(HEADING, {law().law_id}) == []
    assert published.withdrawals(replace(HEADING, context="project=a"), set()) == []
    (gone,) = published.renew(published.withdrawals(HEADING, set()))
    assert (gone.status, gone.version, gone.n, gone.epoch) == ("expired", 4, 0, 1)
    assert "they were corrected" in gone.missing["values"]
    published.confirm([gone])
    assert published.contexts == []
    assert published.withdrawals(HEADING, set()) == []
    assert published.renew([gone]) == []
    assert [each.version for each in published.renew([law()])] == [5]


def test_a_law_is_withdrawn_in_its_epoch() -> None:
    """The newest epoch of a law comes first, so its withdrawal carries that; it says which runs there are none of."""
    published, name, since = PublishedLaws(), law().law_id, "2026-02-01T00:00:00Z"
    published.take(*record(msgspec.structs.replace(law(version=3), epoch=2, epoch_since=since)))
    (gone,) = published.withdrawals(HEADING, set(), {name: since})
    assert (gone.epoch, gone.epoch_since) == (2, since)
    assert f"completed since {since}" in gone.missing["values"]
    assert "corrected" not in gone.missing["values"]
    (later,) = published.withdrawals(HEADING, set(), {name: "2026-03-01T00:00:00Z"})
    assert (later.epoch, later.epoch_since) == (3, "2026-03-01T00:00:00Z")
    (emptied,) = published.withdrawals(HEADING, set())
    assert (emptied.epoch, emptied.epoch_since) == (3, None)
    assert "they were corrected" in emptied.missing["values"]
    (other,) = published.withdrawals(HEADING, set(), reason="too many contexts")
    assert other.missing["values"] == "too many contexts"
    published.confirm(published.renew([gone]))
    assert published.epoch(name, since) == 2


def test_laws_of_the_live_tier_and_of_older_schemas_are_not_in_the_way() -> None:
    """Live laws are left alone; an audited law that cannot be read any more is numbered on and replaced."""
    published = PublishedLaws()
    published.take(*record(law(tier="live")))
    published.take(
        "global|agent_count|success|audited", b'{"law_id": "global|agent_count|success|audited", "version": 6}'
    )
    published.take("global|agent_count|total_cost|audited", None)
    assert published.contexts == []
    assert [each.version for each in published.renew([law()])] == [7]
    with pytest.raises(msgspec.MsgspecError):
        published.take("global|agent_count|success|audited", b"{")


def test_a_law_that_was_written_and_not_published_keeps_its_number() -> None:
    """Its number is not given again; what it said is no reason not to say it."""
    laws = PublishedLaws()
    laws.take(*record(law(mean=0.5, version=3)))
    laws.reserve(*record(law(mean=0.6, version=4)))
    laws.reserve(*record(law(mean=0.5, version=3)))
    laws.reserve(*record(law(tier="live", version=9)))
    laws.reserve(record(law())[0], None)
    assert [each.version for each in laws.renew([law(mean=0.6)])] == [5]
    assert laws.renew([law(mean=0.5)]) == []


def test_a_tombstone_makes_room_for_the_same_law() -> None:
    """After a tombstone the same law is published again."""
    published = PublishedLaws()
    published.take(*record(law(version=3)))
    published.take(law().law_id, None)
    assert [each.version for each in published.renew([law()])] == [4]


def test_an_expired_law_that_was_published_stays_withdrawn() -> None:
    """Read back from the topic, it is not withdrawn a second time."""
    published = PublishedLaws()
    published.take(*record(expired(law().law_id, HEADING)))
    assert published.withdrawals(HEADING, set()) == []


def test_the_record_of_the_topic_is_given_back_where_it_is_an_audited_law() -> None:
    """What the laws said last is what the next ones are compared with; an unreadable law keeps its epoch's number."""
    published = PublishedLaws()
    assert published.take(*record(law(version=3))) == law(version=3)
    assert published.take(*record(law(tier="live"))) is None
    assert published.take(law().law_id, None) is None
    old = {"law_id": law().law_id, "version": 6, "epoch": 4, "epoch_since": "2026-02-01T00:00:00Z"}
    assert published.take(law().law_id, msgspec.json.encode(old)) is None
    assert [published.epoch(law().law_id, since) for since in ("2026-02-01T00:00:00Z", None)] == [4, 5]


def test_joint_laws_are_numbered_and_withdrawn_like_the_others(make_joint_law: Callable[..., JointLaw]) -> None:
    """Read back from the topic they go on with their numbers; what says the same stays; one that is gone expires."""
    published, one = PublishedLaws(), make_joint_law(version=7, epoch=2, epoch_since="2026-02-01T00:00:00Z")
    name = one.law_id
    assert published.take(name, msgspec.json.encode(one)) == one
    assert published.contexts == ["global"]
    assert published.renew([msgspec.structs.replace(one, version=1, fitted_at="x", lineage={"0": 9})]) == []
    (moved,) = published.renew([msgspec.structs.replace(one, coefficients=[0.25, 0.6, -0.75])])
    assert (moved.version, published.epoch(name, one.epoch_since)) == (8, 2)

    reason = "a joint law needs 30 runs with success, there are 12: collect more runs"
    (gone,) = published.renew(published.withdrawals(HEADING, set(), missing={name: reason}))
    assert isinstance(gone, JointLaw)
    assert (gone.law_id, gone.status, gone.version, gone.epoch) == (name, "expired", 8, 3)
    assert gone.missing == {"terms": reason}
    again = PublishedLaws()
    assert again.take(name, msgspec.json.encode(gone)) == gone
    assert (again.contexts, again.withdrawals(HEADING, set())) == ([], [])
    assert [law.version for law in again.renew([one])] == [9]
