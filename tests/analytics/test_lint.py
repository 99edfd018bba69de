"""Lint: each weakness of a law is one short sentence with its number, and a sound law has none."""

from typing import Any

import numpy as np
import pytest

from analytics.lint import lint, poor
from models.laws import (
    Adjusted,
    CurvePoint,
    Estimate,
    Holdout,
    Knee,
    Law,
    Published,
    UniversalScalability,
    Validation,
    ValueRow,
)

SLOPE = Estimate(0.1, 0.01, 0.08, 0.12)


def rows(**runs: int) -> list[ValueRow]:
    """Make value rows: x1=40 means 40 runs at 1."""
    return [ValueRow(n=n, mean=0.5, lo=0.4, hi=0.6, x=float(name[1:])) for name, n in runs.items()]


def published(family: str = "linear", **fields: Any) -> Published:  # noqa: ANN401 - any field
    """Make a curve over 1 to 8."""
    curve = [CurvePoint(x, 0.5, 0.4, 0.6) for x in (1.0, 2.0, 4.0, 8.0)]
    return Published(family, {family: 1.0}, {}, curve, "", **fields)


def law(**fields: Any) -> Law:  # noqa: ANN401 - any field
    """Make a sound law; fields spoil it."""
    known: dict[str, Any] = {
        "law_id": "global|iterations|success|audited",
        "tier": "audited",
        "context": "global",
        "dimension": "iterations",
        "outcome": "success",
        "version": 1,
        "epoch": 1,
        "fitted_at": "",
        "n": 400,
        "status": "established",
        "evidence": "adjusted",
        "settings_hash": "",
        "basis": "dose",
        "values": rows(x1=100, x2=100, x4=100, x8=100),
        "published": published(lack_of_fit=0.4, overdispersion=1.3),
        "knee": Knee(4, 2, 8, "", 0.05, supported=True),
        "adjusted": Adjusted("", SLOPE, SLOPE, 0.0, 400, 10, overlap=0.9, tipping_reliability=0.3),
        "validation": Validation(holdout=Holdout(0.2401, 0.24, 0.25, 0.99, Estimate(1.02, 0.1, 0.8, 1.2), 400)),
    }
    return Law(**(known | fields))


def holdout(skill: float, n: int, calibration: Estimate | None = None) -> Validation:
    """Make a holdout that reaches `skill` of what can be explained."""
    return Validation(holdout=Holdout(0.25 - 0.01 * skill, 0.24, 0.25, skill, calibration, n))


