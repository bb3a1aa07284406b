"""How-tos on a real federation: the notebook, a study with a wheel, and a hospital restored from an older copy."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import yaml

from consilium import plugins, studyfile
from consilium.algorithms import encode
from consilium.algorithms.base import LocalObjective
from consilium.console.cli import app
from consilium.core.gate import NONE
from consilium.data import base, contract, mapping
from consilium.notebook import write_hospitals
from consilium.training import sandbox
from docs.pages import ROOT, Block, blocks
from e2e.coordinator import PASSWORD
from e2e.federation import POLICY, Federation, federation, study
from e2e.processes import PATIENCE_S, environment, until

HOW_TO = ROOT / "docs" / "how-to"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("howtos"), hospitals=("north", "south")) as made:
        yield made


@pytest.fixture
def person(here: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the researcher olga, who is logged in; commands run in it."""
    for name, value in {"HOME": tmp_path / "session", "PASSWORD": PASSWORD, "CA": here.coordinator.ca}.items():
        monkeypatch.setenv(f"CONSILIUM_{name}", str(value))
    monkeypatch.chdir(tmp_path)
    assert app.run(["login", here.coordinator.url, "--name", "olga"]) == 0
    return tmp_path


def written(wanted: Any, path: Path = Path("study.yaml")) -> None:
    told = wanted.model_dump(mode="json")
    path.write_text(yaml.safe_dump({**told, "gate": told["gate"] or NONE}))


