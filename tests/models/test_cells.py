"""Keys of cells and Grams."""

import math

from hypothesis import given
from hypothesis import strategies as st

from models.cells import CellKey, GramKey, bin_value, value_text
from models.contexts import GLOBAL, context_id
from models.dimensions import Basis, Dimension, Source

CONTEXTS = st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), max_size=2).map(context_id)


@given(
    st.builds(
        CellKey,
        partition=st.integers(0, 255),
        context=CONTEXTS,
        dimension=st.sampled_from(Dimension),
        basis=st.sampled_from(Basis),
        value=st.sampled_from(("1", "7.5", "~24", "small")),
        source=st.sampled_from(Source),
        mask=st.integers(0, 31),
    )
)
def test_a_cell_key_reads_back_whatever_its_context_holds(key: CellKey) -> None:
    """Seven parts, whatever characters the context's keys and values have."""
    assert CellKey.decode(key.encode()) == key
    assert key.encode().count(b"|") == 6
    assert key.binned == (key.value == "~24")


@given(CONTEXTS, st.none() | st.integers(0, 10**6), st.text("-rd", min_size=7, max_size=7), st.integers(0, 31))
def test_a_gram_key_reads_back(context: str, bucket: int | None, presence: str, mask: int) -> None:
    """History has no bucket number."""
    key = GramKey(3, context, bucket, Source.POLICY, presence, mask)
    assert GramKey.decode(key.encode()) == key
    assert (b"|history|" in key.encode()) == (bucket is None)


def test_a_key_is_written_as_documented() -> None:
    """The separator and the order of the parts are part of the wire format."""
    cell = CellKey(0, "project=a%20b", Dimension.AGENT_COUNT, Basis.REALISED, "8", Source.OBSERVATIONAL, 7)
    assert cell.encode() == b"0|project=a%20b|agent_count|realised|8|observational|7"
    assert GramKey(0, GLOBAL, 9, Source.POLICY, "r------", 1).encode() == b"0|global|9|policy|r------|1"


def test_a_bins_value_is_the_geometric_middle_of_its_ends() -> None:
    """Bin i holds [2^(i/4), 2^((i+1)/4))."""
    for index in (-3, 0, 24, 47):
        low, high = 2 ** (index / 4), 2 ** ((index + 1) / 4)
        assert math.isclose(bin_value(index), math.sqrt(low * high), rel_tol=1e-15)


@given(st.floats(0.001, 1e6) | st.integers(0, 10**6).map(float))
def test_a_values_text_reads_back(value: float) -> None:
    """Whole numbers have no point; every other number reads back exactly."""
    assert float(value_text(value)) == value
    assert ("." in value_text(value)) == (value != int(value))
