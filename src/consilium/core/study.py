"""The study: purpose, contract, model, strategy, privacy, rounds; and the plan, its immutable form named by a hash."""

import json
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Literal

from pydantic import (
    Field,
    ValidationError,
    model_validator,
)

from consilium.core import beginning, preparing, timed
from consilium.core.bounded import unfit
from consilium.core.contract import Contract
from consilium.core.errors import StudyInvalid
from consilium.core.gate import Asked, Gate, of_plan
from consilium.core.ids import Digest, canonical, digest
from consilium.core.judging import AS_IT_WAS, Evaluation, Group, usual
from consilium.core.model import Model
from consilium.core.parts import Json, Part, Slug, StudyName, Text
from consilium.core.preparing import Prepare
from consilium.core.privacy import Privacy
from consilium.core.threshold import threshold
from consilium.core.timed import CELL, COMMON, COX, TIMED


class Purpose(Part):
    """What the model is for and who asks; a hospital's policy decides by `code`."""

    code: Literal["research", "quality", "public-health", "education"] = Field(description="kind of purpose")
    text: Text = Field(description="what the model is for, in one or two sentences")
    requester: Text = Field(description="who asks: name and institution")
    expires: date | None = Field(None, description="last day on which the study may run")


SINGLE = ("median", "trimmed-mean", "krum", "geometric-median")
"""Strategies that look at single updates."""
PATH = "newton-path"
"""The strategy that fits several penalties at once, of which validation patients choose one."""
EXACT = ("newton", PATH, COMMON)
"""Strategies by which hospitals add up sums over patients that fit a regression, and not changes of a model."""
BUFFERED = ("fedbuff",)
"""Strategies whose rounds close as soon as enough sites have answered: updates of the others are counted later."""
CROSSED = ("fedavg", "fedprox", "fedavgm", "fedadagrad", "fedadam", "fedyogi", "newton")
"""Strategies by which several models can be trained side by side: they keep nothing at a site."""
PERSONAL = ("fedper", "fedrep", "fedbn", "ditto")
"""Strategies by which the model that a hospital uses, or parts of it, stay where they were trained."""
GROUPED = ("ifca",)
"""Strategies that add up apart what groups of sites send: a group may be smaller than `privacy.min_sites`."""


class Strategy(Part):
    """The federated algorithm and its options."""

    name: Slug = Field(
        "fedavg",
        description="fedavg, fedprox, fedavgm, fedadagrad, fedadam, fedyogi, fednova, qfedavg, afl, scaffold, "
        "feddyn, fedper, fedrep, fedbn, ditto, ifca; newton, which fits a regression exactly; newton-path, the same "
        "at several penalties, of which validation patients choose one; webdisco, a Cox regression with one baseline "
        "hazard for all hospitals; under the recipe `plain` fedbuff, which waits for no slow hospital, median, "
        "trimmed-mean, krum, geometric-median; or a plug-in",
    )
    options: Json = Field(default_factory=dict, description="options of the strategy")


class Training(Part):
    """Local training within one round."""

    epochs: int = Field(1, ge=1, le=10_000, description="passes over the site's training patients")
    batch_size: int = Field(0, ge=0, le=10**9, description="patients per step; 0 takes all")
    learning_rate: float = Field(0.1, gt=0, description="step size")
    seed: int = Field(1, ge=0, lt=2**31, description="seed of the initial model and of the order of patients")


