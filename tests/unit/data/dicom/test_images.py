"""Images of DICOM: the values that the contract wants, or the flaw; nothing that names a patient is kept or said."""

import io
import json
import logging
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import yaml

from consilium.algorithms import encode, preparation
from consilium.core.contract import Image
from consilium.core.errors import ConsiliumError, DataUnusable, MappingInvalid, StudyInvalid
from consilium.core.study import Plan, Study
from consilium.data import mapping, web
from consilium.data.base import Asked, Rows
from consilium.data.dicom import kept as kept_images
from consilium.data.dicom import source as dicom_source
from consilium.data.dicom.images import read, smaller
from consilium.data.dicom.source import FLAWS, DicomSource
from consilium.data.servers import Flaw
from consilium.data.source import TableSource
from consilium.governance.words import explain
from consilium.simulation.scenario import Wanted as Scenario
from consilium.simulation.scenario import simulate
from consilium.site import showing, tables
from e2e.spelt import holding
from e2e.xrays import PLANTED, ROOT, dicom
from unit.data.conftest import STUDY
from unit.data.player import Heard, Player, Reply

WANTED: dict[str, Any] = {
    "meaning": "chest", "modality": ["CR", "DX"], "rows": 2, "columns": 3, "range": [0, 255], "view": ["PA"],
    "orientation": ["L", "F"], "spacing_mm": [1, 3],
}  # fmt: skip
PICTURE = np.array([[0, 10, 20], [30, 40, 250]], dtype=np.uint8)


