"""Numbering laws on, and leaving out those that say nothing new."""

import msgspec
import pytest

from agents.audit import AuditHeading, expired
from agents.published_laws import PublishedLaws, content
from models.dimensions import Source
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
    new = published.renew([law(mean=0.6), law("total_cost")], HEADING)
    assert [(each.outcome, each.version) for each in new] == [("success", 42), ("total_cost", 1)]
    assert published.renew([law(mean=0.6), law("total_cost")], HEADING) == new
    published.confirm(new)
    assert published.renew([law(mean=0.6), law("total_cost")], HEADING) == []
    assert [each.version for each in published.renew([law(mean=0.7), law("total_cost")], HEADING)] == [43]


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
    (gone,) = published.renew([], HEADING)
    assert (gone.status, gone.version, gone.n) == ("expired", 4, 0)
    published.confirm([gone])
    assert published.contexts == []
    assert published.renew([], HEADING) == []
    assert [each.version for each in published.renew([law()], HEADING)] == [5]


def test_laws_of_the_live_tier_and_of_older_schemas_are_not_in_the_way() -> None:
    """Live laws are left alone; an audited law that cannot be read any more is numbered on and replaced."""
    published = PublishedLaws()
    published.take(*record(law(tier="live")))
    published.take(
        "global|agent_count|success|audited", b'{"law_id": "global|agent_count|success|audited", "version": 6}'
    )
    published.take("global|agent_count|total_cost|audited", None)
    assert published.contexts == []
    assert [each.version for each in published.renew([law()], HEADING)] == [7]
    with pytest.raises(msgspec.MsgspecError):
        published.take("global|agent_count|success|audited", b"{")


def test_a_tombstone_makes_room_for_the_same_law() -> None:
    """After a tombstone the same law is published again."""
    published = PublishedLaws()
    published.take(*record(law(version=3)))
    published.take(law().law_id, None)
    assert [each.version for each in published.renew([law()], HEADING)] == [4]


def test_an_expired_law_that_was_published_stays_withdrawn() -> None:
    """Read back from the topic, it is not withdrawn a second time."""
    published = PublishedLaws()
    published.take(*record(expired(law().law_id, HEADING)))
    assert published.renew([], HEADING) == []
