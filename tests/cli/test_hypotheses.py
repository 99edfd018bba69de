"""`scaling hypotheses`: a table of verdicts."""

import socket
from collections.abc import Callable
from io import StringIO

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from analytics.hypotheses import HYPOTHESES, confront
from cli.hypotheses import verdict_table, verdicts_of
from cli.main import app
from models.dimensions import Outcome
from models.errors import NotReachable
from models.laws import Estimate, Law, Published, ValueRow


def text(renderable: object) -> str:
    """Render as a wide file would get it."""
    file = StringIO()
    Console(width=300, file=file).print(renderable)
    return file.getvalue()


def test_every_hypothesis_has_a_row_with_its_reason() -> None:
    """The table shows claim, finding, reason and evidence, and the context's brackets are not eaten."""
    law = Law(
        law_id="task_type=[a]|agent_count|success|live",
        tier="live",
        context="task_type=[a]",
        dimension="agent_count",
        outcome="success",
        version=1,
        epoch=1,
        fitted_at="",
        n=2400,
        status="established",
        evidence="associational",
        settings_hash="",
        values=[ValueRow(n=800, mean=0.5, lo=0.4, hi=0.6, x=x) for x in (1.0, 4.0, 8.0)],
        published=Published("plateau", {"plateau": 0.9}, {}, [], "", "rises"),
    )
    told = text(verdict_table(confront([law], "task_type=[a]"), "task_type=[a]"))
    assert "Hypotheses, task_type=[a]" in told
    for hypothesis in HYPOTHESES:
        assert hypothesis.claim in told
    assert "success rises with agents and log and saturating families have 90% of the weight" in told
    assert "2,400" in told
    assert told.count("undetermined") == 7


def test_a_trend_that_fails_among_all_laws_is_told(make_law: Callable[..., Law]) -> None:
    """Records carry no such judgement: it is made here, of one weak trend among twenty without any."""
    rises = Published("plateau", {"plateau": 0.9}, {}, [], "", "rises")
    weak = make_law(
        outcome=Outcome.SUCCESS, published=rises, trend=Estimate(0.1, 0.045, 0.01, 0.19), e_value=1.5, tier="live"
    )
    none = [
        make_law(context=f"project=p{number}", trend=Estimate(0.0, 0.05, -0.1, 0.1), e_value=0.2)
        for number in range(20)
    ]
    told = "; the trend does not stand among all 21 laws scanned"
    assert verdicts_of([weak, *none], "global", "all")[0].why.endswith(told)
    strong = msgspec.structs.replace(weak, trend=Estimate(0.1, 0.004, 0.092, 0.108), e_value=1e30)
    assert told not in verdicts_of([strong, *none], "global", "all")[0].why


def test_the_laws_are_asked_for_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Kafka the command says so."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("SCALING_KAFKA", f"127.0.0.1:{taken.getsockname()[1]}")
        result = CliRunner().invoke(app, ["hypotheses"])
    assert isinstance(result.exception, NotReachable)
