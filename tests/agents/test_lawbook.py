"""The law book: the newest law of each id, the context that speaks, and the tier that speaks for it."""

from collections.abc import Callable, Sequence

import pytest
from msgspec import structs

from agents.lawbook import LawBook, elasticity, has_line, ranked, speaks
from models.dimensions import Dimension, Outcome
from models.errors import NotEnoughData
from models.joint_laws import JointLaw
from models.laws import Adjusted, Drift, Estimate, Law, Pooling

AGENTS = Dimension.AGENT_COUNT
QUALITY = Outcome.QUALITY_SCORE
CONTEXTS = ["global", "project=web", "task_type=bug", "project=web&task_type=bug"]


Make = Callable[..., Law]


@pytest.fixture
def law(make_law: Make) -> Make:
    """Make laws of quality over agents with these runs at 1, 2, ... agents."""

    def make(context: str, *, runs: Sequence[int] = (30, 30), **fields: object) -> Law:
        return make_law(AGENTS, QUALITY, context=context, runs=runs, x=range(1, len(runs) + 1), **fields)

    return make


def book(*laws: Law) -> LawBook:
    """Make a book of these laws, in their order of arrival."""
    made = LawBook()
    for one in laws:
        made.put(one)
    return made


def test_the_newest_version_stays(law: Make) -> None:
    """An older version that arrives late changes nothing; a newer one replaces."""
    made = book(law("global", version=2), law("global", version=1))
    assert made.get("global", AGENTS, QUALITY).version == 2
    made.put(law("global", version=3))
    assert made.get("global", AGENTS, QUALITY).version == 3
    assert len(made) == 1


def test_among_equal_versions_the_last_to_arrive_stays(law: Make) -> None:
    """A law that is published again under its version replaces the one before."""
    made = book(law("global", fitted_at="first"), law("global", fitted_at="second"))
    assert made.get("global", AGENTS, QUALITY).fitted_at == "second"


def test_a_tombstone_forgets_a_law_and_its_version(law: Make) -> None:
    """After a deletion the law is gone, an unknown one may be deleted, and a fresh start at version 1 counts."""
    made = book(law("global", version=9))
    made.delete("global|agent_count|quality_score|live")
    made.delete("nobody|agent_count|quality_score|live")
    with pytest.raises(NotEnoughData, match=r"global\|agent_count\|quality_score\|live"):
        made.get("global", AGENTS, QUALITY)
    made.put(law("global", version=1))
    assert [one.version for one in made] == [1]


def test_the_most_specific_context_with_enough_runs_speaks(law: Make) -> None:
    """More pairs win, then the order of the keys, then the global context."""
    pair, project, kind = "project=web&task_type=bug", "project=web", "task_type=bug"
    full = [law("global"), law(kind), law(project), law(pair)]
    for known, expected in ((full, pair), (full[:3], project), (full[:2], kind), (full[:1], "global")):
        assert book(*known).choose(CONTEXTS, AGENTS, QUALITY).context == expected


@pytest.mark.parametrize("runs", [(29, 500), (500,), (29, 29, 29)])
def test_fewer_than_thirty_runs_at_two_values_do_not_count(law: Make, runs: tuple[int, ...]) -> None:
    """A context without 30 runs at each of two values leaves the word to the next one."""
    made = book(law("project=web", runs=runs), law("global"))
    assert made.choose(CONTEXTS, AGENTS, QUALITY).context == "global"


def test_a_law_without_the_fit_asked_for_does_not_count(law: Make) -> None:
    """Without a published power fit, or without a line where a line is asked for, the next context speaks."""
    made = book(law("project=web", exponent=None, slope=0.1), law("global"))
    assert made.choose(CONTEXTS, AGENTS, QUALITY).context == "global"
    assert made.choose(CONTEXTS, AGENTS, QUALITY, has_line).context == "project=web"


