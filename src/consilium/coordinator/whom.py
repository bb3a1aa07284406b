"""Whom a round is asked of: sites that approve and are here, and over whom a secure sum can be.

It reads and decides nothing by itself: `Conduct` opens rounds by it, or says for whom a run waits.
"""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from sqlalchemy import bindparam, func, select

from consilium.coordinator import attesting, before
from consilium.core import round as machine
from consilium.core import run as runs
from consilium.core.ids import RunId, SiteId
from consilium.core.study import Plan
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import decisions, events, refusals, sites
from consilium.wire.messages import Decision

AWAY_S = 60.0
"""Sites beat every ten seconds: one that missed a round and has been silent for this long before its end is away."""
TRIES = 2
"""So often a site is asked for keys, for a round that is over it, too; then once more when its people decide."""
_ADMITTED = select(sites.c.site).where(sites.c.state == "admitted")
_STUDY = decisions.c.study == bindparam("study")
_DECISIONS = Hot(
    select(decisions.c.site, decisions.c.payload)
    .where(_STUDY, decisions.c.site.in_(_ADMITTED))
    .order_by(decisions.c.id)
)
_DECIDED = Hot(_ADMITTED.where(sites.c.site.in_(select(decisions.c.site).where(_STUDY))))
_LAST_AT = Hot(select(events.c.at).where(events.c.run == bindparam("run")).order_by(events.c.seq.desc()).limit(1))
_NEWEST = select(func.max(decisions.c.id)).where(decisions.c.site == refusals.c.site, _STUDY).scalar_subquery()
_REFUSING = Hot(
    select(refusals.c.site, refusals.c.among).where(
        refusals.c.run == bindparam("run"), refusals.c.round == bindparam("round"), refusals.c.decision == _NEWEST
    )
)
_OPENINGS = Hot(select(events.c.body).where(events.c.run == bindparam("run"), events.c.kind == "Opened"))
_SEEN = Hot(select(sites.c.site, sites.c.last_seen))


