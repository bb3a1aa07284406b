"""Hospitals that vanish, freeze or are slow: the quorum decides, nobody intervenes, and the record tells all of it."""

import os
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from consilium.core import state as chain
from consilium.core.study import Study
from e2e.federation import Federation, Hospital, federation, study
from e2e.processes import until

NAMES = ("east", "middle", "north", "south", "west")
OTHERS = ["middle", "north", "south", "west"]
Json = dict[str, Any]


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("five"), hospitals=NAMES, held=True) as made:
        yield made


@pytest.fixture
def east(five: Federation) -> Iterator[Hospital]:
    """The hospital that gets into trouble; it is well again afterwards."""
    yield five.hospitals["east"]
    for hospital in five.hospitals.values():
        if not hospital.process.alive:
            hospital.process.start()


def wanted(name: str, deadline_s: float, **changes: Any) -> Study:
    return study(name, **{"quorum": 3, "deadlines": {"round_s": deadline_s}, **changes})


def entries(view: Json) -> list[Json]:
    return list(view["participation"])


def took_part(view: Json, site: str) -> list[int]:
    return [entry["round"] for entry in entries(view) if site in entry["took_part"]]


def test_a_site_that_is_killed_in_mid_round_is_left_out_and_comes_back_by_itself(
    five: Federation, east: Hospital
) -> None:
    plan = five.approved(wanted("vanish", 3.0, rounds=490))
    east.hold()
    run = five.start(plan)
    east.halt()
    east.process.kill()
    until(lambda: entries(five.view(run))[0]["closed"] is not None, "the round closes at its deadline")
    first = entries(five.view(run))[0]
    assert (first["roster"], first["refused"]) == (list(NAMES), {})
    assert set(first["took_part"]) <= set(OTHERS) and len(first["took_part"]) >= 3
    opened, closed = (datetime.fromisoformat(first[when]) for when in ("opened", "closed"))
    assert closed - opened >= timedelta(seconds=3), "not before its deadline"
    east.process.start()
    until(lambda: bool(took_part(five.view(run), "east")), "east takes part again")
    five.owner.connection.post(f"/v1/runs/{run}/stop", {"reason": "seen enough"})
    view = five.until(run, "stopped")
    sent = [one["round"] for one in east.told("sent", "--study", "vanish") if one["what"] == "contribution"]
    assert set(took_part(view, "east")) <= set(sent) and 1 not in took_part(view, "east")


def test_a_site_that_never_comes_back_costs_two_deadlines_at_most(five: Federation, east: Hospital) -> None:
    plan = five.approved(wanted("gone", 3.0, rounds=6))
    east.hold()
    run = five.start(plan)
    east.halt()
    east.process.kill()
    view = five.until(run, "finished")
    asked = [entry["round"] for entry in entries(view) if "east" in entry["roster"]]
    assert asked in ([1], [1, 2])
    assert len(entries(view)) == 7 and all(len(entry["took_part"]) >= 3 for entry in entries(view))
    assert took_part(view, "east") == []


def test_below_quorum_the_run_pauses_says_why_and_goes_on(five: Federation, east: Hospital) -> None:
    """One site is killed, and one is frozen as a whole, so that its connections stay open and silent."""
    west = five.hospitals["west"]
    plan = five.approved(wanted("pause", 2.0, quorum=5))
    east.hold(), west.hold()
    run = five.start(plan)
    east.halt()
    child = west.halt()
    west.process.signal(signal.SIGSTOP)
    os.kill(child, signal.SIGCONT)
    east.process.kill()
    try:
        view = five.until(run, "paused")
    finally:
        west.process.signal(signal.SIGCONT)
    answered = len(entries(view)[0]["took_part"])
    assert view["reason"] == f"round 1: {answered} of the 5 needed sites have answered" and answered < 5
    assert set(view["waiting_for"]) >= {"east", "west"}
    east.process.start()
    view = five.until(run, "finished")
    assert [entry["took_part"] for entry in entries(view)] == [list(NAMES)] * 3


@pytest.mark.long
def test_where_four_answers_are_enough_a_slow_site_holds_up_nobody_and_its_update_counts_later(
    five: Federation, east: Hospital
) -> None:
    strategy = {"name": "fedbuff", "options": {"enough": 4}}
    plan = five.approved(wanted("buffered", 3600.0, rounds=490, strategy=strategy))
    east.hold()
    run = five.start(plan)
    child = east.halt()
    until(lambda: five.view(run)["round"] > 3, "rounds close without it")
    os.kill(child, signal.SIGCONT)
    until(lambda: bool(took_part(five.view(run), "east")), "its update is counted")
    five.owner.connection.post(f"/v1/runs/{run}/stop", {"reason": "seen enough"})
    view = five.until(run, "stopped")
    closed = [entry["took_part"] for entry in entries(view) if entry["closed"] is not None]
    assert all(len(sites) == 4 for sites in closed), "each closes with the first four"
    late = took_part(view, "east")[0]
    where = f"run = '{run}' AND round = {late} AND site = 'east'"
    ((data,),) = five.rows(f"SELECT data FROM blobs WHERE digest = (SELECT digest FROM contributions WHERE {where})")
    sent = chain.read(bytes(data)).arrays
    assert late > 3 and sent["delay"] == (late - 1) * sent["weight"], "trained at the model of round 1"


def test_a_slow_site_that_still_beats_is_waited_for(five: Federation, east: Hospital) -> None:
    plan = five.approved(wanted("slow", 3600.0, rounds=1))
    east.hold()
    run = five.start(plan)
    child = east.halt()

    def heard() -> float:
        told = {one["site"]: one for one in five.owner.connection.get("/v1/sites")}
        assert told["east"]["activity"] != "joined"
        return float(told["east"]["last_seen"])

    until(lambda: five.view(run)["waiting_for"] == ["east"], "all others have answered")
    before = [heard()]
    for beat in ("once", "twice"):
        until(lambda: heard() > before[-1], f"east is heard of {beat} while it trains")
        before.append(heard())
    view = five.view(run)
    assert (view["status"], view["waiting_for"]) == ("running", ["east"])
    os.kill(child, signal.SIGCONT)
    view = five.until(run, "finished")
    assert [entry["took_part"] for entry in entries(view)] == [list(NAMES)] * 2


def test_a_site_that_comes_back_takes_the_place_of_one_that_vanished(five: Federation, east: Hospital) -> None:
    north = five.hospitals["north"]
    plan = five.approved(wanted("place", 2.0, quorum=4, rounds=500))
    east.process.kill()
    run = five.start(plan)
    until(
        lambda: any("east" not in entry["roster"] for entry in entries(five.view(run))),
        "east is away, and not asked any more",
    )
    north.process.kill()
    view = five.until(run, "paused")
    answered = len(entries(view)[-1]["took_part"])
    assert view["reason"] == f"round {view['round']}: {answered} of the 4 needed sites have answered" and answered < 4
    east.process.start()
    without_north = [name for name in NAMES if name != "north"]
    until(
        lambda: without_north in [entry["took_part"] for entry in entries(five.view(run))], "the run goes on with east"
    )
    five.owner.connection.post(f"/v1/runs/{run}/stop", {"reason": "seen enough"})
    five.until(run, "stopped")
