"""Cohort definitions of ATLAS (Circe JSON): the parts that are supported here. Anything else is refused by its name.

Source: OHDSI circe-be, https://github.com/OHDSI/circe-be. Keys that hold null say nothing.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from consilium.core.errors import MappingInvalid
from consilium.data.nesting import DEEPEST, too_deep
from consilium.data.omop.vocabulary import ItemJson, read_json, refused

No = Annotated[bool, Field(le=False)]
"""What may stand there, but not as true."""


class Json(BaseModel):
    """A part of a definition: frozen, strict, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ConceptJson(BaseModel):
    """A concept; its names and codes are for people."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)
    id: Annotated[int, Field(ge=0, validation_alias=AliasChoices("CONCEPT_ID", "conceptId"))]


Concepts = Annotated[list[ConceptJson], Field(min_length=1)]
Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
Op = Literal["lt", "lte", "eq", "gt", "gte", "bt", "!bt"]


class Range(Json):
    """Numbers: `bt` and `!bt` are within and outside of Value to Extent."""

    Value: float
    Op: Op
    Extent: float | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Range":
        if self.Op.endswith("bt") and self.Extent is None:
            raise ValueError("Extent is missing")
        return self


class DateRange(Json):
    """Dates, likewise."""

    Value: Day
    Op: Op
    Extent: Day | None = None

    @model_validator(mode="after")
    def _whole(self) -> "DateRange":
        if self.Op.endswith("bt") and self.Extent is None:
            raise ValueError("Extent is missing")
        return self


class Records(Json):
    """What every criterion may ask."""

    CodesetId: int | None = None
    Gender: Concepts | None = None

    @property
    def first(self) -> bool:
        """Whether only the first record of a person counts."""
        return bool(getattr(self, "First", False))


class Occurrence(Records):
    """Records of one day or more."""

    First: bool = False
    Age: Range | None = None
    OccurrenceStartDate: DateRange | None = None


class ConditionOccurrenceAsked(Occurrence):
    """Of table condition_occurrence."""

    ConditionTypeExclude: No = False


class DrugExposureAsked(Occurrence):
    """Of table drug_exposure."""

    DrugTypeExclude: No = False


class ProcedureOccurrenceAsked(Occurrence):
    """Of table procedure_occurrence."""

    ProcedureTypeExclude: No = False


class DeviceExposureAsked(Occurrence):
    """Of table device_exposure."""

    DeviceTypeExclude: No = False


class VisitOccurrenceAsked(Occurrence):
    """Of table visit_occurrence."""

    VisitTypeExclude: No = False


class Valued(Occurrence):
    """Records with a value."""

    ValueAsNumber: Range | None = None
    Unit: Concepts | None = None


class MeasurementAsked(Valued):
    """Of table measurement."""

    MeasurementTypeExclude: No = False


class ObservationAsked(Valued):
    """Of table observation."""

    ObservationTypeExclude: No = False


class DeathAsked(Records):
    """Of table death; its concepts are causes."""

    Age: Range | None = None
    OccurrenceStartDate: DateRange | None = None
    DeathTypeExclude: No = False


class EraAsked(Records):
    """Spans of a condition, or of a drug; lengths in days."""

    First: bool = False
    AgeAtStart: Range | None = None
    EraStartDate: DateRange | None = None
    EraLength: Range | None = None


DOMAIN_OF = {
    "ConditionOccurrence": "condition", "ConditionEra": "condition_era", "DrugExposure": "drug", "DrugEra": "drug_era",
    "ProcedureOccurrence": "procedure", "DeviceExposure": "device", "Measurement": "measurement",
    "Observation": "observation", "VisitOccurrence": "visit", "Death": "death",
}  # fmt: skip
"""Criteria, and the domains whose table they ask."""


class Criterion(Json):
    """One criterion, by the name of what it asks."""

    ConditionOccurrence: ConditionOccurrenceAsked | None = None
    ConditionEra: EraAsked | None = None
    DrugExposure: DrugExposureAsked | None = None
    DrugEra: EraAsked | None = None
    ProcedureOccurrence: ProcedureOccurrenceAsked | None = None
    DeviceExposure: DeviceExposureAsked | None = None
    Measurement: MeasurementAsked | None = None
    Observation: ObservationAsked | None = None
    VisitOccurrence: VisitOccurrenceAsked | None = None
    Death: DeathAsked | None = None

    @property
    def asked(self) -> tuple[str, Records]:
        """Domain, and what is asked of its records."""
        (name,) = self.model_fields_set
        found: Records = getattr(self, name)
        return DOMAIN_OF[name], found

    @model_validator(mode="after")
    def _one(self) -> "Criterion":
        if len(self.model_fields_set) != 1:
            raise ValueError(f"a criterion is one of {', '.join(DOMAIN_OF)}")
        return self


class Bound(Json):
    """So many days before (-1) or after (1) the event; without days, as far as the person is observed."""

    Days: Annotated[int, Field(ge=0, le=100_000)] | None = None
    Coeff: Literal[-1, 1]


class Window(Json):
    """Days between which a record starts (or ends: UseEventEnd), from the event's start (or end: UseIndexEnd) on."""

    Start: Bound
    End: Bound
    UseIndexEnd: bool = False
    UseEventEnd: bool | None = None


