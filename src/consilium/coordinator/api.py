"""The HTTP API: one list of endpoints, from which the routes and the OpenAPI document are made.

Order for every request: protocol version, who asks, may they (access.py), is the body right, then the endpoint.
Errors are `requests.Problem`; nothing that a caller sends leads to a 5xx.
"""

import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any
from urllib.parse import parse_qs, parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from consilium import __version__
from consilium.coordinator import access, accounts, admission, endpoints, recording, reopening, research, transfers
from consilium.coordinator.endpoints import Act, Call
from consilium.coordinator.problems import problem
from consilium.coordinator.services import Services
from consilium.core.errors import ConsiliumError, Invalid, NotFound, ProtocolMismatch, TooLarge
from consilium.store.database import Away
from consilium.wire import messages, requests
from consilium.wire.messages import HEADER, MAX_MESSAGE, PROTOCOL, PROTOCOLS
from consilium.wire.requests import Problem

log = logging.getLogger(__name__)
_SPOKEN, _OURS = frozenset(map(str, PROTOCOLS)), (HEADER.lower().encode(), str(PROTOCOL).encode())
OFTEN = ("GET /v1/inbox", "POST /v1/answers", "POST /v1/envelopes")
"""What every site asks in every round goes past the layers of the framework, which cost more than the answer."""


@dataclass(frozen=True)
class Endpoint:
    """One line of the API. `name` is its key in access.ACCESS."""

    name: str
    act: Act
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    reply: type[BaseModel] | None = None
    form: bool = False
    raw: bool = False  # the body is an envelope, or bytes that the endpoint reads itself

    @property
    def method(self) -> str:
        """HTTP method."""
        return self.name.split(" ")[0]

    @property
    def path(self) -> str:
        """Path template."""
        return self.name.split(" ")[1]


async def openapi(call: Call) -> Any:
    """This document."""
    return document()


A, E, R = admission, endpoints, research
ENDPOINTS = (
    Endpoint("GET /v1/hello", E.hello, reply=requests.Hello),
    Endpoint("GET /v1/ca", E.ca),
    Endpoint("GET /v1/openapi.json", openapi),
    Endpoint("POST /v1/join", E.join, requests.Join, reply=requests.Joined),
    Endpoint("POST /v1/token", E.token, E.TokenRequest, reply=requests.AccessToken, form=True),
    Endpoint("POST /v1/login", E.login, E.Login, reply=requests.AccessToken),
    Endpoint("GET /v1/site", E.site_self, reply=requests.Joined),
    Endpoint("GET /v1/inbox", E.read_inbox, query=E.After, reply=requests.Inbox),
    Endpoint("GET /v1/record", recording.own, reply=requests.Record),
    Endpoint("GET /v1/runs/{run}/said", E.said, query=E.Of, reply=requests.Said),
    Endpoint("GET /v1/runs/{run}/opening", E.opening, query=E.OfRound, reply=requests.Opening),
    Endpoint("POST /v1/envelopes", E.envelope, query=E.Next, raw=True),
    Endpoint("POST /v1/answers", transfers.answer, query=E.Next, raw=True),
    Endpoint("POST /v1/heartbeat", E.heartbeat, requests.Heartbeat, reply=requests.Beaten),
    Endpoint("HEAD /v1/blobs/{digest}", transfers.head),
    Endpoint("PATCH /v1/blobs/{digest}", transfers.append, raw=True),
    Endpoint("GET /v1/blobs/{digest}", transfers.read),
    Endpoint("POST /v1/people", A.add_person, A.Person),
    Endpoint("GET /v1/people", A.person_list),
    Endpoint("POST /v1/people/{person}/disable", A.disable_person, E.Nothing),
    Endpoint("POST /v1/tokens", A.join_token, A.ForSite),
    Endpoint("GET /v1/tokens", A.token_list),
    Endpoint("POST /v1/tokens/{site}/cancel", A.cancel_tokens, E.Nothing),
    Endpoint("GET /v1/sites", A.site_list),
    Endpoint("POST /v1/sites/{site}/admit", A.admit, A.Admission),
    Endpoint("POST /v1/sites/{site}/remove", A.remove, E.Nothing),
    Endpoint("POST /v1/sites/{site}/acknowledge", reopening.acknowledge, E.Nothing),
    Endpoint("POST /v1/sites/{site}/reopen", reopening.open_again, E.Nothing),
    Endpoint("POST /v1/studies", R.submit, R.Submission),
    Endpoint("GET /v1/studies", R.study_list),
    Endpoint("GET /v1/studies/{study}", R.study),
    Endpoint("GET /v1/studies/{study}/plan", R.study_plan),
    Endpoint("POST /v1/studies/{study}/runs", R.start, E.Nothing),
    Endpoint("POST /v1/runs/{run}/stop", R.stop, R.Reason),
    Endpoint("GET /v1/runs/{run}", R.run, query=R.Since),
    Endpoint("GET /v1/runs/{run}/events", R.run_events, query=E.After),
    Endpoint("GET /v1/runs/{run}/result", R.run_result),
    Endpoint("GET /v1/audit", R.read_audit, query=E.After),
    Endpoint("GET /v1/audit/links", reopening.links, query=E.After, reply=requests.Links),
    Endpoint("GET /v1/checkpoints", R.read_checkpoints),
)


