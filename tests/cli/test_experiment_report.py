"""The report of an experiment: its words, both forms, what is missing, hostile texts, files, and a real browser."""

import math
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.definitions import digest
from cli.report.figures import figure_of
from cli.report.pictures import contrast_picture, effect_picture, outcome_picture
from cli.report.text_plot import text_plot
from cli.report.words import changed_fields, design_rows, effect_in_words, filter_in_words, value_text
from cli.report.writing import Report, escape_markdown, fenced, html_report, markdown_report, write_report
from models.dimensions import Dimension, Outcome
from models.errors import InvalidExperiment, ScalingError
from models.experiments import (
    ArmResult,
    Contrast,
    Definition,
    Effect,
    Finding,
    Label,
    OneLookTest,
    Result,
    SampleRatio,
    Sealed,
    Secondary,
    Status,
    StatusRecord,
    Verdict,
)
from models.laws import (
    CurvePoint,
    Estimate,
    Knee,
    Law,
    LineFit,
    PowerFit,
    Published,
    Reference,
    ReferenceKnee,
    ValueRow,
)

HOSTILE = "<script>document.documentElement.dataset.owned='yes'</script> | <img src=x onerror=alert(1)>"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
SENTENCE = "Success rises with agents by 22.1 points."
NEXT = "Run four agents from now on."

MEANS = (0.42, 0.49, 0.6, 0.64)

replace = msgspec.structs.replace


def estimate(value: float, half: float) -> Estimate:
    """Make an estimate with an interval of `half` on each side."""
    return Estimate(value, half / 1.96, value - half, value + half)


def definition(**fields: object) -> Definition:
    """Make a definition of success over agents."""
    known: dict[str, object] = {
        "experiment_id": "agents-2026-03",
        "name": "Do more agents solve more tasks?",
        "hypothesis": "Success rises by at least ten points from one agent to eight.",
        "dimension_tested": Dimension.AGENT_COUNT,
        "values_tested": [1.0, 2.0, 4.0, 8.0],
        "control_value": 1.0,
        "context_filter": {"min_complexity": "medium", "project": ["atlas", "delta"]},
        "secondary_outcomes": [Outcome.TOTAL_COST, Outcome.QUALITY_SCORE],
        "budget_dollars": 500.0,
    }
    return Definition(**(known | fields))  # type: ignore[arg-type]


def sealed(made: Definition, after: Sealed | None = None, reason: str = "") -> Sealed:
    """Seal a definition as the version after another."""
    return Sealed(
        definition=made,
        version=1 if after is None else after.version + 1,
        sha256=digest(made),
        previous_sha256=None if after is None else after.sha256,
        sealed_at="2026-03-01T08:30:00Z",
        seal="0" * 64,
        code_version="0.1.0",
        reason=reason,
        by="ada",
    )


def effect(outcome: Outcome, value: float, half: float, n: int = 790) -> Effect:
    """Make an effect whose interval at any look is one and a half times as wide."""
    return Effect(
        outcome=outcome,
        what="from 1 to 8",
        estimate=estimate(value, half),
        anytime_lo=value - 1.5 * half,
        anytime_hi=value + 1.5 * half,
        e_value=8_412.0,
        best_e_value=2.5e6,
        anytime_p=4e-7,
        p=0.0312,
        equivalence_lo=value - 0.84 * half,
        equivalence_hi=value + 0.84 * half,
        n=n,
    )


def arms(made: Definition, means: Sequence[float], half: float) -> list[ArmResult]:
    """Make arms with these means on the scale of the analysis."""
    return [
        ArmResult(
            value=value,
            assigned=200,
            pending=place,
            expired=2,
            completed=198 - place,
            excluded=1,
            measured=197 - place,
            complied=190 - place,
            not_complied=7,
            dollars=20.5 * (place + 1),
            mean=estimate(mean, half),
            anytime_lo=mean - 1.5 * half,
            anytime_hi=mean + 1.5 * half,
            adjusted=mean + 0.001,
            per_protocol=estimate(mean + 0.01, half),
        )
        for place, (value, mean) in enumerate(zip(made.values_tested, means, strict=True))
    ]


