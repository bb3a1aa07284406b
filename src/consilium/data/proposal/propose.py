"""Which column is which feature: each judged by name and by values, and no column given twice.

A proposal is a question to a person: it says how sure it is and why, and where nothing fits it says that.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from consilium.core.contract import Contract, Feature, Label
from consilium.core.timed import TIMED
from consilium.data.base import IN_A_QUERY, Rows
from consilium.data.proposal.assignment import assigned
from consilium.data.proposal.codes import Coding, coding
from consilium.data.proposal.names import likeness
from consilium.data.proposal.numbers import NEARLY, Number, Wanted, number, wanted
from consilium.data.proposal.profile import Profile, keyed, profile

Confidence = Literal["high", "medium", "low", "none"]
OUTCOME = "outcome target label class endpoint response result ergebnis zielgroesse y"
"""What columns of labels are called, whatever it is."""
LEAST_WORTH = 0.2
"""What is worth less is no proposal."""
NEAR = 0.1
"""A column that is worth so little less is told as an alternative."""
NAMELESS = 0.35
"""Below it a name says nothing; then only a column that is clearly the best is proposed."""
FEW = 5
"""With more columns that only by their values could be it, none of them is told."""
MOST_TOLD = 3
"""Alternatives that are told; of a label for which no name speaks, all are."""
BIRTH = "year of birth, date of birth"


@dataclass(frozen=True)
class Want:
    """One thing that a contract wants from one column: a feature, the label, its time, or the index moment."""

    place: str
    id: str
    meaning: str
    number: Wanted | None = None
    targets: Mapping[str, str] | None = None
    label: bool = False
    moment: bool = False
    needed: bool = False

    @property
    def also(self) -> str:
        """Words of its categories, which names of columns may have, too."""
        told = self.targets or {}
        return OUTCOME if self.label else " ".join(f"{key} {text}" for key, text in told.items())


@dataclass(frozen=True)
class Candidate:
    """A column for it. likeness: of the names.   worth: of values alone.   score: of both; all 0 to 1."""

    column: str
    likeness: float
    worth: float
    score: float
    read: Number | Coding | None


@dataclass(frozen=True)
class Proposal:
    """What is proposed for one thing: a column with all that belongs to it, or none; and why, for people."""

    want: Want
    chosen: Candidate | None
    confidence: Confidence
    reasons: tuple[str, ...]
    others: tuple[Candidate, ...] = ()

    @property
    def open(self) -> str:
        """What a person has to write, because it cannot be told; empty where nothing is open."""
        read = self.chosen.read if self.chosen else None
        if self.chosen is None:
            return "nothing fits"
        if isinstance(read, Coding) and not read.complete:
            wanted = "0 and 1" if self.want.label else ", ".join(self.want.targets or {})
            if read.unknown:
                return f"say which of {', '.join(read.unknown)} means which of {wanted}"
            lacking = [target for target in self.want.targets or {} if target not in read.codes.values()]
            said = f"which code means {' and which '.join(lacking)}" if lacking else "what its other codes mean"
            return f"say {said}" + ("; codes of few patients are not shown" if read.rare else "")
        return ""

    @property
    def unknown(self) -> tuple[str, ...]:
        """Codes whose meaning cannot be told."""
        read = self.chosen.read if self.chosen else None
        return read.unknown if isinstance(read, Coding) else ()

    @property
    def absent_allowed(self) -> bool:
        """Whether a hospital may have none."""
        return self.want.place.startswith("features.") and not self.want.needed


@dataclass(frozen=True)
class Proposals:
    """All of one table. key: column with the patient's key, or "".   missing: signs for nothing known, in any column.

    rows: how many rows it has.   score: how well the table fits, to compare tables.
    """

    key: str
    unique: bool
    missing: tuple[str, ...]
    rows: int
    of: tuple[Proposal, ...]
    profiles: Mapping[str, Profile] = field(repr=False)

    @property
    def score(self) -> float:
        """How much of the contract is in this table."""
        return sum(one.chosen.score for one in self.of if one.chosen) + 0.2 * self.unique


def wants(contract: Contract) -> tuple[Want, ...]:
    """What a contract wants from columns; values of an image are made by the source."""
    found = [_feature(one) for one in contract.features]
    found += _label(contract.label)
    if contract.index is not None:
        found.append(Want("index", "index", contract.index.meaning, moment=True))
    return tuple(found)


def _feature(of: Feature) -> Want:
    place, needed = f"features.{of.id}", of.missing == "forbidden"
    if of.type == "category":
        return Want(place, of.id, of.meaning, targets=dict(of.categories or {}), needed=needed)
    number = wanted(of.id, of.meaning, str(of.unit), of.range, of.typical, of.analyte)
    return Want(place, of.id, of.meaning, number, needed=needed)


def _label(of: Label) -> list[Want]:
    if of.type in ("binary", TIMED):
        found = [Want("label", of.id, of.meaning, targets={"0": "", "1": f"{of.id} {of.meaning}"}, label=True)]
        if of.type == TIMED:
            words = f"time follow up days months {of.meaning}"
            found.append(Want("label.time", "time", words, wanted("time", words, str(of.unit), of.range)))
        return found
    return [Want("label", of.id, of.meaning, wanted(of.id, of.meaning, of.unit or "1", of.range), label=True)]


def propose(contract: Contract, rows: Rows, least: int) -> Proposals:
    """Propose a column for everything that the contract wants.

    Args:    least: fewest patients of a code that is told.
    """
    names = sorted(rows.columns)  # so that the order of columns changes nothing
    profiles = {name: profile(name, rows.columns[name]) for name in names}
    patient = _key(profiles, contract)
    free = [name for name in names if name != patient and not _is_key(profiles[name])]
    asked = wants(contract)
    judged = [[_candidate(want, profiles[name], least) for name in free] for want in asked]
    last = list(rows.columns)[-1] if rows.columns else ""
    worth = np.array([[_worth(want, one, last) for one in row] for want, row in zip(asked, judged)])
    places = assigned(worth.reshape(len(asked), len(free)))
    taken = {free[at] for row, at in zip(judged, places) if at is not None and not _says_nothing(row[at])}
    of = [_proposal(want, row, at, taken) for want, row, at in zip(asked, judged, places)]
    missing = tuple(sorted({sign for name in free for sign in profiles[name].nothing}))
    every = max((one.rows for one in profiles.values()), default=0)
    return Proposals(patient, bool(patient) and profiles[patient].unique, missing, every, tuple(of), profiles)


def key(contract: Contract, rows: Rows) -> str:
    """The column with the patient's key, or "": no other column is looked at."""
    named = {name: profile(name, texts) for name, texts in rows.columns.items() if keyed(name)}
    return _key(named, contract)


