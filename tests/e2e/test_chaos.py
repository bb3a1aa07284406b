"""Any process may die at any moment, and nothing is lost: the final model's bytes are those of an undisturbed run."""

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from e2e import chaos
from e2e.chaos import Chaos, Fault, chaotic
from e2e.federation import Federation
from e2e.postgres import Postgres, missing

SEED = int(os.environ.get("CHAOS_SEED", "1"))
ROUNDS = 12


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The final model of the same study on the same tables, where nothing dies."""
    with chaotic(tmp_path_factory.mktemp("undisturbed")) as calm:
        run = begin(calm.made)
        calm.until(lambda: calm.status() == "finished", "the undisturbed run", 90)
        model = calm.made.model(run)
        chaos.sound(calm, run, model)
        return model


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A PostgreSQL of our own: it is stopped in the middle of runs."""
    why = missing()
    if why is not None:
        pytest.skip(why)
    made = Postgres()
    try:
        made.start()
        yield made
    finally:
        made.close()


def begin(made: Federation) -> str:
    run = made.start(made.approved(chaos.study(ROUNDS)))
    assert run == "chaos-1"
    return run


def planned(rng: Random) -> list[Fault]:
    """One kill in each phase of the coordinator, of two hospitals' agents between them, and of a child."""
    faults = chaos.some(rng, "coordinator", chaos.COORDINATOR)
    names = rng.sample(chaos.HOSPITALS, 3)
    for index, fault in enumerate(chaos.some(rng, "", chaos.SITE)):
        faults.append(Fault(names[index % 2], fault.phase, fault.point, fault.nth, fault.delay))
    return faults + chaos.some(rng, f"{names[2]}'s child", chaos.CHILD)


def covered(told: Chaos) -> None:
    print(told.table())
    hit = {(fault.process, fault.phase) for fault in told.hits}
    assert {("coordinator", phase) for phase in chaos.COORDINATOR} <= hit
    assert set(chaos.SITE) <= {phase for who, phase in hit if who in chaos.HOSPITALS}
    assert any(who.endswith("child") for who, _ in hit)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_bytes_of_the_model_do_not_depend_on_who_died(
    tmp_path: Path, undisturbed: bytes, kind: str, request: pytest.FixtureRequest
) -> None:
    database = request.getfixturevalue("server")() if kind == "postgresql" else None
    with chaotic(tmp_path, database) as told:
        run = begin(told.made)
        told.plan(planned(Random(f"{kind} {SEED}")))
        told.until(lambda: told.status() == "finished", "the run", 120)
        assert len(told.hits) >= 10
        covered(told)
        chaos.sound(told, run, undisturbed)
