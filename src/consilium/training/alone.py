"""A hospital's own model: trained on some patients alone, as much as a federation trains, and judged there.

Nothing here is summed with anybody's: no strategy, no noise. It is what a hospital could have had without the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from consilium import plugins
from consilium.algorithms import metrics, preparation
from consilium.algorithms.base import Curvature, Here, Local, LocalObjective, Strategy, parts_of
from consilium.algorithms.groups import Members
from consilium.algorithms.metrics import Sums
from consilium.core import state as chain
from consilium.core.study import Study
from consilium.core.tensors import Array, Tensors, Vector, flatten, unflatten
from consilium.training.base import Curved, Floats, Survival, Trainer
from consilium.training.work import Work, divided


@dataclass(frozen=True)
class Alone:
    """Where models are trained: by the study's trainer, from its initial model."""

    study: Study
    trainer: Trainer
    initial: Tensors

    def trained(self, x: Floats, y: Floats, chooses: Members | None = None) -> Tensors:
        """The model after as many passes over (x, y) as the federation makes in all; by its steps, if it solves.

        Args:    chooses: (n,) validation patients, where the study asks for them.
        """
        strategy: Strategy = plugins.strategy_of(self.study)
        if isinstance(strategy, chain.Whole) and isinstance(self.trainer, Curved):
            return self._solved(strategy, self.trainer, x, y, chooses)
        model = self.initial
        for number in range(1, self.study.rounds + 1):
            model = self.trainer.train(self.study, model, x, y, LocalObjective(), number)
        return model

    def _solved(self, strategy: Strategy, trainer: Curved, x: Floats, y: Floats, chooses: Members | None) -> Tensors:
        def curvature(of: Vector, first: bool) -> Curvature:
            return trainer.curvature(self.study, unflatten(of, self.initial), x, y, first)

        state = strategy.init(flatten(self.initial))
        # Limits are those of one site, and these may be the patients of all.
        sums = {name: replace(of, limit=None) for name, of in strategy.sums(self.study, state["model"].size).items()}
        timed = trainer.timed(self.study, x, y) if isinstance(trainer, Survival) else None
        apart = None if chooses is None else divided(self.study, trainer, self.initial, x, y, chooses)
        for _ in range(self.study.rounds):
            local = Local((state["model"],), float(len(y)), 1, 1.0, curvature, sums, timed, apart)
            segments, _ = strategy.contribution(Here(state, parts=parts_of(self.initial)), local)
            added = {name: array for name, array in segments.items() if name != "weight"}
            state = strategy.apply_chunk(state, added, float(len(y)))
        return unflatten(state["model"], self.initial)


def without_noise(study: Study) -> Study:
    """The study without an epsilon: a model that nobody else gets needs no noise."""
    unasked = {"epsilon": None, "noise": "shared", "unit": "patient", "noise_multiplier": None, "all_honest": None}
    return study.model_copy(update={"privacy": study.privacy.model_copy(update=unasked)})


def judged(work: Work) -> Sums:
    """Sums over a hospital's held-out patients of the model that is trained on its others, prepared by these alone."""
    study = without_noise(work.plan.study)
    learned: Mapping[str, Array] = {}
    if work.rows is not None:
        learned = preparation.learned(study, work.rows.sums(study), float(np.sum(~work.rows.test)))
    examples = work.at(learned)
    model = Alone(study, work.trainer, work.like).trained(*examples.training, work.chooses)
    score = work.trainer.predict(study, model, examples.x[examples.test]).astype(np.float64)
    return metrics.sums(study.contract.label.type, score, examples.y[examples.test])
