"""Laws: from the cells of one outcome over one dimension to the record that scaling.laws carries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NotRequired, Protocol, TypedDict, TypeVar, Unpack

import msgspec
import numpy as np

from analytics import reference
from analytics.cells import LOG_VARIABLES, Cells, LawCells
from analytics.intervals import knee_interval, mean_interval, wilson
from analytics.knees import find_knee
from analytics.least_squares import Line, line
from analytics.lint import lint
from analytics.moments import Floats
from analytics.published import Clusters, Curve, Fitting, Means, by_hazards, price_of, promise_of, publish
from analytics.quasi_poisson import PowerLaw, fit_power_mean
from analytics.sentences import sentence
from models.dimensions import LESS_IS_BETTER, Basis, Dimension, Outcome, Variable
from models.errors import NotEnoughData
from models.laws import Knee, Law, PowerMean, Published, Reference, ReferenceKnee, ValueRow, law_id

EXPLORATORY_RUNS = 30
ESTABLISHED_RUNS = 100
ACTIONABLE_RUNS = 200
MOST_ROWS = 256
MOST_REPEATED = 64
"""Rows of a table that a record holds a second time; with more it would outgrow its 64 KiB."""

EVIDENT = 20.0
"""An e-value of 1/0.05: zero lies outside the confidence sequence of the trend."""

METHOD = "quasi-Poisson regression, log link, HC1 errors, t with N - 2 degrees of freedom, 95 %"
LEVERAGE = "a single run decides the fit at its value (leverage 1), where HC3 does not exist: the errors are HC1"

Part = TypeVar("Part")


class Heading(TypedDict):
    """What a law record says besides what is fitted."""

    context: str
    dimension: Dimension
    outcome: Outcome
    basis: Basis
    sources: Sequence[str]
    lineage: Mapping[int, int] | Mapping[str, int]
    settings_hash: str
    fitted_at: str
    tier: NotRequired[str]
    version: NotRequired[int]
    epoch: NotRequired[int]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Runs, mean and squared deviations of the outcome at each value, ascending. `x` is nan where there is a label."""

    x: Floats
    label: tuple[str | None, ...]
    n: Floats
    mean: Floats
    m2: Floats


class Fits(Protocol):
    """The regressions that a law is made of. Each raises NotEnoughData where it cannot be had."""

    def power(self) -> Line:
        """Regress ln max(y, 0.001) on ln x."""

    def log(self) -> Line:
        """Regress y on ln x."""

    def linear(self) -> Line:
        """Regress y on x."""

    def power_mean(self) -> PowerLaw:
        """Fit E[y] = a x**b."""

    def means(self) -> Means:
        """Give the means by value above zero that families of curves are fitted to."""


@dataclass(frozen=True, slots=True, eq=False)
class CellFits:
    """The regressions of an outcome from its cells; `clustered` are its cells by cluster, if told apart."""

    cells: Cells
    positive: Cells
    outcome: Outcome
    clustered: Cells | None = None

    def power(self) -> Line:
        """Regress ln max(y, 0.001) on ln x."""
        return reference.log_line(self.positive, self.outcome)

    def log(self) -> Line:
        """Regress y on ln x."""
        return line(self.positive, self.outcome, Variable.LN_X)

    def linear(self) -> Line:
        """Regress y on x."""
        return line(self.cells, self.outcome, Variable.X)

    def power_mean(self) -> PowerLaw:
        """Fit E[y] = a x**b."""
        return fit_power_mean(self.positive, self.outcome)

    def means(self) -> Means:
        """Give the means by value above zero that families of curves are fitted to."""
        cells = self.positive
        axis = cells.axis(LOG_VARIABLES[self.outcome] if self.outcome in LESS_IS_BETTER else self.outcome)
        x = cells.geometric_x
        order = np.argsort(x, kind="stable")
        clusters = None
        if self.clustered is not None:
            rows = reference.above_zero(self.clustered)
            if rows.cluster is None:
                raise NotEnoughData("the cells by cluster name no clusters: reduce them with their clusters")
            places = {key: place for place, key in enumerate(zip(cells.value[order], cells.binned[order], strict=True))}
            value = np.array([places[key] for key in zip(rows.value, rows.binned, strict=True)], dtype=np.int64)
            clusters = Clusters(value, rows.cluster, rows.n, rows.mean[:, axis])
        return Means(
            x=x[order],
            n=cells.n[order],
            mean=cells.mean[order, axis],
            m2=cells.comoment[order, axis, axis],
            level=cells.mean[order, cells.axis(self.outcome)],
            clusters=clusters,
        )


