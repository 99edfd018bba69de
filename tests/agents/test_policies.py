"""Policies as people write them, and what they give."""

import json

import pytest

from agents.policies import Act, parse_policy, read_rules
from models.allocations import Setting
from models.errors import SettingsError

CHOICE = Setting(4, 6, 48_000, 3, "large")


def test_greedy_gives_what_was_chosen() -> None:
    """Without rules a policy is the allocator's choice, parallelism included."""
    act = parse_policy("greedy").act(CHOICE, ["global"])
    assert act == Act(CHOICE)
    assert act.equals(CHOICE)
    assert not act.equals(Setting(4, 6, 48_000, 2, "large"))


def test_a_fixed_setting_takes_what_it_leaves_out_from_the_choice() -> None:
    """Parallelism is held to the agents, and does not count where the policy does not say it."""
    act = parse_policy("agent_count=2, max_iterations=5").act(CHOICE, ["global"])
    assert act == Act(Setting(2, 5, 48_000, 2, "large"), 0, any_parallelism=True)
    assert act.equals(Setting(2, 5, 48_000, 1, "large"))
    assert not act.equals(Setting(2, 5, 48_000, 1, "small"))
    assert not act.equals(Setting(2, 5, 32_000, 2, "large"))


def test_a_whole_setting_is_compared_as_a_whole() -> None:
    """With parallelism given, it counts."""
    policy = parse_policy("agent_count=3,max_iterations=5,context_budget=32000,parallelism=3,model_size=small")
    act = policy.act(CHOICE, ["global"])
    assert act == Act(Setting(3, 5, 32_000, 3, "small"), 0)
    assert act.equals(Setting(3, 5, 32_000, 3, "small"))
    assert not act.equals(Setting(3, 5, 32_000, 2, "small"))


def test_the_first_rule_that_a_task_meets_decides() -> None:
    """A context of several parts is met where each is; a task that meets no rule gets the choice."""
    rules = [
        {"context": "complexity_band=high&project=a", "setting": {"agent_count": 8}},
        {"context": "complexity_band=high", "setting": {"agent_count": 6}},
        {"context": "complexity_band=high&project=b", "setting": {"agent_count": 1}},
    ]
    policy = read_rules("@rules.json", json.dumps(rules).encode())
    contexts = ["global", "complexity_band=high", "project=a"]
    assert [policy.act(CHOICE, each).rule for each in (contexts, ["global", "complexity_band=high"], ["global"])] == [
        0,
        1,
        None,
    ]
    assert policy.act(CHOICE, ["global", "complexity_band=high&project=a"]).setting.agent_count == 8
    assert policy.act(CHOICE, ["global", "project=b"]) == Act(CHOICE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("best", "'best' is no part of a setting; give logged, greedy, @FILE.json, or parts"),
        ("", "'' is no part of a setting"),
        ("agents=3", "'agents' is no part of a setting"),
        ("agent_count=3,agent_count=4", "give each part once"),
        ("agent_count=many", "Expected `int | null`, got `str`"),
        ("agent_count=0", "`int` >= 1"),
        ("agent_count", "Expected `int | null`, got `str`"),
    ],
)
def test_what_is_no_policy_is_refused_with_the_reason(text: str, reason: str) -> None:
    """The message names what is wrong, and what there is."""
    with pytest.raises(SettingsError) as refusal:
        parse_policy(text)
    assert reason in str(refusal.value)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"{}", "Expected `array`, got `object`"),
        (b"[", "Input data was truncated"),
        (b"\xff", "malformed"),
        (b'[{"context": "global"}]', "missing required field `setting`"),
        (b'[{"setting": {"agents": 3}}]', "unknown field `agents`"),
        (b'[{"setting": {}}]', "the rule for global gives nothing: name one of agent_count"),
        (b'[{"context": "high", "setting": {"agent_count": 1}}]', "context = 'high': must be global, or such as"),
    ],
)
def test_rules_that_cannot_be_read_are_refused_with_the_reason(document: bytes, reason: str) -> None:
    """The message names what is wrong."""
    with pytest.raises(SettingsError) as refusal:
        read_rules("@r.json", document)
    assert reason in str(refusal.value)
