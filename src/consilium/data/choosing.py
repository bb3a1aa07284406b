"""Who of a hospital's table takes part: nobody who opted out; one entry of each patient, with a label that is known."""

import re
import unicodedata
from collections.abc import Mapping as Known
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import numpy.typing as npt

from consilium.core.contract import Contract
from consilium.core.errors import DataUnusable
from consilium.data.base import Floats, Rows
from consilium.data.counts import hidden
from consilium.data.moments import (
    UNKNOWN,
    Days,
    When,
    before,
    between,
    end_of,
    moment,
    same_day,
    sooner,
    unzoned,
    zoned,
)

Chosen = npt.NDArray[np.bool_]
WHOLE = re.compile(r"\+?0*([0-9]+)(?:\.0*)?")
"""A key that is a whole number: a column of DOUBLE has 1.0 where a list has 1 or 00001."""
POWER = re.compile(r"[0-9](?:\.[0-9]+)?e\+[0-9]{2}")
"""A large one, as databases give it of such a column."""
AMID = {";": "a semicolon", ",": "a comma", "\t": "a tab", '"': "a quote", "#": "a remark"}
"""What no line of the list holds: it would be a table, and none of its lines a key."""
QUOTES = frozenset("'`\u00b4\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\u2039\u203a")
UNSEEN = frozenset(("Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"))
"""Signs of these categories of Unicode are no part of a key, but of a file that something else has made."""
ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
TOLD = 10
"""Lines that are told."""


@dataclass(frozen=True)
class Left:
    """Who was left out before anything was judged, and why. Entries are rows; all others are patients.

    unordered: of several entries nobody knows which is the one that counts.   unsolved: records of patients that were
    merged, and nobody knows into which one.   Neither are among those that were read.
    """

    opted_out: int = 0
    other_entries: int = 0
    immature: int = 0
    excluded: int = 0
    unordered: int = 0
    unsolved: int = 0


def spelt(text: str | None) -> str:
    """A patient's key without blanks around, and each letter with an accent as one sign, however it was written."""
    text = (text or "").strip()
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def key(text: str | None) -> str:
    """A patient's key as it is compared with the list: no blanks around, and of a whole number its digits alone.

    >>> [key(text) for text in (" 1.0", "00001", "1", "1e+18", "1.5", "K-01", "0", None)]
    ['1', '1', '1', '1000000000000000000', '1.5', 'K-01', '0', '']
    """
    text = spelt(text)
    if match := WHOLE.fullmatch(text):
        return match[1]
    whole = POWER.fullmatch(text) and int(Decimal(text).as_tuple().exponent) >= 0
    return str(int(Decimal(text))) if whole else text


def opted_out(path: Path) -> dict[str, int]:
    """Keys of patients, as `key` gives them, one on each line, and on which; blank lines and those that begin with #
    say nothing.

    Raises: DataUnusable: the list cannot be read, was cut, or is a table. Then nothing is read of anybody.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # a mark of byte order is no part of the first key
    except (OSError, UnicodeDecodeError) as error:
        raise DataUnusable(
            f"the opt-out list {path.name} cannot be read", "correct opt_out.path; nothing is read without it"
        ) from error
    lines = text.split("\n")
    if lines[-1].strip() and not lines[-1].lstrip().startswith("#"):
        raise DataUnusable(
            f"the opt-out list {path.name} ends amid a line, as a file that was cut",
            "copy it anew; if it is whole, add a line break at its end; nothing is read without it",
        )
    keys = {number: line for number, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")}
    for number, line in keys.items():
        if more := _more(line.strip()):
            raise DataUnusable(
                f"line {number} of the opt-out list {path.name} holds {more}, and is no key of a patient alone",
                "leave one key on each line, and write remarks on lines that begin with #; nothing is read before",
            )
    return {key(line): number for number, line in keys.items()}


def _more(line: str) -> str:
    """What a line holds beside a key of a patient, in words; empty where it holds none."""
    amid = [name for sign, name in AMID.items() if sign in line]
    amid += ["a quote"] if line[0] in QUOTES or line[-1] in QUOTES else []
    amid += ["a sign that nobody sees"] if any(unicodedata.category(sign) in UNSEEN for sign in line) else []
    return amid[0] if amid else ""


def folded(text: str | None) -> str:
    """What is left of a key where people write it otherwise: letters and digits, without zeros before a number.

    >>> [folded(text) for text in ("K-002", "k2", "\uff2b\u2011002.", "K-20", "-")]
    ['k2', 'k2', 'k2', 'k20', '']
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text or "").casefold())
    return "".join(filter(str.isalnum, ZEROS.sub("", text)))


