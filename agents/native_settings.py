"""An allocation in the native settings of common orchestrators, to paste or to pass.

docs/orchestrators.md has the default and the documentation of each setting.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod

from models.allocations import Native, Setting
from models.errors import SettingsError

PARTS = tuple(part.name for part in fields(Setting))


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting of an orchestrator: times x the product of its parts + plus, or the name of the size.

    Args:
        name: The orchestrator's name of it.
        owner: What takes it: a class, a function or a mapping.
        parts: The parts of the allocation that it renders.
        counts: What it counts, or what it does, as the rest of a sentence.
        times: The count for each unit of the product.
        plus: The count that comes once.
        text: It is an environment variable.
    """

    name: str
    owner: str
    parts: tuple[str, ...]
    counts: str
    times: int = 1
    plus: int = 0
    text: bool = False

    @property
    def note(self) -> str:
        """Say in a sentence where it goes and what it counts."""
        return f"{self.name} of {self.owner} {self.counts}."

    def value(self, setting: Setting) -> int | str:
        """Render its parts of an allocation."""
        if self.parts == ("model_size",):
            return setting.model_size
        number: int = self.times * prod(getattr(setting, part) for part in self.parts) + self.plus
        return str(number) if self.text else number


@dataclass(frozen=True, slots=True)
class Orchestrator:
    """An orchestrator and those of its settings that render parts of an allocation."""

    title: str
    knobs: tuple[Knob, ...]


def native_settings(setting: Setting, name: str) -> Native:
    """Render an allocation in the settings of one of the ORCHESTRATORS.

    A part that it has no setting for is not expressible: so many agents are built, the context is trimmed, in code.

    >>> native_settings(Setting(3, 5, 18_000, 2), "langgraph").settings
    {'recursion_limit': 11, 'max_concurrency': 2}

    Raises:
        SettingsError: The orchestrator is not known.
    """
    if name not in ORCHESTRATORS:
        raise SettingsError(f"orchestrator = {name!r}: must be one of {', '.join(ORCHESTRATORS)}")
    given = [part for part in PARTS if part != "model_size" or setting.model_size]
    knobs = [knob for knob in ORCHESTRATORS[name].knobs if set(knob.parts) <= set(given)]
    rendered = {part for knob in knobs for part in knob.parts}
    return Native(
        settings={knob.name: knob.value(setting) for knob in knobs},
        not_expressible=[part for part in given if part not in rendered],
        notes=[knob.note for knob in knobs],
    )


def _of(title: str, *knobs: Knob) -> Orchestrator:
    return Orchestrator(title, knobs)


def _each(name: str, owner: str, part: str, counts: str) -> Knob:
    """Render one part as it is."""
    return Knob(name, owner, (part,), counts)


def _turns(name: str, owner: str, counts: str, plus: int = 0) -> Knob:
    """Render the turns of all agents together."""
    return Knob(name, owner, ("agent_count", "max_iterations"), counts, plus=plus)


def _variable(name: str, part: str, counts: str) -> Knob:
    """Render one part as an environment variable of Claude Code."""
    return Knob(name, "ClaudeAgentOptions.env", (part,), counts, text=True)


def _model(name: str, owner: str) -> Knob:
    """Render the size where a model is chosen by its name."""
    return Knob(name, owner, ("model_size",), "takes the name of a model: put the one of this size in its place")


