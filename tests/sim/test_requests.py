"""Requests that would make a coordinator fail, or keep failing: each is refused by name; the others go on."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from consilium.api import freeze
from consilium.coordinator import accounts
from consilium.coordinator.api import application
from consilium.coordinator.app import Settings, make_services
from consilium.coordinator.driver import Driver
from consilium.coordinator.perform import Performer
from consilium.coordinator.retention import Keeping
from consilium.coordinator.services import Services
from consilium.core.errors import Refused, Unauthenticated
from consilium.core.ids import canonical, digest
from consilium.site.line import GRANT
from consilium.store.database import Transaction
from consilium.store.schema import people
from consilium.wire.envelope import seal
from consilium.wire.identity import Identity
from consilium.wire.messages import Answer, Checkpoint, Decision, Refusal
from e2e.federation import study

PASSWORD, NOTHING = "correct horse", digest(b"")
WHEN = "2030-01-01T00:00:00Z"
Reply = tuple[int, Any]


@dataclass
class Coordinator:
    """The product's application, driver and store in this process, without network."""

    services: Services
    keys: dict[str, Identity] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    def ask(self, who: str, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """One request; status and answer."""
        return asyncio.run(self.asks(who, method, path, body, **headers))

    async def asks(self, who: str, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """The same, beside others."""
        data = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        lines = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]
        if who:
            lines.append((b"authorization", b"Bearer " + self.tokens[who].encode()))
        path, _, query = path.partition("?")
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": lines}
        status, found = 0, bytearray()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            found.extend(message.get("body", b""))

        await application(self.services)(scope, receive, send)
        return status, json.loads(bytes(found) or b"null")

    def done(self, who: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
        status, told = self.ask(who, method, path, body, **headers)
        assert status < 300, told
        return told

    def site(self, name: str) -> None:
        """A site that is admitted."""
        self.keys[name] = mine = Identity.create(self.services.blobs._root / f"{name}.key")

        def act(tx: Transaction) -> None:
            token, _ = accounts.join_token(tx, name, self.services.seconds())
            accounts.join(tx, token, name, mine.public, "", self.services.seconds())
            self.tokens[name] = accounts._issue(tx, f"site:{name}", "site", self.services.seconds(), 300)

        self.services.database.run_here(act)
        self.done("root", "POST", f"/v1/sites/{name}/admit", {"fingerprint": mine.fingerprint})

    def says(self, site: str, payload_type: str, values: dict[str, Any]) -> Reply:
        """An envelope of a site, with a payload that our own models need not have made."""
        return self.ask(site, "POST", "/v1/envelopes", seal(payload_type, canonical(values), self.keys[site]))

    def decides(self, site: str, plan: bytes, **other: Any) -> Reply:
        name = json.loads(plan)["name"]
        values = {"site": site, "study": name, "plan": digest(plan), "decision": "approve", "person": "Vera"}
        return self.says(site, Decision.TYPE, {**values, "accepts": ["plain"], "at": WHEN, **other})

    def submits(self, name: str, **other: Any) -> tuple[Reply, bytes]:
        plan, weights = freeze(study("sums", quorum=1))
        size = str(len(weights))
        self.done("rita", "PATCH", f"/v1/blobs/{digest(weights)}", weights, Upload_Offset="0", Upload_Length=size)
        payload = canonical({**json.loads(plan.payload), "name": name, **other})
        return self.ask("rita", "POST", "/v1/studies", {"plan": payload.decode()}), payload

    def drive(self) -> None:
        """What is due, until nothing is."""
        services = self.services
        performer = Performer(services.identity, services.shelf, services.name)
        driver = Driver(services.database, services.bell, services.identity, performer, services.name)

        async def act() -> None:
            for _ in range(20):
                if not (await driver._round_trip())[0]:
                    return

        asyncio.run(act())


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    Identity.create(tmp_path / "identity.key")
    settings = Settings(
        home=tmp_path, host="", port=1, url="https://localhost:1", database=f"sqlite:///{tmp_path / 'c.sqlite'}",
        blobs=tmp_path / "blobs", certificate=tmp_path, key=tmp_path, ca=None,
    )  # fmt: skip
    made = Coordinator(make_services(settings))

    def act(tx: Transaction) -> None:
        for name, role in (("root", "admin"), ("rita", "researcher")):
            accounts.add_person(tx, name, role, PASSWORD, made.services.now())

    made.services.database.run_here(act)
    for name in ("root", "rita"):
        made.tokens[name] = made.done("", "POST", "/v1/login", {"name": name, "password": PASSWORD})["access_token"]
    yield made
    made.services.database.close()


def test_a_key_with_a_nul_is_refused_by_name(coordinator: Coordinator) -> None:
    assert coordinator.ask("", "POST", "/v1/login", {"x\0y": 1})[0] == 422


@pytest.mark.parametrize("number", [2**31, 2**63, 10**30])
def test_numbers_that_no_database_keeps_are_refused_by_name(coordinator: Coordinator, number: int) -> None:
    coordinator.site("north")
    about = {"study": "sums", "run": "sums-1", "plan": NOTHING}
    blob = {"digest": NOTHING, "size": 0}
    answer = {**about, "kind": "TRAIN", "phase": "SUBMIT", "state": NOTHING, "recipe": "plain", "contribution": blob}
    for kind, values in (
        (Checkpoint.TYPE, {"log": "north", "seq": number, "head": NOTHING, "at": WHEN}),
        (Refusal.TYPE, {**about, "round": number, "reason": "x", "text": ""}),
        (Answer.TYPE, {**answer, "round": number}),
        (Answer.TYPE, {**answer, "round": 1, "contribution": {**blob, "size": 2**62 + number}}),
    ):
        status, told = coordinator.says("north", kind, values)
        assert (status, told["code"]) == (422, "envelope-invalid")


def test_a_time_without_a_zone_is_refused_and_keeps_nobody_from_the_run(coordinator: Coordinator) -> None:
    coordinator.site("north")
    coordinator.site("south")
    _, plan = coordinator.submits("sums")
    status, told = coordinator.decides("north", plan, expires="2099-01-01T00:00:00")
    assert (status, told["code"]) == (422, "envelope-invalid")
    coordinator.done("rita", "POST", "/v1/studies/sums/runs")
    coordinator.drive()
    assert coordinator.decides("south", plan)[0] == 200
    assert coordinator.done("rita", "GET", "/v1/runs/sums-1")["status"] == "running"


def test_whose_approval_has_ended_is_not_asked_whatever_its_own_clock_says(coordinator: Coordinator) -> None:
    """A hospital's guard goes by its own clock: set back, an approval stands there longer, and here it does not."""
    for name in ("north", "south"):
        coordinator.site(name)
    _, plan = coordinator.submits("sums")
    assert coordinator.decides("south", plan)[0] == 200
    assert coordinator.decides("north", plan, expires="2026-01-01T00:00:00+00:00")[0] == 200
    coordinator.done("rita", "POST", "/v1/studies/sums/runs")
    coordinator.drive()
    (opened,) = coordinator.done("rita", "GET", "/v1/runs/sums-1")["participation"]
    assert opened["roster"] == ["south"]


@pytest.mark.parametrize("name", ["n" * 51, "n" * 63])
def test_a_study_whose_runs_could_not_be_named_is_refused(coordinator: Coordinator, name: str) -> None:
    assert coordinator.submits(name)[0][0] == 422


def test_the_longest_name_of_a_study_gives_names_to_its_runs(coordinator: Coordinator) -> None:
    coordinator.site("north")
    (status, _), plan = coordinator.submits("n" * 50)
    assert status == 200
    coordinator.done("rita", "POST", f"/v1/studies/{'n' * 50}/runs")
    coordinator.drive()
    assert coordinator.decides("north", plan)[0] == 200
    assert coordinator.done("rita", "GET", f"/v1/runs/{'n' * 50}-1")["status"] == "running"


@pytest.mark.parametrize("title", ["a\0b", "\x1b[2Jallowed", "\x9b2J", "\u202edesrever"])
def test_a_title_that_moves_a_terminal_is_refused(coordinator: Coordinator, title: str) -> None:
    assert coordinator.submits("sums", title=title, sites=["north"])[0][0] == 422
    coordinator.site("north")


@pytest.mark.parametrize(
    "strategy", [{"name": "fedavg", "options": {"y" * 5000: 1}}, {"name": "fedavg", "options": {"\0": 1}},
                 {"name": "nobody-has-it", "options": {}}],
)  # fmt: skip
def test_a_strategy_that_cannot_be_made_fails_its_run_and_not_the_driver(
    coordinator: Coordinator, strategy: dict[str, Any]
) -> None:
    coordinator.submits("sums", strategy=strategy)
    coordinator.done("rita", "POST", "/v1/studies/sums/runs")
    coordinator.drive()
    assert coordinator.done("rita", "GET", "/v1/runs/sums-1")["status"] == "failed"


def test_many_guesses_at_once_are_no_more_than_many_in_a_row(coordinator: Coordinator) -> None:
    async def guess() -> list[type[BaseException]]:
        gate, now = coordinator.services.gate, coordinator.services.seconds()
        kept = coordinator.services.database.run_here(lambda tx: accounts.stored(tx, "rita"))

        async def once(at: float) -> bool:
            gate.may_try("rita", at)
            return await gate.right("rita", "not the password", kept, at)

        tries = await asyncio.gather(*(once(now + n / 1000) for n in range(30)), return_exceptions=True)
        assert [one for one in tries if not isinstance(one, BaseException)] == [False] * 10
        return [type(one) for one in tries if isinstance(one, BaseException)]

    assert asyncio.run(guess()) == [Refused] * 20
    assert coordinator.ask("", "POST", "/v1/login", {"name": "rita", "password": PASSWORD})[0] == 403
    assert coordinator.ask("", "POST", "/v1/login", {"name": "root", "password": PASSWORD})[0] == 200


def test_right_passwords_do_not_count(coordinator: Coordinator) -> None:
    for _ in range(12):
        coordinator.done("", "POST", "/v1/login", {"name": "rita", "password": PASSWORD})


def test_a_new_password_ends_the_tokens_that_the_old_one_got(coordinator: Coordinator) -> None:
    coordinator.done("rita", "GET", "/v1/studies")
    account = {"name": "rita", "role": "researcher", "password": "another horse"}
    coordinator.done("root", "POST", "/v1/people", account)
    coordinator.services.gate._known.clear()  # the bell, which does this, rings in the loop of a running coordinator
    assert coordinator.ask("rita", "GET", "/v1/studies")[0] == 401
    coordinator.done("root", "GET", "/v1/studies")


def test_a_password_that_is_changed_while_it_is_checked_gives_no_token(coordinator: Coordinator) -> None:
    """Checking takes its time, outside of any transaction: the account may be another one afterwards."""
    services = coordinator.services

    def during(change: Callable[[Transaction], object]) -> None:
        kept = services.database.run_here(lambda tx: accounts.stored(tx, "rita"))
        assert services.database.run_here(lambda tx: accounts.person_token(tx, "rita", kept, services.seconds()))
        services.database.run_here(change)
        with pytest.raises(Unauthenticated):
            services.database.run_here(lambda tx: accounts.person_token(tx, "rita", kept, services.seconds()))

    during(lambda tx: accounts.add_person(tx, "rita", "researcher", "another horse", services.now()))
    during(lambda tx: accounts.disable(tx, "rita", keep_an_admin=True))


def test_who_stopped_a_run_stands_in_the_audit_log(coordinator: Coordinator) -> None:
    coordinator.submits("sums")
    coordinator.done("rita", "POST", "/v1/studies/sums/runs")
    coordinator.done("root", "POST", "/v1/runs/sums-1/stop", {"reason": "no reason"})
    told = [json.loads(entry) for entry in coordinator.done("root", "GET", "/v1/audit")["entries"]]
    assert [one["body"] for one in told if one["kind"] == "stop"] == [{"run": "sums-1", "by": "root"}]


def test_a_full_disk_is_told_as_such_to_who_asks_and_to_the_operator_and_nothing_waits_for_it(
    coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    """A run stood still without a word in any log, and then the database was said not to answer."""
    database = coordinator.services.database

    def room(pages: int) -> None:
        asyncio.run(database.run(lambda tx: tx.connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar()))

    tokens = lambda: coordinator.ask("root", "POST", "/v1/tokens", {"site": "west"})  # noqa: E731
    room(1)
    told = next(told for told in iter(tokens, None) if told[0] != 200)
    assert [tokens()[0] for _ in range(12)] == [503] * 12
    assert told[0] == 503 and told[1]["message"] == "the disk of the database is full"
    assert told[1]["remedy"].startswith("make room on it")
    assert coordinator.ask("root", "GET", "/v1/sites")[0] == 200, "what only reads goes on"
    lines = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert lines[0].startswith("requests fail: the disk of the database is full; make room on it")
    assert len(lines) < 5, "no line for each"
    room(1 << 30)
    assert tokens()[0] == 200


def test_an_error_of_the_database_tells_no_values(coordinator: Coordinator) -> None:
    def act(tx: Transaction) -> None:
        tx.put(people, name="rita", role="researcher", password=PASSWORD, since=coordinator.services.now())

    with pytest.raises(IntegrityError) as caught:
        coordinator.services.database.run_here(act)
    assert PASSWORD not in str(caught.value)


def test_a_sender_beyond_its_quota_is_refused_by_name_and_others_are_not(coordinator: Coordinator) -> None:
    coordinator.services = replace(coordinator.services, keeping=Keeping(quota_gb=10 / (1 << 30)))
    coordinator.site("north")

    def sends(who: str, data: bytes, length: int) -> Reply:
        headers = {"Upload_Offset": "0", "Upload_Length": str(length)}
        return coordinator.ask(who, "PATCH", f"/v1/blobs/{digest(data)}", data, **headers)

    assert sends("north", b"123456", 6)[0] == 204
    assert sends("north", b"123456", 6)[0] == 204, "the same again takes no more room"
    status, told = sends("north", b"12345", 5)
    assert (status, told["code"]) == (413, "quota") and "quota_gb" in told["remedy"]
    assert sends("rita", b"12345", 5)[0] == 204
    assert sends("north", b"1", 4)[0] == 204, "a part of what was announced"
    assert sends("north", b"2", 1)[1]["code"] == "quota", "what was announced counts"


def test_uploads_that_begin_in_one_moment_share_the_quota(coordinator: Coordinator) -> None:
    """Each of them is small enough, and was asked about before any other was announced."""
    coordinator.services = replace(coordinator.services, keeping=Keeping(quota_gb=10 / (1 << 30)))
    coordinator.site("north")
    parts = [b"%06d" % number for number in range(6)]

    async def all_at_once() -> list[Reply]:
        headers = {"Upload_Offset": "0", "Upload_Length": "6"}
        return await asyncio.gather(
            *(coordinator.asks("north", "PATCH", f"/v1/blobs/{digest(part)}", part, **headers) for part in parts)
        )

    told = asyncio.run(all_at_once())
    assert sum(status == 204 for status, _ in told) <= 1
    assert {body["code"] for status, body in told if status != 204} == {"quota"}
    assert coordinator.services.blobs.begun("site:north", NOTHING) == 0, "what was refused is not announced any more"
    headers = {"Upload_Offset": "0", "Upload_Length": "4"}
    assert coordinator.ask("north", "PATCH", f"/v1/blobs/{digest(b'4444')}", b"4444", **headers)[0] == 204


def test_what_was_begun_is_counted_in_no_transaction(coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    """All who write wait for one, and a sender may have begun ten thousand uploads."""
    blobs, inside = coordinator.services.blobs, list[bool]()
    store = coordinator.services.database._own
    monkeypatch.setattr(blobs, "begun", lambda *_: inside.append(getattr(store, "store", False)) or 0)
    coordinator.done("rita", "PATCH", f"/v1/blobs/{digest(b'1')}", b"1", Upload_Offset="0", Upload_Length="1")
    assert inside == [False, False]


def test_a_refused_upload_leaves_nothing_in_memory_and_does_not_fix_its_length(coordinator: Coordinator) -> None:
    data = b"a blob"
    path, blobs = f"/v1/blobs/{digest(data)}", coordinator.services.blobs
    assert coordinator.ask("rita", "PATCH", path, b"", Upload_Offset="1", Upload_Length="9")[0] == 409
    assert not blobs._incoming
    coordinator.done("rita", "PATCH", path, data, Upload_Offset="0", Upload_Length=str(len(data)))
    assert blobs.path(digest(data)).read_bytes() == data


def test_a_hospital_that_was_removed_hears_that_and_nobody_else_does(coordinator: Coordinator) -> None:
    coordinator.site("north")
    now, other = coordinator.services.now(), Identity.create(coordinator.services.blobs._root / "other.key")

    def refused(name: str, key: Identity) -> str:
        assertion = key.assertion(name, accounts.AUDIENCE, now, f"{name}-{now}")
        status, told = coordinator.ask(
            "", "POST", "/v1/token",
            f"grant_type=client_credentials&client_assertion_type={GRANT}&client_assertion={assertion}".encode(),
        )  # fmt: skip
        return "" if status == 200 else str(told["message"])

    coordinator.done("root", "POST", "/v1/sites/north/remove")
    assert "has removed north" in refused("north", coordinator.keys["north"])
    for name, key in (("north", other), ("south", other)):
        assert refused(name, key) == "the assertion is not valid"


def test_whom_a_role_does_not_suffice_for_hears_what_it_was_and_for_whom(coordinator: Coordinator) -> None:
    for method, path, words, whom in (
        ("POST", "/v1/sites/north/acknowledge", "A person has seen the alarms about a site", "the role admin:"),
        ("GET", "/v1/audit", "Entries of the audit log", "the role auditor or admin:"),
    ):
        status, told = coordinator.ask("rita", method, path)
        assert status == 403 and words in told["message"] and whom in told["remedy"], told
