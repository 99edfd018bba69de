"""What the doctor asks workers themselves: their /readyz."""

import asyncio
from collections.abc import Mapping

import aiohttp

from deploy.check import Check

PATIENCE_SECONDS = 5.0


async def health_checks(endpoints: Mapping[str, str]) -> list[Check]:
    """Ask each worker whether it is ready.

    Args:
        endpoints: By worker: the address of its endpoint.
    """
    timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return list(await asyncio.gather(*(_check(session, name, url) for name, url in endpoints.items())))


async def _check(session: aiohttp.ClientSession, worker: str, url: str) -> Check:
    name = f"{worker} health"
    try:
        async with session.get(f"{url}/readyz") as response:
            body = await response.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        message = f"{url} does not answer ({error or type(error).__name__}): it starts, or hangs; read its log"
        return Check(name, ok=False, message=message)
    if body["ok"]:
        return Check(name, ok=True, message="ready")
    return Check(name, ok=False, message="; ".join(body["reasons"]))
