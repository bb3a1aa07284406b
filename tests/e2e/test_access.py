"""Who may do what: every endpoint is walked with every role, and what is seen is exactly the table in access.py."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import urllib3

from consilium.coordinator.access import ACCESS, ROLES
from consilium.coordinator.api import ENDPOINTS
from consilium.core.errors import Conflict, EnvelopeInvalid, NotFound, Refused, Unauthenticated, UnknownSite
from consilium.core.ids import Digest, digest
from consilium.core.study import Plan
from consilium.wire.connection import Connection
from consilium.wire.messages import PROTOCOL, Refusal, Task
from e2e import studies
from e2e.coordinator import PASSWORD, Coordinator, Party, Site, refusal


@dataclass(frozen=True)
class Federation:
    """Two admitted sites, one pending; two researchers; a study that invites `north` alone, and its run."""

    coordinator: Coordinator
    people: dict[str, Party]
    north: Site
    south: Site
    newcomer: Site
    plan: Plan
    run: str
    task: Task

    def token(self, role: str) -> str | None:
        parties: dict[str, Party] = {**self.people, "site": self.south, "pending": self.newcomer}
        return None if role == "anyone" else parties[role].token()


@pytest.fixture(scope="module")
def federation(coordinator: Coordinator) -> Iterator[Federation]:
    people = {role: coordinator.person(role, role) for role in ("researcher", "auditor")} | {"admin": coordinator.admin}
    people["other"] = coordinator.person("other", "researcher")
    north, south = coordinator.join("north"), coordinator.join("south")
    newcomer = coordinator.join("newcomer", admit=False)
    plan = studies.submit(people["researcher"], studies.study("heart", sites=["north"]))
    run = studies.start(people["researcher"], plan)
    north.send(studies.decision(north, plan))
    task = studies.task(north, run)
    yield Federation(coordinator, people, north, south, newcomer, plan, run, task)
    assert "Traceback" not in coordinator.process.said


HARMLESS: dict[str, object] = {
    "POST /v1/join": {"protocol": PROTOCOL, "token": "x" * 43, "site": "nowhere", "public_key": "A" * 43},
    "POST /v1/login": {"name": "nobody", "password": PASSWORD},
    "POST /v1/people": {"name": "visitor", "role": "auditor", "password": PASSWORD},
    "POST /v1/tokens": {"site": "elsewhere"},
    "POST /v1/heartbeat": {"version": "1"},
    "POST /v1/studies": {"plan": "{}"},
    "POST /v1/sites/{site}/admit": {"fingerprint": "one two"},
}


def test_the_table_and_the_api_name_the_same_endpoints() -> None:
    assert sorted(ACCESS) == sorted(endpoint.name for endpoint in ENDPOINTS)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_reaches_exactly_the_endpoints_that_the_table_allows(federation: Federation, role: str) -> None:
    token, pool = federation.token(role), federation.coordinator.pool()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    places = {
        "site": "nobody",
        "person": "nobody",
        "study": "heart",
        "run": federation.run,
        "digest": federation.plan.digest,
    }
    seen: dict[str, object] = {}
    for endpoint in ENDPOINTS:
        path = endpoint.path.format(**places) if "stop" not in endpoint.path else "/v1/runs/none-1/stop"
        body = json.dumps(HARMLESS.get(endpoint.name, {})) if endpoint.method == "POST" else None
        told = pool.request(endpoint.method, federation.coordinator.url + path, body=body, headers=headers)
        assert told.status < 500, (endpoint.name, told.data)
        seen[endpoint.name] = _denied(told, endpoint.name)
    expected = {name: None if role in roles else (401 if role == "anyone" else 403) for name, roles in ACCESS.items()}
    assert seen == expected


def _denied(told: urllib3.BaseHTTPResponse, endpoint: str) -> int | None:
    """401 or 403 if the role was why; HEAD has no body to say so."""
    if told.status == 401 and endpoint in ("POST /v1/login", "POST /v1/token"):
        return None  # the password or the assertion was wrong, not the role
    if told.status == 401 or (told.status == 403 and endpoint.startswith("HEAD")):
        return told.status
    by_role = told.status == 403 and json.loads(told.data)["reason"] == "role"
    return 403 if by_role else None


def with_one_token(federation: Federation, party: Party) -> Connection:
    token = party.token()
    return federation.coordinator.connection(lambda: token)


def test_a_token_ends_with_what_it_stood_for(federation: Federation) -> None:
    leaving = federation.coordinator.join("leaving")
    held = with_one_token(federation, leaving)
    assert held.get("/v1/inbox")["items"] == []
    federation.people["admin"].connection.post("/v1/sites/leaving/remove")
    assert isinstance(refusal(lambda: held.get("/v1/inbox")), Unauthenticated)
    assert isinstance(refusal(leaving.token), Unauthenticated)


def test_a_person_whose_role_changes_loses_the_old_one_at_once(federation: Federation) -> None:
    admin = federation.people["admin"].connection
    moving = federation.coordinator.person("moving", "admin")
    held = with_one_token(federation, moving)
    assert held.get("/v1/audit")["entries"]
    admin.post("/v1/people", {"name": "moving", "role": "researcher", "password": PASSWORD})
    assert isinstance(refusal(lambda: held.get("/v1/audit")), Unauthenticated), "the old token ended with the old role"
    assert isinstance(refusal(lambda: moving.connection.get("/v1/audit")), Refused)


def readers(federation: Federation, name: Digest) -> set[str]:
    """Who can read a blob; for all others it looks as if it were not there."""
    found = set()
    for party in (*federation.people.values(), federation.north, federation.south):
        try:
            party.connection.request("GET", f"/v1/blobs/{name}")
            found.add(party.name)
        except NotFound:
            told = party.connection.request("GET", f"/v1/blobs/{digest(b'never sent')}", passing=(404,))
            assert told.status == 404
    return found


def test_what_a_site_sends_is_read_by_itself_alone(federation: Federation) -> None:
    name = federation.north.send_blob(b"an update of north")
    assert readers(federation, name) == {"north"}
    told = federation.south.connection.request("HEAD", f"/v1/blobs/{name}", passing=(404,))
    assert (told.status, told.headers["Upload-Offset"]) == (404, "0")


def test_what_a_researcher_sends_is_read_by_that_researcher_alone_until_a_study_names_it(
    federation: Federation,
) -> None:
    name = federation.people["other"].send_blob(b"a draft")
    assert readers(federation, name) == {"other"}
    initial = Digest(str(federation.plan.study.model.initial))
    assert readers(federation, initial) == {"researcher", "north"}
    assert readers(federation, federation.plan.digest) == {"north"}  # people read it at /v1/studies/heart/plan


def test_a_site_that_knows_a_digest_gains_nothing_by_naming_it(federation: Federation) -> None:
    """Reading needs a grant, and a grant needs the bytes: south cannot get north's blob by announcing it."""
    name = federation.north.send_blob(b"another update of north")
    size = len(b"another update of north")
    headers = {"Upload-Offset": str(size), "Upload-Length": str(size)}
    told = federation.south.connection.request("PATCH", f"/v1/blobs/{name}", b"", headers, passing=(409,))
    assert told.status == 409
    assert readers(federation, name) == {"north"}


