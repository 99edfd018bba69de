"""The closed loop as a page: whether it paid, how the laws sharpened, what they gave, and what was missed."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from cli.closed_loop_conclusion import HEAD, Conclusion, complexities
from cli.closed_loop_team import Ran
from cli.closed_loop_truth import FIXED
from cli.closed_loop_view import MIDDLING
from cli.report.ab_page import TONES, arms_grid, ratio_picture, setting_words, settings_picture
from cli.report.blocks import Badge, Block, Drawing, Grid, Highlight, Items, Page, Section, Text
from cli.report.lines import Line, Lines, Spot
from cli.report.numbers import dollars, percent
from models.allocations import Arm

PARTS = 16
"""Steps of time of the regret."""


def page_of_loop(conclusion: Conclusion) -> Page:
    """Lay out what the closed loop has shown."""
    report = conclusion.report
    return Page(
        title="The closed loop, live",
        subtitle=f"Event, law, allocation, outcome, law: dynamic allocation against {setting_words(FIXED)}, "
        f"at {dollars(conclusion.loop_world.budget)} a task, in a world whose truth is known",
        badges=[
            Badge(report.verdict, TONES.get(report.verdict, "open")),
            Badge("truth covered", "good") if conclusion.covered else Badge("truth not covered", "bad"),
        ],
        summary=report.sentence,
        highlights=list(_highlights(conclusion)),
        sections=list(_sections(conclusion)),
    )


def law_picture(conclusion: Conclusion) -> Lines | None:
    """Picture what each version of the joint law said of the fixed setting; None without a law."""
    if not conclusion.laws:
        return None
    truth = float(conclusion.loop_world.success([FIXED], np.array([MIDDLING]))[0])
    return Lines(
        name="law-sharpening",
        title="How the law sharpened",
        caption="The joint law's success at the fixed setting for tasks of middling complexity, with its 95 % "
        "interval, version by version. The level line is the truth.",
        axis="success",
        along="runs seen",
        lines=[
            Line(
                "joint law",
                [
                    Spot(
                        x=each.runs,
                        y=100 * each.success.estimate,
                        lo=100 * each.success.lo,
                        hi=100 * each.success.hi,
                        label=f"version {each.version}",
                        text=f"{100 * each.success.estimate:.1f} % [{100 * each.success.lo:.1f}, "
                        f"{100 * each.success.hi:.1f}] of {each.runs:,} runs",
                    )
                    for each in conclusion.laws
                ],
            )
        ],
        suffix=" %",
        level=100 * truth,
    )


def regret_picture(conclusion: Conclusion) -> Lines | None:
    """Picture by how much the best settings would succeed more often, as tasks came; None without tasks."""
    dynamic = conclusion.dynamic
    arms = {
        "dynamic arm": dynamic,
        "dynamic arm, without exploration": [each for each in dynamic if not each.allocation.explored],
        "fixed arm": [each for each in conclusion.ran if each.allocation.arm == Arm.FIXED],
    }
    lines = [Line(name, list(_regrets(conclusion, ran))) for name, ran in arms.items() if ran]
    if not lines:
        return None
    return Lines(
        name="regret",
        title="What was missed",
        caption="True success at the best setting within the budget less that at the setting that was given, averaged "
        "over the tasks of each step.",
        axis="regret, points of success",
        along="tasks of the arm",
        lines=lines,
        level=0.0,
    )


def _regrets(conclusion: Conclusion, ran: Sequence[Ran]) -> Iterator[Spot]:
    world, z = conclusion.loop_world, complexities(ran)
    given = world.success([each.allocation.setting for each in ran], z)
    missed = 100 * (world.success(world.best(z), z) - given)
    ends = np.linspace(0, len(ran), min(PARTS, len(ran)) + 1).astype(np.int64).tolist()
    for start, end in pairwise(ends):
        mean = float(missed[start:end].mean())
        yield Spot(end, mean, None, None, f"tasks {start + 1:,} to {end:,}", f"{mean:.2f} points")


def _highlights(conclusion: Conclusion) -> Iterator[Highlight]:
    for each in conclusion.compared:
        _, measured, interval, planted, covered = each.cells
        yield Highlight(
            each.name.capitalize(), measured, f"{interval} at any look; planted {planted}, covered: {covered}"
        )
    yield Highlight("Of the best", percent(conclusion.truth.share), "of the success that can be gained, in truth")


def _sections(conclusion: Conclusion) -> Iterator[Section]:
    report = conclusion.report
    pictures = {
        "Did it pay?": ratio_picture(report),
        "The laws": law_picture(conclusion),
        "What they gave": settings_picture(report),
        "What was missed": regret_picture(conclusion),
    }
    tables: dict[str, list[Block]] = {
        "Did it pay?": [
            Grid("Dynamic less fixed, beside the truth", HEAD, "lrrrl", [each.cells for each in conclusion.compared]),
            arms_grid(report),
        ],
    }
    for title, picture in pictures.items():
        drawn: list[Block] = [Text("There is nothing to show.", note=True) if picture is None else Drawing(picture)]
        yield Section(title, [*tables.get(title, []), *drawn])
    yield Section("In words", [Items(list(conclusion.sentences()))])
