"""Concept sets: which concepts a few concepts stand for, by the hospital's own vocabulary."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from consilium.core.errors import DataUnusable, MappingInvalid
from consilium.data.omop.database import Database

UCUM = "UCUM"


@dataclass(frozen=True)
class Item:
    """A concept of a set, with its descendants or without; excluded ones are taken away again."""

    concept: int
    descendants: bool = True
    excluded: bool = False


class _Concept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)  # names and codes: for people
    id: Annotated[int, Field(gt=0, validation_alias=AliasChoices("CONCEPT_ID", "conceptId"))]


class ItemJson(BaseModel):
    """An item as ATLAS writes it. `includeMapped` is refused: what is mapped stands in no CDM column read here."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    concept: _Concept
    isExcluded: bool = False
    includeDescendants: bool = False
    includeMapped: Annotated[bool, Field(le=False)] = False

    def item(self) -> Item:
        """As it is meant."""
        return Item(self.concept.id, self.includeDescendants, self.isExcluded)


class SetJson(BaseModel):
    """The items of a set as ATLAS writes them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    items: list[ItemJson] = Field(min_length=1)


def without_nulls(given: Any) -> Any:
    """JSON without the keys that hold null, which say nothing."""
    if isinstance(given, dict):
        return {key: without_nulls(value) for key, value in given.items() if value is not None}
    return [without_nulls(value) for value in given] if isinstance(given, list) else given


def read_json(path: Path, shown: str, what: str) -> Any:
    """JSON of a file beside the mapping. Raises: MappingInvalid."""
    try:
        return without_nulls(json.loads(path.read_bytes()))
    except OSError as error:
        raise MappingInvalid(f"{what}: {shown} cannot be read", "name a file beside the mapping") from error
    except (ValueError, RecursionError) as error:
        raise MappingInvalid(f"{what}: {shown} is no JSON", "export it from ATLAS anew") from error


def refused(error: ValidationError, shown: str, what: str) -> MappingInvalid:
    """Every part of a file that is not supported, by its name."""
    told = []
    for item in error.errors(include_url=False)[:5]:
        place = ".".join(str(part) for part in item["loc"]) or "the file"
        words = "is not supported" if item["type"] in ("extra_forbidden", "less_than_equal") else item["msg"]
        told.append(f"{what}: {shown}: {place}: {words[:1].lower()}{words[1:]}")
    return MappingInvalid(
        "\n".join(told), "take it out in ATLAS if the cohort is the same without, or write the cohort as `query`"
    )


def load_set(path: Path, shown: str, what: str) -> tuple[Item, ...]:
    """A concept set of ATLAS. Raises: MappingInvalid."""
    try:
        return tuple(one.item() for one in SetJson.model_validate(read_json(path, shown, what)).items)
    except ValidationError as error:
        raise refused(error, shown, what) from None


def numbers(ids: Iterable[int]) -> str:
    """Ids as SQL."""
    return ", ".join(str(int(one)) for one in sorted(ids))


def resolve(database: Database, items: Sequence[Item], what: str, each: bool) -> frozenset[int]:
    """The concepts that a set stands for.

    Args:    each: whether each concept must be a standard one; else it is enough that one of the set is.
    Raises:  DataUnusable: a concept is unknown, or is not a standard one and so stands in no record.
    Source:  OHDSI circe-be, "conceptSetExpression".
    """
    _below(database, _known(database, items, what, each), what, each)
    included = _expanded(database, [item for item in items if not item.excluded], what)
    found = included - _expanded(database, [item for item in items if item.excluded], what)
    if not found:
        raise DataUnusable(f"{what}: all concepts are excluded again", "correct the concept set")
    return frozenset(found)


def _below(database: Database, above: set[int], what: str, each: bool) -> None:
    """Raises: DataUnusable: of one of these, or where not `each` of all, table concept_ancestor knows nothing.

    It has each standard concept as a descendant of its own.
    """
    if not above:
        return
    sql = f"SELECT DISTINCT ancestor_concept_id FROM concept_ancestor WHERE ancestor_concept_id IN ({numbers(above)})"
    lacking = above - {int(row[0]) for row in database.query(sql, what=what)[1]}
    if lacking and (each or lacking == above):
        raise DataUnusable(
            f"{what}: table concept_ancestor has no concept {min(lacking)}, so that nobody knows its descendants",
            "load the table with the vocabulary; or write `descendants: false` if they are not to count",
        )


def _known(database: Database, items: Sequence[Item], what: str, each: bool) -> set[int]:
    """Those of the standard concepts of a set that stand for their descendants, too."""
    wanted = {item.concept for item in items}
    _, rows = database.query(
        "SELECT concept_id, vocabulary_id, concept_code, standard_concept FROM concept"
        f" WHERE concept_id IN ({numbers(wanted)})",
        what=what,
    )
    known = {int(row[0]): row[1:] for row in rows}
    for concept in sorted(wanted - known.keys()):
        raise DataUnusable(
            f"{what}: the vocabulary has no concept {concept}", "correct the number, or load that vocabulary"
        )
    strange = sorted(item.concept for item in items if not item.excluded and known[item.concept][2] not in ("S", "C"))
    if strange and (each or len(strange) == len([item for item in items if not item.excluded])):
        vocabulary, code, _ = known[strange[0]]
        raise DataUnusable(
            f"{what}: concept {strange[0]} ({vocabulary} {code}) is no standard concept, and stands in no record",
            f"take {_mapped(database, strange[0], what)}",
        )
    return {item.concept for item in items if item.descendants and known[item.concept][2] in ("S", "C")}


def _mapped(database: Database, concept: int, what: str) -> str:
    """What a concept is mapped to, for a person to take instead."""
    try:
        _, rows = database.query(
            f"SELECT concept_id_2 FROM concept_relationship WHERE concept_id_1 = {concept}"
            " AND relationship_id = 'Maps to' AND COALESCE(invalid_reason, '') = '' ORDER BY concept_id_2",
            what=what,
        )
        found = [str(row[0]) for row in rows]
    except DataUnusable:  # the table is not there
        found = []
    return f"what it maps to: {', '.join(found)}" if found else "the standard concept that it maps to"


def _expanded(database: Database, items: Sequence[Item], what: str) -> set[int]:
    found = {item.concept for item in items}
    above = {item.concept for item in items if item.descendants}
    if above:
        _, rows = database.query(
            "SELECT c.concept_id FROM concept c JOIN concept_ancestor a ON c.concept_id = a.descendant_concept_id"
            f" WHERE a.ancestor_concept_id IN ({numbers(above)}) AND COALESCE(c.invalid_reason, '') = ''",
            what=what,
        )
        found |= {int(row[0]) for row in rows}
    return found


def units(database: Database, ids: Iterable[int], what: str) -> dict[int, str]:
    """UCUM units by concept, of those that are such in the vocabulary."""
    wanted = {one for one in ids if one > 0}
    if not wanted:
        return {}
    _, rows = database.query(
        f"SELECT concept_id, concept_code FROM concept WHERE vocabulary_id = '{UCUM}'"
        f" AND concept_id IN ({numbers(wanted)})",
        what=what,
    )
    return {int(row[0]): str(row[1]) for row in rows}
