"""A person confirms a proposed mapping in a terminal, line by line. There is no answer for all of them at once."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # it stands on much that most commands do not need
    from consilium.data.proposal.propose import Proposal, Proposals

LATER = "later"


def asked(title: str, of: "Proposals", least: int) -> "tuple[Proposals, set[str]]":
    """Ask for each line of a table's proposal; what the person made of it, and which places are confirmed.

    Args:    least: fewest patients of a code that is told.
    """
    from consilium.data.proposal.propose import with_codes, with_column

    click.echo(
        f"{title}: is each line right? y: yes; l: later, in the file; q: all that follow later; a number, or the name "
        "of a column: that one; c: say what codes mean."
    )
    click.echo(f"\npatient: {of.key or 'no key was found: is each row one patient?'}")
    answer = _answer(["y", "l", "q"])
    confirmed = {"patient"} if answer == "y" else set()
    for place in [one.want.place for one in of.of]:
        while answer != "q":
            one = next(one for one in of.of if one.want.place == place)
            answer = _answer(_shown(one), of.profiles)
            if answer == "y":
                confirmed.add(place)
            if answer in ("y", "l", "q"):
                break
            if answer == "c":
                of = with_codes(of, place, _codes(one))
                continue
            before = {other.want.place: other.chosen for other in of.of}
            column = answer if answer in of.profiles else one.others[int(answer) - 1].column
            of = with_column(of, place, column, least)
            confirmed -= {other.want.place for other in of.of if other.chosen != before[other.want.place]}
    return of, confirmed


def _answer(allowed: list[str], columns: Collection[str] = ()) -> str:
    """One of what is allowed, or the name of a column."""
    while True:
        answer = str(click.prompt(f"right ({', '.join(allowed)})", default="l"))
        if answer in allowed or answer in columns:
            return answer
        click.echo(f"  {answer!r} is none of {', '.join(allowed)}, and no column of the table")


def _shown(one: "Proposal") -> list[str]:
    """Show one line; the answers that it has. What is open cannot be confirmed here, for something is to be written."""
    from consilium.data.proposal.document import comments, told

    click.echo(f"\n{one.want.place} ({one.want.meaning}): {told(one)}")
    for words in comments(one):
        click.echo(f"  {words}")
    numbers = [str(number + 1) for number in range(len(one.others))]
    for number, other in zip(numbers, one.others):
        click.echo(f"  {number}: {other.column}")
    absent = one.chosen is None and one.absent_allowed
    if absent:
        click.echo("  y: this hospital has none")
    codes = ["c"] if one.unknown else []
    return [*(["y"] if absent or not one.open else []), *codes, "l", "q", *numbers]


def _codes(one: "Proposal") -> dict[str, str]:
    """What a person says of each code whose meaning could not be told."""
    allowed = [*(one.want.targets or {}), "missing", LATER]
    found = {}
    for code in one.unknown:
        meant = click.prompt(f"  {code} means", type=click.Choice(allowed), default=LATER)
        if meant != LATER:
            found[code] = str(meant)
    return found
