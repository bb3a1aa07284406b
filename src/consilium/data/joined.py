"""Several tables as one: each is read as a source of its own, and one SELECT makes one row per patient of them.

Two sheets of a workbook, two Parquet files, a file and a database: they stand in memory by their names, in a DuckDB
that can open no file and no network. All columns are text, as in a CSV file.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb

from consilium import plugins
from consilium.core.errors import ConsiliumError, DataUnusable, MappingInvalid
from consilium.data import base, catalogue, choosing, closed, failing, instants, memory, missed, needed, ordering
from consilium.data.anew import Anew
from consilium.data.asking import quoted, rows_of
from consilium.data.base import Asked, Rows
from consilium.data.clock import Clock
from consilium.data.merging import Merged, together
from consilium.data.selecting import one_select
from consilium.data.source import EXAMPLES, TableSource

SAID = (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException)
"""Faults of the query itself, whose words hold no value of a row."""
VALUES = (duckdb.DataError, duckdb.InvalidInputException)
"""Faults of a value, whose words hold it."""
AT_ONCE = 10_000
"""Rows that are handed over at once."""
TOLD = 30
"""Columns of a table that are told."""
TEXT = replace(ordering.TEXT, remedy=f"columns of `tables` are text: {ordering.CAST}")
WORD = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[^\W\d]\w*", re.DOTALL)
"""A name in a query; or a remark or a text, which is none."""
EVERY = re.compile(r"(?i)(?:\bselect(?:\s+distinct)?\s*|,\s*|\.)\*")
"""All columns of a table."""
MEANS = "a file is named under `tables`, and in the query by the name that it has there"


class JoinedSource:
    """One SELECT over `tables`."""

    def __init__(self, source: TableSource, folder: Path) -> None:
        if not source.tables or not source.query:
            raise MappingInvalid(
                "source.tables: a source of type tables needs them, and a SELECT over their names as `query`",
                f"such as {EXAMPLES['tables']}",
            )
        kinds = plugins.names("consilium.sources")
        self._tables = {}
        for name, given in sorted(source.tables.items()):
            if given.type in ("tables", "dicom"):
                raise MappingInvalid(
                    f"source.tables.{name}: type {given.type} is no single table", "such as csv or sql"
                )
            with _within(name):
                self._tables[name] = base.source(given, folder, kinds)
        self._given, self._without, self._columns = one_select(source.query), ("", frozenset[str]()), frozenset[str]()
        self._limit_s = source.time_limit_s
        self._meant: Mapping[str, str] = {}
        self._extracts: Path | None = None
        self._merged = Merged()
        self._named = frozenset[str]()
        self._linked = [name for name, given in sorted(source.tables.items()) if given.type == "fhir"]

    def told(self, asked: Asked) -> None:
        """Where what is fetched may be kept, and who opted out: of tables that have the column of the patient's key."""
        self._without, self._columns, self._extracts = asked.without, asked.columns, asked.extracts
        self._merged, self._meant = asked.merged, asked.meant
        for name in self._tables:
            self._tell(name, asked.merged)

    def _tell(self, name: str, merged: Merged) -> None:
        below = self._extracts / f"table-{name}" if self._extracts is not None else None
        one = self._tables[name]
        if isinstance(one, base.Told):
            with _within(name):
                one.told(
                    Asked(
                        extracts=below, without=self._without, merged=merged, named=self._named, units=bool(self._named)
                    )
                )

    def count(self) -> int:
        """Number of rows."""
        return len(self.rows())

    def rows(self) -> Rows:
        """All rows, as text."""
        clock, left_out = Clock(self._limit_s, "source.time_limit_s"), 0
        keys = dict[str, tuple[frozenset[str], bool]]()
        doubts: tuple[base.Note, ...] = ()
        columns, there = set[str](), dict[str, list[str]]()
        try:
            with closed.opened() as asked:
                self._name(asked.tables)
                linked, merged = self._of_links()
                for name in self._tables:
                    found = linked.pop(name, None) or self._read(name, merged)
                    keys[name] = self._keys(found), found.left_out > 0
                    _fill(asked.tables, name, found)
                    columns.update(found.columns)
                    there[name] = [*found.columns, *found.others]
                    left_out, doubts = (
                        max(left_out, found.left_out),
                        (*doubts, *found.doubts, *found.passed(name, self._given)),
                    )
                try:
                    answer, more = asked.answered(self._given, clock, TEXT, self._meant)
                except VALUES as error:
                    fail = clock.within(lambda: failing.casts(asked.tables, self._given), asked.interrupt)
                    raise _miscast(error, columns, fail) from error
                doubts += more
                made = rows_of(*answer)
                doubts += self._missed(asked, made, clock)
                keys["the query's answer"] = self._keys(made), False
                return replace(made, left_out=left_out, doubts=doubts, merged=merged, unmatched=_unmatched(keys))
        except VALUES as error:
            raise _miscast(error, columns, "") from error
        except (duckdb.Error, ValueError, OverflowError) as error:
            memory.check(error, "source.query")
            memory.failed(error)
            words = f": {str(error).splitlines()[0]}" if isinstance(error, SAID) else ""
            remedy = f"correct it; its tables are {_listed(there) or ', '.join(self._tables)}"
            if "VARCHAR" in words:
                remedy = "columns of `tables` are text: write CAST(... AS DOUBLE) or CAST(... AS DATE)"
            elif isinstance(error, duckdb.PermissionException):
                remedy = MEANS
            what = f"source.query does not fit its tables ({type(error).__name__}){words}"
            raise DataUnusable(what, remedy) from error

    def _missed(self, asked: closed.Closed, made: Rows, clock: Clock) -> tuple[base.Note, ...]:
        """Who is in the table of the query's patients, and in no row."""
        key, known = self._without[0], catalogue.of_duckdb(asked.tables)
        find = lambda: missed.missed(asked.tables, self._given, made, key, known)  # noqa: E731
        return missed.checked(find, Anew(clock, 0.0, asked.interrupt))

    def _name(self, tables: Any) -> None:
        """Tell each table which columns the query can need; all, where that is not known."""
        used = needed.columns(tables, self._given, self._tables)
        if used:
            self._named = used | ({self._without[0].casefold()} - {""})
            for name in self._tables:
                self._tell(name, self._merged)

    def _of_links(self) -> tuple[dict[str, Rows], Merged]:
        """Sources whose patients may be linked, each read by the links of all; and who was merged."""
        found, merged = dict[str, Rows](), self._merged
        for _ in range(2):
            for name in self._linked:
                if name in found and found[name].merged == merged:
                    continue
                self._tell(name, merged)
                found[name] = self._read(name, merged)
                merged = together(found[name].merged, merged)
        return found, merged

    def _read(self, name: str, merged: Merged) -> Rows:
        """A table, without who opted out by the key of any record of theirs."""
        column, out = self._without
        person = {choosing.key(one): choosing.key(of) for one, of in merged.person.items()}
        theirs = {person.get(one, one) for one in out}
        out |= {one for one, of in person.items() if of in theirs}
        with _within(name):
            found = choosing.without(self._tables[name].rows(), column, out)
            self._zoned(found)
        return replace(found, left_out=min(found.left_out, len(theirs)))

    def _keys(self, rows: Rows) -> frozenset[str]:
        """Keys of the patients in a table that has their column, where some opted out."""
        column, out = self._without
        return frozenset(map(choosing.key, rows.columns.get(column, ()) if out else ())) - {""}

    def _zoned(self, rows: Rows) -> None:
        """Raises: DataUnusable: the query speaks of instants, of which nobody knows the day."""
        words = {one[0].strip('"').casefold() for one in WORD.finditer(self._given)}
        for name in rows.instants:
            if name.casefold() in words or (EVERY.search(self._given) and name in (self._columns or {name})):
                raise instants.refused(name)


