"""A person at the hospital decides on a study: what was offered, what the policy says, and the signed decision."""

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from sqlite3 import Row
from typing import TYPE_CHECKING

from pydantic import ValidationError

from consilium.core.errors import Invalid, MappingInvalid, NotFound, PolicyInvalid, Refused
from consilium.core.ids import Digest
from consilium.core.study import Plan
from consilium.governance.approvals import WEAKER, Said, meant, weaker
from consilium.governance.policy import Policy
from consilium.site import plans, refused, sources
from consilium.site.folder import Folder
from consilium.site.guard import Guard
from consilium.site.journal import MADE, OPEN, Journal
from consilium.wire.envelope import seal
from consilium.wire.messages import Decision

if TYPE_CHECKING:  # it stands on much that most commands do not need
    from consilium.data.quality import Report
    from consilium.site.tables import Look


@dataclass(frozen=True)
class Standing:
    """Where a study stands at this hospital. `word`: open, approved, declined, revoked, expired, changed or altered.

    changed: another plan was offered under the name of an approved one, whose approval stands.
    altered: its plan was changed in the journal here; what was decided on it stands.   plan: as it was offered.
    """

    study: str
    title: str
    plan: Digest
    word: str
    said: Said | None
    policy: str


@dataclass(frozen=True)
class Desk:
    """What a data steward works with: the site's folder and its journal."""

    folder: Folder
    journal: Journal

    def offered(self) -> list[str]:
        """Names of all studies that were ever offered here, oldest first."""
        rows = self.journal.rows("SELECT study FROM studies GROUP BY study ORDER BY min(id)")
        return [str(row["study"]) for row in rows]

    def plan(self, study: str) -> Plan:
        """The newest plan offered under a name. Raises: NotFound.   Refused: it was changed in the journal."""
        return plans.whole(self._row(study))

    def _row(self, study: str) -> Row:
        row = self.journal.row("SELECT * FROM studies WHERE study = ? ORDER BY id DESC LIMIT 1", study)
        if row is None:
            known = ", ".join(self.offered())
            raise NotFound(
                f"no study {study} was offered to this hospital",
                f"offered are: {known}" if known else "let the agent run (`consilium site run`), then look again",
            )
        return row

    def standing(self, study: str, now: datetime) -> Standing:
        """Where a study stands. Raises: NotFound."""
        row, said = self._row(study), self._said(study)
        newest = self._by_policy(said[-1]) if said else None
        if plans.altered(row):
            return Standing(study, row["title"], row["plan"], "altered", newest, "the plan here is not the one offered")
        plan, word = plans.whole(row), "open"
        if newest is not None and newest.plan != plan.digest:
            word = "changed" if newest.decision == "approve" else "open"
        elif newest is not None:
            word = {"approve": "approved", "decline": "declined", "revoke": "revoked"}[newest.decision]
            if word == "approved" and newest.expires is not None and now >= newest.expires:
                word = "expired"
        return Standing(study, plan.study.title, plan.digest, word, newest, self.objection(plan, now))

    def _by_policy(self, said: Said) -> Said:
        """A decision that ends when the policy lets it; as it was signed, where nobody can read the policy."""
        if said.decision == "approve":
            with suppress(PolicyInvalid):
                return replace(said, expires=self.folder.policy().ends(said.at, said.expires))
        return said

    def approved(self, now: datetime) -> list[str]:
        """Studies with an approval to revoke, whichever plan it is for; oldest first."""
        found = [self.standing(name, now) for name in self.offered()]
        words = ("approved", "changed")
        return [
            one.study for one in found
            if one.word in words or (one.word == "altered" and one.said is not None and one.said.decision == "approve")
        ]  # fmt: skip

    def objection(self, plan: Plan, now: datetime) -> str:
        """What in the hospital's policy or privacy budget forbids the plan; empty when nothing does.

        A policy that nobody can read forbids every plan, and keeps nobody from revoking one.
        """
        try:
            self.folder.policy().check(plan.study, now.date())
            with suppress(NotFound, MappingInvalid):  # what it would read is not known yet
                self._afford(plan)
            return self._too_few(plan)
        except (Refused, PolicyInvalid) as error:
            return error.message

    def _too_few(self, plan: Plan) -> str:
        """That the newest check of the plan counted too few training patients for the policy as it is now; or empty."""
        row = self.journal.row("SELECT at, report FROM checks WHERE plan = ? ORDER BY id DESC LIMIT 1", plan.digest)
        least = self.folder.policy().threshold(plan.study)
        counted = None if row is None else json.loads(row["report"])["training"]
        if row is None or not isinstance(counted, int) or counted >= least:
            return ""
        return f"fewer than {least} training patients, at the check of {row['at'][:16].replace('T', ' ')} UTC"

    def _afford(self, plan: Plan, mapping: Path | None = None) -> None:
        if plan.study.privacy.epsilon is not None:
            from consilium.site.ledger import Ledger  # slow to load, and most studies need none

            Ledger(self.folder, self.journal).check(plan, mapping)

    def _said(self, study: str) -> list[Said]:
        rows: list[Row] = self.journal.rows("SELECT envelope FROM decisions WHERE study = ? ORDER BY id", study)
        identity, policy = self.folder.identity(), Policy(policy=1)
        guard = Guard(self.folder.membership().site, identity.public, policy)
        return guard.said([bytes(row["envelope"]) for row in rows])

    def approve(
        self, study: str, person: str, accepts: tuple[str, ...], until: datetime | None, mapping: Path | None,
        now: datetime,
    ) -> Decision:  # fmt: skip
        """Approve the newest plan of a study, at the longest until the policy's last day for it.

        Nothing is signed that could never train: the patients are counted as the pipeline will count them, by the same
        mapping: the one given, or that of an approval before.

        Raises: Refused: the policy forbids it, a weaker mode was not accepted by name, there are too few patients, the
                data do not pass the study's check, or the privacy budget has no room for a run.
                StudyInvalid: the plan is of an older release, and what it asks for is not approved any more.
                Invalid: there is no such mode.   NotFound: no mapping.   MappingInvalid, DataUnusable: no table.
        """
        plan, policy = self.plan(study), self.folder.policy()
        plan.check()
        _known(accepts)
        policy.check(plan.study, now.date())
        missing = [mode for mode in weaker(plan) if mode not in accepts]
        if missing:
            raise Refused(
                f"this study needs {', '.join(missing)}. {' '.join(meant(plan, mode) for mode in missing)}",
                f"if the hospital accepts that, say so: {' '.join('--accept ' + mode for mode in missing)}",
                reason="recipe",
            )
        chosen = self.folder.mapping(plan.study.contract.id, mapping) if mapping else self.mapping(study)
        expires = self._expiry(plan, policy, until, now)
        self._afford(plan, chosen)
        report = _enough(plan, policy, chosen, self.folder.extracts / plan.study.name)
        decision = self._decision("approve", study, person, now, accepts=weaker(plan), expires=expires)
        if plan.study.gate is not None:
            self._attest(plan, chosen, report, now, anew=True)
        self._keep(decision, now, chosen if mapping else None)
        return decision

    def checked(
        self, study: str, mapping: Path | None, tell: bool, now: datetime, look: "Look | None" = None
    ) -> "tuple[Report, bool]":
        """Check the data against a study that was offered, and remember it; whether what was found is sent, signed.

        It is sent where the study asks for a check and is approved here, if the mapping is the one that it is trained
        with, with numbers that were told before; and else where a person says so (`tell`). What `look` sees of
        patients is neither remembered nor sent.

        Raises: NotFound: no such study, or no mapping.   MappingInvalid, DataUnusable: no table.
        """
        from consilium.site import attesting, tables

        plan = self.plan(study)
        path = self.folder.mapping(plan.study.contract.id, mapping) if mapping else self.mapping(study)
        report = tables.check(plan.study, path, self.folder.extracts / study, look)
        asked = plan.study.gate is not None and self.standing(study, now).word == "approved"
        if tell or (asked and self._trains(study, path)):
            self._attest(plan, path, report, now, anew=tell)
            return report, True
        with self.journal.write() as tx:
            attesting.keep(tx, plan, report, now)
        return report, False

    def _trains(self, study: str, path: Path) -> bool:
        """Whether a study would be trained with this mapping: what another one gives is a draft's."""
        with suppress(NotFound):
            return path == self.mapping(study)
        return False

    def _attest(self, plan: Plan, mapping: Path, report: "Report", now: datetime, anew: bool) -> None:
        from consilium.site import attesting, tables

        with self.journal.write() as tx:
            attesting.attest(self.folder, tx, plan, tables.kind(plan.study, mapping), report, now, anew)

    def decline(self, study: str, person: str, reason: str, now: datetime) -> Decision:
        """Decline a study."""
        known = self.journal.row("SELECT plan FROM studies WHERE study = ? LIMIT 1", study)  # altered or not
        plan = Digest(known["plan"]) if known is not None else None
        decision = self._decision("decline", study, person, now, reason=reason, plan=plan)
        self._keep(decision, now)
        self._forget(study, "declined", now)
        return decision

    def revoke(self, study: str, person: str, reason: str, now: datetime) -> Decision:
        """Revoke an approval: no further round is trained here, and what still waits is not sent.

        Raises: Refused: there is no approval to revoke.
        """
        standing = self.standing(study, now)
        if standing.said is None or standing.said.decision != "approve":
            raise Refused(
                f"{study} is not approved here", "`consilium site status` shows what is", reason="not-approved"
            )
        decision = self._decision("revoke", study, person, now, reason=reason, plan=standing.said.plan)
        self._keep(decision, now)
        self._forget(study, "revoked", now)
        return decision

    def _forget(self, study: str, why: str, now: datetime) -> None:
        """What was fetched for a study is needed no more."""
        from consilium.site import extracts

        extracts.remove(self.folder, self.journal, study, why, now)

    def _expiry(self, plan: Plan, policy: Policy, until: datetime | None, now: datetime) -> datetime:
        latest = now + timedelta(days=policy.max_approval_days)
        for day in (policy.expires, plan.study.purpose.expires):
            if day is not None:
                latest = min(latest, datetime.combine(day, time.max, UTC))
        if until is not None and until <= now:
            raise Refused(f"{until:%Y-%m-%d} is past", "choose a later day", reason="approval-expired")
        if until is not None and until > latest:
            raise Refused(
                f"the policy allows an approval until {latest:%Y-%m-%d}",
                "choose an earlier day",
                reason="approval-days",
            )
        return until or latest

    def _decision(
        self, word: str, study: str, person: str, now: datetime, *, accepts: tuple[str, ...] = (),
        expires: datetime | None = None, reason: str = "", plan: Digest | None = None,
    ) -> Decision:  # fmt: skip
        if not person.strip() or not person.isprintable():
            raise Invalid("a decision has a person's name, in one line", "write who decides with --person")
        try:
            return Decision.model_validate({
                "site": self.folder.membership().site, "study": study, "plan": plan or self.plan(study).digest,
                "decision": word, "person": person, "accepts": accepts, "expires": expires, "at": now, "reason": reason,
            })  # fmt: skip
        except ValidationError as error:
            what = error.errors()[0]
            raise Invalid(f"--{what['loc'][0]}: {what['msg']}", "shorten it") from error

    def _keep(self, decision: Decision, now: datetime, mapping: Path | None = None) -> None:
        envelope = seal(Decision.TYPE, decision.encode(), self.folder.identity())
        with self.journal.write() as tx:
            tx.do(
                "INSERT INTO decisions (study, plan, envelope) VALUES (?, ?, ?)",
                decision.study, decision.plan, envelope,
            )  # fmt: skip
            if mapping is not None:
                tx.do("INSERT OR REPLACE INTO mappings VALUES (?, ?)", decision.plan, str(mapping))
            body = {"study": decision.study, "plan": decision.plan, "person": decision.person}
            tx.record(decision.decision, {**body, "accepts": list(decision.accepts), "reason": decision.reason}, now)
            tx.send("decision", envelope, {"study": decision.study}, now)
            if decision.decision == "approve":
                refused.taken_back(tx, decision.plan)
            else:
                mine = "run IN (SELECT run FROM tasks WHERE plan = ?)"
                tx.do(
                    f"UPDATE outbox SET status = 'withdrawn' WHERE status = 'waiting' AND type IN {MADE} AND {mine}",  # noqa: S608
                    decision.plan,
                )
                tx.do(f"UPDATE tasks SET status = 'withdrawn' WHERE status IN {OPEN} AND plan = ?", decision.plan)  # noqa: S608

    def mapping(self, study: str) -> Path:
        """The mapping that the study would be trained with. Raises: NotFound."""
        return sources.mapping(self.folder, self.journal, self.plan(study))


