"""The floor of a round: four processes over bare TCP with TLS move and add the same bytes, and nothing else happens.

With `durable`, each end also hashes (SHA-256), writes and fsyncs what it sends or receives, once.
"""

import hashlib
import multiprocessing
import os
import socket
import ssl
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from consilium.wire.tls import make_authority

BLOCK = 1 << 20


class _Kept:
    """A file that is hashed on the way to the disk; does nothing when `folder` is None."""

    def __init__(self, folder: Path | None, name: str) -> None:
        self._file = (folder / name).open("wb", buffering=0) if folder else None
        self._hash = hashlib.sha256()

    def add(self, data: memoryview) -> None:
        """More bytes."""
        if self._file is not None:
            self._file.write(data)
            self._hash.update(data)

    def end(self) -> None:
        """Make it durable."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._hash.hexdigest()


def _receive(line: ssl.SSLSocket, block: memoryview) -> None:
    at = 0
    while at < len(block):
        got = line.recv_into(block[at:])
        if not got:
            raise EOFError
        at += got


def _blocks(data: memoryview) -> list[memoryview]:
    return [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]


def _site(port: int, ca: Path, size: int, number: int, folder: Path | None) -> None:
    context = ssl.create_default_context(cafile=str(ca))
    model = np.empty(size, np.float32)
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1") as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            kept = _Kept(folder, f"model-{number}")
            try:
                for block in _blocks(memoryview(model).cast("B")):
                    _receive(line, block)
                    kept.add(block)
            except EOFError:
                return
            kept.end()
            model += np.float32(number)
            kept = _Kept(folder, f"update-{number}")
            for block in _blocks(memoryview(model).cast("B")):
                kept.add(block)
            kept.end()
            for block in _blocks(memoryview(model).cast("B")):
                line.sendall(block)


class Floor:
    """One aggregating process with four others."""

    def __init__(self, folder: Path, size: int, sites: int = 4, *, durable: bool) -> None:
        folder.mkdir(parents=True)
        self._folder = folder if durable else None
        make_authority(folder, ["127.0.0.1"], datetime.now(UTC))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        listener = socket.create_server(("127.0.0.1", 0))
        start = multiprocessing.get_context("spawn").Process
        self._sites = [
            start(
                target=_site,
                args=(listener.getsockname()[1], folder / "ca.pem", size, number, self._folder),
                daemon=True,
            )
            for number in range(1, sites + 1)
        ]
        for site in self._sites:
            site.start()
        self._lines = [context.wrap_socket(listener.accept()[0], server_side=True) for _ in self._sites]
        for line in self._lines:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.close()
        self.model = np.zeros(size, np.float32)
        self._sum = np.empty(size, np.float32)
        self._adding = threading.Lock()

    def round(self) -> float:
        """Seconds of one round."""
        began = time.perf_counter()
        self._sum[:] = 0
        threads = [threading.Thread(target=self._serve, args=(i, line)) for i, line in enumerate(self._lines)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._sum /= len(self._lines)
        self.model, self._sum = self._sum, self.model
        kept = _Kept(self._folder, "sum")
        for block in _blocks(memoryview(self.model).cast("B")):
            kept.add(block)
        kept.end()
        return time.perf_counter() - began

    def _serve(self, number: int, line: ssl.SSLSocket) -> None:
        for block in _blocks(memoryview(self.model).cast("B")):
            line.sendall(block)
        kept = _Kept(self._folder, f"received-{number}")
        piece = bytearray(BLOCK)
        for target in _blocks(memoryview(self._sum).cast("B")):
            block = memoryview(piece)[: len(target)]
            _receive(line, block)
            kept.add(block)
            with self._adding:
                added = np.frombuffer(target, np.float32)
                np.add(added, np.frombuffer(block, np.float32), out=np.frombuffer(target, np.float32))
        kept.end()

    def close(self) -> None:
        """End the processes."""
        with ExitStack() as stack:
            for line in self._lines:
                stack.callback(line.close)
        for site in self._sites:
            site.join(10)
            site.kill()


def measure(folder: Path, size: int, rounds: int, *, durable: bool) -> list[float]:
    """Seconds of each of `rounds` rounds, after one that warms up; the mean is checked."""
    floor = Floor(folder, size, durable=durable)
    try:
        floor.round()
        found = [floor.round() for _ in range(rounds)]
    finally:
        floor.close()
    assert np.allclose(floor.model, 2.5 * (rounds + 1)), "the floor computed another mean"
    return found
