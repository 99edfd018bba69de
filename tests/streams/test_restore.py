"""Where reading begins: what headers say, and which of them are believed."""

from aiokafka import ConsumerRecord, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from models.topics import CELLS_TABLE, STATS, STATS_CHANGELOGS
from streams.restore import BEGIN_HEADER, Begin, begin_header, begin_of, first_offset, read_begin

CELLS = TopicPartition(STATS_CHANGELOGS[CELLS_TABLE], 3)
STATS_0 = TopicPartition(STATS, 0)
PLACES = st.dictionaries(
    st.builds(TopicPartition, st.sampled_from((STATS, *STATS_CHANGELOGS.values())), st.integers(0, 8)),
    st.integers(0, 2**40),
)


def record_with(*headers: tuple[str, bytes | None]) -> ConsumerRecord[bytes, bytes]:
    """Make a record that has these headers."""
    return ConsumerRecord(STATS, 0, 9, 0, 0, b"k", b"v", None, 1, 1, headers)


@given(places=PLACES)
def test_a_header_says_what_was_put_in(places: dict[TopicPartition, int]) -> None:
    """Every place with its offset; what is not named begins at 0."""
    found = read_begin(record_with(("other", b"x"), begin_header(begin_of(3, places))))
    assert found is not None
    assert (found.writer, found.places) == (3, places)
    assert all(found.offset(place) == offset for place, offset in places.items())
    assert found.offset(TopicPartition("elsewhere", 0)) == 0


def test_a_header_that_cannot_be_read_says_nothing() -> None:
    """Whatever it holds."""
    for value in (None, b"", b"{", b"[]", b'{"writer": "x", "offsets": {}}', b"\xff"):
        assert read_begin(record_with((BEGIN_HEADER, value))) is None
    assert read_begin(record_with()) is None


def test_places_beyond_the_end_of_their_topic_do_not_count() -> None:
    """The topic was made anew, or lost its tail: it is read from the beginning."""
    begin = begin_of(3, {CELLS: 50, STATS_0: 70})
    assert begin.within({CELLS: 51, STATS_0: 70}).places == {CELLS: 50}
    assert begin.within({}).places == {}


def test_a_partition_of_several_writers_begins_where_the_first_of_them_does() -> None:
    """And at its beginning as long as one of them has not said where."""
    begins: dict[int, Begin] = {0: begin_of(0, {STATS_0: 40}), 1: begin_of(1, {STATS_0: 30, CELLS: 2})}
    assert first_offset(STATS_0, begins, range(2)) == 30
    assert first_offset(STATS_0, begins, range(3)) == 0
    assert first_offset(CELLS, begins, range(2)) == 0
