"""Which records are read in one go."""

from streams.run_records import NEAR, batch_of, spans


def test_records_that_lie_near_are_read_in_one_go() -> None:
    """A span ends where the next record is further away than a seek is worth; nothing gives no span."""
    assert list(spans([])) == []
    assert list(spans([3, 4, 4 + NEAR, 5 + 2 * NEAR])) == [[3, 4, 4 + NEAR], [5 + 2 * NEAR]]
    assert len(batch_of(0, [])) == 0