def matched(keys: Known[str, int], rows: Rows, column: str, nobody: bool, others: bool = False) -> None:
    """That some of those who opted out were among the patients of a table, of which `rows` are left; and that no key
    which is left is almost one of the list.

    Args:    keys: of the list, and on which line.   column: of their keys.   nobody: whether the hospital says that
             none is.   others: whether it says that those who are almost called so are others.
    Raises:  DataUnusable: none was, as where keys are spelt otherwise: who opted out would be trained on.
    """
    if keys and rows.columns.get(column) and not rows.left_out and not nobody:
        raise DataUnusable(
            f"opt_out: none of the {hidden(len(keys))} keys of the list is in column {column!r}",
            "write the keys as that column has them; if in truth none of them is a patient of this table, write "
            "`nobody_here: true` beside the path; nothing is trained before",
        )
    if rows.left_out < len(keys) and not nobody and not others:
        _almost(keys, rows, column)
    spelt_alike(rows, column, nobody)


def _almost(keys: Known[str, int], rows: Rows, column: str) -> None:
    """Raises: DataUnusable: a key of the list, or its first word, is almost that of a patient who is left."""
    left = {folded(patient) for patient in set(rows.columns.get(column, ()))} - {""}
    lines = sorted(line for one, line in keys.items() if left.intersection((folded(one), folded(one.split()[0]))))
    if lines:
        told = f"{', '.join(map(str, lines[:TOLD]))}{' and others' if len(lines) > TOLD else ''}"
        raise DataUnusable(
            f"opt_out: {hidden(len(lines))} keys of the list, which are not in column {column!r} as they are written, "
            f"are almost those of patients in it, on line {told}",
            "write them as that column has them; if in truth these are other patients, write `others_alike: true` "
            "beside the path; nothing is trained before",
        )


def spelt_alike(rows: Rows, column: str, nobody: bool) -> None:
    """That of several tables, of which rows were made, each has the keys of those in which some opted out.

    Args:    as of `matched`.
    Raises:  DataUnusable: one has none of them, so that nobody could tell who opted out there.
    """
    if rows.unmatched and not nobody:
        raise DataUnusable(
            f"opt_out: keys of the list are in other tables, and none is in column {column!r} of "
            f"{' and '.join(rows.unmatched)}, where patients have other keys than there",
            "let it have the keys of the other tables, or the column another name; if in truth nobody of the list is "
            "in it, write `nobody_here: true` beside the path; nothing is trained before",
        )


def without(rows: Rows, column: str, keys: frozenset[str]) -> Rows:
    """The rows of all patients but those of these keys, as `key` gives them; for sources that do not leave them out.

    Of a table that has no such column, all: who reads it tells so.
    """
    found = keys.intersection(map(key, rows.columns.get(column, ())))
    if not found:
        return rows
    kept = [row for row, patient in enumerate(rows.columns[column]) if key(patient) not in found]
    return replace(at(rows, kept), left_out=rows.left_out + len(found))


def at(rows: Rows, numbers: list[int]) -> Rows:
    """Those rows, in that order."""
    kept = {name: [values[number] for number in numbers] for name, values in rows.columns.items()}
    return replace(rows, columns=kept, image=None if rows.image is None else rows.image[numbers])


@dataclass(frozen=True)
class Entries:
    """The entry of each patient that counts, in the order of their keys: its row, and its index moment.

    others: how many other entries they have.   unordered: patients left out, for of their entries nobody knows which
    counts.
    """

    rows: list[int]
    when: list[When | None]
    others: int
    unordered: int


