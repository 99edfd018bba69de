"""What the demo shows while it runs."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.lawbook import LawBook
from analytics.world import Planted
from cli.following import FRAME_SECONDS, follow
from cli.laws import NOTHING, exponent_of, laws_table
from cli.truth import Comparison, Confounding, compare
from models.contexts import GLOBAL
from models.errors import NotEnoughData
from models.laws import Estimate, Law

RATE_SECONDS = 3.0


@dataclass(slots=True)
class Progress:
    """How far the demo has come; `updated` is when the last laws came."""

    planted: Sequence[Planted]
    total: int | None
    book: LawBook = field(default_factory=LawBook)
    started: float = field(default_factory=time.monotonic)
    doing: str = "publishing"
    published: int = 0
    updates: int = 0
    updated: float = field(default_factory=time.monotonic)

    @property
    def counted(self) -> int:
        """Runs that the global laws have counted."""
        return max((law.n for law in self.global_laws()), default=0)

    def global_laws(self) -> list[Law]:
        """List the live laws over all runs that have an exponent."""
        found = [law for law in self.book if (law.context, law.tier) == (GLOBAL, "live") and exponent_of(law)]
        return sorted(found, key=lambda law: (law.dimension, law.outcome))

    def comparisons(self) -> list[Comparison | Planted]:
        """Compare each planted law with what was learnt; one that is not known yet stays alone."""
        return [self._compared(planted) for planted in self.planted]

    def covered(self) -> int:
        """Count the planted laws whose interval has the truth in it."""
        return sum(isinstance(each, Comparison) and each.covered for each in self.comparisons())

    def _compared(self, planted: Planted) -> Comparison | Planted:
        try:
            return compare(planted, self.book, len(self.planted))
        except NotEnoughData:
            return planted


class Rates:
    """Rates of two growing counts over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def look(self, progress: Progress) -> tuple[float, float]:
        """Take the counts as they are now and give published and counted runs a second."""
        now = time.monotonic()
        self._seen.append((now, progress.published, progress.counted))
        while now - self._seen[0][0] > RATE_SECONDS and len(self._seen) > 2:  # noqa: PLR2004 - a rate needs two looks
            self._seen.popleft()
        then, published, counted = self._seen[0]
        seconds = max(now - then, FRAME_SECONDS)
        return (progress.published - published) / seconds, (progress.counted - counted) / seconds


async def show(progress: Progress, console: Console) -> None:
    """Show the progress until cancelled."""
    rates = Rates()
    await follow(console, lambda: progress.doing, lambda: headline(progress, rates), lambda: table(progress))


def headline(progress: Progress, rates: Rates) -> str:
    """Say in one line how far it is."""
    published, counted = rates.look(progress)
    total = "" if progress.total is None else f" of {progress.total:,}"
    line = (
        f"{time.monotonic() - progress.started:3.0f} s  {progress.doing}  "
        f"published {progress.published:,}{total} ({published:,.0f}/s)  "
        f"counted {progress.counted:,} ({counted:,.0f}/s)  {len(progress.book)} laws, {progress.updates:,} updates"
    )
    return f"{line}  covered {progress.covered()} of {len(progress.planted)}" if progress.planted else line


def table(progress: Progress) -> Table:
    """Show the planted laws with their estimates; without planted ones, the laws that were found."""
    if not progress.planted:
        return laws_table(progress.global_laws())
    shown = Table(title="Planted laws: mean of the outcome ~ dimension ** exponent", title_justify="left")
    for name in ("dimension", "outcome"):
        shown.add_column(name)
    for name in ("truth", "estimate", "simultaneous 95 %"):
        shown.add_column(name, justify="right")
    shown.add_column("covered")
    shown.add_column("runs", justify="right")
    shown.add_column("version", justify="right")
    shown.add_column("status")
    for each in progress.comparisons():
        planted = each.planted if isinstance(each, Comparison) else each
        truth = [planted.dimension, planted.outcome, f"{planted.exponent:.3f}"]
        if isinstance(each, Comparison):
            covered = "[green]yes[/]" if each.covered else "[red]no[/]"
            interval = rf"\[{each.lo:.3f}, {each.hi:.3f}]"
            known = [f"{each.estimate:.3f}", interval, covered, f"{each.law.n:,}", f"{each.law.version}"]
            shown.add_row(*truth, *known, each.law.status)
        else:
            shown.add_row(*truth, *[NOTHING] * 6)
    return shown


def confounding_table(found: Confounding) -> Table:
    """Show the plain law that deceives above the adjusted ones; slopes are on ln x, over the mean about exponents."""
    planted = found.planted
    shown = Table(title=f"{planted.outcome} over {planted.dimension}: hard tasks get more agents", title_justify="left")
    shown.add_column("law")
    for name in ("slope", "95 % interval", "exponent, about"):
        shown.add_column(name, justify="right")
    shown.add_column("sign")
    shown.add_column("how")
    rows = (
        ("naive", found.augmented.naive, "all runs as they stand"),
        ("adjusted, live", found.linear.slope, found.linear.method),
        ("adjusted, audited", found.augmented.slope, found.augmented.method),
    )
    power = found.exponent
    naive = rf"{power.estimate:+.3f} \[{power.lo:+.3f}, {power.hi:+.3f}]"
    shown.add_row("naive power law", NOTHING, NOTHING, naive, _sign(power), "all runs as they stand")
    for name, slope, how in rows:
        interval = rf"\[{slope.lo:+.4f}, {slope.hi:+.4f}]"
        about = f"{slope.estimate / found.level:+.3f}"
        shown.add_row(name, f"{slope.estimate:+.4f}", interval, about, _sign(slope), escape(how))
    truth = f"{planted.exponent:+.3f}"
    shown.add_row("planted", NOTHING, NOTHING, truth, "rises", "the truth at equal complexity")
    return shown


def _sign(estimate: Estimate) -> str:
    return "falls" if estimate.hi < 0 else "rises" if estimate.lo > 0 else "either"
