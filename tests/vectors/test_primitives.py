"""The primitives that the protocols stand on give the published answers, through the very calls that we make."""

import json
from pathlib import Path

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from consilium.privacy import masks

KNOWN: dict[str, list[dict[str, str]]] = json.loads(Path(__file__).with_name("primitives.json").read_text())


def cases(primitive: str) -> list[dict[str, str]]:
    return next(found for name, found in KNOWN.items() if name.startswith(primitive))


def raw(case: dict[str, str]) -> dict[str, bytes]:
    return {name: bytes.fromhex(text) for name, text in case.items() if name != "l"}


@pytest.mark.parametrize("case", cases("HKDF"))
def test_hkdf(case: dict[str, str]) -> None:
    given, length = raw(case), int(case["l"])
    assert HKDF(hashes.SHA256(), length, given["salt"], given["info"]).derive(given["ikm"]) == given["okm"]
    assert masks.expand(given["prk"], given["info"], length) == given["okm"]


@pytest.mark.parametrize("case", cases("X25519"))
def test_x25519(case: dict[str, str]) -> None:
    given = raw(case)
    key = X25519PrivateKey.from_private_bytes(given["scalar"])
    assert key.exchange(X25519PublicKey.from_public_bytes(given["u"])) == given["out"]


def test_x25519_refuses_a_key_that_gives_zero() -> None:
    with pytest.raises(ValueError):
        X25519PrivateKey.from_private_bytes(b"1" * 32).exchange(X25519PublicKey.from_public_bytes(bytes(32)))


@pytest.mark.parametrize("case", cases("AES-256-CTR"))
def test_aes_ctr(case: dict[str, str]) -> None:
    given = raw(case)
    stream = Cipher(algorithms.AES(given["key"]), modes.CTR(given["iv"])).encryptor()
    assert stream.update(given["plaintext"]) == given["ciphertext"]


def test_a_mask_is_the_keystream_from_counter_zero_in_little_endian() -> None:
    key = bytes(range(32))
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(64))
    for dtype in ("<u2", "<u4", "<u8"):
        vector = np.zeros(64 // np.dtype(dtype).itemsize, dtype=dtype)
        masks.add(vector, key, 1)
        assert vector.tobytes() == stream


@pytest.mark.parametrize("case", cases("AES-256-GCM"))
def test_aes_gcm(case: dict[str, str]) -> None:
    given = raw(case)
    sealed = AESGCM(given["key"]).encrypt(given["iv"], given["pt"], given["aad"])
    assert sealed == given["ct"] + given["tag"]
    with pytest.raises(InvalidTag):
        AESGCM(given["key"]).decrypt(given["iv"], sealed, given["aad"] + b"x")


@pytest.mark.parametrize("case", cases("ML-KEM-768"))
def test_ml_kem(case: dict[str, str]) -> None:
    given = raw(case)
    key = MLKEM768PrivateKey.from_seed_bytes(given["seed"])
    assert key.public_key().public_bytes_raw() == given["pk"]
    assert key.decapsulate(given["ct"]) == given["ss"]


@pytest.mark.parametrize("case", cases("Ed25519"))
def test_ed25519(case: dict[str, str]) -> None:
    given = raw(case)
    key = Ed25519PrivateKey.from_private_bytes(given["secret"])
    assert key.public_key().public_bytes_raw() == given["public"]
    assert key.sign(given["message"]) == given["signature"]
    with pytest.raises(InvalidSignature):
        key.public_key().verify(given["signature"], given["message"] + b"x")
