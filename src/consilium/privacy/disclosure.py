"""What was opened before decides what may be opened now: two sums at one model, over almost the same sites, show one.

A hospital remembers every opening in which it took part, across runs and studies (secure sums hide single sites within
one sum only; their difference is a sum, too). And where sites' updates change little from round to round, sums over
rosters that change can be solved for single sites (So et al., AAAI 2023, arXiv 2106.03328).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from consilium.core.errors import Refused
from consilium.core.ids import Digest, SiteId


@dataclass(frozen=True)
class Opening:
    """One sum that was opened: over the patients of `source`, at `state`, of `objective`, over `sites`.

    `objective` names what was computed at the state (the kind of round, and what of the plan changes the values), so
    that a run that is repeated is the same objective again.
    """

    source: str
    state: Digest
    objective: str
    sites: frozenset[SiteId]


def check(wanted: Opening, before: Iterable[Opening], min_sites: int) -> None:
    """Whether a sum may be opened after those that were.

    Raises: Refused: `difference`: of it and earlier sums at the same model follows one of fewer than `min_sites` sites.
    """
    known = {
        one.sites
        for one in before
        if (one.source, one.state, one.objective) == (wanted.source, wanted.state, wanted.objective)
    }
    for sites in known:
        apart = len(sites ^ wanted.sites)
        if 0 < apart < min_sites:
            raise Refused(
                f"a sum at this model was opened before, over hospitals of which {apart} differ: the difference of "
                f"both would show fewer than {min_sites} hospitals",
                f"ask the same hospitals again, or others that differ by {min_sites}; or begin at another model",
                reason="difference",
            )
    if known and wanted.sites not in known and few(known, wanted.sites, min_sites):
        raise Refused(
            f"sums at this model were opened before: with one over these hospitals they would show fewer than "
            f"{min_sites} hospitals",
            "ask the same hospitals as before; or begin at another model",
            reason="difference",
        )


PRIME = (1 << 61) - 1
"""Rosters are solved modulo this prime: up to 36 sites as over the rationals, for no determinant is so large."""
TRIES = 1_000
"""So many sets of sites are looked at; where there are more, a sum counts as one that shows too few."""


def few(known: Iterable[frozenset[SiteId]], wanted: frozenset[SiteId], least: int) -> bool:
    """Whether sums over these rosters, added and subtracted at will, show fewer than `least` sites with `wanted`.

    Sites that are in the same rosters come together, or not at all. A combination of the rosters is over a set of sites
    alone if, without the columns of these, the rosters' rank is less.

    >>> few([frozenset("abcd"), frozenset("efg"), frozenset("hij")], frozenset("aefghij"), 3)
    True
    """
    rosters = [*set(known), wanted]
    together: dict[tuple[bool, ...], int] = {}
    for site in frozenset[SiteId]().union(*rosters):
        column = tuple(site in roster for roster in rosters)
        together[column] = together.get(column, 0) + 1
    small = sorted(column for column, sites in together.items() if sites < least)
    whole, before = _rank(together), _rank(column[:-1] for column in together)
    tries = 0
    for size in range(1, min(least, len(small) + 1)):
        for chosen in combinations(small, size):
            tries += 1
            if tries > TRIES:
                return True
            if sum(together[column] for column in chosen) >= least:
                continue
            rest = [column for column in together if column not in chosen]
            new = whole - _rank(rest)
            if new and new > before - _rank(column[:-1] for column in rest):
                return True
    return False


def _rank(rows: Iterable[Sequence[bool]]) -> int:
    """Rank modulo `PRIME`."""
    basis: list[tuple[int, list[int]]] = []
    for given in rows:
        row = [int(value) for value in given]
        for pivot, known in basis:
            times = row[pivot]
            row = [(value - times * other) % PRIME for value, other in zip(row, known, strict=True)]
        if any(row):
            pivot = next(at for at, value in enumerate(row) if value)
            unit = pow(row[pivot], -1, PRIME)
            basis.append((pivot, [value * unit % PRIME for value in row]))
    return len(basis)


def alone(rosters: Iterable[frozenset[SiteId]]) -> frozenset[SiteId]:
    """The sites whose part follows from sums over these rosters, as if nobody's part changed between them.

    >>> sorted(alone([frozenset("abcd"), frozenset("abc")]))
    ['d']
    """
    rows: dict[SiteId, dict[SiteId, int]] = {}  # reduced echelon form: by a site that no other row has
    for roster in sorted(map(sorted, set(rosters))):
        row = dict.fromkeys(roster, 1)
        for first, known in rows.items():
            row = _less(row, known, row.get(first, 0))
        if not row:
            continue
        pivot = min(row)
        unit = pow(row[pivot], -1, PRIME)
        row = {site: value * unit % PRIME for site, value in row.items()}
        rows = {first: _less(known, row, known.get(pivot, 0)) for first, known in rows.items()} | {pivot: row}
    return frozenset(first for first, row in rows.items() if len(row) == 1)


def _less(row: dict[SiteId, int], other: dict[SiteId, int], times: int) -> dict[SiteId, int]:
    found = {site: (row.get(site, 0) - times * other.get(site, 0)) % PRIME for site in {**row, **other}}
    return {site: value for site, value in found.items() if value}
