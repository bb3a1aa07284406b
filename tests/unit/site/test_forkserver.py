"""Children that are forked: what they have of the agent, whose end is theirs, and what happens when none can be had."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from consilium.governance.policy import Limits
from consilium.site.child import Child
from consilium.site.forkserver import NAME, Ended, ForkServer
from consilium.training.child import NAME as CHILD
from e2e.processes import begin, end, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there are children forked")
SECRET = b"the password of the database"
AGENT = """
import os, sys
os.environ["LATER"] = sys.argv[1][::-1]
from pathlib import Path
from consilium.core.errors import ConsiliumError
from consilium.governance.policy import Limits
from consilium.site.child import Child, environment
from consilium.site.forkserver import ForkServer

secret = open("secret")
forks = ForkServer.start(environment())
folder = Path.cwd()
print(os.getpid(), flush=True)
for line in sys.stdin:
    child = Child(folder, Limits(memory_gb=3, file_gb=2), forks=forks)
    print(child._process.pid, flush=True)
    try:
        child.ask({"do": "load", "plan": line.strip(), "initial": "", "table": ""})
    except ConsiliumError as error:
        print(type(error).__name__, flush=True)
    if line == "close\\n":
        child.close()
        child.close()
"""
"""A process that treats children as an agent does: it says its number, and for each line the child's and its end."""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "secret").write_text("of patients")
    variables = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **{f"PASSWORD_{i}": SECRET.decode() for i in range(50)}}
    process = begin(
        [sys.executable, "-c", AGENT, SECRET[::-1].decode()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=variables,
    )
    assert int(process.stdout.readline()) == process.pid
    yield process
    end(process.pid)
    process.wait()
    process.stdin.close()
    process.stdout.close()


def child_of(agent: subprocess.Popen[str], plan: str = "none") -> tuple[int, str]:
    """A child that was asked to load a plan that is not there: its number, and what came of it."""
    agent.stdin.write(f"{plan}\n")
    agent.stdin.flush()
    return int(agent.stdout.readline()), agent.stdout.readline().strip()


def remembers(process: int, word: bytes) -> bool:
    """Whether a word stands anywhere in the memory that a process can write."""
    place = Path(f"/proc/{process}")
    with (place / "mem").open("rb", 0) as memory:
        for line in (place / "maps").read_text().splitlines():
            where, rights = line.split()[:2]
            begins, ends = (int(one, 16) for one in where.split("-"))
            if "w" in rights and memory.seek(begins) == begins and word in memory.read(ends - begins):
                return True
    return False


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def lives(process: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_child_has_neither_the_variables_of_the_agent_nor_its_files(agent: subprocess.Popen[str]) -> None:
    made, _ = child_of(agent)
    server = parent(made)
    assert parent(server) == agent.pid, "it was not forked"
    for process, name in ((made, CHILD), (server, NAME)):
        place = Path(f"/proc/{process}")
        for file in ("comm", "cmdline"):  # else whoever looks for the agent finds three
            assert (place / file).read_text().strip("\0\n") == name
        assert not (place / "environ").read_bytes().strip(b"\0")
        assert not remembers(process, SECRET)
        files = {str(file.readlink()) for file in (place / "fd").iterdir()}
        assert not any(file.endswith("secret") for file in files), files
        assert any(file.startswith("socket") for file in files) == (process == server), "a child could ask for others"
    assert remembers(agent.pid, SECRET), "the control"


def test_a_child_may_use_what_the_policy_says_and_has_its_own_variables(agent: subprocess.Popen[str]) -> None:
    made, _ = child_of(agent)
    limits = Path(f"/proc/{made}/limits").read_text()
    for what, gigabytes in (("address space", 3), ("file size", 2)):
        assert re.search(rf"^Max {what} +{gigabytes << 30} ", limits, re.MULTILINE), limits
    assert os.getpriority(os.PRIO_PROCESS, made) - os.getpriority(os.PRIO_PROCESS, agent.pid) == 5
    assert remembers(made, b"OPENBLAS_NUM_THREADS=1\0")


def test_children_end_with_their_agent_whatever_ends_it(agent: subprocess.Popen[str]) -> None:
    made, _ = child_of(agent)
    server = parent(made)
    for process in (made, server):
        os.kill(process, signal.SIGSTOP)
    os.kill(agent.pid, signal.SIGKILL)
    until(lambda: not lives(server) and not lives(made), "both have ended")


def test_a_child_that_is_ended_twice_ends_nobody_else(agent: subprocess.Popen[str]) -> None:
    first, _ = child_of(agent, "close")
    second, _ = child_of(agent)
    assert not lives(first) and lives(second) and parent(second) != agent.pid


def test_where_the_process_that_forks_has_ended_a_program_is_started(agent: subprocess.Popen[str]) -> None:
    first, failed = child_of(agent)
    os.kill(parent(first), signal.SIGKILL)
    until(lambda: not lives(first), "its child has ended with it")
    second, again = child_of(agent)
    assert parent(second) == agent.pid
    assert failed == again == "TrainingFailed"


def test_a_process_with_threads_does_not_fork() -> None:
    program = (
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "from consilium.site.forkserver import ForkServer; assert ForkServer.start({}) is None"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_foreign_code_gets_a_program_of_its_own(tmp_path: Path) -> None:
    class Never(ForkServer):
        def __init__(self) -> None:
            self.asked = 0

        def child(self, *_: object) -> None:
            self.asked += 1
            raise Ended

    forks = Never()
    for foreign, asked in ((True, 0), (False, 1)):
        child = Child(tmp_path, Limits(), foreign=foreign, forks=forks)
        child.close()
        assert forks.asked == asked
        assert "consilium.training.child" in child._process.args


def test_variables_are_overwritten_where_python_keeps_them() -> None:
    program = (
        "import os; from consilium.site import forkserver; value = os.environb[b'PASSWORD']\n"
        "forkserver._forget({'LANG': 'C'}); assert set(value) == {0} and dict(os.environ) == {'LANG': 'C'}"
    )
    variables = {**os.environ, "PASSWORD": SECRET.decode()}
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env=variables)


@pytest.mark.parametrize(
    "told", ["1 (a) S " + " ".join(["0"] * 49), "1 (a) S 0", None], ids=["zeros", "short", "nothing"]
)
def test_where_the_kernel_tells_less_children_are_programs(told: str | None) -> None:
    """As in some sandboxes of containers."""
    program = (
        "import sys; from pathlib import Path; from consilium.site.forkserver import ForkServer\n"
        f"told = {told!r}\n"
        "def read(self, *_):\n"
        "    if told is None: raise FileNotFoundError(self)\n"
        "    return told\n"
        "Path.read_text = read\n"
        "from consilium.training.limits import named; named('name')\n"
        "assert ForkServer.start({}) is None"
    )
    variables = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env=variables)


def test_what_is_imported_before_the_fork_has_no_threads_of_its_own() -> None:
    """duckdb does: a process that was forked beside it ends by SIGABRT."""
    code = "import sys, consilium.site.agent; sys.exit(str(sorted({'duckdb', 'torch', 'pyarrow'} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"
