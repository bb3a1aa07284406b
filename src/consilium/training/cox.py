"""Cox regression: log hazard ratios, with a baseline hazard of its own at each hospital; or sums for a common one.

The loss is minus the log partial likelihood: Cox, JRSS B 1972, 34:187. Only patients of one hospital are compared, so
that loss, gradient and Hessian of all hospitals are sums of theirs; for a common baseline, see `algorithms.webdisco`.
Events at one time are counted by Efron, JASA 1977, 72:557, or by Breslow, Biometrics 1974, 30:89.
"""

from dataclasses import dataclass

import numpy as np

from consilium.algorithms.base import Curvature, Leaving, LocalObjective
from consilium.core import survival
from consilium.core.errors import StudyInvalid, TrainingFailed
from consilium.core.study import Study
from consilium.core.tensors import Array, Tensors, Vector, flatten, unflatten
from consilium.training import drawn
from consilium.training.base import Floats
from consilium.training.linear import steps

LAST = 300.0
"""Products of columns with an exponential of it are numbers still."""
TOGETHER = 4096
"""So many patients' products of columns are in memory at once."""
FARTHEST = 50.0
"""A log hazard ratio is not taken for larger where hazards are told."""


@dataclass(frozen=True)
class Risk:
    """Patients by the k distinct times of events, ascending.

    Args:    event: (n,).   passed: (n,) at how many of the times each was still observed.   deaths: (k,) events.
             at: (m,) the time of each event, an index.   share: (m,) of the tied events, how much counts as gone.
    """

    event: survival.Flags
    passed: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    deaths: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    at: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    share: Floats

    @classmethod
    def of(cls, label: Floats, ties: str) -> "Risk":
        """Of labels (n,) as `core.survival` joins them."""
        time, event = survival.times(label), survival.events(label)
        when, deaths = np.unique(time[event], return_counts=True)
        at = np.repeat(np.arange(len(when)), deaths)
        number = np.arange(len(at)) - (np.cumsum(deaths) - deaths)[at]
        share = number / deaths[at] if ties == "efron" else np.zeros(len(at))
        return cls(event, np.searchsorted(when, time, side="right"), deaths, at, share)

    def observed(self, values: Floats) -> Floats:
        """Sums (k, ...) of values (n, ...) over those who are observed at each time."""
        size = len(self.deaths)
        found = np.zeros((size + 1, *values.shape[1:]))
        np.add.at(found, self.passed, values)
        return np.cumsum(found[::-1], axis=0)[::-1][1:]

    def tied(self, values: Floats) -> Floats:
        """Sums (k, ...) of values (n, ...) over those with an event at each time."""
        found = np.zeros((len(self.deaths), *values.shape[1:]))
        np.add.at(found, self.passed[self.event] - 1, values[self.event])
        return found

    @property
    def alike(self) -> float:
        """Minus the log partial likelihood where all hazards are alike: it depends on how many are observed, alone."""
        ones = np.ones(len(self.passed))
        return float(np.sum(np.log(self.observed(ones)[self.at] - self.share * self.tied(ones)[self.at])))

    def each(self, values: Floats) -> Floats:
        """Sums (k,) of values (m,) of events."""
        return np.bincount(self.at, weights=values, minlength=len(self.deaths)).astype(np.float64)


