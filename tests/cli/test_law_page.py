"""The table of laws, the page of a single one, and what a verification concludes."""

from collections.abc import Callable
from datetime import UTC, datetime
from io import StringIO

import msgspec
import orjson
import pytest
from rich.console import Console

from agents.raw_laws import RawRuns, Wanted
from agents.verify import Part
from analytics.multiplicity import e_bh
from analytics.simulation import simulate
from analytics.world import World
from cli.law_page import describe
from cli.laws import find, judged, laws_table, select
from cli.verify import conclusions, parts_table
from models.dimensions import Dimension, Outcome
from models.errors import ScalingError
from models.laws import (
    Adjusted,
    Drift,
    Estimate,
    ForwardChaining,
    Holdout,
    Knee,
    Law,
    Pooling,
    Transfer,
    Validation,
)
from models.settings import load_settings
from streams.verification import Verification

Make = Callable[..., Law]

SLOPE = Estimate(0.08, 0.01, 0.06, 0.1)
NAIVE = Estimate(-0.05, 0.01, -0.07, -0.03)


def text(*renderables: object) -> str:
    """Render as a wide file would get it."""
    file = StringIO()
    console = Console(width=240, file=file)
    for each in renderables:
        console.print(each)
    return file.getvalue()


def page(law: Law) -> str:
    """Render the page of a law."""
    file = StringIO()
    describe(law, Console(width=200, file=file))
    return file.getvalue()


@pytest.fixture(scope="module")
def fitted() -> Law:
    """Give a law of success over agents of 3,000 simulated runs."""
    raw = RawRuns(load_settings(bootstrap_draws=100))
    start = datetime(2026, 3, 1, tzinfo=UTC)
    raw.add([orjson.dumps(event) for event in simulate(World(), 3000, seed=2, start=start)])
    (law,) = raw.laws(Wanted("global", Dimension.AGENT_COUNT, Outcome.SUCCESS))
    return law


def test_the_speaking_tier_is_the_default(make_law: Make) -> None:
    """Of a live and an audited law one speaks; --tier live, audited and all show what there is."""
    live, audited, stale = (
        make_law(tier="live"),
        make_law(tier="audited"),
        make_law(tier="audited", context="project=a", runs=(10, 10)),
    )
    fresh = make_law(tier="live", context="project=a")
    laws = [live, audited, fresh, stale]
    assert select(laws, "speaking") == [audited, fresh]
    assert select(laws, "live") == [live, fresh]
    assert select(laws, "audited") == [audited, stale]
    assert select(laws, "all") == laws


def test_a_law_is_found_by_its_id(make_law: Make) -> None:
    """Without a tier the law that speaks is meant; an unknown id is an error that shows what an id looks like."""
    live, audited = make_law(tier="live"), make_law(tier="audited")
    assert find([live, audited], live.law_id) == live
    assert find([live, audited], "global|agent_count|quality_score") == audited
    with pytest.raises(ScalingError, match=r"there is no law x: an id is context\|dimension\|outcome\|tier, such as"):
        find([live, audited], "x")


def test_trends_are_judged_among_all_laws_of_their_tier(make_law: Make) -> None:
    """e-BH goes over all laws of the tier or those in scope; the other tier, and laws without a trend, do not count."""
    strong, weak = Estimate(0.2, 0.02, 0.16, 0.24), Estimate(0.05, 0.025, 0.0, 0.1)
    e = {"project=a": 1e6, "project=b": 30.0, "project=c": 0.5}
    laws = [
        make_law(context=context, tier=tier, trend=strong if value > 100 else weak, e_value=value)
        for context, value in e.items()
        for tier in ("live", "audited")
    ]
    laws.append(make_law(context="project=d"))
    told = {law.law_id: law.adjusted_significance for law in judged(laws, "all")}
    assert told["project=d|agent_count|quality_score|live"] is None
    for context, value in e.items():
        found = told[f"{context}|agent_count|quality_score|live"]
        assert found is not None
        assert found.laws == 3
        assert found.unadjusted == (found.p <= 0.05)
        assert found.adjusted == (context in e_bh(e))
        assert found.adjusted == (value >= 30.0)
    alone = {law.law_id: law.adjusted_significance for law in judged(laws, "context")}
    single = alone["project=b|agent_count|quality_score|live"]
    assert single is not None
    assert (single.laws, single.adjusted, single.scope) == (1, True, "context")


