"""Patients who are one person in several records: which record stands for all of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Merged:
    """Which records were merged.

    person: of the key of each of them the key of the one that stands for all, its own too.   unknown: keys of whom
    nobody knows who that is: links lead in a circle, to several, or to one that is not here.   unsolved: how many
    records are left out so, or say that they were merged with one that they do not name.
    """

    person: Mapping[str, str] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    unsolved: int = 0

    def of(self, key: str) -> str:
        """Who stands for a record."""
        return self.person.get(key, key)


def merged(replaced: Iterable[tuple[str, str]], here: frozenset[str]) -> Merged:
    """Who stands for whom.

    Args:    replaced: a record, and the one that is to be used in its place.   here: records that are there.

    >>> merged([("a", "b"), ("b", "c"), ("x", "y"), ("y", "x")], frozenset("abcxy"))
    Merged(person={'a': 'c', 'b': 'c', 'c': 'c', 'x': 'x', 'y': 'x'}, unknown=frozenset({'x', 'y'}), unsolved=2)
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
    return Merged(person, frozenset(unknown), len(unknown & here))


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
