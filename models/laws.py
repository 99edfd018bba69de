"""The law record: what scaling.laws carries, one record per law."""

from msgspec import Struct, field

SCHEMA_VERSION = 1


class Estimate(Struct, frozen=True, omit_defaults=True):
    """An estimate with its robust standard error and interval.

    `se`, `lo` and `hi` come from the robust (HC3 or HC1) error; `se_classical` assumes one variance for all runs.
    """

    estimate: float
    se: float
    lo: float
    hi: float
    se_classical: float | None = None


class ValueRow(Struct, frozen=True, omit_defaults=True):
    """What the runs at one value of the dimension brought. `label` stands in for x where the value has no number."""

    n: int
    mean: float
    lo: float
    hi: float
    x: float | None = None
    label: str | None = None


class PowerFit(Struct, frozen=True):
    """y = coefficient * x**exponent, by least squares of ln max(y, 0.001) on ln x."""

    exponent: Estimate
    coefficient: Estimate
    r_squared: float
    interpretation: str
    clip: str


class LineFit(Struct, frozen=True):
    """y = intercept + coefficient * g(x); g is ln x (logarithmic) or x (linear)."""

    coefficient: Estimate
    intercept: Estimate
    r_squared: float


class ReferenceKnee(Struct, frozen=True):
    """Where the design document's rule sees returns diminish; [lo, hi] is a simultaneous 95 % interval of the rule."""

    value: float
    lo: float
    hi: float
    rule: str


class Reference(Struct, frozen=True, omit_defaults=True):
    """The design document's methods, kept as labelled references. An absent part is explained in `Law.missing`."""

    power: PowerFit | None = None
    log: LineFit | None = None
    linear: LineFit | None = None
    knee: ReferenceKnee | None = None
    diminishing_returns: float | None = None
    success_rate_by_value: list[ValueRow] = field(default_factory=list)
    recommended_value: float | None = None


class CurvePoint(Struct, frozen=True):
    """A point of the published curve with its pointwise interval."""

    x: float
    mean: float
    lo: float
    hi: float


class Published(Struct, frozen=True):
    """The law to use: the family, its weight, parameters and curve."""

    family: str
    weights: dict[str, float]
    params: dict[str, Estimate]
    curve: list[CurvePoint]
    method: str


class Law(Struct, frozen=True, omit_defaults=True):
    """One scaling law: an outcome as a function of one dimension in one context.

    `missing` says, part by part, why something is not known. `lineage` holds, per source partition of scaling.runs,
    the next offset that the law has not seen: every event below it is in, none at or above.
    """

    law_id: str
    tier: str
    context: str
    dimension: str
    outcome: str
    version: int
    epoch: int
    fitted_at: str
    n: int
    status: str
    evidence: str
    settings_hash: str
    basis: str | None = None
    sources: list[str] = field(default_factory=list)
    excluded_zeros: int = 0
    values: list[ValueRow] = field(default_factory=list)
    reference: Reference = field(default_factory=Reference)
    published: Published | None = None
    knee: ReferenceKnee | None = None
    missing: dict[str, str] = field(default_factory=dict)
    lineage: dict[str, int] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


def law_id(context: str, dimension: str, outcome: str, tier: str) -> str:
    """Join the parts of a law's key; contexts come percent-encoded already."""
    return f"{context}|{dimension}|{outcome}|{tier}"
