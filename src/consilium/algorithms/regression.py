"""The table of a regression that Newton's method fitted: coefficients in the contract's units, and how sure they are.

Standard errors come from the inverse of the Hessian (for a logistic or Poisson model the information matrix; for a
linear one times the residual variance, with Student's t). McCullagh and Nelder, 1989, sections 2.5 and 4.4. A Cox
regression has no intercept, and its deviance is minus twice the log partial likelihood; with a baseline of each
hospital's own, less that of a model without effects.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.algorithms import cholesky, encode, student
from consilium.algorithms.newton import LOST, TELLS, largest, limits, noise_of
from consilium.algorithms.path import NewtonPath
from consilium.algorithms.webdisco import WebDisco
from consilium.core.contract import Contract
from consilium.core.preparing import Prepare
from consilium.core.study import Study
from consilium.core.tensors import Array
from consilium.core.timed import COX

Floats = npt.NDArray[np.float64]
CONVERGED = 1e-6
"""Largest step of a coefficient of a scaled feature, by one more than its size, at which iterations have converged."""
INTERCEPT = "intercept"
MOSTLY = 0.1
"""Where coefficients move, those are named that move by this share of the largest step."""
FINE = 20
"""With as many groups of times, each with as many events, a coefficient is within 2 per cent of that of the times."""
PRECISE = 1e-6
"""By no larger share a coefficient or a standard error is off that counts as exact."""
RING = 2.0**52
"""Integers of all sites together stay below it in a secure sum."""
NARROW = "left out: beside the terms above its values differ by nothing, or by too little for its range"
RARE = "left out: few patients have it, so that it counts as the reference (`prepare.rare_below`)"
EVENTLESS = "left out: no training patient had the event while others were observed"
RATIO = {"logistic": "odds ratio", "poisson": "rate ratio", COX: "hazard ratio"}
"""What the exponential of a coefficient is called."""


@dataclass(frozen=True)
class Term:
    """One coefficient.

    Args:    term: the column, as `encode.names` has it.   words: for people.   estimate: per unit of the contract;
             None: it was left out, and `note` says why.   error: standard error.   low, high: of the interval.
             p: two-sided.   ratio: exp(estimate) and its interval, where that has a name.   precision: by about which
             share rounding may have moved the standard error, or the estimate (of itself or of the standard error, the
             larger one; of a penalised one, which has none, of what the curvature of its loss alone would give); None:
             not known.
    """

    term: str
    words: str
    estimate: float | None = None
    error: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    ratio: tuple[float, float | None, float | None] | None = None
    note: str = ""
    precision: float | None = None


@dataclass(frozen=True)
class Tried:
    """A penalty of a path.

    Args:    loss: mean over validation patients, of the fit to the other training patients.   estimates: of the fit to
             all, by term, per unit of the contract; None: left out.   coefficients: how many of them, but for the
             intercept, are not zero.   converged: whether both fits had come to rest.   chosen: whether it is the one.
    """

    l1: float
    l2: float
    loss: float
    estimates: tuple[float | None, ...]
    coefficients: int
    converged: bool
    chosen: bool


@dataclass(frozen=True)
class Fit:
    """A fitted regression. `moving`: words of coefficients that had not come to rest; empty where it converged.

    Args:    patients: with whom it was fitted.   freedom: residual degrees of freedom.   deviance: twice the loss.
             ratio: name of the exponential of a coefficient; empty where it has none.   l2: the plan's penalty.
             groups: of a Cox regression with a common baseline, the least time of each group into which times were put.
             l1: the L1 penalty, of the strategy.   path: all penalties that were tried, where there are several.
             judged: validation patients, by whom one was chosen.
    """

    kind: str
    terms: tuple[Term, ...]
    moving: tuple[str, ...]
    patients: int
    freedom: int
    deviance: float
    confidence: float
    ratio: str
    l2: float
    groups: tuple[float, ...] = ()
    l1: float = 0.0
    path: tuple[Tried, ...] = ()
    judged: int = 0

    @property
    def converged(self) -> bool:
        """Whether every coefficient had come to rest."""
        return not self.moving

    @property
    def likelihood_ratio(self) -> float | None:
        """Statistic of the likelihood ratio test against no effects; None: the deviance is of another kind."""
        return -self.deviance if self.kind == COX and not (self.groups or self.l1 or self.l2) else None

    @property
    def baseline(self) -> str:
        """Of a Cox regression, whose baseline hazard it has, as the end of a sentence; else empty."""
        if self.groups:
            few = ": so few draw coefficients towards 0, as times do that are equal" if len(self.groups) < FINE else ""
            return f"with one baseline hazard for all hospitals, on times in {len(self.groups)} groups{few}"
        return "each hospital with a baseline hazard of its own" if self.kind == COX else ""

    @property
    def rough(self) -> list[Term]:
        """Terms that rounding may have moved by more than a millionth."""
        return [term for term in self.terms if term.precision is not None and not term.precision <= PRECISE]

    @property
    def problem(self) -> str:
        """What is wrong, and what to do; empty where nothing is."""
        if any(term.note == EVENTLESS for term in self.terms):
            return (
                "Nothing could be fitted: no training patient had the event while others of the hospital were observed."
                " Check the codes of the label in each mapping, or ask for more patients or a longer time."
            )
        return " ".join(filter(None, (self._restless, self._imprecise)))

    @property
    def _imprecise(self) -> str:
        known = [f"{term.words} (about {term.precision:.1g} of it)" for term in self.rough]
        known += [f"{term.words} (left out)" for term in self.terms if term.note == NARROW]
        if not known:
            return ""
        return (
            f"Rounding in the sums leaves less than six digits of {', '.join(known)}: values are the same, or lie "
            "close together within the contract's range. Scale by what patients have (`prepare: {numbers: "
            "standardise}`, or a `typical` range), narrow the range, or lower `privacy.most_patients` to what a "
            "hospital has at most."
        )

    @property
    def _restless(self) -> str:
        if self.converged:
            return ""
        return (
            f"The regression did not come to rest: {', '.join(self.moving)} still moved in the last round. More "
            "rounds may be needed (`rounds`). If the coefficient grows with every round, the patients with it have one "
            "outcome alone (separation): leave the feature out, join categories, or write a ridge penalty (`model.l2`)."
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for files and programs."""
        told = {name: value for name, value in vars(self).items() if name not in ("terms", "path")}
        terms = [
            {**vars(term), "ratio": dict(zip(("value", "low", "high"), term.ratio)) if term.ratio else None}
            for term in self.terms
        ]
        said: dict[str, Any] = {"converged": self.converged, "problem": self.problem, "baseline": self.baseline}
        said["likelihood_ratio"] = self.likelihood_ratio
        return {**told, **said, "terms": terms, "path": [vars(tried) for tried in self.path]}


