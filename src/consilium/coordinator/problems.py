"""Errors on the wire: `requests.Problem`, with the status of its kind."""

from starlette.responses import JSONResponse, Response

from consilium.core.errors import (
    Conflict,
    ConsiliumError,
    Invalid,
    NotFound,
    ProtocolMismatch,
    Refused,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from consilium.wire.messages import HEADER, PROTOCOL
from consilium.wire.requests import Problem

STATUS: tuple[tuple[type[ConsiliumError], int], ...] = (
    (Invalid, 422),
    (Unauthenticated, 401),
    (Refused, 403),
    (NotFound, 404),
    (Conflict, 409),
    (TooLarge, 413),
    (ProtocolMismatch, 426),
    (Unavailable, 503),
)


def problem(error: ConsiliumError, status: int = 0, headers: dict[str, str] | None = None) -> Response:
    """An error on the wire, with `headers` of its own. `status`: another than that of its kind."""
    status = status or next((status for kind, status in STATUS if isinstance(error, kind)), 400)
    message, remedy = (text.replace("\x00", " ")[:4000] for text in (error.message, error.remedy))
    told = Problem(code=error.code, message=message, remedy=remedy, reason=getattr(error, "reason", ""))
    common = {HEADER: str(PROTOCOL)} | ({"WWW-Authenticate": "Bearer"} if status == 401 else {})
    return JSONResponse(told.model_dump(), status_code=status, headers=common | (headers or {}))
