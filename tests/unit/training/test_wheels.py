"""Wheels: only the approved bytes, only plain files within the folder, only modules of the wheel itself."""

import errno
import stat
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from consilium.core.errors import ConsiliumError, DigestMismatch, Refused, StudyInvalid
from consilium.core.ids import digest
from consilium.core.study import Study
from consilium.core.tensors import from_safetensors
from consilium.training import wheels
from consilium.training.initial import initial_model

CODE = """
from torch import nn

def net(inputs, options):
    return nn.Sequential(nn.Linear(inputs, options["width"]), nn.Tanh(), nn.Linear(options["width"], 1))
"""
POINTS = "[consilium.architectures]\nnet = heartnet.model:net\n"
HONEST = {
    "heartnet/__init__.py": "",
    "heartnet/model.py": CODE,
    "heartnet-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: heartnet\nVersion: 1.0\n",
    "heartnet-1.0.dist-info/entry_points.txt": POINTS,
}
Entry = str | zipfile.ZipInfo


@pytest.fixture
def wheel(tmp_path: Path) -> Any:
    """Builds a wheel of files; returns its path and digest."""

    def built(files: dict[Entry, str] | dict[str, str]) -> tuple[Path, str]:
        path = tmp_path / "heartnet-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        return path, digest(path.read_bytes())

    return built


def unpacked(wheel: tuple[Path, str], tmp_path: Path) -> Path:
    return wheels.unpack(*wheel, tmp_path / "deep" / "code")