def test_no_law_anywhere_names_the_dimension(law: Make) -> None:
    """When not even the global context has a law with enough runs, the reason says which dimension to vary."""
    with pytest.raises(NotEnoughData, match="publish runs that vary agent_count"):
        book(law("global", runs=(29, 29))).choose(CONTEXTS, AGENTS, QUALITY)


def test_the_global_context_is_always_the_last_resort() -> None:
    """The global context is asked even where a task does not name it, and only once."""
    assert ranked(["project=web"]) == ["project=web", "global"]
    assert ranked(CONTEXTS)[-1] == "global"
    assert ranked(CONTEXTS).count("global") == 1


def audited(law: Make, *, n: int, since: str | None = None) -> Law:
    """Make the audited law of the global context over so many runs, of an epoch that began then."""
    return law("global", tier="audited", n=n, epoch_since=since)


def drifted(law: Make, since: str | None, *, alarm: bool = True) -> Law:
    """Make the live law of the global context, 1,000 runs, whose drift was noticed then."""
    return law("global", n=1000, drift=Drift(alarm=alarm, evidence=300.0, limit=200.0, buckets=90, since=since))


def test_a_lone_tier_speaks_for_itself(law: Make) -> None:
    """Where there is only one of the two laws, that one speaks; where there is none, none does."""
    live = law("global")
    assert speaks(live, None) is live
    other = audited(law, n=1)
    assert speaks(None, other) is other
    assert speaks(None, None) is None


@pytest.mark.parametrize(("n", "tier"), [(1000, "audited"), (800, "audited"), (799, "live"), (2000, "audited")])
def test_the_audited_law_speaks_unless_it_is_stale(law: Make, n: int, tier: str) -> None:
    """With less than 0.8 of the live law's 1,000 runs the audited one has fallen behind."""
    chosen = speaks(law("global", n=1000), audited(law, n=n))
    assert chosen is not None
    assert chosen.tier == tier


def test_an_audited_law_of_a_new_epoch_is_not_stale_for_its_fewer_runs(law: Make) -> None:
    """It covers the time since its epoch began alone, while the live law goes on from the start."""
    chosen = speaks(law("global", n=1000), audited(law, n=100, since="2026-02-01T00:00:00Z"))
    assert chosen is not None
    assert chosen.tier == "audited"


@pytest.mark.parametrize(("seen", "tier"), [((400, 400), "audited"), ((400, 399), "live"), ((900, 0), "audited")])
@pytest.mark.parametrize("begins", [None, "2026-02-01T00:00:00Z"])
def test_what_an_audit_has_seen_is_told_by_its_lineage(
    law: Make, seen: tuple[int, int], begins: str | None, tier: str
) -> None:
    """In a later epoch, which has few of the runs, an audit that reaches 0.8 as far speaks too, and no other."""
    behind = {str(partition): offset for partition, offset in enumerate(seen)}
    audit = law("global", tier="audited", n=100, epoch_since=begins, lineage=behind)
    chosen = speaks(law("global", n=990, lineage={"0": 600, "1": 400}), audit)
    assert chosen is not None
    assert chosen.tier == tier


@pytest.mark.parametrize("lacking", ["live", "audited"])
def test_without_both_lineages_runs_are_compared(law: Make, lacking: str) -> None:
    """Laws from files have no lineage: fewer runs are older ones, where both cover the same time."""
    lineages = {"live": {"0": 1000}, "audited": {"0": 1000}} | {lacking: {}}
    live = law("global", n=1000, lineage=lineages["live"])
    for since, tier in ((None, "live"), ("2026-02-01T00:00:00Z", "audited")):
        audit = law("global", tier="audited", n=700, epoch_since=since, lineage=lineages["audited"])
        chosen = speaks(live, audit)
        assert chosen is not None
        assert chosen.tier == tier


