"""The families of curves that a law is averaged over, each as linear designs over a grid of its shape.

Every family is f(x) = base(x; shape) + Σ b_j column_j(x; shape): for a fixed shape the fit is closed-form weighted
least squares, so the best shape is found on a grid without an optimiser, starts or luck (variable projection).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import digamma, gammaln

from analytics.moments import Floats
from models.errors import NotEnoughData

WIDE = 24.5
"""From this ratio of largest to smallest x on, breakpoints are sought on the log scale; no ratio of usual values."""

CONSTANT = "constant"
LINEAR = "linear"
LOGARITHMIC = "logarithmic"
QUADRATIC_LOG = "quadratic_log"
POWER = "power"
POWER_CEILING = "power_ceiling"
SATURATING_EXPONENTIAL = "saturating_exponential"
MICHAELIS_MENTEN = "michaelis_menten"
PLATEAU = "plateau"
HUMP = "hump"
ANY_OF_K = "any_of_k"
BETA_BINOMIAL = "beta_binomial"
SCALABILITY = "universal_scalability"

CURVES = (
    CONSTANT,
    LINEAR,
    LOGARITHMIC,
    QUADRATIC_LOG,
    POWER,
    POWER_CEILING,
    SATURATING_EXPONENTIAL,
    MICHAELIS_MENTEN,
    PLATEAU,
    HUMP,
)
"""The families of a mean between bounds, such as success and quality."""

LOG_CURVES = tuple(name for name in CURVES if name != POWER)
"""Those of the logarithm of time and cost: there the power law is the logarithmic family."""

ATTEMPT_CURVES = (*CURVES, ANY_OF_K, BETA_BINOMIAL)
"""Those of success where x counts independent tries."""

LOG_NAMES = {LINEAR: "exponential", LOGARITHMIC: POWER, QUADRATIC_LOG: "log_quadratic"}
"""What a family of ln y is called as a family of y."""


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """A family's designs at m points, one for each of T shapes.

    Attributes:
        name: The family.
        names: The parameters: the linear ones, then the shape's.
        columns: One array [T, m] for each linear parameter.
        base: The part without a linear parameter [T, m].
        shapes: The shape parameters [T, s].
    """

    name: str
    names: tuple[str, ...]
    columns: tuple[Floats, ...]
    base: Floats
    shapes: Floats

    @property
    def size(self) -> int:
        """Count the parameters, linear and shape."""
        return len(self.names)


@dataclass(frozen=True, slots=True)
class Kind:
    """How a family is made: its parameters, its grid of shapes, and f at (x, shapes).

    `slopes` gives the derivatives of f by the shape parameters [s, k], at points [k], for one shape [s] and the linear
    parameters; it is absent where there is no shape, or where f has a kink in it.
    """

    names: tuple[str, ...]
    grid: Callable[[Floats], Floats]
    columns: Callable[[Floats, Floats, Floats], tuple[Floats, ...]]
    base: Callable[[Floats, Floats], Floats] | None = None
    slopes: Callable[[Floats, Floats, Floats], Floats] | None = None


@lru_cache(maxsize=512)
def _families(observed: bytes, at: bytes, names: tuple[str, ...]) -> tuple[Family, ...]:
    x, points = np.frombuffer(observed), np.frombuffer(at)
    return tuple(make(name, x, points) for name in names)


def families(names: Iterable[str], x: Floats, at: Floats) -> tuple[Family, ...]:
    """Make the families that m observed values can tell from the saturated law: fewer parameters than values.

    Args:
        names: The families wanted.
        x: The observed values, above zero, ascending; they decide the grids. [m]
        at: Where the designs are evaluated; the observed values first. [k]

    Raises:
        NotEnoughData: Fewer than two values.
    """
    m = len(x)
    if m < 2:  # noqa: PLR2004 - a curve
        message = f"a curve needs at least 2 distinct values above 0, there are {m}: run at another value too"
        raise NotEnoughData(message)
    # Two values cannot tell one shape from another: the logarithmic stands for all of them.
    kept = tuple(
        name
        for name in names
        if (name in {CONSTANT, LOGARITHMIC} if m == 2 else len(KINDS[name].names) < m)  # noqa: PLR2004
    )
    return _families(np.ascontiguousarray(x).tobytes(), np.ascontiguousarray(at).tobytes(), kept)


def make(name: str, x: Floats, at: Floats, shapes: Floats | None = None) -> Family:
    """Make one family's designs at the points `at`: over the grid of shapes that the observed x need, or as told."""
    kind = KINDS[name]
    shapes = kind.grid(x) if shapes is None else shapes
    columns = tuple(np.broadcast_to(column, (len(shapes), len(at))).copy() for column in kind.columns(x, at, shapes))
    base = np.zeros((len(shapes), len(at))) if kind.base is None else kind.base(at, shapes)
    return Family(name, kind.names, columns, base, shapes)


