"""Tasks that were run more than once: how alike their runs are, and what more trials of a task are worth."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from analytics.any_of_k import all_of_k, any_of_k, fit_task_counts
from analytics.association import likeness
from analytics.lint import LIMITS
from analytics.moments import Floats, Ints
from analytics.sample import Sample, Slot
from analytics.sentences import listed, slot_words, value_text
from models.dimensions import SIZE_CATEGORIES, Basis, Outcome
from models.errors import NotEnoughData
from models.laws import Estimate

ENOUGH_TASKS = 20
"""Tasks that must have been tried twice or more at one setting."""

ALL_TOLD = 8
"""Up to so many trials every k is told; beyond, the powers of two and the last."""

MOST_SETTINGS = 12
"""Settings that are told: those with the most tasks."""

AHEAD = 2
"""The forecast is for so many times the trials."""


@dataclass(frozen=True, slots=True)
class Repeats:
    """How runs repeat tasks.

    Attributes:
        tasks: Distinct task ids.
        runs_per_task: Their median number of runs.
        likeness: Intraclass correlation of success within tasks; 0 where it cannot be estimated.
        ambiguous: Task ids that occur with more than one project or task type.
        across: For each dimension the share of tasks that were run at two of its values or more.
    """

    tasks: int
    runs_per_task: float
    likeness: float
    ambiguous: int
    across: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Rate:
    """The chance that at least one of k trials of a task succeeds, and that all of them do, both without bias."""

    k: int
    any_of: Estimate
    all_of: Estimate


@dataclass(frozen=True, slots=True)
class Trials:
    """What repeated trials of tasks brought at one setting.

    Attributes:
        setting: What was set, in words, where the runs had more than one setting; else empty.
        tasks: Tasks with at least `trials` trials; the rates are means over these.
        trials: The most trials that half of the repeated tasks, and 20 of them, have.
        rates: For k up to `trials`.
        forecast_trials: Twice as many.
        forecast: The share of as many new tasks that at least one of `forecast_trials` trials solves, with the 95 %
            interval of that share; None where the law of any-of-k could not be fitted.
    """

    setting: str
    tasks: int
    trials: int
    rates: tuple[Rate, ...]
    forecast_trials: int
    forecast: Estimate | None


def repeats(sample: Sample) -> Repeats | None:
    """Say how runs repeat tasks; None where no run names its task."""
    task = sample.groups["task_id"]
    named = task >= 0
    if not named.any():
        return None
    ids, n = np.unique(task[named], return_counts=True)
    across = {}
    for slot in sample.slots():
        x = sample.dimensions[slot]
        both = named & ~np.isnan(x)
        if both.any():
            pairs = np.unique(np.stack((task[both], np.unique(x[both], return_inverse=True)[1])), axis=1)
            across[slot_words(*slot)] = float((np.unique(pairs[0], return_counts=True)[1] > 1).mean())
    kinds = np.stack((task[named], sample.groups["project"][named], sample.groups["task_type"][named]))
    _, distinct = np.unique(np.unique(kinds, axis=1)[0], return_counts=True)
    success = sample.outcomes[Outcome.SUCCESS]
    seen = named & ~np.isnan(success)
    return Repeats(
        tasks=len(ids),
        runs_per_task=float(np.median(n)),
        likeness=likeness(success[seen], task[seen]),
        ambiguous=int((distinct > 1).sum()),
        across=across,
    )


def repeated_trials(sample: Sample) -> Iterator[Trials]:
    """Say what trials of the same task at the same setting brought, the setting with the most tasks first.

    A setting is what was chosen before the run: the dimensions but for used amounts of what could be limited, and the
    model. A task is its id within its project and task type. Trials are taken to be independent: tasks that are tried
    until they succeed would look harder than they are.
    """
    task, success = sample.groups["task_id"], sample.outcomes[Outcome.SUCCESS]
    rows = np.flatnonzero((task >= 0) & ~np.isnan(success))
    if not len(rows):
        return
    slots = [slot for slot in sample.slots() if not (slot[1] is Basis.REALISED and slot[0] in LIMITS)]
    columns = [sample.dimensions[slot][rows] for slot in slots]
    model = sample.groups["model"][rows]
    setting = _combined([*columns, model])
    whole = _combined([task[rows], sample.groups["project"][rows], sample.groups["task_type"][rows], setting])
    trials = np.bincount(whole).astype(np.float64)
    solved = np.bincount(whole, success[rows])
    first = np.unique(whole, return_index=True)[1]
    of = setting[first]
    repeated = np.bincount(of[trials > 1], minlength=int(of.max()) + 1)
    enough = sorted(np.flatnonzero(repeated >= ENOUGH_TASKS).tolist(), key=lambda place: -int(repeated[place]))
    for chosen in enough[:MOST_SETTINGS]:
        inside = of == chosen
        example = int(first[inside][0])
        words = [
            _words(slot, float(column[example])) for slot, column in zip(slots, columns, strict=True) if _vary(column)
        ]
        if _vary(model):
            words.append(_model(sample, int(model[example])))
        yield _trials(solved[inside], trials[inside], listed([word for word in words if word]))


def _trials(solved: Floats, trials: Floats, setting: str) -> Trials:
    most_first = np.sort(trials[trials > 1])[::-1]
    last = int(most_first[max(ENOUGH_TASKS, (len(most_first) + 1) // 2) - 1])
    solved, trials = solved[trials >= last], trials[trials >= last]
    told = sorted({k for k in range(1, last + 1) if last <= ALL_TOLD or not k & (k - 1)} | {last})
    try:
        forecast = fit_task_counts(solved, trials).forecast(AHEAD * last, len(trials))
    except NotEnoughData:
        forecast = None
    return Trials(
        setting=setting,
        tasks=len(trials),
        trials=last,
        rates=tuple(Rate(k, any_of_k(solved, trials, k), all_of_k(solved, trials, k)) for k in told),
        forecast_trials=AHEAD * last,
        forecast=forecast,
    )


def _combined(columns: list[Floats | Ints]) -> Ints:
    """Number the combinations of values from 0 on; what is missing is a value of its own."""
    found = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        values, place = np.unique(column, return_inverse=True)
        found = np.unique(found * len(values) + place, return_inverse=True)[1]
    return found


def _vary(column: Floats | Ints) -> bool:
    return len(np.unique(column)) > 1


def _words(slot: Slot, x: float) -> str:
    """Name a setting, such as agents 4; what a run does not say is not named."""
    if np.isnan(x):
        return ""
    value = SIZE_CATEGORIES[int(x)] if slot[1] is Basis.CATEGORY else value_text(slot[0], x)
    return f"{slot_words(*slot)} {value}"


def _model(sample: Sample, code: int) -> str:
    names = sample.names.get("model", ())
    return f"model {names[code] if code < len(names) else code}" if code >= 0 else ""
