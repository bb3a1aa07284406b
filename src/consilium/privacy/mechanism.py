"""The mechanism of a study with an epsilon: what is noised how, and what that says of one patient. All from the plan.

In each step every patient is drawn with probability `rate`, the drawn ones' clipped gradients are summed, and the sum
gets Gaussian noise. With shared noise the sum is over all hospitals, which add it in shares, and a round is one step
(federated SGD with distributed noise: Kairouz, Liu and Steinke, ICML 2021). With noise at each hospital the sum is its
own, it adds all of it, and makes several steps per round (DP-SGD: Abadi et al., CCS 2016, algorithm 1); whatever is
made of the model afterwards says no more. The unit is the patient: two consortia are neighbours when one patient is
added or removed at one hospital. Who is a patient of several is several patients here.

Where the unit is a hospital, its whole change of the model is clipped, in units of the bound, and the sum gets shares
of noise (McMahan et al., ICLR 2018, with hospitals as users): neighbours are with a hospital's changes, and with none.
"""

from dataclasses import dataclass, replace

from consilium.core.errors import Refused, StudyInvalid
from consilium.core.study import Study
from consilium.core.threshold import threshold
from consilium.privacy.accountant import Curve, Sampled, Shares, calibrated, curve, tight

DIGITS = 4
"""Decimals of the noise multiplier in a plan; it is rounded up."""


@dataclass(frozen=True)
class Mechanism:
    """What a plan does to one patient's values in a whole run.

    Args:    noise: the promised noise, as a multiple of `bound` (z).   rate: of sampling.   rounds, steps: of the run,
             and of each round.   bound: the most that one patient adds to a sum, in Euclidean norm.   quorum: the
             fewest hospitals.   epsilon: what the plan claims at `delta` with the promised noise.   all_honest: while
             a whole quorum adds.   shared: whether hospitals add it in shares.   whole: whether the unit is a
             hospital.   counting: noise of how many hospitals stayed below the bound, as a multiple of what one adds
             to that number; None: it is not counted.
    """

    noise: float
    rate: float
    rounds: int
    steps: int
    bound: float
    delta: float
    epsilon: float
    all_honest: float
    quorum: int
    min_sites: int
    colluding: int
    shared: bool
    whole: bool = False
    counting: float | None = None

    @classmethod
    def of(cls, study: Study) -> "Mechanism | None":
        """The mechanism of a plan's study; None: it asks for no noise.

        Raises: StudyInvalid: it asks for an epsilon, and nobody has yet found the noise that gives it (`pinned`).
        """
        asked = study.privacy
        if asked.epsilon is None:
            return None
        all_honest = asked.all_honest if asked.shared else asked.epsilon
        if asked.noise_multiplier is None or all_honest is None:
            raise StudyInvalid("the plan does not say how much noise gives its epsilon", "submit the study again")
        if asked.whole:
            return cls(
                noise=asked.noise_multiplier, rate=1.0, rounds=study.rounds, steps=1, bound=1.0, delta=asked.delta,
                epsilon=asked.epsilon, all_honest=all_honest, quorum=study.quorum, min_sites=asked.min_sites,
                colluding=asked.colluding, shared=True, whole=True, counting=_counting(study),
            )  # fmt: skip
        # What hospitals sum is a step, which has the learning rate in it; by itself, one sums gradients.
        bound = asked.clip_norm * (study.training.learning_rate if asked.shared else 1.0)
        return cls(
            noise=asked.noise_multiplier, rate=asked.sampling, rounds=study.rounds, steps=study.noised_steps,
            bound=bound, delta=asked.delta, epsilon=asked.epsilon, all_honest=all_honest, quorum=study.quorum,
            min_sites=asked.min_sites, colluding=asked.colluding, shared=asked.shared,
        )  # fmt: skip

    def shares(self, sites: int | None = None) -> Shares:
        """How the noise is shared by a cohort of so many hospitals; by default of the fewest that the plan allows.

        By the cohort as it is, and not as the plan hopes: who asks fewer hospitals makes each of them add more.
        """
        cohort = self.quorum if sites is None else sites
        return Shares(cohort, max(threshold(cohort), self.min_sites), self.colluding)

    def event(self) -> Sampled:
        """What a ledger charges for a run: the noise that is there whoever drops out, and whoever colludes."""
        return Sampled(self.noise, self.rate, self.rounds * self.steps)

    def together(self) -> Sampled:
        """The run as it is while a whole quorum adds its shares, and nobody tells the coordinator of them."""
        return replace(self.event(), noise=self.shares().of_all(self.noise)) if self.shared else self.event()

    @property
    def of_update(self) -> float:
        """Noise of the sums of changes, which is more where the number of those below the bound takes its part.

        Source: Andrew et al., NeurIPS 2021, theorem 1: both together are as one mechanism of `noise`.

        Raises: StudyInvalid: the number takes all of it.
        """
        if self.counting is None:
            return self.noise
        left = self.noise**-2 - self.counting**-2
        if left <= 0.05 * self.noise**-2:
            raise StudyInvalid(
                f"privacy.clip_quantile: {self.quorum} hospitals are too few to count under noise of {self.noise:g}",
                "leave it out, so that clip_norm stays as it is; or ask for a larger epsilon",
            )
        return float(left**-0.5)

    def of_patient(self, run: Sampled) -> Sampled:
        """What of `event` or `together` is said of one patient.

        One more patient may lead a hospital from any change within the bound to any other: twice as far as from none.
        """
        return replace(run, noise=run.noise / 2) if self.whole else run

    def of_round(self, run: Sampled) -> Sampled:
        """What one round is of `event` or `together`."""
        return replace(run, steps=self.steps)

    def rdp(self) -> Curve:
        """The Renyi curve of `event` at `accountant.ORDERS`: those of several runs add up."""
        return curve(self.event())

    def prove(self) -> "Mechanism":
        """Compute anew what the plan claims; it is the author's word until then.

        Raises: Refused: the plan's noise does not give its epsilons (`epsilon`).   Unavailable: no accountant is here.
        """
        for claimed, event in ((self.epsilon, self.event()), (self.all_honest, self.together())):
            if (found := tight(event, self.delta)) > claimed * (1 + 1e-9):
                raise Refused(
                    f"the plan says epsilon {claimed:g}, but its noise gives {found:.4g}",
                    "leave privacy.noise_multiplier and all_honest out of the study: submitting it fills them in",
                    reason="epsilon",
                )
        return self


