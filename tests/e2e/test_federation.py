"""The main path: hospitals approve one study, train one model together, and each end can prove what happened."""

from pathlib import Path

import numpy as np

from consilium import api
from consilium.core import state as chain
from consilium.core.ids import digest
from consilium.core.judging import judged_on
from consilium.core.tensors import flatten
from e2e.federation import Federation, federation, study


def goes_on(made: Federation, run: str, path: Path) -> None:
    """Another study starts from the model of a run, and says so; each hospital accepts that by name."""
    owner = api.Federation(made.coordinator.url, token=made.owner.token(), ca=made.coordinator.ca)
    trained = owner.run(run).result()
    trained.save(path)
    plan = owner.submit(study("more", model={"kind": "logistic", "start": "given"}, rounds=1), model=path).plan
    assert plan is not None
    for hospital in made.hospitals.values():
        hospital.approve(plan)
    more = made.start(plan)
    made.until(more, "finished")
    begun = made.rows(f"SELECT state FROM results WHERE run = '{more}' AND round = 0")[0][0]
    data = owner.connection.request("GET", f"/v1/blobs/{begun}").data
    assert np.array_equal(chain.read(data).arrays["model"], flatten(trained.model()))


def test_three_hospitals_train_one_model(tmp_path: Path) -> None:
    with federation(tmp_path, hospitals=("north", "south", "west")) as made:
        run = made.start(made.approved(study("sums")))
        view = made.until(run, "finished")
        assert [entry["took_part"] for entry in view["participation"]] == [["north", "south", "west"]] * 3
        assert digest(made.model(run)) == view["state"]["digest"]
        result = made.owner.connection.get(f"/v1/runs/{run}/result")
        assert result["figures"]["all"]["auroc"]["value"] > 0.8
        assert result["judged_on"] == judged_on(study("sums")), "by which a baseline is compared"
        goes_on(made, run, tmp_path / "model.safetensors")
        for hospital in made.hospitals.values():
            assert hospital.process.stop() == 0, hospital.process.said
            assert "Traceback" not in hospital.process.said
        assert made.coordinator.stop() == 0
