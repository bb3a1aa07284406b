"""The hospital's policy: what may be done with its data at all. A file that the hospital owns; it signs nothing away.

Nothing that a coordinator sends can lower what stands here: a study may only ask for more.
"""

from datetime import date, datetime, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from consilium.core.errors import Refused
from consilium.core.ids import DIGEST, EVERYBODY, SLUG
from consilium.core.study import Study
from consilium.core.timed import CELL

Slug = Annotated[str, StringConstraints(pattern=SLUG)]
Purpose = Literal["research", "quality", "public-health", "education"]


class Part(BaseModel):
    """A part of the policy: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Code(Part):
    """Foreign code: wheels that a study brings along. They run confined, without network, keys or journal."""

    allowed: bool = Field(False, description="whether wheels may run here at all")
    wheels: tuple[Annotated[str, StringConstraints(pattern=DIGEST)], ...] = Field(
        (), description="wheels approved by digest; empty: whichever a person approves with the study"
    )


class Preparation(Part):
    """What studies may learn of all hospitals' patients before training: means, deviations, counts, histograms."""

    allowed: bool = Field(True, description="whether such sums may be made here at all")
    hide_below: int = Field(
        5, ge=1, description="a study that tells counts of fewer patients is refused; 1 allows every count"
    )


class Limits(Part):
    """What training may use; 1 GB is 2^30 bytes, and 1 MB is 2^20."""

    memory_gb: float = Field(16.0, gt=0, le=1e6, description="memory of the process that trains")
    file_gb: float = Field(16.0, gt=0, le=1e6, description="largest file that it may write")
    disk_gb: float = Field(50.0, gt=0, le=1e6, description="disk that the runs of all studies may take together")
    check_mb: float = Field(
        16.0,
        ge=0,
        le=1e6,
        description="masked vectors up to this size: their sum is computed anew here, for which the vectors of all "
        "hospitals are fetched; larger sums are believed",
    )
    round_minutes: float = Field(24 * 60.0, gt=0, le=1e6, description="training of one round is ended after this long")


"""The population of all sources that are not named apart; `privacy/ledger.py` means the same by it."""


class Budget(Part):
    """The most that all studies together may say of one patient, who is added or removed: (epsilon, delta)."""

    epsilon: float = Field(8.0, gt=0, le=1000, description="over all studies, by the ledger's count")
    delta: float = Field(1e-5, gt=0, lt=1, description="chance of more; below 1 over the number of patients")
    purposes: dict[Purpose, Annotated[float, Field(gt=0, le=1000)]] = Field(
        default_factory=dict, description="purpose: the most epsilon that studies of this purpose may take of it"
    )


class Privacy(Part):
    """What studies may spend of the privacy of patients. It counts for studies that ask for `epsilon`."""

    require_epsilon: bool = Field(False, description="whether a study without `epsilon` is refused")
    budget: Budget = Field(Budget(), description="of the patients of all sources that `populations` does not name")
    populations: dict[Slug, Budget] = Field(
        default_factory=dict,
        description="budgets of patients apart, by the name that mappings give them in `patients`; nobody is in two",
    )

    @field_validator("populations")
    @classmethod
    def _others_than_everybody(cls, value: dict[str, Budget]) -> dict[str, Budget]:
        if EVERYBODY in value:
            raise ValueError(f"{EVERYBODY} is the name of all others: write its budget in `privacy.budget`")
        return value

    def of(self, patients: str | None) -> tuple[str, Budget]:
        """The population, and its budget, for what a mapping says in `patients`."""
        apart = self.populations.get(patients or "")
        return (EVERYBODY, self.budget) if apart is None else (str(patients), apart)


STRATEGIES = (
    "fedavg", "fedprox", "fedavgm", "fedadagrad", "fedadam", "fedyogi", "fednova", "qfedavg", "afl", "scaffold",
    "feddyn", "fedper", "fedrep", "fedbn", "ditto", "ifca", "fedbuff", "median", "trimmed-mean", "krum",
    "geometric-median",
)  # fmt: skip
"""Those that are built in, but for newton, newton-path and webdisco: of their sums follow counts, also small ones; who
allows them names them."""