def pinned(study: Study) -> Study:
    """The study with the least noise that gives its epsilon, and what that gives while all are honest.

    A multiplier that its author chose stays. Whoever gets the plan may believe it, or `Mechanism.prove` it.

    Raises: Refused: the author's multiplier is too small for the epsilon (`epsilon`).   Unavailable.
    """
    asked = study.privacy
    if asked.epsilon is None:
        return study
    noise = asked.noise_multiplier
    if noise is None:
        steps = study.rounds * study.noised_steps
        noise = rounded_up(calibrated(asked.epsilon, asked.delta, asked.sampling, steps))
    chosen = _with(study, noise_multiplier=noise, **({"all_honest": asked.epsilon} if asked.shared else {}))
    known = Mechanism.of(chosen)
    assert known is not None and known.of_update > 0
    if not known.shared:
        known.prove()
        return chosen
    reached = rounded_up(tight(known.together(), known.delta))
    filled = _with(chosen, all_honest=min(reached, asked.epsilon))
    proven = Mechanism.of(filled)
    assert proven is not None
    proven.prove()
    return filled


def _counting(study: Study) -> float | None:
    """As the paper has it: a deviation of a twentieth of the hospitals, each of which adds a half or takes it away."""
    return None if study.privacy.clip_quantile is None else study.quorum / 20 / 0.5


def rounded_up(value: float) -> float:
    """To `DIGITS` decimals.

    >>> rounded_up(2.00001)
    2.0001
    """
    near = round(value, DIGITS)
    return near if near >= value else round(near + 10**-DIGITS, DIGITS)


def _with(study: Study, **privacy: float) -> Study:
    return study.model_copy(update={"privacy": study.privacy.model_copy(update=privacy)})
