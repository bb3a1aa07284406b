"""A sheet of an Excel workbook (.xlsx, .xlsm), read as text through openpyxl (extra `excel`). Never written, no macros.

A cell is what Excel showed last: a formula whose value was not saved is a finding, and no empty cell.
"""

import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

from consilium.core.errors import EXTRA, DataUnusable, MappingInvalid
from consilium.data.asking import left_out
from consilium.data.base import Asked, Rows
from consilium.data.choosing import key
from consilium.data.headers import once
from consilium.data.source import TableSource
from consilium.data.tables import file_of
from consilium.data.unused import of_name

LARGEST = 2 << 30
"""Bytes of an unpacked workbook: a small file may hold any number."""
ROWS = 1 << 20
"""Rows that a sheet of Excel has; what names a later one is none."""
PLAIN = re.compile(r'"[^"]*"|\[[^\]]*\]|[\\_*].')
"""What stands in a format as it is: texts, colours, and single letters."""
Cells = tuple[Any, ...]


class ExcelSource:
    """One sheet: the first row names the columns, and every other row is one of the table."""

    def __init__(self, source: TableSource, folder: Path) -> None:
        self._path, self._source, self._asked = file_of(source, folder), source, Asked()

    def told(self, asked: Asked) -> None:
        """Which columns are used, and who opted out."""
        self._asked = asked

    def count(self) -> int:
        """Number of rows."""
        return len(self.rows())

    def rows(self) -> Rows:
        """All rows, as text."""
        with closing(self._book(values=True)) as book:
            sheet = self._sheet(book)
            names, wanted, table, lacking, away = _table(sheet, self._asked)
            title = sheet.title
        if lacking:
            with closing(self._book(values=False)) as book:
                self._no_formula(book[title], lacking)
        columns = {names[at]: [row[place] for row in table] for place, at in enumerate(wanted)}
        others = tuple(name for name in names if name not in columns)
        unused = tuple((name, 0) for name in others if self._asked.units and of_name(name))
        return Rows(columns, others, left_out=left_out(away), unused=unused)

    def _book(self, *, values: bool) -> Any:
        try:
            from openpyxl import load_workbook
        except ImportError as error:
            raise MappingInvalid("source: Excel needs openpyxl", EXTRA.format("excel")) from error
        try:
            with zipfile.ZipFile(self._path) as packed:
                if sum(one.file_size for one in packed.infolist()) > LARGEST:
                    raise DataUnusable(f"{self._source.path} is too large", "export the sheet as CSV or Parquet")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they may quote the file
                return load_workbook(self._path, read_only=True, data_only=values, keep_links=False)
        except DataUnusable:
            raise
        except Exception as error:  # of a damaged file: whatever its parsers raise
            raise DataUnusable(
                f"{self._source.path} is no workbook that can be read ({type(error).__name__})",
                "save it anew as .xlsx, without a password",
            ) from error

    def _sheet(self, book: Any) -> Any:
        names = [sheet.title for sheet in book.worksheets]
        wanted = self._source.sheet
        if wanted is None and len(names) != 1:
            raise MappingInvalid("source.sheet: the workbook has several sheets", f"name one of {', '.join(names)}")
        if wanted is not None and wanted not in names:
            raise MappingInvalid(f"source.sheet: there is no sheet {wanted!r}", f"there are {', '.join(names)}")
        return book.worksheets[0] if wanted is None else book[wanted]

    def _no_formula(self, sheet: Any, empty: set[tuple[int, int]]) -> None:
        for number, row in enumerate(_rows(sheet), 1):
            for cell in row:
                if cell.value is not None and cell.data_type == "f" and (number, cell.column) in empty:
                    raise DataUnusable(
                        f"cell {cell.coordinate} of {sheet.title} has a formula whose value was not saved",
                        "open the workbook in Excel and save it, or paste values in place of formulas",
                    )


