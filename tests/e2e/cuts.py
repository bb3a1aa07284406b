"""A line between a site and its coordinator that can be cut: reset, silently dropping, forgetful, throttled, slow.

`reset`   every connection ends with RST, and new ones are refused, until the line is mended.
`drop`    nothing moves and nobody hears of it; new connections are taken by the kernel and nobody answers. When the
          line is mended everything goes on, as lost packets that are sent again.
`forget`  as `drop`, but what was open before moves nothing ever again: a firewall that lost its table.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

from e2e.processes import PATIENCE_S, free_port

PIECE = 1 << 16
BUFFER = 1 << 18
LINGER = struct.pack("ii", 1, 0)
GLANCE = struct.pack("ll", 0, 50_000)  # a thread that waits in recv() keeps a closed connection open
KINDS = ("reset", "drop", "forget")


class _Pair:
    """One connection through the line."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.ends = (near, far)
        self.forgotten = False

    def close(self, *, reset: bool = False) -> None:
        for end in self.ends:
            with contextlib.suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
                else:
                    end.shutdown(socket.SHUT_RDWR)
                end.close()


class Line:
    """Listens on `port` of 127.0.0.1 and passes on to `target`; `up` and `down` count the bytes that crossed.

    Args:    rate: bytes per second in each direction and connection, or None.   delay_s: added to every piece.
    """

    def __init__(self, target: int, rate: float | None = None, delay_s: float = 0.0) -> None:
        self.target, self.rate, self.delay_s = target, rate, delay_s
        self.port = free_port()
        self.up = self.down = 0
        self._pairs: set[_Pair] = set()
        self._changed = threading.Condition()
        self._open, self._closed = threading.Event(), False
        self._kind = ""
        self._open.set()
        self._listener = self._listen()

    def cut(self, kind: str) -> None:
        """Cut the line; see above for the kinds."""
        assert kind in KINDS
        self._kind = kind
        self._open.clear()
        with self._changed:
            pairs = list(self._pairs)
        if kind == "reset":
            self._unlisten()
            for pair in pairs:
                pair.close(reset=True)
            self._open.set()  # nothing is left that could move
        if kind == "forget":
            for pair in pairs:
                pair.forgotten = True

    def mend(self) -> None:
        """Mend the line."""
        if self._kind == "reset":
            self._listener = self._listen()
        self._open.set()

    def crossed(self, direction: str, more: int, seconds: float = PATIENCE_S) -> None:
        """Wait until `more` further bytes have crossed `up` or `down`. Raises: TimeoutError."""
        wanted = getattr(self, direction) + more
        with self._changed:
            if not self._changed.wait_for(lambda: getattr(self, direction) >= wanted, seconds):
                raise TimeoutError(f"{getattr(self, direction)} bytes went {direction}, not {wanted}")

    def close(self) -> None:
        """End everything."""
        self._closed = True
        self._unlisten()
        self._open.set()
        for pair in list(self._pairs):
            pair.close()

    def _listen(self) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _unlisten(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while not self._closed:
            self._open.wait()
            try:
                near, _ = listener.accept()
            except OSError:
                return
            self._open.wait()
            try:
                far = socket.create_connection(("127.0.0.1", self.target), 5.0)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, GLANCE)
            pair = _Pair(near, far)
            with self._changed:
                self._pairs.add(pair)
            for ends in ((near, far, "up"), (far, near, "down")):
                threading.Thread(target=self._pump, args=(pair, *ends), daemon=True).start()

    def _pump(self, pair: _Pair, source: socket.socket, sink: socket.socket, direction: str) -> None:
        try:
            while data := self._read(pair, source):
                sink.sendall(data)
                with self._changed:
                    setattr(self, direction, getattr(self, direction) + len(data))
                    self._changed.notify_all()
                time.sleep(self.delay_s + (len(data) / self.rate if self.rate else 0.0))  # a slow line is slow
        except OSError:
            pass
        if not pair.forgotten:
            pair.close()
            with self._changed:
                self._pairs.discard(pair)

    def _read(self, pair: _Pair, source: socket.socket) -> bytes:
        while True:
            self._open.wait()
            if pair.forgotten:
                return b""
            try:
                data = source.recv(PIECE)
            except BlockingIOError:
                continue
            self._open.wait()
            return b"" if pair.forgotten else data


@contextlib.contextmanager
def line(target: int, rate: float | None = None, delay_s: float = 0.0) -> Iterator[Line]:
    """A line for one test."""
    made = Line(target, rate, delay_s)
    try:
        yield made
    finally:
        made.close()
