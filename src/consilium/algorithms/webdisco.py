"""Cox regression with one baseline hazard for all hospitals, as if their patients were in one table.

WebDISCO: Lu et al., JAMIA 2015, 22:1212. Sites sum, for each group of times, over the patients whose observation ended
in it; from the sums of all sites everybody computes who was still observed at each time, and by that the partial
likelihood, its gradient and its Hessian, which no site knows of itself. Events of one group are tied, by Efron's method
or Breslow's.

Beyond the paper: times are rounded to multiples of `every`, and then grouped so that no sum is opened over fewer than
`least` patients with the event, or over some but fewer than `least` without it. For that, sites first tell of spans of
times, each half of one above it, whether they have so many themselves. Where two have, so has the sum over the others
of any hospital. One that alone made a cell large enough takes its own part off, and sees single patients of others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, isqrt
from typing import Any

import numpy as np
from pydantic import Field

from consilium.algorithms import base
from consilium.algorithms.base import Here, Local, Pass, one, parsed
from consilium.algorithms.cells import Spans, spanned, spans, split
from consilium.algorithms.cholesky import Noise
from consilium.algorithms.logarithm import logarithm
from consilium.algorithms.newton import MOST, Newton, folded, largest
from consilium.core.errors import Invalid, StudyInvalid
from consilium.core.study import Study
from consilium.core.tensors import Array, Tensors, Vector
from consilium.core.timed import CELL
from consilium.core.update import Sum

LARGEST = 1 << 22
"""Numbers that a site may send in a round: 32 MB."""
HOSPITALS = 2
"""So many hospitals each have enough patients for a cell: whoever of them takes its own off has enough left."""
RISE = 16.0
"""The hazards of a group's patients add up to no more than that of so many times the most patients, all average."""


class Options(base.Options):
    """Options of `webdisco`."""

    every: float = Field(gt=0, description="times are rounded to multiples of it, in the label's unit")
    until: float = Field(gt=0, description="times from here on are one, in the label's unit")
    least: int = Field(CELL, ge=1, description="fewest patients of a cell that is opened; 1 groups nothing")


