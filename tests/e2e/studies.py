"""Studies and contributions as they travel, made with the project's own code and without any patient."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from consilium import studyfile
from consilium.api import freeze
from consilium.core import state as chain
from consilium.core.study import Plan, Study
from consilium.core.tensors import from_safetensors
from consilium.wire.messages import Answer, Decision, Task
from e2e.coordinator import Party, Site
from e2e.processes import until


def study(name: str, **changes: Any) -> Study:
    """The template's study under `plain`, without a gate, one round, a quorum of one, and `changes` to its keys."""
    values = yaml.safe_load(studyfile.template("study"))
    return Study.model_validate(
        {**values, "privacy": {"recipe": "plain"}, "rounds": 1, "quorum": 1, "gate": None, **changes, "name": name}
    )


def submit(person: Party, wanted: Study) -> Plan:
    """Send a study's initial model and its plan."""
    plan, weights = freeze(wanted)
    person.send_blob(weights)
    person.connection.post("/v1/studies", {"plan": plan.payload.decode()})
    return plan


def start(person: Party, plan: Plan) -> str:
    """Start a run; its name."""
    return str(person.connection.post(f"/v1/studies/{plan.study.name}/runs")["run"])


def decision(site: Site, plan: Plan, **changes: Any) -> Decision:
    """An approval of the plan by a person at the site."""
    values = {
        "site": site.name, "study": plan.study.name, "plan": plan.digest, "decision": "approve", "person": "Vera",
        "accepts": ["plain"], "at": "2030-01-01T00:00:00Z",
    }  # fmt: skip
    return Decision.model_validate({**values, **changes})


def vectors(arrays: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """A file of 1-D arrays."""
    out = io.BytesIO()
    chain.write(arrays, {}, out)
    return out.getvalue()


def length(initial: bytes) -> int:
    """Number of values of a model."""
    return sum(array.size for array in from_safetensors(initial).values())


def contribution(initial: bytes, weight: float = 10.0, seed: int = 1) -> bytes:
    """A contribution to a TRAIN round of the right layout."""
    update = np.random.default_rng(seed).normal(size=length(initial))
    return vectors({"update": update, "weight": np.array([weight])})


def answer(task: Task, blob: str, size: int, **changes: Any) -> Answer:
    """The answer to a task with a contribution that was sent before."""
    values = {
        "study": task.study, "run": task.run, "plan": task.plan, "round": task.round, "kind": task.kind,
        "phase": task.phase, "state": task.state.digest, "contribution": {"digest": blob, "size": size},
        "recipe": "plain",
    }  # fmt: skip
    return Answer.model_validate({**values, **changes})


def task(site: Site, run: str, number: int = 1) -> Task:
    """Wait for a task of a run in the site's inbox."""
    found: list[Task] = []

    def there() -> bool:
        found.extend(one for one in site.inbox() if isinstance(one, Task) and (one.run, one.round) == (run, number))
        return bool(found)

    until(there, f"{site.name} is asked in round {number} of {run}")
    return found[0]
