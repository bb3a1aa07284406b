"""What the commands of a site print for people, and the facts behind it."""

import json
from collections import deque
from collections.abc import Collection, Iterator
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from consilium.core.ids import digest
from consilium.site import contact, failures, leftout, refused
from consilium.site.deciding import Desk
from consilium.site.journal import BEHIND, Journal, uncompared
from consilium.site.witness import OPEN

if TYPE_CHECKING:  # they stand on much that most commands do not need
    from consilium.data.quality import Report
    from consilium.site.comparing import Comparison
    from consilium.site.doctor import Finding

Json = dict[str, Any]
MANY = 20
"""So many features in a row of which the same is said are shown as one."""
WIDE = 100
"""More features than so many, such as the values of a signal, are not all shown as mapped; `--json` has them."""
SIGNS = {
    "ok": ("ok", "green"),
    "note": ("note", "yellow"),
    "warning": ("warning", "yellow"),
    "problem": ("problem", "red"),
}


def _console() -> Console:
    terminal = Console(highlight=False)
    return terminal if terminal.is_terminal else Console(highlight=False, width=200)


def table(rows: list[Json], columns: tuple[str, ...], empty: str = "There is none.") -> None:
    """Rows under their columns, as others than this hospital may have written them; `empty` where there are none."""
    if not rows:
        click.echo(empty)
        return
    shown = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        shown.add_row(*(_cell(row.get(name)) for name in columns))
    _console().print(shown)


def _cell(value: object) -> Text:
    """As it is, without markup, and without what would move the cursor: others than this hospital write some of it."""
    text = "" if value is None else str(value)
    return Text("".join(letter if letter.isprintable() else " " for letter in text))


def sent(journal: Journal) -> list[Json]:
    """Everything that ever left, oldest first, from the audit log; with what became of it, from the outbox.

    The same bytes may be sent several times, and each time something else becomes of them: both are in one order.
    """
    became: dict[str, deque[str]] = {}
    for row in journal.rows("SELECT digest, envelope, status FROM outbox ORDER BY id"):
        for name in filter(None, (row["digest"], digest(bytes(row["envelope"])))):
            became.setdefault(name, deque()).append(str(row["status"]))
    entries = (json.loads(entry) for entry in journal.entries())
    bodies = [{"at": entry["at"], **entry["body"]} for entry in entries if entry["kind"] == "send"]
    return [{**body, "became": known.popleft() if (known := became.get(body["digest"])) else "sent"} for body in bodies]


def sent_words(rows: list[Json], study: str | None = None, studies: Collection[str] = ()) -> None:
    """As a table, with the sum at its end.

    Args:    study: the one that was asked for.   studies: those for which something was sent.
    """
    table(
        [{**row, "at": row["at"][:19], "what": f"{row['what']} {row.get('phase', '')}".strip()} for row in rows],
        ("at", "what", "study", "run", "round", "size", "became", "digest"),
        "Nothing has left this hospital yet."
        if study is None or not studies
        else f"Nothing was sent for a study {study}. Something was for: {', '.join(sorted(studies))}.",
    )
    click.echo(
        f"\n{len(rows)} things, {sum(row['size'] for row in rows):,} bytes. No record of a patient is among them."
    )


def status(desk: Desk, runs: bool, now: datetime) -> Json:
    """Membership, agent, studies, open tasks, and what waits to be sent."""
    folder, journal = desk.folder, desk.journal
    member = folder.membership() if folder.joined() else None
    studies = [desk.standing(name, now) for name in desk.offered()] if member else []
    tasks = journal.rows("SELECT run, round, kind, status, note FROM tasks ORDER BY seq DESC LIMIT 5")
    waiting = journal.row("SELECT count(*) AS n FROM outbox WHERE status = 'waiting'")
    heard, trouble = contact.told(folder)
    return {
        "home": str(folder.home),
        "site": member.site if member else None,
        "coordinator": member.url if member else None,
        "fingerprint": folder.identity().fingerprint,
        "agent": "runs" if runs else "does not run",
        "heard": heard or None,
        "trouble": trouble if runs else "",
        "twin": contact.twin(folder) if runs else "",
        "studies": [
            {
                "study": one.study, "title": one.title, "plan": one.plan, "standing": one.word,
                "expires": one.said.expires if one.said else None, "policy": one.policy or "allowed",
            }
            for one in studies
        ],
        "tasks": [dict(row) for row in tasks],
        "compare": uncompared(journal),
        "refused": refused.standing(journal),
        "failures": [one["run"] for one in failures.kept(folder)],
        "left_out": [one.to_json() for one in leftout.going_on(journal)],
        "waiting": int(waiting["n"]) if waiting else 0,
        "alarms": [dict(row) for row in journal.rows(OPEN)],
        "behind": json.loads(journal.meta(BEHIND, '{"why": ""}') or '{"why": ""}')["why"],
    }  # fmt: skip


