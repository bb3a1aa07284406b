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
from consilium.core.refusing import once
from consilium.core.run import OVER
from consilium.core.study import GROUPED, Study
from consilium.core.unlearned import sentences

Json = Mapping[str, Any]
HEADLINE = (
    "auroc", "accuracy", "concordance", "stratified_concordance", "r2", "rmse", "mae", "deviance", "brier", "logloss",
)  # fmt: skip
"""Metrics worth a column, in this order."""
AWAY_S = 60.0
"""An agent that is there is heard every ten seconds."""
WITHHELD = "withheld"
"""In place of a figure of one hospital, where only sums were opened."""


def watch(run: RemoteRun, as_json: bool) -> Json:
    """Show a run until it is over and return its last view."""
    terminal = output.console()
    if as_json:
        return _changes(run)
    if not terminal.is_terminal:
        return _plain(run)
    last: Json = {}
    bar = _bar()
    with Live(console=terminal, refresh_per_second=4, transient=False) as live:
        for last in run.views(wait_s=2.0):
            live.update(display(last, bar))
    return last


def _changes(run: RemoteRun) -> Json:
    """One JSON object for each change: the view, of its rounds only those that are new or are not as they were."""
    last: Json = {}
    for view in run.views():
        rounds = {part: _changed(last.get(part) or [], view[part]) for part in ("participation", "pairing")}
        if view["events"] or {**view, "events": []} != {**last, "events": []}:
            click.echo(json.dumps({**view, **rounds}, ensure_ascii=False, default=str))
        last = view
    return last


def _changed(before: list[Json], after: list[Json]) -> list[Json]:
    return [entry for place, entry in enumerate(after) if place >= len(before) or entry != before[place]]


def _plain(run: RemoteRun) -> Json:
    last: Json = {}
    said, told, out = "", 0, set[str]()
    for last in run.views():
        for line in missing(last) if not said else ():
            click.echo(line)
        for line in (*left_out(last, out), *unlearned(last, out)):
            click.echo(line)
        for view in _round_by_round(last, told):
            text = _line(view)
            if text != said:
                click.echo(text)
                said = text
        told = len(_done(last))
    return last


def left_out(view: Json, said: set[str] | None = None) -> list[str]:
    """Who is in no sum of the run since some round, why, and what can be done: a line each, once if `said` is kept."""
    lines = []
    for one in view.get("left_out") or []:
        since = f"since round {one['since']}" if one["since"] else "for want of keys"
        about = f"{view['run']}: {one['site']} is left out {since}"
        if said is None or about not in said:
            lines.append(output.plain(f"{about}: {one['why']}. Next: {one['next']}").plain)
            if said is not None:
                said.add(about)
    return lines


def unlearned(view: Json, said: set[str] | None = None) -> list[str]:
    """Of what nothing was learned before training, and what became of it: a line each, once if `said` is kept."""
    rounds = view.get("participation") or []
    prepared = [one.get("figures") or {} for one in rounds if one["kind"] == "PREPARE"]
    lines = sentences(name for one in prepared for name in one.get("not_learned") or ())
    new = [line for line in lines if said is None or line not in said]
    if said is not None:
        said.update(new)
    return [output.plain(f"{view['run']}: {line}").plain for line in new]


def missing(told: Json) -> list[str]:
    """Whom a study invites and who cannot take part yet, why, and what can be done: a line each, until its run is over.

    After it the report says of each hospital why it was in no round: one may have been in all, and is removed since.
    """
    status = told["runs"][-1]["status"] if told.get("runs") else told.get("status")
    if status in OVER:
        return []
    return [
        output.plain(
            f"{one['site']} is invited and {one['why']}{_like(one.get('near') or [])}: {told['study']} goes on without "
            f"it. Next: {one['next']}"
        ).plain
        for one in told.get("missing") or []
    ]  # fmt: skip


def _like(names: list[str]) -> str:
    return f" (there is {' and '.join(names)})" if names else ""


def refusals(told: list[Json]) -> list[dict[str, Any]]:
    """What hospitals refused: a row for each run, reason and sentence."""
    return [{**vars(one), "sites": ", ".join(one.sites)} for one in once(told)]


def _done(view: Json) -> list[int]:
    """Places, in `participation`, of the rounds that are done; an attempt that was given up is none."""
    rounds = view.get("participation") or []
    return [
        place for place, entry in enumerate(rounds)
        if entry.get("closed") and entry.get("took_part") and not entry.get("cancelled")
    ]  # fmt: skip


def _round_by_round(view: Json, told: int) -> list[Json]:
    """The view, and before it how it was after each round that was done meanwhile, `told` of which were shown."""
    rounds = view.get("participation") or []
    then = {**view, "status": "running", "reason": ""}
    since = [
        {**then, "round": rounds[place]["round"] + 1, "participation": rounds[: place + 1]}
        for place in _done(view)[told:-1]
    ]
    return [*since, view]


