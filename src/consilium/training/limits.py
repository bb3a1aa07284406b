"""What a child process may use: memory, files, no core dumps, low priority; and it does not outlive its agent."""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Variables with which NumPy begins no threads: a child shares the machine, and what is forked must be one thread."""
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def limit(memory_bytes: int, file_bytes: int) -> None:
    """Set this process's limits; they cannot be raised again without root."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    os.nice(5)


def keep_memory() -> None:
    """Keep freed memory for the next round (glibc): else each array of the size of a model costs the kernel new pages,
    which it clears, and where the machine is a virtual one, so does its host.
    """
    allow = getattr(ctypes.CDLL(None), "mallopt", None)
    if allow is not None:
        allow(M_MMAP_MAX, 0)
        allow(M_TRIM_THRESHOLD, -1)


def end_with(parent: int) -> None:
    """End this process as soon as the thread that started it ends, in the middle of training, too (Linux).

    A child that outlived a killed agent would write the files that the next agent's child writes.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before this was asked for
        os._exit(1)


def named(name: str) -> None:
    """What `ps` and `top` call this process from now on, instead of its command, where the host lets it."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode())  # at most 15 characters
    with contextlib.suppress(OSError):
        begins, ends = started_with(45)
        words = name.encode()[: ends - begins - 1]
        ctypes.memset(begins, 0, ends - begins)
        ctypes.memmove(begins, words, len(words))


def started_with(field: int) -> tuple[int, int]:
    """Where the memory begins and ends that holds what this process was started with (Linux).

    Args:    field: of /proc/self/stat, behind the name: 45 the command, 47 the variables.
    Raises:  OSError: the kernel does not tell.
    """
    told = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[field : field + 2]
    begins, ends = map(int, told) if len(told) == 2 else (0, 0)
    if not 0 < begins < ends:
        raise OSError("the kernel does not tell where this process keeps what it was started with")
    return begins, ends
