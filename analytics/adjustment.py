"""The adjusted law: what a dimension brings among tasks of equal complexity and at equal other settings."""

import numpy as np

from analytics.cells import Flags
from analytics.joint_cells import COMPLEXITY_BINS, MISSING, JointCells, Slot
from analytics.moments import Floats, Ints
from analytics.reliability import tipping_reliability
from analytics.standardisation import Comparison, StandardisedMeans, augmented, g_computation, naive_slope
from models.dimensions import BASES, Basis, Dimension, Outcome, Variable
from models.errors import NotEnoughData
from models.laws import Adjusted, Estimate, ValueRow

MOST_MISSING = 0.2
"""With a larger share of runs without complexity the others need not resemble them."""

LEAST_RELIABILITY = 0.8
INDEPENDENT = 1e-6
"""A column whose norm, once the columns before it are held fixed, is below this share of its own adds nothing."""

ROUNDING = 1e-10
"""A column that varies by less than this share of its size is constant but for rounding."""

COMPLEXITY = "complexity"
"""The covariate by which a linear model holds complexity fixed without strata."""

NOT_IDENTIFIED = "the slope of iterations alone is not identified"
"""Said of every law of iterations: without the agents it would take their effect for its own."""

ON_LOG_SCALE = {Outcome.TIME_TO_COMPLETE: Variable.LN_TIME, Outcome.TOTAL_COST: Variable.CLIPPED_LN_COST}


def adjust(joint: JointCells, slot: Slot, outcome: Outcome) -> Adjusted:
    """Adjust one law; see `adjusted_means`."""
    return adjusted_means(joint, slot, outcome)[0]


def adjusted_means(joint: JointCells, slot: Slot, outcome: Outcome) -> tuple[Adjusted, StandardisedMeans]:
    """Compare the values of a dimension within strata of complexity, the other dimensions held fixed.

    Strata are the bins of complexity; runs without one are left out. Covariates are the logarithms of those other
    dimensions that 80 % of the runs carry on their preferred basis (a limit where there is one, as a realised count is
    also an outcome); the runs without them are left out too. Success and quality have a logit outcome model, ln time
    and ln cost a linear one; see `analytics.standardisation.augmented`. Iterations are only compared at equal agents;
    where complexity is missing they still are, by a linear model. Errors are clustered by project or task where there
    are six or more.

    Args:
        joint: The runs.
        slot: The dimension and its basis; not a category.
        outcome: The outcome; time and cost on the log scale.

    Raises:
        NotEnoughData: Fewer than two values or strata, complexity missing in more than 20 % of the runs, no two values
            in any stratum, a dimension that moves together with the others, or a model that has no fit.
    """
    dimension, _ = slot
    carried = _carried(joint, slot, outcome)
    known = carried & (joint.complexity != MISSING)
    reason = _without_strata(joint, outcome, carried, known)
    if reason is None:
        kept = joint.where(_holding(joint, slot, outcome, known))
        bins, stratum = np.unique(kept.complexity, return_inverse=True)
        score = (bins[stratum] + 0.5) / COMPLEXITY_BINS
        names, runs = _comparison(kept, slot, outcome, stratum, score, bounded=outcome not in ON_LOG_SCALE)
        model = "logit" if runs.bounded else "linear"
        alone = f"; {NOT_IDENTIFIED}" if dimension is Dimension.ITERATIONS else ""
        return _adjusted(runs, augmented(runs), names, f"AIPW over strata of complexity, {model} outcome model{alone}")
    if dimension is not Dimension.ITERATIONS:
        raise NotEnoughData(reason)
    kept = joint.where(_holding(joint, slot, outcome, carried))
    names, runs = _comparison(kept, slot, outcome, np.zeros(len(kept), np.int64), np.zeros(len(kept)), bounded=False)
    if Dimension.AGENT_COUNT not in names:
        raise NotEnoughData(reason)
    return _adjusted(runs, g_computation(runs), names, f"least squares, complexity not held; {NOT_IDENTIFIED}")


def evidence(adjusted: Adjusted, reliability: float) -> str:
    """Grade an adjusted law: "adjusted", or "associational" where the complexity score does not carry it.

    Args:
        adjusted: The law's adjusted part.
        reliability: Share of the complexity scores' variance that is real difficulty; at least 0.8, and at least the
            law's tipping reliability, is asked for.
    """
    at_equal_complexity = adjusted.strata > 1 or COMPLEXITY in adjusted.covariates
    enough = reliability >= max(LEAST_RELIABILITY, adjusted.tipping_reliability or 0.0)
    return "adjusted" if at_equal_complexity and enough else "associational"


def differ_in_sign(one: Estimate, other: Estimate) -> bool:
    """Tell whether both intervals exclude zero, on different sides."""
    return one.lo > 0 > other.hi or one.hi < 0 < other.lo


def _carried(joint: JointCells, slot: Slot, outcome: Outcome) -> Flags:
    """Find the rows that carry the dimension above zero, the outcome, and for iterations the agents. [R]."""
    dimension, basis = slot
    if basis is Basis.CATEGORY:
        raise NotEnoughData(f"{dimension} is a category without a number: an adjusted slope needs numbers")
    carried = (joint.design[slot] > 0) & (joint.outcomes[outcome].n > 0)
    needed = str(dimension)
    if dimension is Dimension.ITERATIONS:
        carried &= joint.design[Dimension.AGENT_COUNT, Basis.REALISED] > 0
        needed = f"{dimension} with {Dimension.AGENT_COUNT}"
    if not carried.any():
        raise NotEnoughData(f"no run carries {outcome} and {needed} above zero: publish runs that do")
    return carried


