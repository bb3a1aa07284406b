"""Hostile uploads, ranges and envelopes: refused with a status of 4xx and a Problem, and nothing is kept of them."""

import os
import socket
from urllib.parse import urlsplit

import pytest

from consilium.core.ids import digest
from consilium.wire.connection import trust
from consilium.wire.messages import Answer, Blob
from e2e.processes import until
from e2e.victim import Victim


def send(victim: Victim, name: str, data: bytes, offset: object, length: object) -> tuple[int, str, int]:
    """One PATCH that must be refused: status, code, and where the upload stands afterwards."""
    headers = {"Upload_Offset": str(offset), "Upload_Length": str(length)}
    status, problem = victim.ask("PATCH", f"/v1/blobs/{name}", data, by=victim.site, **headers)
    return status, problem.code, standing(victim, name)


def standing(victim: Victim, name: str) -> int:
    told = victim.site.connection.request("HEAD", f"/v1/blobs/{name}", passing=(404, 422))
    return int(told.headers.get("Upload-Offset", "0"))


def begin(victim: Victim, name: str, data: bytes, length: int) -> None:
    headers = {"Upload-Offset": "0", "Upload-Length": str(length)}
    victim.site.connection.request("PATCH", f"/v1/blobs/{name}", data, headers)


def test_bytes_that_are_not_what_their_name_says_are_dropped(victim: Victim) -> None:
    data = os.urandom(999) + b"y"
    name = digest(data)
    assert send(victim, name, data[:-1] + b"x", 0, 1000) == (422, "digest-mismatch", 0)
    assert victim.ask("GET", f"/v1/blobs/{name}", by=victim.site)[0] == 404
    assert victim.site.send_blob(data) == name
    assert victim.site.connection.request("GET", f"/v1/blobs/{name}").data == data


def test_an_upload_goes_on_where_it_stands_and_nowhere_else(victim: Victim) -> None:
    data = os.urandom(1000)
    name = digest(data)
    begin(victim, name, data[:400], 1000)
    for offset in (0, 399, 401, 1000):
        assert send(victim, name, data[offset:], offset, 1000) == (409, "conflict", 400)
    assert send(victim, name, data[400:], 400, 1001) == (409, "conflict", 400), "another length than before"
    assert send(victim, name, data[400:] + b"x", 400, 1000)[:2] == (413, "too-large")
    assert standing(victim, name) == 400
    headers = {"Upload-Offset": "400", "Upload-Length": "1000"}
    victim.site.connection.request("PATCH", f"/v1/blobs/{name}", data[400:], headers)
    assert victim.site.connection.request("GET", f"/v1/blobs/{name}").data == data


@pytest.mark.parametrize(
    ("offset", "length"),
    [(-1, 10), (0, -1), (11, 10), ("x", 10), (0, ""), ("0x0", 10), ("1e1", 10), (0, 10.5), ("9" * 5000, "9" * 5000)],
)
def test_offsets_that_are_no_place_in_the_blob_are_refused(victim: Victim, offset: object, length: object) -> None:
    assert send(victim, digest(b"0123456789"), b"0123456789", offset, length) == (422, "invalid", 0)


def test_a_blob_larger_than_any_is_refused_before_its_bytes_are_read(victim: Victim) -> None:
    assert send(victim, digest(b"large"), b"x", 0, 1 << 50) == (413, "too-large", 0)


def test_an_upload_without_its_headers_is_refused(victim: Victim) -> None:
    assert victim.ask("PATCH", f"/v1/blobs/{digest(b'x')}", b"x", by=victim.site)[0] == 422


@pytest.mark.parametrize("name", ["sha256:" + "A" * 64, "sha256:" + "a" * 63, "md5:" + "a" * 32, "a" * 64, "sha256:"])
def test_a_name_that_is_no_digest_is_refused(victim: Victim, name: str) -> None:
    assert send(victim, name, b"x", 0, 1)[:2] == (422, "invalid")
    assert victim.ask("GET", f"/v1/blobs/{name}", by=victim.site)[0] == 422


def test_the_empty_blob_is_a_blob(victim: Victim) -> None:
    name = victim.site.send_blob(b"")
    assert victim.site.connection.request("GET", f"/v1/blobs/{name}").data == b""
    assert victim.ask("GET", f"/v1/blobs/{name}", by=victim.site, Range="bytes=0-")[0] == 416


