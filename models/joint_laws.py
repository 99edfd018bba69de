"""The joint law record: one outcome as a function of all dimensions together, as scaling.laws carries it."""

from typing import ClassVar

import msgspec
from msgspec import field

from models.laws import Law
from models.versions import Versioned

SCHEMA_VERSION = 1

JOINT = "joint"
"""What stands for the dimension in a joint law's id: context|joint|outcome|tier."""


class JointLaw(Versioned, frozen=True, omit_defaults=True):
    """An outcome's mean over all dimensions and complexity at once.

        link(E[y] / base) = Σ coefficients_k · term_k        base = Σ base_m · monomial_m (1 where there is none)

    A term is a product of factors, each taken less its centre: "1", "ln_agents", "ln_agents^2", "complexity*ln_agents",
    "size=large". A monomial is a product of settings as they are: "1", "agents*iterations*context",
    "agents*iterations/parallelism"; context in tokens. Monomials are what makes a price exact: additive, multiplicative
    and nested prices, and the Universal Scalability Law of time (1, 1/parallelism, parallelism), are sums of them.

    Attributes:
        law_id: context|joint|outcome|tier.
        status: exploratory, established or actionable: by runs for each term; expired: withdrawn, without any term.
        evidence: associational, adjusted or randomised.
        link: logit for what lies in [0, 1], log for time and cost.
        terms: Names of the terms.
        coefficients: One for each term.
        covariance: Of the coefficients: the upper triangle, row by row.
        dispersion: The variance of a single run is dispersion · V(mean), V = mean (1 - mean) for logit, mean² for log:
            then it is the squared coefficient of variation of a run about its mean.
        centres: What each factor is taken less; a factor that is not named has 0.
        base: Each monomial's coefficient, none negative; in the outcome's unit.
        bases: How each dimension was measured: dose, realised or category.
        support: The least and the greatest value of each dimension that enough runs reach.
        typical: The geometric mean of each dimension, and the mean complexity: what stands in for a setting not given.
            A dimension that does not vary is here without being in `support`: the law holds at this value only.
        categories: Model sizes without a number; the first is the one that the others' terms are relative to.
        epoch_since: When the epoch of the runs began (RFC 3339); None for all runs.
        clusters: Within which the errors of runs may be correlated; None where they are independent.
        missing: Why a dimension, complexity or kind of term is not in the law.
        lineage: Per source partition of scaling.runs the next offset that the law has not seen.
    """

    law_id: str
    tier: str
    context: str
    outcome: str
    version: int
    epoch: int
    fitted_at: str
    n: int
    status: str
    evidence: str
    settings_hash: str
    link: str
    terms: list[str]
    coefficients: list[float]
    covariance: list[float]
    dispersion: float
    support: dict[str, list[float]]
    typical: dict[str, float]
    dimension: str = JOINT
    centres: dict[str, float] = field(default_factory=dict)
    base: dict[str, float] = field(default_factory=dict)
    bases: dict[str, str] = field(default_factory=dict)
    categories: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    clusters: str | None = None
    epoch_since: str | None = None
    missing: dict[str, str] = field(default_factory=dict)
    lineage: dict[str, int] = field(default_factory=dict)

    NEWEST: ClassVar[int] = SCHEMA_VERSION


LawRecord = Law | JointLaw
"""What scaling.laws carries."""


def is_joint(law_id: str) -> bool:
    """Tell by its id, which is the key of its record, whether a law is a joint one.

    >>> is_joint("global|joint|success|audited"), is_joint("global|agent_count|success|audited")
    (True, False)
    """
    return law_id.split("|")[1:2] == [JOINT]


def read_record(key: str, value: bytes) -> LawRecord:
    """Read a record of scaling.laws.

    Raises:
        msgspec.MsgspecError: The value is not the law that its key says.
    """
    return msgspec.json.decode(value, type=JointLaw) if is_joint(key) else msgspec.json.decode(value, type=Law)
