"""The report of an experiment as a page: what was asked and sealed, what came of it, and what else was found."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from agents.definitions import digest
from analytics.sentences import DIMENSION_WORDS, OUTCOME_WORDS, count, listed
from cli.law_page import NOTHING
from cli.report.blocks import Badge, Block, Facts, Grid, Highlight, Items, Page, Section, Text, Tone
from cli.report.numbers import (
    change_with_interval,
    dollars,
    p_text,
    percent,
    plain,
    size_text,
    time_text,
)
from cli.report.result_sections import result_sections
from cli.report.unknowns import unknown_parts
from cli.report.words import (
    as_sentence,
    changed_fields,
    design_rows,
    effect_in_words,
    filter_in_words,
    value_text,
)
from models.dimensions import Dimension, Outcome
from models.errors import InvalidExperiment
from models.experiments import Finding, Label, Result, Sealed, Status, StatusRecord, Verdict

VERDICT_TONES: dict[Verdict, Tone] = {
    Verdict.SUPPORTED: "good",
    Verdict.REFUTED: "bad",
    Verdict.UNDETERMINED: "open",
}
LABEL_TONES: dict[Label, Tone] = {Label.CONFIRMATORY: "firm", Label.EXPLORATORY: "loose"}

STATUS_WORDS = {
    Status.DRAFT: "A draft",
    Status.RUNNING: "Running",
    Status.COMPLETED: "Completed, waits for outcomes",
    Status.ANALYZED: "Analysed",
    Status.STOPPED: "Stopped",
}

SHORT_HASH = 12
DAY = len("2026-03-01")


@dataclass(frozen=True, slots=True)
class Report:
    """What a report is made from.

    Attributes:
        versions: The sealed versions of one definition, at least one, the first one first.
        status: Where the experiment stands.
        result: What it says now; None while there is nothing to say.
        findings: The register of all findings, in the order of their tests.
        level: The level that LORD++ gave this experiment's own finding; None before it is concluded.
    """

    versions: Sequence[Sealed]
    status: StatusRecord
    result: Result | None
    findings: Sequence[Finding]
    level: float | None


def page_of(report: Report) -> Page:
    """Lay out a report.

    Raises:
        InvalidExperiment: No version of the experiment was sealed.
    """
    if not report.versions:
        identifier = report.status.experiment_id
        raise InvalidExperiment(f"experiment {identifier} has no sealed version to report: start it first")
    latest, result, status = report.versions[-1], report.result, report.status
    definition = latest.definition
    badges = [Badge(STATUS_WORDS[status.status], "plain")]
    if result is not None:
        badges = [
            Badge(result.verdict, VERDICT_TONES[result.verdict]),
            Badge(result.label, LABEL_TONES[result.label]),
            *badges,
        ]
    said = (status.reason, status.next_step) if result is None else (result.sentence, result.next_step)
    return Page(
        title=definition.name,
        subtitle=f"Experiment {definition.experiment_id}, version {latest.version}, "
        f"{STATUS_WORDS[status.status].lower()} since {time_text(status.since)}",
        badges=badges,
        summary=" ".join(filter(None, map(as_sentence, said))),
        highlights=list(_highlights(report)),
        sections=list(_sections(report)),
    )


def _sections(report: Report) -> Iterator[Section]:
    definition, result = report.versions[-1].definition, report.result
    yield Section("Hypothesis", [Text(definition.hypothesis)])
    yield Section("Design", [Facts(design_rows(definition)), *_seals(report.versions)])
    yield Section("Deviations", list(_deviations(report)))
    yield Section("Status", [Facts(_status(report.status))])
    if result is not None:
        yield from result_sections(result, _analysed(report, result).definition)
    yield Section("Standing among all findings", [Text(_standing(report))])
    yield Section("Register of findings", list(_register(report.findings)))
    yield Section("Data and code", [Facts(list(_provenance(report)))])
    unknown = list(unknown_parts(result)) if result is not None else []
    if unknown:
        yield Section("Not known, and why", [Items(unknown)])


def _highlights(report: Report) -> Iterator[Highlight]:
    result = report.result
    if result is None:
        return
    definition = _analysed(report, result).definition
    effect = result.effect
    if effect is not None:
        outcome = Outcome(effect.outcome)
        said = effect_in_words(effect, definition)
        yield Highlight(f"Effect on {OUTCOME_WORDS[outcome]}", *said)
        yield Highlight("p at any look", p_text(effect.anytime_p), f"{p_text(effect.p)} for one look")
    knee = result.law.knee if result.law is not None else None
    if definition.estimand == "knee" and knee is not None:
        latest = plain(definition.knee_at_most or knee.value)
        yield Highlight("Knee", plain(knee.value), f"[{plain(knee.lo)}, {plain(knee.hi)}], expected by {latest}")
    assigned = sum(arm.assigned for arm in result.arms)
    yield Highlight("Runs", f"{result.runs:,}", f"of {count(assigned, 'assignment')}")
    if result.power is not None:
        least = size_text(definition.outcome, definition.minimum_effect)
        yield Highlight("Power", percent(result.power), f"for the minimum effect of {least}")
    yield Highlight("Cost", dollars(result.dollars), f"{count(result.unpriced, 'run')} unpriced")


def _seals(versions: Sequence[Sealed]) -> Iterator[Block]:
    yield Grid(
        "Sealed versions",
        ["Version", "Sealed", "SHA-256", "Follows", "By", "Reason", "Code"],
        "rlcllll",
        [
            [
                str(each.version),
                time_text(each.sealed_at),
                each.sha256,
                NOTHING if each.previous_sha256 is None else each.previous_sha256[:SHORT_HASH],
                each.by or NOTHING,
                each.reason or NOTHING,
                each.code_version,
            ]
            for each in versions
        ],
    )
    broken = list(_broken(versions))
    if broken:
        yield Items(broken)
    else:
        chain = " and the versions follow one another" if len(versions) > 1 else ""
        yield Text(f"The hash of each version is that of its definition{chain}.", note=True)


def _broken(versions: Sequence[Sealed]) -> Iterator[str]:
    """Say where a definition is not the one that was hashed, or a version does not follow the one before it."""
    for each in versions:
        if digest(each.definition) != each.sha256:
            yield f"MIND: the definition of version {each.version} is not the one that its hash was made of."
    for before, after in pairwise(versions):
        if after.previous_sha256 != before.sha256:
            yield f"MIND: version {after.version} does not follow version {before.version}: the chain is broken."


def _deviations(report: Report) -> Iterator[Block]:
    told = list(report.result.deviations) if report.result is not None else []
    if told:
        yield Items(told)
    for before, after in pairwise(report.versions):
        reason = f" ({after.reason})" if after.reason else ""
        yield Text(f"From version {before.version} to version {after.version}{reason}:")
        yield Items(changed_fields(before.definition, after.definition) or ["nothing differs"])
    if not told and len(report.versions) == 1:
        yield Text(
            "None so far: there is no result yet."
            if report.result is None
            else "None: everything went as it was sealed."
        )
    if report.result is not None and report.result.version != report.versions[-1].version:
        yield Text(f"The result is still that of version {report.result.version}.", note=True)


def _status(status: StatusRecord) -> list[tuple[str, str]]:
    rows = [
        ("Stands", f"{STATUS_WORDS[status.status].lower()} since {time_text(status.since)}"),
        ("Why", status.reason),
        ("Next", status.next_step),
        ("By", status.by),
    ]
    return [(name, text) for name, text in rows if text]


def _standing(report: Report) -> str:
    """Say which level LORD++ gave this experiment's finding, and what that means for it."""
    own = _own(report)
    if own is None:
        return (
            "Not concluded yet. LORD++ gives each finding, in the order of their conclusion, a level of its own, which "
            "bounds the share of false ones among all effects that stand."
        )
    before = count(report.findings.index(own), "finding")
    if report.level is None or own.label is Label.EXPLORATORY:
        return (
            f"Exploratory, after {before} before it: it claims nothing and has no level. "
            "Another experiment can confirm it."
        )
    level = f"LORD++ gives this finding the level {report.level:.2g}, after {before} before it."
    if own.verdict is not Verdict.SUPPORTED:
        return f"{level} It claims no effect, so there is none to stand: what it rules out, its interval rules out."
    if own.effect is None or own.p >= 1:
        return f"{level} It is judged by the interval of its knee, not by a test of an effect."
    told = "within it: the effect stands" if own.p <= report.level else "above it: the effect does not stand"
    return f"{level} Its p of {own.p:.2g} is {told} among all experiments."


