"""`consilium` processes that begin where the imports end: one process has imported the product, and forks for each.

What is forked is a process like any other, in a session of its own: what it runs, on which files, with which variables
and how it dies is as it would be, but for the second of processor time in which Python reads the same modules. Of
hundreds of processes in the tests, that was a fifth of all their time. A bench on PYTHONPATH is loaded after the fork.
"""

import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

IMPORTED = (  # not duckdb, and so not what reads tables: a fork of it ends in `terminate called`, and not with 0
    "consilium.coordinator.app", "consilium.coordinator.cli", "consilium.site.agent", "consilium.site.cli",
    "consilium.data.contract", "joserfc.jwt", "numpy.ma",
)  # fmt: skip
OURS = str(Path(__file__).parents[2] / "src")
MOST = 1 << 20


def serve(line: socket.socket) -> list[str]:
    """Fork for each request; in the child, give back its words."""
    from importlib import import_module

    for name in IMPORTED:
        import_module(name)
    gc.collect()
    gc.freeze()
    while True:
        data, handles, _, _ = socket.recv_fds(line, MOST, 1)
        if not data:
            os._exit(0)
        ask = json.loads(data)
        if "imports" in ask:
            told: Any = str(import_module(ask["imports"]).__name__)
        elif "words" in ask:
            ready, begun = os.pipe()
            child = os.fork()
            if not child:
                line.close()
                become(ask["variables"], ask["folder"], handles[0])
                os.close(ready)
                os.close(begun)
                return list(ask["words"])
            os.close(begun)
            os.read(ready, 1)  # until it leads a group, and can be killed with all its children
            for handle in (ready, handles[0]):
                os.close(handle)
            told = child
        else:
            ended, status = os.waitpid(ask["pid"], os.WNOHANG)
            told = os.waitstatus_to_exitcode(status) if ended else None
        line.send(json.dumps(told).encode())


def become(variables: Mapping[str, str], folder: str, out: int) -> None:
    """Be a process of one's own in a folder, with these variables, that writes to `out`."""
    os.setsid()
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, handle in ((0, nothing), (1, out), (2, out)):
        os.dup2(handle, number)
    os.close(nothing)
    os.close(out)
    os.environ.clear()
    os.environ.update(variables)


class Forked:
    """As much of `subprocess.Popen` as the tests need, of a process that the nursery forked."""

    def __init__(self, nursery: "Nursery", pid: int) -> None:
        self._nursery, self.pid, self.returncode = nursery, pid, None

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""
        if self.returncode is None:
            self.returncode = self._nursery.ask({"pid": self.pid})
        return self.returncode

    def wait(self, seconds: float | None = None) -> int:
        """Wait for its end. Raises: subprocess.TimeoutExpired."""
        ends = None if seconds is None else time.monotonic() + seconds
        while (status := self.poll()) is None:
            if ends is not None and time.monotonic() > ends:
                raise subprocess.TimeoutExpired(f"process {self.pid}", seconds or 0.0)
            time.sleep(0.005)
        return status


class Nursery:
    """The process that forks; it is started when it is first needed, and ends with this one."""

    def __init__(self) -> None:
        self._lock, self._line, self._of = threading.Lock(), None, 0

    def ask(self, what: Mapping[str, Any], *handles: int) -> Any:
        """One request and its answer."""
        with self._lock:
            if self._of != os.getpid():
                self._start()
            socket.send_fds(self._line, [json.dumps(what).encode()], handles)
            return json.loads(self._line.recv(MOST))

    def _start(self) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", __file__, str(theirs.fileno())]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, stdin=quiet, stdout=quiet, pass_fds=[theirs.fileno()], start_new_session=True,
            env={**os.environ, "PYTHONPATH": OURS, "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        theirs.close()
        self._of = os.getpid()

    def imports(self, module: str) -> None:
        """From now on processes begin with this module imported, too."""
        self.ask({"imports": module})

    def begin(self, words: Sequence[str | Path], variables: Mapping[str, str], out: int) -> Forked:
        """Start `consilium` with these words."""
        told = {"words": list(map(str, words)), "variables": dict(variables), "folder": str(Path.cwd())}
        return Forked(self, int(self.ask(told, out)))


def main() -> None:
    """Serve; and in each child, be `consilium`."""
    with socket.socket(fileno=int(sys.argv[1])) as line:
        words = serve(line)
    sys.argv, sys.orig_argv = words, [sys.executable, *words]
    if paths := os.environ.get("PYTHONPATH"):
        sys.path[:0] = paths.split(os.pathsep)
        sys.modules.pop("sitecustomize", None)
        with contextlib.suppress(ModuleNotFoundError):
            import sitecustomize  # noqa: F401
    from consilium.console.cli.app import main as consilium

    consilium()


if __name__ == "__main__":
    main()
