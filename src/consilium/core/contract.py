"""The contract: what the data must mean, column by column, or record by record around an index moment."""

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    field_validator,
    model_serializer,
    model_validator,
)

from consilium.core.ids import Digest, canonical, digest
from consilium.core.parts import Identifier, Json, Part, Shown, Slug, Text
from consilium.core.records import CHOSEN, COUNTED, Aggregate, Coded, Exclusion, Index, Recorded, Window, seconds
from consilium.core.timed import TIMED

TWO_VALUED = ("binary", "boolean", "bool", "flag")
"""What people write for the type of a feature with two values; of a label, `binary` is one."""


class Feature(Part):
    """One input: its meaning, type, unit (UCUM) and range, or its categories."""

    id: Identifier = Field(description="its name, as mappings use it")
    meaning: Text = Field(description="what it means, for the people who map it")
    type: Literal["number", "category"] = Field(description="what its values are")
    unit: Shown | None = Field(None, description="UCUM unit of a number; '1' for a pure number")
    range: tuple[float, float] | None = Field(None, description="smallest and largest plausible value, in `unit`")
    typical: tuple[float, float] | None = Field(
        None,
        description="what most patients lie between, by public knowledge such as a laboratory's reference range: "
        "numbers are scaled so that it becomes [-1, 1]; none given: `range` does",
    )
    categories: dict[Identifier, Shown] | None = Field(
        None,
        description="code: meaning. The category whose code sorts first is the reference, with which others are "
        "compared: a plan keeps no order of lines",
    )
    missing: Literal["allowed", "forbidden"] = Field(
        "allowed", description="whether a patient without it may take part"
    )
    resolution: float | None = Field(
        None, gt=0, description="version 2: what numbers are rounded to, in `unit`, after conversion and aggregation"
    )
    analyte: Shown | None = Field(None, description="version 2: substance, to convert between mass and amount")
    codes: tuple[Coded, ...] = Field((), description="version 2: codes of records that mean it")
    window: Window | None = Field(
        None, description="version 2: first and last moment of records, from the index on, such as [-6h, 24h]"
    )
    aggregate: Aggregate | None = Field(
        None,
        description="version 2: what is made of several records: first, last, min, max, mean; count and any (1 or 0) "
        "look at no value; a category takes the first or the last",
    )
    recorded: Recorded | None = Field(
        None,
        description="version 2: as what its records are recorded; none given: as observations, such as laboratory "
        "values. Of a condition, a procedure or a drug the aggregate is any: each hospital counts them in its own way",
    )
    values: dict[Identifier, tuple[Coded, ...]] = Field(
        {}, description="version 2: of a category made of records: by which codes, as their values, each of "
        "`categories` is recorded; hospitals with codes of their own say which of theirs mean it"
    )  # fmt: skip

    @field_validator("type", mode="before")
    @classmethod
    def _of_two_values(cls, given: Any) -> Any:
        if given in TWO_VALUED:
            raise ValueError(
                "must be `number` or `category`; a feature with two values is a category with two `categories`: "
                '{type: category, categories: {"no": "no", "yes": "yes"}}'
            )
        return given

    @model_validator(mode="after")
    def _fits_its_type(self) -> "Feature":
        if self.type == "number":
            if self.unit is None or self.range is None or self.categories is not None:
                raise ValueError("a number needs `unit` and `range` and has no `categories`")
            if not self.range[0] < self.range[1]:
                raise ValueError("`range` must be [smaller, larger]")
            if self.typical is not None and not self.typical[0] < self.typical[1]:
                raise ValueError("`typical` must be [smaller, larger]")
            self._records()
        elif self.resolution or self.analyte:
            raise ValueError("`resolution` and `analyte` belong to a number")
        elif self.categories is None or len(self.categories) < 2 or self.unit or self.range or self.typical:
            raise ValueError("a category needs at least two `categories` and has no `unit`, `range` or `typical`")
        else:
            self._records()
        return self

    def _records(self) -> None:
        if (self.window is None) != (self.aggregate is None) or (self.window is not None) > bool(self.codes):
            raise ValueError("`codes`, `window` and `aggregate` go together")
        if self.window is not None and None not in self.window:
            first, last = (seconds(str(end)) for end in self.window)
            if first > last:
                raise ValueError("`window` ends before it begins")
        if self.recorded is not None and self.window is None:
            raise ValueError("`recorded` belongs to `codes`, `window` and `aggregate`")
        if self.recorded not in (None, "observation") and self.aggregate != "any":
            raise ValueError(f"`aggregate` of what is recorded as {self.recorded} is any")
        if self.type == "category":
            self._coded()
        elif self.values:
            raise ValueError("`values` belong to a category")
        elif self.aggregate in COUNTED and self.unit != "1":
            raise ValueError("`unit` of what is counted is '1'")

    def _coded(self) -> None:
        if bool(self.values) != (self.window is not None):
            raise ValueError("a category made of records needs `codes`, `values`, `window` and `aggregate`")
        if self.aggregate is not None and self.aggregate not in CHOSEN:
            raise ValueError(f"`aggregate` of a category is {' or '.join(CHOSEN)}")
        if strange := sorted(set(self.values) - set(self.categories or {})):
            raise ValueError(f"`values` names {strange[0]}, which is none of `categories`")
        if lacking := sorted(set(self.categories or {}) - set(self.values)) if self.values else []:
            raise ValueError(f"`values` does not say by which codes {lacking[0]} is recorded; [] if by none")
        coded = Counter((one.system, one.code) for several in self.values.values() for one in several)
        if double := sorted(f"{code} ({system})" for (system, code), count in coded.items() if count > 1):
            raise ValueError(f"`values` has {double[0]} twice: one code means one category")


