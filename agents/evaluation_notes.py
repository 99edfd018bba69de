"""The value of a policy in words, and what to be careful about."""

from collections.abc import Iterator, Sequence

from agents.past_decisions import Valued
from agents.policies import Policy
from analytics.policy_value import PolicyValue
from analytics.sentences import count
from models.laws import Estimate

WORDS = {
    Valued.SUCCESS: "a success rate",
    Valued.QUALITY_SCORE: "a mean quality",
    Valued.TOTAL_COST: "a mean cost in dollars",
    Valued.NET: "a mean net value in dollars",
}

SURE = 3.0
"""Standard errors beyond which a mean weight is not 1 by chance."""

FEW = 0.05
"""Share of decisions without an outcome up to which nobody need mind them."""


def sentence_on(policy: Policy, outcome: Valued, found: PolicyValue) -> str:
    """Say what a policy would have brought, and whether that is more or less than what was done."""
    if policy.logged:
        return f"What was done brought {WORDS[outcome]} of {_interval(found.value)}, over {count(found.n, 'decision')}."
    gain = found.gain
    than = "more than" if gain.lo > 0 else "less than" if gain.hi < 0 else "which cannot be told from"
    return (
        f"{policy.name} would have brought {WORDS[outcome]} of {_interval(found.value)}, {than} what was done: "
        f"{gain.estimate:+.4f} [{gain.lo:+.4f}, {gain.hi:+.4f}]."
    )


def _interval(found: Estimate) -> str:
    return f"{found.estimate:.4f} [{found.lo:.4f}, {found.hi:.4f}]"


def notes_on(policy: Policy, rules: Sequence[int], found: PolicyValue, unknown: float) -> Iterator[str]:
    """Say what to be careful about.

    Args:
        policy: What is valued.
        rules: How many decisions each of its rules decides.
        found: Its value.
        unknown: The share of decisions that are left out.
    """
    for rule, n in zip(policy.rules, rules, strict=True):
        if not n:
            yield f"the rule for {rule.context} decides nothing: no decision is there, or an earlier rule has it"
    if unknown > FEW:
        yield f"{unknown:.0%} of the decisions are left out: if theirs are other outcomes, the values are not all's"
    weight = found.weight
    if weight.estimate + SURE * weight.se < 1:
        yield (
            f"weights average {weight.estimate:.2f} and not 1: for about {1 - weight.estimate:.0%} of the decisions "
            "the log could not have done what the policy does, and there the value is the outcome model's alone"
        )
    elif weight.estimate - SURE * weight.se > 1:
        yield (
            f"weights average {weight.estimate:.2f} and not 1: the logged propensities are too small, or the log "
            "varied the parallelism that the policy leaves out; IPS is too large"
        )
    if found.snips.hi < found.value.lo or found.value.hi < found.snips.lo:
        yield "the intervals of SNIPS and of the value do not meet: the outcome model and the log do not agree"