def test_the_table_has_both_significances_and_marks_an_unsupported_knee(make_law: Make) -> None:
    """A trend that stands alone and not among all has yes and no side by side; a knee of noise has a question mark."""
    knee = Knee(value=4.0, lo=2.0, hi=8.0, rule="it brings less than it costs", supported=False)
    trend = Estimate(0.05, 0.02, 0.01, 0.09)
    laws = judged([make_law(trend=trend, e_value=2.0, knee=knee), make_law(context="project=a")], "all")
    lines = text(laws_table(laws)).splitlines()
    (first,) = (line for line in lines if "4 [2, 8]?" in line)
    cells = [cell.strip() for cell in first.split("│")]
    assert cells[-5:-2] == ["0.012", "yes", "no"]
    assert "4 [2, 8]?" in cells
    supported = msgspec.structs.replace(laws[0], knee=msgspec.structs.replace(knee, supported=True))
    assert "4 [2, 8] " in text(laws_table([supported]))
    assert "0.300" in text(laws_table(laws))
    assert "[0.280, 0.320]" in text(laws_table(laws))


def test_the_page_has_the_law_in_full(fitted: Law) -> None:
    """Sentence, curve, weights and parameters, exponent, references by their name, reasons, and how to verify."""
    assert fitted.published is not None
    told = page(fitted)
    assert fitted.sentence in told
    for name, weight in fitted.published.weights.items():
        assert (f"{name} {weight:.3f}" in told) == (weight >= 0.0005)
    for point in fitted.published.curve:
        assert f"[{point.lo:.4g}, {point.hi:.4g}]" in told
        assert f"[{point.band_lo:.4g}, {point.band_hi:.4g}]" in told
    assert fitted.power is not None
    assert f"exponent of the mean: {fitted.power.exponent.estimate:.4g}" in told
    assert "For reference: the methods of the design document" in told
    assert fitted.reference.power is not None
    assert f"exponent {fitted.reference.power.exponent.estimate:.4g}" in told
    for part, reason in fitted.missing.items():
        assert f"{part}: {reason}" in told
    assert f'scaling laws verify "{fitted.law_id}"' in told


def test_the_page_sets_the_adjusted_law_against_the_naive_one(make_law: Make) -> None:
    """The gap, a difference in sign and the tipping reliability are told with both slopes."""
    adjusted = Adjusted("AIPW", SLOPE, NAIVE, -0.13, 900, 10, sign_differs=True, tipping_reliability=0.62, overlap=0.4)
    told = page(make_law(adjusted=adjusted, confounding_gap=-0.13, tipping_reliability=0.62))
    assert "adjusted: 0.08 [0.06, 0.1] (AIPW)" in told
    assert "naive:    -0.05 [-0.07, -0.03]" in told
    assert "confounding gap (naive less adjusted): -0.13; they differ in sign" in told
    assert "if less than 0.62 of" in told
    assert "40% of the runs" in told
    assert "Adjusted" not in page(make_law())