def _own(report: Report) -> Finding | None:
    latest = report.versions[-1]
    wanted = {each.sha256 for each in report.versions}
    mine = [
        each
        for each in report.findings
        if each.experiment_id == latest.definition.experiment_id and each.sha256 in wanted
    ]
    return mine[-1] if mine else None


def _register(findings: Sequence[Finding]) -> Iterator[Block]:
    if not findings:
        yield Text("No experiment has been concluded yet.")
        return
    found = Counter(each.verdict for each in findings)
    tally = listed([f"{found[verdict]} {verdict}" for verdict in Verdict])
    yield Text(f"{count(len(findings), 'finding')}: {tally}. That a hypothesis is refuted is a finding like any other.")
    yield Grid(
        "In the order of their conclusion",
        ["", "Experiment", "Verdict", "What was found", "Effect", "p", "Runs", "Cost", "Concluded"],
        "rplprrrrr",
        [_finding(place, each) for place, each in enumerate(findings, 1)],
    )


def _finding(place: int, finding: Finding) -> list[str]:
    effect = finding.effect
    known = [value_text(value) for value in finding.values]
    words = DIMENSION_WORDS[Dimension(finding.dimension)] if finding.dimension in set(Dimension) else finding.dimension
    version = f"{finding.experiment_id}, version {finding.version}"
    tasks = filter_in_words(finding.context_filter)
    return [
        str(place),
        f"{finding.name} ({version}): {words} {listed(known)}; {tasks}",
        f"{finding.verdict}, {finding.label}",
        finding.sentence,
        NOTHING if effect is None else change_with_interval(Outcome(effect.outcome), effect.estimate),
        p_text(finding.p),
        f"{finding.runs:,}",
        dollars(finding.dollars),
        time_text(finding.concluded_at)[:DAY],
    ]


def _provenance(report: Report) -> Iterator[tuple[str, str]]:
    latest, result = report.versions[-1], report.result
    yield "Definition", f"{latest.sha256} (SHA-256, version {latest.version})"
    yield "Sealed by code", latest.code_version
    yield "Analysis version", str(latest.definition.analysis_version)
    if result is None:
        return
    if result.sha256 != latest.sha256:
        yield "Definition analysed", f"{result.sha256} (SHA-256, version {result.version})"
    yield "Analysed", f"{time_text(result.analysed_at)}, look {result.look:,}"
    yield "Analysed by code", result.code_version or NOTHING
    yield "Repeats", f"{count(result.repeats, 'run')} came after the first one of their assignment"
    yield "Without proof", f"{count(result.unproven, 'run')} named the experiment without a valid token: no evidence"
    yield from result.data.items()


def _analysed(report: Report, result: Result) -> Sealed:
    """Give the version that a result is about; the latest one where it is not there."""
    return next((each for each in report.versions if each.version == result.version), report.versions[-1])
