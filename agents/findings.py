"""The register of findings: in the order in which experiments ended, each judged at the level that LORD++ leaves it."""

from collections.abc import Sequence
from dataclasses import dataclass

from analytics.multiplicity import Ledger
from models.experiments import Finding, Label


@dataclass(frozen=True, slots=True)
class Registered:
    """A finding with its place in the ledger.

    `level` is what its p must not exceed for the effect to stand among all experiments; None for an exploratory
    finding, which claims nothing.
    """

    finding: Finding
    level: float | None

    @property
    def stands(self) -> bool:
        """Tell whether the effect stands at its level."""
        return self.level is not None and self.finding.p <= self.level


def registered(findings: Sequence[Finding]) -> list[Registered]:
    """Judge findings in their order: of the effects that stand, at most 5 % are false, however many follow."""
    ledger, found = Ledger(), list[Registered]()
    for finding in findings:
        if finding.label is Label.EXPLORATORY:
            # It claims nothing, but it takes its place: else whoever stops what does not look good tries without limit.
            found.append(Registered(finding, None))
            ledger, _ = ledger.test(1.0)
            continue
        found.append(Registered(finding, ledger.level))
        ledger, _ = ledger.test(finding.p)
    return found
