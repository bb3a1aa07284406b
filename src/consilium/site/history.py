"""Commands that show what this hospital keeps of before: its checks, and what models were worth here."""

from pathlib import Path

import click

from consilium.site import showing
from consilium.site.options import home_option, json_option, opened, say


@click.command()
@click.argument("study", required=False)
@home_option
@json_option
def checks(study: str | None, home: Path, as_json: bool) -> None:
    """Show every check of this hospital's data, oldest first: what blocked then, and what does now."""
    from consilium.site.attesting import history

    with opened(home) as desk:
        rows = history(desk.journal, study)
    say(rows, as_json, "") if as_json else showing.checks(rows)


@click.command()
@click.argument("study", required=False)
@home_option
@json_option
def figures(study: str | None, home: Path, as_json: bool) -> None:
    """Show what final models, of STUDY or of all, are worth for this hospital's held-out patients."""
    from consilium.site.figures import kept

    with opened(home) as desk:
        rows = kept(desk.journal, study)
    say(rows, as_json, "") if as_json else showing.figures(rows)