def fitted(study: Study, state: Mapping[str, Array]) -> Fit | None:
    """The table of a study's final state; None where a strategy made it that fits none, or no round was done."""
    if not study.exact or float(state["taken"][0]) < 1:
        return None
    if study.validates:
        return _chosen(study, state)
    return _fitted(study, state, study.model.l2, float(study.strategy.options.get("l1", 0.0)))


def _chosen(study: Study, state: Mapping[str, Array]) -> Fit:
    """The table of the penalty that validation patients chose, and what is to be told of the others."""
    strategy, size = NewtonPath(study.strategy.options), len(state["model"])
    chosen, count = strategy.chosen(state), len(strategy.penalties)
    turned = scaling(study.contract, study.prepare, state)[-size:, -size:]
    intercept = [name == INTERCEPT for name in terms(study)]
    tried = []
    for number, penalty in enumerate(strategy.penalties):
        single = strategy.single(state, number)
        out, found = single["left_out"] > 0, turned @ single["model"]
        rest = not _moving(single) and not _moving(strategy.single(state, count + number))
        tried.append(Tried(
            penalty.l1, penalty.l2, float(state["validation"][number]),
            tuple(None if gone else float(one) for one, gone in zip(found, out, strict=True)),
            int(np.sum((single["model"] != 0) & ~out & ~np.array(intercept))), rest, number == chosen,
        ))  # fmt: skip
    penalty = strategy.penalties[chosen]
    fit = _fitted(study, {**state, **strategy.single(state, chosen)}, penalty.l2, penalty.l1)
    return replace(fit, path=tuple(tried), judged=round(float(state["judged"][0])))


