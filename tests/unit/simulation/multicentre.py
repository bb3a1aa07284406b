"""Survival of real patients by institution, as hospitals with table and mapping; for tests, and for bench/cox.py.

Needs no package: the script that asks lifelines runs in an environment of its own.
"""

import csv
import json
from bisect import bisect_right
from collections.abc import Sequence
from math import floor
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "multicentre"
Row = dict[str, float]
"""`time`, `event` and features of a patient."""
LUNG = {"age": [18, 100], "sex": [1, 2], "ecog": [0, 4]}
BREAST = {
    "age": [18, 100], "large": [0, 1], "nodes": [0, 60], "pgr": [0, 6000], "er": [0, 4000], "hormon": [0, 1],
}  # fmt: skip
"""Features, all numbers, and their plausible ranges."""
LAST, LUNG_LAST = 7100, 1100
"""No time is longer, in days; of lung cancer."""


EVERY = 30
GROUPS = (
    0, 480, 960, 1200, 1440, 1620, 1680, 1740, 1800, 1860, 1920, 1980, 2040, 2100, 2160, 2220, 2280, 2400, 2520,
    2640, 2760, 2880, 3000, 3120, 3240, 3360, 3480, 3600, 3840, 4800,
)  # fmt: skip
"""First days of groups of days, rounded to multiples of `EVERY`: those of `breast` in which two hospitals have
five patients or more in each cell."""


def grouped(sites: dict[str, list[Row]], starts: Sequence[float]) -> dict[str, list[Row]]:
    """The patients with the number of a group, from 1 on, in the place of a time."""

    def group(time: float) -> float:
        return float(bisect_right(starts, EVERY * floor(time / EVERY + 0.5)))

    return {site: [row | {"time": group(row["time"])} for row in patients] for site, patients in sites.items()}


def lung() -> dict[str, list[Row]]:
    """NCCTG lung cancer by institution, 18 of them: those with all that is asked, by days to death."""
    found: dict[str, list[Row]] = {}
    for row in _rows("lung.csv"):
        if row["inst"] and row["ph.ecog"]:
            numbers = {"age": row["age"], "sex": row["sex"], "ecog": row["ph.ecog"], "time": row["time"]}
            patient = {name: float(value) for name, value in numbers.items()} | {"event": float(row["status"]) - 1}
            found.setdefault(f"inst{float(row['inst']):02.0f}", []).append(patient)
    return dict(sorted(found.items()))


def breast() -> dict[str, list[Row]]:
    """The Rotterdam tumour bank, split in two, and the trial of the German group: days to recurrence or death."""
    found: dict[str, list[Row]] = {"gbsg": [], "rotterdam1": [], "rotterdam2": []}
    for row in _rows("rotterdam.csv"):
        recurred = row["recur"] == "1"
        told = {
            "time": float(row["rtime"] if recurred else row["dtime"]),
            "event": float(recurred or row["death"] == "1"),
        }
        site = f"rotterdam{1 + int(row['pid']) % 2}"
        found[site].append({**_markers(row), "large": float(row["size"] != "<=20"), **told})
    for row in _rows("gbsg.csv"):
        told = {"time": float(row["rfstime"]), "event": float(row["status"])}
        found["gbsg"].append({**_markers(row), "large": float(float(row["size"]) > 20), **told})
    return found


def _markers(row: dict[str, str]) -> Row:
    return {name: float(row[name]) for name in ("age", "nodes", "pgr", "er", "hormon")}


def _rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(newline="") as file:
        return list(csv.DictReader(file))


def tables(folder: Path, sites: dict[str, list[Row]], features: dict[str, list[int]]) -> dict[str, Path]:
    """A folder with table and mapping for each site; days stand there as weeks. Returns the mappings."""
    found = {}
    for site, patients in sites.items():
        home = folder / site
        home.mkdir(parents=True)
        with (home / "table.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "weeks", "died", *features])
            for number, row in enumerate(patients):
                died = "yes" if row["event"] else "no"
                writer.writerow([f"p{number}", repr(row["time"] / 7), died, *(f"{row[name]:g}" for name in features)])
        mapping: dict[str, Any] = {
            "mapping": 1, "contract": "survival", "source": {"type": "csv", "path": "table.csv"},
            "patient": {"column": "id"}, "features": {name: {"column": name, "unit": "1"} for name in features},
            "label": {"column": "died", "codes": {"yes": 1, "no": 0}, "time": {"column": "weeks", "unit": "wk"}},
        }  # fmt: skip
        (home / "mapping.yaml").write_text(json.dumps(mapping))
        found[site] = home / "mapping.yaml"
    return found


def study(features: dict[str, list[int]], quorum: int, last: int = LAST, **changes: Any) -> dict[str, Any]:
    """A study of them, by Newton's method."""
    number = {"type": "number", "unit": "1", "missing": "forbidden"}
    return {
        "consilium": 1, "name": "survival", "title": "Survival",
        "purpose": {"code": "research", "text": "a test", "requester": "the tests"},
        "contract": {
            "id": "survival",
            "features": [{"id": name, "meaning": name, **number, "range": ends} for name, ends in features.items()],
            "label": {"id": "death", "meaning": "death", "type": "time-to-event", "unit": "d", "range": [0, last]},
        },
        "model": {"kind": "cox"}, "strategy": {"name": "newton"}, "rounds": 8, "quorum": quorum, "min_patients": 1,
        "privacy": {"recipe": "secure_sum", "most_patients": 2000}, **changes,
    }  # fmt: skip
