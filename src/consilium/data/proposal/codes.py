"""Which code of a column means what: by words, by signs that go together, and by nothing else."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consilium.data.mapping import normal
from consilium.data.proposal.names import alike, terms
from consilium.data.proposal.profile import Profile
from consilium.data.proposal.words import AGAINST, PAIRS, SEXES, folded
from consilium.data.traps import code_like

OTHER = frozenset(("9", "99", "999", "-1", "-9", "-99", "u", "x", "d", "unknown", "unk", "other", "divers", "diverse"))
"""Codes beside those of yes and no, or of the sexes, that do not speak against them."""


@dataclass(frozen=True)
class Coding:
    """What a column would be, as these categories, or as the classes of a label.

    codes: the hospital's code and its meaning.   unknown: codes of `least` patients and more whose meaning cannot be
    told.   rare: whether there are others.   certain: whether words or a standard say it; `custom` is why not.
    worth, evidence: 0 to 1, how well it fits, and how much its codes alone speak for it.
    """

    codes: Mapping[str, str]
    unknown: tuple[str, ...]
    rare: bool
    missing: tuple[str, ...]
    worth: float
    evidence: float
    custom: str = ""
    empty: bool = False

    @property
    def complete(self) -> bool:
        """Whether each code that may be told has a meaning."""
        return bool(self.codes) and not self.unknown and not self.rare


CUSTOMS = {
    "2": "1 and 2 by ISO/IEC 5218: the table does not say it",
    "0": "0 and 1 by custom: the other way round occurs, and the table does not say it",
}
"""Of codes of the sexes, by that of female."""
EITHER = "{} by custom: in another language it begins the word for the other sex"


def coding(column: Profile, targets: Mapping[str, str], least: int, label: bool = False) -> Coding:
    """Read a column as categories.

    Args:    targets: category and what it means; of a binary label "0" and "1", with what the label means as "1".
             least: fewest patients of a code that is told.
    """
    counted = Counter({code: count for code, count in column.codes.items() if not _nothing(code)})
    gone = tuple(sorted(code for code, count in column.codes.items() if _nothing(code) and count >= least))
    if not column.filled:
        return Coding({}, (), False, (), 0.5, 0.0, empty=True)
    if not column.codes:
        return Coding({}, (), False, (), 0.0, 0.0)
    visible = [code for code, count in counted.items() if count >= least]
    found, custom, evidence = _scheme(column.name, visible, targets, label)
    if not found:
        found = {code: meant for code in visible if (meant := _meant(code, targets, label)) is not None}
        words = [code for code in found if not re.fullmatch(r"[-+.\d]+", code)]
        evidence = 0.8 * sum(counted[code] for code in words) / max(1, sum(counted[code] for code in visible))
    unknown = tuple(sorted(code for code in visible if code not in found))
    rare = any(code not in found and count < least for code, count in counted.items())
    known = sum(counted[code] for code in visible if code in found) / max(1, sum(counted[code] for code in visible))
    likely = 0.6 if label and "0" in visible and all(code.isdecimal() for code in counted) else 0.0  # grades
    likely = max(likely, _likely(len(counted), len(targets)))
    worth = max(known * (1.0 if evidence >= 0.5 else 0.9), 0.7 * likely)
    return Coding(found, unknown, rare, gone, worth, evidence, custom)


def by_words(name: str, codes: Sequence[str], targets: Mapping[str, str], label: bool = False) -> dict[str, str]:
    """What codes mean by words alone: those of yes and no, or of the sexes, that go together, or a category's own name.

    Nothing is said by a custom, or by a letter that begins words for both.

    >>> by_words("sex", ["M", "F"], {"male": "male", "female": "female"})
    {'M': 'male', 'F': 'female'}
    >>> by_words("sex", ["1", "2"], {"male": "male", "female": "female"})
    {}
    """
    words = [code for code in codes if not re.fullmatch(r"[-+]?[.\d]+", code)]
    found, custom, evidence = _scheme(name, words, targets, label)
    if found and evidence and not custom:
        return found
    signs, custom, evidence = _scheme(name, [code for code in codes if code in ("0", "1")], targets, label)
    if signs and evidence and not custom:  # a column `female` of 0 and 1
        return signs
    if label:
        return {}
    known = {folded(target): target for target in targets}
    return {code: known[folded(code)] for code in words if folded(code) in known}


def _nothing(code: str) -> bool:
    """Whether a number among codes says that nothing is known."""
    try:
        value = float(code)
    except ValueError:
        return False
    return value not in (0.0, -0.0) and code_like(value)


def _likely(count: int, targets: int) -> float:
    """How well a number of codes fits a number of categories."""
    if count == targets:
        return 0.8
    if count < targets:
        return 0.6
    return 0.35 if count <= 2 * targets + 2 else 0.0


def _scheme(
    name: str, visible: list[str], targets: Mapping[str, str], label: bool
) -> tuple[dict[str, str], str, float]:
    """Codes of yes and no, or of the sexes, that go together: those of them that stand in the table and may be told."""
    left = [code for code in visible if folded(code) not in OTHER or code in targets] or visible
    if not left:
        return {}, "", 0.0
    if label:
        yes, no = "1", "0"
    else:
        yes, no = _one(targets, "yes"), _one(targets, "no")
    if yes and no and len(targets) == 2:
        for negative, positive in PAIRS:
            if {folded(code) for code in left} <= {negative, positive}:
                meant = {negative: no, positive: yes}
                return {code: meant[folded(code)] for code in left}, "", 0.15 if negative != "0" else 0.0
    male, female = _one(targets, "male"), _one(targets, "female")
    if label or not male or not female:
        return {}, "", 0.0
    named = frozenset[str]().union(*(term.meant for term in terms(name))) & {"male", "female"}
    if len(named) == 1 and set(left) <= {"0", "1"}:
        this, that = (male, female) if "male" in named else (female, male)
        return {code: this if code == "1" else that for code in left}, "", 0.3
    there = {folded(code) for code in left}
    fits = [pair for pair in ((folded(woman), folded(man)) for woman, man in SEXES) if there <= set(pair)]
    if not fits:
        return {}, "", 0.0
    woman = fits[0][0]
    found = {code: female if folded(code) == woman else male for code in left}
    if any((folded(code) == pair[0]) != (found[code] == female) for code in left for pair in fits):
        return found, EITHER.format(" and ".join(sorted(left))), 0.0
    custom = "1 by custom: the table does not say it" if there == {"1"} else CUSTOMS.get(woman, "")
    return found, custom, 0.0 if custom else 0.8


def _one(targets: Mapping[str, str], meant: str) -> str:
    """The only category that means it, or ""."""
    found = [
        target
        for target, text in targets.items()
        if any(meant in term.meant for term in (*terms(target), *terms(text)))
    ]
    return found[0] if len(found) == 1 else ""


def _meant(code: str, targets: Mapping[str, str], label: bool) -> str | None:
    """The category that a code means by its words, or None."""
    if label:
        return _class(code, targets["1"])
    wanted = folded(code)
    for target, text in targets.items():
        if wanted in (folded(target), folded(text)) or code == normal(target):
            return target
    if not wanted or not wanted[0].isalpha():
        return None
    worth = sorted(((_fits(code, f"{target} {text}"), target) for target, text in targets.items()), reverse=True)
    if worth[0][0] >= 0.8 and (len(worth) == 1 or worth[1][0] < worth[0][0]):
        return worth[0][1]
    begin = [t for t, text in targets.items() if folded(t).startswith(wanted) or folded(text).startswith(wanted)]
    return begin[0] if len(begin) == 1 else None


def _fits(code: str, text: str) -> float:
    every = terms(text)
    mine = terms(code)
    return sum(max((alike(one, other) for other in every), default=0.0) for one in mine) / max(1, len(mine))


def _class(code: str, meaning: str) -> str | None:
    """0 or 1, for a code of a binary label."""
    if code in ("0", "1"):
        return code
    meant = frozenset[str]().union(*(term.meant for term in terms(code)))
    told = frozenset[str]().union(*(term.meant for term in terms(meaning)))
    if (
        "yes" in meant
        or (meant & told and not meant & {"no"})
        or (folded(code)[:1].isalpha() and _fits(code, meaning) == 1.0)
    ):
        return "1"
    against = any((a in meant and b in told) or (b in meant and a in told) for a, b in AGAINST)
    return "0" if against or "no" in meant else None