def image(data: bytes, **changes: Any) -> Any:
    found = read(data, Image.model_validate({**WANTED, **changes}))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("given", "wanted", "made"),
    [
        ({}, {}, PICTURE),
        ({"PhotometricInterpretation": "MONOCHROME1"}, {}, 255 - PICTURE.astype(float)),
        ({"RescaleSlope": "2", "RescaleIntercept": "-1024"}, {}, PICTURE * 2.0 - 1024),
        ({"RescaleSlope": "2"}, {"values": "fraction"}, PICTURE / 255),
        ({"PatientOrientation": ["R", "F"]}, {}, PICTURE[:, ::-1]),
        ({"PatientOrientation": ["R", "H"]}, {}, PICTURE[::-1, ::-1]),
        ({"PatientOrientation": ["LA", "FP"]}, {}, PICTURE),
        ({}, {"resize": "area", "rows": 1, "columns": 1}, [[350 / 6]]),
        ({}, {"resize": "area", "columns": 2}, [[10 / 3, 50 / 3], [100 / 3, 180]]),
        ({}, {"resize": "crop", "columns": 2}, [[5, 15], [35, 145]]),
        ({}, {"resize": "crop", "rows": 1, "columns": 1}, [[(5 + 15 + 35 + 145) / 4]]),
        ({}, {"resize": "crop"}, PICTURE),
        ({"PixelSpacing": None, "ImagerPixelSpacing": [2, 2]}, {}, PICTURE),
        ({"ViewPosition": None, "PatientOrientation": None}, {"view": [], "orientation": None}, PICTURE),
        ({"Modality": "DX", "BurnedInAnnotation": None}, {}, PICTURE),
    ],
)  # fmt: skip
def test_values_are_what_the_contract_wants(given: dict[str, Any], wanted: dict[str, Any], made: Any) -> None:
    found = image(dicom(PICTURE, 1, **given), **wanted)
    assert found.flaw is None and not found.passed
    np.testing.assert_allclose(found.pixels, made, rtol=1e-12)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_bits_that_store_and_signs_make_no_difference_to_a_fraction(bits: int) -> None:
    most = 2**bits - 1
    data = np.array([[0, most, most // 2]] * 2, dtype=np.uint16)
    plain = image(dicom(data, 1, BitsStored=bits, HighBit=bits - 1), values="fraction").pixels
    turned = (data.astype(np.int32) - 2 ** (bits - 1)).astype(np.int16)
    signed = image(dicom(turned, 1, BitsStored=bits, HighBit=bits - 1), values="fraction").pixels
    np.testing.assert_allclose(plain, data / most)
    np.testing.assert_allclose(signed, plain)


FLAWED: list[tuple[Flaw, dict[str, Any]]] = [
    ("burned-in", {"BurnedInAnnotation": "YES"}),
    ("burned-in", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "BurnedInAnnotation": None}),
    ("frames", {"NumberOfFrames": "2"}),
    ("photometric", {"PhotometricInterpretation": "RGB"}),
    ("photometric", {"PhotometricInterpretation": None}),
    ("pixels", {"PixelData": PICTURE.tobytes()[:4]}),
    ("pixels", {"PixelData": None}),
    ("size", {"Rows": 3, "Columns": 2}),
    ("size", {"Rows": 60000, "Columns": 60000}),
    ("spacing", {"PixelSpacing": [2.0, 2.5]}),
    ("spacing", {"PixelSpacing": [0.1, 0.1]}),
    ("spacing", {"PixelSpacing": None}),
    ("view", {"ViewPosition": None}),
    ("orientation", {"PatientOrientation": ["A", "F"]}),
    ("orientation", {"PatientOrientation": None}),
    ("rescale", {"RescaleSlope": "0"}),
]


@pytest.mark.parametrize(("flaw", "given"), FLAWED)
def test_an_image_that_does_not_fit_has_a_flaw_and_no_values(flaw: Flaw, given: dict[str, Any]) -> None:
    found = image(dicom(PICTURE, 1, **given))
    assert (found.flaw, found.pixels, found.passed) == (flaw, None, False) and flaw in FLAWS


@pytest.mark.parametrize("given", [[-1, 3], [3, 1], [0, 0], [1, float("inf")], [float("nan"), 1]])
def test_distances_of_pixels_that_none_can_have_are_refused(given: list[float]) -> None:
    """Each image would have a flaw, and nobody would say why."""
    with pytest.raises(ValueError, match="spacing_mm"):
        Image.model_validate({**WANTED, "spacing_mm": given})


def test_images_of_another_kind_are_passed_over() -> None:
    for given in ({"Modality": "MR"}, {"ViewPosition": "LL"}, {"Modality": "US", "BurnedInAnnotation": "YES"}):
        assert image(dicom(PICTURE, 1, **given)).passed


def test_screens_are_taken_only_where_they_say_that_nothing_is_burned_in() -> None:
    for told, flaw in ((None, "burned-in"), ("NO", None)):
        assert image(dicom(PICTURE, 1, Modality="US", BurnedInAnnotation=told), modality=["US"]).flaw == flaw


def test_a_mean_over_areas_keeps_the_mean_of_the_image() -> None:
    chance = np.random.default_rng(1)
    for rows, columns in ((3, 5), (28, 28), (7, 1)):
        large = chance.normal(size=(31, 29))
        assert smaller(large, rows, columns).mean() == pytest.approx(large.mean())


def test_a_damaged_file_is_none_and_quotes_nothing(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a byte does: pydicom neither logs nor warns; what comes is an image of the size, a flaw or nothing."""
    data, wanted = dicom(PICTURE, 1), Image.model_validate(WANTED)
    chance = np.random.default_rng(2)
    damaged = [data[:size] for size in range(0, len(data), 37)]
    for _ in range(60):
        one = bytearray(data)
        one[int(chance.integers(len(data)))] ^= int(chance.integers(1, 256))
        damaged.append(bytes(one))
    with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        for one in damaged:
            found = read(bytes(one), wanted)
            assert found is None or found.pixels is None or found.pixels.shape == (2, 3)
    said = capfd.readouterr()
    assert (warned, caplog.records, said.out, said.err) == ([], [], "", "")


TABLE = (
    "patient_no,accession_no,pneumonia,NAME\nPID-7731-1,ACC-5523-1,1,x\nPID-7731-2,ACC-5523-2,0,y\nPID-7731-3,,1,z\n"
)


class Hospital:
    """A hospital with a table, and images in a folder or at a server."""

    def __init__(self, folder: Path, server: Player | None = None) -> None:
        self.folder, self.server, self.extracts = folder, server, folder / "site" / "extracts"
        (folder / "labels.csv").write_text(TABLE)
        (folder / "images").mkdir()

    def put(self, number: int, picture: Any = PICTURE, name: str = "", **given: Any) -> None:
        (self.folder / "images" / f"{name or number}.dcm").write_bytes(dicom(picture, number, **given))

    def rows(self, image: Any = WANTED, out: Any = frozenset(), **given: Any) -> Rows:
        dicom = {"labels": {"type": "csv", "path": "labels.csv"}, "accession": "accession_no", "time_limit_s": 20}
        where: dict[str, Any] = {"path": "images"}
        if self.server is not None:
            where = {"url": self.server.url}
            dicom["access"] = {"ca": str(self.server.ca)}
        made = DicomSource(TableSource(type="dicom", **where, dicom={**dicom, **given}), self.folder)
        made.told(
            Asked(
                frozenset(),
                self.extracts,
                Image.model_validate(image) if image else None,
                ("patient_no", frozenset(out)),
            )
        )
        return made.rows()

    def fails(self, said: str, kind: type[ConsiliumError] = DataUnusable, **given: Any) -> None:
        with pytest.raises(kind, match=said) as raised:
            self.rows(**given)
        told = f"{raised.value} {raised.value.remedy}"
        assert not [one for one in (*PLANTED, ROOT) if one in told]


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path)


def values(found: Rows, row: int) -> list[float | None]:
    assert found.image is not None and found.image.shape == (3, 6)
    return [None if np.isnan(one) else one for one in found.image[row].tolist()]


def test_each_row_has_the_image_of_its_accession_number(hospital: Hospital) -> None:
    hospital.put(2, PICTURE + 1)
    hospital.put(1)
    hospital.put(9)
    hospital.put(1, name="side", ViewPosition="LL", SOPInstanceUID=f"{ROOT}.1.1.2")
    found = hospital.rows(patient="patient_no")
    assert values(found, 0) == [0.0, 10.0, 20.0, 30.0, 40.0, 250.0]
    assert values(found, 1) == [1.0, 11.0, 21.0, 31.0, 41.0, 251.0]
    assert values(found, 2) == [None] * 6 and found.columns["pneumonia"] == ["1", "0", "1"]


@pytest.mark.parametrize("take", ["first", "last"])
def test_of_several_images_one_is_taken_where_the_hospital_says_which(hospital: Hospital, take: str) -> None:
    hospital.put(1, PICTURE + 1, name="a", ContentTime="090000", SOPInstanceUID=f"{ROOT}.1.1.2")
    hospital.put(1)
    hospital.fails("<10 accession numbers have several images")
    assert values(hospital.rows(take=take), 0)[0] == {"first": 0.0, "last": 1.0}[take]


def test_a_flaw_ends_the_reading_unless_the_hospital_leaves_such_images_out(hospital: Hospital) -> None:
    hospital.put(1, PixelSpacing=[9.0, 9.0])
    hospital.put(2)
    hospital.fails(r"<10 have another distance of pixels, or none; .*leave_out: \[spacing\]")
    found = hospital.rows(leave_out=["spacing"])
    assert values(found, 0) == [None] * 6 and values(found, 1)[5] == 250.0


def test_an_image_of_another_patient_is_a_finding(hospital: Hospital) -> None:
    hospital.put(1, PatientID="PID-7731-2")
    assert values(hospital.rows(), 0)[5] == 250.0
    hospital.fails("<10 are of another patient than the table says", patient="patient_no")


def test_what_is_wrong_with_table_or_folder_is_said(hospital: Hospital) -> None:
    hospital.put(1)
    hospital.fails("no column 'nr'", MappingInvalid, accession="nr")
    assert set(hospital.rows(image=None).columns) == {"patient_no", "accession_no", "pneumonia", "NAME"}
    (hospital.folder / "images" / "cut.dcm").write_bytes(dicom(PICTURE, 2)[:300])
    hospital.fails("<10 files are no DICOM, or were cut")
    with pytest.raises(DataUnusable) as caught:
        hospital.rows()
    assert caught.value.which == (str(hospital.folder / "images" / "cut.dcm"),) and "cut.dcm" not in str(caught.value)
    (hospital.folder / "labels.csv").write_text(TABLE.replace("ACC-5523-2", "ACC-5523-1"))
    hospital.fails("an accession number stands twice")
    with pytest.raises(MappingInvalid, match="is a table, and no images"):
        hospital.rows(labels={"type": "dicom", "path": "x"})


class Pacs:
    """What a DICOMweb server answers: QIDO in pages, WADO as multipart."""

    def __init__(self, player: Player) -> None:
        self.player, self.files, self.orders = player, dict[int, list[bytes]](), dict[int, int]()
        player.forget()
        player.on("/fhir/studies", self.find)
        self.page = 2

    def put(self, number: int, *files: bytes) -> None:
        self.files[number] = list(files)
        self.player.on(f"/fhir/studies/{ROOT}.{number}", lambda heard: self.reply(*self.files[number]))

    def find(self, heard: Heard) -> Reply:
        offset = int(parse_qs(urlsplit(heard.path).query)["offset"][0])
        found = [
            {
                "0020000D": {"vr": "UI", "Value": [f"{ROOT}.{number}"]},
                "00080050": {"vr": "SH", "Value": [f"ACC-5523-{self.orders.get(number, number)}"]},
                "00201208": {"vr": "IS", "Value": [len(files)]},
            }
            for number, files in self.files.items()
        ][offset : offset + self.page]
        return Reply(200 if found else 204, found or b"")

    def reply(self, *files: bytes, **given: Any) -> Reply:
        parts = b"".join(
            b"--xyz\r\nContent-Type: application/dicom\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(one), one)
            for one in files
        )
        kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=xyz'}
        return Reply(200, parts + b"--xyz--\r\n", kind, **given)

    def fetched(self) -> list[str]:
        return [path.rsplit(".", 1)[1] for path in self.player.paths() if ROOT in path]


@pytest.fixture
def pacs(server: Player, monkeypatch: pytest.MonkeyPatch) -> Pacs:
    for name in ("HTTPS_PROXY", "https_proxy", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(web, "TRIES", 1)
    made = Pacs(server)
    for number in (1, 2, 3, 4, 5):
        made.put(number, dicom(PICTURE + np.uint8(number), number))
    return made


def test_studies_of_the_table_are_fetched_once_and_kept_without_names(pacs: Pacs, tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, pacs.player)
    found = hospital.rows(query="StudyDate=20250102", patient="patient_no")
    assert values(found, 0)[0] == 1.0 and values(found, 1)[0] == 2.0 and values(found, 2) == [None] * 6
    assert pacs.fetched() == ["1", "2"]
    assert all("StudyDate=20250102" in path for path in pacs.player.paths() if "offset" in path)
    again = hospital.rows(query="StudyDate=20250102")
    assert again == found and [values(again, row) for row in range(3)] == [values(found, row) for row in range(3)]
    assert pacs.fetched() == ["1", "2"]
    kept = [path for path in hospital.extracts.rglob("*") if path.is_file()]
    assert len(kept) == 4 and {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    assert holding([hospital.extracts], *PLANTED, ROOT, "20250102") == []


def test_a_name_in_what_is_kept_would_be_found(pacs: Pacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy writes it as UTF-32, four bytes a letter."""
    monkeypatch.setattr(kept_images, "veiled", lambda key, what, name: name)
    monkeypatch.setattr(dicom_source, "veiled", lambda key, what, name: name)
    hospital = Hospital(tmp_path, pacs.player)
    assert hospital.rows(patient="patient_no").image is not None
    (found,) = {path.name.partition("-")[0] for path in holding([hospital.extracts], "PID-7731-")}
    assert found == "Images"


def test_only_what_is_new_is_fetched_while_the_rest_is_fresh_and_all_of_it_then(pacs: Pacs, tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, pacs.player)
    hospital.rows()
    index = hospital.extracts / "extract.index"
    old = {**json.loads(index.read_text()), "at": (datetime.now(UTC) - timedelta(hours=20)).isoformat()}
    index.write_text(json.dumps(old))
    (tmp_path / "labels.csv").write_text(TABLE.replace(",,", ",ACC-5523-3,"))
    assert values(hospital.rows(), 2)[0] == 3.0 and pacs.fetched() == ["1", "2", "3"]
    assert json.loads(index.read_text())["at"] == old["at"], "by what is fetched beside it nothing becomes younger"
    pacs.put(2, dicom(PICTURE + np.uint8(9), 2))  # corrected at the server, of the same number of images
    found = hospital.rows(fresh_h=0)
    assert values(found, 1)[0] == 9.0 and pacs.fetched()[3:] == ["1", "2", "3"]


def test_accession_numbers_that_were_corrected_at_the_server_are_corrected_here(pacs: Pacs, tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, pacs.player)
    assert values(hospital.rows(), 0)[0] == 1.0
    pacs.orders |= {1: 2, 2: 1}
    for number in (1, 2):
        pacs.put(number, dicom(PICTURE + np.uint8(number), number, AccessionNumber=f"ACC-5523-{3 - number}"))
    (tmp_path / "labels.csv").write_text(TABLE.replace(",,", ",ACC-5523-3,"))  # so that the server is asked again
    found = hospital.rows()
    assert [values(found, row)[0] for row in range(3)] == [2.0, 1.0, 3.0]


def test_of_who_opted_out_no_image_is_fetched_and_none_stays(pacs: Pacs, tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, pacs.player)
    hospital.rows()
    (before,) = hospital.extracts.glob("*.npz")
    found = hospital.rows(out={"PID-7731-1"})
    assert found.image is not None and found.image[:, 0].tolist()[:1] == [2.0] and len(found) == found.left_out + 1 == 2
    (after,) = hospital.extracts.glob("*.npz")
    with np.load(after) as arrays:
        assert len(arrays["pixels"]) == 1 and after != before
    assert pacs.fetched() == ["1", "2"]


def test_images_of_who_opted_out_go_though_the_server_fails(pacs: Pacs, tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, pacs.player)
    hospital.rows()
    pacs.player.on("/fhir/studies", Reply(500, b"{}"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(DataUnusable):
        patch.setattr(web, "_pause", lambda headers, failures: 0.0)
        hospital.rows(out={"PID-7731-1"})
    (after,) = hospital.extracts.glob("*.npz")
    with np.load(after) as arrays:
        assert arrays["pixels"][:, 0].tolist() == [2.0]


def broken(pacs: Pacs) -> dict[str, Reply]:
    """Answers to a fetch that are none."""
    one, two = dicom(PICTURE, 1), dicom(PICTURE, 2)
    whole = pacs.reply(one)
    return {
        "a study was cut": Reply(200, whole.data[:-9], whole.headers),
        "another length": Reply(200, whole.data.replace(b"\r\n--xyz--", b"\r\n--xyz\r\n--xyz--"), whole.headers),
        "not as many images": pacs.reply(one, one),
        "is no DICOM, or of another study": pacs.reply(two),
        "no multipart": Reply(200, one, {"Content-Type": "application/dicom"}),
        "cannot be reached, or its line breaks": pacs.reply(one, cut=200),
        "status 500": Reply(500, b"ACC-5523-1"),
    }


@pytest.mark.parametrize(
    "said",
    [
        "a study was cut", "not as many images", "is no DICOM, or of another study", "no multipart",
        "cannot be reached, or its line breaks", "status 500",
    ],
)  # fmt: skip
def test_a_study_that_lacks_anything_is_a_finding(pacs: Pacs, tmp_path: Path, said: str) -> None:
    hospital = Hospital(tmp_path, pacs.player)
    pacs.player.on(f"/fhir/studies/{ROOT}.1", broken(pacs)[said])
    hospital.fails(said)
    assert not list(hospital.extracts.rglob("*.npz"))


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(200, {"error": "ACC-5523-1"}), "a search gave no list"),
        (Reply(200, [{"00080050": {"Value": ["ACC-5523-1"]}}]), "a study without a UID"),
        (Reply(200, [{"0020000D": {"Value": [f"{ROOT}.1"]}}]), "the same page again and again"),
        (Reply(200, b"[{"), "the answer is no JSON"),
        (Reply(401, b"PID-7731-1"), "status 401"),
        (Reply(200, b"", silent_s=5), "longer than the 0.5 s that source.dicom.time_limit_s allows"),
    ],
)
def test_a_search_that_is_none_is_a_finding(pacs: Pacs, tmp_path: Path, reply: Reply, said: str) -> None:
    pacs.player.on("/fhir/studies", reply)
    Hospital(tmp_path, pacs.player).fails(said, time_limit_s=0.5 if reply.silent_s else 20)


def chest(**changes: Any) -> dict[str, Any]:
    study = yaml.safe_load(STUDY)
    study["contract"] = {"id": "c", "image": {**WANTED, **changes}, "label": study["contract"]["label"]}
    return {**study, "model": {"kind": "torch", "architecture": "cnn", "options": {"shape": [1, 2, 3]}}}


def test_an_image_of_the_contract_is_so_many_inputs_and_a_plan_names_none_of_them(tmp_path: Path) -> None:
    study = Study.model_validate(chest())
    assert study.contract.features == () and study.contract.size == 6
    assert encode.names(study.contract) == [f"pixel_{n}" for n in range(6)]
    (one,) = study.contract.inputs
    assert (one.id, one.unit, one.range, one.missing) == ("pixel", "1", (0.0, 255.0), "forbidden")
    assert (
        Study.model_validate(study.model_dump(mode="json", exclude_defaults=True)) == study
    )  # as a notebook changes it
    plan = Plan.of(study)
    assert Plan.load(plan.payload).study == study and Plan.of(Plan.load(plan.payload).study).digest == plan.digest
    assert b"pixel_" not in plan.payload
    before = json.loads(plan.payload)
    before["contract"]["features"] = [{**one.model_dump(mode="json"), "id": f"pixel_{n}"} for n in range(6)]
    assert Study.model_validate(before).contract == study.contract, "a plan of before names them"
    with pytest.raises(StudyInvalid):
        Plan.load(json.dumps({**before, "contract": {**before["contract"], "image": None, "features": []}}).encode())
    for wrong in ({"rows": 1025, "columns": 1024}, {"range": [1, 1]}, {"modality": []}):
        with pytest.raises(ValueError, match=r"1048576|smaller|modality"):
            Study.model_validate(chest(**wrong))
    named = {**one.model_dump(mode="json"), "id": "pixel_3"}
    with pytest.raises(ValueError, match="named twice: pixel_3"):
        Study.model_validate({**(made := chest()), "contract": {**made["contract"], "features": [named]}})
    dicom = {"labels": {"type": "csv", "path": "l.csv"}, "accession": "a"}
    given = {
        "mapping": 1, "contract": "c", "features": {}, "patient": {"column": "patient_no"},
        "label": {"column": "pneumonia", "codes": {"0": 0, "1": 1}},
        "source": {"type": "dicom", "path": "images", "dicom": dicom},
    }  # fmt: skip
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(given))
    assert mapping.load(tmp_path / "m.yaml", study.contract).features == {}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump({**given, "source": {"type": "csv", "path": "l.csv"}}))
    with pytest.raises(MappingInvalid, match="the contract wants an image"):
        mapping.load(tmp_path / "m.yaml", study.contract)


