"""HTTPS to a hospital's own servers (FHIR, DICOMweb): proxy and private CA honoured, and an end to every wait.

What is said in an error is a host, a status and codes of a fixed list: addresses and bodies hold identifiers of
patients, and headers hold secrets.

(1) every host is the server's own, or named by the mapping   (2) TLS, unless it is this machine   (3) who we are is
told to the server itself, and to those hosts where it says that its files want it   (4) an answer is whole, or none.
"""

import os
import re
import ssl
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import msgspec
import urllib3
from urllib3.exceptions import HTTPError

from consilium import __version__
from consilium.core.errors import DataUnusable, MappingInvalid
from consilium.data.clock import Clock
from consilium.durable import own

Result = TypeVar("Result")
CONNECT_S, SILENT_S = 10.0, 60.0
"""How long a server may take to be reached, and then to be silent."""
LARGEST = 256 << 20
"""Bytes of an answer that is read into memory."""
PIECE = 1 << 18
TRIES = 4
"""How often a request is sent whose line broke, or whose server failed."""
LONGEST_PAUSE_S = 300.0
REDIRECTS = 3
LOOPBACK = ("127.0.0.1", "::1", "localhost")
BUSY, FAILED, MOVED = (429, 503), (500, 502, 504), (301, 302, 303, 307, 308)
_CODE = re.compile(r"[a-z_-]{2,40}")
Bearer = Callable[[bool], Mapping[str, str]]
"""Headers that say who we are; anew where the last ones were refused."""


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self, what: str) -> Any:
        """Its body, parsed. Raises: DataUnusable."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DataUnusable(
                f"{what}: the answer is no JSON", "it may have been cut: try again; check the proxy"
            ) from error


class Web:
    """Requests to one server.

    Args:    base: its address.   where: what of the mapping names it, for errors.   hosts: others that may be asked.
    Raises:  MappingInvalid: no such address, or one without TLS.
    """

    def __init__(
        self, base: str, where: str, clock: Clock, ca: Path | None = None, hosts: tuple[str, ...] = (),
        bearer: Bearer | None = None,
    ) -> None:  # fmt: skip
        self.base, self.where, self.clock = base.rstrip("/") + "/", where, clock
        self.bearer = bearer
        self._own, self._hosts = _origin(self.base, where), hosts
        self._context = _trust(ca)
        self._pools: dict[str, urllib3.PoolManager] = {}

    def url(self, path: str) -> str:
        """An address below the server's, or one that it gave. Raises: DataUnusable: of a host that may not be."""
        try:
            url = urljoin(self.base, path)
            origin = _origin(url, self.where)
        except (MappingInvalid, ValueError):
            url, origin = "", ("", "", 0)
        if origin != self._own and not (origin[0] == "https" and origin[1] in self._hosts):
            raise DataUnusable(
                f"{self.where}: the server refers to another host ({origin[1] or 'none'})",
                "if that host is the hospital's, name it in `hosts`; else correct the server's own base address",
            )
        return url

    def ask(
        self, path: str, accept: str, *, method: str = "GET", body: bytes | None = None,
        headers: Mapping[str, str] | None = None, passing: tuple[int, ...] = (), signed: bool | None = None,
        most: int = LARGEST,
    ) -> Answer:  # fmt: skip
        """One request and its whole answer; again where the server is busy or fails.

        Args:    passing: statuses above 399 that are given back.   signed: whether we say who we are; None: to the
                 server's own host.
        Raises:  DataUnusable: no answer, or one that refuses.
        """
        given = {"Accept": accept, **(headers or {})}

        def read(response: Any) -> Answer:
            return Answer(response.status, response.headers, self._body(response, most))

        return self._asked(method, path, given, body, passing, signed, read)

    def fetch(
        self, path: str, accept: str, into: Path, *, have: int = 0, mark: str = "", signed: bool | None = None,
        passing: tuple[int, ...] = (),
    ) -> tuple[int, Mapping[str, str], bool]:  # fmt: skip
        """Fetch a file, or what is lacking of it: `into` grows by it. The last value says whether it is whole.

        Args:    have: bytes that stand in `into` already, of the version that `mark` (an ETag) names.
        Raises:  DataUnusable.
        """
        given = {"Accept": accept, "Accept-Encoding": "identity"}
        if have and mark:
            given |= {"Range": f"bytes={have}-", "If-Range": mark}

        def read(response: Any) -> tuple[int, Mapping[str, str], bool]:
            if response.status >= 400:
                return response.status, response.headers, False
            begins, ends = _range(response.headers.get("Content-Range", ""))
            goes_on = response.status == 206 and begins == have
            if response.status == 206 and not goes_on:
                raise DataUnusable(f"{self.where}: the server sent another part than it was asked for", "try again")
            whole = _written(self._pieces(response), into, goes_on)
            return response.status, response.headers, whole and (ends or not goes_on)

        return self._asked("GET", path, given, None, passing, signed, read)

    def _asked(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, passing: tuple[int, ...],
        signed: bool | None, read: Callable[[Any], Result],
    ) -> Result:  # fmt: skip
        failures, renewed, moved, url = 0, False, 0, self.url(path)
        while True:
            own = _origin(url, self.where) == self._own
            tells = self.bearer is not None and signed is not False and (own or (signed is True and not moved))
            said = dict(self.bearer(renewed)) if tells and self.bearer is not None else {}
            try:
                response = self._sent(method, url, {**headers, **said}, body)
                status = int(response.status)
                if status in MOVED and method == "GET" and moved < REDIRECTS:
                    moved += 1
                    url = self.url(_joined(url, str(response.headers.get("Location", ""))))
                    response.close()
                    continue
                if status == 401 and tells and not renewed:
                    renewed = True
                    response.close()
                    continue
                if (status in BUSY or status in FAILED) and status not in passing and failures < TRIES - 1:
                    failures += 1
                    response.close()
                    self.clock.wait(_pause(response.headers, failures))
                    continue
                if status < 300 or status in passing:
                    found = read(response)
                    response.release_conn()
                    return found
                raise self._refused(response)
            except (HTTPError, OSError, EOFError, zlib.error) as error:
                failures += 1
                if failures >= TRIES or "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise self._unreachable(error) from None  # its text has the address
                self.clock.wait(min(0.5 * 2**failures, 8.0))

    def _sent(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Any:
        pool = self._pool(url)
        silent_s = min(SILENT_S, self.clock.left_s)
        return self.clock.within(
            lambda: pool.request(
                method, url, body=body, headers={"User-Agent": f"consilium/{__version__}", **headers},
                preload_content=False, decode_content=False, redirect=False, retries=False,
                timeout=urllib3.Timeout(connect=min(CONNECT_S, silent_s), read=silent_s),
            )
        )  # fmt: skip

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = getproxies().get(parts.scheme)
        proxy = None if proxy is None or proxy_bypass(parts.netloc.rpartition("@")[2]) else proxy
        if proxy not in self._pools:
            self._pools[proxy or ""] = _manager(proxy, self._context)
        return self._pools[proxy or ""]

    def _pieces(self, response: Any) -> Iterator[bytes]:
        """The body, as it comes. Raises: HTTPError: it was cut."""
        while piece := self.clock.within(lambda: response.read1(PIECE)):
            yield piece

    def _body(self, response: Any, most: int) -> bytes:
        found = bytearray()
        for piece in self._pieces(response):
            found += piece
            if len(found) > most:
                response.close()
                raise DataUnusable(f"{self.where}: an answer is larger than {most >> 20} MiB", "ask for less at once")
        coding = response.headers.get("Content-Encoding", "identity").lower()
        if coding == "gzip":
            opened = zlib.decompressobj(31)
            plain = opened.decompress(bytes(found), most)
            if not opened.eof or opened.unused_data:  # what follows the end would be lost
                raise DataUnusable(
                    f"{self.where}: an answer was cut, or is too large", "try again; ask for less at once"
                )
            return plain
        if coding != "identity":
            raise DataUnusable(f"{self.where}: an answer is encoded in a way that was not asked for", "check the proxy")
        return bytes(found)

    def _refused(self, response: Any) -> DataUnusable:
        try:
            codes = outcome(msgspec.json.decode(self._body(response, 1 << 20)))
        except (msgspec.DecodeError, DataUnusable, HTTPError, OSError, ValueError, RecursionError):
            codes = []
        words = f" ({', '.join(codes)})" if codes else ""
        remedy = {
            401: "check the account, and that its key or password is the one that the server knows",
            403: "the server's administrator may allow this account to read what is asked for",
            404: "check the address, and that the server offers what is asked for",
            407: "the proxy wants a name and a password: HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT",
        }.get(int(response.status), "see the server's log")
        return DataUnusable(f"{self.where}: the server answered with status {response.status}{words}", remedy)

    def _unreachable(self, error: BaseException) -> DataUnusable:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return DataUnusable(
                f"{self.where}: the server's certificate is by no authority that is trusted here",
                "name the hospital's CA as `access.ca`, or in SSL_CERT_FILE",
            )
        return DataUnusable(
            f"{self.where}: the server cannot be reached, or its line breaks ({type(error).__name__})",
            "check address, network and proxy",
        )


def _joined(base: str, path: str) -> str:
    """An address below another; nothing a server means by what is none, and so it is of no host."""
    try:
        return urljoin(base, path)
    except ValueError:
        return path


def outcome(found: Any) -> list[str]:
    """Codes of an OperationOutcome, or of an answer of OAuth: of fixed lists, and never their texts."""
    if type(found) is not dict:
        return []
    issues = found.get("issue") if found.get("resourceType") == "OperationOutcome" else None
    codes = [one.get("code") for one in issues if type(one) is dict] if type(issues) is list else [found.get("error")]
    return list(dict.fromkeys(code for code in codes if type(code) is str and _CODE.fullmatch(code)))[:5]


def _origin(url: str, where: str) -> tuple[str, str, int]:
    """Scheme, host and port. Raises: MappingInvalid: no address that may be asked."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:
        host, port, parts = "", 0, urlsplit("")
    if not host or not port or parts.username is not None:
        raise MappingInvalid(f"{where}: is no address of a server", "write it as https://HOST/PATH, without a password")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK):
        raise MappingInvalid(f"{where}: patients' records travel over https only", "write it as https://HOST/PATH")
    return parts.scheme, host, port


def _trust(ca: Path | None) -> ssl.SSLContext:
    extra = [Path(one) for one in (os.environ.get("SSL_CERT_FILE"), ca) if one]
    try:
        return _context(tuple((path, path.stat().st_mtime_ns) for path in extra))
    except (OSError, ssl.SSLError) as error:
        names = " or ".join(path.name for path in extra)
        raise MappingInvalid(f"the CA file {names} cannot be read", "give a PEM file") from error


@lru_cache(maxsize=4)  # the system's authorities take a while to load
def _context(extra: tuple[tuple[Path, int], ...]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for path, _ in extra:
        context.load_verify_locations(path)
    return context


def _manager(proxy: str | None, context: ssl.SSLContext) -> urllib3.PoolManager:
    if proxy is None:
        return urllib3.PoolManager(ssl_context=context, maxsize=2)
    parts = urlsplit(proxy)
    said = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    headers = urllib3.util.make_headers(proxy_basic_auth=said) if parts.username else None
    bare = proxy.replace(f"{parts.netloc.rpartition('@')[0]}@", "", 1) if parts.username else proxy
    return urllib3.ProxyManager(bare, ssl_context=context, proxy_ssl_context=context, proxy_headers=headers, maxsize=2)


def _written(pieces: Iterator[bytes], into: Path, goes_on: bool) -> bool:
    """Whether all pieces came; those that did are written. Raises: DataUnusable: there is no room."""
    try:
        with own(into, goes_on) as file:
            while True:
                try:
                    piece = next(pieces, b"")
                except (HTTPError, OSError):  # what came is kept: the next request begins behind it
                    return False
                if not piece:
                    return True
                file.write(piece)
    except OSError as error:
        raise DataUnusable("what is fetched cannot be written here", "make room on the disk") from error


def _pause(headers: Mapping[str, str], failures: int) -> float:
    return retry_after(headers, min(0.5 * 2**failures, 8.0))


def retry_after(headers: Mapping[str, str], default_s: float) -> float:
    """What an answer says by Retry-After, in seconds: it is a number, or a date."""
    told = headers.get("Retry-After", "").strip()
    if told.isascii() and told.isdigit():
        return min(float(told[:9]), LONGEST_PAUSE_S)
    try:
        until = parsedate_to_datetime(told)
    except (ValueError, TypeError):
        return default_s
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max((until - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_PAUSE_S)


def _range(told: str) -> tuple[int | None, bool]:
    """Where a part begins, and whether nothing follows it, as far as Content-Range tells."""
    found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", told)
    if found is None:
        return None, False
    return int(found[1]), found[3] == "*" or int(found[2]) + 1 == int(found[3])
