"""`consilium site`: what people at a hospital do. Nothing here needs root, and nothing listens.

What few commands need and is slow to load (the agent, tables, the doctor, the ledger) is imported where it is used.
"""

import logging
import os
import signal
import sys
from contextlib import closing
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import click

from consilium.core.errors import Conflict
from consilium.governance.words import explain
from consilium.number import Number
from consilium.site import failures, joining, options, showing, witness
from consilium.site.checkup import check
from consilium.site.folder import Folder
from consilium.site.history import checks, figures
from consilium.site.journal import Journal, damaged
from consilium.site.options import Existing, home_option, json_option, now, opened, person_option, reason_option, say
from consilium.site.presence import ring, running
from consilium.site.proposing import map_
from consilium.training.limits import ONE_THREAD
from consilium.wire.messages import Decision

log = logging.getLogger(__name__)


@click.group()
def site() -> None:
    """Take part with a hospital's data: join, check, decide, run. The data stay here."""


for command in (map_, check, checks, figures):
    site.add_command(command)


@site.command()
@home_option
@json_option
def init(home: Path, as_json: bool) -> None:
    """Make the site's folder: its key, and a policy to be edited."""
    folder = Folder.create(home)
    with closing(Journal(folder.journal)) as journal, journal.write() as tx:
        tx.record("init", {"public_key": folder.identity().public}, now())
    fact = {"home": str(home), "policy": str(folder.policy_file), "fingerprint": folder.identity().fingerprint}
    words = f"Site in {home}. Fingerprint of its key: {fact['fingerprint']}\n"
    words += f"Next: edit {folder.policy_file}, then `consilium site join TOKEN{options.in_home(home)}`."
    say(fact, as_json, words)


@site.command()
@click.argument("token")
@click.option("--about", default="", help="Institution and contact, for the coordinator's admin.")
@click.option("--ca", type=Existing, help="PEM file of the coordinator's CA, where a proxy hides it.")
@home_option
@json_option
def join(token: str, about: str, ca: Path | None, home: Path, as_json: bool) -> None:
    """Join the federation that TOKEN names; then read the fingerprint to its admin."""
    folder = Folder.open(home)
    state = joining.join(folder, token, about, ca, now())
    member, fingerprint = folder.membership(), folder.identity().fingerprint
    fact = {"site": member.site, "url": member.url, "state": state, "fingerprint": fingerprint}
    words = f"Joined {member.url} as {member.site} ({state}).\n"
    if state != "admitted":
        words += f"Read this to the coordinator's admin, who admits the site: {fingerprint}\n"
    say(fact, as_json, words + f"Next: `consilium site run{options.in_home(home)}`.")


@site.command()
@home_option
def run(home: Path) -> None:
    """Run the agent until it is ended (Ctrl-C or SIGTERM). It dials out and listens on nothing."""
    os.environ.update(ONE_THREAD)  # before NumPy is imported
    from consilium.site.agent import Agent
    from consilium.site.child import environment
    from consilium.site.forkserver import ForkServer

    folder = Folder.open(home)
    forks = ForkServer.start(environment())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if forks is None:
        log.info("children are programs of their own here: they begin more slowly")
    agent = Agent(folder, forks)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop.set())
    if not agent.run():
        raise Conflict("the agent ended by itself", "its log says why")


@site.command()
@click.argument("study")
@click.option("--code", type=click.Path(path_type=Path), help="Unpack the study's wheel into this new folder, to read.")
@home_option
@json_option
def review(study: str, code: Path | None, home: Path, as_json: bool) -> None:
    """Show STUDY in plain words: purpose, what is read, what is done, what leaves, and what the policy says."""
    with opened(home) as desk:
        plan, standing = desk.plan(study), desk.standing(study, now())
        if code is not None:
            from consilium.site.code import fetch_code

            fetch_code(desk, plan, code)
        from consilium.governance import declarable
        from consilium.site import budget, declarations, room

        need = room.of_study(desk.journal, plan, desk.folder.policy().limits).bytes
        spends, spent = budget.review(desk, plan)
        alone = declarable.words(plan.study, desk.folder.policy(), declarations.others(desk.journal, plan))
    fact = {
        "study": study, "plan": plan.digest, "standing": standing.word, "policy": standing.policy or "allowed",
        "words": explain(plan), "content": plan.study.model_dump(mode="json"), "disk_bytes": need, "budget": spends,
        "alone": alone,
    }  # fmt: skip
    verdict = f"forbids this study: {standing.policy}" if standing.policy else "allows this study"
    words = f"{explain(plan)}\n\n{alone}\n" if alone else f"{explain(plan)}\n"
    words += f"\nThe hospital's policy {verdict}.\nDecided here so far: {standing.word}."
    words += f"\nIts runs take up to {room.size(need)} of disk here.\n{spent}"
    if code is not None:
        words += f"\nThe study's code is in {code}. Nothing of it has run here."
    say(fact, as_json, words)


