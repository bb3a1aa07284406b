"""Every two sites agree on a key that nobody else has, or find out that something stands between them."""

import secrets
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

from consilium.core.errors import Refused
from consilium.privacy import pairing
from consilium.privacy.pairing import Keys, Paired, Roster, Secrets

SITES = ("a", "b", "c", "d")


def identity(site: str) -> str:
    """The key by which a site signs; who checks signatures compares it, before a message comes to `pairing`."""
    return f"public key of {site}"


class Epoch:
    """Four sites that pair; what the coordinator relays may be altered on the way to one of them."""

    def __init__(self) -> None:
        self.secrets = {s: Secrets(*map(secrets.token_bytes, (32, 64, 32))) for s in SITES}
        self.keys = {site: self.secrets[site].keys("study", 1, site, identity(site)) for site in SITES}
        self.paired: dict[str, Paired] = {}
        self.shared: dict[str, dict[str, bytes]] = {}

    def pair(self, site: str, seen: dict[str, Keys] | None = None) -> Roster:
        roster = Roster.of(seen or self.keys, self.keys[site])
        capsules, self.shared[site] = {}, {}
        for one in roster.keys:
            if one.site > site:
                shared, capsules[one.site] = MLKEM768PublicKey.from_public_bytes(one.mlkem768).encapsulate()
                self.shared[site][one.site] = shared
        self.paired[site] = pairing.pair(roster, self.keys[site], self.secrets[site], capsules)
        return roster

    def roots(self, site: str, roster: Roster, received: dict[str, Paired] | None = None) -> dict[str, bytes]:
        return pairing.roots(roster, site, self.secrets[site], self.shared[site], received or self.paired)


@pytest.fixture
def epoch() -> Epoch:
    return Epoch()


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(Refused) as caught:
        act()
    return caught.value.reason


def test_every_two_sites_have_one_key_and_every_pair_another(epoch: Epoch) -> None:
    rosters = {site: epoch.pair(site) for site in SITES}
    roots = {site: epoch.roots(site, rosters[site]) for site in SITES}
    assert all(roots[one][other] == roots[other][one] for one in SITES for other in SITES if one != other)
    assert len({key for found in roots.values() for key in found.values()}) == 6
    told = {site: pairing.confirm(rosters[site], site, roots[site]) for site in SITES}
    for site in SITES:
        pairing.check(rosters[site], site, roots[site], told)
    nonces = {site: epoch.secrets[site].nonce for site in SITES}
    assert len({rosters[site].fingerprint(nonces) for site in SITES}) == 1


def test_a_key_swapped_by_the_coordinator_is_found(epoch: Epoch) -> None:
    evil = Secrets(*map(secrets.token_bytes, (32, 64, 32)))
    swapped = {**epoch.keys, "b": evil.keys("study", 1, "b", identity("b"))}
    assert refused(lambda: Roster.of(swapped, epoch.keys["b"])) == "roster", "b sees that its own entry was altered"
    epoch.pair("a", swapped)
    for site in "bcd":
        epoch.pair(site)
    assert refused(lambda: epoch.roots("c", Roster.of(epoch.keys, epoch.keys["c"]))) == "pairing", (
        "a has another roster"
    )


def test_without_the_roster_check_the_confirmation_finds_it(epoch: Epoch) -> None:
    roster = epoch.pair("a")
    for site in "bcd":
        epoch.pair(site)
    roots = {site: epoch.roots(site, roster) for site in SITES}
    roots["a"]["b"] = secrets.token_bytes(32)  # as if the key had been another
    told = {site: pairing.confirm(roster, site, roots[site]) for site in SITES}
    assert refused(lambda: pairing.check(roster, "a", roots["a"], told)) == "pairing"
    assert refused(lambda: pairing.check(roster, "b", roots["b"], told)) == "pairing"
    assert refused(lambda: pairing.check(roster, "c", roots["c"], {"a": told["a"]})) == "pairing", "some are missing"


def test_a_roster_of_strangers_or_too_few_is_refused(epoch: Epoch) -> None:
    own = epoch.keys["a"]
    twice = {**epoch.keys, "e": epoch.keys["b"].model_copy(update={"site": "e"})}
    renamed = {**epoch.keys, "e": epoch.secrets["d"].keys("study", 1, "z", identity("z"))}
    other = {**epoch.keys, "b": epoch.secrets["b"].keys("another", 1, "b", identity("b"))}
    old = {**epoch.keys, "b": epoch.secrets["b"].keys("study", 2, "b", identity("b"))}
    signer = {**epoch.keys, "b": epoch.keys["b"].model_copy(update={"identity": identity("c")})}
    few = {site: epoch.keys[site] for site in "ab"}
    without = {site: epoch.keys[site] for site in "bcd"}
    for seen in (twice, renamed, other, old, signer, few, without):
        assert refused(lambda s=seen: Roster.of(s, own)) == "roster"  # type: ignore[misc]


def test_an_altered_acceptance_is_refused(epoch: Epoch) -> None:
    rosters = {site: epoch.pair(site) for site in SITES}
    good = epoch.paired
    for bad in (
        {site: good[site] for site in "abc"},
        {**good, "b": good["b"].model_copy(update={"nonce": bytes(32)})},
        {**good, "b": good["b"].model_copy(update={"roster": bytes(32)})},
        {**good, "b": good["b"].model_copy(update={"ciphertexts": {}})},
        {**good, "b": good["c"]},
    ):
        assert refused(lambda b=bad: epoch.roots("a", rosters["a"], b)) == "pairing"  # type: ignore[misc]
    flipped = dict(good["a"].ciphertexts)
    flipped["b"] = bytes([flipped["b"][0] ^ 1]) + flipped["b"][1:]
    lied = {**good, "a": good["a"].model_copy(update={"ciphertexts": flipped})}
    assert epoch.roots("b", rosters["b"], lied)["a"] != epoch.roots("a", rosters["a"])["b"], "and CONFIRM finds it"


def test_who_signs_is_part_of_what_people_compare(epoch: Epoch) -> None:
    """With every key but the identity as it was, a coordinator could sign for a site that it invented."""
    swapped = {**epoch.keys, "b": epoch.secrets["b"].keys("study", 1, "b", identity("mallory"))}
    honest, lied = Roster.of(epoch.keys, epoch.keys["a"]), Roster.of(swapped, epoch.keys["a"])
    nonces = {site: epoch.secrets[site].nonce for site in SITES}
    assert honest.digest != lied.digest and honest.fingerprint(nonces)[:6] != lied.fingerprint(nonces)[:6]
    assert refused(lambda: Roster.of(swapped, epoch.keys["b"])) == "roster", "and b sees it at once"


def test_the_floor_is_the_largest_that_a_site_asks_for(epoch: Epoch) -> None:
    wanted = {**epoch.keys, "c": epoch.secrets["c"].keys("study", 1, "c", identity("c"), min_sites=4)}
    assert Roster.of(wanted, wanted["a"]).min_sites == 4


def test_the_ratchet_goes_one_way_and_gives_a_fresh_key_each_time() -> None:
    chain, seen = bytes(32), set()
    for number in range(20):
        chain, key = pairing.ratchet(chain, number)
        seen |= {chain, key}
    assert len(seen) == 40
