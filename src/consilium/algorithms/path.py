"""Newton's method at several penalties at once, of which validation patients choose one.

Paths of penalties: Friedman, Hastie and Tibshirani, J. Stat. Softw. 2010, 33(1). Choice by validation: Hastie,
Tibshirani and Friedman, The Elements of Statistical Learning, 2009, section 7.2.

Each penalty is fitted twice in the same rounds: to all training patients, which gives what a study with this penalty
alone gives; and to those without the validation patients, on whom the second fit is judged. The common model is the
first fit of the penalty whose second one has the least loss. Test patients are in none of it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from consilium.algorithms import base
from consilium.algorithms.base import Here, Local, Pass, one, parsed
from consilium.algorithms.newton import MOST, Newton, folded, limits, rounded
from consilium.core.errors import Invalid, StudyInvalid
from consilium.core.study import Study
from consilium.core.tensors import Array, Tensors, Vector
from consilium.core.update import Sum

LARGEST = 1 << 22
"""Numbers that a site may send in a round: 32 MB."""
UNKNOWN = 1e300
"""Loss on validation patients of a model at which it is no number that fits."""
STACKED = ("at", "step", "left_out", "hessian", "loss", "patients", "taken")
"""Arrays of the state of `newton`, beside the model, which are here one after the other, fit by fit."""


class Penalty(base.Options):
    """One penalty, per patient, on scaled coefficients, and not on the intercept."""

    l1: float = Field(0.0, ge=0, description="factor of the sum of absolute coefficients")
    l2: float = Field(0.0, ge=0, description="factor of half the sum of their squares")


class Options(base.Options):
    """Options of `newton-path`."""

    penalties: tuple[Penalty, ...] = Field(
        min_length=1, max_length=100, description="what is tried; of equally good ones the first is taken"
    )


class NewtonPath:
    """The state of `newton` for each fit, to all training patients by penalty, then to those without validation.

    `models` are those fits; `model` is the chosen one; `validation` (penalties,) is the mean loss by which it was.
    """

    most = MOST

    def __init__(self, options: Mapping[str, Any]) -> None:
        found: Options = parsed(Options, options, "newton-path")
        self.penalties = found.penalties
        self._fits = 2 * len(self.penalties)

    def init(self, model: Vector) -> Tensors:
        """Nothing was summed yet. Raises: StudyInvalid: too many parameters."""
        self._small(model.size)
        single = Newton({}).init(model.astype(np.float64))
        stacked = {name: np.tile(single[name], self._fits) for name in STACKED}
        models = np.tile(single["model"], self._fits)
        tried = np.zeros(len(self.penalties))
        return {"model": model, "models": models, **stacked, "validation": tried, "chosen": one(0), "judged": one(0)}

    def sums(self, study: Study, length: int) -> Mapping[str, Sum]:
        """Of each fit gradient, Hessian, loss, and how many sites have sums beyond their limits; of each penalty the
        loss on validation patients; which parameters are penalised, by patients, as `update`; and how many are fitted.

        Raises: StudyInvalid: too many parameters.
        """
        self._small(length)
        gradient, curvature, loss = limits(study)
        most, fits = float(study.privacy.most_patients), self._fits
        return {
            "update": Sum(most, lasting=True), "gradients": Sum(gradient, each=False, length=fits * length),
            "hessians": Sum(curvature, each=False, length=fits * _pairs(length)),
            "losses": Sum(loss, each=False, length=fits), "beyond": Sum(1.0, each=False, length=fits),
            "validation": Sum(loss, each=False, length=len(self.penalties)), "fitted": Sum(most, each=False),
        }  # fmt: skip

    def passes(self, here: Here) -> tuple[Pass, ...]:
        """Nothing is trained at a site: the chosen model is judged as it is."""
        return (Pass(here.model, trained=False),)

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        """Sums of each fit at its own model; of one whose sums are beyond a limit that is told: see `newton.folded`.

        Raises: StudyInvalid: the kind of model has no Hessian.   TrainingFailed: as `newton.folded`.
        """
        if local.curvature is None or local.validation is None:
            raise StudyInvalid(
                "strategy.name: newton-path needs a model whose Hessian is summed, and sums without noise",
                "use model.kind linear, logistic, poisson or cox, without epsilon, or another strategy",
            )
        count, (fits, part) = len(self.penalties), (self._split(here.state["models"]), local.validation)
        told = {name: np.zeros(of.length) for name, of in local.sums.items() if not of.each}
        for number, model in enumerate(fits):
            first = float(here.state["taken"][number]) == 0
            found = (local.curvature if number < count else part.curvature)(model, first)
            judged = part.loss(model) if number >= count else 0.0
            sent, told["beyond"][number] = folded(
                {"gradients": found.gradient, "hessians": found.hessian, "losses": one(found.loss),
                 "validation": one(judged)}, local.sums,
            )  # fmt: skip
            self._split(told["gradients"])[number][:] = sent["gradients"]
            self._split(told["hessians"])[number][:] = sent["hessians"]
            told["losses"][number] = sent["losses"][0]
            if number >= count:
                told["validation"][number - count] = sent["validation"][0]
        told["fitted"] = one(part.fitted)
        penalised = np.full(here.model.size, local.patients, dtype=here.model.dtype)
        penalised[here.parts.get("intercept", slice(0))] = 0.0
        return {**told, "update": penalised, "weight": one(local.patients)}, {}

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """Newton's step of each fit, and which one is the common model.

        Raises: Invalid: all training patients are fitted, or none; as Newton's.
        """
        count, fitted = len(self.penalties), float(sums["fitted"][0])
        judged = weight - fitted
        if not 0 < fitted < weight:
            raise Invalid("no training patient chooses, or none is fitted", "ask for more patients: `min_patients`")
        penalised = sums["update"] > 0.5 * weight
        after = []
        for number in range(self._fits):
            patients = weight if number < count else fitted
            told = self._penalised(number, self.single(state, number), sums, patients, penalised)
            newton = Newton({"l1": self.penalties[number % count].l1})
            after.append(newton.apply_chunk(self.single(state, number), told, patients))
        known = sums["beyond"][count:] < 0.5
        validation = np.where(known, sums["validation"] / judged, UNKNOWN)
        chosen = int(np.argmin(validation))
        found = {name: np.concatenate([fit[name] for fit in after]) for name in STACKED}
        models = np.concatenate([fit["model"] for fit in after])
        return {
            "model": after[chosen]["model"].astype(state["model"].dtype), "models": models, **found,
            "validation": validation, "chosen": one(chosen), "judged": one(judged),
        }  # fmt: skip

    def _penalised(self, number: int, single: Tensors, sums: Tensors, patients: float, flags: Array) -> Tensors:
        """What Newton's method takes: the sums of a fit, with the penalty that so many patients bring."""
        at, penalty = single["model"], self.penalties[number % len(self.penalties)]
        ridge = np.where(flags, penalty.l2 * patients, 0.0)
        hessian = np.array(self._split(sums["hessians"])[number])
        diagonal = np.arange(at.size) * (np.arange(at.size) + 3) // 2
        hessian[diagonal] += ridge
        loss = float(sums["losses"][number]) + 0.5 * float(np.add.accumulate(ridge * at * at)[-1])
        told = {"update": self._split(sums["gradients"])[number] + ridge * at, "hessian": hessian, "loss": one(loss)}
        told["off"] = one(rounded(sums["losses"][number : number + 1]))
        lasso = {"lasso": np.where(flags, penalty.l1 * patients, 0.0)} if penalty.l1 else {}
        return {**told, **lasso, "beyond": sums["beyond"][number : number + 1]}

    def single(self, state: Mapping[str, Array], number: int) -> Tensors:
        """The state of `newton` for one fit; the first ones are to all training patients, by penalty."""
        found = {name: self._split(state[name])[number] for name in STACKED}
        return {**found, "model": self._split(state["models"])[number]}

    def chosen(self, state: Mapping[str, Array]) -> int:
        """Which of the penalties a state has chosen."""
        return int(state["chosen"][0])

    def _split(self, array: Array) -> Array:
        found: Array = array.reshape(self._fits, -1)
        return found

    def _small(self, length: int) -> None:
        if length > MOST:
            Newton({}).init(np.zeros(length))
        numbers = self._fits * (length + _pairs(length))
        if numbers > LARGEST:
            raise StudyInvalid(
                f"strategy.options: {len(self.penalties)} penalties with {length} parameters are {numbers} numbers, "
                f"and a site sends at most {LARGEST}",
                "ask for fewer penalties, or leave features out",
            )


def _pairs(length: int) -> int:
    return length * (length + 1) // 2
