"""Names of things, digests of bytes, and the one canonical JSON that is hashed."""

import hashlib
import json
import re
from typing import Any, NewType

SiteId = NewType("SiteId", str)
StudyId = NewType("StudyId", str)
RunId = NewType("RunId", str)
Digest = NewType("Digest", str)

COORDINATOR = SiteId("coordinator")
EVERYBODY = "everybody"
"""All patients of a hospital that its policy does not name apart."""
SLUG = r"^[a-z0-9][a-z0-9-]{0,62}$"
DIGEST = r"^sha256:[0-9a-f]{64}$"


def digest(data: bytes | memoryview) -> Digest:
    """SHA-256 of `data` as ``sha256:<64 hex>``.

    >>> digest(b"")[:14]
    'sha256:e3b0c44'
    """
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def is_digest(text: str) -> bool:
    """Whether `text` has the form of a digest."""
    return re.match(DIGEST, text) is not None and len(text) == 71


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
"""Made once: `json.dumps` makes one for each value."""


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8, no NaN: the bytes that are signed and hashed.

    >>> canonical({"b": 1, "a": "é"})
    b'{"a":"\\xc3\\xa9","b":1}'
    """
    return _ENCODER.encode(value).encode()
