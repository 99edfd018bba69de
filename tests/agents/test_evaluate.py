"""Policies valued from simulated logs whose truth is known."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from agents.evaluate import evaluate
from agents.past_decisions import PastDecision, Valued
from agents.policies import parse_policy, read_rules
from models.allocations import Setting
from models.errors import NotEnoughData

AGENTS = (1, 2, 3, 4, 6, 8)
RATE = 0.3
LOGGED, GREEDY, FOUR = map(parse_policy, ("logged", "greedy", "agent_count=4"))


def setting(agents: int) -> Setting:
    """Give so many agents, and everything else as always."""
    return Setting(agents, 5, 32_000, agents)


def choice(z: float) -> int:
    """Choose more agents for harder tasks."""
    return 2 if z < 0.5 else 4


def success(z: float, agents: int) -> float:
    """Give the true probability of success."""
    return float(expit(0.6 * math.log(agents) - 0.3 - 3 * (z - 0.5)))


def log(seed: int, size: int = 4000, rate: float = RATE, trials: int = 1) -> list[PastDecision]:
    """Log decisions of which a share tries one of six numbers of agents; an agent costs ten cents or so.

    The trials of a task share its luck.
    """
    rng = np.random.default_rng(seed)
    tasks = size // trials
    complexity, luck = rng.random(tasks).tolist(), rng.random(tasks).tolist()
    tried = np.where(rng.random(size) < rate, rng.choice(AGENTS, size), 0).tolist()
    noise = rng.lognormal(-0.02, 0.2, size).tolist()
    decisions = []
    for place in range(size):
        task = place // trials
        z = complexity[task]
        chosen = choice(z)
        agents = tried[place] or chosen
        rate_of_success = success(z, agents)
        decisions.append(
            PastDecision(
                f"d-{place}",
                setting(agents),
                setting(chosen),
                (1 - rate) * (agents == chosen) + rate / len(AGENTS),
                ("global", "complexity_band=high" if z >= 0.8 else "complexity_band=low", f"project=p{task % 3}"),
                z,
                f"t-{seed}-{task}",
                success=float(luck[task] < rate_of_success),
                quality_score=rate_of_success,
                total_cost=0.1 * agents * noise[place],
            )
        )
    return decisions


def always(agents: int) -> Callable[[float], int]:
    """Give every task so many agents."""
    return lambda _: agents


def truth(agents: Callable[[float], int], value: Callable[[float, int], float] = success) -> float:
    """Integrate what a policy brings over tasks."""
    middles = (np.arange(2000) + 0.5) / 2000
    return float(np.mean([value(z, agents(z)) for z in middles]))


def test_intervals_cover_what_a_policy_would_have_brought() -> None:
    """In 25 logs the intervals of value and difference cover the truth about as often as they say."""
    right = {"greedy": truth(choice), "agent_count=4": truth(always(4))}
    done = (1 - RATE) * right["greedy"] + RATE * float(np.mean([truth(always(agents)) for agents in AGENTS]))
    covered = []
    for seed in range(25):
        decisions = log(seed, 2000)
        for policy in (GREEDY, FOUR):
            found = evaluate(decisions, policy, least_ess=0).found
            gain = right[policy.name] - done
            covered.append(found.value.lo <= right[policy.name] <= found.value.hi)
            covered.append(found.gain.lo <= gain <= found.gain.hi)
    assert np.mean(covered) >= 0.9


@pytest.mark.parametrize("outcome", list(Valued))
def test_every_outcome_is_valued(outcome: Valued) -> None:
    """Success, quality, cost and net value of four agents come out right, and so does the paired difference."""

    def brought(z: float, agents: int) -> float:
        of = {Valued.TOTAL_COST: 0.1 * agents, Valued.NET: 2 * success(z, agents) - 0.1 * agents}
        return of.get(outcome, success(z, agents))

    decisions = log(1, 6000)
    found = evaluate(decisions, FOUR, outcome, value=2.0)
    right = truth(always(4), brought)
    assert found.found.value.estimate == pytest.approx(right, abs=4 * found.found.value.se)
    assert found.found.modelled == pytest.approx(right, abs=0.05)
    assert found.found.weight.estimate == pytest.approx(1, abs=4 * found.found.weight.se)
    assert found.notes == []
    logged = evaluate(decisions, LOGGED, outcome, value=2.0).found
    gain = found.found.value.estimate - logged.value.estimate
    assert found.found.gain.estimate == pytest.approx(gain)
    assert found.found.gain.se < math.hypot(found.found.value.se, logged.value.se)


def test_what_was_done_is_valued_by_its_mean() -> None:
    """Logged is the plain mean with its error: no weights, no model, no least sample."""
    decisions = log(2, 100)
    found = evaluate(decisions, LOGGED)
    y = np.array([each.success for each in decisions])
    values = found.found
    assert values.value.estimate == values.snips.estimate == values.ips.estimate == pytest.approx(y.mean())
    assert values.value.se == pytest.approx(y.std(ddof=1) / 10)
    assert (values.n, values.matched, values.ess, values.gain.estimate) == (100, 100, 100, 0)
    assert found.sentence.startswith(f"What was done brought a success rate of {y.mean():.4f} [")


def test_rules_decide_by_context() -> None:
    """Eight agents for the hardest tasks, the choice for the others; a rule that decides nothing is told."""
    document = (
        b'[{"context": "complexity_band=high", "setting": {"agent_count": 8}},'
        b' {"context": "project=x", "setting": {"agent_count": 1}}]'
    )
    decisions = log(3, 8000)
    found = evaluate(decisions, read_rules("@r.json", document))
    right = truth(lambda z: 8 if z >= 0.8 else choice(z))
    assert found.found.value.estimate == pytest.approx(right, abs=4 * found.found.value.se)
    assert found.rules == [sum("complexity_band=high" in each.contexts for each in decisions), 0]
    assert found.notes == ["the rule for project=x decides nothing: no decision is there, or an earlier rule has it"]


def test_a_value_is_said_in_words() -> None:
    """More, less, or not to be told from what was done."""
    decisions = log(4, 8000)
    one, eight = (evaluate(decisions, parse_policy(f"agent_count={n}"), least_ess=0).sentence for n in (1, 8))
    assert one.startswith("agent_count=1 would have brought a success rate of ")
    assert ", less than what was done: -" in one
    assert ", more than what was done: +" in eight
    same = evaluate(log(5, 300), GREEDY).sentence
    assert ", which cannot be told from what was done: " in same


def test_too_few_matches_are_refused_with_what_would_do() -> None:
    """At 2 % exploration a setting that is never chosen is worth nothing yet; one that is never tried has no value."""
    decisions = log(6, 4000, 0.02)
    pattern = r"agent_count=8 cannot be valued yet: effective sample size \d+ of 4000 decisions .*about \d+ decisions"
    with pytest.raises(NotEnoughData, match=pattern):
        evaluate(decisions, parse_policy("agent_count=8"))
    with pytest.raises(NotEnoughData, match="no logged decision is one that the policy makes"):
        evaluate(decisions, parse_policy("agent_count=5"))


def test_what_has_no_outcome_or_propensity_is_left_out_and_counted() -> None:
    """Decisions without a run, without the outcome, and without a probability."""
    decisions = log(7, 2000)
    found = evaluate(
        [
            *(replace(each, ended=False, success=None) for each in decisions[:400]),
            *(replace(each, success=None) for each in decisions[400:500]),
            *(replace(each, propensity=0.0) for each in decisions[500:600]),
            *decisions[600:],
        ],
        GREEDY,
    )
    assert (found.pending, found.incomplete, found.without_propensity) == (400, 100, 100)
    assert (found.found.n, found.tasks) == (1400, 1400)
    assert found.notes == ["30% of the decisions are left out: if theirs are other outcomes, the values are not all's"]


def test_repeated_tasks_are_clusters() -> None:
    """Trials of a task lie in one fold and count as one where errors are concerned."""
    decisions = log(8, 4000, trials=4)
    found = evaluate(decisions, GREEDY)
    assert (found.tasks, found.found.n) == (1000, 4000)
    independent = found.found.value.se_classical
    assert independent is not None
    assert found.found.value.se > 1.2 * independent


def test_no_outcome_at_all_says_what_is_missing() -> None:
    """Runs must echo the decision."""
    with pytest.raises(NotEnoughData, match="success is known of 0 decisions of 3, a value needs 2: runs must echo"):
        evaluate([replace(each, ended=False, success=None) for each in log(9, 3)], GREEDY)


def test_what_the_log_could_not_do_is_told() -> None:
    """Where budgets kept the log from trying, weights average less than 1."""
    decisions = [each for each in log(10, 6000) if "project=p0" not in each.contexts or each.setting.agent_count < 8]
    found = evaluate(decisions, parse_policy("agent_count=8"), least_ess=0)
    (note,) = found.notes
    assert "the log could not have done what the policy does" in note


def test_parallelism_that_a_policy_leaves_out_is_the_logs() -> None:
    """It does not decide whether two settings are the same, nor what the model makes of them."""
    decisions = [
        replace(each, setting=replace(each.setting, parallelism=1 + place % 2), propensity=each.propensity / 2)
        for place, each in enumerate(log(13, 6000))
    ]
    found = evaluate(decisions, FOUR)
    assert found.found.value.estimate == pytest.approx(truth(always(4)), abs=4 * found.found.value.se)
    assert found.found.snips.estimate == pytest.approx(truth(always(4)), abs=4 * found.found.snips.se)
    assert "varied the parallelism that the policy leaves out; IPS is too large" in found.notes[0]


def test_propensities_that_are_too_small_are_told() -> None:
    """Weights that average more than 1 are not those of the log."""
    decisions = [replace(each, propensity=each.propensity / 2) for each in log(11, 3000)]
    assert "the logged propensities are too small" in evaluate(decisions, GREEDY).notes[0]


def test_decisions_without_complexity_and_with_sizes_are_modelled() -> None:
    """Sizes of models and contexts are features; tasks without a complexity have the mean of their kind."""
    rng = np.random.default_rng(12)
    decisions = []
    for each in log(12, 4000, 1.0):
        size = "large" if rng.random() < 0.5 else "small"
        better = float(rng.random() < (0.8 if size == "large" else 0.3))
        known = None if rng.random() < 0.5 else each.complexity
        decisions.append(
            replace(
                each,
                setting=replace(each.setting, model_size=size),
                propensity=each.propensity / 2,
                complexity=known,
                success=better,
            )
        )
    found = evaluate(decisions, parse_policy("model_size=large,agent_count=2"))
    assert found.found.value.estimate == pytest.approx(0.8, abs=4 * found.found.value.se)
    assert found.found.modelled == pytest.approx(0.8, abs=0.03)
