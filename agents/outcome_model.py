"""The outcome of a decision as a function of task and setting, fitted to the log: a regression.

A grid has thousands of settings, and most were tried once or never, so that one mean for each says nothing. The
regression need not be right. The probability of what was done is known, so a doubly robust value is right however wrong
the model is; a better model makes the interval shorter.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from agents.past_decisions import PastDecision, Valued
from agents.policies import Act
from analytics.decision_features import decision_features
from analytics.generalised_linear import Link
from analytics.moments import Floats
from analytics.policy_value import OutcomeModel, regression_model
from models.allocations import NUMBERS, Setting

MOST_GROUPS = 12
LEAST_IN_GROUP = 50
"""Only the largest contexts are told apart by the outcome model, and only where they have this many decisions."""


def outcome_model(decisions: Sequence[PastDecision], acts: Sequence[Act], y: Floats, outcome: Valued) -> OutcomeModel:
    """Model what decisions bring by agents, iterations, context, parallelism, size of the model, complexity and group.

    Where the policy leaves parallelism to the log the model knows nothing of it: it must say the same of what was done
    and of what the policy would do, wherever the two are taken to be the same.

    Args:
        decisions: N of them.
        acts: What the policy would have given each.
        y: What each brought. [N]
        outcome: What that is: a share has the link logit, a cost log, a net value none.
    """
    logged, policy = [each.setting for each in decisions], [act.setting for act in acts]
    named = not any(act.any_parallelism for act in acts)
    parts = [part for part in NUMBERS if named or part != "parallelism"]
    done, given = _amounts(logged, parts), _amounts(policy, parts)
    middle = np.exp(np.log(done).mean(axis=0))
    complexity = np.array([np.nan if each.complexity is None else each.complexity for each in decisions])
    sizes = sorted({setting.model_size for setting in (*logged, *policy)})[1:]
    contexts = _contexts(decisions)

    def features(amounts: Floats, settings: Sequence[Setting]) -> Floats:
        size = np.array([[setting.model_size == name for name in sizes] for setting in settings], np.float64)
        return decision_features(amounts / middle, complexity, np.hstack((size, contexts)))

    return regression_model(features(done, logged), features(given, policy), y, _link(outcome, y))


def _amounts(settings: Sequence[Setting], parts: Sequence[str]) -> Floats:
    """Give the parts of settings in columns. [N, k]."""
    return np.maximum(np.array([[getattr(each, part) for part in parts] for each in settings], np.float64), 1.0)


def _contexts(decisions: Sequence[PastDecision]) -> Floats:
    """Mark the largest contexts; complexity is a feature of its own. [N, g]."""
    size = Counter(name for each in decisions for name in each.contexts if not name.startswith("complexity_band="))
    large = [name for name, n in size.most_common() if LEAST_IN_GROUP <= n < len(decisions)][:MOST_GROUPS]
    return np.array([[name in each.contexts for name in large] for each in decisions], np.float64)


def _link(outcome: Valued, y: Floats) -> Link:
    if outcome in {Valued.SUCCESS, Valued.QUALITY_SCORE}:
        return "logit"
    return "log" if outcome is Valued.TOTAL_COST and y.min() > 0 else "identity"
