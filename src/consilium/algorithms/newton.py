"""Newton's method: a regression fitted to all hospitals' patients as if they were one table.

For a generalised linear model with its canonical link it is iteratively reweighted least squares: McCullagh and Nelder,
Generalized Linear Models, 1989, section 2.5. Of a Cox regression it maximises the partial likelihood. Each site sums
loss, gradient and Hessian over its patients at the common model; everybody solves for the same step. A step after which
the loss is larger is halved until it is not.
"""

from collections.abc import Mapping
from math import isqrt
from typing import Any

import numpy as np
from pydantic import Field

from consilium.algorithms import base, cholesky, lasso
from consilium.algorithms.base import Here, Local, Pass, one, parsed
from consilium.algorithms.cholesky import COARSE, Noise, unit_of
from consilium.core.errors import Invalid, StudyInvalid, TrainingFailed
from consilium.core.study import Study
from consilium.core.tensors import Array, Tensors, Vector
from consilium.core.timed import COX
from consilium.core.update import Sum

MOST = 500
"""Parameters; the Hessian of so many has 125,250 numbers, 1 MB."""
FAR = 8.0
"""A fitted value or residual of all patients together is taken for no larger than so many times the largest label."""
UNKNOWN = 1e4
"""Largest label whose contract gives no range."""
WIDE = 4.0
"""By no more standard deviations a hospital's patients lie apart from the mean of all: root of the mean square."""
SLACK = 1e-8
"""By so much, by its size and by patients, a loss may grow and still be one that did not: sums are rounded."""
UNITS = 8.0
"""By so many units to which sums are rounded two losses of the same patients may differ, and be the same."""
SHORT, MUCH = 0.01, 16.0
"""A step whose coefficients add up to no more is short: of the same patients, it changes the loss by no more than so
many times s'Hs, as convex as it is, and by far less near the optimum."""
TELLS = 16.0
"""So many times what rounding may do is left of a column that is taken; on the way once is enough."""
LEFT_OUT, LOST = 1.0, 2.0
"""What `left_out` says of a parameter: without patients, or following from others, from the first; or on the way."""


class Options(base.Options):
    """Options of `newton`."""

    l1: float = Field(0.0, ge=0, description="L1 penalty per patient on scaled coefficients, not on the intercept")


