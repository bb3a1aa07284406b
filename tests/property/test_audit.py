"""What is kept of a log against what is shown later: every change up to a kept head is found, and no growth is."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from consilium.core.ids import Digest
from consilium.governance import audit
from consilium.governance.audit import Head

NOW = datetime(2030, 1, 1, tzinfo=UTC)
BODIES = st.lists(st.integers(0, 3), min_size=1, max_size=12)


def log(bodies: list[int]) -> tuple[list[Head], list[Digest]]:
    """The heads of a log with such entries, the first being the start, and the links of its entries."""
    heads, links = [audit.START], []
    for body in bodies:
        entry = audit.append(heads[-1], kind="test", body={"n": body}, at=NOW)
        heads.append(audit.head_of(entry.data))
        links.append(audit.link(entry.data))
    return heads, links


@given(BODIES, BODIES, st.data())
def test_a_log_is_accepted_if_and_only_if_it_extends_all_that_was_kept(
    then: list[int], now: list[int], data: st.DataObject
) -> None:
    now = data.draw(st.sampled_from([now, then + now, then[: len(then) // 2] + now, then[:-1]]))
    before, _ = log(then)
    after, links = log(now)
    kept = data.draw(st.lists(st.sampled_from(before), max_size=4))
    base = data.draw(st.sampled_from(before))
    found = audit.compare(base, kept, after[-1], links[base.seq :])
    held = [base, *(head for head in kept if head.seq > base.seq)]
    assert (found is None) == all(head in after for head in held)
    if found is not None:
        assert found.kept in held or found.kept == after[-1]
        assert (found.why == "log-went-back") == (max(head.seq for head in held) > after[-1].seq)


@given(BODIES, st.data())
def test_links_that_are_lacking_altered_or_in_another_order_are_not_followed(
    bodies: list[int], data: st.DataObject
) -> None:
    heads, links = log(bodies)
    shown = data.draw(st.permutations(links)) if data.draw(st.booleans()) else links[: data.draw(st.integers(0, 12))]
    assert (audit.compare(audit.START, heads, heads[-1], shown) is None) == (shown == links)


@given(BODIES, BODIES)
def test_of_two_heads_at_one_number_one_is_missed_in_any_log(one: list[int], other: list[int]) -> None:
    count = min(len(one), len(other))
    heads, others = log(one)[0], log(other)[0]
    marks = [heads[count], others[count]]
    entries, head = [], audit.START
    for body in one:
        entry = audit.append(head, kind="test", body={"n": body}, at=NOW)
        head = audit.head_of(entry.data)
        entries.append(entry.data)
    try:
        audit.verify(entries, marks)
        whole = True
    except audit.AuditBroken:
        whole = False
    assert whole == (one[:count] == other[:count])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=12))
def test_a_log_is_the_same_whether_its_head_is_remembered_or_worked_out_and_others_may_append_to_it(
    steps: list[tuple[bool, int]],
) -> None:
    tip = audit.Tip()
    entries: list[bytes] = []
    for ours, body in steps:
        newest = entries[-1] if entries else None
        head = audit.head_of(newest) if newest is not None else audit.START
        assert tip.head(newest) == head
        plain = audit.append(head, kind="test", body={"n": body}, at=NOW)
        entry = tip.append(newest, kind="test", body={"n": body}, at=NOW) if ours else plain
        assert entry == plain and entry.head == audit.head_of(entry.data)
        entries.append(entry.data)
    assert audit.verify(entries) == tip.head(entries[-1])
