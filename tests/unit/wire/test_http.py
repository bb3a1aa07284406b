"""What is read of an answer: the same wherever its bytes are cut; all else ends in an error, and nothing hangs."""

import http.client as reference
import io
import itertools
import socket
import ssl
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.core.errors import ConsiliumError, Unavailable
from consilium.wire import http
from consilium.wire.connection import Connection
from consilium.wire.http import FIELDS, HEAD_BYTES, Broken, Line, Response
from consilium.wire.lines import Lines
from consilium.wire.messages import HEADER

OK = b"HTTP/1.1 200 OK\r\n"
NAMES = st.text("abcXYZ-09!_", min_size=1, max_size=12).filter(lambda name: name.lower() not in _FRAMING)
_FRAMING = ("content-length", "transfer-encoding", "content-encoding", "connection")
SPACES = st.sampled_from(["", " ", " \t"])
VALUES = st.text([chr(c) for c in (*range(0x20, 0x7F), *range(0xA0, 0x100))], max_size=20).map(str.strip)


class Script:
    """A socket that gives these pieces, one at a time, and then ends; it keeps what it is sent."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self.sent, self.closed = [bytearray(piece) for piece in pieces if piece], b"", False

    def sendall(self, data: bytes | memoryview) -> None:
        self.sent += bytes(data)

    def recv(self, size: int) -> bytes:
        assert size > 0
        if not self._pieces:
            return b""
        found = bytes(self._pieces[0][:size])
        del self._pieces[0][:size]
        if not self._pieces[0]:
            self._pieces.pop(0)
        return found

    def recv_into(self, buffer: memoryview) -> int:
        found = self.recv(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def fileno(self) -> int:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True


def cut(data: bytes, places: Iterable[int]) -> Iterator[bytes]:
    """The bytes in pieces, cut at these places."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return (data[start:end] for start, end in itertools.pairwise(ends))


def read(pieces: Iterable[bytes], method: str = "GET") -> tuple[Response, bytes, list[Line]]:
    """An answer with its whole body, and the lines that were given back."""
    free: list[Line] = []
    response = http.answer(Line(Script(pieces)), method, 5.0, free.append, whole=True)
    return response, response.data, free


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, bytes, str]:
    """An answer, its body, and how its body ends."""
    body, how = draw(st.binary(max_size=60)), draw(st.sampled_from(["length", "chunked", "closed"]))
    fields = draw(st.lists(st.tuples(NAMES, VALUES), max_size=5))
    head = [f"HTTP/1.1 {draw(st.sampled_from([200, 206, 404, 500]))} Whatever it is"]
    head += [f"{name}:{draw(SPACES)}{value}" for name, value in fields]
    told = body
    if how == "length":
        head.append(f"{draw(st.sampled_from(['Content-Length', 'content-length']))}: {len(body)}")
    if how == "chunked":
        head.append("Transfer-Encoding: chunked")
        chunks = [piece for piece in cut(body, draw(st.lists(st.integers(0, 60), max_size=3))) if piece]
        told = b"".join(
            b"%x%b\r\n%b\r\n" % (len(piece), draw(st.sampled_from([b"", b";a=b"])), piece) for piece in chunks
        )
        told += b"0\r\n" + draw(st.sampled_from([b"", b"Sum: 1\r\n"])) + b"\r\n"
    return "\r\n".join([*head, "", ""]).encode("latin-1") + told, body, how


CUTS = st.lists(st.integers(0, 2000), max_size=8)


