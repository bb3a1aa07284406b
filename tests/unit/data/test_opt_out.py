"""Who opted out is in no row of any source: nothing but their key is read, and nothing is kept of what is fetched."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from consilium.core.errors import DataUnusable, MappingInvalid
from consilium.data import base, choosing, web
from consilium.data.base import Asked, Rows
from consilium.data.extracts import Extract
from consilium.data.fhir.leaving import _patients
from consilium.data.joined import JoinedSource
from consilium.data.source import TableSource
from consilium.site.extracts import spill
from consilium.site.folder import Folder
from unit.data import wards
from unit.data.player import Player, Reply, bundle, lines
from unit.data.wards import FILES, PEOPLE, SERVERS, SOURCES

SECOND = PEOPLE[1][0]


ALL = {**SOURCES, "tables": JoinedSource}


def read(source: TableSource, folder: Path, column: str, *out: str, extracts: Path | None = None) -> Rows:
    made = ALL[source.type](source, folder)
    assert isinstance(made, base.Told)
    image = wards.IMAGE if source.type == "dicom" else None
    made.told(Asked(extracts=extracts, image=image, without=(column, frozenset(out))))
    return made.rows()


def keys(source: TableSource) -> tuple[str, str]:
    """The column of the key, and the key of the second patient."""
    column = "person_id" if source.type == "omop" else "id"
    return column, "PID-7731-2" if source.type == "dicom" else SECOND


@pytest.mark.parametrize("kind", FILES)
def test_no_source_has_a_row_of_who_opted_out(tmp_path: Path, kind: str) -> None:
    """And each says how many of the list are in it: nobody else's row is another one."""
    source = FILES[kind][0](tmp_path)
    column, second = keys(source)
    every, found = read(source, tmp_path, column), read(source, tmp_path, column, second, "elsewhere")
    others = {name: [one for at, one in enumerate(values) if at != 1] for name, values in every.columns.items()}
    assert (found.columns, found.left_out) == (others, 1) and second in every.columns[column]
    assert found.image is None or (found.image.shape[0] == 2 and (found.image[:, 0] != 2).all())
    nobody = read(source, tmp_path, column, *map(str, every.columns[column]))
    assert (len(nobody), nobody.left_out) == (0, 3)


BOOM = f"CASE WHEN id = '{SECOND}' THEN error('read') ELSE 'fine' END AS value"


def test_nothing_but_the_key_is_computed_of_who_opted_out(tmp_path: Path) -> None:
    """A value that cannot be read ends the reading, unless it is of somebody who is left out."""
    source = wards.duck(tmp_path).model_copy(update={"query": f"SELECT id, {BOOM} FROM t -- all"})
    with pytest.raises(DataUnusable):
        read(source, tmp_path, "id")
    assert read(source, tmp_path, "id", SECOND).columns["value"] == ["fine", "fine"]
    with pytest.raises(DataUnusable):
        read(source, tmp_path, "none", SECOND)
    source = wards.sqlite(tmp_path)
    query = f"SELECT id, CASE WHEN id = '{SECOND}' THEN json('[') ELSE 'fine' END AS value FROM t -- all"
    source = source.model_copy(update={"query": query})
    with pytest.raises(DataUnusable):
        read(source, tmp_path, "id")
    assert read(source, tmp_path, "id", SECOND, "it's; :none %s").columns["value"] == ["fine", "fine"]


@pytest.mark.parametrize("name", ["it's :x", 'a "b" %s', "back\\slash"])
def test_whatever_a_key_is_like_it_is_left_out(tmp_path: Path, name: str) -> None:
    wards.sqlite(tmp_path), wards.duck(tmp_path)
    picked = "'" + name.replace("'", "''") + "' AS id"
    for place in ({"url": f"sqlite:///{tmp_path}/t.sqlite"}, {"path": "t.duckdb"}):
        source = TableSource(type="sql", **place, query=f"SELECT {picked}, 1 AS x UNION ALL SELECT NULL, 2")
        found = read(source, tmp_path, "id", name)
        assert (found.columns, found.left_out) == ({"id": [None], "x": ["2"]}, 1)


def test_of_a_query_two_columns_of_one_name_are_found_beside_a_list(tmp_path: Path) -> None:
    for make in (wards.sqlite, wards.duck):
        source = make(tmp_path).model_copy(update={"query": "SELECT id, sex, kg AS sex FROM t"})
        with pytest.raises(DataUnusable, match="two columns of one name, the"):
            read(source, tmp_path, "id", SECOND)