def _fitted(study: Study, state: Mapping[str, Array], l2: float, l1: float) -> Fit:
    names, count = terms(study), state["model"].size
    patients, deviance = float(state["patients"][0]), 2 * float(state["loss"][0])
    out = state["left_out"] > 0
    turned = scaling(study.contract, study.prepare, state)[-count:, -count:]
    estimates = turned @ state["model"]
    freedom = round(patients) - int(np.sum(~out))
    hessian, noise = cholesky.square(state["hessian"], count), _noise(study, state, l2)
    inverse = _inverse(hessian, out | (state["model"] == 0) if l1 else out)  # what a lasso leaves at zero stays there
    covariance, apart = turned @ inverse @ turned.T, turned @ inverse
    if study.model.kind == "linear":
        covariance = covariance * (deviance / freedom if freedom > 0 else math.nan)
    sure = not study.validates and l2 == 0 and l1 == 0 and (study.model.kind != "linear" or freedom > 0)
    moving = _moving(state)
    words, said = _words(study, state), RATIO.get(study.model.kind, "")
    of_t = float(freedom) if study.model.kind == "linear" else None
    reach = student.within(study.evaluation.confidence, of_t) if sure else 0.0

    def term(index: int) -> Term:
        """The row of one coefficient, with what is known of it."""
        named = Term(names[index], words[names[index]])
        if out[index]:
            return Term(**{**vars(named), "note": _note(study, state, index)})
        estimate = float(estimates[index])
        found: dict[str, Any] = {**vars(named), "estimate": estimate}
        error = float(np.sqrt(covariance[index, index]))
        if sure:
            found |= {"error": error, "low": estimate - reach * error, "high": estimate + reach * error}
            found["p"] = student.two_sided(estimate / error, of_t) if error > 0 else None
        if noise is not None and estimate != 0:
            found["precision"] = _precision(study, noise, hessian, apart[index], estimate, error, sure)
        if said and names[index] != INTERCEPT:
            ends = (found.get("low"), found.get("high"))
            found["ratio"] = (_exp(estimate), *(None if end is None else _exp(end) for end in ends))
        return Term(**found)

    return Fit(
        study.model.kind, tuple(term(index) for index in range(count)),
        tuple(words[names[index]] for index in moving), round(patients), freedom, deviance,
        study.evaluation.confidence, said, l2,
        WebDisco(study.strategy.options).groups(state) if study.cell is not None else (), l1,
    )  # fmt: skip


def _moving(state: Mapping[str, Array]) -> list[int]:
    """Which coefficients had not come to rest: those that moved most, and those that were lost on the way."""
    step: Floats = np.abs(state["step"]) / (1 + np.abs(state["at"]))
    found = (step > CONVERGED) & (step >= MOSTLY * np.max(step))
    found |= state["left_out"] >= LOST
    if float(state["taken"][0]) < 2:  # what one step left over was never measured
        found[:] = True
    return [int(index) for index in np.flatnonzero(found)]


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def _noise(study: Study, state: Mapping[str, Array], l2: float) -> cholesky.Noise | None:
    """How far elements of the Hessian may be off; None where nothing tells."""
    if study.cell is not None:
        return _by_groups(study, state)
    least = _in_common(study, state)
    if study.privacy.recipe == "secure_sum":  # of at least so many sites, whose integers share one ring
        least = max(least, math.sqrt(study.quorum / 12) * study.quorum * limits(study)[1] / RING)
    summed = state["hessian"]
    if l2 and study.validates:  # the penalty was put on the diagonal after the sum
        summed = np.tril(cholesky.square(summed, state["model"].size), -1)
    return cholesky.Noise.of(summed, least=least) if np.any(summed) else None


def _by_groups(study: Study, state: Mapping[str, Array]) -> cholesky.Noise:
    """The same, where the Hessian is no sum over sites: it follows from sums by groups of times."""
    return cholesky.Noise(np.maximum(state["rounding"], _in_common(study, state)), cholesky.ROUNDED)


def _in_common(study: Study, state: Mapping[str, Array]) -> float:
    """Of a Cox regression, how far elements are off at least: what patients have in common falls out by subtraction."""
    return cholesky.ROUNDED * float(state["patients"][0]) * largest(study) ** 2 if study.model.kind == COX else 0.0


def _precision(
    study: Study, noise: cholesky.Noise, hessian: Floats, moved: Floats, estimate: float, error: float, sure: bool
) -> float:
    """By about which share rounding may have moved a standard error, or an estimate.

    Args:    moved: (d,) by how much the estimate moves with each element of the gradient.   sure: whether the standard
             error is told.
    """
    variance = float(moved @ hessian @ moved)
    if not variance > 0 or not error > 0:
        return math.inf
    gradient, curvature, _ = limits(study)
    ratio = gradient / curvature if study.cell is None else 1.0
    of_gradient = ratio * float(np.linalg.norm(noise.each * moved)) / max(abs(estimate), error)
    return max(noise.within(moved, np.diag(hessian)) / (2 * variance) if sure else 0.0, of_gradient)


