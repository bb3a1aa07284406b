"""What this hospital refused, and what waits for its people because of that."""

from typing import Any

from consilium.core.refusing import goes_on
from consilium.site.journal import Journal, Writing
from consilium.wire.messages import Task

_STANDS = (
    "SELECT tasks.run, round, note, payload FROM tasks JOIN (SELECT run, max(seq) AS newest FROM tasks GROUP BY run)"
    " ON seq = newest WHERE status = 'refused' AND NOT EXISTS (SELECT 1 FROM meta WHERE key = 'run/' || tasks.run)"
    " ORDER BY seq"
)


def standing(journal: Journal) -> list[dict[str, Any]]:
    """Runs that are not over and whose newest task was refused here, since which no person approved their plan.

    Each with run, round, study, reason, and `next`: what lets it go on; empty where nobody here can change that.
    """
    found = []
    for row in journal.rows(_STANDS):
        study, reason = Task.decode(bytes(row["payload"])).study, str(row["note"])
        way = goes_on(study, [reason]).replace("at that hospital", "here")
        about = {"run": row["run"], "round": row["round"], "study": study}
        found.append({**about, "reason": reason, "next": way})
    return found


def taken_back(tx: Writing, plan: str) -> None:
    """A person approved the plan anew: the coordinator asks again, and what was refused stands no more."""
    tx.do("UPDATE tasks SET status = 'over' WHERE status = 'refused' AND plan = ?", plan)