Fitted = tuple[Law, Curve | None]
"""A law, and the curve that it published."""


def fit_law(
    cells: LawCells,
    *,
    fitting: Fitting | None = None,
    cost: Published | None = None,
    clustered: Cells | None = None,
    **heading: Unpack[Heading],
) -> Law:
    """Fit everything that a law record holds. What cannot be known is named in `missing` with its reason.

    Status, by the runs that at least two values have: `insufficient` below 30 (means and references only), then
    `exploratory`; from 100 on `established`, and a knee is published; from 200 on, or once the trend's confidence
    sequence excludes zero, `actionable`. Categories get their table and a recommendation, no regression.

    Args:
        cells: The cells of the outcome, from `analytics.cells.law_cells`.
        fitting: How to fit, and the price table.
        cost: The cost law of the same runs, which prices the steps of a knee.
        clustered: The same cells by cluster, for errors that know of clusters.
        **heading: What the record says besides.
    """
    return fit_with_curve(cells, fitting=fitting, cost=cost, clustered=clustered, **heading)[0]


def fit_with_curve(
    cells: LawCells,
    *,
    fitting: Fitting | None = None,
    cost: Published | None = None,
    clustered: Cells | None = None,
    **heading: Unpack[Heading],
) -> Fitted:
    """Fit a law as `fit_law` does, and give its curve beside it."""
    axis = cells.axis(heading["outcome"])
    table = Table(cells.value, cells.label, cells.n, cells.mean[:, axis], cells.comoment[:, axis, axis])
    inside = None if clustered is None else clustered.select(cells.variables)
    fits = CellFits(cells, reference.above_zero(cells), heading["outcome"], inside)
    return assemble(table, fits, heading, fitting or Fitting(), cost)


def assemble(
    table: Table, fits: Fits, heading: Heading, fitting: Fitting | None = None, cost: Published | None = None
) -> Fitted:
    """Put a law together from its table of values and its regressions."""
    outcome, dimension, tier = heading["outcome"], heading["dimension"], heading.get("tier", "live")
    fitting = fitting or Fitting()
    missing: dict[str, str] = {}
    table = _small_first(table)
    rows = _value_rows(table, outcome, missing)
    rates = rows if outcome == Outcome.SUCCESS and len(rows) <= MOST_REPEATED else []
    if outcome == Outcome.SUCCESS and not rates:
        missing["reference.success_rate_by_value"] = f"the {len(rows)} rows of `values` are the same"
    runs = supporting_runs(table.n)
    references, power, curve, knee, promise = Reference(success_rate_by_value=rates), None, None, None, None
    category = any(label is not None for label in table.label)
    if category:
        recommended = attempt("reference.recommended_value", missing, lambda: _recommend(table, outcome))
        references = Reference(success_rate_by_value=rates, recommended_value=recommended)
        for part in ("reference.power", "reference.log", "reference.linear", "reference.knee", "published", "knee"):
            missing[part] = "the values are categories without a number: give model_params_b for a law over x"
    else:
        references = _reference(table, fits, outcome, rates, missing)
        power = attempt("power", missing, lambda: _power(fits.power_mean()))
        curve = attempt("published", missing, lambda: _publish(fits, heading, fitting, runs))
        if curve is not None:
            found = curve
            basis = heading["basis"]
            knee = attempt("knee", missing, lambda: knee_of(found, dimension, outcome, basis, fitting, cost, runs))
            if outcome is not Outcome.TOTAL_COST and not by_hazards(dimension, outcome, basis):
                promise = promise_of(curve.average.points, less_is_better=outcome in LESS_IS_BETTER)
        else:
            missing["knee"] = "there is no published law to find a knee on"
    law = Law(
        law_id=law_id(heading["context"], dimension.value, outcome.value, tier),
        tier=tier,
        context=heading["context"],
        dimension=dimension.value,
        outcome=outcome.value,
        version=heading.get("version", 1),
        epoch=heading.get("epoch", 1),
        fitted_at=heading["fitted_at"],
        n=int(table.n.sum()),
        status=status_of(runs, curve, category=category),
        evidence="associational",
        settings_hash=heading["settings_hash"],
        basis=heading["basis"].value,
        sources=list(heading["sources"]),
        excluded_zeros=0 if category else int(table.n[table.x <= 0].sum()),
        values=_thinned(rows, missing),
        reference=references,
        power=power,
        published=None if curve is None else curve.published,
        knee=knee,
        promise=promise,
        trend=None if curve is None else curve.trend,
        e_value=None if curve is None else curve.e_value,
        missing=missing,
        lineage={str(partition): offset for partition, offset in heading["lineage"].items()},
    )
    return explained(law), curve


