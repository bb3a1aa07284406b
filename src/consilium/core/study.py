"""The study: purpose, contract, model, strategy, privacy, rounds; and the plan, its immutable form named by a hash."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
    model_validator,
)

from consilium.core import timed
from consilium.core.bounded import unfit
from consilium.core.errors import StudyInvalid
from consilium.core.gate import Gate
from consilium.core.ids import DIGEST, SLUG, Digest, canonical, digest
from consilium.core.judging import Evaluation, Group, usual
from consilium.core.records import COUNTED, Aggregate, Coded, Exclusion, Index, Window, seconds
from consilium.core.round import threshold
from consilium.core.timed import CELL, COMMON, COX, TIES, TIMED

Slug = Annotated[str, StringConstraints(pattern=SLUG)]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,62}$")]
STUDY_NAME = r"^[a-z0-9][a-z0-9-]{0,49}$"
StudyName = Annotated[str, StringConstraints(pattern=STUDY_NAME)]
"""A slug that leaves room for the number of a run: `NAME-1` is a name, too."""
SHOWN = r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]*$"
"""What is shown to people who decide: no control characters, which would move the cursor or the order of words."""
Shown = Annotated[str, StringConstraints(pattern=SHOWN)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4000, strip_whitespace=True, pattern=SHOWN)]
Json = dict[str, Any]


class Part(BaseModel):
    """A part of the study file: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Purpose(Part):
    """What the model is for and who asks; a hospital's policy decides by `code`."""

    code: Literal["research", "quality", "public-health", "education"] = Field(description="kind of purpose")
    text: Text = Field(description="what the model is for, in one or two sentences")
    requester: Text = Field(description="who asks: name and institution")
    expires: date | None = Field(None, description="last day on which the study may run")


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
    categories: dict[Identifier, Shown] | None = Field(None, description="code: meaning")
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
        "look at no value",
    )

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
        elif self.resolution or self.analyte or self.codes or self.window or self.aggregate:
            raise ValueError("`resolution`, `analyte`, `codes`, `window` and `aggregate` belong to a number")
        elif self.categories is None or len(self.categories) < 2 or self.unit or self.range or self.typical:
            raise ValueError("a category needs at least two `categories` and has no `unit`, `range` or `typical`")
        return self

    def _records(self) -> None:
        if (self.window is None) != (self.aggregate is None) or (self.window is not None) > bool(self.codes):
            raise ValueError("`codes`, `window` and `aggregate` go together")
        if self.window is not None and None not in self.window:
            first, last = (seconds(str(end)) for end in self.window)
            if first > last:
                raise ValueError("`window` ends before it begins")
        if self.aggregate in COUNTED and self.unit != "1":
            raise ValueError("`unit` of what is counted is '1'")


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


NEWER = ("resolution", "analyte", "codes", "window", "aggregate")
"""What features have since version 2 of the contract."""


