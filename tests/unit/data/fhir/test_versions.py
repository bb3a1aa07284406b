"""A resource that stands several times counts once, in its current version; what contradicts itself is a finding."""

import gzip
import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.errors import DataUnusable
from consilium.data.fhir import versions
from consilium.data.fhir.source import FhirSource
from consilium.data.source import TableSource

VIEWS = {"p": ("Patient", "birthDate"), "o": ("Observation", "status")}
QUERY = "SELECT 'p' AS kind, id, what FROM p UNION ALL SELECT 'o', id, what FROM o"


def rows(folder: Path) -> list[tuple[str, str, str]]:
    """What two views make of a folder's export."""
    for name, (resource, path) in VIEWS.items():
        column = [{"name": "id", "path": "id"}, {"name": "what", "path": path}]
        (folder / f"{name}.json").write_text(json.dumps({"resource": resource, "select": [{"column": column}]}))
    source = TableSource(type="fhir", path="export", views={name: f"{name}.json" for name in VIEWS}, query=QUERY)
    found = FhirSource(source, folder).rows().columns
    return sorted(zip(*(map(str, found[name]) for name in ("kind", "id", "what"))))


def version(id_: str, what: str, since: str = "", name: str = "", kind: str = "Patient") -> dict[str, Any]:
    meta = {"versionId": name, "lastUpdated": since}
    told = {"resourceType": kind, "id": id_, "birthDate" if kind == "Patient" else "status": what}
    return told | ({"meta": {key: value for key, value in meta.items() if value}} if since or name else {})


def write(folder: Path, **files: list[dict[str, Any]]) -> Path:
    """Each as NDJSON, packed, or as a Bundle, by how its name begins."""
    export = folder / "export"
    export.mkdir(exist_ok=True)
    for name, every in files.items():
        lines = "".join(json.dumps(one) + "\n" for one in every)
        if name.startswith("z"):
            (export / f"{name}.ndjson.gz").write_bytes(gzip.compress(lines.encode()))
        elif name.startswith("b"):
            entry = [{"resource": one} for one in every]
            (export / f"{name}.json").write_text(json.dumps({"resourceType": "Bundle", "entry": entry}))
        else:
            (export / f"{name}.ndjson").write_text(lines)
    return folder


DAYS = ("2020-01-01T00:00:00Z", "2020-01-01T02:00:00+03:00", "2020-01-01T00:00:00.5Z")
"""The second is the first by an hour, the third the last by half a second."""


@pytest.mark.parametrize(("several", "counts"), [
    ([version("1", "1970"), version("1", "1970")], "1970"),
    ([version("1", "1970", DAYS[0], "1"), version("1", "1970", DAYS[0], "1")], "1970"),
    ([version("1", "1970"), version("1", "1970", DAYS[0], "7")], "1970"),
    ([version("1", "1970", DAYS[0]), version("1", "1971", DAYS[1])], "1970"),
    ([version("1", "1970", DAYS[0]), version("1", "1971", DAYS[2])], "1971"),
    ([version("1", "1970", DAYS[0], "9"), version("1", "1971", DAYS[2], "10")], "1971"),
    ([version("1", "1972", DAYS[2]), version("1", "1970", DAYS[0]), version("1", "1971", DAYS[0])], "1972"),
])  # fmt: skip
def test_the_current_version_counts_once(tmp_path: Path, several: list[dict[str, Any]], counts: str) -> None:
    for turn, every in enumerate((several, several[::-1])):
        (tmp_path / f"{turn}").mkdir()
        folder = write(tmp_path / f"{turn}", a=every[:1], z=every[1:], b=[version("2", "x", kind="Observation")])
        assert rows(folder) == [("o", "2", "x"), ("p", "1", counts)]


