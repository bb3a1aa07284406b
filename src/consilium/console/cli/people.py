"""`consilium sites` and `consilium people`: an administrator's view of who takes part."""

import os
from pathlib import Path

import click

from consilium.console.cli import output
from consilium.console.cli.session import federation
from consilium.core.errors import NotFound, Refused


@click.group()
def sites() -> None:
    """Invite, admit and remove hospitals (for the coordinator's administrator)."""


@sites.command("list")
@output.as_json
def list_(as_json: bool) -> None:
    """List all hospitals: state, fingerprint, when last seen, and alarms that nobody has acknowledged."""
    found = federation().sites()
    columns = ("site", "state", "fingerprint", "activity", "last_seen", "about")
    shown = found if as_json else [{**one, "last_seen": output.moment(one["last_seen"])} for one in found]
    output.table(shown, as_json, columns, "No hospital has joined yet: `consilium sites token SITE` lets one.")
    for one in [] if as_json else found:
        for alarm in one.get("alarms", []):
            click.echo(output.plain(f"\nalarm ({alarm['why']}, {alarm['at'][:19]}): {alarm['text']}"))


@sites.command()
@click.argument("site")
@output.as_json
def token(site: str, as_json: bool) -> None:
    """Make a one-time token with which SITE joins."""
    fact = federation().post("/v1/tokens", {"site": site})
    words = f"{fact['token']}\n\nGive this to {site}, which runs: consilium site join TOKEN (it serves once)"
    output.say(fact, as_json, words)


@sites.command()
@output.as_json
def tokens(as_json: bool) -> None:
    """List the join tokens that nobody has used: for which hospital, and until when. Their text is not kept."""
    rows = federation().connection.get("/v1/tokens")
    shown = rows if as_json else [{**one, "expires": output.moment(one["expires"])} for one in rows]
    output.table(shown, as_json, ("site", "expires"), "No join token is unused.")


@sites.command()
@click.argument("site")
@output.as_json
def cancel(site: str, as_json: bool) -> None:
    """Cancel the join tokens of SITE that nobody has used. A hospital that has joined is removed with `remove`."""
    fact = federation().post(f"/v1/tokens/{site}/cancel")
    output.say(fact, as_json, f"Cancelled the unused tokens of {site}: {fact['cancelled']}.")


@sites.command()
@click.argument("site")
@click.option("--fingerprint", help="Fingerprint that the hospital read to you; without it you compare on screen.")
@output.as_json
def admit(site: str, fingerprint: str | None, as_json: bool) -> None:
    """Admit SITE after comparing its key's fingerprint with what the hospital reads to you."""
    here = federation()
    if fingerprint is None:
        known = {one["site"]: str(one["fingerprint"]) for one in here.sites()}
        if site not in known:
            remedy = f"`consilium sites list` shows who has; invite it with `consilium sites token {site}`"
            raise NotFound(f"no hospital has joined as {site}", remedy)
        fingerprint = known[site]
        click.echo(f"Fingerprint of {site}: {fingerprint}", err=True)
        if not click.confirm("Does the hospital read the same to you?", err=True):
            raise Refused(
                f"{site} is not admitted: the hospital reads other words",
                f"compare again; if they stay different, somebody else has used its token: `consilium sites remove "
                f"{site}`, and call the hospital",
                reason="fingerprint",
            )
    here.post(f"/v1/sites/{site}/admit", {"fingerprint": fingerprint})
    output.say({"site": site, "state": "admitted"}, as_json, f"Admitted {site}.")


@sites.command()
@click.argument("site")
@output.as_json
def remove(site: str, as_json: bool) -> None:
    """Remove SITE from the federation; what it sent stays in the record."""
    federation().post(f"/v1/sites/{site}/remove")
    output.say({"site": site, "state": "removed"}, as_json, f"Removed {site}.")


@sites.command()
@click.argument("site")
@output.as_json
def acknowledge(site: str, as_json: bool) -> None:
    """Say that you have seen the alarms about SITE, and know what they were; they are not shown any more."""
    fact = federation().post(f"/v1/sites/{site}/acknowledge")
    output.say(fact, as_json, f"{fact['alarms']} alarms about {site} are acknowledged.")


@sites.command()
@click.argument("site", required=False)
@click.option("--all", "everything", is_flag=True, help="Every hospital that reports a loss.")
@output.as_json
def reopen(site: str | None, everything: bool, as_json: bool) -> None:
    """Say that this coordinator was restored from an older copy: SITE, which holds later messages, goes on.

    What was lost stays lost: studies, accounts and admissions since the copy. Hospitals say anew what they decided.
    """
    if (site is None) != everything:
        raise click.UsageError("give either SITE or --all")
    here = federation()
    lost = [one["site"] for one in here.sites() if any(a["why"].startswith("inbox-") for a in one["alarms"])]
    facts = [here.post(f"/v1/sites/{name}/reopen") for name in (lost if site is None else [site])]
    words = [f"{one['site']} goes on after message {one['taken']}; {one['known']} were known here." for one in facts]
    output.say({"sites": facts}, as_json, "\n".join(words) or "No hospital reports a loss.")


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


@people.command("list")
@output.as_json
def list_people(as_json: bool) -> None:
    """List the accounts and their roles; one that is disabled has no other."""
    output.table(federation().connection.get("/v1/people"), as_json, ("name", "role", "since"))


@people.command()
@click.argument("name")
@output.as_json
def disable(name: str, as_json: bool) -> None:
    """Disable the account NAME: its tokens end at once, and its password serves no more.

    What it did stays in the record, and its studies and runs stay as they are. `add` makes it serve again.
    """
    fact = federation().post(f"/v1/people/{name}/disable")
    words = f"Disabled {name}." if fact["disabled"] else f"{name} was disabled before: nothing was done."
    output.say(fact, as_json, words)
