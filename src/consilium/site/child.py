"""The child process in which training runs: it gets files and answers lines; it has no token, key or journal."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from consilium.core.errors import ConsiliumError, Refused, TrainingFailed, every
from consilium.governance.policy import Limits
from consilium.site.failures import LOG
from consilium.site.forkserver import Ended, Forked, ForkServer
from consilium.site.room import used
from consilium.training.limits import ONE_THREAD

KEPT = ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "LD_LIBRARY_PATH")
"""What of the agent's environment the child sees: no tokens, no proxies, no passwords of databases."""
MOST = 64 << 10
"""Bytes of one answer; what a child says beyond it is not kept in the agent's memory."""
OF_FOREIGN = {
    "cannot-confine": "this host cannot confine foreign code",
    "wheel": "the study's wheel holds what a wheel may not",
    "extra": "this hospital's agent lacks a package that the study's model needs",
    "study-invalid": "the study's wheel or model is not what the study says of it",
    "initial-model": "the study's first model is not the one that its code makes from its seed",
    "digest-mismatch": "the wheel or the initial model is not the one that the study names",
    "data-unusable": "no patient is left for training",
    "training-failed": "the study's own code or model failed",
}
"""Reasons that a child with foreign code may give, in our words: in its own it could tell what it saw of patients."""
LOG_MOST = 1 << 20
"""Bytes of what a child prints that stay."""
LOOK_S = 1.0
"""How often it is looked at what foreign code writes."""
OUT_OF_MEMORY = "it may have used more memory than limits.memory_gb allows"


def environment() -> dict[str, str]:
    """The variables of a child."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return kept | ONE_THREAD | {"PYTHONDONTWRITEBYTECODE": "1"}


class Died(TrainingFailed):
    """The child ended without an answer: killed, or out of memory."""


class Child:
    """One warm child, for one plan at this site: it keeps the examples between rounds and nothing else.

    Args:    foreign: whether code or a graph of the study's own runs in it: then its words go no further than its log,
                      and it is a program of its own.
             forks: the process that forks it; without one, or where it has ended, a program is started.
    """

    def __init__(self, folder: Path, limits: Limits, *, foreign: bool = False, forks: ForkServer | None = None) -> None:
        self._limits, self._foreign, self._folder = limits, foreign, folder
        self._log = os.fdopen(os.open(folder / LOG, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "ab")
        self._shorten()
        gigabyte = 1 << 30
        sizes = [int(limits.memory_gb * gigabyte), int(limits.file_gb * gigabyte)]
        self._process = self._forked(None if foreign else forks, sizes) or self._started(sizes)

    def _forked(self, forks: ForkServer | None, sizes: list[int]) -> Forked | None:
        try:
            return forks.child(self._folder, sizes, self._log) if forks is not None else None
        except Ended:
            return None

    def _started(self, sizes: list[int]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, "-P", "-m", "consilium.training.child", *map(str, [*sizes, os.getpid()])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment(), cwd=self._folder,
            close_fds=True, start_new_session=True,
        )  # fmt: skip

    def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        """Send one command and wait for its answer, at most as long as the policy allows.

        Raises: ConsiliumError by the child's code; Died; TrainingFailed: it took too long.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(json.dumps(command).encode() + b"\n")
            stdin.flush()
            line = self._line(stdout)
        except BrokenPipeError as error:
            raise Died("the training process was ended", OUT_OF_MEMORY) from error
        try:
            told: dict[str, Any] = dict(json.loads(line))
        except (ValueError, TypeError) as error:
            raise TrainingFailed("the training process answered out of turn", "look into the study's code") from error
        if told.get("ok"):
            return told
        raise self._told(told)

    def _told(self, told: dict[str, Any]) -> ConsiliumError:
        code, reason = str(told.get("code")), str(told.get("reason"))
        message, remedy = str(told.get("message")), str(told.get("remedy", ""))
        if self._foreign:
            self._log.write(f"{message!r}\n".encode())
            self._log.flush()
            found = next((name for name in (reason, code) if name in OF_FOREIGN), "training-failed")
            code, reason = ("refused" if found == reason else found), found
            message, remedy = OF_FOREIGN[found], "at the hospital `consilium site log` shows what it said"
        kind = every().get(code, TrainingFailed)
        return Refused(message, remedy, reason=reason) if kind is Refused else kind(message, remedy)

    def _line(self, stdout: IO[bytes]) -> bytes:
        """One answer, whole: a child that begins one and goes silent, or never ends it, holds nothing up."""
        ends, found = time.monotonic() + self._limits.round_minutes * 60, bytearray()
        while not found.endswith(b"\n"):
            left = max(ends - time.monotonic(), 0)
            if not select.select([stdout], [], [], min(left, LOOK_S) if self._foreign else left)[0]:
                if left > LOOK_S and self._foreign:
                    self._fits()
                    continue
                raise TrainingFailed(
                    f"training took more than {self._limits.round_minutes:g} minutes",
                    "raise limits.round_minutes in the policy, or ask for a smaller study",
                )
            piece = os.read(stdout.fileno(), MOST)
            if not piece:
                raise Died("the training process was ended", OUT_OF_MEMORY)
            found += piece
            if len(found) > MOST:
                raise TrainingFailed("the training process answered without end", "look into the study's code")
        return bytes(found)

    def _fits(self) -> None:
        """Whether what foreign code writes stays within the disk that the policy gives. Raises: TrainingFailed."""
        self._shorten()
        if used(self._folder.parent) > self._limits.disk_gb * (1 << 30):
            self._process.kill()
            raise TrainingFailed("the study's code filled the disk beyond limits.disk_gb", "look into the study's code")

    def _shorten(self) -> None:
        """Keep the end of a log that has grown too long; who appends to it goes on behind that."""
        file = self._log.fileno()
        if (size := os.fstat(file).st_size) > LOG_MOST:
            end = os.pread(file, LOG_MOST // 2, size - LOG_MOST // 2)
            os.ftruncate(file, 0)
            os.write(file, b"[what was said before was cut]\n" + end)

    def close(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.wait()
        if not self._log.closed:  # it may have been ended before
            self._shorten()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # what it died before reading
                    stream.close()
