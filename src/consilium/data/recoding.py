"""A file of text as DuckDB can read it: of Windows-1252, which Excel writes and DuckDB does not know, UTF-8 in memory.

Latin-1 is not the same: it has no €, no – and no quotes of Word, which DuckDB refuses there.
"""

import codecs
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from consilium.core.errors import DataUnusable
from consilium.data import whole

WINDOWS = "cp1252"


def literal(path: Path) -> str:
    """A path that DuckDB takes as it stands: to it, `labs[1].csv` would be any file of a pattern, such as labs1.csv."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))


@contextmanager
def readable(path: Path, encoding: str) -> Iterator[tuple[str, str, str]]:
    """Where the text is to be read, in which encoding and packed by what; nothing is put on disk for it.

    Raises:  DataUnusable: the file is none of that encoding, or cannot be unpacked.
    """
    if encoding.lower() != WINDOWS:
        yield literal(path), encoding, "gzip" if path.suffix == ".gz" else "none"
        return
    held = os.memfd_create("table")
    try:
        decoder = codecs.getincrementaldecoder(WINDOWS)()
        with whole.opened(path) as file, open(held, "wb", closefd=False) as made:
            while piece := file.read(whole.PIECE):
                made.write(decoder.decode(piece).encode())
    except (UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        os.close(held)
        raise DataUnusable(f"{path.name} is not {encoding}", "name its encoding as source.encoding") from error
    try:
        yield f"/proc/self/fd/{held}", "utf-8", "none"
    finally:
        os.close(held)
