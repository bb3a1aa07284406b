"""Secure aggregation, the site's half: the coordinator learns the sum over the sites that answered, and nothing of one.

Double masking with a consistency check, after Bonawitz et al., CCS 2017, https://doi.org/10.1145/3133956.3133982, with
keys that live for a study, after Flamingo (Ma et al., S&P 2023). One round is READY, MASK, CONFIRM, UNMASK; CONFIRM is
left out where all who called READY have masked (`whole`). `opening` is the coordinator's half. Each function checks
what came and gives the seat as it then is, with what is to be sent. It is a pure function of its keys, of 32 fresh
bytes (`coins`) and of what it received: a retry sends the same bytes. Signatures are checked before anything comes
here, and `Seat.opened` is durable before the answer of UNMASK leaves.

Threshold t = floor(2n/3) + 1 of the n sites of the cohort of an OPEN, for every attempt of its round, so that two
openings would need two sets of honest sites that do not overlap, of which there is no room for in n.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import Field, StringConstraints

from consilium.core.errors import OutOfPhase, Refused
from consilium.core.ids import Digest, SiteId, canonical
from consilium.core.threshold import threshold
from consilium.privacy import masks, shares
from consilium.privacy.disclosure import PREPARATION, apart
from consilium.privacy.masks import Integers, expand
from consilium.privacy.pairing import FLOOR, Message


class Segment(Message):
    """One named vector of integers: its length and the bits of the ring."""

    name: str
    length: int = Field(ge=1)
    bits: int


class Open(Message):
    """The coordinator opens an attempt of a round: over whom, at which state, of what."""

    study: str
    run: str
    plan: Digest
    roster: bytes = Field(min_length=32, max_length=32)
    opening: int = Field(ge=0, description="openings of this epoch so far: the ratchet's step")
    round: int = Field(ge=1)
    attempt: int = Field(ge=1)
    kind: str
    cohort: tuple[SiteId, ...]
    state: Digest
    segments: tuple[Segment, ...]
    min_sites: int = Field(FLOOR, ge=FLOOR)

    @property
    def needed(self) -> int:
        """Fewest sites in any set that this round goes on with."""
        return max(threshold(len(self.cohort)), self.min_sites)


Part = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
"""Of a sum: other hospitals' logs and the record of a round tell it."""


class Ready(Message):
    """The site has trained and is there: late roll-call, so that few drop out once masks are laid.

    `shown`: it has shown its part at this model alone before, under `plain`; it stands in the message where it is so.
    `lacks`: to which parts of the sum it would add zeros; see `algorithms/absence.py`. It stands there where it is
    nothing, too: of a site that does not say it, as of a release of before, nobody knows.
    """

    ctx: bytes
    site: SiteId
    nonce: bytes
    own_hash: bytes
    shown: bool = Field(False, exclude_if=lambda shown: not shown)
    lacks: tuple[Part, ...]


class Masked(Message):
    """The site's masked vector is a blob; with the shares that let the others open what must fall away."""

    ctx2: bytes
    site: SiteId
    vector: Digest
    boxes: dict[SiteId, bytes]
    share_hashes: dict[SiteId, tuple[bytes, ...]]
    pair_hashes: dict[SiteId, bytes]


class Confirm(Message):
    """The site saw these survivors."""

    ctx2: bytes
    site: SiteId
    survivors: bytes


class Unmask(Message):
    """Shares of the survivors' own masks, and of the pairwise masks with those that dropped out; never both of one."""

    ctx2: bytes
    site: SiteId
    own: dict[SiteId, bytes]
    pairs: dict[SiteId, dict[SiteId, bytes]]


@dataclass(frozen=True)
class Expected:
    """What a site itself computes of the round that may come, from its plan, journal and state chain."""

    plan: Digest
    roster: bytes
    cohort: tuple[SiteId, ...]
    state: Digest
    opening: int
    segments: tuple[Segment, ...]
    min_sites: int
    last: tuple[int, int] = (0, 0)  # (round, attempt) of the newest OPEN that was answered
    opened_round: int = 0  # the newest round of which this site sent UNMASK