def averaged(made: Definition, means: Sequence[float]) -> Law:
    """Make a law through these means of the outcome itself."""
    line = LineFit(estimate(0.106, 0.03), estimate(0.42, 0.05), 0.941)
    numbers = [value for value in made.values_tested if not isinstance(value, str)]
    return Law(
        law_id=f"global|{made.dimension_tested}|{made.outcome}|experiment",
        tier="experiment",
        context="global",
        dimension=made.dimension_tested,
        outcome=made.outcome,
        version=1,
        epoch=1,
        fitted_at="2026-03-09T10:00:00Z",
        n=790,
        status="established",
        evidence="randomised",
        settings_hash="",
        reference=Reference(
            power=PowerFit(
                estimate(0.21, 0.05),
                estimate(0.44, 0.04),
                0.923,
                "Logarithmic scaling",
                "y below 0.001 counts as 0.001",
            ),
            log=line,
            linear=LineFit(estimate(0.028, 0.01), estimate(0.47, 0.05), 0.792),
            knee=ReferenceKnee(4.0, 2.0, 8.0, "the next unit gains less than 0.05"),
            diminishing_returns=4.0,
            success_rate_by_value=[
                ValueRow(197, mean, mean - 0.07, mean + 0.07, x) for x, mean in zip(numbers, means, strict=True)
            ],
            recommended_value=4.0,
        ),
        published=Published(
            family="log",
            weights={"log": 0.61, "plateau": 0.27, "power": 0.1197, "constant": 0.0003},
            params={},
            curve=[CurvePoint(x, mean, mean * 0.92, mean * 1.08) for x, mean in zip(numbers, means, strict=True)],
            method="families fitted to means by weighted least squares",
            direction="rises",
            lack_of_fit=0.44,
        ),
        knee=Knee(4.0, 2.0, 8.0, "the next unit costs more than it brings", supported=True),
        sentence="Success rises with agents, +22 points from 1 to 8; another agent pays up to 4.",
        missing={"reference.linear": "kept for the test of reasons"},
    )


def result(made: Definition, means: Sequence[float] = MEANS, **fields: object) -> Result:
    """Make the result of a definition whose values have these means."""
    known: dict[str, object] = {
        "experiment_id": made.experiment_id,
        "version": 1,
        "sha256": digest(made),
        "analysed_at": "2026-03-09T10:00:00Z",
        "status": Status.ANALYZED,
        "label": Label.CONFIRMATORY,
        "deviations": [],
        "verdict": Verdict.SUPPORTED,
        "sentence": SENTENCE,
        "next_step": NEXT,
        "look": 14,
        "runs": 786,
        "arms": arms(made, means, 0.07),
        "contrasts": [
            Contrast(value, 1.0, estimate(mean - means[0], 0.12), mean - 0.6, mean - 0.24, 3_211.0, 0.0021)
            for value, mean in zip(made.values_tested[1:], means[1:], strict=True)
        ],
        "tests": [
            OneLookTest("Cochran-Armitage trend", 5.21, 1.0, 2e-7),
            OneLookTest("Pearson chi-squared", 28.4, 3.0, 3e-6),
        ],
        "sample_ratio": [
            SampleRatio("assigned", 0.12, 20.0, alarm=False, counts=[200, 200, 200, 200]),
            SampleRatio("completed", 31.5, 20.0, alarm=True, counts=[198, 197, 196, 140]),
        ],
        "effect": effect(made.outcome, 0.221, 0.068),
        "unadjusted": effect(made.outcome, 0.224, 0.074),
        "per_protocol": effect(made.outcome, 0.231, 0.071),
        "variance_saved": 0.156,
        "attrition_p": 0.71,
        "power": 0.83,
        "detectable_effect": 0.094,
        "law": averaged(made, means) if all(isinstance(each, float) for each in made.values_tested) else None,
        "secondary": [
            Secondary(Outcome.TOTAL_COST, effect(Outcome.TOTAL_COST, math.log(2.5), 0.1)),
            Secondary(Outcome.QUALITY_SCORE, missing="no run has a quality score"),
        ],
        "dollars": 205.0,
        "unpriced": 3,
        "repeats": 5,
        "unproven": 2,
        "code_version": "0.1.0+g1234567",
        "data": {"scaling.assignments": "offsets below 12,400", "scaling.runs": "offsets below 991,203"},
    }
    return Result(**(known | fields))  # type: ignore[arg-type]


