"""The law record: what scaling.laws carries, one record per law."""

from typing import ClassVar

from msgspec import Struct, field

from models.versions import Versioned

SCHEMA_VERSION = 2


class Estimate(Struct, frozen=True, omit_defaults=True):
    """An estimate with its robust standard error and interval.

    `se`, `lo` and `hi` come from the robust (HC3, HC1 or CR1) error; `se_classical` assumes one variance for all runs.
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


class PowerMean(Struct, frozen=True):
    """E[y] = coefficient * x**exponent by quasi-Poisson regression: the mean law that a power law stands for."""

    exponent: Estimate
    coefficient: Estimate
    method: str


class CurvePoint(Struct, frozen=True, omit_defaults=True):
    """A point of the published curve.

    [lo, hi] covers the law at this x, [band_lo, band_hi] covers it at all points together, and
    [predicted_lo, predicted_hi] a single future run there.
    """

    x: float
    mean: float
    lo: float
    hi: float
    band_lo: float | None = None
    band_hi: float | None = None
    predicted_lo: float | None = None
    predicted_hi: float | None = None


class Published(Struct, frozen=True, omit_defaults=True):
    """The law to use: an average of families, weighted by how well each describes the runs for its size.

    Attributes:
        family: The family of the greatest weight; `params` are its parameters.
        weights: Each family's weight (AICc, or QAICc where there are clusters).
        curve: The averaged law at the observed values.
        direction: rises, falls, rises then falls, falls then rises, no effect, or undetermined.
        change: The averaged law's change from the smallest to the largest value (on the log scale for a median law).
        scale: "mean", or "median" where the law is that of ln y; its mean law is the curve times `mean_factor`.
        mean_factor: Duan's smearing factor of a median law.
        lack_of_fit: p of the hypothesis that the family of the greatest weight describes the values' means.
        overdispersion: The factor by which clusters inflate the variance (1: none).
    """

    family: str
    weights: dict[str, float]
    params: dict[str, Estimate]
    curve: list[CurvePoint]
    method: str
    direction: str = "undetermined"
    change: Estimate | None = None
    scale: str = "mean"
    mean_factor: float | None = None
    lack_of_fit: float | None = None
    overdispersion: float = 1.0


class Knee(Struct, frozen=True, omit_defaults=True):
    """Where the next step stops paying: the value beyond which a unit costs more than it brings.

    Attributes:
        value: The first value whose next step brings less than `threshold` per unit; the last one if none does.
        lo: Lower end of the 95 % interval; `hi` is the upper one.
        rule: What the threshold is, in words.
        threshold: The least gain per unit at the knee's next step that pays.
        regret: The expected loss of choosing this value, in units of the outcome.
        supported: Whether the gain from the smallest value to the knee is more than noise.
        diminishing_returns: The value after which a unit brings less than half of what the first one brought.
    """

    value: float
    lo: float
    hi: float
    rule: str
    threshold: float = 0.0
    regret: float = 0.0
    supported: bool = False
    diminishing_returns: float | None = None


class Promise(Struct, frozen=True):
    """What the best value may be said to gain over the smallest one, shrunk: the best of noisy means promises too much.

    `gain` is positive where the value is better, on the scale of the fit (ln y for time and cost); `raw` is what the
    means themselves say.
    """

    value: float
    over: float
    gain: Estimate
    raw: float


class UniversalScalability(Struct, frozen=True, omit_defaults=True):
    """T(p) = first (1 + contention (p - 1) + coherence p (p - 1)) / p; `optimum` is the p of least time, if any."""

    first: Estimate
    contention: Estimate
    coherence: Estimate
    optimum: Estimate | None = None


class Adjusted(Struct, frozen=True, omit_defaults=True):
    """What remains of the law once the runs are compared within equals.

    Attributes:
        method: How, and over what.
        slope: Change of the outcome with ln x, adjusted; on the log scale for time and cost.
        naive: The same without adjustment, from the same runs.
        gap: naive - slope: how much of the naive slope is the runs' difficulty, not the dimension.
        n: Runs that could be compared.
        strata: Groups within which they were compared.
        covariates: The other dimensions held fixed.
        values: The adjusted outcome at each value.
        sign_differs: Both intervals exclude zero, on different sides.
        tipping_reliability: The reliability of the complexity score below which the adjusted slope may be zero.
        overlap: Share of runs in strata where every value occurs.
    """

    method: str
    slope: Estimate
    naive: Estimate
    gap: float
    n: int
    strata: int
    covariates: list[str] = field(default_factory=list)
    values: list[ValueRow] = field(default_factory=list)
    sign_differs: bool = False
    tipping_reliability: float | None = None
    overlap: float | None = None


class Holdout(Struct, frozen=True):
    """How well a law learnt on some runs describes the others.

    `loss` is the mean squared error of single runs, `ceiling` that of the best possible law (noise alone), `baseline`
    that of no law; skill is (baseline - loss) / (baseline - ceiling) where these differ. `calibration` is the slope of
    the held-out means on their predictions: 1 is calibrated.
    """

    loss: float
    ceiling: float
    baseline: float
    skill: float | None
    calibration: Estimate | None
    n: int


class Transfer(Struct, frozen=True):
    """Whether the laws of other contexts predict this one's: the share of left-out contexts inside their intervals."""

    contexts: int
    coverage: float
    skill: float | None
    predicted: Estimate | None = None
    covered: bool | None = None


