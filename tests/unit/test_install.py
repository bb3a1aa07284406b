"""tools/install.py: uv is told what pip is configured with, and pip goes on where uv does not."""

import runpy
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LISTED = """global.cert='/etc/ca.crt'
global.extra-index-url='https://two.example/simple file:///three'
global.index-url='https://one.example/simple'
install.constraint='/etc/constraints.txt'
download.find-links='/elsewhere'
:env:.index-url='https://mine.example/simple'
"""


@pytest.fixture
def install() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "tools" / "install.py"))


def test_uv_is_told_all_that_pip_is_configured_with(install: dict[str, Any]) -> None:
    told = install["settings"](LISTED)
    assert told["cert"] == "/etc/ca.crt"
    assert install["options"](told)[2:] == [
        "--default-index", "https://mine.example/simple", "--index", "https://two.example/simple",
        "--index", "file:///three", "--constraints", "/etc/constraints.txt",
    ]  # fmt: skip
    assert install["options"]({"no-index": "true"})[2:] == ["--no-index"]


@pytest.mark.parametrize("lacks", ["uv is not there", "uv fails", "nothing"])
def test_pip_installs_what_uv_does_not(
    install: dict[str, Any], lacks: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun: list[list[str]] = []

    def run(command: list[Any], **_: Any) -> SimpleNamespace:
        begun.append(list(map(str, command)))
        return SimpleNamespace(returncode=int(lacks == "uv fails" and "uv" in begun[-1][0]), stdout=LISTED)

    python = tmp_path / "python"
    monkeypatch.setattr("sys.executable", str(python))
    monkeypatch.setattr(subprocess, "run", run)
    if lacks != "uv is not there":
        python.with_name("uv").touch()
    assert install["main"](["--into", "there/python", "-c", "constraints.txt", "one"]) == 0
    installing = [command for command in begun if "install" in command]
    by = ["uv" if Path(command[0]).name == "uv" else "pip" for command in installing]
    assert by == {"uv is not there": ["pip"], "uv fails": ["uv", "pip"], "nothing": ["uv"]}[lacks]
    for command in installing:
        assert "there/python" in command and command[-3:] == ["-c", "constraints.txt", "one"]