@dataclass(frozen=True)
class Seat:
    """A site's place in one attempt: its keys with the others for this opening, its coins, and what it has seen."""

    site: SiteId
    keys: Mapping[SiteId, bytes]
    coins: bytes
    open: Open
    active: tuple[Ready, ...] = ()
    survivors: bytes = b""
    opened: bool = False

    @cached_property
    def ctx(self) -> bytes:
        """Hash of the OPEN."""
        return self.open.sha256

    @cached_property
    def ctx2(self) -> bytes:
        """Hash of the OPEN and of everybody's READY, fresh nonces among them: every mask depends on it."""
        return ctx2_of(self.open, self.active)

    @property
    def own(self) -> bytes:
        """The key of this site's own mask."""
        return expand(self.coins, canonical(["flsa/1 own", self.ctx.hex()]))

    def others(self) -> list[SiteId]:
        """The other active sites."""
        return [one.site for one in self.active if one.site != self.site]

    def pair(self, other: SiteId) -> bytes:
        """The key of the mask with another site."""
        return self._pairs[other]

    @cached_property
    def _pairs(self) -> dict[SiteId, bytes]:
        label = canonical(["flsa/1 mask", self.ctx2.hex()])
        return {other: expand(self.keys[other], label) for other in self.others()}

    @cached_property
    def shares(self) -> dict[SiteId, tuple[bytes, ...]]:
        """Shares of the own mask's key (under the own name) and of the key with every other active site.

        A holder's share stands at its place in the cohort, so that it is the same whoever else is active.
        """
        t, n, label = threshold(len(self.open.cohort)), len(self.open.cohort), ("flsa/1 shares", self.ctx2.hex())
        secrets = {self.site: self.own} | {other: self.pair(other) for other in self.others()}
        return {
            subject: shares.split(secret, t, n, expand(self.coins, canonical([*label, subject])))
            for subject, secret in sorted(secrets.items())
        }


_CALLED = ("ctx", "ctx2", "_pairs", "shares")
"""What follows from the OPEN and the roll-call alone."""


def _moved(seat: Seat, *same: str, **changes: Any) -> Seat:
    """The seat with changes; what is the `same` is not computed anew."""
    after = replace(seat, **changes)
    vars(after).update({name: vars(seat)[name] for name in same if name in vars(seat)})
    return after


def ready(
    site: SiteId, keys: Mapping[SiteId, bytes], coins: bytes, asked: Open, own: Expected, shown: bool = False,
    lacks: tuple[str, ...] = (),
) -> tuple[Seat, Ready]:  # fmt: skip
    """Answer an OPEN, after training.

    Args:    keys: with every other site of the roster, of this opening (`pairing.ratchet`).   coins: 32 bytes, fresh
             for every (round, attempt) and every update, and durable.   shown, lacks: as in `Ready`.
    Raises:  as `follows`.
    """
    follows(asked, own, site)
    seat = Seat(site, keys, coins, asked)
    nonce = expand(coins, canonical(["flsa/1 nonce", seat.ctx.hex()]))
    own_hash = commitment(seat.ctx, seat.own)
    return seat, Ready(ctx=seat.ctx, site=site, nonce=nonce, own_hash=own_hash, shown=shown, lacks=lacks)


def follows(asked: Open, own: Expected, site: SiteId) -> None:
    """Whether an OPEN may be answered. Raises: Refused: it is not what this site computes itself; `reason` says which
    part.
    """
    # (1) the plan, the roster, the state and the segments are ours   (2) so is the cohort, with enough sites, and we
    # are in it   (3) the round and attempt are new, and no sum of the round is open   (4) so is the ratchet's step
    for reason, same in (
        ("plan-changed", asked.plan == own.plan),
        ("roster", asked.roster == own.roster and asked.cohort == own.cohort == tuple(sorted(set(own.cohort)))),
        ("roster", site in asked.cohort and asked.min_sites >= own.min_sites and len(asked.cohort) >= asked.min_sites),
        ("state-mismatch", asked.state == own.state),
        ("segments", asked.segments == own.segments),
        ("replayed", (asked.round, asked.attempt) > own.last and asked.round > own.opened_round),
        ("replayed", asked.opening == own.opening),
    ):
        if not same:
            raise Refused(
                f"the opening of round {asked.round} is not the one that follows here ({reason})",
                "compare both audit logs", reason=reason,
            )  # fmt: skip


