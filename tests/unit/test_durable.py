"""A small file is there whole, or as it was before, also on a full disk; and the same command can be given again."""

import errno
import json
import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from consilium import studyfile
from consilium.core.errors import Invalid
from consilium.durable import create_file, locked, replace_file
from consilium.governance.policy import TEMPLATE

HERE = str(Path(sys.executable).with_name("consilium"))


def run(most: int, *words: str) -> subprocess.CompletedProcess[str]:
    """A command that cannot write more than so many bytes to a file, as if the disk were full then."""
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most))
    variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([HERE, *words], capture_output=True, text=True, env=variables, preexec_fn=limit)


@pytest.mark.parametrize(
    "most", [60, pytest.param(0, marks=pytest.mark.long), pytest.param(1000, marks=pytest.mark.long)]
)
def test_after_a_full_disk_a_study_is_not_there(most: int, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    told = run(most, "study", "new", str(file))
    assert told.returncode == 5 and f"{file}: File too large" in told.stderr and "free space" in told.stderr
    assert list(tmp_path.iterdir()) == []
    assert run(1 << 20, "study", "new", str(file)).returncode == 0
    assert file.read_text() == studyfile.template("my-study")


@pytest.mark.parametrize(
    ("most", "name"),
    [(60, "journal.sqlite"), *(pytest.param(most, "policy.yaml", marks=pytest.mark.long) for most in (0, 200))],
)
def test_after_a_full_disk_a_site_is_made_by_the_same_command(most: int, name: str, tmp_path: Path) -> None:
    home = tmp_path / "site"
    if name == "journal.sqlite":  # the policy stands already
        home.mkdir()
        (home / "policy.yaml").write_text(TEMPLATE)
    told = run(most, "site", "init", "--home", str(home))
    words = f"{home / name}: File too large" if name == "policy.yaml" else f"no room for the journal {home / name}"
    assert told.returncode == 5 and words in told.stderr
    assert not (home / "identity.key").exists()
    assert run(4 << 20, "site", "init", "--home", str(home)).returncode == 0
    assert (home / "policy.yaml").read_text() == TEMPLATE
    assert not [path.name for path in home.iterdir() if path.name.endswith(".new")]


@pytest.mark.parametrize(
    "most", [200, pytest.param(60, marks=pytest.mark.long), pytest.param(500, marks=pytest.mark.long)]
)
def test_after_a_full_disk_a_coordinator_is_made_by_the_same_command(most: int, tmp_path: Path) -> None:
    words = ("coordinator", "init", "--home", str(tmp_path / "c"), "--url", "https://fl.example.org:8443")
    told = run(most, *words)
    assert told.returncode == 5 and f"{tmp_path / 'c'}/" in told.stderr and "File too large" in told.stderr
    assert run(4 << 20, *words).returncode == 0
    settings = tmp_path / "c" / "coordinator.json"
    assert json.loads(settings.read_text())["url"] == words[-1] and settings.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_made_durable_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    replace_file(old, b"before", 0o600)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for write, path in ((replace_file, old), (create_file, new)):
        with pytest.raises(OSError, match="No space left") as told:
            write(path, b"after")
        assert told.value.filename == str(path)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("old", b"before")]


def test_a_new_file_takes_no_others_place(tmp_path: Path) -> None:
    path = tmp_path / "key"
    create_file(path, b"mine", 0o600)
    with pytest.raises(FileExistsError):
        create_file(path, b"other")
    assert path.read_bytes() == b"mine" and path.stat().st_mode & 0o777 == 0o600


def test_a_lock_is_one_process_s_and_a_disk_without_locks_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "lock").open("w") as first, (tmp_path / "lock").open("w") as second:
        assert locked(first) and not locked(second)
    with (tmp_path / "lock").open("w") as third:
        assert locked(third), "who held it has closed it"

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none)
    with (tmp_path / "lock").open("w") as file, pytest.raises(Invalid, match="cannot be locked: No locks available"):
        locked(file)
