"""Sentences: what a person reads about a law, for every kind of law."""

import doctest
import math
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics import sentences
from analytics.published import direction as fitted_direction
from analytics.sentences import dimension_words, project_count, sentence
from models.dimensions import BASES, LESS_IS_BETTER, SIZE_CATEGORIES, Basis, Dimension, Outcome
from models.laws import Adjusted, CurvePoint, Drift, Estimate, Knee, Law, Pooling, Published, ValueRow

DIRECTIONS = ("rises", "falls", "rises then falls", "falls then rises", "no effect", "undetermined")
AGENTS = (1.0, 2.0, 4.0, 8.0)
CHANGE = Estimate(0.3, 0.04, 0.22, 0.38)


def published(direction: str, mean: tuple[float, ...] = (0.4, 0.5, 0.6, 0.7), **fields: Any) -> Published:  # noqa: ANN401
    """Make a curve over 1, 2, 4 and 8."""
    curve = [CurvePoint(x, y, y - 0.05, y + 0.05) for x, y in zip(AGENTS, mean, strict=True)]
    change = Estimate(mean[-1] - mean[0], 0.04, mean[-1] - mean[0] - 0.08, mean[-1] - mean[0] + 0.08)
    known: dict[str, Any] = {"change": change, "direction": direction}
    return Published("plateau", {"plateau": 1.0}, {}, curve, "families", **(known | fields))


def law(direction: str = "rises", **fields: Any) -> Law:  # noqa: ANN401 - any field of the record
    """Make a law of success over agents."""
    known: dict[str, Any] = {
        "law_id": "global|agent_count|success|audited",
        "tier": "audited",
        "context": "global",
        "dimension": "agent_count",
        "outcome": "success",
        "version": 1,
        "epoch": 1,
        "fitted_at": "2026-03-01T00:00:00Z",
        "n": 12_400,
        "status": "actionable",
        "evidence": "associational",
        "settings_hash": "",
        "basis": "realised",
        "values": [ValueRow(n=3100, mean=0.5, lo=0.48, hi=0.52, x=x) for x in AGENTS],
        "published": published(direction),
        "knee": Knee(4.0, 3.0, 5.0, "the next unit costs more than it brings", 0.05, 0.01, supported=True),
    }
    return Law(**(known | fields))


def test_a_rise_is_told_up_to_its_knee() -> None:
    """Direction, size, knee with interval, evidence and support, in two sentences."""
    assert sentence(law(), projects=3) == (
        "Success rises with agents, +30 points [+22, +38] from 1 to 8; another agent pays up to 4 [3, 5], and beyond "
        "that it costs more than it brings. An association, not yet a cause, 12,400 runs, 3 projects."
    )


@pytest.mark.parametrize(
    ("direction", "told"),
    [
        ("falls", "Success falls with agents, "),
        ("no effect", "Success hardly changes with agents: "),
        ("undetermined", "The runs cannot tell whether success rises or falls with agents: "),
        ("falls then rises", "Success falls with agents, then rises. "),
    ],
)
def test_only_a_gain_has_a_knee(direction: str, told: str) -> None:
    """Where more brings no gain from the start, no word is said about where it stops to pay."""
    text = sentence(law(direction))
    assert text.startswith(told)
    assert "pays" not in text


def test_a_hump_is_told_with_its_top() -> None:
    """The turning point is the highest point of the curve."""
    text = sentence(law(published=published("rises then falls", (0.4, 0.5, 0.6, 0.45)), knee=None))
    assert text.startswith("Success rises with agents up to 4, then falls. ")


@pytest.mark.parametrize(
    ("knee", "told"),
    [
        (Knee(8, 4, 8, "r", 0.05, supported=True), "another agent pays up to 8, the most tried, or to 4 at the least."),
        (Knee(8, 8, 8, "r", 0.05, supported=True), "another agent pays up to 8, the most tried."),
        (Knee(2, 1, 8, "r", 0.05, supported=False), "; up to where another agent pays is not yet known."),
        (Knee(1, 1, 8, "r", 0.05, supported=False), "; whether another agent pays beyond 1 is not yet known."),
        (Knee(1, 1, 1, "", 0.05, supported=False), "; already beyond 1, another agent costs more than it brings."),
        (Knee(4, 4, 4, "", 0.05, supported=True), "pays up to 4, and beyond that it costs more than it brings."),
        (
            Knee(4, 4, 4, "the next unit gains less than 0.05", 0.05, supported=True),
            "the next unit gains less than 0.05.",
        ),
        (Knee(4, 4, 4, "x" * 900, 0.05, supported=True), "and beyond that a unit brings less than 0.05."),
        (Knee(4, 4, 4, "r", 0.0, supported=True), "and beyond that it brings nothing more."),
    ],
)
def test_a_knee_says_how_far_it_is_known(knee: Knee, told: str) -> None:
    """A knee at the end was not found; one that noise could have made is not told; the reason is that of its rule."""
    assert told in sentence(law(knee=knee))


