"""`consilium coordinator`: init, run, and the accounts, on its own machine."""

import asyncio
import errno
import json
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click
from sqlalchemy.exc import DatabaseError

from consilium.config import Homes
from consilium.coordinator import accounts, views
from consilium.coordinator.app import Settings, make_services, serve
from consilium.coordinator.home import DATABASE, FILE, load, served, sqlite, there, whole, within
from consilium.coordinator.ledgers import record
from consilium.coordinator.retention import MOST, Keeping
from consilium.core.errors import Conflict, Invalid
from consilium.durable import create_file, locked
from consilium.number import Number
from consilium.store.database import Database, Transaction, unreadable
from consilium.wire.address import address
from consilium.wire.identity import Identity
from consilium.wire.tls import make_authority, renew

HERE = "the coordinator's machine"
"""Who it was, in the audit log, where nobody logs in."""
NO_ACCOUNT = "There is no account yet: `consilium coordinator person NAME --role admin` adds one."
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
    type=Number(0, MOST, min_open=True),
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
    if (home / FILE).exists():
        raise Conflict(f"{home} holds a coordinator already", "choose another --home, or run it")
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    key_file = home / "identity.key"
    identity = Identity.load(key_file) if key_file.exists() else Identity.create(key_file)  # cut short, it goes on
    if certificate is None or key is None:
        make_authority(home / "tls", [host, "localhost", "127.0.0.1"], datetime.now(UTC))
    settings = {
        "url": url.rstrip("/"),
        "database": database or DATABASE,
        "blobs": within(home, blobs or home / "blobs"),
        "certificate": within(home, certificate or home / "tls" / "server.pem"),
        "key": within(home, key or home / "tls" / "server.key"),
        "ca": None if certificate else within(home, home / "tls" / "ca.pem"),
        **asdict(Keeping(quota_gb=quota_gb)),
    }
    if sqlite(held := whole(home, str(settings["database"]))) is not None:  # from now on it is there, or it was lost
        made = Database(held, lambda topic: None)
        made.prepare()
        made.close()
    path = home / FILE
    text = json.dumps(settings, indent=2) + "\n"
    create_file(path, text.encode(), 0o600)  # a database URL may hold a password
    told = {"home": str(home), "url": settings["url"], "fingerprint": identity.fingerprint}
    click.echo(json.dumps(told) if as_json else f"coordinator in {home}\nfingerprint: {identity.fingerprint}")


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
            remedy = "end it first; several processes at once want PostgreSQL, see `docs/how-to/use-postgresql.md`"
            raise Conflict(f"a coordinator already runs in {settings.home}", remedy)
        yield


@coordinator.command()
@home_option
@click.option("--host", default="", help="Address to listen on. Default: all.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on. Default: the one in the URL.")
@click.option(
    "--lease",
    "lease_s",
    type=Number(1, 3600),
    default=30.0,
    show_default=True,
    help="Seconds after which the work of a dead process is taken over.",
)
def run(home: Path, host: str, port: int | None, lease_s: float) -> None:
    """Serve until SIGTERM. Several processes may share one PostgreSQL and one folder of blobs."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    settings = load(home, host, port or 0, lease_s)
    there(settings)
    _free(settings.host, settings.port)
    served(settings)
    with _alone(settings):
        try:
            asyncio.run(serve(settings))
        except DatabaseError as error:
            raise unreadable(error) from error


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
    words = "\n".join(f"{one['name']} is {one['role']}, since {one['since'][:10]}" for one in found) or NO_ACCOUNT
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
    settings = load(home)
    there(settings)
    services = make_services(settings)
    try:
        return services.database.run_here(act)
    except DatabaseError as error:
        raise unreadable(error) from error
    finally:
        services.database.close()
