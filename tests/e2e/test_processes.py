"""The coordinator as a process: it starts, answers over TLS, keeps what it acknowledged, and ends when told."""

import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import urllib3

from consilium.api import Federation, RemoteRun
from consilium.core.errors import Unauthenticated, Unavailable
from consilium.wire.connection import Connection
from e2e.coordinator import PASSWORD, Coordinator, refusal
from e2e.postgres import Postgres
from e2e.studies import start, study, submit

Make = Callable[[str | None], Coordinator]


def keeps_what_it_acknowledged(made: Coordinator) -> None:
    site, blob = made.join("north"), b"weights" * 1000
    name = site.send_blob(blob)
    made.process.kill()
    made.start()
    assert site.connection.request("GET", f"/v1/blobs/{name}").data == blob
    assert [row["site"] for row in made.admin.connection.get("/v1/sites")] == ["north"]


def test_after_a_power_cut_all_that_was_acknowledged_is_there(make_coordinator: Make) -> None:
    made = make_coordinator(None)
    keeps_what_it_acknowledged(made)
    assert made.stop() == 0, made.process.said
    assert "Traceback" not in made.process.said


def test_on_postgresql_two_processes_share_the_work_and_one_may_die(make_coordinator: Make, postgres: Postgres) -> None:
    made = make_coordinator(postgres())
    keeps_what_it_acknowledged(made)
    url, second = made.beside()
    try:
        site = made.join("south")
        other = Connection(url, made.ca, site.token)
        assert other.get("/v1/site")["state"] == "admitted"
        assert made.stop() == 0, made.process.said
        assert other.get("/v1/inbox")["items"] == []
        assert second.stop() == 0, second.said
    finally:
        second.kill()


def test_who_watches_a_run_stays_while_the_coordinator_is_restarted(make_coordinator: Make) -> None:
    made = make_coordinator(None)
    name = start(made.admin, submit(made.admin, study("watched")))
    federation = Federation(made.url, token=made.admin.token(), ca=made.ca)
    run = federation.run(name)
    views = run.views(wait_s=0.5)
    assert next(views)["run"] == name
    made.process.kill()
    with ThreadPoolExecutor() as aside:
        started = aside.submit(made.start)  # it takes a while to answer: the next view is asked for before
        assert next(views)["run"] == name
        started.result()
    run.stop("seen")
    assert [view["status"] for view in views][-1] == "stopped"


def test_who_starts_to_watch_without_a_coordinator_is_told_at_once(make_coordinator: Make) -> None:
    made = make_coordinator(None)
    federation = Federation(made.url, token=made.admin.token(), ca=made.ca)
    made.process.kill()
    with pytest.raises(Unavailable):
        next(RemoteRun(federation, "watched-1").views())


def test_a_client_that_does_not_trust_the_ca_does_not_connect(coordinator: Coordinator) -> None:
    error = refusal(lambda: Connection(coordinator.url).get("/v1/hello"))
    assert isinstance(error, Unavailable) and "certificate" in str(error).lower()


def test_plain_http_is_not_spoken(coordinator: Coordinator) -> None:
    with pytest.raises(urllib3.exceptions.HTTPError):
        urllib3.PoolManager(retries=False, timeout=5).request("GET", coordinator.url.replace("https", "http"))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused(coordinator: Coordinator) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(coordinator.ca)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(urllib3.exceptions.SSLError):
        urllib3.PoolManager(ssl_context=context, retries=False).request("GET", f"{coordinator.url}/v1/hello")


def test_a_wrong_password_and_an_unknown_name_look_the_same(coordinator: Coordinator) -> None:
    ask = {"password": "not the password"}
    known, unknown = (
        refusal(lambda n=name: coordinator.connection().post("/v1/login", {"name": n, **ask}))  # type: ignore[misc]
        for name in ("admin", "nobody")
    )
    assert isinstance(known, Unauthenticated) and str(known) == str(unknown)


def test_after_many_wrong_passwords_a_name_waits_and_another_does_not(coordinator: Coordinator) -> None:
    coordinator.person("slow", "auditor")

    def attempt(name: str, password: str = "not the password") -> str:
        body = {"name": name, "password": password}
        return type(refusal(lambda: coordinator.connection().post("/v1/login", body))).__name__

    assert {attempt("slow") for _ in range(10)} == {"Unauthenticated"}
    assert attempt("slow") == attempt("slow", PASSWORD) == "Refused"
    assert attempt("nobody-else") == "Unauthenticated"