def _line(view: Json) -> str:
    parts = [f"{view['run']}: {view['status']}, {_where(view)}"]
    if view.get("reason"):
        parts.append(str(view["reason"]))
    figures = latest(view)
    parts += [f"{name} {output.figure(figures[name])}" for name in HEADLINE if name in figures][:2]
    if done := _done(view):
        newest = view["participation"][done[-1]]
        number = "the judging" if newest["kind"] == "EVALUATE" else f"round {newest['round']}"
        parts.append(f"took part in {number}: {', '.join(newest['took_part'])}")
    return " · ".join(parts)


def _where(view: Json) -> str:
    """The round; the one after the last judges the final model, and in the one before the first keys are agreed."""
    if any(not entry.get("closed") for entry in view.get("pairing") or []):
        return f"agreeing on keys{_words(view.get('comparing')) if view['status'] == 'running' else ''}"
    if view["round"] > view["rounds"]:
        return "final model judged" if view["status"] == "finished" else "judging the final model"
    return f"round {view['round']} of {view['rounds']}"


def _words(compared: Json | None) -> str:
    """At which hospitals people have still to compare the words of the roster, until when, and whose agent is away."""
    if not compared or not compared["sites"]:
        return ""
    now = time.time()
    away = {
        site: " (its agent is not heard)" if now - heard > AWAY_S else "" for site, heard in compared["sites"].items()
    }
    until = str(compared["until"])[:16].replace("T", " ")
    whom = ", ".join(f"{site}{told}" for site, told in sorted(away.items()))
    return f", whose words are to be compared by {until} UTC at {whom}"


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
    rounds = view.get("participation") or []
    done = len({entry["round"] for entry in rounds if entry.get("closed") and not entry.get("cancelled")})
    total = int(view["rounds"]) + 1  # the last round judges the final model
    bar.update(bar.task_ids[0], description=f"{view['run']} {view['status']}", completed=done, total=total)
    parts: list[RenderableType] = [bar]
    if view.get("reason"):
        parts.append(Text(str(view["reason"]), style="yellow"))
    elif view.get("comparing"):
        parts.append(Text(_where(view), style="yellow"))
    parts.append(_sites(view))
    parts += [Text(line, style="yellow") for line in (*missing(view), *left_out(view), *unlearned(view))]
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

    Of a hospital whose figures nobody has, as under the recipe `secure_sum`, it says `withheld`; or `too few`, if it
    would tell some, or what it tells of itself.
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
            row, single = _alone(found.document, site, row, shown)
        rows.append({**row, "sent": output.size(float(facts.get("bytes") or 0)), **single})
    sent = sum(float(facts.get("bytes") or 0) for facts in found.sites.values())
    total = {"hospital": "all", "n": _count(everyone), "rounds": str(found.document.get("rounds_done", ""))}
    return [*rows, {**total, "sent": output.size(sent), **_cells(everyone, shown)}]


def _alone(document: Json, site: str, row: dict[str, str], shown: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What a hospital tells of itself alone, or the word for why it does not."""
    told = (document.get("declared") or {}).get(site) or {"word": WITHHELD, "figures": {}}
    common = told["figures"].get("federated")
    if common is None:
        return {**row, "n": told["word"]}, dict.fromkeys(shown, told["word"])
    rest = {name: WITHHELD for name in shown if name not in common}
    return {**row, "n": _count(common)}, {**_cells(common, [name for name in shown if name in common]), **rest}


def judged(document: Json) -> str:
    """Which model the figures are of, where it is not the final one; else empty."""
    of = document["judged"]
    if of is not None and of["kind"] == "EVALUATE":
        return ""
    stands = f"{document['run']} is {document['status']}, {_where(document)}"
    if of is None:
        rounds = document.get("participation") or []
        why = [one["figures"][WITHHELD] for one in rounds if (one.get("figures") or {}).get(WITHHELD)]
        return f"{stands}; figures are {why[-1]}." if why else f"{stands}; no hospital has sent figures."
    number = of["model_after_round"]
    model = f"the model after round {number}" if number else "the initial model"
    return f"{stands}: its newest model was not judged. The figures are of {model}."


def of_which(study: Study) -> str:
    """Whose figures they are, where a hospital uses another model than that of the run's file; else empty."""
    if study.personal:
        return (
            "Figures are of the model that each hospital uses: it stays there, or parts of it do. The model of the run "
            "is the common one, which they do not judge; of parts that stay, it has the first values."
        )
    if study.strategy.name in GROUPED:
        return (
            "Figures are of the one of several models that each hospital takes. The model of the run is the first of "
            "these; a notebook has all (`result.models()`)."
        )
    return ""


def _cells(figures: Json | None, shown: list[str]) -> dict[str, str]:
    return {name: output.figure(figures.get(name)) if figures else "" for name in shown}


def _count(figures: Json) -> str:
    counts = [int(one["n"]) for one in figures.values() if isinstance(one, Mapping) and one.get("n") is not None]
    return str(max(counts)) if counts else ""