def finding(identifier: str, verdict: Verdict, **fields: object) -> Finding:
    """Make a finding."""
    known: dict[str, object] = {
        "experiment_id": identifier,
        "version": 1,
        "name": f"Experiment {identifier}",
        "hypothesis": "It helps.",
        "dimension": Dimension.AGENT_COUNT,
        "outcome": Outcome.SUCCESS,
        "context_filter": {},
        "values": [1.0, 4.0],
        "verdict": verdict,
        "label": Label.CONFIRMATORY,
        "sentence": f"This is what {identifier} found.",
        "concluded_at": "2026-03-10T12:00:00Z",
        "sha256": "f" * 64,
        "runs": 400,
        "dollars": 61.25,
        "p": 0.2,
        "alpha": 0.05,
        "minimum_effect": 0.1,
        "effect": effect(Outcome.SUCCESS, 0.01, 0.03),
    }
    return Finding(**(known | fields))  # type: ignore[arg-type]


def report(made: Definition | None = None, **fields: object) -> Report:
    """Make the report of a concluded experiment, the second of three findings."""
    made = made or definition()
    known: dict[str, object] = {
        "versions": [sealed(made)],
        "status": StatusRecord(
            made.experiment_id, 1, Status.ANALYZED, "2026-03-09T10:00:00Z", "all outcomes are in", "read the report"
        ),
        "result": None if "result" in fields else result(made),
        "findings": [
            finding("first", Verdict.REFUTED),
            finding(made.experiment_id, Verdict.SUPPORTED, name=made.name, sha256=digest(made), p=4e-7),
            finding("third", Verdict.UNDETERMINED, effect=None),
        ],
        "level": 0.0123,
    }
    return Report(**(known | fields))  # type: ignore[arg-type]


def timed() -> tuple[Definition, Result]:
    """Make an experiment on time, whose numbers are logarithms: 30, 24 and 20 seconds."""
    made = definition(
        outcome=Outcome.TIME_TO_COMPLETE,
        direction="decrease",
        dimension_tested=Dimension.CONTEXT,
        values_tested=[4000.0, 32000.0, 128000.0],
        control_value=4000.0,
        secondary_outcomes=[],
    )
    seconds = (30.0, 24.0, 20.0)
    made_result = result(
        made,
        seconds,
        arms=arms(made, [math.log(each) for each in seconds], 0.1),
        effect=effect(made.outcome, math.log(20 / 30), 0.15),
        unadjusted=None,
        per_protocol=None,
        contrasts=[Contrast(32000.0, 4000.0, estimate(math.log(0.8), 0.15), -0.5, 0.05, 9.0, 0.01)],
        secondary=[],
    )
    return made, made_result


