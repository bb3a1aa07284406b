"""`consilium site check`: how the hospital's data fit a study, and, to who asks here, what became of single patients.

Of single patients keys and values are shown: on a terminal, or in a file of the person's that nobody else reads. They
are in no report, journal or message, and in no log of Consilium's; where output is no terminal, they are refused.
Whether something else keeps a terminal, as `docker run -t` and `script` do, nobody here can see.
"""

import codecs
import csv
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from consilium import studyfile
from consilium.core.errors import Conflict, DataUnusable, Invalid
from consilium.site import failures, showing
from consilium.site.folder import Folder
from consilium.site.options import Existing, home_option, json_option, now, opened, say
from consilium.site.presence import ring

if TYPE_CHECKING:  # it stands on much that most commands do not need
    from consilium.data.singles import Singles

NAMED = 100
"""So many damaged files are named at most."""
ROWS = 100_000
"""Patients that are looked at, at most."""
FORMULA, NUMBER = tuple("=+-@\t\r"), re.compile(r"[-+]?[0-9.,]+(?:[eE][-+]?[0-9]+)?")


@click.command()
@click.argument("study", required=False)
@click.option("--study-file", type=Existing, help="A study file, instead of a study that was offered here.")
@click.option("--mapping", type=Existing, help="Mapping file. Default: the one of the contract, in the site's folder.")
@click.option("--tell", is_flag=True, help="Send the outcome, signed and coarse, to the study's owner.")
@click.option(
    "--rows", type=click.IntRange(1, ROWS), help="Show so many patients: what the source has, what was made of it."
)
@click.option(
    "--patients", type=click.File("rb"), help="Show these: a file with a key on each line; - reads what you type."
)
@click.option(
    "--to", type=click.Path(dir_okay=False, path_type=Path),
    help="Write the patients into this new CSV file, which only you can read. Default: show them on the terminal.",
)  # fmt: skip
@home_option
@json_option
@click.pass_context
def check(
    ctx: click.Context, study: str | None, study_file: Path | None, mapping: Path | None, tell: bool,
    rows: int | None, patients: BinaryIO | None, to: Path | None, home: Path, as_json: bool,
) -> None:  # fmt: skip
    """Check how the hospital's data fit STUDY, and say what to do. Small counts are hidden.

    Nothing leaves, unless STUDY has a gate, is approved here and would be trained with this mapping, or with --tell:
    then the outcome is sent, signed, in kinds of findings, percents in steps of five, and tens of patients; under an
    epsilon in kinds of findings alone.
    Without --tell percents and tens are those that were told before for the same plan.

    With --rows or --patients single patients are shown, with their keys, next to what the source has. That is neither
    kept nor sent.

    Exit code 1: something stands in the way of training.
    """
    if (study is None) == (study_file is None):
        raise click.UsageError("give either STUDY or --study-file")
    if tell and study is None:
        raise click.UsageError("--tell is for a study that was offered here")
    singles = _asked(rows, patients, to, as_json)
    sent = False
    with _naming(not as_json and sys.stdout.isatty()), opened(home) as desk:
        if study is not None:
            report, sent = desk.checked(study, mapping, tell, now(), singles)
        else:
            assert study_file is not None
            wanted = studyfile.read(study_file)
            path = desk.folder.mapping(wanted.contract.id, mapping)
            from consilium.site import extracts, tables

            with extracts.passing(desk.folder) as place:
                report = tables.check(wanted, path, place, singles)
    if sent:
        ring(Folder.open(home))
    say({**report.to_json(), "sent": sent}, as_json, "") if as_json else showing.report(report, sent)
    if singles is not None:
        _shown(singles, to)
    if not report.usable:
        ctx.exit(1)


@contextmanager
def _naming(terminal: bool) -> Iterator[None]:
    """What an error is about is named on a terminal, where nobody keeps it: a file's name may be a patient's."""
    try:
        yield
    except DataUnusable as error:
        if terminal and error.which:
            more = f"\nand {len(error.which) - NAMED} more" if len(error.which) > NAMED else ""
            click.echo("\n".join(failures.plain(one) for one in error.which[:NAMED]) + more)
        raise


def _asked(rows: int | None, patients: BinaryIO | None, to: Path | None, as_json: bool) -> "Singles | None":
    """Who is to be looked at. Raises: UsageError.   Invalid: it would be shown where others read.   Conflict."""
    if rows is None and patients is None:
        if to is not None:
            raise click.UsageError("--to goes with --rows or --patients")
        return None
    if to is None and (as_json or not sys.stdout.isatty()):
        raise Invalid(
            "single patients are shown on a terminal alone: what is printed elsewhere may be kept in a log",
            "type the command in a terminal, without --json, or name a new file with --to",
        )
    if to is not None and str(to) == "-":
        raise click.UsageError("--to names a file; without it patients are shown on the terminal")
    if to is not None and not (to.parent.is_dir() and os.access(to.parent, os.W_OK)):
        raise Invalid(f"there is no folder {to.parent} in which you may write", "name another file with --to")
    if to is not None and os.path.lexists(to):
        raise Conflict(f"there is a file {to} already", "name a new one with --to")
    from consilium.data.singles import Singles

    keys = "" if patients is None else _text(patients.read())
    return Singles(rows or 0, [line for line in keys.splitlines() if line.strip()])


def _text(written: bytes) -> str:
    """As an editor of Windows writes it, too."""
    if written.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return written.decode("utf-16", errors="replace")
    try:
        return written.decode("utf-8-sig")
    except UnicodeDecodeError:
        return written.decode("cp1252", errors="replace")


def _cell(text: str) -> str:
    """Of a spreadsheet, in which a text of the source is no formula that is computed as the file is opened."""
    return f"'{text}" if text.startswith(FORMULA) and not NUMBER.fullmatch(text) else text


def _shown(singles: "Singles", to: Path | None) -> None:
    """Single patients, where the person said."""
    from consilium.data.singles import COLUMNS

    if to is None:
        showing.table([dict(zip(COLUMNS, line, strict=True)) for line in singles.lines], COLUMNS)
    else:
        file = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w", newline="", encoding="utf-8") as text:
            csv.writer(text).writerows([COLUMNS, *(map(_cell, line) for line in singles.lines)])
    where = "" if to is None else f" They are in {to}, which only you can read: remove it once you have looked."
    click.echo(f"These are patients: nothing of it was kept or sent.{where}", err=True)
    if singles.unknown:
        click.echo(
            f"{singles.unknown} of the keys are in no row: they are written otherwise, left out or objected.", err=True
        )