class ForwardChaining(Struct, frozen=True):
    """One-step-ahead forecasts over time buckets: mean squared standardised error (1 is right), share inside 95 %."""

    buckets: int
    mean_square: float
    inside: float


class Validation(Struct, frozen=True, omit_defaults=True):
    """What happened when the law was tried on runs it had not seen."""

    holdout: Holdout | None = None
    five_fold: Holdout | None = None
    transfer: Transfer | None = None
    forward: ForwardChaining | None = None


class Drift(Struct, frozen=True, omit_defaults=True):
    """Whether the law still holds: an e-detector over time buckets.

    Attributes:
        alarm: Whether it has sounded in this epoch.
        evidence: The detector's value; it sounds at `limit`.
        limit: P(false alarm within T buckets) <= T / limit.
        buckets: Buckets it has judged.
        since: Start of the bucket at which it sounded (RFC 3339).
        cause: law (the outcome at equal settings changed), price (cost alone), mix (settings or
            complexity moved, the law did not), or none.
    """

    alarm: bool
    evidence: float
    limit: float
    buckets: int
    since: str | None = None
    cause: str = "none"


class Significance(Struct, frozen=True, omit_defaults=True):
    """Whether the law's trend stands among all laws scanned: unadjusted, and adjusted by e-BH."""

    p: float
    unadjusted: bool
    adjusted: bool
    scope: str
    laws: int


class Pooling(Struct, frozen=True, omit_defaults=True):
    """The slope on ln x with strength borrowed from the sibling contexts.

    `prior_weight` is the share of the estimate that the siblings decide; above a half the law is prior-dominated.
    """

    slope: Estimate
    between_sd: float
    prior_weight: float
    prior_dominated: bool
    contexts: int
    family: str


class Law(Versioned, frozen=True, omit_defaults=True):
    """One scaling law: an outcome as a function of one dimension in one context.

    `missing` says, part by part, why something is not known. `lineage` holds, per source partition of scaling.runs,
    the next offset that the law has not seen: every event below it is in, none at or above. `trend` is the slope of the
    outcome on ln x (of ln y for time and cost), `e_value` the evidence against its being zero, valid at any look.
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
    power: PowerMean | None = None
    published: Published | None = None
    knee: Knee | None = None
    promise: Promise | None = None
    scalability: UniversalScalability | None = None
    adjusted: Adjusted | None = None
    confounding_gap: float | None = None
    tipping_reliability: float | None = None
    validation: Validation | None = None
    drift: Drift | None = None
    trend: Estimate | None = None
    e_value: float | None = None
    adjusted_significance: Significance | None = None
    pooling: Pooling | None = None
    clusters: str | None = None
    epoch_since: str | None = None
    sentence: str = ""
    lint: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    lineage: dict[str, int] = field(default_factory=dict)

    NEWEST: ClassVar[int] = SCHEMA_VERSION


def law_id(context: str, dimension: str, outcome: str, tier: str) -> str:
    """Join the parts of a law's key; contexts come percent-encoded already."""
    return f"{context}|{dimension}|{outcome}|{tier}"


def context_of(identifier: str) -> str:
    """Give the context in a law's key."""
    return identifier.partition("|")[0]
