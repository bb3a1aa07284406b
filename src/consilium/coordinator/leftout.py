"""Hospitals that were asked in a run, and are in none of its sums since some round: who, since when, why, what to do.

Of two kinds: who was asked for keys, and was not in time, holds none; and who holds keys, with whom others refuse a
sum, or who refuses, or is away. Each is told once, however many rounds it is so.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from consilium.core import run as runs
from consilium.core.ids import RunId, SiteId
from consilium.core.refusing import OF_SET
from consilium.core.round import Kind, Phase
from consilium.store.database import Transaction
from consilium.store.schema import decisions, effects, refusals
from consilium.wire.messages import Decision

Json = dict[str, Any]
LOST: Mapping[Phase, tuple[str, str]] = {
    Phase.KEYS: ("it was asked for keys, and sent none", "see that its agent runs (`consilium sites list`)"),
    Phase.PAIR: ("it sent keys, and fell silent while they were agreed", "see that its agent runs"),
    Phase.PROVE: (
        "it answered for keys, and nobody there is known to have compared the words of the roster",
        "compare them there all the same (`consilium site compare`), or give people more time (`deadlines.compare_s`)",
    ),
}
"""What a hospital has not done, and what helps the next run, by the phase in which it was lost."""
AGAIN = "it can be in the next run"


def left_out(tx: Transaction, study: str, run: RunId, fold: runs.Run) -> list[Json]:
    """Who is left out of a run, sorted: `site`; `since` which round, 0 for all; `why`; and `next`, what can be done.

    Where no keys are agreed nobody is: a round is asked of all who approve and are there.
    """
    if not fold.cohort:
        return []
    newest = max(fold.took_part, default=0)
    apart = sorted(set(fold.cohort) - set(fold.took_part[newest])) if newest else []
    said = tx.rows(select(refusals).where(refusals.c.run == run).order_by(refusals.c.id)) if fold.lost or apart else []
    told = [_keyless(tx, run, site, *how, said) for site, how in fold.lost.items()]
    told += [one for site in apart if (one := _apart(fold, site, _since(fold, site), said)) is not None]
    decided = _decided(tx, study, [one["site"] for one in told])
    return sorted(({**one, **decided.get(one["site"], {})} for one in told), key=lambda one: str(one["site"]))


def _decided(tx: Transaction, study: str, sites: list[str]) -> dict[str, Json]:
    """Of those who do not approve the study any more, that."""
    rows = tx.rows(
        select(decisions).where(decisions.c.study == study, decisions.c.site.in_(sites)).order_by(decisions.c.id)
    )
    word = {row.site: Decision.decode(row.payload).decision for row in rows}
    told = {"why": "its people approve the study no more", "next": f"{AGAIN}, if they approve again"}
    return {site: told for site, decision in word.items() if decision != "approve"}


def _keyless(tx: Transaction, run: RunId, site: SiteId, pairing: int, phase: Phase, said: list[Any]) -> Json:
    why, then = LOST[phase]
    if reasons := sorted({row.reason for row in said if row.site == site and row.round == 0}):
        why, then = f"it refused to agree on keys ({', '.join(reasons)})", "its people know why"
    elif (row := tx.find(effects, key=f"{run}/deadline/0/{pairing}/{phase.value}")) is not None:
        if phase is Phase.PROVE and site not in json.loads(row.body).get("people", [site]):
            why, then = LOST[Phase.PAIR]  # its people had nothing to compare
        why += f", by {datetime.fromtimestamp(row.due, UTC):%Y-%m-%d %H:%M:%S} UTC"
    return {"site": site, "since": 0, "why": why, "next": f"{AGAIN}: {then}"}


def _since(fold: runs.Run, site: SiteId) -> int:
    """The round after the last one in whose sum a site is."""
    return max((number for number, sites in fold.took_part.items() if site in sites), default=0) + 1


def _among(row: Any) -> list[str]:
    return [] if row.among is None else list(json.loads(row.among))


def _apart(fold: runs.Run, site: SiteId, since: int, said: list[Any]) -> Json | None:
    """Why a hospital that holds keys is in no sum; None: it is asked just now, and nobody has refused it."""
    rows = [row for row in said if row.round is not None and row.round >= since]
    own = sorted({row.reason for row in rows if row.site == site})
    others = [row for row in rows if row.site != site and row.reason in OF_SET and site in _among(row)]
    if others:
        reasons = sorted({row.reason for row in others})
        whom = ", ".join(sorted({row.site for row in others}))
        why = f"{whom} refused a sum with it ({', '.join(reasons)})"
        kind = Kind.PREPARE if since <= fold.prepares else Kind.TRAIN
        then = f"to have it in sums, {runs.elsewhere(kind)}" if "difference" in reasons else "their people know why"
    elif own:
        why, then = f"it refused ({', '.join(own)})", "its people know why"
    elif fold.round is not None and not fold.round.closed and site in fold.round.roster:
        return None
    else:
        why, then = "it was away, or did not answer in time", "see that its agent runs"
    return {"site": site, "since": since, "why": why, "next": then}
