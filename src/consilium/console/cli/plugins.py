"""`consilium plugins`: what is installed, by group."""

import click

from consilium import plugins as installed
from consilium.console.cli import output


def listed() -> list[dict[str, str]]:
    """Every installed plug-in: group, name, the object it names, and the package that brings it."""
    rows = []
    for group in installed.GROUPS:
        for name, point in installed.names(group).items():
            package = point.dist.name if point.dist is not None else ""
            kind = group.removeprefix("consilium.")
            rows.append({"group": kind, "name": name, "object": point.value, "package": package})
    return rows


@click.command()
@output.as_json
def plugins(as_json: bool) -> None:
    """List the installed plug-ins by group."""
    output.table(listed(), as_json)
