"""Rounds that this site did not open: what others signed in them, by which a sum is checked all the same.

A coordinator could else make up a round: name a sum that nobody opened, and the state that follows from it. What must
hold: (1) as many as open a sum signed READY and MASK of one attempt, at the state from which this site goes on, under
keys of a roster that people here have compared   (2) where the round was over a roster on which this site is not, for
keys were agreed anew since, more who hold keys with it masked than the plan says may collude: they compared that
roster, and one of them is honest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from consilium.core.errors import NotFound, OutOfPhase, Refused
from consilium.core.ids import Digest, SiteId
from consilium.core.study import Plan
from consilium.privacy.pairing import Keys, Roster
from consilium.privacy.secagg import Masked, Open, Ready, ctx2_of
from consilium.site.pairing import signers
from consilium.site.seats import layout_of
from consilium.site.steps import Place, Steps, forged
from consilium.wire.messages import Blob, Task

PAIRINGS = 16
"""So many agreements on keys before the newest are looked through."""
Survivors = dict[SiteId, tuple[Masked, Blob]]


@dataclass(frozen=True)
class Signed:
    """The OPEN of a round as each hospital computed it, who called READY, and what they masked."""

    open: Open
    active: list[Ready]
    survivors: Survivors


def signed(
    steps: Steps, task: Task, plan: Plan, at: tuple[int, int], before: tuple[Path, Digest], mine: Sequence[Roster]
) -> Signed:
    """What was signed in a round.

    Args:    at: the round, and its attempt.   before: the state at which it trained.   mine: rosters on which this site
             has agreed, the newest first.
    Raises:  Refused: too few signed that they masked at this state (`sum`).   NotFound: what was said, or by whom, is
             not there any more.   Unavailable.
    """
    kind = "PREPARE" if at[0] <= plan.study.prepares else "TRAIN"
    ready, masked = (Place(kind, *at, phase) for phase in ("READY", "MASK"))
    for roster in chain(mine, _earlier(steps, task, mine)):
        steps.unheard(task.run, ready, masked)  # what others of that name signed, on another roster, is not theirs
        try:
            active = list(steps.messages(task, ready, signers(roster), Ready).values())
        except Refused:  # somebody is not on this roster, or by another key
            continue
        if not active:
            continue
        asked = _open(task, plan, kind, at, before, roster)
        if any(one.ctx != asked.sha256 for one in active):
            continue
        found = _survivors(steps, task, masked, roster)
        vouch = max(plan.study.privacy.colluding, 1) + 1  # one of them works with nobody
        if not _sound(asked, active, found, roster, mine, vouch):
            raise made_up(at[0])
        return Signed(asked, active, found)
    raise NotFound(
        f"what hospitals said in round {at[0]} at the state that was computed here is not there", "begin a new run"
    )


def made_up(number: int) -> Refused:
    """The refusal of what is no sum of what sites sent."""
    return Refused(
        f"what the coordinator names as the sum of round {number} is not the sum of what the sites sent",
        "stop the run, and compare the audit logs: the coordinator computed wrongly, or lies",
        reason="sum",
    )


def _open(task: Task, plan: Plan, kind: str, at: tuple[int, int], before: tuple[Path, Digest], roster: Roster) -> Open:
    return Open(
        study=task.study, run=task.run, plan=plan.digest, roster=roster.digest, opening=at[0] - 1, round=at[0],
        attempt=at[1], kind=kind, cohort=roster.sites, state=before[1],
        segments=layout_of(plan, kind, before[0], len(roster.sites)).segments, min_sites=roster.min_sites,
    )  # fmt: skip


def _survivors(steps: Steps, task: Task, of: Place, roster: Roster) -> Survivors:
    found = steps.messages(task, of, signers(roster), Masked)
    survivors = {}
    for site, step in steps.heard(task, of, signers(roster)).items():
        if step.vector is None or step.vector.digest != found[site].vector:
            raise forged(f"the step of {site} in MASK names another vector than its message")
        survivors[site] = found[site], step.vector
    return survivors


def _sound(
    asked: Open, active: list[Ready], survivors: Survivors, roster: Roster, mine: Sequence[Roster], vouch: int
) -> bool:
    ctx2, known = ctx2_of(asked, active), {(one.site, one.identity) for one in mine[0].keys}
    vouching = [one.site for one in roster.keys if one.site in survivors and (one.site, one.identity) in known]
    return (
        len(survivors) >= asked.needed
        and survivors.keys() <= {one.site for one in active}
        and all(message.ctx2 == ctx2 for message, _ in survivors.values())
        and (roster in mine or len(vouching) >= vouch)
    )


def _earlier(steps: Steps, task: Task, mine: Sequence[Roster]) -> Iterator[Roster]:
    """Rosters of this run before the newest, as they are told now: nobody here has compared them."""
    newest = mine[0].keys[0].epoch
    for attempt in range(newest - 1, max(newest - PAIRINGS, 1) - 1, -1):
        try:
            of = Place("PAIR", 0, attempt, "KEYS")
            said = steps.messages(task, of, lambda _, step: str(step.body.get("identity")), Keys)
        except (NotFound, OutOfPhase, Refused):
            continue
        yield Roster(tuple(said[site] for site in sorted(said)))
