"""Watching a run: a live display in a terminal, plain lines elsewhere, JSON lines for programs; and its result."""

import json
import time
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from consilium.api import RemoteRun, Result
from consilium.console.cli import output

Json = Mapping[str, Any]
WITHHELD = "withheld"
HEADLINE = ("auroc", "accuracy", "r2", "rmse", "mae", "deviance", "brier", "logloss")
"""Metrics worth a column, in this order."""


def watch(run: RemoteRun, as_json: bool) -> Json:
    """Show a run until it is over and return its last view."""
    terminal = output.console()
    if as_json:
        return _plain(run, _json_line)
    if not terminal.is_terminal:
        return _plain(run, _line)
    last: Json = {}
    bar = _bar()
    with Live(console=terminal, refresh_per_second=4, transient=False) as live:
        for last in run.views(wait_s=2.0):
            live.update(display(last, bar))
    return last


def _plain(run: RemoteRun, line: Any) -> Json:
    last: Json = {}
    said = ""
    for last in run.views():
        text = line(last)
        if text != said:
            click.echo(text)
            said = text
    return last


def _json_line(view: Json) -> str:
    return json.dumps(view, ensure_ascii=False, default=str)


def _line(view: Json) -> str:
    parts = [f"{view['run']}: {view['status']}, {_where(view)}"]
    if view.get("reason"):
        parts.append(str(view["reason"]))
    figures = latest(view)
    parts += [f"{name} {output.figure(figures[name])}" for name in HEADLINE[:2] if name in figures]
    done = [one for one in _rounds(view) if one.get("closed") and one.get("took_part")]
    if done:
        number = "the judging" if done[-1]["kind"] == "EVALUATE" else f"round {done[-1]['round']}"
        parts.append(f"took part in {number}: {', '.join(done[-1]['took_part'])}")
    return " · ".join(parts)


def _where(view: Json) -> str:
    """The round; the one after the last judges the final model, and in the one before the first keys are agreed."""
    if any(entry["kind"] == "PAIR" and not entry.get("closed") for entry in view.get("participation") or []):
        return "agreeing on keys"
    if view["round"] > view["rounds"]:
        return "final model judged" if view["status"] == "finished" else "judging the final model"
    return f"round {view['round']} of {view['rounds']}"


def _rounds(view: Json) -> list[Json]:
    """Rounds that compute something."""
    return [entry for entry in view.get("participation") or [] if entry["kind"] != "PAIR"]


def latest(view: Json) -> Json:
    """The newest figures over all sites; empty when there are none yet."""
    for entry in reversed(view.get("participation") or []):
        figures = (entry.get("figures") or {}).get("all")
        if figures:
            return dict(figures)
    return {}


def _bar() -> Progress:
    bar = Progress(
        TextColumn("[bold]{task.description}"), BarColumn(None), MofNCompleteColumn(), TimeElapsedColumn(), expand=True
    )
    bar.add_task("rounds", total=1)
    return bar


def display(view: Json, bar: Progress) -> RenderableType:
    """The live display: rounds bar, what each hospital does, last figures."""
    done = len({entry["round"] for entry in _rounds(view) if entry.get("closed") and not entry.get("cancelled")})
    total = int(view["rounds"]) + 1  # the last round judges the final model
    bar.update(bar.task_ids[0], description=f"{view['run']} {view['status']}", completed=done, total=total)
    parts: list[RenderableType] = [bar]
    if view.get("reason"):
        parts.append(Text(str(view["reason"]), style="yellow"))
    parts.append(_sites(view))
    figures = latest(view)
    words = [f"{name} {output.figure(figures[name])}" for name in HEADLINE if name in figures]
    if words:
        parts.append(Text("   ".join(words), style="cyan"))
    return Group(*parts)


def _sites(view: Json) -> Table:
    table = Table("hospital", "this round", "rounds", "sent", "activity", "seen", box=None, header_style="bold")
    rounds = view.get("participation") or []
    newest = rounds[-1] if rounds else {}
    known = view.get("sites") or {}
    for site in sorted({*known, *(newest.get("roster") or [])}):
        facts = known.get(site) or {}
        answered = site in (newest.get("took_part") or [])
        refused = (newest.get("refused") or {}).get(site)
        asked = site in (newest.get("roster") or [])
        mark = Text("asked", style="yellow") if asked else Text("not asked", style="dim")
        if refused:
            mark = Text(f"refused: {refused}", style="red")
        elif answered:
            mark = Text("answered", style="green")
        seen = _ago(facts.get("last_seen"))
        table.add_row(
            site,
            mark,
            str(facts.get("rounds", "")),
            output.size(float(facts.get("bytes") or 0)),
            output.plain(str(facts.get("activity") or "")),
            seen,
        )
    return table


def _ago(seen: Any) -> str:
    if not isinstance(seen, int | float) or seen <= 0:
        return str(seen or "never")
    return f"{max(0, int(time.time() - seen))} s ago"


def result_rows(found: Result) -> list[dict[str, str]]:
    """One row per hospital and one for all: n, rounds, bytes, and the figures of the final model.

    Of a hospital whose figures nobody has, as under the recipe `secure_sum`, it says `withheld`.
    """
    figures = found.figures
    per_site = figures.get("sites") or {}
    everyone = figures.get("all") or {}
    shown = [name for name in HEADLINE if name in everyone or any(name in one for one in per_site.values())]
    rows = []
    for site in sorted({*per_site, *found.sites}):
        facts = found.sites.get(site) or {}
        row = {"hospital": site, "n": _count(per_site.get(site) or {}), "rounds": str(facts.get("rounds", ""))}
        single = _cells(per_site.get(site), shown) if everyone else {}
        if everyone and not per_site:
            row, single = {**row, "n": WITHHELD}, dict.fromkeys(shown, WITHHELD)
        rows.append({**row, "sent": output.size(float(facts.get("bytes") or 0)), **single})
    sent = sum(float(facts.get("bytes") or 0) for facts in found.sites.values())
    total = {"hospital": "all", "n": _count(everyone), "rounds": str(found.document.get("rounds", ""))}
    return [*rows, {**total, "sent": output.size(sent), **_cells(everyone, shown)}]


def _cells(figures: Json | None, shown: list[str]) -> dict[str, str]:
    return {name: output.figure(figures.get(name)) if figures else "" for name in shown}


def _count(figures: Json) -> str:
    counts = [int(one["n"]) for one in figures.values() if isinstance(one, Mapping) and one.get("n") is not None]
    return str(max(counts)) if counts else ""
