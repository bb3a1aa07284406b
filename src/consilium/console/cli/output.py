"""How commands speak: words for people, JSON for programs."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

Command = TypeVar("Command", bound=Callable[..., Any])


def as_json(command: Command) -> Command:
    """Add the option `--json` to a command; it arrives as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of words.")(command)


def console() -> Console:
    """The terminal; plain and wide where output is not a terminal, so that nothing is cut off."""
    terminal = Console(highlight=False)
    return terminal if terminal.is_terminal else Console(highlight=False, width=200)


def say(fact: Mapping[str, Any], as_json: bool, words: str = "") -> None:
    """Print one fact, as JSON or in words."""
    click.echo(json.dumps(fact, indent=2, ensure_ascii=False, default=str) if as_json else words)


def table(
    rows: Sequence[Mapping[str, Any]], as_json: bool, columns: Sequence[str] = (), empty: str = "There is none."
) -> None:
    """Print rows as a JSON array or as a table of these columns (all of the first row when none is named).

    Args:    empty: what is said where there are none: what there would be, and how to come to it.
    """
    if as_json:
        click.echo(json.dumps(list(rows), indent=2, ensure_ascii=False, default=str))
        return
    if not rows:
        click.echo(empty)
        return
    shown = Table(*(columns or tuple(rows[0])), box=None, pad_edge=False, header_style="bold")
    for row in rows:
        shown.add_row(*(plain(cell(row.get(column))) for column in columns or tuple(rows[0])))
    console().print(shown)


def cell(value: Any) -> str:
    """One value in a table."""
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def plain(text: str) -> Text:
    """Text as it is: no markup, and nothing that moves the cursor, for others than the reader wrote some of it."""
    return Text("".join(letter if letter.isprintable() else " " for letter in text))


def moment(seconds: float) -> str:
    """A moment as a person reads it.

    >>> moment(0)
    '1970-01-01 00:00 UTC'
    """
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def size(count: float) -> str:
    """Bytes in a unit that a person reads.

    >>> size(1536)
    '1.5 kB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1024 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("the last unit takes everything")


def figure(value: Mapping[str, Any] | None, digits: int = 3) -> str:
    """A figure with its interval, or why there is none; None: it was not computed.

    >>> figure({"value": 0.9, "low": 0.85, "high": 0.95})
    '0.900 (0.850 to 0.950)'
    """
    if value is None:
        return "–"
    if value.get("value") is None:
        return str(value.get("note") or "").partition(":")[0]
    text = f"{value['value']:.{digits}f}"
    if value.get("low") is not None and value.get("high") is not None:
        text += f" ({value['low']:.{digits}f} to {value['high']:.{digits}f})"
    return text
