"""Every command, setting, error code and plug-in is documented; the generated pages are up to date."""

import json
import re
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import click
import pytest

from consilium import studyfile
from consilium.config import COORDINATOR
from consilium.console.cli.app import EXIT_CODES, run
from consilium.coordinator.retention import Keeping
from consilium.core import errors
from docs.pages import ROOT, script

REFERENCE = ROOT / "docs" / "reference"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return script("generate")


def test_generated_pages_are_up_to_date() -> None:
    """In a process of its own: click remembers at a command how its help was last asked for."""
    told = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, timeout=120
    )
    assert told.returncode == 0, told.stderr


def test_every_command_and_option_is_documented_and_explained(generate: ModuleType) -> None:
    page = (REFERENCE / "commands.md").read_text()
    for path, command, _ in generate.every_command():
        assert f"`{path}`" in page, path
        assert command.help, f"{path} has no help"
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.opts[0] in page, (path, option.opts)


def test_no_command_lacks_a_module(generate: ModuleType) -> None:
    lacking = [path for path, command, _ in generate.every_command() if "Not available here" in (command.help or "")]
    assert not lacking


def test_every_error_code_is_documented() -> None:
    page = (REFERENCE / "errors.md").read_text()
    for code, kind in errors.every().items():
        assert f"`{code}`" in page and (kind.__doc__ or "").strip(), code


def test_every_exit_code_is_documented() -> None:
    page = (REFERENCE / "exit-codes.md").read_text()
    for code in EXIT_CODES:
        assert f"| {code} |" in page


def test_every_plugin_is_documented() -> None:
    page = (REFERENCE / "plug-ins.md").read_text()
    for group in ("consilium.strategies", "consilium.trainers", "consilium.sources", "consilium.commands"):
        for point in entry_points(group=group):
            if point.dist is not None and point.dist.name == "consilium":
                assert f"`{point.name}` | `{point.value}`" in page, point


def test_every_setting_is_documented() -> None:
    page = (REFERENCE / "settings.md").read_text()
    read = {
        name
        for path in (ROOT / "src").rglob("*.py")
        for name in re.findall(r"\bCONSILIUM_[A-Z][A-Z_]*\b", path.read_text())
    }
    assert read, "the pattern finds nothing"
    missing = sorted(name for name in read if f"`{name}`" not in page)
    assert not missing


def test_every_setting_of_a_coordinators_file_is_documented(tmp_path: Path) -> None:
    page = (REFERENCE / "settings.md").read_text()
    assert run(["coordinator", "init", "--home", str(tmp_path), "--url", "https://127.0.0.1:9443", "--json"]) == 0
    written = json.loads((tmp_path / "coordinator.json").read_text())
    assert written.keys() == COORDINATOR.keys() and [name for name in written if f"| `{name}` | " not in page] == []
    defaults = {one.name: one.default for one in fields(Keeping)}
    assert {name: float(COORDINATOR[name].rpartition("by default ")[2]) for name in defaults} == defaults


ENDLESS = {"consilium coordinator run", "consilium site run"}
"""They serve until they are ended: their log is what they say."""


def test_every_command_that_comes_to_an_end_takes_json(generate: ModuleType) -> None:
    """As the help of the root says, and scripts rely on."""
    without = {
        path
        for path, command, _ in generate.every_command()
        if not isinstance(command, click.Group) and not any("--json" in one.opts for one in command.params)
    }
    assert without == ENDLESS


@pytest.mark.parametrize("what", studyfile.SCHEMAS)
def test_every_key_of_a_file_is_explained(what: str) -> None:
    schema = studyfile.json_schema(what)
    parts = {"": schema, **schema.get("$defs", {})}
    keys = [(name, key, told) for name, part in parts.items() for key, told in part.get("properties", {}).items()]
    assert len(keys) > 5
    assert [f"{name}.{key}" for name, key, told in keys if not told.get("description")] == []


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if page not in navigation] == []
