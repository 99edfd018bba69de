"""An audited law speaks at equal complexity: curve, knee and trend are those of the adjusted means."""

import numpy as np
import pytest

from agents.audit import AuditHeading, audit_context
from analytics.adjustment import adjust
from analytics.joint_cells import JointCells, Moments, Slot
from analytics.moments import Floats, Ints
from analytics.published import Fitting
from models.dimensions import BASES, Basis, Dimension, Outcome, Source, Variable
from models.laws import Law

AGENTS: Slot = (Dimension.AGENT_COUNT, Basis.REALISED)
ATTEMPTS: Slot = (Dimension.ATTEMPTS, Basis.REALISED)
HEADING = AuditHeading("global", (Source.OBSERVATIONAL,), {0: 10}, "hash", "2026-01-01T00:00:00Z")
NONE = (
    *map(str, Outcome),
    str(Variable.LN_TIME),
    str(Variable.CLIPPED_LN_COST),
    str(Variable.CLIPPED_LN_QUALITY),
)


def joint(slot: Slot, x: Floats, complexity: Ints, success: Floats, project: Ints) -> JointCells:
    """Make joint cells of single runs that carry one dimension, complexity, success and a project."""
    rows = len(x)
    nothing, zeros = np.full(rows, np.nan), np.zeros(rows)
    slots = [(dimension, basis) for dimension in Dimension for basis in BASES[dimension] if basis != Basis.CATEGORY]
    return JointCells(
        design=dict.fromkeys(slots, nothing) | {slot: x},
        ln_x=dict.fromkeys(slots, zeros) | {slot: np.log(x)},
        binned=dict.fromkeys(slots, zeros > 0),
        category=(None,) * rows,
        complexity=complexity,
        fold=np.arange(rows) % 5,
        project=project,
        task_group=np.arange(rows) % 64,
        outcomes=dict.fromkeys(NONE, Moments(zeros, zeros, zeros))
        | {str(Outcome.SUCCESS): Moments(np.ones(rows), success, zeros)},
    )


def deceived(seed: int = 1, runs: int = 12_000) -> JointCells:
    """Harder tasks get more agents: success falls with agents, though at equal complexity they raise it."""
    rng = np.random.default_rng(seed)
    complexity = rng.integers(0, 10, runs)
    x = np.array([1.0, 2, 3, 4, 6, 8])[np.clip(rng.binomial(5, (complexity + 0.5) / 10), 0, 5)]
    chance = 0.75 + 0.08 * np.log(x) - 0.07 * complexity
    return joint(AGENTS, x, complexity, (rng.random(runs) < chance).astype(np.float64), np.arange(runs) % 8)


def law_of(cells: JointCells, dimension: Dimension, reliability: float = 1.0) -> Law:
    """Audit the context and give its law of success."""
    laws = audit_context(cells, HEADING, Fitting(), reliability)
    return next(law for law in laws if (law.dimension, law.outcome) == (dimension, Outcome.SUCCESS))


def test_the_published_curve_is_the_adjusted_one() -> None:
    """It rises by what was planted, where the runs as they stand fall; the table still shows them as they are."""
    cells = deceived()
    law = law_of(cells, Dimension.AGENT_COUNT)
    assert law.evidence == "adjusted"
    assert law.values[-1].mean < law.values[0].mean
    assert law.adjusted is not None
    assert law.adjusted == adjust(cells, AGENTS, Outcome.SUCCESS)
    assert law.published is not None
    assert law.published.change is not None
    assert law.published.direction == "rises"
    assert law.published.change.lo < 0.08 * np.log(8) < law.published.change.hi
    assert law.trend is not None
    assert law.trend.lo > 0
    assert "AIPW" in law.published.method
    assert law.knee is not None
    assert law.knee.value > 1


def test_an_unreliable_score_leaves_the_curve_as_the_runs_stand() -> None:
    """With a reliability of 0.7 the law is associational, and nothing but the adjusted part is adjusted."""
    law = law_of(deceived(), Dimension.AGENT_COUNT, reliability=0.7)
    assert law.evidence == "associational"
    assert law.adjusted is not None
    assert law.published is not None
    assert law.published.direction == "falls"


def test_adjusted_curves_cover_the_planted_change() -> None:
    """Over 40 worlds the interval of the change from 1 to 8 agents has the planted one in it as often as it says."""
    covered = 0
    for seed in range(40):
        law = law_of(deceived(seed + 10, 3000), Dimension.AGENT_COUNT)
        assert law.published is not None
        assert law.published.change is not None
        covered += law.published.change.lo <= 0.08 * np.log(8) <= law.published.change.hi
    assert covered >= 34


def test_laws_from_hazards_are_not_tried_on_attempts_made() -> None:
    """Success by attempts made falls by selection alone: no holdout, no adjustment, no clusters, and it is said why."""
    rng = np.random.default_rng(5)
    made = rng.geometric(0.4, 6000)
    x = np.minimum(made, 5).astype(np.float64)
    cells = joint(ATTEMPTS, x, rng.integers(0, 10, 6000), (made <= 5).astype(np.float64), np.arange(6000) % 8)
    law = law_of(cells, Dimension.ATTEMPTS)
    assert law.published is not None
    assert law.published.direction == "rises"
    assert (law.adjusted, law.validation, law.clusters) == (None, None, None)
    assert "hazards" in law.missing["adjusted"]
    assert "independent runs" in law.published.method


@pytest.mark.parametrize(("worth", "knee"), [(1.0, 5.0), (0.4, 1.0)])
def test_an_allowed_attempt_costs_what_the_runs_pay_that_still_need_it(worth: float, knee: float) -> None:
    """At a hazard of 0.4 an attempt of 20 cents pays wherever 0.4 successes are worth more, at every k alike."""
    rng = np.random.default_rng(6)
    made = rng.geometric(0.4, 20_000)
    x = np.minimum(made, 5).astype(np.float64)
    cells = joint(ATTEMPTS, x, np.full(20_000, -1), (made <= 5).astype(np.float64), np.full(20_000, -1))
    cost = 0.2 * x * rng.lognormal(-0.005, 0.1, 20_000)
    ones, zeros = np.ones(20_000), np.zeros(20_000)
    outcomes = dict(cells.outcomes) | {
        str(Outcome.TOTAL_COST): Moments(ones, cost, zeros),
        str(Variable.CLIPPED_LN_COST): Moments(ones, np.log(cost), zeros),
    }
    priced = JointCells(
        cells.design,
        cells.ln_x,
        cells.binned,
        cells.category,
        cells.complexity,
        cells.fold,
        cells.project,
        cells.task_group,
        outcomes,
    )
    laws = audit_context(priced, HEADING, Fitting(value_of_success=worth))
    law = next(each for each in laws if (each.dimension, each.outcome) == ("attempts", "success"))
    assert law.knee is not None
    assert law.knee.value == knee
