"""What to mind before a law is believed: each remark is one short sentence that names the number."""

import math
from collections.abc import Callable, Iterator

from analytics.averaging import SATURATED
from analytics.sentences import (
    coherent,
    count,
    dimension_words,
    from_hazards,
    listed,
    project_count,
    tried_values,
    value_text,
)
from models.dimensions import Basis, Dimension
from models.laws import Holdout, Law

FEW_VALUES = 3
FEW_RUNS = 30
NARROW = 2.0
POOR_SKILL = 0.5
SURE = 1.96
LACK_OF_FIT = 0.01
LARGE_OVERDISPERSION = 2.0
FRAGILE = 0.7
LITTLE_OVERLAP = 0.5
NAMED = 5
BIN = 2**0.25
"""The table names a bin by its middle; runs may lie anywhere within a quarter of an octave."""

LIMITS = {
    Dimension.ITERATIONS: ("used iterations are", "max_iterations"),
    Dimension.CONTEXT: ("used context tokens are", "context_budget"),
    Dimension.ATTEMPTS: ("used attempts are", "retry_limit"),
}


def lint(law: Law, projects: int | None = None) -> list[str]:
    """List what weakens a law, the gravest kinds first; an empty list says that nothing known does.

    Args:
        law: Any law; a part that it lacks is not judged.
        projects: How many projects its runs come from, where the caller knows.
    """
    known = project_count(law) if projects is None else projects
    remarks = [remark for rule in RULES for remark in rule(law)]
    if known == 1 and not law.context.startswith("project="):
        remarks.append("All runs come from only 1 project: nothing is known about others.")
    return remarks


def _realised(law: Law) -> Iterator[str]:
    dimension = Dimension(law.dimension)
    if law.basis == Basis.REALISED and dimension in LIMITS and not from_hazards(law):
        used, limit = LIMITS[dimension]
        yield f"{used.capitalize()} an outcome of difficulty, in all {law.n:,} runs: set {limit} before the run."


def _confounded(law: Law) -> Iterator[str]:
    adjusted = law.adjusted
    if adjusted is None:
        return
    naive, slope = adjusted.naive, adjusted.slope
    if adjusted.sign_differs:
        yield (
            f"Confounded: the slope on ln x is {naive.estimate:+.3g} as the runs stand and {slope.estimate:+.3g} "
            "within equals."
        )
    elif abs(adjusted.gap) > naive.se:
        yield (
            f"Confounded: comparing within equals moves the slope on ln x by {-adjusted.gap:+.3g}, more than its error "
            f"of {naive.se:.3g}."
        )
    if adjusted.overlap is not None and adjusted.overlap < LITTLE_OVERLAP:
        yield f"Only {adjusted.overlap:.0%} of the runs are in strata where every value occurs."


def _tipping(law: Law) -> Iterator[str]:
    tipping = law.tipping_reliability
    if tipping is None and law.adjusted is not None:
        tipping = law.adjusted.tipping_reliability
    if tipping is not None and tipping > FRAGILE:
        yield f"The adjusted slope may be zero if the complexity score's reliability is {tipping:.2f} or less."


def _values(law: Law) -> Iterator[str]:
    distinct = len(law.values)
    if 0 < distinct < FEW_VALUES:
        yield f"Only {count(distinct, 'distinct value')} of {dimension_words(law)}: a curve needs {FEW_VALUES} or more."
    tried = [row.x for row in law.values if row.x is not None and row.x > 0]
    if len(tried) > 1 and max(tried) / min(tried) < NARROW:
        yield (
            f"The values are within a factor of {max(tried) / min(tried):.2f}: a law over less than a factor of "
            f"{NARROW:g} says little."
        )


def _support(law: Law) -> Iterator[str]:
    dimension = Dimension(law.dimension)
    thin = [f"{row.label or value_text(dimension, row.x or 0.0)} has {row.n}" for row in law.values if row.n < FEW_RUNS]
    if thin:
        named = thin[:NAMED] + ([f"{len(thin) - NAMED} more have few"] if len(thin) > NAMED else [])
        yield f"Fewer than {FEW_RUNS} runs at {len(thin)} of {count(len(law.values), 'value')}: {listed(named)}."