class _Plain:
    """A socket for the standard library's reader."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(self._data)


@given(answers(), CUTS)
def test_an_answer_is_the_same_wherever_it_is_cut_and_the_standard_library_reads_it_so(
    one: tuple[bytes, bytes, str], places: list[int]
) -> None:
    data, body, how = one
    response, told, free = read(cut(data, places))
    other = reference.HTTPResponse(_Plain(data))  # type: ignore[arg-type]
    other.begin()
    assert (response.status, told) == (other.status, body) == (response.status, other.read())
    for name in other.headers.keys():  # noqa: SIM118  a header may stand there more than once
        assert response.headers[name] == ", ".join(other.headers.get_all(name, []))
    assert len(free) == (how != "closed"), "a line whose end was the answer's end serves no more"


@given(answers(), CUTS, st.data())
def test_an_answer_that_ends_too_early_is_an_error(
    one: tuple[bytes, bytes, str], places: list[int], data: st.DataObject
) -> None:
    whole, body, how = one
    short = whole[: data.draw(st.integers(0, len(whole) - 1))]
    if how == "closed" and b"\r\n\r\n" in short:
        assert body.startswith(read(cut(short, places))[1])
        return
    with pytest.raises(OSError):
        read(cut(short, places))


@st.composite
def noise(draw: st.DrawFn) -> bytes:
    """Anything; or an answer of which some bytes were changed, lost or added."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=200))
    data = bytearray(draw(answers())[0])
    for at in draw(st.lists(st.integers(0, len(data)), min_size=1, max_size=4)):
        data[at : at + draw(st.integers(0, 2))] = draw(
            st.sampled_from([b"", b"\n", b"\r", b"\0", b" ", b":", b"9", b"-"])
        )
    return bytes(data)


@given(noise(), CUTS, st.sampled_from(["GET", "HEAD"]))
def test_whatever_comes_is_an_answer_or_an_error_of_the_line(data: bytes, places: list[int], method: str) -> None:
    try:
        response, _, _ = read(cut(data, places), method)
    except OSError:
        return
    assert 200 <= response.status <= 599


class Scripted(Lines):
    """Lines on each of which the same comes."""

    data: bytes = b""

    def _taken(self) -> Line:
        return Line(Script([self.data]))


@pytest.fixture(scope="module")
def connection() -> Connection:
    found = Connection("https://127.0.0.1:1")
    found._lines = Scripted(found.url, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), None)
    return found


@given(noise())
def test_whatever_answers_for_the_coordinator_it_is_unavailable_or_speaks_as_it_does(
    connection: Connection, data: bytes
) -> None:
    connection._lines.data = data  # type: ignore[attr-defined]
    with pytest.raises(Unavailable):  # none of these says which protocol it speaks
        connection.get("/v1/inbox")


def test_an_answer_of_the_coordinator_is_read(connection: Connection) -> None:
    connection._lines.data = OK + f"{HEADER}: 1\r\nContent-Length: 8\r\n\r\n".encode() + b'{"a": 1}'  # type: ignore[attr-defined]
    assert connection.get("/v1/inbox") == {"a": 1}


TWO_WAYS = {
    "two lengths": b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n1",
    "two lengths in one": b"Content-Length: 1, 1\r\n\r\n1",
    "a length beside chunks": b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n",
    "a length with a sign": b"Content-Length: +1\r\n\r\n1",
    "a negative length": b"Content-Length: -1\r\n\r\n1",
    "no length": b"Content-Length:\r\n\r\n",
    "a length with a space": b"Content-Length: 1 1\r\n\r\n1",
    "a length beyond all": b"Content-Length: %b\r\n\r\n" % (b"9" * 40),
    "a folded header": b"A: b\r\n c\r\nContent-Length: 1\r\n\r\n1",
    "a folded length": b"Content-Length:\r\n 1\r\n\r\n1",
    "a space before the colon": b"Content-Length : 1\r\n\r\n1",
    "no colon": b"Content-Length\r\n\r\n",
    "no name": b": 1\r\n\r\n",
    "NUL": b"A: \0\r\n\r\n",
    "a bare CR": b"A: b\rContent-Length: 1\r\n\r\n1",
    "a bare LF": b"A: b\nContent-Length: 1\r\n\r\n1",
    "another coding": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another encoding": b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\n1",
    "a chunk without length": b"Transfer-Encoding: chunked\r\n\r\n\r\n\r\n",
    "a chunk of negative length": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n1\r\n0\r\n\r\n",
    "a chunk of hexadecimal length": b"Transfer-Encoding: chunked\r\n\r\n0x1\r\n1\r\n0\r\n\r\n",
    "a chunk that is too long": b"Transfer-Encoding: chunked\r\n\r\n1\r\n12\r\n0\r\n\r\n",
    "a trailer that is none": b"Transfer-Encoding: chunked\r\n\r\n0\r\n a\r\n\r\n",
}


@pytest.mark.parametrize("name", TWO_WAYS)
def test_what_can_be_read_in_two_ways_is_refused(name: str) -> None:
    with pytest.raises(Broken):
        read([OK + TWO_WAYS[name]])


