"""The OpenAPI document, asked of a real coordinator by every kind of role, with what fits it and with what does not.

Whatever is asked: never a 5xx, and every answer is one that the document describes.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from consilium.coordinator.api import ENDPOINTS
from e2e import studies
from e2e.conftest import Make
from e2e.coordinator import Coordinator, Party
from e2e.postgres import Postgres
from e2e.processes import PATIENCE_S

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = {GenerationMode.POSITIVE: 2, GenerationMode.NEGATIVE: 4}
MANY = 5
"""How many times as many examples in `make test-long`."""
ROLES = ("anyone", "site", "researcher", "admin")
ASKED = [
    *(("sqlite", role, 1) for role in ("site", "admin")),
    *(pytest.param("sqlite", role, 1, marks=pytest.mark.long) for role in ("anyone", "researcher")),
    *(pytest.param("sqlite", role, MANY, marks=pytest.mark.long) for role in ROLES),
    pytest.param("postgresql", "admin", MANY, marks=pytest.mark.long),
]
"""PostgreSQL refuses other values than SQLite does; the one role that may ask for almost everything finds them."""


@dataclass(frozen=True)
class Asked:
    """A coordinator with one study that runs, its document, who asks, and the names that mean something there."""

    coordinator: Coordinator
    document: Any
    parties: dict[str, Party]
    places: dict[str, str]


@pytest.fixture(scope="module")
def sqlite(make_coordinator: Make) -> Iterator[Asked]:
    with asked(make_coordinator(None)) as found:
        yield found


@pytest.fixture(scope="module")
def postgresql(make_coordinator: Make, postgres: Postgres) -> Iterator[Asked]:
    with asked(make_coordinator(postgres())) as found:
        yield found


@contextlib.contextmanager
def asked(coordinator: Coordinator) -> Iterator[Asked]:
    researcher, north = coordinator.person("nora", "researcher"), coordinator.join("north")
    plan = studies.submit(researcher, studies.study("heart"))
    run = studies.start(researcher, plan)
    north.send(studies.decision(north, plan))
    try:
        studies.task(north, run)
    except TimeoutError as error:
        stands = researcher.connection.get(f"/v1/runs/{run}")
        raise AssertionError(f"{stands}\n{coordinator.process.said[-3000:]}") from error
    coordinator.join("spare", admit=False)
    coordinator.person("otto", "auditor")
    document = coordinator.connection().get("/v1/openapi.json")
    parties = {"site": north, "researcher": researcher, "admin": coordinator.admin}
    places = {"site": "spare", "study": "heart", "run": run, "digest": plan.digest, "person": "otto"}
    yield Asked(coordinator, schemathesis.openapi.from_dict(document), parties, places)
    assert "Traceback" not in coordinator.process.said, coordinator.process.said[-3000:]


def test_the_document_describes_every_endpoint(sqlite: Asked) -> None:
    sqlite.document.validate()
    described = {operation.ok().label for operation in sqlite.document.get_all_operations()}
    assert described == {endpoint.name for endpoint in ENDPOINTS}


@pytest.mark.parametrize(("kind", "role", "times"), ASKED)
@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
def test_every_answer_is_one_that_the_document_describes(
    kind: str, role: str, times: int, mode: GenerationMode, request: pytest.FixtureRequest
) -> None:
    of: Asked = request.getfixturevalue(kind)
    session = requests.Session()
    session.trust_env = False
    if role != "anyone":
        session.headers["Authorization"] = f"Bearer {of.parties[role].token()}"
    tried, wrong = 0, []
    for operation in of.document.get_all_operations():
        for places in (None, of.places):
            try:
                tried += ask(operation.ok(), session, of.coordinator, (mode, times), places)
            except FailureGroup as found:
                wrong += [f"{operation.ok().label}: {one}" for one in found.exceptions]
    assert not wrong, "\n\n".join(wrong)
    assert tried > 2 * times * len(ENDPOINTS), "almost nothing was asked"


def ask(
    operation: Any,
    session: requests.Session,
    coordinator: Coordinator,
    how: tuple[GenerationMode, int],
    places: dict[str, str] | None,
) -> int:
    """Ask one endpoint several times, of any thing or (`places`) of things that are there; how often it was asked."""
    named = {parameter.name for parameter in operation.path_parameters}
    if places is not None and not named:
        return 0
    kept = {name: places[name] for name in named} if places else None
    tried = 0
    mode, times = how

    @settings(
        max_examples=EXAMPLES[mode] * times, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        report_multiple_bugs=False, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode, path_parameters=kept))
    def once(case: Case) -> None:
        nonlocal tried
        tried += 1
        if isinstance(case.query, dict) and "wait" in case.query:
            case.query["wait"] = min(case.query["wait"], 0.01) if isinstance(case.query["wait"], int | float) else "x"
        response = case.call(base_url=coordinator.url, session=session, timeout=PATIENCE_S, verify=str(coordinator.ca))
        case.validate_response(response, checks=CHECKS)

    with contextlib.suppress(Unsatisfiable):  # there is nothing about this endpoint that could be wrong
        once()
    return tried