class Times(Json):
    """How often: exactly (0), at most (1), at least (2)."""

    Type: Literal[0, 1, 2]
    Count: Annotated[int, Field(ge=0)]
    IsDistinct: No = False


class Related(Json):
    """A criterion on records around the event."""

    Criteria: Criterion
    StartWindow: Window | None = None
    EndWindow: Window | None = None
    Occurrence: Times
    RestrictVisit: No = False
    IgnoreObservationPeriod: bool = False


class Demographic(Json):
    """A condition on the person at the event."""

    Age: Range | None = None
    Gender: Concepts | None = None
    OccurrenceStartDate: DateRange | None = None


class Group(Json):
    """Conditions of which all, any, or a number must hold; one without conditions holds."""

    Type: Literal["ALL", "ANY", "AT_LEAST", "AT_MOST"]
    Count: Annotated[int, Field(ge=0)] | None = None
    CriteriaList: list[Related] = Field(default_factory=list)
    DemographicCriteriaList: list[Demographic] = Field(default_factory=list)
    Groups: list["Group"] = Field(default_factory=list)

    @model_validator(mode="after")
    def _counted(self) -> "Group":
        if self.Type.startswith("AT_") and self.Count is None:
            raise ValueError("Count is missing")
        return self

    def criteria(self) -> Iterator[Criterion]:
        """Every criterion within."""
        yield from (related.Criteria for related in self.CriteriaList)
        for group in self.Groups:
            yield from group.criteria()


class Limit(Json):
    """Which events of a person go on."""

    Type: Literal["First", "Last", "All"] = "First"


class Observed(Json):
    """Days for which the person is observed before and after."""

    PriorDays: Annotated[int, Field(ge=0, le=100_000)] = 0
    PostDays: Annotated[int, Field(ge=0, le=100_000)] = 0


class Primary(Json):
    """The events with which a person may enter."""

    CriteriaList: list[Criterion] = Field(min_length=1)
    ObservationWindow: Observed = Observed()
    PrimaryCriteriaLimit: Limit = Limit()


class Rule(Json):
    """An inclusion rule."""

    name: str = ""
    description: str = ""
    expression: Group


class Offset(Json):
    """So many days after start or end of the event."""

    DateField: Literal["StartDate", "EndDate"]
    Offset: Annotated[int, Field(ge=-100_000, le=100_000)]


class Leaving(Json):
    """When the person leaves; without, at the end of observation."""

    DateOffset: Offset | None = None


class Collapse(Json):
    """Entries of a person that touch, or lie at most so many days apart, are one."""

    CollapseType: Literal["ERA"] = "ERA"
    EraPad: Annotated[int, Field(ge=0, le=100_000)] = 0


class ConceptSet(Json):
    """A named set of concepts."""

    class Items(Json):
        """Its items."""

        items: list[ItemJson] = Field(min_length=1)

    id: int
    name: str = ""
    expression: Items


class Empty(Json):
    """Nothing may stand there."""


class Expression(Json):
    """A cohort definition."""

    Title: str = ""
    cdmVersionRange: str = ""
    ConceptSets: list[ConceptSet] = Field(default_factory=list)
    PrimaryCriteria: Primary
    AdditionalCriteria: Group | None = None
    QualifiedLimit: Limit = Limit()
    ExpressionLimit: Limit = Limit()
    InclusionRules: list[Rule] = Field(default_factory=list)
    EndStrategy: Leaving = Leaving()
    CensoringCriteria: list[Any] = Field(default_factory=list, max_length=0)
    CollapseSettings: Collapse | None = None
    CensorWindow: Empty = Empty()

    def criteria(self) -> Iterator[Criterion]:
        """Every criterion."""
        yield from self.PrimaryCriteria.CriteriaList
        for group in [self.AdditionalCriteria, *(rule.expression for rule in self.InclusionRules)]:
            if group is not None:
                yield from group.criteria()

    def domains(self) -> set[str]:
        """Which domains it asks."""
        return {criterion.asked[0] for criterion in self.criteria()}

    @model_validator(mode="after")
    def _says_what_is_one(self) -> "Expression":
        if self.ExpressionLimit.Type == "All" and self.CollapseSettings is None:
            raise ValueError("CollapseSettings is missing: it says which entries of a person are one")
        return self

    @model_validator(mode="after")
    def _sets_are_there(self) -> "Expression":
        known = [one.id for one in self.ConceptSets]
        for criterion in self.criteria():
            of = criterion.asked[1].CodesetId
            if of is not None and known.count(of) != 1:
                raise ValueError(f"CodesetId {of} is the id of {known.count(of)} ConceptSets")
        return self


def load(path: Path, shown: str, what: str) -> Expression:
    """Read a definition. Raises: MappingInvalid: names every part that is not supported."""
    given = read_json(path, shown, what)
    if isinstance(given, dict) and isinstance(given.get("expression"), dict):
        given = given["expression"]  # as WebAPI hands it out, with name and description around it
    if too_deep(given):
        raise MappingInvalid(f"{what}: {shown}: groups nest too deeply", f"nest at most {DEEPEST}")
    try:
        return Expression.model_validate(given)
    except ValidationError as error:
        raise refused(error, shown, what) from None