@pytest.mark.parametrize(
    "first",
    [b"HTTP/1.1 20 OK", b"HTTP/1.1 600 X", b"HTTP/2 200", b"HTTP/1.1  200 OK", b"ICY 200 OK", b" HTTP/1.1 200 OK", b"",
     b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 200 O\0K"],
)  # fmt: skip
def test_what_is_no_http_of_ours_is_refused(first: bytes) -> None:
    with pytest.raises(Broken):
        read([first + b"\r\nContent-Length: 0\r\n\r\n"])


@pytest.mark.parametrize(
    "head",
    [b"A: " + b"b" * HEAD_BYTES + b"\r\n\r\n", b"A: b\r\n" * (FIELDS + 1) + b"\r\n", b"A" * (4 * HEAD_BYTES)],
    ids=["a long one", "many", "no end"],
)  # fmt: skip
def test_more_than_a_head_may_hold_is_refused_before_it_is_kept(head: bytes) -> None:
    with pytest.raises(Broken):
        read([OK + head])


def test_an_answer_that_never_comes_to_the_point_is_refused() -> None:
    with pytest.raises(Broken):
        read([b"HTTP/1.1 100 Continue\r\n\r\n" * 100 + OK + b"Content-Length: 0\r\n\r\n"])
    assert read([b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\n1"])[1] == b"1"


def test_trailers_have_an_end() -> None:
    with pytest.raises(Broken):
        read([OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * (FIELDS + 1) + b"\r\n"])


def test_an_answer_that_does_not_fit_into_memory_is_not_read_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "IN_MEMORY", 10)
    length = lambda size: OK + b"Content-Length: %d\r\n\r\n" % size + b"1" * size  # noqa: E731
    closed = lambda size: OK + b"\r\n" + b"1" * size  # noqa: E731
    for told in (length, closed):
        assert len(read([told(10)])[1]) == 10
        with pytest.raises(Broken):
            read([told(11)])


def test_a_head_that_drips_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr("consilium.wire.http.time.monotonic", lambda: float(next(ticks)))
    with pytest.raises(TimeoutError):
        read([bytes([byte]) for byte in OK + b"A: b\r\n\r\n"])


def test_an_answer_without_a_body_has_none_whatever_it_says_of_its_length() -> None:
    head = b"Content-Length: 5\r\n\r\n"
    assert read([OK + head], "HEAD")[1] == b""
    assert read([b"HTTP/1.1 204 No Content\r\n" + head])[1] == b""
    assert len(read([OK + head], "HEAD")[2]) == 1


@pytest.mark.parametrize(
    "told", [b"HTTP/1.0 200 OK\r\n", OK + b"Connection: close\r\n", OK + b"Connection: a, Close\r\n"]
)
def test_a_line_that_is_to_close_serves_no_more(told: bytes) -> None:
    line = Line(script := Script([told + b"Content-Length: 0\r\n\r\n"]))
    assert http.answer(line, "GET", 5.0, lambda line: pytest.fail("it was kept"), whole=True).data == b""
    assert script.closed


def test_a_line_on_which_something_came_unasked_or_that_was_closed_serves_no_more() -> None:
    for after, stands in ((b"", True), (b"HTTP/1.1 200 OK\r\n\r\n", False), (None, False)):
        here, there = socket.socketpair()
        with here, there:
            line = Line(here)
            there.sendall(OK + b"Content-Length: 0\r\n\r\n")
            http.answer(line, "GET", 5.0, lambda line: None, whole=True)
            if after is None:
                there.close()
            else:
                there.sendall(after)
            assert line.stands() is stands


def test_a_small_body_leaves_with_its_headers_and_a_large_one_after_them() -> None:
    for size in (10, http.TOGETHER + 1):
        script = Script([])
        assert Line(script).send(b"head\r\n\r\n", b"b" * size)
        assert script.sent == b"head\r\n\r\n" + b"b" * size


@pytest.mark.parametrize("value", ["a\r\nB: c", "a\nb", "\0", "é€"])
def test_a_request_says_nothing_that_could_be_read_as_another_header(connection: Connection, value: str) -> None:
    with pytest.raises(Broken):
        http.request("GET", "/", {"A": value})
    with pytest.raises(ConsiliumError):
        connection.request("GET", "/", None, {"A": value})
