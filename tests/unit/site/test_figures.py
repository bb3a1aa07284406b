"""What a model is worth for one hospital is told to nobody else, and never holds up a round."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from consilium.algorithms import evaluation
from consilium.algorithms.layout import METRICS
from consilium.core import state as chain
from consilium.core.study import Study
from consilium.site import declarations
from consilium.site.figures import judged, sums_of
from consilium.site.journal import Journal
from unit.algorithms.judging import Patients, study


def made(of: Study, folder: Path, patients: Patients | None) -> Path:
    """A contribution to the last round."""
    sums = evaluation.nothing(of, "EVALUATE") if patients is None else patients.sums(of)
    path = folder / "update.safetensors"
    with path.open("wb") as out:
        chain.write({"weight": np.ones(1), **{METRICS + name: np.asarray(v) for name, v in sums.items()}}, {}, out)
    return path


@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_a_hospital_sees_what_is_too_small_for_others_and_nothing_of_another_threshold(
    tmp_path: Path, threshold: float
) -> None:
    of = study(threshold=threshold)
    rng = np.random.default_rng(3)
    label = np.repeat([0.0, 1.0], [21, 4])
    columns = {"age": np.full(25, 50.0), "sex": np.zeros(25)}
    few = judged(of, sums_of(made(of, tmp_path, Patients(rng.random(25), label, columns))))
    assert few["auroc"]["value"] is not None and few["prevalence"]["value"] == pytest.approx(4 / 25)
    assert ("accuracy" in few) is (threshold == 0.5), "the headline is at a half"
    assert judged(of, sums_of(made(of, tmp_path, None)))["n"]["note"] == "no patients"


def test_what_is_kept_to_be_told_of_a_personal_model_does_not_stand_under_the_name_of_the_common_one(
    tmp_path: Path,
) -> None:
    of = study(groups=[], threshold=0.3)
    of = of.model_copy(update={"strategy": of.strategy.model_copy(update={"name": "ditto"})})
    one, nobody = Patients.drawn(400, 1), np.zeros((400, 0), dtype=bool)
    common = np.random.default_rng(1).permutation(one.score)
    sums = evaluation.sums(of, "EVALUATE", one.score, one.label, nobody, common)
    found = {name: figure["value"] for name, figure in judged(of, sums).items()}
    assert found["auroc"] > 0.6 > found["common/auroc"] and "common/sensitivity" in found
    task: Any = SimpleNamespace(run="r-1", study="r", plan="p", round=2, state=SimpleNamespace(digest="d"))
    journal = Journal(tmp_path / "journal.db")
    with journal.write() as tx:
        declarations.judged(tx, cast(Any, task), of, sums)
    row = journal.row("SELECT made FROM declarations")
    assert row is not None
    kept = json.loads(row["made"])
    assert abs(kept["common"]["auroc"] - 100 * found["common/auroc"]) <= 0.5 + 1e-9
    assert abs(kept["personal"]["auroc"] - 100 * found["auroc"]) <= 0.5 + 1e-9
