"""What people see of sites, studies and runs: plain JSON from rows."""

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select

from consilium.coordinator import attesting, declarations, invited, leftout, steps, withheld, witness
from consilium.core import round as machine
from consilium.core import run as runs
from consilium.core.errors import NotFound
from consilium.core.ids import Digest, RunId
from consilium.core.judging import judged_on
from consilium.core.refusing import goes_on
from consilium.core.study import Plan
from consilium.governance.learning import learns, protects
from consilium.store import eventlog
from consilium.store.database import Transaction
from consilium.store.schema import (
    blobs,
    contributions,
    decisions,
    effects,
    events,
    people,
    refusals,
    results,
    sites,
    studies,
)
from consilium.store.schema import runs as run_table
from consilium.wire.identity import fingerprint
from consilium.wire.messages import Decision

Json = dict[str, Any]
TOOK_PART = machine.COUNTED | {machine.Phase.PROVE}


def site_list(tx: Transaction) -> list[Json]:
    """All sites, with the fingerprint that a person compares, and the alarms that nobody has acknowledged."""
    alarms = witness.view(tx)
    return [
        {
            "site": row.site,
            "state": row.state,
            "fingerprint": fingerprint(row.public_key),
            "public_key": row.public_key,
            "about": row.about,
            "last_seen": row.last_seen,
            "activity": row.activity,
            "alarms": alarms.get(row.site, []),
        }
        for row in tx.rows(select(sites).order_by(sites.c.site))
    ]


def person_list(tx: Transaction) -> list[Json]:
    """All accounts: name, role (or `disabled`), since when."""
    return [
        {"name": row.name, "role": row.role, "since": _text(row.since)}
        for row in tx.rows(select(people.c.name, people.c.role, people.c.since).order_by(people.c.name))
    ]


def study_list(tx: Transaction) -> list[Json]:
    """All studies, shortly."""
    found = []
    for row in tx.rows(select(studies).order_by(studies.c.study)):
        title = Plan.load(row.payload).study.title
        found.append(
            {"study": row.study, "plan": row.plan, "title": title, "owner": row.owner, "runs": _runs(tx, row.study)}
        )
    return found


def _runs(tx: Transaction, study: str) -> list[Json]:
    rows = tx.rows(select(run_table).where(run_table.c.study == study).order_by(run_table.c.run))
    return [{"run": row.run, "status": row.status} for row in rows]


def _runs_told(tx: Transaction, study: str) -> list[Json]:
    """The same, and of the newest one who is left out of it."""
    found = sorted(_runs(tx, study), key=lambda one: (len(one["run"]), one["run"]))
    for one in found[-1:]:
        one["left_out"] = leftout.left_out(tx, study, one["run"], eventlog.load(tx, one["run"])[1])
    return found


def study_view(tx: Transaction, study: str) -> Json:
    """One study: who decided what, who refused why, which runs there are. Raises: NotFound."""
    row = study_row(tx, study)
    plan = Plan.load(row.payload)
    standing: dict[str, Json] = {}
    attested = attesting.lacking(tx, plan)
    for said in tx.rows(select(decisions).where(decisions.c.study == study).order_by(decisions.c.id)):
        decision = Decision.decode(said.payload)
        standing[said.site] = decision.model_dump(
            mode="json", include={"decision", "person", "at", "expires", "reason"}
        )
        if attested is not None:
            standing[said.site]["check"] = attesting.why(attested, said.site) or "passed"
    refused = [
        {"site": r.site, "run": r.run, "round": r.round, "reason": r.reason, "text": r.text}
        for r in tx.rows(select(refusals).where(refusals.c.study == study).order_by(refusals.c.id))
    ]
    return {
        "study": study, "plan": row.plan, "title": plan.study.title, "owner": row.owner,
        "sites": standing, "refusals": refused, "runs": _runs_told(tx, study), "checks": attesting.view(tx, plan),
        "missing": invited.missing(tx, plan),
    }  # fmt: skip


def study_row(tx: Transaction, study: str) -> Any:
    """The row of a study. Raises: NotFound."""
    row = tx.row(select(studies).where(studies.c.study == study))
    if row is None:
        raise NotFound(f"there is no study {study}", "`consilium study list` shows all")
    return row


