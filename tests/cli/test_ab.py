"""`scaling ab`: plans, and the report of a test in words and pictures."""

import json
import math
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec import structs
from typer.testing import CliRunner

from agents.ab_result import STEPS, STRATA, ABLog, ArmLog, Given, read_test
from analytics.outcome_per_cost import Arm as Moments
from cli.ab import app, checked, document, progress
from cli.ab_plan import plan_sentences, refuse, setting_of
from cli.report.ab_page import ABReport, comparison_grid, page_of_test, ratio_picture, settings_picture
from cli.report.lines import as_rows, lines_figure, thinned
from cli.report.text_plot import text_plot
from cli.report.writing import html_page, markdown_page, write_page
from models.allocations import ABTest, Arm, Setting
from models.errors import InvalidExperiment, ScalingError
from streams.ab_log import Past

HOSTILE = "<script>document.title='owned'</script> | <img src=x onerror=alert(1)>"
FIXED = "agent_count=3,max_iterations=5,context_budget=32000,parallelism=3"
TEST = ABTest("spring", Setting(3, 5, 32000, 3), "ada", "worth it?", "2026-03-01T08:00:00Z", margin=0.03)

run = CliRunner().invoke
replace = structs.replace


def arm_log(seed: int, runs: int, rate: float, cost: float, **fields: int) -> ArmLog:
    """Draw an arm that succeeds and costs so much, without strata."""
    rng = np.random.default_rng(seed)
    steps = []
    for size in np.diff(np.linspace(0, runs, STEPS + 1).astype(int)):
        y = (rng.random(size) < rate).astype(np.float64)
        steps.append(Moments.of(y, cost * rng.lognormal(0, 0.4, size), np.zeros(size, np.int64), STRATA))
    known = {"tasks": runs + 10, "pending": 10, "reporting": runs, "complied": runs // 2}
    return ArmLog(**{**known, **fields}, spend=cost * runs, steps=steps)


def report(test: ABTest = TEST, runs: int = 3000, **fields: int) -> ABReport:
    """Make the report of a test whose dynamic arm is cheaper and better."""
    arms = {Arm.DYNAMIC: arm_log(1, runs, 0.6, 0.8, explored=7, **fields), Arm.FIXED: arm_log(2, runs, 0.5, 1.0)}
    times = [f"2026-03-{day + 1:02}T08:00:00Z" for day in range(STEPS)]
    setting = {"agent_count": 1.5, "max_iterations": 5.0, "context_budget": 16000.0, "parallelism": 1.0}
    given = [Given(tenth / 10, 50 + tenth, setting) for tenth in range(10)]
    log = ABLog(arms, times, given)
    return ABReport(test, log, read_test(test, log))


def test_a_plan_is_shown_without_a_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run says what is assumed, and that a point of margin without an expected gain takes 65,000 runs an arm."""
    monkeypatch.setenv("SCALING_CLICKHOUSE", "http://127.0.0.1:1")
    shown = run(app, ["start", "spring", "--fixed", FIXED, "--reason", "why not", "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert "Plan: 65,147 runs in each of two equal arms, or 130,294 tasks in all" in shown.output
    assert "the gain alone takes 6,619 runs in each arm" in shown.output
    assert "--difference 0.02 (7,239 runs)" in shown.output
    assert "--margin 0.03 (7,239 runs)" in shown.output
    assert "what was not given is assumed" in shown.output
    assert "Started" not in shown.output
    wide = run(app, ["start", "s", "--fixed", FIXED, "--reason", "r", "--dry-run", "--difference", "0.05"])
    assert "Mind" not in wide.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fixed", "agent_count=3"], "give whole numbers above 0 as in agent_count=3,"),
        (["--fixed", FIXED.replace("=3,", "=0,")], "give whole numbers above 0"),
        (["--fixed", f"{FIXED},colour=4"], "give whole numbers above 0"),
        (["--fixed", FIXED.replace("parallelism=3", "parallelism=4")], "parallelism may not exceed agent_count = 3"),
        (["--fixed", FIXED, "--margin", "1.5"], r"Expected `float` < 1.0 - at `\$.margin`"),
        (["--fixed", FIXED, "--difference", "-0.02"], "a plan needs"),
        (["--fixed", FIXED, "--by", ""], r"length >= 1 - at `\$.by`"),
    ],
)
def test_a_wrong_option_is_told(options: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that breaks a rule is refused by the name of what is wrong."""
    monkeypatch.setenv("SCALING_CLICKHOUSE", "http://127.0.0.1:1")
    refused = run(app, ["start", "spring", "--reason", "r", "--dry-run", *options])
    assert isinstance(refused.exception, ScalingError)
    assert re.search(words, str(refused.exception))


def test_a_setting_is_read_from_its_parts() -> None:
    """The size of the model is a name and may be left out; order and spaces do not matter."""
    assert setting_of(f" {FIXED} ") == Setting(3, 5, 32000, 3)
    assert setting_of("model_size=small, parallelism=1,context_budget=1000,max_iterations=2,agent_count=4") == Setting(
        4, 2, 1000, 1, "small"
    )


def test_what_is_known_of_a_context_is_said() -> None:
    """Where runs of the context are known the plan names how many it rests on."""
    told = " ".join(plan_sentences(replace(TEST, rate=0.62, context="project=atlas"), Past(1234, 0.62, 1.0)))
    assert "success rate 62 %, standard deviation of a run's cost 100 % of its mean; where not given, of 1,234" in told
    assert "for tasks of project=atlas" in told


def test_a_test_that_would_get_no_task_is_refused() -> None:
    """Ids are not used again; a test under another one that takes all its tasks never starts, one beside it may."""
    known = {"spring": TEST}
    with pytest.raises(InvalidExperiment, match="spring already"):
        refuse(TEST, known)
    atlas = replace(TEST, test_id="atlas", context="project=atlas")
    with pytest.raises(InvalidExperiment, match="spring runs on global"):
        refuse(atlas, known)
    refuse(atlas, {"spring": replace(TEST, ended_at="2026-03-02T08:00:00Z")})
    refuse(TEST, {"atlas": atlas})
    assert "Mind: atlas runs on project=atlas, began earlier" in " ".join(plan_sentences(TEST, None, [atlas]))


def test_a_test_is_checked_before_it_is_published() -> None:
    """What a reader of the topic would refuse is refused here."""
    fields = structs.asdict(TEST)
    assert checked(**fields) == TEST
    with pytest.raises(InvalidExperiment, match=r"test_id"):
        checked(**fields | {"test_id": "a b"})


@pytest.mark.parametrize("form", [html_page, markdown_page])
def test_a_report_has_the_verdict_and_what_it_rests_on(form: object) -> None:
    """Both forms have the sentence, both arms, the plain intervals labelled as such, and what became of tasks."""
    made = report()
    assert callable(form)
    text = form(page_of_test(made))
    for words in (
        "Dynamic allocation brings",
        "(holds at any look), and loses no more than 3 points of success: better.",
        "Plain, for one look only",
        "3 agents, 5 iterations, 32,000 context tokens, parallelism 3",
        "10 tasks without a run so far",
        "explored",
        "Was the comparison fair?",
        "0.9 to 1.0",
    ):
        assert words.replace(" %", "\N{NO-BREAK SPACE}%") in re.sub(r"\\(.)", r"\1", text).replace(
            " %", "\N{NO-BREAK SPACE}%"
        ), words


def test_a_report_shows_hostile_texts_as_they_are(tmp_path: Path) -> None:
    """What people wrote into a test is shown, never run; nor is it in the figures."""
    made = report(replace(TEST, reason=HOSTILE, by=HOSTILE, context=f"project={HOSTILE}"))
    write_page(page_of_test(made), tmp_path / "ab.html")
    html = (tmp_path / "ab.html").read_text()
    assert HOSTILE not in html
    assert "&lt;script&gt;document.title" in html
    assert "<script>document" not in markdown_page(page_of_test(made))
    with pytest.raises(ScalingError, match="does not end in"):
        write_page(page_of_test(made), tmp_path / "ab.pdf")


def test_the_pictures_follow_the_log() -> None:
    """The last point of an arm is its ratio; settings are drawn as multiples of the fixed one, by complexity."""
    made = report()
    over_time, settings = ratio_picture(made), settings_picture(made)
    assert over_time is not None
    assert settings is not None
    assert [line.name for line in over_time.lines] == ["dynamic", "fixed"]
    last = over_time.lines[0].spots[-1]
    pooled = made.log.arms[Arm.DYNAMIC].moments.pooled.mean[0]
    assert last.y == pytest.approx(pooled[0] / pooled[1])
    assert last.lo is not None
    assert last.hi is not None
    assert last.lo < last.y < last.hi
    assert [line.spots[0].y for line in settings.lines] == pytest.approx([0.5, 1.0, 0.5, 1 / 3])
    figure = lines_figure(over_time)
    assert len(figure["data"]) == 6
    assert figure["layout"]["xaxis"]["type"] == "date"
    assert len(lines_figure(settings)["data"]) == 4
    json.dumps([figure, lines_figure(settings)])


def test_lines_are_told_as_rows_of_text() -> None:
    """Each line has eight rows at the most, its first and last point among them."""
    picture = ratio_picture(report())
    assert picture is not None
    rows = as_rows(picture).bars
    assert len(rows) == 16
    assert text_plot(as_rows(picture)).count("dynamic, 03-") == 8
    spots = picture.lines[0].spots
    assert thinned(spots)[0] == spots[0]
    assert thinned(spots)[-1] == spots[-1]
    assert thinned(spots[:3]) == spots[:3]


def test_an_ended_test_keeps_its_verdict() -> None:
    """The page of an ended test shows how it ended, and what all runs say by now beside it."""
    done = replace(
        TEST, ended_at="2026-03-05T08:00:00Z", ended_by="rule", verdict="worse", sentence="It was worse: worse."
    )
    page = page_of_test(report(done))
    assert [badge.text for badge in page.badges] == ["worse", "Ended"]
    assert page.summary == "It was worse: worse."
    assert "ended 2026-03-05 08:00 UTC by rule" in page.subtitle
    assert "With all runs that are in by now: Dynamic allocation brings" in markdown_page(page)


def test_too_few_runs_leave_gaps_that_are_named() -> None:
    """Without enough runs there is neither comparison nor picture, and the page says why."""
    made = report(runs=0)
    assert comparison_grid(made) is None
    assert ratio_picture(made) is None
    text = markdown_page(page_of_test(made))
    assert "Not known: a look needs 100 runs in each arm, one has 0" in text
    empty = ABReport(TEST, ABLog({arm: ArmLog() for arm in Arm}), made.reading)
    assert "No task of known complexity yet" in html_page(page_of_test(empty))


def test_a_document_has_everything() -> None:
    """What `--json` prints can be written, and has counts, verdict and look."""
    known = msgspec.json.decode(msgspec.json.encode(document(report())))
    assert known["verdict"] == "better"
    assert known["arms"]["dynamic"]["runs"] == 3000
    assert known["arms"]["fixed"]["successes_per_dollar"] == pytest.approx(0.5 / math.exp(0.08), rel=0.05)
    assert known["look"]["better"] is True
    assert [ratio["stage"] for ratio in known["sample_ratio"]] == ["assigned", "counted"]


def test_a_watch_says_how_it_stands_in_a_line() -> None:
    """Runs, both sequences and the verdict; an alarm is told as it is."""
    assert re.match(r"3,000 \+ 3,000 of [\d,]+ runs an arm; at any look: .*: better$", progress(report().reading))
    assert "do not have the tasks" in progress(report(tasks=9000).reading)