def test_a_site_decides_for_itself_alone(federation: Federation) -> None:
    north, south, plan = federation.north, federation.south, federation.plan
    forged = studies.decision(north, plan, decision="revoke")
    assert isinstance(refusal(lambda: south.send(forged)), EnvelopeInvalid)
    stolen = north.seal(forged)
    assert isinstance(refusal(lambda: south.connection.post("/v1/envelopes", raw=stolen)), EnvelopeInvalid)
    assert list(federation.people["admin"].connection.get("/v1/studies/heart")["sites"]) == ["north"]


def test_a_site_that_a_study_does_not_invite_learns_nothing_of_it_by_deciding(federation: Federation) -> None:
    """The plan's digest is no secret: with a decision came what the study's hospitals say, and news of its runs."""
    south, plan = federation.south, federation.plan
    for word in ("decline", "approve"):
        assert isinstance(refusal(lambda w=word: south.send(studies.decision(south, plan, decision=w))), NotFound)  # type: ignore[misc]
    for path in (
        f"/v1/runs/{federation.run}/opening?round=1",
        f"/v1/runs/{federation.run}/said?round=1&attempt=1&of=READY",
    ):
        assert isinstance(refusal(lambda p=path: south.connection.get(p)), NotFound)  # type: ignore[misc]
    assert list(federation.people["admin"].connection.get("/v1/studies/heart")["sites"]) == ["north"]


