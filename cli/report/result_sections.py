"""What an experiment's result says, block by block; what is not known is said with its reason."""

from collections.abc import Iterator, Sequence

from analytics.power_analysis import POWER
from analytics.sentences import OUTCOME_WORDS, count
from cli.law_page import NOTHING
from cli.report.blocks import Block, Drawing, Facts, Grid, Section, Text
from cli.report.law_blocks import averaged_blocks, documented_blocks
from cli.report.numbers import (
    change_with_interval,
    changes_between,
    dollars,
    e_text,
    mean_text,
    mean_with_interval,
    means_between,
    number,
    p_text,
    percent,
    plain,
    size_text,
)
from cli.report.pictures import contrast_picture, effect_picture, outcome_picture
from cli.report.unknowns import capital, not_known, stopped, why
from cli.report.words import span, value_text
from models.dimensions import LESS_IS_BETTER, Outcome
from models.experiments import ArmResult, Definition, Effect, Result
from models.laws import Estimate


def result_sections(result: Result, definition: Definition) -> Iterator[Section]:
    """Give the sections of a result, the headline first."""
    yield Section("Result", list(_headline(result, definition)))
    yield Section("Outcome by value", list(_arms(result, definition)), 3)
    yield Section("Contrasts with the control", list(_contrasts(result, definition)), 3)
    yield Section("The averaged law", list(averaged_blocks(result)), 3)
    yield Section("The design document's methods", list(documented_blocks(result, definition)), 3)
    yield Section("Classical tests", list(_tests(result)), 3)
    yield Section("Sample ratio and attrition", list(_ratio(result)), 3)
    yield Section("Power", list(_power(result, definition)), 3)
    if definition.secondary_outcomes or result.secondary:
        yield Section("Secondary outcomes", list(_secondary(result, definition)), 3)
    yield Section("Cost", [Facts(list(_cost(result, definition)))], 3)


def _headline(result: Result, definition: Definition) -> Iterator[Block]:
    picture = effect_picture(result, definition)
    if picture is not None:
        yield Drawing(picture)
    named = [
        (name, part, effect)
        for name, part, effect in (
            ("Headline", "effect", result.effect),
            ("Unadjusted", "unadjusted", result.unadjusted),
            ("Per protocol", "per_protocol", result.per_protocol),
        )
        if effect is not None
    ]
    if named:
        yield _effects([(name, effect) for name, _, effect in named], definition)
    if result.effect is not None:
        yield Text(f"An effect is the change {span(result.effect, definition)}.", note=True)
    if result.variance_saved is not None:
        yield Text(
            f"Taking out what complexity explains saves {percent(result.variance_saved)} of the variance.", note=True
        )
    known = {part for _, part, _ in named}
    for part in ("effect", "unadjusted", "per_protocol"):
        if part not in known and (part == "effect" or part in result.missing):
            yield not_known(result, part)


def _effects(named: Sequence[tuple[str, Effect]], definition: Definition) -> Grid:
    level, both = percent(1 - definition.alpha), percent(1 - 2 * definition.alpha)
    head = ["", f"Effect [{level}, one look]", f"{level}, any look", f"{both}, equivalence"]
    rows = [
        [
            name,
            change_with_interval(Outcome(effect.outcome), effect.estimate),
            changes_between(Outcome(effect.outcome), effect.anytime_lo, effect.anytime_hi),
            changes_between(Outcome(effect.outcome), effect.equivalence_lo, effect.equivalence_hi),
            e_text(effect.e_value),
            e_text(effect.best_e_value),
            p_text(effect.anytime_p),
            p_text(effect.p),
            f"{effect.n:,}",
        ]
        for name, effect in named
    ]
    return Grid(
        f"Effects on {OUTCOME_WORDS[definition.outcome]}",
        [*head, "e now", "e at best", "p, any look", "p, one look", "Runs"],
        "lrrrrrrrr",
        rows,
    )


def _arms(result: Result, definition: Definition) -> Iterator[Block]:
    picture = outcome_picture(result, definition)
    if picture is not None:
        yield Drawing(picture)
    outcome, level = definition.outcome, percent(1 - definition.alpha)
    typical = "Geometric mean" if outcome in LESS_IS_BETTER else "Mean"
    yield Grid(
        "What the runs brought",
        ["Value", "Runs", f"{typical} [{level}, one look]", f"{level}, any look", "Complexity out", "Per protocol"],
        "lrrrrr",
        [_brought(arm, definition) for arm in result.arms],
    )
    if any(arm.mean is None for arm in result.arms):
        floor = count(definition.min_samples_per_value, "run")
        yield Text(f"A value with fewer than {floor} is not reported.", note=True)
    yield Grid(
        "What became of the assignments",
        [
            "Value",
            "Assigned",
            "Completed",
            "Pending",
            "Expired",
            "Excluded",
            "Measured",
            "Complied",
            "Did not comply",
            "Cost",
        ],
        "lrrrrrrrrr",
        [_became(arm, definition) for arm in result.arms],
    )


def _brought(arm: ArmResult, definition: Definition) -> list[str]:
    outcome = definition.outcome
    wide = NOTHING
    if arm.anytime_lo is not None and arm.anytime_hi is not None:
        wide = means_between(outcome, arm.anytime_lo, arm.anytime_hi)
    return [
        _arm_name(arm, definition),
        f"{arm.measured:,}",
        _mean(outcome, arm.mean),
        wide,
        NOTHING if arm.adjusted is None else mean_text(outcome, arm.adjusted),
        _mean(outcome, arm.per_protocol),
    ]


