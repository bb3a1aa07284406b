"""Each check of the site's half refuses by its own reason; nothing else was changed but what the check is about."""

import dataclasses
import secrets
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from consilium.core.errors import ConsiliumError, Invalid, OutOfPhase
from consilium.core.ids import digest
from consilium.core.threshold import threshold
from consilium.privacy import opening, secagg, shares
from consilium.privacy.inline import expected
from consilium.privacy.secagg import Confirm, Masked, Open, Ready, Seat, Segment

SITES = ("a", "b", "c", "d", "e")
SEGMENTS = (Segment(name="x", length=3, bits=32),)


class Table:
    """Five sites, of which each step can be looked at and lied about."""

    def __init__(self) -> None:
        keys: dict[str, dict[str, bytes]] = {site: {} for site in SITES}
        for at, one in enumerate(SITES):
            for other in SITES[at + 1 :]:
                keys[one][other] = keys[other][one] = secrets.token_bytes(32)
        self.keys, known = keys, digest(b"x")
        self.open = Open(
            study="s", run="s-1", plan=known, roster=bytes(32), opening=4, round=2, attempt=1, kind="TRAIN",
            cohort=SITES, state=known, segments=SEGMENTS,
        )  # fmt: skip
        self.seats: dict[str, Seat] = {}
        self.readies: dict[str, Ready] = {}
        self.masked: dict[str, Masked] = {}
        self.vectors: dict[str, np.ndarray[Any, Any]] = {}

    def ready(self) -> "Table":
        for site in SITES:
            coins = secrets.token_bytes(32)
            self.seats[site], self.readies[site] = secagg.ready(
                site, self.keys[site], coins, self.open, expected(self.open)
            )
        return self

    def mask(self, *silent: str) -> "Table":
        for number, site in enumerate(s for s in SITES if s not in silent):
            self.seats[site], boxes = secagg.mask(self.seats[site], self.readies.values())
            self.vectors[site] = np.array([number, 10 * number, (2**32 - number) % 2**32], dtype=np.uint32)
            secagg.cover(self.seats[site], {"x": self.vectors[site]})
            self.masked[site] = secagg.masked(self.seats[site], digest(self.vectors[site].tobytes()), boxes)
        return self

    def confirm(self) -> list[Confirm]:
        told = []
        for site in self.masked:
            self.seats[site], one = secagg.confirm(self.seats[site], self.masked, self.masked[site])
            told.append(one)
        return told


def reason(act: Callable[[], object]) -> str:
    with pytest.raises(ConsiliumError) as caught:
        act()
    return getattr(caught.value, "reason", caught.value.code)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"plan": digest(b"y")}, "plan-changed"), ({"roster": b"1" * 32}, "roster"), ({"cohort": SITES[1:]}, "roster"),
        ({"cohort": (*SITES, "z")}, "roster"), ({"cohort": SITES[::-1]}, "roster"),
        ({"cohort": (*SITES, "e")}, "roster"),
        ({"state": digest(b"trap")}, "state-mismatch"), ({"segments": ()}, "segments"),
        ({"segments": (Segment(name="x", length=4, bits=32),)}, "segments"), ({"opening": 3}, "replayed"),
        ({"opening": 5}, "replayed"),
    ],
)  # fmt: skip
def test_an_opening_that_the_site_does_not_compute_itself_is_refused(changes: dict[str, Any], wanted: str) -> None:
    table = Table()
    asked = table.open.model_copy(update=changes)
    own = expected(table.open)
    assert reason(lambda: secagg.ready("a", table.keys["a"], bytes(32), asked, own)) == wanted


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        ({"last": (2, 1)}, "replayed"), ({"last": (2, 2)}, "replayed"), ({"last": (3, 1)}, "replayed"),
        ({"opened_round": 2}, "replayed"), ({"min_sites": 4}, "roster"),
    ],
)  # fmt: skip
def test_an_opening_again_or_below_the_sites_floor_is_refused(own: dict[str, Any], wanted: str) -> None:
    table = Table()
    wants = dataclasses.replace(expected(table.open), **own)
    assert reason(lambda: secagg.ready("a", table.keys["a"], bytes(32), table.open, wants)) == wanted


