"""A study's own code in a whole federation: who allows it trains it, confined; who does not refuses, and says why."""

import json
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium.api import freeze
from consilium.core.ids import digest
from consilium.core.study import Plan
from consilium.core.tensors import from_safetensors
from consilium.training import sandbox
from e2e.federation import POLICY, Federation, Hospital, federation, study
from e2e.processes import PATIENCE_S, Process, until
from e2e.test_sandbox import EVIL, HONEST

pytest.importorskip("torch")
WHY_NOT = sandbox.available()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

OTHER = digest(b"another wheel")
ANY_CODE = POLICY + "code: {allowed: true}\n"
TRAINING = {"epochs": 2, "batch_size": 8, "learning_rate": 0.1, "seed": 5}
OWN = {"name": "ditto"}
"""Confined code, too, goes on from what was kept at its hospital, and leaves a model there."""
WANTED = """
HERE = Path.cwd()
WANTED: dict[str, Any] = {
    "key": str(HERE.parent.parent / "identity.key"), "run": str(HERE), "out": str(HERE / "out"),
    "parent": os.getppid(), "unix": str(HERE.parent.parent / "agent.sock"), "port": PORT,
}
"""
WITHOUT_LANDLOCK = """
import ctypes, os, struct, sys
rules = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x50000 | 38), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, struct.pack("HxxxxxxP", 4, ctypes.addressof(code))) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Starts a program as on a kernel that has no Landlock: its first system call (444) is unknown (ENOSYS)."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Of five hospitals, north and south run code; west and east do not run this code; attic's kernel cannot."""
    with federation(tmp_path_factory.mktemp("wheel"), hospitals=("north", "south", "west", "east")) as made:
        attic = made.add("attic", start=False)
        attic.process = Process(without_landlock(*attic.process.command), attic.process.log)
        attic.process.start()
        yield made
        for hospital in made.hospitals.values():
            assert hospital.process.alive, hospital.process.said[-2000:]
            assert "Traceback" not in hospital.process.said


def without_landlock(*words: str | Path) -> list[str | Path]:
    return [sys.executable, "-c", WITHOUT_LANDLOCK, *words]


def packed(folder: Path, code: str) -> bytes:
    """A wheel with one architecture, `net`."""
    path = folder / "net.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("guest.py", code)
        archive.writestr("guest-1.dist-info/entry_points.txt", "[consilium.architectures]\nnet = guest:net\n")
    return path.read_bytes()


def submitted(made: Federation, name: str, wheel: bytes) -> Plan:
    """A study with this wheel. Its initial model is that of its twin in the catalogue: the wheel does not run here."""
    _, weights = freeze(twin(name))
    model = {"kind": "torch", "architecture": "net", "wheel": made.owner.send_blob(wheel), "initial": digest(weights)}
    made.owner.send_blob(weights)
    plan = Plan.of(study(name, model=model, training=TRAINING, strategy=OWN))
    made.owner.connection.post("/v1/studies", {"plan": plan.payload.decode()})
    return plan


def twin(name: str) -> Any:
    """The study without a wheel whose architecture is the same."""
    model = {"kind": "torch", "architecture": "mlp", "options": {"hidden": [4]}}
    return study(name, model=model, training=TRAINING, strategy=OWN)


def heard(made: Federation, plan: Plan, *names: str) -> None:
    """Wait until the coordinator knows that these hospitals approve, so that it asks them from the first round on."""

    def told() -> bool:
        sites = made.owner.connection.get(f"/v1/studies/{plan.study.name}")["sites"]
        return all(sites.get(name, {}).get("decision") == "approve" for name in names)

    until(told, f"the coordinator hears that {', '.join(names)} approve")


def only(*wheels: str) -> str:
    return POLICY + f"code: {{allowed: true, wheels: [{', '.join(wheels)}]}}\n"


def test_who_allows_the_code_trains_it_and_who_does_not_refuses_and_says_why(made: Federation, tmp_path: Path) -> None:
    plan = submitted(made, "code", packed(tmp_path, HONEST))
    wheel = str(plan.study.model.wheel)
    policies = {
        "north": ANY_CODE, "south": only(OTHER, wheel), "west": POLICY, "east": only(OTHER), "attic": only(wheel),
    }  # fmt: skip
    for name, hospital in made.hospitals.items():
        hospital.policy(policies[name])
        until(lambda hospital=hospital: hospital.offered(plan), f"{name} is offered the study")
        if name in ("west", "east"):
            words = ("approve", "code", "--person", "Vera", "--accept", "plain", "--mapping", hospital.mapping)
            code, said = hospital.says(*words)
            assert code == 3 and f"does not run the wheel {wheel}" in said
            hospital.policy(ANY_CODE)  # so that the person can approve: the policy decides anew before each round
        hospital.approve(plan)
        hospital.policy(policies[name])
    heard(made, plan, *made.hospitals)
    run = made.start(plan)
    refusing = {("west", "code"), ("east", "code"), ("attic", "cannot-confine")}
    until(lambda: made.refusals(plan) >= refusing, "the owner hears who refuses, and why")
    view = made.until(run, "finished")
    assert {tuple(entry["took_part"]) for entry in view["participation"]} == {("north", "south")}
    assert made.refusals(plan) == refusing
    for name in ("west", "east", "attic"):
        assert {one["what"] for one in made.hospitals[name].told("sent", "--study", "code")} <= {
            "decision", "refusal", "checkpoint"
        }  # fmt: skip
    assert_same_model(made, run)


