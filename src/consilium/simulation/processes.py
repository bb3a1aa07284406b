"""Child processes of a federation on this machine: started together, watched, and ended together, whatever happens."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from consilium.core.errors import Conflict, Unavailable
from consilium.training.limits import end_with

READY_S, END_S = 60.0, 15.0
DEATHS, SHORT_S = 3, 60.0
"""A process that ends so often in so short a time is not started again: it cannot run, and says why in its log."""
LED_ASTRAY = ("CONSILIUM_", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
"""Variables that would lead the commands of a federation on this machine elsewhere."""


def foreign() -> list[str]:
    """Names of variables of this process that commands must not see, sorted."""
    return sorted(name for name in os.environ if name.upper().startswith(LED_ASTRAY))


def environment(**more: str) -> dict[str, str]:
    """What commands and agents see: this process's environment without `foreign`, this installation first on PATH."""
    kept = {name: value for name, value in os.environ.items() if name not in foreign()}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return {**kept, "PATH": path, **more}


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def demand_port(port: int, remedy: str = "choose another with --port") -> None:
    """Raises: Conflict: somebody listens on `port` of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Conflict(f"port {port} of this machine is in use", remedy) from error


class Children:
    """Processes by name, in the order in which they were started. They do not outlive the thread that starts them."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self._folder, self._variables = folder, dict(variables)
        self._running: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
        self._deaths: dict[str, list[float]] = {}

    def start(self, name: str, words: Sequence[str], log: Path) -> None:
        """Start one whose output goes to the end of `log`; Ctrl-C in the terminal does not reach it."""
        with log.open("ab") as out:
            process = subprocess.Popen(  # noqa: S603
                list(words), cwd=self._folder, env=environment(**self._variables), stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, start_new_session=True, preexec_fn=partial(end_with, os.getpid()),
            )  # fmt: skip
        self._running[name] = (process, log)

    def check(self) -> None:
        """Raises: Unavailable: one has ended; the message holds the last lines that it wrote."""
        for name, (process, log) in self._running.items():
            if process.poll() is not None:
                last = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
                raise Unavailable(f"{name} has ended (status {process.returncode}):\n{last}", f"see {log}")

    def revive(self, now: float) -> list[str]:
        """Start again those that have ended; what is to be said of it. `now`: in seconds, of any clock.

        Raises: Unavailable: one ends again and again; the message holds the last lines that it wrote.
        """
        said = []
        for name, (process, log) in list(self._running.items()):
            if process.poll() is None:
                continue
            recent = [at for at in self._deaths.get(name, []) if now - at < SHORT_S]
            self._deaths[name] = [*recent, now]
            if len(recent) + 1 >= DEATHS:
                self.check()
            self.start(name, [str(word) for word in process.args], log)  # type: ignore[union-attr]
            said.append(f"{name} had ended (status {process.returncode}), and was started again")
        return said

    def until_said(self, name: str, words: str, since: int) -> None:
        """Wait until the log of `name` holds `words` beyond its first `since` bytes. Raises: Unavailable."""
        log, deadline = self._running[name][1], time.monotonic() + READY_S
        while words.encode() not in log.read_bytes()[since:]:
            self.check()
            if time.monotonic() > deadline:
                raise Unavailable(f"{name} was not ready within {READY_S:g} s", f"see {log}")
            time.sleep(0.02)

    def end(self) -> None:
        """End all, the first one last: by SIGTERM, and what is left after a while by SIGKILL."""
        everyone = list(self._running.values())
        for group in (everyone[1:], everyone[:1]):  # the coordinator, which was first, hears the others to the end
            for process, _ in group:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
            ends = time.monotonic() + END_S
            for process, _ in group:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(ends - time.monotonic(), 0.1))
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._running.clear()


@contextlib.contextmanager
def ended_at_last(children: Children) -> Iterator[None]:
    """End the children at the end of the block, at Ctrl-C, and at SIGTERM."""

    def interrupted(number: int, frame: FrameType | None) -> Any:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupted)
    try:
        yield
    finally:
        ignored = [(number, signal.signal(number, signal.SIG_IGN)) for number in (signal.SIGINT, signal.SIGTERM)]
        children.end()
        for number, handler in ignored:
            signal.signal(number, handler)
        signal.signal(signal.SIGTERM, before)
