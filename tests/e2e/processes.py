"""Processes under test: started as people start them, waited for without sleeps, ended by SIGTERM or killed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

CONSILIUM = Path(sys.executable).with_name("consilium")
PATIENCE_S = 30.0
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
    """Ask again and again, at once and then at most every 20 ms. Raises: TimeoutError naming `what`."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)


def consilium(*words: str | Path, **more: str) -> str:
    """One `consilium` command to its end; its standard output. Raises: AssertionError with what it said."""
    done = subprocess.run(
        [CONSILIUM, *words], env=environment(**more), capture_output=True, text=True, timeout=PATIENCE_S * 2
    )
    assert done.returncode == 0, f"consilium {' '.join(map(str, words))}: {done.stderr}"
    return done.stdout


class Process:
    """A long-running process whose output goes to a file. It may be started again after it ended."""

    def __init__(self, command: Sequence[str | Path], log: Path, variables: Mapping[str, str] | None = None) -> None:
        self.command, self.log, self._variables = list(command), log, dict(variables or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, in a group of its own."""
        assert not self.alive
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self.command, env=environment(**self._variables), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip

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
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