class Reader(HTMLParser):
    """Collects elements, attributes and the text that is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.shown: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append(tag)
        self.attributes += attrs
        self._hidden += tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:
        """Note the end of one that is not shown."""
        self._hidden -= tag in {"script", "style"}

    def handle_data(self, data: str) -> None:
        """Note text."""
        if not self._hidden:
            self.shown.append(data)


def read(html: str) -> Reader:
    """Parse a report."""
    reader = Reader()
    reader.feed(html)
    return reader


def html_text(made: Report) -> str:
    """Give what the HTML form shows, on one line."""
    return " ".join(" ".join(read(html_report(made)).shown).split())


def markdown_text(made: Report) -> str:
    """Give what the Markdown form shows, without its marks, on one line."""
    plain = unescape(re.sub(r"\\(.)", r"\1", markdown_report(made)))
    return " ".join(re.sub(r"\*\*|^\| | \|(?= |$)|^- ", " ", plain, flags=re.MULTILINE).split())


FORMS = pytest.mark.parametrize("form", [html_text, markdown_text], ids=["html", "markdown"])


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({}, "all tasks"),
        ({"min_complexity": "medium"}, "complexity medium or above"),
        ({"max_complexity": 0.4}, "complexity 0.4 or below"),
        ({"min_complexity": 0.2, "max_complexity": "high"}, "complexity from 0.2 to high"),
        ({"min_complexity": "low", "max_complexity": "low"}, "complexity low"),
        ({"project": "atlas", "task_type": ["bug", "feature"]}, "project is atlas; task type is bug or feature"),
        ({"lines": {"min": 10, "max": 5000}}, "lines from 10 to 5,000"),
        ({"lines": {"min": 10, "not": 13}}, "lines at least 10; lines is not 13"),
        ({"language": {"not": ["go", "c"]}, "monorepo": True}, "language is not go or c; monorepo is yes"),
    ],
)
def test_a_filter_is_told_in_words(conditions: dict[str, Any], words: str) -> None:
    """Bands, equality, one of several, ranges and exclusions each have their words."""
    assert filter_in_words(conditions) == words


def test_a_design_is_told_in_rows() -> None:
    """Each part of a definition that decides on the verdict has a row."""
    rows = dict(design_rows(definition()))
    assert rows["Values"] == "1, 2, 4 and 8"
    assert rows["Estimand"] == "slope: the change along the line on ln x from 1 to 8"
    assert rows["Minimum effect"] == "10 points; a smaller effect counts as none"
    assert rows["Planned size"] == "200 assignments for each value, 800 in all"
    assert rows["Level"] == "alpha = 0.05, so intervals hold at 95 %"
    assert rows["Budget"] == "assigns until completed runs have cost $500.00"
    assert rows["Expiry"] == "an assignment without an outcome after 6 hours has none"
    assert rows["Strata"] == "project and complexity band"
    switched = dict(design_rows(definition(assignment="switchback", washout_seconds=120, estimand="contrast")))
    assert switched["Assignment"].endswith("time block of 30 minutes, of which the first 2 minutes are left out")
    assert switched["Estimand"] == "contrast: the change from 1 (the control) to 8"
    knee = dict(design_rows(definition(estimand="knee", knee_at_most=4.0, outcome=Outcome.TIME_TO_COMPLETE)))
    assert knee["Estimand"].endswith("by the hypothesis at 4 or earlier")
    assert knee["Minimum effect"].startswith("10.5 % (±0.1 on the logarithm)")


def test_an_effect_on_time_is_told_in_percent() -> None:
    """A change of ln(2/3) is a third less; one of success is in points, whatever its span is called."""
    made, timed_result = timed()
    assert timed_result.effect is not None
    fixed = replace(made, stopping="fixed")
    lo, hi = (100 * (20 / 30 * factor - 1) for factor in (math.exp(-0.15), math.exp(0.15)))
    assert effect_in_words(timed_result.effect, fixed) == (
        "-33.3 %",
        f"[{lo:+.1f}, {hi:+.1f}] at 95 %, at one look, from 1 to 8",
    )
    unnamed = replace(effect(Outcome.SUCCESS, 0.12, 0.05), what="", anytime_lo=0.01, anytime_hi=0.23)
    assert effect_in_words(unnamed, definition(stopping="sequential")) == (
        "+12.0 points",
        "[+1.0, +23.0] at 95 %, at any look, from 1 to 8 (agents)",
    )
    contrast = definition(estimand="contrast", contrast_value=4.0)
    assert effect_in_words(unnamed, contrast)[1].endswith("at 4 against 1 (agents)")


def test_changed_fields_are_told_with_old_and_new_values() -> None:
    """Only what differs is listed; filters are in words, absent values are none."""
    old = definition()
    new = definition(planned_per_value=20, context_filter={}, budget_dollars=None, values_tested=[1.0, 2.0])
    assert changed_fields(old, new) == [
        "values_tested: [1, 2, 4, 8] -> [1, 2]",
        "context_filter: complexity medium or above; project is atlas or delta -> all tasks",
        "planned_per_value: 200 -> 20",
        "budget_dollars: 500 -> none",
    ]
    assert changed_fields(old, definition()) == []
    assert value_text("a\nb") == "a b"


@FORMS
def test_both_forms_tell_everything(form: Callable[[Report], str]) -> None:
    """Question, design, result, law, register and provenance are in either form, in the same words."""
    made = definition()
    told = form(report(made))
    for part in (
        made.name,
        made.hypothesis,
        "supported",
        "confirmatory",
        f"{SENTENCE} {NEXT}",
        "complexity medium or above; project is atlas or delta",
        digest(made),
        "2026-03-01 08:30 UTC",
        "None: everything went as it was sealed.",
        "Headline +22.1 points [+15.3, +28.9] [+11.9, +32.3]",
        "8,412 > 1,000,000 < 0.0001 0.031 790",
        "Unadjusted +22.4 points",
        "Per protocol +23.1 points",
        "saves 15.6 % of the variance",
        "1 (control) 197 42.0 % [35.0, 49.0] [31.5, 52.5] 42.1 % 43.0 % [36.0, 50.0]",
        "8 200 195 3 2 1 194 187 7 $82.00",
        "4 against 1 +18.0 points [+6.0, +30.0] [0.0, +36.0]",
        "Cochran-Armitage trend 5.21 1 < 0.0001",
        "power, y = a x^b 0.210 [0.160, 0.260] 0.440 0.923",
        "Logarithmic scaling",
        "Knee at 4 [2, 8] by the rule: the next unit gains less than 0.05.",
        "Diminishing returns from 4 on.",
        "Recommended value: 4.",
        "log 61 % plateau 27 % power 12 %",
        "Knee at 4 [2, 8]; beyond it the next unit costs more than it brings.",
        "completed 198, 197, 196, 140 31.5 20.0 ALARM",
        "Equal shares of outcomes among the values: p = 0.71.",
        "sees the minimum effect of 10 points with 83 % power",
        "sees an effect of 9.4 points with 80 % power",
        "cost +150.0 % [+126.2, +176.3]",
        "Quality is not known: no run has a quality score",
        "$205.00",
        "3 runs said nothing of their cost",
        "$500.00, of which 41 % is spent",
        "3 findings: 1 supported, 1 refuted and 1 undetermined.",
        "That a hypothesis is refuted is a finding like any other.",
        "refuted, confirmatory This is what first found.",
        "0.1.0+g1234567",
        "offsets below 991,203",
    ):
        assert part in told, part


@FORMS
def test_time_is_shown_in_seconds(form: Callable[[Report], str]) -> None:
    """Means on the logarithm are raised again; the law's curve, which is in seconds already, is not."""
    made, timed_result = timed()
    told = form(report(made, result=timed_result))
    lo, hi = (f"{30 * factor:.1f}" for factor in (math.exp(-0.1), math.exp(0.1)))
    assert f"4,000 (control) 197 30.0 s [{lo}, {hi}]" in told
    assert "32,000 against 4,000 -20.0 %" in told
    assert "128,000 20.0 s [18.4, 21.6]" in told


