"""The document's hypotheses: each rule decides as it says, and nothing is decided that the laws cannot carry."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from analytics.cells import Cells, law_cells
from analytics.families import CURVES
from analytics.hypotheses import HYPOTHESES, Verdict, confront
from analytics.laws import fit_law
from analytics.moments import Floats
from analytics.rulings import Finding
from models.dimensions import Basis, Dimension, Outcome, Variable
from models.laws import (
    Adjusted,
    CurvePoint,
    Drift,
    Estimate,
    Knee,
    Law,
    PowerMean,
    Published,
    Significance,
    UniversalScalability,
    ValueRow,
)

SUPPORTED, REFUTED, UNDETERMINED = Finding
RISES = Estimate(0.3, 0.04, 0.22, 0.38)
LEVEL, STRAIGHT, POWER, SPLIT = (
    {"logarithmic": 0.6, "linear": 0.4},
    {"linear": 0.7, "logarithmic": 0.3},
    {"power": 0.8, "linear": 0.2},
    {"quadratic_log": 0.4, "linear": 0.3, "power": 0.2, "plateau": 0.1},
)
LAWS = {
    "agents": ("agent_count", "success"),
    "iterations": ("iterations", "quality_score"),
    "parallelism": ("parallelism_level", "time_to_complete"),
    "context": ("context", "quality_score"),
    "model size": ("model_size", "quality_score"),
    "retries": ("attempts", "success"),
    "overhead": ("agent_count", "success"),
    "quick plateau": ("iterations", "quality_score"),
    "conflicts": ("parallelism_level", "quality_score"),
}


def knee(lo: float, hi: float, *, supported: bool = True) -> Knee:
    """Make a knee in the middle of its interval."""
    return Knee((lo + hi) / 2, lo, hi, "", 0.05, supported=supported)


def exponent(lo: float, hi: float) -> PowerMean:
    """Make a power law with an interval."""
    middle = Estimate((lo + hi) / 2, (hi - lo) / 4, lo, hi)
    return PowerMean(middle, middle, "")


def law(
    dimension: str,
    outcome: str,
    direction: str = "rises",
    weights: Mapping[str, float] = SPLIT,
    *,
    most: float = 8,
    tier: str = "audited",
    **fields: Any,  # noqa: ANN401 - any field of the record
) -> Law:
    """Make a law over 1 to `most` on the preferred basis."""
    curve = [CurvePoint(x, 0.5, 0.4, 0.6) for x in (1.0, 2.0, most)]
    limited = dimension in {"iterations", "context", "attempts"}
    known: dict[str, Any] = {
        "context": "global",
        "version": 1,
        "epoch": 1,
        "fitted_at": "",
        "n": 900,
        "status": "established",
        "evidence": "adjusted",
        "settings_hash": "",
        "basis": "dose" if limited else "realised",
        "values": [ValueRow(n=300, mean=0.5, lo=0.4, hi=0.6, x=point.x) for point in curve],
        "published": Published("linear", dict(weights), {}, curve, "", direction, RISES),
    }
    known |= fields
    identity = f"{known['context']}|{dimension}|{outcome}|{tier}"
    return Law(law_id=identity, tier=tier, dimension=dimension, outcome=outcome, **known)


def judged(name: str, *laws: Law) -> Verdict:
    """Confront all hypotheses, take one."""
    return next(verdict for verdict in confront(laws) if verdict.hypothesis == name)


@pytest.mark.parametrize(
    ("name", "fields", "finding"),
    [
        ("agents", {"knee": knee(3, 5)}, SUPPORTED),
        ("agents", {"knee": knee(2, 3)}, SUPPORTED),
        ("agents", {"knee": knee(1, 2)}, UNDETERMINED),
        ("agents", {"knee": knee(1, 8)}, UNDETERMINED),
        ("agents", {"knee": knee(3, 5, supported=False)}, UNDETERMINED),
        ("agents", {"weights": LEVEL}, SUPPORTED),
        ("agents", {"weights": STRAIGHT}, REFUTED),
        ("agents", {"weights": STRAIGHT, "knee": knee(1, 2)}, UNDETERMINED),
        ("agents", {"weights": STRAIGHT, "knee": knee(8, 8)}, REFUTED),
        ("agents", {"direction": "rises then falls", "knee": knee(3, 5)}, SUPPORTED),
        ("agents", {"direction": "falls", "weights": LEVEL}, REFUTED),
        ("agents", {"direction": "no effect", "weights": LEVEL}, REFUTED),
        ("iterations", {"knee": knee(5, 6)}, SUPPORTED),
        ("iterations", {"knee": knee(2, 3)}, UNDETERMINED),
        ("iterations", {"weights": LEVEL}, UNDETERMINED),
        ("iterations", {"weights": {"plateau": 0.3, "saturating_exponential": 0.3}}, SUPPORTED),
        ("iterations", {"direction": "falls"}, REFUTED),
        ("parallelism", {"direction": "falls", "power": exponent(-0.8, -0.6)}, SUPPORTED),
        ("parallelism", {"direction": "falls", "power": exponent(-1.1, -0.6)}, UNDETERMINED),
        ("parallelism", {"direction": "falls", "power": exponent(-1.5, -1.1)}, REFUTED),
        ("parallelism", {"direction": "falls"}, UNDETERMINED),
        (
            "parallelism",
            {"direction": "falls", "scalability": UniversalScalability(RISES, RISES, exponent(-0.1, 0.1).exponent)},
            SUPPORTED,
        ),
        ("parallelism", {"direction": "rises"}, REFUTED),
        ("context", {"weights": LEVEL}, SUPPORTED),
        ("context", {"weights": STRAIGHT}, REFUTED),
        ("context", {"weights": SPLIT}, UNDETERMINED),
        ("context", {"direction": "falls", "weights": LEVEL}, REFUTED),
        ("model size", {"weights": POWER}, SUPPORTED),
        ("model size", {"weights": SPLIT}, UNDETERMINED),
        ("model size", {"weights": STRAIGHT}, REFUTED),
        ("retries", {"knee": knee(3, 5)}, SUPPORTED),
        ("retries", {"knee": knee(3, 8)}, UNDETERMINED),
        ("retries", {"weights": LEVEL}, SUPPORTED),
        ("retries", {"weights": STRAIGHT}, REFUTED),
        ("overhead", {"direction": "rises then falls"}, SUPPORTED),
        ("overhead", {"direction": "falls"}, SUPPORTED),
        ("overhead", {"direction": "rises"}, REFUTED),
        ("overhead", {"direction": "rises", "most": 4}, UNDETERMINED),
        ("overhead", {"direction": "falls then rises"}, UNDETERMINED),
        ("quick plateau", {"knee": knee(2, 3)}, SUPPORTED),
        ("quick plateau", {"knee": knee(2, 4)}, UNDETERMINED),
        ("quick plateau", {"knee": knee(4, 6)}, REFUTED),
        ("quick plateau", {"direction": "no effect"}, SUPPORTED),
        ("quick plateau", {}, UNDETERMINED),
        ("conflicts", {"direction": "falls"}, SUPPORTED),
        ("conflicts", {"direction": "rises then falls"}, SUPPORTED),
        ("conflicts", {"direction": "no effect"}, REFUTED),
        ("conflicts", {"direction": "falls then rises"}, UNDETERMINED),
    ],
)
def test_each_rule_decides_as_it_says(name: str, fields: dict[str, Any], finding: Finding) -> None:
    """The verdict names its rule, its reason and the law that it rests on."""
    found = law(*LAWS[name], **fields)
    verdict = judged(name, found)
    assert verdict.finding is finding, verdict.why
    assert (verdict.law_id, verdict.n, verdict.evidence) == (found.law_id, 900, "adjusted")
    assert verdict.rule.startswith("supported: ")
    assert len(verdict.why) > 10


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("direction", ["rises", "falls"])
@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"status": "insufficient"}, "insufficient"),
        ({"status": "drifted"}, "drifted"),
        ({"status": "expired"}, "expired"),
        ({"published": None, "missing": {"published": "too few runs"}}, "too few runs"),
        (
            {
                "evidence": "associational",
                "adjusted": Adjusted("", RISES, exponent(-0.3, -0.1).exponent, -0.5, 9, 9, sign_differs=True),
            },
            "turns its sign",
        ),
    ],
)
def test_what_cannot_carry_a_finding_is_undetermined(
    name: str, direction: str, fields: dict[str, Any], why: str
) -> None:
    """Stale or confounded laws decide nothing, whatever they look like."""
    verdict = judged(name, law(*LAWS[name], direction, LEVEL, **fields))
    assert verdict.finding is UNDETERMINED
    assert why in verdict.why


TURNED = Adjusted("", exponent(-0.8, -0.6).exponent, exponent(0.1, 0.3).exponent, 0.9, 9, 9, sign_differs=True)


@pytest.mark.parametrize("evidence", ["associational", "adjusted", "randomised"])
def test_a_live_curve_whose_sign_turns_decides_nothing(evidence: str) -> None:
    """A live curve is that of the runs as they stand, whatever grade of evidence its adjusted slope has."""
    found = law(*LAWS["agents"], "falls", LEVEL, tier="live", evidence=evidence, adjusted=TURNED)
    verdict = judged("agents", found)
    assert verdict.finding is UNDETERMINED
    assert "turns its sign" in verdict.why


@pytest.mark.parametrize(("direction", "finding"), [("rises", SUPPORTED), ("falls", REFUTED)])
@pytest.mark.parametrize("evidence", ["adjusted", "randomised"])
def test_an_audited_curve_within_equals_decides_though_the_naive_slope_differs(
    evidence: str, direction: str, finding: Finding
) -> None:
    """What an adjusted law publishes is compared within equals already: that the runs as they stand differ is past."""
    found = law(*LAWS["agents"], direction, LEVEL, evidence=evidence, adjusted=TURNED)
    assert judged("agents", found).finding is finding


def test_an_adjusted_law_of_time_is_judged_on_its_adjusted_exponent() -> None:
    """The power fit and the law of parallelism are those of the runs as they stand; a live law goes by these."""
    parts: dict[str, Any] = {
        "power": exponent(-1.5, -1.1),
        "scalability": UniversalScalability(RISES, exponent(-0.1, 0.1).exponent, exponent(-0.1, 0.1).exponent),
        "adjusted": Adjusted("", exponent(-0.8, -0.6).exponent, exponent(-1.5, -1.1).exponent, -0.6, 9, 9),
    }
    verdict = judged("parallelism", law(*LAWS["parallelism"], "falls", **parts))
    assert verdict.finding is SUPPORTED
    assert (verdict.figures["exponent_lo"], verdict.figures["exponent_hi"]) == (-0.8, -0.6)
    assert judged("parallelism", law(*LAWS["parallelism"], "falls", tier="live", **parts)).finding is REFUTED
    sure = parts | {"scalability": UniversalScalability(RISES, RISES, RISES), "adjusted": TURNED}
    assert "contention" not in judged("parallelism", law(*LAWS["parallelism"], "falls", **sure)).why
    # Success has no logarithm: without a power law among its families, its adjusted curve has no exponent.
    rising = law(*LAWS["agents"], power=exponent(0.1, 0.3), adjusted=TURNED)
    assert "exponent" not in judged("agents", rising).figures


def test_means_that_no_curve_describes_are_called_so() -> None:
    """The saturated law is the means at the values, and no family."""
    found = law(*LAWS["model size"], weights={"saturated": 0.9, "power": 0.1})
    assert judged("model size", found).why.endswith("the most has no curve but the means themselves (90%)")


def test_an_exploratory_law_decides_only_with_a_narrow_interval() -> None:
    """The interval must not be wider than twice the change."""
    wide = Published("logarithmic", dict(LEVEL), {}, [], "", "rises", Estimate(0.1, 0.1, 0.01, 0.29))
    narrow = Published("logarithmic", dict(LEVEL), {}, [], "", "rises", Estimate(0.1, 0.02, 0.06, 0.14))
    assert judged("agents", law(*LAWS["agents"], status="exploratory", published=wide)).finding is UNDETERMINED
    assert judged("agents", law(*LAWS["agents"], status="exploratory", published=narrow)).finding is SUPPORTED
    assert judged("agents", law(*LAWS["agents"], published=wide)).finding is SUPPORTED


def test_used_amounts_decide_nothing_but_success_over_attempts() -> None:
    """Used iterations and tokens are outcomes of difficulty; success over attempts comes from hazards."""
    used = judged("iterations", law(*LAWS["iterations"], weights=LEVEL, basis="realised"))
    assert used.finding is UNDETERMINED
    assert "set max_iterations" in used.why
    assert judged("retries", law(*LAWS["retries"], weights=LEVEL, basis="realised")).finding is SUPPORTED


def test_without_a_quality_success_stands_in_and_it_is_said() -> None:
    """The verdict names the outcome it was judged on; a quality law, where there is one, comes first."""
    by_success = judged("context", law("context", "success", weights=LEVEL))
    assert by_success.finding is SUPPORTED
    assert by_success.why.endswith("; judged on success, as there is no law of quality")
    both = law("context", "success", weights=LEVEL), law("context", "quality_score", weights=STRAIGHT)
    assert judged("context", *both).finding is REFUTED


def test_without_laws_nothing_is_decided() -> None:
    """Six hypotheses and three counter-hypotheses, each undetermined with what to do."""
    verdicts = confront([])
    assert [verdict.counter for verdict in verdicts] == [False] * 6 + [True] * 3
    assert {verdict.finding for verdict in verdicts} == {UNDETERMINED}
    assert all("publish runs that vary it" in verdict.why for verdict in verdicts)
    assert confront([law(*LAWS["agents"], weights=LEVEL)], "project=atlas") == verdicts


def test_the_audited_law_speaks_unless_it_cannot() -> None:
    """By default the audited law is taken, unless it is stale and the live one is not; the caller may choose."""
    live, audited = (law(*LAWS["agents"], "falls", tier="live"), law(*LAWS["agents"], weights=LEVEL))
    assert judged("agents", live, audited).finding is SUPPORTED
    assert judged("agents", live).finding is REFUTED
    stale = law(*LAWS["agents"], weights=LEVEL, status="expired")
    assert judged("agents", live, stale).finding is REFUTED
    chosen = confront([live, audited], speaks=lambda live, audited: live or audited)
    assert chosen[0].finding is REFUTED
    assert chosen[0].law_id.endswith("|live")


def test_a_trend_that_fails_correction_is_told() -> None:
    """A verdict says when the trend does not stand among all laws scanned."""
    weak = Significance(0.03, unadjusted=True, adjusted=False, scope="all", laws=24)
    verdict = judged("agents", law(*LAWS["agents"], weights=LEVEL, adjusted_significance=weak))
    assert verdict.why.endswith("; the trend does not stand among all 24 laws scanned")


def test_the_figures_are_those_of_the_law() -> None:
    """The numbers behind a verdict can be checked against its rule."""
    drift = Drift(alarm=False, evidence=1, limit=1e4, buckets=9)
    figures = judged(
        "agents", law(*LAWS["agents"], weights=LEVEL, knee=knee(3, 5), power=exponent(0.1, 0.3), drift=drift)
    ).figures
    assert figures["knee_lo"] == 3
    assert figures["exponent_hi"] == 0.3
    assert figures["levelling_weight"] == LEVEL["logarithmic"]
    assert (figures["change"], figures["change_lo"]) == (0.3, 0.22)


VALUES = np.array([1.0, 2, 3, 4, 6, 8])


@pytest.mark.parametrize(
    ("rates", "right", "wrong", "least"),
    [
        (0.35 + 0.11 * (np.minimum(VALUES, 4) - 1), SUPPORTED, REFUTED, 19),
        # Curves that bend a little describe a straight line too: half the weight is often not reached.
        (0.3 + 0.085 * (VALUES - 1), REFUTED, SUPPORTED, 5),
        (np.full(6, 0.5), REFUTED, SUPPORTED, 10),
        (0.8 - 0.05 * (VALUES - 1), REFUTED, SUPPORTED, 20),
    ],
    ids=["plateau at 4", "linear", "flat", "falls"],
)
def test_planted_truths_are_judged_right(rates: Floats, right: Finding, wrong: Finding, least: int) -> None:
    """With 2,000 runs a value, laws of a known truth are never judged wrong, and right as often as they can."""
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        success = np.concatenate([rng.random(2000) < rate for rate in rates]).astype(np.float64)
        cells = Cells.from_rows({Variable.X: np.repeat(VALUES, 2000), str(Outcome.SUCCESS): success})
        fitted = fit_law(
            law_cells(cells, Outcome.SUCCESS),
            context="global",
            dimension=Dimension.AGENT_COUNT,
            outcome=Outcome.SUCCESS,
            basis=Basis.REALISED,
            sources=["observational"],
            lineage={0: 1},
            settings_hash="",
            fitted_at="",
        )
        found.append(judged("agents", fitted).finding)
    assert found.count(wrong) == 0
    assert found.count(right) >= least


def test_the_families_of_the_rules_exist() -> None:
    """The weights that these tests use name families of the published law."""
    assert set().union(LEVEL, STRAIGHT, POWER, SPLIT) <= set(CURVES)
    assert len({hypothesis.name for hypothesis in HYPOTHESES}) == 9
