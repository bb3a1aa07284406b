"""`consilium site map`: written for a person to confirm, refused until then, and nothing is sent."""

import json
import random
import shlex
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from consilium import studyfile
from consilium.console.cli import app
from consilium.core.errors import Conflict, MappingInvalid, NotFound
from consilium.data.proposal.propose import Proposals
from consilium.site import questions, tables
from consilium.site.folder import Folder
from consilium.site.proposing import drafted, map_

STUDY = """
consilium: 1
name: sugar
title: Sugar
purpose: {code: research, text: t, requester: r}
contract:
  id: sugar
  features:
    - {id: age, meaning: age at visit, type: number, unit: a, range: [18, 110], missing: forbidden}
    - {id: sex, meaning: administrative sex, type: category, categories: {female: female, male: male}}
    - {id: glucose, meaning: fasting plasma glucose, type: number, unit: mg/dL, range: [40, 600]}
    - {id: pain, meaning: kind of chest pain, type: category, categories: {typical: typical, other: other}}
  label: {id: diabetes, meaning: diabetes was diagnosed, type: binary}
model: {kind: logistic}
rounds: 2
quorum: 2
min_patients: 20
privacy: {recipe: plain}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A site; beside it a study, and a table of 120 patients whose names, units and codes are others."""
    Folder.create(tmp_path / "site")
    (tmp_path / "study.yaml").write_text(STUDY)
    rng = random.Random(3)
    lines = ["PatNr;Alter;Geschlecht;Gluk;Brustschmerz;DM"]
    for row in range(120):
        glucose = -1 if row % 12 == 0 else round(rng.gauss(5.6, 0.8), 1)
        lines.append(f"{row};{rng.randint(20, 90)};{rng.choice('WM')};{glucose};{rng.choice('AB')};{rng.choice('01')}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "site"


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(map_, [*words, "--home", str(home)])


def proposed(home: Path, *words: str) -> Result:
    folder = home.parent
    output = () if "-o" in words else ("-o", str(folder / "mapping.yaml"))
    study = ("--study-file", str(folder / "study.yaml"))
    return run(home, *study, "--source", str(folder / "table.csv"), *output, *words)


def test_what_is_proposed_waits_for_a_person_and_then_serves(home: Path) -> None:
    path, study = home.parent / "mapping.yaml", studyfile.read(home.parent / "study.yaml")
    found = proposed(home, "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.output)
    mapping = yaml.safe_load(path.read_text())
    assert mapping["source"] == {"type": "csv", "path": "table.csv", "delimiter": ";"}
    assert mapping["patient"] == {"column": "PatNr"}
    assert mapping["features"]["glucose"] == {
        "column": "Gluk", "unit": "mmol/L", "analyte": "glucose", "missing": ["-1"],
    }  # fmt: skip
    assert mapping["features"]["sex"] == {"column": "Geschlecht", "codes": {"W": "female", "M": "male"}}
    assert mapping["features"]["pain"] == {"column": "Brustschmerz", "codes": {}}
    assert mapping["label"] == {"column": "DM", "codes": {"0": 0, "1": 1}}
    assert "say which of A, B means" in path.read_text()
    assert mapping["unconfirmed"] == told["unconfirmed"] == [
        "patient", "features.age", "features.sex", "features.glucose", "features.pain", "label"
    ]  # fmt: skip
    for left in (mapping["unconfirmed"], ["label"]):
        path.write_text(yaml.safe_dump({**mapping, "unconfirmed": left}))
        uses: tuple[Callable[[], Any], ...] = (
            lambda: tables.check(study, path),
            lambda: tables.kind(study, path),
            lambda: tables.prepare(study, path, home),
        )
        for use in uses:
            with pytest.raises(MappingInvalid, match=r"waits for a person: .*label"):
                use()
    path.write_text(yaml.safe_dump({key: value for key, value in mapping.items() if key != "unconfirmed"}))
    report = tables.check(study, path)
    assert (report.kept, report.features[2].usable, report.features[3].usable) == (120, 110, 0)
    assert [one.where for one in report.findings if one.blocks] == ["pain"], "what codes mean is not told yet"


def leads_on(found: Result) -> None:
    """What it says to type next finds the study and the mapping that were given."""
    assert found.exit_code == 0, found.output
    next_one = found.output.split("Then: `consilium ")[1].split("`")[0]
    assert "waits for a person" in str(CliRunner().invoke(app.root, shlex.split(next_one)).exception)


def test_nothing_is_sent_kept_or_overwritten(home: Path) -> None:
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    leads_on(proposed(home))
    after = {path: path.read_bytes() for path in home.rglob("*") if path.is_file() and "journal" not in path.name}
    assert after == {path: data for path, data in before.items() if "journal" not in path.name}
    assert isinstance(proposed(home).exception, Conflict)
    leads_on(proposed(home, "-o", str(home / "mappings" / "sugar.yaml")))
    assert yaml.safe_load((home / "mappings" / "sugar.yaml").read_text())["source"]["path"].startswith("/")


def test_a_policy_may_hide_more_codes(home: Path) -> None:
    (home / "policy.yaml").write_text("policy: 1\nmin_cell: 100\n")
    assert proposed(home).exit_code == 0
    found = yaml.safe_load((home.parent / "mapping.yaml").read_text())
    assert found["features"]["sex"]["codes"] == {} and "A, B" not in (home.parent / "mapping.yaml").read_text()


def test_of_several_tables_the_best_is_taken_and_the_others_are_told(home: Path) -> None:
    folder = home.parent / "export"
    folder.mkdir()
    lines = [line.split(";") for line in (home.parent / "table.csv").read_text().split()]
    (folder / "visits.csv").write_text("\n".join(",".join([*line[:3], line[5]]) for line in lines) + "\n")
    (folder / "labs.csv").write_text("\n".join(",".join([line[0], line[3]]) for line in lines) + "\n")
    (folder / "broken.parquet").write_bytes(b"no parquet")
    contract = studyfile.read(home.parent / "study.yaml").contract
    best = drafted(contract, str(folder), None, [], 10)
    assert best.table.title == "visits.csv"
    assert best.elsewhere == ("features.glucose could be Gluk of labs.csv",)
    assert best.others == ("broken.parquet", "labs.csv")
    assert [one.split(":")[0] for one in best.passed_over] == ["broken.parquet"]
    assert drafted(contract, str(folder), "labs.csv", [], 10).table.title == "labs.csv"
    with pytest.raises(NotFound, match="no table 'x'"):
        drafted(contract, str(folder), "x", [], 10)


def ward(home: Path) -> Path:
    """The table as two of a database."""
    rows = [line.split(";") for line in (home.parent / "table.csv").read_text().split()[1:]]
    with sqlite3.connect(home.parent / "ward.db") as database:
        database.execute("CREATE TABLE patienten (PatNr INTEGER, Alter_ INTEGER, Geschlecht TEXT)")
        database.execute("CREATE TABLE labor (PatNr INTEGER, Gluk REAL, DM INTEGER)")
        database.executemany("INSERT INTO patienten VALUES (?, ?, ?)", [row[:3] for row in rows])
        database.executemany("INSERT INTO labor VALUES (?, ?, ?)", [(row[0], row[3], row[5]) for row in rows])
    database.close()
    return home.parent / "ward.db"


def test_of_a_database_it_is_said_that_one_table_serves_and_how_to_join(home: Path) -> None:
    path = ward(home)
    with sqlite3.connect(path) as database:  # whose name says nothing: it is told beside TODO
        database.execute("ALTER TABLE patienten ADD COLUMN q7 INTEGER")
        database.execute("UPDATE patienten SET q7 = PatNr % 2")
    found = proposed(home, "--source", str(path))
    assert found.exit_code == 0, found.output
    text = (home.parent / "mapping.yaml").read_text()
    assert "One table serves: patienten, and not labor" in found.output and "--query" in found.output
    assert "# One table serves." in text and "# others: labor" in text
    source = yaml.safe_load(text)["source"]
    assert source["url"] == "sqlite:///ward.db", "beside the mapping"
    assert "# or: q7" in text and "q7" in source["query"], "who writes it need not mend the query"
    written = text.replace("label: {column: TODO}", 'label: {column: DM, codes: {"0": 0, "1": 1}}')
    (home.parent / "mapping.yaml").write_text("\n".join(one for one in written.split("\n") if "unconf" not in one))
    with pytest.raises(MappingInvalid, match="what the query gives has no column 'DM'") as refusal:
        tables.check(studyfile.read(home.parent / "study.yaml"), home.parent / "mapping.yaml")
    assert "header" not in refusal.value.remedy


def test_a_query_that_joins_is_looked_at_and_kept(home: Path) -> None:
    path, study = ward(home), studyfile.read(home.parent / "study.yaml")
    query = "SELECT PatNr, Alter_ AS Alter_J, Geschlecht, Gluk, DM FROM patienten JOIN labor USING (PatNr)"
    found = proposed(home, "--source", str(path), "--query", query)
    assert found.exit_code == 0 and "One table" not in found.output, found.output
    mapping = yaml.safe_load((home.parent / "mapping.yaml").read_text())
    assert mapping["source"] == {"type": "sql", "url": "sqlite:///ward.db", "query": query}
    assert mapping["features"]["glucose"]["column"] == "Gluk" and mapping["label"]["column"] == "DM"
    (home.parent / "mapping.yaml").write_text(
        yaml.safe_dump({key: value for key, value in mapping.items() if key != "unconfirmed"})
    )
    assert tables.check(study, home.parent / "mapping.yaml").kept == 120


def test_of_those_who_opted_out_nothing_is_looked_at(home: Path) -> None:
    """Without the forty patients of one code, it is not told."""
    lines = (home.parent / "table.csv").read_text().split()
    lines[1:41] = [line.replace(";W;", ";X;").replace(";M;", ";X;") for line in lines[1:41]]
    (home.parent / "table.csv").write_text("\n".join(lines) + "\n")
    (home.parent / "out.txt").write_text("\n".join(str(row) for row in range(40)) + "\n")
    assert proposed(home).exit_code == 0 and "X" in (home.parent / "mapping.yaml").read_text()
    (home.parent / "mapping.yaml").unlink()
    assert proposed(home, "--opt-out", str(home.parent / "out.txt")).exit_code == 0
    text = (home.parent / "mapping.yaml").read_text()
    assert "X" not in text and yaml.safe_load(text)["opt_out"] == {"path": "out.txt"}


def asked(home: Path, answers: str) -> tuple[Proposals, set[str], str]:
    """What a person who types this makes of the proposal."""
    contract = studyfile.read(home.parent / "study.yaml").contract
    draft, made = drafted(contract, str(home.parent / "table.csv"), None, [], 10), []

    @click.command()
    def dialog() -> None:
        made.append(questions.asked(draft.table.title, draft.of, 10))

    found = CliRunner().invoke(dialog, input=answers)
    assert found.exit_code == 0, (found.output, found.exception)
    return *made[0], found.output


def chosen(of: Proposals) -> dict[str, str | None]:
    return {one.want.id: one.chosen.column if one.chosen else None for one in of.of}


@pytest.mark.parametrize(
    ("answers", "confirmed"),
    [("y\n" * 4 + "c\ntypical\nother\ny\ny\n", {"patient", "features.age", "features.sex", "features.glucose",
                                               "features.pain", "label"}),
     ("\n" * 7, set()), ("y\ny\nq\n", {"patient", "features.age"}),
     ("l\nl\nl\nl\ny\nc\nmissing\nlater\nl\ny\n", {"label"})],
)  # fmt: skip
def test_a_person_confirms_line_by_line(home: Path, answers: str, confirmed: set[str]) -> None:
    """What is open cannot be confirmed: codes are asked for one by one."""
    of, found, said = asked(home, answers)
    assert found == confirmed
    assert chosen(of) == {
        "age": "Alter", "sex": "Geschlecht", "glucose": "Gluk", "pain": "Brustschmerz", "diabetes": "DM"
    }  # fmt: skip
    assert not any(f" {line.split(';')[3]} " in said for line in (home.parent / "table.csv").read_text().split()[1:])


def test_another_column_may_be_chosen(home: Path) -> None:
    text = (home.parent / "table.csv").read_text().split()
    more = [f"{line};{'Alter2' if row == 0 else line.split(';')[1]}" for row, line in enumerate(text)]
    (home.parent / "table.csv").write_text("\n".join(more) + "\n")
    of, found, _ = asked(home, "y\nnonesuch\nAlter2\ny\nq\n")
    assert chosen(of)["age"] == "Alter2" and found == {"patient", "features.age"}


@pytest.mark.parametrize(
    ("words", "kind"),
    [(("--source", "x"), click.UsageError), (("s", "--study-file", "study.yaml", "--source", "x"), click.UsageError),
     (("s", "--source", "x"), NotFound)],
)  # fmt: skip
def test_what_is_not_there_is_said(
    home: Path, words: tuple[str, ...], kind: type[Exception], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(home.parent)
    code = app.run(["site", "map", *words, "--home", str(home)])
    assert code == (2 if kind is click.UsageError else 5), capsys.readouterr().err