@FORMS
def test_what_is_missing_is_said_with_its_reason(form: Callable[[Report], str]) -> None:
    """No part vanishes in silence: effect, law, power, tests and contrasts each say why they are not known."""
    made = definition()
    reasons = {
        part: f"the reason for {part}"
        for part in ("effect", "per_protocol", "law", "power", "detectable_effect", "contrasts", "tests", "attrition_p")
    }
    parts: dict[str, Any] = dict.fromkeys(
        ("effect", "per_protocol", "law", "power", "detectable_effect", "attrition_p")
    )
    told = form(report(made, result=result(made, **parts, contrasts=[], tests=[], sample_ratio=[], missing=reasons)))
    for part in (
        "The effect",
        "The averaged law",
        "Power",
        "The detectable effect",
        "The classical tests",
        "Attrition",
    ):
        assert f"{part} is not known: the reason for" in told or f"{part} are not known" in told, part
    assert "The sample ratio is not known: the record gives no reason" in told
    for reason in reasons.values():
        assert reason in told
    assert "The linear fit is not known: kept for the test of reasons" in form(report(made))


@FORMS
def test_without_a_result_there_are_design_and_status(form: Callable[[Report], str]) -> None:
    """Before the first result the report says what was sealed and what happens next, and draws nothing."""
    status = StatusRecord("agents-2026-03", 1, Status.RUNNING, "2026-03-01T08:30:00Z", "it was started", "Wait.")
    made = report(status=status, result=None, findings=[], level=None)
    told = form(made)
    for part in (
        "It was started. Wait.",
        "None so far",
        "Not concluded yet.",
        "No experiment has been concluded yet.",
        "8",
    ):
        assert part in told
    for part in ("Outcome by value", "supported", "Not known, and why"):
        assert part not in told
    assert 'class="plot"' not in html_report(made)