def assert_same_model(made: Federation, run: str) -> None:
    """The twin in the catalogue, trained unconfined by the same hospitals, gives the same model, and each hospital's
    own is the same, too."""
    plan = made.submit(twin("twin"))
    for name in ("north", "south"):
        made.hospitals[name].approve(plan)
    other = made.start(plan)
    made.until(other, "finished")
    one, same = (from_safetensors(made.model(name)) for name in (run, other))
    assert one.keys() == same.keys() and all(np.array_equal(one[name], same[name]) for name in one)
    for name in ("north", "south"):
        one, same = (
            from_safetensors((made.hospitals[name].home / "models" / f"{of}.safetensors").read_bytes())
            for of in (run, other)
        )
        assert one.keys() == same.keys() and all(np.array_equal(one[part], same[part]) for part in one)


def test_where_code_is_allowed_but_cannot_be_confined_the_doctor_says_so(made: Federation) -> None:
    attic = made.hospitals["attic"]
    attic.policy(ANY_CODE)
    command = without_landlock(attic.process.command[-5], "site", "doctor", "--json", "--home", attic.home)
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    told = {one["check"]: one for one in json.loads(done.stdout)}
    assert done.returncode == 1 and [name for name in told if told[name]["level"] == "problem"] == ["confinement"]
    assert "no Landlock" in told["confinement"]["words"] and told["confinement"]["remedy"]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.fixture
def north(made: Federation) -> Iterator[Hospital]:
    """The hospital whose secrets the code wants; beside its key lies a socket on which somebody listens."""
    hospital = made.hospitals["north"]
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(hospital.home / "agent.sock"))
        there.listen()
        yield hospital


def test_evil_code_gets_nothing_and_its_update_is_just_an_update(
    made: Federation, north: Hospital, listener: socket.socket, tmp_path: Path
) -> None:
    wanted = WANTED.replace("PORT", str(listener.getsockname()[1]))
    code = EVIL.replace("WANTED: dict[str, Any] = {}\n", wanted)
    assert code.count("PORT") == 0 and "HERE.parent" in code
    plan = submitted(made, "evil", packed(tmp_path, code))
    key, south = (north.home / "identity.key").read_bytes(), made.hospitals["south"]
    for hospital in (north, south):
        hospital.policy(ANY_CODE)
        hospital.approve(plan)
    heard(made, plan, "north", "south")
    south.process.signal(signal.SIGSTOP)  # so that the round stays open, and with it what the code left behind
    try:
        run = made.start(plan)
        until(lambda: made.view(run)["waiting_for"] == ["south"], "north has answered")
        assert_got_nothing(north, run, plan)
    finally:
        south.process.signal(signal.SIGCONT)
    view = made.until(run, "finished")
    assert [entry["took_part"] for entry in view["participation"]] == [["north", "south"]] * 3
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert (north.home / "identity.key").read_bytes() == key
    assert (north.home / "identity.key").stat().st_mode & 0o777 == 0o600
    assert_is_an_update(made)


def assert_got_nothing(north: Hospital, run: str, plan: Plan) -> None:
    work = north.home / "work" / run
    for when in ("import", "forward"):
        told = json.loads((work / "out" / f"{when}.json").read_text())
        assert len(told) > 30
        assert {name: what for name, what in told.items() if what != "denied"} == {}, when
    assert (work / "plan.json").read_bytes() == plan.payload
    assert (north.home / "identity.key").stat().st_mtime > 0 and not (north.home / "planted").exists()
    assert not (work / "json.py").exists()
    assert all(path.is_file() and not path.is_symlink() for path in (work / "out").iterdir())
    key = (north.home / "identity.key").read_bytes().splitlines()[1]
    assert len(key) > 60 and key[-40:] not in (work / "update-1.safetensors").read_bytes()


def assert_is_an_update(made: Federation) -> None:
    """Of the same size as the honest code's, and of numbers."""
    sizes = {
        run: made.rows(f"SELECT site, round, size FROM contributions WHERE run = '{run}' ORDER BY site, round")
        for run in ("code-1", "evil-1")
    }
    assert sizes["evil-1"] == sizes["code-1"] and len(sizes["evil-1"]) == 6
    assert all(np.isfinite(array).all() for array in from_safetensors(made.model("evil-1")).values())