def entries(patients: list[str], moments: list[str | None], entry: str) -> Entries:
    """Which row of each patient counts.

    Raises: DataUnusable: no moment can be read, or a patient has two rows at one moment.
    """
    every = [_moment(text) for text in moments]
    if UNKNOWN in every and not any(one is not None and one != UNKNOWN for one in every):
        raise _no_moment()
    found: dict[str, list[tuple[int, When | None]]] = {}
    for row, (patient, when) in enumerate(zip(patients, every, strict=True)):
        found.setdefault(patient, []).append((row, when))
    chosen = {patient: _counts(several, entry) for patient, several in sorted(found.items())}
    known = {patient: one for patient, one in chosen.items() if one is not None}
    others = sum(len(found[patient]) - 1 for patient in known)
    rows, index = [row for row, _ in known.values()], [when for _, when in known.values()]
    return Entries(rows, index, others, len(chosen) - len(known))


def _counts(several: list[tuple[int, When | None]], entry: str) -> tuple[int, When | None] | None:
    """The first or the last of a patient's entries; None: one of them says too little of when it was."""
    wanted = entry == "first"
    exact = [(row, when) for row, when in several if isinstance(when, date)]
    those = [one for one in several if not isinstance(one[1], date)]
    for zone in (False, True):  # of those that can all be compared one is left
        alike = [one for one in exact if zoned(one[1]) == zone]
        for one in alike[1:]:
            alike[0] = one if not _alike(one[1], alike[0][1]) and _before(one[1], alike[0][1]) == wanted else alike[0]
        those += alike[:1]
    found = next((one for one in those if all(one is other or _before(one[1], other[1]) == wanted for other in those)),
                 None)  # fmt: skip
    if found in exact and any(found is not other and _alike(found[1], other[1]) for other in exact):
        raise DataUnusable(
            "some patients have several rows without a moment each of its own", "correct the index column"
        )
    return found


def _before(one: When | None, other: When | None) -> bool | None:
    """Whether one is the earlier; None: a month, a year, what is no moment, or one without a time zone where the other
    has one, may be before and after it.
    """
    if one is None or other is None:
        return None
    if isinstance(one, Days) or isinstance(other, Days):
        return before(one, other)
    try:
        return sooner(one, other)
    except ValueError:
        raise _no_moment() from None


def _alike(one: date, other: date) -> bool:
    """Whether nobody knows which of two is the earlier, for they are of one moment, or one is the day of the other."""
    return same_day(one, other) or not (unzoned(one, other) or _between(one, other))


def _moment(text: str | None) -> When | None:
    if text is None or not text.strip():
        return None
    try:
        return moment(text)
    except ValueError:
        return UNKNOWN


def _no_moment() -> DataUnusable:
    return DataUnusable(
        "some index moments are not ISO 8601", "convert the column in the source's query, as 2030-01-31T08:00"
    )


def _between(later: date, earlier: date) -> float:
    try:
        return between(later, earlier)
    except ValueError:
        raise _no_moment() from None


def immature(contract: Contract, moments: list[When | None], as_of: date | None) -> Chosen:
    """Whose label is not known for sure yet, on the day of the extract."""
    days = contract.label.maturity_days
    if days is None or as_of is None:
        return np.zeros(len(moments), dtype=bool)
    least_s = timedelta(days=days).total_seconds()

    def young(when: When | None) -> bool:
        if when is None or when == UNKNOWN:
            return True
        when = when.last if isinstance(when, Days) else when
        return _between(end_of(as_of, when), when) < least_s

    return np.array([young(when) for when in moments], dtype=bool)


def excluded(contract: Contract, columns: Known[str, Floats], patients: int) -> Chosen:
    """Who is excluded by the value of a feature; who has none is not."""
    found = np.zeros(patients, dtype=bool)
    known = {feature.id: feature for feature in contract.features}
    for one in contract.exclude:
        values = columns[one.feature]
        with np.errstate(invalid="ignore"):
            if one.below is not None:
                found |= values < one.below
            if one.above is not None:
                found |= values > one.above
        codes = list(known[one.feature].categories or {})
        found |= np.isin(values, [float(codes.index(code)) for code in one.among])
    return found