@FORMS
def test_amendments_are_deviations_with_what_they_changed(form: Callable[[Report], str]) -> None:
    """Each later version lists the fields that differ; a result of an earlier one is said to be that."""
    first = sealed(definition())
    second = sealed(definition(planned_per_value=20), first, "money ran out")
    exploratory = result(first.definition, label=Label.EXPLORATORY, deviations=["Stopped by hand."])
    told = form(report(versions=[first, second], result=exploratory))
    assert "From version 1 to version 2 (money ran out): planned_per_value: 200 -> 20" in told
    assert "Stopped by hand." in told
    assert "exploratory" in told
    assert "The result is still that of version 1." in told
    assert "the versions follow one another" in told
    assert "everything went as it was sealed" not in told


def test_a_changed_definition_and_a_broken_chain_are_told() -> None:
    """A definition whose hash is another one's, and a version that follows nothing, are pointed at."""
    first = sealed(definition())
    forged = replace(first, definition=definition(alpha=0.2))
    assert "MIND: the definition of version 1 is not the one" in html_text(report(versions=[forged]))
    lost = replace(sealed(definition(alpha=0.01), first), previous_sha256="0" * 64)
    assert "MIND: version 2 does not follow version 1" in html_text(report(versions=[first, lost]))


def standing(found: Finding | None, level: float | None, form: Callable[[Report], str]) -> str:
    """Tell the report of an experiment with this finding, the second in the register."""
    made = definition()
    own = [] if found is None else [replace(found, experiment_id=made.experiment_id, sha256=digest(made))]
    return form(report(made, findings=[finding("first", Verdict.REFUTED), *own], level=level))


NEGATIVE = "It claims no effect, so there is none to stand: what it rules out, its interval rules out."
KNEE = "It is judged by the interval of its knee, not by a test of an effect."
LEVEL = "LORD++ gives this finding the level 0.012, after 1 finding before it."


@FORMS
@pytest.mark.parametrize(
    ("found", "level", "words"),
    [
        (None, 0.0123, "Not concluded yet. LORD++ gives each finding, in the order of their conclusion, a level"),
        (
            finding("own", Verdict.SUPPORTED, p=4e-7),
            0.0123,
            f"{LEVEL} Its p of 4e-07 is within it: the effect stands among all experiments.",
        ),
        (
            finding("own", Verdict.SUPPORTED, p=0.02),
            0.0123,
            f"{LEVEL} Its p of 0.02 is above it: the effect does not stand among all experiments.",
        ),
        (finding("own", Verdict.REFUTED, p=1e-9), 0.0123, f"{LEVEL} {NEGATIVE}"),
        (finding("own", Verdict.UNDETERMINED), 0.0123, f"{LEVEL} {NEGATIVE}"),
        (finding("own", Verdict.SUPPORTED, p=1.0), 0.0123, f"{LEVEL} {KNEE}"),
        (finding("own", Verdict.SUPPORTED, effect=None, p=1.0), 0.0123, f"{LEVEL} {KNEE}"),
        (
            finding("own", Verdict.SUPPORTED, p=1e-9, label=Label.EXPLORATORY),
            None,
            "Exploratory, after 1 finding before it: it claims nothing and has no level. Another experiment can",
        ),
    ],
)
def test_what_a_finding_is_among_all_is_told_in_words(
    found: Finding | None, level: float | None, words: str, form: Callable[[Report], str]
) -> None:
    """Not concluded, exploratory, negative, a knee, an effect that stands, one that does not: each is said as such."""
    told = standing(found, level, form)
    assert words in told
    others = {"Not concluded yet.", "Exploratory, after", NEGATIVE, KNEE, "the effect stands", "does not stand"}
    assert [other for other in others if other in told] == [other for other in others if other in words]


@FORMS
def test_a_change_beyond_all_numbers_is_told(form: Callable[[Report], str]) -> None:
    """An interval of ln time whose end no float holds as a ratio does not keep the report from being written."""
    made, whole = timed()
    wide = replace(effect(made.outcome, -0.2, 0.15), anytime_lo=-900.0, anytime_hi=900.0)
    told = form(report(made, result=replace(whole, effect=wide), findings=[]))
    assert "Not concluded yet." in told