def application(services: Services, lifespan: Any = None) -> Callable[..., Awaitable[None]]:
    """The ASGI application."""
    others, served = _routed(services, lifespan), {f"{e.method} {e.path}": _route(e, services) for e in ENDPOINTS}
    often = {name: served[name] for name in OFTEN}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        serve = often.get(f"{scope['method']} {scope['path']}") if scope["type"] == "http" else None
        if serve is None:
            await others(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await serve(request)
        except Exception as error:
            response = await _broken(request, error)
        await response(scope, receive, send)

    return app


def _routed(services: Services, lifespan: Any) -> Starlette:
    # HEAD stands before GET of the same path, for Starlette answers HEAD from GET routes.
    routes = [Route(e.path, _route(e, services), methods=[e.method]) for e in ENDPOINTS]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={404: _no_such_address, 405: _no_such_address, 500: _broken},
    )


def _route(endpoint: Endpoint, services: Services) -> Callable[[Request], Any]:
    async def serve(request: Request) -> Response:
        try:
            call = await _admit(endpoint, services, request)
            reply = await endpoint.act(call)
        except Away as error:
            client = request.client.host if request.client else "an unknown address"
            services.refusals.add(f"requests fail: {error.message}; {error.remedy}", client, services.seconds())
            return problem(error)
        except ConsiliumError as error:
            return problem(error)
        except ClientDisconnect:
            return Response(status_code=400)
        return _response(reply)

    return serve


async def _admit(endpoint: Endpoint, services: Services, request: Request) -> Call:
    _protocol(request)
    who, came = accounts.NOBODY, services.seconds()
    secret = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    if secret:
        who = await services.gate.who(secret, services.seconds())
    access.check(endpoint.name, who.role, endpoint.act.__doc__ or "")
    key = next(iter(request.path_params.values()), "")
    if not key.isprintable():
        raise NotFound("there is nothing at this address", "see /v1/openapi.json")
    query = _queried(endpoint.query, request.scope["query_string"]) if endpoint.query else None
    return Call(request, services, who, key, await _body(endpoint, request), query, came)


def _protocol(request: Request) -> None:
    spoken = request.headers.get(HEADER)
    if spoken is None or spoken in _SPOKEN:
        return
    theirs: int | str = (
        int(spoken) if spoken.isascii() and spoken.isdigit() and len(spoken) < 6 else "an unknown protocol"
    )
    raise ProtocolMismatch(*messages.mismatch(theirs))


async def _body(endpoint: Endpoint, request: Request) -> Any:
    if endpoint.method == "PATCH" or (endpoint.body is None and not endpoint.raw):
        return None
    data = await _whole(request)
    if endpoint.raw:
        return data
    assert endpoint.body is not None
    try:
        values = _form(data) if endpoint.form else json.loads(data or b"{}")
    except (ValueError, RecursionError) as error:
        raise Invalid("the body is not valid JSON", "send a JSON object") from error
    return _validated(endpoint.body, values)


