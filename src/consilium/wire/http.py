"""HTTP/1.1 (RFC 9112) on a line that stands already: a request goes out in one piece, and one answer is read strictly.

What could be read in two ways is no answer: folded or unnamed headers, two lengths, a length beside chunks, bytes that
nobody asked for. A party in between could otherwise make us take one answer for another. Whatever comes, it ends in a
`Response` or in an OSError, within limits of bytes and, while no byte comes, of time.
"""

import re
import select
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

HEAD_BYTES, FIELDS = 32 << 10, 100
"""The most that status line and headers of an answer may hold, in bytes and in headers."""
IN_MEMORY = 64 << 20
"""Bytes of an answer that is read into memory at once."""
TOGETHER = 1 << 20
"""A body of at most so many bytes leaves together with its headers: the other side wakes once for it."""
PIECE = 1 << 20
"""Bytes of a larger body that are read and sent at once."""
BLOCK = 64 << 10
INTERIM = 8
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_LENGTH = re.compile("[0-9]{1,15}")
_SAYABLE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_ALONE = ("content-length", "transfer-encoding", "content-encoding")


class Broken(OSError):
    """What came is not an answer that can be read in one way; or a request cannot be said in one."""


class Socket(Protocol):
    """What is asked of a socket, or of TLS within TLS."""

    def sendall(self, data: bytes | memoryview, /) -> None:
        """Send all of it."""

    def recv(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Fill a part of the buffer; 0 at the end."""

    def settimeout(self, seconds: float, /) -> None:
        """How long each of these may take."""

    def fileno(self) -> int:
        """Its number."""

    def close(self) -> None:
        """Close it."""


class Headers(Mapping[str, str]):
    """Headers by name, in whatever case."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


class Line:
    """One connection, on which requests follow each other."""

    def __init__(self, socket: Socket) -> None:
        self._socket, self._came, self._limit_s = socket, bytearray(), 0.0

    def stands(self) -> bool:
        """Whether the other side has neither closed it nor said anything since its last answer."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not self._came and not poll.poll(0)

    def send(self, head: bytes, body: "bytes | Body | None") -> bool:
        """Send a request. Whether all of it left: who answers early may close before it has heard us out."""
        try:
            if isinstance(body, bytes) and len(body) <= TOGETHER:
                self._socket.sendall(head + body)
                return True
            self._socket.sendall(head)
            if isinstance(body, bytes):
                self._socket.sendall(memoryview(body))
            elif body is not None:
                while piece := body.read(PIECE):
                    self._socket.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def limit(self, seconds: float) -> None:
        """How long the other side may be silent from now on."""
        if seconds != self._limit_s:
            self._socket.settimeout(seconds)
            self._limit_s = seconds

    def until(self, end: bytes, most: int, limit_s: float) -> bytes:
        """What comes before `end`, which is taken, too: at most `most` bytes, all of them within `limit_s`."""
        begun, seen = time.monotonic(), 0
        while (at := self._came.find(end, seen)) < 0:
            if len(self._came) > most:
                raise Broken("it says more than an answer may hold before its body")
            seen = max(len(self._came) - len(end) + 1, 0)
            left = limit_s - (time.monotonic() - begun)
            if left <= 0:
                raise TimeoutError("The read operation timed out")
            self.limit(left if self._came else limit_s)
            piece = self._socket.recv(BLOCK)
            if not piece:
                raise ConnectionResetError("the line was closed before the answer was whole")
            self._came += piece
        if at > most:
            raise Broken("it says more than an answer may hold before its body")
        found = bytes(self._came[:at])
        del self._came[: at + len(end)]
        return found

    def exactly(self, size: int) -> bytearray:
        """The next `size` bytes."""
        found = bytearray(size)
        with memoryview(found) as view:
            have = min(size, len(self._came))
            view[:have] = self._came[:have]
            del self._came[:have]
            while have < size:
                got = self._socket.recv_into(view[have:])
                if not got:
                    raise ConnectionResetError("the line was closed before the answer was whole")
                have += got
        return found

    def some(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        if self._came:
            found = bytes(self._came[:size])
            del self._came[:size]
            return found
        return self._socket.recv(min(size, BLOCK))

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class Body(Protocol):
    """A body that is read while it is sent; its length stands in the headers."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""


class Response:
    """An answer. Its body is read while it comes; with the last byte the line is free for the next request.

    Args:    done: takes the line back.   reusable: whether anything may follow on it.
    """

    def __init__(
        self, line: Line, status: int, headers: Headers, *, empty: bool, reusable: bool, limit_s: float,
        done: Callable[[Line], None],
    ) -> None:  # fmt: skip
        self.status, self.headers = status, headers
        self._line: Line | None = line
        self._limit_s, self._done, self._reusable, self._data = limit_s, done, reusable, b""
        self._chunked = not empty and "transfer-encoding" in headers
        length = headers.get("content-length")
        self._left: int | None = 0 if empty or self._chunked else (int(length) if length is not None else None)
        self._begun = False
        self._settle()

    @property
    def data(self) -> bytes:
        """The whole body, for those that fit into memory. Raises: Broken: larger than IN_MEMORY.   OSError: cut."""
        if self._line is not None:
            data = self.read(IN_MEMORY + 1)
            if len(data) > IN_MEMORY:
                self.close()
                raise Broken(f"it holds more than {IN_MEMORY >> 20} MiB")
            self._data = bytes(data)
        return self._data

    def read(self, most: int) -> bytes | bytearray:
        """The next `most` bytes, or fewer at the end. Raises: OSError: cut, or no body that can be read."""
        parts: list[bytes | bytearray] = []
        try:
            while most > 0 and self._more():
                assert self._line is not None
                part = self._line.some(most) if self._left is None else self._line.exactly(min(most, self._left))
                if self._left is not None:
                    self._left -= len(part)
                elif not part:
                    self._left = 0
                most -= len(part)
                parts.append(part)
            self._settle()
        except BaseException:
            self.close()
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _more(self) -> bool:
        """Whether there is more of the body, in this chunk or in the next."""
        if self._line is None:
            return False
        self._line.limit(self._limit_s)
        if self._left != 0:
            return True
        if not self._chunked:
            return False
        if self._begun and self._line.exactly(2) != b"\r\n":
            raise Broken("a chunk of it does not end where it should")
        self._begun = True
        told = _CHUNK.fullmatch(self._line.until(b"\r\n", HEAD_BYTES, self._limit_s))
        if told is None:
            raise Broken("a chunk of it has no length")
        self._left = int(told[1], 16)
        if self._left == 0:
            self._chunked = False
            _trailers(self._line, self._limit_s)
        return self._left > 0

    def _settle(self) -> None:
        if self._line is not None and self._left == 0 and not self._chunked:
            line, self._line = self._line, None
            if self._reusable:
                self._done(line)
            else:
                line.close()

    def close(self) -> None:
        """Give up what has not come yet."""
        line, self._line = self._line, None
        if line is not None:
            line.close()


def request(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Request line and headers. Raises: Broken: one of them cannot be said."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    if not all(map(_SAYABLE.fullmatch, lines)):
        raise Broken("the request holds what a header cannot")
    return "\r\n".join(lines).encode("latin-1")


def answer(line: Line, method: str, limit_s: float, done: Callable[[Line], None], *, whole: bool) -> Response:
    """Read an answer up to its body.

    Args:    limit_s: for all of the head; then for each silence in the body.   whole: whether the request left whole.
    Raises:  Broken: it is none.   OSError: none came, or not in time.
    """
    for _ in range(INTERIM):
        version, status, headers = _head(line.until(b"\r\n\r\n", HEAD_BYTES, limit_s))
        if status >= 200:
            break
    else:
        raise Broken("it does not come to the point")
    empty = method == "HEAD" or status in (204, 304)
    closing = version == 0 or "close" in headers.get("connection", "").lower()
    endless = not empty and "transfer-encoding" not in headers and "content-length" not in headers
    reusable = whole and not closing and not endless
    return Response(line, status, Headers(headers), empty=empty, reusable=reusable, limit_s=limit_s, done=done)


def _head(data: bytes) -> tuple[int, int, dict[str, str]]:
    """Minor version, status and headers. Raises: Broken."""
    first, *rest = data.split(b"\r\n")
    told = _STATUS.fullmatch(first)
    if told is None:
        raise Broken("it is not HTTP/1.1")
    headers = _fields(rest)
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if length is not None and (coding is not None or _LENGTH.fullmatch(length) is None):
        raise Broken("its length can be read in two ways")
    if coding is not None and (coding.lower() != "chunked" or told[1] == b"0"):
        raise Broken("its transfer coding is unknown")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Broken("it is encoded in a way that was not asked for")
    status = int(told[2])
    if status == 101:
        raise Broken("it speaks another protocol from here on")
    return int(told[1]), status, headers


def _fields(lines: list[bytes]) -> dict[str, str]:
    if len(lines) > FIELDS:
        raise Broken(f"it has more than {FIELDS} headers")
    found: dict[str, str] = {}
    for line in lines:
        told = _FIELD.fullmatch(line)
        if told is None:
            raise Broken("one of its headers is none")
        name, value = told[1].decode("ascii").lower(), told[2].decode("latin-1")
        if name in found:
            if name in _ALONE:
                raise Broken(f"it has two headers {name}")
            value = f"{found[name]}, {value}"
        found[name] = value
    return found


def _trailers(line: Line, limit_s: float) -> None:
    """What follows the last chunk: read, and of no interest."""
    lines: list[bytes] = []
    while told := line.until(b"\r\n", HEAD_BYTES, limit_s):
        lines.append(told)
        _fields(lines)
