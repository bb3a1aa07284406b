"""Outbound HTTPS to the coordinator: proxy and private CAs honoured, tokens renewed, errors by their code.

A dead line must be noticed: every wait has a time limit, and TCP keepalive finds peers that vanished silently.
"""

import json
import logging
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3.exceptions import HTTPError

from consilium.core.errors import ConsiliumError, Refused, Unauthenticated, Unavailable, every
from consilium.wire.address import address
from consilium.wire.http import Broken, Response
from consilium.wire.lines import Lines
from consilium.wire.messages import HEADER, PROTOCOL

log = logging.getLogger(__name__)
Result = TypeVar("Result")
READ_S = 30.0
SOON_S = 4.0
"""What a program that repeats its requests (the agent) waits for an answer: a line that died with the request on it
costs this much. Every such request may be repeated, and the answer to a repetition is the same."""
UNTRUSTED = "if a proxy of your institution opens TLS, name its CA in SSL_CERT_FILE; else trust nothing here"
"""What to do where a certificate is of a CA that is not known here."""
LONG_S = 10.0
"""What is tried in vain for longer is told."""
TRIES = 10
"""Failures in a row after which a command gives up: seconds where nobody listens, a minute where nobody answers."""


class Connection:
    """Requests to one coordinator; may be used from several threads."""

    def __init__(
        self, url: str, ca: Path | None = None, token: Callable[[], str] | None = None, *, verify: bool = True,
        limit_s: float = READ_S,
    ) -> None:  # fmt: skip
        self.url = url.rstrip("/")
        address(url)
        self._limit_s = limit_s
        self._token = token
        self._secret: str | None = None
        self._lock = threading.Lock()
        self._lines = Lines(self.url, trust(ca) if verify else _blind(), proxy_for(self.url))

    def get(
        self, path: str, query: Mapping[str, Any] | None = None, *, wait: float = 0.0, limit_s: float | None = None
    ) -> Any:
        """GET JSON; `wait` is added to the time limit (long-polling), or `limit_s` is the limit.

        Raises: ConsiliumError by code; Unavailable.
        """
        return self._parsed(self.read(path, query, limit_s=limit_s or self._limit_s + wait))

    def read(self, path: str, query: Mapping[str, Any] | None = None, *, limit_s: float | None = None) -> bytes:
        """GET JSON that is parsed elsewhere. Raises: ConsiliumError by code; Unavailable."""
        return self.request("GET", f"{path}?{_text(query)}" if query else path, read_s=limit_s).data

    def post(self, path: str, body: Any = None, *, raw: bytes | None = None, form: bool = False) -> Any:
        """POST JSON, bytes as they are (`raw`), or a form. Raises: ConsiliumError by code; Unavailable."""
        if form:
            data = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in body.items()).encode()
            return self._post(path, data, "application/x-www-form-urlencoded")
        data = raw if raw is not None else json.dumps({} if body is None else body).encode()
        return self._post(path, data, "application/json")

    def exchange(self, path: str, data: bytes, query: Mapping[str, Any], *, limit_s: float) -> bytes:
        """POST bytes as they are; the JSON of the answer is parsed elsewhere. Raises: as `post`."""
        kind = {"Content-Type": "application/json"}
        return self.request("POST", f"{path}?{_text(query)}", data, kind, read_s=limit_s).data

    def _post(self, path: str, data: bytes, kind: str) -> Any:
        return self._parsed(self.request("POST", path, data, {"Content-Type": kind}).data)

    def _parsed(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise Unavailable(f"{self.url} sent an answer that cannot be read", "try again") from error

    def request(
        self, method: str, path: str, data: Any = None, headers: Mapping[str, str] | None = None, *,
        read_s: float | None = None, stream: bool = False, passing: tuple[int, ...] = (),
    ) -> Response:  # fmt: skip
        """One request; the token is renewed once when it has expired.

        Args:    passing: statuses that are given back rather than raised.
        Raises:  ConsiliumError by the code of the answer; Unavailable: no answer, or one that is not the coordinator's.
        """
        for renewed in (False, True):
            limit_s = read_s or self._limit_s
            response = self._once(method, path, data, dict(headers or {}), limit_s, stream, renew=renewed)
            if response.status == 401 and self._token is not None and not renewed and not hasattr(data, "read"):
                response.close()
                continue
            break
        if response.status < 400 or response.status in passing:
            if HEADER in response.headers:
                return response
            response.close()  # a portal that wants a login, a filter's page: never an answer to what was asked
            raise Unavailable("something between here and the coordinator answered for it", "check the proxy")
        raise _problem(response, self.url)

    def _once(
        self, method: str, path: str, data: Any, headers: dict[str, str], read_s: float, stream: bool, *, renew: bool
    ) -> Response:
        headers[HEADER] = str(PROTOCOL)
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._bearer(renew)}"
        try:
            response = self._lines.ask(method, path, data, headers, read_s)
            if not stream:
                _ = response.data  # all of it is here, or there is no answer
        except Broken as error:
            self._lines.clear()
            raise Unavailable(f"{self.url} is not understood: {error}", "check the proxy") from error
        except (HTTPError, OSError) as error:
            self._lines.clear()  # what broke one line may have broken the idle ones, without a word
            raise Unavailable(f"{self.url} cannot be reached: {_why(error)}", _remedy(error)) from error
        return response

    def _bearer(self, renew: bool) -> str:
        assert self._token is not None
        with self._lock:
            if self._secret is None or renew:
                self._secret = None  # no request goes out with one that was refused, if there is no other
                self._secret = self._token()
            return self._secret


