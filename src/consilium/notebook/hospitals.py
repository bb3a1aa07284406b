"""Hospitals of a simulation: folders on file, or tables in memory, such as pandas data frames."""

import csv
import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from consilium.core.errors import DataUnusable
from consilium.core.study import Study
from consilium.core.timed import TIMED
from consilium.simulation import local

Hospitals = str | Path | Mapping[str, Any]
"""A folder with one folder per hospital; or by hospital its mapping file, or its table in memory."""
PATIENT = "patient"
TABLE = "patients.csv"


def write_hospitals(folder: str | Path, study: Study, tables: Mapping[str, Any]) -> Path:
    """Write tables as folders of hospitals, each with its mapping, as `consilium simulate --hospitals` reads them.

    Args:    tables: by hospital, a pandas data frame or a dict of columns. Columns have the names, units and codes of
             the contract: one for each feature, and one for the label, 0 or 1 where it is binary. A time to event has
             its time beside it, in a column `LABEL_time`. A column `patient` says who a row is; a feature without a
             column is one that the hospital does not have; None and NaN are missing.
    Returns: the folder.
    Raises:  DataUnusable: a table lacks the label, or columns differ in length.
    """
    for name, table in tables.items():
        home = Path(folder) / str(name)
        home.mkdir(parents=True, exist_ok=True)
        (home / "mapping.yaml").write_text(json.dumps(_mapping(study, str(name), table), indent=1), encoding="utf-8")
        _write(home / TABLE, str(name), table)
    return Path(folder)


@contextmanager
def mappings(study: Study, hospitals: Hospitals) -> Iterator[dict[str, Path]]:
    """The mapping file of each hospital, as long as it is needed."""
    if not isinstance(hospitals, Mapping):
        path = Path(hospitals)
        yield local.mappings(path) if path.is_dir() else {"all": path}
        return
    files = {str(name): Path(one) for name, one in hospitals.items() if isinstance(one, str | Path)}
    tables = {str(name): one for name, one in hospitals.items() if str(name) not in files}
    with tempfile.TemporaryDirectory(prefix="consilium-hospitals-") as folder:
        write_hospitals(folder, study, tables)
        yield {**files, **(local.mappings(Path(folder)) if tables else {})}


def _mapping(study: Study, name: str, table: Any) -> dict[str, Any]:
    contract, columns = study.contract, set(map(str, table.keys()))
    label = contract.label.id
    wanted = [label, f"{label}_time"] if contract.label.type == TIMED else [label]
    if lacking := [column for column in wanted if column not in columns]:
        raise DataUnusable(f"the table of {name} has no column {lacking[0]}", "name columns as the contract does")
    said: dict[str, Any] = {"column": label}
    if contract.label.type in ("binary", TIMED):
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
    patient = {"column": PATIENT} if PATIENT in columns else {"row": True}
    source = {"type": "csv", "path": TABLE}
    return {
        "mapping": 1, "contract": contract.id, "source": source, "patient": patient, "features": features,
        "label": said,
    }  # fmt: skip


def _write(path: Path, name: str, table: Any) -> None:
    columns = {str(column): list(table[column]) for column in table.keys()}  # noqa: SIM118  a data frame's are its columns
    if len({len(values) for values in columns.values()}) > 1:
        raise DataUnusable(f"the columns of {name} differ in length", "give one value for each patient")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in zip(*columns.values(), strict=True))


def _cell(value: Any) -> str:
    """One value as text; a truth value or whole number as digits, for a label is told by codes."""
    if value is None:
        return ""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    if math.isnan(number):
        return ""
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