async def _whole(request: Request) -> bytes:
    data, receive = bytearray(), request.receive  # a body comes in many pieces, and `stream` costs more than they do
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        data += message.get("body", b"")
        if len(data) > MAX_MESSAGE:
            raise TooLarge(f"a message holds at most {MAX_MESSAGE} bytes", "send bulk as a blob")
        if not message.get("more_body"):
            return bytes(data)


def _form(data: bytes) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(data.decode(), max_num_fields=20).items()}


@lru_cache(32)  # all sites of a phase ask with the same one; what is refused is not kept
def _queried(model: type[BaseModel], query: bytes) -> BaseModel:
    return _validated(model, dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)))


def _validated(model: type[BaseModel], values: Any) -> BaseModel:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise Invalid(f"{where}: {first['msg']}", "the OpenAPI document shows the form") from error


def _response(reply: Any) -> Response:
    if isinstance(reply, Response):
        reply.raw_headers.append(_OURS)
        return reply
    content = reply.model_dump(mode="json") if isinstance(reply, BaseModel) else reply
    return JSONResponse(content, headers={HEADER: str(PROTOCOL), "Cache-Control": "no-store"})


async def _no_such_address(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    told = Problem(code="not-found", message="there is nothing at this address", remedy="see /v1/openapi.json")
    return JSONResponse(told.model_dump(), status_code=status, headers=dict(getattr(error, "headers", None) or {}))


async def _broken(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    told = Problem(code="error", message="the coordinator failed on this request", remedy="its log says why")
    return JSONResponse(told.model_dump(), status_code=500)


@cache  # anybody may ask for it, and it takes its time
def document() -> dict[str, Any]:
    """The OpenAPI document, from the same list and the same models that serve."""
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    _schema(Problem, schemas)
    bearer = {"type": "http", "scheme": "bearer"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Consilium coordinator", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"bearer": bearer}},
    }


def _schema(model: type[BaseModel], schemas: dict[str, Any]) -> dict[str, str]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= schema.pop("$defs", {})
    schemas[model.__name__] = schema
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _operation(endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    names = [part[1:-1] for part in endpoint.path.split("/") if part.startswith("{")]
    parameters = [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]
    if endpoint.query is not None:
        for name, schema in endpoint.query.model_json_schema()["properties"].items():
            parameters.append({"name": name, "in": "query", "required": False, "schema": schema})
    if endpoint.method == "PATCH":
        for name in ("Upload-Offset", "Upload-Length"):
            number = {"type": "integer", "minimum": 0}
            parameters.append({"name": name, "in": "header", "required": True, "schema": number})
    good = {"description": "done"}
    if endpoint.reply is not None:
        good["content"] = {"application/json": {"schema": _schema(endpoint.reply, schemas)}}  # type: ignore[assignment]
    wrong = {"description": "refused"}
    if endpoint.method != "HEAD":  # which never has a body
        problem_ = {"$ref": "#/components/schemas/Problem"}
        wrong["content"] = {"application/json": {"schema": problem_}}  # type: ignore[assignment]
    operation: dict[str, Any] = {
        "summary": (endpoint.act.__doc__ or "").strip().splitlines()[0],
        "parameters": parameters,
        "responses": {"2XX": good, "4XX": wrong},
    }
    if access.ANYONE not in access.ACCESS[endpoint.name]:
        operation["security"] = [{"bearer": []}]
    kind = "application/x-www-form-urlencoded" if endpoint.form else "application/json"
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, "content": {kind: {"schema": _schema(endpoint.body, schemas)}}}
    elif endpoint.raw:
        bytes_ = endpoint.method == "PATCH" or endpoint.act is transfers.answer
        kind = "application/octet-stream" if bytes_ else "application/json"
        operation["requestBody"] = {"required": True, "content": {kind: {"schema": {}}}}
    return operation
