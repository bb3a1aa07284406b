"""Whose people have still to compare the words of a roster, as far as the coordinator knows.

Who answers PROVE has compared every identity on the roster, then or before, and remembers them: a name is given to one
identity. Of a hospital whose journal is restored from an older copy it is not so, and nobody here knows.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import and_, select

from consilium.core import run as runs
from consilium.core.ids import RunId, SiteId
from consilium.core.round import Kind, Phase
from consilium.store.database import Transaction
from consilium.store.schema import events
from consilium.store.schema import runs as run_table

LATEST = 50
"""Other runs that are looked at, the newest."""
Compared = Mapping[SiteId, frozenset[SiteId]]


def strangers(tx: Transaction, run: RunId, fold: runs.Run) -> list[SiteId]:
    """Of the roster whose keys are proved now, those who never answered for all others on it; sorted."""
    assert fold.round is not None
    roster = fold.round.asked(Phase.PROVE)
    return never(roster, [fold.compared, _earlier(tx, run, len(roster))])


def never(roster: Iterable[SiteId], compared: Iterable[Compared]) -> list[SiteId]:
    """The same, of what each has compared.

    >>> never("abc", [{"a": frozenset("ab"), "b": frozenset("abc")}, {"a": frozenset("ac")}])
    ['c']
    """
    whole, told = frozenset(roster), list(compared)
    return sorted(
        site for site in whole if whole - {site} - frozenset[SiteId]().union(*(one.get(site, ()) for one in told))
    )


def _earlier(tx: Transaction, run: RunId, sites: int) -> Compared:
    """What each has compared at the beginning of other runs, of about so many sites: one may have a million events."""
    begun = run_table.join(events, and_(events.c.run == run_table.c.run, events.c.seq == 1))
    newest = select(run_table.c.run).select_from(begun).where(run_table.c.run != run).order_by(events.c.at.desc())
    others = [row.run for row in tx.rows(newest.limit(LATEST))]
    first = select(events.c.run, events.c.kind, events.c.body).where(
        events.c.run.in_(others), events.c.seq <= 8 * (sites + 1), events.c.kind.in_(("Opened", "Answered"))
    )  # fmt: skip
    found: dict[SiteId, frozenset[SiteId]] = {}
    paired: dict[str, set[SiteId]] = {}
    for row in tx.rows(first.order_by(events.c.run, events.c.seq)):
        body: Any = json.loads(row.body)
        if row.kind == "Opened":
            paired[row.run] = set()
            if body["kind"] != Kind.PAIR:
                del paired[row.run]
        elif row.run in paired and body["phase"] == Phase.PAIR:
            paired[row.run].add(SiteId(body["site"]))
        elif row.run in paired and body["phase"] == Phase.PROVE:
            site = SiteId(body["site"])
            found[site] = found.get(site, frozenset()) | paired[row.run]
    return found
