"""One law in full: its sentence, what to mind, its curve, and everything that stands behind it."""

import math
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analytics.sentences import change_text, value_text
from models.dimensions import Dimension, Outcome
from models.laws import Adjusted, CurvePoint, Drift, Estimate, Holdout, Law, Pooling, Reference, Validation, ValueRow

NOTHING = "–"  # noqa: RUF001 - a dash, as tables have it
CALIBRATED = "1 is calibrated"
LEAST_WEIGHT = 0.0005


def describe(law: Law, console: Console) -> None:
    """Print everything that a law says."""

    def say(text: str, style: str | None = None) -> None:
        console.print(text, markup=False, soft_wrap=True, style=style)

    if law.sentence:
        say(f"\n{law.sentence}", "bold")
    for remark in law.lint:
        say(f"  mind: {remark}", "yellow")
    console.print()
    if law.published and law.published.curve:
        console.print(curve_table(law))
    console.print(values_table(law))
    for title, lines in sections(law):
        say(f"\n{title}", "italic")
        for line in lines:
            say(f"  {line}")


def sections(law: Law) -> Iterator[tuple[str, list[str]]]:
    """Give the parts of the page that are no tables, each with its heading; parts that the law lacks are left out."""
    found = {
        "The law": list(_law(law)),
        "Adjusted against naive, slopes on ln x": list(_adjusted(law.adjusted)) if law.adjusted else [],
        "Tried on runs it had not seen": list(_validation(law.validation)) if law.validation else [],
        "Significance": list(_significance(law)),
        "Drift": list(_drift(law.drift)) if law.drift else [],
        "Strength borrowed from sibling contexts": list(_pooling(law.pooling)) if law.pooling else [],
        "For reference: the methods of the design document": list(_reference(law.reference)),
        "Not known, and why": [f"{part}: {reason}" for part, reason in law.missing.items()],
        "Lineage": list(_lineage(law)),
    }
    yield from ((title, lines) for title, lines in found.items() if lines)


def curve_table(law: Law) -> Table:
    """Show the published curve: the law at each value, and in which band all of it lies."""
    published = law.published
    assert published is not None
    scale = "median" if published.scale == "median" else "mean"
    table = Table(title=f"The law: {scale} {law.outcome} by {law.dimension}", title_justify="left")
    columns = [law.dimension, scale, "95 % at the value", "95 % everywhere"]
    runs = any(point.predicted_lo is not None for point in published.curve)
    for name in [*columns, "a single run"] if runs else columns:
        table.add_column(name, justify="right")
    for point in published.curve:
        table.add_row(*_curve_row(point, law)[: len(table.columns)])
    return table


def values_table(law: Law) -> Table:
    """Show what the runs at each value brought."""
    table = Table(title=escape(f"The runs: {law.outcome} by {law.dimension}, {law.context}"), title_justify="left")
    for name in (law.dimension, "n", "mean", "95 % interval"):
        table.add_column(name, justify="right")
    for row in law.values:
        table.add_row(_value(row), f"{row.n:,}", f"{row.mean:.4g}", rf"\[{row.lo:.4g}, {row.hi:.4g}]")
    return table


def interval(estimate: Estimate) -> str:
    """Write an estimate with its interval."""
    return f"{estimate.estimate:.4g} [{estimate.lo:.4g}, {estimate.hi:.4g}]"


def _curve_row(point: CurvePoint, law: Law) -> list[str]:
    def pair(lo: float | None, hi: float | None) -> str:
        return NOTHING if lo is None or hi is None else rf"\[{lo:.4g}, {hi:.4g}]"

    return [
        value_text(Dimension(law.dimension), point.x),
        f"{point.mean:.4g}",
        pair(point.lo, point.hi),
        pair(point.band_lo, point.band_hi),
        pair(point.predicted_lo, point.predicted_hi),
    ]


def _law(law: Law) -> Iterator[str]:
    yield f"{law.law_id}, version {law.version}, fitted {law.fitted_at} from {law.n:,} runs ({', '.join(law.sources)})"
    if law.power is not None:
        yield f"exponent of the mean: {interval(law.power.exponent)} ({law.power.method})"
    if law.trend is not None:
        evident = "" if law.e_value is None else f", e-value against no trend {law.e_value:.3g}"
        yield f"slope on ln x: {interval(law.trend)}{evident}"
    published = law.published
    if published is not None:
        if published.change is not None:
            change = change_text(Outcome(law.outcome), published.change, published.scale)
            yield f"{published.direction}; change from the smallest to the largest value: {change}"
        weights = sorted(published.weights.items(), key=lambda item: -item[1])
        told = [f"{name} {weight:.3f}" for name, weight in weights if weight >= LEAST_WEIGHT]
        others = f"; {len(weights) - len(told)} other families next to nothing" if len(told) < len(weights) else ""
        yield f"weights: {', '.join(told)}{others}"
        for name, parameter in published.params.items():
            yield f"{published.family}, {name}: {interval(parameter)}"
        if published.mean_factor is not None:
            yield f"the mean is the median times {published.mean_factor:.4g} (smearing)"
        if published.lack_of_fit is not None:
            yield f"lack of fit: p = {published.lack_of_fit:.2g}"
        yield f"{published.method}"
    if law.knee is not None:
        known = "" if law.knee.supported else "; not supported: the gain up to it may be noise"
        yield (
            f"knee: {law.knee.value:.4g} [{law.knee.lo:.4g}, {law.knee.hi:.4g}]{known}; beyond it {law.knee.rule} "
            f"(expected loss of choosing it {law.knee.regret:.2g})"
        )
    if law.scalability is not None:
        found = law.scalability
        optimum = "" if found.optimum is None else f", least time at {interval(found.optimum)}"
        yield f"contention {interval(found.contention)}, coherence {interval(found.coherence)}{optimum}"


