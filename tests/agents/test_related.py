"""Laws beside each other: pooled slopes, transfer between contexts, and which trends stand among all."""

import math
import time

import msgspec
import numpy as np
import pytest

from agents.published_laws import PublishedLaws
from agents.related import as_told, related
from analytics.pooling import pool
from analytics.published import trend_p
from models.laws import Estimate, Law, Transfer, Validation, law_id

SE = 0.03


def law(context: str, slope: float, *, e: float = 1.0, dimension: str = "agent_count") -> Law:
    """Make an audited law with a slope on ln x."""
    return Law(
        law_id=law_id(context, dimension, "success", "audited"),
        tier="audited",
        context=context,
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
        trend=Estimate(slope, SE, slope - 1.96 * SE, slope + 1.96 * SE),
        e_value=e,
    )


def by_id(*laws: Law) -> dict[str, Law]:
    """Key laws by their id."""
    return {each.law_id: each for each in laws}


PROJECTS = by_id(
    law("global", 0.1), *(law(f"project=p{place}", slope) for place, slope in enumerate((0.05, 0.08, 0.12, 0.15)))
)


def test_siblings_lend_each_other_strength() -> None:
    """Four projects are pooled as the quadrature pools their slopes; the global law, their sum, is not among them."""
    told = related(PROJECTS, {})
    check = pool(np.array([0.05, 0.08, 0.12, 0.15]), np.full(4, SE**2))
    for place in range(4):
        pooling = told[f"project=p{place}|agent_count|success|audited"].pooling
        assert pooling is not None
        assert pooling.slope.estimate == pytest.approx(float(check.mean[place]), rel=1e-12)
        assert (pooling.contexts, pooling.family) == (4, "project")
    assert told["global|agent_count|success|audited"].pooling is None


def test_each_project_is_foretold_by_the_others() -> None:
    """With four siblings each has a prediction from the other three; with three it is said why there is none."""
    told = related(PROJECTS, {})["project=p0|agent_count|success|audited"]
    assert told.validation is not None
    assert told.validation.transfer is not None
    assert told.validation.transfer.contexts == 4
    few = {name: each for name, each in PROJECTS.items() if "p3" not in name}
    alone = related(few, {})["project=p0|agent_count|success|audited"]
    assert alone.pooling is not None
    assert "4 contexts" in alone.missing["validation.transfer"]


def test_a_context_without_a_slope_starts_from_its_siblings() -> None:
    """Too few runs of its own: the slope is the one foretold for a new context, and the prior decides all of it."""
    new = msgspec.structs.replace(law("project=new", 0.0), trend=None, e_value=None, n=7, status="insufficient")
    pooling = related(PROJECTS | by_id(new), {})[new.law_id].pooling
    check = pool(np.array([0.05, 0.08, 0.12, 0.15]), np.full(4, SE**2)).new_context()
    assert pooling is not None
    assert (pooling.prior_weight, pooling.prior_dominated, pooling.contexts) == (1.0, True, 4)
    assert (pooling.slope.lo, pooling.slope.hi) == pytest.approx((check.lo, check.hi))
    category = msgspec.structs.replace(new, basis="category")
    assert related(PROJECTS | by_id(category), {})[new.law_id].pooling is None


def test_two_contexts_are_not_pooled() -> None:
    """From two estimates the spread between contexts cannot be told; the reason is in the record."""
    told = related(by_id(law("project=a", 0.1), law("project=b", 0.2)), {})
    assert all(each.pooling is None and "3 contexts" in each.missing["pooling"] for each in told.values())


def test_a_trend_stands_among_all_laws_or_does_not() -> None:
    """e-BH over 50 laws asks more of an e-value than one law alone would; both answers are in the record."""
    laws = by_id(
        law("task_type=strong", 0.3, e=5000.0),
        law("task_type=weak", 0.07, e=25.0),
        *(law(f"model=m{place}", 0.0) for place in range(48)),
    )
    told = related(laws, {})
    strong, weak = (told[f"task_type={name}|agent_count|success|audited"] for name in ("strong", "weak"))
    assert strong.adjusted_significance is not None
    assert weak.adjusted_significance is not None
    assert (strong.adjusted_significance.adjusted, strong.adjusted_significance.laws) == (True, 50)
    assert (weak.adjusted_significance.unadjusted, weak.adjusted_significance.adjusted) == (True, False)
    assert weak.trend is not None
    assert weak.adjusted_significance.p == pytest.approx(math.erfc(0.07 / SE / math.sqrt(2)))
    assert trend_p(weak.trend) == weak.adjusted_significance.p


