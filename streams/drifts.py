"""Which live laws have drifted, as the archive has them: the audit begins a new epoch of each."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime

from agents.audit import TIER
from models.dimensions import Outcome
from models.joint_laws import JOINT
from models.laws import law_id
from models.settings import Settings
from streams.clickhouse import query

READ = """
SELECT law_id, JSONExtractString(record, 'drift', 'since')
FROM scaling_laws
WHERE (law_id, epoch, version) IN (
    SELECT law_id, max((epoch, version)).1, max((epoch, version)).2
    FROM scaling_laws
    WHERE tier = 'live'
    GROUP BY law_id
    HAVING argMax(status, (epoch, version, ingested_at)) = 'drifted')
ORDER BY law_id, ingested_at DESC
LIMIT 1 BY law_id
"""
"""Records are long, and every version of every law has one: only those of the laws that have drifted are read."""

PARENTS = Outcome.SUCCESS, Outcome.QUALITY_SCORE
DERIVED = Outcome.QUALITY_GIVEN_SUCCESS, Outcome.SUCCESS_TIMES_QUALITY
"""Outcomes that only the audited tier has laws of; they change when a parent does."""

Drifts = dict[str, datetime]
"""By audited law id: when the live law drifted."""


def read_drifts(settings: Settings) -> dict[str, Drifts]:
    """Read the drifted laws of each context.

    Raises:
        QueryError: ClickHouse refused the query.
        NotReachable: ClickHouse does not answer.
    """
    return drifts_of({name: datetime.fromisoformat(since) for name, since in query(settings, READ).rows if since})


def drifts_of(live: Mapping[str, datetime]) -> dict[str, Drifts]:
    """Give by context which audited laws begin a new epoch, from when each live law drifted.

    A law of quality and success together has drifted when the later of the two has; a joint law when the last of the
    laws of its outcome has, of any dimension.
    """
    found: defaultdict[str, Drifts] = defaultdict(dict)
    for name, since in live.items():
        context, dimension, outcome, _ = name.split("|")
        drifted = found[context]
        drifted[law_id(context, dimension, outcome, TIER)] = since
        derived = [law_id(context, dimension, each, TIER) for each in (DERIVED if outcome in PARENTS else ())]
        for several in (law_id(context, JOINT, outcome, TIER), *derived):
            drifted[several] = max(since, drifted.get(several, since))
    return dict(found)
