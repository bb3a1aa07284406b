"""Who I am at which coordinator: kept in a file that only I can read, or given by the environment."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from consilium.api import Federation
from consilium.config import Homes
from consilium.core.errors import Invalid, Unauthenticated, Unavailable
from consilium.durable import replace_file
from consilium.wire.address import address
from consilium.wire.connection import UNTRUSTED


@dataclass(frozen=True)
class Session:
    """A login: coordinator, account, short-lived token, and the certificate authority (PEM) it was made under."""

    url: str
    name: str
    token: str
    ca: str | None = None


def store(session: Session) -> Path:
    """Write the session, readable by its owner alone."""
    path = Homes.person() / "session.json"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace_file(path, json.dumps(asdict(session)).encode(), 0o600)
    return path


def load() -> Session:
    """The session in force: the environment first, then the file.

    Raises: Unauthenticated: there is none.   Invalid: the file is damaged.
    """
    path = Homes.person() / "session.json"
    kept = Session("", "", "")
    if path.exists():
        try:
            kept = Session(**json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise Invalid(f"{path} is damaged", "log in again with `consilium login URL`") from error
    url = os.environ.get("CONSILIUM_URL") or kept.url
    token = os.environ.get("CONSILIUM_TOKEN") or kept.token
    ca = os.environ.get("CONSILIUM_CA") or kept.ca
    if not url or not token:
        raise Unauthenticated("nobody is logged in here", "run `consilium login URL --name NAME --ca FILE`")
    return Session(url, kept.name, token, ca)


def federation() -> Federation:
    """The federation of the session in force."""
    session = load()
    return Federation(session.url, token=session.token, ca=session.ca)


@click.command()
@click.argument("url", envvar="CONSILIUM_URL")
@click.option("--name", required=True, help="Your account at the coordinator.")
@click.option(
    "--ca",
    envvar="CONSILIUM_CA",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file of the coordinator's certificate authority, where it is a private one.",
)
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Read the password from this file ('-': standard input) instead of asking for it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def login(url: str, name: str, ca: Path | None, password_file: Path | None, as_json: bool) -> None:
    """Log in at the coordinator URL; later commands use this session until its token expires."""
    address(url)
    password = os.environ.get("CONSILIUM_PASSWORD") or ""
    if password_file is not None:
        with click.open_file(str(password_file)) as file:
            password = file.read().strip()
    password = password or click.prompt("Password", hide_input=True, err=True)
    authority = str(ca.resolve()) if ca else None
    try:
        federation = Federation.login(url, name, password, ca=authority)
    except Unavailable as error:
        if not error.remedy.endswith(UNTRUSTED) or ca is not None:
            raise
        raise Unavailable(error.message, f"if its CA is a private one, give its file with --ca; {UNTRUSTED}") from error
    path = store(Session(url, name, federation.token, authority))
    if as_json:
        click.echo(json.dumps({"url": url, "name": name, "session": str(path)}))
    else:
        click.echo(f"Logged in at {url} as {name}; the session is in {path}.")
