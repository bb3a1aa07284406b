"""Foreign code in the real child process: it trains, and gets nothing else, whatever it tries (see evil.py)."""

import json
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium import plugins
from consilium.core import state as chain
from consilium.core.ids import digest
from consilium.core.study import Plan, Study
from consilium.training import sandbox
from consilium.training.initial import initial_model
from consilium.training.sandbox import landlock, seccomp
from e2e.processes import PATIENCE_S

pytest.importorskip("torch")

WHY_NOT = sandbox.available()
CONFINED = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
SECRET = "PRIVATE KEY of the hospital"
CHILD = ("-m", "consilium.training.child")
HONEST = """
from torch import nn

def net(inputs, options):
    print('{"ok": true}')
    return nn.Sequential(nn.Linear(inputs, 4), nn.ReLU(), nn.Dropout(0), nn.Linear(4, 1))
"""
EVIL = Path(__file__).with_name("evil.py").read_text()
Answer = dict[str, Any]


def study(**model: Any) -> Study:
    feature = {"meaning": "x", "type": "number", "unit": "1", "range": [-1, 1], "missing": "forbidden"}
    label = {"id": "ill", "meaning": "is ill", "type": "binary"}
    return Study.model_validate({
        "consilium": 1, "name": "toy", "title": "Toy",
        "purpose": {"code": "research", "text": "test", "requester": "test"},
        "contract": {"id": "toy", "features": [{"id": name, **feature} for name in ("a", "b")], "label": label},
        "model": {"kind": "torch"} | model,
        "training": {"epochs": 2, "batch_size": 8, "learning_rate": 0.1, "seed": 5},
        "rounds": 1, "quorum": 1, "privacy": {"recipe": "plain"},
    })  # fmt: skip


class Site:
    """A hospital's folder: the key above, and a run's folder that the child may read, with `out`, where it may write.

    Without `code` the study trains the catalogue's twin of the wheel's architecture.
    """

    def __init__(self, home: Path, code: str | None = None) -> None:
        self.key, self.run = home / "identity.key", home / "work" / "run"
        self.out, self.wheel = self.run / "out", self.run / "code.whl"
        self.out.mkdir(parents=True)
        self.key.write_text(SECRET)
        self.key.chmod(0o600)
        twin = study(architecture="mlp", options={"hidden": [4]})
        initial = initial_model(twin)
        made = twin
        if code is not None:
            with zipfile.ZipFile(self.wheel, "w") as archive:
                archive.writestr("guest.py", code)
                archive.writestr("guest-1.dist-info/entry_points.txt", "[consilium.architectures]\nnet = guest:net\n")
            made = study(architecture="net", wheel=digest(self.wheel.read_bytes()))
        model = made.model.model_copy(update={"initial": digest(initial)})
        (self.run / "plan.json").write_bytes(Plan.of(made.model_copy(update={"model": model})).payload)
        (self.run / "initial.safetensors").write_bytes(initial)
        a, b = np.random.default_rng(1).uniform(-1, 1, size=(2, 80))
        test = np.arange(80) % 4 == 0
        np.savez(self.run / "table.npz", **{"feature/a": a, "feature/b": b, "label": (a > b) * 1.0, "test": test})
        with (self.run / "state-0.safetensors").open("wb") as file:
            chain.begin(plugins.load("consilium.strategies", "fedavg")({}), initial, "run", file)

    def ask(self, *names: str, program: tuple[str, ...] = CHILD) -> list[Answer]:
        """The answers of one child to these commands, one after the other."""
        where = {name: str(self.run / file) for name, file in (("plan", "plan.json"), ("table", "table.npz"))}
        load = {"do": "load", "initial": str(self.run / "initial.safetensors"), **where}
        if self.wheel.exists():
            load |= {"wheel": str(self.wheel), "confine": {"read": [str(self.run)], "write": [str(self.out)]}}
        state = str(self.run / "state-0.safetensors")
        lines = [
            json.dumps(
                load if name == "load" else {"do": name, "round": 1, "state": state, "out": str(self.out / name)}
            )
            for name in names
        ]
        done = subprocess.run(
            [sys.executable, "-P", *program], input="\n".join(lines), text=True, capture_output=True, cwd=self.run,
            env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}, timeout=PATIENCE_S,
        )  # fmt: skip
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(answers) == len(names), done.stderr
        assert "cpuinfo" not in done.stderr, "a library misses what it needs to compute as it does elsewhere"
        return answers


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.fixture
def evil(tmp_path: Path, listener: socket.socket) -> Iterator[Site]:
    """A site whose study brings the evil wheel, a Unix socket next to its key, and somebody who listens on TCP."""
    home = tmp_path / "site"
    with socket.socket(socket.AF_UNIX) as agent:
        home.mkdir()
        agent.bind(str(home / "agent.sock"))
        agent.listen()
        wanted = {
            "key": str(home / "identity.key"), "run": str(home / "work" / "run"), "parent": os.getpid(),
            "out": str(home / "work" / "run" / "out"), "unix": str(home / "agent.sock"),
            "port": listener.getsockname()[1],
        }  # fmt: skip
        yield Site(home, EVIL.replace("WANTED: dict[str, Any] = {}", f"WANTED: dict[str, Any] = {wanted!r}"))


