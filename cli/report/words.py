"""Definitions of experiments in words: what is asked, of which tasks, how it is run, and how it will be judged."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from analytics.sentences import DIMENSION_WORDS, OUTCOME_WORDS, count, listed
from cli.report.numbers import change_with_interval, changes_between, dollars, duration, percent, plain, size_text
from models.dimensions import LESS_IS_BETTER, Outcome
from models.experiments import Definition, Effect, Value

FILTERS = frozenset({"context_filter", "exclusions"})

ASSIGNMENT_WORDS = {
    "blocks": "permuted blocks, balanced within each stratum",
    "least": "the value with the fewest assignments so far",
    "switchback": "switchback: one value for all tasks of a time block",
    "neyman": "Neyman: half balanced, half where the slope learns most",
    "thompson": "Thompson: by the probability of being best, never below 5 %",
}

STOPPING_WORDS = {
    "fixed": "fixed: judged once, at the planned size",
    "sequential": "sequential: may be judged at any look, and every look is valid",
}

DIRECTION_WORDS = {
    "increase": "an increase is expected",
    "decrease": "a decrease is expected",
    "either": "a change in either direction is expected",
}

BELOW_FLOOR = "with fewer it is not reported, and nothing stops for effect or futility"


def value_text(value: Value) -> str:
    """Write a tested value: numbers as 4, 0.5 or 16,000; categories as they are, on one line.

    >>> value_text(4.0), value_text(16000.0), value_text("small")
    ('4', '16,000', 'small')
    """
    return " ".join(value.split()) if isinstance(value, str) else plain(value)


def filter_in_words(context_filter: Mapping[str, Any], nothing: str = "all tasks") -> str:
    """Say which tasks a filter lets pass; an empty one says `nothing`.

    >>> filter_in_words({"min_complexity": "medium", "project": ["atlas", "delta"], "lines": {"max": 5000}})
    'complexity medium or above; project is atlas or delta; lines at most 5,000'
    >>> filter_in_words({"task_type": {"not": "refactor"}}), filter_in_words({})
    ('task type is not refactor', 'all tasks')
    """
    parts = list(_complexity(context_filter))
    for key, condition in context_filter.items():
        if key not in {"min_complexity", "max_complexity"}:
            parts += _condition(_spaced(key), condition)
    return "; ".join(parts) or nothing


def effect_in_words(effect: Effect, definition: Definition) -> tuple[str, str]:
    """Say how the outcome changes, and with which interval: the one that the experiment is judged by."""
    outcome, level = Outcome(effect.outcome), percent(1 - definition.alpha)
    value = change_with_interval(outcome, effect.estimate).partition(" [")[0]
    if definition.stopping == "sequential":
        interval, look = changes_between(outcome, effect.anytime_lo, effect.anytime_hi), "at any look"
    else:
        interval, look = changes_between(outcome, effect.estimate.lo, effect.estimate.hi), "at one look"
    return value, f"{interval} at {level}, {look}, {span(effect, definition)}"


def span(effect: Effect, definition: Definition) -> str:
    """Say between which values an effect lies, in its own words where it has some."""
    if effect.what:
        return value_text(effect.what)
    words = DIMENSION_WORDS[definition.dimension_tested]
    values = definition.values_tested
    if definition.estimand == "contrast":
        tested = contrast_value(definition)
        return f"at {value_text(tested)} against {value_text(definition.control_value)} ({words})"
    return f"from {value_text(values[0])} to {value_text(values[-1])} ({words})"


def contrast_value(definition: Definition) -> Value:
    """Give the value that a contrast holds against the control: the last one, unless another was named."""
    return definition.values_tested[-1] if definition.contrast_value is None else definition.contrast_value


def as_sentence(text: str) -> str:
    """Begin a text with a capital letter and end it with a full stop.

    >>> as_sentence("all outcomes are in"), as_sentence("Wait."), as_sentence("")
    ('All outcomes are in.', 'Wait.', '')
    """
    line = value_text(text)
    return f"{line[:1].upper()}{line[1:]}{'' if not line or line[-1] in '.!?' else '.'}"


def design_rows(definition: Definition) -> list[tuple[str, str]]:
    """Say a design in rows of a name and what holds."""
    outcome, values = definition.outcome, definition.values_tested
    planned = definition.planned_per_value
    return [
        ("Dimension", f"{DIMENSION_WORDS[definition.dimension_tested]} ({definition.dimension_tested})"),
        ("Values", listed([value_text(value) for value in values])),
        ("Control", value_text(definition.control_value)),
        ("Tasks", filter_in_words(definition.context_filter)),
        ("Outcome", f"{OUTCOME_WORDS[outcome]} ({outcome})"),
        ("Estimand", _estimand(definition)),
        ("Direction", DIRECTION_WORDS[definition.direction]),
        ("Minimum effect", _minimum(definition)),
        ("Planned size", f"{count(planned, 'assignment')} for each value, {planned * len(values):,} in all"),
        ("Floor", f"{count(definition.min_samples_per_value, 'run')} for each value; {BELOW_FLOOR}"),
        ("Level", f"alpha = {definition.alpha:g}, so intervals hold at {percent(1 - definition.alpha)}"),
        ("Stopping rule", STOPPING_WORDS[definition.stopping]),
        ("Assignment", _assignment(definition)),
        ("Strata", listed(list(map(_spaced, definition.stratify_by))) or "none"),
        ("Exclusions", filter_in_words(definition.exclusions, "none")),
        ("Missing quality", _missing_quality(definition)),
        ("Complexity", "taken out of the headline (CUPED)" if definition.adjust_for_complexity else "not adjusted for"),
        ("Families of the law", listed(list(map(_spaced, definition.families))) or "all that the outcome may follow"),
        ("Secondary outcomes", listed([OUTCOME_WORDS[each] for each in definition.secondary_outcomes]) or "none"),
        ("Budget", _budget(definition)),
        ("Expiry", f"an assignment without an outcome after {duration(definition.expire_seconds)} has none"),
    ]


def changed_fields(old: Definition, new: Definition) -> list[str]:
    """List the fields that differ, with their old and new values.

    Example: planned_per_value: 200 -> 20.
    """
    return [
        f"{name}: {_field(name, before)} -> {_field(name, after)}"
        for name in Definition.__struct_fields__
        if (before := getattr(old, name)) != (after := getattr(new, name))
    ]


def _estimand(definition: Definition) -> str:
    values = definition.values_tested
    if definition.estimand == "contrast":
        tested = value_text(contrast_value(definition))
        return f"contrast: the change from {value_text(definition.control_value)} (the control) to {tested}"
    if definition.estimand == "knee":
        latest = plain(definition.knee_at_most or 0)
        return f"knee: where the next step stops paying, by the hypothesis at {latest} or earlier"
    return f"slope: the change along the line on ln x from {value_text(values[0])} to {value_text(values[-1])}"


def _minimum(definition: Definition) -> str:
    shown = size_text(definition.outcome, definition.minimum_effect)
    log = f" (±{definition.minimum_effect:g} on the logarithm)" if definition.outcome in LESS_IS_BETTER else ""
    return f"{shown}{log}; a smaller effect counts as none"


def _assignment(definition: Definition) -> str:
    words = ASSIGNMENT_WORDS[definition.assignment]
    if definition.assignment != "switchback":
        return words
    washout = definition.washout_seconds
    left_out = f", of which the first {duration(washout)} are left out" if washout else ""
    return f"{words} of {duration(definition.switchback_seconds)}{left_out}"


def _missing_quality(definition: Definition) -> str:
    if definition.missing_quality == "zero":
        return "a run without a quality score counts as 0"
    return "a run without a quality score is left out where quality is the outcome"


def _budget(definition: Definition) -> str:
    limits = []
    if definition.budget_dollars is not None:
        limits.append(f"until completed runs have cost {dollars(definition.budget_dollars)}")
    if definition.budget_runs is not None:
        limits.append(f"until {count(definition.budget_runs, 'run')} are assigned")
    return f"assigns {listed(limits, 'or')}" if limits else "none"


def _complexity(conditions: Mapping[str, Any]) -> Iterable[str]:
    """Say a least and a most complexity; a label means its band."""
    low, high = conditions.get("min_complexity"), conditions.get("max_complexity")
    if low is not None and low == high:
        yield f"complexity {_scalar(low)}"
    elif low is not None and high is not None:
        yield f"complexity from {_scalar(low)} to {_scalar(high)}"
    elif low is not None:
        yield f"complexity {_scalar(low)} or above"
    elif high is not None:
        yield f"complexity {_scalar(high)} or below"


def _condition(name: str, condition: Any) -> Iterable[str]:  # noqa: ANN401 - any JSON value
    if not isinstance(condition, Mapping):
        yield f"{name} is {_choices(condition)}"
        return
    low, high = condition.get("min"), condition.get("max")
    if low is not None and high is not None:
        yield f"{name} from {_scalar(low)} to {_scalar(high)}"
    elif low is not None:
        yield f"{name} at least {_scalar(low)}"
    elif high is not None:
        yield f"{name} at most {_scalar(high)}"
    if "not" in condition:
        yield f"{name} is not {_choices(condition['not'])}"


def _choices(condition: Any) -> str:  # noqa: ANN401 - a scalar or a list of them
    return listed(list(map(_scalar, condition)), "or") if isinstance(condition, list) else _scalar(condition)


def _scalar(value: Any) -> str:  # noqa: ANN401 - any scalar
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value_text(value) if isinstance(value, int | float | str) else msgspec.json.encode(value).decode()


def _field(name: str, value: Any) -> str:  # noqa: ANN401 - any field's value
    if name in FILTERS:
        return filter_in_words(value, "all tasks" if name == "context_filter" else "none")
    if value is None:
        return "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_scalar, value))}]"
    return _scalar(value)


def _spaced(name: str) -> str:
    return " ".join(name.replace("_", " ").split())
