"""Advice to a run that is under way: is another iteration worth it?

With S(i) the probability of success within i iterations and C(i) their mean cost, a run that has used i without success
succeeds within k more with the probability

    h(k) = (S(i + k) - S(i)) / (1 - S(i))

and goes on if some k makes value · h(k) > C(i + k) - C(i) within its budget.
"""

import math

import numpy as np

from agents.joint_prospect import SIZE, billions
from agents.lawbook import LawBook
from agents.prices import prices_of
from agents.tasks import complexity_of_task, contexts_of_task, field_of_task
from analytics.joint_laws import BEYOND, Predictor, SettingGrid
from analytics.moments import Floats
from models.allocations import Advice, AdviseRequest
from models.dimensions import Basis, Dimension, Outcome
from models.errors import NotEnoughData
from models.joint_laws import JointLaw
from models.settings import Settings


def advise(request: AdviseRequest, book: LawBook, settings: Settings) -> Advice:
    """Weigh further iterations.

    Args:
        request: The run so far.
        book: The laws.
        settings: The price table, where no law of cost speaks over iterations, and the value of a success.

    Raises:
        NotEnoughData: No joint law of success over iterations speaks for the task.
        InvalidEvent: A field of the task has a wrong value.
        SettingsError: The model size is no number, and the law counts billions of parameters.
    """
    contexts, complexity = contexts_of_task(request.task, settings), complexity_of_task(request.task, settings)
    law, silent = book.joint(contexts, Outcome.SUCCESS)
    if law is None or Dimension.ITERATIONS not in law.support:
        reasons = "; ".join(silent) or "publish runs that vary max_iterations"
        raise NotEnoughData(f"no joint law of success over iterations speaks for this task: {reasons}")
    used, most = request.iterations_used, math.floor(BEYOND * law.support[Dimension.ITERATIONS][1])
    most = min(most, settings.most_iterations)
    if used >= most:
        why = f"The law speaks of {most} iterations at most, and {used} are used."
        return Advice(go_on=False, chance=0.0, cost=0.0, further=0, worth=0.0, laws={law.law_id: law.version}, why=why)
    steps = np.arange(used, most + 1, dtype=np.float64)
    success = Predictor.of(law).mean(_grid(request, steps, complexity, law))
    cost, source = _cost(request, steps, complexity, book, settings, contexts)
    # A fitted law may dip; more iterations never take a success away.
    success = np.maximum.accumulate(success)
    chance = (success[1:] - success[0]) / max(1 - success[0], 1e-12)
    price = np.maximum(cost[1:] - cost[0], 0.0)
    value = request.value if request.value is not None else settings.value_of_success
    left = math.inf if request.budget is None else request.budget - request.cost_so_far
    worth = np.where(price <= left, value * chance - price, -np.inf)
    best = int(np.argmax(worth))
    go_on = bool(worth[best] > 0)
    laws = {law.law_id: law.version} | ({source.law_id: source.version} if source else {})
    if go_on:
        why = f"{best + 1} more would succeed with {chance[best]:.0%} for {price[best]:.4g} dollars: worth it."
    elif price[0] > left:
        why = f"One more costs an expected {price[0]:.4g} dollars, and {max(left, 0.0):.4g} are left."
    else:
        why = f"One more would succeed with {chance[0]:.1%}, worth {value * chance[0]:.4g}, for {price[0]:.4g} dollars."
    return Advice(
        go_on=go_on,
        chance=float(chance[0]),
        cost=float(price[0]),
        further=best + 1 if go_on else 0,
        worth=float(worth[best]) if go_on else float(value * chance[0] - price[0]),
        laws=laws,
        why=why,
    )


def _grid(request: AdviseRequest, steps: Floats, complexity: float | None, law: JointLaw) -> SettingGrid:
    values = {
        Dimension.AGENT_COUNT: np.full(len(steps), float(request.agent_count)),
        Dimension.ITERATIONS: steps,
        Dimension.CONTEXT: np.full(len(steps), float(request.context_budget)),
        Dimension.PARALLELISM_LEVEL: np.full(len(steps), float(request.parallelism)),
    }
    if request.model_size and law.bases.get(SIZE) == Basis.REALISED:
        return SettingGrid({**values, Dimension.MODEL_SIZE: np.asarray(billions(request.model_size))}, complexity)
    size = request.model_size or field_of_task(request.task, "model_size_category")
    return SettingGrid(values, complexity, size if isinstance(size, str) else None)


def _cost(  # noqa: PLR0917 - what a price depends on
    request: AdviseRequest,
    steps: Floats,
    complexity: float | None,
    book: LawBook,
    settings: Settings,
    contexts: list[str],
) -> tuple[Floats, JointLaw | None]:
    """Give the cost at each number of iterations, and its law; by the price table where none speaks of iterations."""
    law, _ = book.joint(contexts, Outcome.TOTAL_COST)
    if law is not None and Dimension.ITERATIONS in law.support:
        return Predictor.of(law).mean(_grid(request, steps, complexity, law)), law
    model = field_of_task(request.task, "model")
    prices = prices_of(contexts, model if isinstance(model, str) else "", book, settings)
    return prices.by_part["max_iterations"].dollars * steps, None