def test_a_change_outside_its_interval_is_not_told() -> None:
    """Where no family describes the runs, the law's change and its interval contradict each other: neither is told."""
    odd = published("falls", change=Estimate(-0.33, 0.02, -0.2, -0.1))
    assert sentence(law(published=odd)).startswith("Success falls with agents. ")


def test_less_time_is_a_gain_and_is_told_as_a_factor() -> None:
    """A law of the logarithm of time gives a factor; a fall of time has a knee, a rise has none."""
    faster = published("falls", (100, 60, 40, 30), scale="median", change=Estimate(math.log(0.3), 0.1, -1.4, -1.0))
    timed = {"outcome": "time_to_complete", "dimension": "parallelism_level"}
    text = sentence(law(published=faster, **timed))
    assert text.startswith(
        "Time to complete falls with parallel agents, 0.3 times [0.247, 0.368] from 1 to 8; another "
    )
    assert "pays" not in sentence(law(published=published("rises", scale="median"), **timed))


def test_evidence_is_named() -> None:
    """Associations are called so; adjusted and randomised laws say what they are."""
    slope = Estimate(0.1, 0.01, 0.08, 0.12)
    adjusted = Adjusted("g-computation", slope, slope, 0.0, 900, 10, covariates=["iterations", "ln_context"])
    assert "Adjusted for complexity, iterations and context, 12,400 runs." in sentence(
        law(evidence="adjusted", adjusted=adjusted)
    )
    by_agents = Adjusted("linear", slope, slope, 0.0, 900, 0, covariates=["agent_count", "complexity"])
    assert "Adjusted for complexity and agents, " in sentence(law(evidence="adjusted", adjusted=by_agents))
    assert "A randomised comparison, 12,400 runs." in sentence(law(evidence="randomised"))
    assert "An association, not yet a cause, 12,400 runs." in sentence(law())


@pytest.mark.parametrize(
    ("direction", "told"),
    [
        ("rises", "; without adjusting for complexity it would look like a fall."),
        ("falls", "; at equal complexity it is a rise."),
        ("undetermined", "; at equal complexity it is a rise, without adjusting a fall."),
    ],
)
def test_a_sign_that_turns_is_told_from_the_side_of_the_claim(direction: str, told: str) -> None:
    """Which slope is the surprise depends on which of them the law has followed."""
    adjusted = Adjusted(
        "m", Estimate(0.1, 0.01, 0.08, 0.12), Estimate(-0.2, 0.01, -0.22, -0.18), -0.3, 9, 9, sign_differs=True
    )
    assert sentence(law(direction, adjusted=adjusted)).endswith(told)


def test_an_audited_adjusted_law_tells_its_own_change_and_a_live_one_an_association() -> None:
    """Of the same confounded runs: the audited curve is the adjusted one, the live one is that of the runs."""
    turned = Adjusted(
        "m", Estimate(0.1, 0.01, 0.08, 0.12), Estimate(-0.2, 0.01, -0.22, -0.18), -0.3, 9, 9, sign_differs=True
    )
    audited = law(evidence="adjusted", adjusted=turned)
    assert sentence(audited) == (
        "Success rises with agents, +30 points [+22, +38] from 1 to 8; another agent pays up to 4 [3, 5], and beyond "
        "that it costs more than it brings. Adjusted for complexity, 12,400 runs; without adjusting for complexity it "
        "would look like a fall."
    )
    naive = published("falls", (0.7, 0.6, 0.5, 0.4))
    live = law(tier="live", adjusted=turned, published=naive, knee=None)
    assert sentence(live) == (
        "Success falls with agents, -30 points [-38, -22] from 1 to 8. An association, not yet a cause, 12,400 runs; "
        "at equal complexity it is a rise."
    )
    alike = msgspec.structs.replace(turned, naive=turned.slope, gap=0.0, sign_differs=False)
    assert sentence(law(tier="live", adjusted=alike)).endswith(". An association, not yet a cause, 12,400 runs.")