def _lack_of_fit(law: Law) -> Iterator[str]:
    fit = law.published
    if fit is None:
        return
    least = fit.lack_of_fit
    p = "" if least is None else "p < 0.0001" if least < 1e-4 else f"p = {least:.2g}"  # noqa: PLR2004 - as written
    if fit.family == SATURATED:
        best = f" (the best: {p})" if p else ""
        yield f"No family of curves describes the means{best}: the curve is the means themselves."
    elif least is not None and least < LACK_OF_FIT:
        yield f"The family {fit.family} misses the means at the values ({p})."


def _incoherent(law: Law) -> Iterator[str]:
    change = law.published.change if law.published else None
    if change is not None and not coherent(change):
        yield (
            f"The law's change of {change.estimate:.3g} lies outside its own interval [{change.lo:.3g}, "
            f"{change.hi:.3g}]: no family describes these runs."
        )


def _holdout(law: Law) -> Iterator[str]:
    if law.validation is None:
        return
    for name, tried in (("held-out runs", law.validation.holdout), ("five folds", law.validation.five_fold)):
        if tried is None:
            continue
        if poor(tried):
            yield f"On {name} the law reaches {tried.skill or 0.0:.0%} of what can be explained."
        slope = tried.calibration
        if slope is not None and not slope.lo <= 1 <= slope.hi:
            yield (
                f"On {name} the calibration slope is {slope.estimate:.2f} [{slope.lo:.2f}, {slope.hi:.2f}], not 1: "
                f"the law promises too {'much' if slope.estimate < 1 else 'little'}."
            )


def poor(tried: Holdout) -> bool:
    """Tell whether a law explains less than half of what can be explained, and by more than chance.

    With s = (baseline - ceiling) / ceiling, what there is to explain per run, the skill of n held-out runs has a
    standard error of about 2 / sqrt(n s): the loss differs from the baseline by 2 (f - mean) residual a run, whose
    variance is 4 ceiling (baseline - ceiling). The skill counts as poor where it is below a half and 1.96 such errors
    do not reach from it to 1.
    """
    explainable = tried.baseline - tried.ceiling
    if tried.skill is None or tried.skill >= POOR_SKILL or explainable <= 0 or tried.n <= 0:
        return False
    error = 2 * math.sqrt(max(tried.ceiling, 0.0) / (explainable * tried.n))
    return 1 - tried.skill > SURE * error


def _knee(law: Law) -> Iterator[str]:
    most = max(tried_values(law), default=math.inf)
    if law.knee is not None and law.knee.supported and law.knee.value >= most:
        told = value_text(Dimension(law.dimension), most)
        yield f"No knee up to {told}, the most that was tried: it may lie beyond."


def _extrapolation(law: Law) -> Iterator[str]:
    dimension = Dimension(law.dimension)
    most = max((row.x for row in law.values if row.x is not None), default=math.inf)
    optimum = law.scalability.optimum if law.scalability else None
    claims = {
        "The knee": law.knee.value if law.knee else 0.0,
        "The optimum": optimum.estimate if optimum else 0.0,
        "The end of the curve": max((point.x for point in law.published.curve), default=0.0) if law.published else 0.0,
    }
    for name, value in claims.items():
        if value > most * BIN:
            yield (
                f"{name} at {value_text(dimension, value)} is extrapolated: the most that was tried is "
                f"{value_text(dimension, most)}."
            )


def _zeros(law: Law) -> Iterator[str]:
    if law.excluded_zeros:
        runs = count(law.excluded_zeros, "run")
        yield f"{runs} at zero {'is' if law.excluded_zeros == 1 else 'are'} left out of fits on logarithms."


def _overdispersion(law: Law) -> Iterator[str]:
    if law.published is not None and law.published.overdispersion > LARGE_OVERDISPERSION:
        yield (
            f"Runs of a cluster are alike: the variance is {law.published.overdispersion:.1f} times that of "
            "independent runs."
        )


RULES: tuple[Callable[[Law], Iterator[str]], ...] = (
    _confounded,
    _realised,
    _tipping,
    _values,
    _support,
    _incoherent,
    _lack_of_fit,
    _holdout,
    _knee,
    _extrapolation,
    _overdispersion,
    _zeros,
)
"""The rules in the order in which their remarks are told."""