def _is_key(one: Profile) -> bool:
    return one.keyed > 0 and one.distinct > 0.9 * one.filled and one.filled > 0


def _key(profiles: Mapping[str, Profile], contract: Contract) -> str:
    """The column with the patient's key, or ""."""
    found = [one for one in profiles.values() if one.keyed and one.filled == one.rows > 0]
    if contract.index is None:
        found = [one for one in found if one.unique]
    return max(found, key=lambda one: (one.keyed, one.unique, one.distinct, one.name)).name if found else ""


def _candidate(want: Want, of: Profile, least: int) -> Candidate:
    if want.moment:
        like = likeness(of.name, want.id, want.meaning)
        return Candidate(of.name, like, of.moments, of.moments * (0.25 + 0.75 * like), None)
    if want.number is not None:
        read = number(of, want.number, least)
        like = likeness(of.name, want.id, want.meaning, read.ends)
        worth = 0.0 if of.moments > 0.5 else read.worth
        return Candidate(of.name, like, worth, worth * (0.25 + 0.75 * like), read)
    coded = coding(of, want.targets or {}, least, want.label)
    like = likeness(of.name, want.id, want.meaning)
    if want.also:
        like = max(like, 0.8 * likeness(of.name, want.id, want.also))
    return Candidate(of.name, like, coded.worth, coded.worth * (0.25 + 0.75 * max(like, coded.evidence)), coded)


def _worth(want: Want, one: Candidate, last: str) -> float:
    """What counts when columns are given out; a label often stands last."""
    score = one.score + (0.05 if want.label and one.column == last and one.score > 0 else 0.0)
    return score if score >= LEAST_WORTH * (0.75 if want.label else 1.0) else 0.0


def _proposal(want: Want, row: Sequence[Candidate], at: int | None, taken: set[str]) -> Proposal:
    chosen = row[at] if at is not None else None
    ranked = sorted(row, key=lambda one: (-one.score, one.column))
    others = [one for one in ranked if one is not chosen and one.score > 0 and one.column not in taken]
    best = chosen.score if chosen else others[0].score if others else 0.0
    near = [one for one in others if one.score >= best - NEAR]
    if want.label and want.number is None and (chosen is None or _says_nothing(chosen)):
        near = others  # whichever column could be it: no name says which
    if chosen is not None and _says_nothing(chosen) and (near or want.label):
        words = "no name speaks for a column" + (", and several could be it" if near else "")
        return Proposal(want, None, "none", (words, *_computed(row)), tuple(_told(want, [chosen, *near])))
    if chosen is None:
        words = "no column's name and values speak for it"
        return Proposal(want, None, "none", (words, *_computed(row)), tuple(_told(want, near)))
    confidence = _confidence(want, chosen, others)
    return Proposal(want, chosen, confidence, tuple(_reasons(want, chosen)), tuple(near[:MOST_TOLD]))


