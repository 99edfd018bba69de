"""What a policy would have brought, from the decisions that the allocator logged and the runs that followed them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from agents.evaluation_notes import notes_on, sentence_on
from agents.outcome_model import outcome_model
from agents.past_decisions import PastDecision, Valued
from agents.policies import Act, Policy
from analytics.moments import Floats
from analytics.policy_value import LEAST_ESS, Logged, PolicyValue, doubly_robust, policy_value
from analytics.sentences import count
from models.errors import NotEnoughData

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The value of a policy.

    Attributes:
        policy: Its name.
        outcome: What is valued.
        found: The doubly robust value, and the others beside it.
        pending: Decisions without a run yet.
        incomplete: Decisions whose run lacks the outcome.
        without_propensity: Decisions whose propensity is not within (0, 1]; like the two before they are left out.
        tasks: How many tasks the decisions are about.
        rules: How many decisions each of the policy's rules decides.
        sentence: The value in words.
        notes: What to be careful about.
    """

    policy: str
    outcome: Valued
    found: PolicyValue
    pending: int
    incomplete: int
    without_propensity: int
    tasks: int
    rules: list[int]
    sentence: str
    notes: list[str]


def evaluate(
    decisions: Iterable[PastDecision],
    policy: Policy,
    outcome: Valued = Valued.SUCCESS,
    *,
    value: float = 1.0,
    least_ess: float = LEAST_ESS,
) -> Evaluation:
    """Value a policy by what was logged: doubly robust, cross-fitted over tasks, errors by task.

    Args:
        decisions: The log.
        policy: What would have been done.
        outcome: What is valued.
        value: Of a success in dollars, for the net value.
        least_ess: Below this effective sample size there is no value.

    Raises:
        NotEnoughData: Too small an effective sample size, or too little to fit the outcome model on.
    """
    log = list(decisions)
    ended = [each for each in log if each.ended]
    weighted = [each for each in ended if 0 < each.propensity <= 1]
    known = [(each, y) for each in weighted if (y := each.brought(outcome, value)) is not None]
    if len(known) < 2:  # noqa: PLR2004 - a mean with an error
        raise NotEnoughData(
            f"{outcome} is known of {count(len(known), 'decision')} of {len(log)}, a value needs 2: runs must echo the "
            "decision_id of their allocation"
        )
    kept = [each for each, _ in known]
    acts = [policy.act(each.choice, each.contexts) for each in kept]
    logged = _logged(kept, acts, np.array([y for _, y in known]), policy)
    try:
        if policy.logged:
            found = _mean_of(logged)
        else:
            found = policy_value(logged, outcome_model(kept, acts, logged.outcome, outcome), least_ess=least_ess)
    except NotEnoughData as error:
        raise NotEnoughData(f"{policy.name} cannot be valued yet: {error}") from None
    used = Counter(act.rule for act in acts)
    rules = [used[place] for place in range(len(policy.rules))]
    return Evaluation(
        policy=policy.name,
        outcome=outcome,
        found=found,
        pending=len(log) - len(ended),
        incomplete=len(weighted) - len(kept),
        without_propensity=len(ended) - len(weighted),
        tasks=len({each.task for each in kept}),
        rules=rules,
        sentence=sentence_on(policy, outcome, found),
        notes=list(notes_on(policy, rules, found, unknown=(len(log) - len(kept)) / len(log))),
    )


def _logged(kept: Sequence[PastDecision], acts: Sequence[Act], outcome: Floats, policy: Policy) -> Logged:
    propensity = np.array([each.propensity for each in kept])
    same = np.array([act.equals(each.setting) for each, act in zip(kept, acts, strict=True)], np.float64)
    number: dict[str, int] = {}
    tasks = np.array([number.setdefault(each.task, len(number)) for each in kept], np.int64)
    return Logged(
        outcome=outcome,
        propensity=propensity,
        chosen=propensity if policy.logged else same,
        fold=np.array([xxhash.xxh64_intdigest(each.task.encode()) % FOLDS for each in kept], np.int64),
        cluster=tasks if len(number) < len(kept) else None,
    )


def _mean_of(logged: Logged) -> PolicyValue:
    """Give the mean of what was done in the shape of a value; every decision matches."""
    mean = np.full(len(logged), logged.outcome.mean())
    return doubly_robust(logged, mean, mean)