def _adjusted(adjusted: Adjusted) -> Iterator[str]:
    yield f"adjusted: {interval(adjusted.slope)} ({adjusted.method})"
    yield f"naive:    {interval(adjusted.naive)}"
    sides = "; they differ in sign, both beyond doubt" if adjusted.sign_differs else ""
    yield f"confounding gap (naive less adjusted): {adjusted.gap:+.4g}{sides}"
    strata = f", {adjusted.strata} strata" if adjusted.strata else ""
    yield f"{adjusted.n:,} runs compared{strata}, held fixed: {', '.join(adjusted.covariates) or 'nothing else'}"
    if adjusted.overlap is not None:
        yield f"{adjusted.overlap:.0%} of the runs are in strata where every value occurs"
    if adjusted.tipping_reliability is not None:
        yield (
            "tipping reliability: the slope may be zero if less than "
            f"{adjusted.tipping_reliability:.2f} of the complexity scores' variance is real difficulty"
        )


def _validation(validation: Validation) -> Iterator[str]:
    for name, tried in (("held-out fifth of the tasks", validation.holdout), ("five folds", validation.five_fold)):
        if tried is not None:
            yield f"{name}: {_holdout(tried)}"
    transfer = validation.transfer
    if transfer is not None:
        words = {None: "", True: "; this one's as well", False: "; this one's not"}[transfer.covered]
        yield (
            f"left-out contexts: the laws of {transfer.contexts} contexts predict a left-out one inside 95 % intervals "
            f"in {transfer.coverage:.0%} of the cases{words}"
        )
    forward = validation.forward
    if forward is not None:
        yield (
            f"one bucket ahead: {forward.inside:.0%} of {forward.buckets} forecasts inside 95 %, mean squared "
            f"standardised error {forward.mean_square:.2f} (1 is right)"
        )


def _holdout(tried: Holdout) -> str:
    skill = "there is nothing to explain" if tried.skill is None else f"{tried.skill:.0%} of what can be explained"
    slope = "" if tried.calibration is None else f", calibration {interval(tried.calibration)} ({CALIBRATED})"
    bounds = f"between {tried.ceiling:.4g} (noise alone) and {tried.baseline:.4g} (no law)"
    return f"{skill} on {tried.n:,} runs{slope}; loss {tried.loss:.4g} {bounds}"


def _significance(law: Law) -> Iterator[str]:
    judged = law.adjusted_significance
    if judged is not None:
        alone = "stands" if judged.unadjusted else "does not stand"
        among = "stands" if judged.adjusted else "does not stand"
        family = {"all": "laws of its tier"}.get(judged.scope, f"laws of its {judged.scope}")
        yield f"alone the trend {alone} (p = {judged.p:.2g}); among {judged.laws} {family} it {among} (e-BH at 5 %)"


def _drift(drift: Drift) -> Iterator[str]:
    share = f"evidence {drift.evidence:.3g} of {drift.limit:,.0f} after {drift.buckets} buckets"
    if drift.alarm:
        yield f"ALARM since {drift.since or 'an unknown bucket'}, cause: {drift.cause}; {share}"
    else:
        cause = "" if drift.cause == "none" else f", cause: {drift.cause}"
        yield f"none{cause}; {share}"


def _pooling(pooling: Pooling) -> Iterator[str]:
    dominated = "; more than half of it is theirs" if pooling.prior_dominated else ""
    yield (
        f"slope on ln x {interval(pooling.slope)} with {pooling.contexts} contexts of {pooling.family}; "
        f"their slopes vary by {pooling.between_sd:.3g}; weight of the siblings {pooling.prior_weight:.0%}{dominated}"
    )


def _reference(reference: Reference) -> Iterator[str]:
    power = reference.power
    if power is not None:
        yield (
            f"power fit of ln max(y, 0.001): exponent {interval(power.exponent)}, R² {power.r_squared:.3f}, "
            f"{power.interpretation}"
        )
    for name, fit in (("logarithmic", reference.log), ("linear", reference.linear)):
        if fit is not None:
            yield f"{name} fit: slope {interval(fit.coefficient)}, R² {fit.r_squared:.3f}"
    if reference.knee is not None:
        yield f"knee by the rule: {reference.knee.value:.4g} [{reference.knee.lo:.4g}, {reference.knee.hi:.4g}]"
    if reference.diminishing_returns is not None:
        yield f"diminishing returns from {reference.diminishing_returns:.4g} on"
    if reference.recommended_value is not None:
        yield f"recommended value: {reference.recommended_value:.4g}"


def _lineage(law: Law) -> Iterator[str]:
    if law.lineage:
        cuts = ", ".join(f"{partition} below {offset:,}" for partition, offset in sorted(law.lineage.items()))
        yield f"it has seen the records of scaling.runs by partition: {cuts}"
    if law.epoch_since:
        yield f"and of these the runs completed since {law.epoch_since}"
    yield f'check it against the raw runs with: scaling laws verify "{law.law_id}"'


def _value(row: ValueRow) -> str:
    if row.label is not None:
        return escape(row.label)
    return NOTHING if row.x is None or math.isnan(row.x) else f"{row.x:,.6g}"
