"""What sites send: check the envelope, commit the event with what follows from it, acknowledge. Retries are no-ops."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from sqlalchemy import bindparam, delete, func, insert, select, update

from consilium.algorithms import layout
from consilium.coordinator.conduct import Conduct
from consilium.coordinator.ledgers import record
from consilium.core import round as machine
from consilium.core import run as runs
from consilium.core import state as chain
from consilium.core.errors import Conflict, ConsiliumError, EnvelopeInvalid, Invalid, NotFound, OutOfPhase, Refused
from consilium.core.ids import Digest, RunId, SiteId, digest
from consilium.core.study import Plan
from consilium.store.blobs import Directory
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import checkpoints, contributions, decisions, grants, refusals, results, sites, studies
from consilium.store.schema import runs as run_table
from consilium.wire.envelope import payload_of, peek, unseal
from consilium.wire.identity import Identity
from consilium.wire.messages import SITE_MESSAGES, Answer, Checkpoint, Decision, Refusal, Signed

_EARLIER = Hot(
    delete(contributions).where(
        contributions.c.run == bindparam("run"), contributions.c.round == bindparam("round"),
        contributions.c.site == bindparam("site"),
    )
)  # fmt: skip


@dataclass
class Ingest:
    """Takes envelopes of one authenticated site."""

    identity: Identity
    blobs: Directory

    def sound(self, data: bytes) -> bool:
        """Whether every value in the bytes that an answer names is a number; looked at before any transaction.

        What cannot be read at all is judged where the answer is taken.
        """
        try:
            named = Digest(Answer.decode(payload_of(data, Answer.TYPE)).contribution.digest)
            return not self.blobs.has(named) or chain.finite(self.blobs.path(named))
        except ConsiliumError:
            return True

    def take(self, tx: Transaction, site: SiteId, data: bytes, now: datetime, *, sound: bool = True) -> list[Conduct]:
        """Accept one envelope.

        Raises: EnvelopeInvalid: not signed by this site, or malformed.   Conflict: it does not fit the round.
                Invalid: what it refers to is missing or wrong.
        """
        row = tx.find(sites, site=site)
        if row is None or row.state != "admitted":
            raise Refused("this site is not admitted", "ask the coordinator's admin", reason="not-admitted")
        kind = SITE_MESSAGES.get(peek(data))
        if kind is None:
            raise EnvelopeInvalid("a site does not send messages of this type", "update the agent")
        message = kind.decode(unseal(data, kind.TYPE, [row.public_key]))
        if not sound:  # one such value would spoil the sum for all
            raise Invalid("a value of the contribution is not finite", "lower the learning rate of the study")
        take: dict[type[Signed], Callable[..., list[Conduct]]] = {
            Answer: self._answer,
            Refusal: self._refusal,
            Decision: self._decision,
            Checkpoint: self._checkpoint,
        }
        return take[kind](tx, site, message, data, now)

    def _answer(self, tx: Transaction, site: SiteId, answer: Answer, data: bytes, now: datetime) -> list[Conduct]:
        conduct = Conduct.load(tx, self.identity, RunId(answer.run), now)
        round_ = conduct.fold.round
        if answer.plan != conduct.plan.digest or answer.study != conduct.study:
            raise Conflict("the answer is for another plan", "take the next task")
        sent = Digest(answer.contribution.digest)
        event = machine.Answered(site, machine.Phase(answer.phase), sent)
        if round_ is None or (answer.round, answer.kind) != (round_.number, round_.kind.value):
            if self._same_as_before(tx, site, answer):
                return []
            raise OutOfPhase(f"round {answer.round} is over or has not begun", "take the next task")
        if round_.answered(machine.Phase.SUBMIT).get(site) == sent:
            return []
        self._check(tx, site, answer, conduct)
        conduct.take(event)
        row = {"run": answer.run, "round": answer.round, "site": site, "digest": sent}
        tx.do(_EARLIER, run=answer.run, round=answer.round, site=site)  # of an earlier opening
        tx.put(contributions, **row, size=answer.contribution.size, envelope=data)
        body = {"run": answer.run, "round": answer.round, "site": site, "contribution": sent}
        record(tx, "answer", body, now)
        return [conduct]

    def _same_as_before(self, tx: Transaction, site: SiteId, answer: Answer) -> bool:
        before = tx.find(contributions, run=answer.run, round=answer.round, site=site)
        return before is not None and bool(before.digest == answer.contribution.digest)

    def _check(self, tx: Transaction, site: SiteId, answer: Answer, conduct: Conduct) -> None:
        """(1) it was trained at our state (2) the bytes are here, sent by this site (3) their layout fits the model."""
        result = tx.find(results, run=answer.run, round=answer.round - 1)
        state = result and result.state
        if answer.state != state:
            raise Conflict("the answer was trained at another state", "take the task again")
        if tx.find(grants, digest=answer.contribution.digest, subject=f"site:{site}") is None:
            raise NotFound(f"{answer.contribution.digest} was not sent by this site", "send the blob, then the answer")
        sent, label = self.blobs.path(Digest(answer.contribution.digest)), conduct.plan.study.contract.label.type
        layout.check(sent, _model(self.blobs.path(Digest(state))), answer.kind, label)

    def _refusal(self, tx: Transaction, site: SiteId, refusal: Refusal, data: bytes, now: datetime) -> list[Conduct]:
        if tx.scalar(select(studies.c.plan).where(studies.c.study == refusal.study)) is None:
            raise NotFound(f"there is no study {refusal.study}", "check the name")
        about = {"site": site, "study": refusal.study, "run": refusal.run, "round": refusal.round}
        known = tx.row(select(refusals).filter_by(**about, reason=refusal.reason))
        newest = select(func.max(decisions.c.id)).where(decisions.c.site == site, decisions.c.study == refusal.study)
        if known is None:
            row = {**about, "reason": refusal.reason, "text": refusal.text, "decision": tx.scalar(newest)}
            tx.do(insert(refusals).values(**row, at=now))
            record(tx, "refusal", {**about, "reason": refusal.reason}, now)
        if refusal.run is None:
            return []
        conduct = Conduct.load(tx, self.identity, RunId(refusal.run), now)
        of = (refusal.round, refusal.attempt or conduct.fold.attempt)
        if of == (conduct.fold.number, conduct.fold.attempt) and conduct.study == refusal.study:
            stands = update(refusals).filter_by(**about, reason=refusal.reason)
            tx.do(stands.values(decision=tx.scalar(newest)))
            conduct.withdraw(site, refusal.reason)
        return [conduct]

    def _decision(self, tx: Transaction, site: SiteId, decision: Decision, data: bytes, now: datetime) -> list[Conduct]:
        if decision.site != site:
            raise EnvelopeInvalid("the decision names another site", "sign with your own site's name")
        if tx.scalar(select(decisions.c.id).where(decisions.c.digest == digest(data))) is not None:
            return []
        plan = tx.scalar(select(studies.c.payload).where(studies.c.study == decision.study))
        if plan is None or Plan.load(plan).digest != decision.plan:
            raise NotFound(f"study {decision.study} has no such plan", "review the study again")
        payload = unseal(data, Decision.TYPE, [tx.scalar(select(sites.c.public_key).where(sites.c.site == site))])
        row = {"site": site, "study": decision.study, "payload": payload, "envelope": data, "digest": digest(data)}
        tx.do(insert(decisions).values(**row))
        body = {"site": site, "study": decision.study, "plan": decision.plan, "decision": decision.decision}
        record(tx, "decision", body, now)
        moved = []
        for run in tx.rows(select(run_table.c.run).where(run_table.c.study == decision.study)):
            conduct = Conduct.load(tx, self.identity, RunId(run.run), now)
            if conduct.fold.status in runs.OVER:
                continue
            if decision.decision == "approve":
                conduct.refresh(site)
            else:
                conduct.withdraw(site, f"{decision.decision}d")
            moved.append(conduct)
        return moved

    def _checkpoint(self, tx: Transaction, site: SiteId, mark: Checkpoint, data: bytes, _: datetime) -> list[Conduct]:
        known = tx.row(select(checkpoints).where(checkpoints.c.site == site, checkpoints.c.seq == mark.seq))
        if known is None:
            tx.do(insert(checkpoints).values(site=site, seq=mark.seq, envelope=data))
        return []


@lru_cache(maxsize=16)
def _model(state: Path) -> layout.Shape:
    """Type and length of the model in a state; a file that is named by its digest does not change."""
    return layout.model_of(state)
