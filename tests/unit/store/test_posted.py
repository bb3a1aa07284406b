"""What memory tells of an inbox is what follows, without a gap, or nothing."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from consilium.store.database import Database

NUMBERS = st.lists(st.integers(1, 8), unique=True, max_size=8)


@given(NUMBERS, st.integers(0, 9))
def test_messages_from_memory_follow_without_a_gap(numbers: list[int], after: int) -> None:
    database = Database("sqlite://", lambda topic: None)
    database._posted["north"] = [(number, b"") for number in numbers]
    found = database.posted("north", after)
    database.close()
    if found:
        told = [number for number, _ in found]
        assert told[0] == after + 1 and all(then == one + 1 for one, then in pairwise(told))
    elif found is not None:
        assert numbers[-1] == after