def run_view(tx: Transaction, run: RunId, since: int = 0) -> Json:
    """One run: where it stands, and who took part in what. Raises: NotFound.

    Args:    since: number of an event; rounds that were over before it are left out. 0: none.
    """
    _, fold = eventlog.load(tx, run)
    wanted = select(run_table.c.study, studies.c.plan, studies.c.payload).join(studies).where(run_table.c.run == run)
    row = tx.row(wanted)
    told = participation(tx, run, since)
    if (without := withheld.over_others(told)) != told and steps.secure(Plan.load(row.payload)):
        told = without
    behind = "" if fold.status in runs.OVER else witness.behind(tx)
    return {
        "run": run, "study": row.study, "plan": row.plan, "status": fold.status.value,
        "reason": "; ".join(filter(None, (_reason(row.study, fold, told), _unchecked(tx, fold, row), behind))),
        "round": fold.number, "rounds": fold.prepares + fold.rounds,
        "kind": fold.round.kind.value if fold.round else None,
        "waiting_for": _waiting_for(fold), "state": blob_of(tx, fold.state) if fold.state else None,
        "phase": fold.round.phase if fold.round else None, "sites": _site_totals(tx, run, fold),
        "left_out": leftout.left_out(tx, row.study, run, fold), "comparing": _comparing(tx, run, fold),
        "missing": invited.missing(tx, Plan.load(row.payload)),
        "participation": [entry for entry in told if entry["kind"] != machine.Kind.PAIR],
        "pairing": [entry for entry in told if entry["kind"] == machine.Kind.PAIR],
    }  # fmt: skip


def _reason(study: str, fold: runs.Run, told: list[Json]) -> str:
    """Why the run stands where it stands, with those that refused the round in which it is paused, the newest."""
    refused = told[-1]["refused"] if told and fold.status is runs.Status.PAUSED else {}
    whom = ", ".join(f"{site} ({reason})" for site, reason in sorted(refused.items()))
    refusal = f"it was refused by {whom}" if whom else ""
    return "; ".join(filter(None, (fold.reason, refusal, goes_on(study, refused.values()))))


def _unchecked(tx: Transaction, fold: runs.Run, row: Any) -> str:
    """Which hospitals approve, and are not asked for want of a check that passed, while the run is paused."""
    plan = Plan.load(row.payload)
    if fold.status is not runs.Status.PAUSED or plan.study.gate is None:
        return ""
    newest: dict[str, Decision] = {}
    for said in tx.rows(select(decisions).where(decisions.c.study == row.study).order_by(decisions.c.id)):
        newest[said.site] = Decision.decode(said.payload)
    attested = attesting.lacking(tx, plan)
    approving = sorted(site for site, told in newest.items() if told.decision == "approve")
    without = [f"{site} ({reason})" for site in approving if (reason := attesting.why(attested, site))]
    return f"not asked for want of a check: {', '.join(without)}" if without else ""


def _waiting_for(fold: runs.Run) -> list[str]:
    round_ = fold.round
    if fold.awaits:
        return sorted(fold.awaits)
    if round_ is None or round_.phase is None or round_.phase in machine.ASKED_OF_COORDINATOR:
        return []
    return sorted(round_.asked(round_.phase) - round_.answered(round_.phase).keys())


def _comparing(tx: Transaction, run: RunId, fold: runs.Run) -> Json | None:
    """Until when people have to compare the words of the roster, and when each hospital was heard that has not; None:
    nobody has to, for all who are waited for have done so before.
    """
    if fold.round is None or fold.round.phase is not machine.Phase.PROVE:
        return None
    row = tx.find(effects, key=f"{run}/deadline/0/{fold.current[1]}/{machine.Phase.PROVE.value}")
    people = _waiting_for(fold) if row is None else json.loads(row.body).get("people", _waiting_for(fold))
    if row is None or not (whom := sorted({*people} & {*_waiting_for(fold)})):
        return None
    heard = {one.site: one.last_seen for one in tx.rows(select(sites.c.site, sites.c.last_seen))}
    until = _text(datetime.fromtimestamp(row.due, UTC))
    return {"until": until, "sites": {site: heard.get(site, 0.0) for site in whom}}


def blob_of(tx: Transaction, digest: Digest | str) -> Json:
    """Digest and size."""
    return {"digest": digest, "size": tx.scalar(select(blobs.c.size).where(blobs.c.digest == digest))}


