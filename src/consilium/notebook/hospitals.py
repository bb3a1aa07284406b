"""Hospitals of a simulation: folders on file, or tables in memory, such as pandas data frames."""

import csv
import difflib
import io
import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from consilium.core.errors import ConsiliumError, DataUnusable, Invalid, NotFound
from consilium.core.study import Study
from consilium.core.timed import TIMED
from consilium.durable import naming, own
from consilium.simulation import local

Hospitals = str | Path | Mapping[str, Any]
"""A folder with one folder per hospital; or by hospital its mapping file, or its table in memory."""
PATIENT = "patient"
MAPPING, TABLE = "mapping.yaml", "patients.csv"
GIVE = "give a folder of hospitals; or by name each one's data frame, dict of columns, or mapping file"
LONGEST = 200
"""Bytes of a hospital's name, which is the name of its folder, and a part of names of files."""


def write_hospitals(folder: str | Path, study: Study, tables: Mapping[str, Any]) -> Path:
    """Write tables as folders of hospitals, each with its mapping, as `consilium simulate --hospitals` reads them.

    Args:    tables: by hospital, a pandas data frame or a dict of columns. Columns have the names, units and codes of
             the contract: one for each feature, and one for the label, 0 or 1 where it is binary. A time to event has
             its time beside it, in a column `LABEL_time`. A column `patient` says who a row is, unless the contract
             calls a feature or its label so: then each row is a patient. A feature without a
             column is one that the hospital does not have, unless there is one that differs by case or signs alone,
             as `WBC` does from `wbc`; None and NaN are missing.
    Returns: the folder. What is written there nobody but you may read.
    Raises:  Invalid: a hospital's name is none for a folder.
             DataUnusable: a table lacks what it must have, a label is neither 0 nor 1, or columns differ in
             length. Nothing is written then.
    """
    home = Path(folder)
    made = {
        name: (json.dumps(_mapping(study, name, table), indent=1), _text(name, table))
        for name, table in named(tables).items()
    }
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, (mapping, patients) in made.items():
        (home / name).mkdir(mode=0o700, exist_ok=True)
        for file, text in ((MAPPING, mapping), (TABLE, patients)):
            with naming(home / name / file), own(home / name / file) as out:
                os.fchmod(out.fileno(), 0o600)  # also of one that lay there
                out.write(text.encode())
    return home


def named(hospitals: Mapping[Any, Any]) -> dict[str, Any]:
    """The same by name as text, each of which can be the name of a folder, and of one alone. Raises: Invalid."""
    found: dict[str, Any] = {}
    for key, one in hospitals.items():
        name = str(key)
        if flaw := _flaw(name):
            raise Invalid(
                f"{name!r} cannot be the name of a hospital: {flaw}",
                "name it by letters, digits, blanks, - and _, such as 'St Mary-West'",
            )
        if name in found:
            raise Invalid(f"two hospitals have the name {name!r}", "give each a name of its own")
        found[name] = one
    return found


def _flaw(name: str) -> str:
    """Why a folder cannot have this name; empty if it can."""
    if not name.strip():
        return "it is empty"
    if strange := next((letter for letter in name if letter in "/\\" or not letter.isprintable()), None):
        return f"it holds {strange!r}"
    if name.startswith("."):
        return "it begins with a dot"
    return f"it is longer than {LONGEST} bytes" if len(name.encode()) > LONGEST else ""


@contextmanager
def mappings(study: Study, hospitals: Hospitals) -> Iterator[dict[str, Path]]:
    """The mapping file of each hospital, as long as it is needed."""
    if not isinstance(hospitals, Mapping):
        path = _path(hospitals)
        yield local.mappings(path) if path.is_dir() else {"all": path}
        return
    given = named(hospitals)
    if not given:
        raise Invalid("hospitals: there is none", GIVE)
    for name, one in given.items():
        if not isinstance(one, str | os.PathLike | Mapping) and not hasattr(one, "keys"):
            raise Invalid(f"hospitals: that of {name} is of type {type(one).__name__}, and no table", GIVE)
    files = {name: Path(one) for name, one in given.items() if isinstance(one, str | os.PathLike)}
    tables = {name: one for name, one in given.items() if name not in files}
    with tempfile.TemporaryDirectory(prefix="consilium-hospitals-") as folder:
        home = write_hospitals(folder, study, tables)
        with of_tables(tables):
            yield {**files, **{name: home / name / MAPPING for name in tables}}


