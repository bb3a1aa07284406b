"""The median over groups. Velicheti et al. 2021 (SHARE), https://arxiv.org/abs/2110.02940, algorithm 1, with the
coordinate-wise median of Yin et al., ICML 2018, https://arxiv.org/abs/1803.01498, over the groups' means.

Nobody sees single updates in a secure sum, so that none can be left out. But the sites are divided into groups, each
group's sum is opened apart, and each parameter of the common model moves by the median over groups of what it moved by
on average in a group. A site that sends anything at all spoils the mean of its own group, and no other.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from consilium.algorithms import base, fedavg
from consilium.algorithms.base import Here, Local, one, parsed, weighted
from consilium.core.apart import named
from consilium.core.study import Study
from consilium.core.tensors import Tensors
from consilium.core.update import Sum


class Divided(base.Options):
    """`groups`: into how many groups the sites are divided. Of three, one may be spoiled, of five two; 1 is FedAvg."""

    groups: int = Field(3, ge=1, le=99)


class GroupMedian(fedavg.FedAvg):
    """FedAvg within groups of sites, and the median over these."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._groups: int = parsed(Divided, options, "group-median").groups

    def sums(self, study: Study, length: int) -> Mapping[str, Sum]:
        """The weighted differences, and the patients behind them; each group's apart."""
        patients = Sum(float(study.privacy.most_patients), each=False, apart=True)
        return {"update": Sum(apart=True), "patients": patients}

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        """Weight times difference, and the weight once more; nothing is kept."""
        made = weighted(here.model, local.after[0], local.patients)
        return {**made, "patients": one(local.patients)}, {}

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """Model plus the median over groups of the mean differences; each group counts once."""
        number = state["model"].dtype.type
        groups = range(1, self._groups + 1)
        means = [sums[named("update", at)] / number(max(float(sums[named("patients", at)][0]), 1.0)) for at in groups]
        return {"model": state["model"] + np.median(np.stack(means), axis=0).astype(number)}
