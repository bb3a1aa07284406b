"""Little is summed in the transaction of the last answer; what fails there, or is large, is left to the driver."""

import time
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from consilium.core.errors import Unavailable
from consilium.core.ids import digest
from consilium.core.study import Plan
from consilium.core.tensors import from_safetensors
from consilium.store.blobs import Stored
from consilium.store.schema import blobs, effects, inbox
from consilium.wire.envelope import Envelope, seal
from consilium.wire.messages import Answer, Blob, Task
from e2e.studies import vectors
from sim import test_requests
from sim.test_requests import Coordinator

coordinator = test_requests.coordinator


def task(of: Coordinator, site: str) -> Task:
    """The newest task of a site."""
    rows = of.services.database.run_here(
        lambda tx: tx.rows(select(inbox).where(inbox.c.site == site).order_by(inbox.c.seq))
    )
    found = [Envelope.parse(row.envelope) for row in rows]
    return Task.decode([one.payload for one in found if one.kind == Task.TYPE][-1])


def answers(of: Coordinator, site: str, update: Any, query: str = "") -> tuple[int, Any]:
    """A site answers its task with a contribution at hand."""
    asked, data = task(of, site), vectors({"weight": np.array([10.0]), "update": update})
    message = Answer(
        study=asked.study, run=asked.run, plan=asked.plan, round=asked.round, kind=asked.kind, phase=asked.phase,
        state=asked.state.digest, contribution=Blob(digest=digest(data), size=len(data)), recipe="plain",
    )  # fmt: skip
    envelope = seal(Answer.TYPE, message.encode(), of.keys[site])
    return of.ask(site, "POST", f"/v1/answers{query}", envelope + b"\n" + data)


def begun(of: Coordinator, **other: Any) -> Any:
    """A run of two sites; the update that they send."""
    for name in ("north", "south"):
        of.site(name)
    _, payload = of.submits("sums", quorum=2, **other)
    for name in ("north", "south"):
        assert of.decides(name, payload)[0] == 200
    of.done("rita", "POST", "/v1/studies/sums/runs")
    of.drive()
    initial = of.services.blobs.path(Plan.load(payload).study.model.initial).read_bytes()  # type: ignore[arg-type]
    return np.zeros(sum(array.size for array in from_safetensors(initial).values()))


def round_of(of: Coordinator) -> int:
    return int(of.done("rita", "GET", "/v1/runs/sums-1")["round"])


def undone(of: Coordinator) -> list[str]:
    rows = of.services.database.run_here(
        lambda tx: tx.rows(select(effects.c.key).where(effects.c.done.is_(None), effects.c.kind == "apply"))
    )
    return [row.key for row in rows]


def test_the_last_answer_opens_the_next_round(coordinator: Coordinator) -> None:
    nothing = begun(coordinator)
    assert answers(coordinator, "north", nothing)[0] == 200
    assert round_of(coordinator) == 1
    assert answers(coordinator, "south", nothing)[0] == 200
    assert round_of(coordinator) == 2 and undone(coordinator) == [], "nobody had to wake the driver"
    closed = coordinator.done("rita", "GET", "/v1/runs/sums-1")["participation"][0]
    assert closed["took_part"] == ["north", "south"] and closed["performed_by"] == coordinator.services.name
    assert not list(coordinator.services.blobs._root.glob(f"*/{task(coordinator, 'north').state.digest[7:]}"))


def test_who_asks_with_an_answer_hears_what_comes_next(coordinator: Coordinator) -> None:
    nothing = begun(coordinator)
    newest = coordinator.done("north", "GET", "/v1/inbox")["items"][-1]["seq"]
    assert answers(coordinator, "north", nothing) == (200, {"status": "accepted"})
    again = answers(coordinator, "north", nothing, f"?after={newest}")
    assert again[0] == 200 and again[1]["items"] == [], "an answer that came before is taken once more"
    status, page = answers(coordinator, "south", nothing, f"?after={newest}&wait=20")
    assert status == 200 and [one["seq"] for one in page["items"]] == [newest + 1]
    assert page == coordinator.done("south", "GET", f"/v1/inbox?after={newest}") and page["blobs"]
    assert answers(coordinator, "south", nothing, "?after=-1")[0] == 422


def test_who_asks_with_an_answer_waits_from_when_it_asked(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long its answer took to be taken: else its patience ends before ours."""
    nothing, services = begun(coordinator), coordinator.services
    newest = coordinator.done("north", "GET", "/v1/inbox")["items"][-1]["seq"]
    take, began = services.ingest.take, time.monotonic()

    def slow(*of: Any) -> Any:
        passed = time.time() + 10
        monkeypatch.setattr(type(services), "seconds", lambda _: passed)
        return take(*of)

    monkeypatch.setattr(services.ingest, "take", slow)
    status, page = answers(coordinator, "north", nothing, f"?after={newest}&wait=3")
    assert status == 200 and page["items"] == [] and time.monotonic() - began < 2.5


@pytest.mark.parametrize("why", ["it fails", "it is large"])
def test_else_the_driver_does_it(
    coordinator: Coordinator,
    monkeypatch: pytest.MonkeyPatch,
    why: str,
) -> None:
    nothing, performer = begun(coordinator), coordinator.services.performer
    with monkeypatch.context() as patch:
        if why == "it fails":

            def failing(conduct: Any, done: Any) -> Any:
                performer.shelf.keep(conduct.tx, Stored(digest(b"x"), 1, b"x"))
                raise Unavailable("just now", "try again")

            patch.setattr(performer, "_record", failing)
        else:
            patch.setattr("consilium.coordinator.perform.LITTLE", 10)
        for site in ("north", "south"):
            assert answers(coordinator, site, nothing)[0] == 200, "an answer is taken whatever comes of the sum"
        assert round_of(coordinator) == 1 and undone(coordinator) == ["sums-1/apply/1"]
        assert coordinator.services.database.run_here(lambda tx: tx.find(blobs, digest=digest(b"x"))) is None
    coordinator.drive()
    assert round_of(coordinator) == 2 and undone(coordinator) == []
