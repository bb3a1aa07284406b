"""An inbox is a chain, whichever transaction posts: each message names the one before, but one that opens it again."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from consilium.coordinator.ledgers import post, reopen
from consilium.core.errors import Invalid
from consilium.core.ids import SiteId, digest
from consilium.store.database import Database, Transaction
from consilium.store.schema import inbox, sites
from consilium.wire.envelope import Envelope
from consilium.wire.identity import Identity
from consilium.wire.messages import Checkpoint, Reopened

NORTH, NOW = SiteId("north"), datetime(2030, 1, 1, tzinfo=UTC)
HEAD = digest(b"")
MARK = Checkpoint(log="coordinator", seq=1, head=HEAD, at=NOW)
AGAIN = Reopened(by="root", at=NOW, seq=1, head=HEAD, kept=0, runs=())
DOING = st.sampled_from(["post", "apart", "refused", "reopen"])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(DOING, max_size=6), max_size=5), st.integers(0, 9))
def test_every_message_names_the_one_before_it(transactions: list[list[str]], ahead: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        identity = Identity.create(Path(folder) / "key")
        database = Database(f"sqlite:///{folder}/db.sqlite", lambda topic: None)
        database.prepare()
        row = {"site": NORTH, "state": "admitted", "public_key": identity.public, "about": "", "since": NOW}
        database.run_here(lambda tx: tx.do(insert(sites).values(**row, last_seen=0.0, activity="")))
        taken = 0

        def does(tx: Transaction, what: str) -> None:
            nonlocal taken
            match what:
                case "post":
                    post(tx, identity, NORTH, MARK)
                case "apart":
                    tx.apart(lambda inner: (post(inner, identity, NORTH, MARK), post(inner, identity, NORTH, MARK)))
                case "refused":
                    tx.apart(lambda inner: (post(inner, identity, NORTH, MARK), refuse()))
                case "reopen":
                    taken += ahead + 1
                    tx.apart(lambda inner: reopen(inner, identity, NORTH, AGAIN, taken))

        for doing in transactions:
            database.run_here(lambda tx, doing=doing: [does(tx, what) for what in doing])  # type: ignore[misc]
        rows = database.run_here(lambda tx: tx.rows(select(inbox).order_by(inbox.c.seq)))
        lately = database.posted(NORTH, rows[-1].seq - 1) if rows else []
        database.close()
    assert lately in (None, [(one.seq, one.envelope) for one in rows[-1:]])
    last: Any = None
    for one in rows:
        envelope = Envelope.parse(one.envelope)
        message = {Checkpoint.TYPE: Checkpoint, Reopened.TYPE: Reopened}[envelope.kind].decode(envelope.payload)
        assert (message.to, message.number, one.digest) == (NORTH, one.seq, digest(envelope.payload))
        if envelope.kind != Reopened.TYPE:
            assert message.before == last and (last is not None or one.seq == 1)
        last = one.digest


def refuse() -> None:
    raise Invalid("no")
