"""A server over TLS that plays answers in the shapes that real servers give: in turn, the last one again and again.

Shapes: searches of HAPI FHIR (`_getpages`), of Google's Healthcare API (a total that is an estimate until the last
page) and of Microsoft's server (no total unless it is asked for); the manifests of the SMART bulk data server, of Bulk
Data STU 2 and of Epic (a boolean as text), their OperationOutcomes and 429s; links that expire, lines
that break and servers that say nothing more. They are written by what the makers document, and by issues of theirs.
"""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from consilium.wire.tls import make_authority

JSON, NDJSON = "application/fhir+json", "application/fhir+ndjson"


@dataclass
class Reply:
    """One answer. `cut`: bytes of the body after which the line breaks; `silent_s`: seconds before anything is said."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    chunked: bool = False
    silent_s: float = 0.0
    sized: bool = True

    @property
    def data(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body, indent=1).encode()


@dataclass
class Heard:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Play = Reply | Callable[[Heard], Reply]


class Player:
    """The server. `on` gives the answers for a path, with its query or without."""

    def __init__(self, folder: Path) -> None:
        make_authority(folder, ["127.0.0.1", "localhost"], datetime.now(UTC))
        self.ca = folder / "ca.pem"
        self.forget()
        self._lock = threading.Lock()
        player = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                size = int(self.headers.get("Content-Length", "0"))
                heard = Heard(self.command, self.path, dict(self.headers), self.rfile.read(size))
                self.reply(player.next(heard))

            do_GET = do_POST = do_DELETE = _any

            def reply(self, reply: Reply) -> None:
                if reply.silent_s:
                    time.sleep(reply.silent_s)
                data = reply.data
                if reply.cut is not None or not reply.sized:
                    self.close_connection = True
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.chunked:
                    self.send_header("Transfer-Encoding", "chunked")
                    data = f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n"
                elif reply.sized:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data if reply.cut is None else data[: reply.cut])
                self.wfile.flush()

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign,assignment]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = int(self._server.server_address[1])
        self.url = f"https://127.0.0.1:{self.port}/fhir"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def forget(self) -> None:
        """What was heard and is to be played."""
        self.heard, self._plays = list[Heard](), dict[tuple[str, str], list[Play]]()

    def on(self, path: str, *plays: Play, method: str = "GET") -> None:
        self._plays[method, path] = list(plays)

    def next(self, heard: Heard) -> Reply:
        with self._lock:
            self.heard.append(heard)
            plays = self._plays.get((heard.method, heard.path))
            plays = self._plays.get((heard.method, urlsplit(heard.path).path)) if plays is None else plays
            if not plays:
                return Reply(404, outcome("not-found"), {"Content-Type": JSON})
            play = plays.pop(0) if len(plays) > 1 else plays[0]
        return play if isinstance(play, Reply) else play(heard)

    def paths(self, method: str = "GET") -> list[str]:
        return [one.path for one in self.heard if one.method == method]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def outcome(*codes: str, severity: str = "error", text: str = "SECRET-NAME is unknown") -> dict[str, Any]:
    issues = [{"severity": severity, "code": code, "diagnostics": text} for code in codes]
    return {"resourceType": "OperationOutcome", "issue": issues}


def bundle(*resources: Any, following: str = "", total: int | None = None, **more: Any) -> Reply:
    """A page of a search, as HAPI FHIR writes it."""
    link = [{"relation": "self", "url": "https://127.0.0.1/fhir/x"}]
    link += [{"relation": "next", "url": following}] if following else []
    entries = [
        one if "resource" in one
        else {"fullUrl": f"https://x/{one['resourceType']}/{one['id']}", "resource": one, "search": {"mode": "match"}}
        for one in resources
    ]  # fmt: skip
    told = {} if total is None else {"total": total}
    return Reply(200, {"resourceType": "Bundle", "type": "searchset", **told, "link": link, "entry": entries, **more})


def lines(*resources: Any) -> bytes:
    """NDJSON."""
    return b"".join(json.dumps(one).encode() + b"\n" for one in resources)


@contextmanager
def tunnel() -> Iterator[tuple[str, list[str]]]:
    """An HTTP proxy that knows CONNECT; its address with a name and a password, and what it was asked for."""
    asked: list[str] = []
    server = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        sink.close()

    def serve() -> None:
        while True:
            try:
                near, _ = server.accept()
            except OSError:
                return
            head = b""
            while b"\r\n\r\n" not in head:
                head += near.recv(65536)
            asked.append(head.decode())
            host, port = head.split()[1].decode().rsplit(":", 1)
            far = socket.create_connection((host, int(port)))
            near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            for pair in ((near, far), (far, near)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://NAME:PASS%40WORD@127.0.0.1:{server.getsockname()[1]}", asked
    finally:
        server.close()
