"""The prospects of tasks: built from the law book, and kept for as long as the laws behind them stand."""

from collections.abc import Iterable, Sequence

from agents.joint_prospect import JointProspects
from agents.lawbook import LawBook
from agents.limits import Scope
from agents.marginal_prospect import Marginals, marginal_prospect, marginals_of
from agents.prices import Prices, prices_of
from agents.prospect import AnyLaw, Prospect
from agents.recent import Recent
from agents.tasks import Task, field_of_task
from models.dimensions import Outcome
from models.errors import NotEnoughData
from models.joint_laws import JointLaw
from models.settings import Settings

BOUGHT = (Outcome.SUCCESS, Outcome.QUALITY_SCORE)
"""What can be bought, and in which order laws of it are looked for."""

SURFACES, PROSPECTS = 8, 24
"""Sets of joint laws, and prospects, that are kept: at the default limits some 20 and 6 MB each."""


class Prospects:
    """Gives the prospect of a task from the best source there is: joint laws, laws of single dimensions, defaults."""

    def __init__(self, book: LawBook, settings: Settings) -> None:
        self._book = book
        self._settings = settings
        self._joint: Recent[object, JointProspects] = Recent(SURFACES)
        self._known: Recent[object, Prospect] = Recent(PROSPECTS)
        self._asked: Recent[object, Prospect] = Recent(PROSPECTS)

    def of(
        self,
        task: Task,
        contexts: Sequence[str],
        complexity: float | None,
        outcome: Outcome | None,
        scope: Scope,
    ) -> Prospect:
        """Give the prospect of a task.

        Args:
            task: Its model and model_size_category are read.
            contexts: It belongs to.
            complexity: Of it, in steps; None where it has none.
            outcome: What is bought; absent: success, or quality where only that has a law.
            scope: What may be chosen.
        """
        model, size = self._model(task), field_of_task(task, "model_size_category")
        key = tuple(contexts), complexity, outcome, scope, model, size, self._book.revision
        return self._asked.once(key, lambda: self._of(task, contexts, complexity, outcome, scope))

    def _of(
        self,
        task: Task,
        contexts: Sequence[str],
        complexity: float | None,
        outcome: Outcome | None,
        scope: Scope,
    ) -> Prospect:
        asked = BOUGHT if outcome is None else (outcome,)
        prices = prices_of(contexts, self._model(task), self._book, self._settings)
        silent: list[str] = []
        for each in asked:
            law, reasons = self._book.joint(contexts, each)
            silent += reasons
            try:
                if law is not None:
                    return self._by_joint_laws(each, law, task, contexts, complexity, scope, tuple(silent))
                marginals = marginals_of(contexts, self._book, (each,))
                if marginals.laws:
                    return self._by_single_laws(marginals, prices, scope, tuple(silent))
            except NotEnoughData as reason:
                silent.append(str(reason))
        return self._by_single_laws(marginals_of(contexts, self._book, asked), prices, scope, tuple(silent))

    def _by_single_laws(self, marginals: Marginals, prices: Prices, scope: Scope, silent: tuple[str, ...]) -> Prospect:
        key = "marginal", marginals.outcome, _versions([*marginals.used, *prices.laws]), prices.table, scope, silent
        return self._known.once(key, lambda: marginal_prospect(marginals, prices, scope, silent))

    def marginals(self, contexts: Sequence[str], task: Task, outcome: Outcome | None) -> tuple[Marginals, Prices]:
        """Give the laws of single dimensions and the prices that the closed form works with."""
        asked = BOUGHT if outcome is None else (outcome,)
        return (
            marginals_of(contexts, self._book, asked),
            prices_of(contexts, self._model(task), self._book, self._settings),
        )

    def _by_joint_laws(  # noqa: PLR0917 - as `of`
        self,
        outcome: Outcome,
        law: JointLaw,
        task: Task,
        contexts: Sequence[str],
        complexity: float | None,
        scope: Scope,
        silent: tuple[str, ...],
    ) -> Prospect:
        laws: dict[Outcome, JointLaw] = {outcome: law}
        for other in (*BOUGHT, Outcome.TOTAL_COST, Outcome.TIME_TO_COMPLETE):
            if other != outcome:
                beside, reasons = self._book.joint(contexts, other)
                silent += tuple(reasons)
                laws |= {other: beside} if beside else {}
        prices = prices_of(contexts, self._model(task), self._book, self._settings)
        size = field_of_task(task, "model_size_category")
        category = size if isinstance(size, str) else None
        key = outcome, _versions(laws.values()), _versions(prices.laws), prices.table, scope, category

        def surfaces() -> JointProspects:
            return JointProspects(outcome, laws, prices, scope, category)

        def build() -> Prospect:
            return self._joint.once(key, surfaces).at(complexity, silent)

        return self._known.once((*key, complexity, silent), build)

    def _model(self, task: Task) -> str:
        model = field_of_task(task, "model")
        return model if isinstance(model, str) else ""


def _versions(laws: Iterable[AnyLaw]) -> tuple[tuple[str, int, int], ...]:
    return tuple((law.law_id, law.epoch, law.version) for law in laws)