def test_a_floor_below_three_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="min_sites"):
        Open.model_validate({**Table().open.model_dump(), "min_sites": 2})


def test_a_false_roll_call_is_refused() -> None:
    table = Table().ready()
    other = Table().ready()
    good = table.readies
    liar = good["a"].model_copy(update={"own_hash": bytes(32)})
    stranger = good["b"].model_copy(update={"site": "z"})
    for calls in (
        [good["a"], good["b"], good["c"]],  # below the threshold of four
        [good["b"], good["c"], good["d"], good["e"]],  # without this site
        [good["a"], good["a"], good["b"], good["c"]],  # one twice
        [liar, good["b"], good["c"], good["d"], good["e"]],  # our own, altered
        [good["a"].model_copy(update={"nonce": bytes(32)}), good["b"], good["c"], good["d"]],  # an old nonce of ours
        [good["a"], good["c"], good["d"], good["e"], stranger],  # not of the cohort
        [good["a"], good["b"], good["c"], good["d"], other.readies["e"].model_copy(update={"ctx": bytes(32)})],
    ):
        assert reason(lambda c=calls: secagg.mask(table.seats["a"], c)) == "roll-call"  # type: ignore[misc]


def test_where_a_hospital_asks_for_more_than_the_threshold_no_fewer_are_in_any_set() -> None:
    """Four of five open a sum; one of these hospitals says that it is in none of fewer than five."""
    table = Table()
    table.open = table.open.model_copy(update={"min_sites": 5})
    table.ready()
    assert reason(lambda: secagg.mask(table.seats["a"], [table.readies[site] for site in "abcd"])) == "roll-call"
    table.mask()
    fewer = {site: table.masked[site] for site in "abcd"}
    assert reason(lambda: secagg.confirm(table.seats["a"], fewer, fewer["a"])) == "survivors"
    proofs = table.confirm()
    assert reason(lambda: secagg.unmask(table.seats["a"], table.masked, proofs[:4])) == "proofs"
    assert secagg.unmask(table.seats["a"], table.masked, proofs)[0].opened


def test_where_some_have_shown_their_part_alone_nobody_masks_and_where_all_have_they_do() -> None:
    """Who has not could be read off the sum, less those who have. What nobody says is not in the message."""
    table = Table().ready()
    assert b"shown" not in table.readies["a"].encode()
    seats = {
        site: secagg.ready(site, table.keys[site], secrets.token_bytes(32), table.open, expected(table.open), True)
        for site in SITES
    }
    honest, told = table.readies, {site: message for site, (_, message) in seats.items()}
    for those in (SITES[:1], SITES[:4]):
        mixed = {**honest, **{site: told[site] for site in those}}
        for site in SITES:
            seat = seats[site][0] if site in those else table.seats[site]
            assert reason(lambda s=seat, m=mixed: secagg.mask(s, m.values())) == "difference"  # type: ignore[misc]
    for seat, _ in seats.values():
        assert secagg.mask(seat, told.values())[0].active == tuple(told.values())


def test_false_survivors_are_refused() -> None:
    table = Table().ready().mask()
    good, mine = table.masked, table.masked["a"]
    altered = mine.model_copy(update={"vector": digest(b"other")})
    for shown in (
        {site: good[site] for site in "abc"},
        {site: good[site] for site in "bcde"},
        {**good, "a": altered},
        {**good, "z": good["b"].model_copy(update={"site": "z"})},
        {**good, "b": good["c"]},
        {**good, "b": good["b"].model_copy(update={"ctx2": bytes(32)})},
    ):
        assert reason(lambda s=shown: secagg.confirm(table.seats["a"], s, mine)) == "survivors"  # type: ignore[misc]
    seat, _ = secagg.confirm(table.seats["a"], good, mine)
    fewer = {site: good[site] for site in "abcd"}
    assert reason(lambda: secagg.confirm(seat, fewer, mine)) == "survivors", "two sets are shown to one site"
    assert secagg.confirm(seat, good, mine)[1] == secagg.confirm(seat, good, mine)[1], "a retry sends the same"


