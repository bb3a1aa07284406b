"""A coordinator that lies as it likes, with sites that collude, against honest sites that keep a journal.

It relays what it wants to whom it wants: other cohorts, attempts, roll-calls, survivors and proofs for every site, old
messages again, and messages that it makes itself for the sites that collude.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations, permutations

from consilium.core.errors import ConsiliumError
from consilium.core.ids import Digest, SiteId, digest
from consilium.privacy import disclosure, secagg
from consilium.privacy.disclosure import Opening
from consilium.privacy.secagg import Confirm, Expected, Masked, Open, Ready, Seat, Unmask, threshold

KNOWN = digest(b"x")


@dataclass
class Honest:
    """An honest site: what its journal holds."""

    name: str
    keys: dict[str, bytes]
    cohort: tuple[str, ...]
    rng: random.Random
    state: str = KNOWN
    last: tuple[int, int] = (0, 0)
    opened_round: int = 0
    seats: dict[bytes, Seat] = field(default_factory=dict)
    masked: dict[bytes, Masked] = field(default_factory=dict)
    sent: list[tuple[Open, bytes, frozenset[str], Unmask]] = field(default_factory=list)
    told: list[Opening] = field(default_factory=list)
    called: dict[bytes, frozenset[str]] = field(default_factory=dict)

    def expects(self, asked: Open) -> Expected:
        return Expected(KNOWN, bytes(32), self.cohort, self.state, 0, (), 3, self.last, self.opened_round)

    def ready(self, asked: Open) -> Ready:
        seat, answer = secagg.ready(self.name, self.keys, self.rng.randbytes(32), asked, self.expects(asked))
        self.last = (asked.round, asked.attempt)
        self.seats = {seat.ctx: seat}  # an attempt voids the one before
        self.masked = {}
        return answer

    def mask(self, ctx: bytes, active: list[Ready]) -> Masked:
        if ctx in self.masked:
            raise ConsiliumError("masked before: the same message is sent again")
        seat, boxes = secagg.mask(self.seats[ctx], active)
        self.disclosed(seat, [one.site for one in active])
        self.seats[ctx] = seat
        self.masked[ctx] = secagg.masked(seat, digest(self.rng.randbytes(8)), boxes)
        return self.masked[ctx]

    def confirm(self, ctx: bytes, survivors: dict[str, Masked]) -> Confirm:
        self.seats[ctx], answer = secagg.confirm(self.seats[ctx], survivors, self.masked[ctx])
        return answer

    def unmask(self, ctx: bytes, survivors: dict[str, Masked], proofs: list[Confirm]) -> Unmask:
        """Where it has confirmed nothing, it opens the sum over all who were called, or none."""
        if self.seats[ctx].survivors:
            seat, answer = secagg.unmask(self.seats[ctx], survivors, proofs)
        else:
            seat, answer = secagg.whole(self.seats[ctx], survivors, self.masked[ctx])
        self.told.append(self.disclosed(seat, survivors))
        self.seats, self.opened_round = {}, seat.open.round
        self.sent.append((seat.open, seat.ctx2, frozenset(survivors), answer))
        self.called[seat.ctx2] = frozenset(one.site for one in seat.active)
        return answer

    def disclosed(self, seat: Seat, sites: Iterable[str]) -> Opening:
        """As `site.seats` asks `site.told`: at one model, this site is in sums over one set of sites only."""
        wanted = Opening("patients", Digest(seat.open.state), "label", frozenset(map(SiteId, sites)))
        disclosure.check(wanted, self.told)
        return wanted


class Adversary:
    """One schedule: `steps` random actions from a seed."""

    def __init__(self, count: int, colluding: int, seed: int) -> None:
        self.rng = random.Random(seed)
        self.sites = tuple(f"s{number:02d}" for number in range(count))
        keys: dict[str, dict[str, bytes]] = {site: {} for site in self.sites}
        for at, one in enumerate(self.sites):
            for other in self.sites[at + 1 :]:
                keys[one][other] = keys[other][one] = self.rng.randbytes(32)
        bad = set(self.rng.sample(self.sites, colluding))
        self.honest = {s: Honest(s, keys[s], self.sites, self.rng) for s in self.sites if s not in bad}
        self.bad = {s: keys[s] for s in bad}
        self.opens: list[Open] = []
        self.readies: dict[bytes, list[Ready]] = {}
        self.masked: dict[bytes, list[Masked]] = {}
        self.shown: dict[bytes, list[tuple[dict[str, Masked], list[Confirm]]]] = {}
        self.seats: dict[tuple[str, bytes], Seat] = {}

    def some(self, things: list, least: int = 0) -> list:  # type: ignore[type-arg]
        count = len(things) if self.rng.random() < 0.6 else self.rng.randint(min(least, len(things)), len(things))
        return self.rng.sample(things, count)

    def go(self, steps: int) -> None:
        """Whole attempts in their order, with lies in the midst of them, and single messages out of order."""
        order = (self.open, self.call, self.show, self.prove)
        direct = (self.open, self.call, self.straight)
        halves = (self.open, self.call, self.straight, self.show, self.prove, self.straight)
        while steps > 0:
            whole = self.rng.random() < 0.8
            for act in self.rng.choice((order, direct, halves)) if whole else (self.rng.choice(halves),):
                act()
                steps -= 1

    def open(self) -> None:
        lies = {}
        if self.rng.random() < 0.1:
            lies = self.rng.choice(({"cohort": self.sites[:-1]}, {"state": digest(b"trap")}, {"min_sites": 4}))
        number = self.rng.choice((1, 1, 1, 2))
        values = {
            "study": "a", "run": "a-1", "plan": KNOWN, "roster": bytes(32), "opening": 0, "round": number,
            "attempt": len(self.opens) + 1, "kind": "TRAIN", "cohort": self.sites, "state": KNOWN, "segments": (),
        }  # fmt: skip
        asked = Open.model_validate({**values, **lies})
        if self.opens and self.rng.random() < 0.15:
            asked = self.rng.choice(self.opens)
        self.opens.append(asked)
        for site in self.some(list(self.honest.values())):
            self.attempt(lambda s=site: self.keep(self.readies, asked.sha256, s.ready(asked)))
        for name, keys in self.bad.items():
            seat = Seat(name, keys, self.rng.randbytes(32), asked)
            self.seats[name, asked.sha256] = seat
            own = secagg.commitment(seat.ctx, seat.own)
            nonce = secagg.expand(seat.coins, secagg.canonical(["flsa/1 nonce", seat.ctx.hex()]))
            self.keep(self.readies, asked.sha256, Ready(ctx=seat.ctx, site=name, nonce=nonce, own_hash=own, lacks=()))

    def newest(self, where: dict[bytes, list]) -> bytes:  # type: ignore[type-arg]
        """Mostly the newest attempt, sometimes an old one."""
        known = list(where)
        return known[-1] if self.rng.random() < 0.85 else self.rng.choice(known)

    def keep(self, where: dict[bytes, list], key: bytes, what: object) -> None:  # type: ignore[type-arg]
        where.setdefault(key, []).append(what)

    def attempt(self, act) -> None:  # type: ignore[no-untyped-def]
        try:
            act()
        except (ConsiliumError, KeyError):
            return

    def call(self) -> None:
        if not self.readies:
            return
        ctx = self.newest(self.readies)
        latest = {one.site: one for one in self.readies[ctx]}
        called = self.some(list(latest.values()), 2)
        for site in self.some(list(self.honest.values())):
            told = called if self.rng.random() < 0.9 else self.some(list(latest.values()), 2)
            self.attempt(lambda s=site, t=told: self.keep(self.masked, ctx, s.mask(ctx, t)))
        for name in self.bad:
            if any(one.site == name for one in called):
                seat, boxes = (
                    secagg.mask(self.seats[name, ctx], called)
                    if len(called) >= threshold(len(self.sites))
                    else (None, {})
                )
                if seat is not None:  # of some it makes two, of other vectors
                    for _ in range(self.rng.choice((1, 1, 2))):
                        self.keep(self.masked, ctx, secagg.masked(seat, digest(self.rng.randbytes(8)), boxes))

    def relayed(self, ctx: bytes) -> dict[str, Masked]:
        """What all have masked: of sites that collude the newest vector, or now and then any that they have signed."""
        latest = {one.site: one for one in self.masked[ctx]}
        if self.rng.random() < 0.1:
            latest |= {one.site: one for one in self.rng.sample(self.masked[ctx], len(self.masked[ctx]))}
        return latest

    def show(self) -> None:
        if not self.masked:
            return
        ctx = self.newest(self.masked)
        for _ in range(self.rng.randint(1, 3)):
            latest = self.relayed(ctx)
            chosen = {one.site: one for one in self.some(list(latest.values()), 2)}
            confirms: list[Confirm] = []
            for site in self.some(list(self.honest.values())):
                self.attempt(lambda s=site, c=chosen, told=confirms: told.append(s.confirm(ctx, c)))
            if chosen:
                seen, ctx2 = secagg.survivors_hash(chosen), next(iter(chosen.values())).ctx2
                confirms += [Confirm(ctx2=ctx2, site=name, survivors=seen) for name in self.bad]
            self.keep(self.shown, ctx, (chosen, confirms))

    def straight(self) -> None:
        """Ask some to open what all have masked, without CONFIRM; or what it says that all have.

        At best, to each it calls as many lost as may be, each time others of the same few: of these both masks would
        be known, if it were believed.
        """
        if not self.masked:
            return
        ctx = self.newest(self.masked)
        many, turns = len(self.sites) - threshold(len(self.sites)), self.rng.random() < 0.3
        few = self.rng.sample(sorted(self.honest), min(many + 1, len(self.honest)))
        for at, site in enumerate(self.some(list(self.honest.values()))):
            latest = self.relayed(ctx)
            told = latest if self.rng.random() < 0.8 else {one.site: one for one in self.some(list(latest.values()))}
            if turns:
                lost = [few[(at + step) % len(few)] for step in range(many)]
                told = {name: one for name, one in latest.items() if name not in lost or name == site.name}
            self.attempt(lambda s=site, t=told: s.unmask(ctx, dict(t), []))

    def prove(self) -> None:
        if not self.shown:
            return
        ctx = self.newest(self.shown)
        for chosen, confirms in self.rng.sample(self.shown[ctx], len(self.shown[ctx])):
            everybody = [one for _, told in self.shown[ctx] for one in told]
            proofs = confirms if self.rng.random() < 0.7 else everybody
            for site in self.some(list(self.honest.values())):
                self.attempt(lambda s=site, c=chosen, p=proofs: s.unmask(ctx, c, p))

    def sums(self) -> dict[int, set[tuple[bytes, frozenset[str]]]]:
        """By round: over which honest sites sums can be opened, by the shares that were sent, of whatever survivors.

        Of masked vectors with one roll-call (`ctx2`). What covers the sum of some of them are their own masks, and
        those of each of them with each of the others; with `t` shares of a key, one polynomial's, it is known.
        """
        t, found = threshold(len(self.sites)), dict[int, set[tuple[bytes, frozenset[str]]]]()
        sent = [(asked, ctx2, answer) for site in self.honest.values() for asked, ctx2, _, answer in site.sent]
        called = {ctx2: all_ for site in self.honest.values() for ctx2, all_ in site.called.items()}
        for number, ctx2 in {(asked.round, ctx2) for asked, ctx2, _ in sent}:
            answers, good = [answer for _, of, answer in sent if of == ctx2], sorted(called[ctx2] - self.bad.keys())
            enough = t - len(self.bad)
            own = {one for one in good if sum(one in answer.own for answer in answers) >= enough}
            pairs = {
                frozenset((one, other))
                for one, other in permutations(good, 2)
                if sum(other in answer.pairs.get(one, ()) for answer in answers) >= enough
            }
            for size in range(1, len(good) + 1):
                for some in map(frozenset, combinations(good, size)):
                    if some <= own and all(frozenset((a, b)) in pairs for a in some for b in set(good) - some):
                        found.setdefault(number, set()).add((ctx2, some))
        return found

    def openings(self) -> dict[tuple[int, str, bytes, frozenset[str]], set[str]]:
        """Who of the honest sent shares for which sum: (round, state, ctx2, survivors)."""
        found: dict[tuple[int, str, bytes, frozenset[str]], set[str]] = {}
        for site in self.honest.values():
            for asked, ctx2, survivors, _ in site.sent:
                found.setdefault((asked.round, asked.state, ctx2, survivors), set()).add(site.name)
        return found
