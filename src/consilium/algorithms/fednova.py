"""FedNova. Wang et al., NeurIPS 2020, https://arxiv.org/abs/2007.07481, equation 9, for plain steps (|a| = steps).

A hospital that makes more steps goes further, and FedAvg then leans towards its optimum: it solves another problem than
the one that was asked. Here each goes by its mean step, and all together by the mean number of steps: the mean over
hospitals and not, as in the paper, over patients. It is but how far all go. Steps grow as patients do: by patients they
would be about squares of these, and a sum of squares over few hospitals tells of each how many it has.
"""

from collections.abc import Mapping
from typing import Any

from consilium.algorithms import fedavg
from consilium.algorithms.base import Here, Local, Options, one, parsed, weighted
from consilium.core.study import Study
from consilium.core.tensors import Tensors
from consilium.core.update import Sum


class FedNova(fedavg.FedAvg):
    """FedAvg of mean steps; with as many steps at every site it is FedAvg."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        parsed(Options, options, "fednova")

    def sums(self, study: Study, length: int) -> Mapping[str, Sum]:
        """As `stepped`."""
        return stepped(study)

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        """The difference, divided by the number of steps that it took; nothing is kept."""
        return by_step(weighted(here.model, local.after[0], local.patients), local.steps), {}

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """Model plus mean number of steps times mean step."""
        number = state["model"].dtype.type
        return {"model": state["model"] + number(mean_steps(sums)) * (sums["update"] / number(weight))}


def stepped(study: Study) -> dict[str, Sum]:
    """Weighted mean steps; the number of steps; and of hospitals."""
    training, most = study.training, float(study.privacy.most_patients)
    # Patients per step are at most a batch, and one who was left over: the limit is as much smaller as the values are.
    batch = min(float(training.batch_size or most) + (study.model.wheel is not None), most)
    steps = study.noised_steps if study.privacy.local else training.epochs * -(-most // batch)
    counts = {"steps": Sum(steps, each=False), "sites": Sum(1.0, each=False)}
    return {"update": Sum(study.privacy.clip * batch / training.epochs), **counts}


def by_step(made: Tensors, steps: int) -> Tensors:
    """A weighted difference, divided by the number of steps that it took; and that number."""
    update = made["update"] / made["update"].dtype.type(steps)
    return {**made, "update": update, "steps": one(steps), "sites": one(1)}


def mean_steps(sums: Tensors) -> float:
    """The mean number of steps of the hospitals in a sum."""
    return float(sums["steps"][0]) / float(sums["sites"][0])
