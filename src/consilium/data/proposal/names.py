"""How much the name of a column says that it is what a contract means."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from consilium.data.proposal.words import AGAINST, EMPTY, LONG, LONGEST, MEANT, UNIT_WORDS, folded

SPLITS = (
    re.compile(r"[A-ZÄÖÜ]+(?=[A-ZÄÖÜ][a-zäöüß])|[A-ZÄÖÜ]?[^\W\d_A-ZÄÖÜ]+|[A-ZÄÖÜ]+|\d+"),
    re.compile(r"[A-ZÄÖÜ]{2,}|[^\W\d_]+|\d+"),
)
"""Two ways to take `HRmax` and `ChestPain` apart."""
SHORT = frozenset(("bp", "hr", "in", "of", "at", "wt", "ht"))
"""Words of two letters that others are made with, such as `meanbp`."""


@dataclass(frozen=True)
class Term:
    """A word, or several that are one; and what it may mean."""

    text: str
    meant: frozenset[str] = frozenset()


@lru_cache(maxsize=4096)
def terms(text: str, way: int = 0) -> tuple[Term, ...]:
    """The words of a name or a sentence, without those that say nothing.

    >>> [term.text for term in terms("systolic blood pressure at admission")]
    ['systolic', 'blood pressure', 'admission']
    >>> [sorted(term.meant) for term in terms("meanBP")]
    [['mean'], ['pressure']]
    """
    words: list[str] = []
    for word in SPLITS[way].findall(text):
        word = folded(word)
        words += LONG[word].split() if word in LONG else [word] if word in MEANT else _parts(word)
    found: list[Term] = []
    at = 0
    while at < len(words):
        for length in range(min(LONGEST, len(words) - at), 0, -1):
            several = " ".join(words[at : at + length])
            if several in MEANT:
                found.append(Term(several, MEANT[several]))
                break
        else:
            length = 1
            if words[at] not in EMPTY:
                found.append(Term(words[at]))
        at += length
    return tuple(found) or tuple(Term(word) for word in words)


def _parts(word: str) -> list[str]:
    """A word that is made of known ones, such as heartrate; else the word."""
    known: list[list[str] | None] = [[], *([None] * len(word))]
    for end in range(2, len(word) + 1):
        for begin in range(end - 1):
            before, piece = known[begin], word[begin:end]
            if before is not None and (piece in SHORT or (len(piece) > 2 and _whole(piece))):
                longer = [*before, *(LONG[piece].split() if piece in LONG else [piece])]
                if known[end] is None or len(longer) < len(known[end] or ()):
                    known[end] = longer
    return known[-1] or [word]


@lru_cache(maxsize=1)
def _words() -> frozenset[str]:
    """All single words that are known."""
    return frozenset(word for spelt in MEANT for word in spelt.split()) | frozenset(LONG) | {"unit", "chart"}


def _whole(piece: str) -> bool:
    return piece in _words()


@lru_cache(maxsize=65536)
def alike(one: Term, other: Term) -> float:
    """0 to 1: whether two terms mean the same, or one is short for the other."""
    if one.text == other.text or one.meant & other.meant:
        return 1.0
    short, long = sorted((one.text, other.text), key=len)
    if len(short) < 3 or short.isdecimal():
        return 0.0
    if long.startswith(short):
        return 0.8
    if difflib.SequenceMatcher(None, short, long).ratio() >= 0.85:
        return 0.85
    rest = iter(long)
    return 0.5 if short[0] == long[0] and len(short) * 3 >= len(long) and all(one in rest for one in short) else 0.0


def likeness(column: str, id_: str, meaning: str, unit: str = "") -> float:
    """0 to 1: how much the name of a column speaks for what a contract calls `id_` and explains as `meaning`.

    Args:    unit: with which the column's name ends, and which is no part of what it means.
    """
    if folded(column) == folded(id_):
        return 1.0
    return max(_likeness(terms(_without(column, unit), way), id_, meaning) for way in range(len(SPLITS)))


def _likeness(of: Sequence[Term], id_: str, meaning: str) -> float:
    short, long = terms(id_), terms(meaning)
    every = (*short, *long)
    if not of:
        return 0.0
    fits = sum(max((alike(one, other) for other in every), default=0.0) for one in of) / len(of)
    known = max(sum(max(alike(one, other) for one in of) for other in told) / len(told) for told in (short, long))
    here = frozenset[str]().union(*(one.meant for one in of))
    there = frozenset[str]().union(*(one.meant for one in every))
    against = any(
        (a in here and b in there and a not in there) or (b in here and a in there and b not in there)
        for a, b in AGAINST
    )
    return fits * (0.4 + 0.6 * known) * (0.2 if against else 1.0)


def unit_words(column: str) -> list[tuple[str, str]]:
    """Units with which the name of a column may end, and the words of it that say so; the longest first.

    >>> unit_words("glucose_mg_dl"), unit_words("Temp [°C]"), unit_words("HbA1c_mmol_mol")
    ([('mg/dL', 'mg dl')], [('Cel', 'c')], [('mmol/mol', 'mmol mol')])
    """
    words = [word.casefold() for word in re.findall(r"[^\W_]+", column)]
    if len(words) < 2:
        words = [word.casefold() for word in SPLITS[0].findall(column)]
    found = []
    for length in (3, 2, 1):
        if len(words) > length and (joined := "".join(words[-length:])) in UNIT_WORDS:
            found.append((UNIT_WORDS[joined], " ".join(words[-length:])))
    return found


def _without(column: str, unit: str) -> str:
    if not unit:
        return column
    ends = r"[\W_]*".join(re.escape(word) for word in unit.split())
    return re.sub(rf"[\W_]*{ends}[\W_]*$", "", column, flags=re.IGNORECASE) or column
