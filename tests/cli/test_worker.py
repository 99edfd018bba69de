import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("kind", ["stats", "archive", "allocator", "audit", "experiments"])
def test_a_worker_without_kafka_says_where_it_looked(kind: str) -> None:
    """It ends with one sentence: the address, and what to do."""
    ended = subprocess.run(
        [sys.executable, "-m", "cli.main", "worker", kind],
        env={**os.environ, "SCALING_KAFKA": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last == "error: Kafka at 127.0.0.1:1 does not answer: start it with scaling up, or set SCALING_KAFKA"
