"""Children that begin where the imports end: a process forks them that was itself forked before any key was read.

The agent starts it (`ForkServer.start`) while it is one thread that has read nothing of its folder. It has the agent's
modules, and neither its variables nor its files; it ends with the agent.
Children with foreign code do not come from here (see `child`): they begin as a program of their own, of whose memory
nobody else knows how it is laid out.
"""

import contextlib
import ctypes
import gc
import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from consilium.training import child
from consilium.training.limits import end_with, named

MOST = 64 << 10
NAME = "consilium-forks"
"""What `ps` and `top` call the process."""


class Ended(Exception):
    """The process that forks has ended."""


class Forked:
    """As much of `subprocess.Popen` as a child needs."""

    def __init__(self, server: "ForkServer", pid: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self._server, self.pid, self.stdin, self.stdout = server, pid, stdin, stdout

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._server.end(self.pid)

    def wait(self) -> None:
        """It has ended: `kill` waits."""


class ForkServer:
    """The agent's end of the line to the process that forks."""

    def __init__(self, line: socket.socket) -> None:
        self._line, self._lock = line, threading.Lock()

    @classmethod
    def start(cls, kept: Mapping[str, str]) -> "ForkServer | None":
        """Fork the process; None where this one is not fit for it: it has threads, or the host is not Linux.

        Args:    kept: the variables of children.
        """
        if not sys.platform.startswith("linux") or len(list(Path("/proc/self/task").iterdir())) != 1:
            return None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        gc.collect()
        gc.freeze()
        agent = os.getpid()
        if not os.fork():
            _be(lambda: _serve(theirs, agent, kept))
        theirs.close()
        return cls(ours)

    def child(self, folder: Path, sizes: Sequence[int], log: IO[bytes]) -> Forked:
        """A child in a folder that has read nothing yet; its output goes to `log`.

        Args:    sizes: bytes of its memory, and of a file.
        Raises:  Ended.
        """
        commands, stdin = os.pipe()
        stdout, answers = os.pipe()
        try:
            pid = self._ask({"folder": str(folder), "sizes": list(sizes)}, commands, answers, log.fileno())
        except Ended:
            os.close(stdin)
            os.close(stdout)
            raise
        finally:
            os.close(commands)
            os.close(answers)
        return Forked(self, pid, os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb"))

    def end(self, pid: int) -> None:
        """End a child, and wait until it has."""
        with contextlib.suppress(Ended):  # then so has the child
            self._ask({"end": pid})

    def _ask(self, what: Mapping[str, object], *handles: int) -> int:
        with self._lock:
            try:
                socket.send_fds(self._line, [json.dumps(what).encode()], handles)
                told = self._line.recv(MOST)
            except OSError as error:
                raise Ended from error
        if not told:
            raise Ended
        return int(told)


def _be(what: Callable[[], None]) -> None:
    """Be a process of its own from here on, which does not come back into its parent's code."""
    try:
        what()
    except BaseException as error:
        traceback.print_tb(error.__traceback__)
    finally:
        sys.stderr.flush()
        os._exit(0)


def _serve(line: socket.socket, agent: int, kept: Mapping[str, str]) -> None:
    end_with(agent)
    os.setsid()  # a terminal's Ctrl-C is for the agent, which ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    named(NAME)
    _forget(kept)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(0, 1)
    _close_all_but(line.fileno())
    while True:
        data, handles, _, _ = socket.recv_fds(line, MOST, 3)
        if not data:
            return
        ask = json.loads(data)
        if "end" in ask:
            os.kill(ask["end"], signal.SIGKILL)
            told, _ = os.waitpid(ask["end"], 0)
        else:
            told = _fork(ask["folder"], ask["sizes"], handles)
            for handle in handles:
                os.close(handle)
        line.send(str(told).encode())


def _fork(folder: str, sizes: Sequence[int], handles: Sequence[int]) -> int:
    """A child that ends with this process, by the time its number is known."""
    ready, begun = os.pipe()
    server = os.getpid()
    made = os.fork()
    if not made:

        def train() -> None:
            end_with(server)
            os.setsid()
            os.chdir(folder)
            for number, handle in enumerate(handles):
                os.dup2(handle, number)
            os.write(begun, b"+")
            _close_all_but()
            child.serve(*sizes)

        _be(train)
    os.close(begun)
    os.read(ready, 1)
    os.close(ready)
    return made


def _close_all_but(*kept: int) -> None:
    for number in [int(file.name) for file in Path("/proc/self/fd").iterdir()]:
        if number > 2 and number not in kept:  # 0, 1 and 2 are this process's own
            with contextlib.suppress(OSError):
                os.close(number)


def _forget(kept: Mapping[str, str]) -> None:
    """Have these variables and no others, also in the memory in which Python and the kernel keep them."""
    for value in [*os.environ._data.values()]:  # type: ignore[attr-defined]
        if len(value) > 1:  # of one byte Python has one object for all
            ctypes.memset(id(value) + bytes.__basicsize__ - 1, 0, len(value))
    os.environ.clear()
    os.environ.update(kept)
    sys.dont_write_bytecode = True
    begins, ends = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[47:49])
    ctypes.memset(begins, 0, ends - begins)
