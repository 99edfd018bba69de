"""What a process of the audit does: read one context's joint cells, and fit its laws."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime

from agents.audit import AuditHeading, audit_context
from agents.fitting import fitting_of
from agents.joint_audit import Audited, audit_jointly
from models.settings import Settings
from streams.cut import Cut
from streams.drifts import Drifts
from streams.joint_cells import read_joint_cells

NICENESS = 10
"""The live tier comes first: its laws are seconds old, the audit's may be a minute."""


def audit(settings: Settings, context: str, cut: Cut, fitted_at: str, drifts: Drifts) -> Audited:
    """Fit the laws of a context from the runs below a cut; those that have drifted, from the runs since.

    Raises:
        QueryError: ClickHouse refused the query.
        NotReachable: ClickHouse does not answer.
    """
    fitted = {since: _fit(settings, context, cut, fitted_at, since) for since in (None, *sorted(set(drifts.values())))}
    return Audited(
        heading=fitted[None].heading,
        laws=[law for since, each in fitted.items() for law in each.laws if drifts.get(law.law_id) == since],
        missing={
            name: reason
            for since, each in fitted.items()
            for name, reason in each.missing.items()
            if drifts.get(name) == since
        },
    )


def _fit(settings: Settings, context: str, cut: Cut, fitted_at: str, since: datetime | None) -> Audited:
    runs = read_joint_cells(settings, context, since=since, below=cut)
    began = since.isoformat().replace("+00:00", "Z") if since else None
    heading = AuditHeading(context, runs.sources, cut, settings.validation_hash, fitted_at, since=began)
    laws = audit_context(runs.joint, heading, fitting_of(settings), settings.complexity_reliability)
    together, missing = audit_jointly(runs.joint, heading, settings.complexity_reliability)
    return Audited(heading, [*laws, *together], missing)


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