def test_a_sender_who_vanishes_leaves_an_upload_that_goes_on(victim: Victim) -> None:
    data = os.urandom(3 << 20)
    name = digest(data)
    address = urlsplit(victim.coordinator.url)
    context = trust(victim.coordinator.ca)
    with (
        socket.create_connection((address.hostname, address.port)) as plain,
        context.wrap_socket(plain, server_hostname=address.hostname) as line,
    ):
        head = (
            f"PATCH /v1/blobs/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {victim.tokens['north']}\r\n"
            f"Upload-Offset: 0\r\nUpload-Length: {len(data)}\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        line.sendall(head.encode() + data[: 2 << 20])
        until(lambda: standing(victim, name) >= 1 << 20, "the first bytes are kept")
    at = 0

    def goes_on() -> bool:
        nonlocal at
        at = standing(victim, name)
        headers = {"Upload-Offset": str(at), "Upload-Length": str(len(data))}
        told = victim.site.connection.request("PATCH", f"/v1/blobs/{name}", data[at:], headers, passing=(409,))
        return told.status == 204

    until(goes_on, "the upload is free again")
    assert at >= 1 << 20, "what had come was kept"
    assert victim.site.connection.request("GET", f"/v1/blobs/{name}").data == data


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=10-",
        "bytes=99-100",
        "bytes=5-4",
        "bytes=-0",
        "bytes=a-b",
        "bytes=",
        "lines=0-1",
        "bytes=0-1,3-4",
        "x",
        "bytes=" + "9" * 5000 + "-",
        "bytes=" + ",".join(["0-"] * 1000),
    ],
)
def test_a_range_outside_the_blob_is_refused(victim: Victim, asked: str) -> None:
    name = victim.site.send_blob(b"0123456789")
    assert victim.ask("GET", f"/v1/blobs/{name}", by=victim.site, Range=asked)[0] == 416


@pytest.mark.parametrize(
    ("asked", "given"),
    [("bytes=0-", b"0123456789"), ("bytes=7-", b"789"), ("bytes=2-4", b"234"), ("bytes=8-99", b"89")],
)
def test_a_range_inside_the_blob_is_given(victim: Victim, asked: str, given: bytes) -> None:
    name = victim.site.send_blob(b"0123456789")
    told = victim.site.connection.request("GET", f"/v1/blobs/{name}", None, {"Range": asked})
    assert (told.status, told.data) == (206, given)


def answer(victim: Victim, data: bytes, named: str, size: int, between: bytes = b"\n") -> tuple[int, str]:
    """An answer of the site with its contribution, to a run that is not there: status and code."""
    some = digest(b"")
    told = Answer(
        study="heart", run="heart-1", plan=victim.plan.digest, round=1, kind="TRAIN", phase="SUBMIT", state=some,
        contribution=Blob(digest=named, size=size), recipe="plain",
    )  # fmt: skip
    body = victim.site.seal(told) + between + data
    status, problem = victim.ask("POST", "/v1/answers", body, by=victim.site)
    return status, problem.code


def test_an_answer_with_other_bytes_than_it_names_is_refused_and_nothing_is_kept_of_it(victim: Victim) -> None:
    data = os.urandom(999) + b"y"
    name = digest(data)
    for sent, size in ((data[:-1] + b"x", 1000), (data[:-1], 1000), (data + b"x", 1000), (data, 999), (b"", 1000)):
        assert answer(victim, sent, name, size) == (422, "digest-mismatch")
    assert answer(victim, data, name, 1000, b"")[0] == 422, "no line ends the envelope"
    assert answer(victim, data, name, 1000) == (404, "not-found"), "all is as it should be, but there is no such run"
    assert victim.ask("GET", f"/v1/blobs/{name}", by=victim.site)[0] == 404
    assert standing(victim, name) == 0


def test_an_answer_that_another_signed_is_refused_with_its_contribution(victim: Victim) -> None:
    data = os.urandom(1000)
    stranger = victim.coordinator.join("west")
    told = Answer(
        study="heart", run="heart-1", plan=victim.plan.digest, round=1, kind="TRAIN", phase="SUBMIT", state=digest(b""),
        contribution=Blob(digest=digest(data), size=1000), recipe="plain",
    )  # fmt: skip
    body = stranger.seal(told) + b"\n" + data
    assert victim.ask("POST", "/v1/answers", body, by=victim.site)[1].code == "envelope-invalid"
    assert victim.ask("GET", f"/v1/blobs/{digest(data)}", by=victim.site)[0] == 404
