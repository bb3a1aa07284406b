"""The tutorial is true: exactly its blocks, in their order, in a fresh folder, give what the page says."""

import sqlite3
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from consilium import studyfile
from consilium.data.mapping import load
from consilium.data.tables import SqlSource
from docs.pages import ROOT, blocks, missing, outputs

PAGE = ROOT / "docs" / "tutorial" / "first-study.md"


@pytest.mark.long
def test_the_first_study_runs_as_it_is_written(tmp_path: Path) -> None:
    told = blocks(PAGE)
    said = outputs(told, tmp_path)
    wrong = {f"line {block.line}": lines for block, lines in missing(told, said)}
    assert not wrong, "\n".join(f"{where}: not seen: {line}" for where, lines in wrong.items() for line in lines)
    assert (tmp_path / "diabetes.safetensors").stat().st_size > 0


def test_the_hospital_with_a_database_has_the_ages_and_labels_of_first_visits(tmp_path: Path) -> None:
    """Its query gives what Python makes of the two tables."""
    files = {block.title: block.text for block in blocks(PAGE) if block.title}
    for name in ("study.yaml", "ward.py", "data/east/mapping.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(files[name])
    subprocess.run([sys.executable, "ward.py"], cwd=tmp_path, check=True)
    path = tmp_path / "data/east/mapping.yaml"
    mapping = load(path, studyfile.read(tmp_path / "study.yaml").contract)
    found = SqlSource(mapping.source, path.parent).rows().columns
    with sqlite3.connect(tmp_path / "data/east/ward.db") as database:
        born = dict(database.execute("SELECT nr, born FROM persons"))
        visits = {nr: (day, grade) for nr, day, grade in database.execute(
            "SELECT nr, day, grade FROM visits ORDER BY day DESC")}  # fmt: skip
    database.close()
    ages = {
        nr: (date.fromisoformat(visits[nr][0]) - date.fromisoformat(day)).days // 365.25 for nr, day in born.items()
    }
    assert dict(zip(map(int, map(str, found["nr"])), map(float, map(str, found["age"])), strict=True)) == ages
    assert list(map(str, found["grade"])) == [str(visits[int(str(nr))][1]) for nr in found["nr"]]
