"""`consilium site map`: a mapping is proposed from the hospital's own tables, and a person confirms it, line by line.

Nothing is sent, and nothing is read of it for a study before a person has confirmed all of it.
"""

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from consilium import studyfile
from consilium.config import Homes
from consilium.core.errors import Conflict, ConsiliumError, DataUnusable, Invalid, NotFound
from consilium.site import questions
from consilium.site.options import Existing, home_option, json_option, opened, say

if TYPE_CHECKING:  # they stand on much that most commands do not need
    from consilium.core.contract import Contract
    from consilium.data.base import Rows
    from consilium.data.proposal.propose import Proposal, Proposals
    from consilium.data.proposal.survey import Found

MOST = 50
"""Tables that are looked at; with more, a person names one."""
LIKELY = 0.5
"""How alike the name of a column elsewhere must be to be told."""


@dataclass(frozen=True)
class Draft:
    """What is proposed from one table. others: titles of those beside it.   elsewhere: what they have that it lacks."""

    table: "Found"
    of: "Proposals"
    others: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()


@click.command("map")
@click.argument("study", required=False)
@click.option("--study-file", type=Existing, help="A study file, instead of a study that was offered here.")
@click.option("--source", required=True, help="File, folder or database (SQLAlchemy URL, ${NAME} for its password).")
@click.option("--table", help="Which file, sheet or table, where there are several. Default: the one that fits best.")
@click.option("--query", default="", help="Of a database: one SELECT, such as a JOIN, that gives one row per patient.")
@click.option("--columns", default="", help="Names of the columns, with commas, of a text file without a header.")
@click.option("--opt-out", type=Existing, help="List of patients who are left out: nothing else is looked at of them.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="Where the mapping is written. Default: that of the contract, in the site's folder.",
)  # fmt: skip
@home_option
@json_option
def map_(
    study: str | None, study_file: Path | None, source: str, table: str | None, query: str, columns: str,
    opt_out: Path | None, output: Path | None, home: Path, as_json: bool,
) -> None:  # fmt: skip
    """Propose a mapping from the hospital's own tables to the contract of STUDY, for a person to confirm.

    Names of columns, units, codes and distributions are looked at here, and nothing is sent. In a terminal each line is
    asked for; what nobody confirmed stands in `unconfirmed` of the file, and until a person has removed it there,
    nothing is checked or trained by that file. Codes that few patients have, and values, are not shown.
    """
    if (study is None) == (study_file is None):
        raise click.UsageError("give either STUDY or --study-file")
    from consilium.data.counts import MIN_CELL
    from consilium.data.proposal import document
    from consilium.durable import replace_file

    with opened(home) as desk:
        wanted = desk.plan(study).study if study else studyfile.read(study_file or Path())
        contract = wanted.contract
        usual = (desk.folder.mappings / f"{contract.id}.yaml").absolute()
        path = usual if output is None else output.absolute()
        least = max(MIN_CELL, desk.folder.policy().min_cell)
    if path.exists():
        raise Conflict(f"there is a mapping {path} already", "name another file with --output, or move it away")
    if contract.image is not None:
        raise Invalid("images are not proposed for", "write the mapping; the page of images says how")
    named = [one.strip() for one in columns.split(",") if one.strip()]
    draft = drafted(contract, source, table, named, least, opt_out, query)
    confirmed: set[str] = set()
    if sys.stdin.isatty() and not as_json:
        of, confirmed = questions.asked(draft.table.title, draft.of, least)
        draft = replace(draft, of=of)
    used = [one.chosen.column for one in draft.of.of if one.chosen]  # and what a person may write in place of it
    used += [other.column for one in draft.of.of if one.want.place not in confirmed for other in one.others]
    kept = draft.table.kept(sorted({*used, *filter(None, [draft.of.key])}))
    moved = {key: document.beside(value, path.parent) for key in ("path", "url") if (value := getattr(kept, key))}
    kept = kept.model_copy(update=moved)
    out = document.beside(str(opt_out.absolute()), path.parent) if opt_out else None
    text = document.document(draft.of, contract, kept, draft.table.title, confirmed, draft.others, draft.elsewhere, out)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode())
    waiting = [place for place in document.places(draft.of) if place not in confirmed]
    words = ["consilium", "site", "check", *([study] if study else ["--study-file", str(study_file)])]
    words += [] if path == usual else ["--mapping", str(output)]
    words += [] if home == Homes.site() else ["--home", str(home)]
    say(_fact(draft, path, waiting), as_json, "") if as_json else _words(draft, path, waiting, shlex.join(words))