def _became(arm: ArmResult, definition: Definition) -> list[str]:
    counts = (
        arm.assigned,
        arm.completed,
        arm.pending,
        arm.expired,
        arm.excluded,
        arm.measured,
        arm.complied,
        arm.not_complied,
    )
    return [_arm_name(arm, definition), *(f"{each:,}" for each in counts), dollars(arm.dollars)]


def _contrasts(result: Result, definition: Definition) -> Iterator[Block]:
    picture = contrast_picture(result, definition)
    if picture is None:
        yield not_known(result, "contrasts")
        return
    yield Drawing(picture)
    level, outcome = percent(1 - definition.alpha), definition.outcome
    yield Grid(
        "All intervals of a column hold together",
        ["Value", f"Difference [{level}, one look]", f"{level}, any look", "e", "p, one look"],
        "lrrrr",
        [
            [
                f"{value_text(each.value)} against {value_text(each.over)}",
                change_with_interval(outcome, each.difference),
                changes_between(outcome, each.anytime_lo, each.anytime_hi),
                e_text(each.e_value),
                p_text(each.p),
            ]
            for each in result.contrasts
        ],
    )


def _tests(result: Result) -> Iterator[Block]:
    if not result.tests:
        yield not_known(result, "tests")
        return
    yield Grid(
        "For one look",
        ["Test", "Statistic", "Degrees of freedom", "p"],
        "lrrr",
        [[test.name, number(test.statistic), plain(round(test.dof, 1)), p_text(test.p)] for test in result.tests],
    )


def _ratio(result: Result) -> Iterator[Block]:
    if result.sample_ratio:
        values = ", ".join(value_text(arm.value) for arm in result.arms)
        yield Grid(
            "Whether the values got the shares they were meant to get",
            ["Stage", f"Counts by value ({values})", "e", "Alarm from", ""],
            "lrrrl",
            [
                [
                    ratio.stage,
                    ", ".join(f"{each:,}" for each in ratio.counts),
                    e_text(ratio.e_value),
                    e_text(ratio.limit),
                    "ALARM" if ratio.alarm else "as planned",
                ]
                for ratio in result.sample_ratio
            ],
        )
    else:
        yield not_known(result, "sample_ratio")
    if result.attrition_p is None:
        yield not_known(result, "attrition_p")
    else:
        yield Text(f"Equal shares of outcomes among the values: p = {p_text(result.attrition_p)}.")


def _power(result: Result, definition: Definition) -> Iterator[Block]:
    outcome = definition.outcome
    if result.power is None:
        yield not_known(result, "power")
    else:
        least = size_text(outcome, definition.minimum_effect)
        yield Text(f"An experiment of this size sees the minimum effect of {least} with {percent(result.power)} power.")
    if result.detectable_effect is None:
        yield not_known(result, "detectable_effect")
    else:
        yield Text(f"It sees an effect of {size_text(outcome, result.detectable_effect)} with {percent(POWER)} power.")


def _secondary(result: Result, definition: Definition) -> Iterator[Block]:
    yield Text("Watched beside the outcome, without a verdict.", note=True)
    known = [each.effect for each in result.secondary if each.effect is not None]
    level = percent(1 - definition.alpha)
    if known:
        yield Grid(
            "Secondary outcomes",
            ["Outcome", f"Effect [{level}, one look]", f"{level}, any look", "p, any look", "Runs"],
            "lrrrr",
            [
                [
                    OUTCOME_WORDS[Outcome(effect.outcome)],
                    change_with_interval(Outcome(effect.outcome), effect.estimate),
                    changes_between(Outcome(effect.outcome), effect.anytime_lo, effect.anytime_hi),
                    p_text(effect.anytime_p),
                    f"{effect.n:,}",
                ]
                for effect in known
            ],
        )
    for each in result.secondary:
        if each.effect is None:
            reason = stopped(each.missing) if each.missing else why(result.missing, f"secondary.{each.outcome}")
            yield Text(f"{capital(OUTCOME_WORDS[Outcome(each.outcome)])} is not known: {reason}", note=True)


def _cost(result: Result, definition: Definition) -> Iterator[tuple[str, str]]:
    yield "Spent", dollars(result.dollars)
    completed = sum(arm.completed for arm in result.arms)
    priced = completed - result.unpriced
    if priced > 0:
        yield "For each run", f"{dollars(result.dollars / priced)} over the {count(priced, 'run')} that told their cost"
    if definition.budget_dollars is not None:
        share = percent(result.dollars / definition.budget_dollars)
        yield "Budget", f"{dollars(definition.budget_dollars)}, of which {share} is spent"
    yield "Unpriced", f"{count(result.unpriced, 'run')} said nothing of their cost"


def _arm_name(arm: ArmResult, definition: Definition) -> str:
    return f"{value_text(arm.value)}{' (control)' if arm.value == definition.control_value else ''}"


def _mean(outcome: Outcome, mean: Estimate | None) -> str:
    return NOTHING if mean is None else mean_with_interval(outcome, mean)
