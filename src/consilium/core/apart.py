"""Sites in groups whose sums are opened apart, and whether a study may ask for them."""

from collections.abc import Collection, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from consilium.core.ids import SiteId

if TYPE_CHECKING:
    from consilium.core.study import Study

APART = ("group-median",)
"""Strategies that take the sums of groups of sites apart."""
Groups = tuple[frozenset[SiteId], ...]


def divided(cohort: Collection[SiteId], count: int) -> Groups:
    """The sites of a cohort in so many groups, of as equal a size as there can be.

    By the hashes of their names, and by nothing else: the same sites are divided alike in every round, run and study,
    so that no two sums over groups differ by one of them.

    >>> [len(group) for group in divided([SiteId(name) for name in "abcdefgh"], 3)]
    [3, 3, 2]
    """
    dealt = sorted(cohort, key=lambda site: sha256(site.encode()).digest())
    return tuple(frozenset(dealt[at::count]) for at in range(count))


def named(segment: str, group: int) -> str:
    """What the sum of a segment over a group, from 1 on, is called.

    >>> named("update", 1), named("update", 2)
    ('update', 'update-2')
    """
    return segment if group == 1 else f"{segment}-{group}"


def short(groups: Groups, sites: Collection[SiteId], floor: int) -> bool:
    """Whether fewer than `floor` of these sites are of one of the groups."""
    there = frozenset(sites)
    return any(len(group & there) < floor for group in groups)


def number(study: "Study") -> int:
    """Into how many groups a study divides its sites; 0: it does not."""
    if study.strategy.name not in APART:
        return 0
    given = study.strategy.options.get("groups", 3)
    return given if type(given) is int and given > 0 else 1


def unfit(study: "Study") -> str | None:
    """Why a study cannot have its groups; None: it can, or asks for none. The words begin with the key to correct."""
    groups, privacy, name = number(study), study.privacy, study.strategy.name
    if not groups:
        return None
    if privacy.recipe != "secure_sum":
        return (
            f"`strategy.name` {name} takes sums over groups of hospitals, and under {privacy.recipe} each hospital's "
            "update is seen: choose median, which stands more there"
        )
    if privacy.epsilon is not None:
        return f"`strategy.name` {name} is not possible under `epsilon`: the sums of its groups have too little noise"
    least = groups * privacy.min_sites
    if study.quorum < least:
        return (
            f"`quorum` {study.quorum} is less than the {least} hospitals of {groups} groups of `privacy.min_sites`, "
            f"{privacy.min_sites}; raise it, or lower `strategy.options.groups`"
        )
    return None


def of_round(study: "Study", kind: str, cohort: Sequence[SiteId]) -> Groups:
    """The groups of a round of a study; none, where nothing of it is summed apart."""
    count = number(study)
    return divided(cohort, count) if count and kind == "TRAIN" else ()
