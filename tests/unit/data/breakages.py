"""What breaks each kind of source, and what is to be said of it: files that are altered, and answers of servers."""

import gzip
import json
import sqlite3
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from unit.data import wards
from unit.data.player import Player, Reply, bundle, lines
from unit.data.wards import PATIENTS, SERVERS


def file(path: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = (folder / path).read_bytes()
        (folder / path).unlink()
        (folder / path).write_bytes(change(data))

    return damage


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return change


def csv(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return file("t.csv", change)


def nd(old: bytes, new: bytes) -> Callable[[Path], None]:
    return file("export/Patient.ndjson", swap(old, new))


def whole(old: bytes, new: bytes) -> Callable[[Path], None]:
    return file("export/all.json", swap(old, new))


def sheet(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Alter the XML of a workbook's sheet."""

    def damage(folder: Path) -> None:
        with zipfile.ZipFile(folder / "t.xlsx") as source:
            parts = {name: source.read(name) for name in source.namelist()}
        parts["xl/worksheets/sheet1.xml"] = change(parts["xl/worksheets/sheet1.xml"])
        with zipfile.ZipFile(folder / "t.xlsx", "w") as sink:
            for name, data in parts.items():
                sink.writestr(name, data)

    return damage


def row(text: bytes) -> Callable[[Path], None]:
    return sheet(swap(b"</sheetData>", text + b"</sheetData>"))


def entities(data: bytes) -> bytes:
    """A text of 25 GB in a few lines."""
    head = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaaaaaaaaaaaa">'
    head += b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 20) for n in range(7))
    return head + b"]>" + swap(b">id<", b">&h;<")(data)


def table(**columns: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        pq.write_table(
            pa.table(list(columns.values()), names=[name.rstrip("_") for name in columns]), folder / "t.parquet"
        )

    return damage


def sql(*statements: str) -> Callable[[Path], None]:
    """Alter a database overnight."""

    def damage(folder: Path) -> None:
        (path,) = (one for one in folder.iterdir() if one.suffix in (".sqlite", ".duckdb"))
        connect: Any = sqlite3.connect if path.suffix == ".sqlite" else duckdb.connect
        connection = connect(str(path))
        for statement in statements:
            connection.execute(statement)
        if path.suffix == ".sqlite":
            connection.commit()
        connection.close()

    return damage


DEEP = b"[" * 100_000
OTHER = b'"gender": "SECRET-F"'
BROKEN: list[tuple[str, str, Callable[[Path], None], str]] = [
    ("csv", "half of it", csv(lambda data: data[:-3]), r"t.csv: its last line has no end"),
    ("csv", "nothing", csv(lambda data: b""), r"t.csv is empty"),
    ("csv", "a column twice", csv(swap(b"sex", b"kg")), r"two columns of one name, the"),
    ("csv", "a comma amid a number", csv(swap(b"61.0625", b"61,0625")), r"line 2 has 4 fields"),
    ("csv", "another encoding", csv(swap(b"SECRET", b"\xfc")), r"line 2 is not utf-8"),
    ("csv", "a surrogate", csv(swap(b"SECRET", b"\xed\xa0\x80")), r"line 2 is not utf-8"),
    ("csv", "16 bits", csv(lambda data: data.decode().encode("utf-16")), r"line 1 is not utf-8"),
    ("csv", "an open quote", csv(swap(b"7731002", b'"7731002')), r"line 3 has a quote that opens"),
    ("csv", "a value without an end", csv(swap(b"61.0625", b"6" * 3_000_000)), r"line 2 has a value of more than"),
    ("parquet", "half of it", file("t.parquet", lambda data: data[:-9]), r"t.parquet cannot be read .*fetch it anew"),
    (
        "parquet",
        "a column twice",
        table(id=["SECRET"], kg=[1.5], kg_=[2.5]),
        r"t.parquet has two columns of one name, the",
    ),
    (
        "parquet",
        "names that are no text",
        file("t.parquet", lambda data: data.replace(b"kg", b"\xff\xfe")),
        r"t.parquet",
    ),
    ("excel", "half of it", file("t.xlsx", lambda data: data[:-99]), r"no workbook that can be read \(BadZipFile\)"),
    ("excel", "one row twice", row(b'<row r="3"><c r="A3"><v>7731</v></c></row>'), r"Sheet has cells out of order"),
    ("excel", "one cell twice", sheet(swap(b'<c r="C2"', b'<c r="C2"><v>1</v></c><c r="C2"')), r"cells out of order"),
    ("excel", "cells in a circle", sheet(swap(b'r="B2"', b'r="D2"')), r"cells out of order"),
    ("excel", "a row beyond all", row(b'<row r="9999999999"><c r="A9999999999"/></row>'), r"cells out of order"),
    ("excel", "an entity bomb", sheet(entities), r"Sheet cannot be read \(ParseError\)"),
    (
        "excel",
        "a text that is not there",
        sheet(swap(b't="inlineStr"><is><t>id</t></is>', b't="s"><v>99</v>')),
        r"Sheet",
    ),
    ("excel", "a column twice", sheet(swap(b">sex<", b">kg<")), r"Sheet has two columns of one name, the"),
    ("sqlite", "half of it", file("t.sqlite", lambda data: data[:-99]), r"the database's file was cut; fetch"),
    (
        "sqlite",
        "a text of other bytes",
        sql("UPDATE t SET sex = CAST(X'FF00FE' AS TEXT)"),
        r"the database cannot be read",
    ),
    ("sqlite", "no table", sql("ALTER TABLE t RENAME TO u"), r"the database has no table t; correct the query"),
    ("duckdb", "half of it", file("t.duckdb", lambda data: data[:-9999]), r"t.duckdb, by source.query, cannot be read"),
    ("duckdb", "other bytes", file("t.duckdb", lambda data: data[:60] + b"\xff" * 64 + data[124:]), r"t.duckdb, by"),
    ("duckdb", "no table", sql("ALTER TABLE t RENAME TO u"), r"the database has no table t; correct the query"),
    (
        "duckdb",
        "moments with a zone",
        sql("ALTER TABLE t ADD COLUMN w TIMESTAMPTZ DEFAULT '2020-01-01 00:00:00+00'"),
        r"column 'w' holds instants .* source.zone",
    ),
    ("omop", "half of it", file("cdm.duckdb", lambda data: data[: len(data) // 2]), r"anew|was not cut"),
    ("omop", "a person twice", sql("INSERT INTO person VALUES (7731001, 8507, 1999, 0, 0)"), r"some persons twice"),
    (
        "omop",
        "a unit of another kind",
        sql(
            "INSERT INTO concept VALUES (8582, 'UCUM', 'cm', 'S', '')", "UPDATE measurement SET unit_concept_id = 8582"
        ),
        r"<10 values have unit_concept_id 8582: 'cm' cannot be converted",
    ),
    (
        "omop",
        "a unit that nobody knows",
        sql("UPDATE measurement SET unit_concept_id = 1"),
        r"is no unit of the vocabulary",
    ),
    (
        "omop",
        "a column that is gone",
        sql("ALTER TABLE measurement DROP value_as_number"),
        r"has no column value_as_number",
    ),
    (
        "omop",
        "words for numbers",
        sql(
            "ALTER TABLE measurement ALTER value_as_number TYPE VARCHAR",
            "UPDATE measurement SET value_as_number = 'SECRET'",
        ),
        r"source.omop.columns.kg",
    ),
    ("omop", "another version", sql("INSERT INTO cdm_source VALUES ('5.2')"), r"cdm_source says 5.2"),
    (
        "omop",
        "a concept that is gone",
        sql("DELETE FROM concept WHERE vocabulary_id = 'LOINC'"),
        r"has no concept 3025315",
    ),
    (
        "ndjson",
        "half of it",
        file("export/Patient.ndjson", lambda data: data[:-20]),
        r"Patient.ndjson line 3: is no JSON",
    ),
    ("ndjson", "nothing", file("export/Patient.ndjson", lambda data: b""), r"Patient.ndjson is empty; fetch it anew"),
    ("ndjson", "a name twice", nd(OTHER, b'"gender": "x", ' + OTHER), r"line 1: has a name twice in one object"),
    (
        "ndjson",
        "a name twice within",
        nd(b'"valueDecimal"', b'"valueDecimal": 5, "valueDecimal"'),
        r"line 1: has a name twice",
    ),
    (
        "ndjson",
        "a name twice behind escapes",
        nd(OTHER, b'"a": "\\u003a", "gender": "", ' + OTHER),
        r"line 1: has a name twice",
    ),
    ("ndjson", "a type that is almost it", nd(b"Patient", b"Patiemt"), r"line 1: its type is almost Patient"),
    ("ndjson", "a number without an end", nd(b"61.0625", b"1e999"), r"line 1: is no JSON"),
    ("ndjson", "no number", nd(b"61.0625", b"NaN"), r"line 1: is no JSON"),
    ("ndjson", "no end of a number", nd(b"61.0625", b"Infinity"), r"line 1: is no JSON"),
    ("ndjson", "a number of 5000 digits", nd(b"61.0625", b"9" * 5000), r"line 1: is no JSON"),
    ("ndjson", "a number of 400 digits", nd(b"61.0625", b"9" * 400), r"column kg has a value that is no double"),
    ("ndjson", "a number as text", nd(b"61.0625", b'"61.0625"'), r"line 1: column kg has a value that is no decimal"),
    (
        "ndjson",
        "two numbers",
        nd(b'"extension": [', b'"extension": [{"url": "urn:kg", "valueDecimal": 7}, '),
        r"line 1: column kg has several values",
    ),
    ("ndjson", "a text as an object", nd(b'"SECRET-F"', b'{"a": "SECRET-F"}'), r"line 1: column sex"),
    ("ndjson", "a nest without an end", nd(b"61.0625", DEEP), r"line 1: is no JSON"),
    ("ndjson", "a surrogate alone", nd(b"SECRET", b"\\ud800"), r"line 1: is no JSON"),
    ("ndjson", "other bytes", nd(b"SECRET", b"\xff\xfe"), r"line 1: is no JSON"),
    (
        "ndjson",
        "16 bits",
        file("export/Patient.ndjson", lambda data: data.decode().encode("utf-16")),
        r"line 1: is no JSON",
    ),
    (
        "ndjson",
        "a page of a proxy",
        file("export/Patient.ndjson", lambda data: b"<html>SECRET</html>\n"),
        r"line 1: is no JSON",
    ),
    ("ndjson", "a list", nd(b'{"resourceType"', b'[]\n{"resourceType"'), r"line 1: is no FHIR resource"),
    ("bundle", "half of it", file("export/all.json", lambda data: data[:-2]), r"all.json: is no JSON"),
    ("bundle", "a name twice", whole(OTHER, b'"gender": "x", ' + OTHER), r"all.json: has a name twice"),
    ("bundle", "a type that is almost it", whole(b'"Patient"', b'"Patienz"'), r"all.json entry 1: its type is almost"),
    ("bundle", "entries that are none", whole(b'"entry": [', b'"entry": [7, '), r"all.json: is no Bundle"),
    ("bundle", "a nest without an end", whole(b"61.0625", DEEP), r"all.json: is no JSON"),
    ("bundle", "no resource", whole(b'"resourceType": "Patient"', b'"x": "Patient"'), r"all.json entry 1: is no FHIR"),
    ("bundle", "a number without an end", whole(b"61.0625", b"-1e999"), r"all.json: is no JSON"),
    ("dicom", "half of one", file("images/2.dcm", lambda data: data[:-1]), r"cannot be decoded|no DICOM"),
    ("dicom", "a text", file("images/2.dcm", lambda data: b"SECRET"), r"<10 files are no DICOM, or were cut"),
    (
        "dicom",
        "one of another patient",
        file("images/2.dcm", lambda data: wards.picture(2, PatientID="PID-7731-3")),
        r"of another patient than the table says",
    ),
    (
        "dicom",
        "words for numbers",
        file("images/2.dcm", lambda data: wards.picture(2, RescaleSlope="0")),
        r"Rescale Slope",
    ),
]


def gzipped(data: bytes) -> Reply:
    return Reply(200, data, {"Content-Encoding": "gzip"})


WAYS = """
    csv, half of it; csv, a column twice; parquet, names that are no text; excel, one row twice;
    excel, a row beyond all;
    sqlite, half of it; omop, a person twice; ndjson, a name twice; ndjson, a type that is almost it;
    bundle, a name twice; dicom, half of one; search, a link to no host;
    export, files of no host; export, a bomb; dicomweb, a length of 5000 digits
"""
QUICK = frozenset(" ".join(one.split()) for one in WAYS.split(";"))
"""Those that `make test` meets, by source and name; `make test-long` meets all."""


def bomb(size: int) -> bytes:
    """So many MiB of blanks."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(b" " * (1 << 20)) for _ in range(size)) + packer.flush()


def other_host(player: Player) -> str:
    return player.url.replace("127.0.0.1", "localhost")


def kick(where: str) -> Reply:
    return Reply(202, b"", {"Content-Location": where})


def one_page(**more: Any) -> bytes:
    return bundle(*PATIENTS[:2], **more).data


def fewer(player: Player) -> Reply:
    """A part of a file, where the rest was asked for: it ends where a line does."""
    data = lines(*PATIENTS)
    begins = len(lines(PATIENTS[0]))
    ends = len(lines(*PATIENTS[:2]))
    return Reply(206, data[begins:ends], {"Content-Range": f"bytes {begins}-{ends - 1}/{len(data)}", "ETag": '"v1"'})


TWICE = json.dumps({"resourceType": "Patient", "id": "x"})[:-1] + ', "id": "SECRET"}'
PAGE, JOB, DATA = "/fhir/Patient", "/fhir/jobs/1", "/fhir/files/1"
STUDIES, STUDY = SERVERS["dicomweb"][1]
ANSWERS: list[tuple[str, str, str, Callable[[Player], Reply], str]] = [
    (
        "search",
        "a link to itself",
        PAGE,
        lambda p: bundle(*PATIENTS, following=p.url + "/Patient?a"),
        r"leads back to one",
    ),
    (
        "search",
        "a link to another host",
        PAGE,
        lambda p: bundle(following=other_host(p)),
        r"another host \(localhost\)",
    ),
    ("search", "a link to no host", PAGE, lambda p: bundle(following="https://[::1"), r"another host \(none\)"),
    (
        "search",
        "a link to a port of words",
        PAGE,
        lambda p: bundle(following="https://127.0.0.1:SECRET/"),
        r"another host",
    ),
    ("search", "a link without TLS", PAGE, lambda p: bundle(following="http://10.0.0.1/"), r"another host"),
    (
        "search",
        "a redirect to no host",
        PAGE,
        lambda p: Reply(302, b"", {"Location": "https://[SECRET"}),
        r"another host",
    ),
    (
        "search",
        "redirects in a circle",
        PAGE,
        lambda p: Reply(302, b"", {"Location": p.url + "/Patient"}),
        r"status 302",
    ),
    ("search", "half of it", PAGE, lambda p: Reply(200, one_page(), cut=99), r"its line breaks"),
    (
        "search",
        "half of it, and a length that fits",
        PAGE,
        lambda p: Reply(200, one_page()[:-9]),
        r"a page is no Bundle",
    ),
    (
        "search",
        "a name twice",
        PAGE,
        lambda p: Reply(200, one_page().replace(b'"gender"', b'"gender": 1, "gender"')),
        r"has a name twice",
    ),
    (
        "search",
        "a surrogate alone",
        PAGE,
        lambda p: Reply(200, one_page().replace(b"SECRET", b"\\ud800")),
        r"no Bundle",
    ),
    (
        "search",
        "other bytes",
        PAGE,
        lambda p: Reply(200, one_page().replace(b"SECRET", b"\xff\xfe")),
        r"entry 1 of a page is no FHIR resource",
    ),
    ("search", "a nest without an end", PAGE, lambda p: Reply(200, one_page().replace(b"61.0625", DEEP)), r"no Bundle"),
    ("search", "a bomb", PAGE, lambda p: gzipped(bomb(300)), r"is too large"),
    ("search", "half a packed one", PAGE, lambda p: gzipped(gzip.compress(one_page())[:-9]), r"was cut"),
    (
        "search",
        "packed in two pieces",
        PAGE,
        lambda p: gzipped(gzip.compress(one_page()) + gzip.compress(b" ")),
        r"was cut",
    ),
    ("search", "fewer than it says", PAGE, lambda p: bundle(*PATIENTS, total=4), r"there are more than came"),
    (
        "search",
        "an outcome of other bytes",
        PAGE,
        lambda p: Reply(
            200,
            bundle({"resource": {"resourceType": "OperationOutcome", "x": "SECRET"}}).data.replace(b"SECRET", b"\xff"),
        ),
        r"no |status",
    ),
    (
        "export",
        "begun at another host",
        PAGE + "/$export",
        lambda p: kick(other_host(p)),
        r"another host \(localhost\)",
    ),
    ("export", "begun at no host", PAGE + "/$export", lambda p: kick("https://["), r"another host \(none\)"),
    (
        "export",
        "files of another host",
        JOB,
        lambda p: wards.manifest(p, {"type": "Patient", "url": "https://h/"}),
        r"another host \(h\)",
    ),
    (
        "export",
        "files of no host",
        JOB,
        lambda p: wards.manifest(p, {"type": "Patient", "url": "https://["}),
        r"another host",
    ),
    ("export", "a manifest of words", JOB, lambda p: Reply(200, ["SECRET"]), r"manifest is none of Bulk Data"),
    (
        "export",
        "outputs that are none",
        JOB,
        lambda p: wards.manifest(p, output="SECRET"),
        r"manifest is none of Bulk Data",
    ),
    (
        "export",
        "a time that is none",
        JOB,
        lambda p: wards.manifest(p, transactionTime=7),
        r"manifest is none of Bulk Data",
    ),
    ("export", "half of it", DATA, lambda p: Reply(200, lines(*PATIENTS)[:-9]), r"line 3: is no JSON"),
    ("export", "fewer than it says", DATA, lambda p: Reply(200, lines(*PATIENTS[:2])), r"not as many resources"),
    (
        "export",
        "one in two versions",
        DATA,
        lambda p: Reply(200, lines(*PATIENTS[:2], {**PATIENTS[0], "gender": "x"})),
        r"came in two versions",
    ),
    ("export", "a name twice", DATA, lambda p: Reply(200, TWICE.encode() * 1), r"has a name twice"),
    ("export", "a bomb", DATA, lambda p: gzipped(bomb(30)), r"unpacks to more than resources do"),
    ("export", "no resources", DATA, lambda p: Reply(200, b"<Error>SECRET</Error>"), r"line 1: is no JSON"),
    ("dicomweb", "a search of words", STUDIES, lambda p: Reply(200, "SECRET"), r"a search gave no list"),
    (
        "dicomweb",
        "a search of other bytes",
        STUDIES,
        lambda p: Reply(200, b'["\xff"]'),
        r"a study without a UID|no JSON",
    ),
    (
        "dicomweb",
        "a study of no UID",
        STUDIES,
        lambda p: Reply(200, [{"0020000D": {"Value": [7731]}}, 7]),
        r"without a UID",
    ),
    ("dicomweb", "one page for ever", STUDIES, lambda p: Reply(200, wards.found_studies()), r"the same page again"),
    (
        "dicomweb",
        "a length of 5000 digits",
        STUDY,
        lambda p: Reply(
            200,
            wards.multipart(wards.picture(2)).data.replace(b"Length: ", b"Length: " + b"9" * 5000),
            wards.multipart().headers,
        ),
        r"another length than it says",
    ),
    (
        "dicomweb",
        "half of it",
        STUDY,
        lambda p: Reply(200, wards.multipart(wards.picture(2)).data[:-9], wards.multipart().headers),
        r"a study was cut",
    ),
    (
        "dicomweb",
        "a file that was cut",
        STUDY,
        lambda p: wards.multipart(wards.picture(2)[:-1]),
        r"no DICOM|cannot be decoded",
    ),
    (
        "dicomweb",
        "one of another patient",
        STUDY,
        lambda p: wards.multipart(wards.picture(2, PatientID="PID-7731-3")),
        r"of another patient than the table says",
    ),
]
