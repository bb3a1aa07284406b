"""A view over resources in files as Arrow record batches, in bounded memory. Needs the extra `fhir` (pyarrow)."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from consilium.core.errors import DataUnusable
from consilium.data.fhir import reading
from consilium.data.fhir.leaving import Leaving
from consilium.data.fhir.links import followed
from consilium.data.fhir.versions import Older, Seen, current
from consilium.data.fhir.views import Batch, Column, View
from consilium.data.merging import Merged

TYPES: dict[str, pa.DataType] = {
    "boolean": pa.bool_(), "decimal": pa.float64(), "integer": pa.int32(), "positiveInt": pa.int32(),
    "unsignedInt": pa.int32(), "integer64": pa.int64(),
}  # fmt: skip
"""By FHIR type; every other type is text as FHIR writes it, dates and times too: they are known to some precision."""


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
        resources, place = reading.resources(file, view.exact, view.resource)
        # Versions first: one that does not count any more may be another patient's than the one that does.
        if seen is not None:
            resources = seen.noted(resources, view.resource)
        if older and file in older:
            resources = current(resources, older[file])
        if merged is not None:
            resources = followed(resources, merged)
        if leaving is not None:
            resources = leaving.kept(resources)
        for batch in view.batches(resources, place, size):
            yield _batch(batch, wanted, file.name)


def _batch(batch: Batch, wanted: pa.Schema, name: str) -> pa.RecordBatch:
    made = []
    for field, values in zip(wanted, batch.columns.values()):
        try:
            made.append(pa.array(values, field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise DataUnusable(
                f"{name}: column {field.name} has a value that is no {field.type}", "correct its path or its type"
            ) from error
    return pa.RecordBatch.from_arrays(made, schema=wanted)