def _text(query: Mapping[str, Any]) -> str:
    return "&".join(f"{name}={quote(str(value))}" for name, value in query.items())


def trust(ca: Path | None) -> ssl.SSLContext:
    """Trust the system's CAs, the institution's (SSL_CERT_FILE) and the coordinator's own. Do not change what you get.

    Raises: Refused: a file is no PEM file of CAs (`ca`).
    """
    extras = [Path(extra) for extra in (os.environ.get("SSL_CERT_FILE"), ca) if extra]
    return _trusting(tuple(map(_certificates, extras)))


def _certificates(path: Path) -> tuple[Path, bytes]:
    try:
        return path, path.read_bytes()
    except OSError as error:
        raise _no_authority(path) from error


@lru_cache(maxsize=16)
def _trusting(extras: tuple[tuple[Path, bytes], ...]) -> ssl.SSLContext:
    # Reading the hundred and more CAs of a system takes a twentieth of a second, every time.
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for path, _ in extras:
        try:
            context.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            raise _no_authority(path) from error
    return context


def _no_authority(path: Path) -> Refused:
    return Refused(f"the CA file {path} cannot be read", "give a PEM file", reason="ca")


def _blind() -> ssl.SSLContext:
    # Used once, to fetch the CA that is then accepted by its hash alone.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def proxy_for(url: str) -> str | None:
    """The proxy that HTTPS_PROXY and NO_PROXY name for this address."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    proxies = getproxies()
    if "https" not in proxies or proxy_bypass(host):
        return None
    return proxies["https"]


def _why(error: Exception) -> str:
    text = str(error).rpartition(": ")[2] if isinstance(error, HTTPError) else str(error)
    return text[:200] or type(error).__name__


def out_of_date(error: Exception) -> str:
    """What to do where TLS fails for the dates of a certificate; empty where it fails for something else."""
    if "has expired" in str(error):
        return (
            "the coordinator's certificate has ended, and its administrator renews it (`consilium coordinator "
            "certificate`); or this machine's clock is ahead"
        )
    if "not yet valid" in str(error):
        return "check this machine's clock: by it, the coordinator's certificate has not begun"
    return ""


def _remedy(error: Exception) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return out_of_date(error) or UNTRUSTED
    if "407" in str(error):
        return "the proxy wants a name and a password: HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT"
    return "check network, proxy and CA"


def _problem(response: Response, url: str) -> ConsiliumError:
    try:
        told = json.loads(response.data)
        kind, message, remedy = every()[told["code"]], str(told["message"]), str(told.get("remedy", ""))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, OSError):
        where = "a proxy, or the coordinator behind it" if response.status in (407, 502, 503, 504) else url
        return Unavailable(f"{where} answered with status {response.status}", "try again; check the proxy")
    if response.status >= 500:  # it failed, and said nothing about what was asked: no answer is lost by it
        return Unavailable(f"{url} failed: {message}", "try again; its log says why")
    if kind is Refused:
        return Refused(message, remedy, reason=str(told.get("reason") or "refused"))
    return kind(message, remedy)


class Patience(threading.Event):
    """A stop that comes by itself after so many failures in a row: for commands, before which a person waits."""

    def __init__(self, tries: int = TRIES) -> None:
        super().__init__()
        self._most = self._left = tries

    def moved(self, _: int) -> None:
        """Something came: the next failure is the first again."""
        self._left = self._most

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the next try; True: there is none."""
        self._left -= 1
        return self._left <= 0 or super().wait(timeout)


def retrying(act: Callable[[], Result], stop: threading.Event, *, first_s: float = 0.1, most_s: float = 1.0) -> Result:
    """Repeat `act` while the coordinator is out of reach, with growing, jittered pauses, until `stop`.

    What is tried in vain for long is told, once: nobody else may hear why it waits. A command tells at its end.

    Raises: what `act` raises other than Unavailable; Unavailable: stopped.
    """
    pause, began, told = first_s, time.monotonic(), False
    while True:
        try:
            return act()
        except (Unavailable, Unauthenticated) as error:
            if not (told or isinstance(stop, Patience)) and time.monotonic() - began > LONG_S:
                log.warning("in vain so far, and tried again: %s", error)
                told = True
            if stop.wait(pause * random.uniform(0.5, 1.0)):  # noqa: S311  jitter, not a secret
                raise
            pause = min(pause * 2, most_s)
