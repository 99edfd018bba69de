"""Fit a published law anew: a live one from raw rows, without cells or Grams, an audited one as the audit does."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents import audit
from agents.audit import AuditHeading
from agents.bucketed import HELD_SHARE
from agents.examined import Examination, examined
from agents.fitting import fitting_of
from agents.live_grams import REGRESSORS
from agents.raw_laws import Slot, axis_of
from analytics.adjusted_rows import adjust_rows
from analytics.joint_cells import JointCells
from analytics.rows import fit_rows
from models.dimensions import BASES, CLIP, SIZE_CATEGORIES, Basis, Dimension, Outcome, Source
from models.errors import NotEnoughData
from models.laws import Adjusted, Law, Published
from models.settings import Settings

MERGED = "errors not known: old time buckets are merged"

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class RunColumns:
    """The runs of a context, as columns of N entries; nan where a run has none.

    Attributes:
        x: The values of each dimension and basis; of a category its code.
        outcomes: The outcomes.
        policy: Whether the setting was decided by a policy.
        complexity: Of the task.
        bucket: completed_at // bucket_seconds.
        newest: The newest bucket of all runs, of whatever context.
    """

    x: Mapping[Slot, Floats]
    outcomes: Mapping[Outcome, Floats]
    policy: Flags
    complexity: Floats
    bucket: Ints
    newest: int


def refit_live(runs: RunColumns, law: Law, settings: Settings) -> Law:
    """Fit a live law anew from the rows, without cells or Grams: its cost law first, which prices its knee.

    Raises:
        NotEnoughData: No run carries the dimension and the outcome.
    """
    dimension, outcome = Dimension(law.dimension), Outcome(law.outcome)
    basis = choose_basis(runs, dimension, outcome)
    if basis is None:
        raise NotEnoughData(_nothing(law))
    cost: Published | None = None
    if outcome is not Outcome.TOTAL_COST and choose_basis(runs, dimension, Outcome.TOTAL_COST) is basis:
        cost = _fit(runs, (dimension, basis), Outcome.TOTAL_COST, law, settings, None).published
    fitted = _fit(runs, (dimension, basis), outcome, law, settings, cost)
    try:
        adjusted = _adjusted(runs, (dimension, basis), outcome, settings)
    except NotEnoughData as reason:
        return msgspec.structs.replace(fitted, missing=fitted.missing | {"adjusted": str(reason)})
    return msgspec.structs.replace(
        fitted,
        adjusted=adjusted,
        confounding_gap=adjusted.gap,
    )


def refit_audited(joint: JointCells, heading: AuditHeading, law: Law, settings: Settings) -> Law:
    """Fit an audited law anew as the audit does, its cost law first.

    Raises:
        NotEnoughData: No run carries the dimension and the outcome.
    """
    dimension, outcome = Dimension(law.dimension), Outcome(law.outcome)
    basis = audit.choose_basis(joint, dimension, outcome)
    if basis is None:
        raise NotEnoughData(_nothing(law))
    slot, fitting = (dimension, basis), fitting_of(settings)
    cost: Published | None = None
    if outcome is not Outcome.TOTAL_COST and audit.choose_basis(joint, dimension, Outcome.TOTAL_COST) is basis:
        free = Examination(fitting, None, settings.complexity_reliability)
        naive = audit.audit_law(joint, slot, Outcome.TOTAL_COST, heading, fitting)
        cost = examined(naive, joint, slot, Outcome.TOTAL_COST, free).published
    by = Examination(fitting, cost, settings.complexity_reliability)
    return examined(audit.audit_law(joint, slot, outcome, heading, fitting, cost), joint, slot, outcome, by)


def choose_basis(runs: RunColumns, dimension: Dimension, outcome: Outcome) -> Basis | None:
    """Take the first basis with two distinct values among the runs with the outcome, else the first with any run."""
    found: list[tuple[Basis, int]] = []
    for basis in BASES[dimension]:
        x = runs.x[dimension, basis]
        carried = x[~np.isnan(x) & ~np.isnan(runs.outcomes[outcome])]
        if len(carried):
            found.append((basis, axis_of(dimension, carried).distinct))
    return next((basis for basis, distinct in found if distinct > 1), found[0][0] if found else None)


def _fit(runs: RunColumns, slot: Slot, outcome: Outcome, law: Law, settings: Settings, cost: Published | None) -> Law:  # noqa: PLR0917 - what a law is made of
    dimension, basis = slot
    x, y = runs.x[slot], runs.outcomes[outcome]
    kept = np.flatnonzero(~np.isnan(x) & ~np.isnan(y))
    axis = axis_of(dimension, x[kept])
    sources = {Source.POLICY if policy else Source.OBSERVATIONAL for policy in set(runs.policy[kept].tolist())}
    return fit_rows(
        axis.x,
        y[kept],
        axis.binned,
        axis.nominal,
        labels=[SIZE_CATEGORIES[int(code)] for code in axis.x.tolist()] if basis is Basis.CATEGORY else None,
        fitting=fitting_of(settings),
        cost=cost,
        context=law.context,
        dimension=dimension,
        outcome=outcome,
        basis=basis,
        sources=sorted(map(str, sources)),
        lineage={int(partition): offset for partition, offset in law.lineage.items()},
        settings_hash=settings.validation_hash,
        fitted_at=law.fitted_at,
        version=law.version,
        epoch=law.epoch,
    )


def _adjusted(runs: RunColumns, slot: Slot, outcome: Outcome, settings: Settings) -> Adjusted:
    """Regress with the other dimensions and complexity held fixed, as far as enough runs carry them.

    Raises:
        NotEnoughData: As `analytics.adjusted_rows.adjust_rows`.
    """
    dimension, basis = slot
    y = runs.outcomes[outcome]
    kept = (_preferred(runs, dimension)[1] == basis) & ~np.isnan(y)
    if outcome is Outcome.TOTAL_COST:
        kept &= y > 0
    held: dict[str, Floats] = {}
    for name, other in zip(REGRESSORS, (*Dimension, None), strict=True):
        if other is dimension:
            continue
        column = runs.complexity if other is None else _preferred(runs, other)[0]
        if (~np.isnan(column[kept])).sum() >= HELD_SHARE * kept.sum():
            held[name.removeprefix("ln_")] = column
    for column in held.values():
        kept &= ~np.isnan(column)
    if not kept.any():
        raise NotEnoughData("no run carries all that has to be held fixed: publish complexity and settings with each")
    if outcome in {Outcome.TIME_TO_COMPLETE, Outcome.TOTAL_COST}:
        with np.errstate(divide="ignore"):
            y = np.log(np.maximum(y, CLIP) if outcome is Outcome.TIME_TO_COMPLETE else y)
    columns = {name: column[kept] for name, column in held.items()}
    bucket = runs.bucket[kept]
    adjusted = adjust_rows(_preferred(runs, dimension)[0][kept], y[kept], columns, bucket)
    merged = bool(bucket.min() <= runs.newest - settings.buckets_kept)
    return msgspec.structs.replace(adjusted, method=MERGED) if merged else adjusted


def _nothing(law: Law) -> str:
    return (
        f"no run of {law.context} in ClickHouse below the law's lineage carries {law.dimension} and {law.outcome}: "
        "wait for the archive, or check that the workers and this command use the same Kafka and ClickHouse"
    )


def _preferred(runs: RunColumns, dimension: Dimension) -> tuple[Floats, NDArray[np.str_]]:
    """Give ln of each run's value above zero, of its limit where it has one, and on which basis it is."""
    x = np.full(len(runs.policy), np.nan)
    chosen = np.full(len(runs.policy), "", dtype="U16")
    for basis in reversed([basis for basis in BASES[dimension] if basis is not Basis.CATEGORY]):
        given = runs.x[dimension, basis]
        above = given > 0
        x[above], chosen[above] = np.log(given[above]), str(basis)
    return x, chosen
