"""FedBuff. Nguyen et al., AISTATS 2022, https://arxiv.org/abs/2106.06639, algorithm 1, with the weights of section 5.

A round closes as soon as `enough` sites have answered, and nobody waits for slow ones. Who comes later keeps the update
that it made, and answers the next round that it is asked in with it, in the place of a new one: it counts for less, the
more rounds have passed. A site answers a round once, where the paper lets fast ones come twice; and it counts by its
patients.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from consilium.algorithms import base, fedavg
from consilium.algorithms.base import Here, Local, Pass, one, parsed, weighted
from consilium.core.study import Study
from consilium.core.tensors import Tensors, Vector
from consilium.core.update import Sum


class Buffer(base.Options):
    """`enough`: answers with which a round closes at once. `discount`: an update that is t rounds late counts for
    1 / (1 + t)^discount; 0 is in full. `server_learning_rate`: part of the mean difference that the model goes.
    """

    enough: int = Field(ge=1, le=10_000)
    discount: float = Field(0.5, ge=0, le=10)
    server_learning_rate: float = Field(1.0, gt=0, le=10)


class FedBuff(fedavg.FedAvg):
    """FedAvg of whoever was first, and of who was late before; where nobody is late it is FedAvg."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options: Buffer = parsed(Buffer, options, "fedbuff")

    def init(self, model: Vector) -> Tensors:
        """The model, and by how many rounds the last updates were late on average over patients."""
        return {"model": model, "delay": one(0)}

    def sums(self, study: Study, length: int) -> Mapping[str, Sum]:
        """Weighted differences, those of late sites discounted; rounds by which they are late, by patients."""
        return {"update": Sum(), "delay": Sum(float(study.privacy.most_patients * study.rounds), each=False)}

    def passes(self, here: Here) -> tuple[Pass, ...]:
        """The site's own loss, from the common model; nothing is trained where an update waits to be counted."""
        return (Pass(here.model, trained=not here.late),)

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        """The update that waits, or the new one. It is kept as it was made, with its round, until it is counted."""
        made = dict(here.late) or {
            **weighted(here.model, local.after[0], local.patients), "round": one(here.number),
        }  # fmt: skip
        delay, weight = max(here.number - float(made["round"][0]), 0.0), float(made["weight"][0])
        update = made["update"] * made["update"].dtype.type((1 + delay) ** -self._options.discount)
        return {"update": update, "weight": made["weight"], "delay": one(weight * delay)}, made

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """Model plus a part of the mean difference, over patients in full; the mean delay."""
        number = state["model"].dtype.type
        step = number(self._options.server_learning_rate) * (sums["update"] / number(weight))
        return {"model": state["model"] + step, "delay": one(float(sums["delay"][0]) / weight)}
