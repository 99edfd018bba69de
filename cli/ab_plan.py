"""What an A/B test would take, in words, before it starts."""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import structs

from agents.ab import running
from agents.ab_result import plan_of, points, tasks_in_all
from analytics.sentences import count
from cli.report.ab_page import setting_words
from cli.report.numbers import percent
from models.allocations import NUMBERS, ABTest, Setting
from models.contexts import GLOBAL
from models.errors import InvalidExperiment
from streams.ab_log import Past

EXAMPLE = "agent_count=3,max_iterations=5,context_budget=32000,parallelism=3"

ENOUGH_RUNS = 30
"""Runs from which the success rate and the spread of costs are taken from them."""

ANY_LOSS = 0.999
"""A margin that asks for no run."""

DECIDES = 1.2
"""The margin is worth a word if it takes this many times the runs of the gain."""

BETTER_BY = (0.01, 0.02)
WIDER = (2, 3)
"""What is suggested: expected differences of success, and multiples of the margin."""


def setting_of(text: str) -> Setting:
    """Read a setting: part=value, separated by commas; model_size may be left out.

    Raises:
        InvalidExperiment: A part is missing, unknown or no positive whole number, or parallelism exceeds the agents.
    """
    given = dict(part.strip().partition("=")[::2] for part in text.split(",") if part.strip())
    wrong = {*given} - {*NUMBERS, "model_size"} | {*NUMBERS} - {*given}
    size = given.pop("model_size", "")
    if wrong or not all(value.isdecimal() and int(value) > 0 for value in given.values()):
        raise InvalidExperiment(f"--fixed {text}: give whole numbers above 0 as in {EXAMPLE}")
    agents, iterations, context, parallelism = (int(given[part]) for part in NUMBERS)
    setting = Setting(agents, iterations, context, parallelism, size)
    if setting.parallelism > setting.agent_count:
        raise InvalidExperiment(
            f"--fixed {text}: parallelism may not exceed agent_count = {setting.agent_count}; give as much or less"
        )
    return setting


def refuse(test: ABTest, known: Mapping[str, ABTest]) -> None:
    """Refuse a test that exists, or that would get no task.

    Raises:
        InvalidExperiment: The message says which test stands in its way.
    """
    if test.test_id in known:
        raise InvalidExperiment(f"there is an A/B test {test.test_id} already: give another id, ids are not used again")
    for other in running(known.values()):
        if other.context in {test.context, GLOBAL}:
            raise InvalidExperiment(
                f"A/B test {other.test_id} runs on {other.context} and a task takes part in one test only: "
                f"wait for it, or end it with scaling ab end {other.test_id}"
            )


def plan_sentences(test: ABTest, past: Past | None, known: Sequence[ABTest] = ()) -> Iterator[str]:
    """Say what a test would take, what that rests on, and what to mind.

    Args:
        test: The test.
        past: What runs of its context tell; None where they are too few or could not be asked.
        known: All tests.

    Raises:
        NotEnoughData: There is nothing to find, such as an expected loss beyond the margin.
    """
    plan, margin = plan_of(test), points(test.margin)
    tasks = "all tasks" if test.context == GLOBAL else f"tasks of {test.context}"
    yield (
        f"A/B test {test.test_id}: dynamic allocation against {setting_words(test.fixed)}, for {tasks}, "
        f"{percent(test.share)} of them dynamic."
    )
    yield (
        f"Plan: {count(plan.runs_per_arm, 'run')} in each of two equal arms, or "
        f"{count(tasks_in_all(plan, test.share), 'task')} in all, show with probability 0.8 each that dynamic "
        f"allocation brings {percent(test.gain)} more successes per dollar and loses no more than {margin} of success."
    )
    yield "You may look as often as you like and end the test at any look."
    told = f"success rate {percent(test.rate)}, standard deviation of a run's cost {percent(test.cost_cv)} of its mean"
    source = (
        "what was not given is assumed" if past is None else f"where not given, of {count(past.runs, 'run')} so far"
    )
    yield f"Expected: {told}; {source}."
    of_gain = plan_of(structs.replace(test, margin=ANY_LOSS, difference=0.0)).runs_per_arm
    if plan.runs_per_arm > DECIDES * of_gain:
        yield (
            f"Mind: the gain alone takes {count(of_gain, 'run')} in each arm. The rest is for showing that no more "
            f"than {margin} of success is lost, where a true difference of {100 * test.difference:+.3g} points is "
            f"expected. {_ways(test)}."
        )
    for other in running(known):
        yield f"Mind: {other.test_id} runs on {other.context}, began earlier, and takes the tasks that both cover."


def _ways(test: ABTest) -> str:
    ways = [
        *(({"difference": more}, f"--difference {more:g}") for more in BETTER_BY if more > test.difference),
        *(({"margin": times * test.margin}, f"--margin {times * test.margin:g}") for times in WIDER),
    ]
    return "Fewer would do: " + "; ".join(
        f"{option} ({count(plan_of(structs.replace(test, **change)).runs_per_arm, 'run')})"
        for change, option in ways
        if change.get("margin", 0.0) < 1
    )