@CONFINED
@pytest.mark.long
def test_an_honest_wheel_gives_the_bytes_that_its_twin_in_the_catalogue_gives(tmp_path: Path) -> None:
    guest, twin = Site(tmp_path / "guest", HONEST), Site(tmp_path / "twin")
    commands = ("load", "train", "evaluate", "train")
    answers = guest.ask(*commands)
    assert answers == twin.ask(*commands), "the same bytes, so the same digests and sizes"
    assert answers[0] == {"ok": True} and answers[1]["digest"] == digest((guest.out / "train").read_bytes())
    assert np.any(chain.read(guest.out / "train").arrays["update"])


@CONFINED
def test_foreign_code_gets_nothing_neither_at_import_nor_in_training(evil: Site, listener: socket.socket) -> None:
    plan = (evil.run / "plan.json").read_bytes()
    before = {path for path in evil.key.parent.rglob("*") if evil.out not in path.parents} | {evil.run / "code"}
    load, train = evil.ask("load", "train")
    assert load == {"ok": True} and train["ok"], "it cannot even say that it failed: its training is its own affair"
    for when in ("import", "forward"):
        told = json.loads((evil.out / f"{when}.json").read_text())
        assert len(told) > 30
        assert {name: what for name, what in told.items() if what != "denied"} == {}, when
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert evil.key.read_text() == SECRET and evil.key.stat().st_mode & 0o777 == 0o600 and evil.key.stat().st_mtime > 0
    assert (evil.run / "plan.json").read_bytes() == plan
    outside = {path for path in evil.key.parent.rglob("*") if evil.out not in path.parents}
    assert {path for path in outside - before if evil.run / "code" not in path.parents} == set()
    assert all(path.is_file() and not path.is_symlink() for path in evil.out.iterdir())


def test_the_attempts_succeed_where_nothing_confines_them(evil: Site, listener: socket.socket) -> None:
    """The control: a test of a sandbox whose attacks fail anyway shows nothing."""
    with zipfile.ZipFile(evil.wheel) as archive:
        code = archive.read("guest.py").decode()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=evil.run, timeout=PATIENCE_S)
    told = json.loads((evil.out / "import.json").read_text())
    depends = {"trace", "namespace", "keys_of_the_kernel", "ring", "memory_of_parent", "files_left_open"}
    assert {name: what for name, what in told.items() if what != "got" and name not in depends} == {}
    assert listener.accept()[0].recv(100) == b"patients"


def test_where_the_process_cannot_be_confined_foreign_code_is_refused_unread(evil: Site) -> None:
    """Here because a second thread runs, which Landlock would leave free."""
    program = (
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "from consilium.training.child import serve; serve()"
    )
    (load,) = evil.ask("load", program=("-c", program))
    assert (load["code"], load["reason"]) == ("refused", "cannot-confine")
    assert list(evil.out.iterdir()) == [], "nothing of the wheel ran"


def test_a_wheel_of_other_bytes_or_none_is_refused_unread(evil: Site) -> None:
    evil.wheel.write_bytes(evil.wheel.read_bytes() + b"\0")
    assert evil.ask("load")[0]["code"] == "digest-mismatch"
    evil.wheel.unlink()
    assert evil.ask("load")[0]["code"] == "study-invalid"
    assert list(evil.out.iterdir()) == []


AS_IF = """
import json, sys
from pathlib import Path
from consilium.training.sandbox import landlock
from consilium.training.sandbox.__main__ import probe
version, landlock.LEAST = int(sys.argv[1]), int(sys.argv[2])
landlock.abi = lambda: version
print(json.dumps(probe(Path.cwd())))
"""
"""The probe, in its working folder, as on a kernel with another version of Landlock, and with another least one."""


@CONFINED
def test_a_kernel_under_which_what_may_be_read_may_be_emptied_confines_nothing(tmp_path: Path) -> None:
    def probed(version: int, least: int) -> Answer:
        folder = tmp_path / f"{version}-{least}"
        (folder / "work").mkdir(parents=True)
        for name in ("secret", "given"):
            (folder / name).write_text(name)
        done = subprocess.run(
            [sys.executable, "-P", "-c", AS_IF, str(version), str(least)], capture_output=True, cwd=folder, check=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, timeout=PATIENCE_S,
        )  # fmt: skip
        told: Answer = json.loads(done.stdout)
        return told

    refused = probed(2, landlock.LEAST)["refused"]
    assert "version 2 of Landlock" in refused and "Linux 6.2" in refused
    assert {name for name, denied in probed(2, 2)["denied"].items() if not denied} == {"emptying what may be read"}
    assert all(probed(landlock.LEAST, landlock.LEAST)["denied"].values())


def test_a_host_with_landlock_and_seccomp_can_confine() -> None:
    """So that a sandbox that broke is a failure, and not a reason to skip."""
    if landlock.abi() < landlock.LEAST or not seccomp.supported():
        assert WHY_NOT is not None and "cannot confine foreign code: " in WHY_NOT
    else:
        assert WHY_NOT is None
