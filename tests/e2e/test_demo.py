"""The demo on real patients, its commands retyped, and a federation that is started again."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consilium.console.cli.app import run
from consilium.site.forkserver import NAME as FORKS
from e2e.federation import RUN_S
from e2e.processes import CONSILIUM, PATIENCE_S, Process, begin, end, environment, free_port, until

Json = dict[str, Any]
HEART = Path(__file__).parents[3] / "shared" / "data" / "heart_disease"
RAW = {"heart-disease": HEART}
RECIPES = {"breast-cancer": "secure_sum", "heart-disease": "plain"}
DEMOS = {"breast-cancer": [], "heart-disease": ["--data", HEART, "--recipe", "plain"]}
EVERY = ["breast-cancer", pytest.param("heart-disease", marks=pytest.mark.long)]
AGAIN_S = 60.0


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[dict[str, Process]]:
    """Those demos at once of which a test tells, each in a folder of its own; without the raw files, one."""
    folder = tmp_path_factory.mktemp("demos")
    tests = " ".join(item.name for item in request.session.items)
    started = {}
    for name, more in DEMOS.items():
        if name not in RAW or (RAW[name].exists() and name in tests):
            words = [CONSILIUM, "demo", *more, "--home", folder / name, "--json", folder / f"{name}.json"]
            started[name] = Process(words, folder / f"{name}.txt", {"COLUMNS": "80"})
            started[name].start()
    yield started
    for process in started.values():
        process.kill()


def told(demos: dict[str, Process], name: str) -> Json:
    """What a demo wrote, once it has ended well."""
    if name not in demos:
        pytest.skip(f"{HEART} is not here")
    until(lambda: not demos[name].alive, f"the demo {name} ends", RUN_S)
    log = demos[name].log
    assert demos[name].stop() == 0, demos[name].said[-3000:]
    found: Json = json.loads(log.with_suffix(".json").read_text())
    return found


@pytest.mark.parametrize("name", EVERY)
def test_every_hospital_takes_part_and_is_compared(demos: dict[str, Process], name: str) -> None:
    found = told(demos, name)
    sites = sorted(found["hospitals"])
    assert len(sites) == 4
    entries = found["participation"]
    assert [entry["round"] for entry in entries] == list(range(1, found["rounds"] + 2))
    assert all(entry["took_part"] == sites for entry in entries)
    document, home = demos[name].log.with_suffix(".json"), demos[name].log.parent
    of = ["--study", str(home / name / "hospitals" / "study.yaml"), "-o", str(home / f"{name}.html")]
    assert run(["study", "report", "--from", str(document), *of]) == 0, "its study's file is that of its plan"
    for facts in found["hospitals"].values():
        assert facts["rounds"] == found["rounds"] + 1 and facts["bytes"] > 0
        for model in ("own", "federated", "pooled"):
            auroc, accuracy = facts[model]["auroc"], facts[model]["accuracy"]
            assert auroc["n"] in (0, facts["test"])
            for one in (auroc, accuracy):
                judged = one["value"] is not None and one["low"] <= one["value"] <= one["high"]
                assert judged or one["note"].partition(":")[0] in ("too few", "withheld", "one class only")
    everybody = found["all"]
    assert everybody["federated"]["auroc"]["value"] > everybody["own_mean_auroc"]
    assert abs(everybody["federated"]["auroc"]["value"] - everybody["pooled"]["auroc"]["value"]) < 0.02
    seen = {"secure_sum": "figures of single hospitals are withheld", "plain": "each site signed that it accepts it"}
    assert found["privacy"].startswith(RECIPES[name]) and seen[RECIPES[name]] in found["privacy"]


@pytest.mark.parametrize("name", EVERY)
def test_who_judged_one_hospital_is_said(demos: dict[str, Process], name: str) -> None:
    """Under `secure_sum` the coordinator has figures of no single hospital: others must have told them."""
    found = told(demos, name)
    judged = [command["line"] for command in found["commands"] if "--model model.safetensors --json" in command["line"]]
    outside = [line for line in judged if "consilium baseline" in line]
    assert bool(outside) == (RECIPES[name] == "secure_sum")
    assert found["judged_by"] == ("one process outside of the federation" if outside else "the federation")


def test_stewards_compare_the_words_of_the_roster(demos: dict[str, Process]) -> None:
    found, said = told(demos, "breast-cancer"), demos["breast-cancer"].said
    lines = [command["line"] for command in found["commands"]]
    compared = [line for line in lines if "site compare" in line and "--words" in line]
    assert {re.search("--home sites/([a-z-]+)", line)[1] for line in compared} == found["hospitals"].keys()  # type: ignore[index]
    assert re.search(r"^  [a-z]+( [a-z]+){5}$", said, re.MULTILINE), "the words are shown"
    assert "Here one machine played all hospitals" in " ".join(said.split())
    assert not any("--accept" in line for line in lines), "nothing weaker was accepted"


@pytest.mark.parametrize("name", EVERY)
def test_every_audit_log_was_checked_against_the_other_end(demos: dict[str, Process], name: str) -> None:
    audit = told(demos, name)["audit"]
    assert len(audit["sites"]) == 4
    for log in (audit["coordinator"], *audit["sites"].values()):
        assert log["intact"] and log["entries"] > 0 and log["checkpoints_of_the_other_end"] > 0


@pytest.mark.parametrize("executor", ["processes", pytest.param("inline", marks=pytest.mark.long)])
@pytest.mark.parametrize("name", EVERY)
def test_a_simulation_ends_in_the_bytes_of_the_federation(demos: dict[str, Process], name: str, executor: str) -> None:
    """The command, on the hospitals' own tables, in plain mode and under a secure sum."""
    found, made = told(demos, name), demos[name].log.with_suffix("") / "hospitals"
    words = [CONSILIUM, "simulate", made / "study.yaml", "--hospitals", made, "--executor", executor, "--json"]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    alone = json.loads(done.stdout)
    assert (alone["recipe"], alone["plan"], alone["model"]) == (RECIPES[name], found["plan"], found["model"])
    pairs = [(alone["figures"]["all"], found["all"]["federated"])]
    pairs += [(alone["figures"]["sites"][site], facts["federated"]) for site, facts in found["hospitals"].items()]
    for simulated, federated in pairs:  # a federation hides small cells
        assert simulated.keys() == federated.keys()
        assert all(simulated[name] == one for name, one in federated.items() if one["value"] is not None)
    assert found["all"]["federated"]["auroc"]["value"] is not None


