"""`consilium up`: a whole federation on this machine, for as long as one wants it."""

import json
import re
import secrets
import time
from pathlib import Path

import click

from consilium.core.errors import Conflict, Invalid
from consilium.core.ids import SLUG
from consilium.durable import locked
from consilium.privacy.pairing import FLOOR
from consilium.simulation import federation
from consilium.simulation.federation import Shell
from consilium.simulation.hospitals import CASE_MIX
from consilium.simulation.processes import demand_port, ended_at_last
from consilium.wire.address import address

PORT, MOST = 8443, 32
NEW = "then edit it, and map each hospital's table to it"


def names(hospitals: str) -> list[str]:
    """Names of hospitals: as given with commas between them, or that many.

    Raises: Invalid: not a number from 1 to 32, and not names.

    >>> names("2"), names("charite,ukb")
    (['north-general', 'lakeside'], ['charite', 'ukb'])
    """
    if hospitals.isdecimal():
        number = int(hospitals)
        if not 1 <= number <= MOST:
            raise Invalid(f"{number} hospitals do not fit on this machine", f"choose from 1 to {MOST}")
        return [*CASE_MIX, *(f"hospital-{index}" for index in range(len(CASE_MIX) + 1, MOST + 1))][:number]
    chosen = [name.strip() for name in hospitals.split(",")]
    wrong = [name for name in chosen if not re.match(SLUG, name)]
    if wrong or len(set(chosen)) != len(chosen):
        what = f"{wrong[0]!r} is no name of a hospital" if wrong else "a hospital is named twice"
        raise Invalid(what, "use a-z, 0-9 and hyphens, with commas between the names")
    return chosen


