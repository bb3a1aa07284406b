"""Bundles: their resources are those of NDJSON, and a reference by `urn:uuid:` leads where it led."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from consilium.core.errors import DataUnusable
from consilium.data.fhir import arrow, bundles, reading
from consilium.data.fhir.source import FhirSource
from consilium.data.fhir.views import compile_view
from consilium.data.source import TableSource

DATA = Path(__file__).parents[5] / "shared/data"
COLUMNS = [
    {"name": "id", "path": "getResourceKey()"}, {"name": "patient", "path": "subject.getReferenceKey(Patient)"},
    {"name": "encounter", "path": "encounter.getReferenceKey(Encounter)"},
    {"name": "code", "path": "code.coding.first().code"},
]  # fmt: skip


def table(resource: str, path: Path) -> list[dict[str, Any]]:
    view = compile_view({"resource": resource, "select": [{"column": COLUMNS}]})
    rows: list[dict[str, Any]] = pa.Table.from_batches(arrow.batches(view, path), arrow.schema(view)).to_pylist()
    return sorted(rows, key=lambda row: str(row["id"]))


@pytest.mark.skipif(not DATA.is_dir(), reason="the bundles of Synthea are not here")
@pytest.mark.parametrize(("resource", "count"), [("Observation", 2350), ("Condition", 322)])
def test_the_bundles_of_synthea_give_the_rows_of_their_ndjson(resource: str, count: int) -> None:
    rows = table(resource, DATA / "fhir_synthea_pathling/bundles")
    assert rows == table(resource, DATA / f"fhir_synthea_pathling/ndjson/{resource}.ndjson.gz")
    assert len(rows) == count and all(row["patient"] and row["encounter"] for row in rows)


@pytest.mark.skipif(not DATA.is_dir(), reason="the export of SMART is not here")
def test_an_export_as_a_client_leaves_it_is_read_with_its_log() -> None:
    folder = DATA / "fhir_bulk_10"
    assert (folder / reading.LOG).exists() and reading.LOG not in {path.name for path in reading.files(folder)}
    view = compile_view({"resource": "Patient", "select": [{"column": COLUMNS[:1]}]})
    assert sum(batch.num_rows for batch in arrow.batches(view, folder)) == 13


def write(path: Path, *entries: Any, **more: Any) -> Path:
    data = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": list(entries), **more}).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


PATIENT = {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Patient"}, "request": {"method": "POST"}}


def test_what_has_no_id_yet_has_that_of_its_url(tmp_path: Path) -> None:
    condition = {"resourceType": "Condition", "subject": {"reference": "urn:uuid:1"}, "id": "c"}
    other = {"resourceType": "Condition", "subject": {"reference": "Patient?identifier=http://a/sid|7"}, "id": "d"}
    asked = {"fullUrl": "urn:uuid:3", "request": {"method": "GET", "url": "Patient/3"}}
    write(tmp_path / "b.json.gz", {"resource": condition}, asked, PATIENT, {"resource": other})
    assert [(row["id"], row["patient"]) for row in table("Condition", tmp_path)] == [("c", "1"), ("d", None)]
    assert [row["id"] for row in table("Patient", tmp_path)] == ["1"]


def test_a_resource_by_itself_and_a_bundle_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"resourceType":"Patient","id":"a"}')
    write(tmp_path / "b.json")
    (tmp_path / "c.json").write_text('{"resourceType":"Bundle","type":"searchset","total":0}')
    assert [row["id"] for row in table("Patient", tmp_path)] == ["a"]


SECRET = {"resourceType": "Patient", "id": "SECRET"}
ERROR = {"resourceType": "OperationOutcome", "issue": [{"severity": "warning"}, {"severity": "fatal"}]}
WARNING = {"resourceType": "OperationOutcome", "issue": [{"severity": "warning", "code": "informational"}]}


def bundle(*entries: Any, **more: Any) -> str:
    return json.dumps({"resourceType": "Bundle", "type": "searchset", "entry": list(entries), **more})


BROKEN = [
    ("{", "b.json: is no JSON"),
    ("[]", "b.json: is no FHIR resource"),
    ('{"resourceType":"Bundle","entry":{"a":1}}', "b.json: is no Bundle"),
    ('{"resourceType":"Bundle","entry":[{"resource":{"id":"SECRET"}}]}', "b.json entry 1: is no FHIR resource"),
    (
        json.dumps({"resourceType": "Bundle", "entry": [PATIENT, {**PATIENT, "resource": {"resourceType": "Group"}}]}),
        "b.json entry 2: has the fullUrl of another",
    ),
    (json.dumps(ERROR), "b.json entry 1: the server reports an error"),
    (bundle({"resource": SECRET}, {"resource": ERROR}), "b.json entry 2: the server reports an error"),
    (bundle({"resource": json.loads(bundle({"resource": SECRET}))}), "b.json entry 1: is a Bundle within a Bundle"),
    (bundle({"response": {"status": "404 Not Found"}}), "b.json entry 1: the server answered with an error"),
    (bundle({"response": {"status": "200", "outcome": ERROR}}), "b.json entry 1: the server answered with an error"),
    (
        bundle({"resource": SECRET}, {"request": {"method": "DELETE", "url": "Patient/SECRET"}}, type="history"),
        "b.json entry 2: deletes or alters a resource",
    ),
]


@pytest.mark.parametrize(("text", "said"), BROKEN)
def test_what_is_broken_is_said(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(DataUnusable) as raised:
        list(bundles.resources(tmp_path / "b.json"))
    assert said in str(raised.value) and "SECRET" not in str(raised.value) and raised.value.remedy


def test_a_cut_file_is_found_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = write(tmp_path / "b.json", PATIENT).read_bytes()
    for size in range(len(whole)):
        (tmp_path / "b.json").write_bytes(whole[:size])
        with pytest.raises(DataUnusable):
            list(bundles.resources(tmp_path / "b.json"))


def page(number: int, *keys: str, total: int | None = None, last: bool = False, **more: Any) -> str:
    links = [{"relation": "self", "url": f"https://h/fhir/Patient?page={number}"}]
    links += [] if last else [{"relation": "next", "url": f"https://h/fhir/Patient?page={number + 1}"}]
    found = [{"resource": {"resourceType": "Patient", "id": key}, "search": {"mode": "match"}} for key in keys]
    more |= {} if total is None else {"total": total}
    return bundle(*found, {"resource": WARNING, "search": {"mode": "outcome"}}, link=links, **more)


@pytest.mark.parametrize(("pages", "said"), [
    ([page(1, "a", "b", total=3), page(2, "c", total=3, last=True)], ""),
    ([page(1, "a", "b"), page(2, "c", last=True)], ""),
    ([page(1, "a", total=1)], ""),  # its `next` leads to nothing, as with some servers
    ([page(1, "a", last=True, total=0, type="collection")], ""),
    ([page(1, "a", "b", total=3), page(1, "a", "b", total=3), page(2, "c", total=3, last=True)], ""),
    ([page(1, "a", "b", total=3)], "0.json: the server said that there are more"),
    ([page(1, "a", "b", total=3), page(1, "a", "b", total=3)], "0.json: the server said that there are more"),
    ([page(2, "c", total=3, last=True)], "0.json: the server said that there are more"),
    ([page(1, total=3, last=True)], "0.json: the server said that there are more"),
    ([page(1, "a", "b")], "0.json: another page follows"),
    ([page(1, "a"), page(3, "c", last=True)], "0.json: another page follows"),
    ([page(1, "a", type="history")], "0.json: another page follows"),
])  # fmt: skip
def test_all_pages_of_a_search_are_there_or_nothing_is_read(tmp_path: Path, pages: list[str], said: str) -> None:
    for number, text in enumerate(pages):
        (tmp_path / f"{number}.json").write_text(text)
    (tmp_path / "v.view").write_text(json.dumps({"resource": "Patient", "select": [{"column": COLUMNS[:1]}]}))
    (tmp_path / "x").mkdir()
    for file in tmp_path.glob("*.json"):
        file.rename(tmp_path / "x" / file.name)
    source = FhirSource(TableSource(type="fhir", path="x", views={"v": "v.view"}), tmp_path)
    if not said:
        assert set(source.rows().columns["id"]) in ({"a", "b", "c"}, {"a"})
        return
    with pytest.raises(DataUnusable) as raised:
        source.rows()
    assert said in str(raised.value) and "page=" not in str(raised.value)
