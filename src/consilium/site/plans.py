"""The plans in this hospital's journal: a plan's name is the digest of its bytes, and bytes of another are no plan."""

import logging
from datetime import datetime
from sqlite3 import Row

from consilium.core.errors import ConsiliumError, Refused
from consilium.core.ids import Digest, digest
from consilium.core.study import Plan
from consilium.site.journal import Journal
from consilium.wire.connection import Connection
from consilium.wire.transfer import fetch

log = logging.getLogger(__name__)
WAY = (
    "start the agent anew (`consilium site run`): it fetches the plan that was offered; and find out who changed the "
    "journal"
)


def altered(row: Row) -> bool:
    """Whether a row of `studies` holds other bytes than those of the plan that was offered."""
    return digest(bytes(row["payload"])) != str(row["plan"])


def whole(row: Row) -> Plan:
    """The plan of a row of `studies`. Raises: Refused: other bytes stand there (`plan-changed`)."""
    if altered(row):
        raise Refused(
            f"the plan of {row['study']} in this hospital's journal is not the one that was offered: it was changed",
            WAY,
            reason="plan-changed",
        )
    return Plan.load(bytes(row["payload"]))


def changed(journal: Journal) -> list[str]:
    """Studies whose plan was changed in the journal."""
    return [str(row["study"]) for row in journal.rows("SELECT study, plan, payload FROM studies") if altered(row)]


def mend(journal: Journal, connection: Connection, now: datetime) -> None:
    """Fetch plans that were changed here from the coordinator, under the digest by which each was offered."""
    for row in journal.rows("SELECT study, plan, payload FROM studies"):
        if not altered(row):
            continue
        log.error("the plan of %s was changed in the journal: find out who did that", row["study"])
        try:
            payload = fetch(connection, Digest(row["plan"]))
        except ConsiliumError as error:
            log.error("the plan of %s is not fetched anew: %s", row["study"], error)
            continue
        with journal.write() as tx:
            tx.do("UPDATE studies SET payload = ? WHERE plan = ?", payload, row["plan"])
            tx.record("plan-restored", {"study": row["study"], "plan": row["plan"]}, now)
        log.warning("the plan of %s is the one again that was offered", row["study"])
