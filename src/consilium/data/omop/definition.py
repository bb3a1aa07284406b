"""What a mapping says of an OMOP database: which persons, from which day on, and which columns are made of them."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from consilium.core.parts import Identifier
from consilium.data.part import Part

PERSON = "person_id"
"""The column that is always there: the key of the patient."""
FACTS = ("age", "gender", "race", "ethnicity", "days_before", "days_after")
EVENTS = (
    "condition", "condition_era", "drug", "drug_era", "procedure", "device", "measurement", "observation", "visit",
    "death",
)  # fmt: skip
VALUED = ("measurement", "observation")
Family = Literal[
    "age", "gender", "race", "ethnicity", "days_before", "days_after", "condition", "condition_era", "drug", "drug_era",
    "procedure", "device", "measurement", "observation", "visit", "death", "charlson", "cohort",
]  # fmt: skip
Take = Literal["any", "count", "first", "last", "mean", "min", "max"]
Schema = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=63)]
ConceptId = Annotated[int, Field(gt=0, lt=1 << 31)]
Days = Annotated[int, Field(ge=-100_000, le=100_000)]


class CohortPart(Part):
    """Which persons, and the day from which they count: `query`, or `circe`; one entry per person."""

    query: str | None = Field(None, description="one SELECT that gives `person_id` and `cohort_start_date`")
    circe: str | None = Field(None, description="file of a cohort definition of ATLAS (JSON), relative to the mapping")
    entry: Literal["first", "last"] | None = Field(None, description="which one, where a person has several entries")

    @model_validator(mode="after")
    def _one_of_both(self) -> "CohortPart":
        if (self.query is None) == (self.circe is None):
            raise ValueError("give `query` (one SELECT) or `circe` (a file of ATLAS), and not both")
        return self


class ColumnPart(Part):
    """One column, made of a person's records in a window of days around the index day."""

    family: Family = Field(description="which records, or which fact of the person")
    concepts: tuple[ConceptId, ...] = Field((), description="standard concepts; each with its descendants")
    exclude: tuple[ConceptId, ...] = Field((), description="concepts that are left out, with their descendants")
    descendants: bool = Field(True, description="whether descendants count (`concept_ancestor`)")
    concept_set: str | None = Field(None, description="file of a concept set of ATLAS (JSON), in place of `concepts`")
    window: tuple[Days | None, Days | None] | None = Field(
        None, description="first and last day, from the index day on, which is 0; null: no limit"
    )
    take: Take = Field("any", description="what is made of the records: any is 1 or 0; the others are of their values")
    value: Literal["number", "concept"] = Field("number", description="which value: the number, or the concept's id")
    unit: str | None = Field(None, description="UCUM unit of this column; values in other units are converted to it")
    units: dict[Annotated[str, BeforeValidator(str)], str] = Field(
        {}, description="unit_concept_id: its UCUM unit, or `missing`; for those that the vocabulary does not tell"
    )
    analyte: str | None = Field(None, description="substance, to convert between mass and amount")
    followed: bool = Field(False, description="0 only where a period of observation covers the window; else missing")
    none_here: bool = Field(
        False,
        description="take any or count, charlson: a person has looked: this database would have such records, and has "
        "none; refused otherwise, for nobody knows whether 0 is true",
    )
    cohort: CohortPart | None = Field(None, description="family cohort: whose entries are the records")

    @property
    def numeric(self) -> bool:
        """Whether the column holds numbers of records, and so has a unit of its own."""
        return self.family in VALUED and self.take not in ("any", "count") and self.value == "number"

    @property
    def gives(self) -> str | None:
        """UCUM unit of what stands in the column, or None where codes stand in it."""
        if self.family in FACTS:
            return {"age": "a", "days_before": "d", "days_after": "d"}.get(self.family)
        return self.unit if self.numeric else None if self.take not in ("any", "count") else "1"

    @model_validator(mode="after")
    def _fits(self) -> "ColumnPart":
        for allowed, names in self._rules():
            for name in names:
                if not allowed and getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"`{name}` says nothing for family {self.family}, take {self.take}: remove it")
        if (self.family == "cohort") != (self.cohort is not None):
            raise ValueError("`cohort` goes with family cohort, which needs it")
        if self.family not in FACTS:
            self._windowed()
        if self.family in EVENTS and self.family not in ("visit", "death") and not (self.concepts or self.concept_set):
            raise ValueError(f"`concepts` are needed for family {self.family}, or `concept_set`")
        if self.concepts and self.concept_set:
            raise ValueError("`concepts` or `concept_set`, and not both")
        if self.numeric and self.unit is None:
            raise ValueError("`unit` is needed: the UCUM unit of this column")
        if self.take in ("mean", "min", "max") and self.value == "concept":
            raise ValueError("`take` of concepts is first or last: they have no order")
        return self

    def _rules(self) -> list[tuple[bool, tuple[str, ...]]]:
        events = self.family in EVENTS and self.family != "death"
        return [
            (events, ("concepts", "exclude", "descendants", "concept_set")),
            (events and not self.concept_set, ("exclude", "descendants")),
            (self.family not in FACTS, ("window",)),
            (self.family not in FACTS and self.family != "charlson", ("take",)),
            (self.family in VALUED or self.take in ("any", "count"), ("take",)),
            (self.family in VALUED and self.take not in ("any", "count"), ("value",)),
            (self.numeric, ("unit", "units", "analyte")),
            (self.family in (*EVENTS, "cohort") and self.take == "any", ("followed",)),
            (self.family in (*EVENTS, "charlson") and self.take in ("any", "count"), ("none_here",)),
        ]

    def _windowed(self) -> None:
        if self.window is None:
            raise ValueError("`window` is needed: the first and the last day, such as [-365, 0]; null for no limit")
        first, last = self.window
        if first is not None and last is not None and first > last:
            raise ValueError("`window` ends before it begins")
        if self.followed and last is None:
            raise ValueError("`followed` needs a window that ends")


class OmopPart(Part):
    """The database, the persons and the columns."""

    version: Literal["5.3", "5.4"] = Field(description="of the CDM, in quotes")
    cdm_schema: Schema | None = Field(
        None, description="schema of the clinical tables; main (DuckDB), public otherwise"
    )
    vocabulary_schema: Schema | None = Field(None, description="schema of the vocabulary, where it is another one")
    time_limit_s: float = Field(600.0, gt=0, le=86_400, description="seconds after which reading is given up")
    cohort: CohortPart = Field(description="which persons")
    columns: dict[Identifier, ColumnPart] = Field(min_length=1, description="what is made of them, by name")

    @model_validator(mode="after")
    def _key_is_kept(self) -> "OmopPart":
        if PERSON in self.columns:
            raise ValueError(f"`columns` has {PERSON}, which is always there: take another name")
        return self
