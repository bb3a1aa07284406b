"""The main path: hospitals approve one study, train one model together, and each end can prove what happened."""

from pathlib import Path

from consilium.core.ids import digest
from e2e.federation import federation, study


def test_three_hospitals_train_one_model(tmp_path: Path) -> None:
    with federation(tmp_path, hospitals=("north", "south", "west")) as made:
        run = made.start(made.approved(study("sums")))
        view = made.until(run, "finished")
        assert [entry["took_part"] for entry in view["participation"]] == [["north", "south", "west"]] * 3
        assert digest(made.model(run)) == view["state"]["digest"]
        result = made.owner.connection.get(f"/v1/runs/{run}/result")
        assert result["figures"]["all"]["auroc"]["value"] > 0.8
        for hospital in made.hospitals.values():
            assert hospital.process.stop() == 0, hospital.process.said
            assert "Traceback" not in hospital.process.said
        assert made.coordinator.stop() == 0
