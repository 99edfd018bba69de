"""`scaling evaluate`: how policies and times are given, and what is shown."""

import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
import typer

from agents.evaluate import Evaluation, evaluate
from agents.past_decisions import PastDecision, Valued
from agents.policies import parse_policy
from cli.evaluating import evaluate as command
from cli.evaluating import moment, policy_of, remarks, values_table
from models.allocations import Setting
from models.errors import SettingsError


@pytest.fixture
def found() -> Evaluation:
    """Value the choice by 600 decisions, a tenth of them without a run."""
    rng = np.random.default_rng(1)
    choice, other = Setting(2, 5, 32_000, 2), Setting(4, 5, 32_000, 4)
    decisions = [
        PastDecision(
            f"d-{number}",
            choice if number % 2 else other,
            choice,
            0.5,
            ended=number >= 60,
            success=float(rng.random() < 0.5) if number >= 60 else None,
        )
        for number in range(600)
    ]
    return evaluate(decisions, parse_policy("greedy"))


def test_a_policy_is_words_parts_or_a_file(tmp_path: Path) -> None:
    """A file is named with an @; one that is not there is told."""
    file = tmp_path / "rules.json"
    file.write_text('[{"context": "project=a", "setting": {"agent_count": 4}}]', encoding="utf-8")
    assert [rule.context for rule in policy_of(f"@{file}").rules] == ["project=a"]
    assert policy_of("greedy") == parse_policy("greedy")
    assert len(policy_of("agent_count=3").rules) == 1
    with pytest.raises(SettingsError, match=r"gone\.json cannot be read: No such file"):
        policy_of(f"@{tmp_path / 'gone.json'}")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (None, None),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00+01:00", datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=1)))),
    ],
)
def test_a_time_without_a_zone_is_utc(text: str | None, read: datetime | None) -> None:
    """Dates and RFC 3339 are read."""
    assert moment(text) == read


def test_what_is_no_time_is_wrong_usage() -> None:
    """The message says what to give."""
    with pytest.raises(typer.BadParameter, match="--since yesterday: give a date such as 2026-01-31"):
        moment("yesterday")


@pytest.mark.parametrize(("outcome", "value"), [(Valued.SUCCESS, 2.0), (Valued.NET, math.inf), (Valued.NET, math.nan)])
def test_a_value_of_success_is_finite_and_for_the_net_value_only(outcome: Valued, value: float) -> None:
    """Elsewhere it would change nothing, so it is wrong usage."""
    with pytest.raises(typer.BadParameter, match="give it with --outcome net, and finite"):
        command("greedy", outcome=outcome, value=value)


def test_values_stand_beside_each_other_with_what_they_rest_on(found: Evaluation) -> None:
    """One row an estimate; then the sentence, the decisions, those left out, and what to mind."""
    table = values_table(found)
    assert list(table.columns[0].cells) == [
        *("doubly robust", "SNIPS", "IPS", "what was done", "difference", "outcome model alone")
    ]
    assert next(iter(table.columns[1].cells)) == f"{found.found.value.estimate:.4f}"
    sentence, rests, left_out, note = remarks(found)
    assert sentence == found.sentence
    assert rests.startswith("540 decisions about 540 tasks; in 270 of them the policy does what was done, worth 270 ")
    assert left_out == "Left out: 60 without a run yet."
    assert note.startswith("Mind that 10% of the decisions are left out")
