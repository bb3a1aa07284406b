"""A table of hospitals with the figures of several models, for people."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from consilium.console.cli import output

Json = Mapping[str, Any]
HEADLINE = (
    ("auroc", "AUROC"), ("accuracy", "accuracy"), ("concordance", "concordance"),
    ("stratified_concordance", "within hospitals"), ("r2", "R²"),
    ("deviance", "deviance"), ("rmse", "RMSE"),
)  # fmt: skip
WIDE = 110
"""Columns of a terminal from which on figures have three decimals; a table for 80 columns has two."""


def show(rows: Sequence[Json], columns: Mapping[str, str]) -> None:
    """Print two lines per hospital, and below them what is to be known of some figures.

    Args:    rows: `hospital`; `training`, `test`, `rounds` and `bytes` where known; and figures.
             columns: key of a row under which figures are: heading.
    """
    terminal = Console(highlight=False)
    if not terminal.is_terminal:
        terminal = Console(highlight=False, width=max(terminal.width, WIDE))
    table, notes = drawn(rows, columns, terminal.width)
    terminal.print(table)
    for number, note in enumerate(notes, 1):
        click.echo(f"{'*' * number} {note}")


def drawn(rows: Sequence[Json], columns: Mapping[str, str], width: int) -> tuple[Table, list[str]]:
    """The table for a terminal of `width` columns, 80 or more; and the notes behind its asterisks."""
    wide, notes = width >= WIDE, list[str]()
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2 if wide else 1, 0, 0))
    metrics = [name for name, _ in HEADLINE if any(name in (row.get(key) or {}) for row in rows for key in columns)]
    headings = ["hospital", *(["part"] if any("rounds" in row for row in rows) else []), "", *columns.values()]
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        if row is not rows[0]:
            table.add_row()
        part = [_part(row)] if "part" in headings else []
        figures = ["\n".join(cell((row.get(key) or {}).get(m), wide, notes) for m in metrics) for key in columns]
        table.add_row(_who(row), *part, "\n".join(dict(HEADLINE)[m] for m in metrics), *figures)
    return table, notes


def say(key: str, text: str) -> None:
    """Print what a word of the table means, no wider than the terminal."""
    width = min(max(Console().width, 60), WIDE)
    click.echo(
        textwrap.fill(
            text,
            width,
            break_long_words=False,
            break_on_hyphens=False,
            initial_indent=f"{key:<11} ",
            subsequent_indent=" " * 12,
        )
    )


def _who(row: Json) -> str:
    if "training" not in row:
        return f"[bold]{row['hospital']}[/]"
    return f"[bold]{row['hospital']}[/]\n{row['training'] + row['test']}, {row['test']} tested"


def _part(row: Json) -> str:
    return f"{row['rounds']} rounds\n{output.size(row['bytes'])}" if "rounds" in row else ""


def cell(figure: Json | None, wide: bool, notes: list[str]) -> str:
    """One figure with its interval; what else there is to say of it goes into `notes`, once, behind its asterisks.

    >>> cell({"value": 0.91, "low": 0.8, "high": 1.0, "note": ""}, False, [])
    '.91 .80–1.00'
    """
    if figure is None:
        return ""
    note = str(figure.get("note") or "")
    if figure["value"] is None:
        return note.partition(":")[0]
    value, low, high = (_number(figure[key], wide) for key in ("value", "low", "high"))
    if not low:
        return f"{value} {note}".strip()
    if note and note not in notes:
        notes.append(note)
    mark = "*" * (notes.index(note) + 1) if note else ""
    return f"{value} ({low}–{high}){mark}" if wide else f"{value} {low}–{high}{mark}"


def _number(value: float | None, wide: bool) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if wide else f"{value:.2f}".removeprefix("0")
