"""One small table of patients as every kind of source has it, for tests that break the sources."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

from consilium.core.contract import Image
from consilium.data import base
from consilium.data.base import Asked, Rows
from consilium.data.dicom.source import DicomSource
from consilium.data.excel import ExcelSource
from consilium.data.fhir.source import FhirSource
from consilium.data.omop.source import OmopSource
from consilium.data.source import TableSource
from consilium.data.tables import CsvSource, ParquetSource, SqlSource
from e2e.omop import small
from e2e.xrays import ROOT, dicom
from unit.data.player import Player, Reply, bundle, lines

COLUMNS = ("id", "sex", "kg")
PEOPLE = [("7731001", "SECRET-F", 61.0625), ("7731002", "SECRET-M", 120.4375), ("7731003", "SECRET-F", 73.6875)]
SECRETS = ("SECRET", "7731", "0625", "4375", "6875", "PID-", "ACC-", ROOT)
"""What no message may hold: parts of keys, codes and values of the patients."""
SOURCES: dict[str, Callable[..., base.Source]] = {
    "csv": CsvSource, "parquet": ParquetSource, "excel": ExcelSource, "sql": SqlSource, "omop": OmopSource,
    "fhir": FhirSource, "dicom": DicomSource,
}  # fmt: skip
IMAGE = Image.model_validate({"meaning": "chest", "modality": ["CR"], "rows": 1, "columns": 2, "range": [0, 255]})
Found = dict[str, tuple[str | None, ...]]


def read(source: TableSource, folder: Path) -> Rows:
    """All rows of a source; the image's values as columns where it is one of images."""
    made = SOURCES[source.type](source, folder)
    if isinstance(made, base.Told):
        made.told(Asked(image=IMAGE if source.type == "dicom" else None))
    found = made.rows()
    for number in range(0 if found.image is None else found.image.shape[1]):
        values = [None if one != one else repr(one) for one in found.image[:, number].tolist()]  # type: ignore[index]
        found.columns[f"pixel_{number}"] = values
    return found


def by_key(rows: Rows) -> Found:
    """The rows by the patient's key, numbers in one spelling; no key may stand twice."""
    names = list(rows.columns)
    found: Found = {}
    for values in zip(*rows.columns.values(), strict=True):
        row = dict(zip(names, values))
        key = str(row.pop("id", row.pop("person_id", None)))
        assert key not in found, "a patient stands twice"
        found[key] = tuple(_spelt(row[name]) for name in sorted(row))
    return found


def _spelt(text: str | None) -> str | None:
    try:
        return None if text is None else repr(float(text))
    except ValueError:
        return text


def csv(folder: Path) -> TableSource:
    rows = [",".join(COLUMNS), *(f"{key},{sex},{kg}" for key, sex, kg in PEOPLE)]
    (folder / "t.csv").write_text("\n".join(rows) + "\n")
    return TableSource(type="csv", path="t.csv")


def parquet(folder: Path) -> TableSource:
    columns = {name: list(values) for name, values in zip(COLUMNS, zip(*PEOPLE))}
    pq.write_table(pa.table(columns), folder / "t.parquet", compression="snappy")
    return TableSource(type="parquet", path="t.parquet")


def excel(folder: Path) -> TableSource:
    book = openpyxl.Workbook()
    for row in (COLUMNS, *PEOPLE):
        book.active.append(row)
    book.save(folder / "t.xlsx")
    return TableSource(type="excel", path="t.xlsx")


CREATE = "CREATE TABLE t (id VARCHAR, sex VARCHAR, kg DOUBLE)"


def sqlite(folder: Path) -> TableSource:
    with sqlite3.connect(folder / "t.sqlite") as made:
        made.execute(CREATE)
        made.executemany("INSERT INTO t VALUES (?, ?, ?)", PEOPLE)
    made.close()
    return TableSource(type="sql", url=f"sqlite:///{folder}/t.sqlite", query="SELECT * FROM t", time_limit_s=20)


def duck(folder: Path) -> TableSource:
    with duckdb.connect(str(folder / "t.duckdb")) as made:
        made.execute(CREATE)
        made.executemany("INSERT INTO t VALUES (?, ?, ?)", PEOPLE)
    return TableSource(type="sql", path="t.duckdb", query="SELECT * FROM t", time_limit_s=20)


KG, KILOGRAM = 3025315, 9529
"""Body weight and its unit in the vocabulary of OMOP."""


def omop(folder: Path) -> TableSource:
    small(folder / "cdm.duckdb", {
        "person": [(int(key), 8532 if sex.endswith("F") else 8507, 1950, 0, 0) for key, sex, _ in PEOPLE],
        "observation_period": [(int(key), "2000-01-01", "2030-01-01") for key, *_ in PEOPLE],
        "concept": [(KG, "LOINC", "29463-7", "S", ""), (KILOGRAM, "UCUM", "kg", "S", "")],
        "measurement": [
            (n, int(key), KG, "2020-01-02", "2020-01-02 08:00:00", kg, "", KILOGRAM)
            for n, (key, _, kg) in enumerate(PEOPLE)
        ],
    })  # fmt: skip
    (folder / "cdm.csv").unlink()
    return TableSource.model_validate({"type": "omop", "path": "cdm.duckdb", **omop_part()})


def omop_part() -> dict[str, Any]:
    """What a mapping says of it."""
    cohort = {"query": "SELECT person_id, DATE '2020-01-02' AS cohort_start_date FROM person"}
    weight = {"family": "measurement", "concepts": [KG], "take": "last", "unit": "kg", "window": [-30, 0]}
    given = {"version": "5.4", "cohort": cohort, "columns": {"kg": weight, "sex": {"family": "gender"}}}
    return {"omop": given}


