"""A FHIR server as a source: every resource once, or a finding; and neither secrets nor patients in what is said."""

import base64
import gzip
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from consilium.core.errors import ConsiliumError, DataUnusable, MappingInvalid
from consilium.data import clock, web
from consilium.data.base import Asked, Rows
from consilium.data.fhir.source import FhirSource
from consilium.data.source import TableSource
from unit.data.player import Heard, Player, Reply, bundle, lines, outcome, tunnel

VIEW = {
    "resource": "Patient",
    "select": [{"column": [
        {"name": "id", "path": "id"}, {"name": "sex", "path": "gender"}, {"name": "active", "path": "active"},
    ]}],
}  # fmt: skip
FRESH = {"fresh_h": 24, "time_limit_s": 20}
ETAG = {"ETag": '"v1"', "Content-Type": "application/fhir+ndjson"}


def patient(key: str, sex: str = "female", **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": key, "gender": sex, "name": [{"family": "SECRET-NAME"}], **more}


@pytest.fixture
def player(server: Player, monkeypatch: pytest.MonkeyPatch) -> Player:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(web, "TRIES", 3)
    server.forget()
    return server


class Site:
    """A hospital that reads the server."""

    def __init__(self, player: Player, folder: Path) -> None:
        self.player, self.folder, self.extracts = player, folder, folder / "extracts"
        (folder / "patients.json").write_text(json.dumps(VIEW))

    def read(self, *, kept: bool = True, url: str = "", **given: Any) -> Rows:
        access = {"ca": str(self.player.ca), **given.pop("access", {})}
        fhir = {"read": "search", **FRESH, **given, "access": access}
        source = TableSource(
            type="fhir", url=url or self.player.url, views={"patients": "patients.json"},
            query="SELECT * FROM patients", fhir=fhir,
        )  # fmt: skip
        made = FhirSource(source, self.folder)
        made.told(Asked(extracts=self.extracts if kept else None))
        return made.rows()

    def ids(self, **given: Any) -> list[str | None]:
        return self.read(**given).columns["id"]

    def fails(self, said: str, kind: type[ConsiliumError] = DataUnusable, **given: Any) -> None:
        with pytest.raises(kind, match=said) as raised:
            self.read(**given)
        told = f"{raised.value} {raised.value.remedy}"
        assert "SECRET" not in told and "127.0.0.1:" not in told


@pytest.fixture
def site(player: Player, tmp_path: Path) -> Site:
    return Site(player, tmp_path)


def pages(player: Player) -> None:
    following = f"{player.url}?_getpages=a1&_getpagesoffset=2&_count=2"
    player.on("/fhir/Patient", bundle(patient("a"), patient("b"), following=following, total=3))
    player.on("/fhir", bundle(patient("b"), patient("c", "male"), total=3))


def test_every_page_is_read_and_every_resource_once(player: Player, site: Site) -> None:
    """A page that moved while others were read brings one resource again."""
    pages(player)
    assert site.read(filters={"Patient": "organization=Organization/1&_tag=x|y"}).columns["sex"] == [
        "female", "female", "male",
    ]  # fmt: skip
    asked = dict(parse_qsl(urlsplit(player.paths()[0]).query))
    assert asked == {"organization": "Organization/1", "_tag": "x|y", "_count": "500", "_total": "accurate"}
    assert player.heard[0].headers["Prefer"] == "handling=strict"
    assert player.heard[0].headers["Cache-Control"] == "no-cache"


def test_a_total_that_is_an_estimate_until_the_last_page_lacks_nothing(player: Player, site: Site) -> None:
    """As Google's: https://docs.cloud.google.com/healthcare-api/docs/how-tos/best-practices-fhir-search."""
    player.on("/fhir/Patient", bundle(patient("a"), following=f"{player.url}?_page_token=x", total=40))
    player.on("/fhir", bundle(patient("b"), total=2))
    assert site.ids() == ["a", "b"]
    player.on("/fhir", bundle(patient("b"), total=3))
    site.fails("there are more than came", fresh_h=0)


def test_a_strict_server_that_knows_no_total_is_asked_without(player: Player, site: Site) -> None:
    def answer(heard: Heard) -> Reply:
        return Reply(400, outcome("not-supported")) if "_total" in heard.path else bundle(patient("a"))

    player.on("/fhir/Patient", answer)
    assert site.ids() == ["a"] and len(player.heard) == 2


def test_what_is_fresh_is_not_fetched_again_and_what_was_altered_is(player: Player, site: Site) -> None:
    pages(player)
    assert site.ids() == site.ids() == ["a", "b", "c"] and len(player.heard) == 2
    (file,) = site.extracts.glob("*.ndjson")
    assert {path.stat().st_mode & 0o777 for path in site.extracts.iterdir()} == {0o600}
    file.write_bytes(file.read_bytes().splitlines(keepends=True)[0])
    assert site.ids() == ["a", "b", "c"] and len(player.heard) == 4
    assert site.ids(page=7, filters={"Patient": "active=true"}) == ["a", "b", "c"] and len(player.heard) == 6


def test_without_a_folder_nothing_is_kept(player: Player, site: Site, tmp_path: Path) -> None:
    pages(player)
    before = sorted(tmp_path.rglob("*"))
    assert site.ids(kept=False) == ["a", "b", "c"]
    assert sorted(tmp_path.rglob("*")) == before


SEARCHES: list[tuple[list[Reply], str]] = [
    ([Reply(422, outcome("not-supported", "processing"))], r"422 \(not-supported, processing\)"),
    ([Reply(400, b"<html>SECRET</html>")], "status 400; see"),
    ([Reply(500, outcome("exception"))], r"500 \(exception\)"),
    ([Reply(200, b'{"resourceType": "Bundle", "entry": [')], "a page is no Bundle"),
    ([Reply(200, patient("a"))], "a page is no Bundle"),
    ([bundle(patient("a"), total=2)], "said that there are more than came"),
    ([bundle(patient("a"), following="https://evil.example/x?SECRET=1")], r"another host \(evil.example\)"),
    ([bundle(patient("a"), following="http://127.0.0.1/x")], "another host"),
    ([bundle({"resourceType": "Condition", "id": "x"})], "entry 1 of a page is of another type"),
    ([bundle({"resource": {"resourceType": "Patient", "gender": "male"}})], "without an id"),
    ([bundle({"resource": {"id": "x"}})], "is no FHIR resource"),
    ([bundle(patient("a"), patient("a", "male"))], "two versions"),
    ([bundle({"resource": outcome("security"), "search": {"mode": "outcome"}})], r"reports an error .*\(security\)"),
    ([Reply(302, b"", {"Location": "https://evil.example/SECRET"})], r"another host \(evil.example\)"),
]  # fmt: skip


@pytest.mark.parametrize(("plays", "said"), SEARCHES)
def test_a_search_that_lacks_anything_is_a_finding(
    player: Player, site: Site, monkeypatch: pytest.MonkeyPatch, plays: list[Reply], said: str
) -> None:
    monkeypatch.setattr(web, "_pause", lambda headers, failures: 0.0)
    player.on("/fhir/Patient", *plays)
    site.fails(said)
    assert not list(site.extracts.glob("*.ndjson"))


def test_a_warning_among_what_was_found_is_passed_over(player: Player, site: Site) -> None:
    said = {"resource": outcome("informational", severity="warning"), "search": {"mode": "outcome"}}
    player.on("/fhir/Patient", bundle(patient("a"), said, {**patient("b"), "resource": patient("b")}))
    assert site.ids() == ["a", "b"]


def test_pages_that_lead_in_a_circle_end(player: Player, site: Site) -> None:
    player.on("/fhir/Patient", bundle(patient("a"), following=f"{player.url}/Patient?x=1"))
    site.fails("leads back to one that was read")


def test_who_is_busy_is_asked_again_when_it_says(player: Player, site: Site) -> None:
    busy = Reply(429, outcome("throttled"), {"Retry-After": "0"})
    player.on(
        "/fhir/Patient", busy, Reply(503, b"", {"Retry-After": "Sat, 01 Jan 2000 00:00:00 GMT"}), bundle(patient("a"))
    )
    assert site.ids() == ["a"]
    player.on("/fhir/Patient", busy)
    site.fails(r"429 \(throttled\)", page=2, filters={"Patient": "a=b"})


@pytest.mark.parametrize("chunked", [False, True])
def test_half_an_answer_is_none(player: Player, site: Site, chunked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock.Clock, "wait", lambda self, seconds: None)
    whole = bundle(patient("a"), patient("b"))
    cut = Reply(200, whole.body, cut=len(whole.data) - 40, chunked=chunked)
    player.on("/fhir/Patient", cut, cut, whole)
    assert site.ids() == ["a", "b"]
    player.on("/fhir/Patient", cut)
    site.fails("cannot be reached, or its line breaks", filters={"Patient": "a=b"})


@pytest.mark.parametrize("late", [Reply(200, b"", silent_s=5), Reply(429, b"", {"Retry-After": "200"})])
def test_a_server_that_hangs_is_given_up(player: Player, site: Site, late: Reply) -> None:
    player.on("/fhir/Patient", late)
    began = time.monotonic()
    site.fails("longer than the 0.6 s that source.fhir.time_limit_s allows", time_limit_s=0.6)
    assert time.monotonic() - began < 4


def test_a_schema_that_changed_overnight_is_a_finding(player: Player, site: Site) -> None:
    player.on("/fhir/Patient", bundle(patient("a")))
    assert site.ids() == ["a"]
    player.on("/fhir/Patient", bundle(patient("a", gender=["female", "SECRET"])))
    site.fails("line 1: column sex has", fresh_h=0)


def test_what_was_here_is_not_read_where_the_server_fails(player: Player, site: Site) -> None:
    player.on("/fhir/Patient", bundle(patient("a")), Reply(403, outcome("forbidden")))
    assert site.ids() == ["a"]
    site.fails("403", fresh_h=0)
    assert site.ids() == ["a"]  # it is still fresh for a day


def test_the_proxy_and_the_private_authority_are_honoured(
    player: Player, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    player.on("/fhir/Patient", bundle(patient("a")))
    with tunnel() as (proxy, asked):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        assert site.ids() == ["a"]
    said = base64.b64encode(b"NAME:PASS@WORD").decode()
    assert (
        len(asked) == 1
        and f"CONNECT 127.0.0.1:{player.port}" in asked[0]
        and f"basic {said}" in asked[0].lower().replace(said.lower(), said)
    )
    monkeypatch.delenv("HTTPS_PROXY")
    site.fails("certificate is by no authority", access={"ca": None}, filters={"Patient": "a=b"})
    monkeypatch.setenv("SSL_CERT_FILE", str(player.ca))
    assert site.ids(access={"ca": None}, filters={"Patient": "a=b"}) == ["a"]


def test_only_tls_and_no_password_in_an_address(site: Site) -> None:
    for url in ("http://fhir.hospital.example/r4", "ftp://x/y", "https://SECRET:SECRET@x/y", "https://x:99999/"):
        site.fails("source.url", MappingInvalid, url=url)


@pytest.mark.parametrize("way", ["bearer", "password"])
def test_a_secret_of_the_environment_is_told_and_never_said(
    player: Player, site: Site, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("TOKEN", "SECRET-TOKEN")
    access = {"bearer": "${TOKEN}"} if way == "bearer" else {"user": "reader", "password": "${TOKEN}"}
    player.on("/fhir/Patient", Reply(401, b"SECRET"))
    site.fails("status 401", access=access)
    wanted = "Bearer SECRET-TOKEN"
    if way == "password":
        wanted = f"Basic {base64.b64encode(b'reader:SECRET-TOKEN').decode()}"
    assert {one.headers["Authorization"] for one in player.heard} == {wanted}


class Bulk:
    """A job of a bulk server: kick-off, two looks, a manifest."""

    def __init__(self, player: Player, *outputs: dict[str, Any], **more: Any) -> None:
        self.player = player
        job = f"{player.url}/jobs/1"
        player.on("/fhir/Patient/$export", Reply(202, b"", {"Content-Location": job}))
        waiting = Reply(202, b"", {"Retry-After": "0", "X-Progress": "50%"})
        player.on("/fhir/jobs/1", waiting, waiting, self.manifest(*outputs, **more))
        player.on("/fhir/jobs/1", Reply(202), method="DELETE")

    def manifest(self, *outputs: dict[str, Any], **more: Any) -> Reply:
        return Reply(200, {
            "transactionTime": "2026-01-01T00:00:00Z", "request": "x", "requiresAccessToken": True, "error": [],
            "output": list(outputs), **more,
        })  # fmt: skip

    def output(self, name: str, data: bytes, **more: Any) -> dict[str, Any]:
        self.player.on(f"/fhir/files/{name}", Reply(200, data, ETAG))
        return {"type": "Patient", "url": f"{self.player.url}/files/{name}", **more}


def test_an_export_is_waited_for_fetched_and_dropped(player: Player, site: Site) -> None:
    bulk = Bulk(player)
    files = [bulk.output("1", lines(patient("a"), patient("b")), count=2), bulk.output("2", lines(patient("c")))]
    Bulk(player, *files)
    assert site.ids(read="bulk", filters={"Patient": "active=true"}) == ["a", "b", "c"]
    kick = player.heard[0]
    assert parse_qs(urlsplit(kick.path).query) == {
        "_outputFormat": ["application/fhir+ndjson"], "_type": ["Patient"], "_typeFilter": ["Patient?active=true"],
    }  # fmt: skip
    assert kick.headers["Prefer"] == "respond-async" and player.paths("DELETE") == ["/fhir/jobs/1"]
    assert site.ids(read="bulk", filters={"Patient": "active=true"}) == ["a", "b", "c"]
    assert player.paths().count("/fhir/jobs/1") == 3


def answering(data: bytes, *, after: int) -> Any:
    """A file that breaks off after some bytes, and is then sent from where it is asked for."""
    state = {"first": True}

    def play(heard: Heard) -> Reply:
        if state.pop("first", None):
            return Reply(200, data, ETAG, cut=after)
        begin = int(heard.headers["Range"].removeprefix("bytes=").rstrip("-"))
        assert heard.headers["If-Range"] == '"v1"'
        return Reply(206, data[begin:], {**ETAG, "Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"})

    return play


@pytest.mark.parametrize("told", [True, "true", False, "false", "maybe", None])
def test_whether_files_want_a_token_may_be_a_text(
    player: Player, site: Site, monkeypatch: pytest.MonkeyPatch, told: Any
) -> None:
    """As in manifests of Epic and of Soarian."""
    bulk = Bulk(player)
    files = [bulk.output("1", lines(patient("a")))]
    Bulk(player, *files)
    player.on("/fhir/jobs/1", bulk.manifest(*files, requiresAccessToken=told))
    monkeypatch.setenv("FHIR_TOKEN", "SECRET-T")
    given: dict[str, Any] = {"read": "bulk", "access": {"bearer": "${FHIR_TOKEN}"}}
    if told in ("maybe", None):
        site.fails("its manifest is none of Bulk Data", **given)
        return
    assert site.ids(**given) == ["a"]
    (file,) = [one for one in player.heard if one.path.endswith("/files/1")]
    assert ("Authorization" in file.headers) == (told in (True, "true"))


def test_a_file_that_broke_off_is_fetched_on(player: Player, site: Site) -> None:
    bulk, data = Bulk(player), lines(patient("a"), patient("b"))
    Bulk(player, bulk.output("1", data))
    player.on("/fhir/files/1", answering(data, after=100))
    assert site.ids(read="bulk") == ["a", "b"]
    assert player.heard[-2].headers["Range"] == "bytes=100-"


def test_a_file_that_changed_meanwhile_is_fetched_anew(player: Player, site: Site) -> None:
    bulk, data = Bulk(player), lines(patient("a"), patient("b"))
    Bulk(player, bulk.output("1", data))
    player.on(
        "/fhir/files/1", Reply(200, lines(patient("OLD"), patient("OLD2")), ETAG, cut=100), Reply(200, data, ETAG)
    )
    assert site.ids(read="bulk") == ["a", "b"]


def test_another_process_goes_on_with_the_export(player: Player, site: Site) -> None:
    bulk, data = Bulk(player), lines(patient("a"), patient("b"))
    files = [bulk.output("1", data), bulk.output("2", lines(patient("c")))]
    Bulk(player, *files)
    player.on("/fhir/files/2", Reply(500, outcome("exception")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web, "_pause", lambda headers, failures: 0.0)
        site.fails("500", read="bulk")
    bulk.output("2", lines(patient("c")))
    assert site.ids(read="bulk") == ["a", "b", "c"]
    assert len([path for path in player.paths() if "$export" in path]) == 1
    assert player.paths().count("/fhir/files/1") == 1


def test_a_job_that_is_gone_is_begun_anew(player: Player, site: Site) -> None:
    bulk = Bulk(player)
    files = [bulk.output("1", lines(patient("OLD")), count=2)]
    Bulk(player, *files)
    site.fails("not as many resources as the manifest says", read="bulk")
    files = [bulk.output("1", lines(patient("a")))]
    Bulk(player, *files)
    player.on("/fhir/jobs/1", Reply(404, outcome("not-found")), bulk.manifest(*files))
    assert site.ids(read="bulk") == ["a"]


def test_links_that_expired_are_asked_for_anew(player: Player, site: Site) -> None:
    bulk = Bulk(player)
    old = {"type": "Patient", "url": f"{player.url}/files/old?X-Amz-Signature=SECRET"}
    fresh = bulk.output("new", lines(patient("a")))
    Bulk(player, old)
    player.on("/fhir/files/old", Reply(403, b"<Error><Code>AccessDenied</Code>SECRET</Error>"))
    player.on("/fhir/jobs/1", bulk.manifest(old), bulk.manifest(fresh))
    assert site.ids(read="bulk") == ["a"]
    Bulk(player, old)
    site.fails("links are refused", read="bulk", level="patient", filters={"Patient": "a=b"})


BULKS: list[tuple[str, dict[str, Any], str]] = [
    ("kick", {"reply": Reply(400, outcome("not-supported"))}, r"400 \(not-supported\)"),
    ("kick", {"reply": Reply(200, outcome("informational"))}, r"did not begin one \(status 200\)"),
    ("job", {"reply": Reply(500, outcome("transient"))}, r"500 \(transient\)"),
    ("job", {"reply": Reply(200, b'{"transactionTime": "2026')}, "is no JSON"),
    ("job", {"reply": Reply(200, {"output": []})}, "manifest is none of Bulk Data"),
    ("manifest", {"link": [{"relation": "next", "url": "x"}]}, "manifest is none of Bulk Data"),
    ("file", {"data": lines(patient("a"))[:-9]}, "line 1: is no JSON"),
    ("file", {"data": lines(patient("a")), "count": 2}, "not as many resources"),
    ("file", {"data": lines(patient("a"), patient("a", "male"))}, "two versions"),
    ("file", {"data": lines({"resourceType": "Condition", "id": "x"})}, "holds another type"),
    ("file", {"data": lines(patient("a")), "type": "Condition"}, "types that were not asked for"),
    ("unsized", {}, "neither length nor count"),
    ("zipped", {}, "a file was cut"),
    ("error", {"severity": "error"}, r"resources are lacking \(exception\)"),
]


@pytest.mark.parametrize(("what", "given", "said"), BULKS)
def test_an_export_that_lacks_anything_is_a_finding(
    player: Player, site: Site, monkeypatch: pytest.MonkeyPatch, what: str, given: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(web, "_pause", lambda headers, failures: 0.0)
    bulk = Bulk(player)
    data = given.pop("data", lines(patient("a")))
    one = bulk.output("1", data, **(given if what == "file" else {}))
    Bulk(player, one, **(given if what == "manifest" else {}))
    match what:
        case "kick":
            player.on("/fhir/Patient/$export", given["reply"])
        case "job":
            player.on("/fhir/jobs/1", given["reply"])
        case "unsized":
            player.on("/fhir/files/1", Reply(200, data, sized=False))
        case "zipped":
            player.on("/fhir/files/1", Reply(200, gzip.compress(data)[:-9], {"Content-Encoding": "gzip"}))
        case "error":
            wrong = {"type": "OperationOutcome", "url": f"{player.url}/files/errors"}
            player.on("/fhir/files/errors", Reply(200, lines(outcome("exception", **given))))
            Bulk(player, one, error=[wrong])
    site.fails(said, read="bulk")
    assert not list(site.extracts.glob("*.ndjson"))


def test_warnings_of_an_export_and_zipped_files_are_no_reason_to_stop(player: Player, site: Site) -> None:
    bulk = Bulk(player)
    wrong = {"type": "OperationOutcome", "url": f"{player.url}/files/errors"}
    Bulk(player, bulk.output("1", b""), error=[wrong])
    player.on("/fhir/files/errors", Reply(200, lines(outcome("informational", severity="information"))))
    player.on("/fhir/files/1", Reply(200, gzip.compress(lines(patient("a"))), {"Content-Encoding": "gzip"}))
    assert site.ids(read="bulk") == ["a"]


def test_a_later_export_brings_what_changed_and_what_was_deleted(player: Player, site: Site) -> None:
    bulk = Bulk(player)
    Bulk(player, bulk.output("1", lines(patient("a"), patient("b"), patient("c"))))
    given: dict[str, Any] = {"read": "bulk", "incremental": True, "fresh_h": 0}
    assert site.read(**given).columns["id"] == ["a", "b", "c"]
    gone = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"request": {"method": "DELETE", "url": "Patient/b"}}],
    }
    deleted = {"type": "Bundle", "url": f"{player.url}/files/deleted"}
    player.on("/fhir/files/deleted", Reply(200, lines(gone)))
    Bulk(player, bulk.output("2", lines(patient("c", "male"), patient("d"))), deleted=[deleted])
    found = site.read(**given).columns
    assert found["id"] == ["a", "c", "d"] and found["sex"] == ["female", "male", "female"]
    kicks = [parse_qs(urlsplit(path).query) for path in player.paths() if "$export" in path]
    assert [kick.get("_since") for kick in kicks] == [None, ["2026-01-01T00:00:00Z"]]
    bad = {"resourceType": "Bundle", "entry": [{"request": {"method": "PUT", "url": "Patient/a"}}]}
    player.on("/fhir/files/deleted", Reply(200, lines(bad)))
    Bulk(player, deleted=[deleted])
    site.fails("no Bundle of deletions", **given)


class Searched:
    """A server that is searched as FHIR says, or that lacks something of it (`lacks`)."""

    def __init__(self, player: Player) -> None:
        self.lacks = ""
        self.there: dict[str, tuple[str, str]] = {}
        self.heard = player.heard
        player.on("/fhir/Patient", self.answer)

    def put(self, key: str, sex: str, hours: float) -> None:
        """Made or changed so many hours ago."""
        self.there[key] = sex, (datetime.now(UTC) - timedelta(hours=hours)).isoformat()

    def answer(self, heard: Heard) -> Reply:
        asked = dict(parse_qsl(urlsplit(heard.path).query))
        if "_summary" in asked:
            told = {} if self.lacks == "total" else {"total": len(self.there)}
            return Reply(400, outcome("invalid")) if self.lacks == "summary" else bundle(**told)
        if "_lastUpdated" in asked and self.lacks == "since":
            return Reply(400, outcome("invalid"))
        since = datetime.fromisoformat(asked.get("_lastUpdated", "ge1970-01-01T00:00:00Z").removeprefix("ge"))
        return bundle(*(
            patient(key, sex, **({} if self.lacks == "moments" else {"meta": {"lastUpdated": at}}))
            for key, (sex, at) in self.there.items() if self.lacks == "heed" or datetime.fromisoformat(at) >= since
        ))  # fmt: skip

    def read(self, site: Site) -> tuple[dict[str | None, str | None], str]:
        """What the site has now, and what it asked for: c(ount), s(ince), a(ll)."""
        self.heard.clear()
        found = site.read(fresh_h=0, incremental=True).columns
        marks = {"_summary": "c", "_lastUpdated": "s"}
        told = [next((mark for name, mark in marks.items() if name in one.path), "a") for one in self.heard]
        return dict(zip(found["id"], found["sex"], strict=True)), "".join(told)


@pytest.mark.parametrize(("lacks", "asked"), [
    ("", "cs"), ("total", "ca"), ("summary", "ca"), ("since", "cssa"), ("moments", "csa"), ("heed", "csa"),
])  # fmt: skip
def test_a_later_search_brings_what_changed_and_all_where_the_server_cannot_tell(
    player: Player, site: Site, lacks: str, asked: str
) -> None:
    """What was deleted no search says: the server's count does, and where it is silent all is read."""
    server = Searched(player)
    for key in "abc":
        server.put(key, "female", hours=72)
    assert server.read(site) == (dict.fromkeys("abc", "female"), "a")
    server.lacks = lacks
    server.put("b", "male", hours=0)
    server.put("d", "male", hours=0)
    now = {"a": "female", "b": "male", "c": "female", "d": "male"}
    assert server.read(site) == (now, asked)
    del server.there["a"]
    gone = {key: sex for key, sex in now.items() if key != "a"}
    assert server.read(site) == (gone, "csa" if not lacks else asked)
    del server.there["c"]
    server.put("e", "male", hours=0)  # as many as before
    assert server.read(site)[0] == {"b": "male", "d": "male", "e": "male"}
    server.put("f", "male", hours=0.5)  # it came into the index late
    assert server.read(site)[0].keys() == set("bdef")


def keys(kind: str, path: Path) -> Any:
    if kind == "RS384":
        made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        path.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public: Any = RSAKey.import_key(path.read_bytes())
    else:
        public = ECKey.generate_key("P-384", {"kid": "k1"}, private=True)
        path.write_text(json.dumps(public.as_dict(private=True)))
    path.chmod(0o600)
    return public


@pytest.mark.parametrize("algorithm", ["ES384", pytest.param("RS384", marks=pytest.mark.long)])
def test_smart_backend_services(player: Player, site: Site, tmp_path: Path, algorithm: str) -> None:
    """The server verifies each assertion as the specification says; a token that it no longer knows is renewed."""
    public, seen = keys(algorithm, tmp_path / "smart.pem"), set[str]()
    tokens = iter(["SECRET-1", "SECRET-2", "SECRET-3"])

    def give(heard: Heard) -> Reply:
        form = dict(parse_qsl(heard.body.decode()))
        found = jwt.decode(form["client_assertion"], public, algorithms=[algorithm])
        assert found.header["typ"] == "JWT" and found.header.get("kid") == ("k1" if algorithm == "ES384" else None)
        claims = found.claims
        assert claims["iss"] == claims["sub"] == "consilium-north" and claims["aud"] == f"{player.url}/token"
        assert 0 < claims["exp"] - time.time() <= 300 and claims["jti"] not in seen
        seen.add(claims["jti"])
        assert form["grant_type"] == "client_credentials" and form["scope"] == "system/*.read"
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        return Reply(200, {"access_token": next(tokens), "token_type": "bearer", "expires_in": 300})

    def guarded(heard: Heard) -> Reply:
        return bundle(patient("a")) if heard.headers.get("Authorization") == "Bearer SECRET-2" else Reply(401)

    player.on("/fhir/.well-known/smart-configuration", Reply(200, {"token_endpoint": f"{player.url}/token"}))
    player.on("/fhir/token", give, method="POST")
    player.on("/fhir/Patient", guarded)
    smart = {"client_id": "consilium-north", "key": "smart.pem", "algorithm": algorithm}
    assert site.ids(access={"smart": smart}) == ["a"]
    assert all("Authorization" not in one.headers for one in player.heard if "token" in one.path or "smart" in one.path)
    player.on("/fhir/token", Reply(400, {"error": "invalid_client", "error_description": "SECRET"}), method="POST")
    site.fails(r"400 \(invalid_client\)", access={"smart": smart}, filters={"Patient": "a=b"})
    (tmp_path / "smart.pem").chmod(0o644)
    site.fails("others may read", MappingInvalid, access={"smart": smart})
    other = "ES384" if algorithm == "RS384" else "RS384"
    (tmp_path / "smart.pem").chmod(0o600)
    site.fails("no private key for", MappingInvalid, access={"smart": {**smart, "algorithm": other}})


def test_files_of_another_host_are_fetched_only_where_the_hospital_names_it(player: Player, site: Site) -> None:
    """And a token is told there only where the server says that its files want one."""
    bulk = Bulk(player)
    one = {"type": "Patient", "url": f"https://localhost:{player.port}/files/1"}
    player.on("/files/1", Reply(200, lines(patient("a")), ETAG))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKEN", "SECRET-TOKEN")
        access = {"bearer": "${TOKEN}"}
        Bulk(player, one)
        site.fails(r"another host \(localhost\)", read="bulk", access=access)
        for signed in (True, False):
            Bulk(player, one)
            player.on("/fhir/jobs/1", bulk.manifest(one, requiresAccessToken=signed))
            player.heard.clear()
            assert site.ids(read="bulk", access=access, hosts=["localhost"], fresh_h=0) == ["a"]
            (fetched,) = (heard for heard in player.heard if heard.path == "/files/1")
            assert ("Authorization" in fetched.headers) == signed


def test_two_processes_fetch_one_after_the_other(player: Player, site: Site) -> None:
    pages(player)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(site.ids())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["a", "b", "c"]] * 2 and len(player.heard) == 2


def test_what_a_mapping_says_of_a_server_is_checked(site: Site) -> None:
    site.fails("no view is of type Condition", MappingInvalid, filters={"Condition": "x=y"})
    for wrong in ({"group": "1"}, {"read": "bulk", "incremental": True, "group": "1"},
                  {"incremental": True, "filters": {"Patient": "_revinclude=Group:member"}}):  # fmt: skip
        with pytest.raises(ValueError, match=r"`group`|`_include`"):
            site.read(**wrong)
    with pytest.raises(ValueError, match="go together"):
        site.read(access={"user": "x"})
    with pytest.raises(MappingInvalid, match="or `url` and `fhir`"):
        FhirSource(TableSource(type="fhir", url="https://x", views={"p": "patients.json"}), site.folder)
