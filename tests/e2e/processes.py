"""Processes under test: started as people start them, waited for without sleeps, ended by SIGTERM or killed."""

import contextlib
import functools
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from consilium.console.cli import app
from e2e.nursery import Forked, Nursery

CONSILIUM = Path(sys.executable).with_name("consilium")
PATIENCE_S = 120.0
"""A wait that takes longer has failed; what is awaited takes a second, or many where the machine does much else."""
FOREIGN = ("CONSILIUM_", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE")


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what would lead a child elsewhere, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(FOREIGN)}
    return kept | more


def until(true: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    """Ask again and again, the more seldom the longer it takes: who asks must not slow down what is awaited.

    Raises: TimeoutError naming `what`.
    """
    begun = time.monotonic()
    while not true():
        waited = time.monotonic() - begun
        if waited > seconds:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(min(max(waited / 10, 0.01), 0.2))


def consilium(*words: str | Path, **more: str) -> str:
    """One `consilium` command to its end; its standard output. Raises: AssertionError with what it said."""
    done = subprocess.run(
        [CONSILIUM, *words], env=environment(**more), capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, f"consilium {' '.join(map(str, words))}: {done.stderr}"
    return done.stdout


def here(*words: str | Path, **more: str) -> tuple[int, str]:
    """One `consilium` command in this process: exit code, and all that it said; `more` are environment variables.

    It is the same code, and saves a second for each of the hundreds of commands that only prepare a test.
    """
    said = io.StringIO()
    with mock.patch.dict(os.environ, more), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = app.run(list(map(str, words)))
    return code, said.getvalue()


class _Guard:
    """The process that ends what this one leaves behind; see e2e/guard.py."""

    def __init__(self) -> None:
        self._input, self._lock, self._of = -1, threading.Lock(), 0

    def tell(self, sign: str, leader: int) -> None:
        """Note that a group lives (+), or has ended (-)."""
        with self._lock:
            if self._of != os.getpid():
                self._start()
            os.write(self._input, f"{sign} {leader}\n".encode())  # in one piece, whichever thread

    def _start(self) -> None:
        read, self._input = os.pipe()
        command = [sys.executable, "-I", Path(__file__).with_name("guard.py")]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=read, stdout=quiet, stderr=quiet, start_new_session=True)
        os.close(read)
        self._of = os.getpid()


_guard = _Guard()
nursery: Nursery | None = None
"""Where processes of `consilium` come from, in tests; else, as in measurements, each is started anew."""


def imported(module: str) -> None:
    """Processes that begin from now on need this module, too; where it can be imported for all, it is."""
    if nursery is not None:
        nursery.imports(module)


def guarded(leader: int) -> None:
    """See to it that the process group of `leader` does not outlive this process, whatever kills it."""
    _guard.tell("+", leader)


def begin(command: Sequence[str | Path], **more: Any) -> subprocess.Popen[Any]:
    """Start a process in a group of its own that does not outlive this one. `more`: as `subprocess.Popen` takes it.

    It hears Ctrl-C, also where pytest itself was started in the background, with SIGINT ignored.
    """
    hears = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process: subprocess.Popen[Any] = subprocess.Popen(command, start_new_session=True, preexec_fn=hears, **more)
    guarded(process.pid)
    return process


def end(leader: int) -> None:
    """End a process group by SIGKILL; harmless when it has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
    _guard.tell("-", leader)


class Process:
    """A long-running process whose output goes to a file. It may be started again after it ended."""

    def __init__(self, command: Sequence[str | Path], log: Path, variables: Mapping[str, str] | None = None) -> None:
        self.command, self.log, self.variables = list(command), log, dict(variables or {})
        self._process: subprocess.Popen[bytes] | Forked | None = None

    def start(self) -> None:
        """Start it, in a group of its own."""
        assert not self.alive
        with self.log.open("ab") as out:
            variables = environment(**self.variables)
            if nursery is not None and self.command[0] == CONSILIUM:
                self._process = nursery.begin(self.command, variables, out.fileno())
                guarded(self._process.pid)
            else:
                self._process = begin(self.command, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id, also after its end."""
        assert self._process is not None
        return self._process.pid

    @property
    def said(self) -> str:
        """All that it wrote so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def until(self, true: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
        """As `until`, but gives up at once, with its output, when the process ends before."""

        def check() -> bool:
            if true():
                return True
            assert self.alive, f"{what}: the process ended: {self.said[-3000:]}"
            return False

        until(check, what, seconds)

    def signal(self, number: int) -> None:
        """Send a signal, such as SIGSTOP, to this process alone."""
        os.kill(self.pid, number)

    def stop(self) -> int:
        """End it by SIGTERM; its exit status. Raises: subprocess.TimeoutExpired: it did not end."""
        assert self._process is not None
        if self.alive:
            self.signal(signal.SIGTERM)
        try:
            return self._process.wait(PATIENCE_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it and its children by SIGKILL, as a power cut would; harmless when it has ended."""
        if self._process is None:
            return
        end(self._process.pid)
        self._process.wait()
