"""Writing the report of a run: from the coordinator, or from what a command wrote as JSON."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from consilium import studyfile
from consilium.console.cli import audit, output
from consilium.console.cli.session import federation
from consilium.core.errors import Invalid
from consilium.durable import naming

if TYPE_CHECKING:  # most commands write no report
    from consilium.documents.report import Report


@dataclass(frozen=True)
class Given:
    """What is on file: a result instead of a run at the coordinator, its study, a baseline, audit logs."""

    source: Path | None = None
    study: Path | None = None
    baseline: Path | None = None
    logs: tuple[Path, ...] = ()


def write(name: str | None, given: Given, page: Path, as_json: bool) -> None:
    """Write the report to `page`, and say what must be seen first.

    Raises: Invalid: a file is not what it should be.
    """
    if (name is None) == (given.source is None):
        raise click.UsageError("give either the name of a run or study, or --from FILE")
    if given.study is not None and given.source is None:
        raise click.UsageError("--study belongs to --from: a run at the coordinator has its study there")
    made = _at_the_coordinator(name, given) if name is not None else _on_file(given)
    save(made, page)
    if as_json:
        output.say({**made.to_json(), "file": str(page)}, True)
        return
    click.echo(f"Wrote {page}.")
    tell(made)


def save(made: "Report", page: Path) -> None:
    """Write the page."""
    with naming(page):
        page.write_text(made.html(), encoding="utf-8")


def tell(made: "Report") -> None:
    """Say what must be seen first."""
    for one in made.findings.found:
        if one.level == "warning":
            click.echo(output.plain(f"Warning: {one.title}. {one.text}").plain)
    if not made.findings.warnings:
        click.echo("No warning.")


def _at_the_coordinator(name: str, given: Given) -> "Report":
    found = federation().run(name).result()
    return found.report(_json(given.baseline) if given.baseline else None, audit.checked(given.logs))


def _on_file(given: Given) -> "Report":
    from consilium.documents.report import Report

    assert given.source is not None
    document = _json(given.source)
    if given.logs:
        document = {**document, "audit": audit.checked(given.logs)}
    study = studyfile.read(given.study) if given.study else None
    return Report.of(document, datetime.now(UTC), study, _json(given.baseline) if given.baseline else None)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{path} is no JSON", "give what a command wrote with --json") from error
    if not isinstance(found, dict):
        raise Invalid(f"{path} is no result", "give what a command wrote with --json")
    return found
