"""Children that begin where the imports end: a process forks them that was itself forked before any key was read.

The agent starts it (`ForkServer.start`) while it is one thread that has read nothing of its folder. It has the agent's
modules, umask and limits, and neither its variables nor its files; it ends with the agent, and its children with it.
Children with foreign code do not come from here (see `child`): they begin as a program of their own, of whose memory
nobody else knows how it is laid out.
"""

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from consilium.training import child
from consilium.training.limits import end_with, named, started_with

MOST = 64 << 10
ANSWER_S = 60.0
"""How long the process may take to fork."""
NAME = "consilium-forks"
"""What `ps` and `top` call the process."""


class Ended(Exception):
    """The process that forks has ended, or cannot fork."""


class Forked:
    """As much of `subprocess.Popen` as a child needs. `handle`: of the process, whoever has its number by then."""

    def __init__(self, pid: int, handle: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.pid, self._handle, self.stdin, self.stdout = pid, handle, stdin, stdout
        self._lock = threading.Lock()

    def kill(self) -> None:
        """End it by SIGKILL, unless it has ended."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._handle >= 0:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def wait(self) -> None:
        """Wait until it has ended."""
        with self._lock:
            if self._handle >= 0:
                select.select([self._handle], [], [])
                os.close(self._handle)
                self._handle = -1


class ForkServer:
    """The agent's end of the line to the process that forks, `pid`."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        self._pid, self._line, self._lock = pid, line, threading.Lock()

    @classmethod
    def start(cls, kept: Mapping[str, str]) -> "ForkServer | None":
        """Fork the process; None where this one is not fit for it: it has threads, or the host is not Linux.

        Args:    kept: the variables of children.
        """
        try:
            if not sys.platform.startswith("linux") or len(list(Path("/proc/self/task").iterdir())) != 1:
                return None
            os.close(os.pidfd_open(os.getpid()))
            for number in range(3):
                os.fstat(number)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            gc.collect()
            gc.freeze()
            agent = os.getpid()
            made = os.fork()
        except OSError:
            return None
        if not made:
            ours.close()
            _be(lambda: _serve(theirs, agent, kept))
        theirs.close()
        server = cls(made, ours)
        try:
            server._told()
        except Ended:
            return None
        return server

    def child(self, folder: Path, sizes: Sequence[int], log: IO[bytes]) -> Forked:
        """A child in a folder that has read nothing yet; its output goes to `log`.

        Args:    sizes: bytes of its memory, and of a file.
        Raises:  Ended.
        """
        commands, stdin = os.pipe()
        stdout, answers = os.pipe()
        what = json.dumps({"folder": str(folder), "sizes": list(sizes)}).encode()
        try:
            with self._lock:
                try:
                    socket.send_fds(self._line, [what], [commands, answers, log.fileno()])
                except OSError as error:
                    raise self._ended() from error
                pid, handle = self._told()
            if not pid:
                raise Ended("it cannot fork")
        except Ended:
            os.close(stdin)
            os.close(stdout)
            raise
        finally:
            os.close(commands)
            os.close(answers)
        return Forked(pid, handle, os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb"))

    def _told(self) -> tuple[int, int]:
        """A number, and the handle of the process that has it, or -1."""
        try:
            self._line.settimeout(ANSWER_S)
            data, handles, _, _ = socket.recv_fds(self._line, MOST, 1)
        except OSError as error:
            raise self._ended() from error
        if not data:
            raise self._ended()
        return int(data), handles[0] if handles else -1

    def _ended(self) -> Ended:
        """Give it up: it ends, if it has not, as its line does, and its children with it."""
        self._line.close()
        with contextlib.suppress(OSError):
            os.waitpid(self._pid, os.WNOHANG)
        return Ended("it has ended")


def _be(what: Callable[[], None]) -> None:
    """Be a process of its own from here on, which never comes back into its parent's code."""
    status = 1
    try:
        what()
        status = 0
    except BaseException as error:
        with contextlib.suppress(BaseException):
            traceback.print_tb(error.__traceback__)
    finally:
        with contextlib.suppress(BaseException):
            sys.stderr.flush()
        os._exit(status)


def _serve(line: socket.socket, agent: int, kept: Mapping[str, str]) -> None:
    end_with(agent)
    os.setsid()  # a terminal's Ctrl-C is for the agent, which ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for children: the agent has handles of them
    named(NAME)
    _forget(kept)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    _close_all_but(line.fileno())
    line.send(b"0")
    while True:
        data, handles, _, _ = socket.recv_fds(line, MOST, 3)
        if not data:
            return
        ask = json.loads(data)
        made = handle = 0
        with contextlib.suppress(OSError):
            made, handle = _fork(ask["folder"], ask["sizes"], handles)
        for given in handles:
            os.close(given)
        socket.send_fds(line, [str(made).encode()], [handle] if made else [])
        if made:
            os.close(handle)


def _fork(folder: str, sizes: Sequence[int], handles: Sequence[int]) -> tuple[int, int]:
    """A child that ends with this process by the time it is known: its number and a handle. Raises: OSError."""
    if len(handles) != 3:
        raise OSError("a child needs three files")
    ready, begun = os.pipe()
    wait, go = os.pipe()
    server = os.getpid()
    try:
        made = os.fork()
        if not made:
            os.close(go)  # it waits for the server's end of it
            _be(lambda: _train(folder, sizes, handles, server, begun, wait))
        os.close(begun)
        begun = -1
        os.read(ready, 1)
        return made, os.pidfd_open(made)  # it waits until this is done, and has its number
    finally:
        for end in (ready, begun, wait, go):
            if end >= 0:
                os.close(end)


def _train(folder: str, sizes: Sequence[int], handles: Sequence[int], server: int, begun: int, wait: int) -> None:
    """Be a child: end with the server, say so, wait until it has this process's handle, and train."""
    end_with(server)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.write(begun, b"+")
    os.read(wait, 1)
    os.chdir(folder)
    for number, given in enumerate(handles):
        os.dup2(given, number)
    _close_all_but()
    sys.path[:] = [place for place in sys.path if place]
    child.serve(*sizes)


def _close_all_but(*kept: int) -> None:
    for number in [int(file.name) for file in Path("/proc/self/fd").iterdir()]:
        if number > 2 and number not in kept:  # 0, 1 and 2 are this process's own
            with contextlib.suppress(OSError):
                os.close(number)


def _forget(kept: Mapping[str, str]) -> None:
    """Have these variables and no others, also in the memory in which Python, C and the kernel keep them.

    Raises: OSError: where the kernel keeps them is not known.
    """
    begins, ends = started_with(47)
    for value in [*os.environ._data.values()]:  # type: ignore[attr-defined]
        if len(value) > 1:  # of one byte Python has one object for all
            ctypes.memset(id(value) + bytes.__basicsize__ - 1, 0, len(value))
    libc = ctypes.CDLL(None)
    block = ctypes.POINTER(ctypes.c_void_p).in_dll(libc, "environ")
    number = 0
    while block[number]:
        ctypes.memset(block[number], 0, len(ctypes.string_at(block[number])))
        number += 1
    libc.clearenv()
    ctypes.memset(begins, 0, ends - begins)
    os.environ.clear()
    os.environ.update(kept)
    sys.dont_write_bytecode = True