def participation(tx: Transaction, run: RunId, since: int = 0) -> list[Json]:
    """Per round, and per attempt at it, as they were opened: who was asked, took part, withdrew and why; figures.

    In an attempt that was given up (`cancelled`) nobody took part: who had answered it is in `answered`. Of rounds
    before the one that was the newest at event `since` nothing changes any more: they are left out.
    """
    opened = select(events.c.seq).where(events.c.run == run, events.c.kind == "Opened", events.c.seq <= since)
    newest = tx.row(opened.order_by(events.c.seq.desc()).limit(1))
    start = newest.seq if newest is not None else 0
    of_run = select(events).where(events.c.run == run, events.c.seq >= start).order_by(events.c.seq)
    happened = [(event.kind, event.at, json.loads(event.body)) for event in tx.rows(of_run)]
    first = min((body["number"] for kind, _, body in happened if kind == "Opened" and body["number"]), default=0)
    told = {row.round: row for row in tx.rows(select(results).where(results.c.run == run, results.c.round >= first))}
    found: list[Json] = []
    current: Json = {}
    keys: set[str] = set()
    for kind, at, body in happened:
        if kind == "Opened":
            if current.get("kind") == machine.Kind.PAIR and current["closed"] is None:
                current["closed"] = _text(at)  # nothing is computed in it: the next one opens at its end
                if keys != set(current["took_part"]):
                    current |= _given_up(current, "keys are agreed anew, without those who are lost")
            keys = set()
            current = {
                "round": body["number"], "kind": body["kind"], "attempt": body["attempt"], "roster": body["roster"],
                "opened": _text(at), "took_part": [], "refused": {}, "closed": None,
            }  # fmt: skip
            found.append(current)
        elif kind == "Answered" and body["phase"] == machine.Phase.KEYS:
            keys.add(body["site"])
        elif kind == "Answered" and body["phase"] in TOOK_PART:
            current["took_part"] = sorted([*current["took_part"], body["site"]])
        elif kind == "Answered" and body["phase"] == machine.Phase.APPLY:
            row = told[current["round"]]
            done = {"closed": _text(at), "state": row.state, "aggregate": row.aggregate}
            figures = {name: told for name, told in json.loads(row.figures).items() if name != "evaluation"}
            current |= {**done, "figures": figures, "performed_by": row.performed_by}
        elif kind == "Withdrew":
            current["refused"] = {**current["refused"], body["site"]: body["reason"]}
        elif kind == "Cancelled":
            current |= {"closed": _text(at), **_given_up(current, body["reason"])}
    return found


def _given_up(attempt: Json, reason: str) -> Json:
    """What an attempt that came to nothing says instead of who took part."""
    return {"cancelled": reason, "answered": attempt["took_part"], "took_part": []}


def _site_totals(tx: Transaction, run: RunId, fold: runs.Run) -> Json:
    """Per hospital: rounds whose sum it is in, and bytes that came from it, also for attempts that were given up."""
    rounds = Counter(site for sites_ in fold.took_part.values() for site in sites_)
    grouped = (
        select(contributions.c.site, func.sum(contributions.c.size).label("bytes"))
        .where(contributions.c.run == run)
        .group_by(contributions.c.site)
    )
    seen = {row.site: row for row in tx.rows(select(sites))}
    return {
        row.site: {
            "rounds": rounds[row.site],
            "bytes": int(row.bytes),
            "last_seen": seen[row.site].last_seen,
            "activity": seen[row.site].activity,
        }
        for row in tx.rows(grouped)
    }


def result_view(tx: Transaction, run: RunId) -> Json:
    """The result of a run that has a state: where the model is, and its figures.

    Hospitals judge the model of a round while they train the next, and the final one in a round of its own. Of a run
    that ended early, or goes on, the newest figures are those of an earlier model: `judged` says of which.

    Raises: NotFound.
    """
    view = run_view(tx, run)
    if view["state"] is None:
        if view["status"] in runs.OVER:
            raise NotFound(f"run {run} is {view['status']}, and no round of it was done: it has no model", "start anew")
        raise NotFound(f"run {run} has no model yet", "wait for its first round")
    plan = Plan.load(study_row(tx, view["study"]).payload)
    done = [entry for entry in view["participation"] if entry.get("figures")]
    last = next((entry for entry in reversed(done) if entry["figures"]["all"]), None)
    judged = last and {"round": last["round"], "kind": last["kind"], "model_after_round": last["round"] - 1}
    alone = _declared(tx, run, plan)
    return {
        **view,
        "initial": blob_of(tx, str(plan.study.model.initial)),
        "rounds_done": len(done),
        "judged_on": judged_on(plan.study),
        "figures": last["figures"] if last else None,
        "judged": judged,
        "declared": alone,
        "evaluation": _evaluation(tx, run, last["round"]) if last and last["kind"] == "EVALUATE" else None,
        "privacy": protects(plan.study) + _but(alone),
        "learns": learns(plan.study),
    }


def _declared(tx: Transaction, run: RunId, plan: Plan) -> Json:
    """What each hospital of the last round tells of itself alone, or that it does not; under secure sums."""
    _, fold = eventlog.load(tx, run)
    if not steps.secure(plan) or fold.status is not runs.Status.FINISHED:
        return {}
    return declarations.view(tx, run, plan.study, fold.took_part.get(fold.number, ()))


def _but(alone: Json) -> str:
    """What of single hospitals is not withheld, after what a result says of its recipe."""
    told = sum(one["word"] == "told" for one in alone.values())
    return f", but for what {told} of them told of themselves, rounded, as their policies allow" if told else ""


def _evaluation(tx: Transaction, run: RunId, last: int) -> Json | None:
    """What the final model is worth, by the round that judges it; None where the study asks for less."""
    row = tx.find(results, run=run, round=last)
    found: Json | None = None if row is None else json.loads(row.figures).get("evaluation")
    return found


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "") + "Z"
