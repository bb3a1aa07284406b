"""DICOM hospitals whose images stand in an Orthanc: real X-rays train a network, and no identifier is anywhere."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from consilium.api import freeze
from consilium.core.contract import Image
from consilium.core.errors import DataUnusable
from consilium.core.ids import digest
from consilium.core.study import Study
from consilium.data.base import Asked, Rows
from consilium.data.dicom.source import DicomSource
from consilium.data.source import TableSource
from consilium.simulation import local
from e2e.federation import Federation, federation
from e2e.orthanc import PASSWORD, Orthanc, missing
from e2e.processes import until
from e2e.spelt import holding
from e2e.xrays import MEDMNIST, PLANTED, ROOT, dicom, labels, xrays

IMAGE: dict[str, Any] = {
    "meaning": "chest, seen from behind", "modality": ["CR", "DX"], "rows": 28, "columns": 28, "values": "fraction",
    "range": [0, 1], "view": ["PA"], "orientation": ["L", "F"], "spacing_mm": [1, 3],
}  # fmt: skip
HOSPITALS = {"north": 1000, "south": 2000, "west": 3000}
"""Each hospital's first number."""
PATIENTS = 150
SECRETS = (*PLANTED, ROOT, PASSWORD)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    why = missing() or (None if MEDMNIST.exists() else f"{MEDMNIST} is not here")
    if why is not None:
        pytest.skip(why)
    made = Orthanc(tmp_path_factory.mktemp("orthanc"))
    made.start()
    yield made
    made.close()


def stored(orthanc: Orthanc, folder: Path, first: int, patients: int) -> list[bytes]:
    """A hospital's X-rays in the server, mirrored, inverted and in 12 bits by turns; its table in `folder`."""
    pictures, sick = xrays(patients, first)
    files = []
    for number, picture in enumerate(pictures, first):
        match number % 3:
            case 0:
                files.append(dicom(np.ascontiguousarray(picture[:, ::-1]), number, PatientOrientation=["R", "F"]))
            case 1:
                files.append(dicom(255 - picture, number, PhotometricInterpretation="MONOCHROME1"))
            case _:
                files.append(dicom(picture, number, Modality="DX"))
    side = {"ViewPosition": "LL", "SOPInstanceUID": f"{ROOT}.{first}.1.2"}
    orthanc.put(*files, dicom(pictures[0], first, **side))
    labels(folder / "labels.csv", list(range(first, first + patients)), sick)
    return files


def dicom_part(orthanc: Orthanc | None) -> dict[str, Any]:
    table = {"type": "csv", "path": "labels.csv"}
    part: dict[str, Any] = {"labels": table, "accession": "accession_no", "patient": "patient_no"}
    return {**part, "access": orthanc.access(), "query": "StudyDate=20250101-20251231"} if orthanc else part