def test_the_page_says_how_the_law_did_on_what_it_had_not_seen(make_law: Make) -> None:
    """Skill, calibration, transfer and forecasts in words; drift, pooling, lint and lineage have their lines."""
    validation = Validation(
        holdout=Holdout(0.22, 0.2, 0.25, 0.6, Estimate(0.9, 0.1, 0.7, 1.1), 400),
        transfer=Transfer(5, 0.8, None, covered=True),
        forward=ForwardChaining(20, 1.1, 0.9),
    )
    law = make_law(
        validation=validation,
        drift=Drift(alarm=True, evidence=12_000, limit=10_000, buckets=20, since="2026-03-01T05:00:00Z", cause="price"),
        pooling=Pooling(SLOPE, 0.02, 0.7, prior_dominated=True, contexts=5, family="project"),
        lint=["Only 2 distinct values."],
        lineage={"0": 1200, "1": 90},
        missing={"knee": "too few runs"},
    )
    told = page(law)
    for part in (
        "60% of what can be explained on 400 runs, calibration 0.9 [0.7, 1.1] (1 is calibrated)",
        "the laws of 5 contexts predict a left-out one inside 95 % intervals in 80% of the cases; this one's as well",
        "90% of 20 forecasts inside 95 %",
        "ALARM since 2026-03-01T05:00:00Z, cause: price",
        "with 5 contexts of project",
        "more than half of it is theirs",
        "mind: Only 2 distinct values.",
        "0 below 1,200, 1 below 90",
        "knee: too few runs",
    ):
        assert part in told


def test_the_page_says_that_only_the_mix_has_moved(make_law: Make) -> None:
    """Without an alarm a cause is told where there is one, and no word of causes where there is none."""
    quiet = Drift(alarm=False, evidence=3.5, limit=10_000, buckets=20)
    assert "none; evidence 3.5 of 10,000 after 20 buckets" in page(make_law(drift=quiet))
    moved = page(make_law(drift=msgspec.structs.replace(quiet, cause="mix")))
    assert "none, cause: mix; evidence 3.5 of 10,000 after 20 buckets" in moved


def verification(**fields: object) -> Verification:
    """Make a verification without differences."""
    known: dict[str, object] = {
        "law_id": "global|agent_count|success|live",
        "version": 3,
        "equal": True,
        "parts": [Part("values"), Part("drift", not_compared="it depends on buckets")],
        "corrected": [],
        "corrected_total": 0,
        "corrected_elsewhere": 0,
        "not_archived": {},
    }
    return Verification(**(known | fields))  # type: ignore[arg-type]


def test_a_verification_says_what_may_be_the_reason() -> None:
    """Equal; a difference with corrected runs or a late archive as its reason; and one that nothing explains."""
    assert list(conclusions(verification())) == [
        "The law equals the one fitted from its raw runs, in all that was compared."
    ]
    differs = {"equal": False, "parts": [Part("values", ["values[1].mean: 0.5 and 0.6"])]}
    named = " ".join(conclusions(verification(**differs, corrected=["a", "b"], corrected_total=22)))
    assert "DIFFERS from the one fitted from its raw runs: values." in named
    assert "22 runs were corrected since the law saw them; that may be the reason: a, b and 20 more." in named
    late = " ".join(conclusions(verification(**differs, not_archived={2: 40})))
    assert "behind the law's lineage in partition 2 by 40 offsets" in late
    assert "3 runs outside of the context" in " ".join(conclusions(verification(**differs, corrected_elsewhere=3)))
    assert "Nothing explains the difference" in " ".join(conclusions(verification(**differs)))
    harmless = " ".join(conclusions(verification(corrected=["a"], corrected_total=1)))
    assert harmless.endswith("1 run was corrected since the law saw them: a.")


def test_each_part_has_its_verdict() -> None:
    """Equal, differs with what differs, or not compared with the reason; many differences are counted."""
    parts = [
        Part("values", [f"values[{place}]: 1 and 2" for place in range(12)]),
        Part("power"),
        Part("drift", [], "why"),
    ]
    told = text(parts_table(verification(parts=parts)))
    assert "values[7]: 1 and 2" in told
    assert "values[8]" not in told
    assert "and 4 more" in told
    for verdict in ("differs", "equal", "not compared", "why"):
        assert verdict in told
