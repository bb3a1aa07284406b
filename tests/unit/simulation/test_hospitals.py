"""The example hospitals: all patients are there once, every value fits the contract, and wrong folders are named."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from consilium import studyfile
from consilium.core.errors import DataUnusable, Invalid
from consilium.simulation import hospitals, local
from consilium.simulation.up import names
from consilium.site.tables import mapped

HEART = Path(__file__).parents[4] / "shared" / "data" / "heart_disease"


def test_every_breast_cancer_patient_is_in_one_hospital_in_its_own_units(tmp_path: Path) -> None:
    made = hospitals.breast_cancer(tmp_path)
    study = studyfile.read(tmp_path / "study.yaml")
    tables = {site: mapped(study, path) for site, path in local.mappings(tmp_path).items()}
    assert sorted(made) == sorted(tables) and len(made) >= 4
    for found in tables.values():
        assert all(column.usable == found.read for column in (*found.features.values(), found.label))
    original = load_breast_cancer()
    for index, feature in enumerate(study.contract.features):
        ours = np.concatenate([found.table.columns[feature.id] for found in tables.values()])
        np.testing.assert_allclose(np.sort(ours), np.sort(original.data[:, index]), rtol=1e-6)
    shares = [found.table.label.mean() for found in tables.values()]
    assert max(shares) - min(shares) > 0.5, "the case mix is unequal"
    assert sum(found.table.label.sum() for found in tables.values()) == (original.target == 0).sum()


@pytest.mark.skipif(not HEART.exists(), reason="the raw files of UCI Heart Disease are not here")
def test_cholesterol_0_is_missing_and_switzerland_has_none(tmp_path: Path) -> None:
    hospitals.heart_disease(tmp_path, HEART)
    study = studyfile.read(tmp_path / "study.yaml")
    tables = {site: mapped(study, path) for site, path in local.mappings(tmp_path).items()}
    assert {site: found.read for site, found in tables.items()} == {
        "cleveland": 303, "hungarian": 294, "switzerland": 123, "va": 200,
    }  # fmt: skip
    assert tables["switzerland"].features["chol"].missing == 123
    assert tables["va"].features["chol"].missing == 56
    for found in tables.values():
        for told in (*found.features.values(), found.label):
            assert told.usable + told.missing == found.read


def test_the_study_protects_updates_by_the_recipe_that_is_asked_for(tmp_path: Path) -> None:
    made = {}
    for recipe in ("secure_sum", "plain"):
        hospitals.breast_cancer(tmp_path / recipe, recipe)
        made[recipe] = studyfile.read(tmp_path / recipe / "study.yaml")
        assert made[recipe].privacy.recipe == recipe
    assert made["plain"].model_copy(update={"privacy": made["secure_sum"].privacy}) == made["secure_sum"]


def test_a_folder_without_raw_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match=r"has no processed\.cleveland\.data"):
        hospitals.heart_disease(tmp_path / "made", tmp_path)
    assert not (tmp_path / "made").exists()


def test_names_of_hospitals() -> None:
    assert [len(set(names(str(number)))) for number in (1, 4, 32)] == [1, 4, 32]
    assert names("charite, ukb") == ["charite", "ukb"]
    for wrong in ("0", "33", "A b", "a,a", "a,,b", "../x"):
        with pytest.raises(Invalid):
            names(wrong)


@pytest.mark.parametrize("prepared", ["breast_cancer", "heart_disease"])
def test_with_an_epsilon_the_study_of_an_example_is_one_that_can_have_it(tmp_path: Path, prepared: str) -> None:
    if prepared == "breast_cancer":
        hospitals.breast_cancer(tmp_path, epsilon=2.5)
    else:
        hospitals._study(prepared, tmp_path, hospitals.SECURE, 2.5)
    study = studyfile.read(tmp_path / "study.yaml")
    assert (study.privacy.epsilon, study.privacy.recipe, study.training.epochs) == (2.5, "secure_sum", 1)
