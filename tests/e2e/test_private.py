"""An epsilon between real processes: from the study file to the noised model, by public commands and shipped agents."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium.algorithms.clipping import moved
from consilium.core import state as chain
from consilium.core.tensors import from_safetensors
from consilium.privacy.mechanism import Mechanism
from e2e.federation import POLICY, Federation, study
from e2e.processes import imported, until

HOSPITALS = ("east", "north", "south", "west")
PRIVACY: dict[str, Any] = {
    "recipe": "secure_sum", "epsilon": 6.0, "delta": 1e-4, "expected_patients": 56, "sampling": 0.8, "clip_norm": 1.0,
    "noise_multiplier": 1.45,
}  # fmt: skip
ASKED: dict[str, Any] = {
    "quorum": 4, "rounds": 6, "training": {"epochs": 1, "learning_rate": 2.0, "seed": 1}, "privacy": PRIVACY,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    yield from federation(tmp_path_factory.mktemp("private"))


@pytest.fixture
def open_(tmp_path: Path) -> Iterator[Federation]:
    """Hospitals of their own: who showed something alone at a first model is in no sum of something else there."""
    yield from federation(tmp_path)


def federation(folder: Path) -> Iterator[Federation]:
    imported("dp_accounting.pld")
    made = Federation(folder)
    try:
        for name in HOSPITALS:
            made.add(name)
            made.hospitals[name].policy(POLICY + "privacy: {budget: {epsilon: 60}}\n")
        yield made
    finally:
        made.close()


def sums(made: Federation, digest: str) -> dict[str, np.ndarray]:
    """The opened sums of a round, as the coordinator keeps them."""
    data = bytes(made.owner.connection.request("GET", f"/v1/blobs/{digest}").data)
    return {name: np.array(array) for name, array in chain.read(data).arrays.items()}


@pytest.mark.long
def test_with_noise_at_each_hospital_the_coordinator_sees_no_update_without_it(open_: Federation) -> None:
    """Under `plain`, with FedProx and eight steps a round: what each hospital sent, and what its ledger says of it."""
    made = open_
    privacy = {
        "recipe": "plain", "noise": "at_each_hospital", "epsilon": 30.0, "delta": 1e-4, "expected_patients": 56,
        "sampling": 0.25, "noise_multiplier": 1.5,
    }  # fmt: skip
    training = {"epochs": 2, "learning_rate": 1.0, "seed": 1}
    plan = made.approved(
        study(
            "alone", **{**ASKED, "rounds": 2, "training": training, "privacy": privacy, "strategy": {"name": "fedprox"}}
        )
    )
    mechanism = Mechanism.of(plan.study)
    assert mechanism is not None and mechanism.prove().steps == 8
    updates = []
    for _ in range(2):
        run = made.start(plan)
        view = made.until(run, "finished")
        *rounds, judged = view["participation"]
        nothing = {"all": {}, "sites": {name: {} for name in HOSPITALS}}
        assert all(entry["figures"] == nothing for entry in rounds), "no figure without noise"
        told = judged["figures"]
        assert told["all"]["auroc"]["value"] is not None and told["sites"].keys() == set(HOSPITALS)
        rows = made.rows(f"SELECT digest FROM contributions WHERE run = '{run}' AND round = 1 AND site = 'north'")
        kept = sums(made, rounds[0]["aggregate"])
        assert len(rows) == 1 and kept.keys() == {"update", "weight"} and kept["weight"] == 4 * 56
        updates.append(kept["update"] / kept["weight"])
    spread = plan.study.training.learning_rate * mechanism.noise / (0.25 * 56) * np.sqrt(8 / 4)
    assert np.abs(updates[0] - updates[1]).max() > 0.2 * spread, "the noise is of the size that was promised"
    north = made.hospitals["north"]
    spent = [one for one in north.told("budget")["populations"][0]["studies"] if one["study"] == "alone"]
    assert [(one["rounds"], one["of"]) for one in spent] == [(2, 2)] * 2
    assert all(one["spent"] == one["all_honest"] > 0 for one in spent)
    said = north.command("review", "alone")
    assert "whoever sees it" in said and "its figures on held-out patients on their own, without noise" in said
    told = made.owner.connection.get(f"/v1/runs/{run}/result")
    assert "with noise that each hospital added itself" in told["privacy"]


def test_a_study_with_an_epsilon_is_trained_and_leaves_nothing_without_noise(made: Federation) -> None:
    plan = made.approved(study("noised", **ASKED))
    mechanism = Mechanism.of(plan.study)
    assert mechanism is not None and mechanism.prove().rounds == 6
    models, first = [], []
    for number in range(2):
        run = made.start(plan)
        if number == 0:
            made.compared(run)
        view = made.until(run, "finished")
        *rounds, judged = view["participation"]
        assert [entry["took_part"] for entry in view["participation"]] == [list(HOSPITALS)] * 7
        assert all(entry["figures"] == {"all": {}, "sites": {}, "clipped": 0} for entry in rounds)
        assert judged["figures"]["all"]["auroc"]["value"] > 0.6 and judged["figures"]["sites"] == {}
        for entry in rounds:
            kept = sums(made, entry["aggregate"])
            assert kept.keys() == {"update", "weight", "clamped"} and kept["weight"] == pytest.approx(4 * 0.8 * 56)
        assert sums(made, judged["aggregate"])["weight"] == pytest.approx(4 * 0.8 * 56), (
            "no number of training patients leaves"
        )
        first.append(sums(made, rounds[0]["aggregate"])["update"])
        models.append(from_safetensors(made.model(run))["model"])
    assert np.abs(models[0] - models[1]).min() > 1e-6, "chance is fresh in every run"
    spread = mechanism.bound * mechanism.shares().of_all(mechanism.noise)
    # Of three values all are this near to one another once in 50,000 runs.
    assert np.abs(first[0] - first[1]).max() > 0.05 * spread, "the noise is of the size that was promised"
    told = made.owner.connection.get(f"/v1/runs/{run}/result")
    assert "epsilon 6 at delta 0.0001" in told["privacy"] and "epsilon 6 at delta 0.0001" in told["learns"]
    assert "figures of held-out patients" in made.hospitals["north"].command("review", "noised")


def agreed(made: Federation, run: str) -> None:
    """Compare the words of the roster, unless that was done in a run before."""
    waits = made.hospitals["north"]
    until(
        lambda: made.view(run)["participation"] or run in waits.told("status").get("compare", []), f"{run} begins", 60
    )
    if not made.view(run)["participation"]:
        made.compared(run)


@pytest.mark.long
def test_hospitals_as_a_whole_get_noise_and_a_bound_that_both_ends_move_alike(made: Federation) -> None:
    """Four of them: it is hygiene, and the review says so; each hospital computes state and bound for itself."""
    for hospital in made.hospitals.values():
        hospital.policy(POLICY + "privacy: {budget: {epsilon: 999}}\n")
    privacy = {
        "unit": "hospital", "epsilon": 100.0, "delta": 1e-2, "noise_multiplier": 0.25, "clip_quantile": 0.5,
        "clip_norm": 4.0,
    }  # fmt: skip
    training = {"epochs": 5, "learning_rate": 1.0, "seed": 1}
    plan = made.approved(study("whole", **{**ASKED, "rounds": 3, "training": training, "privacy": privacy}))
    run = made.start(plan)
    agreed(made, run)
    *rounds, judged = made.until(run, "finished")["participation"]
    assert all(entry["figures"] == {"all": {}, "sites": {}, "clipped": 0} for entry in rounds)
    bound = 4.0
    for entry in rounds:
        kept = sums(made, entry["aggregate"])
        assert kept.keys() == {"update", "weight", "within", "clamped"} and kept["weight"] == 4
        bound = moved(bound, float(kept["within"][0]) / 4 + 0.5, 0.5)
    state = sums(made, judged["state"] if "state" in judged else rounds[-1]["state"])
    assert state["bound"].tolist() == [bound] != [4.0]
    assert "hygiene and not for a guarantee" in made.hospitals["north"].command("review", "whole")
    (spent,) = [one for one in made.hospitals["north"].told("budget")["populations"][0]["studies"] if one["run"] == run]
    assert spent["rounds"] == 3 and spent["spent"] > spent["all_honest"] > 0
