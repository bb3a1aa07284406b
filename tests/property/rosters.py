"""Sites that have agreed on keys, and their seats in a round: for tests of what they cover and uncover."""

import random
from collections.abc import Iterable
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

from consilium.core.ids import digest
from consilium.privacy import opening, pairing, secagg
from consilium.privacy.inline import expected
from consilium.privacy.layout import Layout
from consilium.privacy.opening import Opened
from consilium.privacy.pairing import Roster, Secrets
from consilium.privacy.secagg import Open, Seat

KNOWN = digest(b"known")
Chains = dict[str, dict[str, bytes]]


def names(count: int) -> tuple[str, ...]:
    """Sorted."""
    return tuple(f"s{number:0{3 if count > 100 else 2}d}" for number in range(count))


def paired(count: int, seed: int = 1) -> tuple[Roster, Chains]:
    """Keys of every two sites, agreed by the messages of `pairing`, each checked by its receiver."""
    chance, sites = random.Random(seed), names(count)
    own = {site: Secrets(*(chance.randbytes(size) for size in (32, 64, 32))) for site in sites}
    keys = {site: own[site].keys("run-1", 1, site, f"key of {site}") for site in sites}
    rosters = {site: Roster.of(keys, keys[site]) for site in sites}
    shared: Chains = {site: {} for site in sites}
    sent = {}
    for site in sites:
        capsules = {}
        for other in sites[sites.index(site) + 1 :]:
            public = MLKEM768PublicKey.from_public_bytes(keys[other].mlkem768)
            shared[site][other], capsules[other] = public.encapsulate()
        sent[site] = pairing.pair(rosters[site], keys[site], own[site], capsules)
    roots = {site: pairing.roots(rosters[site], site, own[site], shared[site], sent) for site in sites}
    told = {site: pairing.confirm(rosters[site], site, roots[site]) for site in sites}
    for site in sites:
        pairing.check(rosters[site], site, roots[site], told)
    return rosters[sites[0]], roots


def asked(layout: Layout, roster: Roster, number: int) -> Open:
    return Open(
        study="study", run="run-1", plan=KNOWN, roster=roster.digest, opening=number - 1, round=number, attempt=1,
        kind="TRAIN", cohort=roster.sites, state=KNOWN, segments=layout.segments,
    )  # fmt: skip


def seats(layout: Layout, roster: Roster, chains: Chains, number: int = 1) -> dict[str, Seat]:
    """Everybody's seat once all have called READY; the chains go on by one opening, in place."""
    request, made, called = asked(layout, roster, number), {}, []
    for site in roster.sites:
        keys = {}
        for other, chain in chains[site].items():
            chains[site][other], keys[other] = pairing.ratchet(chain, request.opening)
        made[site], answer = secagg.ready(site, keys, bytes([number % 256]) * 32, request, expected(request))
        called.append(answer)
    return {site: replace(seat, active=tuple(sorted(called, key=lambda one: one.site))) for site, seat in made.items()}


def opened(seats_: dict[str, Seat], survivors: Iterable[str]) -> Opened:
    """What opens the sum over the survivors, by the messages of the protocol."""
    active = next(iter(seats_.values())).active
    stay = sorted(survivors)
    masked = {site: secagg.masked(seats_[site], KNOWN, secagg.mask(seats_[site], active)[1]) for site in stay}
    confirmed = {site: secagg.confirm(seats_[site], masked, masked[site]) for site in stay}
    proofs = [proof for _, proof in confirmed.values()]
    told = [secagg.unmask(confirmed[site][0], masked, proofs)[1] for site in stay]
    return opening.recover(seats_[stay[0]].open, active, masked, told)
