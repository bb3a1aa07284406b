"""Any process may die at any moment, and nothing is lost: the final model's bytes are those of an undisturbed run."""

import os
import signal
import time
from pathlib import Path
from random import Random

import pytest

from e2e import chaos
from e2e.chaos import Chaos, Fault, chaotic
from e2e.federation import Federation
from e2e.postgres import Postgres
from e2e.processes import until

SEED = int(os.environ.get("CHAOS_SEED", "1"))
ROUNDS, LONG_ROUNDS = 12, 60


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return chaos.calm(tmp_path_factory.mktemp("undisturbed"), lambda told: begin(told.made, ROUNDS))


@pytest.fixture(scope="module")
def undisturbed_long(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return chaos.calm(tmp_path_factory.mktemp("undisturbed"), lambda told: begin(told.made, LONG_ROUNDS))


def begin(made: Federation, rounds: int = ROUNDS) -> str:
    run = made.start(made.approved(chaos.study(rounds)))
    assert run == "chaos-1"
    return run


def planned(rng: Random) -> list[Fault]:
    """One kill in each phase of the coordinator, of two hospitals' agents between them, and of a child."""
    faults = chaos.some(rng, "coordinator", chaos.COORDINATOR)
    names = rng.sample(chaos.HOSPITALS, 3)
    for index, fault in enumerate(chaos.some(rng, "", chaos.SITE)):
        name = names[index % 2]
        if name == chaos.SMALL and fault.point in chaos.NEVER_SMALL:
            name = names[(index + 1) % 2]
        faults.append(Fault(name, fault.phase, fault.point, fault.nth, fault.delay))
    return faults + chaos.some(rng, f"{names[2]}'s child", chaos.CHILD)


def covered(told: Chaos) -> None:
    print(told.table())
    hit = {(fault.process, fault.phase) for fault in told.hits}
    assert {("coordinator", phase) for phase in chaos.COORDINATOR} <= hit
    assert set(chaos.SITE) <= {phase for who, phase in hit if who in chaos.HOSPITALS}
    assert any(who.endswith("child") for who, _ in hit)
    assert {fault.rows for fault in told.hits if fault.process == "coordinator"} == {True, False}


def place(kind: str, request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("server")() if kind == "postgresql" else None


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_bytes_of_the_model_do_not_depend_on_who_died(
    tmp_path: Path, undisturbed: bytes, kind: str, request: pytest.FixtureRequest
) -> None:
    with chaotic(tmp_path, place(kind, request)) as told:
        run = begin(told.made)
        told.plan(planned(Random(f"{kind} {SEED}")))
        told.until(lambda: told.status() == "finished", "the run")
        assert len(told.hits) >= 10
        covered(told)
        chaos.sound(told, run, undisturbed)


@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_forty_deaths_at_every_point_and_at_any_time(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest, undisturbed_long: bytes
) -> None:
    rng = Random(f"{kind} long {SEED}")
    with chaotic(tmp_path, place(kind, request)) as told:
        run = begin(told.made, LONG_ROUNDS)
        told.plan(chaos.some(rng, "coordinator", chaos.COORDINATOR, every=True))
        for name in rng.sample(chaos.HOSPITALS, 2):
            never = chaos.NEVER_SMALL if name == chaos.SMALL else set()
            told.plan([one for one in chaos.some(rng, name, chaos.SITE, every=True) if one.point not in never])
            told.plan(chaos.some(rng, f"{name}'s child", chaos.CHILD, every=True))
        told.until(lambda: True, "every point was hit", 600)
        everybody = [*chaos.HOSPITALS, "coordinator"] * 2
        for name in rng.sample(everybody, len(everybody)):
            before = told.round()
            told.until(lambda before=before: told.round() > before, "the next round")  # type: ignore[misc]
            time.sleep(rng.uniform(0, 0.2))  # a moment of this round, chosen by seed; nothing is awaited here
            told.until(lambda: told.status() == "running", "the run goes on")
            told.kill(name)
        told.until(lambda: told.status() == "finished", "the run")
        assert len(told.hits) >= 40
        covered(told)
        assert {*chaos.HOSPITALS, "coordinator"} <= {fault.process for fault in told.hits}, "each process was hit"
        chaos.sound(told, run, undisturbed_long)


@pytest.mark.long
def test_a_run_goes_on_when_its_database_crashes_and_when_its_coordinator_stands_still(
    tmp_path: Path, undisturbed: bytes, server: Postgres
) -> None:
    with chaotic(tmp_path, server()) as told:
        run = begin(told.made)
        coordinator = told.targets["coordinator"].process
        told.until(lambda: told.round() >= 3, "round 3")
        server.stop("immediate")
        told.until(lambda: "is down" in coordinator.said or "waits" in coordinator.said, "it notices")
        server.start()
        now = told.round()
        told.until(lambda: told.round() >= now + 2, "two more rounds")
        said = {name: len(told.targets[name].process.said) for name in chaos.HOSPITALS}
        coordinator.signal(signal.SIGSTOP)
        try:
            until(
                lambda: any("nothing is received" in told.targets[n].process.said[said[n] :] for n in said),
                "a hospital notices that the coordinator stands still",
            )
        finally:
            coordinator.signal(signal.SIGCONT)
        told.until(lambda: told.status() == "finished", "the run")
        assert told.deaths == {}, "nothing died of it"
        chaos.sound(told, run, undisturbed)
