"""A small blob is fetched into memory: as much of it as a message may hold, whatever the other end sends."""

import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from consilium.core.errors import DigestMismatch, TooLarge
from consilium.core.ids import Digest, digest
from consilium.wire.connection import Connection
from consilium.wire.messages import HEADER, MAX_MESSAGE, PROTOCOL
from consilium.wire.tls import make_authority
from consilium.wire.transfer import download, fetch

LIMIT, PIECE = 64 << 20, bytes(1 << 20)


class Gushing(HTTPServer):
    """Sends zeros under any name, without saying how many, until nobody takes them or `LIMIT` is reached."""

    sent = 0
    size = LIMIT
    ca: Path


class Answer(BaseHTTPRequestHandler):
    server: Gushing

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header(HEADER, str(PROTOCOL))
        self.end_headers()
        try:
            while self.server.sent < self.server.size:
                self.server.sent += self.wfile.write(PIECE[: self.server.size - self.server.sent])
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def gushing(tmp_path: Path) -> Iterator[Gushing]:
    make_authority(tmp_path, ["127.0.0.1"], datetime.now(UTC))
    server = Gushing(("127.0.0.1", 0), Answer)
    server.ca = tmp_path / "ca.pem"
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    server.socket = shown.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def got(server: Gushing, name: Digest) -> bytes:
    return fetch(Connection(f"https://127.0.0.1:{server.server_port}", server.ca), name)


def test_what_does_not_end_is_not_taken_whole(gushing: Gushing) -> None:
    with pytest.raises(TooLarge):
        got(gushing, digest(b""))


@pytest.mark.parametrize("size", [0, 1, MAX_MESSAGE])
def test_what_is_small_is_taken_and_checked(gushing: Gushing, size: int) -> None:
    gushing.size = size
    assert got(gushing, digest(bytes(size))) == bytes(size)
    gushing.sent = 0
    with pytest.raises(DigestMismatch):
        got(gushing, digest(b"another"))


@pytest.mark.parametrize("most", [0, MAX_MESSAGE, LIMIT - 1])
def test_a_download_ends_with_the_bytes_that_were_announced_and_leaves_nothing(
    gushing: Gushing, tmp_path: Path, most: int
) -> None:
    connection = Connection(f"https://127.0.0.1:{gushing.server_port}", gushing.ca)
    (tmp_path / "in").mkdir()
    with pytest.raises(TooLarge):
        download(connection, digest(b"promised"), tmp_path / "in" / "state", threading.Event(), most=most)
    assert not list((tmp_path / "in").iterdir())


def test_a_download_of_just_the_bytes_that_were_announced_arrives(gushing: Gushing, tmp_path: Path) -> None:
    gushing.size = MAX_MESSAGE
    connection = Connection(f"https://127.0.0.1:{gushing.server_port}", gushing.ca)
    path = tmp_path / "state"
    download(connection, digest(bytes(MAX_MESSAGE)), path, threading.Event(), most=MAX_MESSAGE)
    assert path.stat().st_size == MAX_MESSAGE
