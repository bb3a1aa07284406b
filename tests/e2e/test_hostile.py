"""What a hostile client sends is refused with a status of 4xx and one clear sentence; nothing leads to a 5xx."""

import base64
import json
import secrets
import time
from pathlib import Path
from typing import Any

import pytest
import urllib3
from joserfc import jwt
from joserfc.jwk import OctKey

from consilium.wire.identity import Identity
from consilium.wire.messages import HEADER, MAX_MESSAGE, PROTOCOL
from consilium.wire.requests import Problem
from e2e.coordinator import AUDIENCE, GRANT, Party
from e2e.victim import Victim


def signed(identity: Identity, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """An assertion of `north` with other claims than it should have; None leaves one out."""
    now = int(time.time())
    told = {"iss": "north", "sub": "north", "aud": AUDIENCE, "iat": now, "exp": now + 60, "jti": secrets.token_hex(8)}
    told = {name: value for name, value in (told | claims).items() if value is not None}
    text = unsigned(told, {"alg": "Ed25519", **(header or {})})
    return text + b64(identity.sign(text.removesuffix(".").encode()))


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(claims: object, header: object = None) -> str:
    parts = (b64(json.dumps(part).encode()) for part in (header or {"alg": "none"}, claims))
    return ".".join([*parts, ""])


def test_an_assertion_serves_once(victim: Victim) -> None:
    good = signed(victim.site.identity)
    assert victim.coordinator.connection().post("/v1/token", GRANT | {"client_assertion": good}, form=True)
    status, problem = victim.token(good)
    assert (status, problem.code) == (401, "unauthenticated")


def test_assertions_that_are_forged_stale_or_meant_for_others_give_no_token(
    victim: Victim, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mine, now = victim.site.identity, int(time.time())
    stranger = Identity.create(tmp_path_factory.mktemp("stranger") / "key")
    with_public = OctKey.import_key({"kty": "oct", "k": mine.public})
    claims = {"iss": "north", "sub": "north", "aud": AUDIENCE, "iat": now, "exp": now + 60, "jti": "j"}
    bad = {
        "signed by a stranger": signed(stranger),
        "altered after signing": signed(mine)[:-4] + "AAAA",
        "of another audience": signed(mine, aud="another-coordinator"),
        "expired": signed(mine, iat=now - 600, exp=now - 500),
        "from the future": signed(mine, iat=now + 600, exp=now + 660),
        "valid for a year": signed(mine, exp=now + 31_536_000),
        "without end": signed(mine, exp=None),
        "ends before it begins": signed(mine, exp=now - 10),
        "at no number": signed(mine, iat="now"),
        "infinite": signed(mine, iat=float("inf"), exp=float("inf")),
        "without a name of its own": signed(mine, jti=None),
        "with an empty name": signed(mine, jti=""),
        "with a name of half a character": signed(mine, jti="\ud800"),
        "issued by another": signed(mine, iss="south"),
        "of nobody": signed(mine, sub=None),
        "of a site unknown": signed(mine, sub="nowhere"),
        "of a name with NUL": unsigned({"sub": "north\0"}),
        "of half a character": unsigned({"sub": "\ud800"}),
        "of a list": unsigned({"sub": ["north"]}),
        "claims that are a list": unsigned([1]),
        "of no algorithm": unsigned(claims),
        "with the public key as a secret": jwt.encode({"alg": "HS256"}, claims, with_public, algorithms=["HS256"]),
        "critical": signed(mine, {"crit": ["exp"], "exp": 1}),
        "not a token": "north",
        "dots": "....",
        "too long": "a" * 5000,
    }
    told = {name: victim.token(text)[0] for name, text in bad.items()}
    assert told == {name: 422 if name == "too long" else 401 for name in bad}


BODIES: dict[str, bytes] = {
    "truncated": b'{"name": "nora", "pass',
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "half a character": b'{"name": "\\ud800", "site": "\\udfff", "reason": "\\ud800", "fingerprint": "\\ud800"}',
    "half a character as key": b'{"\\ud800": 1}',
    "unknown keys": b'{"x": 1}',
    "deep": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "a long number": b'{"round": ' + b"9" * 5000 + b"}",
    "not a number": b'{"round": NaN, "protocol": NaN}',
    "objects for text": b'{"name": {}, "site": {}, "plan": {}, "token": {}, "reason": {}, "fingerprint": {}}',
}
POSTS = (
    "/v1/join", "/v1/token", "/v1/login", "/v1/people", "/v1/tokens", "/v1/sites/north/admit", "/v1/sites/north/remove",
    "/v1/studies", "/v1/studies/heart/runs", "/v1/runs/none-1/stop", "/v1/heartbeat", "/v1/envelopes", "/v1/answers",
)  # fmt: skip


@pytest.mark.parametrize("path", POSTS)
def test_a_body_that_is_not_what_it_should_be_is_refused(victim: Victim, path: str) -> None:
    by = victim.site if path in POSTS[-3:] else victim.admin
    for body in BODIES.values():
        status, _ = victim.ask("POST", path, body, by=by)
        assert status in (404, 422)


@pytest.mark.parametrize("path", POSTS)
def test_a_body_larger_than_a_message_is_refused_and_not_read_to_its_end(victim: Victim, path: str) -> None:
    by = victim.site if path in POSTS[-3:] else victim.admin
    status, problem = victim.ask("POST", path, b" " * (MAX_MESSAGE + 1), by=by)
    assert (status, problem.code) == (413, "too-large")


@pytest.mark.parametrize("bad", ["a\0b", "\ud800", "a" * 5000])
def test_text_that_cannot_be_kept_is_refused(victim: Victim, bad: str) -> None:
    identity = {"protocol": PROTOCOL, "token": "x" * 43, "site": "new", "public_key": "A" * 43}
    asks: list[tuple[str, object, Party]] = [
        ("/v1/heartbeat", {"version": "1", "activity": bad}, victim.site),
        ("/v1/heartbeat", {"version": bad}, victim.site),
        ("/v1/join", {**identity, "about": bad}, victim.admin),
        ("/v1/join", {**identity, "token": "x" * 16 + bad}, victim.admin),
        ("/v1/people", {"name": "new", "role": bad, "password": "long enough"}, victim.admin),
        ("/v1/people", {"name": "new" + bad, "role": "auditor", "password": "long enough"}, victim.admin),
        ("/v1/runs/none-1/stop", {"reason": bad}, victim.admin),
        ("/v1/studies", {"plan": bad}, victim.admin),
        ("/v1/studies", {"plan": json.dumps({"name": bad})}, victim.admin),
    ]
    for path, body, by in asks:
        status, _ = victim.ask("POST", path, body, by=by)
        assert status in (403, 404, 422), path


@pytest.mark.parametrize("key", ["%00", "a%00b", "%ED%A0%80", "%FF", "a" * 5000, "..%2f..%2fetc", "%0d%0ax", "''--"])
def test_a_path_that_names_nothing_is_refused(victim: Victim, key: str) -> None:
    for path in ("/v1/studies/{}", "/v1/studies/{}/plan", "/v1/runs/{}", "/v1/runs/{}/events", "/v1/blobs/{}"):
        assert victim.ask("GET", path.format(key), by=victim.admin)[0] in (404, 422)
    for path in ("/v1/sites/{}/admit", "/v1/sites/{}/remove", "/v1/studies/{}/runs", "/v1/runs/{}/stop"):
        body = {"fingerprint": "x"} if "admit" in path else {}
        assert victim.ask("POST", path.format(key), body, by=victim.admin)[0] in (404, 422)


@pytest.mark.parametrize(
    "query", ["after=-1", "after=x", f"after={2**31}", "after=%00", "wait=-1", "wait=61", "wait=nan", "wait=inf", "x=1"]
)
def test_a_query_out_of_bounds_is_refused(victim: Victim, query: str) -> None:
    assert victim.ask("GET", f"/v1/inbox?{query}", by=victim.site)[0] == 422
    assert victim.ask("GET", f"/v1/audit?{query}", by=victim.admin)[0] == 422


@pytest.mark.parametrize("spoken", ["3", "1", "0", "999999", "-1", "2.0", "one", "1, 2", "٣", "1" * 5000])
def test_another_protocol_is_refused_with_one_clear_sentence(victim: Victim, spoken: str) -> None:
    headers = {HEADER: spoken.encode()}
    told = victim.pool.request("GET", f"{victim.coordinator.url}/v1/hello", headers=headers)  # type: ignore[arg-type]
    problem = Problem.model_validate_json(told.data)
    assert (told.status, problem.code) == (426, "protocol-mismatch")
    assert problem.message.startswith("one side speaks protocol 2 and the other side speaks ")
    assert problem.remedy.startswith(("update the side that speaks ", "check that both"))


def test_an_older_and_a_newer_side_are_told_who_must_update(victim: Victim) -> None:
    remedies = []
    for spoken in ("1", "3"):
        told = victim.pool.request("GET", f"{victim.coordinator.url}/v1/hello", headers={HEADER: spoken})
        remedies.append(Problem.model_validate_json(told.data).remedy)
    assert remedies == ["update the side that speaks 1", "update the side that speaks 2"]


@pytest.mark.parametrize(
    "value", ["Bearer", "Bearer ", "Basic bm9yYTpub3Jh", "Bearer x y", "Bearer " + "x" * 8000, "\xff"]
)
def test_an_authorization_that_is_no_token_is_refused(victim: Victim, value: str) -> None:
    status, problem = victim.ask("GET", "/v1/sites", Authorization=value)
    assert (status, problem.code) == (401, "unauthenticated")


def test_headers_larger_than_any_client_sends_are_refused(victim: Victim) -> None:
    for headers in ({"X-Long": "x" * (2 << 20)}, {f"X-{n}": "x" for n in range(5000)}):
        try:
            told = victim.pool.request("GET", f"{victim.coordinator.url}/v1/hello", headers=headers)
            assert 400 <= told.status < 500  # by the HTTP server, before there is a request to answer
        except urllib3.exceptions.HTTPError:
            pass  # it closed the connection
    assert victim.coordinator.connection().get("/v1/hello")["protocols"] == [PROTOCOL]


@pytest.mark.parametrize("path", ["/", "/v1", "/v2/hello", "/v1/hello/x", "//v1/hello", "/v1/blobs", "/favicon.ico"])
def test_an_address_without_an_endpoint_is_refused(victim: Victim, path: str) -> None:
    assert victim.ask("GET", path)[0] == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "TRACE", "BREW", "PATCH"])