def test_nothing_but_values_and_names_for_a_key_is_taken_from_a_data_set() -> None:
    found = image(dicom(PICTURE, 7))
    told = {
        name: value for name, value in vars(found).items() if name not in ("accession", "patient", "study", "order")
    }
    assert set(told) == {"pixels", "flaw", "passed"}
    assert io.BytesIO(found.pixels.tobytes()).getbuffer().nbytes == 6 * 8


def test_people_read_of_an_image_and_not_of_each_of_its_values(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = chest(rows=4, columns=5)
    study = Study.model_validate({**wanted, "model": {**wanted["model"], "options": {"shape": [1, 4, 5]}}})
    said = explain(Plan.of(study))
    assert "pixel: chest (DICOM CR or DX, PA, 4 x 5 pixels" in said and "pixel_" not in said
    hospital.put(1, np.arange(20, dtype=np.uint8).reshape(4, 5))
    dicom = {"labels": {"type": "csv", "path": "labels.csv"}, "accession": "accession_no"}
    given = {
        "mapping": 1, "contract": "c", "features": {}, "patient": {"column": "patient_no"},
        "label": {"column": "pneumonia", "codes": {"0": 0, "1": 1}},
        "source": {"type": "dicom", "path": "images", "dicom": dicom},
    }  # fmt: skip
    (hospital.folder / "mapping.yaml").write_text(yaml.safe_dump(given))
    report = tables.check(study, hospital.folder / "mapping.yaml")
    showing.report(report)
    out = capsys.readouterr().out
    assert "\npixel " in out and "pixel_" not in out and report.incomplete == "<10"
    assert [one.id for one in report.features] == ["pixel"] and report.features[0].missing == "<10"


def test_a_large_image_becomes_a_tensor_as_the_contract_says(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    """224 x 224 of 500 x 448: the middle, each value the mean of four; a column beside it, and one image too bright."""
    from consilium.training.work import Rows as Given
    from consilium.training.work import examined

    made = chest(rows=224, columns=224, resize="crop", range=[0, 4000])
    age = {"id": "age", "meaning": "age", "type": "number", "unit": "a", "range": [0, 120], "missing": "forbidden"}
    study = Study.model_validate({
        **made, "contract": {**made["contract"], "features": [age]}, "model": {"kind": "logistic"},
    })  # fmt: skip
    assert len(Plan.of(study).payload) < 10_000 and study.contract.size == 50_177
    chance = np.random.default_rng(7)
    pictures = [chance.integers(0, 4000, (500, 448), dtype=np.uint16) for _ in range(3)]
    pictures[2][250, 100:110] = 65_000
    for number, picture in enumerate(pictures, 1):
        hospital.put(number, picture)
    (hospital.folder / "labels.csv").write_text(
        "patient_no,accession_no,pneumonia,age\n" + "".join(f"P{n},ACC-5523-{n},{n % 2},60\n" for n in (3, 2, 1))
    )
    dicom = {"labels": {"type": "csv", "path": "labels.csv"}, "accession": "accession_no"}
    given = {
        "mapping": 1, "contract": "c", "features": {"age": {"column": "age", "unit": "a"}},
        "patient": {"column": "patient_no"}, "label": {"column": "pneumonia", "codes": {"0": 0, "1": 1}},
        "source": {"type": "dicom", "path": "images", "dicom": dicom},
    }  # fmt: skip
    path = hospital.folder / "mapping.yaml"
    path.write_text(yaml.safe_dump(given))
    prepared = tables.prepare(study, path, hospital.folder)
    assert prepared.read == 3 and prepared.incomplete == 1, "one has a value outside of the range"
    with np.load(prepared.path) as found:
        columns = {one.id: found[f"feature/{one.id}"] for one in study.contract.inputs}
        examples, _ = examined(study, Given(columns, found["label"], found["test"]))
    tensor = examples.x[:, 1:].reshape(2, 224, 224)
    for at, picture in enumerate(pictures[1::-1]):
        middle = picture[26:474].reshape(224, 2, 224, 2).mean(axis=(1, 3))
        np.testing.assert_allclose(tensor[at], middle / 2000 - 1, atol=1e-6)
    assert examples.x[:, 0].tolist() == [0.0, 0.0] and examples.y.tolist() == [0.0, 1.0]
    monkeypatch.setattr("os.sysconf", lambda name: 1024 if name == "SC_PAGE_SIZE" else 4000)
    with pytest.raises(DataUnusable, match="3 images of 224 x 224 take 0 GiB of memory"):
        tables.prepare(study, path, hospital.folder)


@pytest.mark.long
def test_a_network_learns_of_large_images(tmp_path: Path) -> None:
    """Where a bright spot stands in the middle of 300 x 260: of 224 x 224 a network sees it, on patients held out."""
    image = {**WANTED, "rows": 224, "columns": 224, "resize": "crop", "values": "fraction", "range": [0, 1]}
    wanted = chest()
    study = Study.model_validate({
        **wanted, "contract": {**wanted["contract"], "image": image}, "rounds": 6, "min_patients": 10,
        "model": {"kind": "torch", "architecture": "cnn", "options": {
            "shape": [1, 224, 224], "channels": [4, 4], "pool": 8, "hidden": [8],
        }},
        "training": {"epochs": 2, "batch_size": 8, "learning_rate": 0.1, "seed": 1},
    })  # fmt: skip
    chance, mappings = np.random.default_rng(5), {}
    for name in ("north", "south", "west"):
        (tmp_path / name).mkdir()
        hospital = Hospital(tmp_path / name)
        lines = ["patient_no,accession_no,pneumonia"]
        for number in range(40):
            picture = chance.integers(0, 120, (300, 260), dtype=np.uint8)
            picture[130:160, 115:145] += np.uint8(120 * (number % 2))
            hospital.put(number, picture)
            lines.append(f"P{name}{number},ACC-5523-{number},{number % 2}")
        (hospital.folder / "labels.csv").write_text("\n".join(lines) + "\n")
        dicom = {"labels": {"type": "csv", "path": "labels.csv"}, "accession": "accession_no"}
        mappings[name] = hospital.folder / "mapping.yaml"
        mappings[name].write_text(yaml.safe_dump({
            "mapping": 1, "contract": "c", "features": {}, "patient": {"column": "patient_no"},
            "label": {"column": "pneumonia", "codes": {"0": 0, "1": 1}},
            "source": {"type": "dicom", "path": "images", "dicom": dicom},
        }))  # fmt: skip
    found = simulate(study, mappings, Scenario(), lambda told: None)
    assert found.outcome.figures["all"]["auroc"]["value"] > 0.9


def test_what_is_learned_of_images_scales_each_value(hospital: Hospital) -> None:
    made = Study.model_validate({**chest(), "model": {"kind": "logistic"}, "prepare": {"numbers": "standardise"}})
    chance = np.random.default_rng(3)
    values = chance.uniform(0, 255, (40, 6)) * np.array([1, 1, 1, 0.1, 0.5, 1])
    length = preparation.sums(made)["prepare"].length
    sums = preparation.statistics(made, {"pixel": values})
    assert sums.size == length == 18
    learned = preparation.learned(made, sums, 40.0)
    found = encode.encode(made.contract, {"pixel": values}, made.prepare, learned)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(found.std(axis=0), 1, rtol=1e-9)