def _no_shape(x: Floats) -> Floats:
    del x
    return np.zeros((1, 0))


def _ones(at: Floats) -> Floats:
    return np.ones((1, len(at)))


def _hinge(x: Floats, at: Floats) -> Floats:
    """Give the axis on which breakpoints lie: x, or ln x where x spans a wide range."""
    return np.log(at) if x[-1] / x[0] > WIDE else at


def _breakpoints(x: Floats) -> Floats:
    """List the inner values and the middles between them and the last, on the hinge's axis."""
    axis = _hinge(x, x)
    inner = axis[1:]
    places = np.empty(2 * len(inner) - 2)
    places[0::2] = inner[:-1]
    places[1::2] = (inner[:-1] + inner[1:]) / 2
    found = places[:-1] if len(places) > 2 else places  # noqa: PLR2004
    return (np.exp(found) if x[-1] / x[0] > WIDE else found)[:, None]


def _steps(x: Floats) -> tuple[float, float]:
    return float(np.diff(x).min()), float(x[-1] - x[0])


def _tries(at: Floats, shapes: Floats) -> Floats:
    """1 - exp(-λ x^b), λ = -ln(1 - p)."""
    rate = -np.log1p(-shapes[:, :1])
    return np.asarray(-np.expm1(-rate * at ** shapes[:, 1:]))


def _heterogeneous_tries(at: Floats, shapes: Floats) -> Floats:
    """1 - E[(1 - p)^x], p ~ Beta, by the mean of p and its concentration (the sum of Beta's parameters)."""
    alpha, beta = shapes[:, :1] * shapes[:, 1:], (1 - shapes[:, :1]) * shapes[:, 1:]
    log_failure = gammaln(beta + at) - gammaln(beta) + gammaln(alpha + beta) - gammaln(alpha + beta + at)
    return np.asarray(-np.expm1(log_failure))


def _slopes_of_tries(at: Floats, shape: Floats, _: Floats) -> Floats:
    chance, exponent = shape
    rate = -np.log1p(-chance)
    tries = at**exponent
    failing = tries * np.exp(-rate * tries)
    return np.stack((failing / (1 - chance), rate * np.log(at) * failing))


def _slopes_of_heterogeneous_tries(at: Floats, shape: Floats, _: Floats) -> Floats:
    chance, concentration = shape
    beta = (1 - chance) * concentration
    failure = 1 - _heterogeneous_tries(at, shape[None])[0]
    by_beta = digamma(beta + at) - digamma(beta)
    by_concentration = digamma(concentration) - digamma(concentration + at)
    return np.asarray(-failure * np.stack((-concentration * by_beta, (1 - chance) * by_beta + by_concentration)))


def _pairs(first: Floats, second: Floats) -> Floats:
    return np.array([(p, q) for p in first.tolist() for q in second.tolist()])


CHANCES = 1 / (1 + np.exp(-np.linspace(-6.0, 4.0, 11)))
"""Chances of a single try."""

