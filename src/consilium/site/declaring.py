"""A run is finished: train the hospital's own model, where its policy says so, and say what both are worth here.

Figures of this hospital alone leave as `told` where all of this holds; else the word `withheld` leaves:
(1) the study is one of which such figures may be told (`governance/declarable.py`)   (2) this hospital's policy says so
now, and said so when keys were agreed, and figures of the plan were not told before, as far as a journal knows that was
not restored from an older copy   (3) approval and policy still stand   (4) the final state is the one that was judged
here, which this site computed   (5) this hospital was in the sum that judged it; and all in that sum, and in each that
was opened here in this run, mean to tell: what the others tell, taken from a sum at nearly the same model, would else
be the figures of those who tell none.
So all tell the same figures: one that a hospital could leave out would follow from the sum and what the others tell.
Where one class has fewer than ten patients, `too few` leaves: no more than that.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from sqlite3 import Row
from threading import Event
from typing import Any

from consilium.algorithms import figure, metrics, rounded
from consilium.core.errors import ConsiliumError, Refused, Unavailable
from consilium.core.ids import SiteId
from consilium.core.study import Plan
from consilium.governance.declarable import declarable
from consilium.site import declarations, figures
from consilium.site.folder import Folder
from consilium.site.journal import Journal
from consilium.site.pairing import Pairing
from consilium.site.updates import Updates
from consilium.site.veto import Veto
from consilium.wire.envelope import seal
from consilium.wire.identity import Identity
from consilium.wire.messages import Figures, Task

log = logging.getLogger(__name__)
Json = dict[str, Any]


@dataclass
class Declaring:
    """Says once of each finished run what it is worth here, or that it is not told.

    `recall`: look whether the journal was restored from an older copy.
    """

    folder: Folder
    identity: Identity
    journal: Journal
    veto: Veto
    updates: Updates
    pairing: Pairing
    stop: Event
    outgoing: Event
    recall: Callable[[datetime], None] = lambda now: None

    def of(self, run: str, now: datetime, *, waits: bool = False) -> None:
        """Say it of a run, if it is finished, was judged here, and nothing was said of it yet.

        Args:    waits: whether it may be said later.
        Raises:  Unavailable: it waits, for the coordinator does not say now whether the journal is older than it was.
        """
        row = self.journal.row("SELECT * FROM declarations WHERE run = ? AND ended AND word = ''", run)
        study = row and self.journal.row("SELECT payload FROM studies WHERE plan = ?", row["plan"])
        if row is None or study is None:
            return
        unsure = self._unsure(now, waits)
        plan, task = Plan.load(bytes(study["payload"])), self._task(row)
        own = self._own(plan, task, row, now)
        if self.stop.is_set() or plan.study.privacy.recipe != "secure_sum":
            return  # cut off: done when the agent is back; or its sums alone went to the coordinator before
        why = unsure or self._objection(plan, task, row, now)
        message = self._message(row, own, why)
        envelope = seal(Figures.TYPE, message.encode(), self.identity)
        with self.journal.write() as tx:
            declarations.tell(tx, message, envelope, now)
        self.outgoing.set()

    def _task(self, row: Row) -> Task | None:
        """The task by which the final model was judged."""
        found = self.journal.row(
            "SELECT payload FROM tasks WHERE run = ? AND round = ? AND kind = 'EVALUATE' ORDER BY seq DESC LIMIT 1",
            row["run"], row["round"],
        )  # fmt: skip
        return None if found is None else Task.decode(bytes(found["payload"]))

    def _unsure(self, now: datetime, waits: bool) -> str:
        """Why it is not known whether the journal was restored from an older copy; empty where it is, or tells none."""
        try:
            if self.folder.policy().release_figures:
                self.recall(now)
        except ConsiliumError as error:
            if waits and isinstance(error, Unavailable):
                raise
            return error.message
        return ""

    def _message(self, row: Row, own: Json | None, why: str) -> Figures:
        about = {"site": self.veto.site, **{name: row[name] for name in ("study", "run", "plan", "state")}}
        if why:
            log.info("figures of this hospital alone are not told of %s: %s", row["run"], why)
            return Figures(**about, word="withheld")
        made = json.loads(row["made"])
        if made is None:
            return Figures(**about, word="too few")
        return Figures(**about, word="told", **made, own=own)

    def _objection(self, plan: Plan, task: Task | None, row: Row, now: datetime) -> str:
        """Why figures of this hospital alone are not told of a run; empty where they are."""
        try:
            policy = self.folder.policy()
            if why := declarations.unwilling(self.journal, policy, plan):
                return why
            if task is None or task.state.digest != row["state"]:
                return "another state was judged"
            self.veto.permit(task, now)
            roster = self.pairing.roster(task)
            mine = next((one for one in roster.keys if one.site == self.veto.site), None)
            if mine is None or not mine.declares:
                return "it was not the policy when keys were agreed"
            opened = [
                (one["round"], frozenset(map(SiteId, json.loads(one["sites"]))))
                for one in self.journal.rows("SELECT round, sites FROM openings WHERE run = ?", row["run"])
            ]
            last = {sites for number, sites in opened if number == row["round"]}
            if len(last) != 1 or self.veto.site not in last.pop():
                return "this hospital was not in the sum that judged the final model"
            if not roster.all_declare(frozenset[SiteId]().union(*(sites for _, sites in opened))):
                return "with them, figures of hospitals that tell none could be computed"
        except ConsiliumError as error:
            return error.message
        return ""

    def _own(self, plan: Plan, task: Task | None, row: Row, now: datetime) -> Json | None:
        """Train and judge the hospital's own model, and keep what it is worth; what of it may be told, or None.

        Nobody waits for it: where it fails, it is not told.
        """
        study = plan.study
        try:
            if task is None or not self.folder.policy().own_model or study.judged_only or study.evaluation.folds:
                return None
            if study.model.foreign:
                return None
            permit, _ = self.veto.permit(task, now)
            sums = self.updates.alone(task, permit, plan, now)
            found = metrics.figures(
                study.contract.label.type, sums, study.evaluation.confidence, True, study.evaluation.threshold
            )
        except (ConsiliumError, ArithmeticError, ValueError, LookupError, OSError) as error:
            if isinstance(error, Unavailable) or self.stop.is_set():
                return None
            told = error.message if isinstance(error, (ConsiliumError, Refused)) else type(error).__name__
            log.warning("this hospital's own model beside that of %s was not trained: %s", row["run"], told)
            return None
        with self.journal.write(durable=False) as tx:  # who comes here again makes it again
            figures.beside(tx, row["run"], figure.to_json({k: v for k, v in found.items() if v.value is not None}))
        if not declarable(study) or rounded.classes(sums) is None:
            return None
        return {"auroc": rounded.auroc(sums)}
