"""What was told before decides what may be told now: sums at one model are added and subtracted, and show one hospital.

A hospital remembers every sum that it helped to open, and every update that it showed alone, across runs and studies.
At one model it is in sums over one set of hospitals only. A rule that allows others, if they differ by enough, needs
somebody who knows of all of them, and nobody does: of the sums over {a, b, c}, {c, d, e} and {a, b, d, e} follows c,
and each of these hospitals was in two. By this rule, each opened sum holds the parts of all who opened it, and these
are in no other.

And where sites' updates change little from round to round, sums over rosters that change can be solved for single sites
(So et al., AAAI 2023, arXiv 2106.03328). Who adds nothing to a part of a sum hides nobody there: it is counted by part,
among those who have it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from consilium.core.errors import Refused
from consilium.core.ids import Digest, SiteId
from consilium.core.round import Kind
from consilium.core.run import elsewhere

PREPARATION = "preparation"
"""The objective of what is summed to prepare inputs."""


@dataclass(frozen=True)
class Opening:
    """One sum that was opened: over the patients of `source`, at `state`, over `sites`.

    `state` is what stands for the model (`question`). What was computed there (`objective`) makes no other sum of it:
    labels may agree in most patients, and inputs be those of another study but for one. An update that is shown as it
    is, under the recipe `plain`, is a sum over one site; `asked` says what exactly that was.
    """

    source: str
    state: Digest
    objective: str
    sites: frozenset[SiteId]
    asked: str = ""

    @property
    def alone(self) -> bool:
        """Whether it shows one site."""
        return len(self.sites) == 1


def check(wanted: Opening, before: Iterable[Opening]) -> None:
    """Whether a site's part may be in this sum, after those in which it was: its own memory.

    Who has shown its part alone may be in a sum, if all the others of it have, too (`secagg.mask`), and may show
    exactly that again.

    Raises: Refused: `difference`: it was in a sum at this model over other sites, or is to show alone what was hidden.
    """
    known = [one for one in before if (one.source, one.state) == (wanted.source, wanted.state)]
    others = [one for one in known if not one.alone and one.sites != wanted.sites]
    if not others or (wanted.alone and any(one.alone and one.asked == wanted.asked for one in known)):
        return
    raise apart(wanted.objective)


def apart(objective: str) -> Refused:
    """The refusal; whoever asks hears no more of what was told before than that it was, and to whom is for the log."""
    kind = Kind.PREPARE if objective == PREPARATION else Kind.TRAIN
    return Refused(
        "with what was told before at this model, this would show single hospitals' parts",
        f"ask the same hospitals as before, by the same recipe; or {elsewhere(kind)}",
        reason="difference",
    )


PRIME = (1 << 61) - 1
"""Rosters are solved modulo this prime: up to 36 sites as over the rationals, for no determinant is so large."""


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


WHOLE = ""
"""What stands for all of a sum, among its parts."""


@dataclass(frozen=True)
class Summed:
    """A sum of several parts, over `sites`: who says that it lacks which (`lacking`), and to which nobody adds.

    Who lacks a part adds zeros to it, or to some of what it is made of; nobody else knows to which.
    """

    sites: frozenset[SiteId]
    lacking: frozenset[tuple[str, SiteId]] = frozenset()
    withheld: frozenset[str] = frozenset()

    def having(self, part: str, but: SiteId | None = None) -> frozenset[SiteId]:
        """Who adds to a part, and `but`, who may add to some of it."""
        return self.sites - {site for name, site in self.lacking if name == part and site != but}


def solved(sums: Collection[Summed]) -> frozenset[tuple[str, SiteId]]:
    """Parts (`WHOLE`: all) with the sites whose own follows from these sums, as if nobody's changed between them.

    Of those who lack a part each may add to some of it to which the others add nothing: the more add zeros, the more
    can be solved, so that it is looked for where all the others do.

    >>> rosters = frozenset("abcd"), frozenset("abce")
    >>> sorted(solved([Summed(one) for one in rosters]))
    []
    >>> sorted(solved([Summed(one, frozenset({("age", "e")}) if "e" in one else frozenset()) for one in rosters]))
    [('age', 'd')]
    """
    found = {(WHOLE, site) for site in alone(one.sites for one in sums)}
    for part in {name for one in sums for name, _ in one.lacking}:
        there = [one for one in sums if part not in one.withheld]
        found |= {(part, site) for site in alone(one.having(part) for one in there)}
        for site in {site for one in sums for name, site in one.lacking if name == part}:
            if site in alone(one.having(part, site) for one in there):
                found.add((part, site))
    return frozenset(found)


def _less(row: dict[SiteId, int], other: dict[SiteId, int], times: int) -> dict[SiteId, int]:
    found = {site: (row.get(site, 0) - times * other.get(site, 0)) % PRIME for site in {**row, **other}}
    return {site: value for site, value in found.items() if value}
