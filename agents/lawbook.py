"""The law book: the newest law of each id, and which of them speaks for a task."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from models.contexts import GLOBAL, context_pairs
from models.dimensions import LESS_IS_BETTER, Dimension, Outcome
from models.errors import NotEnoughData
from models.experiments import TIER
from models.joint_laws import JOINT, JointLaw
from models.laws import Law, law_id

MIN_RUNS = 30
"""Runs that a value needs before it counts as evidence: the design document's minimum per condition."""

MIN_VALUES = 2

FRESH = 0.8
"""The share of what the live law has seen that an audited law must have seen to speak for it."""


def has_power(law: Law) -> bool:
    """Tell whether the law has a power fit of the mean."""
    return law.power is not None


def has_line(law: Law) -> bool:
    """Tell whether the law has a linear fit, whose slope is a unit cost."""
    return law.reference.linear is not None


def elasticity(law: Law) -> tuple[float, float]:
    """Give the exponent to act on, and its standard error: by how many per cent the outcome changes with one per cent.

    That of the pooled slope where the law alone is but exploratory, else of the adjusted law where there is one (a
    slope on ln x, over the mean where the outcome is not on the log scale), else the power law's.

    Raises:
        NotEnoughData: The law has none of them.
    """
    pooled = law.pooling.slope if law.status == "exploratory" and law.pooling is not None else None
    slope = pooled or (law.adjusted.slope if law.adjusted is not None else None)
    if slope is not None:
        if law.outcome in LESS_IS_BETTER:
            return slope.estimate, slope.se
        mean = mean_outcome(law)
        if mean > 0:
            return slope.estimate / mean, slope.se / mean
    if law.power is None:
        raise NotEnoughData(f"law {law.law_id} has no power fit: {law.missing.get('power', 'wait for the next refit')}")
    return law.power.exponent.estimate, law.power.exponent.se


def mean_outcome(law: Law) -> float:
    """Compute the mean outcome of a law's runs; 0 where it has none."""
    runs = sum(row.n for row in law.values)
    return sum(row.n * row.mean for row in law.values) / runs if runs else 0.0


def speaks(live: Law | None, audited: Law | None) -> Law | None:
    """Choose between the tiers: the audited law, unless it is stale or a live drift alarm contradicts it.

    It is stale if its lineage reaches less than 0.8 as far as the live law's; contradicted if the live law has drifted
    since, and the audited one does not begin where the drift did.
    """
    if live is None or audited is None:
        return live if audited is None else audited
    if audited.status == "expired":
        return live
    begins = audited.epoch_since or ""
    if live.drift is not None and live.drift.alarm and begins < (live.drift.since or ""):
        return live
    return live if _stale(live, audited) else audited


def _stale(live: Law, audited: Law) -> bool:
    """Tell whether the audited law has fallen behind.

    Offsets count what a law has seen in any epoch; runs do so only where both cover the same time.
    """
    if live.lineage and audited.lineage:
        return sum(audited.lineage.values()) < FRESH * sum(live.lineage.values())
    return not audited.epoch_since and audited.n < FRESH * live.n


def _drifted_since(live: Law | None, moment: str) -> bool:
    return live is not None and live.drift is not None and live.drift.alarm and (live.drift.since or "") > moment


def supported(law: Law) -> bool:
    """Tell whether at least two values of the dimension have at least 30 runs each."""
    return sum(row.n >= MIN_RUNS for row in law.values) >= MIN_VALUES