def _rows(sheet: Any) -> Iterator[Cells]:
    """Every row, from the first; what stands in none is an empty one.

    Raises: DataUnusable: it cannot be read, or rows or cells do not follow each other: openpyxl would lose them.
    """
    at = 0
    try:
        with warnings.catch_warnings(), sheet._get_source() as source:
            warnings.simplefilter("ignore")  # they quote values
            for number, row in _parser(sheet, source).parse():
                columns = [one["column"] for one in row]
                if not at < number <= ROWS or any(one >= other for one, other in pairwise(columns)):
                    raise DataUnusable(f"{sheet.title} has cells out of order", "save the workbook anew in Excel")
                yield from repeat((), number - at - 1)
                yield _cells(sheet, row)
                at = number
    except (DataUnusable, GeneratorExit):
        raise
    except Exception as error:  # of a damaged file: whatever its parsers raise
        raise DataUnusable(
            f"{sheet.title} cannot be read ({type(error).__name__})", "save the workbook anew"
        ) from error


def _parser(sheet: Any, source: Any) -> Any:
    """What openpyxl reads a sheet with; its own loop over it passes over what is out of order."""
    from openpyxl.worksheet._reader import WorkSheetParser

    book = sheet.parent
    return WorkSheetParser(
        source, sheet._shared_strings, data_only=book.data_only, epoch=book.epoch, date_formats=book._date_formats,
        timedelta_formats=book._timedelta_formats,
    )  # fmt: skip


def _cells(sheet: Any, row: list[Any]) -> Cells:
    from openpyxl.cell.read_only import EMPTY_CELL, ReadOnlyCell

    found = [EMPTY_CELL] * (row[-1]["column"] if row else 0)
    for one in row:
        found[one["column"] - 1] = ReadOnlyCell(sheet, **one)
    return tuple(found)


def _table(
    sheet: Any, asked: Asked
) -> tuple[list[str], list[int], list[list[str | None]], set[tuple[int, int]], list[str]]:
    """Names of all columns, places of those that are used, their text by row, which of their cells are empty, and keys
    of those who opted out, of whom no row is taken.
    """
    lines = _rows(sheet)
    header = next(lines, ())
    names = [_text(cell.value) or "" for cell in header]
    while names and not names[-1]:
        names.pop()
    if not names or not all(name.strip() for name in names):
        raise DataUnusable(
            f"the first row of {sheet.title} does not name every column", "give each column a name there"
        )
    once(names, sheet.title)
    wanted = [at for at, name in enumerate(names) if asked.uses(name)] or list(range(len(names)))
    column, out = asked.without
    patient = names.index(column) if out and column in names else len(names)
    table: list[list[str | None]] = []
    lacking: set[tuple[int, int]] = set()
    away: list[str] = []
    gap = 0
    for number, row in enumerate(lines, 2):
        who = _shown(row[patient]) if patient < min(len(row), len(names)) else None
        if who is not None and key(who) in out and not gap:
            away.append(who)
            continue
        found = [_shown(cell) for cell in row]
        if not any(found):
            gap = gap or number
            continue
        if gap:
            raise DataUnusable(
                f"row {gap} of {sheet.title} is empty, and others follow", "remove it, or what stands below the table"
            )
        if any(found[len(names) :]):
            raise DataUnusable(f"row {number} of {sheet.title} goes beyond the named columns", "name them, or clear it")
        found += [None] * (len(names) - len(found))
        lacking |= {(number, at + 1) for at in wanted if found[at] is None}
        table.append([found[at] for at in wanted])
    return names, wanted, table, lacking, away


def _shown(cell: Any) -> str | None:
    """The text of a cell; of one that Excel shows as so many percent that number, where it keeps a hundredth of it."""
    value = cell.value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (signs := _percent(cell.number_format)):
        return _text(value)
    return format((Decimal(repr(value)) * 100**signs).normalize(), "f")


@lru_cache(maxsize=1024)
def _percent(form: str) -> int:
    """How many signs of percent a format of numbers has that are none of a text in it.

    >>> [_percent(form) for form in ("0.0%", '0.0" %"', "General", "0\\\\%", "[Red]0 %;-0 %")]
    [1, 0, 0, 0, 1]
    """
    return PLAIN.sub("", form.partition(";")[0]).count("%")


def _text(value: Any) -> str | None:
    """As CSV would have it: a whole number without a point, dates and times as ISO 8601, nothing for an empty one."""
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ")
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