def mask(seat: Seat, active: Iterable[Ready]) -> tuple[Seat, dict[SiteId, bytes]]:
    """Take the roll-call; the seat can then mask (`cover`). Returns the boxes: shares for every active site, sealed.

    Raises: Refused: `roll-call`: too few, somebody of another OPEN or not of the cohort, or our own READY was altered.
            `difference`: some have shown their part at this model alone: what is left of the sum without these is of
            fewer. Where all have, it hides nothing.
    """
    called = tuple(sorted(active, key=lambda one: one.site))
    names = [one.site for one in called]
    mine = [one for one in called if one.site == seat.site]
    sound = (
        len(set(names)) == len(names) >= seat.open.needed
        and set(names) <= set(seat.open.cohort)
        and all(one.ctx == seat.ctx for one in called)
        and len(mine) == 1
        and mine[0].own_hash == commitment(seat.ctx, seat.own)
        and mine[0].nonce == expand(seat.coins, canonical(["flsa/1 nonce", seat.ctx.hex()]))
    )
    if not sound:
        raise Refused("the roll-call is not one of this round", "compare both audit logs", reason="roll-call")
    if len({one.shown for one in called}) > 1:
        raise apart(PREPARATION if seat.open.kind == "PREPARE" else "")
    seated = _moved(seat, "ctx", active=called)
    return seated, {holder: _box(seated, holder) for holder in names}


def cover(seat: Seat, vectors: Mapping[str, Integers]) -> None:
    """Mask the site's integers, in place. Raises: ValueError: they are not the segments of the OPEN."""
    if {(s.name, s.length, s.bits) for s in seat.open.segments} != {
        (name, vector.size, 8 * vector.dtype.itemsize) for name, vector in vectors.items()
    }:
        raise ValueError("these are not the segments of the OPEN")
    for name, vector in vectors.items():
        for key, plus in layers(seat):
            masks.add(vector, masks.segment_key(key, name), plus)


def layers(seat: Seat) -> list[tuple[bytes, int]]:
    """Every key whose stream covers this site's vector, with its sign."""
    return [(seat.own, 1), *((seat.pair(other), sign(seat.site, other)) for other in seat.others())]


def masked(seat: Seat, vector: Digest, boxes: Mapping[SiteId, bytes]) -> Masked:
    """The message for a masked vector that is a blob."""
    hashes = {subject: tuple(sha256(share).digest() for share in parts) for subject, parts in seat.shares.items()}
    return Masked(
        ctx2=seat.ctx2, site=seat.site, vector=vector, boxes=dict(boxes), share_hashes=hashes,
        pair_hashes={other: commitment(seat.ctx2, seat.pair(other)) for other in seat.others()},
    )  # fmt: skip


def _box(seat: Seat, holder: SiteId) -> bytes:
    if holder == seat.site:
        return b""  # its own share it makes again
    place = seat.open.cohort.index(holder)
    inside = b"".join(parts[place] for _, parts in sorted(seat.shares.items()))
    key, context = _sealing(seat.keys[holder], seat.ctx2, seat.site, holder)
    return AESGCM(key).encrypt(bytes(12), inside, context)  # one message under this key, ever: its nonce may be zero


def _sealing(key: bytes, ctx2: bytes, sender: SiteId, holder: SiteId) -> tuple[bytes, bytes]:
    context = canonical(["flsa/1 box", ctx2.hex(), sender, holder])
    return expand(key, context), context


def confirm(seat: Seat, survivors: Mapping[SiteId, Masked], own: Masked) -> tuple[Seat, Confirm]:
    """Say which survivors this site saw.

    Raises: Refused: `survivors`: too few or others than before, somebody who was not active, or our own is altered.
    """
    seen = _seen(seat, survivors, own)
    return _moved(seat, *_CALLED, survivors=seen), Confirm(ctx2=seat.ctx2, site=seat.site, survivors=seen)


def _seen(seat: Seat, survivors: Mapping[SiteId, Masked], own: Masked) -> bytes:
    """What CONFIRM is about, if this site sees nothing wrong with it. Raises: Refused, as `confirm`."""
    active = {one.site for one in seat.active}
    sound = (
        len(survivors) >= seat.open.needed
        and survivors.keys() <= active
        and survivors.get(seat.site) == own
        and all(one.site == site and one.ctx2 == seat.ctx2 for site, one in survivors.items())
    )
    if not sound or seat.opened:
        raise Refused("the survivors are not those of this round", "compare both audit logs", reason="survivors")
    seen = survivors_hash(survivors)
    if seat.survivors not in (b"", seen):
        raise Refused("other survivors were shown before", "compare both audit logs", reason="survivors")
    return seen


