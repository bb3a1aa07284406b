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
    return _alone((roster, frozenset()) for roster in rosters)


WHOLE = ""
"""What stands for all of a sum, among its parts."""


@dataclass(frozen=True)
class Summed:
    """A sum of `parts`, over `sites`: who says that it lacks which (`lacking`), and to which nobody adds.

    Who lacks a part adds zeros to it, or to some of what it is made of; nobody else knows to which. In a sum that does
    not have a part nobody adds to it either, and nobody says so.
    """

    sites: frozenset[SiteId]
    parts: frozenset[str] = frozenset()
    lacking: frozenset[tuple[str, SiteId]] = frozenset()
    withheld: frozenset[str] = frozenset()


def solved(sums: Collection[Summed]) -> frozenset[tuple[str, SiteId]]:
    """Parts (`WHOLE`: all) with the sites whose own follows from these sums, as if nobody's changed between them.

    Of those who lack a part each may add to some of it to which the others add nothing: the more add zeros, the more
    can be solved, so that it is looked for where all the others do.

    >>> rosters = frozenset("abcd"), frozenset("abce")
    >>> sorted(solved([Summed(one) for one in rosters]))
    []
    >>> lacking, parts = frozenset({("age", "e")}), frozenset({"age"})
    >>> sorted(solved([Summed(one, parts, lacking if "e" in one else frozenset()) for one in rosters]))
    [('age', 'd')]
    """
    found = {(WHOLE, site) for site in alone(one.sites for one in sums)}
    by_part = [(one.sites, one.parts - one.withheld, _by_part(one.lacking)) for one in sums]
    for part in {name for _, _, lacking in by_part for name in lacking}:
        there = [(sites, lacking) for sites, parts, lacking in by_part if part in parts]
        without = [(sites, lacking.get(part, frozenset())) for sites, lacking in there]
        found |= {(part, site) for site in _alone((sites - lacking, lacking) for sites, lacking in without)}
    return frozenset(found)


def _by_part(lacking: Iterable[tuple[str, SiteId]]) -> dict[str, frozenset[SiteId]]:
    """Who lacks each part."""
    found: dict[str, set[SiteId]] = {}
    for part, site in lacking:
        found.setdefault(part, set()).add(site)
    return {part: frozenset(sites) for part, sites in found.items()}


Column = tuple[bool, SiteId]
"""A site; True: where it lacks the part."""


def _alone(rosters: Iterable[tuple[frozenset[SiteId], frozenset[SiteId]]]) -> frozenset[SiteId]:
    """Whose part follows, of those who have it, where all who lack it (the second of a pair) add zeros; and of each of
    these, where all the others do.
    """
    rows: dict[Column, dict[Column, int]] = {}  # reduced echelon form: by a site that no other row has
    found = set[SiteId]()
    for having, lacking in sorted({(tuple(sorted(has)), tuple(sorted(lack))) for has, lack in rosters}):
        row = dict.fromkeys([(False, site) for site in having] + [(True, site) for site in lacking], 1)
        for first in row.keys() & rows.keys():
            row = _less(row, rows[first], row[first])
        if not row:
            continue
        pivot = min(row)
        if pivot[0]:  # nothing is left of those who have it: each of these, if the others add zeros
            found |= {site for _, site in row}
            continue
        unit = pow(row[pivot], -1, PRIME)
        row = {site: value * unit % PRIME for site, value in row.items()}
        rows = {
            first: _less(known, row, known[pivot]) if pivot in known else known for first, known in rows.items()
        } | {pivot: row}
    single = ([site for lacks, site in row if not lacks] for row in rows.values())
    return frozenset(found | {sites[0] for sites in single if len(sites) == 1})


def _less(row: dict[Column, int], other: dict[Column, int], times: int) -> dict[Column, int]:
    found = {site: (row.get(site, 0) - times * other.get(site, 0)) % PRIME for site in {**row, **other}}
    return {site: value for site, value in found.items() if value}
