"""Steps along a resource: members, choices of type, indexes. The rest of a path is made of them.

That is where the time of a view goes: a chain of members is one closure with a loop, and the chains of all columns of a
select go together along what they have in common (`gather`). A list of one item is as good as its item.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from consilium.data.fhir.elements import CHOICES
from consilium.data.fhir.values import Mismatch, Run, items, packed


class Typed(str):
    """The name in JSON of the choice of `member` that is of the FHIR type `kind`, such as valueQuantity."""

    __slots__ = ("kind", "member")
    member: str
    kind: str

    def __new__(cls, member: str, kind: str) -> "Typed":
        """Name it."""
        made = super().__new__(cls, member + kind[0].upper() + kind[1:])
        made.member, made.kind = member, kind
        return made


Key = str | int
"""A member (or one of its types), or an index."""
Keys = tuple[Key, ...]


def walk(keys: Keys) -> Run:
    """A chain of steps, from the context."""

    def run(node: Any) -> Any:
        for key in keys:
            if type(node) is dict:
                found = node.get(key)
                node = found if found is not None else _else(node, key)
            elif type(node) is list:
                node = at(node, key) if type(key) is int else _each(node, key)
            elif type(key) is int and key == 0:
                continue
            else:
                return None
        return node

    return run


def _else(node: dict[str, Any], key: Key) -> Any:
    """Where there is no member of its name: any type of a choice; for a type, a member that is no choice."""
    if type(key) is int:
        return node if key == 0 else None
    if type(key) is Typed:
        found = node.get(key.member)
        return None if found is None else packed([item for item in items(found) if of_kind(item, key.kind)])
    return next((node[name] for name in CHOICES.get(str(key), ()) if node.get(name) is not None), None)


def _each(nodes: list[Any], key: Key) -> Any:
    if len(nodes) == 1 and type(nodes[0]) is dict:
        found = nodes[0].get(key)
        return found if found is not None else _else(nodes[0], key)
    every: list[Any] = []
    for node in nodes:
        if type(node) is dict:
            found = node.get(key)
            every.extend(items(found if found is not None else _else(node, key)))
    return packed(every)


def at(value: Any, index: int) -> Any:
    """The item at an index, from 0."""
    found = items(value)
    return found[index] if 0 <= index < len(found) else None


Gathering = Callable[[Any, list[Any]], None]


def gather(chains: Sequence[Keys]) -> Callable[[Any], list[Any]]:
    """What `walk` finds along each of the chains, in one go."""
    count, branch = len(chains), _branch([(keys, slot) for slot, keys in enumerate(chains)])

    def run(node: Any) -> list[Any]:
        found: list[Any] = [None] * count
        branch(node, found)
        return found

    return run


def _branch(chains: list[tuple[Keys, int]]) -> Gathering:
    here = [slot for keys, slot in chains if not keys]
    ends = [(keys[0], slot) for keys, slot in chains if len(keys) == 1]
    leaves = [(str(key), slot) for key, slot in ends if type(key) is str and key not in CHOICES]
    choices = [(str(key), _member(key), key, slot) for key, slot in ends if type(key) is Typed or key in CHOICES]
    onward: dict[tuple[Key, type], list[tuple[Keys, int]]] = {}  # by type too: valueString may be a name, or a choice
    for keys, slot in chains:
        if len(keys) > 1 or (keys and type(keys[0]) is int):
            onward.setdefault((keys[0], type(keys[0])), []).append((keys[1:], slot))
    inner = [(str(key), _member(key), key, _onto(more)) for (key, _), more in onward.items() if type(key) is not int]
    first = _branch(onward[0, int]) if (0, int) in onward else None
    walks = [(walk(keys), slot) for keys, slot in chains]

    def run(node: Any, found: list[Any]) -> None:
        """Put what each chain leads to from `node`, parsed JSON, into its slot of `found`; None where nothing is."""
        if type(node) is list and len(node) == 1 and type(node[0]) is dict and not here:
            node = node[0]
        if type(node) is not dict:
            for along, slot in walks:
                found[slot] = along(node)
            return
        for slot in here:
            found[slot] = node
        get = node.get
        for name, slot in leaves:
            found[slot] = get(name)
        for name, member, key, slot in choices:
            value = get(name)
            if value is None and (member is None or member in node):
                value = _else(node, key)
            found[slot] = value
        for name, member, onto, branch in inner:
            value = get(name)
            if value is None and (member is None or member in node):
                value = _else(node, onto)
            if value is not None:
                branch(value, found)
        if first is not None:
            first(node, found)

    return run


def _onto(chains: list[tuple[Keys, int]]) -> Gathering:
    """A branch, or a walk where one chain alone goes on."""
    if len(chains) > 1:
        return _branch(chains)
    ((keys, slot),) = chains
    along = walk(keys)

    def run(node: Any, found: list[Any]) -> None:
        found[slot] = along(node)

    return run


def _member(key: Key) -> str | None:
    """What must be there for a step to find something that has not its name; None: one of many."""
    return key.member if type(key) is Typed else None if key in CHOICES else ""


SIMPLE: dict[str, tuple[type, ...]] = {
    "boolean": (bool,), "decimal": (int, float, Decimal), "integer": (int,), "integer64": (int,), "positiveInt": (int,),
    "unsignedInt": (int,),
}  # fmt: skip


def of_kind(item: Any, kind: str) -> bool:
    """Whether an item that is no choice may be of a FHIR type, as far as JSON tells."""
    if kind in SIMPLE:
        return isinstance(item, SIMPLE[kind]) and (kind == "boolean") == (type(item) is bool)
    if kind[0].islower():
        return type(item) is str
    return type(item) is dict and item.get("resourceType", kind) == kind


def of_type(kind: str) -> Run:
    """`ofType(kind)` of items that are no choice."""
    return lambda value: packed([item for item in items(value) if of_kind(item, kind)])


def extension(member: str | None, url: str) -> Run:
    """`member.extension(url)`; what extends a simple value stands beside it, as `_member`."""
    inner = walk(("extension",))

    def among(value: Any) -> list[Any]:
        return [one for one in items(inner(value)) if type(one) is dict and one.get("url") == url]

    if member is None:
        return lambda value: packed(among(value))
    named, beside = walk((member,)), walk(("_" + member,))
    return lambda value: packed(among(named(value)) + among(beside(value)))


def where_text(member: str, wanted: str) -> Run:
    """`where(member = 'wanted')`, where `member` is one text in each item that has it."""

    def run(value: Any) -> Any:
        if type(value) is list and len(value) == 1:
            value = value[0]
        if type(value) is dict:
            return value if value.get(member) == wanted or _has(value, member, wanted) else None
        return packed([item for item in items(value) if _has(item, member, wanted)])

    return run


def _has(item: Any, member: str, wanted: str) -> bool:
    value = item.get(member) if type(item) is dict else None
    return value == wanted or (type(value) is list and [one for one in value if one is not None] == [wanted])


def reference_key(wanted: str | None) -> Run:
    """`getReferenceKey(Type)`: the id that a reference names, if it is one of that type."""

    def run(value: Any) -> Any:
        if type(value) is dict:
            text = value.get("reference")
            if type(text) is not str:
                return None
            head, _, key = text.rpartition("/")
            return key if head == wanted and key else _key(text, wanted)
        every = items(value)
        if not all(type(one) is dict for one in every):
            raise Mismatch("has no Reference where getReferenceKey() wants one")
        return packed([key for one in every if (key := run(one)) is not None])

    return run


def _key(text: str, wanted: str | None) -> str | None:
    if text[:1] == "#" or text[:4] == "urn:" or "?" in text:
        return None
    parts = text.split("/")
    if len(parts) > 3 and parts[-2] == "_history":
        parts = parts[:-2]
    if len(parts) < 2 or (wanted is not None and parts[-2] != wanted):
        return None
    return parts[-1]