def test_what_is_printed_is_the_same_as_the_data(demos: dict[str, Process]) -> None:
    found, said = told(demos, "breast-cancer"), demos["breast-cancer"].said
    for line in found["environment"] + [command["line"] for command in found["commands"]]:
        assert f"$ {line}" in said
    assert len(re.findall(r"^\$ ", said, re.MULTILINE)) == len(found["environment"]) + len(found["commands"])
    table = said[said.index("What it is worth") :]
    for site, facts in found["hospitals"].items():
        assert re.search(rf"^{site} +{facts['rounds']} rounds +AUROC ", table, re.MULTILINE)
    assert f"{found['all']['federated']['auroc']['value']:.3f} (" in table and "one class only" in table
    assert found["model"] in table and "secure_sum: the coordinator saw sums" in table


@pytest.mark.long
def test_with_an_epsilon_it_trains_with_noise_and_says_what_that_says(tmp_path: Path) -> None:
    words = [CONSILIUM, "demo", "--epsilon", "3", "--home", tmp_path / "home", "--json", tmp_path / "found.json"]
    demo = Process(words, tmp_path / "demo.txt", {"COLUMNS": "80"})
    demo.start()
    try:
        until(lambda: not demo.alive, "the demo ends", RUN_S)
        assert demo.stop() == 0, demo.said[-3000:]
    finally:
        demo.kill()
    found: Json = json.loads((tmp_path / "found.json").read_text())
    assert "--epsilon 3" in found["commands"][0]["line"]
    assert all(len(entry["took_part"]) == 4 for entry in found["participation"])
    assert found["all"]["federated"]["auroc"]["value"] > 0.9
    assert "epsilon 3 at delta 0.0001" in found["privacy"] and "epsilon 3 at delta 0.0001" in found["learns"]
    said = " ".join(demo.said.split())
    assert "no noise is added" not in said
    assert found["budgets"].keys() == found["hospitals"].keys()
    for site, fact in found["budgets"].items():
        (everybody,) = fact["populations"]
        assert 3.0 <= everybody["spent"] <= 8.0, "the ledger's count is looser than the study's, and within the budget"
        assert f"{site} spent {everybody['spent']:.2f} of 8" in said


class Terminal:
    """A shell in which a person types line after line, and once more where the answer is to wait."""

    def __init__(self, folder: Path) -> None:
        self._said, tell = os.pipe()
        self._tell, self.log = tell, folder / "terminal.txt"
        path = f"{CONSILIUM.parent}{os.pathsep}{os.environ['PATH']}"
        with self.log.open("wb") as out:
            self._shell = begin(
                ["/bin/bash"], cwd=folder, env=environment(PATH=path), stdin=subprocess.PIPE, stdout=out, stderr=out,
                pass_fds=(tell,),
            )  # fmt: skip

    def type(self, line: str) -> None:
        assert self._shell.stdin is not None
        ends = time.monotonic() + PATIENCE_S
        status = 4
        while status in (4, 5) and time.monotonic() < ends:
            self._shell.stdin.write(f"{line}\necho $? >&{self._tell}\n".encode())
            self._shell.stdin.flush()
            status = int(os.read(self._said, 16))
        assert status == 0, f"{line}: {status}\n{self.log.read_text()[-2000:]}"

    def close(self) -> None:
        end(self._shell.pid)
        self._shell.communicate()
        os.close(self._said)
        os.close(self._tell)