class Policy(Part):
    """One policy file, whole."""

    policy: Literal[1] = Field(description="version of this format")
    purposes: tuple[Purpose, ...] = Field(("research", "quality"), description="purposes that are allowed")
    models: tuple[Slug, ...] = Field(
        ("linear", "logistic", "poisson", "cox", "torch", "xgboost"),
        description="kinds of models that are allowed; onnx, a graph that was made elsewhere and runs confined, "
        "is named by who allows it",
    )
    strategies: tuple[Slug, ...] = Field(STRATEGIES, description="strategies that are allowed")
    min_patients: int = Field(20, ge=1, description="fewest training patients, counted here")
    tell_flow: bool = Field(
        False,
        description="whether what is sent of a check tells how many patients were read, left out by each reason and "
        "held out: once for each plan, in tens, and none below ten; training patients are told so in any case. "
        "Under `epsilon` no number is told",
    )
    release_figures: int = Field(
        0,
        ge=0,
        le=1000,
        description="of so many plans, figures of this hospital alone may be told under `secure_sum`: once each, when "
        "a run is finished, rounded, with ten held-out patients of each class, and where all hospitals in the sums "
        "of the run tell theirs; who says with its keys that it tells has used one up. 0: of none. Under `epsilon` "
        "none are told",
    )
    own_model: bool = Field(
        False,
        description="whether, when a run is finished, a model is trained here on this hospital's patients alone, and "
        "judged beside the common one; it is not kept, and of its figures what `release_figures` says is told",
    )
    min_sites: int = Field(3, ge=3, description="fewest hospitals in a sum that is opened, under `secure_sum`")
    min_cell: int = Field(
        CELL,
        ge=1,
        description="fewest patients of a group of times whose sums are opened, by webdisco; 1 hides nothing",
    )
    changing_rosters: Literal["warn", "refuse"] = Field(
        "warn",
        description="what is done about a sum that could be solved for one hospital, with earlier sums of a study "
        "without `epsilon` that other hospitals took part in",
    )
    max_rounds: int = Field(500, ge=1, description="most training rounds of one study")
    max_approval_days: int = Field(365, ge=1, le=36_500, description="an approval ends after this long at the latest")
    expires: date | None = Field(None, description="last day of this policy; the hospital then renews it")
    preparation: Preparation = Field(Preparation(), description="sums by which a study scales and fills in inputs")
    code: Code = Field(Code(), description="a study's own code")
    limits: Limits = Field(Limits(), description="what training may use")
    privacy: Privacy = Field(Privacy(), description="what studies may spend of the privacy of patients")

    def check(self, study: Study, today: date) -> None:
        """Whether this policy allows a study at all.

        Raises: Refused: `reason` is one of policy-expired, study-expired, purpose, algorithm, cells, rounds,
                preparation, code, epsilon.
        """
        if self.expires is not None and today > self.expires:
            raise Refused(
                f"the hospital's policy ended on {self.expires}", "the hospital renews it", reason="policy-expired"
            )
        if study.purpose.expires is not None and today > study.purpose.expires:
            raise Refused(f"the study ended on {study.purpose.expires}", "submit a new one", reason="study-expired")
        if study.purpose.code not in self.purposes:
            raise Refused(
                f"the purpose {study.purpose.code} is not one of {', '.join(self.purposes) or 'none'}",
                "ask the hospital",
                reason="purpose",
            )
        self._check_algorithm(study)
        if study.cell is not None and study.cell < self.min_cell:
            raise Refused(
                f"sums over {study.cell} patients of a group of times would be opened; the hospital allows "
                f"{self.min_cell} and more",
                "raise `strategy.options.least`, or ask the hospital for a lower `min_cell`",
                reason="cells",
            )
        if study.rounds > self.max_rounds:
            raise Refused(
                f"{study.rounds} rounds are more than the {self.max_rounds} that the hospital allows",
                "ask for fewer rounds",
                reason="rounds",
            )
        self._check_preparation(study)
        self._check_code(study)
        if self.privacy.require_epsilon and study.privacy.epsilon is None:
            raise Refused(
                "the hospital takes part only in studies that bound what they say of a patient",
                "ask for `privacy: {epsilon: ...}` in the study file",
                reason="epsilon",
            )

    def _check_algorithm(self, study: Study) -> None:
        for what, name, allowed in (
            ("model", study.model.kind, self.models),
            ("strategy", study.strategy.name, self.strategies),
        ):
            if name not in allowed:
                raise Refused(
                    f"the {what} {name} is not one of {', '.join(allowed) or 'none'}",
                    "ask the hospital",
                    reason="algorithm",
                )

    def _check_preparation(self, study: Study) -> None:
        if study.prepare is None:
            return
        if not self.preparation.allowed:
            raise Refused(
                "the hospital adds up nothing to prepare inputs",
                "leave `prepare` out of the study file, or ask the hospital",
                reason="preparation",
            )
        if study.prepare.hide_below < self.preparation.hide_below:
            raise Refused(
                f"the study tells counts of {study.prepare.hide_below} patients, and the hospital hides those below "
                f"{self.preparation.hide_below}",
                f"write `hide_below: {self.preparation.hide_below}` under `prepare`, or ask the hospital",
                reason="preparation",
            )

    def _check_code(self, study: Study) -> None:
        wheel = study.model.wheel
        if wheel is None:
            return
        if not self.code.allowed or (self.code.wheels and wheel not in self.code.wheels):
            raise Refused(f"the hospital does not run the wheel {wheel}", "ask the hospital", reason="code")

    def ends(self, approved: datetime, until: datetime | None) -> datetime:
        """When an approval ends: as was signed, or earlier where this policy lets none last so long."""
        latest = approved + timedelta(days=self.max_approval_days)
        return latest if until is None else min(until, latest)

    def threshold(self, study: Study) -> int:
        """Fewest training patients: the larger of the hospital's and the study's number."""
        return max(self.min_patients, study.min_patients)

    def floor(self, study: Study) -> int:
        """Fewest hospitals in a sum that is opened: the larger of the hospital's and the study's number."""
        return max(self.min_sites, study.privacy.min_sites)


