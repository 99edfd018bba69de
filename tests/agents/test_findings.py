"""The register of findings: levels are LORD++'s, in the order of the topic, and exploratory findings take a place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agents.findings import registered
from analytics.multiplicity import Ledger
from models.experiments import Finding, Label, Verdict

FINDING = Finding(
    experiment_id="e",
    version=1,
    name="n",
    hypothesis="h",
    dimension="agent_count",
    outcome="success",
    context_filter={},
    values=[1.0, 2.0],
    verdict=Verdict.UNDETERMINED,
    label=Label.CONFIRMATORY,
    sentence="s",
    concluded_at="2026-01-01T00:00:00Z",
    sha256="",
    runs=10,
    dollars=1.0,
    p=1.0,
    alpha=0.05,
    minimum_effect=0.1,
)
P = st.sampled_from([0.0, 1e-9, 1e-4, 0.002, 0.01, 0.05, 0.5, 1.0])


@given(st.lists(st.tuples(P, st.booleans()), max_size=30))
def test_each_level_is_that_of_the_ledger_where_the_exploratory_count_as_nothing_found(
    tests: list[tuple[float, bool]],
) -> None:
    """Exploratory findings take a place with p = 1, whatever theirs is; they have no level and do not stand."""
    label = {True: Label.CONFIRMATORY, False: Label.EXPLORATORY}
    findings = [replace(FINDING, p=p, label=label[confirmatory]) for p, confirmatory in tests]
    found = registered(findings)
    assert [each.finding for each in found] == findings
    ledger = Ledger()
    for each, (p, confirmatory) in zip(found, tests, strict=True):
        if not confirmatory:
            assert (each.level, each.stands) == (None, False)
            ledger, rejected = ledger.test(1.0)
            assert not rejected
            continue
        assert each.level == ledger.level
        ledger, rejected = ledger.test(p)
        assert each.stands is rejected


def test_trying_until_it_looks_well_costs_what_testing_does() -> None:
    """Ten experiments that were stopped by hand leave the next as low a level as ten that found nothing."""
    stopped = [replace(FINDING, label=Label.EXPLORATORY, p=1e-9)] * 10
    nothing = [replace(FINDING, p=1.0)] * 10
    last = replace(FINDING, p=1e-4)
    after_stops, after_nothing = registered([*stopped, last])[-1], registered([*nothing, last])[-1]
    assert after_stops.level == after_nothing.level
    assert (after_stops.level or 1.0) < (registered([last])[0].level or 0.0)


def test_the_first_level_and_what_a_finding_earns_back() -> None:
    """The first test has alpha/2 · 0.0772 ln 2; one that stands raises the next level, one that does not lowers it."""
    found = registered([replace(FINDING, p=p) for p in (0.5, 1e-6, 0.5, 0.5)])
    levels = [each.level or 0.0 for each in found]
    assert levels[0] == pytest.approx(0.025 * 0.0772 * 0.6931471805599453)
    assert levels[1] < levels[0] < levels[2]
    assert levels[3] < levels[2]
    assert [each.stands for each in found] == [False, True, False, False]
