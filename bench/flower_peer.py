"""Flower's half of `simulate.py`, in an environment of its own: `flower_peer.py SITES ROUNDS`.

Federated averaging in its simulator, on Ray. The last line that is printed is JSON: seconds of each round but the
first, in which processes start, and the last model.
"""

import json
import os
import sys
import time

import numpy as np
from flwr.client import ClientApp, NumPyClient
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.simulation import run_simulation

HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  Ray's workers look for the module there
os.environ["PYTHONPATH"] = HERE
from simulate_case import FEATURES, ROWS, patients, step  # noqa: E402


class Site(NumPyClient):
    """A hospital that makes one step."""

    def __init__(self, number: int) -> None:
        self.data = patients(number)

    def fit(self, parameters, config):
        """The model after it."""
        return [step(parameters[0], *self.data)], ROWS, {}


class Timed(FedAvg):
    """Federated averaging that notes when each round ended, and the newest model."""

    def __init__(self, sites: int) -> None:
        first = ndarrays_to_parameters([np.zeros(FEATURES + 1)])
        everybody = {"fraction_fit": 1.0, "fraction_evaluate": 0.0, "min_fit_clients": sites}
        super().__init__(**everybody, min_available_clients=sites, initial_parameters=first)
        self.ended, self.newest = [], first

    def aggregate_fit(self, server_round, results, failures):
        """A round ends."""
        assert not failures
        made = super().aggregate_fit(server_round, results, failures)
        self.newest = made[0]
        self.ended.append(time.perf_counter())
        return made


def client(context):
    """A hospital by its number."""
    return Site(int(context.node_config["partition-id"])).to_client()


def main() -> None:
    """Simulate, and say how long each round took."""
    sites, rounds = int(sys.argv[1]), int(sys.argv[2])
    strategy = Timed(sites)
    config = ServerConfig(num_rounds=rounds + 1)
    server = ServerApp(server_fn=lambda context: ServerAppComponents(strategy=strategy, config=config))
    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0}, "init_args": {"num_cpus": os.cpu_count()}}
    run_simulation(server, ClientApp(client_fn=client), sites, backend_config=resources)
    model = parameters_to_ndarrays(strategy.newest)[0]
    print(json.dumps({"seconds": np.diff(strategy.ended).tolist(), "model": model.tolist()}))


if __name__ == "__main__":
    main()
