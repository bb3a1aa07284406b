"""Secure aggregation, the coordinator's half: it relays and gathers, and opens the sum; it holds no key of anybody.

See `secagg` for the protocol and its source.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from consilium.core.errors import Invalid
from consilium.core.ids import SiteId
from consilium.core.threshold import threshold
from consilium.privacy import masks, shares
from consilium.privacy.masks import Integers
from consilium.privacy.secagg import Masked, Open, Ready, Unmask, commitment, ctx2_of, is_share, sign

Pair = tuple[SiteId, SiteId]


@dataclass(frozen=True)
class Opened:
    """Keys of what must fall away from the sum of the masked vectors: by survivor, and by (survivor, lost site)."""

    own: Mapping[SiteId, bytes]
    pairs: Mapping[Pair, bytes]


def recover(asked: Open, active: Iterable[Ready], survivors: Mapping[SiteId, Masked], told: Iterable[Unmask]) -> Opened:
    """The keys that open the sum, each checked against its commitment.

    Raises: Invalid: fewer than the threshold have answered with sound shares; names what is lacking.
    """
    called = {one.site: one for one in active}
    ctx, ctx2 = asked.sha256, ctx2_of(asked, called.values())
    answers = {one.site: one for one in told if one.ctx2 == ctx2}
    gone = sorted(called.keys() - survivors.keys())
    own = {}
    for site in sorted(survivors):
        parts = {holder: one.own[site] for holder, one in answers.items() if site in one.own}
        own[site] = _combined(asked, survivors[site], site, parts)
        if commitment(ctx, own[site]) != called[site].own_hash:
            raise Invalid(f"the mask of {site} is not the one that it committed to", "go on without that site")
    pairs = {}
    for site in sorted(survivors):
        for lost in gone:
            parts = {h: one.pairs[site][lost] for h, one in answers.items() if lost in one.pairs.get(site, {})}
            pairs[site, lost] = _combined(asked, survivors[site], lost, parts)
            if commitment(ctx2, pairs[site, lost]) != survivors[site].pair_hashes.get(lost):
                raise Invalid(f"the mask of {site} with {lost} is not the one committed to", "go on without that site")
    return Opened(own, pairs)


def false_holders(asked: Open, survivors: Mapping[SiteId, Masked], told: Iterable[Unmask]) -> tuple[SiteId, ...]:
    """Who answered with a share that is not the one that its author hashed, sorted.

    A holder leaves out what is false in its box (`secagg.unmask`): who sends it all the same lies, and has signed it.
    """
    places = {site: place for place, site in enumerate(asked.cohort)}
    found = set()
    for one in told:
        given = [(author, author, share) for author, share in one.own.items()]
        given += [(author, lost, share) for author, of in one.pairs.items() for lost, share in of.items()]
        if one.site in places and not all(
            author in survivors and is_share(survivors[author], subject, places[one.site], share)
            for author, subject, share in given
        ):
            found.add(one.site)
    return tuple(sorted(found))


def check(asked: Open, active: Iterable[Ready], survivors: Mapping[SiteId, Masked], opened: Opened) -> None:
    """Whether these are the keys that open the sum over the survivors, by what each site committed to.

    Raises: Invalid: keys are lacking, too many, or not those.
    """
    called = {one.site: one for one in active}
    ctx, ctx2 = asked.sha256, ctx2_of(asked, called.values())
    gone = called.keys() - survivors.keys()
    whole = opened.own.keys() == survivors.keys() and opened.pairs.keys() == {(s, g) for s in survivors for g in gone}
    if not (
        whole
        and all(commitment(ctx, key) == called[site].own_hash for site, key in opened.own.items())
        and all(
            commitment(ctx2, key) == survivors[site].pair_hashes.get(lost) for (site, lost), key in opened.pairs.items()
        )
    ):
        raise Invalid("these keys do not open the sum of this round", "compare both audit logs")


def _combined(asked: Open, author: Masked, subject: SiteId, parts: Mapping[SiteId, bytes]) -> bytes:
    places = {site: place for place, site in enumerate(asked.cohort)}
    good = {
        places[holder] + 1: share
        for holder, share in parts.items()
        if holder in places and is_share(author, subject, places[holder], share)
    }
    return shares.combine(good, threshold(len(asked.cohort)))


def uncover(total: Mapping[str, Integers], opened: Opened) -> None:
    """Take the masks off a sum of masked vectors, in place: what is left is the sum of the survivors' integers."""
    for name, vector in total.items():
        for key, plus in streams(opened):
            masks.add(vector, masks.segment_key(key, name), plus)


def streams(opened: Opened) -> Iterator[tuple[bytes, int]]:
    """Every key of an opened sum with its sign, for whoever takes the masks off chunk by chunk."""
    yield from ((key, -1) for key in opened.own.values())
    yield from ((key, -sign(site, lost)) for (site, lost), key in opened.pairs.items())
