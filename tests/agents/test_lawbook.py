import pytest

from agents.lawbook import LawBook, has_line, ranked
from models.dimensions import Dimension, Outcome
from models.errors import NotEnoughData
from models.laws import Estimate, Law, LineFit, Published, Reference, ValueRow, law_id

AGENTS = Dimension.AGENT_COUNT
QUALITY = Outcome.QUALITY_SCORE
CONTEXTS = ["global", "project=web", "task_type=bug", "project=web&task_type=bug"]


def law(
    context: str,
    *,
    version: int = 1,
    runs: tuple[int, ...] = (30, 30),
    power: bool = True,
    linear: bool = False,
    note: str = "",
) -> Law:
    """Make a law of quality over agents with these runs at 1, 2, … agents."""
    one = Estimate(0.3, 0.01, 0.28, 0.32)
    return Law(
        law_id=law_id(context, AGENTS, QUALITY, "live"),
        tier="live",
        context=context,
        dimension=AGENTS,
        outcome=QUALITY,
        version=version,
        epoch=1,
        fitted_at=note,
        n=sum(runs),
        status="established",
        evidence="associational",
        settings_hash="",
        values=[ValueRow(n=n, mean=0.5, lo=0.4, hi=0.6, x=x) for x, n in enumerate(runs, 1)],
        reference=Reference(linear=LineFit(one, one, 0.5) if linear else None),
        published=Published("power", {}, {"exponent": one}, [], "") if power else None,
    )


def book(*laws: Law) -> LawBook:
    """Make a book of these laws, in their order of arrival."""
    made = LawBook()
    for one in laws:
        made.put(one)
    return made


def test_the_newest_version_stays() -> None:
    """An older version that arrives late changes nothing; a newer one replaces."""
    made = book(law("global", version=2), law("global", version=1))
    assert made.get("global", AGENTS, QUALITY).version == 2
    made.put(law("global", version=3))
    assert made.get("global", AGENTS, QUALITY).version == 3
    assert len(made) == 1


def test_among_equal_versions_the_last_to_arrive_stays() -> None:
    """A law that is published again under its version replaces the one before."""
    made = book(law("global", note="first"), law("global", note="second"))
    assert made.get("global", AGENTS, QUALITY).fitted_at == "second"


def test_a_tombstone_forgets_a_law_and_its_version() -> None:
    """After a deletion the law is gone, an unknown one may be deleted, and a fresh start at version 1 counts."""
    made = book(law("global", version=9))
    made.delete("global|agent_count|quality_score|live")
    made.delete("nobody|agent_count|quality_score|live")
    with pytest.raises(NotEnoughData, match=r"global\|agent_count\|quality_score\|live"):
        made.get("global", AGENTS, QUALITY)
    made.put(law("global", version=1))
    assert [one.version for one in made] == [1]


def test_the_most_specific_context_with_enough_runs_speaks() -> None:
    """More pairs win, then the order of the keys, then the global context."""
    pair, project, kind = "project=web&task_type=bug", "project=web", "task_type=bug"
    full = [law("global"), law(kind), law(project), law(pair)]
    for known, expected in ((full, pair), (full[:3], project), (full[:2], kind), (full[:1], "global")):
        assert book(*known).choose(CONTEXTS, AGENTS, QUALITY).context == expected


@pytest.mark.parametrize("runs", [(29, 500), (500,), (29, 29, 29)])
def test_fewer_than_thirty_runs_at_two_values_do_not_count(runs: tuple[int, ...]) -> None:
    """A context without 30 runs at each of two values leaves the word to the next one."""
    made = book(law("project=web", runs=runs), law("global"))
    assert made.choose(CONTEXTS, AGENTS, QUALITY).context == "global"


def test_a_law_without_the_fit_asked_for_does_not_count() -> None:
    """Without a published power fit, or without a line where a line is asked for, the next context speaks."""
    made = book(law("project=web", power=False, linear=True), law("global"))
    assert made.choose(CONTEXTS, AGENTS, QUALITY).context == "global"
    assert made.choose(CONTEXTS, AGENTS, QUALITY, has_line).context == "project=web"


def test_no_law_anywhere_names_the_dimension() -> None:
    """When not even the global context has a law with enough runs, the reason says which dimension to vary."""
    with pytest.raises(NotEnoughData, match="publish runs that vary agent_count"):
        book(law("global", runs=(29, 29))).choose(CONTEXTS, AGENTS, QUALITY)


def test_the_global_context_is_always_the_last_resort() -> None:
    """The global context is asked even where a task does not name it, and only once."""
    assert ranked(["project=web"]) == ["project=web", "global"]
    assert ranked(CONTEXTS)[-1] == "global"
    assert ranked(CONTEXTS).count("global") == 1
