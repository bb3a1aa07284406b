"""What sites say in phases of agreeing on keys and of a secure sum: checked, kept, relayed; and what opens the sum.

The coordinator holds no key. What it refuses here would only have failed later, at the sites or when the sum is opened.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from pydantic import ValidationError
from sqlalchemy import bindparam, func, select

from consilium import plugins
from consilium.algorithms import absence, evaluation
from consilium.core import round as machine
from consilium.core import run as runs
from consilium.core import state as chain
from consilium.core.errors import EnvelopeInvalid, Invalid, NotFound
from consilium.core.ids import Digest, SiteId, canonical
from consilium.core.round import Kind, Phase
from consilium.core.study import Plan, Study
from consilium.core.threshold import threshold
from consilium.privacy import opening as protocol
from consilium.privacy import pairing, secagg
from consilium.privacy.layout import Layout
from consilium.privacy.opening import Opened
from consilium.privacy.pairing import Roster
from consilium.privacy.secagg import Open
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import contributions, openings, steps
from consilium.store.shelf import Shelf
from consilium.wire.envelope import payload_of
from consilium.wire.messages import OPENED, Step

BODIES: dict[str, type[pairing.Message]] = {
    Phase.KEYS: pairing.Keys, Phase.PAIR: pairing.Paired, Phase.PROVE: pairing.Confirmed,
    Phase.READY: secagg.Ready, Phase.MASK: secagg.Masked, Phase.CONFIRM: secagg.Confirm, Phase.UNMASK: secagg.Unmask,
}  # fmt: skip
"""The protocol's message in each phase."""
_OF = {name: steps.c[name] == bindparam(name) for name in ("run", "round", "attempt", "phase")}
_SAID = Hot(select(steps.c.site, steps.c.envelope).where(*_OF.values()).order_by(steps.c.site))
_SENT = Hot(
    select(contributions.c.site, contributions.c.digest, contributions.c.size)
    .where(contributions.c.run == bindparam("run"), contributions.c.round == bindparam("round"))
    .order_by(contributions.c.site)
)
_NEWEST = select(func.max(steps.c.attempt)).where(_OF["run"], steps.c.round == 0).scalar_subquery()
_KEYS = Hot(
    select(steps.c.envelope)
    .where(_OF["run"], steps.c.round == 0, steps.c.attempt == _NEWEST, steps.c.phase == Phase.KEYS.value)
    .order_by(steps.c.site)
)
_ALL_SAID = Hot(select(steps.c.phase, steps.c.site, steps.c.envelope).where(_OF["run"], _OF["round"], _OF["attempt"]))
KNOWN = 1024
_known: dict[bytes, Any] = {}
"""Messages that were kept or read lately, by their envelopes: each is read as it comes, and not again at the end."""


class Outdated(EnvelopeInvalid):
    """A site that says READY runs another release: no other one would mask with it."""


def read(step: Step) -> Any:
    """The protocol's message in a step. Raises: EnvelopeInvalid: it is none of its phase; Outdated."""
    kind = BODIES.get(step.phase)
    if step.phase == Phase.READY and "lacks" not in step.body:
        raise Outdated("READY says nothing of what the hospital lacks, as in a release of before", "update the agent")
    try:
        if kind is None:
            raise EnvelopeInvalid(f"nothing is said in phase {step.phase} by a step", "update the agent")
        return kind.model_validate(step.body)
    except (ValidationError, ValueError) as error:
        raise EnvelopeInvalid(f"this is no message of phase {step.phase}", "update the agent") from error


def _read(envelope: bytes) -> Any:
    found = _known.get(envelope)
    return _know(envelope, read(Step.decode(payload_of(envelope, Step.TYPE)))) if found is None else found


def _know(envelope: bytes, body: Any) -> Any:
    if len(_known) >= KNOWN:
        _known.clear()
    _known[envelope] = body
    return body


def keep(tx: Transaction, row: dict[str, Any], body: Any) -> None:
    """Keep what a site said, a row of `steps`, and the message in it; it is relayed when the phase is over."""
    tx.put(steps, row)
    _know(row["envelope"], body)


