"""A small blob is read with Range as a file is: the same status, headers and bytes, byte by byte."""

import asyncio
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from consilium.coordinator.transfers import _File, _inside, _part

HEADERS = {"ETag": '"sha256:x"'}


def answered(response: Any, asked: str | None) -> tuple[int, dict[str, str], bytes]:
    found: dict[str, Any] = {"body": b""}

    async def send(message: dict[str, Any]) -> None:
        found.update(message if message["type"] == "http.response.start" else {})
        found["body"] += message.get("body", b"") if message["type"] == "http.response.body" else b""

    headers = [] if asked is None else [(b"range", asked.encode())]
    scope = {"type": "http", "method": "GET", "headers": headers, "asgi": {"spec_version": "2.4"}}
    asyncio.run(response(scope, None, send))
    told = {name.decode(): value.decode() for name, value in found["headers"]}
    return found["status"], {name: text for name, text in told.items() if name != "last-modified"}, found["body"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(data=st.binary(max_size=50), first=st.integers(0, 60), last=st.none() | st.integers(0, 60), whole=st.booleans())
def test_it_is_the_answer_of_a_file(tmp_path: Path, data: bytes, first: int, last: int | None, whole: bool) -> None:
    asked = None if whole else f"bytes={first}-{'' if last is None else last}"
    assume(asked is None or _inside(asked, len(data)))
    path = tmp_path / "blob"
    path.write_bytes(data)
    file = _File(path, media_type="application/octet-stream", headers=dict(HEADERS))
    assert answered(_part(data, asked, HEADERS), asked) == answered(file, asked)