TEMPLATE = """\
# What may be done with this hospital's data at all. Owned by the hospital; read anew before every round.
policy: 1
purposes: [research, quality]       # research | quality | public-health | education
models: [linear, logistic, poisson, cox, torch, xgboost]  # onnx, a graph that was made elsewhere and runs confined
                                    # here, is not among them: who allows it names it
strategies: [fedavg, fedprox, fedavgm, fedadagrad, fedadam, fedyogi, fednova, qfedavg, afl, scaffold,
             feddyn, fedper, fedrep, fedbn, ditto, ifca, fedbuff, median, trimmed-mean, krum,
             geometric-median]      # newton, newton-path and webdisco, exact regressions, are not among them: of
                                    # their sums follow small counts
min_patients: 20                    # fewest training patients, counted here; a study may ask for more, never for less
tell_flow: false                    # true: a check that is sent tells how many are left out, and why, in tens
release_figures: 0                  # of so many plans, rounded figures of this hospital alone may be told
own_model: false                    # true: after a run, a model is trained on this hospital's patients, and judged
min_sites: 3                        # fewest hospitals in a sum that is opened; a study may ask for more
min_cell: 5                         # fewest patients of a group of times whose sums are opened (webdisco)
changing_rosters: warn              # refuse: no sum that earlier ones, over other hospitals, let solve for one
max_rounds: 500                     # most training rounds of one study
max_approval_days: 365              # an approval ends after this long at the latest
# expires: 2030-12-31               # last day of this policy
preparation: {allowed: true, hide_below: 5}  # sums by which studies scale and fill in inputs; 1 hides no small count
code: {allowed: false, wheels: []}  # foreign code, by digest of its wheel; it runs confined
limits: {memory_gb: 16, file_gb: 16, disk_gb: 50, check_mb: 16, round_minutes: 1440}
privacy:
  require_epsilon: false            # true: a study that asks for no `epsilon` is refused
  budget: {epsilon: 8, delta: 1.0e-5}  # the most that all studies together may say of one patient
"""
