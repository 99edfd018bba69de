"""Stop before everything is rejected: a limit on the share of dead letters among a partition's last records."""

import re
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from agents.decode import Rejection
from models.errors import StackError

SPANS = 10
"""The window moves on by a tenth of itself: its memory does not depend on how records arrive."""
REASON = 300
"""Characters of a reason that are kept."""
NUMBER = re.compile(r"\d+(\.\d+)?")

Spans = tuple[tuple[int, int], ...]
"""Records seen and rejected, span by span, the oldest first."""


@dataclass(slots=True)
class Span:
    """A tenth of the window: records that came one after another."""

    seen: int = 0
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """How often each kind of reason was met: its text without its numbers."""
    examples: dict[str, str] = field(default_factory=dict)
    """A reason of each kind."""


class RejectLimit:
    """Watches the share of rejected records among the last `window` records of a partition.

    It judges whenever a tenth of the window is full, so what it finds depends on the records alone and not on how
    they were fetched. Once passed, the limit stays passed: nothing further may be written or acknowledged, and the
    records stay on the topic. A worker that starts again takes up the counts of the last flush, so that it stops at
    the same place and does not eat the topic start by start.

    Args:
        partition: Named in the error.
        share: The share that may be rejected; 1 is never passed.
        window: The number of records, rounded up to a multiple of ten; before so many are seen nothing is judged.
    """

    def __init__(self, partition: int, share: float, window: int) -> None:
        self._partition = partition
        self._share = share
        self._step = -(-window // SPANS)
        self._spans: deque[Span] = deque([Span()], maxlen=SPANS)
        self._passed: str | None = None

    @property
    def spans(self) -> Spans:
        """What a worker that starts again takes up."""
        return tuple((span.seen, span.rejected) for span in self._spans if span.seen)

    def restore(self, spans: Iterable[Sequence[int]]) -> None:
        """Take up the counts of the worker before; those of another window say nothing."""
        known = [Span(seen, rejected) for seen, rejected in spans]
        if all(span.seen == self._step for span in known[:-1]) and all(span.seen <= self._step for span in known[-1:]):
            unfinished = bool(known) and known[-1].seen < self._step
            self._spans = deque(known if unfinished else [*known, Span()], maxlen=SPANS)

    def count(self, seen: int, rejections: Iterable[Rejection]) -> None:
        """Count records in the order in which they came.

        Args:
            seen: How many they are.
            rejections: Which of them were rejected, by their place from 0 on, and why.
        """
        waiting = deque(sorted(rejections, key=lambda rejection: rejection.index))
        at = 0
        while at < seen:
            newest = self._spans[-1]
            taken = min(self._step - newest.seen, seen - at)
            at += taken
            newest.seen += taken
            while waiting and waiting[0].index < at:
                reason = waiting.popleft().reason[:REASON]
                newest.rejected += 1
                kind = NUMBER.sub("#", reason)
                newest.reasons[kind] += 1
                newest.examples.setdefault(kind, reason)
            if newest.seen == self._step:
                self._judge()
                self._spans.append(Span())

    def check(self) -> None:
        """Refuse to go on once the limit has been passed.

        Raises:
            StackError: It has; the message gives the share, the most frequent reason and what to do.
        """
        if self._passed is not None:
            raise StackError(self._passed)

    def _judge(self) -> None:
        rejected = sum(span.rejected for span in self._spans)
        total = sum(span.seen for span in self._spans)
        if self._passed is None and len(self._spans) == SPANS and rejected > self._share * total:
            self._passed = (
                f"{rejected} of the last {total} records of scaling.runs, partition {self._partition}, were rejected"
                f"{self._most_frequent()}; the limit reject_share is {self._share:g}: this worker stops before it "
                "rejects everything, and the records stay on the topic; put their publisher right, then start it "
                "with SCALING_REJECT_SHARE=1 until what lies on the topic has become dead letters"
            )

    def _most_frequent(self) -> str:
        reasons = sum((span.reasons for span in self._spans), Counter[str]())
        for kind, number in reasons.most_common(1):
            example = next(span.examples[kind] for span in self._spans if kind in span.examples)
            return f", {number} of them for a reason such as: {example}"
        return ""
