"""One round of secure aggregation among sites of one process, message by message: for simulation and for tests."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from consilium.core.errors import Invalid
from consilium.core.ids import SiteId, digest
from consilium.privacy import opening, secagg
from consilium.privacy.masks import Integers
from consilium.privacy.secagg import Expected, Masked, Open, Ready, Seat, Unmask

Vectors = Mapping[str, Integers]


@dataclass(frozen=True)
class Party:
    """One site: its keys with the others for this opening, its coins (32 bytes), its integers by segment.

    `leaves` names the phase in which it falls silent: READY, MASK, CONFIRM or UNMASK.
    """

    keys: Mapping[SiteId, bytes]
    coins: bytes
    values: Vectors
    leaves: str = ""


def expected(asked: Open) -> Expected:
    """What an honest site expects where it agrees with the coordinator."""
    return Expected(asked.plan, asked.roster, asked.cohort, asked.state, asked.opening, asked.segments, asked.min_sites)


def run_secagg(asked: Open, parties: Mapping[SiteId, Party]) -> tuple[dict[str, Integers], tuple[SiteId, ...]]:
    """The sum over the survivors, and who they are. The parties' values are left as they are.

    Raises: Invalid: too few stayed, so nothing opens.
    """
    seats: dict[SiteId, Seat] = {}
    readies: dict[SiteId, Ready] = {}
    for site, party in parties.items():
        if party.leaves != "READY":
            seats[site], readies[site] = secagg.ready(site, party.keys, party.coins, asked, expected(asked))
    _enough(asked, readies, "READY")
    masked: dict[SiteId, Masked] = {}
    vectors: dict[SiteId, Vectors] = {}
    for site in readies:
        if parties[site].leaves != "MASK":
            seats[site], boxes = secagg.mask(seats[site], readies.values())
            vectors[site] = {name: np.array(vector) for name, vector in parties[site].values.items()}
            secagg.cover(seats[site], vectors[site])
            name = digest(b"".join(vectors[site][one].tobytes() for one in sorted(vectors[site])))
            masked[site] = secagg.masked(seats[site], name, boxes)
    _enough(asked, masked, "MASK")
    told = (
        _whole(parties, seats, masked) if masked.keys() == readies.keys() else _unmasked(asked, parties, seats, masked)
    )
    opened = opening.recover(asked, readies.values(), masked, told)
    total = {one.name: sum(vectors[site][one.name] for site in sorted(masked)) for one in asked.segments}
    opening.uncover(total, opened)  # type: ignore[arg-type]
    return total, tuple(sorted(masked))  # type: ignore[return-value]


def _whole(parties: Mapping[SiteId, Party], seats: dict[SiteId, Seat], masked: Mapping[SiteId, Masked]) -> list[Unmask]:
    """What opens the sum over all who called READY; who falls silent in CONFIRM is not there for UNMASK, either."""
    stay = [site for site in masked if parties[site].leaves not in ("CONFIRM", "UNMASK")]
    return [secagg.whole(seats[site], masked, masked[site])[1] for site in stay]


def _unmasked(
    asked: Open, parties: Mapping[SiteId, Party], seats: dict[SiteId, Seat], masked: Mapping[SiteId, Masked]
) -> list[Unmask]:
    confirms = {}
    for site in masked:
        if parties[site].leaves != "CONFIRM":
            seats[site], confirms[site] = secagg.confirm(seats[site], masked, masked[site])
    _enough(asked, confirms, "CONFIRM")
    stay = [site for site in confirms if parties[site].leaves != "UNMASK"]
    return [secagg.unmask(seats[site], masked, confirms.values())[1] for site in stay]


def _enough(asked: Open, answered: Mapping[SiteId, object], phase: str) -> None:
    if len(answered) < asked.needed:
        raise Invalid(f"{len(answered)} sites answered {phase}; {asked.needed} are needed", "wait for more sites")