def special(name: str, kind: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
    return entry


def test_an_honest_wheel_is_unpacked_as_it_is(wheel: Any, tmp_path: Path) -> None:
    folder = unpacked(wheel(HONEST), tmp_path)
    found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert found == HONEST


def test_other_bytes_than_approved_are_refused(wheel: Any, tmp_path: Path) -> None:
    path, _ = wheel(HONEST)
    with pytest.raises(DigestMismatch, match="but the study names"):
        wheels.unpack(path, digest(b"another"), tmp_path / "code")
    assert not (tmp_path / "code").exists()


@pytest.mark.parametrize(
    "entry",
    [
        "../escaped.py",
        "heartnet/../../escaped.py",
        "/tmp/escaped.py",
        "..\\escaped.py",
        "C:/escaped.py",
        special("heartnet/link.py", stat.S_IFLNK),
        special("heartnet/pipe", stat.S_IFIFO),
        "run.pth",
        "heartnet/RUN.PTH",
        "heartnet/fast.cpython-311-x86_64-linux-gnu.so",
        "heartnet.libs/libfast.so.1",
        "heartnet/model.pyc",
    ],
    ids=str,
)
def test_what_a_wheel_may_not_hold_is_refused_and_writes_nothing(wheel: Any, tmp_path: Path, entry: Entry) -> None:
    name = entry if isinstance(entry, str) else entry.filename
    before = set(tmp_path.parent.rglob("*"))
    made = wheel({**HONEST, entry: "/etc/passwd"})
    with pytest.raises(Refused) as refusal:
        unpacked(made, tmp_path)
    assert refusal.value.reason == "wheel" and repr(name) in str(refusal.value)
    assert set(tmp_path.parent.rglob("*")) - before == {made[0]}


def test_sizes_are_counted_and_not_believed(wheel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = wheel({**HONEST, "heartnet/table.txt": "x" * 5000})
    monkeypatch.setattr(wheels, "MOST_BYTES", 5000)
    with pytest.raises(Refused, match="holds more than"):
        unpacked(made, tmp_path)
    monkeypatch.setattr(wheels, "MOST_FILES", 3)
    with pytest.raises(Refused, match="more than 3 files"):
        wheels.unpack(*made, tmp_path / "second")


def test_a_name_that_no_file_can_have_is_refused(wheel: Any, tmp_path: Path) -> None:
    for name in ("a" * 300 + ".py", "/".join(["a" * 200] * 30) + ".py"):
        with pytest.raises(Refused, match="cannot be unpacked"):
            wheels.unpack(*wheel({name: ""}), tmp_path / name[:30])


@pytest.mark.parametrize("packed", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_file_whose_bytes_were_damaged_is_refused(tmp_path: Path, packed: int) -> None:
    path = tmp_path / "x.whl"
    with zipfile.ZipFile(path, "w", packed) as archive:
        archive.writestr("a.py", "x" * 1000)
    data = bytearray(path.read_bytes())
    at = data.find(b"a.py") + 4
    data[at : at + 8] = b"z" * 8
    path.write_bytes(data)
    with pytest.raises(Refused, match="cannot be unpacked"):
        wheels.unpack(path, digest(path.read_bytes()), tmp_path / "code")


def test_a_full_disk_is_not_the_wheels_fault(wheel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(wheels, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        unpacked(wheel(HONEST), tmp_path)


def test_bytes_that_are_no_wheel_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "no.whl"
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(Refused, match="cannot be unpacked"):
        wheels.unpack(path, digest(path.read_bytes()), tmp_path / "code")


def study(wheel_digest: str | None, name: str = "net", **options: Any) -> Study:
    feature = {"id": "a", "meaning": "x", "type": "number", "unit": "1", "range": [-1, 1], "missing": "forbidden"}
    label = {"id": "ill", "meaning": "is ill", "type": "binary"}
    return Study.model_validate({
        "consilium": 1, "name": "toy", "title": "Toy",
        "purpose": {"code": "research", "text": "test", "requester": "test"},
        "contract": {"id": "toy", "features": [feature], "label": label},
        "model": {"kind": "torch", "architecture": name, "options": options or {"width": 5}, "wheel": wheel_digest},
        "rounds": 1, "quorum": 1, "privacy": {"recipe": "plain"},
    })  # fmt: skip


def test_the_author_makes_the_initial_model_and_nothing_of_the_wheel_stays(wheel: Any) -> None:
    pytest.importorskip("torch")
    path, named = wheel(HONEST)
    before = list(sys.path)
    first = initial_model(study(named), path)
    assert {name: array.shape for name, array in from_safetensors(first).items()} == {
        "0.weight": (5, 1), "0.bias": (5,), "2.weight": (1, 5), "2.bias": (1,),
    }  # fmt: skip
    assert sys.path == before and not any(name.startswith("heartnet") for name in sys.modules)
    assert initial_model(study(named), path) == first
    wider = {**HONEST, "heartnet/model.py": CODE.replace('options["width"]', '2 * options["width"]')}
    path, named = wheel(wider)
    assert from_safetensors(initial_model(study(named), path))["0.bias"].shape == (10,), (
        "the second wheel, not the first"
    )


@pytest.mark.parametrize(
    ("files", "name", "said"),
    [
        ({}, "other", "no entry point 'other' in consilium.architectures; it has: net"),
        ({"heartnet-1.0.dist-info/entry_points.txt": "[other]\nnet = heartnet.model:net\n"}, "net", "it has: none"),
        ({"heartnet-1.0.dist-info/entry_points.txt": POINTS.replace("heartnet.model", "json")}, "net", "'json'"),
        ({"heartnet/model.py": "import a_package_that_is_not_there"}, "net", "No module named 'a_package_that_is_not"),
        ({"heartnet/model.py": "nets = 1"}, "net", "cannot be imported"),
    ],
)
def test_an_entry_point_that_the_wheel_does_not_serve_is_refused_by_name(
    wheel: Any, files: dict[str, str], name: str, said: str
) -> None:
    pytest.importorskip("torch")
    path, named = wheel({**HONEST, **files})
    with pytest.raises(StudyInvalid) as refusal:
        initial_model(study(named, name), path)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("return lambda x: x", "returns no torch.nn.Module"),
        (
            "return nn.Sequential(nn.Linear(inputs, 2))",
            "made-up patients of the contract: the architecture does not give one number",
        ),
        ("return nn.Linear(inputs + 1, 1)", "the wheel's code failed: RuntimeError: mat1 and mat2"),
        ("return nn.Linear(inputs, options['wide'])", "the wheel's code failed: KeyError: 'wide'"),
        (
            "return nn.Sequential(nn.Linear(inputs, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 1))",
            "more than 1 value per channel",
        ),
        (
            "m = nn.Linear(inputs, 1); m.forward = lambda x: (x - x.mean(0)).sum(1) * m.weight[0, 0]; return m",
            "depends on other",
        ),
        (
            "m = nn.Linear(inputs, 1); m.forward = lambda x: x[:, 0] * float('nan') * m.weight[0, 0]; return m",
            "no number",
        ),
        ("return nn.Sequential(nn.Linear(inputs, 1), nn.Sigmoid())", "between 0.5 and 0.73"),
        ("m = nn.Linear(inputs, 1); m.forward = lambda x: x[:, 0] / 0 * m.weight[0, 0]; return m", "in one small step"),
        ("m = nn.Linear(inputs, 1); m.forward = lambda x: x[:, 0].detach(); return m", "code failed: RuntimeError"),
    ],
)
def test_what_fails_on_made_up_patients_is_told_before_a_hospital_is_asked(wheel: Any, code: str, said: str) -> None:
    pytest.importorskip("torch")
    path, named = wheel(
        {**HONEST, "heartnet/model.py": f"from torch import nn\n\ndef net(inputs, options):\n    {code}\n"}
    )
    with pytest.raises(StudyInvalid) as refusal:
        initial_model(study(named), path)
    assert said in str(refusal.value) and refusal.value.remedy


def test_a_norm_of_a_batch_is_no_fault(wheel: Any) -> None:
    pytest.importorskip("torch")
    made = "nn.Sequential(nn.Linear(inputs, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))"
    zero = "m = nn.Linear(inputs, 1); nn.init.zeros_(m.weight); nn.init.zeros_(m.bias); return m"  # nor that it is zero
    path, named = wheel(
        {**HONEST, "heartnet/model.py": f"from torch import nn\n\ndef net(inputs, options):\n    {zero}\n"}
    )
    assert initial_model(study(named), path)
    path, named = wheel(
        {**HONEST, "heartnet/model.py": f"from torch import nn\n\ndef net(inputs, options):\n    return {made}\n"}
    )
    for size, least in ((0, 10), (0, 2), (2, 10), (16, 10)):
        asked = study(named).model_dump(mode="json")
        asked |= {"training": {"batch_size": size}, "min_patients": least}
        assert initial_model(Study.model_validate(asked), path) == initial_model(study(named), path)
    for size, least in ((1, 10), (0, 1), (16, 1)):
        asked |= {"training": {"batch_size": size}, "min_patients": least}
        with pytest.raises(StudyInvalid, match="one patient alone cannot be trained on"):
            initial_model(Study.model_validate(asked), path)


def test_a_wheel_takes_the_place_of_no_installed_module(wheel: Any, tmp_path: Path) -> None:
    points = "[consilium.architectures]\nnet = numpy:zeros\n"
    folder = unpacked(wheel({"numpy/__init__.py": "zeros = 1", "x-1.dist-info/entry_points.txt": points}), tmp_path)
    with pytest.raises(StudyInvalid, match="not the wheel's"):
        wheels.architecture(folder, "net")
    sys.path.remove(str(folder))


@pytest.mark.parametrize(("named", "given"), [(True, False), (False, True)])
def test_a_wheel_is_named_and_given_or_neither(wheel: Any, named: bool, given: bool) -> None:
    pytest.importorskip("torch")
    path, its = wheel(HONEST)
    with pytest.raises(ConsiliumError) as refusal:
        initial_model(study(its if named else None), path if given else None)
    assert refusal.value.code == "study-invalid" and "wheel" in str(refusal.value)
