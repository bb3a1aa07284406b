"""JSON of resources, where what is ambiguous is refused: a name that stands twice, a type that is almost the one.

What reads JSON keeps the last of two values and says nothing. To look for them costs as little as this: what was read
is written again, and if that is the same, or has as many colons, then no name was lost.
"""

import json
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a text that is no JSON makes `decoder` raise; and `Twice`."""
_WRITTEN = msgspec.json.Encoder(decimal_format="number")
COLON, ESCAPE = ord(":"), ord("\\")
NEAR = 2
"""Letters by which a type may differ from the wanted one, and be taken for it with a fault."""


class Twice(ValueError):
    """An object has a name twice."""


class Decoder:
    """From bytes to values. exact: whether numbers keep their digits, as Decimal."""

    def __init__(self, exact: bool) -> None:
        self._again = bytearray()
        self._read: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=Decimal if exact else None)

    def decode(self, data: bytes) -> Any:
        """The value. Raises: FAULTS, Twice."""
        found = self._read.decode(data)
        _WRITTEN.encode_into(found, self._again)
        if self._again == data.rstrip():  # as most servers write; to count takes longer than to read
            return found
        escaped = ESCAPE in data and (b"\\u003a" in data or b"\\u003A" in data)  # written again as one
        if data.count(COLON) != self._again.count(COLON) or escaped:
            json.loads(data, object_pairs_hook=_pairs)
        return found


def _pairs(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise Twice


@lru_cache(maxsize=1024)
def almost(kind: str, wanted: str) -> bool:
    """Whether a type is another than the wanted one by a letter or two: no two types of FHIR are so close.

    >>> almost("Patiemt", "Patient"), almost("Patient", "Patient"), almost("Group", "Patient")
    (True, False, False)
    """
    differ = sum(one != other for one, other in zip(kind, wanted))
    return len(kind) == len(wanted) and 0 < differ <= NEAR


def grave(found: Any) -> bool:
    """Whether an OperationOutcome tells of an error, and not of warnings alone."""
    issues = found.get("issue") if type(found) is dict else None
    several = issues if type(issues) is list else []
    return any(type(one) is dict and one.get("severity") in ("error", "fatal") for one in several)
