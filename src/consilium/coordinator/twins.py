"""Two agents of one hospital at once, as when a folder was restored elsewhere and the old machine still runs.

Each start of an agent has a number of its own, which heartbeats tell. One that was started anew has a new number, and
the old one never comes back: so it comes back only where both run. Once may be a heartbeat that was long on its way;
twice within a minute is not. It is no defence against who stole a key, and need not tell the truth.
"""

from datetime import UTC, datetime

from sqlalchemy import bindparam, delete, insert, select, update

from consilium.coordinator import witness
from consilium.core.ids import SiteId
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import agents

HELD_S = 60.0
"""An agent that was heard within this time may still run."""
STEP_S = 0.001
KEPT = 20
"""So many starts of one hospital's agent are remembered."""
_OF = Hot(select(agents).where(agents.c.site == bindparam("site")).order_by(agents.c.since.desc()))


def beats(tx: Transaction, site: SiteId, instance: str, now: float) -> bool:
    """An agent of a site was heard; whether another one of the same site runs, too. An alarm is raised then.

    Args:    instance: the number of its start.   now: in seconds.
    """
    rows = tx.rows(_OF, site=site)
    held = any(_lately(row.before, now) for row in rows)
    if rows and rows[0].instance == instance:
        return held
    since = max(now, rows[0].since + STEP_S) if rows else now  # the newest, also where the clock was set back
    known = next((row for row in rows if row.instance == instance), None)
    if known is None:
        tx.do(insert(agents).values(site=site, instance=instance, since=since, returned=0.0, before=0.0))
        for row in rows[KEPT - 1 :]:
            tx.do(delete(agents).where(agents.c.site == site, agents.c.instance == row.instance))
        return held
    mine = update(agents).where(agents.c.site == site, agents.c.instance == instance)
    tx.do(mine.values(since=since, returned=now, before=known.returned))
    if not _lately(known.returned, now):
        return held
    witness.twins(tx, site, datetime.fromtimestamp(now, UTC))
    return True


def _lately(at: float, now: float) -> bool:
    return abs(now - at) < HELD_S
