"""The four hospitals of UCI Heart Disease in their raw files, by the mappings that we ship."""

import shutil
from pathlib import Path

import pytest

from consilium import studyfile
from consilium.data import contract, quality
from consilium.data.contract import Mapped
from consilium.data.mapping import load
from consilium.data.tables import CsvSource

DATA = Path(__file__).parents[4] / "shared/data/heart_disease"
SHIPPED = Path(studyfile.__file__).parent / "examples/heart_disease"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the raw files of UCI Heart Disease are not here")

# Rows and patients with disease in each file (UCI's own documentation; Detrano et al. 1989)
PATIENTS = {"cleveland": (303, 139), "hungarian": (294, 106), "switzerland": (123, 115), "va": (200, 149)}


def hospital(name: str, folder: Path) -> Mapped:
    study = studyfile.read(SHIPPED / "study.yaml")
    shutil.copy(DATA / f"processed.{name}.data", folder)
    shutil.copy(SHIPPED / f"{name}.yaml", folder)
    mapping = load(folder / f"{name}.yaml", study.contract)
    return contract.apply(mapping, study.contract, study.evaluation, CsvSource(mapping.source, folder).rows())


@pytest.mark.parametrize("name", PATIENTS)
def test_every_patient_is_used(tmp_path: Path, name: str) -> None:
    found, (patients, sick) = hospital(name, tmp_path), PATIENTS[name]
    assert (found.read, found.without_label, found.incomplete) == (patients, 0, 0)
    assert int(found.table.label.sum()) == sick
    for told in found.features.values():
        assert not told.unmapped and not told.not_a_number, "every code of every hospital is mapped"
    report = quality.check(studyfile.read(SHIPPED / "study.yaml"), found)
    assert report.usable, "nothing stands in the way of training"


def test_cholesterol_of_0_means_missing(tmp_path: Path) -> None:
    raw = [line.split(",")[4] for line in (DATA / "processed.va.data").read_text().split()]
    va = hospital("va", tmp_path).features["chol"]
    assert (va.missing, va.out_of_range) == (sum(cell in ("0", "0.0", "?") for cell in raw), 0)
    assert va.missing > 40, "VA measured it in three of four patients"
    swiss = hospital("switzerland", tmp_path).features["chol"]
    assert (swiss.usable, swiss.missing) == (0, 123), "Switzerland never did"
    assert hospital("cleveland", tmp_path).features["chol"].missing == 0


def test_complete_cases_are_those_of_flamby(tmp_path: Path) -> None:
    """FLamby drops rows that lack one of these ten features (slope, ca and thal left out), chol 0 counting as a value:
    303, 261, 46 and 130 remain, with 45.9, 37.5, 97.8 and 77.7 % positive."""
    shares = {"cleveland": (303, 45.9), "hungarian": (261, 37.5), "switzerland": (46, 97.8), "va": (130, 77.7)}
    for name, (patients, share) in shares.items():
        rows = [line.split(",") for line in (DATA / f"processed.{name}.data").read_text().split()]
        whole = [all(cell != "?" for cell in row[:10]) for row in rows]
        label = hospital(name, tmp_path).table.label
        kept = label[whole]
        assert (len(kept), round(100 * float(kept.mean()), 1)) == (patients, share)
