"""`consilium site check`: how well a hospital's data fit a contract, per feature, in words that say what to do.

Counts below ten are hidden, and so is the count that would give them away by subtraction.
"""

from dataclasses import asdict, dataclass
from typing import Any

from consilium.core.study import Contract, Study
from consilium.data.contract import Column, Mapped

MIN_CELL = 10
Count = int | str


@dataclass(frozen=True)
class Finding:
    """One feature, or the label. Counts are numbers, or ``<10``."""

    id: str
    rows: int
    usable: Count
    coverage: str
    missing: Count
    out_of_range: Count
    not_a_number: Count
    unmapped: dict[str, Count]
    converted: str
    level: str  # ok, note, problem
    advice: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """The whole check."""

    study: str
    contract: str
    read: int
    kept: int
    training: Count
    test: Count
    without_label: Count
    incomplete: Count
    prevalence: str
    features: tuple[Finding, ...]
    label: Finding
    advice: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether nothing stands in the way of training."""
        return not self.advice and all(finding.level != "problem" for finding in (*self.features, self.label))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "usable": self.usable}


def hidden(count: int) -> Count:
    """A count, or ``<10`` for 1 to 9."""
    return f"<{MIN_CELL}" if 0 < count < MIN_CELL else count


def check(study: Study, mapped: Mapped) -> Report:
    """Judge what a mapping gave."""
    table, contract = mapped.table, study.contract
    kept, test = len(table.label), int(table.test.sum())
    training = kept - test
    advice = []
    if training < study.min_patients:
        advice.append(f"{hidden(training)} training patients; the study wants at least {study.min_patients}")
    findings = tuple(_finding(name, column, mapped.read) for name, column in mapped.features.items())
    return Report(
        study=study.name, contract=contract.id, read=mapped.read, kept=kept, training=hidden(training),
        test=hidden(test), without_label=hidden(mapped.without_label), incomplete=hidden(mapped.incomplete),
        prevalence=_prevalence(contract, mapped), features=findings,
        label=_finding(contract.label.id, mapped.label, mapped.read), advice=tuple(advice),
    )  # fmt: skip


def _prevalence(contract: Contract, mapped: Mapped) -> str:
    label = mapped.table.label
    if contract.label.type != "binary":
        return f"mean {label.mean():.3g}" if len(label) >= MIN_CELL else "hidden: fewer than ten patients"
    positives = int((label == 1).sum())
    if min(positives, len(label) - positives) < MIN_CELL:
        return f"hidden: fewer than {MIN_CELL} patients with, or without, the condition"
    return f"{positives / len(label):.1%}"


def _finding(name: str, told: Column, rows: int) -> Finding:
    counts = [told.usable, told.missing, told.out_of_range, told.not_a_number, sum(told.unmapped.values())]
    shown = _shown(counts)
    share = told.usable / rows if rows else 0.0
    masked = isinstance(shown[0], str) and told.usable > 0
    advice, level = _advice(told, rows)
    return Finding(
        id=name, rows=rows, usable=shown[0], coverage="hidden" if masked else f"{share:.0%}", missing=shown[1],
        out_of_range=shown[2], not_a_number=shown[3], unmapped=_unmapped(told, shown[4]), converted=told.converted,
        level=level, advice=advice,
    )  # fmt: skip


def _shown(counts: list[int]) -> list[Count]:
    """Hide small counts; where just one is hidden, the next smallest one is hidden too, or it could be subtracted."""
    small = [index for index, count in enumerate(counts) if 0 < count < MIN_CELL]
    if len(small) == 1:
        others = [index for index, count in enumerate(counts) if count and index not in small]
        small += sorted(others, key=lambda index: counts[index])[:1]
    return [
        ("hidden" if count >= MIN_CELL else f"<{MIN_CELL}") if index in small else count
        for index, count in enumerate(counts)
    ]


def _unmapped(told: Column, total: Count) -> dict[str, Count]:
    shown: dict[str, Count] = {code: count for code, count in told.unmapped.items() if count >= MIN_CELL}
    if isinstance(total, str):
        shown = {}
    rest = sum(told.unmapped.values()) - sum(count for count in shown.values() if isinstance(count, int))
    return {**shown, "(rare codes)": f"<{MIN_CELL}" if rest < MIN_CELL else "hidden"} if rest else shown


def _advice(told: Column, rows: int) -> tuple[tuple[str, ...], str]:
    found, level = [], "ok"
    if told.unmapped:
        found.append("some codes are not mapped: add them to `codes`, or to `missing` if they mean nothing is known")
        level = "problem" if sum(told.unmapped.values()) > 0.05 * rows else "note"
    if told.not_a_number:
        found.append("some values are not numbers: add their code to `missing`, or correct the column")
        level = "problem" if told.not_a_number > 0.05 * rows else "note"
    if told.out_of_range:
        found.append(
            "some values lie outside the contract's range and count as missing: check the unit, and codes such as 0"
        )
        level = "problem" if told.out_of_range > 0.2 * rows else "note"
    if told.usable == 0:
        found.append("this hospital has no value: fine where the contract allows it; write `absent` to say so")
        level = "note" if level == "ok" else level
    return tuple(found), level
