"""A ViewDefinition as SQL on FHIR v2 writes it: which rows and columns a FHIR resource becomes.

Source: https://sql-on-fhir.org/ig/latest/StructureDefinition-ViewDefinition.html. Keys that say nothing about rows and
columns (url, status, description ...) are passed over; in `select`, `column` and `where` an unknown key is refused.
"""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from consilium.core.errors import ViewInvalid
from consilium.data.nesting import DEEPEST, too_deep

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=255)]
BESIDE = ("description", "tag", "id", "extension", "modifierExtension")


def _plain_type(uri: str) -> str:
    return uri.rsplit("/", 1)[-1]


class Part(BaseModel):
    """A part of a definition: frozen, strict, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _without_words(cls, given: Any) -> Any:
        return {key: value for key, value in given.items() if key not in BESIDE} if isinstance(given, dict) else given


class ColumnPart(Part):
    """One column."""

    name: Name
    path: str
    type: Annotated[str, AfterValidator(_plain_type)] | None = None
    collection: bool = False


class WherePart(Part):
    """A condition on the resource."""

    path: str


class SelectPart(Part):
    """Columns of the context, or of each item that `forEach`, `forEachOrNull` or `repeat` finds in it."""

    column: list[ColumnPart] = Field(default_factory=list)
    select: list["SelectPart"] = Field(default_factory=list)
    union: list["SelectPart"] = Field(default_factory=list, validation_alias=AliasChoices("unionAll"))
    each: str | None = Field(None, validation_alias=AliasChoices("forEach"))
    each_or_null: str | None = Field(None, validation_alias=AliasChoices("forEachOrNull"))
    repeat: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_iteration(self) -> "SelectPart":
        if (self.each is not None) + (self.each_or_null is not None) + bool(self.repeat) > 1:
            raise ValueError("forEach, forEachOrNull and repeat exclude one another")
        return self


class Definition(BaseModel):
    """A ViewDefinition."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    resource: str = Field(pattern=r"^[A-Z][A-Za-z]*$")
    name: str = "view"
    constant: list[dict[str, Any]] = Field(default_factory=list)
    select: list[SelectPart] = Field(min_length=1)
    where: list[WherePart] = Field(default_factory=list)


def load(path: Path) -> Definition:
    """Read a definition from a JSON file. Raises: ViewInvalid: names the place and the remedy."""
    first, *others = several(path)
    if others:
        raise ViewInvalid(f"{path} holds several definitions", "give the path of one")
    return first


def several(path: Path) -> list[Definition]:
    """Read a definition from a JSON file, or a list of some. Raises: ViewInvalid: names the place and the remedy."""
    try:
        found = json.loads(path.read_bytes())
        return [check(one) for one in (found if isinstance(found, list) and found else [found])]
    except OSError as error:
        raise ViewInvalid(f"{path} cannot be read", "give the path of a ViewDefinition in JSON") from error
    except (ValueError, RecursionError) as error:
        raise ViewInvalid(f"{path} is no JSON", "give a ViewDefinition in JSON") from error


def check(given: Any) -> Definition:
    """A definition from JSON that was read. Raises: ViewInvalid."""
    if too_deep(given):
        raise ViewInvalid("selects nest too deeply", f"nest at most {DEEPEST}")
    try:
        return Definition.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the definition"
        raise ViewInvalid(f"{place}: {first['msg']}", "correct the ViewDefinition") from None
