"""Flower's half of `secure.py`: its SecAgg+ in its simulator, which is its fastest way, in an environment of its own.

    secure_peer.py SITES MEGABYTES ROUNDS plain|secure

Every site adds a constant to the model; each sends another vector, for Flower stores equal ones once. There is no TLS,
no disk and no network between: sites are Ray actors on this machine. The last line that is printed is JSON: seconds of
each round after the first one, and how far the mean is from the right one.
"""

import json
import os
import sys
import time

import numpy as np
from flwr.client import ClientApp, NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import LegacyContext, ServerApp, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.simulation import run_simulation

WEIGHT = 40


class AddConstant(NumPyClient):
    """A hospital whose training adds a tenth of its number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def fit(self, parameters, config):
        """The model, and the constant."""
        return [parameters[0] + np.float32(self.number / 10)], WEIGHT, {}


class Timed(FedAvg):
    """Federated averaging that notes when each round began, and the newest model."""

    def __init__(self, sites: int, size: int) -> None:
        self.first = np.random.default_rng(1).normal(scale=0.05, size=size).astype(np.float32)
        everybody = {"fraction_fit": 1.0, "fraction_evaluate": 0.0, "min_fit_clients": sites}
        start = ndarrays_to_parameters([self.first])
        super().__init__(**everybody, min_available_clients=sites, initial_parameters=start)
        self.began, self.newest = [], start

    def configure_fit(self, server_round, parameters, client_manager):
        """A round begins."""
        self.began.append(time.perf_counter())
        return super().configure_fit(server_round, parameters, client_manager)

    def aggregate_fit(self, server_round, results, failures):
        """A round ends."""
        made = super().aggregate_fit(server_round, results, failures)
        self.newest = made[0]
        return made


def client(context):
    """A hospital, numbered from 1."""
    return AddConstant(int(context.node_config["partition-id"]) + 1).to_client()


def main() -> None:
    """Simulate, and say how long each round took."""
    sites, megabytes, rounds, kind = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    strategy = Timed(sites, int(megabytes * 1_000_000 / 4))
    server = ServerApp()

    @server.main()
    def run(grid, context):
        """One more round than is measured, and the beginning of another, which ends the last."""
        legacy = LegacyContext(context=context, config=ServerConfig(num_rounds=rounds + 1), strategy=strategy)
        shares = min(sites, 5)
        secure = SecAggPlusWorkflow(shares, shares // 2 + 1, max_weight=2 * WEIGHT) if kind == "secure" else None
        DefaultWorkflow(fit_workflow=secure)(grid, legacy)
        strategy.began.append(time.perf_counter())

    mods = [secaggplus_mod] if kind == "secure" else []
    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0}, "init_args": {"num_cpus": os.cpu_count()}}
    run_simulation(server, ClientApp(client_fn=client, mods=mods), sites, backend_config=resources)
    mean = (rounds + 1) * np.mean(np.arange(1, sites + 1) / 10)
    error = float(np.abs(parameters_to_ndarrays(strategy.newest)[0] - strategy.first - mean).max())
    seconds = np.diff(strategy.began)
    print(json.dumps({"seconds": [float(one) for one in seconds[1:]], "first": float(seconds[0]), "error": error}))


if __name__ == "__main__":
    main()
