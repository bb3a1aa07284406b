"""What the commands of a site have in common: their options, how they speak, and the desk that they open."""

import json
import shlex
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import DatabaseError
from typing import Any

import click
from click.core import ParameterSource

from consilium.config import Homes
from consilium.site.deciding import Desk
from consilium.site.folder import Folder
from consilium.site.journal import Journal, damaged

Existing = click.Path(exists=True, dir_okay=False, path_type=Path)
home_option = click.option(
    "--home", type=click.Path(path_type=Path), default=Homes.site, show_default="~/.consilium/site",
    help="Folder of the site.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of words.")
person_option = click.option("--person", required=True, help="Who decides: a name that stands in the signed decision.")
reason_option = click.option("--reason", default="", help="Why; the study's owner reads it.")


def now() -> datetime:
    """Now, with time zone."""
    return datetime.now(UTC)


def in_home(home: Path) -> str:
    """What a command that is printed needs to be retyped: the folder, where this one was given it by hand."""
    given = click.get_current_context().get_parameter_source("home") is ParameterSource.COMMANDLINE
    return f" --home {shlex.quote(str(home))}" if given else ""


def say(fact: Any, as_json: bool, words: str) -> None:
    """Print one fact, as JSON or in words."""
    click.echo(json.dumps(fact, indent=2, ensure_ascii=False, default=str) if as_json else words)


@contextmanager
def opened(home: Path) -> Iterator[Desk]:
    """The desk of the site in a folder. Raises: NotFound."""
    folder = Folder.open(home)
    with closing(Journal(folder.journal)) as journal:
        try:
            yield Desk(folder, journal)
        except DatabaseError as error:
            raise damaged(folder.journal, error) from error