class Deadlines(Part):
    """How long a phase waits, in seconds."""

    round_s: float = Field(3600.0, gt=0, le=30 * 86400, description="one phase of a round, in seconds")
    compare_s: float = Field(
        7 * 86400.0,
        gt=0,
        le=90 * 86400,
        description="under `secure_sum`, instead of `round_s`: how long people at the hospitals have to compare the "
        "words of the roster, in seconds; where none have to, for they have compared them before, `round_s`",
    )

    @staticmethod
    def of_plan(told: dict[str, Any]) -> dict[str, Any]:
        """What a plan says, as it was meant: one that was made before people had days gave them those of a round."""
        asked = told.get("deadlines")
        if not isinstance(asked, dict) or "compare_s" in asked:
            return told
        return {**told, "deadlines": {**asked, "compare_s": asked.get("round_s", Deadlines().round_s)}}


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
    quorum: int = Field(
        ge=1,
        le=10**6,
        description="answers that let a round close at its deadline; with fewer the run pauses, and no hospital takes "
        "part in a secure sum",
    )
    min_patients: int = Field(10, ge=1, le=10**9, description="a site with fewer training patients takes no part")
    deadlines: Deadlines = Field(Deadlines(), description="how long a round waits")
    evaluation: Evaluation = Field(Evaluation(), description="on whom the model is judged")
    gate: Asked = Field(
        Gate(),
        description="a check that each hospital's data pass before a round, attested under its key; `none`: no check "
        "is asked for, and each hospital's review says so",
    )
    sites: tuple[Slug, ...] = Field((), description="invited sites; empty invites all")

    @property
    def apart(self) -> tuple[Group, ...]:
        """By what patients are judged apart in the last round."""
        if self.evaluation.figures != "full":
            return ()
        return usual(self.contract.features) if self.evaluation.groups is None else self.evaluation.groups

    @property
    def exact(self) -> bool:
        """Whether hospitals add up what fits a regression; see `EXACT`."""
        return self.strategy.name in EXACT

    @property
    def personal(self) -> bool:
        """Whether the model that a hospital uses, and that is judged, is another than the common one."""
        return self.strategy.name in PERSONAL and not self.judged_only

    @property
    def of_hospitals(self) -> bool:
        """Whether hospitals add up numbers of a hospital as a whole, that are no sums over its patients: powers of its
        loss, or a loss that compares its patients; or squares of differences from its own means. Few hospitals' sums of
        such tell each one's.
        """
        name, options = self.strategy.name, self.strategy.options
        fair = (
            options.get("q", 1) not in (0, 1)
            if name == "qfedavg"
            else name == "afl" and options.get("mixture_rate") != 0
        )
        fair = fair or (name in ("qfedavg", "afl") and self.model.kind == COX)
        return fair or (self.prepare is not None and self.prepare.harmonise is not None)

    @property
    def validates(self) -> bool:
        """Whether some of the training patients choose among models that are fitted to the others."""
        return self.strategy.name == PATH

    @property
    def fits(self) -> int:
        """At how many models hospitals add up derivatives in one round: at two for each penalty of a path, else one."""
        given = self.strategy.options.get("penalties") if self.validates else None
        return 2 * len(given) if isinstance(given, list | tuple) else 1

    @property
    def cell(self) -> int | None:
        """Fewest patients of a cell of times that is opened; None: no sum is one by times."""
        if self.strategy.name != COMMON:
            return None
        given = self.strategy.options.get("least", CELL)
        return given if type(given) is int else 1

    @property
    def enough(self) -> int:
        """Answers with which a round of training closes at once; 0: it waits for all who are asked."""
        given = self.strategy.options.get("enough") if self.strategy.name in BUFFERED else None
        return given if type(given) is int and given > 0 else 0

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
        if self.prepare is not None:
            raise ValueError(
                "`rounds` 0 prepares nothing: leave `prepare` out; a model that was trained with it is judged as an "
                "ONNX file, which has it inside: `consilium study export --format onnx`, and `kind: onnx` here"
            )
        trains = self.privacy.epsilon is not None or self.strategy.name != "fedavg"
        if self.model.start != "given" or trains:
            raise ValueError(
                "`rounds` 0 trains nothing and judges a model that is given: write `start: given` under `model`, and "
                "no strategy and no `epsilon`"
            )
        if fraction != 1:
            raise ValueError("`rounds` 0 judges on all patients: write `evaluation: {test_fraction: 1}`")
        return self

    @model_validator(mode="after")
    def _folds_are_possible(self) -> "Study":
        if self.evaluation.folds is None:
            return self
        if self.judged_only:
            raise ValueError("`evaluation.folds`: nothing is trained in 0 rounds; leave it out")
        if self.strategy.name not in CROSSED:
            raise ValueError(f"`evaluation.folds` is possible with `strategy.name` {', '.join(CROSSED)}; leave it out")
        if self.prepare is not None:
            raise ValueError(
                "`evaluation.folds`: what `prepare` learns would be learned of those who are judged, too; leave out one"
            )
        if self.privacy.epsilon is not None:
            raise ValueError("`evaluation.folds`: each fold would need an `epsilon` of its own; leave out one of both")
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
    def _late_updates_have_their_own_beginning(self) -> "Study":
        name, privacy = self.strategy.name, self.privacy
        if name not in BUFFERED:
            return self
        if privacy.recipe != "plain" or privacy.epsilon is not None:
            raise ValueError(
                f"`strategy.name` {name} counts updates that were trained at earlier models, and a sum under "
                f"{privacy.recipe if privacy.epsilon is None else '`epsilon`'} is one of updates of one model; choose "
                "another, or `privacy: {recipe: plain}` without `epsilon`, which each hospital must accept by name"
            )
        most = len(self.sites)
        if self.enough and (self.enough < self.quorum or 0 < most < self.enough):
            raise ValueError(
                f"`strategy.options.enough` {self.enough} must be at least `quorum`, {self.quorum}, and at most the "
                "number of invited `sites`"
            )
        return self

    @model_validator(mode="after")
    def _a_hessian_is_known(self) -> "Study":
        if self.exact and self.model.kind == "torch":
            raise ValueError(
                f"`strategy.name` {self.strategy.name} needs a model whose Hessian is summed: `model.kind` linear, "
                "logistic, poisson or cox; choose another strategy for torch"
            )
        if self.validates and self.model.l2:
            raise ValueError(f"`model.l2` must be 0 with `strategy.name` {PATH}: write `l2` in its `penalties`")
        return self

    @model_validator(mode="after")
    def _noise_means_what_it_says(self) -> "Study":
        if (why := unfit(self)) is not None:
            raise ValueError(why)
        return self

    @model_validator(mode="after")
    def _preparation_is_possible(self) -> "Study":
        if (why := preparing.unfit(self)) is not None:
            raise ValueError(why)
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
        if (why := timed.unfit(self) or beginning.unfit(self)) is not None:
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

    def check(self) -> None:
        """Refuse what plans of before may hold, and one that is submitted or approved today must not.

        Raises: StudyInvalid.
        """
        try:
            Study.model_validate(json.loads(self.payload))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise StudyInvalid(
                f"{where}: {first['msg']}", "correct the study file, and submit it as another"
            ) from error


@lru_cache(64)  # a round asks for the same few plans again and again; a plan is frozen, and a function of its bytes
def _plan(payload: bytes) -> Plan:
    try:
        told = json.loads(payload)
        told = Deadlines.of_plan(of_plan(told)) if isinstance(told, dict) else told
        study = Study.model_validate(told, context=AS_IT_WAS)
    except (ValidationError, ValueError, RecursionError) as error:
        raise StudyInvalid("these bytes are not a plan of format 1", "ask the study's owner for it") from error
    return Plan(payload, digest(payload), study)
