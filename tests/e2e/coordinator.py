"""A real coordinator over TLS, its people, and sites that speak to it with the wire's own code."""

import base64
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import urllib3
from sqlalchemy import text

from consilium.coordinator.home import load
from consilium.core.errors import ConsiliumError, Unavailable
from consilium.core.ids import Digest, digest
from consilium.store.database import Database
from consilium.wire.connection import Connection, trust
from consilium.wire.envelope import seal, unseal
from consilium.wire.identity import Identity
from consilium.wire.messages import INBOX_MESSAGES, PROTOCOL, Signed
from e2e.processes import CONSILIUM, PATIENCE_S, Process, free_port, here

PASSWORD = "correct horse battery"
AUDIENCE = "consilium-coordinator"
GRANT = {
    "grant_type": "client_credentials",
    "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
}


@dataclass(frozen=True)
class Party:
    """Somebody with a connection: a person, or a site with its key."""

    name: str
    connection: Connection
    token: Callable[[], str]

    def send_blob(self, data: bytes) -> Digest:
        """Upload bytes in one piece."""
        name = digest(data)
        headers = {"Upload-Offset": "0", "Upload-Length": str(len(data))}
        self.connection.request("PATCH", f"/v1/blobs/{name}", data, headers)
        return name


@dataclass(frozen=True)
class Site(Party):
    """A site that has joined."""

    identity: Identity

    def seal(self, message: Signed) -> bytes:
        """The envelope of a message, signed by this site."""
        return seal(message.TYPE, message.encode(), self.identity)

    def send(self, message: Signed) -> Any:
        """Sign a message and send it."""
        return self.connection.post("/v1/envelopes", raw=self.seal(message))

    def inbox(self, after: int = 0) -> list[Signed]:
        """All messages in the inbox, their signatures checked."""
        key = self.connection.get("/v1/hello")["public_key"]
        found = []
        for item in self.connection.get("/v1/inbox", {"after": after})["items"]:
            kind = INBOX_MESSAGES[item["envelope"]["payloadType"]]
            found.append(kind.decode(unseal(json.dumps(item["envelope"]).encode(), kind.TYPE, [key])))
        return found


class Coordinator:
    """One coordinator's folder, with the process that serves it.

    Another process on the same folder (PostgreSQL): `coordinator.beside()`.
    """

    def __init__(self, folder: Path, database: str | None = None) -> None:
        self.folder, self.home = folder, folder / "coordinator"
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.ca = self.home / "tls" / "ca.pem"
        chosen = ["--database", database] if database else []
        self._told("init", "--url", self.url, *chosen)
        self._told("person", "admin", "--role", "admin", CONSILIUM_PASSWORD=PASSWORD)
        self.process = self._process(self.port)

    def _told(self, *words: str, **variables: str) -> None:
        code, said = here("coordinator", *words, "--home", self.home, **variables)
        assert code == 0, f"consilium coordinator {' '.join(words)}: {said}"

    def _process(self, port: int) -> Process:
        words = [CONSILIUM, "coordinator", "run", "--home", self.home, "--host", "127.0.0.1", "--port", str(port)]
        return Process([*words, "--lease", "5"], self.folder / f"coordinator-{port}.log")

    def start(self) -> None:
        """Start the process and wait until it answers."""
        _serve(self.process, self.url, self.ca)

    def stop(self) -> int:
        """End it by SIGTERM; its exit status."""
        return self.process.stop()

    def beside(self) -> tuple[str, Process]:
        """A further process on the same folder and database, serving at the address that is given back."""
        port = free_port()
        process, url = self._process(port), f"https://127.0.0.1:{port}"
        _serve(process, url, self.ca)
        return url, process

    def connection(self, token: Callable[[], str] | None = None, url: str | None = None) -> Connection:
        """A connection that trusts this coordinator's CA."""
        return Connection(url or self.url, self.ca, token)

    def in_database(self, statement: str) -> None:
        """Execute SQL, for what would otherwise take days to come about."""
        database = Database(load(self.home).database, lambda topic: None)
        database.run_here(lambda tx: tx.do(text(statement)))
        database.close()

    def pool(self) -> urllib3.PoolManager:
        """Bare HTTPS, for requests that the wire's own code would never make."""
        return urllib3.PoolManager(ssl_context=trust(self.ca), retries=False, timeout=PATIENCE_S)

    def login(self, name: str) -> Party:
        """A person with an account."""
        ask = {"name": name, "password": PASSWORD}

        def token() -> str:
            return str(self.connection().post("/v1/login", ask)["access_token"])

        return Party(name, self.connection(token), token)

    @property
    def admin(self) -> Party:
        """The person who was added at the coordinator's own machine."""
        return self.login("admin")

    def person(self, name: str, role: str) -> Party:
        """Add an account, and log in."""
        self.admin.connection.post("/v1/people", {"name": name, "role": role, "password": PASSWORD})
        return self.login(name)

    def ticket(self, name: str) -> dict[str, str]:
        """What stands in a join string for a new site: url, ca, key, site, secret."""
        text = self.admin.connection.post("/v1/tokens", {"site": name})["token"]
        found: dict[str, str] = json.loads(base64.urlsafe_b64decode(text.removeprefix("consilium-join:")))
        return found

    def join(self, name: str, *, admit: bool = True) -> Site:
        """A site that has joined and, unless told otherwise, was admitted."""
        identity = Identity.create(self.folder / f"{name}-{secrets.token_hex(4)}.key")
        ask = {"protocol": PROTOCOL, "token": self.ticket(name)["secret"], "site": name, "public_key": identity.public}
        self.connection().post("/v1/join", ask)
        if admit:
            self.admin.connection.post(f"/v1/sites/{name}/admit", {"fingerprint": identity.fingerprint})

        def token() -> str:
            assertion = identity.assertion(name, AUDIENCE, datetime.now(UTC), secrets.token_hex(16))
            ask = GRANT | {"client_assertion": assertion}
            return str(self.connection().post("/v1/token", ask, form=True)["access_token"])

        return Site(name, self.connection(token), token, identity)


def _serve(process: Process, url: str, ca: Path) -> None:
    process.start()

    def answers() -> bool:
        if not ca.exists():
            return False
        try:
            return bool(Connection(url, ca).get("/v1/hello", limit_s=2.0)["protocols"])
        except Unavailable:
            return False

    try:
        process.until(answers, f"{url} answers")
    except BaseException:
        process.kill()
        raise


def refusal(act: Callable[[], object]) -> ConsiliumError:
    """The error that `act` raises; it must raise one."""
    try:
        given = act()
    except ConsiliumError as error:
        return error
    raise AssertionError(f"this was accepted: {given!r:.300}")