@pytest.mark.long
def test_the_commands_retyped_give_the_same_model(demos: dict[str, Process], tmp_path: Path) -> None:
    found = told(demos, "breast-cancer")
    terminal = Terminal(tmp_path)
    try:
        for line in found["environment"][1:]:  # the first one goes to a new folder: this one
            terminal.type(line)
        for command in found["commands"]:
            terminal.type(f"{command['line']} &" if command["background"] else command["line"])
            if "study result" in command["line"]:
                break  # what follows compares and checks, and leaves the model as it is
        terminal.type("consilium study result breast-cancer --json > result.json")
    finally:
        terminal.close()
    assert json.loads((tmp_path / "result.json").read_text())["state"]["digest"] == found["model"]
    first = demos["breast-cancer"].log.with_suffix("")
    assert (tmp_path / "model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()


def refused(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> str:
    assert run(words) == code
    said = capsys.readouterr()
    assert "$" not in said.out, "nothing was started"
    return said.err


def test_what_cannot_be_done_is_said_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("the only copy")
    said = refused(["demo", "--data", str(tmp_path)], 5, capsys)
    assert "has no processed.cleveland.data" in said and "Next: give the folder with" in said
    for command in ("demo", "up"):
        assert "--home" in refused([command, "--home", str(tmp_path / "full")], 6, capsys)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            said = refused([command, "--home", str(tmp_path / "new"), "--port", port], 6, capsys)
            assert f"port {port} of this machine is in use" in said and "Next: choose another" in said
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    assert not (tmp_path / "new").exists()


def descendants(pid: int) -> set[int]:
    """Children of a process, and theirs."""
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found |= {child} | descendants(child)
    return found


def running(pids: set[int], home: str) -> set[int]:
    """Those of the processes that are the agent of this folder."""
    words = {pid: Path(f"/proc/{pid}/cmdline") for pid in pids}
    return {pid for pid, path in words.items() if path.exists() and path.read_bytes().endswith(f"{home}\0".encode())}


@contextlib.contextmanager
def up(folder: Path, *words: str) -> Iterator[tuple[Process, Json]]:
    """A federation that is ready, and what it said then; it must end cleanly by the signal of the block."""
    log = folder / f"up-{len(list(folder.glob('up-*')))}.txt"
    process = Process([CONSILIUM, "up", "--home", folder / "home", "--json", *words], log)
    process.start()
    try:
        process.until(lambda: process.said.endswith("}\n"), "the federation is ready")
        yield process, json.loads(process.said)
    finally:
        process.kill()


@pytest.mark.long
def test_a_federation_ends_with_its_children_and_is_started_again(tmp_path: Path) -> None:
    port = str(free_port())
    with up(tmp_path, "--hospitals", "charite,ukb", "--port", port) as (process, ready):
        children = descendants(process.pid)
        assert ready["hospitals"] == ["charite", "ukb"] and len(children) >= 3
        named = [Path(f"/proc/{child}/comm").read_text().strip() for child in children]
        assert named.count(FORKS) == 2, "each agent has the process that forks its children"
        (killed,) = running(children, "sites/ukb")
        os.kill(killed, signal.SIGKILL)
        until(lambda: running(descendants(process.pid), "sites/ukb") - {killed}, "its agent is started again")
        until(lambda: "was started again" in process.said, "it is said")
        assert process.alive and not running(descendants(process.pid), "sites/charite") - children, "no other is"
        children = descendants(process.pid)
        process.signal(signal.SIGINT)
        until(lambda: not process.alive, "it ends")
        assert process.stop() == 0
        until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), "its children are gone")
    with up(tmp_path) as (process, again):
        assert again == ready
        session = environment(CONSILIUM_HOME=again["session"])
        listed = subprocess.run([CONSILIUM, "sites", "list", "--json"], env=session, capture_output=True, check=True)
        assert [(one["site"], one["state"]) for one in json.loads(listed.stdout)] == [
            ("charite", "admitted"),
            ("ukb", "admitted"),
        ]
        children = descendants(process.pid)
        process.signal(signal.SIGKILL)  # nobody is left to end them
        until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), "they end by themselves")
