"""What an experiment says as a law: the averaged law, and the methods of the design document."""

from collections.abc import Iterator

from cli.law_page import LEAST_WEIGHT, NOTHING
from cli.report.blocks import Block, Grid, Items, Text
from cli.report.numbers import (
    mean_with_interval,
    number,
    p_text,
    percent,
    plain,
    shown_between,
    shown_text,
)
from cli.report.unknowns import capital, not_known, part_words, stopped, why
from models.dimensions import LESS_IS_BETTER, Outcome
from models.experiments import Definition, Result
from models.laws import Estimate, Law, Reference


def averaged_blocks(result: Result) -> Iterator[Block]:
    """Give the averaged law: its sentence, what it is made of, its curve and its knee."""
    law = result.law
    if law is None:
        yield not_known(result, "law")
        return
    if law.sentence:
        yield Text(law.sentence)
    published = law.published
    if published is None:
        yield Text(f"The averaged law is not known: {why(law.missing, 'published')}", note=True)
    else:
        weights = sorted(published.weights.items(), key=lambda item: -item[1])
        yield Grid(
            "Weights of the families",
            ["Family", "Weight"],
            "lr",
            [[name, percent(weight)] for name, weight in weights if weight >= LEAST_WEIGHT],
        )
        yield _curve(law)
    yield Items(list(_law_facts(law)))


def _curve(law: Law) -> Grid:
    published, outcome = law.published, Outcome(law.outcome)
    assert published is not None
    typical = "Median" if published.scale == "median" else "Mean"
    # A curve has time and cost as they are; only rates become percent.
    scale = 1.0 if outcome in LESS_IS_BETTER else 100.0
    rows = [
        [
            plain(point.x),
            shown_text(outcome, scale * point.mean),
            shown_between(outcome, scale * point.lo, scale * point.hi),
        ]
        for point in published.curve
    ]
    return Grid("The law at each value", ["Value", typical, f"{percent(0.95)} at the value"], "lrr", rows)


def _law_facts(law: Law) -> Iterator[str]:
    published, knee = law.published, law.knee
    if published is not None:
        fit = "" if published.lack_of_fit is None else f"; lack of fit p = {p_text(published.lack_of_fit)}"
        yield f"{capital(published.direction)}{fit}. {capital(published.method)}."
        if published.mean_factor is not None:
            yield f"The mean is the median times {number(published.mean_factor)} (smearing)."
    if knee is not None:
        doubt = "" if knee.supported else " It is not supported: the gain up to it may be noise."
        yield f"Knee at {plain(knee.value)} [{plain(knee.lo)}, {plain(knee.hi)}]; beyond it {knee.rule}.{doubt}"
    else:
        yield f"The knee is not known: {why(law.missing, 'knee')}"
    yield from law.lint


def documented_blocks(result: Result, definition: Definition) -> Iterator[Block]:
    """Give what the design document asks for: fits with R², knee, returns, rates and the recommended value."""
    law = result.law
    if law is None:
        yield not_known(result, "law")
        return
    reference = law.reference
    fits = list(_fits(reference))
    if fits:
        yield Grid("Least squares", ["Fit", "Exponent or slope [95 %]", "Intercept or factor", "R²"], "lrrr", fits)
    yield Items(list(_document_facts(law, definition)))
    if reference.success_rate_by_value:
        yield Grid(
            "Success rate by value",
            ["Value", "Runs", "Success rate [95 %]"],
            "lrr",
            [
                [
                    row.label or (NOTHING if row.x is None else plain(row.x)),
                    f"{row.n:,}",
                    mean_with_interval(Outcome.SUCCESS, Estimate(row.mean, 0.0, row.lo, row.hi)),
                ]
                for row in reference.success_rate_by_value
            ],
        )


def _fits(reference: Reference) -> Iterator[list[str]]:
    power = reference.power
    if power is not None:
        yield [
            "power, y = a x^b",
            _plain_estimate(power.exponent),
            number(power.coefficient.estimate),
            f"{power.r_squared:.3f}",
        ]
    for name, fit in (("logarithmic, y = a ln x + b", reference.log), ("linear, y = a x + b", reference.linear)):
        if fit is not None:
            yield [name, _plain_estimate(fit.coefficient), number(fit.intercept.estimate), f"{fit.r_squared:.3f}"]


def _document_facts(law: Law, definition: Definition) -> Iterator[str]:
    reference = law.reference
    if reference.power is not None:
        yield f"{reference.power.interpretation}; {reference.power.clip}."
    if reference.knee is not None:
        knee = reference.knee
        yield f"Knee at {plain(knee.value)} [{plain(knee.lo)}, {plain(knee.hi)}] by the rule: {knee.rule}."
    if reference.diminishing_returns is not None:
        yield f"Diminishing returns from {plain(reference.diminishing_returns)} on."
    if reference.recommended_value is not None:
        yield f"Recommended value: {plain(reference.recommended_value)}."
    if definition.outcome is Outcome.SUCCESS and not reference.success_rate_by_value:
        yield "The success rate by value is what the table of the values says."
    for part, reason in law.missing.items():
        if part.startswith("reference.") and part != "reference.success_rate_by_value":
            yield f"{capital(part_words(part))} is not known: {stopped(reason)}"


def _plain_estimate(estimate: Estimate) -> str:
    return f"{number(estimate.estimate)} [{number(estimate.lo)}, {number(estimate.hi)}]"
