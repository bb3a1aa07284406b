"""A whole round, byte for byte: the package, an independent implementation, and the transcript on file agree.

After a wanted change of the protocol: `python tests/vectors/test_secagg_transcript.py` writes the transcripts
anew, by the independent implementation.
"""

import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from consilium.core.ids import digest
from consilium.privacy import opening, secagg
from consilium.privacy.inline import expected
from consilium.privacy.secagg import Masked, Open, Segment
from vectors.slow_secagg import SlowSite

HERE = Path(__file__).parent
SITES = ("amber", "birch", "cedar", "delta", "é-llig")
LOST = {"secagg": "delta", "whole": ""}
"""By transcript: who leaves after READY. Where nobody does, the sum is opened without CONFIRM."""
SEGMENTS = (("small", 5, 16), ("update", 9, 32), ("weight", 2, 64))
Json = dict[str, Any]


def bytes_of(*words: object) -> bytes:
    """Fixed bytes of a name: this test has no chance in it."""
    return sha256(repr(words).encode()).digest()


def keys_of(site: str) -> dict[str, bytes]:
    return {other: bytes_of("pair", *sorted((site, other))) for other in SITES if other != site}


def values_of(site: str) -> dict[str, list[int]]:
    return {
        name: [int.from_bytes(bytes_of(site, name, at)[: bits // 8], "big") for at in range(length)]
        for name, length, bits in SEGMENTS
    }


def asked() -> Open:
    return Open(
        study="study", run="study-1", plan=digest(b"plan"), roster=bytes_of("roster"), opening=3, round=7, attempt=2,
        kind="TRAIN", cohort=SITES, state=digest(b"state"),
        segments=tuple(Segment(name=name, length=length, bits=bits) for name, length, bits in SEGMENTS),
    )  # fmt: skip


def blob(vectors: dict[str, np.ndarray[Any, Any]]) -> str:
    return digest(b"".join(vectors[name].tobytes() for name in sorted(vectors)))


def fast(lost: str) -> Json:
    """The transcript, by the package."""
    request = asked()
    seats, readies, masked, vectors = {}, {}, {}, {}
    for site in SITES:
        seats[site], readies[site] = secagg.ready(
            site, keys_of(site), bytes_of("coins", site), request, expected(request)
        )
    stay = [site for site in SITES if site != lost]
    for site in stay:
        seats[site], boxes = secagg.mask(seats[site], readies.values())
        vectors[site] = {name: np.array(values_of(site)[name], dtype=f"<u{bits // 8}") for name, _, bits in SEGMENTS}
        secagg.cover(seats[site], vectors[site])
        masked[site] = secagg.masked(seats[site], blob(vectors[site]), boxes)  # type: ignore[arg-type]
    confirms = {}
    for site in stay if lost else ():
        seats[site], confirms[site] = secagg.confirm(seats[site], masked, masked[site])
    if lost:
        told = {site: secagg.unmask(seats[site], masked, confirms.values())[1] for site in stay}
    else:
        told = {site: secagg.whole(seats[site], masked, masked[site])[1] for site in stay}
    keys = opening.recover(request, readies.values(), masked, told.values())
    total = {name: sum(vectors[site][name] for site in stay) for name, _, _ in SEGMENTS}
    opening.uncover(total, keys)
    return {
        "open": json.loads(request.encode()),
        "ready": {site: json.loads(one.encode()) for site, one in readies.items()},
        "vectors": {site: {name: found.tolist() for name, found in parts.items()} for site, parts in vectors.items()},
        "masked": {site: json.loads(one.encode()) for site, one in masked.items()},
        "confirm": {site: json.loads(one.encode()) for site, one in confirms.items()},
        "unmask": {site: json.loads(one.encode()) for site, one in told.items()},
        "sum": {name: found.tolist() for name, found in total.items()},
    }


def slow(lost: str) -> Json:
    """The transcript, by the implementation that shares no line with the package."""
    request = json.loads(asked().encode())
    sites = {site: SlowSite(site, keys_of(site), bytes_of("coins", site), request) for site in SITES}
    readies = {site: one.ready() for site, one in sites.items()}
    stay = {site: one for site, one in sites.items() if site != lost}
    vectors, masked = {}, {}
    for site, one in stay.items():
        one.call(list(readies.values()))
        vectors[site] = one.masked(values_of(site))
        raw = b"".join(
            b"".join(v.to_bytes(bits // 8, "little") for v in vectors[site][name]) for name, _, bits in sorted(SEGMENTS)
        )
        masked[site] = one.message("sha256:" + sha256(raw).hexdigest())
    return {
        "open": request, "ready": readies, "vectors": vectors, "masked": masked,
        "confirm": {site: one.confirm(masked) for site, one in stay.items() if lost},
        "unmask": {site: one.unmask(masked) for site, one in stay.items()},
        "sum": {
            name: [sum(values_of(site)[name][at] for site in stay) % 2**bits for at in range(length)]
            for name, length, bits in SEGMENTS
        },
    }  # fmt: skip


def on_file(name: str) -> Json:
    found: Json = json.loads((HERE / f"{name}_transcript.json").read_text())
    return found


@pytest.mark.parametrize("name", LOST)
def test_the_package_gives_the_transcript_on_file(name: str) -> None:
    assert fast(LOST[name]) == on_file(name)


@pytest.mark.parametrize("name", LOST)
def test_an_independent_implementation_gives_the_same_bytes(name: str) -> None:
    assert slow(LOST[name]) == on_file(name)


def test_messages_on_file_are_read_and_written_to_the_same_bytes() -> None:
    for message in on_file("secagg")["masked"].values():
        text = json.dumps(message, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert Masked.model_validate_json(text).encode() == text


if __name__ == "__main__":
    for name, lost in LOST.items():
        told = json.dumps(slow(lost), indent=1, ensure_ascii=False)
        (HERE / f"{name}_transcript.json").write_text(told + "\n")
