"""Why a CSV file cannot be read: the line and the cause, in words without any of its values.

What reads the tables (DuckDB) tells the cause together with the line's text, and often tells neither. So a file that it
refuses is gone through once more, by the same rules: the delimiter of the mapping, `"` around values, doubled inside.
"""

import csv
import io
import re
import zlib
from pathlib import Path

from consilium.core.errors import DataUnusable
from consilium.data import whole
from consilium.data.source import TableSource

ENCODINGS = ("utf-8", "utf-16", "latin-1", "cp1252")
"""What DuckDB decodes without extensions, which it would fetch from the network; and what `recoding` does."""
Flaw = tuple[str, str]
"""What is wrong, beginning with the line; and the remedy."""


def flaw(path: Path, given: TableSource) -> Flaw | None:
    """The first flaw of a file that could not be read, or None where it has none that is known here.

    Raises: DataUnusable: it cannot be read at all, or ends amid a line.
    """
    name = str(given.path)
    try:
        with whole.opened(path) as file:
            data = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataUnusable(f"{name} cannot be read ({type(error).__name__})", whole.ANEW) from error
    try:
        text = data.decode(given.encoding)
    except UnicodeDecodeError as error:
        line = _lines(data[: error.start].decode(given.encoding, "ignore"))
        remedy = f"name its encoding as source.encoding, one of {', '.join(ENCODINGS)}, or convert the file to utf-8"
        return f"line {line} is not {given.encoding}", remedy
    whole.check(path, name, given.encoding)
    return _record(text, given) or _ends(text)


def _lines(before: str) -> int:
    """The number of the line that follows what comes before it."""
    return len(re.findall(r"\r\n|\n|\r", before)) + 1


def _record(text: str, given: TableSource) -> Flaw | None:
    """The first record with another number of fields than the first, or with a quote that is not closed."""
    begins, wanted = 1, 0
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=given.delimiter, strict=True)
        for record in reader:
            wanted = wanted or max(len(record), len(given.columns))
            if record and len(record) != wanted:
                whose = "source.columns names" if begins == 1 else "the first line has"
                words = f"line {begins} has {_fields(len(record))} where {whose} {wanted}"
                return words, f"put values that hold {given.delimiter!r} in quotes; check source.delimiter and the line"
            begins = reader.line_num + 1
    except (TypeError, ValueError):
        return f"source.delimiter cannot be {given.delimiter!r}", "name what stands between two columns"
    except csv.Error as error:
        if "field limit" in str(error):
            return f"line {begins} has a value of more than {csv.field_size_limit()} letters", "check its quotes"
        words = f"line {begins} has a quote that opens and is not closed where its field ends"
        return words, "close it, and double each quote within a quoted value"
    return None


def _fields(count: int) -> str:
    return f"{count} field" if count == 1 else f"{count} fields"


def _ends(text: str) -> Flaw | None:
    """The first line that ends in another way than those before it."""
    ends = re.findall(r"\r\n|\n|\r", text)
    other = next((number for number, end in enumerate(ends, 1) if end != ends[0]), None)
    if other is None:
        return None
    return f"line {other} ends otherwise than those before it", "end all lines alike, such as by `dos2unix`"
