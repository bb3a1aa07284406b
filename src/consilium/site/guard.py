"""The guard: the hospital's veto. It gives a Permit, signed and on file, or refuses with a stable reason.

(1) the plan's bytes have the digest that the task names   (2) a person here approved exactly this plan, signed with
this site's key, not expired (as signed, and by the policy now), not revoked   (3) the policy, read anew, allows
purpose, algorithm, rounds, code   (4) the round is one of the plan's, and its phase one of the plan's recipe   (5) the
site is on the roster, and where keys are agreed, as many hospitals as it and the plan ask for   (6) the plan's noise
gives the epsilon that the plan says: that is computed anew here. The number of patients is counted in the pipeline,
where the data are, against the threshold in the permit. Nothing that the coordinator sends can lower that threshold.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar

from consilium.core.errors import ConsiliumError, Refused, Unavailable
from consilium.core.ids import digest
from consilium.core.round import PAIRING, PLAIN, SECURE_SUM, Kind
from consilium.core.study import Plan
from consilium.governance import approvals
from consilium.governance.policy import Policy
from consilium.wire.envelope import unseal
from consilium.wire.messages import Decision, Hash, Name, Short, Signed, Task


class Permit(Signed):
    """What the pipeline may do, once: this task, under this plan, from this state, with at least so many patients."""

    TYPE: ClassVar[str] = "application/vnd.consilium.permit+json"
    site: Name
    study: Name
    run: Name
    round: int
    kind: str
    plan: Hash
    state: Hash
    recipe: Short
    wheel: Hash | None
    min_patients: int
    issued: datetime


@lru_cache(maxsize=256)  # of the bytes and the key alone; both are asked for before each thing that leaves
def _decision(envelope: bytes, public_key: str) -> Any:
    return Decision.decode(unseal(envelope, Decision.TYPE, [public_key]))


@dataclass(frozen=True)
class Guard:
    """The veto of one site."""

    site: str
    public_key: str
    policy: Policy

    def check(self, task: Task, payload: bytes, decisions: Iterable[bytes], now: datetime) -> Permit:
        """The permit for a task.

        Args:    payload: the plan's bytes.   decisions: envelopes of this site's decisions on the study, oldest first.
        Raises:  Refused: `reason` is a stable code; the study's owner reads it.
        """
        if digest(payload) != task.plan:
            raise Refused(
                "the plan here is not the one that the task names", "ask the study's owner", reason="plan-changed"
            )
        plan = Plan.load(payload)
        if plan.study.name != task.study:
            raise Refused("the plan is of another study", "ask the study's owner", reason="plan-changed")
        said = [replace(one, expires=self.policy.ends(one.at, one.expires)) for one in self.said(decisions)]
        approvals.standing(plan, said, now)
        self.policy.check(plan.study, now.date())
        _check_round(task, plan)
        _check_noise(plan)
        self._check_roster(task, plan)
        return Permit(
            site=self.site, study=task.study, run=task.run, round=task.round, kind=task.kind, plan=task.plan,
            state=task.state.digest, recipe=plan.study.privacy.recipe, wheel=plan.study.model.wheel,
            min_patients=self.policy.threshold(plan.study), issued=now,
        )  # fmt: skip

    def _check_roster(self, task: Task, plan: Plan) -> None:
        if self.site not in task.roster:
            raise Refused("this site is not on the roster", "tell the coordinator's admin", reason="roster")
        least = self.policy.floor(plan.study)
        if task.kind != Kind.PAIR:
            return
        if len(task.roster) < least:
            raise Refused(
                f"{len(task.roster)} hospitals would be in a sum; {least} are needed here",
                "wait for more hospitals",
                reason="roster",
            )
        quorate(plan, len(task.roster))

    def said(self, decisions: Iterable[bytes]) -> list[approvals.Said]:
        """The decisions whose signature is this site's.

        Raises: Refused: one of them is not; the journal was tampered with.
        """
        found = []
        for envelope in decisions:
            try:
                told = _decision(envelope, self.public_key)
            except ConsiliumError as error:
                raise Refused(
                    "a decision in the journal is not signed by this site", "look into the journal", reason="tampered"
                ) from error
            if told.site != self.site:
                raise Refused("a decision in the journal is of another site", "look into it", reason="tampered")
            found.append(approvals.Said(told.plan, told.decision, told.person, told.accepts, told.expires, told.at))
        return found


def quorate(plan: Plan, sites: int) -> None:
    """Whether so many hospitals may be in a secure sum of the plan: who approved it approved its quorum.

    Raises: Refused: `quorum`.
    """
    if sites < plan.study.quorum:
        raise Refused(
            f"{sites} hospitals would be in a sum; the plan that was approved here has a quorum of {plan.study.quorum}",
            "wait for more hospitals, or submit a study with a smaller `quorum`",
            reason="quorum",
        )


def _check_noise(plan: Plan) -> None:
    if plan.study.privacy.epsilon is None:
        return
    from consilium.privacy.mechanism import Mechanism  # slow to load, and most commands need none

    mechanism = Mechanism.of(plan.study)
    try:
        if mechanism is not None:
            mechanism.prove()
    except Unavailable as error:
        raise Refused(error.message, error.remedy, reason="accountant") from error


def _check_round(task: Task, plan: Plan) -> None:
    first, recipe = plan.study.prepares, plan.study.privacy.recipe
    last = first + plan.study.rounds
    rounds = {
        Kind.PAIR: range(1), Kind.PREPARE: range(1, first + 1), Kind.TRAIN: range(first + 1, last + 1),
        Kind.EVALUATE: range(last + 1, last + 2),
    }  # fmt: skip
    if task.round not in rounds[Kind(task.kind)]:
        raise Refused(
            f"round {task.round} of kind {task.kind} is not in the plan: it has {first} of preparation, "
            f"{last - first} of training, then one that judges the final model",
            "ask the study's owner",
            reason="rounds",
        )
    phases = PAIRING if task.kind == Kind.PAIR else {"plain": PLAIN, "secure_sum": SECURE_SUM}[recipe]
    if task.phase not in phases or (task.kind == Kind.PAIR and recipe != "secure_sum"):
        raise Refused(
            f"phase {task.phase} of a round of kind {task.kind} is not one of the recipe {recipe}",
            "ask the study's owner",
            reason="recipe",
        )