def _holding(joint: JointCells, slot: Slot, outcome: Outcome, known: Flags) -> Flags:
    """Leave out the runs that lack a dimension which most of the others carry, so that it can be held fixed. [R]."""
    n = joint.outcomes[outcome].n
    kept = known.copy()
    for other in Dimension:
        at = other, BASES[other][0]
        if other is not slot[0] and at in joint.design:
            carried = joint.design[at] > 0
            if float(n[known & carried].sum()) >= (1 - MOST_MISSING) * float(n[known].sum()):
                kept &= carried
    return kept


def _without_strata(joint: JointCells, outcome: Outcome, carried: Flags, known: Flags) -> str | None:
    """Say why the runs cannot be compared within strata of complexity; None where they can."""
    n = joint.outcomes[outcome].n
    missing = 1 - float(n[known].sum() / n[carried].sum())
    strata = len(np.unique(joint.complexity[known]))
    if missing > MOST_MISSING:
        return (
            f"task_complexity is missing in {missing:.0%} of the runs, at most {MOST_MISSING:.0%} may lack it: "
            "publish it with every run, as estimated before the run"
        )
    if strata < 2:  # noqa: PLR2004 - a comparison within and between
        return (
            f"an adjusted slope needs at least 2 strata of complexity, there is {strata}: run tasks of other difficulty"
        )
    return None


def _comparison(
    kept: JointCells, slot: Slot, outcome: Outcome, stratum: Ints, score: Floats, *, bounded: bool
) -> tuple[list[str], Comparison]:
    """Merge the rows to what one law's comparison reads; name its covariates."""
    values, value = np.unique(kept.design[slot], return_inverse=True)
    values, value = _split_bins(values, value, kept.binned[slot])
    if len(values) < 2:  # noqa: PLR2004 - a slope
        message = f"a slope needs at least 2 distinct values of {slot[0]} above zero, there is 1: vary it"
        raise NotEnoughData(message)
    moments = kept.outcomes[ON_LOG_SCALE.get(outcome, outcome)]
    ln_x = np.bincount(value, moments.n * kept.ln_x[slot]) / np.bincount(value, moments.n)
    names, covariates = _covariates(kept, slot, stratum, ln_x[value], moments.n)
    clusters = kept.clusters()
    runs = Comparison(
        x=values,
        ln_x=ln_x,
        value=value,
        stratum=stratum,
        score=score,
        covariates=covariates,
        n=moments.n,
        mean=moments.mean,
        m2=moments.m2,
        cluster=None if clusters is None else clusters[1],
        bounded=bounded,
    )
    return names, runs.merged()


def _split_bins(values: Floats, value: Ints, binned: Flags) -> tuple[Floats, Ints]:
    """Keep a number apart from a bin of the same nominal value."""
    codes, place = np.unique(2 * value + binned, return_inverse=True)
    return values[codes // 2], place


def _covariates(kept: JointCells, slot: Slot, stratum: Ints, ln_x: Floats, n: Floats) -> tuple[list[str], Floats]:
    """Choose the other dimensions to hold fixed: carried by every run, and not told by strata and one another.

    Raises:
        NotEnoughData: The dimension itself is told by them.
    """
    slots = {other: (other, BASES[other][0]) for other in Dimension if other is not slot[0]}
    names = [other for other, at in slots.items() if at in kept.design and (kept.design[at] > 0).all()]
    columns = np.column_stack([*(kept.ln_x[slots[name]] for name in names), ln_x])
    strata = int(stratum.max()) + 1
    if len(n) < strata + len(names) + 1:
        message = f"{len(n)} distinct settings are too few to hold {', '.join(('complexity', *names))} fixed: vary them"
        raise NotEnoughData(message)
    size = np.sqrt(n @ (columns - n @ columns / n.sum()) ** 2)
    runs = np.bincount(stratum, n)
    within = np.stack([np.bincount(stratum, n * column) / runs for column in columns.T], axis=1)
    left = np.abs(np.diag(np.linalg.qr(np.sqrt(n)[:, None] * (columns - within[stratum]), mode="r")))
    kept_apart = left > np.maximum(INDEPENDENT * size, ROUNDING * np.sqrt(n @ columns**2))
    if not kept_apart[-1]:
        held = ", ".join(("complexity", *names))
        message = f"{slot[0]} does not vary at equal {held}: their effects cannot be told apart; vary it on its own"
        raise NotEnoughData(message)
    chosen = np.flatnonzero(kept_apart[:-1])
    return [str(names[place]) for place in chosen], columns[:, chosen]


def _adjusted(
    runs: Comparison, means: StandardisedMeans, names: list[str], method: str
) -> tuple[Adjusted, StandardisedMeans]:
    slope, naive, stratified = means.slope(), naive_slope(runs), runs.strata > 1
    rows = zip(means.weight.tolist(), means.estimates(), runs.x.tolist(), strict=True)
    adjusted = Adjusted(
        method=method,
        slope=slope,
        naive=naive,
        gap=naive.estimate - slope.estimate,
        n=int(runs.n.sum()),
        strata=runs.strata if stratified else 0,
        covariates=names,
        values=[ValueRow(int(n), at.estimate, at.lo, at.hi, x=x) for n, at, x in rows],
        sign_differs=differ_in_sign(slope, naive),
        tipping_reliability=tipping_reliability(runs, slope) if stratified else None,
        overlap=runs.overlap if stratified else None,
    )
    return adjusted, means
