"""Strategies that keep something at a hospital, between real processes, one of which is killed in mid-run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consilium.api import freeze
from consilium.core.ids import digest
from consilium.core.study import Study
from consilium.simulation import local
from e2e.federation import Federation, federation, study
from e2e.processes import until

HOSPITALS = ("north", "south", "west")
SEEDS = {"ditto": 1, "scaffold": 2, "feddyn": 3, "krum": 4}
"""Each begins at a model of its own: who has shown something at one alone is in no secure sum there."""
OPTIONS: dict[str, dict[str, Any]] = {"krum": {"liars": 0}}
TRAINING = {"epochs": 3, "batch_size": 16, "learning_rate": 0.5}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("strategies"), hospitals=HOSPITALS) as found:
        yield found


def simulated(made: Federation, wanted: Study, run: str, folder: Path) -> str:
    plan, weights = freeze(wanted)
    tables = local.tables(plan.study, {name: one.mapping for name, one in made.hospitals.items()}, folder)
    return str(local.run(plan, weights, tables, folder, run).digest)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("ditto", "plain"),
        pytest.param("scaffold", "secure_sum", marks=pytest.mark.long),
        pytest.param("feddyn", "secure_sum", marks=pytest.mark.long),
        pytest.param("krum", "plain", marks=pytest.mark.long),
    ],
)
def test_a_run_whose_hospital_was_killed_ends_in_the_bytes_of_a_simulation(
    made: Federation, tmp_path: Path, name: str, recipe: str
) -> None:
    changes: dict[str, Any] = {
        "rounds": 3, "quorum": 3, "model": {"kind": "logistic", "start": "drawn"},
        "training": {**TRAINING, "seed": SEEDS[name]}, "privacy": {"recipe": recipe},
    }  # fmt: skip
    wanted = study(f"kept-{name}", strategy={"name": name, "options": OPTIONS.get(name, {})}, **changes)
    plan = made.approved(wanted)
    run = made.start(plan)
    if recipe == "secure_sum" and not made.hospitals["south"].journal("SELECT site FROM pins"):
        made.compared(run)
    until(lambda: made.view(run)["round"] >= 2, f"round 2 of {run} begins")
    south = made.hospitals["south"]
    south.process.kill()
    south.process.start()
    view = made.until(run, "finished")
    assert [entry["took_part"] for entry in view["participation"]] == [list(HOSPITALS)] * 4
    assert digest(made.model(run)) == simulated(made, wanted, run, tmp_path)
    own = [(one.home / "models" / f"{run}.safetensors").exists() for one in made.hospitals.values()]
    assert own == [name == "ditto"] * 3
    until(lambda: not (south.home / "work" / run).exists(), "the files of the run are removed")
    assert south.journal("SELECT count(*) FROM memories") == [(0,)]