def said(tx: Transaction, run: str, number: int, attempt: int, phase: str) -> dict[SiteId, bytes]:
    """Envelopes of what was said in a phase, by site."""
    rows = tx.rows(_SAID, run=run, round=number, attempt=attempt, phase=phase)
    return {SiteId(row.site): row.envelope for row in rows}


def before(phase: str) -> Phase | None:
    """The phase whose answers are relayed with a task of this phase."""
    for phases in (machine.PAIRING, machine.SECURE_SUM[:-1]):
        if phase in phases[1:]:
            return phases[phases.index(Phase(phase)) - 1]
    return None


def relayed(fold: runs.Run, number: int, attempt: int, phase: str) -> bool:
    """Whether what was said in a phase is relayed to the sites: it is over, and meant for them."""
    if phase not in BODIES or phase == Phase.UNMASK or fold.round is None:
        return False
    if (number, attempt) != fold.current or fold.round.closed:
        return attempt <= fold.pairings if number == 0 else (number, attempt) <= (fold.number, fold.attempt)
    return phase in fold.round.phases[: fold.round.at]


def roster(tx: Transaction, run: str) -> Roster:
    """The keys on which the cohort of a run agreed."""
    return _roster(tuple(row.envelope for row in tx.rows(_KEYS, run=run)))


@lru_cache(maxsize=64)
def _roster(envelopes: tuple[bytes, ...]) -> Roster:
    return Roster(tuple(map(_read, envelopes)))


def needed(tx: Transaction, run: str, plan: Plan, cohort: tuple[SiteId, ...]) -> tuple[int, int]:
    """(how many sites a round of the cohort needs, how many of them open its sum)."""
    least = max(threshold(len(cohort)), roster(tx, run).min_sites, plan.study.privacy.min_sites)
    return max(plan.study.quorum, least), least


def layout(plan: Plan, kind: str, model: tuple[str, int], sites: int) -> Layout:
    """The segments of a round of the plan, for a cohort of so many sites; `model`: type and length of its values."""
    return _layout(plan.payload, kind, model, sites)


@lru_cache(maxsize=64)  # every vector that comes is compared with it
def _layout(plan: bytes, kind: str, model: tuple[str, int], sites: int) -> Layout:
    study = Plan.load(plan).study
    shapes = {name: (chain.kind(array), array.size) for name, array in evaluation.nothing(study, kind).items()}
    return Layout.of(study, kind, model, shapes, sites, plugins.sums_of(study, kind, model[1]))


@dataclass(frozen=True)
class Sealed:
    """What opens the sum of a round: the OPEN as every site computed it, and what they said."""

    open: Open
    layout: Layout
    active: Mapping[SiteId, secagg.Ready]
    survivors: Mapping[SiteId, secagg.Masked]
    told: Mapping[SiteId, secagg.Unmask]

    @classmethod
    def of(
        cls, tx: Transaction, plan: Plan, run: str, fold: runs.Run, state: Digest, model: tuple[str, int]
    ) -> "Sealed":
        """The open round of a run, which waits for APPLY; `state` is the one it was trained at, of this `model`."""
        round_, keys = fold.round, roster(tx, run)
        assert round_ is not None
        found = layout(plan, round_.kind.value, model, len(fold.cohort))
        rows = tx.rows(_ALL_SAID, run=run, round=round_.number, attempt=fold.attempt)
        heard = {(row.phase, row.site): row.envelope for row in rows}
        asked = Open(
            study=plan.study.name, run=run, plan=plan.digest, roster=keys.digest, opening=round_.number - 1,
            round=round_.number, attempt=fold.attempt, kind=round_.kind.value, cohort=fold.cohort, state=state,
            segments=found.segments, min_sites=keys.min_sites,
        )  # fmt: skip

        def of(phase: Phase) -> dict[SiteId, Any]:
            try:
                return {site: _read(heard[phase.value, site]) for site in round_.answered(phase)}
            except EnvelopeInvalid as error:  # sites may have opened the sum: there is no second attempt
                raise Invalid(
                    f"what sites said in {phase} of round {round_.number} is of another release than this coordinator, "
                    "which was updated meanwhile, so that the sum cannot be opened",
                    "update all agents to the coordinator's release, and start the study's next run",
                ) from error

        return cls(asked, found, of(Phase.READY), of(Phase.MASK), of(Phase.UNMASK))

    def recover(self) -> Opened:
        """The keys that open the sum. Raises: Invalid: shares are lacking, or do not fit; names who sent false ones."""
        try:
            return protocol.recover(self.open, self.active.values(), dict(self.survivors), self.told.values())
        except Invalid as error:
            false = self.false_holders
            told = f"{error.message}; false shares came from {', '.join(false)}" if false else error.message
            raise Invalid(told, error.remedy) from error

    @property
    def false_holders(self) -> tuple[SiteId, ...]:
        """Who answered UNMASK with false shares."""
        return protocol.false_holders(self.open, self.survivors, self.told.values())


