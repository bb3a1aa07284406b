"""The child process in which training runs: it gets files and answers lines; it has no token, key or journal."""

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from consilium.core.errors import Refused, TrainingFailed, every
from consilium.governance.policy import Limits

KEPT = ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "LD_LIBRARY_PATH")
"""What of the agent's environment the child sees: no tokens, no proxies, no passwords of databases."""
OUT_OF_MEMORY = "it may have used more memory than limits.memory_gb allows"


class Died(TrainingFailed):
    """The child ended without an answer: killed, or out of memory."""


class Child:
    """One warm child, for one plan at this site: it keeps the examples between rounds and nothing else."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._limits = limits
        self._log = (folder / "child.log").open("ab")
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        gigabyte = 1 << 30
        sizes = [str(int(limits.memory_gb * gigabyte)), str(int(limits.file_gb * gigabyte)), str(os.getpid())]
        self._process = subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, "-P", "-m", "consilium.training.child", *sizes],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment, cwd=folder,
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
        kind = every().get(str(told.get("code")), TrainingFailed)
        message, remedy = str(told.get("message")), str(told.get("remedy", ""))
        raise Refused(message, remedy, reason=str(told.get("reason"))) if kind is Refused else kind(message, remedy)

    def _line(self, stdout: IO[bytes]) -> bytes:
        if not select.select([stdout], [], [], self._limits.round_minutes * 60)[0]:
            raise TrainingFailed(
                f"training took more than {self._limits.round_minutes:g} minutes",
                "raise limits.round_minutes in the policy, or ask for a smaller study",
            )
        line = stdout.readline()
        if not line:
            raise Died("the training process was ended", OUT_OF_MEMORY)
        return line

    def close(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                stream.close()
