"""A worker as a process: it ends, whatever does not stop."""

import subprocess
import sys
import time

HANGING = """
import asyncio
from mode import Service
from deploy.machine import claim_port
from models.settings import load_settings
from streams.stats_app import create_stats_app
from streams.worker import Worker, configure_logging

class Hanging(Service):
    async def on_stop(self):
        await asyncio.sleep(3600)

class Hurried(Worker):
    last_seconds = 1.0

settings = load_settings(kafka=f"127.0.0.1:{claim_port('Kafka', 0)}")
configure_logging(settings)
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
app = create_stats_app(settings)
Hurried(app, Hanging(), loop=loop, loglevel=None, redirect_stdouts=False, override_logging=False, quiet=True
    ).execute_from_commandline()
"""


def test_a_worker_that_fails_and_cannot_stop_ends_all_the_same() -> None:
    """Its status is 1, and its last line says what happened; its supervisor starts a fresh one."""
    begun = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert 'event="killed itself: did not stop"' in ended.stderr.splitlines()[-1]
    assert time.monotonic() - begun < 30
