"""What people accept, and what it shows: the same lying coordinator, on shipped agents of which nothing is taken out.

Each attack succeeds where every hospital has accepted, by name, the mode that allows it, and fails without.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from consilium.core import state as chain
from consilium.core.ids import digest
from consilium.core.study import Plan, Study
from consilium.core.tensors import Tensors, to_safetensors
from consilium.wire.messages import Step
from e2e.federation import study
from e2e.lying import Liar, Play
from e2e.traps import Between

HOSPITALS = ("east", "north", "south", "west")
SECURE: dict[str, Any] = {"privacy": {"recipe": "secure_sum"}, "quorum": 3}
STEP: dict[str, Any] = {"training": {"epochs": 1, "learning_rate": 0.5, "seed": 1}}
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Liar]:
    made = Liar(tmp_path_factory.mktemp("traps"))
    try:
        for name in HOSPITALS:
            made.add(name)
        yield made
        for hospital in made.hospitals.values():
            assert hospital.process.alive and "Traceback" not in hospital.process.said, hospital.process.said[-3000:]
    finally:
        made.close()


def beginning(liar: Liar, wanted: Study, first: Tensors, start: str) -> Plan:
    """A plan that begins at this model, and what it says of it."""
    weights = to_safetensors(first)
    liar.keep(weights)
    model = wanted.model.model_copy(update={"initial": digest(weights), "start": start})
    return liar.offered(Plan.of(wanted.model_copy(update={"model": model})))


def play(liar: Liar, plan: Plan) -> Play:
    made = Play(liar, plan, f"{plan.study.name}-{next(numbers)}", HOSPITALS)
    made.paired()
    return made


def sums(run: Play, number: int = 1, attempt: int = 1) -> dict[str, Any]:
    path = run.file(run.liar.keep(run.opened(number, attempt)).digest)
    return {what: np.array(one) for what, one in chain.read(path).arrays.items()}


def test_a_first_model_that_is_given_may_show_one_patient_of_a_sum_over_all(liar: Liar) -> None:
    """Each hospital has accepted that the model was made elsewhere. So was it: to keep patients apart."""
    trap, found = Between.of(study("given", **SECURE, **STEP), liar.hospitals.values()), []
    for wall in range(2):
        run = play(liar, beginning(liar, study(f"given-{wall}", **SECURE, **STEP), trap.model(wall), "given"))
        run.through("UNMASK", 1, 1)
        found.append(sums(run)["update"])
    np.testing.assert_allclose(trap.shown(found), trap.patient, rtol=0, atol=1e-6)


def test_a_first_model_that_does_not_follow_from_the_seed_is_not_trained(liar: Liar) -> None:
    """The same one, in a plan that says nothing of it: people approve it, and every agent refuses."""
    trap = Between.of(study("seed", **SECURE, **STEP), liar.hospitals.values())
    run = play(liar, beginning(liar, study("seed", **SECURE, **STEP), trap.model(0), "seed"))
    assert set(run.ask("READY", 1, 1).values()) == {"initial-model"}
    honest = play(liar, beginning(liar, study("zeros", **SECURE, **STEP), _zeros(), "seed"))
    honest.through("UNMASK", 1, 1)
    bit = _zeros()
    bit["weights"][1] = 5e-324  # the smallest number above zero
    nearly = play(liar, beginning(liar, study("nearly", **SECURE, **STEP), bit, "seed"))
    assert set(nearly.ask("READY", 1, 1).values()) == {"initial-model"}
    left = {one.run for _, one, _ in liar.sent if isinstance(one, Step) and one.vector is not None}
    assert honest.run in left and not left & {run.run, nearly.run}


def _zeros() -> Tensors:
    return {"weights": np.zeros(2), "intercept": np.zeros(1)}


def test_nobody_approves_a_model_that_is_given_without_saying_so(liar: Liar) -> None:
    trap = Between.of(study("silent", **SECURE, **STEP), liar.hospitals.values())
    plan = beginning(liar, study("silent", **SECURE, **STEP), trap.model(0), "given")
    north = liar.hospitals["north"]
    words = ("approve", plan.study.name, "--person", "Vera", "--mapping", north.mapping)
    code, said = north.says(*words, "--accept", "plain")
    assert code == 3 and "given-model" in said and "made elsewhere" in north.command("review", "silent")
    assert north.says(*words, "--accept", "given-model")[0] == 0