def test_means_that_no_family_describes_read_like_any_law() -> None:
    """The change is that between the outer means; no word is said of a curve."""
    means = Published("saturated", {"saturated": 0.9}, {}, published("rises").curve, "families", "rises", CHANGE)
    assert sentence(law(published=means, knee=None)) == (
        "Success rises with agents, +30 points [+22, +38] from 1 to 8. An association, not yet a cause, 12,400 runs."
    )


def test_standing_comes_first() -> None:
    """Too few runs, exploration, drift with its day and cause, and expiry are told before the claim."""
    few = law(status="insufficient", n=1, values=[ValueRow(n=1, mean=1, lo=0, hi=1, x=1.0)], published=None)
    assert sentence(few) == "Too few runs to say how success changes with agents: 1 run at 1 value."
    assert sentence(law(status="exploratory")).startswith("Exploratory: success rises")
    drift = Drift(alarm=True, evidence=1e5, limit=1e4, buckets=40, since="2026-05-03T10:00:00Z", cause="price")
    assert sentence(law(status="drifted", drift=drift)).startswith("Drifted since 2026-05-03 (prices changed): success")
    assert sentence(law(status="expired")).startswith("Expired: success rises")


def test_what_is_borrowed_is_told() -> None:
    """A law that its siblings decide says so; clusters are named where the projects are not counted."""
    pooling = Pooling(Estimate(0.1, 0.1, 0, 0.2), 0.05, 0.8, prior_dominated=True, contexts=7, family="project")
    assert "more than half of it borrowed from sibling contexts" in sentence(law(pooling=pooling))
    assert "12,400 runs, errors by task." in sentence(law(clusters="task"))
    assert "12,400 runs, 8 projects." in sentence(law(clusters="8 projects"))


def test_categories_are_compared_where_their_intervals_allow() -> None:
    """The best category is named if its interval stands clear of the worst one's; else nothing is claimed."""

    def sizes(*rows: tuple[str, float, float]) -> Law:
        values = [ValueRow(n=99, mean=mean, lo=mean - half, hi=mean + half, label=name) for name, mean, half in rows]
        return law(dimension="model_size", basis="category", values=values, published=None, knee=None)

    clear = sentence(sizes(("small", 0.5, 0.05), ("large", 0.7, 0.05)))
    assert clear.startswith("Success is highest with large models: 70 % (large) against 50 % (small). ")
    close = sentence(sizes(("small", 0.65, 0.05), ("large", 0.7, 0.05)))
    assert close.startswith("The runs cannot tell small and large models apart by success: 70 % (large) against 65 %")


@pytest.mark.parametrize(
    ("dimension", "basis", "outcome", "words"),
    [
        ("iterations", "dose", "success", "the iteration limit"),
        ("iterations", "realised", "success", "used iterations"),
        ("context", "dose", "success", "the context budget"),
        ("model_size", "realised", "success", "model size"),
        ("attempts", "realised", "success", "allowed attempts"),
        ("attempts", "realised", "total_cost", "used attempts"),
        ("attempts", None, "success", "attempts"),
    ],
)
def test_limits_are_told_from_used_amounts(dimension: str, basis: str | None, outcome: str, words: str) -> None:
    """A limit and what was used have different names; success over attempts comes from hazards, as under a limit."""
    assert dimension_words(law(dimension=dimension, basis=basis, outcome=outcome)) == words


def test_projects_are_read_where_a_law_says_them() -> None:
    """From its clusters, or from a context that is a project."""
    assert project_count(law(clusters="12 projects")) == 12
    assert project_count(law(context="project=atlas")) == 1
    assert project_count(law(clusters="task")) is None


def test_the_examples_run() -> None:
    """The examples in the docstrings are true."""
    assert doctest.testmod(sentences).failed == 0