def test_without_a_sealed_version_there_is_no_report() -> None:
    """A draft has nothing that was sealed: the error names it and says what to do."""
    with pytest.raises(InvalidExperiment, match="agents-2026-03 has no sealed version to report: start it first"):
        html_report(report(versions=[]))


def test_pictures_hold_what_is_known() -> None:
    """Values below the floor are left out; without effect, contrasts or means there is no such picture."""
    made = definition()
    whole = result(made)
    few = replace(whole, arms=[replace(whole.arms[0], mean=None), *whole.arms[1:]])
    picture = outcome_picture(few, made)
    assert picture is not None
    assert [bar.place for bar in picture.bars] == [2.0, 4.0, 8.0]
    assert [round(point.middle, 9) for point in picture.curve] == [42.0, 49.0, 60.0, 64.0]
    assert picture.logarithmic
    empty = replace(whole, arms=[replace(arm, mean=None) for arm in whole.arms], contrasts=[], effect=None)
    assert outcome_picture(empty, made) is None
    assert contrast_picture(empty, made) is None
    assert effect_picture(empty, made) is None


def test_categories_stand_side_by_side_without_a_curve() -> None:
    """A law of labels has no line to draw; the categories are on a linear axis."""
    made = definition(
        dimension_tested=Dimension.MODEL_SIZE,
        values_tested=["small", "medium", "large"],
        control_value="small",
        estimand="contrast",
    )
    known = result(made, (0.4, 0.5, 0.6), contrasts=[], missing={"law": "labels"})
    picture = outcome_picture(known, made)
    assert picture is not None
    assert [bar.place for bar in picture.bars] == [0.0, 1.0, 2.0]
    assert not picture.curve
    assert not picture.logarithmic
    assert "The averaged law is not known: labels" in html_text(report(made, result=known))


def test_labels_that_would_overlap_are_left_out() -> None:
    """Of sixteen values on a logarithmic axis the crowded ones have no label, but the last and the first have."""
    values = [float(value) for value in range(1, 17)]
    made = definition(values_tested=values)
    picture = outcome_picture(result(made, [0.4 + value / 100 for value in values]), made)
    assert picture is not None
    axis = figure_of(picture)["layout"]["xaxis"]
    labelled = sorted(axis["tickvals"])
    assert labelled[0] == 1.0
    assert labelled[-1] == 16.0
    assert len(labelled) < 16
    apart = [math.log(b / a) / math.log(16) for a, b in pairwise(labelled)]
    assert min(apart) > 0.03
    assert (
        next(text for at, text in zip(axis["tickvals"], axis["ticktext"], strict=True) if at == 1.0) == "1<br>control"
    )


def test_a_text_plot_keeps_the_order_of_the_numbers() -> None:
    """In each row the marks run from the interval at any look over that of one look to the estimate and back."""
    made = definition()
    picture = contrast_picture(result(made), made)
    assert picture is not None
    rows = [line for line in text_plot(picture).splitlines() if " against " in line]
    assert len(rows) == 3
    for row in rows:
        assert re.search(r"·+━+●━+·+", row.replace("░", " ").replace("│", " ")), row
    assert [row.index("●") for row in rows] == sorted(row.index("●") for row in rows)


def test_hostile_texts_are_inert_in_html() -> None:
    """Markup in a name, a reason, a sentence or a value adds no element and no attribute; it is shown as text."""
    made = definition(name=HOSTILE, hypothesis=HOSTILE, context_filter={HOSTILE: HOSTILE})
    evil = result(made, sentence=HOSTILE, deviations=[HOSTILE], data={HOSTILE: HOSTILE}, missing={"power": HOSTILE})
    html = html_report(report(made, result=evil, findings=[finding(HOSTILE, Verdict.REFUTED, name=HOSTILE)]))
    known, hostile = read(html_report(report())), read(html)
    assert set(hostile.elements) == set(known.elements)
    assert hostile.elements.count("script") == 3
    assert "img" not in hostile.elements
    assert {name for name, _ in hostile.attributes} == {name for name, _ in known.attributes}
    assert "".join(hostile.shown).count(HOSTILE) >= 8


