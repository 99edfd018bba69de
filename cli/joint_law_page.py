"""One joint law in full: its terms, what its price is made of, and where it holds."""

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analytics.joint_terms import COMPLEXITY
from analytics.moments import unpack
from models.errors import ScalingError
from models.joint_laws import JointLaw
from models.settings import Settings
from models.topics import LAWS
from streams.kafka_clients import read_compacted

VARIANCES: Mapping[str, str] = {"logit": "mean (1 - mean)", "log": "mean²"}


async def read_joint_law(settings: Settings, identifier: str) -> JointLaw:
    """Read the newest version of a joint law.

    Raises:
        NotReachable: Kafka does not answer.
        StackError: scaling.laws does not exist.
        ScalingError: There is no such law.
    """
    newest: bytes | None = None
    async for record in read_compacted(settings, LAWS):
        if record.key == identifier.encode():
            newest = record.value
    if newest is None:
        raise ScalingError(
            f"there is no joint law {identifier}: the audit has them as context|joint|outcome|audited, such as "
            "global|joint|success|audited; scaling laws shows the contexts there are"
        )
    return msgspec.json.decode(newest, type=JointLaw)


def describe_jointly(law: JointLaw, console: Console) -> None:
    """Print everything that a joint law says."""
    for line in heading(law):
        console.print(line, markup=False, soft_wrap=True)
    if law.terms:
        console.print(terms_table(law))
    if law.base:
        console.print(base_table(law))
    if law.typical:
        console.print(range_table(law))
    for line in remarks(law):
        console.print(line, markup=False, soft_wrap=True)


def heading(law: JointLaw) -> Iterator[str]:
    """Say which law it is, how good it is, and its equation."""
    sources = f" ({', '.join(law.sources)})" if law.sources else ""
    yield f"{law.law_id}, version {law.version}, fitted {law.fitted_at} from {law.n:,} runs{sources}"
    yield f"{law.status}; {law.evidence}; epoch {law.epoch}" + (f" since {law.epoch_since}" if law.epoch_since else "")
    if law.terms:
        mean = f"E[{law.outcome}] / base" if law.base else f"E[{law.outcome}]"
        centres = ", ".join(f"{name} {centre:.4g}" for name, centre in law.centres.items())
        yield f"{law.link}({mean}) = sum of coefficient times term; each factor less its centre: {centres}"


def terms_table(law: JointLaw) -> Table:
    """Show each term with its coefficient and the standard error of that."""
    table = Table(title="Terms", title_justify="left")
    table.add_column("term")
    for name in ("coefficient", "standard error"):
        table.add_column(name, justify="right")
    errors = np.sqrt(np.maximum(np.diag(unpack(np.asarray(law.covariance, np.float64))), 0.0)).tolist()
    for term, coefficient, error in zip(law.terms, law.coefficients, errors, strict=True):
        table.add_row(escape(term), f"{coefficient:.4g}", f"{error:.2g}")
    return table


def base_table(law: JointLaw) -> Table:
    """Show what the base is the sum of."""
    table = Table(title="Base: the sum of price times monomial", title_justify="left")
    table.add_column("monomial")
    table.add_column("price", justify="right")
    for monomial, price in law.base.items():
        table.add_row(escape(monomial), f"{price:.4g}")
    return table


def range_table(law: JointLaw) -> Table:
    """Show where the law holds, and what stands in for a setting that is not given."""
    table = Table(title="Where it holds", title_justify="left")
    for name in ("dimension", "measured as"):
        table.add_column(name)
    for name in ("from", "to", "typical"):
        table.add_column(name, justify="right")
    for name, typical in law.typical.items():
        least, greatest = law.support.get(name, [0.0, 1.0] if name == COMPLEXITY else [typical, typical])
        table.add_row(name, law.bases.get(name, ""), f"{least:,.6g}", f"{greatest:,.6g}", f"{typical:,.6g}")
    return table


def remarks(law: JointLaw) -> Iterator[str]:
    """Say how single runs scatter, what the law lacks, and what it has seen."""
    if law.terms:
        yield f"variance of a single run: {law.dispersion:.4g} {VARIANCES.get(law.link, '')}"
        yield f"errors of runs may go together within: {law.clusters or 'nothing'}"
    if law.categories:
        first, *others = law.categories
        yield f"model sizes without a number: {', '.join(others)}, relative to {first}"
    for part, reason in law.missing.items():
        yield f"not in it: {part}: {reason}"
    if law.lineage:
        cuts = ", ".join(f"{partition} below {offset:,}" for partition, offset in sorted(law.lineage.items()))
        yield f"it has seen the records of scaling.runs by partition: {cuts}"