VIEW = {
    "resource": "Patient",
    "select": [{"column": [
        {"name": "id", "path": "getResourceKey()"}, {"name": "sex", "path": "gender", "type": "code"},
        {"name": "kg", "path": "extension('urn:kg').value.ofType(decimal)", "type": "decimal"},
    ]}],
}  # fmt: skip
PATIENTS: list[dict[str, Any]] = [
    {"resourceType": "Patient", "id": key, "gender": sex, "extension": [{"url": "urn:kg", "valueDecimal": kg}]}
    for key, sex, kg in PEOPLE
]


def _fhir(folder: Path, **given: Any) -> TableSource:
    (folder / "view.json").write_text(json.dumps(VIEW))
    return TableSource.model_validate({"type": "fhir", "views": {"patients": "view.json"}, **given})


def ndjson(folder: Path) -> TableSource:
    (folder / "export").mkdir()
    (folder / "export/Patient.ndjson").write_bytes(lines(*PATIENTS))
    return _fhir(folder, path="export")


def bundles(folder: Path) -> TableSource:
    (folder / "export").mkdir()
    (folder / "export/all.json").write_bytes(bundle(*PATIENTS).data)
    return _fhir(folder, path="export")


def search(folder: Path, player: Player, **more: Any) -> TableSource:
    player.on("/fhir/Patient", bundle(*PATIENTS[:2], following=f"{player.url}?page=2", total=3))
    player.on("/fhir", bundle(*PATIENTS[2:], total=3))
    given = {"read": "search", "time_limit_s": 20, "access": {"ca": str(player.ca)}, **more}
    return _fhir(folder, url=player.url, fhir=given)


def manifest(player: Player, *outputs: dict[str, Any], **more: Any) -> Reply:
    told = {"transactionTime": "2026-01-01T00:00:00Z", "requiresAccessToken": True, "error": [], "output": outputs}
    return Reply(200, {**told, **more})


def export(folder: Path, player: Player, **more: Any) -> TableSource:
    job, data = f"{player.url}/jobs/1", lines(*PATIENTS)
    player.on("/fhir/Patient/$export", Reply(202, b"", {"Content-Location": job}))
    player.on("/fhir/jobs/1", manifest(player, {"type": "Patient", "url": f"{player.url}/files/1", "count": 3}))
    player.on("/fhir/jobs/1", Reply(202), method="DELETE")
    player.on("/fhir/files/1", Reply(200, data, {"ETag": '"v1"'}))
    return search(folder, player, read="bulk", **more)


def _labels(folder: Path) -> dict[str, Any]:
    rows = ["id,accession", *(f"PID-7731-{number},ACC-5523-{number}" for number in (1, 2, 3))]
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return {"labels": {"type": "csv", "path": "labels.csv"}, "accession": "accession", "patient": "id"}


def picture(number: int, **given: Any) -> bytes:
    """The image of a patient: two values, one of which tells the patient."""
    return dicom(np.array([[number, 200]], dtype=np.uint8), number, **given)


def images(folder: Path) -> TableSource:
    (folder / "images").mkdir()
    for number in (1, 2, 3):
        (folder / f"images/{number}.dcm").write_bytes(picture(number))
    return TableSource.model_validate({"type": "dicom", "path": "images", "dicom": _labels(folder)})


def multipart(*files: bytes, **given: Any) -> Reply:
    head = b"--xyz\r\nContent-Type: application/dicom\r\nContent-Length: %d\r\n\r\n%s\r\n"
    kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=xyz'}
    return Reply(200, b"".join(head % (len(one), one) for one in files) + b"--xyz--\r\n", kind, **given)


def found_studies() -> list[dict[str, Any]]:
    return [
        {"0020000D": {"Value": [f"{ROOT}.{n}"]}, "00080050": {"Value": [f"ACC-5523-{n}"]}, "00201208": {"Value": [1]}}
        for n in (1, 2, 3)
    ]


def dicomweb(folder: Path, player: Player, **more: Any) -> TableSource:
    player.on("/fhir/studies", Reply(200, found_studies()), Reply(204))
    for number in (1, 2, 3):
        player.on(f"/fhir/studies/{ROOT}.{number}", multipart(picture(number)))
    given = {**_labels(folder), "time_limit_s": 20, "access": {"ca": str(player.ca)}, **more}
    return TableSource.model_validate({"type": "dicom", "url": player.url, "dicom": given})


FILES: dict[str, tuple[Callable[[Path], TableSource], str]] = {
    "csv": (csv, "t.csv"), "parquet": (parquet, "t.parquet"), "excel": (excel, "t.xlsx"),
    "sqlite": (sqlite, "t.sqlite"), "duckdb": (duck, "t.duckdb"), "omop": (omop, "cdm.duckdb"),
    "ndjson": (ndjson, "export/Patient.ndjson"), "bundle": (bundles, "export/all.json"),
    "dicom": (images, "images/2.dcm"),
}  # fmt: skip
"""Sources of files: how one is made, and the file that is broken."""
SERVERS: dict[str, tuple[Callable[..., TableSource], tuple[str, ...]]] = {
    "search": (search, ("/fhir/Patient", "/fhir")),
    "export": (export, ("/fhir/Patient/$export", "/fhir/jobs/1", "/fhir/files/1")),
    "dicomweb": (dicomweb, ("/fhir/studies", f"/fhir/studies/{ROOT}.2")),
}
"""Sources of servers: how one is made, and the paths whose answers are broken."""