def test_hostile_texts_are_inert_in_markdown() -> None:
    """No tag is left, and every row of a table has as many cells as its head."""
    made = definition(name=HOSTILE, hypothesis=f"# {HOSTILE}\n\n```\n- [x](javascript:alert(1)) https://example.org")
    evil = result(made, sentence=HOSTILE, deviations=[HOSTILE], tests=[OneLookTest(HOSTILE, 1.0, 1.0, 0.5)])
    told = markdown_report(report(made, result=evil, findings=[finding("first", Verdict.REFUTED, name=HOSTILE)]))
    assert "<" not in re.sub(r"(?s)^```text.*?^```", "", told, flags=re.MULTILINE)
    assert not re.search(r"(?<!\\)\]\(", told)
    assert "https://" not in told
    tables = re.findall(r"(?m)(?:^\|.*\n)+", told)
    assert len(tables) > 8
    for table in tables:
        cells = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(cells) == 1, table
    assert escape_markdown("1. a") == r"1\. a"
    assert [escape_markdown(text) for text in ("- a", "---", "-12 points")] == [r"\- a", r"\---", "-12 points"]
    assert fenced("a ```` b").startswith("`````text\n")


def test_the_html_names_nothing_outside_of_itself() -> None:
    """Every reference is a data one, the policy forbids all requests, and scripts run by their hash only."""
    html = html_report(report())
    reader = read(html)
    references = [value for name, value in reader.attributes if name in {"src", "href", "action", "data", "srcset"}]
    assert references == ["data:,"]
    policies = [value for name, value in reader.attributes if name == "content" and value and "default-src" in value]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'; ")
    assert re.search(r"script-src 'sha256-[^']+' 'sha256-[^']+';", policies[0])
    assert "url(" not in html.split("</style>")[0]


def test_a_report_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """The ending says the form, an old report is replaced, and no part of one is left behind."""
    for name, start in (("a.html", "<!doctype html>"), ("b.HTM", "<!doctype html>"), ("c.md", "# Do more agents")):
        path = tmp_path / name
        path.write_text("old")
        write_report(report(), path)
        assert path.read_text(encoding="utf-8").startswith(start)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.html", "b.HTM", "c.md"]
    with pytest.raises(ScalingError, match=r"d.pdf does not end in .html, .htm, .md: the ending says how"):
        write_report(report(), tmp_path / "d.pdf")
    with pytest.raises(ScalingError, match=r"there is no folder .*nowhere for the report: make it"):
        write_report(report(), tmp_path / "nowhere" / "e.md")
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(ScalingError, match=r"the report cannot be written to .*folder.md: "):
        write_report(report(), tmp_path / "folder.md")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.html", "b.HTM", "c.md", "folder.md"]


@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome is on PATH: install Debian's chromium")
def test_a_browser_draws_all_pictures_and_runs_nothing_else(tmp_path: Path) -> None:
    """Offline and under its policy the page draws three pictures with error bars; hostile texts run nothing."""
    made = definition(name=HOSTILE, hypothesis=HOSTILE)
    path = tmp_path / "report.html"
    write_report(report(made, result=result(made, sentence=HOSTILE)), path)
    assert BROWSER is not None
    found = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--enable-logging=stderr",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1280,900",
            "--virtual-time-budget=20000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert not [line for line in found.stderr.splitlines() if "CONSOLE" in line]
    dom = found.stdout
    figures = re.findall(r"(?s)<figure>.*?</figure>", dom)
    assert [re.findall(r'id="([^"]+)" role', figure)[0] for figure in figures] == [
        "effect",
        "outcome-by-value",
        "contrasts",
    ]
    for figure, kind, bars in zip(figures, ("xerror", "yerror", "xerror"), (1, 4, 3), strict=True):
        assert 'class="main-svg"' in figure
        drawn = re.findall(rf'<path class="{kind}"[^>]* d="([^"]+)"', figure)
        assert len(drawn) >= 2 * bars
    assert "averaged law" in figures[1]
    assert "knee 4 [2, 8]" in figures[1]
    assert "data-owned" not in dom
    assert "&lt;script&gt;document" in dom
