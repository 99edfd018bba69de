"""A/B tests: their topic, read and written, and their log, reduced by ClickHouse so that its size does not matter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from agents.ab import latest
from agents.ab_result import PATIENCE, STEPS, STRATA, ABLog, ArmLog, Given
from analytics.outcome_per_cost import Arm as Moments
from models.allocations import NUMBERS, ABTest, Arm
from models.errors import InvalidExperiment
from models.settings import Settings
from models.topics import TESTS
from streams.clickhouse import query
from streams.context_keys import context_condition
from streams.kafka_clients import read_compacted
from streams.kafka_security import connection, unreachable

COUNTS = (
    *("tasks", "repeats", "pending", "unjudged", "unpriced", "explored", "reporting", "complied"),
    *("due", "returned"),
)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ABTest).decode

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Past:
    """What the runs of a context so far tell of its success and its costs.

    Attributes:
        runs: With both.
        rate: Success rate, (k + ½) / (n + 1).
        cost_cv: Standard deviation of a run's cost over its mean.
    """

    runs: int
    rate: float
    cost_cv: float


async def read_tests(settings: Settings) -> dict[str, ABTest]:
    """Read all tests as they stand, the first started first.

    Raises:
        NotReachable: Kafka does not answer.
        StackError: The topic does not exist.
    """
    tests: dict[str, ABTest] = {}
    async for record in read_compacted(settings, TESTS):
        try:
            said = _decode(record.value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue  # no command wrote it
        tests[said.test_id] = latest(tests.get(said.test_id), said)
    return dict(sorted(tests.items(), key=lambda each: each[1].started_at))


async def find_test(settings: Settings, test_id: str) -> ABTest:
    """Read one test.

    Raises:
        InvalidExperiment: There is none of this id; the message names those that are there.
        NotReachable: Kafka does not answer.
    """
    tests = await read_tests(settings)
    if test_id not in tests:
        raise InvalidExperiment(f"there is no A/B test {test_id} (there are: {', '.join(tests) or 'none'})")
    return tests[test_id]


async def publish_test(settings: Settings, test: ABTest) -> None:
    """Publish a test as it stands; returns when Kafka has it.

    Raises:
        NotReachable: Kafka does not answer.
    """
    try:
        async with AIOKafkaProducer(**connection(settings), acks="all") as producer:
            await producer.send_and_wait(TESTS, _encode(test), key=test.test_id.encode())
    except KafkaError:
        raise unreachable(settings) from None


def read_log(settings: Settings, test_id: str) -> ABLog:
    """Reduce the log of a test to moments and counts.

    Raises:
        QueryError: ClickHouse refused the query.
        NotReachable: ClickHouse does not answer.
    """
    rows = _rows(settings, "ab_log", {"test": test_id, "steps": STEPS, "patience": PATIENCE})
    ends = [[row["until"] for row in rows if row["step"] == step] for step in range(STEPS)]
    return ABLog(
        arms={arm: _arm([row for row in rows if row["arm"] == arm]) for arm in Arm},
        times=[max(each).isoformat(timespec="milliseconds") if each else "" for each in ends],
        given=[
            Given(row["tenth"], row["tasks"], {part: row[part] for part in NUMBERS})
            for row in _rows(settings, "ab_settings", {"test": test_id})
        ],
    )


def read_past(settings: Settings, context: str) -> Past | None:
    """Read what the runs of a context tell; None where none has success and cost.

    Raises:
        QueryError: ClickHouse refused the query.
        NotReachable: ClickHouse does not answer.
    """
    condition, parameters = context_condition(context)
    sql = (
        "SELECT count() AS runs, (countIf(success) + 0.5) / (runs + 1) AS rate,"  # noqa: S608 - the condition is ours
        " ifNull(stddevPopStable(total_cost) / avg(total_cost), 0.) AS cost_cv FROM observations"
        f" WHERE success IS NOT NULL AND total_cost IS NOT NULL AND {condition}"
    )
    ((runs, rate, cost_cv),) = query(settings, sql, parameters=parameters).rows
    return Past(runs, rate, cost_cv if np.isfinite(cost_cv) else 0.0) if runs else None


def _rows(settings: Settings, name: str, parameters: dict[str, Any]) -> list[Row]:
    sql = files("streams").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    found = query(settings, sql, parameters=parameters, seconds=300)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def _arm(rows: Sequence[Row]) -> ArmLog:
    counts = {name: sum(row[name] for row in rows) for name in COUNTS}
    steps = [_moments([row for row in rows if row["step"] == step]) for step in range(STEPS)]
    return ArmLog(**counts, spend=sum(row["spend"] for row in rows), steps=steps)


def _moments(rows: Sequence[Row]) -> Moments:
    n, mean, comoment = np.zeros(STRATA), np.zeros((STRATA, 2)), np.zeros((STRATA, 3))
    for row in rows:
        if row["n"]:
            place = row["stratum"]
            n[place] = row["n"]
            mean[place] = row["y_mean"], row["c_mean"]
            comoment[place] = row["n"] * np.array([row["yy"], row["yc"], row["cc"]])
    return Moments(n, mean, comoment)