def _thinned(rows: list[ValueRow], missing: dict[str, str]) -> list[ValueRow]:
    """Keep every row of a table of up to 256 values, and as many evenly spread ones of a longer one."""
    if len(rows) <= MOST_ROWS:
        return rows
    missing["values"] = f"{MOST_ROWS} of the {len(rows)} values are shown: with all the record would outgrow 64 KiB"
    return [rows[place] for place in np.linspace(0, len(rows) - 1, MOST_ROWS).round().astype(np.int64).tolist()]


def explained(law: Law) -> Law:
    """Write the law's sentence and its lint anew, after something about it has changed."""
    return msgspec.structs.replace(law, sentence=sentence(law), lint=lint(law))


def attempt(part: str, missing: dict[str, str], make: Callable[[], Part]) -> Part | None:
    """Make a part of a law; where the runs do not allow it, put the reason into `missing`."""
    try:
        return make()
    except NotEnoughData as reason:
        missing[part] = str(reason)
        return None


def _small_first(table: Table) -> Table:
    if all(label is None for label in table.label):
        return table
    order = sorted(range(len(table.n)), key=lambda place: reference.size_rank(table.label[place]))
    label = tuple(table.label[place] for place in order)
    return Table(table.x[order], label, table.n[order], table.mean[order], table.m2[order])


def _value_rows(table: Table, outcome: Outcome, missing: dict[str, str]) -> list[ValueRow]:
    if outcome == Outcome.SUCCESS:
        lo, hi = wilson(table.n * table.mean, table.n)
        return reference.value_rows(table.x, table.label, table.n, table.mean, lo, hi)
    several = table.n > 1
    if not several.all():
        places = np.flatnonzero(~several).tolist()
        names = ", ".join(str(table.label[place] or f"{table.x[place]:g}") for place in places[:10])
        missing["values"] = f"{len(places)} of the values have one run and so no interval ({names}): repeat runs there"
    n, mean = table.n[several], table.mean[several]
    lo, hi = mean_interval(n, mean, table.m2[several])
    label = tuple(name for name, kept in zip(table.label, several.tolist(), strict=True) if kept)
    return reference.value_rows(table.x[several], label, n, mean, lo, hi)


