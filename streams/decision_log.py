"""Read the decisions of the allocator from ClickHouse, with what their runs brought, and value policies by them."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec

from agents.evaluate import Evaluation, evaluate
from agents.past_decisions import PastDecision, Valued
from agents.policies import Policy
from models.allocations import Setting
from models.contexts import GLOBAL, context_id, context_pairs
from models.settings import Settings
from streams.clickhouse import query

SECONDS = 120
MOST_DECISIONS = 500_000
"""Decisions that are read, the newest first."""

READ = """
SELECT
    decision_id, agent_count, max_iterations, context_budget, parallelism, model_size, choice, propensity, contexts,
    complexity, task_id, agent_run_id IS NOT NULL AS ended, toFloat64(success) AS success, quality_score, total_cost
FROM decision_outcomes
WHERE {condition}
ORDER BY decided_at DESC, decision_id
LIMIT {most}
"""
PARTS = Setting.__dataclass_fields__

_read_setting = msgspec.json.Decoder(Setting).decode


def read_decisions(
    settings: Settings,
    *,
    since: datetime | None = None,
    context: str = GLOBAL,
    tests: bool = True,
    most: int = MOST_DECISIONS,
) -> list[PastDecision]:
    """Read the newest decisions.

    Args:
        settings: Where ClickHouse is.
        since: Leave out what was decided earlier.
        context: Only decisions about tasks of this context, or of those of each of its parts.
        tests: Whether decisions in A/B tests count.
        most: How many are read.

    Raises:
        QueryError: ClickHouse refused the query.
        NotReachable: ClickHouse does not answer.
    """
    conditions = ["(has(contexts, {context:String}) OR hasAll(contexts, {alone:Array(String)}))"]
    bound: dict[str, Any] = {"context": context, "alone": [context_id([pair]) for pair in context_pairs(context)]}
    if since is not None:
        conditions.append("decided_at >= fromUnixTimestamp64Milli({since:Int64})")
        bound["since"] = int(since.timestamp() * 1000)
    if not tests:
        conditions.append("test = ''")
    sql = READ.replace("{condition}", " AND ".join(conditions)).replace("{most}", str(most))
    found = query(settings, sql, parameters=bound, seconds=SECONDS, rows=most)
    return [_decision(dict(zip(found.columns, row, strict=True))) for row in found.rows]


def evaluate_policy(
    settings: Settings,
    policy: Policy,
    outcome: Valued = Valued.SUCCESS,
    *,
    value: float | None = None,
    since: datetime | None = None,
    context: str = GLOBAL,
    tests: bool = True,
    most: int = MOST_DECISIONS,
) -> Evaluation:
    """Value a policy by the decisions in ClickHouse.

    Args:
        settings: Where ClickHouse is, and the setting value_of_success.
        policy: As `agents.policies.parse_policy` or `read_rules` gives it.
        outcome: What is valued.
        value: Of a success in dollars; absent: the setting value_of_success.
        since: Leave out what was decided earlier.
        context: Only decisions about tasks of this context.
        tests: Whether decisions in A/B tests count.
        most: How many are read; a note says so where there may be more.

    Raises:
        NotEnoughData: Too small an effective sample size, or too little to fit the outcome model on.
        QueryError: ClickHouse refused the query.
        NotReachable: ClickHouse does not answer.
    """
    decisions = read_decisions(settings, since=since, context=context, tests=tests, most=most)
    found = evaluate(decisions, policy, outcome, value=settings.value_of_success if value is None else value)
    if len(decisions) < most:
        return found
    note = f"only the newest {most:,} decisions are read: what was decided before them does not count"
    return replace(found, notes=[*found.notes, note])


def _decision(row: dict[str, Any]) -> PastDecision:
    setting = Setting(**{name: row.pop(name) for name in PARTS})
    choice = _read_setting(row.pop("choice"))
    return PastDecision(**row | {"setting": setting, "choice": choice, "ended": bool(row["ended"])})