def test_nothing_is_unmasked_without_enough_proofs() -> None:
    table = Table().ready().mask()
    seat = table.seats["a"]
    with pytest.raises(OutOfPhase):
        secagg.unmask(seat, table.masked, [])
    proofs = table.confirm()
    seat = table.seats["a"]
    foreign = [one.model_copy(update={"survivors": bytes(32)}) for one in proofs]
    stranger = proofs[3].model_copy(update={"site": "z"})
    for told in (proofs[:3], foreign, [proofs[0]] * 5, [*proofs[:3], stranger]):
        assert reason(lambda t=told: secagg.unmask(seat, table.masked, t)) == "proofs"  # type: ignore[misc]
    fewer = {site: table.masked[site] for site in "abcd"}
    assert reason(lambda: secagg.unmask(seat, fewer, proofs)) == "proofs"
    after, answer = secagg.unmask(seat, table.masked, proofs)
    assert after.opened and not any(answer.pairs.values()) and answer.own.keys() == set(SITES)
    assert reason(lambda: secagg.confirm(after, table.masked, table.masked["a"])) == "survivors"


def test_both_masks_of_one_site_are_never_given() -> None:
    table = Table().ready().mask("e")
    _, answer = secagg.unmask(_confirmed(table, "a"), table.masked, table.confirm())
    assert answer.own.keys() == set("abcd")
    assert all(parts.keys() == {"e"} for parts in answer.pairs.values())


def _confirmed(table: Table, site: str) -> Seat:
    return secagg.confirm(table.seats[site], table.masked, table.masked[site])[0]


def opened(table: Table, answers: list[secagg.Unmask]) -> np.ndarray[Any, Any]:
    keys = opening.recover(table.open, table.readies.values(), table.masked, answers)
    total = {"x": sum(table.vectors[site] for site in table.masked)}
    opening.uncover(total, keys)  # type: ignore[arg-type]
    return total["x"]  # type: ignore[return-value]


def answers_of(table: Table) -> list[secagg.Unmask]:
    proofs = table.confirm()
    return [secagg.unmask(table.seats[site], table.masked, proofs)[1] for site in table.masked]


def test_a_corrupt_share_is_found_and_others_serve() -> None:
    table = Table().ready().mask("e")
    answers = answers_of(table)
    first = answers[0]
    bad = first.model_copy(update={"own": {**first.own, "b": bytes(33)}})
    with pytest.raises(Invalid):
        opened(table, [bad, *answers[1:]])  # four answer, and four are needed
    assert opening.false_holders(table.open, table.masked, [bad, *answers[1:]]) == (first.site,)
    whole = Table().ready().mask()
    answers = answers_of(whole)
    lied = answers[0].model_copy(update={"own": {site: bytes(33) for site in SITES}})
    earlier = [one.model_copy(update={"ctx2": bytes(32), "own": {}}) for one in answers]  # of another attempt
    assert opened(whole, [*answers, *earlier]).tolist() == [10, 100, 2**32 - 10]
    assert opened(whole, [lied, *answers[1:]]).tolist() == [10, 100, 2**32 - 10]
    assert opening.false_holders(whole.open, whole.masked, answers) == ()
    assert opening.false_holders(whole.open, whole.masked, [lied, *answers[1:]]) == (lied.site,)


def test_false_shares_of_masks_with_a_lost_site_are_found_and_an_altered_box_is_no_fault_of_its_holder() -> None:
    table = Table().ready().mask("e")
    answers = answers_of(table)
    pairs = {author: dict.fromkeys(of, bytes(33)) for author, of in answers[2].pairs.items()}
    lied = answers[2].model_copy(update={"pairs": pairs})
    assert opening.false_holders(table.open, table.masked, [*answers[:2], lied, answers[3]]) == (lied.site,)
    stranger = answers[1].model_copy(update={"own": {**answers[1].own, "e": bytes(33)}})
    assert opening.false_holders(table.open, table.masked, [answers[0], stranger]) == (stranger.site,)
    boxed = Table().ready().mask()
    boxed.masked["b"] = boxed.masked["b"].model_copy(update={"boxes": {**boxed.masked["b"].boxes, "a": b"x" * 200}})
    honest = answers_of(boxed)
    assert "b" not in honest[0].own and opening.false_holders(boxed.open, boxed.masked, honest) == ()