def _reference(table: Table, fits: Fits, outcome: Outcome, rates: list[ValueRow], missing: dict[str, str]) -> Reference:
    power = attempt("reference.power", missing, fits.power)
    log = attempt("reference.log", missing, fits.log)
    linear = attempt("reference.linear", missing, fits.linear)
    for part, fit in (("power", power), ("log", log), ("linear", linear)):
        if fit is not None and fit.error != "HC3":
            missing[f"reference.{part}.hc3"] = LEVERAGE
    rule = f"first gain per unit of x below {reference.THRESHOLD:g}"
    return Reference(
        power=None if power is None else reference.power_fit(power, outcome),
        log=None if log is None else reference.line_fit(log),
        linear=None if linear is None else reference.line_fit(linear),
        knee=attempt("reference.knee", missing, lambda: _knee(table, table.mean, outcome, rule)),
        diminishing_returns=attempt(
            "reference.diminishing_returns",
            missing,
            lambda: reference.diminishing_returns(table.x, table.mean, outcome),
        ),
        success_rate_by_value=rates,
        recommended_value=attempt("reference.recommended_value", missing, lambda: _recommend(table, outcome)),
    )


def _recommend(table: Table, outcome: Outcome) -> float:
    variance = reference.variance_of_mean(table.n, table.mean, table.m2, outcome)
    place = reference.recommended(table.mean, variance, outcome)
    label = table.label[place]
    if label is not None:
        message = f"the recommended category is {label!r}, which has no number: give model_params_b for one"
        raise NotEnoughData(message)
    return float(table.x[place])


def _knee(table: Table, mean: Floats, outcome: Outcome, rule: str) -> ReferenceKnee:
    value = reference.knee(table.x, mean)
    variance = reference.variance_of_mean(table.n, table.mean, table.m2, outcome)
    lo, hi = knee_interval(table.x, mean, variance, reference.THRESHOLD)
    return ReferenceKnee(value, lo, hi, rule)


def _power(law: PowerLaw) -> PowerMean:
    return PowerMean(law.exponent, law.coefficient, METHOD)


def supporting_runs(n: Floats) -> int:
    """Give the runs that at least two values have."""
    return int(np.sort(n)[-2]) if len(n) > 1 else 0


def _publish(fits: Fits, heading: Heading, fitting: Fitting, runs: int) -> Curve:
    if runs < EXPLORATORY_RUNS:
        raise NotEnoughData(
            f"a law needs {EXPLORATORY_RUNS} runs at each of two values, the second best supported has {runs}: "
            "the table of values is what these runs can tell"
        )
    return publish(fits.means(), heading["dimension"], heading["outcome"], heading["basis"], fitting)


def knee_of(  # noqa: PLR0917 - what a knee depends on
    curve: Curve,
    dimension: Dimension,
    outcome: Outcome,
    basis: Basis,
    fitting: Fitting,
    cost: Published | None,
    runs: int,
) -> Knee:
    """Find the knee of a published curve.

    Args:
        curve: The curve.
        dimension: What it is over; `basis` how that was measured.
        outcome: What it is of.
        basis: Attempts made are paid for by those alone that are still without success.
        fitting: What a success is worth, and the price table.
        cost: The cost law of the same runs.
        runs: The runs that two values have.

    Raises:
        NotEnoughData: Fewer than 100 runs at two values, or the outcome is the cost.
    """
    if runs < ESTABLISHED_RUNS:
        raise NotEnoughData(
            f"a knee needs {ESTABLISHED_RUNS} runs at each of two values, the second best supported has {runs}"
        )
    price = price_of(curve.average.points.x, dimension, outcome, cost, fitting)
    if by_hazards(dimension, outcome, basis):
        # One more allowed attempt is made, and paid for, by the runs alone that have not succeeded by then.
        price = replace(price, threshold=price.threshold * (1 - curve.average.mean[: len(price.threshold)]))
    return find_knee(curve.average, price, less_is_better=outcome in LESS_IS_BETTER)


def status_of(runs: int, curve: Curve | None, *, category: bool) -> str:
    """Say how much the runs allow, by how many at least two values have, and by the evidence for a trend."""
    if runs < EXPLORATORY_RUNS:
        return "insufficient"
    if curve is None and not category:
        return "exploratory"
    if runs >= ACTIONABLE_RUNS or (curve is not None and curve.e_value >= EVIDENT):
        return "actionable"
    return "established" if runs >= ESTABLISHED_RUNS else "exploratory"
