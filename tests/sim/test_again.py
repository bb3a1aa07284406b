"""Who comes late or comes again: what was dropped in the meantime is asked for anew, or does without."""

import time

import numpy as np
import pytest
from sqlalchemy import delete, update

from consilium.core.ids import digest
from consilium.core.study import Plan
from consilium.core.tensors import from_safetensors
from consilium.store.schema import blobs
from consilium.wire.envelope import seal
from consilium.wire.messages import Answer, Blob
from e2e.studies import vectors
from sim import test_requests
from sim.test_at_once import answers, begun, round_of, task
from sim.test_requests import Coordinator, Reply
from sim.test_retention import drop

coordinator = test_requests.coordinator


def sent(of: Coordinator, data: bytes) -> tuple[int, Reply]:
    """North answers its task as it answers with large contributions: what HEAD says, and the coordinator's answer."""
    asked, path = task(of, "north"), f"/v1/blobs/{digest(data)}"
    status, _ = of.ask("north", "HEAD", path)
    if status != 200:
        of.done("north", "PATCH", path, data, Upload_Offset="0", Upload_Length=str(len(data)))
    message = Answer(
        study=asked.study, run=asked.run, plan=asked.plan, round=asked.round, kind=asked.kind, phase=asked.phase,
        state=asked.state.digest, contribution=Blob(digest=digest(data), size=len(data)), recipe="plain",
    )  # fmt: skip
    return status, of.ask("north", "POST", "/v1/envelopes", seal(Answer.TYPE, message.encode(), of.keys["north"]))


@pytest.mark.parametrize("over", [True, False])
def test_a_contribution_that_was_dropped_is_asked_for_anew_when_another_run_makes_its_bytes(
    coordinator: Coordinator, over: bool
) -> None:
    """Seed and round alone decide an update: a second run of a study, or one of its twin, makes the bytes of the first.

    Nobody is told that they need not be sent because they were once: the round that waits for them would wait for ever.
    """
    of = coordinator
    of.site("north")
    for name in ("first", "twin"):
        _, payload = of.submits(name, quorum=1, rounds=2)
        assert of.decides("north", payload)[0] == 200
    initial = Plan.load(payload).study.model.initial
    assert initial is not None
    size = sum(array.size for array in from_safetensors(of.services.blobs.path(initial).read_bytes()).values())  # type: ignore[arg-type]
    data = vectors({"weight": np.array([10.0]), "update": np.full(size, 0.5)})

    of.done("rita", "POST", "/v1/studies/first/runs")
    of.drive()
    assert sent(of, data) == (404, (200, {"status": "accepted"}))
    of.drive()
    assert of.ask("north", "HEAD", f"/v1/blobs/{digest(data)}")[0] == 200, "it is here, and need not be sent"
    if over:
        of.done("rita", "POST", "/v1/runs/first-1/stop", {"reason": "enough"})
    of.services.database.run_here(lambda tx: tx.do(update(blobs).values(touched=1.0)))
    assert digest(data) in drop(of.services.database, time.time())
    of.services.blobs.remove(digest(data), time.time() + 60)

    of.done("rita", "POST", f"/v1/studies/{'first' if over else 'twin'}/runs")
    of.drive()
    assert task(of, "north").run == ("first-2" if over else "twin-1")
    assert sent(of, data) == (404, (200, {"status": "accepted"}))


def test_who_was_away_reads_on_where_the_sums_of_a_task_were_dropped(coordinator: Coordinator) -> None:
    """Else it never comes back: a page of its inbox that ends with such a task stays the same."""
    nothing = begun(coordinator, rounds=3)
    for site in ("north", "south"):
        assert answers(coordinator, site, nothing)[0] == 200
    assert round_of(coordinator) == 2
    page = coordinator.done("north", "GET", "/v1/inbox?after=0")
    aggregate, services = task(coordinator, "north").aggregate, coordinator.services
    assert aggregate is not None and aggregate.digest in page["blobs"]
    services.database.run_here(lambda tx: tx.do(delete(blobs).where(blobs.c.digest == aggregate.digest)))
    services._members.clear()
    services.shelf._lately.clear()
    assert coordinator.done("north", "GET", "/v1/inbox?after=0") == {**page, "blobs": {}}