@click.command()
@click.option("--hospitals", help="How many, or their names with commas between. Default: 4, or those that are there.")
@click.option(
    "--home", type=click.Path(file_okay=False, path_type=Path), default=lambda: Path("~/.consilium/up").expanduser(),
    show_default="~/.consilium/up", help="Folder of the federation; what is there goes on.",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(1, 65535), help=f"Port of the coordinator, for a new federation. Default: {PORT}."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, in one line, when all is ready.")
def up(hospitals: str | None, home: Path, port: int | None, as_json: bool) -> None:
    """Run a coordinator and its hospitals' agents on this machine, until Ctrl-C.

    A new federation gets hospitals that have joined and were admitted, and you are logged in as its admin. Started
    again on the same folder, it goes on with the hospitals that it has, where it was.
    """
    known = home / "coordinator" / "coordinator.json"
    new = not known.exists()
    if new and home.exists() and any(home.iterdir()):
        raise Conflict(f"{home} holds something else", "give a new or empty folder with --home")
    url = f"https://127.0.0.1:{port or PORT}" if new else str(json.loads(known.read_text())["url"])
    listens = address(url).port
    if port is not None and port != listens:
        raise Conflict(f"the federation in {home} lives at {url}", "leave --port out")
    if new:
        demand_port(listens)
    else:
        _demand_rest(home, listens)
    chosen = names(hospitals or "4") if new or hospitals else []
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    home = home.resolve()
    variables = {"CONSILIUM_HOME": str(home / "person"), "CONSILIUM_PASSWORD": secrets.token_urlsafe(16)}
    shell = Shell(home, variables, lambda line: None)
    with ended_at_last(shell.children):
        if new:
            federation.begin(shell, url)
            federation.join(shell, chosen)
        else:
            chosen = _again(shell, url, chosen)
        _ready(home, url, chosen, as_json)
        _stay(shell, as_json)


def _demand_rest(home: Path, port: int) -> None:
    """Raises: Conflict: the federation in `home` runs, or somebody else listens on its port."""
    with (home / "coordinator" / "coordinator.lock").open("a") as file:
        if not locked(file):
            raise Conflict(f"the federation in {home} runs already", "go on with it, or end it first")
    demand_port(port, "end what listens there: the federation has this port")


def _stay(shell: Shell, as_json: bool) -> None:
    """Until Ctrl-C or SIGTERM, which is how this is meant to end. Raises: Unavailable: a process cannot run."""
    try:
        while True:
            for line in shell.children.revive(time.monotonic()):
                click.echo(line, err=True)
            time.sleep(0.5)
    except KeyboardInterrupt:
        if not as_json:
            click.echo("\nEnding the agents, then the coordinator.")


def _again(shell: Shell, url: str, wanted: list[str]) -> list[str]:
    """Start what is in the folder, and complete what was cut short; the password is not kept: a new one is set."""
    shell.type("consilium coordinator person admin --role admin --home coordinator")
    shell.start(federation.COORDINATOR)
    federation.log_in(shell, url)
    states = {one["site"]: one["state"] for one in json.loads(shell.type("consilium sites list --json"))}
    sites = sorted({*wanted, *(path.parent.name for path in shell.folder.glob("sites/*/identity.key"))})
    sites = [site for site in sites if states.get(site) != "removed"]
    shell.together([_lacking(shell.folder / "sites" / site, states.get(site, "")) for site in sites])
    shell.start(*(federation.agent(site) for site in sites))
    return sites


def _lacking(home: Path, state: str) -> list[str]:
    site = home.name
    lines = [] if (home / "identity.key").exists() else [federation.make(site)]
    if state not in ("pending", "admitted") or not (home / "site.json").exists():
        lines.append(federation.enter(site))
    return lines if state == "admitted" else [*lines, federation.admit(site)]


def _ready(home: Path, url: str, sites: list[str], as_json: bool) -> None:
    person = home / "person"
    if as_json:
        fact = {"url": url, "home": str(home), "hospitals": sites, "session": str(person), "ca": _ca(home)}
        click.echo(json.dumps(fact))
        return
    click.secho(f"A coordinator and {len(sites)} hospitals run on this machine", bold=True, nl=False)
    click.echo(f", at {url}:\n  {', '.join(sites)}\n\nGo on in another terminal:")
    example, enough = set(CASE_MIX) <= set(sites), len(sites) >= FLOOR
    study, files = ("breast-cancer", "hospitals/study.yaml") if example else ("my-study", "study.yaml")
    site, other = sites[0], sites[-1]
    weaker = "" if enough else "--accept plain "
    compare = (
        (
            f"consilium site compare {study}-1 --home sites/{site}",
            "the words of the roster, which its person reads out",
        ),
        (f"consilium site compare {study}-1 --home sites/{other} --words 'SIX WORDS' --person YOU", "at each hospital"),
    )
    for line, why in (
        (f"cd {federation.quoted(home)}", ""),
        (f"export CONSILIUM_HOME={federation.quoted(person)}", "logged in as admin, for 12 hours"),
        ("consilium sites list", "who is there"),
        ("consilium demo --prepare hospitals", "real patients for these hospitals, and a study")
        if example
        else ("consilium study new study.yaml", NEW if enough else f"{NEW}; secure_sum needs {FLOOR} hospitals"),
        (f"consilium study submit {files}", "send the study to the hospitals"),
        (f"consilium site review {study} --home sites/{site}", "as each hospital reads it"),
        (f"consilium site approve {study} --home sites/{site} --person YOU {weaker}\\", ""),
        (f"    --mapping hospitals/{site}/mapping.yaml", "at each hospital"),
        (f"consilium study start {study}", ""),
        *(compare if enough else ()),
        (f"consilium study watch {study}", ""),
    ):
        remark = click.style(f"  # {why}", dim=True) if why else ""
        click.echo(f"  {click.style(line, fg='cyan')}{remark}")
    click.echo(f"\nCtrl-C ends it; `consilium up --home {federation.quoted(home)}` goes on where it was.")


def _ca(home: Path) -> str:
    return str(home / "coordinator" / "tls" / "ca.pem")