class Image(Part):
    """One image per patient, whose values are features of their own: `ID_0`, `ID_1`, row by row."""

    id: Identifier = Field("pixel", description="with which the names of its features begin")
    meaning: Text = Field(description="what it shows, for the people who map it")
    modality: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z]{2,16}$")], ...] = Field(
        min_length=1, description="DICOM modalities, such as [CR, DX]; images of others are passed over"
    )
    rows: int = Field(ge=1, le=10_000, description="height in pixels, of what the model sees")
    columns: int = Field(ge=1, le=10_000, description="width in pixels")
    resize: Literal["no", "area"] = Field(
        "no", description="whether a larger image is made smaller: each pixel the mean over its area"
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
        if self.rows * self.columns > 10_000:
            raise ValueError(f"`rows` x `columns` is {self.rows * self.columns}, more than 10000 values")
        if not self.range[0] < self.range[1]:
            raise ValueError("`range` must be [smaller, larger]")
        return self

    @property
    def features(self) -> tuple[Feature, ...]:
        """Its values, as features."""
        return tuple(
            Feature(
                id=f"{self.id}_{number}", meaning=f"{self.meaning}: row {number // self.columns + 1}, "
                f"column {number % self.columns + 1}", type="number", unit=self.unit, range=self.range,
                missing="forbidden",
            )
            for number in range(self.rows * self.columns)
        )  # fmt: skip


class Contract(Part):
    """What the data must mean: of columns of a table (version 1), and of records around an index moment (version 2)."""

    id: Slug = Field(description="its name, by which a hospital finds its mapping")
    version: Literal[1, 2] = Field(1, description="version of this part of the format")
    index: Index | None = Field(None, description="version 2: the moment from which windows count")
    exclude: tuple[Exclusion, ...] = Field((), max_length=100, description="version 2: who takes no part")
    features: tuple[Feature, ...] = Field(
        (), max_length=10_000, description="inputs of the model; at least one, unless there is an `image`"
    )
    image: Image | None = Field(None, description="an image per patient; its values are added to `features`")
    label: Label = Field(description="what the model predicts")

    @model_validator(mode="before")
    @classmethod
    def _values_are_features(cls, given: Any) -> Any:
        """Add the image's values; a plan has them already."""
        if not isinstance(given, dict) or given.get("image") is None:
            return given
        image = Image.model_validate(given["image"])
        made = [feature.model_dump(mode="json") for feature in image.features]
        known = list(given.get("features") or ())
        if [one.get("id") if isinstance(one, dict) else None for one in known[-len(made) :]] == [m["id"] for m in made]:
            known = known[: -len(made)]
        return {**given, "features": [*known, *made]}

    @model_validator(mode="after")
    def _has_features(self) -> "Contract":
        if not self.features:
            raise ValueError("`features` are needed, or an `image`")
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Contract":
        names = [feature.id for feature in self.features] + [self.label.id]
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
        """Version 1 is written as ever: a plan of before keeps its hash."""
        told: Json = handler(self)
        if self.image is None:
            told.pop("image", None)
        if self.version == 1:
            told = {key: value for key, value in told.items() if key not in ("index", "exclude")}
            told["features"] = [
                {key: value for key, value in one.items() if key not in NEWER} for one in told["features"]
            ]
            told["label"] = {key: value for key, value in told["label"].items() if key != "maturity_days"}
        return told

    @property
    def digest(self) -> Digest:
        """Its hash: what a hospital attests is bound to it."""
        return digest(canonical(self.model_dump(mode="json")))


class Model(Part):
    """The kind of model; `torch` takes an architecture of the catalogue or of a wheel named by its digest."""

    kind: Slug = Field(description="linear, logistic, poisson, cox, torch, or a plug-in")
    l2: float = Field(0.0, ge=0, description="L2 penalty on the weights, not on the intercept")
    architecture: Shown | None = Field(None, description="name in the catalogue, or in the wheel")
    options: Json = Field(
        default_factory=dict,
        description="options of the architecture; of cox: `ties`, efron (the default) or breslow, which says how "
        "events at one time are counted",
    )
    wheel: Annotated[str, StringConstraints(pattern=DIGEST)] | None = Field(
        None, description="digest of a wheel with the study's own code; each site must approve it"
    )

    start: Literal["seed", "given"] = Field(
        "seed",
        description="seed: the initial weights follow from `training.seed`, and each site makes and compares them; "
        "given: they were made elsewhere, and each site must accept that by name",
    )
    initial: Annotated[str, StringConstraints(pattern=DIGEST)] | None = Field(
        None, description="digest of the initial weights (safetensors); `study submit` fills it in"
    )

    @model_validator(mode="after")
    def _architecture_for_torch(self) -> "Model":
        if (self.kind == "torch") != (self.architecture is not None):
            raise ValueError("`architecture` belongs to kind torch, and kind torch needs one")
        if self.wheel is not None and self.kind != "torch":
            raise ValueError("`wheel` belongs to kind torch")
        return self

    @model_validator(mode="after")
    def _ties_of_cox(self) -> "Model":
        if self.kind == COX and (set(self.options) - {"ties"} or self.ties not in TIES):
            raise ValueError(f"`options` of kind {COX} are: `ties`, one of {', '.join(TIES)}")
        return self

    @property
    def ties(self) -> str:
        """How a Cox regression counts events at one time."""
        return str(self.options.get("ties", TIES[0]))


SINGLE = ("median", "trimmed-mean", "krum", "geometric-median")
"""Strategies that look at single updates."""
EXACT = ("newton", COMMON)
"""Strategies by which hospitals add up sums over patients that fit a regression, and not changes of a model."""
GROUPED = ("ifca",)
"""Strategies that add up apart what groups of sites send: a group may be smaller than `privacy.min_sites`."""


class Strategy(Part):
    """The federated algorithm and its options."""

    name: Slug = Field(
        "fedavg",
        description="fedavg, fedprox, fedavgm, fedadagrad, fedadam, fedyogi, fednova, qfedavg, afl, scaffold, "
        "feddyn, fedper, fedrep, fedbn, ditto, ifca; newton, which fits a regression exactly; webdisco, a Cox "
        "regression with one baseline hazard for all hospitals; under the recipe `plain` median, trimmed-mean, krum, "
        "geometric-median; or a plug-in",
    )
    options: Json = Field(default_factory=dict, description="options of the strategy")


class Training(Part):
    """Local training within one round."""

    epochs: int = Field(1, ge=1, le=10_000, description="passes over the site's training patients")
    batch_size: int = Field(0, ge=0, description="patients per step; 0 takes all")
    learning_rate: float = Field(0.1, gt=0, description="step size")
    seed: int = Field(1, ge=0, lt=2**31, description="seed of the initial model and of the order of patients")


class Privacy(Part):
    """How updates are protected. `plain` protects nothing: each site must sign that it accepts it."""

    recipe: Literal["secure_sum", "plain"] = Field(
        "secure_sum",
        description="secure_sum: the coordinator learns sums over at least `min_sites` sites and nothing of one; "
        "plain: it sees each site's update",
    )
    min_sites: int = Field(3, ge=3, description="fewest sites in a sum that is opened; a site may ask for more")
    clip: float = Field(
        8.0, gt=0, le=1e6, description="largest change of one parameter in a round; what is beyond is cut, and counted"
    )
    most_clipped: float = Field(0.01, ge=0, le=1, description="share of cut values above which the run fails")
    most_patients: int = Field(100_000, ge=1, le=10**9, description="most patients that one site may bring")
    bits: Literal[16, 32, 64] | None = Field(
        None,
        description="of the integers that updates become; none given: as many as the model's values have, and 32 "
        "under `epsilon`",
    )
    epsilon: float | None = Field(
        None, gt=0, le=100, description="most that all rounds together may say of one patient; none given: no noise"
    )
    delta: float = Field(1e-5, gt=0, lt=1, description="chance of more than `epsilon`; below 1 over all patients")
    unit: Literal["patient", "hospital"] = Field(
        "patient",
        description="of whom at most `epsilon` is said: of each patient, or of each hospital as a whole, whose change "
        "of the model is then shortened to `clip_norm`, whatever it consists of",
    )
    noise: Literal["shared", "at_each_hospital"] = Field(
        "shared",
        description="who adds it, under `epsilon`. shared: all hospitals, in shares within the secure sum, and each "
        "round is one step; at_each_hospital: each adds all of it before anything leaves, and trusts nobody for it: "
        "with any recipe, any strategy and several steps per round, but the model gets more noise",
    )
    clip_norm: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="largest Euclidean norm of one patient's gradient, or of one hospital's change of the model; a "
        "longer one is shortened",
    )
    clip_quantile: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="for `unit: hospital`: `clip_norm` moves from round to round until this share of hospitals is not "
        "shortened; none given: it stays",
    )
    sampling: float = Field(
        1.0, gt=0, le=1, description="chance with which each patient is drawn in each step; who was, stays secret"
    )
    expected_patients: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="training patients of an average hospital, by a public estimate: under "
        "`epsilon` sums are divided by it and by no count",
    )
    colluding: int = Field(
        1,
        ge=0,
        description="hospitals that may tell the coordinator what they added to shared noise: without theirs there is "
        "enough",
    )
    noise_multiplier: float | None = Field(
        None,
        ge=0.2,
        le=1e6,
        description="noise as a multiple of `clip_norm`; `study submit` fills it in: the least that gives `epsilon`",
    )
    all_honest: float | None = Field(
        None,
        gt=0,
        description="epsilon while every hospital of a quorum adds its share of noise; `study submit` fills it in",
    )

    @property
    def shared(self) -> bool:
        """Whether hospitals add noise in shares, within the secure sum."""
        return self.epsilon is not None and self.noise == "shared"

    @property
    def whole(self) -> bool:
        """Whether it is a hospital as a whole of which at most `epsilon` is said."""
        return self.epsilon is not None and self.unit == "hospital"

    @property
    def local(self) -> bool:
        """Whether each hospital adds all the noise itself, while it trains."""
        return self.epsilon is not None and self.noise == "at_each_hospital"

    @property
    def weight(self) -> float | None:
        """By what each hospital's part is weighted under `epsilon`, from the plan; None: by its training patients."""
        if self.epsilon is None:
            return None
        if self.whole:
            return 1.0
        return self.expected_batch if self.shared else float(self.expected_patients or 1)

    @property
    def expected_batch(self) -> float:
        """Patients that an average hospital draws in a round, by the public estimate."""
        assert self.expected_patients is not None
        return self.sampling * self.expected_patients