KINDS: dict[str, Kind] = {
    CONSTANT: Kind(("level",), _no_shape, lambda _, at, __: (_ones(at),)),
    LINEAR: Kind(("intercept", "slope"), _no_shape, lambda _, at, __: (_ones(at), at[None])),
    LOGARITHMIC: Kind(("intercept", "slope"), _no_shape, lambda _, at, __: (_ones(at), np.log(at)[None])),
    QUADRATIC_LOG: Kind(
        ("intercept", "slope", "curvature"),
        _no_shape,
        lambda _, at, __: (_ones(at), np.log(at)[None], np.log(at)[None] ** 2),
    ),
    POWER: Kind(
        ("coefficient", "exponent"),
        lambda x: (np.linspace(-6.25, 6.25, 41) / np.log(x[-1] / x[0]))[:, None],
        lambda _, at, shapes: (at**shapes,),
        slopes=lambda at, shape, linear: (linear[0] * at ** shape[0] * np.log(at))[None],
    ),
    POWER_CEILING: Kind(
        ("ceiling", "deficit", "exponent"),
        lambda _: np.geomspace(0.1, 4.0, 13)[:, None],
        lambda _, at, shapes: (_ones(at), -(at**-shapes)),
        slopes=lambda at, shape, linear: (linear[1] * at ** -shape[0] * np.log(at))[None],
    ),
    SATURATING_EXPONENTIAL: Kind(
        ("ceiling", "deficit", "scale"),
        lambda x: np.geomspace(0.3 * _steps(x)[0], 3 * _steps(x)[1], 13)[:, None],
        lambda x, at, shapes: (_ones(at), -np.exp(-(at - x[0]) / shapes)),
        slopes=lambda at, shape, linear: (-linear[1] * np.exp(-(at - at[0]) / shape[0]) * (at - at[0]) / shape[0] ** 2)[
            None
        ],
    ),
    MICHAELIS_MENTEN: Kind(
        ("floor", "gain", "half_point"),
        lambda x: np.geomspace(x[0] / 4, 4 * x[-1], 13)[:, None],
        lambda _, at, shapes: (_ones(at), at / (shapes + at)),
        slopes=lambda at, shape, linear: (-linear[1] * at / (shape[0] + at) ** 2)[None],
    ),
    PLATEAU: Kind(
        ("intercept", "slope", "breakpoint"),
        _breakpoints,
        lambda x, at, shapes: (_ones(at), np.minimum(_hinge(x, at), _hinge(x, shapes))),
    ),
    HUMP: Kind(
        ("intercept", "slope", "slope_after", "breakpoint"),
        _breakpoints,
        lambda x, at, shapes: (
            _ones(at),
            np.minimum(_hinge(x, at), _hinge(x, shapes)),
            np.maximum(_hinge(x, at) - _hinge(x, shapes), 0.0),
        ),
    ),
    ANY_OF_K: Kind(
        ("chance", "exponent"),
        lambda _: _pairs(CHANCES, np.array([0.1, 0.25, 0.5, 0.75, 1.0, 1.3])),
        lambda _, __, ___: (),
        _tries,
        _slopes_of_tries,
    ),
    BETA_BINOMIAL: Kind(
        ("chance", "concentration"),
        lambda _: _pairs(CHANCES, np.geomspace(0.25, 256.0, 6)),
        lambda _, __, ___: (),
        _heterogeneous_tries,
        _slopes_of_heterogeneous_tries,
    ),
    SCALABILITY: Kind(
        ("log_first", "contention", "coherence"),
        lambda _: _pairs(
            np.array([0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0]),
            np.array([0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16]),
        ),
        lambda _, at, __: (_ones(at),),
        lambda at, shapes: np.log((1 + shapes[:, :1] * (at - 1) + shapes[:, 1:] * at * (at - 1)) / at),
        lambda at, shape, _: np.stack((at - 1, at * (at - 1))) / (1 + shape[0] * (at - 1) + shape[1] * at * (at - 1)),
    ),
}
