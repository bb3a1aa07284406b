"""The median over groups between real processes: sums of groups are opened apart, and each site checks them anew."""

import csv
from pathlib import Path

import numpy as np
import pytest

from consilium.core import state as chain
from consilium.core.apart import divided, named
from consilium.core.ids import SiteId, digest
from e2e.federation import POLICY, Hospital, federation, study
from e2e.processes import until
from e2e.test_strategies import simulated

SIX = ("central", "east", "middle", "north", "south", "west")
TRAINING = {"epochs": 3, "learning_rate": 0.5, "seed": 1}


def poison(hospital: Hospital) -> None:
    """Turn each of its labels around."""
    path = hospital.mapping.parent / "table.csv"
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *([*row[:-1], str(1 - int(row[-1]))] for row in rows)])


@pytest.mark.long
def test_sums_of_groups_are_opened_apart_and_a_run_whose_hospital_was_killed_ends_in_the_bytes_of_a_simulation(
    tmp_path: Path,
) -> None:
    with federation(tmp_path / "six", hospitals=SIX) as made:
        poison(made.hospitals["east"])
        wanted = study(
            "groups", strategy={"name": "group-median", "options": {"groups": 2}}, training=TRAINING, rounds=3,
            quorum=6, privacy={"recipe": "secure_sum"},
        )  # fmt: skip
        plan = made.approved(wanted)
        run = made.start(plan)
        made.compared(run)
        until(lambda: made.view(run)["round"] >= 2, f"round 2 of {run} begins")
        south = made.hospitals["south"]
        south.process.kill()
        south.process.start()
        view = made.until(run, "finished")
        assert [entry["took_part"] for entry in view["participation"]] == [list(SIX)] * 4
        (tmp_path / "alone").mkdir()
        assert digest(made.model(run)) == simulated(made, wanted, run, tmp_path / "alone")
        rows = made.rows(
            f"SELECT data FROM blobs WHERE digest = (SELECT aggregate FROM results WHERE run = '{run}' AND round = 1)"
        )
        sums = chain.read(bytes(rows[0][0])).arrays
        bad = next(at for at, group in enumerate(divided([SiteId(name) for name in SIX], 2), 1) if "east" in group)
        means = [sums[named("update", at)] / sums[named("patients", at)] for at in (1, 2)]
        assert np.all(means[2 - bad][1:] > means[bad - 1][1:]), "the poisoned group learns less of the truth"
        made.hospitals["north"].policy(f"{POLICY}min_sites: 4\n")  # of which six hospitals make no two groups
        run = made.start(made.approved(wanted.model_copy(update={"name": "floors"})))
        told = made.until(run, "failed")["reason"]
        assert told == "6 hospitals make no 2 groups of 4, as one asks for"