class Prepare(Part):
    """What is learned of the training patients of all hospitals, before any training, in one round of sums."""

    numbers: Literal["by_range", "standardise"] = Field(
        "by_range",
        description="by_range: numbers are scaled by the contract's ranges, and nothing is learned; standardise: by "
        "their mean and standard deviation",
    )
    missing: Literal["flag", "impute"] = Field(
        "flag",
        description="flag: 0 after scaling, with a column of its own that says so; impute: the mean of a number, the "
        "most frequent category, without a column",
    )
    bins: dict[Identifier, Annotated[int, Field(ge=2, le=20)]] = Field(
        default_factory=dict, description="number: into how many bins of equally many patients it is cut, by quantiles"
    )
    rare_below: int = Field(
        0, ge=0, description="categories that fewer patients have, all hospitals together, count as the first one"
    )
    hide_below: int = Field(
        5,
        ge=1,
        description="no hospital tells a count of fewer patients: it adds them to its largest count, or leaves them "
        "out; 1 hides nothing, and each hospital's policy must allow it",
    )

    @property
    def learns(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.steps)

    @property
    def steps(self) -> list[str]:
        """What is done with inputs, in words."""
        told = []
        if self.numbers == "standardise":
            told.append("numbers are scaled by the mean and standard deviation of all training patients")
        if self.missing == "impute":
            told.append("a missing value is filled in by the mean, or the most frequent category, of all")
        if self.bins:
            cut = ", ".join(f"{name} ({bins})" for name, bins in sorted(self.bins.items()))
            told.append(f"these numbers are cut into so many bins by quantiles of all: {cut}")
        if self.rare_below:
            told.append(f"categories of fewer than {self.rare_below} patients are joined with the first one")
        return told