def written(opened: Opened) -> str:
    """What opened a sum, as it is kept and told."""
    pairs: dict[str, dict[str, str]] = {}
    for (site, lost), key in sorted(opened.pairs.items()):
        pairs.setdefault(site, {})[lost] = key.hex()
    return json.dumps({"own": {site: key.hex() for site, key in sorted(opened.own.items())}, "pairs": pairs})


def opening(tx: Transaction, shelf: Shelf, run: str, number: int) -> bytes:
    """What opened the sum of a round, and the vectors of which it is the sum, as JSON (`requests.Opening`).

    Raises: NotFound.
    """
    row = tx.find(openings, run=run, round=number)
    if row is None:
        raise NotFound(f"no sum of round {number} of {run} was opened", "wait until the round is closed")
    told: dict[str, Any] = json.loads(row.body)
    sent = [one for one in tx.rows(_SENT, run=run, round=number) if one.site in told["own"]]
    vectors = {one.site: {"digest": one.digest, "size": one.size} for one in sent}
    begin = canonical({"attempt": row.attempt, **told, "vectors": vectors})
    if sum(one.size for one in sent) > OPENED:
        return begin
    data = (b'"%b":"%b"' % (one.digest.encode(), _base64(shelf.read(tx, Digest(one.digest)))) for one in sent)
    return b'%b,"data":{%b}}' % (begin[:-1], b",".join(data))


def _base64(source: chain.Source) -> bytes:
    return base64.b64encode(source if isinstance(source, bytes) else source.read_bytes())


def secure(plan: Plan) -> bool:
    """Whether the plan's rounds are secure sums."""
    return plan.study.privacy.recipe == "secure_sum"


def fits(site: SiteId, step: Step, public_key: str, study: Study) -> Any:
    """The protocol's message in a step: what it says of itself must be true. Raises: EnvelopeInvalid; Outdated."""
    body: Any = read(step)
    if body.site != site or (step.vector is not None) != (step.phase == Phase.MASK):
        raise EnvelopeInvalid(f"this is no message of {site} in phase {step.phase}", "update the agent")
    if step.phase == Phase.READY and not absence.sound(study, step.kind, body.lacks):  # no other site would mask then
        raise Outdated(f"{site} says that it lacks what nothing is of in this round", "update the agent")
    if step.phase == Phase.MASK and cast(secagg.Masked, body).vector != step.vector.digest:  # type: ignore[union-attr]
        raise EnvelopeInvalid("the step names another vector than its message", "update the agent")
    if (step.kind == Kind.PAIR) != (step.phase in machine.PAIRING):
        raise EnvelopeInvalid(f"there is no phase {step.phase} in a round of kind {step.kind}", "update the agent")
    if step.phase == Phase.KEYS and (body.identity, body.study, body.epoch) != (public_key, step.run, step.attempt):
        raise EnvelopeInvalid("the keys are of another site, run or attempt", "update the agent")
    return body