def test_a_method_without_an_endpoint_is_refused(victim: Victim, method: str) -> None:
    assert victim.ask(method, "/v1/sites", by=victim.admin)[0] == 405


def join(victim: Victim, ticket: str, identity: Identity, site: str) -> dict[str, Any]:
    return {"protocol": PROTOCOL, "token": ticket, "site": site, "public_key": identity.public, "about": ""}


def test_a_join_token_serves_one_key_and_one_name(victim: Victim, tmp_path: Path) -> None:
    first, second = Identity.create(tmp_path / "a"), Identity.create(tmp_path / "b")
    ticket = victim.coordinator.ticket("east")["secret"]
    open_ = victim.coordinator.connection()
    assert victim.ask("POST", "/v1/join", join(victim, ticket, first, "west"))[0] == 403
    assert victim.ask("POST", "/v1/join", join(victim, ticket, victim.site.identity, "east"))[1].reason == "key"
    assert victim.ask("POST", "/v1/join", join(victim, ticket, first, "east") | {"protocol": 9})[0] == 426
    assert open_.post("/v1/join", join(victim, ticket, first, "east"))["state"] == "pending"
    assert open_.post("/v1/join", join(victim, ticket, first, "east"))["state"] == "pending", "a retry after a cut"
    told = [json.loads(entry) for entry in victim.admin.connection.get("/v1/audit")["entries"]]
    assert sum(entry["kind"] == "join" and entry["body"]["site"] == "east" for entry in told) == 1
    status, problem = victim.ask("POST", "/v1/join", join(victim, ticket, second, "east"))
    assert (status, problem.reason) == (403, "token")
    assert victim.ask("POST", "/v1/tokens", {"site": "east"}, by=victim.admin)[0] == 409
    victim.admin.connection.post("/v1/sites/east/remove")
    assert victim.ask("POST", "/v1/join", join(victim, ticket, first, "east"))[0] == 403, "it was removed"


def test_a_join_token_that_has_expired_serves_nobody(victim: Victim, tmp_path: Path) -> None:
    ticket = victim.coordinator.ticket("late")["secret"]
    victim.coordinator.in_database("UPDATE join_tokens SET expires = 1 WHERE site = 'late'")
    status, problem = victim.ask("POST", "/v1/join", join(victim, ticket, Identity.create(tmp_path / "a"), "late"))
    assert (status, problem.reason) == (403, "token")


def test_an_access_token_that_has_expired_is_refused(victim: Victim) -> None:
    brief = victim.coordinator.person("brief", "auditor")
    victim.tokens["brief"] = brief.token()
    victim.coordinator.in_database("UPDATE access_tokens SET expires = 1 WHERE subject = 'person:brief'")
    assert victim.ask("GET", "/v1/sites", by=brief)[0] == 401


def test_a_site_is_admitted_by_the_words_of_its_key_alone(victim: Victim) -> None:
    victim.coordinator.join("shy", admit=False)
    for words in ("", "one two three", victim.site.identity.fingerprint):
        status, problem = victim.ask("POST", "/v1/sites/shy/admit", {"fingerprint": words}, by=victim.admin)
        assert (status, problem.reason) == (403, "fingerprint")
