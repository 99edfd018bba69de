"""The law record on the wire: a golden file that readers of other versions can rely on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from analytics.cells import Cells, law_cells
from analytics.equality import compare_laws
from analytics.laws import explained, fit_law
from models.dimensions import CLIP, Basis, Dimension, Outcome, Variable
from models.laws import (
    Adjusted,
    Drift,
    Estimate,
    ForwardChaining,
    Holdout,
    Law,
    Pooling,
    Significance,
    Transfer,
    UniversalScalability,
    Validation,
    ValueRow,
)

GOLDEN = Path(__file__).parent / "golden" / "law.json"

ABSENT = {
    "excluded_zeros",  # time over slots has no run at zero slots,
    "label",  # its values are numbers,
    "success_rate_by_value",  # it is not success,
    "se_classical",  # and an average of families has one kind of error.
}


def golden_law() -> Law:
    """Fit time over slots to 600 runs whose times are written down, not drawn; write down what needs other runs."""
    x = np.append(np.repeat([1.0, 2.0, 4.0, 8.0, 16.0], 120), 32.0)
    spread = np.append(np.tile(np.geomspace(0.2, 5.0, 120), 5), 1.0)
    seconds = 100 * (1 + 0.08 * (x - 1) + 0.004 * x * (x - 1)) / x * spread
    columns = {
        str(Variable.X): x,
        str(Outcome.TIME_TO_COMPLETE): seconds,
        str(Variable.LN_TIME): np.log(np.maximum(seconds, CLIP)),
    }
    law = fit_law(
        law_cells(Cells.from_rows(columns), Outcome.TIME_TO_COMPLETE),
        context="project=web%20shop",
        dimension=Dimension.PARALLELISM_LEVEL,
        outcome=Outcome.TIME_TO_COMPLETE,
        basis=Basis.REALISED,
        sources=["observational", "policy"],
        lineage={0: 602},
        settings_hash="0123456789abcdef",
        fitted_at="2026-03-01T00:00:00.000Z",
        tier="audited",
        version=3,
        epoch=2,
    )
    slope = Estimate(-0.52, 0.02, -0.56, -0.48, 0.015)
    naive = Estimate(-0.6, 0.02, -0.64, -0.56, 0.015)
    holdout = Holdout(0.031, 0.03, 0.3, 0.996, Estimate(1.01, 0.03, 0.95, 1.07), 120)
    whole = msgspec.structs.replace(
        law,
        status="drifted",
        evidence="adjusted and associational",
        scalability=UniversalScalability(
            first=Estimate(100.0, 1.5, 97.1, 102.9),
            contention=Estimate(0.08, 0.01, 0.06, 0.1),
            coherence=Estimate(0.004, 0.0005, 0.003, 0.005),
            optimum=Estimate(15.2, 0.9, 13.5, 17.1),
        ),
        adjusted=Adjusted(
            method="within strata of complexity_band",
            slope=slope,
            naive=naive,
            gap=-0.08,
            n=590,
            strata=4,
            covariates=["agent_count", "context"],
            values=[ValueRow(n=120, mean=y, lo=y - 4, hi=y + 4, x=at) for at, y in ((1.0, 80.0), (2.0, 46.0))],
            tipping_reliability=0.4,
            overlap=0.9,
        ),
        confounding_gap=-0.08,
        tipping_reliability=0.4,
        validation=Validation(
            holdout=holdout,
            five_fold=holdout,
            transfer=Transfer(8, 0.875, 0.9, slope, covered=True),
            forward=ForwardChaining(24, 1.1, 0.958),
        ),
        drift=Drift(alarm=True, evidence=412.0, limit=400.0, buckets=31, since="2026-02-01T00:00:00Z", cause="mix"),
        adjusted_significance=Significance(p=0.001, unadjusted=True, adjusted=True, scope="audited laws", laws=144),
        pooling=Pooling(slope, 0.05, prior_weight=0.1, prior_dominated=False, contexts=8, family="logarithmic"),
        clusters="project",
        epoch_since="2026-01-15T00:00:00Z",
    )  # fmt: skip
    return explained(whole)


def shape(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Keep the structure of a JSON document: names, nesting and kinds, not the numbers."""
    if isinstance(value, dict):
        return {name: shape(content) for name, content in value.items()}
    if isinstance(value, list):
        return [shape(content) for content in value]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else value


def absent(part: object) -> Iterator[str]:
    """Name the fields of a record and of its parts that stand at their default."""
    if isinstance(part, msgspec.Struct):
        for field in msgspec.structs.fields(part):
            value = getattr(part, field.name)
            if value in (None, [], {}, "", 0) and value is not False:
                yield field.name
            yield from absent(value)
    elif isinstance(part, list):
        # One of a list shows what its kind can have.
        found = [set(absent(each)) for each in part]
        yield from set.intersection(*found) if found else set()


def test_the_record_reads_as_the_golden_one() -> None:
    """A law of this version has the names, nesting and numbers of the golden record, and reads back from it."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    law = golden_law()
    assert shape(json.loads(msgspec.json.encode(law))) == shape(golden)
    known = msgspec.convert(golden, Law)
    assert compare_laws(law, known) == []
    assert (law.sentence, law.lint) == (known.sentence, known.lint)


def test_the_golden_record_has_every_part() -> None:
    """A reader finds each field of the record and of its parts in it, but for those that such a law cannot have."""
    law = msgspec.convert(json.loads(GOLDEN.read_text(encoding="utf-8")), Law)
    assert set(absent(law)) == ABSENT
    assert law.published is not None
    assert {*law.published.weights} >= {"power", "plateau", "universal_scalability", "saturated"}


def test_readers_ignore_fields_they_do_not_know() -> None:
    """A record of a later version with more fields is read all the same."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8")) | {"covariance": [[1.0]]}
    assert msgspec.convert(golden, Law).law_id == "project=web%20shop|parallelism_level|time_to_complete|audited"


def test_a_record_of_the_first_version_is_still_read() -> None:
    """Fields that came later stand at their defaults, so that a topic from before can be read on."""
    first = {
        "law_id": "global|agent_count|success|live",
        "tier": "live",
        "context": "global",
        "dimension": "agent_count",
        "outcome": "success",
        "version": 3,
        "epoch": 1,
        "fitted_at": "2026-01-01T00:00:00.000Z",
        "n": 240,
        "status": "established",
        "evidence": "associational",
        "settings_hash": "0123456789abcdef",
        "published": {"family": "power", "weights": {"power": 1.0}, "params": {}, "curve": [], "method": ""},
        "knee": {"value": 4.0, "lo": 1.0, "hi": 8.0, "rule": "first gain per unit of x below 0.05"},
    }
    law = msgspec.convert(first, Law)
    assert law.published is not None
    assert (law.power, law.published.scale, law.published.direction) == (None, "mean", "undetermined")
    assert law.knee is not None
    assert not law.knee.supported
