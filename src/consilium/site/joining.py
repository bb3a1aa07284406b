"""Joining a federation: a one-time token says where to dial and whom to trust; a person compares the fingerprint."""

import base64
import hashlib
import json
import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from consilium.core.errors import Conflict, Invalid, Refused, Unavailable
from consilium.core.ids import digest
from consilium.site.folder import Folder, Membership
from consilium.site.journal import Journal
from consilium.wire.connection import Connection
from consilium.wire.messages import PROTOCOL
from consilium.wire.requests import Hello, Join, Joined

PREFIX = "consilium-join:"


@dataclass(frozen=True)
class Ticket:
    """What stands in a join token. `ca`: SHA-256 of the coordinator's own CA (PEM), or empty where it has none."""

    url: str
    ca: str
    key: str
    site: str
    secret: str

    @classmethod
    def parse(cls, token: str) -> "Ticket":
        """Read a token. Raises: Invalid: it is not one, or was cut when it was copied."""
        try:
            coded = token.strip().removeprefix(PREFIX).encode()
            decoded = base64.urlsafe_b64decode(coded)
            values = json.loads(decoded)
            ticket = cls(**values)
            whole = token.strip().startswith(PREFIX) and all(isinstance(value, str) for value in values.values())
            whole = whole and bool(urlsplit(ticket.url).hostname)
            whole = whole and base64.urlsafe_b64encode(decoded) == coded  # the decoder skips what is no base64
        except (ValueError, TypeError) as error:
            raise Invalid("this is not a join token", "copy the whole line that begins with " + PREFIX) from error
        if not whole or not ticket.url.startswith("https://"):
            raise Invalid("this is not a join token", "copy the whole line that begins with " + PREFIX)
        return ticket


def join(folder: Folder, token: str, about: str, ca: Path | None, now: datetime) -> str:
    """Join; the same token again is a no-op. Returns the site's state: pending or admitted.

    Args:    ca: PEM file of the coordinator's CA, where the token does not vouch for one.
    Raises:  Invalid: no token.   Conflict: this folder belongs to another federation.   Refused: the coordinator's CA
             or key is not the one in the token, or the token does not serve.   Unavailable.
    """
    ticket, identity = Ticket.parse(token), folder.identity()
    if folder.joined():
        known = folder.membership()
        if (known.site, known.url, known.coordinator_key) != (ticket.site, ticket.url, ticket.key):
            raise Conflict(
                f"this folder belongs to {known.url} already, as {known.site}", "use another --home for another site"
            )
    pem = _authority(ticket) if ca is None and ticket.ca else None
    body = _asked(ticket, identity.public, about)
    with tempfile.TemporaryDirectory(dir=folder.work) as place:  # until the coordinator proves true, nothing is kept
        fetched = Path(place) / "ca.pem"
        fetched.write_bytes(pem or b"")
        connection = _reached(ticket, ca or (fetched if pem else None))
        if not folder.joined():  # before it leaves: it may be refused, or its answer lost
            _record(folder, "send", {"what": "join", "digest": digest(body), "size": len(body)}, now)
        answer = _answered(connection, ticket, body)
    folder.keep_authority(ca.read_bytes() if ca else pem)
    if not folder.joined():
        _record(folder, "join", {"site": ticket.site, "url": ticket.url, "coordinator_key": ticket.key}, now)
    folder.keep_membership(Membership(ticket.site, ticket.url, ticket.key))
    return answer.state


def _asked(ticket: Ticket, key: str, about: str) -> bytes:
    try:
        ask = Join(protocol=PROTOCOL, token=ticket.secret, site=ticket.site, public_key=key, about=about)
    except ValidationError as error:
        where = str(error.errors()[0]["loc"][0])
        if where == "about":
            raise Invalid("--about has more than 4000 characters, or a NUL among them", "shorten it") from error
        raise Invalid(f"this is not a join token: its {where} is not one", "ask the admin for a new one") from error
    return ask.encode()


def _record(folder: Folder, kind: str, body: dict[str, Any], now: datetime) -> None:
    with closing(Journal(folder.journal)) as journal, journal.write() as tx:
        tx.record(kind, body, now)


def _reached(ticket: Ticket, ca: Path | None) -> Connection:
    """The way to who claims the key in the token: to nobody else is the secret sent."""
    connection = Connection(ticket.url, ca)
    try:
        _same_key(Hello.model_validate(connection.get("/v1/hello")).public_key, ticket)
    except ValidationError as error:
        raise _strange() from error
    return connection


def _answered(connection: Connection, ticket: Ticket, body: bytes) -> Joined:
    """The coordinator's answer."""
    try:
        answer = Joined.model_validate(connection.post("/v1/join", raw=body))
    except ValidationError as error:
        raise _strange() from error
    _same_key(answer.coordinator_key, ticket)
    return answer


def _strange() -> Unavailable:
    return Unavailable("what came is not a coordinator's answer", "check address and proxy")


def _authority(ticket: Ticket) -> bytes:
    """The coordinator's own CA, fetched from whoever answers and believed only for its hash, which the token names."""
    blind = Connection(ticket.url, verify=False)
    pem = bytes(blind.request("GET", "/v1/ca").data)
    if hashlib.sha256(pem).hexdigest() != ticket.ca:
        raise Refused(
            "the CA that answers is not the one in the join token",
            "something between here and the coordinator answers for it; behind an intercepting proxy, name the proxy's "
            "CA in SSL_CERT_FILE and give the coordinator's CA with --ca",
            reason="ca",
        )
    return pem


def _same_key(key: str, ticket: Ticket) -> None:
    if key != ticket.key:
        raise Refused(
            "the coordinator that answers does not have the key in the join token",
            "compare its fingerprint with its admin, by another way",
            reason="coordinator-key",
        )
