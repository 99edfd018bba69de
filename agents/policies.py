"""Policies that are valued: what each would have given the tasks of the log.

A policy is a list of rules, each a context and the parts of a setting that it gives there. The first rule that a task
meets decides; parts that it leaves out, and tasks that meet none, are as the allocator chose before exploration.
Without rules it is the allocator's own choice, `greedy`; with one for all tasks a fixed setting.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

import msgspec
from msgspec import Struct

from models.allocations import Pins, Setting
from models.contexts import GLOBAL, context_id, context_pairs
from models.errors import SettingsError

LOGGED = "logged"
GREEDY = "greedy"
PARTS = Pins.__struct_fields__


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """What is given to the tasks of a context."""

    setting: Pins
    context: str = GLOBAL

    def __post_init__(self) -> None:
        if not given(self.setting):
            raise SettingsError(f"the rule for {self.context} gives nothing: name one of {', '.join(PARTS)}")
        if not all(key and value for key, value in context_pairs(self.context)):
            raise SettingsError(f"context = {self.context!r}: must be global, or such as complexity_band=high")

    def meets(self, contexts: Collection[str]) -> bool:
        """Tell whether a task of these contexts is in the rule's context, or in those of each of its parts."""
        alone = [context_id([pair]) for pair in context_pairs(self.context)]
        return self.context in contexts or (bool(alone) and all(one in contexts for one in alone))


@dataclass(frozen=True, slots=True)
class Act:
    """What a policy gives a task: by which rule, None for the allocator's choice."""

    setting: Setting
    rule: int | None = None
    any_parallelism: bool = False

    def equals(self, done: Setting) -> bool:
        """Tell whether this was done; parallelism counts where the policy says it."""
        return self.setting == (replace(done, parallelism=self.setting.parallelism) if self.any_parallelism else done)


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy by its name and its rules; `logged` is what was done, whatever that was."""

    name: str
    rules: tuple[Rule, ...] = ()

    @property
    def logged(self) -> bool:
        """Tell whether this is what was done."""
        return self.name == LOGGED

    def act(self, choice: Setting, contexts: Collection[str]) -> Act:
        """Say what the policy gives a task.

        Args:
            choice: What the allocator chose for it before exploration.
            contexts: Those of the task.
        """
        for place, rule in enumerate(self.rules):
            if rule.meets(contexts):
                setting = replace(choice, **given(rule.setting))  # type: ignore[arg-type]
                if rule.setting.parallelism is not None:
                    return Act(setting, place)
                parallelism = min(setting.parallelism, setting.agent_count)
                return Act(replace(setting, parallelism=parallelism), place, any_parallelism=True)
        return Act(choice)


def parse_policy(text: str) -> Policy:
    """Read `logged`, `greedy`, or a fixed setting such as agent_count=3,max_iterations=5.

    Raises:
        SettingsError: It is none of these; the message names what is wrong.
    """
    if text in {LOGGED, GREEDY}:
        return Policy(text)
    pairs = [part.partition("=") for part in text.split(",")]
    names = [name.strip() for name, _, _ in pairs]
    if unknown := [name for name in names if name not in PARTS]:
        raise SettingsError(
            f"policy {text!r}: {unknown[0]!r} is no part of a setting; give {LOGGED}, {GREEDY}, @FILE.json, or parts "
            f"such as agent_count=3,max_iterations=5 of {', '.join(PARTS)}"
        )
    if len(set(names)) < len(names):
        raise SettingsError(f"policy {text!r}: give each part once")
    values = {name: value.strip() for name, (_, _, value) in zip(names, pairs, strict=True)}
    try:
        return Policy(text, (Rule(msgspec.convert(values, Pins, strict=False)),))
    except msgspec.ValidationError as error:
        raise SettingsError(f"policy {text!r}: {error}") from None


def read_rules(name: str, document: bytes) -> Policy:
    """Read a JSON list of rules, the first of which that a task meets decides.

    Raises:
        SettingsError: It is no such list; the message names what is wrong.
    """
    try:
        return Policy(name, tuple(msgspec.json.decode(document, type=list[Rule])))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"policy {name}: {error}") from None


def given(pins: Pins) -> dict[str, int | str]:
    """Give the parts that are set, the size of the model among them."""
    return {name: value for name in PARTS if (value := getattr(pins, name)) is not None}