class Newton:
    """The state is the model at which sites sum next, and what was summed at `at`, from where `step` led to it.

    Args:    summed: whether the Hessian is a sum over sites, by which it is known how far it may be off.
    """

    most = MOST

    def __init__(self, options: Mapping[str, Any], summed: bool = True) -> None:
        self._summed = summed
        self.l1 = float(parsed(Options, options, "newton").l1)

    def init(self, model: Vector) -> Tensors:
        """Nothing was summed yet. Raises: StudyInvalid: too many parameters."""
        _small(model.size)
        at = model.astype(np.float64)
        pairs = np.zeros(model.size * (model.size + 1) // 2)
        numbers = {"loss": one(0), "patients": one(0), "taken": one(0)}
        return {
            "model": model, "at": at, "step": np.zeros_like(at), "left_out": np.zeros_like(at), "hessian": pairs,
            **numbers,
        }  # fmt: skip

    def sums(self, study: Study, length: int) -> Mapping[str, Sum]:
        """The gradient as `update`, Hessian, loss, and how many sites have sums beyond their limits.

        Raises: StudyInvalid: too many parameters.
        """
        _small(length)
        gradient, curvature, loss = limits(study)
        pairs = Sum(curvature, each=False, length=length * (length + 1) // 2)
        numbers = {"loss": Sum(loss, each=False), "beyond": Sum(1.0, each=False)}
        found = {"update": Sum(gradient, lasting=True), "hessian": pairs, **numbers}
        return found | ({"lasso": Sum(study.privacy.most_patients * self.l1, lasting=True)} if self.l1 else {})

    def passes(self, here: Here) -> tuple[Pass, ...]:
        """Nothing is trained at a site: the common model is judged as it is."""
        return (Pass(here.model, trained=False),)

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        """Sums at the common model; where one is beyond its limit, that is told, and the sums are of no use: `folded`.

        Raises: StudyInvalid: the kind of model has no Hessian.   TrainingFailed: a sum is no number.
        """
        if local.curvature is None:
            raise StudyInvalid(
                "strategy.name: newton needs a model whose Hessian is summed, and sums without noise",
                "use model.kind linear, logistic, poisson or cox, without epsilon, or another strategy",
            )
        found = local.curvature(here.model, float(here.state["taken"][0]) == 0)
        told = {"update": found.gradient, "hessian": found.hessian, "loss": one(found.loss), "beyond": one(0)}
        if self.l1:
            told["lasso"] = np.full(here.model.size, self.l1 * local.patients)
            told["lasso"][here.parts.get("intercept", slice(0))] = 0.0
        told, beyond = folded(told, local.sums)
        told["beyond"] = one(beyond)
        told |= {name: told[name].astype(here.model.dtype) for name in ("update", "lasso") if name in told}
        return {**told, "weight": one(local.patients)}, {}

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """Newton's step from where the sums were made; or half of the step that led there.

        A step is judged by the loss over the same patients alone: with other hospitals, the sums at hand are taken;
        also where these have as many patients, which shows by a loss that a short step cannot have changed so much.
        Near the optimum it lowers the loss by less than rounding hides: halved there, it would end before the optimum.

        Args:    sums: `off`: how far the loss is off; where it is not there, by the unit that can be seen in the loss.
        Raises: Invalid: sums were beyond their limits at the first model.
        """
        taken, beyond, loss = float(state["taken"][0]), float(sums["beyond"][0]) > 0.5, float(sums["loss"][0])
        at = state["model"].astype(np.float64)
        penalty = sums["lasso"].astype(np.float64) if self.l1 else np.zeros(at.size)
        loss = loss + float(np.add.accumulate(penalty * np.abs(at))[-1])
        if beyond and taken == 0:
            raise Invalid(
                f"{float(sums['beyond'][0]):.0f} hospitals have sums beyond what privacy.most_patients and the ranges "
                "of the contract allow",
                "raise privacy.most_patients, or correct the ranges, in a new study",
            )
        before, off = float(state["loss"][0]), float(sums["off"][0]) if "off" in sums else rounded(sums["loss"])
        slack = SLACK * (abs(before) + weight) + UNITS * off
        same = weight == float(state["patients"][0]) and not _others(state, abs(loss - before) - slack)
        if beyond or (taken >= 2 and same and loss > before + slack):
            step = state["step"] * 0.5
            return {**state, "step": step, "model": (state["at"] + step).astype(state["model"].dtype)}
        anew = taken == 0 or not same
        without = np.zeros(at.size, dtype=bool) if anew else state["left_out"] > 0
        gradient, hessian = sums["update"].astype(np.float64), cholesky.square(sums["hessian"], at.size)
        if self.l1:
            passed = without | (np.diag(hessian) <= 0)
            step = lasso.step(hessian, gradient, at, penalty).astype(np.float64)
        else:
            noise = noise_of(sums["hessian"], weight, TELLS if anew else 1.0) if self._summed else None
            lower, passed = cholesky.factor(hessian, without, noise)
            step = -cholesky.solve(lower, passed, gradient)
        known = np.zeros(at.size) if anew else state["left_out"]
        left_out = np.where(passed & ~without, LEFT_OUT if anew else LOST, known)
        return {
            "model": (at + step).astype(state["model"].dtype), "at": at, "step": step, "left_out": left_out,
            "hessian": np.array(sums["hessian"]), "loss": one(loss), "patients": one(weight), "taken": one(taken + 1),
        }  # fmt: skip


def _others(state: Tensors, changed: float) -> bool:
    """Whether a short step changed a loss, by more than rounding did, as it cannot change that of the same patients."""
    step, bent = state["step"], cholesky.square(state["hessian"], state["step"].size)
    length, square = (np.add.accumulate(np.ravel(of))[-1] for of in (np.abs(step), bent * np.outer(step, step)))
    return bool(length <= SHORT and changed > MUCH * square)


def rounded(loss: Array) -> float:
    """The unit to which a loss (1,) was rounded, as far as it can be seen; 0 of one that is a round number itself."""
    unit = unit_of(loss)
    return unit if unit < COARSE * abs(float(loss[0])) else 0.0


def folded(told: Tensors, sums: Mapping[str, Sum]) -> tuple[Tensors, bool]:
    """Sums of a hospital, of which each number beyond its limit is halved until it is within; and whether any was.

    Nobody uses such a sum, and yet it must be there. Zeros in its place, or the limit, leave a sum over the others
    alone: of three hospitals it would be that of a single one. What stands there hides that one as far as nobody can
    guess it: not where it follows from a whole number, as where a rate is cut at its largest for all who add to it.
    Newton's own steps were not seen to lead there; and by chance, the same patients would give other sums each time.

    Raises: TrainingFailed: a sum is no number; this hospital adds nothing then, and is not in the sum at all.
    """
    found, beyond = dict(told), False
    for name, segment in told.items():
        if not np.all(np.isfinite(segment)):
            raise TrainingFailed(
                "sums over this hospital's patients grew beyond all numbers",
                "give features narrower ranges, or a penalty (`model.l2`), in a new study",
            )
        limit = sums[name].limit
        if limit is not None and bool(np.any(np.abs(segment) > limit)):
            by = np.abs(segment) / limit
            found[name], beyond = np.where(by > 1, np.ldexp(segment, -np.frexp(by)[1]), segment), True
    return found, beyond


def noise_of(hessian: Array, patients: float, times: float = 1.0, least: float = 0.0) -> Noise:
    """How far a Hessian that is a sum over sites may be off, so many times.

    Args:    least: by which each element of it is off in any case.
    """
    # Of what is the same for all patients of a Cox regression the square of a rounding is left, and nothing else.
    found = Noise.of(hessian, least=max(least, cholesky.ROUNDED**2 * patients))
    return Noise(times * found.each, times * (isqrt(2 * hessian.size) + 1) * found.share)


def _small(length: int) -> None:
    if length > MOST:
        raise StudyInvalid(
            f"strategy.name: newton takes at most {MOST} parameters, and the model has {length}",
            "leave features out, or use fedavg",
        )


def limits(study: Study) -> tuple[float, float, float]:
    """The largest absolute values that one site adds to the gradient, the Hessian and the loss, by the contract.

    A penalty adds little to them while no coefficient of a scaled feature is beyond a thousand.
    """
    most, ridge = float(study.privacy.most_patients), study.model.l2
    given = study.contract.label.range
    label = max(1.0, abs(given[0]), abs(given[1])) if given else UNKNOWN
    scaled = largest(study)
    error, weight, loss = {
        "linear": (FAR * label, 1.0, (FAR * label) ** 2 / 2),
        "logistic": (1.0, 0.25, 64.0),
        COX: (2.0, 1.0, 64.0),
        "poisson": (FAR * label, FAR * label, max(UNKNOWN, 100 * label)),
    }.get(study.model.kind, (FAR * label, FAR * label, (FAR * label) ** 2))
    return (
        most * (error * scaled + ridge * 1e3),
        most * (weight * scaled**2 + ridge),
        most * (loss + ridge * 1e6),
    )


def largest(study: Study) -> float:
    """The largest absolute value of an encoded feature (`encode`): values beyond a feature's range are no values.

    Of standardised features the square of it is the largest mean square at one hospital: over all, that is 1.
    """
    if study.prepare is not None and study.prepare.numbers == "standardise":
        return WIDE
    found = 1.0 if study.prepare is None or study.prepare.harmonise is None else WIDE
    for feature in study.contract.features:
        if feature.range is not None and feature.typical is not None:
            low, high = feature.typical
            ends = (abs(end - (low + high) / 2) / ((high - low) / 2) for end in feature.range)
            found = max(found, *ends)
    return found
