"""The tutorials are true: exactly their blocks, in their order, in a fresh folder, give what the pages say."""

import csv
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from consilium import plugins, studyfile
from consilium.data.base import source
from consilium.data.mapping import load
from docs.pages import ROOT, blocks, missing, outputs

PAGE = ROOT / "docs" / "tutorial" / "first-study.md"
MAPPED = PAGE.with_name("map-a-hospital.md")


@pytest.mark.long
def test_the_first_study_runs_as_it_is_written(tmp_path: Path) -> None:
    told = blocks(PAGE)
    said = outputs(told, tmp_path)
    wrong = {f"line {block.line}": lines for block, lines in missing(told, said)}
    assert not wrong, "\n".join(f"{where}: not seen: {line}" for where, lines in wrong.items() for line in lines)
    assert (tmp_path / "diabetes.safetensors").stat().st_size > 0


@pytest.mark.long
def test_a_hospital_is_mapped_as_it_is_written(tmp_path: Path) -> None:
    told = blocks(MAPPED)
    said = outputs(told, tmp_path)
    assert not {f"line {block.line}": lines for block, lines in missing(told, said)}


@pytest.mark.long
def test_the_hospitals_tables_give_ages_and_labels_of_first_visits_wherever_they_stand(tmp_path: Path) -> None:
    """Whole years, as Python counts them from the two tables."""
    files = {block.title: block.text for block in blocks(MAPPED) if block.title}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "data").rename(tmp_path / "mappings")
    subprocess.run([sys.executable, "ward.py"], cwd=tmp_path, check=True)
    study = studyfile.read(tmp_path / "study.yaml")
    with sqlite3.connect(tmp_path / "data/ward.db") as database:
        born = dict(database.execute("SELECT nr, born FROM persons"))
        visits = {nr: (day, krea, stage) for nr, day, krea, stage in database.execute(
            "SELECT nr, day, krea, dialysis FROM visits ORDER BY day DESC")}  # fmt: skip
    database.close()
    wanted = {nr: (aged(born[nr], day), krea, stage) for nr, (day, krea, stage) in visits.items()}
    sheets = (tmp_path / "mappings/mapping.yaml").read_text()
    parquet = re.sub(r"(persons|visits): \{.*", r"\1: {type: parquet, path: \1.parquet}", sheets)
    for text in (sheets, parquet, (tmp_path / "mappings/database.yaml").read_text()):
        (path := tmp_path / "data/mapping.yaml").write_text(text)
        given = load(path, study.contract).source
        found = source(given, path.parent, plugins.names("consilium.sources")).rows().columns
        rows = zip(found["nr"], found["age"], found["krea"], found["dialysis"], strict=True)
        assert {int(nr or 0): (int(age or 0), int(krea or 0), stage) for nr, age, krea, stage in rows} == wanted
    subprocess.run([sys.executable, "lab.py"], cwd=tmp_path, check=True)
    path.write_text((tmp_path / "mappings/three.yaml").read_text())
    found = source(load(path, study.contract).source, path.parent, plugins.names("consilium.sources")).rows().columns
    firsts = {str(nr): date.fromisoformat(day) for nr, (day, *_) in visits.items()}
    latest = {nr: hba1c(tmp_path, nr, day) for nr, day in firsts.items()}
    assert dict(zip(found["nr"], found["hba1c"], strict=True)) == latest
    pressure = dict(zip(found["nr"], found["systolic"], strict=True))
    for nr, day in firsts.items():
        known = [one for one in laboratory(tmp_path, nr, "rr") if timedelta(0) <= day - one[0] <= timedelta(365)]
        assert pressure[nr] == (max(known)[1].split("/")[0] if known else None)
    subprocess.run([sys.executable, "later.py"], cwd=tmp_path, check=True)
    path.write_text((tmp_path / "mappings/later.yaml").read_text())
    found = source(load(path, study.contract).source, path.parent, plugins.names("consilium.sources")).rows().columns
    told = dict(zip(found["nr"], found["dialysis"], strict=True))
    assert told == {nr: str(dialysed(tmp_path, nr, day)) for nr, day in firsts.items()}
    assert sum(one == "True" for one in told.values()) > 10


def dialysed(folder: Path, patient: str, first: date) -> bool:
    """Whether within a year after the first visit, under whichever number."""
    with (folder / "data/merged.csv").open() as file:
        new = dict(csv.reader(file))
    with (folder / "data/treatments.csv").open() as file:
        days = [date.fromisoformat(day) for nr, kind, day in list(csv.reader(file))[1:]
                if new.get(nr, nr) == patient and kind.upper() in ("HD", "PD")]  # fmt: skip
    return any(first < day <= first.replace(year=first.year + 1) for day in days)


def hba1c(folder: Path, patient: str, first: date) -> str | None:
    """The latest one of the year that ends with the first visit, in percent."""
    known = [(day, value, unit) for day, value, unit in laboratory(folder, patient, "hba1c")
             if timedelta(0) <= first - day <= timedelta(365)]  # fmt: skip
    if not known:
        return None
    _, value, unit = max(known)
    return value if unit == "%" else str(float(value) * 0.0915 + 2.15)


def laboratory(folder: Path, patient: str, test: str) -> Iterator[tuple[date, str, str]]:
    """Day, value and unit of a test of a patient, however the test is written."""
    with (folder / "data/lab.csv").open(encoding="latin-1") as file:
        for nr, name, value, unit, day in csv.reader(file, delimiter=";"):
            if (nr, name.strip().lower()) == (patient, test):
                yield datetime.strptime(day, "%d.%m.%Y").date(), value.replace(",", "."), unit


def aged(born: str, day: str) -> int:
    """Whole years from a day of birth."""
    first, last = date.fromisoformat(born), date.fromisoformat(day)
    return last.year - first.year - ((last.month, last.day) < (first.month, first.day))
