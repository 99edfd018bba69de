import asyncio
from io import StringIO

from rich.console import Console
from rich.table import Table

from cli.following import FRAME_SECONDS, follow


def shown(*stages: str) -> list[str]:
    """Follow work through stages of two frames each where there is no terminal, and list the lines."""
    console = Console(file=StringIO())
    reached = [stages[0]]

    async def work() -> None:
        words = (lambda: reached[-1], lambda: f"busy with [{reached[-1]}]")
        following = asyncio.ensure_future(follow(console, *words, Table))
        for stage in stages:
            reached.append(stage)
            await asyncio.sleep(2 * FRAME_SECONDS)
        following.cancel()
        await asyncio.wait([following])
        assert following.cancelled()

    asyncio.run(work())
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().splitlines()


def test_a_stage_has_its_line_however_short_it_is() -> None:
    """Lines come at new stages, not only every few seconds; and one stage has not a line a frame."""
    assert shown("publishing", "catching up", "refitting") == [
        "busy with [publishing]",
        "busy with [catching up]",
        "busy with [refitting]",
    ]