def test_persons_of_a_cohort_are_left_out_of_its_entries_and_of_those_of_columns(tmp_path: Path) -> None:
    """The measurement of who opted out is of a unit that ends the reading, and is not read."""
    source = wards.omop(tmp_path)
    with duckdb.connect(str(tmp_path / "cdm.duckdb")) as database:
        database.execute("UPDATE measurement SET unit_concept_id = 77 WHERE person_id = ?", [int(SECOND)])
    with pytest.raises(DataUnusable, match="unit_concept_id 77"):
        read(source, tmp_path, "person_id")
    assert source.omop is not None
    days = "SELECT person_id AS subject_id, DATE '2020-01-02' AS cohort_start_date FROM person -- all"
    drugs = {"VisitOccurrence": {}}
    circe = {
        "ConceptSets": [], "PrimaryCriteria": {
            "CriteriaList": [drugs], "ObservationWindow": {"PriorDays": 0, "PostDays": 0},
            "PrimaryCriteriaLimit": {"Type": "First"},
        },
        "QualifiedLimit": {"Type": "First"}, "ExpressionLimit": {"Type": "First"}, "InclusionRules": [],
    }  # fmt: skip
    (tmp_path / "circe.json").write_text(json.dumps(circe))
    with duckdb.connect(str(tmp_path / "cdm.duckdb")) as database:
        for key, *_ in PEOPLE:
            database.execute(f"INSERT INTO visit_occurrence VALUES ({key}, {key}, 9201, '2020-01-02', '2020-01-02')")
    for cohort in ({"query": days}, {"circe": "circe.json", "entry": "first"}):
        changed = source.model_dump()
        changed["omop"]["cohort"] = cohort
        found = read(TableSource.model_validate(changed), tmp_path, "person_id", SECOND, "1", "no number")
        assert found.columns["person_id"] == [PEOPLE[0][0], PEOPLE[2][0]] and found.left_out == 1
    double = {"query": "SELECT person_id, person_id AS subject_id, DATE '2020-01-02' AS cohort_start_date FROM person"}
    changed["omop"]["cohort"] = double
    with pytest.raises(DataUnusable, match="gives no column person_id"):
        read(TableSource.model_validate(changed), tmp_path, "person_id", SECOND)


