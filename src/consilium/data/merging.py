"""Patients who are one person in several records: which record stands for all of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Merged:
    """Which records were merged.

    person: of the key of each of them the key of the one that stands for all, its own too.   unknown: keys of whom
    nobody knows who that is: links lead in a circle, to several, or to one that is not here.   lost: of these the
    records that are here, and left out.   unnamed: how many say that they were merged with one that they do not name.
    """

    person: Mapping[str, str] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()
    unnamed: int = 0

    @property
    def unsolved(self) -> int:
        """How many records are left out, or do not name the other one."""
        return len(self.lost) + self.unnamed

    def of(self, key: str) -> str:
        """Who stands for a record."""
        return self.person.get(key, key)


def merged(replaced: Iterable[tuple[str, str]], here: frozenset[str]) -> Merged:
    """Who stands for whom.

    Args:    replaced: a record, and the one that is to be used in its place.   here: records that are there.

    >>> found = merged([("a", "b"), ("b", "c"), ("x", "y"), ("y", "x")], frozenset("abcxy"))
    >>> found.person, sorted(found.unknown), found.unsolved
    ({'a': 'c', 'b': 'c', 'c': 'c', 'x': 'x', 'y': 'x'}, ['x', 'y'], 2)
    """
    onward: dict[str, set[str]] = {}
    beside: dict[str, set[str]] = {}
    for one, other in replaced:
        onward.setdefault(one, set()).add(other)
        beside.setdefault(one, set()).add(other)
        beside.setdefault(other, set()).add(one)
    person: dict[str, str] = {}
    unknown = set[str]()
    for key in sorted(beside):
        if key in person:
            continue
        together = _reached(key, beside)
        last = [one for one in together if one not in onward]
        known = len(last) == 1 and last[0] in here and all(_ends(one, onward) for one in together)
        person |= dict.fromkeys(sorted(together), last[0] if known else key)
        unknown |= set() if known else together
    return Merged(person, frozenset(unknown), frozenset(unknown & here))


def together(one: Merged, other: Merged) -> Merged:
    """Who stands for whom, where two sources of one hospital say it: along the links of both.

    Of whom one of them does not know it, nobody does.

    >>> together(merged([("a", "b")], frozenset("ab")), merged([("b", "c")], frozenset("bc"))).person
    {'a': 'c', 'b': 'c', 'c': 'c'}
    """
    if not (one.person or one.unsolved) or one == other:
        return other
    if not (other.person or other.unsolved):
        return one
    known = [pair for each in (one, other) for pair in each.person.items()]
    found = merged([pair for pair in known if pair[0] != pair[1]], frozenset(key for pair in known for key in pair))
    strange = one.unknown | other.unknown | found.unknown
    vague = {found.of(key) for key in strange}
    person = {key: found.of(key) for key, _ in known}
    unknown = frozenset(key for key, of in person.items() if of in vague)
    lost = one.lost | other.lost | (unknown - one.unknown - other.unknown)
    return Merged(person, unknown, lost, max(one.unnamed, other.unnamed))


def _reached(key: str, beside: Mapping[str, set[str]]) -> set[str]:
    found, waiting = {key}, [key]
    while waiting:
        more = beside.get(waiting.pop(), set()) - found
        found |= more
        waiting += more
    return found


def _ends(key: str, onward: Mapping[str, set[str]]) -> bool:
    """Whether no way from a record leads back to it."""
    return all(key not in _reached(other, onward) for other in onward.get(key, ()))
