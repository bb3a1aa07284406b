"""What a contract of version 2 says beyond columns: codes, windows around an index moment, aggregates, exclusions."""

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

SECONDS = {"min": 60, "h": 3600, "d": 86400, "wk": 604800}
Duration = Annotated[str, StringConstraints(pattern=r"^-?[0-9]{1,6}(min|h|d|wk)$")]
"""A whole number of minutes, hours, days or weeks, such as -6h."""
Window = tuple[Duration | None, Duration | None]
Aggregate = Literal["first", "last", "min", "max", "mean", "count", "any"]
Recorded = Literal["observation", "condition", "procedure", "drug"]
COUNTED = ("count", "any")
"""Aggregates that look at no value: how many records there are, and whether there is one (1 or 0)."""
CHOSEN = ("first", "last")
"""Aggregates that take the value of one record: what a category is made by."""


class Part(BaseModel):
    """A part of a contract: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Coded(Part):
    """One code of a code system; hospitals with codes of their own say which of theirs mean it."""

    system: Annotated[str, StringConstraints(min_length=1, max_length=300)] = Field(
        description="URI of the code system, as FHIR writes it, such as http://loinc.org"
    )
    code: Annotated[str, StringConstraints(min_length=1, max_length=100)] = Field(description="the code")
    display: Annotated[str, StringConstraints(max_length=300)] | None = Field(None, description="its name, for people")


class Index(Part):
    """The moment from which windows count, and which one of a patient's several counts."""

    meaning: Annotated[str, StringConstraints(min_length=1, max_length=4000)] = Field(
        description="what happens at that moment, for the people who map it"
    )
    entry: Literal["first", "last"] = Field("first", description="which one counts, where a patient has several")


class Exclusion(Part):
    """Patients who take no part by the value of a feature: below or above a number, or of these categories."""

    feature: Annotated[str, StringConstraints(min_length=1, max_length=63)] = Field(
        description="the feature that is looked at; a patient without it is not excluded"
    )
    below: float | None = Field(None, description="excluded below this number, in the feature's unit")
    above: float | None = Field(None, description="excluded above this number")
    among: tuple[str, ...] = Field((), description="excluded with one of these categories")

    @model_validator(mode="after")
    def _says_whom(self) -> "Exclusion":
        if self.below is None and self.above is None and not self.among:
            raise ValueError("an exclusion needs `below`, `above` or `among`")
        return self


def seconds(duration: str) -> float:
    """How long it is.

    >>> seconds("-6h")
    -21600.0
    """
    number, unit = re.fullmatch(r"(-?[0-9]+)([a-z]+)", duration).groups()  # type: ignore[union-attr]
    return timedelta(seconds=int(number) * SECONDS[unit]).total_seconds()
