"""Whether a file of lines came whole, as far as it tells: packed, it unpacks to its end, and its last line has one.

A file that was cut amid a number still is a file of numbers, one of which is another. Where it was cut between two
lines nothing tells: the patients that lack are counted by nobody but the hospital.
"""

import csv
import gzip
import io
import itertools
import zlib
from pathlib import Path
from typing import IO

from consilium.core.errors import DataUnusable

ANEW = "fetch the file anew: it may have been cut or altered"
PIECE = 1 << 20


def opened(path: Path) -> IO[bytes] | gzip.GzipFile:
    """The bytes of a file, unpacked where its name ends in .gz."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def check(path: Path, name: str, encoding: str) -> None:
    """That a file ends as one of lines does. Raises: DataUnusable: it is empty, was cut, or cannot be read."""
    wide = encoding.lower() == "utf-16"
    try:
        last, size = _end(path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataUnusable(f"{name} cannot be read ({type(error).__name__})", ANEW) from error
    if not size:
        raise DataUnusable(f"{name} is empty", "fetch the file anew")
    ends = last in (b"\n\0", b"\0\n", b"\r\0", b"\0\r") and size % 2 == 0 if wide else last[-1:] in (b"\n", b"\r")
    if not ends:
        raise DataUnusable(
            f"{name}: its last line has no end, as in a file that was cut",
            "fetch the file anew; if it is whole, add a line break at its end",
        )


def _end(path: Path) -> tuple[bytes, int]:
    """The last two bytes, and the number of all."""
    if path.suffix != ".gz":
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(size - 2, 0))
            return file.read(), size
    last, size = b"", 0
    with opened(path) as file:
        while piece := file.read(PIECE):
            last, size = (last + piece)[-2:], size + len(piece)
    return last, size


def begins(path: Path, encoding: str, delimiter: str, count: int) -> list[list[str]]:
    """The first records that hold any field, as many of them; none where they cannot be read as such."""
    try:
        with opened(path) as file, io.TextIOWrapper(file, encoding=encoding, newline="") as text:
            return list(itertools.islice(filter(None, csv.reader(text, delimiter=delimiter)), count))
    except (OSError, EOFError, zlib.error, ValueError, TypeError, csv.Error):
        return []