def test_the_directions_are_those_of_the_published_law() -> None:
    """Every direction that a fit can give is one that sentences are tested with."""
    assert set(re.findall(r"rises then falls|falls then rises", fitted_direction.__doc__ or "")) <= set(DIRECTIONS)
    source = {"RISES", "FALLS", "RISES_THEN_FALLS", "FALLS_THEN_RISES", "FLAT", "UNDETERMINED"}
    assert {fitted_direction.__globals__[name] for name in source} == set(DIRECTIONS)


numbers = st.floats(-1e6, 1e6)
positive = st.floats(1e-6, 1e6)
estimates = st.tuples(numbers, positive, positive).map(lambda t: Estimate(t[0], t[1], t[0] - t[1], t[0] + t[2]))


@st.composite
def laws(draw: st.DrawFn) -> Law:
    """Draw a law of any kind, consistent or not."""
    dimension, outcome = draw(st.sampled_from(Dimension)), draw(st.sampled_from(Outcome))
    basis = draw(st.sampled_from([*BASES[dimension], None]))
    x = sorted(draw(st.lists(positive, max_size=5, unique=True)))
    means = draw(st.lists(numbers, min_size=5, max_size=5))
    labels = SIZE_CATEGORIES[: draw(st.integers(0, 3))] if basis is Basis.CATEGORY else ()
    places: list[tuple[float | None, str | None]] = [(None, name) for name in labels] or [(at, None) for at in x]
    rows = [
        ValueRow(n=3, mean=mean, lo=mean - 1, hi=mean + means[0], x=at, label=name)
        for (at, name), mean in zip(places, means, strict=False)
    ]
    curve = [CurvePoint(at, mean, 0.0, 1.0) for at, mean in zip(x, means, strict=False)]
    fit = Published(
        family="power",
        weights={},
        params={},
        curve=curve,
        method="",
        direction=draw(st.sampled_from(DIRECTIONS)),
        change=draw(st.none() | estimates | st.just(Estimate(math.nan, math.nan, -math.inf, math.inf))),
        scale=draw(st.sampled_from(["mean", "median"])),
    )
    knee = Knee(draw(positive), draw(positive), draw(positive), draw(st.sampled_from(["", "the next unit costs more"])))
    adjusted = Adjusted(
        "",
        draw(estimates),
        draw(estimates),
        0.0,
        1,
        draw(st.integers(0, 10)),
        covariates=draw(st.lists(st.sampled_from(["complexity", "ln_context", "agent_count", "x" * 200]), max_size=6)),
        sign_differs=draw(st.booleans()),
    )
    drift = Drift(draw(st.booleans()), 1.0, 1.0, 1, draw(st.none() | st.just("2026-01-01T00:00:00Z")), "law")
    return law(
        dimension=dimension.value,
        outcome=outcome.value,
        basis=basis,
        n=draw(st.integers(0, 10**9)),
        values=rows,
        status=draw(
            st.sampled_from(["insufficient", "exploratory", "established", "actionable", "drifted", "expired"])
        ),
        evidence=draw(st.sampled_from(["associational", "adjusted", "randomised"])),
        published=draw(st.none() | st.just(fit)),
        knee=draw(st.none() | st.just(knee) | st.just(Knee(3, 2, 9, "", 0.1, supported=True))),
        adjusted=draw(st.none() | st.just(adjusted)),
        drift=draw(st.none() | st.just(drift)),
        clusters=draw(st.none() | st.sampled_from(["project", "7 projects", "a" * 300])),
    )


@given(laws(), st.none() | st.integers(0, 9999))
@settings(max_examples=150)
def test_every_law_reads_as_a_sentence(any_law: Law, projects: int | None) -> None:
    """Whatever a record holds, the text is short, ends with a full stop, and shows no hole of the machinery."""
    text = sentence(any_law, projects)
    assert text.endswith(".")
    assert len(text) <= 400
    assert text[0].isupper()
    assert not re.search(r"None|\bnan\b|\binf\b|  |\.\.|e[+-]\d| ,| \.|[{}_]", text), text


@given(laws())
@settings(max_examples=50)
def test_a_gain_is_only_where_the_outcome_improves(any_law: Law) -> None:
    """More is said to pay only if the outcome first moves the way that is better."""
    if any_law.published is not None and "pays" in sentence(any_law):
        better = "falls" if any_law.outcome in LESS_IS_BETTER else "rises"
        assert any_law.published.direction.startswith(better)
