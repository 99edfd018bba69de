"""The joint law record: what scaling.laws carries for all dimensions together."""

import msgspec
import pytest

from models.dimensions import Dimension
from models.joint_laws import JOINT, SCHEMA_VERSION, JointLaw, is_joint, read_record
from models.laws import Law, law_id

KIB = 1024


def a_joint_law(terms: int, number: float = -1 / 3) -> JointLaw:
    """Make a law with so many terms, each number of which takes as many digits as there are."""
    return JointLaw(
        law_id=law_id("project=web%20shop", JOINT, "success", "audited"),
        tier="audited",
        context="project=web%20shop",
        outcome="success",
        version=7,
        epoch=2,
        fitted_at="2026-03-01T00:00:00Z",
        n=12_000,
        status="actionable",
        evidence="adjusted",
        settings_hash="0123456789abcdef",
        link="logit",
        terms=[f"ln_iterations*ln_parallelism{place}" for place in range(terms)],
        coefficients=[number] * terms,
        covariance=[number * 1e-300] * (terms * (terms + 1) // 2),
        dispersion=1.0,
        support={dimension.value: [1.0, 8.0] for dimension in Dimension},
        typical={dimension.value: number for dimension in Dimension},
        lineage={str(partition): 10**12 for partition in range(64)},
    )


def test_a_record_reads_back_as_it_was_written() -> None:
    """JSON loses nothing, and a field that a reader does not know is ignored."""
    law = a_joint_law(11)
    payload = msgspec.json.encode(law)
    assert msgspec.json.decode(payload, type=JointLaw) == law
    fields = msgspec.json.decode(payload) | {"added_later": 1}
    assert msgspec.json.decode(msgspec.json.encode(fields), type=JointLaw) == law


def test_a_record_says_what_it_is() -> None:
    """The key is context|joint|outcome|tier, the dimension is joint, the schema has a version."""
    law = a_joint_law(1)
    assert law.law_id == "project=web%20shop|joint|success|audited"
    assert (law.dimension, law.schema_version) == ("joint", SCHEMA_VERSION)


def test_the_largest_record_stays_within_64_kib() -> None:
    """Six dimensions, complexity, all squares and products are 29 terms; forty would still fit."""
    assert len(msgspec.json.encode(a_joint_law(29))) < 16 * KIB
    assert len(msgspec.json.encode(a_joint_law(40))) < 64 * KIB


def test_a_key_says_of_which_kind_its_record_is() -> None:
    """A joint law and one of a dimension are told apart by their ids, and neither is read as the other."""
    joint = a_joint_law(2)
    single = Law(
        **{name: getattr(joint, name) for name in ("tier", "context", "outcome", "version", "epoch", "fitted_at", "n")},
        **{name: getattr(joint, name) for name in ("status", "evidence", "settings_hash")},
        law_id=law_id("joint=joint", "agent_count", "success", "audited"),
        dimension="agent_count",
    )
    for law in (joint, single):
        assert read_record(law.law_id, msgspec.json.encode(law)) == law
    assert [is_joint(name) for name in (joint.law_id, single.law_id, "", "joint")] == [True, False, False, False]
    with pytest.raises(msgspec.ValidationError):
        read_record(single.law_id, msgspec.json.encode(joint))
    with pytest.raises(msgspec.ValidationError):
        read_record(joint.law_id, msgspec.json.encode(single))
