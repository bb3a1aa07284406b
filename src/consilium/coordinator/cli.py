"""`consilium coordinator`: init, run, and the accounts, on its own machine."""

import asyncio
import errno
import json
import logging
import math
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from consilium.config import COORDINATOR, Homes
from consilium.coordinator import accounts, views
from consilium.coordinator.app import Settings, make_services, serve
from consilium.coordinator.ledgers import record
from consilium.coordinator.retention import Keeping
from consilium.core.errors import Conflict, Invalid, NotFound
from consilium.durable import create_file, locked
from consilium.store.database import Transaction
from consilium.wire.address import address
from consilium.wire.identity import Identity
from consilium.wire.tls import make_authority, renew

HERE = "the coordinator's machine"
"""Who it was, in the audit log, where nobody logs in."""
Result = TypeVar("Result")
home_option = click.option(
    "--home", type=click.Path(path_type=Path), default=Homes.coordinator, show_default="~/.consilium/coordinator",
    help="Folder of the coordinator.",
)  # fmt: skip


@click.group()
def coordinator() -> None:
    """Run a coordinator: one HTTPS port, a database, a folder of blobs."""


@coordinator.command()
@home_option
@click.option("--url", required=True, help="Address that sites and people dial, such as https://fl.example.org:8443.")
@click.option("--database", envvar="CONSILIUM_DATABASE", help="PostgreSQL URL. Default: SQLite in the folder.")
@click.option("--blobs", type=click.Path(path_type=Path), help="Folder of blobs. Default: in the folder.")
@click.option("--certificate", type=click.Path(path_type=Path, exists=True), help="Server certificate (PEM).")
@click.option("--key", type=click.Path(path_type=Path, exists=True), help="Its private key (PEM).")
@click.option(
    "--quota-gb",
    type=click.FloatRange(min=0, min_open=True),
    default=Keeping.quota_gb,
    show_default=True,
    help="Most bytes of one sender that are kept here, in GB; later: in coordinator.json.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def init(
    home: Path, url: str, database: str | None, blobs: Path | None, certificate: Path | None, key: Path | None,
    quota_gb: float, as_json: bool,
) -> None:  # fmt: skip
    """Make the folder: signing key, private CA and certificate (unless given), settings."""
    host = address(url).host
    if (home / "coordinator.json").exists():
        raise Conflict(f"{home} holds a coordinator already", "choose another --home, or run it")
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    key_file = home / "identity.key"
    identity = Identity.load(key_file) if key_file.exists() else Identity.create(key_file)  # cut short, it goes on
    if certificate is None or key is None:
        make_authority(home / "tls", [host, "localhost", "127.0.0.1"], datetime.now(UTC))
    settings = {
        "url": url.rstrip("/"),
        "database": database or f"sqlite:///{home.resolve() / 'coordinator.sqlite'}",
        "blobs": str((blobs or home / "blobs").resolve()),
        "certificate": str((certificate or home / "tls" / "server.pem").resolve()),
        "key": str((key or home / "tls" / "server.key").resolve()),
        "ca": None if certificate else str((home / "tls" / "ca.pem").resolve()),
        **asdict(Keeping(quota_gb=quota_gb)),
    }
    path = home / "coordinator.json"
    text = json.dumps(settings, indent=2) + "\n"
    create_file(path, text.encode(), 0o600)  # a database URL may hold a password
    told = {"home": str(home), "url": settings["url"], "fingerprint": identity.fingerprint}
    click.echo(json.dumps(told) if as_json else f"coordinator in {home}\nfingerprint: {identity.fingerprint}")


def load(home: Path, host: str = "", port: int = 0, lease_s: float = 30.0) -> Settings:
    """Settings of the coordinator in `home`. Raises: NotFound; Invalid: a person mistyped what stands in its file."""
    path = home / "coordinator.json"
    if not path.exists():
        raise NotFound(f"{home} holds no coordinator", "make one with `consilium coordinator init`")
    values = _values(path)
    return Settings(
        home=home,
        host=host or "0.0.0.0",  # noqa: S104  a server that sites reach
        port=port or address(values["url"]).port,
        url=values["url"],
        database=os.environ.get("CONSILIUM_DATABASE", values["database"]),
        blobs=Path(values["blobs"]),
        certificate=Path(values["certificate"]),
        key=Path(values["key"]),
        ca=Path(values["ca"]) if values.get("ca") else None,
        lease_s=lease_s,
        keeping=_keeping(values, path),
    )


def _values(path: Path) -> dict[str, Any]:
    """What stands in coordinator.json; never in an error, for it may hold a password. Raises: Invalid."""
    remedy = "correct it, or write it anew as `consilium coordinator init` does in another --home"
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        where = f" in line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else ""
        raise Invalid(f"{path} is not JSON{where}", remedy) from error
    if not isinstance(values, dict):
        raise Invalid(f"{path} is not an object of JSON", remedy)
    texts = ("url", "database", "blobs", "certificate", "key")
    if unknown := sorted(values.keys() - COORDINATOR.keys()):
        raise Invalid(f"{path} holds {unknown[0]!r}, which is no setting", f"known are {', '.join(COORDINATOR)}")
    for name in texts:
        if not isinstance(values.get(name), str) or not values[name]:
            raise Invalid(f"{path} has no text for {name}", remedy)
    if not isinstance(values.get("ca"), str | None):
        raise Invalid(f"{path} has neither a text nor null for ca", remedy)
    return values


