"""Whether two laws of the same runs are equal: the same numbers but for rounding, however they were computed."""

import math
from collections.abc import Iterator

from models.laws import Estimate, Knee, Law, LineFit, PowerFit, PowerMean, Published, ValueRow

AVERAGED = 1e-6
"""What rounding may do to an averaged law, as a share of its intervals."""


def compare_laws(a: Law, b: Law) -> list[str]:
    """List where two laws of the same runs differ beyond rounding; an empty list says that they are equal.

    Tolerances: coefficients and interval ends 1e-9 * max(|value|, SE), the ends and errors of a power law's
    coefficient on the log scale; standard errors 1e-9 relative; R² 1e-9; means 1e-12 relative; counts, values, knees
    exact. The averaged law, whose shapes are found step by step: weights 1e-6, its curve, change and parameters 1e-6 of
    their interval's width. Where the runs leave an error or an intercept of nothing but rounding (1e-8 of the estimate,
    1e-13 of the outcome), it need only be that on both sides. What names the record (tier, version, epoch, time,
    sources, lineage, hash, reasons) is not compared.
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
    yield from _compare_power(a.power, b.power)
    yield from _compare_knees(a.knee, b.knee)
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


def _compare_power(one: PowerMean | None, other: PowerMean | None) -> Iterator[str]:
    if one is None or other is None:
        yield _same("power", one, other)
        return
    yield from _compare_estimates("power.exponent", one.exponent, other.exponent)
    yield from _compare_estimates("power.coefficient", one.coefficient, other.coefficient, log_scale=True)


def _compare_knees(one: Knee | None, other: Knee | None) -> Iterator[str]:
    if one is None or other is None:
        yield _same("knee", one, other)
        return
    for name in ("supported", "rule"):
        yield _same(f"knee.{name}", getattr(one, name), getattr(other, name))
    for name in ("value", "lo", "hi"):
        yield _near(f"knee.{name}", getattr(one, name), getattr(other, name), 1e-9 * abs(one.value))
    diminishing = one.diminishing_returns, other.diminishing_returns
    if diminishing[0] is None or diminishing[1] is None:
        yield _same("knee.diminishing_returns", *diminishing)
    else:
        yield _near("knee.diminishing_returns", diminishing[0], diminishing[1], 1e-9 * diminishing[0])
    for name in ("threshold", "regret"):
        yield _near(f"knee.{name}", getattr(one, name), getattr(other, name), 1e-6 * max(1.0, abs(one.threshold)))


def _compare_published(one: Published | None, other: Published | None) -> Iterator[str]:
    if one is None or other is None:
        yield _same("published", one, other)
        return
    for name in ("family", "direction", "scale"):
        yield _same(f"published.{name}", getattr(one, name), getattr(other, name))
    yield _same("published.weights", sorted(one.weights), sorted(other.weights))
    for name in sorted(one.weights.keys() & other.weights.keys()):
        yield _near(f"published.weights.{name}", one.weights[name], other.weights[name], AVERAGED)
    yield _same("published.params", sorted(one.params), sorted(other.params))
    for name in sorted(one.params.keys() & other.params.keys()):
        yield from _compare_averaged(f"published.{name}", one.params[name], other.params[name])
    if one.change is not None and other.change is not None:
        yield from _compare_averaged("published.change", one.change, other.change)
    yield _same("published.curve points", len(one.curve), len(other.curve))
    for p, q in zip(one.curve, other.curve, strict=False):
        allowed = AVERAGED * max(abs(p.mean), p.hi - p.lo)
        yield _near(f"published.curve[{p.x:g}].x", p.x, q.x, 1e-9 * p.x)
        for end in ("mean", "lo", "hi", "band_lo", "band_hi"):
            yield _near(f"published.curve[{p.x:g}].{end}", getattr(p, end), getattr(q, end), allowed)


def _compare_averaged(name: str, one: Estimate, other: Estimate) -> Iterator[str]:
    allowed = AVERAGED * max(abs(one.estimate), one.hi - one.lo)
    for part in ("estimate", "se", "lo", "hi"):
        yield _near(f"{name}.{part}", getattr(one, part), getattr(other, part), allowed)
