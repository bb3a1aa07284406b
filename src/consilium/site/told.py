"""What was told of this hospital's patients before, at which model: in sums over whom, and alone. See `disclosure`.

It stands in the journal's table `openings`, across runs and studies; `shown` says by which answer of the outbox.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Row
from typing import Any

from consilium.core.errors import Refused
from consilium.core.ids import EVERYBODY, Digest, SiteId, canonical, digest
from consilium.core.study import Study
from consilium.governance.policy import Policy
from consilium.privacy import disclosure, ledger
from consilium.privacy.disclosure import Opening, Summed
from consilium.privacy.question import models
from consilium.site import sources
from consilium.site.journal import Journal, Writing
from consilium.wire.messages import Task

log = logging.getLogger(__name__)
_TABLES = "SELECT source, population, patients FROM opened_from"
"""From which table something of which population was told: as few rows as there are such, however much was told."""
_AT = (
    "SELECT openings.id, model, source, objective, sites, run, coalesce(exactly, '') AS exactly,"
    " coalesce(population, '') AS population, coalesce(patients, '') AS patients"
    " FROM openings LEFT JOIN opened_of ON opened_of.opening = openings.id"
    " LEFT JOIN opened_as ON opened_as.opening = openings.id WHERE model = ?"
)
EXACTLY = "exactly"
"""Of what was shown alone: that it was what is asked now, and not only the same question."""
ASIDE = {"name", "title", "purpose", "rounds", "quorum", "min_patients", "deadlines", "gate", "sites"}
"""What of a study changes nothing of what a hospital computes in a round."""
Question = Mapping[str, Any]
"""What is asked of which patients at which models; see `question`."""


@dataclass(frozen=True)
class Told:
    """What was told in a run; `number`: in the table."""

    number: int
    run: str
    opening: Opening


def question(task: Task, study: Study, mapping: Path, state: Path, policy: Policy) -> dict[str, Any]:
    """What is asked of which patients at which models, under any name.

    Whose patients: the population to which the policy counts them, as for what studies spend of it. What a contract
    calls its parts, which inputs and label it has, what a mapping says and is called, and how is trained, is in none of
    it: who asks the same question twice chooses all that. Rounds of training carry the model's metrics, too, so the
    kind of the round is not, either.
    """
    asked = sources.asked(mapping)
    population, _ = policy.privacy.of(asked.patients)
    return {
        "source": asked.source, "population": population, "patients": asked.patients,
        "apart": sorted(policy.privacy.populations), "models": models(study, task.kind, state),
        "objective": disclosure.PREPARATION if task.kind == "PREPARE" else asked.label,
        "exactly": _exactly(task, study, mapping),
    }  # fmt: skip


def _exactly(task: Task, study: Study, mapping: Path) -> Digest:
    """What stands for all that is computed there: of two questions at one model, whether they are one to the last bit.

    It may tell apart what is the same, for by it something is allowed, and nothing refused: which inputs and limits,
    which patients are trained on, how, and by which mapping, as it stands.
    """
    aside = ASIDE | (set() if study.privacy.epsilon is not None else {"privacy"})  # how a sum is rounded, and over whom
    drawn = not study.exact or study.model.kind == "poisson"  # the first round of this one has sums of its own
    number = task.round if task.kind == "TRAIN" and drawn else 0  # by it patients are put in batches
    told = study.model_dump(mode="json", exclude=aside)
    return digest(canonical([task.kind, number, told, digest(mapping.read_bytes())]))


def before(journal: Journal, asked: Question) -> list[list[Told]]:
    """What was told of the same patients before: for each model of the question, at what stands for it."""
    return [_before(journal, asked, group) for group in _groups(asked)]


def alone(journal: Journal, asked: Question, known: Sequence[Sequence[Told]] | None = None) -> bool:
    """Whether this hospital has shown exactly this alone, at all models of the question; False: nothing there, at none.

    It has, where the coordinator took the answer. Where it waited and was given up, some of it may have left, or all.
    `known`: what `before` has just given.

    Raises: Refused: `difference`: it has at some of the models, or may have; or what it has is of another label, of
            other inputs or from another table, and nobody knows how much of this it tells.
    """
    known = before(journal, asked) if known is None else known
    found = {_shown(journal, one) for one in known}
    if len(found) > 1 or None in found:
        runs = sorted({one.run for group in known for one in group if one.opening.alone})
        log.warning(
            "of these patients something was shown alone at some of these models, and nobody knows whether it is what "
            "is asked now, or whether it left: %s",
            ", ".join(runs),
        )
        raise disclosure.apart(asked["objective"])
    return True in found


def _shown(journal: Journal, before: Sequence[Told]) -> bool | None:
    """None: it was put into the outbox, and is not known to have arrived; or it is not exactly what is asked."""
    singles = [one for one in before if one.opening.alone]
    if not singles:
        return False
    sent = (
        "SELECT opening FROM shown JOIN outbox ON outbox.id = shown.answer AND outbox.status = 'sent' WHERE opening = ?"
    )
    exact = [one for one in singles if one.opening.asked]
    return True if any(journal.row(sent, one.number) is not None for one in exact) else None


def check(
    journal: Journal, asked: Question, sites: Iterable[SiteId], known: Sequence[Sequence[Told]] | None = None
) -> list[Opening]:
    """The sums over these sites, one for each model, if they may be told, or this hospital's own answer; after what was
    told before, which may be `known`.

    Raises: Refused: `difference`. The log, which stays here, says after which run.
    """
    groups, over = _groups(asked), frozenset(sites)
    for group, told in zip(groups, before(journal, asked) if known is None else known, strict=True):
        wanted = _opening(asked, group[0], over, EXACTLY)
        try:
            disclosure.check(wanted, [one.opening for one in told])
        except Refused:
            runs = sorted({one.run for one in told if one.opening.sites != over})
            log.warning(
                "at this model something of these patients was told before, of other hospitals together: %s; if they "
                "are others, name them in the mapping (`patients`) and in the policy (`privacy.populations`)",
                ", ".join(runs),
            )
            raise
    return [_opening(asked, one, over) for one in sorted({one for group in groups for one in group})]


def sums(journal: Journal, study: str, asked: Question) -> list[Summed]:
    """The sums of a study that this hospital helped to open, of the same patients and label, at any model.

    Of those that were opened by releases of before nobody knows which parts they had: they are looked at as a whole.
    """
    rows = journal.rows(
        "SELECT DISTINCT sites, coalesce(lacking, '[]') AS lacking, coalesce(withheld, '[]') AS withheld,"
        " coalesce(parts, '[]') AS parts FROM openings"
        " LEFT JOIN opened_without ON opened_without.opening = openings.id"
        " LEFT JOIN opened_parts ON opened_parts.opening = openings.id"
        " WHERE study = ? AND source = ? AND objective = ?",
        study, asked["source"], asked["objective"],
    )  # fmt: skip
    return [
        Summed(
            frozenset(map(SiteId, json.loads(row["sites"]))),
            frozenset(json.loads(row["parts"])),
            frozenset((part, SiteId(site)) for part, site in json.loads(row["lacking"])),
            frozenset(json.loads(row["withheld"])),
        )
        for row in rows
    ]


def keep(
    tx: Writing, task: Task, asked: Question, told: Sequence[Opening], answer: int | None = None,
    summed: Summed | None = None,
) -> None:  # fmt: skip
    """Remember what is told in a task's round.

    Args: answer: the outbox's number of what shows it alone.   summed: the sum that is opened, with who lacks what.
    """
    for one in told:
        about = task.run, task.round, one.state, asked["source"], asked["objective"]
        known = tx.row(
            "SELECT id FROM openings WHERE run = ? AND round = ? AND model = ? AND source = ? AND objective = ?", *about
        )
        number = _kept(tx, about, one, task, asked, summed) if known is None else int(known["id"])
        if answer is not None:
            tx.do("INSERT INTO shown (opening, answer) VALUES (?, ?)", number, answer)


def _kept(tx: Writing, about: tuple[Any, ...], one: Opening, task: Task, asked: Question, summed: Summed | None) -> int:
    number = tx.add(
        "INSERT INTO openings (run, round, model, source, objective, sites, study) VALUES (?, ?, ?, ?, ?, ?, ?)",
        *about, json.dumps(sorted(one.sites)), task.study,
    )  # fmt: skip
    whose = asked.get("population", ledger.EVERY), asked.get("patients", "")
    tx.do("INSERT INTO opened_of VALUES (?, ?, ?)", number, *whose)
    tx.do("INSERT INTO opened_as VALUES (?, ?)", number, asked.get("exactly", ""))
    if summed is not None and summed.parts:
        tx.do("INSERT INTO opened_parts VALUES (?, ?)", number, json.dumps(sorted(summed.parts)))
    if summed is not None and summed.lacking:
        parts = json.dumps(sorted(summed.lacking)), json.dumps(sorted(summed.withheld))
        tx.do("INSERT INTO opened_without VALUES (?, ?, ?)", number, *parts)
    return number


def _groups(asked: Question) -> list[list[str]]:
    return [[one] if isinstance(one, str) else one for one in asked["models"]]


def _opening(asked: Question, model: str, sites: frozenset[SiteId], exactly: str = "") -> Opening:
    return Opening(asked.get("population", ledger.EVERY), Digest(model), asked["objective"], sites, exactly)


def _before(journal: Journal, asked: Question, group: Sequence[str]) -> list[Told]:
    """What was told of the same patients at what stands for one of the models.

    Whose are the same is counted as in `privacy.ledger.Book.of`: those of the population, by the policy of then or of
    today, and those of each table from which some of them came. Of what was told in releases of before nobody knows
    whose it was: it counts for all.
    """
    mine = asked.get("population", ledger.EVERY)

    def belongs(row: Row) -> bool:
        now = row["patients"] if row["patients"] in asked.get("apart", ()) else EVERYBODY
        return mine in (now, row["population"], ledger.EVERY) or row["population"] == ledger.EVERY

    tables = [row for row in journal.rows(_TABLES) if row["population"] != ledger.EVERY]
    same = {str(row["source"]) for row in tables if belongs(row)} | {asked["source"]}
    found = []
    for row in (row for model in group for row in journal.rows(_AT, model)):
        if belongs(row) or row["source"] in same:
            exact = (row["model"], row["source"], row["objective"]) == (group[0], asked["source"], asked["objective"])
            exact &= row["exactly"] == asked.get("exactly") != ""
            sites = frozenset(map(SiteId, json.loads(row["sites"])))
            opening = _opening(asked, group[0], sites, EXACTLY if exact else "")
            found.append(Told(int(row["id"]), str(row["run"]), opening))
    return found
