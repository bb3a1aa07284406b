"""Steps along a resource: members, choices of type, indexes, and functions. Paths are made of them.

A list of one item is as good as its item.
"""

from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Made:
    """A step that makes a value of the one before it, and of nothing else: two are one where the same is told."""

    told: str
    run: Run = field(compare=False)


Key = str | int
"""A member (or one of its types), or an index."""
Keys = tuple[Key | Made, ...]
NAMES = {name: frozenset(names) for name, names in CHOICES.items()}


def along(keys: Keys) -> Run:
    """A chain of steps, from the context: what the one finds, the next one takes."""
    parts: list[Run] = []
    walked: list[Key] = []
    for key in keys:
        if isinstance(key, Made):
            parts += [*([walk(*walked)] if walked else []), key.run]
            walked = []
        else:
            walked.append(key)
    if walked or not parts:
        parts.append(walk(*walked))
    return parts[0] if len(parts) == 1 else _after(parts)


def _after(parts: list[Run]) -> Run:
    def run(node: Any) -> Any:
        for part in parts:
            node = part(node)
        return node

    return run


def walk(*keys: Key) -> Run:
    """Members and indexes, one after the other."""

    def run(node: Any) -> Any:
        for key in keys:
            if type(node) is dict:
                found = node.get(key)
                node = found if found is not None else instead(node, key)
            elif type(node) is list:
                node = at(node, key) if type(key) is int else _each(node, key)
            elif type(key) is int and key == 0:
                continue
            else:
                return None
        return node

    return run


def instead(node: dict[str, Any], key: Key) -> Any:
    """Where there is no member of its name: any type of a choice; for a type, a member that is no choice."""
    if isinstance(key, int):
        return node if key == 0 else None
    if type(key) is Typed:
        found = node.get(key.member)
        return None if found is None else packed([item for item in items(found) if of_kind(item, key.kind)])
    names = CHOICES.get(key)
    if names is None or NAMES[key].isdisjoint(node):
        return None
    return next((node[name] for name in names if node.get(name) is not None), None)


def _each(nodes: list[Any], key: Key) -> Any:
    if len(nodes) == 1 and type(nodes[0]) is dict:
        found = nodes[0].get(key)
        return found if found is not None else instead(nodes[0], key)
    every: list[Any] = []
    for node in nodes:
        if type(node) is dict:
            found = node.get(key)
            every.extend(items(found if found is not None else instead(node, key)))
    return packed(every)


def at(value: Any, index: int) -> Any:
    """The item at an index, from 0."""
    found = items(value)
    return found[index] if 0 <= index < len(found) else None


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
    inner = walk("extension")

    def among(value: Any) -> list[Any]:
        return [one for one in items(inner(value)) if type(one) is dict and one.get("url") == url]

    if member is None:
        return lambda value: packed(among(value))
    named, beside = walk(member), walk("_" + member)
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
