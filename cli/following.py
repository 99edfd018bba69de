"""Follow long work: a live table on a terminal; elsewhere a line at each new stage, and every few seconds."""

import asyncio
import time
from collections.abc import Callable

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

FRAME_SECONDS = 0.25
LINE_SECONDS = 5.0


async def follow(
    console: Console, stage: Callable[[], str], headline: Callable[[], str], table: Callable[[], Table]
) -> None:
    """Show how far work has come until cancelled.

    Args:
        console: Where to.
        stage: What is being done; elsewhere than on a terminal a new one has its line at once.
        headline: How far it is, in one line.
        table: What is known so far, for terminals.
    """
    if console.is_terminal:
        await _live_table(console, headline, table)
    else:
        await _lines(console, stage, headline)


async def _live_table(console: Console, headline: Callable[[], str], table: Callable[[], Table]) -> None:
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(Group(Text(headline()), table()), refresh=True)
            await asyncio.sleep(FRAME_SECONDS)


async def _lines(console: Console, stage: Callable[[], str], headline: Callable[[], str]) -> None:
    shown, due = "", 0.0
    while True:
        if stage() != shown or time.monotonic() >= due:
            shown, due = stage(), time.monotonic() + LINE_SECONDS
            console.print(headline(), soft_wrap=True, markup=False)
        await asyncio.sleep(FRAME_SECONDS)
