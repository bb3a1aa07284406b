"""A coordinator whose clock was ahead and is set back: what it knows of sites, tokens and tries is as of now."""

import time
from typing import Any

import pytest
from sqlalchemy import select

from consilium.coordinator.gate import WRONG
from consilium.coordinator.services import Services
from consilium.core.errors import Refused
from consilium.store.schema import sites
from sim import test_requests
from sim.test_requests import Coordinator

coordinator = test_requests.coordinator
AGO = (36_000.0, 600.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How far it is ahead."""
    ahead = [0.0]
    monkeypatch.setattr(Services, "seconds", lambda _: time.time() + ahead[0])
    return ahead


def known(of: Coordinator, site: str) -> Any:
    return of.services.database.run_here(lambda tx: tx.row(select(sites).where(sites.c.site == site)))


@pytest.mark.parametrize("ahead", AGO)
@pytest.mark.parametrize("beats", [True, False])
def test_a_hospital_is_heard_of_and_what_it_does_is_shown(
    coordinator: Coordinator, clock: list[float], ahead: float, beats: bool
) -> None:
    """It was shown at what it did then, and as heard of in the future, until that came."""

    def speaks(activity: str) -> None:
        if beats:
            coordinator.done("north", "POST", "/v1/heartbeat", {"version": "1", "activity": activity})
        else:
            coordinator.done("north", "GET", "/v1/inbox?after=0&wait=0")

    clock[0] = ahead
    coordinator.site("north")
    speaks("idle")
    clock[0] = 0.0
    speaks("round 7: training")
    found = known(coordinator, "north")
    assert abs(found.last_seen - time.time()) < 60 and found.activity == ("round 7: training" if beats else "joined")


def test_a_request_that_came_before_another_makes_nobody_heard_of_earlier(
    coordinator: Coordinator, clock: list[float]
) -> None:
    """It has waited for a minute, and the other has not."""
    coordinator.site("north")
    coordinator.done("north", "POST", "/v1/heartbeat", {"version": "1", "activity": "idle"})
    before = known(coordinator, "north").last_seen
    clock[0] = -60.0
    coordinator.done("north", "POST", "/v1/heartbeat", {"version": "1", "activity": "training"})
    coordinator.done("north", "GET", "/v1/inbox?after=0&wait=0")
    assert known(coordinator, "north").last_seen == before


def test_wrong_passwords_and_tokens_of_then_hold_nobody_up_and_let_nobody_in(
    coordinator: Coordinator, clock: list[float]
) -> None:
    gate, now = coordinator.services.gate, time.time()
    for _ in range(WRONG):
        gate.may_try("rita", now + 3600)
    with pytest.raises(Refused):
        gate.may_try("rita", now + 3600)
    gate.may_try("rita", now)
    clock[0] = 3600.0
    assert coordinator.ask("root", "GET", "/v1/sites")[0] == 200
    ((who, until),) = gate._known.values()
    assert who.name == "root" and until > now + 3600
    asked = list[Any]()
    run = coordinator.services.database.run
    gate.database = type("Asked", (), {"run": lambda _, act: asked.append(act) or run(act)})()
    clock[0] = 0.0
    assert coordinator.ask("root", "GET", "/v1/sites")[0] == 200 and len(asked) == 1, "the database is asked anew"
