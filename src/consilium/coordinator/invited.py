"""Hospitals that a study invites by name and that cannot take part yet: nobody of that name was ever admitted here.

They may join later, and are offered the study then: nothing is refused, but it is said to who submits and watches.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from sqlalchemy import select

from consilium.core.study import Plan
from consilium.store.database import Transaction
from consilium.store.schema import sites

Json = dict[str, Any]
NEVER = "never joined"
WORDS = {"pending": "waits for admission", "removed": "was removed from the federation"}
NEXT = {
    NEVER: "is the name right? Else it joins (`consilium sites token {site}`), and is offered the study once admitted",
    WORDS["pending"]: "compare its fingerprint and admit it: `consilium sites admit {site}`",
    WORDS["removed"]: "its name is not given again: submit another study, without it or with its new name",
}
"""What helps, by why it cannot take part."""


def missing(tx: Transaction, plan: Plan) -> list[Json]:
    """Whom the plan invites and who is not admitted, sorted: `site`, `why`, `near`, names like it, and `next`."""
    if not plan.study.sites:
        return []
    return told(plan.study.sites, {row.site: row.state for row in tx.rows(select(sites.c.site, sites.c.state))})


def told(invited: Iterable[str], states: dict[str, str]) -> list[Json]:
    """The same, of the names that are invited, by the state of each site that there is."""
    wanted, found = set(invited), []
    for site in sorted(wanted):
        state = states.get(site)
        if state == "admitted":
            continue
        why = NEVER if state is None else WORDS[state]
        others = [one for one, known in sorted(states.items()) if known != "removed" and one not in wanted]
        near = get_close_matches(site, others, cutoff=0.5) if state is None else []
        found.append({"site": site, "why": why, "near": near, "next": NEXT[why].format(site=site)})
    return found