def _computed(row: Sequence[Candidate]) -> Iterator[str]:
    """Columns of which a query may make it: of years or days of birth an age, of 7,5 a number."""
    years = [one for one in row if isinstance(one.read, Number) and one.read.years]
    for one in sorted(years, key=lambda one: (-likeness(one.column, "birth", BIRTH), one.column))[:MOST_TOLD]:
        if likeness(one.column, "birth", BIRTH) >= NAMELESS:
            yield f"{one.column} holds years or days of the calendar: compute it of them {IN_A_QUERY}"
    with_commas = [one for one in row if isinstance(one.read, Number) and one.read.commas and one.likeness >= NAMELESS]
    for one in sorted(with_commas, key=lambda one: (-one.likeness, one.column))[:1]:
        yield f"{one.column} is named so, and has numbers with a comma: make points of them {IN_A_QUERY}"


def _told(want: Want, near: Sequence[Candidate]) -> list[Candidate]:
    """Columns that are told where none is proposed; not those for which neither name nor number of them speaks.

    Of a label each one is told: which it is a person knows, and none is left out.
    """
    if want.label and want.number is None:
        return list(near)
    named = [one for one in near if not _says_nothing(one)]
    return (named if len(near) > FEW else list(near))[:MOST_TOLD]


def _says_nothing(one: Candidate) -> bool:
    return max(one.likeness, one.read.evidence if isinstance(one.read, Coding) else 0.0) < NAMELESS


def _confidence(want: Want, one: Candidate, others: Sequence[Candidate]) -> Confidence:
    read = one.read
    apart = all(one.score - other.score >= NEAR for other in others)
    fully = isinstance(read, Number) or read is None or (read.complete and not read.custom)
    unsure = isinstance(read, Number) and (bool(read.others) or read.inside < NEARLY or read.empty or read.strange)
    if isinstance(read, Coding) and (read.empty or not read.complete or (read.custom and "2" not in read.codes)):
        return "low"
    strong = max(one.likeness, read.evidence if isinstance(read, Coding) else 0.0)
    if strong >= 0.75 and one.worth >= 0.6 and apart and fully and not unsure:
        return "high"
    return "medium" if one.likeness >= 0.5 and one.worth >= 0.4 and (apart or fully) else "low"


def _reasons(want: Want, one: Candidate) -> list[str]:
    """Why, without a value of a patient."""
    name = "named alike" if one.likeness >= 0.75 else "named similarly" if one.likeness >= NAMELESS else ""
    read = one.read
    found = [name or "its name does not say it"]
    if isinstance(read, Number):
        found += _of_number(want, read)
    elif isinstance(read, Coding):
        if read.empty:
            found.append("it is empty")
        elif read.custom:
            found.append(read.custom)
        elif read.complete:
            found.append("each code has a meaning")
    else:
        found.append("it holds moments")
    return found


def _of_number(want: Want, read: Number) -> list[str]:
    assert want.number is not None
    if read.years:
        return [f"it holds years or days of the calendar, which no unit mends: compute it {IN_A_QUERY}"]
    if read.commas:
        return [f"it has numbers with a comma, such as 7,5: make points of them {IN_A_QUERY}"]
    if read.empty:
        return ["it holds no measurement, only signs that nothing was measured" if read.missing else "it is empty"]
    found = []
    if read.named:
        found.append(f"its name says {read.unit}")
    if want.number.range is not None:
        share = "all" if read.inside == 1.0 else f"over {_five(read.inside)} %" if read.inside >= 0.05 else "few"
        found.append(f"in {read.unit} {share} of its values lie within the contract's range")
    if read.others:
        found.append(f"{' or '.join(read.others)} would be as plausible")
    if read.strange:
        found.append("some of its values are no numbers")
    return found


def _five(share: float) -> int:
    return int(np.ceil(share * 20 - 1)) * 5


def with_column(of: Proposals, place: str, column: str, least: int) -> Proposals:
    """The same with another column at one place, which a person chose; whoever had it before has none."""
    made = []
    for one in of.of:
        if one.want.place == place:
            chosen = _candidate(one.want, of.profiles[column], least)
            one = replace(one, chosen=chosen, confidence=_confidence(one.want, chosen, ()),
                          reasons=("a person chose it", *_reasons(one.want, chosen)[1:]), others=())  # fmt: skip
        elif one.chosen is not None and one.chosen.column == column:
            one = replace(one, chosen=None, confidence="none", reasons=(f"{column} was chosen for {place}",), others=())
        made.append(one)
    return replace(of, of=tuple(made))


def with_codes(of: Proposals, place: str, meant: Mapping[str, str]) -> Proposals:
    """The same with what a person said of codes at one place: a category, a class of the label, or `missing`."""
    made = []
    for one in of.of:
        read = one.chosen.read if one.chosen else None
        if one.want.place == place and one.chosen is not None and isinstance(read, Coding):
            known = {code: meaning for code, meaning in meant.items() if meaning != "missing"}
            gone = [code for code, meaning in meant.items() if meaning == "missing"]
            left = tuple(code for code in read.unknown if code not in meant)
            read = replace(read, codes={**read.codes, **known}, missing=(*read.missing, *gone), unknown=left)
            one = replace(one, chosen=replace(one.chosen, read=read), reasons=(*one.reasons, "a person said the codes"))
        made.append(one)
    return replace(of, of=tuple(made))
