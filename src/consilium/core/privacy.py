"""What a study asks of privacy: the recipe of its sums, and how little they may say of a patient or a hospital."""

from typing import Literal

from pydantic import Field

from consilium.core.parts import Part


class Privacy(Part):
    """How updates are protected. `plain` protects nothing: each site must sign that it accepts it."""

    recipe: Literal["secure_sum", "plain"] = Field(
        "secure_sum",
        description="secure_sum: the coordinator learns sums over at least `min_sites` sites and nothing of one; "
        "plain: it sees each site's update",
    )
    min_sites: int = Field(
        3, ge=3, le=10**6, description="fewest sites in a sum that is opened; a site may ask for more"
    )
    clip: float = Field(
        8.0, gt=0, le=1e6, description="largest change of one parameter in a round; what is beyond is cut, and counted"
    )
    most_clipped: float = Field(
        0.01, ge=0, le=1, description="share of the values of an update that may be cut; above it the run fails"
    )
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
        le=10**6,
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
        description="epsilon while a quorum hold keys and all of them add their noise; `study submit` fills it in",
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
