"""Whose records are: keys of records that are not written as those of the table, and would be nobody's in silence."""

from collections.abc import Set
from dataclasses import replace

from consilium.core.errors import DataUnusable
from consilium.data.choosing import folded, key, spelt
from consilium.data.counts import hidden
from consilium.data.meeting import apart
from consilium.data.records import Records, column


def of_patients(records: Records, patients: Set[str], out: Set[str] = frozenset()) -> Records:
    """The records, with the keys that their patients have in the table, where the mapping says `keys: alike`.

    Args:    patients: keys of the table, as `spelt`.   out: keys of who opted out, who are not among them.
    Raises:  DataUnusable: no record is of one of these patients, so that every count of records would be 0; or some
             have a key that is a patient's but for how it is written, and the mapping says nothing of such.
    """
    if records.rows.left_out and not len(records.rows):  # all were of who opted out
        return records
    if not len(records.rows):
        raise DataUnusable(
            f"{records.where}: there is no record in it", "fetch it anew, or write `absent` for what is made of it"
        )
    name = records.part.patient
    theirs = {spelt(patient) for patient in column(records, name)}
    found = records if records.part.keys == "exact" else _met(records, theirs, patients, out)
    if patients.isdisjoint(map(spelt, column(found, name))):
        raise DataUnusable(
            f"{records.where}: none of its records is of a patient of the table",
            f"check its column {name!r}: keys are spelt as in the table of the patients",
        )
    return found


def _met(records: Records, theirs: Set[str], patients: Set[str], out: Set[str]) -> Records:
    """The records, where all keys meet or are joined. Raises: DataUnusable: neither."""
    place = f"of its column {records.part.patient!r}"
    known = _alike(theirs - patients - {""}, patients, out)
    if records.part.keys == "alike":
        if count := sum(several is None for several in known.values()):
            raise DataUnusable(
                f"{records.where}: {hidden(count)} keys {place} are alike to those of several patients of the table",
                "write `keys: exact`, and the keys in the source's query as the table has them",
            )
        columns = dict(records.rows.columns)
        columns[records.part.patient] = [known.get(spelt(one)) or one for one in column(records, records.part.patient)]
        return replace(records, rows=replace(records.rows, columns=columns))
    if count := max(len(known), apart(theirs, patients)):
        raise DataUnusable(
            f"{records.where}: {hidden(count)} keys {place} are written otherwise than those of the table, as 1 and "
            "1.0, 012 and 12, or k-12 and K12, and do not meet",
            "write both alike, in the queries of the sources; or say at the records `keys: alike`, if they are the "
            "same patients, or `keys: exact`, if they are others",
        )
    return records


def _alike(strange: Set[str], patients: Set[str], out: Set[str]) -> dict[str, str | None]:
    """Keys of nobody in the table that are a patient's but for how they are written, and whose; None: of several."""
    if not strange:
        return {}
    whose: dict[str, str | None] = {}
    for patient in patients:
        alike = folded(key(patient))
        whose[alike] = None if alike in whose else patient
    whose.update(dict.fromkeys(whose.keys() & set(map(folded, out))))
    return {one: whose[alike] for one in strange if (alike := folded(key(one))) and alike in whose}
