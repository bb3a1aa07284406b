"""Every kind of source meets every kind of breakage: the table of the undamaged source, or an error that tells.

An error says what, where and what to do, and holds no value of a patient; what reads the sources never speaks itself.
"""

import gzip
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consilium.core.errors import ConsiliumError
from consilium.data import base, web
from consilium.data.source import TableSource
from unit.data import wards
from unit.data.breakages import ANSWERS, BROKEN, DATA, JOB, QUICK, fewer
from unit.data.player import Player, Reply, bundle, lines
from unit.data.wards import FILES, PATIENTS, PEOPLE, SECRETS, SERVERS, by_key, read


@pytest.fixture
def player(server: Player, monkeypatch: pytest.MonkeyPatch) -> Player:
    for name in ("HTTPS_PROXY", "https_proxy", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(web, "TRIES", 1)
    server.forget()
    return server


def told(source: TableSource, folder: Path) -> str:
    """What is said of a source that cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a library that speaks by itself
        with pytest.raises(ConsiliumError) as raised:
            read(source, folder)
    assert raised.value.remedy and not [one for one in SECRETS if one in str(raised.value)]
    return str(raised.value)


def test_every_source_has_one_table(tmp_path: Path, player: Player) -> None:
    """So that what breaks is the source and not the test. The images have a table of their own."""
    wanted = {key: (repr(kg), sex) for key, sex, kg in PEOPLE}
    for kind, (make, _) in {**FILES, **SERVERS}.items():
        (tmp_path / kind).mkdir()
        found = by_key(read(make(tmp_path / kind, *([player] if kind in SERVERS else [])), tmp_path / kind))
        if kind == "omop":
            assert {key: kg for key, (kg, _) in found.items()} == {key: kg for key, (kg, _) in wanted.items()}
        elif kind.startswith("dicom"):
            assert found[f"PID-7731-{2}"] == ("ACC-5523-2", "2.0", "200.0") and len(found) == 3
        else:
            assert found == wanted, kind


def cases(every: list[Any]) -> list[Any]:
    """As parameters; those that are not quick are for `make test-long`."""
    made = []
    for kind, name, *rest in every:
        marks = [] if f"{kind}, {name}" in QUICK else [pytest.mark.long]
        made.append(pytest.param(kind, *rest, id=f"{kind}, {name}", marks=marks))
    return made


def test_quick_ones_are_of_those_that_there_are() -> None:
    names = [f"{kind}, {name}" for kind, name, *_ in (*BROKEN, *ANSWERS)]
    assert set(names) >= QUICK and len(set(names)) == len(names)
    assert {name.split(",")[0] for name in names} == {*FILES, *SERVERS}


@pytest.mark.parametrize(("kind", "damage", "said"), cases(BROKEN))
def test_what_is_broken_is_told(tmp_path: Path, kind: str, damage: Callable[[Path], None], said: str) -> None:
    source = FILES[kind][0](tmp_path)
    damage(tmp_path)
    words = told(source, tmp_path)
    assert re.search(said, words), words


@pytest.mark.parametrize(("kind", "path", "answer", "said"), cases(ANSWERS))
def test_an_answer_that_is_broken_is_told(
    tmp_path: Path, player: Player, kind: str, path: str, answer: Callable[[Player], Reply], said: str
) -> None:
    source = SERVERS[kind][0](tmp_path, player)
    player.on(path, answer(player))
    words = told(source, tmp_path)
    assert re.search(said, words), words


@pytest.mark.parametrize("said", ["\xb2", "٣", "-1", "1e3", "Sat, 01 Jan 2000 00:00:00 +9999", "soon", ""])
def test_a_wait_of_no_seconds_is_the_usual_one(said: str) -> None:
    assert web.retry_after({"Retry-After": said}, 1.5) == 1.5


def test_what_cannot_be_read_is_not_kept(tmp_path: Path, player: Player) -> None:
    """It would be found fresh for a day, however often the server is asked."""
    source = wards.search(tmp_path, player)
    player.on("/fhir", Reply(200, bundle(*PATIENTS[2:], total=3).data.replace(b'"gender"', b'"gender": 1, "gender"')))
    made = wards.SOURCES["fhir"](source, tmp_path)
    assert isinstance(made, base.Told)
    made.told(base.Asked(extracts=tmp_path / "kept"))
    with pytest.raises(ConsiliumError, match="entry 1 of a page has a name twice"):
        made.rows()
    player.on("/fhir/Patient", bundle(*PATIENTS, total=3))
    assert len(made.rows()) == 3


def test_a_server_that_sends_parts_is_asked_until_all_came(tmp_path: Path, player: Player) -> None:
    """A part that ends where a line does looks like a whole file; of how long it is, Content-Range tells."""
    source = wards.export(tmp_path, player)
    player.on(JOB, wards.manifest(player, {"type": "Patient", "url": f"{player.url}/files/1"}))
    data, one, two = (lines(*PATIENTS[:count]) for count in (3, 1, 2))
    rest = {"Content-Range": f"bytes {len(two)}-{len(data) - 1}/{len(data)}", "ETag": '"v1"'}
    player.on(DATA, Reply(200, data, {"ETag": '"v1"'}, cut=len(one)), fewer(player), Reply(206, data[len(two) :], rest))
    assert len(by_key(read(source, tmp_path))) == 3


HANGS: dict[str, Callable[[Path, Player], TableSource]] = {
    "search": lambda folder, player: wards.search(folder, player, time_limit_s=0.4),
    "export": lambda folder, player: wards.export(folder, player, time_limit_s=0.4),
    "dicomweb": lambda folder, player: wards.dicomweb(folder, player, time_limit_s=0.4),
    "fhir query": lambda folder, player: wards.ndjson(folder).model_copy(
        update={"query": ENDLESS, "time_limit_s": 0.1}
    ),
    "sqlite": lambda folder, player: wards.sqlite(folder).model_copy(update={"query": ENDLESS, "time_limit_s": 0.2}),
    "duckdb": lambda folder, player: wards.duck(folder).model_copy(update={"query": ENDLESS, "time_limit_s": 0.2}),
}
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT sum(x) AS id FROM n"


@pytest.mark.parametrize(
    "kind", [kind if kind in ("fhir query", "export") else pytest.param(kind, marks=pytest.mark.long) for kind in HANGS]
)
def test_a_source_that_hangs_is_given_up(tmp_path: Path, player: Player, kind: str) -> None:
    source, began = HANGS[kind](tmp_path, player), time.monotonic()
    for path in (path for of in SERVERS.values() for path in of[1]):
        player.on(path, Reply(200, b"", silent_s=2))
    assert re.search(r"longer than the 0\.[124] s that source\.\S*time_limit_s allows", told(source, tmp_path))
    assert time.monotonic() - began < 10


@pytest.mark.long
def test_a_cohort_that_hangs_is_given_up(tmp_path: Path) -> None:
    source = wards.omop(tmp_path)
    assert source.omop is not None
    cohort = source.omop.cohort.model_copy(update={"query": ENDLESS})
    hangs = source.omop.model_copy(update={"cohort": cohort, "time_limit_s": 0.2})
    assert "longer than the 0.2 s" in told(source.model_copy(update={"omop": hangs}), tmp_path)


def test_a_name_is_no_pattern_of_names(tmp_path: Path) -> None:
    """`t[1].csv` is the second download of a browser, and not t1.csv; a folder `sex=x` says nothing of a column."""
    folder = tmp_path / "sex=SECRET"
    folder.mkdir()
    for make, kind in ((wards.csv, "csv"), (wards.parquet, "parquet")):
        given = make(folder)
        (folder / f"t.{kind}").rename(folder / f"t[1].{kind}")
        (folder / f"t1.{kind}").write_bytes(b"id,sex,kg\nwrong,wrong,1\n")
        found = by_key(read(given.model_copy(update={"path": f"t[1].{kind}"}), folder))
        assert found == {key: (repr(kg), sex) for key, sex, kg in PEOPLE}


def test_a_packed_table_that_was_cut_or_altered_is_told(tmp_path: Path) -> None:
    data = wards.csv(tmp_path) and gzip.compress((tmp_path / "t.csv").read_bytes())
    given = TableSource(type="csv", path="t.csv.gz")
    (tmp_path / "t.csv.gz").write_bytes(data)
    assert len(by_key(read(given, tmp_path))) == 3
    for spoilt in (data[:-1], data[:-8], data[: len(data) // 2], data[:-6] + b"\0\0" + data[-4:], b"", b"id\n"):
        (tmp_path / "t.csv.gz").write_bytes(spoilt)
        assert "t.csv.gz" in told(given, tmp_path)


def test_what_is_unusual_and_right_is_read(tmp_path: Path, player: Player) -> None:
    """Marks of byte order, moments with a zone, quotes as escapes, two list columns: none of it is a breakage."""
    source = wards.ndjson(tmp_path)
    data = (tmp_path / "export/Patient.ndjson").read_bytes()
    plain = by_key(read(source, tmp_path))
    escaped = data.replace(b'"resourceType": "Patient"', b'"x": "\\u0022", "resourceType": "\\u0050atient"')
    for told_so in (b"\xef\xbb\xbf" + data, escaped, data.replace(b"\n", b"\r\n"), data + b"\n\n", data[:-1]):
        (tmp_path / "export/Patient.ndjson").write_bytes(told_so)
        assert by_key(read(source, tmp_path)) == plain
    columns = [["p"], [[1, 2]], [[3]], pa.array([0], pa.timestamp("us", "UTC"))]
    pq.write_table(pa.table(columns, names=["id", "a", "b", "at"]), tmp_path / "t.parquet")
    found = read(TableSource(type="parquet", path="t.parquet"), tmp_path).columns
    assert found["at"] == ["1970-01-01 00:00:00+00"] and found["b"] == ["[3]"]


def test_a_driver_says_nothing_of_an_address(tmp_path: Path) -> None:
    for url in ("postgresql://u:SECRET@h:SECRET/d", "postgresql://u:SEC/RET@h/d", "sqlite:////SECRET\0", "SECRET"):
        for given in ({"type": "sql", "query": "SELECT 1 AS one"}, {**wards.omop_part(), "type": "omop"}):
            assert told(TableSource.model_validate({**given, "url": url}), tmp_path)