def _served(settings: Settings) -> None:
    """Whether TLS can be served with the certificate and the key. Raises: NotFound, Invalid."""
    for what, path in (("certificate", settings.certificate), ("key of the certificate", settings.key)):
        if not path.is_file():
            raise NotFound(
                f"there is no {what} at {path}", f"put it there, or correct {settings.home}/coordinator.json"
            )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.certificate, settings.key, password="")
    except (OSError, ValueError) as error:
        what = f"{settings.certificate} and {settings.key} are no certificate and its key in PEM"
        raise Invalid(what, "both are of one pair, readable here, and the key without a password") from error


def _keeping(values: dict[str, Any], path: Path) -> Keeping:
    """What the administrator set of quota and retention. Raises: Invalid."""
    found = {one.name: values.get(one.name, one.default) for one in fields(Keeping)}
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise Invalid(f"{name} in {path} is {value!r}", "write a number above 0")
    return Keeping(float(found["quota_gb"]), float(found["keep_minutes"]), int(found["keep_rounds"]))


def _free(host: str, port: int) -> None:
    """Refuse a port that somebody listens on: the server would share it, and half of the requests would go astray.

    Raises: Conflict: another process listens there.   Invalid: nobody can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            remedy = "end what listens there, or choose another --port"
            raise Conflict(f"port {port} of {host} is in use", remedy) from error
        why = error.strerror or error
        raise Invalid(f"nothing can listen on port {port} of {host}: {why}", "choose --host and --port") from error


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold the lock of the folder's one process on SQLite: another would take its work for that of a dead one.

    Raises: Conflict: another process holds it.   Invalid: where the folder lies there are no locks.
    """
    if not settings.database.startswith("sqlite"):  # processes on PostgreSQL share their work by leases
        yield
        return
    with (settings.home / "coordinator.lock").open("w") as file:
        if not locked(file):
            remedy = "end it first; several processes at once want --database with a PostgreSQL URL"
            raise Conflict(f"a coordinator already runs in {settings.home}", remedy)
        yield


@coordinator.command()
@home_option
@click.option("--host", default="", help="Address to listen on. Default: all.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on. Default: the one in the URL.")
@click.option(
    "--lease",
    "lease_s",
    type=float,
    default=30.0,
    show_default=True,
    help="Seconds after which the work of a dead process is taken over.",
)
def run(home: Path, host: str, port: int | None, lease_s: float) -> None:
    """Serve until SIGTERM. Several processes may share one PostgreSQL and one folder of blobs."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    settings = load(home, host, port or 0, lease_s)
    _free(settings.host, settings.port)
    _served(settings)
    with _alone(settings):
        asyncio.run(serve(settings))


@coordinator.command()
@home_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def certificate(home: Path, as_json: bool) -> None:
    """Renew the server's certificate, signed by the coordinator's own CA: hospitals and people notice nothing.

    It is for the same names, and good for 825 days, at most as long as the CA. Start the coordinator again afterwards.
    """
    settings = load(home)
    of_ours = () if settings.ca is None else tuple(settings.ca.parent / name for name in ("server.pem", "server.key"))
    if settings.ca is None or (settings.certificate, settings.key) != of_ours:
        remedy = f"put the new one at {settings.certificate}, and start the coordinator again"
        raise Conflict("this coordinator's certificate is not by a CA of its own", remedy)
    until = renew(settings.ca.parent, datetime.now(UTC))
    fact = {"certificate": str(settings.certificate), "until": until.isoformat()}
    words = f"{settings.certificate} is good until {until:%Y-%m-%d}.\nNext: start the coordinator again."
    click.echo(json.dumps(fact) if as_json else words)


@coordinator.command()
@home_option
@click.argument("name")
@click.option("--role", type=click.Choice(accounts.ROLES_OF_PEOPLE), required=True, help="What it may do.")
@click.option(
    "--password",
    envvar="CONSILIUM_PASSWORD",
    prompt=True,
    hide_input=True,
    confirmation_prompt=True,
    help="Better left out: it is then asked for, or read from CONSILIUM_PASSWORD.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def person(home: Path, name: str, role: str, password: str, as_json: bool) -> None:
    """Add a person, or change role and password; on the coordinator's own machine."""
    now = datetime.now(UTC)

    def add(tx: Transaction) -> None:
        """Add the account, and say so in the audit log."""
        accounts.add_person(tx, name, role, password, now)
        record(tx, "person", {"name": name, "role": role, "by": HERE}, now)

    _in_store(home, add)
    click.echo(json.dumps({"name": name, "role": role}) if as_json else f"{name} is {role}")


@coordinator.command()
@home_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def people(home: Path, as_json: bool) -> None:
    """List the accounts and their roles; on the coordinator's own machine."""
    found = _in_store(home, views.person_list)
    words = "\n".join(f"{one['name']} is {one['role']}, since {one['since'][:10]}" for one in found) or "None."
    click.echo(json.dumps(found) if as_json else words)


@coordinator.command()
@home_option
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def disable(home: Path, name: str, as_json: bool) -> None:
    """Disable an account, also the last administrator's; on the coordinator's own machine.

    Its tokens end within a second, and its password serves no more. `person` makes it serve again.
    """
    now = datetime.now(UTC)

    def off(tx: Transaction) -> bool:
        """Disable the account, and say so in the audit log; whether it was not so before."""
        disabled = accounts.disable(tx, name, keep_an_admin=False)
        if disabled:
            record(tx, "person-disabled", {"name": name, "by": HERE}, now)
        return disabled

    disabled = _in_store(home, off)
    words = f"{name} is disabled" if disabled else f"{name} was disabled before: nothing was done"
    click.echo(json.dumps({"name": name, "role": accounts.DISABLED, "disabled": disabled}) if as_json else words)


def _in_store(home: Path, act: Callable[[Transaction], Result]) -> Result:
    """Run `act` in one transaction of the coordinator in `home`, whether it runs or not."""
    services = make_services(load(home))
    try:
        return services.database.run_here(act)
    finally:
        services.database.close()