@site.command()
@click.argument("study")
@person_option
@click.option("--accept", "accepts", multiple=True, help="A weaker mode that the hospital accepts, such as plain.")
@click.option("--until", help="Last day of the approval, as 2030-12-31. Default: the longest that the policy allows.")
@click.option(
    "--mapping",
    type=Existing,
    help="Mapping file. Default: that of an approval before, or the contract's in the site's folder.",
)
@home_option
@json_option
def approve(
    study: str, person: str, accepts: tuple[str, ...], until: str | None, mapping: Path | None, home: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """Approve STUDY: a signed decision, bound to the hash of exactly this plan.

    The hospital's table is read and its training patients are counted: with fewer than the policy or the study asks
    for, nothing is signed.
    """
    with opened(home) as desk:
        decision = desk.approve(study, person, accepts, _day(until), mapping, now())
        warned, plan = "", desk.plan(study)
        if plan.study.privacy.epsilon is not None:
            from consilium.site.budget import warning  # slow to load, and most studies need none

            warned = warning(desk, plan)
    _decided(decision, home, as_json)
    if warned:
        click.secho(warned, fg="yellow", err=True)


@site.command()
@click.argument("study")
@person_option
@reason_option
@home_option
@json_option
def decline(study: str, person: str, reason: str, home: Path, as_json: bool) -> None:
    """Decline STUDY."""
    with opened(home) as desk:
        decision = desk.decline(study, person, reason, now())
    _decided(decision, home, as_json)


@site.command()
@click.argument("study", required=False)
@click.option("--all", "everything", is_flag=True, help="Revoke every approval of this hospital.")
@person_option
@reason_option
@home_option
@json_option
def revoke(study: str | None, everything: bool, person: str, reason: str, home: Path, as_json: bool) -> None:
    """Revoke the approval of STUDY: no further round is trained here, and what still waits is not sent."""
    if (study is None) != everything:
        raise click.UsageError("give either STUDY or --all")
    with opened(home) as desk:
        chosen = [study] if study else desk.approved(now())
        decisions = [desk.revoke(name, person, reason, now()) for name in chosen]
    if study:
        _decided(decisions[0], home, as_json)
    elif as_json:
        ring(Folder.open(home))
        say([_fact(decision) for decision in decisions], True, "")
    elif not decisions:
        click.echo("No study is approved here: there is nothing to revoke.")
    else:
        for decision in decisions:
            _decided(decision, home, as_json)


@site.command()
@click.argument("run")
@click.option("--words", "heard", help="The six words that another hospital read to you.")
@click.option("--person", help="Who compares: a name that stands in the audit log.")
@home_option
@json_option
def compare(run: str, heard: str | None, person: str | None, home: Path, as_json: bool) -> None:
    """Show the roster of RUN and its words; take the words of another hospital, and remember its keys if they agree.

    Who relays messages between hospitals could put keys of its own in their place: equal words show that it did not.
    """
    from consilium.site import comparing

    with opened(home) as desk:
        found = comparing.comparison(desk.journal, run)
        if heard is None and not as_json:
            showing.comparison_words(found)
            if sys.stdin.isatty():
                heard = click.prompt("Words read by another hospital (none: only show)", default="", show_default=False)
        if not heard:
            if as_json:
                say(found.to_json(), True, "")
            return
        if not person and sys.stdin.isatty():
            person = click.prompt("Who compares")
        if not person:
            raise click.UsageError("name who compares with --person")
        found = comparing.compare(desk.journal, run, heard, person, now())
    ring(Folder.open(home))
    say({**found.to_json(), "compared": person}, as_json, found.agreed(now()))


@site.command()
@home_option
@json_option
def status(home: Path, as_json: bool) -> None:
    """Show where this site belongs, whether its agent runs, its studies, and what it does."""
    with opened(home) as desk:
        fact = showing.status(desk, running(desk.folder), now())
    say(fact, as_json, "") if as_json else showing.status_words(fact)


@site.command()
@person_option
@home_option
@json_option
def acknowledge(person: str, home: Path, as_json: bool) -> None:
    """Say that a person has seen the alarms that `consilium site status` shows, and knows what they were.

    An alarm by which no messages are taken stays until the coordinator's administrator has opened the inbox again.
    """
    with opened(home) as desk:
        found = witness.acknowledge(desk.journal, person, now())
    ring(Folder.open(home))
    say(found, as_json, f"{len(found)} alarms are acknowledged by {person}.")


@site.command()
@home_option
@json_option
def budget(home: Path, as_json: bool) -> None:
    """Show what is spent, reserved and left of the privacy of this hospital's patients, and by which study."""
    from consilium.site.budget import facts, words

    with opened(home) as desk:
        fact = facts(desk)
    say(fact, as_json, "") if as_json else words(fact)


@site.command()
@person_option
@click.option("--epsilon", type=Number(0, 1000), help="Spent beside what the coordinator has. 0: nothing was.")
@click.option("--delta", type=Number(0, 1), default=0.0, help="Delta of that epsilon.")
@click.option("--population", default="", help="Of these patients alone. Default: of each population.")
@click.option("--figures", type=click.IntRange(0, 1000), help="Plans of which figures may have been promised since.")
@home_option
@json_option
def recount(
    person: str, epsilon: float | None, delta: float, population: str, figures: int | None, home: Path, as_json: bool
) -> None:  # fmt: skip
    """Say that this site was restored from an older copy: its ledger then charges all that the coordinator has of it.

    With --epsilon, charge so much beside it: what was spent by other means, or in a folder that is lost. Figures of
    this hospital alone are told no more until --figures says of how many plans they may have been promised since.
    """
    from consilium.site import declarations, recall
    from consilium.site.budget import countable

    with opened(home) as desk:
        if epsilon is not None:
            countable(desk, population, epsilon, delta)
        hidden = recall.unexplained(desk.journal)
        found = recall.recount(desk.journal, person, now())
        if epsilon is not None:
            recall.said(desk.journal, population, epsilon, delta, person, now())
        if figures is not None:
            declarations.counted(desk.journal, figures, person, now())
        else:
            declarations.forget(desk.journal)
        closed = bool(declarations.forgotten(desk.journal) and desk.folder.policy().release_figures)
    ring(Folder.open(home))
    words = recall.words(found, epsilon, hidden, closed)
    say({"rounds": found, "epsilon": epsilon, "figures": figures}, as_json, words)


@site.command()
@click.option("--study", help="Only what was sent for this study.")
@home_option
@json_option
def sent(study: str | None, home: Path, as_json: bool) -> None:
    """List everything that ever left this hospital: hash, size, study, round, and what became of it."""
    with opened(home) as desk:
        if not desk.journal.sound():
            raise damaged(desk.folder.journal)
        every = showing.sent(desk.journal)
    rows = [row for row in every if study in (None, row.get("study"))]
    known = {str(row["study"]) for row in every if row.get("study")}
    say(rows, as_json, "") if as_json else showing.sent_words(rows, study, known)


@site.command("log")
@click.argument("run", required=False)
@home_option
@json_option
def log_(run: str | None, home: Path, as_json: bool) -> None:
    """Show what the process that trains said when RUN failed here, or of which runs that is kept.

    A traceback of a study's own code may quote patients: it stays in this site's folder, and nothing of it is sent.
    """
    folder = Folder.open(home)
    if run is None:
        found = failures.kept(folder)
        say(found, True, "") if as_json else showing.table(found, ("run", "about"), "No run has failed here.")
        return
    text = failures.said(folder, run)
    say({"run": run, "text": text}, as_json, text)


@site.command()
@home_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, home: Path, as_json: bool) -> None:
    """Check everything this site needs: key, policy, disk, proxy, TLS, clock, versions, journal, data.

    Exit code 1: a problem was found.
    """
    found = []
    from consilium.site.doctor import examine

    for finding in examine(Folder.open(home), now()):
        found.append(finding)
        if not as_json:
            showing.finding(finding)
    if as_json:
        say([finding.to_json() for finding in found], True, "")
    if any(finding.level == "problem" for finding in found):
        ctx.exit(1)


def _decided(decision: Decision, home: Path, as_json: bool) -> None:
    folder = Folder.open(home)
    ring(folder)
    done = {"approve": "approved", "decline": "declined", "revoke": "revoked"}[decision.decision]
    words = f"{decision.study} is {done} by {decision.person}, for the plan {decision.plan}"
    if decision.expires is not None:
        words += f", until {decision.expires:%Y-%m-%d}"
    if not running(folder):
        words += "\nThe coordinator hears of it when the agent runs (`consilium site run`)."
    say(_fact(decision), as_json, words)


def _fact(decision: Decision) -> dict[str, Any]:
    return decision.model_dump(mode="json", include={"study", "plan", "decision", "person", "accepts", "expires"})


def _day(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), time.max, UTC)
    except ValueError as error:
        raise click.BadParameter("write the day as 2030-12-31", param_hint="--until") from error
