"""What a report is made from: plain values, whichever command they come from. What is None is not known here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from consilium.core.study import Study
from consilium.documents.estimate import Figures, Json
from consilium.documents.judged import Judged
from consilium.documents.noise import Noise

FEW = 10
"""A figure with fewer patients of a class than this is not drawn and not compared."""

SHARED = "shared"
"""The common model, where hospitals use personal ones: those are judged first, in its place."""
WITHOUT = "without"
"""Among the models of a hospital, the one that was trained without it."""


@dataclass(frozen=True)
class Flow:
    """Patients of one hospital on their way: `read` are those that train, those held out, and those left out.

    without_label, incomplete, immature, excluded: why they were left out, each for one reason.
    rounds: rounds whose sum has this hospital's part.   asked: rounds in which it was asked.
    copies: held-out patients who equal a training patient here.   elsewhere: one at another hospital.
    opted_out: who are not among those that were read.   rounded: numbers of patients but `evaluated` are in tens,
    rounded down.   withheld: the hospital's check told no number, as under `epsilon`.
    """

    read: int | None = None
    without_label: int | None = None
    incomplete: int | None = None
    immature: int | None = None
    excluded: int | None = None
    training: int | None = None
    held_out: int | None = None
    evaluated: int | None = None
    rounds: int | None = None
    asked: int | None = None
    copies: int | None = None
    elsewhere: int | None = None
    opted_out: int | None = None
    rounded: bool = False
    withheld: bool = False


@dataclass(frozen=True)
class Hospital:
    """One hospital. `figures` by model (`federated`, `shared`, `own`, `pooled`, `without`).

    out: why it takes no part; empty if it does.   told: whether its figures are told by itself, rounded.
    word: why it tells none: `withheld` or `too few`; empty where that is not asked.
    unsaid: figures that are not told, for those of others would follow: of them nothing is shown but that a label may
    be the wrong way round.
    """

    name: str
    flow: Flow = Flow()
    figures: Mapping[str, Figures] = field(default_factory=dict)
    out: str = ""
    told: bool = False
    word: str = ""
    unsaid: Figures = field(default_factory=dict)


HELD_OUT = "held-out"
"""What a simulated round says to have nothing of, where it has no figures."""
FEW_JUDGE = (
    "withheld: so few sites hold out patients of each outcome that one could read another's; hold out more "
    "(`evaluation.test_fraction`), cross-validate (`folds`), or ask more hospitals"
)


@dataclass(frozen=True)
class Round:
    """One round: who was asked, took part, refused and why; `figures` of the model at which it began.

    withheld: why there are none, where they are not told.
    """

    number: int
    kind: str
    asked: tuple[str, ...]
    took_part: tuple[str, ...]
    count: int
    refused: Mapping[str, str]
    figures: Figures
    withheld: str = ""


Origin = Literal["federation", "demo", "simulation"]


@dataclass(frozen=True)
class Facts:
    """All that is known of a run.

    models: heading by model, the common one first.   everyone: figures over all hospitals, by model.
    withheld: whether the recipe hides single hospitals' figures from the coordinator.   judged_by: who told figures of
    single hospitals.   judged: which model the figures are of, if not the final one.   weaker: modes that hospitals
    accepted by name.   audit: of each log that was checked, what came of it.
    last: what the last round says of the final model.   noise: what was added to it while it was trained.
    unlearned: of what nothing was learned before training, see `core.unlearned`.
    left_out: who approved, and was left out though it was asked: `site`, `since` which round (0: it got no keys),
    `why`, and `next`, what can be done.
    """

    origin: Origin
    study: str
    run: str
    plan: str
    status: str
    about: Study | None
    confidence: float
    models: Mapping[str, str]
    hospitals: tuple[Hospital, ...]
    everyone: Mapping[str, Figures]
    rounds: tuple[Round, ...]
    planned: int
    privacy: str
    learns: str
    withheld: bool
    model: str
    judged: str = ""
    judged_by: str = ""
    weaker: tuple[str, ...] = ()
    decisions: tuple[Json, ...] = ()
    refusals: tuple[Json, ...] = ()
    audit: tuple[Json, ...] = ()
    budgets: Mapping[str, Any] = field(default_factory=dict)
    regression: Json | None = None
    setting: Json = field(default_factory=dict)
    last: Judged | None = None
    noise: Noise | None = None
    left_out: tuple[Json, ...] = ()
    unlearned: tuple[str, ...] = ()

    @property
    def evaluated(self) -> int | None:
        """How many patients the model was judged on, at all hospitals; None where that is not known.

        The sum over hospitals where all of them tell theirs: else it would be the sum over some.
        """
        known = [one.flow.evaluated for one in self.hospitals if not one.out]
        if known and None not in known:
            return sum(one or 0 for one in known)
        return max((one.n for one in self.everyone.get("federated", {}).values()), default=0) or None

    @property
    def crossed(self) -> bool:
        """Whether each patient was judged by a model that was trained without its fold."""
        return self.about is not None and self.about.evaluation.folds is not None

    @property
    def personal(self) -> bool:
        """Whether hospitals use models of their own, or parts of them, beside the common one."""
        return SHARED in self.models or (self.about is not None and self.about.personal)

    @property
    def used(self) -> str:
        """What the model is called that hospitals use, and that is judged."""
        return "personal model" if self.personal else "common model"

    @property
    def which(self) -> str:
        """The same, within a sentence."""
        return "each hospital’s personal model" if self.personal else "the common model"

    @property
    def whom(self) -> str:
        """What patients are called on whom it is judged: of a model that was made elsewhere nobody was held out."""
        return "patients" if self.judged_only else "held-out patients"

    @property
    def judged_only(self) -> bool:
        """Whether a model that was made elsewhere was judged, and none was trained."""
        return self.planned == 0