UNKNOWN = 1e4
"""Magnitude of a label whose contract gives no range."""
APART = 5.0
"""So many halves of the label's range are predictions and outcomes apart at most: predictions may lie outside of it."""


class Label(Part):
    """What the model predicts."""

    id: Identifier = Field(description="its name")
    meaning: Text = Field(description="what it means, for the people who map it")
    type: Literal["binary", "number", "count", "time-to-event"] = Field(
        description="what its values are; binary: 0 or 1; time-to-event: for how long a patient was observed, and "
        "whether that ended with the event"
    )
    unit: Shown | None = Field(None, description="UCUM unit of a number, or of the time")
    range: tuple[float, float] | None = Field(
        None, description="smallest and largest plausible value, in `unit`; of a time-to-event, of the time"
    )
    maturity_days: int | None = Field(
        None,
        ge=1,
        le=36_500,
        description="version 2: days after the index moment until which the label is not known for sure: patients "
        "whose index is younger on the day of the extract take no part",
    )

    @property
    def scale(self) -> tuple[float, float]:
        """The middle of its range, and half of its width; of a count without a range 0 and `UNKNOWN`."""
        if self.range is None:
            return 0.0, UNKNOWN
        return (self.range[0] + self.range[1]) / 2, (self.range[1] - self.range[0]) / 2

    @property
    def most_deviance(self) -> float:
        """Of a count, that of a patient with the largest label and a rate of 1e-12."""
        return max(UNKNOWN, 100 * max(map(abs, self.range))) if self.range else 100 * UNKNOWN

    @model_validator(mode="after")
    def _fits_its_type(self) -> "Label":
        if self.type == "number" and (self.unit is None or self.range is None):
            raise ValueError("a label of type number needs `unit` and `range`")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError("`range` must be [smaller, larger]")
        if self.type == TIMED and (self.unit is None or self.range is None or self.range[0] < 0):
            raise ValueError(
                f"a label of type {TIMED} needs `unit` and `range` of the time, which begins at 0 or later"
            )
        return self


NEWER = ("resolution", "analyte", "codes", "window", "aggregate", "recorded", "values")
"""What features have since version 2 of the contract."""


MOST_VALUES = 1 << 20
"""Of an image, as the model sees it."""


class Image(Part):
    """One image per patient, whose values are inputs of the model: `ID_0`, `ID_1`, row by row."""

    id: Identifier = Field("pixel", description="its name, with which those of its values begin")
    meaning: Text = Field(description="what it shows, for the people who map it")
    modality: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z]{2,16}$")], ...] = Field(
        min_length=1, description="DICOM modalities, such as [CR, DX]; images of others are passed over"
    )
    rows: int = Field(ge=1, le=10_000, description="height in pixels, of what the model sees")
    columns: int = Field(ge=1, le=10_000, description="width in pixels")
    resize: Literal["no", "area", "crop"] = Field(
        "no",
        description="whether a larger image is made smaller, each pixel the mean over its area; area: height and "
        "width each as far as it takes; crop: both alike, of the largest part in the middle that has this form",
    )
    values: Literal["rescaled", "fraction"] = Field(
        "rescaled",
        description="rescaled: stored values by Rescale Slope and Intercept, such as Hounsfield units; fraction: 0 to "
        "1 of what the bits can store, so that 10, 12 and 16 bits agree",
    )
    unit: Shown = Field("1", description="UCUM unit of the values; '1' for a pure number")
    range: tuple[float, float] = Field(description="smallest and largest plausible value")
    view: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z]{1,16}$")], ...] = Field(
        (), description="View Position, such as [PA, AP]; images of others are passed over; none given: any"
    )
    orientation: tuple[Literal["L", "R"], Literal["H", "F"]] | None = Field(
        None, description="Patient Orientation of rows and columns, such as [L, F]; a mirrored image is turned back"
    )
    spacing_mm: tuple[float, float] | None = Field(
        None, description="smallest and largest distance of pixels before resizing, alike in both directions"
    )

    @model_validator(mode="after")
    def _has_room(self) -> "Image":
        if self.size > MOST_VALUES:
            raise ValueError(f"`rows` x `columns` is {self.size}, more than {MOST_VALUES} values")
        if not self.range[0] < self.range[1]:
            raise ValueError("`range` must be [smaller, larger]")
        if self.spacing_mm is not None and not 0 <= self.spacing_mm[0] <= self.spacing_mm[1] > 0:
            raise ValueError("`spacing_mm` must be [smaller, larger], of distances in millimetres")
        return self

    @property
    def size(self) -> int:
        """How many values it has."""
        return self.rows * self.columns

    @property
    def names(self) -> list[str]:
        """Names of its values."""
        return [f"{self.id}_{number}" for number in range(self.size)]

    @property
    def feature(self) -> Feature:
        """What each of its values is; and by its `id` the whole."""
        return Feature(
            id=self.id, meaning=self.meaning, type="number", unit=self.unit, range=self.range, missing="forbidden"
        )


