"""What is wrong with a hospital's column, how much of it, and what to write where: words made of counts.

Counts are numbers, ``<10`` (1 to 9) or ``hidden`` (any number), as quality.py shows them. A value of a patient is in
none of it: named are codes of ten patients and more, and what looks like a code for nothing known.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from consilium.core.contract import Feature, Label
from consilium.core.gate import Gate, Kind
from consilium.data.base import IN_A_QUERY
from consilium.data.contract import Column
from consilium.data.counts import MIN_CELL, Count, hidden, part, parts
from consilium.data.pictures import NARROW, Pictures
from consilium.data.readings import LOOK_UP
from consilium.data.traps import placeholder
from consilium.data.unreadable import NONE, UNREAD, UNTIL

_MEANT = "add them to `codes`, or to `missing` if they mean nothing is known"
_RECORDED = (
    "add them to `codes` or to the records' `concept_map`, or to `missing` if they mean nothing is known; the patients "
    "have no value until then; of several at one moment, see which of them the source means"
)


@dataclass(frozen=True)
class Finding:
    """What is wrong (`kind`, `words`), where, how much, and what to do.

    where: the feature, or the label; empty: the table as a whole.   write: what, in YAML, to write at `place` of the
    mapping; empty where a person has to look first.   undone: nothing was found, for the check could not be done: a
    person has to do it.
    """

    kind: Kind
    where: str
    count: Count
    words: str
    remedy: str
    blocks: bool
    place: str = ""
    write: str = ""
    undone: bool = False

    def __str__(self) -> str:
        """In one line."""
        return f"{self.where}: {self.words}: {self.remedy}" if self.where else f"{self.words}: {self.remedy}"


@dataclass(frozen=True)
class Look:
    """One column, as findings see it. shown: of unmapped, not a number, out of range and usable, what may be shown."""

    of: Feature | Label
    told: Column
    rows: int
    gate: Gate
    unmapped: Count
    not_a_number: Count
    out_of_range: Count
    usable: Count

    @property
    def place(self) -> str:
        """Where the mapping speaks of it."""
        return f"features.{self.of.id}" if isinstance(self.of, Feature) else "label"

    @property
    def within(self) -> str:
        """Where, below that place, it speaks of the numbers: those of a time-to-event are its times."""
        return "" if self.told.time is None else ".time"

    def finding(
        self, kind: Kind, count: int, shown: Count, limit: float, words: str, remedy: str, place: str = "",
        write: str = "",
    ) -> Finding:  # fmt: skip
        """A small count blocks nothing: that it does would give it away."""
        blocks = self.gate.blocks(kind) and count >= MIN_CELL and count > limit * self.rows
        return Finding(kind, self.of.id, shown, words, remedy, blocks, f"{self.place}{place}" if write else "", write)


def of_column(look: Look) -> tuple[Finding, ...]:
    """All findings of one column."""
    known = {look.place: list(look.told.gone)}
    return tuple(_joined(_found(look), known | {f"{look.place}.time": list(look.told.time or ())}))


def _joined(found: Iterable[Finding], known: dict[str, list[str]]) -> Iterator[Finding]:
    """What is to be written at `missing` holds what stands there, and what findings before say of the same column."""
    for one in found:
        if one.place.endswith(".missing"):
            codes = known[one.place.removesuffix(".missing")]
            codes += [code for code in json.loads(one.write) if code not in codes]
            one = replace(one, write=json.dumps(codes, ensure_ascii=False))
        yield one


def _found(look: Look) -> tuple[Finding, ...]:
    told, nothing = look.told, _nothing(look.told)
    if told.missing + sum(nothing.values()) == look.rows and not told.usable:
        return (*_unused(look), _absent(look, nothing))
    if told.pictures is not None:
        return tuple(_pictures(look, told.pictures))
    found = [*_unused(look), *_codes(look), *_categories(look), *_numbers(look)]
    found += _doubts(look, known=any(one.kind == "unit" for one in found))
    if isinstance(look.of, Feature) and 0 < told.usable < look.rows / 2 and not any(one.blocks for one in found):
        found += _sparse(look, look.of)
    if told.looks.same and told.usable >= MIN_CELL and not told.looks.inside:
        words, remedy = "every value is the same", "check that the column is the right one; if it is so, all is well"
        found.append(look.finding("constant", told.usable, look.usable, 0, words, remedy))
    return tuple(found)


def _pictures(look: Look, seen: Pictures) -> Iterator[Finding]:
    """Images that do not look like any. That most are faint blocks only where a plan names it: it came later."""
    whole = look.told.usable
    if isinstance(look.of, Feature) and whole < look.rows / 2:
        yield from _sparse(look, look.of)
    if seen.blank:
        yield look.finding(
            "constant", seen.blank, part(seen.blank, whole, look.usable), 0, "these images have one value everywhere",
            "look at them: they may be blank, or their pixels were lost; take them out of the table, or correct them",
        )  # fmt: skip
    if seen.faint > whole / 2:
        words = f"the values of most images lie within {NARROW:.0%} of the contract's range"
        yield look.finding(
            "other-unit", seen.faint, part(seen.faint, whole, look.usable), 0, words,
            "look at some: Bits Stored may say more bits than the device uses, such as 16 of 12, or the pixels are of "
            "another scale; correct them; if other hospitals' images are as faint, all is well",
        )  # fmt: skip


def _sparse(look: Look, of: Feature) -> Iterator[Finding]:
    """Where few have a value; or fewer than half, and the others cannot take part."""
    words, remedy = "fewer than a tenth of the patients have a value", "fine where the contract allows it"
    if of.missing == "forbidden":
        words = (
            f"of {hidden(look.rows)} patients {look.usable} have a value, and no others can take part: the contract "
            "forbids that it is missing"
        )
        remedy = "see whether the query lost it, such as by a join or by days that it reads in another way"
    elif look.told.usable >= look.rows / 10:
        return
    yield look.finding("sparse", look.told.usable, look.usable, 0, words, remedy)


def _nothing(told: Column) -> dict[str, int]:
    """What stands where nothing is known, and counts as no value."""
    empty = {code: count for code, count in told.unmapped.items() if placeholder(code)}
    return {**empty, **told.placeholders, **told.looks.outside}


def _absent(look: Look, nothing: dict[str, int]) -> Finding:
    words = f"this hospital has no value, but {_quoted(nothing)}" if nothing else "this hospital has no value"
    if look.told.nowhere:
        return look.finding(
            "no-values", look.rows, hidden(look.rows), 0,
            "no record of the table has a code of it, so that nobody knows whether 0 is true",
            "let the view or the query give such records; write `absent` if they are nowhere, or `none_here: true` "
            "beside `records` if they would be there, and nobody has one",
        )  # fmt: skip
    if not isinstance(look.of, Feature):
        return look.finding("no-values", 0, 0, 0, words, "check the column and its codes")
    if look.told.pictures is not None:
        return look.finding(
            "no-values", look.rows, hidden(look.rows), 0, "no row has an image",
            "without one no patient can take part: see whether the table writes accession numbers as the images have "
            "them, with zeros before them, too, and whether there are images of the contract's modality and view",
        )  # fmt: skip
    if look.of.missing == "forbidden":
        remedy = "without it no patient can take part; check the column"
        return look.finding("no-values", look.rows, hidden(look.rows), 0, words, remedy)
    if look.told.absent:
        words, remedy = f"{words}, as its mapping says", "fine where the contract allows it"
        return look.finding("no-values", look.rows, hidden(look.rows), 0, words, remedy)
    return look.finding(
        "no-values", look.rows, hidden(look.rows), 0, words,
        "see first whether the query lost it, by a join or a condition that finds nothing, or by days that it reads in "
        "another way than they are written; if the hospital has none, write `absent` to say so, which is fine where "
        "the contract allows it", write="absent",
    )  # fmt: skip


def _codes(look: Look) -> Iterator[Finding]:
    """Codes without meaning: those that say nothing is known, and the others."""
    codes, whole = look.told.unmapped, sum(look.told.unmapped.values())
    nothing = {code: count for code, count in codes.items() if placeholder(code)}
    empty = sum(nothing.values())
    label = not isinstance(look.of, Feature)
    kind: Kind = "label-codes" if label else "unmapped-codes"
    limit = 0.0 if label else look.gate.unmapped_max
    if empty:
        marks = _quoted(nothing)
        yield look.finding(
            kind, empty, part(empty, whole, look.unmapped), limit, f"{marks} stands where nothing is known",
            f"add {marks} to `missing`", ".missing", json.dumps(sorted(nothing), ensure_ascii=False),
        )  # fmt: skip
    if whole - empty:
        shown = part(whole - empty, whole, look.unmapped)
        words = "some codes are not mapped"
        if not label and look.of.type == "number":
            yield look.finding(
                "unit", whole - empty, shown, limit, "some records have a unit that cannot be converted",
                "add it to `units` of the records, with its UCUM unit; the patients have no value until then",
            )  # fmt: skip
        elif label:
            remedy, write = _label(look)
            yield look.finding(kind, whole - empty, shown, 0, words, remedy, ".codes", write)
        else:
            remedy = _RECORDED if look.told.recorded else _MEANT
            one = look.finding(kind, whole - empty, shown, limit, words, remedy)
            yield _beside(look, one, whole - empty)


def _beside(look: Look, found: Finding, unmapped: int) -> Finding:
    """Codes without meaning, where a category of the contract has no patient, or almost none: they may be its codes.

    Where it has none, one such code blocks: that nobody has it is told anyhow.
    """
    none, few = ([name for name, count in look.told.categories.items() if low <= count < high]
                 for low, high in ((0, 1), (1, MIN_CELL)))  # fmt: skip
    if not none and not few:
        return found
    told = [f"no patient is {_listed(none)}"] if none else []
    told += [f"fewer than {MIN_CELL} patients are {_listed(few)}"] if few else []
    return replace(
        found, words=f"{found.words}, and {', and '.join(told)}",
        remedy=f"{found.remedy}; look whether one of them means {_listed([*none, *few])}",
        blocks=look.gate.blocks(found.kind) and (bool(none) or unmapped >= MIN_CELL),
    )  # fmt: skip


def _categories(look: Look) -> Iterator[Finding]:
    """Categories of the contract that nobody has, where no code is left that could mean one of them."""
    of = look.told.categories
    if not look.told.usable or any(not placeholder(code) for code in look.told.unmapped):
        return
    if empty := [category for category, count in of.items() if not count]:
        yield Finding(
            "empty-category", look.of.id, 0, f"no patient is {_listed(empty)}",
            "fine where this hospital has none; if it has, correct the column or its `codes`",
            look.gate.blocks("empty-category"),
        )  # fmt: skip


def _listed(names: list[str]) -> str:
    return " or ".join(f"`{name}`" for name in names)


def _label(look: Look) -> tuple[str, str]:
    """What to do about codes of the label; and what to write where they go on from the highest known as grades do.

    All digits above it are written, whichever stand in the table: a rare one is not named.
    """
    remedy = "say in `codes` what each code means; patients with another are left out"
    known = look.told.mapped
    strange = [code for code in look.told.unmapped if not placeholder(code)]
    if not known or not all(len(code) == 1 and code.isdecimal() for code in (*known, *strange)):
        return remedy, ""
    top = max(known)
    if min(strange) < top:
        return remedy, ""
    above = {str(digit): known[top] for digit in range(int(top) + 1, 10)}
    remedy += f"; if they are grades above {top}, each means what {top} means"
    return remedy, json.dumps(
        {code: int(value) if value == int(value) else value for code, value in (known | above).items()}
    )


def _numbers(look: Look) -> Iterator[Finding]:
    told, gate = look.told, look.gate
    marks, bounds = sum(told.placeholders.values()), sum(told.bounds.values())
    rest = told.not_a_number - marks - bounds - sum(told.unread.values())
    each = parts([marks, bounds, rest, *told.unread.values()], look.not_a_number)
    if marks:
        text = _quoted(told.placeholders)
        yield look.finding(
            "not-a-number", marks, each[0], gate.not_a_number_max,
            f"some values are not numbers, {text} stands where nothing is known", f"add {text} to `missing`",
            ".missing", json.dumps(sorted(told.placeholders), ensure_ascii=False),
        )  # fmt: skip
    if bounds:
        yield _bounds(look, bounds, each[1])
    for (why, count), hid in zip(told.unread.items(), each[3:], strict=True):
        words, remedy = UNREAD[why]
        yield look.finding(
            "unread", count, hid, gate.not_a_number_max, words, remedy + (NONE if why == "index" else UNTIL)
        )
    if rest:
        words, remedy = "some values are not numbers", "add their code to `missing`, or correct the column"
        remedy += UNTIL if told.recorded else ""
        if told.dates > rest / 2:
            words = "some values are dates, such as dates of birth, and no numbers"
            remedy = f"compute {look.of.id} of them {IN_A_QUERY}, or where the file is made"
        elif told.commas > rest / 2:
            words = "some values have a comma where a number has a point, such as 7,5"
            remedy = f"write replace(COLUMN, ',', '.') {IN_A_QUERY}, or a point where the file is made"
        yield look.finding("not-a-number", rest, each[2], gate.not_a_number_max, words, remedy)
    yield from _missing(look, told.looks.inside, told.usable, look.usable, 0.0)
    yield from _missing(look, told.looks.outside, told.out_of_range, look.out_of_range, gate.out_of_range_max)
    rest = told.out_of_range - sum(told.looks.outside.values())
    if told.looks.years:
        yield _years(look, rest)
    elif rest:
        shown = part(rest, told.out_of_range, look.out_of_range)
        yield _outside(look, rest, shown)
    if told.beside:
        yield look.finding(
            "out-of-range", told.mostly, part(told.beside, told.usable, look.usable), gate.out_of_range_max,
            "some patients who have a value also have records outside the contract's range, which are passed over",
            "check the unit of such records, and codes for missing, such as 0 or 999, which belong into `missing`",
        )  # fmt: skip


def _doubts(look: Look, known: bool) -> Iterator[Finding]:
    """What speaks against the mapping; nothing of the unit where that is known to be wrong."""
    for one in look.told.doubts:
        if look.told.usable and not (known and one.kind in ("other-unit", "named-unit")):
            yield look.finding(
                one.kind, look.told.usable, look.usable, 0.0, one.words, one.remedy, look.within, one.write
            )  # fmt: skip


def _unused(look: Look) -> Iterator[Finding]:
    """Codes of the hospital's own that find nothing, as behind a view that gives records of the contract's codes."""
    if look.told.unused:
        yield look.finding(
            "unread", 0, 0, 0, f"no record has the code {_quoted(look.told.unused)} of `local`",
            "correct it; or let the view or the query give such records, too: one that was compiled from the contract"
            " has its codes alone",
        )  # fmt: skip


def _bounds(look: Look, count: int, shown: Count) -> Finding:
    """Values such as `<5`, named where ten patients have them: the bound itself would be another number."""
    often = [text for text, patients in look.told.bounds.items() if patients >= MIN_CELL]
    return look.finding(
        "bound", count, shown, look.gate.not_a_number_max,
        f"values that are only bounds: {_quoted(often) if often else 'less, or more, than some number'}",
        "the patients have no value, for nobody knows the number: ask the study's owner which one stands for it, and "
        "write that in the source's query, or where the file is made; or add it to `missing`, to have it passed over",
    )  # fmt: skip


def _years(look: Look, outside: int) -> Finding:
    """Years of the calendar, which no unit makes an age or a time of."""
    whole, shown = (outside, look.out_of_range) if outside else (look.told.usable, look.usable)
    return look.finding(
        "unit", whole, part(whole, look.told.out_of_range if outside else whole, shown), 0.0,
        "these look like years of the calendar, such as years of birth, which no unit mends",
        f"compute {look.of.id} {IN_A_QUERY}, such as `year_of_visit - year_of_birth AS {look.of.id}`, or where the "
        "file is made",
    )  # fmt: skip


def _missing(look: Look, codes: dict[str, int], whole: int, shown: Count, limit: float) -> Iterator[Finding]:
    count = sum(codes.values())
    if not count:
        return
    named, told = ", ".join(codes), look.told
    if count == told.usable + told.out_of_range and not told.not_a_number:
        words = f"every value is {named}, as where nothing was measured"
    else:
        words = f"{named} stands apart from all other values, as a code for `not measured` does"
    where = "it is learned from" if limit == 0 else "it counts as missing, outside of the contract's range"
    yield look.finding(
        "code-for-missing", count, part(count, whole, shown), limit, f"{words}; {where}",
        f"if nothing was measured there, add {named} to `missing`{' of `time`' if look.within else ''}",
        f"{look.within}.missing", json.dumps(list(codes)),
    )  # fmt: skip


def _outside(look: Look, count: int, shown: Count) -> Finding:
    seen = look.told.looks
    if seen.unit:
        also = f" of {seen.analyte}" if seen.analyte else ""
        written = f"{{unit: {json.dumps(seen.unit)}" + (f", analyte: {seen.analyte}}}" if seen.analyte else "}")
        return look.finding(
            "unit", count, shown, 0.0,
            f"most values lie outside the contract's range, and would lie inside it in {seen.unit}{also}",
            LOOK_UP if look.told.recorded else "check the unit of this column", look.within,
            "" if look.told.recorded else written,
        )  # fmt: skip
    return look.finding(
        "out-of-range", count, shown, look.gate.out_of_range_max,
        "some values lie outside the contract's range and count as missing",
        "check the unit, and codes such as 0; values of several units are converted by a CASE in the source's query",
    )  # fmt: skip


def _quoted(texts: Iterable[str]) -> str:
    return " and ".join(f'"{text}"' for text in sorted(texts))
