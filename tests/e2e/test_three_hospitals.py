"""A FHIR, an OMOP and a CSV hospital train what three CSV hospitals do, to the byte; each attested its check before."""

from pathlib import Path

import numpy as np
import pytest

from consilium.core import state as chain
from e2e.federation import federation, study
from unit.data import icu
from unit.data.test_three_ways import HOSPITALS, out

pytestmark = pytest.mark.skipif(not icu.DATA.is_dir(), reason="the eICU demo is not here")


@pytest.mark.long
def test_three_kinds_of_hospitals_train_as_three_of_one_kind(tmp_path: Path) -> None:
    stays = icu.stays(*HOSPITALS)
    names = {region: region.lower() for region in stays}
    models = []
    with federation(tmp_path / "federation", hospitals=tuple(names.values())) as made:
        for kind in ("own", "plain"):
            for region, mine in stays.items():
                folder, away = tmp_path / f"{kind}-{region}", out(mine)
                own = kind == "own"
                path = HOSPITALS[region](folder, mine, away) if own else icu.csv_hospital(folder, mine, away, own=False)
                made.hospitals[names[region]].mapping = path
            plan = made.approved(study(f"icu-{kind}", contract=icu.CONTRACT, quorum=3, rounds=3, gate={}))
            told = made.owner.connection.get(f"/v1/studies/{plan.study.name}")["checks"]
            assert all(one["passed"] for one in told.values())
            assert [told[name]["source"] for name in names.values()] == (
                ["fhir", "sql", "csv"] if kind == "own" else ["csv"] * 3
            )
            run = made.start(plan)
            view = made.until(run, "finished")
            assert all(entry["took_part"] == sorted(names.values()) for entry in view["participation"])
            path = tmp_path / f"{kind}.state"
            path.write_bytes(made.model(run))
            models.append(np.array(chain.read(path).arrays["model"]))
    assert models[0].tobytes() == models[1].tobytes() and np.any(models[0] != 0)
