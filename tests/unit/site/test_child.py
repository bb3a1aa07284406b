"""What a child process says: one answer in time, of bounded length; and of foreign code, nothing in its own words."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consilium.console.cli import app
from consilium.core.errors import ConsiliumError, Refused, TrainingFailed
from consilium.governance.policy import Limits
from consilium.site import failures
from consilium.site.child import LOG_MOST, MOST, OF_FOREIGN, Child
from consilium.site.failures import LOG
from consilium.site.folder import Folder
from consilium.site.worker import Worker

SECRET = "patient 4711, born 1950-01-01, has the disease"
SECONDS = 0.5 / 60


class Talker(Child):
    """A child whose program says what we like, as foreign code can."""

    def says(self, program: str) -> ConsiliumError:
        self._process.kill()
        self._process.wait()
        code = f"import sys, json, time; out = sys.stdout; sys.stdin.readline(); {program}; out.flush(); time.sleep(60)"
        self._process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with pytest.raises(ConsiliumError) as caught:
            self.ask({"do": "train"})
        return caught.value


@pytest.fixture(params=[True, False], ids=["foreign", "ours"])
def talker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Talker]:
    made = Talker(tmp_path, Limits(), foreign=request.param)
    yield made
    made.close()


@pytest.fixture(params=[True, False], ids=["foreign", "ours"])
def hurried(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Talker]:
    """One whose answer is not awaited for long."""
    made = Talker(tmp_path, Limits(round_minutes=SECONDS), foreign=request.param)
    yield made
    made.close()


@pytest.mark.parametrize("program", ["out.write('{')", "pass"])
def test_who_begins_an_answer_and_goes_silent_is_ended_in_time(hurried: Talker, program: str) -> None:
    error = hurried.says(program)
    assert isinstance(error, TrainingFailed) and "minutes" in error.message


def test_an_answer_without_end_is_not_kept(talker: Talker) -> None:
    error = talker.says(f"out.write('x' * {MOST + 1})")
    assert isinstance(error, TrainingFailed) and "without end" in error.message


@pytest.mark.parametrize("told", [
    {"code": "training-failed", "message": SECRET, "remedy": SECRET},
    {"code": "refused", "message": SECRET, "reason": "patient-4711"},
    {"code": "refused", "message": SECRET, "reason": "cannot-confine"},
    {"code": "unavailable", "message": SECRET, "reason": SECRET},
    {"code": SECRET, "message": SECRET},
])  # fmt: skip
def test_foreign_code_tells_nobody_what_it_saw(tmp_path: Path, told: dict[str, Any]) -> None:
    child = Talker(tmp_path, Limits(), foreign=True)
    try:
        error = child.says(f"out.write({json.dumps(told)!r} + chr(10))")
    finally:
        child.close()
    assert "4711" not in repr((error.message, error.remedy, error.code, getattr(error, "reason", "")))
    assert error.message in OF_FOREIGN.values()
    if told.get("reason") == "cannot-confine":
        assert isinstance(error, Refused) and error.reason == "cannot-confine"
    else:
        assert isinstance(error, TrainingFailed)
    assert "4711" in (tmp_path / "child.log").read_text()


def test_what_foreign_code_failed_with_is_read_at_the_hospital_and_leaves_in_no_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its traceback may quote patients: it is the site's user's alone, and outlives the files of the run."""
    site = Folder.create(tmp_path / "site")
    run = site.run("heart-1")
    child = Child(run, Limits(), foreign=True)
    lost = tmp_path / "of patient 4711\x1b[2J"
    load = {"do": "load", "plan": str(lost), "initial": "", "table": "", "confine": {"read": [], "write": []}}
    try:
        with pytest.raises(TrainingFailed) as caught:
            child.ask(load)
    finally:
        child.close()
    assert caught.value.message == OF_FOREIGN["training-failed"] and "4711" not in str(caught.value)
    assert (run / LOG).stat().st_mode & 0o777 == 0o600
    parts: Any = dict.fromkeys(("identity", "journal", "states", "veto", "steps", "updates", "pairing", "seats"))
    task: Any = SimpleNamespace(run="heart-1", round=3)
    Worker(folder=site, stop=Event(), declaring=cast(Any, None), **parts)._heard(task, caught.value, 0.0)
    (path,) = site.failures.iterdir()
    assert str(path) in caplog.text and "consilium site log heart-1" in caplog.text and "4711" not in caplog.text
    assert path.stat().st_mode & 0o777 == 0o600 and site.failures.stat().st_mode & 0o077 == 0
    with monkeypatch.context() as full:
        full.setattr(failures, "replace_file", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        Worker(folder=site, stop=Event(), declaring=cast(Any, None), **parts)._heard(task, caught.value, 0.0)
    assert "cannot be kept: No space left" in caplog.text
    assert failures.keep(site, "heart-1", "round 4", time.time() + 60, datetime.now(UTC)) is None, "said before"
    shutil.rmtree(run)
    assert app.run(["site", "log", "--home", str(site.home)]) == 0
    assert "round 3 of heart-1 was refused here" in capsys.readouterr().out
    assert app.run(["site", "log", "heart-1", "--home", str(site.home)]) == 0
    said = capsys.readouterr().out
    assert "Traceback" in said and "FileNotFoundError" in said and "4711" in said and "\x1b" not in said
    assert app.run(["site", "log", "../heart-1", "--home", str(site.home)]) == 5


def test_what_a_child_prints_without_end_fills_no_disk(tmp_path: Path) -> None:
    child = Talker(tmp_path, Limits(), foreign=True)
    with (tmp_path / LOG).open("ab") as file:
        file.write(b"x" * LOG_MOST + b"\nthe end")
        child.close()
        child.close()
        file.write(b", and what was printed after it was cut")
    said = (tmp_path / LOG).read_bytes()
    assert len(said) < LOG_MOST and said.endswith(b"the end, and what was printed after it was cut")


def test_our_own_child_is_believed(tmp_path: Path) -> None:
    child = Talker(tmp_path, Limits())
    told = {"code": "refused", "message": "why", "remedy": "what", "reason": "cannot-confine"}
    try:
        error = child.says(f"out.write({json.dumps(told)!r} + chr(10))")
    finally:
        child.close()
    assert isinstance(error, Refused) and (error.message, error.reason) == ("why", "cannot-confine")
