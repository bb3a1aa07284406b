"""A view over resources in files as Arrow record batches, in bounded memory. Needs the extra `fhir` (pyarrow)."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from consilium.core.errors import DataUnusable
from consilium.data.fhir import reading
from consilium.data.fhir.leaving import Leaving
from consilium.data.fhir.links import followed
from consilium.data.fhir.reading import Page
from consilium.data.fhir.rows import Column
from consilium.data.fhir.versions import Older, Seen, current
from consilium.data.fhir.views import Batch, View
from consilium.data.merging import Merged

TYPES: dict[str, pa.DataType] = {
    "boolean": pa.bool_(), "decimal": pa.float64(), "integer": pa.int32(), "positiveInt": pa.int32(),
    "unsignedInt": pa.int32(), "integer64": pa.int64(),
}  # fmt: skip
"""By FHIR type; every other type is text as FHIR writes it, dates and times too: they are known to some precision."""
STRICT = (pa.string(), pa.bool_())
"""Types of which Arrow takes the same values as a column does, and no others: to look at each is to do it twice."""
MISFITS = (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError)


def schema(view: View) -> pa.Schema:
    """The columns of a view."""
    return pa.schema([pa.field(column.name, _type(column)) for column in view.columns])


def _type(column: Column) -> pa.DataType:
    plain = TYPES.get(column.type, pa.string())
    return pa.list_(plain) if column.collection else plain


def batches(
    view: View, path: Path, size: int = 4096, seen: Seen | None = None, older: Older | None = None,
    leaving: Leaving | None = None, merged: Merged | None = None,
) -> Iterator[pa.RecordBatch]:  # fmt: skip
    """The rows of a view over a file, or over all files of a folder; about `size` rows each.

    Args:    seen: where it is noted what was read.   older: resources that do not count.   leaving: who opted out.
             merged: whose resources are of another Patient.
    Raises:  DataUnusable: says file, line (or entry) and column, and no value.
    """
    wanted = schema(view)
    for file in reading.files(path):
        pages, place = reading.pages(file, view.exact, view.resource)
        passed = older.get(file, ()) if older else ()
        for batch in view.batches(
            (_counting(page, view.resource, seen, passed, leaving, merged) for page in pages), place, size
        ):
            yield _batch(batch, wanted, file.name)


def _counting(
    page: Page, kind: str, seen: Seen | None, older: Sequence[int], leaving: Leaving | None, merged: Merged | None
) -> Page:
    """What counts of a page."""
    if seen is not None:
        seen.note(page, kind)
    # Versions first: one that does not count any more may be another patient's than the one that does.
    if older:
        page = current(page, older)
    if merged is not None:
        page = list(followed(page, merged))
    return list(leaving.kept(page)) if leaving is not None else page


def _batch(batch: Batch, wanted: pa.Schema, name: str) -> pa.RecordBatch:
    made: list[pa.Array] = []
    try:
        for field in wanted:
            made.append(_array(batch, len(made), field.type))
    except MISFITS as error:
        _ = batch.columns  # what does not fit a column is told before what does not fit Arrow
        field = wanted[len(made)]
        raise DataUnusable(
            f"{name}: column {field.name} has a value that is no {field.type}", "correct its path or its type"
        ) from error
    return pa.RecordBatch.from_arrays(made, schema=wanted)


def _array(batch: Batch, number: int, wanted: pa.DataType) -> pa.Array:
    if wanted in STRICT:
        with suppress(*MISFITS):
            return pa.array(batch.found[number], wanted)
    return pa.array(batch.values(number), wanted)