class Contract(Part):
    """What the data must mean: of columns of a table (version 1), and of records around an index moment (version 2)."""

    id: Slug = Field(description="its name, by which a hospital finds its mapping")
    version: Literal[1, 2] = Field(1, description="version of this part of the format")
    index: Index | None = Field(None, description="version 2: the moment from which windows count")
    exclude: tuple[Exclusion, ...] = Field((), max_length=100, description="version 2: who takes no part")
    features: tuple[Feature, ...] = Field(
        (), max_length=10_000, description="inputs of the model; at least one, unless there is an `image`"
    )
    image: Image | None = Field(None, description="an image per patient; its values are inputs beside `features`")
    label: Label = Field(description="what the model predicts")

    @model_validator(mode="before")
    @classmethod
    def _values_are_no_features(cls, given: Any) -> Any:
        """Leave out the image's values, which plans of before have among the features."""
        if not isinstance(given, dict) or given.get("image") is None or not given.get("features"):
            return given
        names = Image.model_validate(given["image"]).names
        last = [one.get("id") if isinstance(one, dict) else None for one in given["features"][-len(names) :]]
        return {**given, "features": given["features"][: -len(names)]} if last == names else given

    @model_validator(mode="after")
    def _has_features(self) -> "Contract":
        if not self.features and self.image is None:
            raise ValueError("`features` are needed, or an `image`")
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Contract":
        names = [feature.id for feature in self.inputs] + [self.label.id]
        if self.image is not None:
            names += set(names) & set(self.image.names)
        double = sorted(name for name, count in Counter(names).items() if count > 1)
        if double:
            raise ValueError(f"named twice: {', '.join(double)}")
        return self

    @model_validator(mode="after")
    def _fits_its_version(self) -> "Contract":
        newer = [name for name in ("index", "exclude") if getattr(self, name)]
        newer += [f"features.{one.id}.{name}" for one in self.features for name in NEWER if getattr(one, name)]
        newer += ["label.maturity_days"] if self.label.maturity_days else []
        if self.version == 1 and newer:
            raise ValueError(f"`version` 2 is needed for {', '.join(newer)}")
        if self.index is None and (self.label.maturity_days or any(one.window for one in self.features)):
            raise ValueError("`index` is needed: windows and maturity count from it")
        known = {feature.id: feature for feature in self.features}
        for one in self.exclude:
            feature = known.get(one.feature)
            if feature is None:
                raise ValueError(f"`exclude` names {one.feature}, which is no feature of this contract")
            if (feature.type == "category") != bool(one.among) or set(one.among) - set(feature.categories or {}):
                raise ValueError(f"`exclude` of {one.feature}: `among` names its categories, and numbers have none")
        return self

    @model_serializer(mode="wrap")
    def _of_its_version(self, handler: SerializerFunctionWrapHandler) -> Json:
        """Version 1 is written as ever, and what came later only where it is used: a plan of before keeps its hash."""
        told: Json = handler(self)
        if self.image is None:
            told.pop("image", None)
        for one in told.get("features", ()):
            for name in ("values", "recorded"):
                if not one.get(name):
                    one.pop(name, None)
        if self.version == 1:
            told = {key: value for key, value in told.items() if key not in ("index", "exclude")}
            if "features" in told:  # not where defaults are left out, and there is an image alone
                told["features"] = [
                    {key: value for key, value in one.items() if key not in NEWER} for one in told["features"]
                ]
            told["label"] = {key: value for key, value in told["label"].items() if key != "maturity_days"}
        return told

    @property
    def inputs(self) -> tuple[Feature, ...]:
        """What the model sees of a patient: the features, and for all values of an image one that stands for them."""
        return self.features if self.image is None else (*self.features, self.image.feature)

    @property
    def size(self) -> int:
        """How many values that is."""
        return len(self.features) + (0 if self.image is None else self.image.size)

    @property
    def references(self) -> dict[str, str]:
        """By feature, the category with which the others are compared: the first of a plan, whose keys are sorted."""
        return {one.id: min(one.categories) for one in self.features if one.categories is not None}

    @property
    def digest(self) -> Digest:
        """Its hash: what a hospital attests is bound to it."""
        return digest(canonical(self.model_dump(mode="json")))
