"""What a process of the audit does: read one context's joint cells, and fit its laws."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime

from agents.audit import AuditHeading, audit_context
from agents.fitting import fitting_of
from models.laws import Law
from models.settings import Settings
from streams.cut import Cut
from streams.joint_cells import read_joint_cells

Epochs = Mapping[str, tuple[int, datetime]]
"""By law id: number and begin of the epoch of a law that has drifted."""

NICENESS = 10
"""The live tier comes first: its laws are seconds old, the audit's may be a minute."""


def audit(settings: Settings, context: str, cut: Cut, fitted_at: str, epochs: Epochs) -> tuple[AuditHeading, list[Law]]:
    """Fit the laws of a context from the runs below a cut; those that have drifted, from the runs since.

    Raises:
        QueryError: ClickHouse refused the query.
        NotReachable: ClickHouse does not answer.
    """
    heading, laws = _fit(settings, context, cut, fitted_at)
    kept = [law for law in laws if law.law_id not in epochs]
    for epoch, since in sorted(set(epochs.values())):
        _, begun = _fit(settings, context, cut, fitted_at, (epoch, since))
        kept += [law for law in begun if epochs.get(law.law_id) == (epoch, since)]
    return heading, kept


def _fit(
    settings: Settings, context: str, cut: Cut, fitted_at: str, epoch: tuple[int, datetime] | None = None
) -> tuple[AuditHeading, list[Law]]:
    number, since = epoch or (1, None)
    runs = read_joint_cells(settings, context, since=since, below=cut)
    began = since.isoformat().replace("+00:00", "Z") if since else None
    heading = AuditHeading(context, runs.sources, cut, settings.validation_hash, fitted_at, number, began)
    return heading, audit_context(runs.joint, heading, fitting_of(settings), settings.complexity_reliability)


def start_processes(settings: Settings) -> ProcessPoolExecutor:
    """Start the processes that fit, in the background of everything else; they end with this process."""
    return ProcessPoolExecutor(
        settings.audit_processes, mp_context=multiprocessing.get_context("spawn"), initializer=_settle
    )


def stop_processes(pool: ProcessPoolExecutor) -> None:
    """End the processes at once; a fit that is under way is lost, and comes again."""
    processes = list((pool._processes or {}).values())  # noqa: SLF001 - terminate_workers comes with Python 3.14
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()


def _settle() -> None:
    os.nice(NICENESS)
    # Ctrl-C in a terminal reaches the whole group; the parent decides what becomes of a fit.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