@pytest.mark.parametrize(("several", "said"), [
    ([version("1", "1970"), version("1", "1971")], "nothing says which is newer"),
    ([version("1", "1970", "", "1"), version("1", "1971", "", "2")], "nothing says which is newer"),
    ([version("1", "1970", DAYS[0]), version("1", "1971")], "nothing says which is newer"),
    ([version("1", "1970", DAYS[0]), version("1", "1971", DAYS[0])], "nothing says which is newer"),
    ([version("1", "1970", "2020-01-01T00:00:00"), version("1", "1971", DAYS[0])], "nothing says which is newer"),
    ([version("1", "1970", DAYS[0], "1"), version("1", "1971", DAYS[2], "1")], "the same version of it"),
    ([version("1", "1970"), version("1", "1970", DAYS[0]), version("1", "1971", DAYS[2])], "nothing says"),
])  # fmt: skip
def test_versions_that_contradict_each_other_are_a_finding(
    tmp_path: Path, several: list[dict[str, Any]], said: str
) -> None:
    for turn, every in enumerate((several, several[::-1])):
        (tmp_path / f"{turn}").mkdir()
        folder = write(tmp_path / f"{turn}", a=every[:1], b=every[1:])
        with pytest.raises(DataUnusable, match=said) as raised:
            rows(folder)
        assert "a.ndjson line 1" in raised.value.message and "b.json entry" in raised.value.message
        assert "1970" not in str(raised.value)


def test_what_has_no_id_or_another_type_is_another_resource(tmp_path: Path) -> None:
    nameless = {"resourceType": "Patient", "birthDate": "1970"}
    seen = version("1", "x", kind="Observation")
    folder = write(tmp_path, a=[nameless, nameless, version("1", "1971")], b=[nameless, seen], z=[seen])
    assert rows(folder) == [("o", "1", "x"), *[("p", "1", "1971")], *[("p", "None", "1970")] * 3]


def test_a_line_that_is_none_is_told_with_its_number(tmp_path: Path) -> None:
    write(tmp_path, a=[version("1", "1970")], c=[version("1", "1970")])
    with (tmp_path / "export" / "c.ndjson").open("a") as file:
        file.write('{"resourceType": "Patient", "id": 7}\n{"resourceType": "Patient"')
    with pytest.raises(DataUnusable, match=r"c\.ndjson line 3: is no JSON"):
        rows(tmp_path)


def test_what_is_wrong_in_an_older_version_is_no_finding_and_in_the_current_one_it_is(tmp_path: Path) -> None:
    wrong, right = version("1", "1970", DAYS[0]), version("1", "1971", DAYS[2])
    wrong["birthDate"] = {"year": 1970}
    assert rows(write(tmp_path, a=[wrong], b=[right])) == [("p", "1", "1971")]
    wrong["meta"], right["meta"] = right["meta"], wrong["meta"]
    with pytest.raises(DataUnusable, match=r"a\.ndjson line 1"):
        rows(write(tmp_path, a=[wrong], b=[right]))


PLACES = ("a", "b", "c", "z")
one_resource = st.tuples(st.sampled_from("12345"), st.sampled_from(["Patient", "Observation"]))


@settings(max_examples=4, deadline=None)
@given(
    st.dictionaries(one_resource, st.lists(st.sampled_from(PLACES), min_size=1, max_size=6), min_size=1),
    st.integers(0, 99),
)
def test_however_versions_are_spread_the_table_is_that_of_the_current_ones(
    spread: dict[tuple[str, str], list[str]], seed: int
) -> None:
    files: dict[str, list[dict[str, Any]]] = {}
    for (key, kind), places in spread.items():
        for day, place in enumerate(places, 1):
            made = version(key, f"{day // 2}", f"2020-01-{day // 2 + 1:02}T00:00:00Z", f"v{day // 2}", kind)
            files.setdefault(place, []).append(made)
    for every in files.values():
        random.Random(seed).shuffle(every)
    wants = sorted(
        ({"Patient": "p", "Observation": "o"}[kind], key, f"{len(places) // 2}")
        for (key, kind), places in spread.items()
    )
    before = versions.MOST
    with TemporaryDirectory() as name:
        folder = write(Path(name), **files)
        for versions.MOST in (before, 1):
            try:
                assert rows(folder) == wants
            finally:
                versions.MOST = before