@dataclass(frozen=True)
class Cox:
    """A proportional hazards model: its weights are log hazard ratios, and there is no intercept."""

    def initial(self, study: Study, names: list[str]) -> Tensors:
        """All zeros, unless the study draws them."""
        return {"weights": drawn.first(study, names, len(names))}

    def train(
        self, study: Study, model: Tensors, x: Floats, y: Floats, objective: LocalObjective, number: int
    ) -> Tensors:
        """Gradient steps of the plan's rate on the mean loss of all patients, with the L2 penalty.

        Raises: TrainingFailed: the parameters ran away.
        """
        w = flatten(model)
        for _ in range(steps(study, len(y))):
            gradient = self.curvature(study, unflatten(w, model), x, y, False).gradient / len(y)
            w = w - objective.step(study.training.learning_rate * (gradient + objective.gradient(w)))
        if not np.all(np.isfinite(w)):
            raise TrainingFailed("the parameters grew without bound", "lower training.learning_rate in the study")
        return unflatten(w, model)

    def clipped(self, study: Study, model: Tensors, x: Floats, y: Floats, bound: float) -> tuple[Floats, Floats]:
        """Never: patients are compared with one another. Raises: StudyInvalid."""
        raise StudyInvalid(
            "model.kind: cox compares patients with one another, so that no gradient is that of one patient",
            "leave `privacy.epsilon` out, or ask for it with `unit: hospital`",
        )

    def loss(self, study: Study, model: Tensors, x: Floats, y: Floats) -> float:
        """Minus the log partial likelihood, by the number of patients."""
        free = study.model_copy(update={"model": study.model.model_copy(update={"l2": 0.0})})
        whole = self.curvature(free, model, x, y, False).loss + Risk.of(y, study.model.ties).alike
        return max(whole, 0.0) / max(len(y), 1)

    def curvature(self, study: Study, model: Tensors, x: Floats, y: Floats, first: bool) -> Curvature:
        """Loss, gradient and Hessian over these patients, each of whom brings a share of the penalty.

        The loss is less that of a model without effects, as in a likelihood ratio. That one tells nothing of a model,
        and how many patients a hospital has: where all have the event it is the logarithm of n!, and the sums of it and
        of n over two hospitals tell both n.

        With s events at one time, Efron's j-th of them compares with all who are observed, but for j/s of the tied
        ones. So what is summed over these s is a sum over the observed, and one over the tied, each times a sum of
        1/total, share/total, and so on.
        """
        w: Floats = flatten(model).astype(np.float64)
        penalty = study.model.l2 * len(y)
        risk, predictor = Risk.of(y, study.model.ties), x @ w
        highest = float(np.max(predictor, initial=-np.inf)) if len(y) else 0.0
        hazard = np.exp(predictor - highest)
        rows = hazard[:, None] * x
        observed, tied = risk.observed(hazard), risk.tied(hazard)
        means, gone = risk.observed(rows), risk.tied(rows)
        total = observed[risk.at] - risk.share * tied[risk.at]
        once, shared = risk.each(1 / total), risk.each(risk.share / total)
        gradient = once @ means - shared @ gone - np.sum(x[risk.event], axis=0) + penalty * w
        weight = hazard * np.concatenate([[0.0], np.cumsum(once)])[risk.passed]
        weight[risk.event] -= hazard[risk.event] * shared[risk.passed[risk.event] - 1]
        squared, mixed, last = (risk.each(value / total**2) for value in (1.0, risk.share, risk.share**2))
        cross = (means * mixed[:, None]).T @ gone
        hessian = (x * weight[:, None]).T @ x - (means * squared[:, None]).T @ means + cross + cross.T
        hessian += penalty * np.eye(w.size) - (gone * last[:, None]).T @ gone
        loss = float(np.sum(np.log(total)) + highest * len(total) - np.sum(predictor[risk.event])) - risk.alike
        return Curvature(loss + 0.5 * penalty * float(w @ w), gradient, hessian[np.tril_indices(w.size)])

    def predict(self, study: Study, model: Tensors, x: Floats) -> Floats:
        """Hazards (n,), against that of a patient whose columns are all zero."""
        return np.exp(np.minimum(x @ model["weights"], FARTHEST))

    def timed(self, study: Study, x: Floats, y: Floats) -> "Times":
        """What these patients add to a model with a common baseline."""
        return Times(x, survival.times(y), survival.events(y), study.model.ties, study.model.l2 * len(y))

    def compares(self, x: Floats, y: Floats) -> bool:
        """Who is observed at the first event is all that anybody is compared with: at others it is some of these."""
        time, event = survival.times(y), survival.events(y)
        observed = x[time >= np.min(time[event], initial=np.inf)]
        return bool(np.any(observed != observed[:1]))


@dataclass(frozen=True)
class Times:
    """Patients whose sums are by spans of times: columns (n, p), times (n,), and whether each ended with the event."""

    x: Floats
    time: Floats
    event: survival.Flags
    ties: str
    penalty: float

    def counted(self, edges: Array) -> tuple[Array, Array]:
        """Events in each span, and observations that ended without one."""
        span = self._span(edges)
        found = (np.bincount(span[of], minlength=len(edges)).astype(np.float64) for of in (self.event, ~self.event))
        return next(found), next(found)

    def leaving(self, model: Vector, edges: Array, centre: Vector) -> Leaving:
        """Sums by span; those over products of columns piece by piece."""
        span, (i, j) = self._span(edges), np.tril_indices(self.x.shape[1])
        w: Floats = model.astype(np.float64)
        hazard = np.exp(np.minimum((self.x - centre) @ w, LAST))  # what is beyond all limits is told, and is a number
        found = np.zeros((2, len(edges), 1 + w.size + i.size))
        for start in range(0, len(span), TOGETHER):
            part = slice(start, start + TOGETHER)
            x = self.x[part]
            rows = hazard[part, None] * np.column_stack([np.ones(len(x)), x, x[:, i] * x[:, j]])
            np.add.at(found[0], span[part], rows)
            if self.ties == "efron":
                np.add.at(found[1], span[part][self.event[part]], rows[self.event[part]])
        events, _ = self.counted(edges)
        return Leaving(events, found[0], found[1], np.sum(self.x[self.event], axis=0), self.penalty)

    def _span(self, edges: Array) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        return np.maximum(np.searchsorted(edges, self.time, side="right") - 1, 0)