def test_a_sound_law_has_no_remarks() -> None:
    """Nothing is said where nothing is wrong."""
    assert lint(law(), projects=8) == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"adjusted": Adjusted("", SLOPE, Estimate(-0.2, 0.01, -0.22, -0.18), -0.3, 9, 9, sign_differs=True)},
            "Confounded: the slope on ln x is -0.2 as the runs stand and +0.1 within equals.",
        ),
        (
            {"adjusted": Adjusted("", SLOPE, Estimate(0.16, 0.05, 0.06, 0.26), 0.06, 9, 9)},
            "Confounded: comparing within equals moves the slope on ln x by -0.06, more than its error of 0.05.",
        ),
        (
            {"adjusted": Adjusted("", SLOPE, SLOPE, 0.0, 9, 9, overlap=0.25)},
            "Only 25% of the runs are in strata where every value occurs.",
        ),
        (
            {"adjusted": Adjusted("", SLOPE, SLOPE, 0.0, 9, 9, tipping_reliability=0.82)},
            "The adjusted slope may be zero if the complexity score's reliability is 0.82 or less.",
        ),
        (
            {"tipping_reliability": 0.9},
            "The adjusted slope may be zero if the complexity score's reliability is 0.90 or less.",
        ),
        (
            {"basis": "realised"},
            "Used iterations are an outcome of difficulty, in all 400 runs: set max_iterations before the run.",
        ),
        (
            {"values": rows(x2=50, x8=50)},
            "Only 2 distinct values of the iteration limit: a curve needs 3 or more.",
        ),
        (
            {"values": rows(x8=50, x10=50, x12=50), "published": None},
            "The values are within a factor of 1.50: a law over less than a factor of 2 says little.",
        ),
        (
            {"values": rows(x1=100, x2=29, x8=7)},
            "Fewer than 30 runs at 2 of 3 values: 2 has 29 and 8 has 7.",
        ),
        (
            {"values": rows(**{f"x{x}": 3 for x in range(1, 9)})},
            "Fewer than 30 runs at 8 of 8 values: 1 has 3, 2 has 3, 3 has 3, 4 has 3, 5 has 3 and 3 more have few.",
        ),
        (
            {"published": published(change=Estimate(-0.33, 0.02, -0.2, -0.1))},
            "The law's change of -0.33 lies outside its own interval [-0.2, -0.1]: no family describes these runs.",
        ),
        ({"published": published(lack_of_fit=0.004)}, "The family linear misses the means at the values (p = 0.004)."),
        (
            {"published": published(lack_of_fit=1e-12)},
            "The family linear misses the means at the values (p < 0.0001).",
        ),
        (
            {"published": published("saturated", lack_of_fit=0.004)},
            "No family of curves describes the means (the best: p = 0.004): the curve is the means themselves.",
        ),
        (
            {"published": published("saturated", lack_of_fit=1e-12)},
            "No family of curves describes the means (the best: p < 0.0001): the curve is the means themselves.",
        ),
        (
            {"published": published("saturated")},
            "No family of curves describes the means: the curve is the means themselves.",
        ),
        ({"validation": holdout(0.2, 4000)}, "On held-out runs the law reaches 20% of what can be explained."),
        (
            {"validation": holdout(0.9, 4000, Estimate(0.6, 0.1, 0.4, 0.8))},
            "On held-out runs the calibration slope is 0.60 [0.40, 0.80], not 1: the law promises too much.",
        ),
        (
            {"validation": holdout(0.9, 4000, Estimate(1.6, 0.1, 1.4, 1.8))},
            "On held-out runs the calibration slope is 1.60 [1.40, 1.80], not 1: the law promises too little.",
        ),
        (
            {"knee": Knee(8, 4, 8, "", 0.05, supported=True)},
            "No knee up to 8, the most that was tried: it may lie beyond.",
        ),
        (
            {"scalability": UniversalScalability(SLOPE, SLOPE, SLOPE, Estimate(14.0, 2.0, 10.0, 18.0))},
            "The optimum at 14 is extrapolated: the most that was tried is 8.",
        ),
        ({"excluded_zeros": 12}, "12 runs at zero are left out of fits on logarithms."),
        (
            {"published": published(overdispersion=3.42)},
            "Runs of a cluster are alike: the variance is 3.4 times that of independent runs.",
        ),
    ],
)
def test_each_weakness_is_named_with_its_number(fields: dict[str, Any], told: str) -> None:
    """One spoilt field gives exactly its own remark."""
    assert lint(law(**fields), projects=8) == [told]


def test_one_project_says_nothing_about_others() -> None:
    """In the law of that project alone it goes without saying."""
    told = "All runs come from only 1 project: nothing is known about others."
    assert lint(law(), projects=1) == [told]
    assert lint(law(clusters="1 project")) == [told]
    assert lint(law(context="project=atlas")) == []


def test_success_over_attempts_is_no_outcome_of_difficulty() -> None:
    """It is fitted from hazards; quality over used attempts is not."""
    attempts = {"dimension": "attempts", "basis": "realised"}
    assert lint(law(**attempts), projects=8) == []
    assert lint(law(**attempts, outcome="quality_score"), projects=8) != []


def test_poor_skill_is_told_only_where_the_runs_can_show_it() -> None:
    """The error of the skill that the rule assumes is the one that simulated holdouts of the true law have."""
    rng = np.random.default_rng(5)
    n, law_of_x = 300, np.repeat([0.45, 0.5, 0.55, 0.6], 75)
    ceiling, spread = float((law_of_x * (1 - law_of_x)).mean()), float(law_of_x.var())
    skills = []
    for _ in range(2000):
        y = rng.random(n) < law_of_x
        loss, baseline = float(((y - law_of_x) ** 2).mean()), float(((y - law_of_x.mean()) ** 2).mean())
        skills.append((baseline - loss) / spread)
    assumed = 2 * (ceiling / (spread * n)) ** 0.5
    assert np.mean(skills) == pytest.approx(1, abs=0.1)
    assert np.std(skills) == pytest.approx(assumed, rel=0.1)
    assert not poor(Holdout(0.0, ceiling, ceiling + spread, 0.3, None, n))
    assert poor(Holdout(0.0, ceiling, ceiling + spread, 0.3, None, 40 * n))
    assert not poor(Holdout(0.0, ceiling, ceiling + spread, 0.6, None, 40 * n))
    assert not poor(Holdout(0.0, ceiling, ceiling, None, None, n))
