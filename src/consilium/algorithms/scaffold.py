"""SCAFFOLD. Karimireddy et al., ICML 2020, https://arxiv.org/abs/1910.06378, algorithm 1, option II.

Each site keeps a control variate, its mean gradient along its last local training; all know their mean over patients.
Local steps are corrected by the difference, so that they do not drift to the site's own optimum. The state holds the
sum of the controls of every site that was ever counted, and of the patients behind them: who misses a round stays in.

The model moves by mean steps times the mean number of steps, as by `fednova`; where all make as many, that is the
paper's mean difference. For a control is a mean step: sums of differences, and of differences by their steps, are
two equations, and of two hospitals they tell each one's update to who knows how many steps each made.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from consilium.algorithms import base, fednova
from consilium.algorithms.base import Here, Local, LocalObjective, Pass, one, parsed, weighted
from consilium.core.study import Study
from consilium.core.tensors import Array, Tensors, Vector
from consilium.core.update import Sum


class Corrected(base.Options):
    """`server_learning_rate`: part of the mean difference that the common model goes; 1 is all of it."""

    server_learning_rate: float = Field(1.0, gt=0, le=10)


class Scaffold:
    """FedAvg whose local steps are corrected by control variates; with one site it is FedAvg."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options: Corrected = parsed(Corrected, options, "scaffold")

    def init(self, model: Vector) -> Tensors:
        """Model; sum of controls, weighted by patients; patients."""
        return {"model": model, "control": np.zeros_like(model), "patients": one(0)}

    def sums(self, study: Study, length: int) -> Mapping[str, Sum]:
        """Weighted mean steps, and how many; changes of the weighted controls; changes of patients."""
        most = float(study.privacy.most_patients)
        gradient = study.privacy.clip / study.training.learning_rate
        lasting = Sum(2 * most * gradient, lasting=True)
        return {**fednova.stepped(study), "control": lasting, "patients": Sum(most, each=False)}

    def passes(self, here: Here) -> tuple[Pass, ...]:
        """The site's loss, corrected: + <common control - own control, w>."""
        return (Pass(here.model, LocalObjective(linear=mean(here.state) - mean(here.memory, here.model))),)

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        """Weighted mean step; own control less the common one plus the mean step is the new one, which is kept."""
        number = here.model.dtype.type
        step = (here.model - local.after[0]) / number(local.steps * local.rate)
        control = (mean(here.memory, here.model) - mean(here.state) + step) * here.moves
        patients = counted(here.memory, local)
        more, kept = changed(here.memory, control, patients)
        made = fednova.by_step(weighted(here.model, local.after[0], patients), local.steps)
        return {**made, "weight": one(local.patients), **more}, kept

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """Model plus a part of the mean step times steps; controls and patients as they are now."""
        number = state["model"].dtype.type
        factor = self._options.server_learning_rate * fednova.mean_steps(sums)
        model = state["model"] + number(factor) * (sums["update"] / number(weight))
        return {"model": model, **added(state, sums)}


def mean(of: Mapping[str, Array], like: Array | None = None) -> Array:
    """What a state holds in sum, or a memory, by patients: (d,); zeros where nothing was counted, of `like`."""
    if "control" not in of:
        assert like is not None
        return np.zeros_like(like)
    found: Array = of["control"] / of["control"].dtype.type(max(float(of["patients"][0]), 1.0))
    return found


def counted(memory: Mapping[str, Array], local: Local) -> float:
    """The patients by whom a site's updates and controls count: those that it had when it was counted first.

    If they were others from round to round, what its table grew by would stand, times its own control, beside sums in
    which all else is told twice.
    """
    return float(memory["patients"][0]) if memory else local.patients


def changed(memory: Mapping[str, Array], control: Array, patients: float) -> tuple[Tensors, Tensors]:
    """What a site adds to the sums, so that they hold what it keeps from now on; and that."""
    kept = {"control": control.dtype.type(patients) * control, "patients": one(patients)}
    return {name: array - memory[name] if memory else array for name, array in kept.items()}, kept


def added(state: Tensors, sums: Tensors) -> Tensors:
    """The sums that last, after a round."""
    return {name: state[name] + sums[name] for name in ("control", "patients")}
