"""What this hospital tells of itself alone, of each run: kept before it leaves, said once, and never in other words.

What may be told is made where the final model is judged, of that round's sums, rounded at once; it waits here until the
run is finished. Whether it is told is decided in `declaring.py`.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from consilium.algorithms import evaluation, rounded
from consilium.core.errors import Invalid
from consilium.core.study import Plan, Study
from consilium.core.tensors import Array
from consilium.governance.declarable import declarable
from consilium.governance.policy import Policy
from consilium.site.journal import BEHIND, FORGOTTEN, Journal, Writing
from consilium.site.witness import checkpoint
from consilium.wire.identity import Identity
from consilium.wire.messages import Ended, Figures, Task

Json = dict[str, Any]
TOLD = "told"
LOST = "lost/"
"""Before the number of a plan whose name was lost with the journal."""
MOST = 1000
"""Plans of which a policy may let figures be told."""


def done(journal: Journal) -> set[str]:
    """Plans of which figures of this hospital alone were told, or that its patients are too few."""
    return {str(row["plan"]) for row in journal.rows("SELECT plan FROM declarations WHERE word IN ('told', 'too few')")}


def spent(journal: Journal) -> set[str]:
    """Plans that count: of which this hospital said that it will tell, for others count on it, and their sum less what
    these tell is what this one is worth, whatever it says in the end; and those of which it told.
    """
    return {str(row["plan"]) for row in journal.rows("SELECT plan FROM promised")} | done(journal)


def others(journal: Journal, plan: Plan) -> int | None:
    """How many other plans count; None: a journal that was restored does not know."""
    return None if forgotten(journal) else len(spent(journal) - {plan.digest})


def forgot(tx: Writing) -> None:
    """This journal was restored from an older copy: of what was promised and told since, it knows nothing."""
    tx.keep(FORGOTTEN, "1")


def forget(journal: Journal) -> None:
    """The same, as a person says it."""
    with journal.write() as tx:
        forgot(tx)


def forgotten(journal: Journal) -> bool:
    """Whether it may have been promised, or told, of plans that this journal does not know."""
    return bool(journal.meta(BEHIND) or journal.meta(FORGOTTEN))


def counted(journal: Journal, plans: int, person: str, now: datetime) -> None:
    """A person says that since the copy figures were promised of so many plans at most, which count from now on.

    Raises: Invalid: no name, or no such number.
    """
    if not person.strip() or not person.isprintable() or not 0 <= plans <= MOST:
        raise Invalid("who says so has a name, in one line, and a number of plans", "write it with --person")
    with journal.write() as tx:
        at = tx.head().seq
        for number in range(plans):
            tx.do("INSERT INTO promised VALUES (?)", f"{LOST}{at}/{number}")
        tx.keep(FORGOTTEN, "")
        tx.record("promised", {"person": person, "plans": plans}, now)


def willing(journal: Journal, policy: Policy, plan: Plan) -> bool:
    """Whether figures of this hospital alone are to be told of a run of a plan that begins or ends now.

    Of each plan once: a second run would tell of the same patients what a nearly equal model is worth; and of as many
    plans as the policy says. Of none, while nobody knows how many there were: ask `Recall` before.
    """
    return not unwilling(journal, policy, plan)


def unwilling(journal: Journal, policy: Policy, plan: Plan) -> str:
    """Why they are not; empty where they are."""
    if forgotten(journal):
        return "this journal was restored, and no person has said since of how many plans they were promised"
    if not policy.release_figures:
        return "the policy tells none (`release_figures`)"
    if not declarable(plan.study):
        return "of such a study none are told"
    if plan.digest in done(journal):
        return "they were promised of this plan before"
    if (others(journal, plan) or 0) >= policy.release_figures:
        return "they were promised of as many plans as the policy says (`release_figures`)"
    return ""


def promise(tx: Writing, plan: Plan, run: str, identity: Identity, site: str, now: datetime) -> None:
    """This hospital says with its keys that it will tell: from now on the plan counts.

    The head of the log with this goes to the coordinator: a journal that is restored to before it is found out by that.
    """
    about = {"study": plan.study.name, "run": run}
    tx.do("INSERT OR IGNORE INTO promised VALUES (?)", plan.digest)
    tx.record("promised", {**about, "plan": plan.digest}, now)
    checkpoint(tx, site, identity, about, now)


def judged(tx: Writing, task: Task, study: Study, sums: Mapping[str, Array]) -> None:
    """Keep what may be told of the model of a task that judges it, unless something was told of this run before."""
    made = None
    if declarable(study):
        classes = rounded.classes(sums)
        if classes is not None:
            told = {"common": evaluation.common_of(sums), "personal": sums} if study.personal else {"common": sums}
            worth = {name: {"auroc": rounded.auroc(one)} for name, one in told.items()}
            made = {"positives": classes[0], "negatives": classes[1], **worth}
    tx.do(
        "INSERT INTO declarations (run, study, plan, round, state, made) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (run)"
        " DO UPDATE SET round = excluded.round, state = excluded.state, made = excluded.made WHERE word = ''",
        task.run, task.study, task.plan, task.round, task.state.digest, json.dumps(made),
    )  # fmt: skip


def ended(tx: Writing, told: Ended) -> None:
    """A run is finished, at the state that was judged here: something is said of it now."""
    if told.status == "finished" and told.state is not None:
        state = told.state.digest
        tx.do("UPDATE declarations SET ended = 1 WHERE run = ? AND state = ? AND word = ''", told.run, state)


def tell(tx: Writing, figures: Figures, envelope: bytes, now: datetime) -> bool:
    """Keep what is said of a run, and send it; whether it is said now: what was said before stands."""
    known = tx.row("SELECT word FROM declarations WHERE run = ?", figures.run)
    if known is None or known["word"]:
        return False
    tx.do("UPDATE declarations SET word = ?, envelope = ? WHERE run = ?", figures.word, envelope, figures.run)
    tx.send("figures", envelope, {"study": figures.study, "run": figures.run}, now)
    return True


def again(tx: Writing, now: datetime) -> None:
    """Send once more, in the same bytes, what was told: a coordinator that was restored may have lost it.

    Not what waits to be sent, nor what was withdrawn before it left: of that nothing is said any more.
    """
    sent = "SELECT run FROM outbox WHERE type = 'figures' AND status IN ('sent', 'refused')"
    kept = "SELECT run FROM outbox WHERE type = 'figures' AND status IN ('waiting', 'withdrawn')"
    these = f"word = ? AND run IN ({sent}) AND run NOT IN ({kept})"
    for row in tx.rows(f"SELECT study, run, envelope FROM declarations WHERE {these}", TOLD):  # noqa: S608
        tx.send("figures", bytes(row["envelope"]), {"study": row["study"], "run": row["run"]}, now)
