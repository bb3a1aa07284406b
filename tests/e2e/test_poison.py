"""Bytes that somebody sends cannot end the coordinator: its run fails and says why, and the others go on."""

from collections.abc import Callable

import numpy as np
import pytest
from safetensors.numpy import save

from consilium.core.errors import Invalid
from consilium.core.study import Plan
from consilium.core.tensors import from_safetensors
from e2e import studies
from e2e.coordinator import Coordinator, refusal
from e2e.processes import until

MODELS = {
    "no-safetensors": b"these bytes are no model",
    "half-precision": save({"w": np.zeros(4, dtype=np.float16)}),
    "not-finite": save({"w": np.array([0.0, np.nan])}),
    "nothing": save({}),
}


def test_a_model_that_cannot_be_averaged_fails_its_own_run_alone(coordinator: Coordinator) -> None:
    admin, north = coordinator.admin, coordinator.join("north")
    for name, data in MODELS.items():
        wanted = studies.study(name)
        model = wanted.model.model_copy(update={"initial": admin.send_blob(data)})
        plan = Plan.of(wanted.model_copy(update={"model": model}))
        admin.connection.post("/v1/studies", {"plan": plan.payload.decode()})
        run = studies.start(admin, plan)
        north.send(studies.decision(north, plan))

        def failed(run: str = run) -> bool:
            return bool(admin.connection.get(f"/v1/runs/{run}")["status"] == "failed")

        coordinator.process.until(failed, f"{run} fails")
        assert admin.connection.get(f"/v1/runs/{run}")["reason"]
    plan = studies.submit(admin, studies.study("good"))
    run = studies.start(admin, plan)
    north.send(studies.decision(north, plan))
    assert studies.task(north, run).round == 1
    assert "Traceback" not in coordinator.process.said


POISON: dict[str, Callable[[np.ndarray], dict[str, np.ndarray]]] = {
    "metrics": lambda update: {"metrics/n": np.array([np.nan])},
    "name": lambda update: {"metrics/x": np.zeros(1)},
    "nan": lambda update: {"update": np.where(np.arange(update.size) == update.size - 1, np.nan, update)},
    "infinite": lambda update: {"update": update + np.inf},
    "nobody": lambda update: {"weight": np.array([1e-300])},
    "everybody": lambda update: {"weight": np.array([1e12])},
}


@pytest.mark.parametrize("kind", POISON)
def test_what_would_spoil_the_sum_is_refused_and_the_site_may_answer_anew(coordinator: Coordinator, kind: str) -> None:
    name, bad = f"poisoned-{kind}", POISON[kind]
    admin, site = coordinator.admin, coordinator.join(name)
    plan = studies.submit(admin, studies.study(name, sites=[name]))
    run = studies.start(admin, plan)
    site.send(studies.decision(site, plan))
    task = studies.task(site, run)
    initial = site.connection.request("GET", f"/v1/blobs/{task.initial.digest}").data
    good = studies.contribution(initial)
    update = np.zeros(sum(array.size for array in from_safetensors(initial).values()))
    poisoned = studies.vectors({"update": update, "weight": np.array([1.0]), **bad(update)})
    sent = site.send_blob(poisoned)
    assert isinstance(refusal(lambda: site.send(studies.answer(task, sent, len(poisoned)))), Invalid)
    site.send(studies.answer(task, site.send_blob(good), len(good)))
    until(lambda: admin.connection.get(f"/v1/runs/{run}")["round"] != task.round, "the run goes on")
