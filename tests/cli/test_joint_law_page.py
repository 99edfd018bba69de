"""The page of a joint law, and where commands for laws of one dimension refuse one."""

from collections.abc import Callable
from io import StringIO

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cli.joint_law_page import describe_jointly
from cli.main import app
from models.dimensions import Outcome
from models.joint_laws import JointLaw

Make = Callable[..., JointLaw]


def page(law: JointLaw) -> str:
    """Render the page of a law as a wide file would get it."""
    file = StringIO()
    describe_jointly(law, Console(width=160, file=file))
    return file.getvalue()


def rows(text: str, name: str) -> list[list[str]]:
    """Give the cells of the rows of all tables that begin with a name."""
    lines = (line for line in text.splitlines() if line.startswith(f"│ {name} "))
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_the_page_of_a_joint_law_says_what_the_record_does(make_joint_law: Make) -> None:
    """Each term has its coefficient and the root of its variance; then prices, range, typical values and reasons."""
    text = page(make_joint_law(Outcome.TOTAL_COST, version=12, clusters="project", sources=["observational"]))
    assert "global|joint|total_cost|audited, version 12, fitted 2026-03-01T00:00:00Z from 200 runs (obs" in text
    assert "established; adjusted; epoch 1" in text
    assert "log(E[total_cost] / base)" in text
    assert rows(text, "ln_agents") == [["ln_agents", "0.5", "0.2"]]
    assert rows(text, "complexity") == [["complexity", "-0.75", "0.3"], ["complexity", "", "0", "1", "0.5"]]
    assert rows(text, "agents") == [["agents", "0.02"]]
    assert rows(text, "agent_count") == [["agent_count", "realised", "1", "8", "3"]]
    assert "not in it: context: no run says it" in text
    assert "within: project" in text


def test_the_page_of_a_joint_law_without_prices_or_terms_is_shorter(make_joint_law: Make) -> None:
    """Success has no base; a law that was withdrawn has its reason alone."""
    assert "Base" not in page(make_joint_law())
    nothing: dict[str, object] = {"terms": [], "coefficients": [], "covariance": [], "typical": {}, "support": {}}
    gone = page(make_joint_law(status="expired", missing={"terms": "too few runs"}, **nothing))
    assert "expired" in gone
    assert "not in it: terms: too few runs" in gone
    assert "coefficient" not in gone


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["verify"], "laws of one dimension"), (["show", "--half-life", "24"], "a joint law has several")],
)
def test_what_needs_one_dimension_refuses_a_joint_law(arguments: list[str], reason: str) -> None:
    """The error says why, before Kafka is asked."""
    done = CliRunner().invoke(app, ["laws", *arguments, "global|joint|success|audited"], env={"COLUMNS": "200"})
    assert done.exit_code != 0
    assert reason in f"{done.output} {done.exception}"
