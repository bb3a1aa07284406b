"""What a pytest started does not outlive it, whatever ends it: nobody finds agents of yesterday's tests."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from e2e import guard
from e2e.guard import born
from e2e.postgres import missing
from e2e.processes import until

TESTS = Path(__file__).parents[1]
STARTS = """
import sys, threading, time
from pathlib import Path
from e2e.processes import Process
folder = Path(sys.argv[1])
script = "trap '' TERM HUP; sleep 600 & echo $$ $!; wait"
long, short = (Process(["bash", "-c", script], folder / name) for name in ("long", "short"))
thread = threading.Thread(target=long.start)  # the thread that starts a process may end before it
thread.start(), thread.join(), short.start()
for one in (long, short):
    one.until(lambda one=one: one.said.endswith("\\n"), "it runs")
short.kill()
"""
PROCESSES = STARTS + "print(*long.said.split(), flush=True)"
POSTGRES = """
import time
from e2e.postgres import Postgres
made = Postgres()
made.start()
print((made.folder / "data" / "postmaster.pid").read_text().split()[0], made.folder, flush=True)
"""


def killed(code: str, folder: Path, number: int) -> list[str]:
    """What a process printed that had started others and was then ended by a signal."""
    command = [sys.executable, "-c", f"{code}\ntime.sleep(600)", str(folder)]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(TESTS)}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.readline().decode().split()
        assert born(int(said[0])), "it lives for as long as the one who started it"
        process.send_signal(number)
        assert process.wait(60) == -number
    return said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_processes_and_their_children_end_with_the_pytest_that_started_them(tmp_path: Path, number: int) -> None:
    leader, child = killed(PROCESSES, tmp_path, number)
    until(lambda: not born(int(leader)) and not born(int(child)), "both are gone")


def test_a_database_ends_with_the_pytest_that_started_it(tmp_path: Path) -> None:
    why = missing()
    if why is not None:
        pytest.skip(why)
    leader, folder = killed(POSTGRES, tmp_path, signal.SIGKILL)
    until(lambda: not born(int(leader)), "the server is gone")
    shutil.rmtree(folder, ignore_errors=True)


def test_whoever_has_the_number_of_a_process_that_ended_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        assert guard.left([f"+ {process.pid}\n", "+ 1\n", "- 1\n"]) == {process.pid: born(process.pid)}
        guard.finish({process.pid: "1"})
        assert process.poll() is None
        guard.finish({process.pid: born(process.pid)})
        assert process.wait(60) == -signal.SIGKILL