def person(key: str, number: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": key, "identifier": [{"system": "urn:mrn", "value": number}], **more}


def observation(key: str, patient: str, value: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": key, "subject": {"reference": f"https://h/Patient/{patient}"},
            "valueInteger": value}  # fmt: skip


RESOURCES = [
    person("a", "1"), person("b", "2", gender=["not", "one"]), person("2", "3"), observation("1", "a", 5),
    observation("2", "b", "no integer"), observation("3", "2", 7),
]  # fmt: skip
"""Patient `2` is not the one of number 2, whose resources fit no view."""


def views(folder: Path, key: str = "number") -> dict[str, str]:
    made = {
        "people": ("Patient", {"id": "id", key: "identifier.where(system = 'urn:mrn').value", "sex": "gender"}),
        "values": ("Observation", {"of": "subject.getReferenceKey(Patient)", "value": "value.ofType(integer)"}),
    }
    for name, (resource, columns) in made.items():
        kinds = {"value": {"type": "integer"}, "sex": {"type": "code"}}
        column = [{"name": one, "path": path, **kinds.get(one, {})} for one, path in columns.items()]
        (folder / f"{name}.json").write_text(json.dumps({"resource": resource, "select": [{"column": column}]}))
    return {name: f"{name}.json" for name in made}


QUERY = "SELECT number, value FROM people JOIN values ON people.id = values.of"


@pytest.mark.parametrize("form", ["ndjson", "json"])
def test_resources_of_who_opted_out_are_no_rows_of_views_whatever_the_key_is(tmp_path: Path, form: str) -> None:
    """The list has numbers of an identifier; what refers to the same Patient goes, too."""
    (tmp_path / "export").mkdir()
    data = b"".join(json.dumps(one).encode() + b"\n" for one in RESOURCES)
    (tmp_path / f"export/all.{form}").write_bytes(data if form == "ndjson" else bundle(*RESOURCES).data)
    source = TableSource(type="fhir", path="export", views=views(tmp_path), query=QUERY)
    with pytest.raises(DataUnusable, match="column sex has several values"):
        read(source, tmp_path, "number")
    assert read(source, tmp_path, "number", "2").columns == {"number": ["1", "3"], "value": ["5", "7"]}
    assert read(source, tmp_path, "number", "2", "9").left_out == 1
    renamed = source.model_copy(update={"views": views(tmp_path, "mrn"), "query": QUERY.replace("number", "mrn")})
    with pytest.raises(MappingInvalid, match="no view has the column 'number', by which some patients opted out"):
        read(renamed, tmp_path, "number", "2")


def test_what_was_filed_under_another_patient_before_is_of_who_opted_out_now(tmp_path: Path) -> None:
    """The version that does not count any more is a row of nobody, and does not come back for the other's sake."""
    (tmp_path / "export").mkdir()
    before, now = ({**observation("9", of, value), "meta": {"lastUpdated": f"{year}-01-01T00:00:00Z"}}
                   for of, value, year in (("a", 5, 2020), ("2", 99, 2021)))  # fmt: skip
    every = [person("a", "1"), person("2", "3"), before, now]
    (tmp_path / "export/all.ndjson").write_text("".join(json.dumps(one) + "\n" for one in every))
    source = TableSource(type="fhir", path="export", views=views(tmp_path), query=QUERY)
    assert read(source, tmp_path, "number").columns == {"number": ["3"], "value": ["99"]}
    assert not len(read(source, tmp_path, "number", "3"))


def test_of_an_account_that_is_of_several_each_is_its_patient() -> None:
    several = {"resourceType": "Account", "subject": [{"reference": "Patient/a"}, {"reference": "Patient/b"}]}
    assert _patients(several) == ["a", "b"] and _patients(observation("1", "a", 5)) == ["a"]


@pytest.fixture
def player(server: Player, monkeypatch: pytest.MonkeyPatch) -> Player:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    server.forget()
    return server


def kept(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", ["search", pytest.param("export", marks=pytest.mark.long)])
def test_nothing_of_who_opted_out_is_kept_and_another_list_is_another_extract(
    tmp_path: Path, player: Player, kind: str
) -> None:
    source, extracts = SERVERS[kind][0](tmp_path, player, fresh_h=24), tmp_path / "extracts"
    for out in ((SECOND,), (SECOND, PEOPLE[0][0]), ()):
        found = read(source, tmp_path, "id", *out, extracts=extracts)
        assert (len(found), found.left_out) == (3 - len(out), len(out))
        data, heard = kept(extracts), len(player.heard)
        assert [key for key, *_ in PEOPLE if key.encode() in data] == [key for key, *_ in PEOPLE if key not in out]
        again = read(source, tmp_path, "id", *out, extracts=extracts)
        assert again == found and len(player.heard) == heard, "of what was kept it is known how many were left out"


def test_what_was_kept_before_somebody_opted_out_goes_though_the_server_fails(tmp_path: Path, player: Player) -> None:
    source, extracts = wards.export(tmp_path, player, fresh_h=24), tmp_path / "extracts"
    assert len(read(source, tmp_path, "id", extracts=extracts)) == 3 and SECOND.encode() in kept(extracts)
    player.on("/fhir/Patient/$export", Reply(403, b"{}"))
    with pytest.raises(DataUnusable):
        read(source, tmp_path, "id", SECOND, extracts=extracts)
    assert SECOND.encode() not in kept(extracts)


def test_of_several_tables_each_that_has_the_key_leaves_them_out(tmp_path: Path) -> None:
    wards.csv(tmp_path), wards.duck(tmp_path)
    given = {
        "persons": {"type": "csv", "path": "t.csv"},
        "visits": {"type": "sql", "path": "t.duckdb", "query": f"SELECT id, {BOOM} FROM t"},
        "wards": {"type": "sql", "path": "t.duckdb", "query": "SELECT DISTINCT sex, 1 AS ward FROM t"},
    }
    query = "SELECT id, value, ward FROM persons JOIN visits USING (id) JOIN wards USING (sex)"
    source = TableSource.model_validate({"type": "tables", "tables": given, "query": query})
    with pytest.raises(DataUnusable, match="visits"):
        read(source, tmp_path, "id")
    found = read(source, tmp_path, "id", SECOND)
    assert found.columns["id"] == [PEOPLE[0][0], PEOPLE[2][0]] and found.left_out == 1


def several(folder: Path, query: str, visits: str = "'V-' || nr") -> TableSource:
    """Persons by their number, visits by another key of their own."""
    (folder / "persons.csv").write_text("id,nr\n" + "".join(f"{n},{n}\n" for n in range(4)))
    with duckdb.connect(str(folder / "v.duckdb")) as database:
        database.execute(
            f"CREATE OR REPLACE TABLE v AS SELECT {visits} AS id, nr, nr * 10 AS value FROM range(4) AS r(nr)"
        )
    return TableSource.model_validate({"type": "tables", "query": query, "tables": {
        "persons": {"type": "csv", "path": "persons.csv"},
        "visits": {"type": "sql", "path": "v.duckdb", "query": "SELECT * FROM v"},
    }})  # fmt: skip


JOINED = "SELECT visits.id, value FROM visits LEFT JOIN persons USING (nr)"


def test_a_table_in_which_nobody_of_the_list_is_found_is_told_though_another_one_has_some(tmp_path: Path) -> None:
    """There the keys are others, and so they may be in the table that is made of both."""
    found = read(several(tmp_path, JOINED), tmp_path, "id", "3")
    assert found.unmatched == ("visits", "the query's answer") and found.left_out == 1
    with pytest.raises(DataUnusable, match=r"none is in column 'id' of visits and the query's answer") as told:
        choosing.matched({"3": 1}, found, "id", False)
    assert "nobody_here" in told.value.remedy and "V-" not in str(told.value)
    choosing.matched({"3": 1}, found, "id", True)
    found = read(several(tmp_path, "SELECT 'X' || id AS id FROM persons"), tmp_path, "id", "3")
    assert found.unmatched == ("visits", "the query's answer")


@pytest.mark.parametrize("visits", ["nr", "nr + 1", "CASE WHEN nr < 3 THEN nr END"])
def test_a_table_with_the_same_keys_and_nobody_of_the_list_is_no_fault(tmp_path: Path, visits: str) -> None:
    source = several(
        tmp_path, "SELECT persons.id, value FROM persons LEFT JOIN visits ON persons.id = visits.id", visits
    )
    assert read(source, tmp_path, "id", "0").unmatched == ()


def hidden(folder: Path, part: dict[str, Any]) -> TableSource:
    """A hospital whose view of Patients leaves the second out."""
    (folder / "export").mkdir(exist_ok=True)
    every = [
        {**RESOURCES[0], "active": True},
        person("b", "2", active=False),
        *RESOURCES[2:4],
        observation("2", "b", 9),
    ]
    (folder / "export/all.ndjson").write_text("".join(json.dumps(one) + "\n" for one in every))
    files = views(folder)
    told = json.loads((folder / "people.json").read_text())
    told["select"] += part.get("select", [])
    (folder / "people.json").write_text(json.dumps({**told, "where": part.get("where", [])}))
    query = "SELECT values.of AS number, value FROM values LEFT JOIN people ON people.id = values.of"
    return TableSource(type="fhir", path="export", views=files, query=query)


@pytest.mark.parametrize("part", [
    {"where": [{"path": "active = true"}]},
    {"select": [{"forEach": "address", "column": [{"name": "city", "path": "city"}]}]},
    {"select": [{"column": [{"name": "odd", "path": "name.family.substring(1)"}]}]},
])  # fmt: skip
def test_who_opted_out_is_known_though_a_view_has_no_row_of_the_patient(tmp_path: Path, part: dict[str, Any]) -> None:
    source = hidden(tmp_path, part)
    assert read(source, tmp_path, "number").columns["number"] == ["a", "b"]
    found = read(source, tmp_path, "number", "2")
    assert (found.columns["number"], found.left_out) == (["a"], 1)


@pytest.mark.parametrize("ended", [
    pytest.param(False, id="failed"), pytest.param(True, id="killed", marks=pytest.mark.long),
])  # fmt: skip
def test_what_was_half_fetched_holds_nobody_of_the_list(
    tmp_path: Path, player: Player, ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next one goes on with the export at the server. One that was killed is tidied up before, or after it."""
    source, extracts = wards.export(tmp_path, player, fresh_h=24), tmp_path / "extracts"
    job, whole = f"{player.url}/jobs/1", lines(*wards.PATIENTS)
    outputs = [{"type": "Patient", "url": f"{player.url}/files/{n}", "count": 3} for n in (1, 2)]
    player.on("/fhir/jobs/1", wards.manifest(player, *outputs))
    player.on("/fhir/files/2", Reply(500, b"{}"))
    with monkeypatch.context() as patched:
        patched.setattr(web, "TRIES", 1)
        if ended:
            patched.setattr(Extract, "spill", lambda _: None)
        with pytest.raises(DataUnusable):
            read(source, tmp_path, "id", SECOND, extracts=extracts)
    assert (SECOND.encode() in kept(extracts)) == ended and job.encode() in kept(extracts)
    if ended:
        spill(Folder(tmp_path))
        assert SECOND.encode() not in kept(extracts) and job.encode() in kept(extracts)
    player.on("/fhir/files/2", Reply(200, whole, {"ETag": '"v1"'}))
    begun = player.paths("GET").count("/fhir/Patient/$export")
    found = read(source, tmp_path, "id", SECOND, extracts=extracts)
    assert len(found) == 2 and player.paths("GET").count("/fhir/Patient/$export") == begun
    assert SECOND.encode() not in kept(extracts)
