"""Cuts through the archive: up to which record of each partition a law has seen the runs."""

from collections.abc import Mapping

from models.settings import Settings
from streams.clickhouse import query

Cut = Mapping[int, int]
"""For each partition of scaling.runs the first offset that is not in; a partition without an entry is not in at all."""

READ = "SELECT partition, max(offset) + 1 FROM scaling_records GROUP BY partition ORDER BY partition"

BELOW = """(
    offset < {cut:Map(UInt16, UInt64)}[partition]
    OR agent_run_id IN (
        SELECT agent_run_id FROM scaling_records
        WHERE offset < {cut:Map(UInt16, UInt64)}[partition] AND agent_run_id IN (
            SELECT agent_run_id FROM scaling_records WHERE offset >= {cut:Map(UInt16, UInt64)}[partition])))"""
"""The run has a record below the cut, even where a repetition or a correction has moved its row past it."""


def read_cut(settings: Settings) -> dict[int, int]:
    """Read the newest cut that is whole: the archive writes a record after its run, and in the order of offsets.

    Raises:
        QueryError: ClickHouse refused the query.
        NotReachable: ClickHouse does not answer.
    """
    return {int(partition): int(offset) for partition, offset in query(settings, READ).rows}


def below_condition(cut: Cut) -> tuple[str, dict[str, str]]:
    """Write the condition that a run of `observations` is below the cut, with its parameters.

    A run that is corrected after the cut is in, with its correction: what it was at the cut is not kept.
    """
    pairs = ",".join(f"{partition}:{offset}" for partition, offset in sorted(cut.items()))
    return BELOW, {"cut": f"{{{pairs}}}"}
