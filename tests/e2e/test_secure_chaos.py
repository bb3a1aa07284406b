"""Any process may die in any phase of agreeing on keys and of a secure sum: the run ends with the undisturbed bytes."""

import os
import time
from pathlib import Path
from random import Random

import pytest

from e2e import chaos
from e2e.chaos import Chaos, Fault, chaotic

SEED = int(os.environ.get("CHAOS_SEED", "1"))
ROUNDS, LONG_ROUNDS = 3, 40


def begin(told: Chaos, rounds: int) -> str:
    """Begin a run whose first phase meets what is planned already. The hospitals know each other."""
    chaos.acquainted(told.made)
    plan = told.made.approved(chaos.secure(rounds))
    told.step()
    return told.made.start(plan)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return chaos.calm(tmp_path_factory.mktemp("undisturbed"), lambda told: begin(told, ROUNDS))


@pytest.fixture(scope="module")
def undisturbed_long(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return chaos.calm(tmp_path_factory.mktemp("undisturbed"), lambda told: begin(told, LONG_ROUNDS))


def planned(rng: Random) -> list[Fault]:
    """A kill in each phase of the coordinator, and in each phase of one hospital or another."""
    faults = chaos.sealed(rng, "coordinator", chaos.SECURE_COORDINATOR)
    first, second, third = rng.sample(chaos.HOSPITALS, 3)
    for index, fault in enumerate(chaos.sealed(rng, "", chaos.SECURE_SITE)):
        faults.append(Fault((first, second)[index % 2], fault.phase, fault.point))
    return faults + chaos.some(rng, f"{third}'s child", chaos.CHILD)


def covered(told: Chaos) -> None:
    print(told.table())
    hit = {(fault.process, fault.phase) for fault in told.hits}
    assert {("coordinator", phase) for phase in chaos.SECURE_COORDINATOR} <= hit
    assert set(chaos.SECURE_SITE) <= {phase for who, phase in hit if who in chaos.HOSPITALS}
    assert any(who.endswith("child") for who, _ in hit)


KINDS = [
    pytest.param("sqlite"),
    pytest.param("postgresql", marks=[pytest.mark.long, pytest.mark.timeout(600)]),
]


@pytest.mark.parametrize("kind", KINDS)
def test_who_died_in_a_secure_sum_is_not_in_its_bytes(
    tmp_path: Path, undisturbed: bytes, kind: str, request: pytest.FixtureRequest
) -> None:
    place = request.getfixturevalue("server")() if kind == "postgresql" else None
    with chaotic(tmp_path, place) as told:
        told.plan(planned(Random(f"{kind} secure {SEED}")))
        run = begin(told, ROUNDS)
        told.until(lambda: told.status() == "finished", "the run", 200)
        assert len(told.hits) >= 10
        covered(told)
        chaos.sound(told, run, undisturbed)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_forty_deaths_in_every_phase_and_at_any_time(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest, undisturbed_long: bytes
) -> None:
    rng = Random(f"{kind} secure long {SEED}")
    place = request.getfixturevalue("server")() if kind == "postgresql" else None
    with chaotic(tmp_path, place) as told:
        told.plan(chaos.sealed(rng, "coordinator", chaos.SECURE_COORDINATOR, every=True))
        for name in rng.sample(chaos.HOSPITALS, 2):
            told.plan(chaos.sealed(rng, name, chaos.SECURE_SITE, every=True))
            told.plan(chaos.some(rng, f"{name}'s child", chaos.CHILD))  # one: a training that dies twice is refused
        run = begin(told, LONG_ROUNDS)
        told.until(lambda: True, "every point was hit", 800)
        for _ in range(4):
            name, before = rng.choice([*chaos.HOSPITALS, "coordinator"]), told.round()
            told.until(lambda before=before: told.round() > before, "the next round", 120)  # type: ignore[misc]
            time.sleep(rng.uniform(0, 0.2))  # a moment of this round, chosen by seed; nothing is awaited here
            told.kill(name)
        told.until(lambda: told.status() == "finished", "the run", 240)
        assert len(told.hits) >= 40
        covered(told)
        chaos.sound(told, run, undisturbed_long)
