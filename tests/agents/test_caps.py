"""Caps on the state of a partition are told when they are reached, once, and the state stays within them."""

import json

from structlog.testing import capture_logs

from agents.decode import EventDecoder
from agents.observer import Observer
from agents.tallies import LAST_IMPORTS
from models.batches import Batch
from models.cells import GramKey
from models.settings import load_settings
from models.topics import GRAMS_TABLE, IMPORT_HEADER, IMPORTS_TABLE, TABLES

STAMP = 1_750_000_000_000
SETTINGS = load_settings(partitions=1, context_keys=[["project"]], context_values=3)


def test_each_cap_is_told_once_and_holds() -> None:
    """Contexts, model sizes and imports: names, values, and what happens; the state is no larger than that."""
    observer = Observer(0, SETTINGS, EventDecoder(SETTINGS))
    tables: dict[str, dict[bytes, bytes | None]] = {table: {} for table in TABLES}
    with capture_logs() as told:
        for first in range(0, 1200, 400):
            events = [
                {
                    "agent_run_id": f"r{number}",
                    "project": f"p{number}",
                    "model_params_b": 1 + number / 7,
                    "success": True,
                }
                for number in range(first, first + 400)
            ]
            headers = [((IMPORT_HEADER, f"import-{number}".encode()),) for number in range(first, first + 400)]
            values = [json.dumps(event).encode() for event in events]
            offsets = range(first, first + 400)
            observer.observe(Batch("scaling.runs", 0, offsets, [STAMP] * 400, [None] * 400, values, headers))
            for table, changes in observer.drain().tables.items():
                tables[table] |= changes
    lines = [line["what"] for line in told if line["event"] == "cap reached"]
    assert lines == [
        "context_values = 3: further values of project share its context 'other'",
        "512 values of model_params_b have cells of their own: further ones share quarter-octave bins",
        "the tallies of 1000 imports are kept: with each further one the oldest goes",
    ]
    contexts = {GramKey.decode(key).context for key, value in tables[GRAMS_TABLE].items() if value is not None}
    assert contexts == {"global", "project=p0", "project=p1", "project=p2", "project=other"}
    assert sum(value is not None for value in tables[IMPORTS_TABLE].values()) == LAST_IMPORTS
