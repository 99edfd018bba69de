"""The HTTP endpoint of a worker: /healthz, /readyz and /metrics, on its own event loop; off unless a port is set."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import mode
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from models.errors import PortTaken
from models.metrics import LOOP_LAG_SECONDS
from models.settings import Settings
from streams.vitals import Vitals

BEAT_SECONDS = 1.0
STOP_SECONDS = 1.0


@asynccontextmanager
async def endpoint(settings: Settings, vitals: Vitals) -> AsyncIterator[None]:
    """Answer on `metrics_host`:`metrics_port` while the block runs; do nothing where the port is 0.

    Who answers is the worker's own event loop: no answer at all means that it hangs.

    Raises:
        PortTaken: The address cannot be used.
    """
    if not settings.metrics_port:
        yield
        return
    runner = web.AppRunner(_application(vitals), access_log=None, handle_signals=False, shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    beat = asyncio.create_task(_beat(vitals))
    try:
        try:
            await web.TCPSite(runner, settings.metrics_host, settings.metrics_port).start()
        except OSError as error:
            message = (
                f"metrics_port = {settings.metrics_port} on metrics_host = {settings.metrics_host} cannot be used "
                f"({error.strerror or error}): set SCALING_METRICS_PORT to a free one for each worker, or to 0"
            )
            raise PortTaken(message) from None
        yield
    finally:
        beat.cancel()
        await asyncio.gather(beat, return_exceptions=True)
        await runner.cleanup()


class EndpointService(mode.Service):  # type: ignore[misc]
    """The endpoint as a service that starts before a Faust app and stops after it."""

    def __init__(self, settings: Settings, vitals: Vitals) -> None:
        super().__init__()
        self._endpoint = endpoint(settings, vitals)

    async def on_start(self) -> None:
        """Begin to answer."""
        await self._endpoint.__aenter__()

    async def on_stop(self) -> None:
        """Answer no more."""
        await self._endpoint.__aexit__(None, None, None)


def _application(vitals: Vitals) -> web.Application:
    async def healthz(_: web.Request) -> web.Response:
        return _verdict(vitals, vitals.ills)

    async def readyz(_: web.Request) -> web.Response:
        return _verdict(vitals, [*vitals.ills, *vitals.waits])

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=vitals.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    for path, handler in (("/healthz", healthz), ("/readyz", readyz), ("/metrics", metrics)):
        application.router.add_get(path, handler)
    return application


def _verdict(vitals: Vitals, reasons: Sequence[str]) -> web.Response:
    body = {"worker": vitals.worker, "ok": not reasons, "reasons": list(reasons)}
    return web.json_response(body, status=503 if reasons else 200)


async def _beat(vitals: Vitals) -> None:
    """Measure how late the event loop is."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(BEAT_SECONDS)
        vitals.set(LOOP_LAG_SECONDS, max(0.0, time.monotonic() - before - BEAT_SECONDS))
