"""Records that are nobody's, or of nothing: where records are counted, a patient whose own are among them has a 0."""

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass

from consilium.data.choosing import spelt
from consilium.data.records import Records, column


@dataclass(frozen=True)
class Strays:
    """Of the records of a table, how many have no key of a patient, no code, or the key of nobody in the table."""

    where: str
    records: int
    keyless: int
    uncoded: int
    others: int


def strays(records: Mapping[str, Records], patients: Container[str]) -> tuple[Strays, ...]:
    """Of each table. patients: of the table, as `spelt`."""
    return tuple(_strays(one, patients) for one in records.values())


def _strays(records: Records, patients: Container[str]) -> Strays:
    keys = Counter(column(records, records.part.patient))
    codes = column(records, records.part.code)
    keyless = sum(count for key, count in keys.items() if not spelt(key))
    others = sum(count for key, count in keys.items() if spelt(key) and spelt(key) not in patients)
    return Strays(records.where, len(records.rows), keyless, sum(not (code or "").strip() for code in codes), others)