class WebDisco:
    """The state is that of Newton's method; `starts` marks the times at which a group begins, once it is `grouped`.

    `rounding` is about how far elements of the gradient, and of the Hessian's diagonal, are off by that of the sums.
    """

    most = MOST

    def __init__(self, options: Mapping[str, Any]) -> None:
        found: Options = parsed(Options, options, "webdisco")
        self.every, self.least = found.every, found.least
        self.times = ceil(found.until / found.every) + 1
        self._newton = Newton({}, summed=False)

    def init(self, model: Vector) -> Tensors:
        """Nothing was summed yet; where nothing is hidden, each time is a group. Raises: StudyInvalid: too large."""
        self._small(model.size)
        begun = float(self.least == 1)
        more = {"starts": np.full(self.times, begun), "grouped": one(begun), "centre": np.zeros(model.size)}
        more["rounding"] = np.zeros(model.size)
        return {**self._newton.init(model), **more}

    def sums(self, study: Study, length: int) -> Mapping[str, Sum]:
        """By group of times: events, and sums over who left; the columns of those with the event, as `update`.

        Raises: StudyInvalid: too large.
        """
        self._small(length)
        most, scaled = float(study.privacy.most_patients), largest(study)
        by_group = Sum(most * RISE * scaled**2, each=False, length=self.times * width(length))
        return {
            "update": Sum(most * scaled, lasting=True), "events": Sum(most, each=False, length=self.times),
            "leaving": by_group, "tied": by_group, "spans": Sum(1.0, each=False, length=3 * spans(self.times)),
            "penalty": Sum(max(1.0, most * study.model.l2), each=False), "beyond": Sum(1.0, each=False),
        }  # fmt: skip

    def passes(self, here: Here) -> tuple[Pass, ...]:
        """Nothing is trained at a site."""
        return self._newton.passes(here)

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        """First, of which spans this site has enough patients; then sums by group, or that they are beyond a limit.

        Raises: StudyInvalid: the kind of model has no times.   TrainingFailed: as `newton.folded`.
        """
        if local.timed is None:
            raise StudyInvalid("strategy.name: webdisco needs a model of times", "use model.kind cox, without epsilon")
        told: Tensors = {name: np.zeros(of.length) for name, of in local.sums.items() if not of.each}
        told["update"] = np.zeros(here.model.size)
        if not self._grouped(here.state):
            events, censored = local.timed.counted(self._edges())
            enough = [spanned(events) >= self.least, spanned(censored) >= self.least, spanned(censored) > 0]
            told["spans"] = np.concatenate(enough).astype(np.float64)
        else:
            found = local.timed.leaving(here.model, self._edges()[here.state["starts"] > 0], here.state["centre"])
            told |= {"update": found.moved, "penalty": one(found.penalty)}
            for name, array in (("events", found.events), ("leaving", found.all), ("tied", found.tied)):
                told[name][: array.size] = np.ravel(array)
        told, beyond = folded(told, local.sums)
        told["beyond"] = one(beyond)
        told["update"] = told["update"].astype(here.model.dtype)
        return {**told, "weight": one(local.patients)}, {}

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """The groups; and from then on Newton's step by the derivatives that follow from the sums of groups.

        Raises: Invalid: no hospital has enough patients for a single group; as Newton's.
        """
        if not self._grouped(state):
            return {**state, "starts": self._groups(sums["spans"]), "grouped": one(1)}
        beyond, size = float(sums["beyond"][0]), state["model"].size
        count = int(np.sum(state["starts"] > 0))
        leaving, tied = (sums[name].reshape(self.times, width(size))[:count] for name in ("leaving", "tied"))
        total = np.add.accumulate(leaving)[-1]
        found = None
        if not beyond:
            found = Derivatives.of(np.rint(sums["events"][:count]), leaving, tied)
        if found is None:
            told = {"update": np.zeros(size), "hessian": np.zeros_like(state["hessian"]), "loss": one(0)}
            told["beyond"] = one(max(beyond, 1.0))
        else:
            told = found.penalised(state, sums) | {"beyond": one(0), "off": one(float(np.max(found.rounding)))}
        beside = ("starts", "grouped", "centre", "rounding")
        known = {name: array for name, array in state.items() if name not in beside}
        after = self._newton.apply_chunk(known, told, weight)
        lasting = {name: state[name] for name in beside}
        if float(state["taken"][0]) == 0:
            lasting["centre"] = total[1 : 1 + size] / total[0]
        if found is not None and after["taken"] > state["taken"]:
            lasting["rounding"] = found.rounding
        return {**after, **lasting}

    def groups(self, state: Mapping[str, Array]) -> tuple[float, ...]:
        """The least time of each group that a state has, to which times are rounded."""
        return tuple(float(self.every * place) for place in np.flatnonzero(state["starts"] > 0))

    def _grouped(self, state: Mapping[str, Array]) -> bool:
        return float(state["grouped"][0]) > 0

    def _edges(self) -> Array:
        """Where the span of each time begins, of which the first holds all before it."""
        found: Array = self.every * (np.arange(self.times) - 0.5)
        return found

    def _groups(self, told: Array) -> Array:
        events, censored, some = told.reshape(3, -1)
        known = Spans(events > HOSPITALS - 0.5, censored > HOSPITALS - 0.5, some > 0.5)
        groups = split(known, 1, 0, spans(self.times) // 2)
        if not all(group.fine for group in groups):
            raise Invalid(
                f"no {HOSPITALS} hospitals have {self.least} training patients with the event, and as many without it",
                "fit a stratified model (strategy newton), or lower strategy.options.least in a new study, which each "
                "hospital must allow",
            )
        found = np.zeros(self.times)
        found[[group.start for group in groups]] = 1
        return found

    def _small(self, length: int) -> None:
        numbers = self.times * (2 * width(length) + 1)
        if length <= MOST and numbers > LARGEST:
            raise StudyInvalid(
                f"strategy.options: {self.times} times with {length} parameters are {numbers} numbers, and a site "
                f"sends at most {LARGEST}",
                "raise `every`, lower `until`, or leave features out",
            )


def width(length: int) -> int:
    """Numbers by group: of a hazard, its products with columns, and those with two columns, as a lower triangle."""
    return 1 + length + length * (length + 1) // 2


@dataclass(frozen=True)
class Derivatives:
    """Minus the log partial likelihood, but for what those with the event add, and its derivatives, by groups of times.

    Everything is added in order, one after the other, so that everybody gets the same bits.

    Args:    rounding: (d,) about how far each element of the gradient, and of the Hessian's diagonal, is off.
    """

    logs: float
    gradient: Vector
    hessian: Vector
    rounding: Vector

    @classmethod
    def of(cls, deaths: Array, leaving: Array, tied: Array) -> "Derivatives | None":
        """Of k groups: events (k,), sums over who left (k, width), and over those with the event; zero for Breslow.

        None: the sums are none of hazards, because rounding left nothing of them.
        """
        died = np.flatnonzero(deaths > 0)
        observed = np.add.accumulate(leaving[::-1])[::-1][died]
        gone = tied[died]
        size = _length(leaving.shape[1])
        coefficients, logs = np.zeros((len(died), 5)), 0.0
        for row, count in enumerate(deaths[died]):
            share = np.arange(count) / count
            total = observed[row, 0] - share * gone[row, 0]
            if not np.all(total > 0):
                return None
            single = 1.0 / total
            squared = single * single
            terms = (single, share * single, squared, share * squared, share * share * squared)
            coefficients[row] = [np.add.accumulate(term)[-1] for term in terms]
            logs = logs + float(np.add.accumulate(logarithm(total))[-1])
        once, shared, twice, mixed, last = (column[:, None] for column in coefficients.T)
        linear = once * observed - shared * gone
        means, away = observed[:, 1 : 1 + size], gone[:, 1 : 1 + size]
        i, j = np.tril_indices(size)
        both = means[:, i] * away[:, j] + away[:, i] * means[:, j]
        curved = twice * (means[:, i] * means[:, j]) - mixed * both + last * (away[:, i] * away[:, j])
        hessian = linear[:, 1 + size :] - curved
        rounding = _rounding(leaving, died, coefficients[:, 0], means / observed[:, :1])
        return cls(logs, _added(linear[:, 1 : 1 + size]), _added(hessian), rounding)

    def penalised(self, state: Tensors, sums: Tensors) -> Tensors:
        """What Newton's method takes: loss, gradient and Hessian at the state's model."""
        at, moved = state["model"].astype(np.float64), sums["update"].astype(np.float64)
        penalty = float(sums["penalty"][0])
        events = float(np.add.accumulate(np.rint(sums["events"]))[-1])
        products = np.append(at * (moved - events * state["centre"]), 0.0)
        squares = np.append(at * at, 0.0)
        gained, shrunk = float(np.add.accumulate(products)[-1]), float(np.add.accumulate(squares)[-1])
        hessian = self.hessian + penalty * np.eye(at.size)[np.tril_indices(at.size)]
        loss = self.logs - gained + 0.5 * penalty * shrunk
        return {"update": self.gradient - moved + penalty * at, "hessian": hessian, "loss": one(loss)}


def _rounding(leaving: Array, died: Array, hazards: Array, means: Array) -> Array:
    """About how far derivatives are off (d,): sums by group are rounded to a unit, which can be seen in them.

    What a group's sums are off by is in who was observed at each time before it: as often as hazards (events over
    hazards observed) add up to until then; and the more, the further the mean of those observed is from the centre.

    Args:    died: (n,) groups with events.   hazards: (n,).   means: (n, d) of the columns of those observed.
    """
    by_group = np.zeros((len(leaving), means.shape[1]))
    by_group[died] = hazards[:, None] * (1.0 + means * means)
    until = np.add.accumulate(by_group)[leaving[:, 0] != 0]  # nothing is rounded to nothing
    found: Array = Noise.of(np.ravel(leaving)).each * np.sqrt(_added(until * until))
    return found


def _added(rows: Array) -> Array:
    return np.add.accumulate(rows)[-1] if len(rows) else np.zeros(rows.shape[1])


def _length(width_: int) -> int:
    """Parameters of that `width`."""
    return (isqrt(8 * width_ + 1) - 3) // 2
