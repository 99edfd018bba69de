"""What all tests share: law records for those that need one without a fit, and no deadlines of wall-clock time."""

from collections.abc import Callable, Sequence

import hypothesis
import pytest

from models.dimensions import Dimension, Outcome
from models.joint_laws import JOINT, JointLaw
from models.laws import Estimate, Law, LineFit, PowerMean, Reference, ValueRow, law_id

# How long an example takes depends on what else runs on the machine.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


def estimate(value: float, se: float = 0.01) -> Estimate:
    """Make an estimate with an interval of two standard errors on each side."""
    return Estimate(value, se, value - 2 * se, value + 2 * se)


def a_law(
    dimension: Dimension = Dimension.AGENT_COUNT,
    outcome: Outcome = Outcome.QUALITY_SCORE,
    exponent: float | None = 0.3,
    *,
    context: str = "global",
    tier: str = "live",
    x: Sequence[float] = (1, 8),
    runs: Sequence[int] = (100, 100),
    mean: float = 0.5,
    slope: float | None = None,
    se: float = 0.01,
    **fields: object,
) -> Law:
    """Make a law with these runs at each x, a power fit if there is an exponent, and a line if there is a slope."""
    line = None if slope is None else LineFit(estimate(slope, se), estimate(0.0, se), 0.9)
    power = None if exponent is None else PowerMean(estimate(exponent, se), estimate(1.0, se), "")
    known: dict[str, object] = {
        "law_id": law_id(context, dimension, outcome, tier),
        "tier": tier,
        "context": context,
        "dimension": dimension.value,
        "outcome": outcome.value,
        "version": 1,
        "epoch": 1,
        "fitted_at": "2026-03-01T00:00:00Z",
        "n": sum(runs),
        "status": "established",
        "evidence": "associational",
        "settings_hash": "",
        "values": [ValueRow(n=n, mean=mean, lo=mean, hi=mean, x=at) for at, n in zip(x, runs, strict=True)],
        "reference": Reference(linear=line),
        "power": power,
    }
    return Law(**(known | fields))  # type: ignore[arg-type]


def a_joint_law(outcome: Outcome = Outcome.SUCCESS, *, context: str = "global", **fields: object) -> JointLaw:
    """Make a joint law of agents and complexity: of two terms, or of a price for each agent where costs are meant."""
    priced = outcome is Outcome.TOTAL_COST
    known: dict[str, object] = {
        "law_id": law_id(context, JOINT, outcome, "audited"),
        "tier": "audited",
        "context": context,
        "outcome": outcome.value,
        "version": 1,
        "epoch": 1,
        "fitted_at": "2026-03-01T00:00:00Z",
        "n": 200,
        "status": "established",
        "evidence": "adjusted",
        "settings_hash": "",
        "link": "log" if priced else "logit",
        "terms": ["1", "ln_agents", "complexity"],
        "coefficients": [0.25, 0.5, -0.75],
        "covariance": [0.01, 0.0, 0.0, 0.04, 0.0, 0.09],
        "dispersion": 1.0,
        "support": {"agent_count": [1.0, 8.0]},
        "typical": {"agent_count": 3.0, "complexity": 0.5},
        "centres": {"ln_agents": 1.1, "complexity": 0.5},
        "base": {"1": 0.01, "agents": 0.02} if priced else {},
        "bases": {"agent_count": "realised"},
        "missing": {"context": "no run says it"},
        "lineage": {"0": 5},
    }
    return JointLaw(**(known | fields))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def make_law() -> Callable[..., Law]:
    """Give the maker of laws."""
    return a_law


@pytest.fixture(scope="session")
def make_joint_law() -> Callable[..., JointLaw]:
    """Give the maker of joint laws."""
    return a_joint_law