def lied_about(table: Table, author: str, subject: str) -> Table:
    """This author shares another key than the one with which it masked, and hashes what it shares."""
    false = shares.split(bytes(32), threshold(len(SITES)), len(SITES), bytes(32))
    seat = table.seats[author]
    vars(seat)["shares"] = {**seat.shares, subject: false}
    boxes = {holder: secagg._box(seat, holder) for holder in SITES}
    table.masked[author] = secagg.masked(seat, table.masked[author].vector, boxes)
    return table


@pytest.mark.parametrize("subject", ["b", "e"], ids=["its own mask", "its mask with a lost site"])
def test_who_shares_another_key_than_it_committed_to_is_named_and_nothing_opens(subject: str) -> None:
    table = lied_about(Table().ready().mask("e"), "b", subject)
    with pytest.raises(Invalid, match=r"the mask of b .*committed to"):
        opened(table, answers_of(table))


def test_only_the_keys_that_were_committed_to_open_a_sum_for_who_checks_it() -> None:
    """A coordinator that may choose one key of a stream chooses what the sum is: it need not know any update."""
    table = Table().ready().mask("e")
    good = opening.recover(table.open, table.readies.values(), table.masked, answers_of(table))
    opening.check(table.open, table.readies.values(), table.masked, good)
    extra = {**good.pairs, ("a", "b"): table.seats["a"].pair("b")}
    for own, pairs in (
        ({**good.own, "a": bytes(32)}, good.pairs),
        ({**good.own, "a": good.own["b"]}, good.pairs),
        (good.own, {**good.pairs, ("a", "e"): bytes(32)}),
        (good.own, {**good.pairs, ("a", "e"): good.pairs["b", "e"]}),
        ({site: key for site, key in good.own.items() if site != "a"}, good.pairs),
        (good.own, {pair: key for pair, key in good.pairs.items() if pair != ("a", "e")}),
        (good.own, extra),
        (good.own, {}),
    ):
        with pytest.raises(Invalid, match="do not open"):
            opening.check(table.open, table.readies.values(), table.masked, opening.Opened(own, pairs))


def test_who_is_sent_a_share_that_is_not_the_one_hashed_leaves_it_out_and_is_not_blamed() -> None:
    """Sealed well, and false: the author lies, and the holder would have signed it."""
    table = Table().ready().mask()
    honest = table.masked["b"]
    lied = lied_about(table, "b", "b").masked["b"]
    table.masked["b"] = lied.model_copy(update={"share_hashes": honest.share_hashes})
    answers = answers_of(table)
    assert [one.site for one in answers if "b" in one.own] == ["b"]
    assert opening.false_holders(table.open, table.masked, answers) == ("b",)


def test_a_box_that_was_altered_is_left_out() -> None:
    table = Table().ready().mask()
    broken = table.masked["b"].model_copy(update={"boxes": {**table.masked["b"].boxes, "a": b"x" * 200}})
    table.masked["b"] = broken
    for site in SITES:
        own = broken if site == "b" else table.masked[site]
        table.seats[site], _ = secagg.confirm(table.seats[site], table.masked, own)
    proofs = [Confirm(ctx2=table.seats["a"].ctx2, site=s, survivors=table.seats["a"].survivors) for s in SITES]
    _, answer = secagg.unmask(table.seats["a"], table.masked, proofs)
    assert answer.own.keys() == {"a", "c", "d", "e"}


def test_before_the_masks_fall_nothing_of_a_site_shows() -> None:
    size = 1 << 16
    table = Table()
    table.open = table.open.model_copy(update={"segments": (Segment(name="x", length=size, bits=32),)})
    table.ready()
    seat, _ = secagg.mask(table.seats["a"], table.readies.values())
    vector = np.zeros(size, dtype=np.uint32)
    secagg.cover(seat, {"x": vector})
    counts = np.bincount(vector.view(np.uint8), minlength=256)
    chi2 = float(np.sum((counts - size / 64) ** 2 / (size / 64)))
    assert 150 < chi2 < 400, "uniform bytes (255 degrees of freedom)"
    # the opened own mask alone does not uncover a site: the masks with the others still lie on it
    opening.uncover({"x": vector}, opening.Opened({"a": seat.own}, {}))
    assert np.count_nonzero(vector) > size * 0.99
