"""Dimensions (what is scaled), outcomes (what it buys), and the variables whose moments a cell keeps."""

from enum import StrEnum


class Dimension(StrEnum):
    """What an orchestrator chooses more or less of."""

    AGENT_COUNT = "agent_count"
    ITERATIONS = "iterations"
    PARALLELISM_LEVEL = "parallelism_level"
    CONTEXT = "context"
    MODEL_SIZE = "model_size"
    ATTEMPTS = "attempts"


class Outcome(StrEnum):
    """What a run brought and what it took.

    The last two need products of success and quality, which live cells do not keep: quality of the successful runs,
    and quality that counts as zero where a run failed. The audited tier has them.
    """

    SUCCESS = "success"
    QUALITY_SCORE = "quality_score"
    TIME_TO_COMPLETE = "time_to_complete"
    TOTAL_COST = "total_cost"
    QUALITY_GIVEN_SUCCESS = "quality_given_success"
    SUCCESS_TIMES_QUALITY = "success_times_quality"


LIVE_OUTCOMES: tuple[Outcome, ...] = tuple(Outcome)[:4]
"""The outcomes that the live tier has laws of."""

LESS_IS_BETTER = frozenset({Outcome.TIME_TO_COMPLETE, Outcome.TOTAL_COST})


class Basis(StrEnum):
    """How a dimension was measured: a limit set beforehand, what the run used, or a label without a number.

    A limit (`dose`) is chosen before the run; a realised count is also an outcome of difficulty. The two never share
    a cell. `category` is a model size without a parameter count.
    """

    DOSE = "dose"
    REALISED = "realised"
    CATEGORY = "category"


class Source(StrEnum):
    """Where the setting of a run came from."""

    OBSERVATIONAL = "observational"
    POLICY = "policy"


class Variable(StrEnum):
    """The variables whose joint moments every value cell keeps, in the order of its arrays.

    `ln_time` is ln max(time, 0.001 s): the clock's resolution and the document's clip are the same number.
    `ln_cost` exists for costs above zero only; the mask of a cell tells them apart.
    The clipped logarithm of success is not kept: it is ln(0.001) · (1 - success).
    """

    SUCCESS = "success"
    QUALITY = "quality_score"
    TIME = "time_to_complete"
    COST = "total_cost"
    LN_TIME = "ln_time"
    LN_COST = "ln_cost"
    CLIPPED_LN_QUALITY = "clipped_ln_quality"
    CLIPPED_LN_COST = "clipped_ln_cost"
    X = "x"
    LN_X = "ln_x"


CLIP = 0.001
"""The floor under an outcome before its logarithm is taken, as the design document has it."""

VARIABLES: tuple[Variable, ...] = tuple(Variable)
OUTCOME_VARIABLES: tuple[Variable, ...] = VARIABLES[:8]

MASK_BITS: dict[str, int] = {
    "success": 1,
    "quality_score": 2,
    "time_to_complete": 4,
    "total_cost": 8,
    "positive_cost": 16,
}
"""The mask of a cell: which outcomes its runs carry (and whether ln cost exists)."""

BASES: dict[Dimension, tuple[Basis, ...]] = {
    Dimension.AGENT_COUNT: (Basis.REALISED,),
    Dimension.ITERATIONS: (Basis.DOSE, Basis.REALISED),
    Dimension.PARALLELISM_LEVEL: (Basis.REALISED,),
    Dimension.CONTEXT: (Basis.DOSE, Basis.REALISED),
    Dimension.MODEL_SIZE: (Basis.REALISED, Basis.CATEGORY),
    Dimension.ATTEMPTS: (Basis.DOSE, Basis.REALISED),
}
"""The bases of each dimension, the preferred first: a law uses the first that has two distinct values."""

SIZE_CATEGORIES: tuple[str, ...] = ("small", "medium", "large")
