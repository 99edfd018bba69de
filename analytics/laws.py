"""Laws: from the cells of one outcome over one dimension to the record that scaling.laws carries."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, Protocol, TypedDict, TypeVar, Unpack

import numpy as np

from analytics import reference
from analytics.cells import Cells, LawCells
from analytics.intervals import knee_interval, mean_interval, wilson
from analytics.least_squares import Line, line
from analytics.moments import Floats
from analytics.quasi_poisson import PowerLaw, fit_power_mean
from models.dimensions import Basis, Dimension, Outcome, Variable
from models.errors import NotEnoughData
from models.laws import Estimate, Law, LineFit, PowerFit, Published, Reference, ReferenceKnee, ValueRow, law_id

ESTABLISHED_RUNS = 30
CURVE_POINTS = 64
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


@dataclass(frozen=True, slots=True, eq=False)
class CellFits:
    """The regressions of an outcome from its cells."""

    cells: Cells
    positive: Cells
    outcome: Outcome

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


def fit_law(cells: LawCells, **heading: Unpack[Heading]) -> Law:
    """Fit everything that a law record holds. What cannot be known is named in `missing` with its reason.

    Status: `insufficient` with fewer than two distinct values; `established` with at least 30 runs at each of two
    values; `exploratory` between. Categories get their table and a recommendation, no regression.

    Args:
        cells: The cells of the outcome, from `analytics.cells.law_cells`.
        **heading: What the record says besides.
    """
    axis = cells.axis(heading["outcome"])
    table = Table(cells.value, cells.label, cells.n, cells.mean[:, axis], cells.comoment[:, axis, axis])
    return assemble(table, CellFits(cells, reference.above_zero(cells), heading["outcome"]), heading)


def assemble(table: Table, fits: Fits, heading: Heading) -> Law:
    """Put a law together from its table of values and its regressions."""
    outcome, tier = heading["outcome"], heading.get("tier", "live")
    missing: dict[str, str] = {}
    table = _small_first(table)
    rows = _value_rows(table, outcome, missing)
    category = any(label is not None for label in table.label)
    rates = rows if outcome == Outcome.SUCCESS else []
    if category:
        recommended = _attempt("reference.recommended_value", missing, lambda: _recommend(table, outcome))
        for part in ("reference.power", "reference.log", "reference.linear", "reference.knee", "published", "knee"):
            missing[part] = "the values are categories without a number: give model_params_b for a law over x"
        references, published, knee = Reference(success_rate_by_value=rates, recommended_value=recommended), None, None
    else:
        references = _reference(table, fits, outcome, rates, missing)
        published = _attempt("published", missing, lambda: _publish(table, fits.power_mean()))
        better = -table.mean if outcome in reference.LESS_IS_BETTER else table.mean
        knee = _attempt("knee", missing, lambda: _knee(table, better, outcome, _better_rule(outcome)))
    return Law(
        law_id=law_id(heading["context"], heading["dimension"].value, outcome.value, tier),
        tier=tier,
        context=heading["context"],
        dimension=heading["dimension"].value,
        outcome=outcome.value,
        version=heading.get("version", 1),
        epoch=heading.get("epoch", 1),
        fitted_at=heading["fitted_at"],
        n=int(table.n.sum()),
        status=_status(table),
        evidence="associational",
        settings_hash=heading["settings_hash"],
        basis=heading["basis"].value,
        sources=list(heading["sources"]),
        excluded_zeros=0 if category else int(table.n[table.x <= 0].sum()),
        values=rows,
        reference=references,
        published=published,
        knee=knee,
        missing=missing,
        lineage={str(partition): offset for partition, offset in heading["lineage"].items()},
    )


def _attempt(part: str, missing: dict[str, str], make: Callable[[], Part]) -> Part | None:
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
    power = _attempt("reference.power", missing, fits.power)
    log = _attempt("reference.log", missing, fits.log)
    linear = _attempt("reference.linear", missing, fits.linear)
    for part, fit in (("power", power), ("log", log), ("linear", linear)):
        if fit is not None and fit.error != "HC3":
            missing[f"reference.{part}.hc3"] = LEVERAGE
    rule = f"first gain per unit of x below {reference.THRESHOLD:g}"
    return Reference(
        power=None if power is None else reference.power_fit(power, outcome),
        log=None if log is None else reference.line_fit(log),
        linear=None if linear is None else reference.line_fit(linear),
        knee=_attempt("reference.knee", missing, lambda: _knee(table, table.mean, outcome, rule)),
        diminishing_returns=_attempt(
            "reference.diminishing_returns",
            missing,
            lambda: reference.diminishing_returns(table.x, table.mean, outcome),
        ),
        success_rate_by_value=rates,
        recommended_value=_attempt("reference.recommended_value", missing, lambda: _recommend(table, outcome)),
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


def _better_rule(outcome: Outcome) -> str:
    if outcome in reference.LESS_IS_BETTER:
        return f"first saving per unit of x below {reference.THRESHOLD:g} {reference.UNITS[outcome]}"
    return f"first gain per unit of x below {reference.THRESHOLD:g}"


def _publish(table: Table, law: PowerLaw) -> Published:
    x = table.x[table.x > 0]
    if len(x) > CURVE_POINTS:
        x = x[np.linspace(0, len(x) - 1, CURVE_POINTS).round().astype(np.int64)]
    return Published(
        family="power",
        weights={"power": 1.0},
        params={"exponent": law.exponent, "coefficient": law.coefficient},
        curve=law.curve(x),
        method=METHOD,
    )


def _status(table: Table) -> str:
    if len(table.n) < 2:  # noqa: PLR2004 - a law compares
        return "insufficient"
    return "established" if int((table.n >= ESTABLISHED_RUNS).sum()) > 1 else "exploratory"


def compare_laws(a: Law, b: Law) -> list[str]:
    """List where two laws of the same runs differ beyond rounding; an empty list says that they are equal.

    Tolerances: coefficients and interval ends 1e-9 * max(|value|, SE), the ends and errors of a power law's
    coefficient on the log scale; standard errors 1e-9 relative; R² 1e-9; means 1e-12 relative; counts, values, knees
    exact. Where the runs leave an error or an intercept of nothing but rounding (1e-8 of the estimate, 1e-13 of the
    outcome), it need only be that on both sides. What names the record (tier, version, epoch, time, sources, lineage,
    hash, reasons) is not compared.
    """
    return [difference for difference in _differences(a, b) if difference]


def _differences(a: Law, b: Law) -> Iterator[str]:
    for name in ("context", "dimension", "outcome", "basis", "n", "status", "excluded_zeros", "evidence"):
        yield _same(name, getattr(a, name), getattr(b, name))
    yield from _compare_rows("values", a.values, b.values)
    yield from _compare_rows(
        "reference.success_rate_by_value", a.reference.success_rate_by_value, b.reference.success_rate_by_value
    )
    size = max((abs(row.mean) for row in a.values), default=0.0)
    for name in ("power", "log", "linear"):
        yield from _compare_fits(f"reference.{name}", getattr(a.reference, name), getattr(b.reference, name), size)
    for name in ("knee", "diminishing_returns", "recommended_value"):
        yield _same(f"reference.{name}", getattr(a.reference, name), getattr(b.reference, name))
    yield _same("knee", a.knee, b.knee)
    yield from _compare_published(a.published, b.published)


def _same(name: str, one: object, other: object) -> str:
    return "" if one == other else f"{name}: {one} and {other}"


def _near(name: str, one: float, other: float, allowed: float) -> str:
    return "" if abs(one - other) <= allowed else f"{name}: {one!r} and {other!r}, more than {allowed:.3g} apart"


def _compare_rows(name: str, one: list[ValueRow], other: list[ValueRow]) -> Iterator[str]:
    keys = [[(row.x, row.label, row.n) for row in rows] for rows in (one, other)]
    yield _same(f"{name} (x, label, n)", *keys)
    if keys[0] == keys[1]:
        for p, q in zip(one, other, strict=True):
            at = f"{name}[{p.x if p.label is None else p.label}]"
            yield _near(f"{at}.mean", p.mean, q.mean, 1e-12 * abs(p.mean))
            allowed = 1e-9 * max(abs(p.mean), p.hi - p.lo)
            yield _near(f"{at}.lo", p.lo, q.lo, allowed)
            yield _near(f"{at}.hi", p.hi, q.hi, allowed)


def _compare_fits(
    name: str, one: PowerFit | LineFit | None, other: PowerFit | LineFit | None, size: float
) -> Iterator[str]:
    if one is None or other is None:
        yield _same(name, one, other)
        return
    yield _near(f"{name}.r_squared", one.r_squared, other.r_squared, 1e-9)
    if isinstance(one, PowerFit) and isinstance(other, PowerFit):
        yield _same(f"{name}.interpretation", one.interpretation, other.interpretation)
        yield from _compare_estimates(f"{name}.exponent", one.exponent, other.exponent)
    if isinstance(one, LineFit) and isinstance(other, LineFit):
        yield from _compare_estimates(f"{name}.intercept", one.intercept, other.intercept, size=size)
    log_scale = isinstance(one, PowerFit)
    yield from _compare_estimates(f"{name}.coefficient", one.coefficient, other.coefficient, log_scale=log_scale)


def _compare_estimates(
    name: str, one: Estimate, other: Estimate, *, size: float = 0.0, log_scale: bool = False
) -> Iterator[str]:
    allowed = max(1e-9 * max(abs(one.estimate), one.se), 1e-13 * size)
    yield _near(name, one.estimate, other.estimate, allowed)
    for end in ("lo", "hi"):
        p, q = getattr(one, end), getattr(other, end)
        logs = max(1.0, abs(math.log(p))) if log_scale and p > 0 else 1.0
        yield _near(f"{name}.{end}", p, q, max(allowed, 1e-9 * abs(p) * logs))
    rounding = max(1e-8 * abs(one.estimate), 1e-13 * size)
    for error in ("se", "se_classical"):
        p, q = getattr(one, error), getattr(other, error)
        if p is None or q is None:
            yield _same(f"{name}.{error}", p, q)
        elif max(p, q) > rounding:
            yield _near(f"{name}.{error}", p, q * (one.estimate / other.estimate if log_scale else 1.0), 1e-9 * p)


def _compare_published(one: Published | None, other: Published | None) -> Iterator[str]:
    if one is None or other is None:
        yield _same("published", one, other)
        return
    yield _same("published.family", one.family, other.family)
    yield _same("published.weights", one.weights, other.weights)
    yield _same("published.params", sorted(one.params), sorted(other.params))
    for name in sorted(one.params.keys() & other.params.keys()):
        yield from _compare_estimates(
            f"published.{name}", one.params[name], other.params[name], log_scale=name == "coefficient"
        )
    yield _same("published.curve x", [point.x for point in one.curve], [point.x for point in other.curve])
    for p, q in zip(one.curve, other.curve, strict=False):
        allowed = 1e-9 * max(abs(p.mean), p.hi - p.lo)
        for end in ("mean", "lo", "hi"):
            yield _near(f"published.curve[{p.x:g}].{end}", getattr(p, end), getattr(q, end), allowed)
