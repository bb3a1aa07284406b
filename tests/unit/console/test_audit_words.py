"""What `audit verify` says that it compared, and what `audit export` leaves behind."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from consilium.console.cli import app
from consilium.console.cli import audit as cli_audit
from consilium.wire.identity import Identity
from unit.console.test_audit import (
    Json,
    edit,
    entries_of,
    mark,
    remove,
    reorder,
    repeat,
    rewrite,
    shorten,
    verify,
)


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return Identity.create(tmp_path / "identity.key")


@pytest.fixture
def log(identity: Identity) -> Json:
    entries = entries_of(6)
    heads = [mark(entries, 6, identity)]
    return {"log": "coordinator", "key": identity.public, "entries": entries, "checkpoints": heads, "kept": []}


def said(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    error = json.loads(capsys.readouterr().err)["error"]
    return error["message"], error["remedy"]


@pytest.mark.parametrize("alter", [edit, remove, reorder, repeat, shorten, rewrite])
def test_nobody_is_blamed_who_was_not_asked(
    tmp_path: Path, log: Json, alter: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    alter(log)
    assert verify(tmp_path, log) == 1
    message, remedy = said(capsys)
    assert "other end" not in message and "audit verify --against" in remedy
    assert ("a head that the log's own end signed" in message) is (alter in (shorten, rewrite))


def test_what_the_other_end_saw_is_named_where_that_is_what_differs(
    tmp_path: Path, log: Json, identity: Identity, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"log": "north", "key": Identity.create(tmp_path / "n").public, "entries": [], "checkpoints": []}
    path = tmp_path / "other.json"
    path.write_text(json.dumps({**other, "kept": [mark(log["entries"], 4, identity)]}))
    cut = {**log, "entries": log["entries"][:3], "checkpoints": [mark(log["entries"], 3, identity)]}
    assert verify(tmp_path, cut, "--against", str(path)) == 1
    assert said(capsys)[0] == "the log ends at entry 3, but what the other end saw is of entry 4: its end was cut"
    rewrite(log)
    log["checkpoints"] = []
    assert verify(tmp_path, log, "--against", str(path)) == 1
    assert said(capsys)[0].startswith("entry 4 does not fit what the other end saw")


def test_an_export_overwrites_nothing_and_is_its_owners_alone(
    tmp_path: Path, log: Json, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, pages = tmp_path / "audit.json", [log["entries"], []]

    def get(path: str, after: int = 0) -> Json:
        page = {"key": log["key"], "checkpoint": None}
        return {**page, "entries": pages.pop(0)} if path == "/v1/audit" else {"checkpoints": []}

    monkeypatch.setattr(cli_audit, "federation", lambda: SimpleNamespace(get=get))
    assert app.run(["audit", "export", str(file)]) == 0
    assert file.stat().st_mode & 0o777 == 0o600 and json.loads(file.read_text())["entries"] == log["entries"]
    kept = file.read_bytes()
    (tmp_path / "link.json").symlink_to(tmp_path / "elsewhere.json")
    for path in (file, tmp_path / "link.json"):
        assert app.run(["audit", "export", str(path)]) != 0
        assert "name a new one" in capsys.readouterr().err
    assert file.read_bytes() == kept and not (tmp_path / "elsewhere.json").exists()
