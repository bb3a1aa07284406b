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
from consilium.core.ids import Digest
from consilium.core.study import Plan, Study
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
        click.echo(f"No warning: {made.findings.calm}")


def _at_the_coordinator(name: str, given: Given) -> "Report":
    found = federation().run(name).result()
    return found.report(_json(given.baseline) if given.baseline else None, audit.checked(given.logs))


def _on_file(given: Given) -> "Report":
    from consilium.documents.report import Report

    assert given.source is not None
    document = _json(given.source)
    if given.logs:
        document = {**document, "audit": audit.checked(given.logs)}
    study = None
    if given.study is not None:
        study = studyfile.read(given.study)
        _demand_its_study(document, study, given.study.name)
    return Report.of(document, datetime.now(UTC), study, _json(given.baseline) if given.baseline else None)


def _demand_its_study(document: dict[str, Any], study: Study, name: str) -> None:
    """That a result is of this very study: else its purpose, inputs and methods would be those of another.

    Raises: Invalid: it is of another one, or does not say.
    """
    if "study_file" in document:  # a simulation asks other sites than the study may name, so that its plan is another
        of, own = document["study_file"], Plan.of(study).digest
    else:
        of, own = document.get("plan"), _plan(study, document.get("initial"))
    if of == own:
        return
    of_name = str(document.get("study"))[:60]
    what = f"is {study.name}, and the result is of {of_name}" if study.name != of_name else "says something else now"
    raise Invalid(
        f"{name} is not the study of this result: it {what} ({own}; the result is of {str(of)[:80]})",
        "give the study file as it was when it was submitted or simulated; of a run at a coordinator, "
        "`consilium study report NAME` takes it from there",
    )


def _plan(study: Study, initial: Any) -> Digest:
    """The digest of the plan to which a study was frozen, with the initial model of which a result tells."""
    from consilium.privacy.mechanism import pinned  # with what finds noise, which other commands need not

    if not isinstance(initial, dict) or "digest" not in initial:
        raise Invalid("the result does not say by which study it was made", "write it anew, by this release")
    frozen = Plan.load(Plan.of(pinned(study)).payload).study
    model = frozen.model.model_copy(update={"initial": str(initial["digest"])})
    return Plan.of(frozen.model_copy(update={"model": model})).digest


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{path} is no JSON", "give what a command wrote with --json") from error
    if not isinstance(found, dict):
        raise Invalid(f"{path} is no result", "give what a command wrote with --json")
    return found
