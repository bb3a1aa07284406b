"""`consilium site check`: how well a hospital's data fit a contract, per feature, in words that say what to do.

Counts below ten are hidden, and so is every count that would give one away by subtraction: what is shown leaves at
least two possible values for each that is not. ``<10`` is 1 to 9; ``hidden`` is any number.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from consilium.core import survival
from consilium.core.contract import Contract, Feature, Label
from consilium.core.gate import UNREADABLE, Gate, Kind
from consilium.core.study import Study
from consilium.core.timed import TIMED
from consilium.data import spread, unused
from consilium.data.base import Lost, Missed, Seen, Table, Unnamed, Unused, least, smallest
from consilium.data.contract import Column, Mapped
from consilium.data.counts import MIN_CELL, Count, hidden, shown_counts
from consilium.data.findings import Finding, Look, of_column
from consilium.data.spread import Spread
from consilium.data.strays import Strays

DOUBT_REMEDY = (
    "look at each max, min, arg_max, arg_min, ORDER BY, < and such in it: numbers want CAST(... AS DOUBLE) there, days "
    "as 31.03.2024 strptime(..., '%d.%m.%Y'), in MySQL STR_TO_DATE(..., '%d.%m.%Y'), or in SQLite substr(..., 7)||"
    "substr(..., 4, 2)||substr(..., 1, 2); of SQLite and MySQL also whether what is cast, summed or multiplied is a "
    "number"
)

LOST = {
    "TRY_CAST": (
        "<5 or 7,5",
        "of 7,5 take replace(v, ',', '.'); of a bound such as <5 ask the study's owner what stands for it",
    ),
    "try_strptime": (
        "31/03/2024 or 930",
        "give every way in which days and hours are written, as try_strptime(v, ['%d.%m.%Y', '%d/%m/%Y']), and of "
        "hours such as 930 lpad(v, 4, '0')",
    ),
    "regexp_extract": (
        "G1 P0, where the pattern wants G1P0",
        "widen the pattern by what is written there otherwise, such as blanks by ' *', or take blanks out first by "
        "replace(v, ' ', '')",
    ),
}
"""Of functions that make nothing of a text, such texts, and what to do."""
LOST_REMEDY = (
    "what is to be passed over say in a CASE, as CASE WHEN v IN ('hemolytic') THEN NULL ELSE TRY_CAST(v AS DOUBLE) END"
)

MISSED_REMEDY = (
    "if that is meant, all is well; else look at its conditions and joins: `consent <> 'no'` leaves out who has an "
    "empty cell, so write coalesce(consent, '') <> 'no', and JOIN who has no row there, so write LEFT JOIN"
)
UNORDERED = (
    "some patients have several entries, and of one of them the moment is a month or a year, cannot be read, is "
    "lacking, or has no time zone where another one has, so that nobody knows which entry counts",
    "complete the moments, all with their zone or all without, or leave such entries out in the source's query if they "
    "do not count; the patients are left out until then",
)
UNSOLVED = (
    "some records of patients were merged (`Patient.link`), and nobody knows into which one: links lead in a circle, "
    "to several, to a Patient that is not here, or to none",
    "correct the links where they are kept, or export the Patients that are lacking; they are left out until then",
)

KEYLESS = (
    "no key of a patient, so that nobody knows whose they are",
    "complete it in the source's query (in FHIR a reference to the Patient, and not an identifier alone), or leave out "
    "there what does not count",
)
UNCODED = (
    "no code, so that nobody knows what they are of",
    "complete the column of codes in the source's query, or leave out there what does not count",
)
UNLISTED = (
    "all is well if they are no patients of this table; else look for numbers that were merged: name the number that "
    "its rows have, too"
)
PROPOSED: tuple[Kind, ...] = ("code-for-missing", "unit", "other-unit", "named-unit")
"""Kinds whose remedy is a guess by the values that were read."""
FIRST = "but first mend what else is told of this column, and check again: its values may be others then"
NOBODYS = 0.05
"""Share of records of nobody in the table from which on it is told."""


@dataclass(frozen=True)
class Fit:
    """One feature, or the label. Counts are numbers, ``<10`` or ``hidden``."""

    id: str
    rows: Count
    usable: Count
    coverage: str
    missing: Count
    out_of_range: Count
    not_a_number: Count
    unmapped: dict[str, Count]
    converted: str
    level: str  # ok, note, problem
    advice: tuple[str, ...]
    findings: tuple[Finding, ...]
    spread: Spread


@dataclass(frozen=True)
class Report:
    """The whole check. The spread of a column, and codes that a query does not name, are for who looks here: they are
    neither remembered nor sent.
    """

    study: str
    contract: str
    read: Count
    kept: Count
    training: Count
    test: Count
    without_label: Count
    incomplete: Count
    immature: Count
    excluded: Count
    opted_out: Count
    listed: Count | None
    other_entries: Count
    prevalence: str
    features: tuple[Fit, ...]
    label: Fit
    advice: tuple[str, ...]
    findings: tuple[Finding, ...]
    unnamed: tuple[Unnamed, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether nothing stands in the way of training."""
        return not any(finding.blocks for finding in self.findings)

    @property
    def undone(self) -> int:
        """How many checks could not be done."""
        return sum(finding.undone for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        told = {**asdict(self), "usable": self.usable, "undone": self.undone}
        return {name: value for name, value in told.items() if name != "unnamed"}


def counted(study: Study, table: Table) -> int:
    """Patients of whom a study and a policy want so many: those who train, or, where nothing is trained, all; of two
    parts whose sums leave, those of the smaller one.
    """
    if study.validates:
        return least(table.test, table.validation)
    if table.fold is not None and study.evaluation.folds:
        return smallest(table.fold, study.evaluation.folds)
    return len(table.label) if study.judged_only else int((~table.test).sum())


def whom(study: Study) -> str:
    """Of which patients a study wants so many, in words."""
    if study.validates:
        return "validation patients"
    if study.evaluation.folds:
        return "patients of the smallest fold"
    return "patients" if study.judged_only else "training patients"


def check(study: Study, mapped: Mapped) -> Report:
    """Judge what a mapping gave."""
    table, contract, gate = mapped.table, study.contract, study.gate or Gate()
    kept, test = len(table.label), int(table.test.sum())
    training = kept - test
    whole = []
    if (count := counted(study, table)) < study.min_patients:
        words = f"{hidden(count)} {whom(study)}; the study wants at least {study.min_patients}"
        blocks = gate.blocks("few-patients")
        whole.append(Finding("few-patients", "", hidden(count), words, "see what is left out", blocks))
    for doubt in mapped.doubts:
        if isinstance(doubt, Lost):
            whole.append(_lost(doubt, gate))
            continue
        if isinstance(doubt, Missed):
            whole.append(_missed(doubt, gate))
            continue
        if isinstance(doubt, Seen):
            whole.append(_seen(doubt, gate))
            continue
        if isinstance(doubt, Unused | Unnamed):
            continue
        whole.append(Finding("text-order", "", 0, doubt, DOUBT_REMEDY, gate.blocks("text-order"), undone=True))
    if passed := [one for one in mapped.doubts if isinstance(one, Unused)]:
        whole.append(Finding("unread", "", 0, *unused.told(passed), blocks=False))
    left = mapped.left
    for away, told in ((left.unordered, UNORDERED), (left.unsolved, UNSOLVED)):
        if away:
            blocks = away >= MIN_CELL and away > gate.not_a_number_max * (mapped.read + away)
            whole.append(Finding("unread", "", hidden(away), *told, gate.blocks("unread") and blocks))
    if mapped.listed and 0 < left.opted_out < mapped.listed:
        whole.append(_unlisted(mapped.listed - left.opted_out, mapped.listed, gate))
    whole += [finding for one in mapped.strays for finding in _strays(one, gate)]
    shown = shown_counts([training, test, mapped.without_label, mapped.incomplete, left.immature, left.excluded])
    fits = tuple(_fit(one, mapped.features[one.id], mapped, gate) for one in contract.inputs)
    label = _label(contract, mapped, gate)
    return Report(
        study=study.name, contract=contract.id, read=hidden(mapped.read),
        kept=kept if isinstance(shown[0], int) and isinstance(shown[1], int) else "hidden",
        training=shown[0], test=shown[1 if table.fold is None else 0], without_label=shown[2], incomplete=shown[3],
        immature=shown[4], excluded=shown[5], opted_out=hidden(left.opted_out),
        listed=None if mapped.listed is None else hidden(mapped.listed),
        other_entries=hidden(left.other_entries),
        prevalence=_prevalence(contract, mapped), features=fits, label=label,
        advice=tuple(one.words for one in whole),
        findings=(*whole, *(finding for fit in (*fits, label) for finding in fit.findings)),
        unnamed=tuple(one for one in mapped.doubts if isinstance(one, Unnamed)),
    )  # fmt: skip


def _lost(lost: Lost, gate: Gate) -> Finding:
    """Texts of which the query makes nothing: as many as would block if they stood in a column."""
    told = [LOST[name] for name in lost.by]
    words = (
        f"{' or '.join(lost.by)} in source.query makes nothing of texts such as {' or '.join(one for one, _ in told)}, "
        f"and passes over them: other values would stand in {', '.join(lost.columns)}"
    )
    remedy = "; ".join((*(one for _, one in told), LOST_REMEDY))
    blocks = lost.rows >= MIN_CELL and lost.rows > gate.not_a_number_max * lost.of
    return Finding("not-a-number", "", hidden(lost.rows), words, remedy, gate.blocks("not-a-number") and blocks)


def _missed(missed: Missed, gate: Gate) -> Finding:
    """Patients whom a query leaves out: that may be meant."""
    count = hidden(missed.patients)
    words = f"source.query leaves out {count} of {hidden(missed.of)} patients of {missed.column}: they are in no row"
    return Finding(
        "of-nobody", "", count, words, MISSED_REMEDY, gate.blocks("of-nobody") and missed.patients >= MIN_CELL
    )


def _seen(seen: Seen, gate: Gate) -> Finding:
    """What else is told of a query."""
    limit = gate.unmapped_max if seen.kind == "unmapped-codes" else gate.not_a_number_max
    many = seen.count >= MIN_CELL and seen.count > limit * seen.of
    blocks = gate.blocks(seen.kind) and (many or seen.unknown)
    return Finding(seen.kind, "", hidden(seen.count), seen.words, seen.remedy, blocks, undone=seen.unknown)


def _unlisted(nowhere: int, listed: int, gate: Gate) -> Finding:
    """Entries of the opt-out list of whom there is no row: of whom was merged into another number there may be one."""
    words = f"{hidden(nowhere)} of the opt-out list of {hidden(listed)} are in none of the rows"
    return Finding("of-nobody", "", hidden(nowhere), words, UNLISTED, gate.blocks("of-nobody") and nowhere >= MIN_CELL)


def _withheld(found: tuple[Finding, ...], told: Column, mapped: Mapped) -> tuple[Finding, ...]:
    """Nothing is proposed of a column of which much is not read, or that a query may have made otherwise: what is left
    of it tells neither its unit nor what stands for nothing.
    """
    hang = {name.casefold() for one in mapped.doubts if isinstance(one, Lost | Seen) for name in one.columns}
    much = any(one.blocks and one.kind in UNREADABLE and not one.write for one in found)
    if not much and told.column.casefold() not in hang:
        return found
    return tuple(
        replace(one, place="", write="", remedy=f"{one.remedy}; {FIRST}") if one.write and one.kind in PROPOSED else one
        for one in found
    )


def _strays(one: Strays, gate: Gate) -> Iterator[Finding]:
    """Records without a key or a code, which block where there are as many as of what cannot be read; or of others."""
    for count, (words, remedy) in ((one.keyless, KEYLESS), (one.uncoded, UNCODED)):
        if count:
            blocks = count >= MIN_CELL and count > gate.not_a_number_max * one.records
            words = f"{one.where}: some records have {words}; a patient may have none for it, and a count of 0"
            yield Finding("unread", "", hidden(count), words, remedy, gate.blocks("unread") and blocks)
    if one.others >= MIN_CELL and one.others > NOBODYS * one.records:
        words = f"{one.where}: {one.others / one.records:.0%} of the records are of nobody in the table"
        remedy = "all is well if other patients are in it, too; else see whether keys are spelt as in the table"
        yield Finding("of-nobody", "", hidden(one.others), words, remedy, gate.blocks("of-nobody"))


def _label(contract: Contract, mapped: Mapped, gate: Gate) -> Fit:
    """The label's fit, with what follows where one class of it is lacking: that is no reason not to take part."""
    found = _fit(contract.label, mapped.label, mapped, gate)
    told = _one_class(mapped.table) if contract.label.type == "binary" else ("", "")
    if not told[0]:
        return found
    finding = Finding("one-class", contract.label.id, "hidden", *told, blocks=gate.blocks("one-class"))
    level = "problem" if finding.blocks else "note" if found.level == "ok" else found.level
    words = f"{finding.words}: {finding.remedy}"
    return replace(found, advice=(*found.advice, words), level=level, findings=(*found.findings, finding))


def _one_class(table: Table) -> tuple[str, str]:
    """Which patients have one class of a binary label only, and what follows; empty where both are there."""
    lacking = {
        words: len(np.unique(label)) == 1
        for words, label in (
            ("all patients", table.label),
            ("the held-out patients", table.label[table.test]),
            ("the training patients", table.label[~table.test]),
        )
    }
    who = next((words for words, one in lacking.items() if one), "")
    if not who:
        return "", ""
    judged = "no model, be it common or local, can be judged here: its AUROC is shown as `one class only`"
    learns = "a model trained here alone learns nothing that tells the classes apart"
    follows = {"all patients": f"{judged}, and {learns}", "the held-out patients": judged}.get(who, learns)
    return f"{who} have one class only", (
        f"{follows}. This hospital can take part all the same and adds to the common model; "
        "if there should be both classes, correct the label's codes in the mapping"
    )


def _prevalence(contract: Contract, mapped: Mapped) -> str:
    label = mapped.table.label
    if contract.label.type not in ("binary", TIMED):
        return f"mean {label.mean():.3g}" if len(label) >= MIN_CELL else "hidden: fewer than ten patients"
    positives = int((survival.events(label) if contract.label.type == TIMED else label == 1).sum())
    if len(label) and positives in (0, len(label)):
        return "one class only"
    if min(positives, len(label) - positives) < MIN_CELL:
        return f"hidden: fewer than {MIN_CELL} patients with, or without, the condition"
    return f"{positives / len(label):.1%}"


def _fit(of: Feature | Label, told: Column, mapped: Mapped, gate: Gate) -> Fit:
    rows = mapped.read
    counts = [told.usable, told.missing, told.out_of_range, told.not_a_number, sum(told.unmapped.values())]
    shown = shown_counts(counts, whole=0)
    share = told.usable / rows if rows else 0.0
    masked = isinstance(shown[0], str)
    unmapped = _unmapped(told, shown[4])
    look = Look(of, told, rows, gate, shown[4], shown[3], shown[2], shown[0])
    findings = _withheld(of_column(look), told, mapped)
    level = "problem" if any(one.blocks for one in findings) else "note" if findings else "ok"
    return Fit(
        id=of.id, rows=hidden(rows), usable=shown[0], coverage="hidden" if masked else f"{share:.0%}", missing=shown[1],
        out_of_range=shown[2], not_a_number=shown[3], unmapped=unmapped, converted=told.converted,
        level=level, advice=tuple(f"{one.words}: {one.remedy}" for one in findings), findings=findings,
        spread=spread.of_column(of, told, shown[0], mapped.table),
    )  # fmt: skip


def _unmapped(told: Column, total: Count) -> dict[str, Count]:
    """Counts by code; rare codes go together, with as many others as it takes to have ten patients or none in all."""
    known = sorted(((count, code) for code, count in told.unmapped.items()), reverse=True)
    shown = [(count, code) for count, code in known if count >= MIN_CELL] if isinstance(total, int) else []
    rest = sum(told.unmapped.values()) - sum(count for count, _ in shown)
    while 0 < rest < MIN_CELL and shown:
        rest += shown.pop()[0]
    found: dict[str, Count] = {code: count for count, code in shown}
    return {**found, "(rare codes)": "hidden" if rest >= MIN_CELL else f"<{MIN_CELL}"} if rest else found