@pytest.mark.parametrize(
    ("since", "begins", "tier"),
    [
        ("2026-02-01T00:00:00Z", None, "live"),
        ("2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z", "live"),
        ("2026-02-01T00:00:00Z", "2026-02-01T00:00:00Z", "audited"),
        ("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z", "audited"),
    ],
)
def test_a_drift_alarm_silences_an_audit_from_before_it(law: Make, since: str, begins: str | None, tier: str) -> None:
    """An audited law whose runs begin where the drift did has answered it; an older one has not."""
    chosen = speaks(drifted(law, since), audited(law, n=1000, since=begins))
    assert chosen is not None
    assert chosen.tier == tier


def test_a_detector_without_an_alarm_silences_nobody(law: Make) -> None:
    """Evidence that stays below its limit leaves the word to the audited law."""
    chosen = speaks(drifted(law, None, alarm=False), audited(law, n=1000))
    assert chosen is not None
    assert chosen.tier == "audited"


def test_the_book_chooses_by_the_law_that_speaks(law: Make) -> None:
    """A context's audited law is what a task gets, and what must have enough runs and the fit asked for."""
    made = book(law("project=web"), law("project=web", tier="audited", version=5), law("global"))
    assert made.choose(CONTEXTS, AGENTS, QUALITY).version == 5
    assert made.speaking("project=web", AGENTS, QUALITY) is made.choose(CONTEXTS, AGENTS, QUALITY)
    assert made.speaking("project=app", AGENTS, QUALITY) is None
    made.put(law("project=web", tier="audited", version=6, exponent=None))
    assert made.choose(CONTEXTS, AGENTS, QUALITY).context == "global"


def adjusted(slope: float) -> Adjusted:
    """Make an adjustment with this slope on ln x."""
    one = Estimate(slope, 0.01, slope - 0.02, slope + 0.02)
    return Adjusted(method="", slope=one, naive=one, gap=0.0, n=100, strata=4)


def test_the_elasticity_is_the_adjusted_laws_where_there_is_one(law: Make, make_law: Make) -> None:
    """A slope of 0.1 a unit of ln x at a mean of 0.4 is 0.25 per cent a per cent; on the log scale it is the slope."""
    assert elasticity(law("global"))[0] == 0.3
    quality = law("global", mean=0.4, adjusted=adjusted(0.1))
    assert elasticity(quality)[0] == pytest.approx(0.25)
    assert elasticity(law("global", mean=0.4, exponent=None, adjusted=adjusted(0.1)))[0] == pytest.approx(0.25)
    time = make_law(AGENTS, Outcome.TIME_TO_COMPLETE, 0.3, mean=40.0, adjusted=adjusted(-0.6))
    assert elasticity(time)[0] == -0.6


def pooled(slope: float) -> Pooling:
    """Make a slope that siblings share."""
    one = Estimate(slope, 0.01, slope - 0.02, slope + 0.02)
    return Pooling(one, 0.05, 0.6, prior_dominated=True, contexts=5, family="project")


def test_an_exploratory_law_goes_by_what_its_siblings_share(law: Make, make_law: Make) -> None:
    """With 30 to 99 runs a value the pooled slope is acted on; with more, or without siblings, the law's own."""
    own = {"mean": 0.4, "adjusted": adjusted(0.1)}
    assert elasticity(law("global", status="exploratory", pooling=pooled(0.02), **own))[0] == pytest.approx(0.05)
    assert elasticity(law("global", status="established", pooling=pooled(0.02), **own))[0] == pytest.approx(0.25)
    assert elasticity(law("global", status="exploratory", **own))[0] == pytest.approx(0.25)
    time = make_law(AGENTS, Outcome.TIME_TO_COMPLETE, 0.3, status="exploratory", mean=40.0, pooling=pooled(-0.5))
    assert elasticity(time)[0] == -0.5
    assert elasticity(law("global", mean=0.0, status="exploratory", pooling=pooled(0.02)))[0] == 0.3


