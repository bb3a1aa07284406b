"""The noise that a study adds so that little is learned of one patient: for who reads its figures and wonders."""

from dataclasses import asdict, dataclass

from consilium.core.study import Study
from consilium.documents.estimate import Json


@dataclass(frozen=True)
class Noise:
    """Differential privacy as a study asked for it.

    unit: `patient` or `hospital`.   each: whether a hospital adds all of it itself.   multiplier: of `norm`; None: not
    known.   sampling: chance with which a patient is drawn in a step.   steps: in all rounds together.
    """

    epsilon: float
    delta: float
    unit: str
    each: bool
    multiplier: float | None
    norm: float
    sampling: float
    steps: int
    recipe: str

    @classmethod
    def of(cls, study: Study | None) -> "Noise | None":
        """That of a study; None where it adds none."""
        if study is None or study.privacy.epsilon is None:
            return None
        asked, steps = study.privacy, study.rounds * study.noised_steps
        return cls(
            study.privacy.epsilon, asked.delta, asked.unit, asked.local, asked.noise_multiplier, asked.clip_norm,
            asked.sampling, steps, asked.recipe,
        )  # fmt: skip

    @classmethod
    def read(cls, given: Json) -> "Noise":
        """From what `to_json` wrote. Raises: KeyError, TypeError, ValueError: it is not that."""
        size = given["multiplier"]
        return cls(
            float(given["epsilon"]), float(given["delta"]), str(given["unit"]), bool(given["each"]),
            None if size is None else float(size), float(given["norm"]), float(given["sampling"]), int(given["steps"]),
            str(given["recipe"]),
        )  # fmt: skip

    def to_json(self) -> Json:
        """Plain values."""
        return asdict(self)

    @property
    def bound(self) -> str:
        """What it is called by who knows it."""
        return f"differential privacy per {self.unit}, epsilon {self.epsilon:g} at delta {self.delta:g}"

    @property
    def how(self) -> str:
        """What is done in each step, as the middle of a sentence."""
        drawn = "" if self.unit == "hospital" or self.sampling == 1 else f" {self.sampling:.3g} of the patients drawn,"
        whose = "hospital’s change of the model" if self.unit == "hospital" else "patient’s part"
        size = "" if self.multiplier is None else f" of {self.multiplier:.3g} times that"
        where = "at each hospital, before anything leaves" if self.each else "to the sum over hospitals"
        return (
            f"in each of {self.steps} steps,{drawn} every {whose} is cut to a norm of {self.norm:g} and random noise"
            f"{size} is added {where}"
        )

    @property
    def words(self) -> str:
        """All of it, for a clinician."""
        return (
            f"It hides any single {self.unit} ({self.bound}): the smaller epsilon, the less can be learned of one, and "
            f"the worse the model. For that, {self.how} ({self.recipe}). The model is worth less than it would be "
            "without, and a second run gives another one, with other figures: what is low here may be the noise, and "
            "not the data. The figures themselves have none."
        )