class LawBook:
    """Keeps the newest law of each id: the highest version; at equal versions, the last to arrive.

    `revision` goes up with everything that is put in or deleted.
    """

    def __init__(self) -> None:
        self._laws: dict[str, Law] = {}
        self._joint: dict[str, JointLaw] = {}
        self.revision = 0
        self._randomised: defaultdict[str, dict[str, Law]] = defaultdict(dict)

    def __len__(self) -> int:
        return len(self._laws)

    @property
    def joint_laws(self) -> int:
        """Count the joint laws, which are not among the others."""
        return len(self._joint)

    def __iter__(self) -> Iterator[Law]:
        return iter(self._laws.values())

    def put(self, law: Law | JointLaw) -> None:
        """Take a law in, unless a newer version of it is there."""
        self.revision += 1
        if isinstance(law, JointLaw):
            before = self._joint.get(law.law_id)
            if before is None or law.version >= before.version:
                self._joint[law.law_id] = law
            return
        known = self._laws.get(law.law_id)
        if known is None or law.version >= known.version:
            self._laws[law.law_id] = law
            if law.tier.startswith(TIER):
                self._randomised[law.law_id.rpartition("|")[0]][law.law_id] = law

    def delete(self, identifier: str) -> None:
        """Forget a law, as its tombstone on the topic asks; an unknown one is no error."""
        self.revision += 1
        self._laws.pop(identifier, None)
        self._joint.pop(identifier, None)
        self._randomised[identifier.rpartition("|")[0]].pop(identifier, None)

    def get(self, context: str, dimension: Dimension, outcome: Outcome, tier: str = "live") -> Law:
        """Look up one law.

        Raises:
            NotEnoughData: There is no such law yet.
        """
        identifier = law_id(context, dimension, outcome, tier)
        try:
            return self._laws[identifier]
        except KeyError:
            message = f"there is no law {identifier} yet: publish runs that carry {dimension} and {outcome}"
            raise NotEnoughData(message) from None

    def speaking(self, context: str, dimension: Dimension, outcome: Outcome) -> Law | None:
        """Give the law that speaks for a context, of whichever tier, or None; that of an experiment comes first."""
        live, audited = (self._laws.get(law_id(context, dimension, outcome, tier)) for tier in ("live", "audited"))
        return self.randomised(context, dimension, outcome) or speaks(live, audited)

    def randomised(self, context: str, dimension: Dimension, outcome: Outcome) -> Law | None:
        """Give the law of the experiment that speaks for a context, of several that of most runs, or None.

        It does not speak once a live drift alarm has sounded since it was fitted.
        """
        experiments = self._randomised.get(f"{context}|{dimension}|{outcome}", {}).values()
        law = max(filter(supported, experiments), key=lambda law: law.n, default=None)
        live = self._laws.get(law_id(context, dimension, outcome, "live"))
        return None if law is None or _drifted_since(live, law.fitted_at) else law

    def joint(self, contexts: Sequence[str], outcome: Outcome) -> tuple[JointLaw | None, list[str]]:
        """Choose the joint law that speaks for a task: that of the most specific context which has a sound one.

        A law that has expired, has too few runs, or was fitted before its context's live laws drifted does not speak.

        Returns:
            The law, or None; and why those of more specific contexts do not speak.
        """
        silent: list[str] = []
        for context in ranked(contexts):
            law = self._joint.get(law_id(context, JOINT, outcome, "audited"))
            if law is None:
                continue
            reason = self._unsound(law)
            if reason is None:
                return law, silent
            silent.append(f"{law.law_id} does not speak: {reason}")
        return None, silent

    def _unsound(self, law: JointLaw) -> str | None:
        if law.status == "expired":
            return f"it expired ({', '.join(law.missing.values()) or 'no runs'})"
        if law.status == "exploratory":
            return f"it is exploratory, with {law.n} runs for {len(law.terms)} terms"
        for dimension in Dimension:
            live = self._laws.get(law_id(law.context, dimension, law.outcome, "live"))
            since = live.drift.since if live is not None and live.drift is not None and live.drift.alarm else None
            if since and since > (law.epoch_since or ""):
                return f"{law.outcome} over {dimension} has drifted since {since}"
        return None

    def choose(
        self,
        contexts: Sequence[str],
        dimension: Dimension,
        outcome: Outcome,
        fitted: Callable[[Law], bool] = has_power,
    ) -> Law:
        """Choose the law that speaks for a task: the most specific context whose law has enough behind it.

        A context with more key=value pairs is more specific; among equals the earlier one wins; the global context
        comes last. A law has enough behind it when two of its values have 30 runs each and the fit asked for exists.

        Args:
            contexts: The task's contexts in the configured order of the keys.
            dimension: What is scaled.
            outcome: What it buys.
            fitted: Which fit is asked for.

        Raises:
            NotEnoughData: Not even the global context has such a law.
        """
        for context in ranked(contexts):
            law = self.speaking(context, dimension, outcome)
            if law is not None and fitted(law) and supported(law):
                return law
        message = (
            f"no law of {outcome} over {dimension} has {MIN_RUNS} runs at each of {MIN_VALUES} values, "
            f"not even the {GLOBAL} one: publish runs that vary {dimension}"
        )
        raise NotEnoughData(message)


def ranked(contexts: Sequence[str]) -> list[str]:
    """Order contexts from the most specific to the global one, which is always there.

    >>> ranked(["global", "project=a", "project=a&model=m", "model=m"])
    ['project=a&model=m', 'project=a', 'model=m', 'global']
    """
    specific = (context for context in contexts if context != GLOBAL)
    return [*sorted(specific, key=lambda context: -len(context_pairs(context))), GLOBAL]
