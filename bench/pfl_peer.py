"""pfl's half of `simulate.py`, in an environment of its own: `pfl_peer.py SITES ROUNDS`.

Federated averaging of pfl with a model in numpy, for so small a one needs no tensor library; no evaluation, no
postprocessor. The last line that is printed is JSON: seconds, and the processor's, of each round but the
first, and the last model.
"""

import json
import sys
import time

import numpy as np
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import ModelHyperParams
from pfl.internal.ops import numpy_ops
from pfl.internal.ops.selector import set_framework_module
from pfl.metrics import Metrics
from pfl.model.base import StatefulModel
from pfl.stats import MappedVectorStatistics

from simulate_case import FEATURES, patients, step


class Logistic(StatefulModel):
    """A vector of parameters."""

    def __init__(self) -> None:
        self.w = np.zeros(FEATURES + 1)

    def get_parameters(self, placeholders=None):
        """A copy."""
        return MappedVectorStatistics({"w": self.w.copy()})

    def set_parameters(self, w):
        """Go back to these."""
        self.w = w["w"].copy()

    def get_model_difference(self, other_parameters, clone=False):
        """What training changed."""
        return MappedVectorStatistics({"w": self.w - other_parameters["w"]})

    def apply_model_update(self, statistics):
        """The common model, in place."""
        self.w = self.w + statistics["w"]
        return self, Metrics()

    def evaluate(self, dataset, name_formatting_fn, eval_params=None):
        """Nothing: ours judges the model, and this one need not."""
        return Metrics()

    def save(self, dir_path):
        """Not here."""

    def load(self, dir_path):
        """Not here."""


class Averaging(FederatedAveraging):
    """Federated averaging, all sites of equally many patients."""

    def train_one_user(self, initial_model_state, model, user_dataset, central_context):
        """One step."""
        model.w = step(model.w, *user_dataset.raw_data)
        return model.get_model_difference(initial_model_state), Metrics()

    def process_aggregated_statistics(self, central_context, aggregate_metrics, model, statistics):
        """The mean."""
        statistics["w"] /= central_context.cohort_size
        return model.apply_model_update(statistics)


class Clock(TrainingProcessCallback):
    """Notes when each round ended."""

    def __init__(self) -> None:
        self.ended, self.processor = [], []

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        """A round ends."""
        self.ended.append(time.perf_counter())
        self.processor.append(time.process_time())
        return False, Metrics()


def main() -> None:
    """Simulate, and say how long each round took."""
    sites, rounds = int(sys.argv[1]), int(sys.argv[2])
    set_framework_module(numpy_ops)
    known = [Dataset(patients(site), user_id=site) for site in range(sites)]
    data = FederatedDataset(lambda site: known[site], get_user_sampler("minimize_reuse", list(range(sites))))
    model, clock = Logistic(), Clock()
    wanted = NNAlgorithmParams(rounds + 1, 10**9, sites, None)
    Averaging().run(wanted, SimulatedBackend(data, data), model, ModelHyperParams(), None, [clock])
    spent = {"seconds": np.diff(clock.ended).tolist(), "processor": np.diff(clock.processor).tolist()}
    print(json.dumps({**spent, "model": model.w.tolist()}))


if __name__ == "__main__":
    main()