def _known(modes: tuple[str, ...]) -> None:
    strange = [mode for mode in modes if mode not in WEAKER]
    if strange:
        raise Invalid(
            f"there is no mode {', '.join(map(repr, strange))} to be accepted", f"--accept takes {', '.join(WEAKER)}"
        )


def _enough(plan: Plan, policy: Policy, mapping: Path, extracts: Path) -> "Report":
    """Whether training could begin here today; what was found.

    How many patients there are is not said, lest a small number be shown. The policy has no exception from its own
    threshold, so there is none here.
    """
    from consilium.site import tables  # it stands on much that most commands do not need

    least = policy.threshold(plan.study)
    report, enough = tables.checked(plan.study, mapping, least, extracts)
    if not enough:
        folds = " in the smallest fold" if plan.study.evaluation.folds else ""
        who = " who choose the penalty" if plan.study.validates else folds
        whose = "the study asks" if plan.study.min_patients > policy.min_patients else "the hospital's policy asks"
        raise Refused(
            f"this hospital has fewer than {least} patients for training{who}; {whose} for so many",
            f"see what `consilium site check {plan.study.name}` leaves out; approve it once there are enough",
            reason="too-few-patients",
        )
    if plan.study.gate is not None and not report.usable:
        raise Refused(
            f"this hospital's data do not pass the check of {plan.study.name}: "
            + "; ".join(str(finding) for finding in report.findings if finding.blocks),
            "correct the mapping, then approve",
            reason="check-failed",
        )
    return report
