"""An OMOP CDM as a hospital's table: a cohort gives the persons, and each column is made of their records."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from consilium.core.errors import DataUnusable, MappingInvalid
from consilium.data.base import Asked, Rows
from consilium.data.databases import expanded
from consilium.data.omop.cohorts import Cohort
from consilium.data.omop.database import Database, Duck, Postgres
from consilium.data.omop.definition import PERSON, ColumnPart, OmopPart
from consilium.data.omop.entering import Persons
from consilium.data.omop.features import Column, Index, known, texts
from consilium.data.omop.tables import check
from consilium.data.omop.vocabulary import Item, load_set
from consilium.data.source import TableSource
from consilium.data.tables import file_of


class OmopSource:
    """OMOP CDM 5.3 or 5.4, in a DuckDB file (`path`) or in PostgreSQL (`url`)."""

    def __init__(self, source: TableSource, folder: Path) -> None:
        if source.omop is None:
            raise MappingInvalid("source.omop: a source of type omop needs its cohort and its columns")
        if (source.path is None) == (source.url is None):
            raise MappingInvalid("source.path: a source of type omop needs `path` (a DuckDB file), or `url`")
        self._source, self._folder, self._omop = source, folder, source.omop
        self._cohort = Cohort.of(source.omop.cohort, folder, "source.omop.cohort")
        self._columns = [_column(name, given, source.omop, folder) for name, given in source.omop.columns.items()]
        self._out: Persons = frozenset()

    def told(self, asked: Asked) -> None:
        """Who opted out."""
        column, out = asked.without
        self._out = out if column == PERSON else frozenset()

    @contextmanager
    def _opened(self) -> Iterator[Database]:
        with self._connect() as database:
            domains = self._cohort.domains().union(*(column.domains() for column in self._columns))
            check(database, self._omop.version, domains)
            yield database

    def _connect(self) -> AbstractContextManager[Database]:
        given = self._omop
        named = [name for name in (given.cdm_schema, given.vocabulary_schema) if name is not None]
        default = "main" if self._source.url is None else "public"
        schemas = [default, *named] if given.cdm_schema is None and named else named
        if self._source.url is not None:
            return Postgres(expanded(self._source.url), schemas, given.time_limit_s)
        file = file_of(self._source, self._folder)
        return Duck(file, str(self._source.path), schemas, given.time_limit_s)

    def count(self) -> int:
        """Number of rows: persons of the cohort."""
        with self._opened() as database:
            return len(self._index(database, self._cohort.left_out(database, self._out)))

    def rows(self) -> Rows:
        """All rows, as text, in the order of the persons' keys."""
        with self._opened() as database:
            left_out = self._cohort.left_out(database, self._out)
            index = self._index(database, left_out)
            made: dict[str, list[str | None]] = {PERSON: [str(person) for person in index]}
            for column in self._columns:
                found = texts(database, column, index) if index else {}
                made[column.name] = [found.get(person) for person in index]
        return Rows(made, left_out=left_out)

    def _index(self, database: Database, left_out: int) -> Index:
        index = self._cohort.index(database, self._out)
        if not index and left_out:
            return {}
        if not index:
            raise DataUnusable("source.omop.cohort: nobody is in it", "check its concepts and dates")
        if index.keys() != known(database, index, "source.omop.cohort"):
            raise DataUnusable(
                "source.omop.cohort has persons whom table person does not have", "correct the query, or load the table"
            )
        return index


def _column(name: str, given: ColumnPart, omop: OmopPart, folder: Path) -> Column:
    what = f"source.omop.columns.{name}"
    items = [Item(concept, given.descendants) for concept in given.concepts]
    items += [Item(concept, given.descendants, excluded=True) for concept in given.exclude]
    if given.concept_set is not None:
        items += load_set(folder / given.concept_set, given.concept_set, f"{what}.concept_set")
    cohort = Cohort.of(given.cohort, folder, f"{what}.cohort") if given.cohort is not None else None
    return Column(name, given, tuple(items), cohort, omop.version)