def status_words(fact: Json) -> None:
    """The same, for people."""
    where = f"{fact['site']} at {fact['coordinator']}" if fact["site"] else "not joined yet"
    click.echo(f"{where}; the agent {fact['agent']}; {fact['waiting']} messages wait to be sent")
    if fact["heard"]:
        click.echo(f"the coordinator was heard last at {fact['heard'][:19]} UTC")
    if fact["trouble"]:
        click.echo(f"{click.style('since then', fg='red')} nothing is received: {_cell(fact['trouble'])}")
    if fact["twin"]:
        click.echo(f"{click.style('held', fg='red')} since {fact['twin'][:19]} UTC: {contact.TWIN}.")
        click.echo(f"Next: {contact.TWIN_NEXT}.")
    click.echo(f"key {fact['fingerprint']}\n")
    for alarm in fact["alarms"]:
        click.echo(f"{click.style('alarm', fg='red')} {alarm['at'][:19]}: {_cell(alarm['text'])}")
        click.echo(f"      {_cell(alarm['note']) or 'Ask the coordinator, by another way, what happened.'}")
    if fact["alarms"]:
        click.echo("Next: `consilium site acknowledge --person NAME`, when you know what it was.\n")
    if fact["behind"]:
        click.echo(f"{click.style('ledger', fg='red')} {fact['behind']}: nothing is trained under a privacy budget.")
        click.echo("Next: `consilium site recount --person NAME`, by a person who knows that this site was restored.\n")
    none = "No study was offered to this hospital yet: its agent hears of those to come (`consilium site run`)."
    ends = [one["expires"] and f"{one['expires']:%Y-%m-%d %H:%M} UTC" for one in fact["studies"]]
    studies = [{**one, "expires": end} for one, end in zip(fact["studies"], ends, strict=True)]
    table(studies, ("study", "standing", "expires", "policy", "title"), none)
    for run in fact["compare"]:
        click.echo(f"\n{run} waits for its words to be compared: `consilium site compare {run}`")
    for one in fact["refused"]:
        click.echo(f"\nround {one['round']} of {one['run']} was refused here ({one['reason']})")
        if one["next"]:
            click.echo(f"Next: {one['next']}")
        if one["run"] in fact["failures"]:
            click.echo(f"What the process that trains said: `consilium site log {one['run']}`")
    for one in fact["left_out"]:
        click.echo(f"\n{click.style('left out', fg='red')} {_cell(leftout.LeftOut(**one).text)}")
        click.echo(f"         Next: {leftout.NEXT}.")
    if fact["tasks"]:
        click.echo("\nNewest tasks")
        table(fact["tasks"], ("run", "round", "kind", "status", "note"))


def comparison_words(found: "Comparison") -> None:
    """The roster of a run, and its words, for people."""
    click.echo(f"The hospitals of {found.run}, and the fingerprints of their keys:\n")
    rows = [dict(zip(("site", "fingerprint", "known"), member, strict=True)) for member in found.members]
    table(rows, ("site", "known", "fingerprint"))
    if found.time:
        click.echo(f"\n{found.time}")
    # Last, where scripts find them, too.
    click.echo(f"\nRead these words to another hospital, on a line that you trust, and hear theirs:\n  {found.words}")


def finding(found: "Finding") -> None:
    """One line of the doctor, and what to do."""
    sign, colour = SIGNS[found.level]
    click.echo(f"{click.style(f'{sign:<8}', fg=colour)} {found.check:<12} {found.words}")
    if found.remedy:
        click.echo(f"{'':<22}Next: {found.remedy}")


def checks(rows: list[Json]) -> None:
    """The checks that were made here, as a table."""
    table(
        [
            {
                **row, "at": row["at"][:19], "outcome": "passed" if row["passed"] else "not passed",
                "sent": "yes" if row["sent"] else "no", "blocking": ", ".join(row["blocking"]),
                "advisory": len(row["advisory"]),
            }
            for row in rows
        ],
        ("at", "study", "outcome", "sent", "training", "advisory", "blocking"),
        "No check was made here yet: `consilium site check STUDY` makes one.",
    )  # fmt: skip