def drafted(
    contract: "Contract", source: str, table: str | None, columns: list[str], least: int, opt_out: Path | None = None,
    query: str = "",
) -> Draft:  # fmt: skip
    """The proposal of the table that fits best; of several, what the others have is told.

    Raises: NotFound: there is no table, or too many.   MappingInvalid, DataUnusable: what cannot be read.
    """
    from consilium import plugins
    from consilium.data.base import source as opened_source
    from consilium.data.choosing import opted_out
    from consilium.data.proposal.propose import propose
    from consilium.data.proposal.survey import tables

    out = frozenset(opted_out(opt_out)) if opt_out else frozenset[str]()
    every = tables(source, columns, query)
    chosen = [one for one in every if table in (None, one.title, one.title.rpartition(", ")[2])]
    names = ", ".join(one.title for one in every[:MOST])
    if not chosen:
        raise NotFound(f"{source} has no table {table!r}", f"it has {names}")
    if len(chosen) > MOST:
        raise NotFound(f"{source} has {len(chosen)} tables", f"name one with --table, such as {every[0].title}")
    drafts, lost = [], []
    for one in chosen:
        try:
            rows = opened_source(one.look, Path("/"), plugins.names("consilium.sources")).rows()
            drafts.append(Draft(one, propose(contract, _left(contract, rows, out), least)))
        except ConsiliumError as error:
            if len(chosen) == 1:
                raise
            lost.append(f"{one.title}: {error.message}")
    if not drafts:
        raise Invalid(f"none of the tables can be read: {'; '.join(lost)}", "name one with --table")
    best = max(drafts, key=lambda one: one.of.score)
    elsewhere = tuple(_elsewhere(best, [one for one in drafts if one is not best]))
    others = tuple(one.title for one in every if one is not best.table)
    return replace(best, others=others, elsewhere=elsewhere, passed_over=tuple(lost))


def _left(contract: "Contract", rows: "Rows", out: frozenset[str]) -> "Rows":
    """Rows without those who opted out, of whom the key alone is looked at. Raises: DataUnusable: there is no key."""
    from consilium.data.choosing import without
    from consilium.data.proposal.propose import key

    if not out:
        return rows
    patient = key(contract, rows)
    if not patient:
        raise DataUnusable("no column looks like the key of a patient, by whom some opted out", "give a table with one")
    return without(rows, patient, out)


def _elsewhere(best: Draft, others: list[Draft]) -> list[str]:
    """Columns of other tables for what this one lacks: a person may join them by a view."""
    lacking = {one.want.place for one in best.of.of if one.chosen is None}
    found = []
    for draft in others:
        for one in draft.of.of:
            if one.want.place in lacking and one.chosen is not None and one.chosen.likeness >= LIKELY:
                found.append(f"{one.want.place} could be {one.chosen.column} of {draft.table.title}")
    return found


def _fact(draft: Draft, path: Path, waiting: list[str]) -> dict[str, Any]:
    from consilium.data.counts import hidden

    return {
        "mapping": str(path), "table": draft.table.title, "rows": hidden(draft.of.rows), "patient": draft.of.key,
        "proposals": [_line(one) for one in draft.of.of], "unconfirmed": waiting, "others": list(draft.others),
        "elsewhere": list(draft.elsewhere),
        "passed_over": list(draft.passed_over),
    }  # fmt: skip


def _line(one: "Proposal") -> dict[str, Any]:
    from consilium.data.proposal.document import told

    return {
        "what": one.want.place, "proposed": told(one), "confidence": one.confidence, "why": "; ".join(one.reasons),
        "to do": one.open, "or": ", ".join(other.column for other in one.others),
    }  # fmt: skip


def _words(draft: Draft, path: Path, waiting: list[str], check: str) -> None:
    from consilium.site import showing

    showing.table([_line(one) for one in draft.of.of], ("what", "proposed", "confidence", "why", "to do", "or"))
    if draft.others:
        click.echo(
            f"One table serves: {draft.table.title}, and not {', '.join(draft.others[:MOST])}. Where the study needs "
            "columns of several, make a view that joins them to one row per patient and name it with --table, or give "
            "the SELECT with --query; --table takes another one."
        )
    for one in (*draft.elsewhere, *(f"not read: {lost}" for lost in draft.passed_over)):
        click.echo(one)
    click.echo(f"Wrote {path}, from {draft.table.title}. Nothing was sent.")
    if waiting:
        click.echo(f"{len(waiting)} lines wait for a person: correct them, and remove each name from `unconfirmed`.")
    click.echo(f"Then: `{check}`.")