@dataclass(frozen=True)
class Whom:
    """The sites of one run, as they stand. `came`: one that has just decided, or was heard of again.

    Make it anew after each event, as `Conduct.whom` does: who approves is read once.
    """

    tx: Transaction
    run: RunId
    plan: Plan
    fold: runs.Run
    now: datetime
    came: SiteId | None = None

    @property
    def study(self) -> str:
        """Name of the study."""
        return self.plan.study.name

    def approving(self) -> list[SiteId]:
        """Admitted sites whose newest decision approves exactly this plan and has not expired, sorted.

        Where the study has a gate, those alone whose newest check passed.
        """
        return list(self._approving)

    @cached_property
    def _approving(self) -> list[SiteId]:
        invited, attested = set(self.plan.study.sites), attesting.lacking(self.tx, self.plan)
        newest: dict[str, Decision] = {}
        for row in self.tx.rows(_DECISIONS, study=self.study):
            newest[row.site] = Decision.decode(row.payload)
        good = [
            SiteId(site)
            for site, decision in newest.items()
            if decision.decision == "approve"
            and decision.plan == self.plan.digest
            and (decision.expires is None or decision.expires > self.now)
            and (not invited or site in invited)
            and not attesting.why(attested, site)
        ]
        return sorted(good)

    def willing(self) -> list[SiteId]:
        """Approving sites that may take part: those that hold keys, once keys are agreed.

        Where keys are to be agreed again, those that were silent or refused are left out, or else the silent alone, if
        enough remain.
        """
        approving, last = self.may(), self.fold.round
        if last is None or last.kind is not machine.Kind.PAIR or self.fold.cohort:
            return approving
        silent = last.roster - last.answered(last.phases[last.at]).keys()
        refusing = self.refusing(0) | self.refusing(self.fold.next_number)
        for out in (silent | refusing, silent):
            rest = [site for site in approving if site not in out]
            if len(rest) >= self.fold.quorum:
                return rest
        return approving

    def present(self) -> list[SiteId]:
        """Approving sites, less those that took no part in the last round and were not heard of at its end.

        A slow site that still speaks to the coordinator is asked again; so is everybody when a quorum needs it. One
        that is away costs the run a deadline or two, not one in every other round; it is asked again once it speaks.
        """
        approving = self.willing()
        present = self.here(approving)
        return present if len(present) >= self.fold.quorum else approving

    def here(self, sites: list[SiteId]) -> list[SiteId]:
        """Those of the sites that took part in the last round or were heard of at its end."""
        last = self.fold.round
        if last is None:
            return sites
        took_part = last.counted
        closed_at = self.tx.scalar(_LAST_AT, run=self.run)
        seen = {row.site: row.last_seen for row in self.tx.rows(_SEEN)}
        since = _aware(closed_at).timestamp() - min(self.plan.study.deadlines.round_s, AWAY_S)
        return [site for site in sites if site in took_part or seen.get(site, 0.0) > since]

    def fit(self, number: int, quorum: int) -> list[before.Known]:
        """Over whom round `number` can be, by sums at its model that are known here, the nearest first.

        Of other studies those alone whose hospitals all approve this one: its owner hears of no others.
        """
        known = before.over(self.tx, self.run, self.study, number)
        if not known:
            return []
        refused, ours = self.refused(number), set(self.approving())
        fit = [one for one in known if len(one.sites) >= quorum and (one.same_study or one.sites <= ours)]
        return [one for one in fit if not any(one.sites in refused.get(site, ()) for site in one.sites)]

    def whole(self, number: int, quorum: int) -> before.Known | None:
        """Over whom alone round `number` is, by sums at its model that are known here; None: over any.

        What was opened in this run binds it. Of other runs it is a guess, for hospitals may have other patients in it:
        it is taken where nobody is lacking, if all of these are here, or a sum over those who are here was refused.
        """
        fit = self.fit(number, quorum)
        here = set(self.present()) & set(self.may()) if fit else set()
        for one in fit:
            near = (one.same_study and one.sites <= here) or self.apart(number)
            if one.same_run or (near and not self.lacking(number, one.sites)):
                return one
        return None

    def lacking(self, number: int, sites: machine.Roster) -> machine.Roster:
        """Who of these cannot be asked in round `number`: he does not approve, refused it, or gets no keys."""
        refused = self.refused(number)
        out = sites - set(self.approving()) | {site for site in sites if None in refused.get(site, ())}
        keyless = sites - set(self.fold.cohort)
        return out or (keyless if keyless and not self.may_pair(sites, keyless) else frozenset())

    def may_pair(self, sites: machine.Roster, keyless: machine.Roster) -> bool:
        """Whether it is worth while to agree on keys anew: all are here, and who has none was not asked in vain."""
        return sites <= set(self.here(self.approving())) and keyless <= self.spare(keyless)

    def spare(self, keyless: machine.Roster) -> machine.Roster:
        """Who of these was not asked for keys in vain, or has just decided."""
        asked = Counter[str]()
        for row in self.tx.rows(_OPENINGS, run=self.run) if keyless else ():
            body = json.loads(row.body)
            asked.update(body["roster"] if body["kind"] == machine.Kind.PAIR else ())
        return frozenset(site for site in keyless if site == self.came or asked[site] < TRIES)

    def joined(self, number: int) -> list[SiteId]:
        """Who agrees on keys anew for round `number`, where those that hold them refuse a sum over one another.

        Those who are here and refuse none over themselves, with others who have no keys yet, or less those who are
        away; empty: these are too few, or would be those who hold keys now.
        """
        here, cohort = self.here(self.approving()), frozenset(self.fold.cohort)
        may = cohort | self.spare(frozenset(here) - cohort)
        going, _ = self.going(number, [site for site in here if site in may])
        return going if len(going) >= self.fold.quorum and cohort != frozenset(going) else []

    def chosen(self, number: int, quorum: int) -> list[SiteId]:
        """Whom to ask in a sum among those that hold keys: those present, or all if these are too few.

        Fewer than the quorum where those present refuse a sum over themselves: it waits for one more.
        """
        may = self.may()
        present = [site for site in self.present() if site in may]
        chosen, waits = self.going(number, present)
        if len(chosen) >= quorum or waits:
            return chosen
        return self.going(number, may)[0]

    def going(self, number: int, sites: list[SiteId]) -> tuple[list[SiteId], bool]:
        """Those of the sites who have not refused round `number`, nor a sum over those; and whether some did that."""
        refused = self.refused(number)
        going = [site for site in sites if None not in refused.get(site, ())]
        whole = len(going)
        while against := {site for site in going if frozenset(going) in refused.get(site, ())}:
            going = [site for site in going if site not in against]
        return going, len(going) < whole

    def everyone(self) -> list[SiteId]:
        """Admitted sites that ever decided on this study, sorted."""
        return sorted(row.site for row in self.tx.rows(_DECIDED, study=self.study))

    def anew(self, round_: machine.Round, known: machine.Roster) -> bool:
        """Whether enough go on of whom not all are among the `known` ones."""
        chosen = self.chosen(round_.number, round_.quorum)
        return round_.quorum <= len(chosen) and not known.issuperset(chosen)

    def may(self) -> list[SiteId]:
        """Approving sites that may be asked: once keys are agreed, those that hold them."""
        return [site for site in self.approving() if not self.fold.cohort or site in self.fold.cohort]

    def refusing(self, number: int) -> set[SiteId]:
        """Sites that refused round `number` and have decided nothing since."""
        return set(self.refused(number))

    def refused(self, number: int) -> dict[SiteId, set[machine.Roster | None]]:
        """What these refused: sums over these sites, or the round whoever is in it (None)."""
        found: dict[SiteId, set[machine.Roster | None]] = {}
        for row in self.tx.rows(_REFUSING, run=self.run, round=number, study=self.study):
            of = None if row.among is None else frozenset(map(SiteId, json.loads(row.among)))
            found.setdefault(SiteId(row.site), set()).add(of)
        return found

    def apart(self, number: int) -> bool:
        """Whether sites refused round `number` for over whom its sum would be."""
        return any(of - {None} for of in self.refused(number).values())


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)
