"""What a model is worth for one hospital is told to nobody else, and never holds up a round."""

from pathlib import Path

import numpy as np
import pytest

from consilium.algorithms import evaluation
from consilium.algorithms.layout import METRICS
from consilium.core import state as chain
from consilium.core.study import Study
from consilium.site.figures import judged, sums_of
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
