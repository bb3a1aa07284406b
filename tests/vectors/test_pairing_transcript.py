"""Agreeing on keys, byte for byte: the package, an independent implementation, and the transcript on file agree.

ML-KEM's capsules are made by chance: those on file stay. After a wanted change of the protocol
`python tests/vectors/test_pairing_transcript.py` writes the transcript anew, by the independent implementation.
"""

import json
import sys
from hashlib import sha256, shake_256
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from consilium.privacy import pairing
from consilium.privacy.pairing import Confirmed, Keys, Paired, Roster, Secrets
from vectors import slow_pairing

FILE = Path(__file__).with_name("pairing_transcript.json")
SITES = ("amber", "birch", "é-llig")
FLOORS = {"amber": 3, "birch": 5, "é-llig": 3}
Json = dict[str, Any]


def secrets_of(site: str) -> Json:
    drawn = shake_256(f"secrets of {site}".encode()).digest(128)
    return {"x25519": drawn[:32].hex(), "mlkem768": drawn[32:96].hex(), "nonce": drawn[96:].hex()}


def identity_of(site: str) -> str:
    return "identity-" + sha256(site.encode()).hexdigest()[:34]


def slow(capsules: Json) -> Json:
    """The transcript, by the implementation that shares no line with the package."""
    own = {site: secrets_of(site) for site in SITES}
    told = {site: slow_pairing.keys("study-1", 2, site, identity_of(site), FLOORS[site], own[site]) for site in SITES}
    paired = {
        site: {
            "roster": slow_pairing.roster(told).hex(), "site": site, "nonce": own[site]["nonce"],
            "ciphertexts": {other: capsules[site][other]["ciphertext"] for other in SITES if other > site},
        }
        for site in SITES
    }  # fmt: skip
    roots = {
        site: {other: slow_pairing.root(told, paired, own, site, other) for other in SITES if other != site}
        for site in SITES
    }
    chain = roots["amber"]["birch"]
    ratchet = []
    for opening in range(3):
        chain, key = slow_pairing.ratchet(chain, opening)
        ratchet.append({"chain": chain.hex(), "key": key.hex()})
    return {
        "secrets": own, "capsules": capsules, "keys": told, "roster": slow_pairing.roster(told).hex(), "paired": paired,
        "fingerprint": slow_pairing.fingerprint(told, paired).hex(),
        "roots": {site: {other: key.hex() for other, key in found.items()} for site, found in roots.items()},
        "confirmed": {site: slow_pairing.confirmed(told, site, found) for site, found in roots.items()},
        "ratchet of amber and birch": ratchet,
    }  # fmt: skip


@pytest.mark.parametrize("declares", [False, True])
def test_who_means_to_tell_figures_says_so_in_the_keys_and_others_say_nothing_of_it(declares: bool) -> None:
    secrets = secrets_of("amber")
    made = Secrets(*(bytes.fromhex(part) for part in secrets.values()))
    ours = made.keys("study-1", 2, SITES[0], identity_of(SITES[0]), 3, declares)
    slow = slow_pairing.keys("study-1", 2, SITES[0], identity_of(SITES[0]), 3, secrets, declares)
    assert ours.encode() == slow_pairing.text(slow) and (b"declares" in ours.encode()) == declares


def fast(capsules: Json) -> Json:
    """The transcript, by the package."""
    own = {site: Secrets(*(bytes.fromhex(part) for part in secrets_of(site).values())) for site in SITES}
    told = {site: own[site].keys("study-1", 2, site, identity_of(site), FLOORS[site]) for site in SITES}
    roster = Roster.of(told, told["amber"])
    made = {site: {o: bytes.fromhex(one["ciphertext"]) for o, one in capsules[site].items()} for site in SITES}
    shared = {site: {o: bytes.fromhex(one["shared"]) for o, one in capsules[site].items()} for site in SITES}
    paired = {site: pairing.pair(roster, told[site], own[site], made[site]) for site in SITES}
    roots = {site: pairing.roots(roster, site, own[site], shared[site], paired) for site in SITES}
    chain, ratchet = roots["amber"]["birch"], []
    for opening in range(3):
        chain, key = pairing.ratchet(chain, opening)
        ratchet.append({"chain": chain.hex(), "key": key.hex()})
    read = lambda messages: {site: json.loads(one.encode()) for site, one in messages.items()}  # noqa: E731
    return {
        "secrets": {site: secrets_of(site) for site in SITES}, "capsules": capsules, "keys": read(told),
        "roster": roster.digest.hex(), "paired": read(paired),
        "fingerprint": roster.fingerprint({site: own[site].nonce for site in SITES}).hex(),
        "roots": {site: {other: key.hex() for other, key in found.items()} for site, found in roots.items()},
        "confirmed": read({site: pairing.confirm(roster, site, found) for site, found in roots.items()}),
        "ratchet of amber and birch": ratchet,
    }  # fmt: skip


def on_file() -> Json:
    return dict(json.loads(FILE.read_text(encoding="utf-8")))


def test_the_package_gives_the_transcript_on_file() -> None:
    assert fast(on_file()["capsules"]) == on_file()


def test_an_independent_implementation_gives_the_same_bytes() -> None:
    assert slow(on_file()["capsules"]) == on_file()


@pytest.mark.parametrize(("kind", "part"), [(Keys, "keys"), (Paired, "paired"), (Confirmed, "confirmed")])
def test_messages_on_file_are_read_and_written_to_the_same_bytes(kind: Any, part: str) -> None:
    for message in on_file()[part].values():
        text = json.dumps(message, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert kind.model_validate_json(text).encode() == text


@pytest.mark.parametrize("changed", [{"identity": identity_of("mallory")}, {"min_sites": 3}], ids=str)
def test_keys_that_somebody_between_altered_have_other_words(changed: Json) -> None:
    """The site that they are of refuses them (`pairing_bad.json`); for the others, people who compare the words do."""
    good = on_file()
    told = {**good["keys"], "birch": {**good["keys"]["birch"], **changed}}
    keys = {site: Keys.model_validate(one) for site, one in told.items()}
    roster = Roster.of(keys, keys["amber"])
    nonces = {site: bytes.fromhex(one["nonce"]) for site, one in good["secrets"].items()}
    assert roster.digest.hex() != good["roster"] and roster.fingerprint(nonces).hex() != good["fingerprint"]


if __name__ == "__main__":
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

    if FILE.exists():
        known = on_file()["capsules"]
    else:
        public = {
            site: bytes.fromhex(slow_pairing.keys("", 0, site, "", 3, secrets_of(site))["mlkem768"]) for site in SITES
        }
        known = {site: {} for site in SITES}
        for site in SITES:
            for other in SITES[SITES.index(site) + 1 :]:
                shared, ciphertext = MLKEM768PublicKey.from_public_bytes(public[other]).encapsulate()
                known[site][other] = {"ciphertext": ciphertext.hex(), "shared": shared.hex()}
    FILE.write_text(json.dumps(slow(known), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
