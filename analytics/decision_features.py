"""Features of tasks and settings, from which an outcome model is fitted to logged decisions."""

import numpy as np

from analytics.moments import Floats


def decision_features(amounts: Floats, complexity: Floats, groups: Floats) -> Floats:
    """Give the columns of a regression, the first of them 1. [N, p].

    Equation: 1, l_k and l_k² for each ln amount l_k, z, z², z l_k, whether z is known, and each group.

    Args:
        amounts: Agents, iterations, context, ... of each decision, relative to their middle. [N, k]
        complexity: Of each task, within [0, 1]; nan where it is not known. [N]
        groups: Marks of what else sets decisions apart: sizes of models, contexts. [N, g]
    """
    ln = np.log(amounts)
    known = np.isfinite(complexity)
    z = np.where(known, complexity - 0.5, 0.0)[:, None]
    return np.hstack((np.ones_like(z), ln, ln * ln, z, z * z, z * ln, known[:, None], groups))
