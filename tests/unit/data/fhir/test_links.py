"""Patients that were merged are one: in the rows, among those who opted out, in the counts, whatever says it."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consilium.data import compiled, quality
from consilium.data.base import Rows
from consilium.data.fhir import links
from consilium.data.fhir.source import FhirSource
from consilium.data.joined import JoinedSource
from consilium.data.merging import Merged, merged
from consilium.data.source import TableSource
from consilium.site import tables
from unit.data.fhir.test_source import observation as measured
from unit.data.player import Player, Reply, lines
from unit.data.test_opt_out import QUERY, kept, observation, person, player, read, views  # noqa: F401
from unit.data.test_records import MAPPING, _study, made
from unit.data.wards import manifest


def link(kind: str, other: str | None) -> dict[str, Any]:
    named = {"reference": other} if other else {"display": "somebody"}
    return {"type": kind, "other": named}


def linked(key: str, number: str, *told: dict[str, Any]) -> dict[str, Any]:
    return person(key, number, link=list(told)) if told else person(key, number)


def hospital(folder: Path, *resources: dict[str, Any]) -> TableSource:
    (folder / "export").mkdir(exist_ok=True)
    (folder / "export/all.ndjson").write_text("".join(json.dumps(one) + "\n" for one in resources))
    return TableSource(type="fhir", path="export", views=views(folder), query=QUERY)


def rows(folder: Path, *resources: dict[str, Any], out: Sequence[str] = (), column: str = "number") -> Rows:
    return read(hospital(folder, *resources), folder, column, *out)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=7), st.data())
def test_every_record_leads_to_the_one_that_is_left_whatever_the_order(above: list[int], data: st.DataObject) -> None:
    """Each but the first was replaced by one before it; with one link more from the first, nobody knows."""
    pairs = [(str(number), str(other % number)) for number, other in enumerate(above, 1)]
    keys = [str(number) for number in range(len(above) + 1)]
    shuffled = data.draw(st.permutations(pairs + data.draw(st.lists(st.sampled_from(pairs), max_size=2))))
    found = merged(shuffled, frozenset(keys))
    assert found.person == dict.fromkeys(keys, "0") and not found.unknown and not found.unsolved
    other = data.draw(st.sampled_from(keys[1:]))
    for wrong in (("0", other), ("0", "absent")):
        circle = merged([*shuffled, wrong], frozenset(keys))
        assert circle.unknown >= set(keys) and circle.unsolved == len(keys) and len({*circle.person.values()}) == 1
    assert merged([("a", "b"), ("a", "c")], frozenset("abc")).unknown == set("abc"), "into two"


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), max_size=5),
    st.sampled_from(["replaced-by", "replaces", "both"]),
    st.sampled_from(["Patient/{}", "https://h/fhir/Patient/{}", "Patient/{}/_history/2"]),
)
def test_the_table_is_that_of_a_hospital_that_had_one_record_from_the_beginning(
    tmp_path: Path, values: list[tuple[str, int]], said: str, form: str
) -> None:
    """`a` was merged into `b` and `b` into `c`, in files and Bundles."""
    told: dict[str, list[dict[str, Any]]] = {"a": [], "b": [], "c": [], "d": []}
    for old, new in (("a", "b"), ("b", "c")):
        told[old] += [link("replaced-by", form.format(new))] if said != "replaces" else []
        told[new] += [link("replaces", form.format(old))] if said != "replaced-by" else []
    people = [linked(key, key.upper(), *of) for key, of in told.items()]
    of = [observation(f"{n}", key, value) for n, (key, value) in enumerate(values)]
    moved = [observation(f"{n}", key if key == "d" else "c", value) for n, (key, value) in enumerate(values)]
    wanted = rows(tmp_path, person("c", "C"), person("d", "D"), *moved)
    assert rows(tmp_path, *people, *of).columns == wanted.columns
    (tmp_path / "export/all.ndjson").unlink()
    entries = [{"resource": one} for one in [*of, *people]]
    (tmp_path / "export/all.json").write_text(json.dumps({"resourceType": "Bundle", "entry": entries}))
    source = TableSource(type="fhir", path="export", views=views(tmp_path), query=QUERY)
    assert FhirSource(source, tmp_path).rows().columns == wanted.columns
    (tmp_path / "export/all.json").unlink()


@pytest.mark.parametrize("spelt", [b'"replaced-by"', b'"\\u0072eplaced-by"'])
def test_a_link_is_found_wherever_a_file_is_cut_for_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelt: bytes
) -> None:
    data = lines(*GROUP).replace(b'"replaced-by"', spelt)
    for name, whole in (("all.ndjson", data), ("all.ndjson.gz", gzip.compress(data))):
        (tmp_path / name).write_bytes(whole)
        for piece in (1, 7, 64, len(data)):
            monkeypatch.setattr(links, "PIECE", piece)
            assert links.follow([tmp_path / name]).person == {"a": "b", "b": "b"}
    (tmp_path / "none.ndjson").write_bytes(lines(*GROUP[1:]))
    assert links.follow([tmp_path / "none.ndjson"]) == Merged()


def test_see_also_and_refer_leave_two_patients(tmp_path: Path) -> None:
    for kind in ("seealso", "refer"):
        found = rows(tmp_path, linked("a", "1", link(kind, "Patient/b")), person("b", "2"), observation("1", "a", 5))
        assert found.columns == {"number": ["1"], "value": ["5"]} and not found.merged.person


def test_a_link_that_was_undone_in_a_newer_version_is_none(tmp_path: Path) -> None:
    before, now = ({**one, "meta": {"lastUpdated": f"{year}-01-01T00:00:00Z"}} for one, year in (
        (linked("a", "1", link("replaced-by", "Patient/b")), 2020), (person("a", "1"), 2021)))  # fmt: skip
    found = rows(tmp_path, before, now, person("b", "2"), observation("1", "a", 5))
    assert found.columns == {"number": ["1"], "value": ["5"]}


UNSOLVED = {
    "a circle": ([link("replaced-by", "Patient/b")], [link("replaced-by", "Patient/a")], 2),
    "itself": ([link("replaced-by", "Patient/a")], [], 1),
    "two": ([link("replaced-by", "Patient/b"), link("replaced-by", "Patient/c")], [], 3),
    "not here": ([link("replaced-by", "Patient/z")], [], 1),
    "nobody": ([link("replaced-by", None)], [], 1),
    "none of Patients": ([link("replaced-by", "RelatedPerson/b")], [], 1),
}


@pytest.mark.parametrize("name", UNSOLVED)
def test_who_was_merged_into_nobody_knows_whom_is_left_out_and_counted(tmp_path: Path, name: str) -> None:
    of, other, left = UNSOLVED[name]
    people = [linked("a", "1", *of), linked("b", "2", *other), person("c", "3"), person("d", "4")]
    found = rows(tmp_path, *people, *(observation(key, key, 5) for key in "abcd"))
    here = {1: ["2", "3", "4"], 2: ["3", "4"], 3: ["4"]}[left]
    assert found.columns["number"] == here and found.merged.unsolved == left


def test_that_somebody_replaces_one_who_is_not_named_is_counted(tmp_path: Path) -> None:
    found = rows(tmp_path, linked("a", "1", link("replaces", None)), observation("1", "a", 5))
    assert found.columns["number"] == ["1"] and found.merged.unsolved == 1


GROUP = [
    linked("a", "1", link("replaced-by", "Patient/b")), linked("b", "2"), person("c", "3"),
    observation("1", "a", 5), observation("2", "b", 6), observation("3", "c", 7),
]  # fmt: skip


@pytest.mark.parametrize("out", [("1",), ("2",), ("1", "2")])
def test_who_opted_out_by_one_record_is_left_out_with_all_and_counts_once(tmp_path: Path, out: tuple[str, ...]) -> None:
    found = rows(tmp_path, *GROUP, out=out)
    assert (found.columns, found.left_out) == ({"number": ["3"], "value": ["7"]}, 1)
    ids = {"1": "a", "2": "b"}
    by_id = TableSource(type="fhir", path="export", views={"people": "ids.json"}, query="SELECT patient FROM people")
    column = [{"name": "patient", "path": "id"}]
    (tmp_path / "ids.json").write_text(json.dumps({"resource": "Patient", "select": [{"column": column}]}))
    found = read(by_id, tmp_path, "patient", *map(ids.__getitem__, out))
    assert (found.columns, found.left_out) == ({"patient": ["c"]}, 1)


@pytest.mark.long
def test_of_a_server_nothing_of_who_opted_out_is_kept_by_any_record(tmp_path: Path, player: Player) -> None:  # noqa: F811
    """And what comes later of the other record is known, for all of it is fetched anew."""
    data = {"Patient": lines(*GROUP[:3]), "Observation": lines(*GROUP[3:])}
    job = f"{player.url}/jobs/1"
    player.on("/fhir/Patient/$export", Reply(202, b"", {"Content-Location": job}))
    outputs = [{"type": kind, "url": f"{player.url}/files/{kind}", "count": 3} for kind in data]
    player.on("/fhir/jobs/1", manifest(player, *outputs))
    player.on("/fhir/jobs/1", Reply(202), method="DELETE")
    for kind, of in data.items():
        player.on(f"/fhir/files/{kind}", Reply(200, of, {"ETag": '"v1"'}))
    column = [{"name": "patient", "path": "id"}]
    (tmp_path / "ids.json").write_text(json.dumps({"resource": "Patient", "select": [{"column": column}]}))
    source = TableSource.model_validate({
        "type": "fhir", "url": player.url, "views": {"people": "ids.json", "values": views(tmp_path)["values"]},
        "query": "SELECT patient, value FROM people JOIN values ON patient = values.of",
        "fhir": {"read": "bulk", "incremental": True, "fresh_h": 0, "time_limit_s": 20,
                 "access": {"ca": str(player.ca)}},
    })  # fmt: skip
    for turn in range(2):
        found = read(source, tmp_path, "patient", "a", extracts=tmp_path / "extracts")
        assert (found.columns, found.left_out) == ({"patient": ["c"], "value": ["7"]}, 1), turn
        assert b"Patient/b" not in kept(tmp_path / "extracts") and b"Patient/c" in kept(tmp_path / "extracts")
    assert not any("_since" in str(heard) for heard in player.heard)


def test_records_of_another_source_follow_the_links_of_the_first(tmp_path: Path) -> None:
    """Whose files hold no Patient; and the check says whom nobody knows."""
    wanted = made({"window": [None, None]})
    people = [linked("a", "1", link("replaced-by", "Patient/b")), person("b", "2"), person("c", "3"),
              linked("x", "9", link("replaced-by", "Patient/y"))]  # fmt: skip
    (tmp_path / "people").mkdir(), (tmp_path / "labs").mkdir()
    (tmp_path / "people/all.ndjson").write_text("".join(json.dumps(one) + "\n" for one in people))
    of = [measured(key, "2160-0", value, effectiveDateTime="2030-05-01T13:00:00Z")
          for key, value in (("a", 3), ("b", 2), ("c", 1))]  # fmt: skip
    for one in of:
        one["valueQuantity"] |= {"code": "mg/dL"}
    (tmp_path / "labs/all.ndjson").write_text("".join(json.dumps(one) + "\n" for one in of))
    (tmp_path / "view.json").write_text(json.dumps(compiled.views(wanted)))
    column = [{"name": "pid", "path": "id"}]
    (tmp_path / "ids.json").write_text(json.dumps({"resource": "Patient", "select": [{"column": column}]}))
    query = "SELECT pid, '2030-05-01T12:00:00Z' AS at, 1 AS died FROM people"
    source = {"type": "fhir", "path": "people", "views": {"people": "ids.json"}, "query": query}
    labs = {"source": {"type": "fhir", "path": "labs", "views": {"labs": "view.json"}}, "patient": "patient",
            "code": "code", "system": "system", "time": "taken", "value": "value", "unit": "unit"}  # fmt: skip
    (tmp_path / "mapping.yaml").write_text(json.dumps({**MAPPING, "source": source, "records": {"labs": labs}}))
    study = _study(wanted)
    found = tables.mapped(study, tmp_path / "mapping.yaml")
    assert found.table.columns["crea"].tolist() == [3.0, 1.0] and (found.read, found.left.unsolved) == (2, 1)
    (told,) = [one for one in quality.check(study, found).findings if "merged" in one.words]
    assert (told.kind, told.count, told.blocks) == ("unread", "<10", False)
    (tmp_path / "out.txt").write_text("a\n")
    given_ = {**json.loads((tmp_path / "mapping.yaml").read_text()), "opt_out": {"path": "out.txt"}}
    (tmp_path / "mapping.yaml").write_text(json.dumps(given_))
    found = tables.mapped(study, tmp_path / "mapping.yaml")
    assert found.table.columns["crea"].tolist() == [1.0] and found.left.opted_out == 1


def test_sources_that_stand_together_follow_the_links_of_each_other(tmp_path: Path) -> None:
    """Whichever of them says it; `a` was merged into `b` in one system, and `b` into `c` in the other."""
    first, second = (
        [linked("a", "1", link("replaced-by", "Patient/b"))],
        [linked("b", "2", link("replaced-by", "Patient/c"))],
    )
    rest = [person("b", "2")], [person("c", "3"), person("d", "4")]
    values = [observation(f"{n}", key, n) for n, key in enumerate("abcd")]
    places = {
        "people": (first + rest[0], "Patient", {"id": "id"}), "more": (second + rest[1], "Patient", {"id": "id"}),
        "values": (values, "Observation", {"id": "subject.getReferenceKey(Patient)", "value": "value.ofType(integer)"}),
    }  # fmt: skip
    of = {}
    for name, (resources, kind, columns) in places.items():
        (tmp_path / f"{name}.ndjson").write_text("".join(json.dumps(one) + "\n" for one in resources))
        column = [{"name": one, "path": path, **({"type": "integer"} if one == "value" else {})}
                  for one, path in columns.items()]  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps({"resource": kind, "select": [{"column": column}]}))
        of[name] = {"type": "fhir", "path": f"{name}.ndjson", "views": {name: f"{name}.json"}}
    (tmp_path / "paid.csv").write_text("id,paid\na,1\nc,2\nd,3\n")
    of["paid"] = {"type": "csv", "path": "paid.csv"}
    source = TableSource.model_validate({
        "type": "tables", "tables": of,
        "query": "SELECT id, count(*) AS n FROM (SELECT id FROM people UNION SELECT id FROM more) JOIN values"
        " USING (id) GROUP BY id",
    })  # fmt: skip
    assert JoinedSource(source, tmp_path).rows().columns == {"id": ["c", "d"], "n": ["3", "1"]}
    found = read(source, tmp_path, "id", "a")
    assert (found.columns, found.left_out) == ({"id": ["d"], "n": ["1"]}, 1)
    paid = source.model_copy(update={"query": "SELECT id, paid FROM paid"})
    assert read(paid, tmp_path, "id", "c").columns == {"id": ["d"], "paid": ["3"]}
    unknown = linked("c", "3", link("replaced-by", "Patient/z"))
    (tmp_path / "more.ndjson").write_text("".join(json.dumps(one) + "\n" for one in [*second, unknown, rest[1][1]]))
    found = JoinedSource(source, tmp_path).rows()
    assert found.columns == {"id": ["d"], "n": ["1"]} and found.merged.unsolved == 3
