"""Newline-delimited JSON of FHIR resources, as Bulk Data exports have it; one resource at a time, gzip or not.

What is no resource is never passed over: a file that ends amid a line was not fetched whole, and its patients lack.
"""

import gzip
import zlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from consilium.core.errors import DataUnusable

LONGEST = 64 * 2**20
"""Bytes of one line."""


def resources(path: Path, exact: bool = False, kind: str = "") -> Iterator[tuple[int, Any]]:
    """Every resource of a file, with the number of its line.

    Args:    exact: whether numbers keep their digits, as Decimal.
             kind: lines of other resource types may be left out unread; all of them where it is "".
    Raises:  DataUnusable: a line is no resource, or the file cannot be read; says which, and no value.
    """
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=Decimal if exact else None)
    number, name, wanted = 0, path.name, f'"{kind}"'.encode() if kind else b""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            while line := file.readline(LONGEST):
                number += 1
                # A type is named by these bytes; what does not end as a line of JSON does is read, for it may be cut.
                if line.isspace() or (wanted not in line and line.endswith(b"}\n")):
                    continue
                found = decoder.decode(line)
                if type(found) is not dict or type(found.get("resourceType")) is not str:
                    raise DataUnusable(f"{name} line {number}: is no FHIR resource", "give one resource on each line")
                yield number, found
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataUnusable(
            f"{name} line {number}: is no JSON", "fetch the file anew: it may have been cut or altered"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataUnusable(f"{name} cannot be read after line {number}", "fetch the file anew") from error
