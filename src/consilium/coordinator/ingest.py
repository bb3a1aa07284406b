"""What sites send: check the envelope, commit the event with what follows from it, acknowledge. Retries are no-ops."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select, update

from consilium import plugins
from consilium.algorithms import layout
from consilium.coordinator import attesting, declarations, steps, witness
from consilium.coordinator.conduct import Conduct
from consilium.coordinator.invited import invites
from consilium.coordinator.ledgers import record
from consilium.core import round as machine
from consilium.core import run as runs
from consilium.core import state as chain
from consilium.core.changed import changed
from consilium.core.errors import Conflict, ConsiliumError, EnvelopeInvalid, Invalid, NotFound, OutOfPhase, Refused
from consilium.core.ids import Digest, RunId, SiteId, digest
from consilium.core.refusing import OF_SET
from consilium.core.study import Plan
from consilium.core.update import Sum
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import contributions, decisions, grants, refusals, results, sites, studies
from consilium.store.schema import runs as run_table
from consilium.store.schema import steps as step_table
from consilium.store.shelf import Shelf
from consilium.wire.envelope import Envelope
from consilium.wire.identity import Identity
from consilium.wire.messages import (
    SITE_MESSAGES,
    Alarm,
    Answer,
    Attestation,
    Checkpoint,
    Decision,
    Figures,
    Refusal,
    Signed,
    Step,
)

MODELS = 16
_EARLIER = Hot(
    delete(contributions).where(
        contributions.c.run == bindparam("run"), contributions.c.round == bindparam("round"),
        contributions.c.site == bindparam("site"),
    )
)  # fmt: skip


@lru_cache(maxsize=64)  # each answer to a round is compared with it
def _sums(plan: bytes, kind: str, length: int) -> Mapping[str, Sum]:
    return plugins.sums_of(Plan.load(plan).study, kind, length)


@dataclass(frozen=True)
class Letter:
    """What a site sent, as it claims to be: nothing is verified yet.

    `vectors` are those of the contribution that an answer names, if it is at hand; `sound` says whether each of their
    values is a number. `key`: whose signature it has, once that is verified.
    """

    data: bytes
    envelope: Envelope
    message: Any
    vectors: chain.Vectors | None = None
    sound: bool = True
    key: str = ""

    @classmethod
    def read(cls, data: bytes) -> "Letter":
        """Read an envelope. Raises: EnvelopeInvalid, ProtocolMismatch."""
        envelope = Envelope.parse(data)
        kind = SITE_MESSAGES.get(envelope.kind)
        if kind is None:
            raise EnvelopeInvalid("a site does not send messages of this type", "update the agent")
        return cls(data, envelope, kind.decode(envelope.payload))

    def holding(self, source: chain.Source) -> "Letter":
        """The same, with its contribution. What cannot be read at all is judged where the answer is taken."""
        try:
            vectors = chain.read(source)
            return replace(self, vectors=vectors, sound=chain.finite(vectors))
        except ConsiliumError:
            return self


@dataclass
class Ingest:
    """Takes envelopes of one authenticated site."""

    identity: Identity
    shelf: Shelf
    _models: dict[str, layout.Shape] = field(default_factory=dict)

    def holding(self, letter: Letter) -> Letter:
        """An answer, with the file that it names looked through; before any transaction, for it takes its time."""
        with contextlib.suppress(NotFound):
            return letter.holding(self.shelf.files.path(Digest(letter.message.contribution.digest)))
        return letter

    def take(self, tx: Transaction, site: SiteId, letter: Letter, now: datetime) -> list[Conduct]:
        """Accept one envelope.

        Raises: EnvelopeInvalid: not signed by this site, or malformed.   Conflict: it does not fit the round.
                Invalid: what it refers to is missing or wrong.
        """
        row = tx.find(sites, site=site)
        if row is None or row.state != "admitted":
            raise Refused("this site is not admitted", "ask the coordinator's admin", reason="not-admitted")
        kind = type(letter.message)
        letter.envelope.verified(kind.TYPE, [row.public_key])
        if not letter.sound:  # one such value would spoil the sum for all
            raise Invalid("a value of the contribution is not finite", "lower the learning rate of the study")
        take: dict[type[Signed], Callable[..., list[Conduct]]] = {
            Answer: self._answer,
            Step: self._step,
            Refusal: self._refusal,
            Decision: self._decision,
            Attestation: self._attestation,
            Figures: self._figures,
            Checkpoint: self._checkpoint,
            Alarm: self._alarm,
        }
        return take[kind](tx, site, changed(letter, key=row.public_key), now)

    def _answer(self, tx: Transaction, site: SiteId, letter: Letter, now: datetime) -> list[Conduct]:
        answer: Answer = letter.message
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
        self._check(tx, site, letter, conduct)
        conduct.take(event)
        row = {"run": answer.run, "round": answer.round, "site": site, "digest": sent}
        if conduct.fold.attempt > 1:
            tx.do(_EARLIER, run=answer.run, round=answer.round, site=site)  # of an earlier opening
        tx.put(contributions, **row, size=answer.contribution.size, envelope=letter.data)
        body = {"run": answer.run, "round": answer.round, "site": site, "contribution": sent}
        record(tx, "answer", body, now)
        return [conduct]

    def _step(self, tx: Transaction, site: SiteId, letter: Letter, now: datetime) -> list[Conduct]:
        step: Step = letter.message
        conduct = Conduct.load(tx, self.identity, RunId(step.run), now)
        if step.plan != conduct.plan.digest or step.study != conduct.study or not steps.secure(conduct.plan):
            raise Conflict("the step is of another plan", "take the next task")
        place = {"run": step.run, "round": step.round, "attempt": step.attempt, "phase": step.phase, "site": site}
        named, round_ = digest(letter.data), conduct.fold.round
        if round_ is not None and round_.answered(machine.Phase(step.phase)).get(site) == named:
            return []  # an exact retry, also of a run that is over, of which what was said is dropped
        current = None if round_ is None else (*conduct.fold.current, round_.kind.value)
        if (step.round, step.attempt, step.kind) != current:
            known = tx.find(step_table, **place)
            if known is not None and known.digest == named:
                return []  # the same, of a round of before
            raise OutOfPhase(f"round {step.round} is over or has not begun", "take the next task")
        try:
            body = steps.fits(site, step, letter.key, conduct.plan.study)
        except steps.Outdated as error:  # else all wait for it until the round's deadline
            refused = Refusal(
                study=step.study, plan=step.plan, run=step.run, round=step.round, attempt=step.attempt,
                reason="release",
                text=f"the coordinator does not take what {site} says: {error.message}; {error.remedy} there",
            )  # fmt: skip
            return self._refused(tx, site, refused, now)
        if step.vector is not None:
            self._check_vector(tx, site, letter, conduct)
        conduct.take(machine.Answered(site, machine.Phase(step.phase), named))
        steps.keep(tx, {**place, "digest": named, "envelope": letter.data}, body)
        if step.vector is not None:
            if conduct.fold.attempt > 1:
                tx.do(_EARLIER, run=step.run, round=step.round, site=site)  # of an earlier opening
            row = {"run": step.run, "round": step.round, "site": site, "digest": step.vector.digest}
            tx.put(contributions, **row, size=step.vector.size, envelope=letter.data)
        record(tx, "step", {**place, "digest": named}, now)
        return [conduct]

    def _check_vector(self, tx: Transaction, site: SiteId, letter: Letter, conduct: Conduct) -> None:
        """The masked vector is here, sent by this site, and its segments are those of the plan."""
        step: Step = letter.message
        assert step.vector is not None
        if tx.find(grants, digest=step.vector.digest, subject=f"site:{site}") is None:
            raise NotFound(f"{step.vector.digest} was not sent by this site", "send the blob, then the step")
        vectors = letter.vectors or chain.read(self.shelf.read(tx, Digest(step.vector.digest)))
        model = self._model(tx, self._before(tx, conduct))
        layout_ = steps.layout(conduct.plan, step.kind, model, len(conduct.fold.cohort))
        if vectors.shape != layout_.masked:
            raise Invalid("the vector's segments are not those of the plan", "update the agent")

    def _same_as_before(self, tx: Transaction, site: SiteId, answer: Answer) -> bool:
        before = tx.find(contributions, run=answer.run, round=answer.round, site=site)
        return before is not None and bool(before.digest == answer.contribution.digest)

    def _check(self, tx: Transaction, site: SiteId, letter: Letter, conduct: Conduct) -> None:
        """(1) it was trained at our state (2) the bytes are here, sent by this site (3) their layout fits the model."""
        answer: Answer = letter.message
        state = self._before(tx, conduct)
        if answer.state != state:
            raise Conflict("the answer was trained at another state", "take the task again")
        if tx.find(grants, digest=answer.contribution.digest, subject=f"site:{site}") is None:
            raise NotFound(f"{answer.contribution.digest} was not sent by this site", "send the blob, then the answer")
        study, model = conduct.plan.study, self._model(tx, state)
        vectors = letter.vectors
        if vectors is None:
            vectors = chain.read(self.shelf.read(tx, Digest(answer.contribution.digest)))
            if not chain.finite(vectors):
                raise Invalid("a value of the contribution is not finite", "lower the learning rate of the study")
        sums = _sums(conduct.plan.payload, answer.kind, model[1])
        layout.check(vectors, model, answer.kind, study, sums, weight=study.privacy.weight)

    def _before(self, tx: Transaction, conduct: Conduct) -> Digest:
        """The state after the round before the open one; of the first one no event tells."""
        known = conduct.fold.state
        return (
            Digest(tx.find(results, run=conduct.run, round=conduct.fold.number - 1).state) if known is None else known
        )

    def _model(self, tx: Transaction, state: Digest) -> layout.Shape:
        """Type and length of the model in a state; what is named by its digest does not change."""
        if state not in self._models:
            if len(self._models) >= MODELS:
                self._models.clear()
            self._models[state] = layout.model_of(chain.read(self.shelf.read(tx, state)))
        return self._models[state]

    def _refusal(self, tx: Transaction, site: SiteId, letter: Letter, now: datetime) -> list[Conduct]:
        return self._refused(tx, site, letter.message, now)

    def _refused(self, tx: Transaction, site: SiteId, refusal: Refusal, now: datetime) -> list[Conduct]:
        if tx.scalar(select(studies.c.plan).where(studies.c.study == refusal.study)) is None:
            raise NotFound(f"there is no study {refusal.study}", "check the name")
        about = {"site": site, "study": refusal.study, "run": refusal.run, "round": refusal.round}
        conduct = None if refusal.run is None else Conduct.load(tx, self.identity, RunId(refusal.run), now)
        open_ = conduct is not None and conduct.study == refusal.study and conduct.fold.current == (
            refusal.round, refusal.attempt or conduct.fold.current[1]
        )  # fmt: skip
        among = None
        if conduct is not None and conduct.study == refusal.study and refusal.round is not None:
            attempt = refusal.attempt or conduct.fold.current[1]
            among = conduct.among(site, refusal.reason, refusal.round, attempt)
        same = {**about, "reason": refusal.reason, "among": among}
        known = tx.row(select(refusals).filter_by(**same))
        newest = select(func.max(decisions.c.id)).where(decisions.c.site == site, decisions.c.study == refusal.study)
        if known is None:
            lost = not open_ and among is None and refusal.reason in OF_SET  # over whom, nobody knows any more
            row = {**same, "text": refusal.text, "decision": None if lost else tx.scalar(newest)}
            tx.do(insert(refusals).values(**row, at=now))
            record(tx, "refusal", {**about, "reason": refusal.reason}, now)
        if conduct is None:
            return []
        if open_ or among is not None:
            tx.do(update(refusals).filter_by(**same).values(decision=tx.scalar(newest)))
        if open_:
            conduct.withdraw(site, refusal.reason)
        return [conduct]

    def _decision(self, tx: Transaction, site: SiteId, letter: Letter, now: datetime) -> list[Conduct]:
        decision: Decision = letter.message
        data = letter.data
        if decision.site != site:
            raise EnvelopeInvalid("the decision names another site", "sign with your own site's name")
        if tx.scalar(select(decisions.c.id).where(decisions.c.digest == digest(data))) is not None:
            return []
        payload = tx.scalar(select(studies.c.payload).where(studies.c.study == decision.study))
        plan = None if payload is None else Plan.load(payload)
        # Who decides on a study reads what its hospitals say: nobody does whom it does not invite.
        if plan is None or plan.digest != decision.plan or not invites(plan, site):
            raise NotFound(f"study {decision.study} has no such plan", "review the study again")
        row = {
            "site": site,
            "study": decision.study,
            "payload": letter.envelope.payload,
            "envelope": data,
            "digest": digest(data),
        }
        tx.do(insert(decisions).values(**row))
        body = {"site": site, "study": decision.study, "plan": decision.plan, "decision": decision.decision}
        record(tx, "decision", {**body, "person": decision.person}, now)
        return self._moved(
            tx, site, decision.study, now, None if decision.decision == "approve" else f"{decision.decision}d"
        )

    def _moved(self, tx: Transaction, site: SiteId, study: str, now: datetime, against: str | None) -> list[Conduct]:
        """The runs of a study on which a site came, or from which it withdrew (`against`)."""
        moved = []
        for run in tx.rows(select(run_table.c.run).where(run_table.c.study == study)):
            conduct = Conduct.load(tx, self.identity, RunId(run.run), now)
            if conduct.fold.status in runs.OVER:
                continue
            if against is None:
                conduct.refresh(site)
            else:
                conduct.withdraw(site, against)
            moved.append(conduct)
        return moved

    def _attestation(self, tx: Transaction, site: SiteId, letter: Letter, now: datetime) -> list[Conduct]:
        told: Attestation = letter.message
        if not attesting.keep(tx, site, told, letter.envelope.payload, letter.data, now):
            return []
        return self._moved(tx, site, told.study, now, None if told.passed else "check-failed")

    def _figures(self, tx: Transaction, site: SiteId, letter: Letter, now: datetime) -> list[Conduct]:
        told: Figures = letter.message
        conduct = Conduct.load(tx, self.identity, RunId(told.run), now)
        declarations.keep(tx, conduct, site, told, letter.envelope.payload, letter.data, now)
        return []

    def _checkpoint(self, tx: Transaction, site: SiteId, letter: Letter, now: datetime) -> list[Conduct]:
        witness.checkpoint(tx, site, letter.message, letter.data, now)
        return []

    def _alarm(self, tx: Transaction, site: SiteId, letter: Letter, now: datetime) -> list[Conduct]:
        witness.told(tx, site, letter.message, now)
        return []