def test_a_check_that_is_demanded_is_seen_side_by_side(
    here: Federation, person: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = here.submit(study("checked", gate={}))
    here.hospitals["north"].approve(plan)
    table = here.hospitals["south"].mapping.parent / "table.csv"
    kept = table.read_text()
    table.write_text(kept.replace(",1\n", ",yes\n"))
    until(lambda: here.hospitals["south"].offered(plan), "south is offered it")
    code, _ = here.hospitals["south"].says("check", "checked", "--tell", "--mapping", table.parent / "mapping.yaml")
    table.write_text(kept)
    until(lambda: len(here.owner.connection.get("/v1/studies/checked")["checks"]) == 2, "both are known")
    capsys.readouterr()
    assert code == 1 and app.run(["study", "checks", "checked"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert " passed " in rows["north"] and "not passed" in rows["south"] and "large: label-codes" in rows["south"]
    assert rows["x"].split() == ["x", "100", "100"] and rows["large"].split()[1] == "100"
    assert app.run(["study", "show", "checked"]) == 0
    assert "passed" in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("north"))
    assert here.hospitals["south"].command("checks").splitlines()[-1].split()[1:4] == ["checked", "not", "passed"]


def notebook_cells() -> tuple[list[str], list[str]]:
    """Those that speak with a coordinator, and those that simulate."""
    page = HOW_TO / "work-from-a-notebook.md"
    cells = [block for block in blocks(page) if block.language == "python"]
    begins = page.read_text().splitlines().index("## Simulate, compare, report")
    return [one.text for one in cells if one.line < begins], [one.text for one in cells if one.line > begins]


@pytest.mark.long
def test_the_notebook_simulates_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    asked, rng, frames = study("my-study"), np.random.default_rng(1), []
    written(asked)
    for _ in range(3):
        x, y = np.clip(rng.normal(size=(2, 120)), -4, 4)
        frames.append({"x": x, "y": y, "large": (x + y > 0).astype(int)})
    names = dict(zip(("north", "south", "west"), frames))
    write_hospitals("hospitals", asked, names)
    given: dict[str, Any] = {"frame": frames[0], "other": frames[1]}
    _, cells = notebook_cells()
    for number, cell in enumerate(cells, start=1):
        exec(compile(cell, f"cell {number}", "exec"), given)
    assert len(opened) == 1 and len(given["simulated"].figures["sites"]) == 6
    assert list(given["compared"].frame().index) == ["as it is", "own", "longer"]


def test_the_notebook_runs_as_it_is_written(here: Federation, person: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells, _ = notebook_cells()
    cells[0] = cells[0].replace("https://fl.example.org:8443", here.coordinator.url).replace('"nora"', '"olga"')
    cells[0] = cells[0].replace('"ca.pem"', repr(str(here.coordinator.ca)))
    written(study("my-study"))
    notebook: dict[str, Any] = {"password": PASSWORD}
    exec(compile(cells[0], "cell 1", "exec"), notebook)
    plan = notebook["study"].plan
    for name in ("north", "south"):
        here.hospitals[name].approve(plan)
    for number, cell in enumerate(cells[1:], start=2):
        exec(compile(cell, f"cell {number}", "exec"), notebook)
    assert notebook["result"].figures["sites"]["north"]["auroc"]["n"] > 0
    assert (person / "model.safetensors").stat().st_size > 0
    assert (person / "report.html").read_text() == notebook["report"].html()
    reported(here, person, capsys)


def reported(here: Federation, person: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The report of a run at the coordinator, as the command writes it, with audit logs that are checked."""
    capsys.readouterr()
    logs = [("--audit", str(home)) for home in (here.coordinator.home, here.hospitals["north"].home)]
    assert app.run(["study", "report", "my-study", *(word for pair in logs for word in pair), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["hospital"] for row in told["figures"]} == {"all", "north", "south"}
    assert [(log["log"], log["intact"]) for log in told["audit"]] == [("coordinator", True), ("north", True)]
    assert told["audit"][0]["checkpoints_of_the_other_end"] > 0 and told["weaker"] == ["plain"]
    page = (person / "report.html").read_text()
    assert 'id="approvals"' in page and 'id="weaker-modes"' in page and 'id="attendance"' in page


@pytest.mark.long
def test_the_study_of_signals_is_written_mapped_and_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With made-up beats: those with a wide peak are ectopic."""
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (block,) = (b for b in blocks(HOW_TO / "learn-from-signals-and-images.md") if b.language == "python")
    exec(compile(block.text, "write_study.py", "exec"), {})
    asked = studyfile.read(Path("study.yaml"))
    rng, at = np.random.default_rng(1), np.linspace(-1, 1, 250)
    wide = rng.random(200) < 0.5
    beats = np.exp(-((at / np.where(wide, 0.3, 0.05)[:, None]) ** 2)) * 1000 + rng.normal(scale=100, size=(200, 250))
    columns = {f"{lead}_{number}": beats[:, number] for lead in ("ii", "v1") for number in range(250)}
    told = columns | {"patient_no": np.arange(200), "ectopic": wide.astype(int)}
    pyarrow.parquet.write_table(pyarrow.table(told), "beats.parquet")
    given = mapping.load(Path("heartbeats.yaml"), asked.contract)
    source = base.source(given.source, tmp_path, plugins.names("consilium.sources"))
    table = contract.apply(given, asked.contract, asked.evaluation, source.rows()).table
    x, trainer = encode.encode(asked.contract, table.columns), plugins.load("consilium.trainers", "torch")()
    model = trainer.initial(asked, encode.names(asked.contract))
    for number in range(4):
        model = trainer.train(asked, model, x, table.label, LocalObjective(), number)
    assert np.mean((trainer.predict(asked, model, x) > 0.5) == table.label) > 0.9


@pytest.mark.long
@pytest.mark.long
def test_a_wheel_is_built_read_allowed_and_trained(here: Federation, person: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("setuptools")
    if why := sandbox.available():
        pytest.skip(why)
    page = blocks(HOW_TO / "approve-a-wheel.md")
    wheel, digest = built(page)
    model = yaml.safe_load(next(block.text for block in page if "architecture" in block.text and not block.title))
    written(study("with-code", model={**model["model"], "wheel": digest}, quorum=2))
    assert app.run(["study", "submit", "study.yaml", "--wheel", str(wheel)]) == 0
    hospitals = [here.hospitals[name] for name in ("north", "south")]
    for hospital in hospitals:
        until(lambda hospital=hospital: hospital.says("review", "with-code")[0] == 0, "the study is offered")
        refused, said = hospital.says("approve", "with-code", "--person", "Vera", "--accept", "plain")
        assert refused == 3 and digest in said
        code = person / f"{hospital.name}-code"
        hospital.command("review", "with-code", "--code", code)
        assert (code / "heartnet.py").read_text() == next(b.text for b in page if b.title.endswith("heartnet.py"))
        policy = next(block.text for block in page if block.title == "policy.yaml")
        hospital.policy(re.sub("sha256:0+", digest, policy))
        words = ("approve", "with-code", "--person", "Vera", "--accept", "plain", "--mapping", hospital.mapping)
        hospital.command(*words)
    assert app.run(["study", "start", "with-code"]) == 0
    here.until("with-code-1", "finished")
    for hospital in hospitals:
        hospital.policy(POLICY)


def built(page: list[Block]) -> tuple[Path, str]:
    """The wheel of the page, built by the page's command; its path and digest."""
    for block in page:
        if block.title.startswith("heartnet/"):
            Path(block.title).parent.mkdir(exist_ok=True)
            Path(block.title).write_text(block.text)
    command = next(block.text for block in page if "pip wheel" in block.text)
    offline = command.replace("pip wheel", f"{sys.executable} -m pip wheel --no-build-isolation -q")
    done = subprocess.run(
        ["bash", "-ec", offline], env=environment(), capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    name, _, digest = (*done.stdout.split()[::-1], "", "")[:3]
    return Path(name), f"sha256:{_ or digest}"


def test_a_hospital_restored_from_an_older_copy(here: Federation, person: Path) -> None:
    north = here.hospitals["north"]
    plan = here.approved(study("restored"))
    copy = person / "copy"
    assert north.process.stop() == 0
    shutil.copytree(north.home, copy)
    north.process.start()
    here.until(here.start(plan), "finished")
    north.command("revoke", "restored", "--person", "Vera")
    until(lambda: decided(here, "north") == "revoke", "the coordinator hears of it")
    assert north.process.stop() == 0
    shutil.rmtree(north.home)
    shutil.copytree(copy, north.home)
    north.process.start()

    assert standing(here) == "approved", "the site has forgotten the revocation"
    run = here.start(plan)
    assert here.until(run, "paused")["participation"] == [], "the coordinator has not, and asks it for nothing"
    assert decided(here, "north") == "revoke"
    log = export(here, person)
    levels = {one["check"]: one["level"] for one in json.loads(north.says("doctor", "--json")[1])}
    assert levels["journal"] == "ok", "its log is whole in itself"
    assert app.run(["audit", "verify", "--home", str(north.home)]) == 0
    assert app.run(["audit", "verify", "--home", str(north.home), "--against", str(log)]) == 1

    north.command("revoke", "restored", "--person", "Vera")
    north.approve(plan)
    took_part = [entry["took_part"] for entry in here.until(run, "finished")["participation"]]
    assert took_part == [["north", "south"]] * 3, "it is whole again, and its numbers are where they were"


def decided(here: Federation, site: str) -> str:
    return str(here.owner.connection.get("/v1/studies/restored")["sites"][site]["decision"])


def standing(here: Federation) -> str:
    told = here.hospitals["north"].told("status")["studies"]
    return str(next(one["standing"] for one in told if one["study"] == "restored"))


def export(here: Federation, folder: Path) -> Path:
    """The coordinator's log, exported by its admin."""
    assert app.run(["login", here.coordinator.url, "--name", "admin"]) == 0
    assert app.run(["audit", "export", str(folder / "audit.json")]) == 0
    return folder / "audit.json"


def test_the_script_that_reads_the_log_reads_it(here: Federation, tmp_path: Path) -> None:
    (script,) = (block.text for block in blocks(HOW_TO / "read-the-audit-log.md") if block.language == "python")
    (tmp_path / ".consilium").mkdir()
    (tmp_path / ".consilium" / "site").symlink_to(here.hospitals["south"].home)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    entries = here.hospitals["south"].journal("SELECT entry FROM audit ORDER BY seq")
    kinds = [json.loads(entry)["kind"] for (entry,) in entries]
    assert [line.split(" ")[2] for line in done.stdout.splitlines()] == kinds and kinds[:3] == ["init", "send", "join"]
    assert os.environ.get("HOME") != str(tmp_path)
