"""FHIR resources as a hospital's table: each view is a table, and one SELECT makes one row per patient.

The tables stand in memory, in a DuckDB that can open no file and no network.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb

from consilium.core.errors import EXTRA, DataUnusable, MappingInvalid
from consilium.data import closed, memory, ordering
from consilium.data.asking import rows_of
from consilium.data.base import Asked, Rows
from consilium.data.clock import Clock
from consilium.data.fhir import definition, links, pages, reading, versions
from consilium.data.fhir.leaving import Leaving
from consilium.data.fhir.views import View, compile_view
from consilium.data.merging import Merged, together
from consilium.data.selecting import one_select
from consilium.data.source import TableSource

SAID = (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException)
"""Faults of the query itself, whose words hold no value of a row."""

CAST = (
    "of dates in FHIR some may be a month or a year alone: give them as they are, where a contract is made of records; "
    "else write TRY_CAST(... AS DATE), which gives nothing there"
)


class FhirSource:
    """FHIR R4 or R5 through ViewDefinitions: NDJSON and Bundles (`path`: a file, or a folder of them), or a server."""

    def __init__(self, source: TableSource, folder: Path) -> None:
        if (source.path is None) == (source.url is None) or (source.url is None) != (source.fhir is None):
            raise MappingInvalid(
                "source.path: a source of type fhir needs a folder of NDJSON or Bundles (`path`), or `url` and `fhir`",
                "name one of both",
            )
        if not source.views:
            raise MappingInvalid("source.views: a source of type fhir needs a ViewDefinition", "name its file")
        if source.query is None and len(source.views) > 1:
            raise MappingInvalid(
                "source.query: several views are not one table",
                "write one SELECT over them that gives one row per patient",
            )
        files = {name: definition.several(folder / file) for name, file in source.views.items()}
        self._definitions = [one for several in files.values() for one in several]
        self._views = [(name, compile_view(one, marked=True)) for name, several in files.items() for one in several]
        first_of = {name: set(view.columns) for name, view in reversed(self._views)}
        if strange := [name for name, view in self._views if set(view.columns) != first_of[name]]:
            raise MappingInvalid(
                f"source.views: those of {strange[0]} differ in their columns", "give each its own name"
            )
        self._extracts: Path | None = None
        self._leaving: Leaving | None = None
        self._merged = Merged()
        self._path = (folder / source.path).resolve() if source.path is not None else None
        self._name, self._endpoint = source.path, _endpoint(source, self._views, folder)
        self._limit_s = source.time_limit_s
        first = f'SELECT * FROM "{next(iter(source.views))}"'  # noqa: S608
        self._given = one_select(source.query) if source.query else first

    def told(self, asked: Asked) -> None:
        """Where what is fetched may be kept, who opted out, and who was merged."""
        self._extracts, self._merged = asked.extracts, asked.merged
        column, out = asked.without
        views = [view for _, view in self._views]
        self._leaving = Leaving(column, out, list(zip(self._definitions, views)), asked.merged) if out else None

    def count(self) -> int:
        """Number of rows."""
        return len(self.rows())

    @contextmanager
    def _files(self) -> Iterator[tuple[list[Path], int]]:
        """Files, and how many of those who opted out are not in them any more."""
        if self._endpoint is not None:
            with self._endpoint.resources(self._extracts, self._leaving) as found:
                yield found
            return
        assert self._path is not None
        if not self._path.exists():
            raise DataUnusable(f"there is no {self._name} beside the mapping", "correct source.path")
        files = reading.files(self._path)
        pages.complete([path for path in files if path.name.endswith(reading.WHOLE)])
        yield files, 0

    def rows(self) -> Rows:
        """All rows, as text."""
        try:
            with self._files() as (files, left_out), closed.opened() as asked:
                merged = self._follow(files)
                if self._leaving is not None:
                    self._leaving.learn(files, merged)
                self._fill(asked.tables, files, merged if merged.person else None)
                clock = Clock(self._limit_s, "source.time_limit_s")
                answer, doubts = asked.answered(self._given, clock, ordering.TEXT)
                left_out = max(left_out, len(self._leaving.found) if self._leaving else 0)
                return replace(rows_of(*answer), left_out=left_out, doubts=doubts, merged=merged)
        except (duckdb.Error, ValueError, OverflowError) as error:
            memory.check(error, "source.query")
            memory.failed(error)
            words = f": {str(error).splitlines()[0]}" if isinstance(error, SAID) else ""
            raise DataUnusable(
                f"source.query does not fit the views ({type(error).__name__}){words}",
                CAST if isinstance(error, duckdb.ConversionException) else "correct the query or the views",
            ) from error

    def _follow(self, files: list[Path]) -> Merged:
        """Who was merged: by the Patients that are here, and by those of another source."""
        if self._endpoint is not None and "Patient" not in {view.resource for _, view in self._views}:
            return self._merged
        return together(links.follow(files), self._merged)

    def _fill(self, tables: Any, files: list[Path], merged: Merged | None) -> None:
        """Make the tables; once more, without what does not count, where a resource stood several times.

        What is wrong in a version that does not count is no finding.
        """
        seen = versions.Seen()
        kinds = {view.resource for _, view in self._views}
        try:
            noted = set[str]()
            _create(tables, self._views)
            for name, view in self._views:
                _fill(tables, name, view, files, None if view.resource in noted else seen, {}, self._leaving, merged)
                noted.add(view.resource)
            older = versions.older(files, kinds) if seen.twice else {}
        except DataUnusable:
            older = versions.older(files, kinds)
            if not older:
                raise
        if older:
            _create(tables, self._views)
        for name, view in self._views if older else ():
            _fill(tables, name, view, files, None, older, self._leaving, merged)


def _endpoint(source: TableSource, views: list[tuple[str, View]], folder: Path) -> Any:
    if source.url is None or source.fhir is None:
        return None
    from consilium.data.fhir.endpoint import Endpoint

    return Endpoint(source.url, source.fhir, sorted({view.resource for _, view in views}), folder)


def _fill(
    tables: Any, name: str, view: View, files: list[Path], seen: versions.Seen | None, older: versions.Older,
    leaving: Leaving | None, merged: Merged | None,
) -> None:  # fmt: skip
    """The rows of a view into the table of its name, batch by batch."""
    import pyarrow as pa

    from consilium.data.fhir import arrow

    for batch in (batch for path in files for batch in arrow.batches(view, path, 4096, seen, older, leaving, merged)):
        tables.register("batch", pa.Table.from_batches([batch]))
        tables.execute(f'INSERT INTO "{name}" BY NAME SELECT * FROM batch')  # noqa: S608
        tables.unregister("batch")


def _create(tables: Any, views: list[tuple[str, View]]) -> None:
    """A table without rows for each name."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MappingInvalid("source: FHIR needs pyarrow", EXTRA.format("fhir")) from error
    from consilium.data.fhir import arrow

    for name, view in views:
        tables.register("batch", pa.Table.from_batches([], arrow.schema(view)))
        tables.execute(f'CREATE OR REPLACE TABLE "{name}" AS SELECT * FROM batch')  # noqa: S608  a name of letters, digits and _
        tables.unregister("batch")
