"""Hospitals that exist in the coordinator alone: it holds their keys, and plays them in every phase of a run."""

from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

from consilium.core.ids import SiteId
from consilium.privacy import pairing, secagg
from consilium.privacy.inline import expected
from consilium.privacy.pairing import Keys, Roster, Secrets
from consilium.privacy.secagg import Open, Seat
from consilium.wire.envelope import seal
from consilium.wire.identity import Identity
from consilium.wire.messages import Blob, Step
from e2e.lying import Play, message, read


@dataclass
class Sybil:
    """One of them, in one run of a play."""

    play: Play
    name: SiteId
    identity: Identity
    secrets: Secrets
    keys: Keys = field(init=False)
    made: dict[str, bytes] = field(default_factory=dict)
    seat: Seat = field(init=False)

    def __post_init__(self) -> None:
        """Its keys are ready before anybody is asked."""
        self.keys = self.secrets.keys(self.play.run, 1, self.name, self.identity.public)

    def say(self, like: bytes, phase: str, body: Any, vector: Blob | None = None) -> None:
        """Put a step into what the coordinator has heard, in the place of a true one."""
        told: Step = read(like)
        step = told.model_copy(update={"body": body.model_dump(mode="json"), "vector": vector})
        place = (told.round, told.attempt, phase)
        self.play.heard.setdefault(place, {})[self.name] = seal(Step.TYPE, step.encode(), self.identity)

    def pair(self, roster: Roster, like: bytes) -> None:
        """Accept the roster."""
        after = [one for one in roster.keys if one.site > self.name]
        made = {one.site: MLKEM768PublicKey.from_public_bytes(one.mlkem768).encapsulate() for one in after}
        self.made = {site: secret for site, (secret, _) in made.items()}
        capsules = {site: ciphertext for site, (_, ciphertext) in made.items()}
        self.say(like, "PAIR", pairing.pair(roster, self.keys, self.secrets, capsules))

    def prove(self, roster: Roster, like: bytes) -> dict[SiteId, bytes]:
        """Prove its keys with everybody; those of the first opening."""
        received = {SiteId(site): message(one) for site, one in self.play.heard[0, 1, "PAIR"].items()}
        roots = pairing.roots(roster, self.name, self.secrets, self.made, received)
        self.say(like, "PROVE", pairing.confirm(roster, self.name, roots))
        return {site: pairing.ratchet(root, 0)[1] for site, root in roots.items()}

    def ready(self, asked: Open, keys: dict[SiteId, bytes], like: bytes) -> None:
        """Be there."""
        self.seat, answer = secagg.ready(self.name, keys, bytes(32), asked, expected(asked))
        self.say(like, "READY", answer)

    def mask(self, like: bytes) -> None:
        """Send nothing of any use."""
        self.seat, boxes = secagg.mask(self.seat, self._heard("READY"))
        nothing = self.play.liar.keep(b"nothing of " + self.name.encode())
        self.say(like, "MASK", secagg.masked(self.seat, nothing.digest, boxes), nothing)

    def confirm(self, like: bytes) -> None:
        """Confirm everybody."""
        shown = {one.site: one for one in self._heard("MASK")}
        self.seat, answer = secagg.confirm(self.seat, shown, shown[self.name])
        self.say(like, "CONFIRM", answer)

    def unmask(self, like: bytes) -> None:
        """Tell its shares."""
        shown = {one.site: one for one in self._heard("MASK")}
        self.say(like, "UNMASK", secagg.unmask(self.seat, shown, self._heard("CONFIRM"))[1])

    def _heard(self, phase: str) -> list[Any]:
        return [message(one) for one in self.play.heard[1, 1, phase].values()]
