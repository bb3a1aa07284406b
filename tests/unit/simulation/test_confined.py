"""A study with a wheel in a simulation: its code runs where a hospital's would, or not at all."""

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from consilium import plugins
from consilium.core.errors import ConsiliumError, Refused, StudyInvalid, TrainingFailed
from consilium.core.ids import digest
from consilium.core.study import Study
from consilium.core.tensors import from_safetensors
from consilium.simulation import confined
from consilium.simulation.scenario import Found, Wanted, simulate
from consilium.site.child import Child
from consilium.site.failures import LOG
from consilium.training import sandbox

pytest.importorskip("torch")
WHY_NOT = sandbox.available()
CONFINED = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
Make = Callable[..., dict[str, Path]]
TWIN = """
from torch import nn

def net(inputs, options):
    return nn.Sequential(nn.Linear(inputs, 4), nn.ReLU(), nn.Dropout(0.0), nn.Linear(4, 1))
"""
"""What the catalogue has as `mlp`."""


def packed(folder: Path, code: str) -> tuple[Path, dict[str, Any]]:
    """A wheel with this code, and the model that names it."""
    path = folder / "own-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("own.py", code)
        archive.writestr("own-1.dist-info/entry_points.txt", "[consilium.architectures]\nnet = own:net\n")
    return path, {"kind": "torch", "architecture": "net", "wheel": digest(path.read_bytes())}


def ran(study: Study, hospitals: dict[str, Path], model: dict[str, Any], **wanted: Any) -> Found:
    told = {**study.model_dump(), "model": model, "rounds": 2, "strategy": {"name": wanted.pop("strategy", "fedavg")}}
    return simulate(Study.model_validate(told), hospitals, Wanted(**wanted), lambda told: None)


@CONFINED
@pytest.mark.long
def test_a_wheel_comes_to_the_bytes_of_its_twin_in_the_catalogue_and_what_it_says_can_be_read(
    study: Study, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it trains; and what a strategy keeps at a site goes there and back."""
    hospitals = make(north=(40, None), south=(50, None))
    wheel, own = packed(tmp_path, TWIN)
    catalogue = {"kind": "torch", "architecture": "mlp", "options": {"hidden": [4]}}
    monkeypatch.setattr(confined, "WARM", 1)  # of two sites: one child is begun anew in each round
    twin = ran(study, hospitals, catalogue, strategy="scaffold")
    found = ran(study, hospitals, own, wheel=wheel, executor="processes", workers=2, strategy="scaffold")
    models = [{name: array.tobytes() for name, array in from_safetensors(one.model).items()} for one in (twin, found)]
    assert models[0] == models[1] and found.outcome.figures["all"] == twin.outcome.figures["all"]
    wheel, own = packed(tmp_path, TWIN.replace("return", "open('/etc/hostname').read()\n    return"))
    with pytest.raises(ConsiliumError) as caught:
        ran(study, hospitals, own, wheel=wheel)
    kept = Path(caught.value.remedy.split(" is in ")[1].split(",")[0])
    assert "PermissionError" in kept.read_text() and "hostname" not in str(caught.value)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    kept.unlink()


class Twin(Child):
    """A child that answers without a process: with an update of the right shape, or as `fails` says."""

    fails: ConsiliumError | None = None
    asked: ClassVar[list[str]] = []

    def __init__(self, folder: Path, *_: object, foreign: bool = False) -> None:
        assert foreign
        (folder / LOG).write_text("patient 4711\x1b[2J")

    def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        Twin.asked.append(command["do"])
        if Twin.fails is not None:
            raise Twin.fails
        return {}

    def close(self) -> None: ...


@pytest.mark.parametrize(
    "fails",
    [
        Refused("this host cannot confine foreign code", reason="cannot-confine"), TrainingFailed("it failed"),
        StudyInvalid("it is not what it says"),
    ],
)  # fmt: skip
def test_where_nothing_confines_it_no_code_runs_and_what_a_child_said_is_kept_for_its_user_alone(
    study: Study, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: ConsiliumError
) -> None:
    monkeypatch.setattr(confined, "Child", Twin)
    monkeypatch.setattr(confined.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Twin, "fails", fails)
    monkeypatch.setattr(Twin, "asked", [])
    mark = tmp_path / "ran"
    wheel, own = packed(tmp_path, f"open({str(mark)!r}, 'w')\n{TWIN}")
    with pytest.raises(type(fails)) as caught:
        ran(study, make(north=(40, None), south=(50, None)), own, wheel=wheel)
    assert Twin.asked == ["first"] and not mark.exists() and caught.value.message == fails.message
    (kept,) = tmp_path.glob("consilium-wheel-*")
    assert str(kept) in caught.value.remedy and stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert kept.read_text() == "patient 4711\\x1b[2J" and "4711" not in str(caught.value)


def test_the_table_of_a_site_is_what_an_agent_writes(study: Study, make: Make) -> None:
    assert plugins.names("consilium.trainers")  # the entry points are there
    from consilium.api import freeze
    from consilium.simulation.patients import Patients, Sites
    from consilium.site.tables import mapped

    hospitals = make(north=(40, None))
    plan, initial = freeze(study)
    patients = Patients.read(plan.study, hospitals)
    sites = Sites(plan, initial, patients, {"north": patients.pool(plan.study).hospital == 0})
    there = mapped(plan.study, hospitals["north"]).table.arrays()
    here = sites.table("north")
    assert set(here) <= set(there) and {"label", "test", "feature/x"} <= set(here)
    assert all((here[name] == there[name]).all() for name in here)
