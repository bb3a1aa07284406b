"""Heads that the coordinator signed: of two that contradict each other none is passed over for a later one."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consilium.core.ids import Digest, digest
from consilium.governance import audit
from consilium.governance.audit import Head
from consilium.site.journal import Journal
from consilium.site.witness import Witness
from consilium.wire.identity import Identity

NOW = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
FORKED = digest(b"the head of another log")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal")
    yield made
    made.close()


def log(entries: int) -> tuple[list[Head], list[Digest]]:
    """The heads of a log, the first being the start, and the links of its entries."""
    heads, links = [audit.START], list[Digest]()
    for number in range(entries):
        entry = audit.append(heads[-1], kind="test", body={"n": number}, at=NOW)
        heads.append(entry.head)
        links.append(audit.link(entry.data))
    return heads, links


HEADS, LINKS = log(20)


@pytest.mark.parametrize(
    ("between", "why"),
    [
        ((), None), ((HEADS[15],), None), ((HEADS[15], HEADS[12]), "log-went-back"),
        ((Head(15, FORKED),), "log-rewritten"), ((Head(10, FORKED),), "log-rewritten"),
        ((Head(5, FORKED),), "log-went-back"), ((HEADS[15], Head(15, FORKED)), "log-rewritten"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("looked", [False, True], ids=["at once", "one by one"])
def test_a_head_that_contradicts_is_found_also_where_a_true_one_came_after_it(
    journal: Journal, tmp_path: Path, between: tuple[Head, ...], why: str | None, looked: bool
) -> None:
    """The thread that compares may look only once both have come."""

    def get(path: str, query: dict[str, int]) -> dict[str, Any]:
        return {"after": query["after"], "links": LINKS[query["after"] :]}

    mine, line = Identity.create(tmp_path / "key"), cast(Any, SimpleNamespace(get=get))
    witness = Witness(mine, journal, line, Event(), Event(), Event())

    def came(head: Head) -> None:
        with journal.write() as tx:
            tx.do("INSERT OR IGNORE INTO marks (seq, head, envelope) VALUES (?, ?, x'')", head.seq, head.digest)

    came(HEADS[10])
    witness.look(NOW)
    for head in (*between, HEADS[20]):
        came(head)
        if looked:
            witness.look(NOW)
    witness.look(NOW)
    assert [row["why"] for row in journal.rows("SELECT why FROM alarms")] == [why] * (why is not None)