def test_a_pending_site_sends_nothing(federation: Federation) -> None:
    error = refusal(lambda: federation.newcomer.send(studies.decision(federation.newcomer, federation.plan)))
    assert isinstance(error, Refused) and error.reason == "role"
    assert federation.newcomer.connection.get("/v1/site")["state"] == "pending"


def test_a_site_cannot_withdraw_another_or_end_its_run(federation: Federation) -> None:
    plan = federation.plan
    said = Refusal(study="heart", plan=plan.digest, run=federation.run, round=1, reason="policy", text="no")
    federation.south.send(said)
    view = federation.people["auditor"].connection.get(f"/v1/runs/{federation.run}")
    assert (view["status"], view["waiting_for"]) == ("running", ["north"])


def test_only_a_site_that_was_asked_answers_and_only_once(federation: Federation) -> None:
    north, south, asked = federation.north, federation.south, federation.task
    initial = north.connection.request("GET", f"/v1/blobs/{asked.initial.digest}").data
    blob, other = studies.contribution(initial), studies.contribution(initial, seed=2)
    sent = south.send_blob(blob)
    assert isinstance(refusal(lambda: south.send(studies.answer(asked, sent, len(blob)))), UnknownSite)
    error = refusal(lambda: north.send(studies.answer(asked, sent, len(blob))))
    assert isinstance(error, NotFound), "north has not sent these bytes, though south has"
    north.send_blob(blob)
    for of in ({"plan": digest(b"another plan")}, {"study": "lung"}):
        other_plan = studies.answer(asked, sent, len(blob)).model_copy(update=of)
        assert isinstance(refusal(lambda said=other_plan: north.send(said)), Conflict)  # type: ignore[misc]
    north.send(studies.answer(asked, sent, len(blob)))
    north.send(studies.answer(asked, sent, len(blob)))
    again = north.send_blob(other)
    assert isinstance(refusal(lambda: north.send(studies.answer(asked, again, len(other)))), Conflict)


def test_a_researcher_starts_and_stops_own_studies_only(federation: Federation) -> None:
    other = federation.people["other"].connection
    for path in ("/v1/studies/heart/runs", f"/v1/runs/{federation.run}/stop"):
        error = refusal(lambda p=path: other.post(p))  # type: ignore[misc]
        assert isinstance(error, Refused) and error.reason == "owner"
    error = refusal(lambda: other.post("/v1/studies", {"plan": federation.plan.payload.decode()}))
    assert isinstance(error, Conflict)


def test_a_study_names_only_blobs_that_its_researcher_has_sent(federation: Federation) -> None:
    name = federation.north.send_blob(b"an update that north sent")
    wanted = studies.study("thief")
    model = wanted.model.model_copy(update={"initial": name})
    plan = Plan.of(wanted.model_copy(update={"model": model}))
    other = federation.people["other"].connection
    assert "have not sent" in str(refusal(lambda: other.post("/v1/studies", {"plan": plan.payload.decode()})))
    assert readers(federation, name) == {"north"}
