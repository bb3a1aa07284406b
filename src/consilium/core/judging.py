"""How a final model is judged: on whom, by which figures, at which thresholds, and which groups of patients apart."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

if TYPE_CHECKING:
    from consilium.core.contract import Feature
    from consilium.core.study import Study

SEX = ("sex", "gender")
AGE = "age"
AGES = (18.0, 40.0, 65.0, 80.0)
"""Where bands of age end, in years."""
EDGES = 200
"""Thresholds are multiples of one by this: edges of the histograms from which counts follow."""
SPANS, SPANS_OF_GROUPS = (128, 200), (64, 100)
"""Spans of times and of scores: how many patients are in each two says how those of all hospitals compare.

Of a range of ten years a span of times is four weeks wide after two and a half years, and eight at the end; registries
publish months. What more spans would tell, and how much nearer figures would be: decision 0042. Spans of groups are two
of these each, so that a group's cells say of a patient nothing finer than those of all.
"""
PARTS = 20
"""Shares of patients are multiples of one by this: those of two that differ by less differ by a few patients."""


AS_IT_WAS = {"plan": "as it was"}
"""Context in which a plan is read: one that was made before shares went in steps says what it said then."""


def _part(value: float, info: ValidationInfo) -> float:
    found = max(round(value * PARTS), 1) / PARTS
    if info.context == AS_IT_WAS:
        return value
    if abs(value - found) > 1e-9:
        raise ValueError(f"must be a multiple of {1 / PARTS:g}: write {found:g}")
    return found


def _edge(value: float) -> float:
    if abs(value * EDGES - round(value * EDGES)) > 1e-6:
        raise ValueError(f"must be a multiple of {1 / EDGES:g}")
    return round(value * EDGES) / EDGES


Threshold = Annotated[float, Field(gt=0, lt=1), AfterValidator(_edge)]


class Part(BaseModel):
    """A part of the study file: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Group(Part):
    """Patients judged apart: by each category of a feature, or by bands of a number."""

    feature: str = Field(description="id of a feature of the contract")
    edges: tuple[float, ...] | None = Field(
        None, min_length=1, max_length=19, description="of a number: where bands end, in its unit, in rising order"
    )

    @model_validator(mode="after")
    def _edges_rise(self) -> "Group":
        if self.edges is not None and list(self.edges) != sorted(set(self.edges)):
            raise ValueError("`edges` must rise")
        return self


class Evaluation(Part):
    """Held-out patients at each site, chosen by a hash of the patient and this seed."""

    test_fraction: Annotated[float, Field(gt=0, le=1), AfterValidator(_part)] = Field(
        0.3,
        description="share of the patients that is held out, in steps of 0.05: below 0.9; 1 where nothing is trained",
    )
    split_seed: int = Field(1, ge=0, lt=2**31, description="another seed holds out other patients")
    folds: Literal[5, 10] | None = Field(
        None,
        description="cross-validation: patients are divided into so many parts, and beside the model of all patients "
        "one is trained without each part, by which this part is judged; `test_fraction` and `split_seed` say nothing "
        "then. None given: some patients are held out, and no model sees them",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the intervals of figures")
    figures: Literal["full", "headline"] = Field(
        "full",
        description="what the last round tells of the final model. full: calibration, thresholds, decision curve and "
        "groups of patients as well; headline: what every round tells",
    )
    threshold: Threshold = Field(
        0.5,
        description="score from which on the model says yes, for the confusion matrix; chosen before anybody is judged",
    )
    thresholds: tuple[Threshold, ...] = Field(
        tuple(round(0.05 * step, 2) for step in range(1, 20)),
        max_length=99,
        description="of the table and the decision curve",
    )
    groups: tuple[Group, ...] | None = Field(
        None,
        max_length=20,
        description="features by which patients are judged apart; none given: sex and age, where the contract has "
        "features of these names",
    )


def judged_on(study: "Study") -> dict[str, Any]:
    """What a hospital's held-out patients follow from: studies that say the same here hold out the same."""
    asked = study.evaluation
    return {
        "contract": study.contract.digest, "split_seed": asked.split_seed, "test_fraction": asked.test_fraction,
        "folds": asked.folds,
    }  # fmt: skip


def usual(features: Iterable["Feature"]) -> tuple[Group, ...]:
    """Groups by sex and age, where there are features of these names."""
    found = []
    for feature in features:
        name = feature.id.casefold()
        if name in SEX and feature.type == "category":
            found.append(Group(feature=feature.id))
        elif name == AGE and feature.range is not None and feature.unit == "a":
            low, high = feature.range
            if inside := tuple(edge for edge in AGES if low < edge < high):
                found.append(Group(feature=feature.id, edges=inside))
    return tuple(found)
