"""`consilium sites` and `consilium people`: an administrator's view of who takes part."""

import os
from pathlib import Path

import click

from consilium.console.cli import output
from consilium.console.cli.session import federation


@click.group()
def sites() -> None:
    """Invite, admit and remove hospitals (for the coordinator's administrator)."""


@sites.command("list")
@output.as_json
def list_(as_json: bool) -> None:
    """List all hospitals: state, fingerprint, when last seen."""
    output.table(federation().sites(), as_json, ("site", "state", "fingerprint", "activity", "last_seen", "about"))


@sites.command()
@click.argument("site")
@output.as_json
def token(site: str, as_json: bool) -> None:
    """Make a one-time token with which SITE joins."""
    fact = federation().post("/v1/tokens", {"site": site})
    words = f"{fact['token']}\n\nGive this to {site}, which runs: consilium site join TOKEN (it serves once)"
    output.say(fact, as_json, words)


@sites.command()
@click.argument("site")
@click.option("--fingerprint", help="Fingerprint that the hospital read to you; without it you compare on screen.")
@output.as_json
def admit(site: str, fingerprint: str | None, as_json: bool) -> None:
    """Admit SITE after comparing its key's fingerprint with what the hospital reads to you."""
    here = federation()
    if fingerprint is None:
        known = {one["site"]: one.get("fingerprint", "") for one in here.sites()}
        fingerprint = str(known.get(site, ""))
        click.echo(f"Fingerprint of {site}: {fingerprint}", err=True)
        click.confirm("Does the hospital read the same to you?", abort=True, err=True)
    here.post(f"/v1/sites/{site}/admit", {"fingerprint": fingerprint})
    output.say({"site": site, "state": "admitted"}, as_json, f"Admitted {site}.")


@sites.command()
@click.argument("site")
@output.as_json
def remove(site: str, as_json: bool) -> None:
    """Remove SITE from the federation; what it sent stays in the record."""
    federation().post(f"/v1/sites/{site}/remove")
    output.say({"site": site, "state": "removed"}, as_json, f"Removed {site}.")


@click.group()
def people() -> None:
    """Accounts at the coordinator (for its administrator)."""


@people.command()
@click.argument("name")
@click.option("--role", type=click.Choice(["admin", "researcher", "auditor"]), required=True, help="What it may do.")
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Read the new password from this file ('-': standard input) instead of asking for it.",
)
@output.as_json
def add(name: str, role: str, password_file: Path | None, as_json: bool) -> None:
    """Add the account NAME."""
    password = os.environ.get("CONSILIUM_PASSWORD") or ""
    if password_file is not None:
        with click.open_file(str(password_file)) as file:
            password = file.read().strip()
    password = password or click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    federation().post("/v1/people", {"name": name, "role": role, "password": password})
    output.say({"name": name, "role": role}, as_json, f"Added {name} as {role}.")
