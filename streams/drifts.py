"""Which live laws have drifted, as the archive has them: the audit begins a new epoch of each."""

from collections import defaultdict
from datetime import datetime

from agents.audit import TIER
from models.laws import law_id
from models.settings import Settings
from streams.clickhouse import query

READ = """
SELECT context, dimension, outcome, JSONExtractString(record, 'drift', 'since')
FROM laws WHERE tier = 'live' AND status = 'drifted'
"""

Drifts = dict[str, datetime]
"""By audited law id: when the live law drifted."""


def read_drifts(settings: Settings) -> dict[str, Drifts]:
    """Read the drifted laws of each context.

    Raises:
        QueryError: ClickHouse refused the query.
        NotReachable: ClickHouse does not answer.
    """
    found: defaultdict[str, Drifts] = defaultdict(dict)
    for context, dimension, outcome, since in query(settings, READ).rows:
        if since:
            found[context][law_id(context, dimension, outcome, TIER)] = datetime.fromisoformat(since)
    return dict(found)
