"""Columns of Parquet that hold durations: stored as whole numbers, of a unit that the file's Arrow schema alone has."""

import base64
import struct
from dataclasses import dataclass

from consilium.core.errors import DataUnusable
from consilium.data.asking import Ask, named

SCHEMA = "ARROW:schema"
"""Where what wrote the file keeps it. Source: https://arrow.apache.org/docs/cpp/parquet.html, "Logical types"."""
DURATION, UNITS = 18, ("s", "ms", "us", "ns")
"""Of Schema.fbs of Arrow: the type, and its units by their numbers."""


@dataclass(frozen=True)
class _Table:
    """A table of FlatBuffers: its fields are found by a list of offsets. https://flatbuffers.dev/internals."""

    data: bytes
    at: int

    def place(self, number: int) -> int:
        """Where a field stands; 0: it is not there, and has its default."""
        offsets = self.at - _int(self.data, self.at)
        size = _short(self.data, offsets)
        offset = _short(self.data, offsets + 4 + 2 * number) if 4 + 2 * number < size else 0
        return self.at + offset if offset else 0

    def table(self, number: int) -> "_Table":
        place = self.place(number)
        return _Table(self.data, place + _int(self.data, place))


def _int(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<i", data, at)[0])


def _short(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<H", data, at)[0])


def of(ask: Ask, path: str) -> dict[str, str]:
    """By their names, the unit of each: s, ms, us or ns. path: of the file, as SQL."""
    _, found = ask(f"SELECT value FROM parquet_kv_metadata({path}) WHERE key = '{SCHEMA}'")  # noqa: S608  ours
    try:
        return durations(base64.b64decode(bytes(found[0][0]))) if found else {}
    except (ValueError, struct.error, IndexError):
        return {}


def durations(schema: bytes) -> dict[str, str]:
    """The same of an Arrow schema, as its IPC format has it. Raises: ValueError, struct.error, IndexError."""
    begins = 8 if schema[:4] == b"\xff" * 4 else 4
    message = _Table(schema, begins + _int(schema, begins))
    place = (header := message.table(2)).place(1)
    fields = place + _int(schema, place)
    found = {}
    for number in range(_int(schema, fields)):
        at = fields + 4 + 4 * number
        field = _Table(schema, at + _int(schema, at))
        if (kind := field.place(2)) and schema[kind] == DURATION:
            unit = (span := field.table(3)).place(0)
            text = (name := field.place(0)) + _int(header.data, name)
            told = schema[text + 4 : text + 4 + _int(schema, text)].decode()
            found[told] = UNITS[_short(span.data, unit) if unit else 1]
    return found


def picked(name: str, unit: str, every: bool) -> str:
    """SQL of the column: a text that is no number. every: nobody knows which columns are used.

    Raises: DataUnusable: it is used, and the unit of its numbers stands nowhere but in the file.
    """
    if not every:
        raise DataUnusable(
            f"column {name!r} holds durations, which are stored in {unit}",
            f"write numbers where the file is made, such as hours by {name}.dt.total_seconds() / 3600, and their unit "
            "into the mapping",
        )
    return f"CAST({named(name)} AS VARCHAR) || ' {unit}' AS {named(name)}"
