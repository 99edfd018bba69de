"""An allocation in the native settings of orchestrators."""

import doctest
import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import native_settings as module
from agents.native_settings import ORCHESTRATORS, native_settings
from models.allocations import Setting
from models.errors import SettingsError

PAGE = Path(__file__).parents[2] / "docs" / "orchestrators.md"
ROW = re.compile(
    r"^\| ([^|`]+), `([a-z0-9-]+)` \| `(\w+)` of `([\w.@]+)` \| ([^|]+) \|(?: [^|]*\|){2} \[[^]]+\]\(https://\S+\) \|$"
)

SETTING = Setting(agent_count=3, max_iterations=5, context_budget=18_000, parallelism=2, model_size="small")

EXPECTED: dict[str, tuple[dict[str, int | str], list[str]]] = {
    "claude-agent-sdk": (
        {
            "max_turns": 5,
            "CLAUDE_CODE_AUTO_COMPACT_WINDOW": "18000",
            "CLAUDE_CODE_MAX_TOOL_USE_CONCURRENCY": "2",
            "model": "small",
        },
        ["agent_count"],
    ),
    "openai-agents": (
        {"max_turns": 5, "compact_threshold": 18_000, "max_function_tool_concurrency": 2, "model": "small"},
        ["agent_count"],
    ),
    "langgraph": ({"recursion_limit": 11, "max_concurrency": 2}, ["agent_count", "context_budget", "model_size"]),
    "crewai": ({"max_iter": 5, "llm": "small"}, ["agent_count", "context_budget", "parallelism"]),
    "autogen": ({"max_turns": 15, "token_limit": 18_000}, ["parallelism", "model_size"]),
    "ag2": (
        {"max_round": 16, "max_consecutive_auto_reply": 5, "max_turns": 5, "max_tokens": 18_000},
        ["parallelism", "model_size"],
    ),
    "smolagents": ({"max_steps": 5, "max_tool_threads": 2}, ["agent_count", "context_budget", "model_size"]),
    "llamaindex": ({"max_iterations": 16, "token_limit": 18_000, "num_workers": 2}, ["model_size"]),
    "pydantic-ai": (
        {"request_limit": 5, "per_request_input_tokens_limit": 18_000, "max_concurrency": 2, "model": "small"},
        ["agent_count"],
    ),
    "google-adk": (
        {"max_iterations": 5, "max_llm_calls": 15, "token_threshold": 18_000, "model": "small"},
        ["parallelism"],
    ),
    "agent-framework": ({"max_rounds": 15, "token_budget": 18_000}, ["parallelism", "model_size"]),
    "semantic-kernel": ({"max_rounds": 15}, ["context_budget", "parallelism", "model_size"]),
    "inspect-ai": (
        {"epochs": 3, "turn_limit": 5, "threshold": 18_000, "max_samples": 2, "model": "small"},
        [],
    ),
}

names = st.sampled_from(list(ORCHESTRATORS))
settings = st.builds(
    Setting,
    agent_count=st.integers(1, 64),
    max_iterations=st.integers(1, 100),
    context_budget=st.integers(1, 1_000_000),
    parallelism=st.integers(1, 64),
    model_size=st.sampled_from(["", "small", "large"]),
)


@pytest.mark.parametrize("name", ORCHESTRATORS)
def test_an_allocation_is_rendered(name: str) -> None:
    """Each orchestrator is given its own names, with values in what it counts."""
    native = native_settings(SETTING, name)

    assert (native.settings, native.not_expressible) == EXPECTED[name]


def test_a_note_says_where_a_setting_goes_and_what_it_counts() -> None:
    """There is one sentence a setting."""
    assert native_settings(SETTING, "langgraph").notes == [
        "recursion_limit of RunnableConfig counts supersteps of one agent's graph: 2 per iteration plus 1.",
        "max_concurrency of RunnableConfig counts nodes at a time.",
    ]


@given(settings, names)
def test_every_part_is_either_rendered_or_not_expressible(setting: Setting, name: str) -> None:
    """A part that is not named as inexpressible changes the settings when it alone changes, and no other does."""
    native = native_settings(setting, name)
    others = {part: value + 1 for part, value in asdict(setting).items() if part != "model_size"}
    if setting.model_size:
        others["model_size"] = "medium"

    changed = {part for part, value in others.items() if rendered(setting, name, part, value) != native.settings}

    assert changed == set(others) - set(native.not_expressible)
    assert len(native.notes) == len(native.settings)


def rendered(setting: Setting, name: str, part: str, value: int | str) -> dict[str, int | str]:
    """Render the setting with one part changed."""
    return native_settings(replace(setting, **{part: value}), name).settings  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ORCHESTRATORS)
def test_a_size_that_is_not_chosen_is_left_alone(name: str) -> None:
    """No model is set, and nothing is missing."""
    native = native_settings(replace(SETTING, model_size=""), name)

    assert "small" not in native.settings.values()
    assert "" not in native.settings.values()
    assert "model_size" not in native.not_expressible


def test_an_unknown_orchestrator_is_refused() -> None:
    """The message names the value and the known ones."""
    with pytest.raises(
        SettingsError, match=r"orchestrator = 'graphlang': must be one of claude-agent-sdk, .*inspect-ai"
    ):
        native_settings(SETTING, "graphlang")


def test_the_documentation_has_every_setting() -> None:
    """Its table has a row for each, in the same order, with what is rendered and a source."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if " | `" in line]

    matches = [ROW.match(row) for row in rows]

    assert [match and match.groups() for match in matches] == [
        (orchestrator.title, name, knob.name, knob.owner, formula(knob))
        for name, orchestrator in ORCHESTRATORS.items()
        for knob in orchestrator.knobs
    ]


def formula(knob: module.Knob) -> str:
    """Write what a setting renders as the documentation does."""
    times = f"{knob.times} x " if knob.times > 1 else ""
    plus = f" + {knob.plus}" if knob.plus else ""
    return times + " x ".join(knob.parts) + plus


def test_only_known_parts_are_rendered_once_each_setting() -> None:
    """Settings of one orchestrator have different names, and their parts are those of an allocation."""
    parts = {field.name for field in fields(Setting)}
    for orchestrator in ORCHESTRATORS.values():
        assert len({knob.name for knob in orchestrator.knobs}) == len(orchestrator.knobs)
        assert parts.issuperset(part for knob in orchestrator.knobs for part in knob.parts)


def test_examples_run() -> None:
    """The examples in docstrings are true."""
    assert doctest.testmod(module).failed == 0
