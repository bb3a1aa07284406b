"""What a child process says: one answer in time, of bounded length; and of foreign code, nothing in its own words."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consilium.core.errors import ConsiliumError, Refused, TrainingFailed
from consilium.governance.policy import Limits
from consilium.site.child import MOST, OF_FOREIGN, Child

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


def test_our_own_child_is_believed(tmp_path: Path) -> None:
    child = Talker(tmp_path, Limits())
    told = {"code": "refused", "message": "why", "remedy": "what", "reason": "cannot-confine"}
    try:
        error = child.says(f"out.write({json.dumps(told)!r} + chr(10))")
    finally:
        child.close()
    assert isinstance(error, Refused) and (error.message, error.reason) == ("why", "cannot-confine")