def test_a_mean_of_zero_has_no_elasticity_of_its_own(law: Make) -> None:
    """A share of nothing is undefined: the power law's exponent stands in, and without one the reason is given."""
    assert elasticity(law("global", mean=0.0, adjusted=adjusted(0.1)))[0] == 0.3
    reason = {"power": "quality_score is 0 in every run"}
    with pytest.raises(NotEnoughData, match="no power fit: quality_score is 0 in every run"):
        elasticity(law("global", mean=0.0, exponent=None, adjusted=adjusted(0.1), missing=reason))


def test_an_expired_law_does_not_speak(make_law: Callable[..., Law]) -> None:
    """An audited law that was withdrawn leaves the word to the live one, however fresh its lineage."""
    live = make_law(Dimension.AGENT_COUNT, Outcome.SUCCESS, 0.2, tier="live", lineage={"0": 100})
    gone = make_law(Dimension.AGENT_COUNT, Outcome.SUCCESS, None, tier="audited", lineage={"0": 100}, status="expired")
    assert speaks(live, gone) is live


def test_the_joint_law_of_the_most_specific_context_speaks(make_joint_law: Callable[..., JointLaw]) -> None:
    """It is kept apart from laws of one dimension; of each id the newest version stands, and a tombstone forgets it."""
    book = LawBook()
    every, own = make_joint_law(), make_joint_law(context="project=web", version=2)
    for each in (every, own, structs.replace(own, version=1)):
        book.put(each)
    contexts = ["global", "project=web"]
    assert book.joint(contexts, Outcome.SUCCESS) == (own, [])
    assert book.joint(["global"], Outcome.SUCCESS) == (every, [])
    assert book.joint(contexts, Outcome.QUALITY_SCORE) == (None, [])
    assert len(book) == 0
    revision = book.revision
    book.delete(own.law_id)
    assert book.revision > revision
    assert book.joint(contexts, Outcome.SUCCESS) == (every, [])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"status": "expired", "missing": {"terms": "no runs since May"}}, "it expired (no runs since May)"),
        ({"status": "expired", "missing": {}}, "it expired (no runs)"),
        ({"status": "exploratory", "n": 40}, "it is exploratory, with 40 runs for 3 terms"),
    ],
)
def test_an_unsound_joint_law_does_not_speak(
    make_joint_law: Callable[..., JointLaw], fields: dict[str, object], reason: str
) -> None:
    """That of a wider context does, and why is told; where none is sound there is none."""
    book = LawBook()
    book.put(make_joint_law(context="project=web", **fields))
    told = [f"project=web|joint|success|audited does not speak: {reason}"]
    assert book.joint(["global", "project=web"], Outcome.SUCCESS) == (None, told)
    book.put(make_joint_law())
    assert book.joint(["global", "project=web"], Outcome.SUCCESS) == (make_joint_law(), told)


@pytest.mark.parametrize(
    ("begins", "speaks"), [(None, False), ("2026-03-04T00:00:00Z", False), ("2026-03-05T00:00:00Z", True)]
)
def test_a_joint_law_from_before_a_drift_does_not_speak(
    make_law: Make,
    make_joint_law: Callable[..., JointLaw],
    begins: str | None,
    speaks: bool,  # noqa: FBT001 - the expected answer
) -> None:
    """The drift is that of the live laws of its own context and outcome, over any dimension."""
    drift = Drift(alarm=True, evidence=1e6, limit=1e4, buckets=9, since="2026-03-05T00:00:00Z")
    book = LawBook()
    book.put(make_joint_law(epoch_since=begins))
    for outcome in (Outcome.SUCCESS, Outcome.QUALITY_SCORE):
        book.put(make_law(Dimension.CONTEXT, outcome, drift=drift))
    found, told = book.joint(["global"], Outcome.SUCCESS)
    assert (found is not None, told == []) == (speaks, speaks)
    book.put(make_joint_law(Outcome.TOTAL_COST))
    assert book.joint(["global"], Outcome.TOTAL_COST)[0] is not None
