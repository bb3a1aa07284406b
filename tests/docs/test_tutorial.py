"""The tutorials are true: exactly their blocks, in their order, in a fresh folder, give what the pages say."""

import csv
import re
import sqlite3
import subprocess
import sys
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


def hba1c(folder: Path, patient: str, first: date) -> str | None:
    """The latest one of the year that ends with the first visit."""
    with (folder / "data/lab.csv").open(encoding="latin-1") as file:
        rows = [
            (datetime.strptime(day, "%d.%m.%Y").date(), value)
            for nr, test, value, day in csv.reader(file, delimiter=";")
            if (nr, test) == (patient, "HBA1C")
        ]
    known = [(day, value) for day, value in rows if timedelta(0) <= first - day <= timedelta(365)]
    return max(known)[1].replace(",", ".") if known else None


def aged(born: str, day: str) -> int:
    """Whole years from a day of birth."""
    first, last = date.fromisoformat(born), date.fromisoformat(day)
    return last.year - first.year - ((last.month, last.day) < (first.month, first.day))