def _note(study: Study, state: Mapping[str, Array], index: int) -> str:
    """Why a term was left out."""
    if float(state["left_out"][index]) >= LOST:
        return "no longer determined: see above"
    hessian = cholesky.square(state["hessian"], len(state["left_out"]))
    noise, diagonal = noise_of(state["hessian"], float(state["patients"][0]), TELLS), np.diag(hessian)
    if study.cell is not None:
        noise = _by_groups(study, state)
    if study.model.kind == COX and not np.any(diagonal > noise.each):
        return EVENTLESS
    number = terms(study)[index] in {one.id for one in study.contract.features if one.type == "number"}
    alone = np.eye(len(diagonal))[index]
    if not diagonal[index] > noise.within(alone, diagonal):
        rare = encode.rare(study.contract, study.prepare or encode.PLAIN, state)
        return NARROW if number else RARE if terms(study)[index] in rare else "left out: no patient has it"
    if number:
        if study.model.kind != COX:
            alone[0] = -hessian[index, 0] / hessian[0, 0]
        spread = float(alone @ hessian @ alone)
        if not PRECISE * spread > noise.within(alone, diagonal):
            return NARROW
    return "left out: it follows from the terms above"


def _inverse(hessian: Floats, out: Any) -> Floats:
    """The inverse (d, d) where nothing is left out, 0 elsewhere."""
    found, kept = np.zeros_like(hessian), np.flatnonzero(~out)
    size = np.sqrt(np.diag(hessian)[kept])
    scaled = hessian[np.ix_(kept, kept)] / np.outer(size, size)
    lower, _ = cholesky.factor(scaled, np.zeros(kept.size, dtype=bool), cholesky.Noise(0.0, 0.0))
    whole = np.linalg.inv(lower)
    found[np.ix_(kept, kept)] = whole.T @ whole / np.outer(size, size)
    return found


def terms(study: Study) -> list[str]:
    """Names of a regression's coefficients, in order."""
    return [*([] if study.model.kind == COX else [INTERCEPT]), *encode.names(study.contract, study.prepare)]


def scaling(contract: Contract, prepare: Prepare | None = None, learned: Mapping[str, Array] | None = None) -> Floats:
    """(d, d): from coefficients of encoded columns to those in the contract's units, intercept first.

    Args:    prepare, learned: as for `encode.encode`.
    """
    names = [INTERCEPT, *encode.names(contract, prepare)]
    found = np.eye(len(names))
    for index, feature in enumerate(contract.features):
        if feature.range is not None and feature.id in names:
            at = names.index(feature.id)
            centre, spread = encode.scale(feature, prepare or encode.PLAIN, learned, index)
            found[at, at] = 1 / spread
            found[0, at] = -centre / spread
    for number in range(0 if contract.image is None else contract.image.size):
        assert contract.image is not None
        at, index = len(names) - contract.image.size + number, len(contract.features) + number
        centre, spread = encode.scale(contract.image.feature, prepare or encode.PLAIN, learned, index)
        found[at, at] = 1 / spread
        found[0, at] = -centre / spread
    return found


def _words(study: Study, state: Mapping[str, Array]) -> dict[str, str]:
    """What each column is called before people."""
    found, asked = {INTERCEPT: INTERCEPT}, study.prepare or encode.PLAIN
    edges, _ = encode.by_feature(study.contract, asked, state)
    for index, feature in enumerate(study.contract.features):
        unit = "" if feature.unit in (None, "1") else f" {feature.unit}"
        if feature.id in asked.bins:
            inner = [float(edge) for edge in edges[index]]
            ends = [f"from {low:.4g} to {high:.4g}" for low, high in pairwise(inner)] + [f"from {inner[-1]:.4g}"]
            for number, where in enumerate(ends, 2):
                found[f"{feature.id}#{number}"] = f"{feature.id} {where}{unit}, against below {inner[0]:.4g}"
            missing = f"{feature.id} missing, against below {inner[0]:.4g}{unit}"
        elif feature.range is not None:
            centre, _ = encode.scale(feature, asked, state, index)
            found[feature.id] = f"{feature.id}, per 1{unit}"
            missing = f"{feature.id} missing, against {centre:.6g}{unit}"
        else:
            assert feature.categories is not None
            first, *others = feature.categories
            found |= {f"{feature.id}={code}": f"{feature.id} {code}, against {first}" for code in others}
            missing = f"{feature.id} missing, against {first}"
        found[f"{feature.id}?"] = missing
    if (image := study.contract.image) is not None:
        unit = "" if image.unit == "1" else f" {image.unit}"
        found |= {name: f"{name}, per 1{unit}" for name in image.names}
    return found