@contextmanager
def of_tables(names: Iterable[str]) -> Iterator[None]:
    """Errors of these hospitals cite no mapping: nobody wrote one."""
    try:
        yield
    except ConsiliumError as error:
        of = "|".join(re.escape(name) for name in names)
        said = re.sub(rf"^((?:{of}): )?{re.escape(MAPPING)}(?::\d+)?: ", r"\1", error.message, flags=re.MULTILINE)
        error.message, error.args = said, (said,)
        raise


def _path(hospitals: Any) -> Path:
    """Of a folder or a file. Raises: Invalid, NotFound."""
    if not isinstance(hospitals, str | os.PathLike):
        raise Invalid(f"hospitals: something of type {type(hospitals).__name__} holds none", GIVE)
    path = Path(hospitals)
    if not path.exists():
        raise NotFound(f"hospitals: there is no {path}", GIVE)
    return path


def _mapping(study: Study, name: str, table: Any) -> dict[str, Any]:
    contract, columns = study.contract, set(map(str, table.keys()))
    label = contract.label.id
    wanted = [label, f"{label}_time"] if contract.label.type == TIMED else [label]
    unused = columns - {one.id for one in contract.features} - {*wanted, PATIENT}
    if lacking := [column for column in wanted if column not in columns]:
        raise _lacks(name, lacking[0], unused)
    for column in (PATIENT, *(one.id for one in contract.features)):
        if column not in columns and any(_plain(one) == _plain(column) for one in unused):
            raise _lacks(name, column, unused)
    if lacking := [one.id for one in contract.features if one.id not in columns and one.missing == "forbidden"]:
        raise _lacks(name, lacking[0], unused, ", and the contract does not allow a patient without it")
    codes = contract.label.type in ("binary", TIMED)
    if codes and (strange := sum(_cell(value) not in ("", "0", "1") for value in table[label])):
        raise DataUnusable(
            f"the table of {name}: in its column {label} {strange} values are neither 0 nor 1",
            "write 1 for who has the outcome, 0 for who has not, and None where nobody knows",
        )
    said: dict[str, Any] = {"column": label}
    if codes:
        said["codes"] = {"0": 0, "1": 1}
    if contract.label.type == TIMED:
        said["time"] = {"column": f"{label}_time", "unit": contract.label.unit}
    elif contract.label.unit is not None:
        said["unit"] = contract.label.unit
    features: dict[str, Any] = {}
    for one in contract.features:
        if one.id not in columns:
            features[one.id] = "absent"
        elif one.categories is None:
            features[one.id] = {"column": one.id, "unit": one.unit}
        else:
            features[one.id] = {"column": one.id, "codes": {code: code for code in one.categories}}
    other = PATIENT in (*wanted, *(one.id for one in contract.features))  # then the column is no key, but that
    patient = {"column": PATIENT} if PATIENT in columns and not other else {"row": True}
    source = {"type": "csv", "path": TABLE}
    return {
        "mapping": 1, "contract": contract.id, "source": source, "patient": patient, "features": features,
        "label": said,
    }  # fmt: skip


def _plain(column: str) -> str:
    """A name as far as its letters and digits go, in whichever case."""
    return re.sub(r"[\W_]", "", column.casefold())


def _lacks(name: str, column: str, unused: Iterable[str], why: str = "") -> DataUnusable:
    """That a table lacks a column; with the one that is called nearly so, and that nothing uses."""
    near = {_plain(one): one for one in sorted(unused)}
    found = difflib.get_close_matches(_plain(column), near, 1)
    message = f"the table of {name} has no column {column}{why}"
    if not found:
        return DataUnusable(message, "name columns as the contract does")
    return DataUnusable(
        f"{message}; there is one {near[found[0]]!r}",
        f"call it {column}, or leave it out of the table if it is not that",
    )


def _text(name: str, table: Any) -> str:
    columns = {str(column): list(table[column]) for column in table.keys()}  # noqa: SIM118  a data frame's are its columns
    if len({len(values) for values in columns.values()}) > 1:
        raise DataUnusable(f"the columns of {name} differ in length", "give one value for each patient")
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in zip(*columns.values(), strict=True))
    return out.getvalue()


def _cell(value: Any) -> str:
    """One value as text; a truth value or whole number as digits, for a label is told by codes."""
    if value is None or str(value) == "<NA>":  # of pandas, which is no number and equals nothing
        return ""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    if math.isnan(number):
        return ""
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
