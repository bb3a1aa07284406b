"""An honest site's half of a secure sum, in memory: what it has seen is what its journal would hold."""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

from consilium.coordinator import steps
from consilium.core import state as states
from consilium.core.ids import Digest, SiteId
from consilium.core.study import Plan
from consilium.privacy import pairing, recipe, secagg
from consilium.privacy.pairing import Roster, Secrets
from consilium.privacy.secagg import Expected, Open, Seat
from consilium.store.blobs import Directory
from consilium.wire.envelope import payload_of, seal
from consilium.wire.identity import Identity
from consilium.wire.messages import Blob, Step, Task

Hear = Callable[[str, int, int, str], Mapping[SiteId, bytes]]


@dataclass
class Sealing:
    """One site in one run.

    `hear` gives what others said in a phase; `update` writes the update of a task; `read` gives a blob.
    """

    site: SiteId
    identity: Identity
    plan: Plan
    blobs: Directory
    hear: Hear
    update: Callable[[Task, Path], None]
    read: Callable[[Digest], states.Source]
    kept: dict[Any, Any] = field(default_factory=dict)

    def step(self, task: Task) -> bytes:
        """The envelope with which the site answers; the same again for the same task."""
        place = (task.run, task.round, task.attempt, task.phase)
        if place not in self.kept:
            body, vector = getattr(self, f"_{task.phase.lower()}")(task)
            names = ("study", "run", "plan", "round", "attempt", "kind", "phase")
            told = {name: getattr(task, name) for name in names}
            step = Step(**told, body=body.model_dump(mode="json"), vector=vector)
            self.kept[place] = seal(Step.TYPE, step.encode(), self.identity)
        found: bytes = self.kept[place]
        return found

    def _said(self, task: Task, phase: str) -> dict[SiteId, Any]:
        told = self.hear(task.run, task.round, task.attempt, phase)
        return {site: steps.read(Step.decode(payload_of(one, Step.TYPE))) for site, one in told.items()}

    def _secrets(self, attempt: int) -> Secrets:
        long = sha256(f"{self.site} {attempt}".encode()).digest()
        return Secrets(long, long * 2, sha256(long).digest())

    def _own(self, task: Task, attempt: int) -> pairing.Keys:
        return self._secrets(attempt).keys(task.run, attempt, self.site, self.identity.public)

    def _keys(self, task: Task) -> tuple[Any, None]:
        return self._own(task, task.attempt), None

    def _pair(self, task: Task) -> tuple[Any, None]:
        own = self._own(task, task.attempt)
        roster = Roster.of(self._said(task, "KEYS"), own)
        after = [one for one in roster.keys if one.site > self.site]
        made = {one.site: MLKEM768PublicKey.from_public_bytes(one.mlkem768).encapsulate() for one in after}
        self.kept["made", task.attempt] = {site: secret for site, (secret, _) in made.items()}
        capsules = {site: capsule for site, (_, capsule) in made.items()}
        return pairing.pair(roster, own, self._secrets(task.attempt), capsules), None

    def _prove(self, task: Task) -> tuple[Any, None]:
        roster = Roster.of(self._said(task, "KEYS"), self._own(task, task.attempt))
        made = self.kept["made", task.attempt]
        roots = pairing.roots(roster, self.site, self._secrets(task.attempt), made, self._said(task, "PAIR"))
        self.kept["epoch"] = (task.attempt, roster, roots)
        return pairing.confirm(roster, self.site, roots), None

    def _seat(self, task: Task) -> Seat:
        attempt, roster, roots = self.kept["epoch"]
        told = self.hear(task.run, 0, attempt, "PROVE")
        proofs = {site: steps.read(Step.decode(payload_of(one, Step.TYPE))) for site, one in told.items()}
        pairing.check(roster, self.site, roots, proofs)
        opening, keys = task.round - 1, {}
        for other, chain in roots.items():
            for number in range(opening + 1):
                chain, keys[other] = pairing.ratchet(chain, number)
        state = Digest(task.state.digest)
        model = states.read(self.read(state)).shape["model"]
        layout = steps.layout(self.plan, task.kind, model, len(roster.sites))
        asked = Open(
            study=task.study, run=task.run, plan=self.plan.digest, roster=roster.digest, opening=opening,
            round=task.round, attempt=task.attempt, kind=task.kind, cohort=task.cohort, state=state,
            segments=layout.segments, min_sites=roster.min_sites,
        )  # fmt: skip
        own = Expected(self.plan.digest, roster.digest, roster.sites, state, opening, layout.segments, roster.min_sites)
        coins = sha256(f"coins {self.site} {task.round} {task.attempt}".encode()).digest()
        seat, ready = secagg.ready(self.site, keys, coins, asked, own)
        self.kept["ready"], self.kept["layout"] = ready, layout
        return seat

    def _ready(self, task: Task) -> tuple[Any, None]:
        self._seat(task)
        return self.kept["ready"], None

    def _masking(self, task: Task) -> tuple[Seat, secagg.Masked, Blob]:
        seat, boxes = secagg.mask(self._seat(task), self._said(task, "READY").values())
        with tempfile.TemporaryDirectory() as folder:
            plain, covered = Path(folder) / "update", Path(folder) / "covered"
            self.update(task, plain)
            made = recipe.mask(seat, self.kept["layout"], plain, covered)
            self.blobs.make_bytes(covered.read_bytes())
        return seat, secagg.masked(seat, made.digest, boxes), Blob(digest=made.digest, size=made.size)

    def _mask(self, task: Task) -> tuple[Any, Blob]:
        _, masked, vector = self._masking(task)
        return masked, vector

    def _confirm(self, task: Task) -> tuple[Any, None]:
        seat, own, _ = self._masking(task)
        return secagg.confirm(seat, self._said(task, "MASK"), own)[1], None

    def _unmask(self, task: Task) -> tuple[Any, None]:
        seat, own, _ = self._masking(task)
        masked, proofs = self._said(task, "MASK"), self._said(task, "CONFIRM")
        if not proofs:  # it was left out, for all have masked
            return secagg.whole(seat, masked, own)[1], None
        seat, _ = secagg.confirm(seat, masked, own)
        return secagg.unmask(seat, masked, proofs.values())[1], None


def vector_of(envelope: bytes) -> str | None:
    """Digest of the masked vector that a step names."""
    told: Any = json.loads(payload_of(envelope, Step.TYPE))
    return None if told["vector"] is None else str(told["vector"]["digest"])