def _listed(there: dict[str, list[str]]) -> str:
    """Tables with their columns, in words."""
    return ", ".join(
        f"{name} ({', '.join(columns[:TOLD])}{', ...' if len(columns) > TOLD else ''})"
        for name, columns in there.items()
    )


def _unmatched(keys: dict[str, tuple[frozenset[str], bool]]) -> tuple[str, ...]:
    """Tables where nobody of the list is, and that have no key of a table in common where some are.

    One that has the same keys as that tells as much: nobody of the list is in it.
    """
    spelt = frozenset[str]().union(*(of for of, some in keys.values() if some))
    return tuple(name for name, (of, some) in keys.items() if spelt and of and not some and of.isdisjoint(spelt))


def _miscast(error: duckdb.Error, columns: set[str], fails: str) -> DataUnusable:
    """What a value of the error's words is, told without it: the column, and whether days are written otherwise.

    Args:    fails: which CAST, in words.
    """
    words = str(error).splitlines()[0]
    named = re.search(r"from source column (\w+)", words)
    of = f" of column {named[1]}" if named and named[1] in columns else ""
    days = any(re.fullmatch(ordering.DAY, text) for text in re.findall("[\"']([^\"']*)[\"']", words))
    strptime = "of days as 31.03.2024 write strptime(..., '%d.%m.%Y'), with the signs that stand between them"
    cast = "TRY_CAST(... AS DOUBLE) or TRY_CAST(... AS DATE), which gives nothing where there is none"
    remedy = f"{strptime}; else {cast}" if days else f"write {cast}; {strptime}"
    what = f"source.query: some value{of} is not what the query takes it for ({type(error).__name__})"
    what += f": {fails}" if fails else ""
    return DataUnusable(what, f"columns of `tables` are text: {remedy}; {failing.PROTECTS}")


@contextmanager
def _within(name: str) -> Iterator[None]:
    """What is wrong with one of the tables is told with its name."""
    try:
        yield
    except ConsiliumError as error:
        place = f"source.tables.{name}"
        told, remedy = (text.replace("source.", f"{place}.") for text in (error.message, error.remedy))
        raise type(error)(told if place in told else f"{place}: {told}", remedy) from error


def _fill(tables: Any, name: str, rows: Rows) -> None:
    """The rows as a table of this name."""
    names = [f"{_named(column)} VARCHAR" for column in rows.columns]
    if not names:
        raise DataUnusable(f"source.tables.{name}: has no column", "check its file")
    tables.execute(f'CREATE TABLE "{name}" ({", ".join(names)})')
    for at in range(0, len(rows), AT_ONCE):
        parts = ", ".join(_unnested(values[at : at + AT_ONCE]) for values in rows.columns.values())
        tables.execute(f'INSERT INTO "{name}" SELECT {parts}')


def _named(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _unnested(values: list[str | None]) -> str:
    """SQL of these values, one below the other."""
    return f"unnest(from_json({quoted(json.dumps(values, ensure_ascii=False))}, '[\"VARCHAR\"]'))"