def figures(rows: list[Json]) -> None:
    """What models are worth here, as a table."""
    from consilium.documents.estimate import Estimate
    from consilium.documents.terms import METRICS, interval
    from consilium.site.figures import COMMON, OWN

    whose = {OWN: "own model: ", COMMON: "common model: "}
    told = []
    for row in rows:
        for name, one in row["figures"].items():
            estimate, of = Estimate.of(one), name.removeprefix(OWN).removeprefix(COMMON)
            word = METRICS[of].word if of in METRICS else of.replace("_", " ")
            word = whose.get(name.removesuffix(of), "") + word
            told.append({"run": row["run"], "figure": word, "value": interval(estimate), "n": estimate.n})
    table(told, ("run", "figure", "value", "n"), "No final model was judged here yet.")


def _together(rows: list[Json]) -> Iterator[Json]:
    """Rows of neighbours of which all but the name is the same, such as the values of a signal, as one."""
    for _, same in groupby(rows, lambda row: [value for name, value in row.items() if name != "feature"]):
        several = list(same)
        first, last = several[0]["feature"], several[-1]["feature"]
        yield from several if len(several) < MANY else [{**several[0], "feature": f"{first} to {last}"}]


def _spread(found: "Report") -> None:
    """Between what values lie, as they were mapped: a tenth of the true median is seen by who knows the patients."""
    rows = [
        {"feature": one.id, "as mapped": one.spread.words or other, "in the contract": one.spread.against}
        for one, other in (*((one, "") for one in found.features), (found.label, found.prevalence))
        if one.spread.words or other
    ]
    click.echo("\nDo your patients look like that? Medians (a tenth, or ten, lie at or beyond each end), and shares:")
    few = rows if len(rows) <= WIDE else [*rows[:MANY], {"feature": "..."}, *rows[-MANY:]]
    table(few, ("feature", "as mapped", "in the contract"))
    click.echo()


def _unnamed(found: "Report") -> None:
    """Codes beside those that a query names, for a person who knows what they mean."""
    if not found.unnamed:
        return
    rows = [
        {"column": one.column, "named": ", ".join(one.named),
         "beside them": ", ".join(f"{text} ({count})" for text, count in one.others[:MANY])
         + (", ..." if len(one.others) > MANY else "")}
        for one in found.unnamed
    ]  # fmt: skip
    click.echo("Is one of the codes forgotten? What source.query names, and what stands there beside it (rows):")
    table(rows, ("column", "named", "beside them"))
    click.echo()


def concluded(usable: bool, undone: int) -> str:
    """The end of a check. Args: undone: checks that could not be done.

    >>> concluded(True, 0), concluded(False, 0)
    ('Ready for training.', 'Not ready: mend what blocks.')
    """
    several = undone > 1
    lacks = f"{undone} check{'s' if several else ''} could not be done"
    mend = f"do by hand what {'they say' if several else 'it says'} (`undone` above), or write the query more plainly"
    if usable:
        return f"Ready for training, but {lacks}: {mend}." if undone else "Ready for training."
    return f"Not ready: mend what blocks. And {lacks}: {mend}." if undone else "Not ready: mend what blocks."


def report(found: "Report", sent: bool = False) -> None:
    """How the data fit, feature by feature, and what to do."""
    click.echo(f"{found.study}, contract {found.contract}: {found.read} rows read, {found.kept} patients usable")
    click.echo(f"training {found.training}, held out {found.test}, prevalence {found.prevalence}")
    click.echo(f"left out: {found.without_label} without the label, {found.incomplete} incomplete")
    others = {
        "excluded": found.excluded, "too young a label": found.immature,
        "other entries of the same patients": found.other_entries,
    }  # fmt: skip
    if any(others.values()):
        click.echo(f"and before that: {', '.join(f'{count} {why}' for why, count in others.items() if count)}")
    if found.listed is not None:
        click.echo(f"opted out: {found.opted_out} patients of this table, by a list of {found.listed}")
    click.echo()
    rows = []
    for one in (*found.features, found.label):
        unmapped = ", ".join(f"{code} ({count})" for code, count in one.unmapped.items())
        rows.append({
            "feature": one.id, "coverage": one.coverage, "missing": one.missing, "out of range": one.out_of_range,
            "not a number": one.not_a_number, "unmapped": unmapped, "unit": one.converted, "verdict": one.level,
        })  # fmt: skip
    table([*_together(rows[:-1]), rows[-1]], tuple(rows[0]))
    _spread(found)
    _unnamed(found)
    for finding in sorted(found.findings, key=lambda one: not one.blocks):
        note = click.style("undone" if finding.undone else "note  ", fg="yellow")
        sign = click.style("blocks", fg="red") if finding.blocks else note
        click.echo(f"  {sign} {_cell(finding)} [{finding.kind}, {finding.count}]")
        if finding.write:
            click.echo(f"         write {finding.place}: {_cell(finding.write)}")
    click.echo(f"\n{concluded(found.usable, found.undone)}")
    if sent:
        click.echo("The outcome is sent to the study's owner, signed, without counts and codes.")