class Deadlines(Part):
    """How long a phase waits, in seconds."""

    round_s: float = Field(3600.0, gt=0, le=30 * 86400, description="one round, in seconds")


class Study(Part):
    """One study file, whole."""

    consilium: Literal[1] = Field(description="version of this format")
    name: StudyName = Field(description="a-z, 0-9 and hyphens, at most 50; once at a coordinator")
    title: Text = Field(description="one line for people")
    purpose: Purpose = Field(description="what for, and who asks")
    contract: Contract = Field(description="what the data must mean")
    model: Model = Field(description="what is trained")
    prepare: Prepare | None = Field(None, description="what is learned of all patients before training; none: nothing")
    strategy: Strategy = Field(Strategy(), description="how updates become a common model")
    training: Training = Field(Training(), description="what a hospital does in one round")
    privacy: Privacy = Field(Privacy(), description="how updates are protected")
    rounds: int = Field(
        ge=0,
        le=100_000,
        description="rounds of training; one more judges the final model. 0: none is trained, and a model "
        "that was made elsewhere is judged",
    )
    quorum: int = Field(ge=1, description="answers that let a round close at its deadline; with fewer the run pauses")
    min_patients: int = Field(10, ge=1, description="a site with fewer training patients takes no part")
    deadlines: Deadlines = Field(Deadlines(), description="how long a round waits")
    evaluation: Evaluation = Field(Evaluation(), description="on whom the model is judged")
    gate: Gate | None = Field(
        None,
        description="a check that each hospital's data pass before a round, attested under its key; none given: no "
        "check is asked for",
    )
    sites: tuple[Slug, ...] = Field((), description="invited sites; empty invites all")

    @property
    def apart(self) -> tuple[Group, ...]:
        """By what patients are judged apart in the last round."""
        if self.evaluation.figures != "full" or self.contract.label.type != "binary":
            return ()
        return usual(self.contract.features) if self.evaluation.groups is None else self.evaluation.groups

    @property
    def exact(self) -> bool:
        """Whether hospitals add up what fits a regression; see `EXACT`."""
        return self.strategy.name in EXACT

    @property
    def cell(self) -> int | None:
        """Fewest patients of a cell of times that is opened; None: no sum is one by times."""
        if self.strategy.name != COMMON:
            return None
        given = self.strategy.options.get("least", CELL)
        return given if type(given) is int else 1

    @property
    def prepares(self) -> int:
        """Rounds of preparation, before those of training: 1 or 0."""
        return 0 if self.prepare is None else 1

    @property
    def noised_steps(self) -> int:
        """Steps with noise in one round at a hospital: as many as pass over its patients `epochs` times on average."""
        if not self.privacy.local:
            return 1
        return self.training.epochs * max(1, round(1 / self.privacy.sampling))

    @model_validator(mode="after")
    def _quorum_can_be_met(self) -> "Study":
        if self.sites and self.quorum > len(self.sites):
            raise ValueError(f"`quorum` {self.quorum} is more than the {len(self.sites)} invited `sites`")
        if len(set(self.sites)) != len(self.sites):
            raise ValueError("`sites` names a site twice")
        return self

    @property
    def judged_only(self) -> bool:
        """Whether a model that was made elsewhere is judged, and nothing is trained."""
        return self.rounds == 0

    @model_validator(mode="after")
    def _there_is_a_model_to_judge(self) -> "Study":
        fraction = self.evaluation.test_fraction
        if not self.judged_only:
            if fraction >= 0.9:
                raise ValueError("`evaluation.test_fraction` must be below 0.9: some patients are trained on")
            return self
        trains = self.privacy.epsilon is not None or self.prepare is not None or self.strategy.name != "fedavg"
        if self.model.start != "given" or trains:
            raise ValueError(
                "`rounds` 0 trains nothing and judges a model that is given: write `start: given` under `model`, and "
                "no strategy, no `prepare` and no `epsilon`"
            )
        if fraction != 1:
            raise ValueError("`rounds` 0 judges on all patients: write `evaluation: {test_fraction: 1}`")
        return self

    @model_validator(mode="after")
    def _a_sum_can_be_opened(self) -> "Study":
        least = max(self.privacy.min_sites, threshold(len(self.sites)) if self.sites else 0)
        if self.privacy.recipe == "secure_sum" and self.quorum < least:
            raise ValueError(
                f"`quorum` {self.quorum} is less than the {least} sites that a secure sum needs; raise it, or choose "
                "`privacy: {recipe: plain}`, which each hospital must accept by name"
            )
        return self

    @model_validator(mode="after")
    def _updates_can_be_seen(self) -> "Study":
        if self.strategy.name in SINGLE and self.privacy.recipe != "plain":
            raise ValueError(
                f"`strategy.name` {self.strategy.name} looks at single updates, and nobody sees any under "
                f"{self.privacy.recipe}; choose another, or `privacy: {{recipe: plain}}`, which each hospital must "
                "accept by name"
            )
        return self

    @model_validator(mode="after")
    def _a_hessian_is_known(self) -> "Study":
        if self.exact and self.model.kind == "torch":
            raise ValueError(
                f"`strategy.name` {self.strategy.name} needs a model whose Hessian is summed: `model.kind` linear, "
                "logistic, poisson or cox; choose another strategy for torch"
            )
        return self

    @model_validator(mode="after")
    def _noise_means_what_it_says(self) -> "Study":
        if (why := unfit(self)) is not None:
            raise ValueError(why)
        return self

    @model_validator(mode="after")
    def _preparation_is_possible(self) -> "Study":
        if self.prepare is None:
            return self
        if not self.prepare.learns:
            raise ValueError(
                "`prepare` asks for nothing; write `numbers: standardise`, `missing: impute`, or leave it out"
            )
        if self.privacy.epsilon is not None:
            raise ValueError("`prepare` is not possible under `privacy.epsilon`: its sums have no noise; leave it out")
        numbers = {feature.id for feature in self.contract.features if feature.type == "number"}
        if others := sorted(self.prepare.bins.keys() - numbers):
            raise ValueError(f"`prepare.bins` names {', '.join(others)}, which is no number of the contract")
        return self

    @model_validator(mode="after")
    def _groups_are_of_the_contract(self) -> "Study":
        features = {feature.id: feature for feature in self.contract.features}
        asked = self.evaluation.groups or ()
        for group in asked:
            feature = features.get(group.feature)
            if feature is None:
                raise ValueError(f"`evaluation.groups` names {group.feature}, which is no feature of the contract")
            if (feature.type == "number") != (group.edges is not None):
                raise ValueError(
                    f"`evaluation.groups`: {group.feature} is a {feature.type}; a number needs `edges`, and a category "
                    "has none"
                )
        if len({group.feature for group in asked}) < len(asked):
            raise ValueError("`evaluation.groups` names a feature twice")
        return self

    @model_validator(mode="after")
    def _model_fits_label(self) -> "Study":
        wanted = {"logistic": "binary", "linear": "number", "poisson": "count", COX: TIMED}.get(self.model.kind)
        label = self.contract.label.type
        if wanted is not None and label != wanted:
            raise ValueError(f"`model.kind` {self.model.kind} predicts a {wanted} label, but the label is {label}")
        if (why := timed.unfit(self)) is not None:
            raise ValueError(why)
        return self


@dataclass(frozen=True)
class Plan:
    """An immutable study. `payload` is canonical JSON: the bytes that travel, are approved and are hashed."""

    payload: bytes
    digest: Digest
    study: Study

    @classmethod
    def of(cls, study: Study) -> "Plan":
        """Freeze a study."""
        payload = canonical(study.model_dump(mode="json"))
        return cls(payload, digest(payload), study)

    @classmethod
    def load(cls, payload: bytes) -> "Plan":
        """Read a plan's bytes.

        Raises: StudyInvalid: the bytes are no plan of this format.
        """
        return _plan(payload)


@lru_cache(64)  # a round asks for the same few plans again and again; a plan is frozen, and a function of its bytes
def _plan(payload: bytes) -> Plan:
    try:
        study = Study.model_validate(json.loads(payload))
    except (ValidationError, ValueError, RecursionError) as error:
        raise StudyInvalid("these bytes are not a plan of format 1", "ask the study's owner for it") from error
    return Plan(payload, digest(payload), study)