def whole(seat: Seat, survivors: Mapping[SiteId, Masked], own: Masked) -> tuple[Seat, Unmask]:
    """Open the sum over all who called READY, once and without CONFIRM. Make the seat durable before this is sent.

    Of no mask with another site shares are sent: a sum over fewer needs t sites that were shown fewer, and so does this
    one that were not, and each opens once.

    Raises: OutOfPhase: somebody is lost, and nobody confirmed who.   Refused: `survivors`: as `confirm`.
    """
    if survivors.keys() != {one.site for one in seat.active}:
        raise OutOfPhase("this site has confirmed no survivors", "wait for CONFIRM")
    return _opened(_moved(seat, *_CALLED, survivors=_seen(seat, survivors, own)), survivors)


def unmask(seat: Seat, survivors: Mapping[SiteId, Masked], proofs: Iterable[Confirm]) -> tuple[Seat, Unmask]:
    """Open what must fall away, once: t sites saw the same survivors. Make the seat durable before this is sent.

    Raises: Refused: `proofs`: too few confirm what this site confirmed.   OutOfPhase: nothing was confirmed here.
    """
    if not seat.survivors:
        raise OutOfPhase("this site has confirmed no survivors", "wait for CONFIRM")
    told = {one.site for one in proofs if one.ctx2 == seat.ctx2 and one.survivors == seat.survivors}
    if survivors_hash(survivors) != seat.survivors or len(told & survivors.keys()) < seat.open.needed:
        raise Refused("too few sites saw the same survivors", "wait for more", reason="proofs")
    return _opened(seat, survivors)


def _opened(seat: Seat, survivors: Mapping[SiteId, Masked]) -> tuple[Seat, Unmask]:
    # A share that does not open or is not the one that its author hashed is left out: others' shares serve.
    gone = {one.site for one in seat.active} - survivors.keys()
    own: dict[SiteId, bytes] = {}
    pairs: dict[SiteId, dict[SiteId, bytes]] = {}
    for author, message in sorted(survivors.items()):
        held = _held(seat, message, {author, *gone})
        if author in held:
            own[author] = held[author]
        pairs[author] = {lost: held[lost] for lost in sorted(gone) if lost in held}
    return _moved(seat, *_CALLED, opened=True), Unmask(ctx2=seat.ctx2, site=seat.site, own=own, pairs=pairs)


def _held(seat: Seat, message: Masked, wanted: Set[SiteId]) -> dict[SiteId, bytes]:
    """The wanted shares in a box that was addressed to this site, by their subject; those with a wrong hash left out.

    The others stay unread: among many sites nearly all of them are of masks that cancel.
    """
    place, size = seat.open.cohort.index(seat.site), shares.SHARE_BYTES
    if message.site == seat.site:
        return {subject: parts[place] for subject, parts in seat.shares.items() if subject in wanted}
    key, context = _sealing(seat.keys[message.site], seat.ctx2, message.site, seat.site)
    try:
        inside = AESGCM(key).decrypt(bytes(12), message.boxes.get(seat.site, b""), context)
    except (InvalidTag, ValueError):
        return {}
    subjects = sorted(one.site for one in seat.active)
    if len(inside) != size * len(subjects):
        return {}
    found = {subject: inside[at * size : (at + 1) * size] for at, subject in enumerate(subjects) if subject in wanted}
    return {subject: share for subject, share in found.items() if is_share(message, subject, place, share)}


def sign(site: SiteId, other: SiteId) -> int:
    """1 for the first of a pair by name, -1 for the second: what one adds the other takes off."""
    return 1 if site < other else -1


def commitment(context: bytes, key: bytes) -> bytes:
    """Binds a key before it is opened; it says nothing about the key."""
    return sha256(canonical(["flsa/1 commitment", context.hex(), key.hex()])).digest()


def survivors_hash(survivors: Mapping[SiteId, Masked]) -> bytes:
    """What CONFIRM is about."""
    return sha256(canonical([survivors[site].sha256.hex() for site in sorted(survivors)])).digest()


def ctx2_of(asked: Open, active: Iterable[Ready]) -> bytes:
    """Hash of the OPEN and of all READY."""
    called = sorted(active, key=lambda one: one.site)
    return sha256(canonical([one.sha256.hex() for one in (asked, *called)])).digest()


def is_share(author: Masked, subject: SiteId, place: int, share: bytes) -> bool:
    """Whether this is the share that its author hashed."""
    known = author.share_hashes.get(subject, ())
    return place < len(known) and sha256(share).digest() == known[place]
