"""Chains of steps of all columns of a select, along many contexts at once. There the time of a view goes.

Steps that chains have in common are taken once, and a step is taken for all contexts before the next one: to go once
more through a list takes a fraction of what a call takes for each of its items.
"""

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

from consilium.data.fhir.elements import CHOICES
from consilium.data.fhir.steps import Keys, Made, Typed, along, at, instead

Columns = list[list[Any]]
Gathering = Callable[[list[Any], Columns], None]
"""From nodes to what chains lead to from them: puts the column of each chain into its slot."""
Chain = tuple[Keys, int]
"""Steps, and the slot of what they lead to."""
NOTHING: dict[str, Any] = {}
GET, HAS = dict.get, dict.__contains__


def gather(chains: Sequence[Keys]) -> Callable[[list[Any]], Columns]:
    """What `along` finds for each of the chains: a column of each, with a value for each node."""
    count, branch = len(chains), _branch([(keys, slot) for slot, keys in enumerate(chains)])

    def run(nodes: list[Any]) -> Columns:
        found: Columns = [[]] * count
        branch(nodes, found)
        return found

    return run


def _branch(chains: list[Chain]) -> Gathering:
    """From one node on, where its chains part: those that end here, and by their first step the others.

    No two slots get one list but of chains that are the same: of nodes that are odd, values in it are put anew.
    """
    parts = [_end(slot) for keys, slot in chains if not keys]
    parts += [_made(step, _branch(onward)) for step, onward in _by_first(chains, Made)]
    parts += [_item(index, _branch(onward)) for index, onward in _by_first(chains, int)]
    if walked := [(keys, slot) for keys, slot in chains if keys and isinstance(keys[0], str)]:
        parts.append(_members(walked))
    if len(parts) == 1:
        return parts[0]

    def run(nodes: list[Any], found: Columns) -> None:
        for part in parts:
            part(nodes, found)

    return run


def _by_first(chains: list[Chain], kind: type) -> list[tuple[Any, list[Chain]]]:
    """Chains by their first step, where it is of a kind: what comes after it."""
    found: dict[tuple[Any, type], list[Chain]] = {}
    for keys, slot in chains:
        if keys and isinstance(keys[0], kind):  # by type too: valueString may be a name, or a choice
            found.setdefault((keys[0], type(keys[0])), []).append((keys[1:], slot))
    return [(step, onward) for (step, _), onward in found.items()]


def _end(slot: int) -> Gathering:
    def run(nodes: list[Any], found: Columns) -> None:
        found[slot] = nodes

    return run


def _made(step: Made, onward: Gathering) -> Gathering:
    return lambda nodes, found: onward([*map(step.run, nodes)], found)


def _item(index: int, onward: Gathering) -> Gathering:
    """From lists on to their items; what is no list is as good as one of it."""
    if index:
        return lambda nodes, found: onward([at(node, index) if type(node) is list else None for node in nodes], found)

    def first(nodes: list[Any], found: Columns) -> None:
        firsts = [node if type(node) is not list else node[0] if len(node) == 1 else at(node, 0) for node in nodes]
        onward(firsts, found)

    return first


def _members(chains: list[Chain]) -> Gathering:
    """From objects on to their members, and to those of all items of a list."""
    steps = [(key, type(key) is Typed or key in CHOICES, _branch(onward)) for key, onward in _by_first(chains, str)]
    names, walks = [repeat(str(key)) for key, *_ in steps], [(along(keys), slot) for keys, slot in chains]
    whatever = any(type(key) is Made for keys, _ in chains for key in keys)  # may be a value where nothing is

    def run(nodes: list[Any], found: Columns) -> None:
        """All at once where nodes are alike; the odd ones among them one by one."""
        if not whatever and not any(nodes):
            for _, slot in chains:
                found[slot] = [None] * len(nodes)
            return
        odd: list[int] = []
        try:
            objects = _alike(nodes)
            columns = [[*map(GET, objects, name)] for name in names]
        except (TypeError, ValueError):
            objects, odd = _apart(nodes)
            columns = [[*map(GET, objects, name)] for name in names]
        for (key, choice, branch), values in zip(steps, columns):
            branch(_chosen(values, objects, key) if choice and None in values else values, found)
        for number in odd:
            for walk, slot in walks:
                found[slot][number] = walk(nodes[number])

    return run


def _alike(nodes: list[Any]) -> list[Any]:
    """Nodes as objects, if all are some, or nothing, or all are lists of one: else asking for a member fails."""
    if nodes and type(nodes[0]) is list:
        return [one for (one,) in nodes]
    return nodes if all(nodes) else [node or NOTHING for node in nodes]


def _apart(nodes: list[Any]) -> tuple[list[dict[str, Any]], list[int]]:
    """Nodes as objects, of a list of one its item; and which are odd: several, or values."""
    single = [node[0] if type(node) is list and len(node) == 1 else node for node in nodes]
    odd = [number for number, node in enumerate(single) if node and type(node) is not dict]
    return [node if type(node) is dict else NOTHING for node in single], odd


def _chosen(values: list[Any], nodes: list[Any], key: str) -> list[Any]:
    """Values of a choice of types, and what stands instead of those that are not there by this name."""
    if type(key) is Typed and True not in map(HAS, nodes, repeat(key.member)):
        return values
    return [instead(node, key) if value is None and node else value for node, value in zip(nodes, values)]
