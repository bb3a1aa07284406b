"""Lines to one coordinator: dialled through the proxy if there is one, and kept for the requests that follow.

urllib3 dials: proxies, TLS (within TLS, to an https proxy) and names. What is said on a line is `wire/http.py`'s.
"""

import socket
import ssl
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.util import Url, make_headers, parse_url

from consilium import __version__
from consilium.core.errors import Invalid
from consilium.wire import http
from consilium.wire.address import address
from consilium.wire.http import Line, Response

CONNECT_S = 3.0
STALLED_S = 5.0
"""An upload or download that moves no byte for this long is taken for dead and resumed on a new connection."""
IDLE = 8
"""Lines that are kept for later requests."""
KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]
USER_TIMEOUT = [(socket.IPPROTO_TCP, 18, int(STALLED_S * 1000))]  # TCP_USER_TIMEOUT: unacknowledged bytes
OPTIONS = [*HTTPConnection.default_socket_options, *KEEPALIVE, *USER_TIMEOUT]
_SAFE = "/?&=%:@!$'()*+,;~-._[]"


class Lines:
    """The lines to one address; may be used from several threads.

    Args:    proxy: its address, with name and password if it wants them.
    Raises:  Invalid: one of them is no such address.
    """

    def __init__(self, url: str, context: ssl.SSLContext, proxy: str | None) -> None:
        parts = urlsplit(url)
        (self._host, self._port), self._base = address(url), parts.path
        self._context, self._proxy = context, None if proxy is None else Proxy.read(proxy)
        self._fixed = {
            "Host": parts.netloc.rpartition("@")[2], "User-Agent": f"consilium/{__version__}",
            "Accept-Encoding": "identity",
        }  # fmt: skip
        self._idle: list[Line] = []
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._idle)

    def ask(self, method: str, path: str, body: Any, headers: Mapping[str, str], limit_s: float) -> Response:
        """Send a request and read its answer up to the body.

        Args:    body: bytes, or what is read while it leaves; its length then stands in the headers.
        Raises:  OSError, HTTPError of urllib3: no line, no answer, or none that can be read.
        """
        told = {**self._fixed, **headers}
        if isinstance(body, bytes) or (body is None and method not in ("GET", "HEAD")):
            told["Content-Length"] = str(len(body or b""))
        head = http.request(method, quote(self._base + path, safe=_SAFE), told)
        line = self._taken()
        try:
            line.limit(limit_s)
            whole = line.send(head, body)
            return http.answer(line, method, limit_s, self._keep, whole=whole)
        except BaseException:
            line.close()
            raise

    def clear(self) -> None:
        """Close the lines that are idle."""
        with self._lock:
            _close(self._idle)

    def _taken(self) -> Line:
        with self._lock:
            while self._idle:
                line = self._idle.pop()
                if line.stands():
                    return line
                line.close()
        return self._dialled()

    def _keep(self, line: Line) -> None:
        with self._lock:
            if len(self._idle) < IDLE:
                self._idle.append(line)
                return
        line.close()

    def _dialled(self) -> Line:
        proxy = self._proxy
        to = (self._host, self._port) if proxy is None else proxy.address
        dial = HTTPSConnection(
            to[0], to[1], timeout=CONNECT_S, socket_options=OPTIONS, ssl_context=self._context,
            proxy=None if proxy is None else proxy.url, proxy_config=ProxyConfig(self._context, False, None, None),
        )  # fmt: skip
        if proxy is not None:
            dial.set_tunnel(self._host, self._port, proxy.headers, str(proxy.url.scheme))
        try:
            dial.connect()
        except BaseException:
            dial.close()
            raise
        return Line(dial.sock)


@dataclass(frozen=True)
class Proxy:
    """Where it is, and who we say that we are."""

    url: Url
    address: tuple[str, int]
    headers: dict[str, str]

    @classmethod
    def read(cls, text: str) -> "Proxy":
        """Read what stands in HTTPS_PROXY. Raises: Invalid: it is no such address."""
        try:
            parts = urlsplit(text)
            port, url = parts.port, parse_url(text)
        except ValueError:  # no number, or no address; its text may hold a password
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid("HTTPS_PROXY is not the address of a proxy", "write it as http://[NAME:PASSWORD@]HOST:PORT")
        said = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        headers = make_headers(proxy_basic_auth=said) if parts.username else {}
        return cls(url, (parts.hostname, port or (443 if parts.scheme == "https" else 80)), dict(headers))


def _close(lines: list[Line]) -> None:
    while lines:
        lines.pop().close()
