"""Hospitals that a study invites by name and that cannot take part yet: nobody of that name was ever admitted here.

They may join later, and are offered the study then: nothing is refused, but it is said to who submits and watches.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from heapq import nlargest
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


LIKED, LIKELY = 20, 20
"""Of so many missing names at most it is looked which others are like them, and of so many others each: a plan names as
many hospitals as its owner likes, and to compare names letter by letter is slow.
"""


def invites(plan: Plan, site: str) -> bool:
    """Whether a plan is offered to a site: to all, or to those that it names."""
    return not plan.study.sites or site in plan.study.sites


def missing(tx: Transaction, plan: Plan) -> list[Json]:
    """Whom the plan invites and who is not admitted, sorted: `site`, `why`, and `next`."""
    return told(plan.study.sites, known(tx)) if plan.study.sites else []


def known(tx: Transaction) -> dict[str, str]:
    """The state of each site that there is."""
    return {row.site: row.state for row in tx.rows(select(sites.c.site, sites.c.state))}


def told(invited: Iterable[str], states: Mapping[str, str]) -> list[Json]:
    """The same, of the names that are invited, by the state of each site that there is."""
    found = []
    for site in sorted(set(invited)):
        state = states.get(site)
        if state != "admitted":
            why = NEVER if state is None else WORDS[state]
            found.append({"site": site, "why": why, "next": NEXT[why].format(site=site)})
    return found


def liked(invited: Iterable[str], states: Mapping[str, str]) -> list[Json]:
    """The same, each with `near`: names like it, of sites that there are and that are not invited; not within a
    transaction.
    """
    wanted = set(invited)
    others = [one for one, state in sorted(states.items()) if state != "removed" and one not in wanted]
    found = told(wanted, states)
    asked = {one["site"] for one in [one for one in found if one["why"] == NEVER][:LIKED]}
    return [{**one, "near": _like(one["site"], others) if one["site"] in asked else []} for one in found]


def _like(name: str, others: list[str]) -> list[str]:
    letters: Counter[str] = Counter(name)
    likely = nlargest(LIKELY, others, lambda one: 2 * (letters & Counter(one)).total() - len(one))
    return get_close_matches(name, likely, cutoff=0.5)