def test_a_hair_of_a_change_is_not_told_again() -> None:
    """A sibling that moves by a thousandth of an error leaves the others' records as they were."""
    before = related(PROJECTS, {})
    moved = PROJECTS | by_id(law("project=p3", 0.15 + SE / 1000))
    after = related(moved, before)
    assert after["project=p0|agent_count|success|audited"] == before["project=p0|agent_count|success|audited"]
    far = related(PROJECTS | by_id(law("project=p3", 0.9)), before)
    assert far["project=p0|agent_count|success|audited"] != before["project=p0|agent_count|success|audited"]


def test_contexts_are_left_out_one_by_one_only_where_a_slope_has_moved() -> None:
    """A family that says what it said costs no more than its pooling; one that has moved is foretold anew."""
    laws = by_id(*(law(f"project=p{place}", 0.05 + 0.001 * place) for place in range(150)))

    def timed(given: dict[str, Law], before: dict[str, Law]) -> tuple[dict[str, Law], float]:
        began = time.process_time()
        return related(given, before), time.process_time() - began

    first, dear = timed(laws, {})
    again, cheap = timed(laws, first)
    assert again == first
    assert cheap < dear / 3
    mark = Transfer(contexts=150, coverage=0.5, skill=None)
    marked = {name: msgspec.structs.replace(each, validation=Validation(transfer=mark)) for name, each in first.items()}
    kept = {each.validation.transfer for each in related(laws, marked).values() if each.validation}
    assert kept == {mark}
    moved, name = laws | by_id(law("project=p0", 0.9)), "project=p0|agent_count|success|audited"
    anew = related(moved, marked)[name]
    assert anew.validation is not None
    assert anew.validation == related(moved, {})[name].validation


def test_a_law_is_told_what_its_siblings_said_before() -> None:
    """A new fit of the same law takes over pooling, transfer, significance and the reasons why there are none."""
    before = related(PROJECTS, {})
    new = msgspec.structs.replace(law("project=p0", 0.06), missing={"knee": "flat"})
    known = before[new.law_id]
    told = as_told(new, known)
    assert told is not None
    assert (told.trend, told.pooling, told.validation) == (new.trend, known.pooling, known.validation)
    stands, stood = told.adjusted_significance, known.adjusted_significance
    assert stands is not None
    assert stood is not None
    assert (stands.adjusted, stands.scope, stands.laws) == (stood.adjusted, stood.scope, stood.laws)
    assert stands.p == pytest.approx(math.erfc(0.06 / SE / math.sqrt(2)))
    assert stands.unadjusted
    assert told.missing == {"knee": "flat"}
    assert as_told(PROJECTS[new.law_id], known) == known
    two = related(by_id(law("project=a", 0.1), law("project=b", 0.2)), {})
    name = "project=a|agent_count|success|audited"
    assert as_told(law("project=a", 0.1), two[name]) == two[name]


def test_another_law_is_not_told_what_was_said_of_the_one_before() -> None:
    """A new epoch, another basis, a first slope, a law that was withdrawn: its siblings have to be asked anew."""
    known = related(PROJECTS, {})["project=p0|agent_count|success|audited"]
    new = law("project=p0", 0.06)
    for changes in (
        *({"epoch": 2, "epoch_since": "2026-02-01T00:00:00Z"}, {"basis": "dose"}, {"trend": None}, {"e_value": None}),
        {"status": "expired"},
    ):
        other = msgspec.structs.replace(new, **changes)
        assert as_told(other, known) is None
        assert as_told(new, msgspec.structs.replace(known, **changes)) is None
    assert as_told(new, None) is None


def test_an_epoch_is_numbered_once() -> None:
    """The first drift begins epoch 2, which stays 2 for as long as the drift is the same one."""
    published = PublishedLaws()
    name = "global|agent_count|success|audited"
    assert published.epoch(name, "2026-03-02T00:00:00Z") == 2
    published.confirm([msgspec.structs.replace(law("global", 0.1), epoch=2, epoch_since="2026-03-02T00:00:00Z")])
    assert published.epoch(name, "2026-03-02T00:00:00Z") == 2
    assert published.epoch(name, "2026-04-01T00:00:00Z") == 3


def test_a_law_whose_drift_is_no_more_begins_another_epoch() -> None:
    """It sees all runs again; a number below the published one would leave the old epoch in front of it."""
    published, since = PublishedLaws(), "2026-03-02T00:00:00Z"
    name = "global|agent_count|success|audited"
    assert published.epoch(name, None) == 1
    published.confirm([msgspec.structs.replace(law("global", 0.1), epoch=2, epoch_since=since)])
    assert published.epoch(name, None) == 3
    published.confirm([msgspec.structs.replace(law("global", 0.1), epoch=3)])
    assert (published.epoch(name, None), published.epoch(name, since)) == (3, 4)