def test_orthanc_gives_every_image_as_it_was_stored(
    orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACS_PASSWORD", PASSWORD)
    pictures, sick = xrays(6, 9000)
    stored(orthanc, tmp_path, 9000, 6)

    def read(extracts: Path | None, **changes: Any) -> Rows:
        part = {**dicom_part(orthanc), **changes}
        source = DicomSource(TableSource(type="dicom", url=orthanc.url, dicom=part), tmp_path)
        source.told(Asked(frozenset(), extracts, Image.model_validate(IMAGE)))
        return source.rows()

    found = read(tmp_path / "extracts")
    assert found.image is not None
    np.testing.assert_allclose(found.image, pictures.reshape(6, 784) / 255, atol=1e-7)
    assert found.columns["pneumonia"] == [str(one) for one in sick]
    for again in (read(tmp_path / "extracts"), read(None)):
        np.testing.assert_array_equal(again.image, found.image)
        assert again == found
    assert holding([tmp_path / "extracts"], *SECRETS) == []
    monkeypatch.setenv("PACS_PASSWORD", "wrong")
    with pytest.raises(DataUnusable, match="status 401"):
        read(None)


def chest() -> Study:
    values = {
        "consilium": 1, "name": "chest", "title": "Pneumonia on chest X-rays",
        "purpose": {"code": "research", "text": "a test", "requester": "the tests"},
        "contract": {
            "id": "chest", "image": IMAGE, "label": {"id": "pneumonia", "meaning": "seen on it", "type": "binary"},
        },
        "model": {
            "kind": "torch", "architecture": "cnn",
            "options": {"shape": [1, 28, 28], "channels": [8, 16], "hidden": [16]},
        },
        "training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.1, "seed": 1},
        "privacy": {"recipe": "secure_sum"}, "rounds": 8, "quorum": 3,
    }  # fmt: skip
    return Study.model_validate(values)


def written(folder: Path, where: dict[str, Any], part: dict[str, Any]) -> Path:
    """A mapping."""
    given = {
        "mapping": 1, "contract": "chest", "source": {"type": "dicom", **where, "dicom": part}, "features": {},
        "patient": {"column": "patient_no"}, "label": {"column": "pneumonia", "codes": {"0": 0, "1": 1}},
    }  # fmt: skip
    (folder / "mapping.yaml").write_text(yaml.safe_dump(given))
    return folder / "mapping.yaml"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Federation]:
    with federation(tmp_path / "federation") as found:
        yield found


@pytest.mark.long
def test_x_rays_of_three_hospitals_train_a_network_and_no_identifier_is_kept_logged_or_sent(
    orthanc: Orthanc, made: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is the very network that the same images give from folders, in one process."""
    monkeypatch.setenv("PACS_PASSWORD", PASSWORD)
    folders: dict[str, Path] = {}
    for name, first in HOSPITALS.items():
        hospital = made.add(name, PACS_PASSWORD=PASSWORD)
        data, folders[name] = tmp_path / name, tmp_path / f"folder-{name}"
        for place in (data, folders[name] / "images"):
            place.mkdir(parents=True)
        files = stored(orthanc, data, first, PATIENTS)
        for number, file in enumerate(files):
            (folders[name] / "images" / f"{number}.dcm").write_bytes(file)
        (folders[name] / "labels.csv").write_bytes((data / "labels.csv").read_bytes())
        hospital.mapping = written(data, {"url": orthanc.url}, dicom_part(orthanc))
        written(folders[name], {"path": "images"}, dicom_part(None))
    plan = made.approved(chest())
    sites = [hospital.home for hospital in made.hospitals.values()]
    extracts = [home / "extracts" / "chest" for home in sites]
    assert all(list(place.glob("Images-*.npz")) for place in extracts)
    assert holding([made.folder], *SECRETS) == []  # sites with what they keep, coordinator, and the logs of all
    run = made.start(plan)
    made.compared(run)
    view = made.until(run, "finished", 600)
    assert [entry["took_part"] for entry in view["participation"]] == [sorted(HOSPITALS)] * 9
    until(lambda: not any(place.exists() for place in extracts), "what was fetched is removed")
    assert holding([made.folder], *SECRETS) == []
    for hospital in made.hospitals.values():
        entries = [json.loads(entry) for (entry,) in hospital.journal("SELECT entry FROM audit ORDER BY seq")]
        told = [entry["body"] for entry in entries if entry["kind"] == "extract-removed"]
        assert [(one["study"], one["why"]) for one in told] == [("chest", "run-ended")] and told[0]["bytes"] > 0
    frozen, weights = freeze(chest())
    mappings = {name: folder / "mapping.yaml" for name, folder in folders.items()}
    tables = local.tables(frozen.study, mappings, tmp_path / "simulated")
    assert digest(made.model(run)) == str(local.run(frozen, weights, tables, tmp_path / "simulated", run).digest)
    figures = made.owner.connection.get(f"/v1/runs/{run}/result")["figures"]["all"]
    assert figures["auroc"]["value"] > 0.85, figures