ORCHESTRATORS: Mapping[str, Orchestrator] = {
    "claude-agent-sdk": _of(
        "Claude Agent SDK",
        _each("max_turns", "ClaudeAgentOptions", "max_iterations", "counts tool-use turns of the main agent"),
        _variable("CLAUDE_CODE_AUTO_COMPACT_WINDOW", "context_budget", "counts tokens that compaction reckons with"),
        _variable(
            "CLAUDE_CODE_MAX_TOOL_USE_CONCURRENCY", "parallelism", "counts subagents and read-only tools at a time"
        ),
        _model("model", "ClaudeAgentOptions"),
    ),
    "openai-agents": _of(
        "OpenAI Agents SDK",
        _each("max_turns", "Runner.run", "max_iterations", "counts LLM calls of one run, handoffs included"),
        _each(
            "compact_threshold",
            "ModelSettings.context_management",
            "context_budget",
            "counts tokens beyond which the Responses API compacts",
        ),
        _each(
            "max_function_tool_concurrency",
            "ToolExecutionConfig",
            "parallelism",
            "counts tools and agents as tools at a time",
        ),
        _model("model", "RunConfig"),
    ),
    "langgraph": _of(
        "LangGraph",
        Knob(
            "recursion_limit",
            "RunnableConfig",
            ("max_iterations",),
            "counts supersteps of one agent's graph: 2 per iteration plus 1",
            times=2,
            plus=1,
        ),
        _each("max_concurrency", "RunnableConfig", "parallelism", "counts nodes at a time"),
    ),
    "crewai": _of(
        "CrewAI",
        _each("max_iter", "Agent", "max_iterations", "counts iterations of one agent on one task"),
        _model("llm", "Agent"),
    ),
    "autogen": _of(
        "AutoGen AgentChat",
        _turns("max_turns", "RoundRobinGroupChat", "counts turns of all participants: agents x iterations"),
        _each(
            "token_limit", "TokenLimitedChatCompletionContext", "context_budget", "counts tokens that an agent keeps"
        ),
    ),
    "ag2": _of(
        "AG2 and AutoGen 0.2",
        _turns("max_round", "GroupChat", "counts messages: agents x iterations, plus 1 for the task", plus=1),
        _each("max_consecutive_auto_reply", "ConversableAgent", "max_iterations", "counts replies without a human"),
        _each("max_turns", "initiate_chat", "max_iterations", "counts round trips of a chat of two agents"),
        _each("max_tokens", "MessageTokenLimiter", "context_budget", "counts tokens of the history"),
    ),
    "smolagents": _of(
        "smolagents",
        _each("max_steps", "MultiStepAgent", "max_iterations", "counts steps of one agent, an LLM call each"),
        _each("max_tool_threads", "ToolCallingAgent", "parallelism", "counts tools and managed agents at a time"),
    ),
    "llamaindex": _of(
        "LlamaIndex",
        _turns(
            "max_iterations",
            "AgentWorkflow.run",
            "counts outputs of all agents and refuses the one that reaches it: agents x iterations, plus 1",
            plus=1,
        ),
        _each("token_limit", "Memory.from_defaults", "context_budget", "counts tokens of the memory"),
        _each("num_workers", "@step", "parallelism", "counts executions of the step at a time"),
    ),
    "pydantic-ai": _of(
        "Pydantic AI",
        _each(
            "request_limit",
            "UsageLimits",
            "max_iterations",
            "counts LLM requests of a run and all that share its usage",
        ),
        _each(
            "per_request_input_tokens_limit", "UsageLimits", "context_budget", "counts input tokens, and ends the run"
        ),
        _each("max_concurrency", "Agent", "parallelism", "counts runs of this agent at a time"),
        _model("model", "Agent"),
    ),
    "google-adk": _of(
        "Google ADK",
        _each("max_iterations", "LoopAgent", "max_iterations", "counts rounds through its sub-agents"),
        _turns("max_llm_calls", "RunConfig", "counts LLM calls of all agents: raise it where a round takes several"),
        _each(
            "token_threshold",
            "EventsCompactionConfig",
            "context_budget",
            "counts tokens beyond which events are compacted, and wants event_retention_size too",
        ),
        _model("model", "LlmAgent"),
    ),
    "agent-framework": _of(
        "Microsoft Agent Framework",
        _turns("max_rounds", "GroupChatBuilder", "counts turns of all participants: agents x iterations"),
        _each("token_budget", "TokenBudgetComposedStrategy", "context_budget", "counts tokens that compaction leaves"),
    ),
    "semantic-kernel": _of(
        "Semantic Kernel",
        _turns("max_rounds", "RoundRobinGroupChatManager", "counts turns of all members: agents x iterations"),
    ),
    "inspect-ai": _of(
        "Inspect AI",
        _each("epochs", "eval", "agent_count", "counts runs of each sample, an agent each"),
        _each("turn_limit", "eval", "max_iterations", "counts model generations of one run of a sample"),
        _each("threshold", "CompactionAuto", "context_budget", "counts tokens beyond which messages are compacted"),
        _each("max_samples", "eval", "parallelism", "counts runs of samples at a time"),
        _model("model", "eval"),
    ),
}
