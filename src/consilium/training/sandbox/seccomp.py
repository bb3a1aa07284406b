"""Seccomp: a filter over system calls, in the kernel's classic BPF. What is not in `calls` fails with EPERM.

https://docs.kernel.org/userspace-api/seccomp_filter.html. The filter cannot be taken off again, and holds for all
threads and for all that the process starts.
"""

import ctypes
import errno
import fcntl
import os
import platform
import sys
import termios
from collections.abc import Iterator

from consilium.training.sandbox.calls import ARCHITECTURES, numbers

Instruction = tuple[int, int, int, int]
"""(code, jump if true, jump if false, constant): struct sock_filter."""

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
"""Offsets in struct seccomp_data; each argument has 8 bytes, and both architectures store the low half first."""
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32 = 0x40000000
"""Numbers from here on are calls of x32, a second set of numbers on x86_64."""
CLONE3 = 435
CLONE_THREAD = 0x10000
SECCOMP = {"x86_64": 317, "aarch64": 277}
SET_MODE_FILTER, FOR_ALL_THREADS = 1, 1
PR_SET_NO_NEW_PRIVS = 38

LOCKS_OF_OPEN_FILES = (36, 37, 38)
ARGUMENTS: dict[str, tuple[int, tuple[int, ...]]] = {
    "fcntl": (1, (
        fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL,
        fcntl.F_GETLK, fcntl.F_SETLK, fcntl.F_SETLKW, *LOCKS_OF_OPEN_FILES,
    )),  # not F_SETOWN, which would send signals to others
    "ioctl": (1, (
        termios.TCGETS, termios.TIOCGWINSZ, termios.FIONREAD, termios.FIONBIO, termios.FIOCLEX, termios.FIONCLEX,
    )),  # not TIOCSTI, which would type into a terminal
    "prctl": (0, (3, 15, 16, 0x53564D41)),  # is it dumpable; a thread's name, set and get; names of memory areas
}  # fmt: skip
"""Call: (which argument, its allowed values)."""


class Filter(ctypes.Structure):
    """struct sock_filter."""

    _fields_ = (
        ("code", ctypes.c_uint16), ("true", ctypes.c_uint8), ("false", ctypes.c_uint8), ("constant", ctypes.c_uint32),
    )  # fmt: skip


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_uint16), ("filters", ctypes.POINTER(Filter)))


def supported() -> bool:
    """Whether numbers of system calls are known for this machine."""
    return sys.platform == "linux" and platform.machine() in ARCHITECTURES and sys.maxsize > 2**32


def program(machine: str, pid: int) -> list[Instruction]:
    """The filter for a process `pid` on `machine`.

    (1) another architecture's numbers end the process   (2) clone3 is said not to exist, because its flags lie in
    memory that a filter cannot see; the C library then calls clone   (3) clone makes threads, not processes
    (4) signals reach this process only   (5) limits may be read and not set   (6) some calls with some arguments
    (7) the listed calls   (8) all others: EPERM.
    """
    found = numbers(machine)
    code: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE_AT), (EQUAL, 1, 0, AUDIT[machine]), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER_AT),
    ]  # fmt: skip
    if machine == "x86_64":
        code += [(AT_LEAST, 0, 1, X32), (RETURN, 0, 0, KILL)]
    code += [(EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    code += _when(found.pop("clone"), [*_argument(0), (ANY_BIT, 0, 1, CLONE_THREAD)])
    for name in ("kill", "tgkill"):
        code += _when(found.pop(name), [*_argument(0), (EQUAL, 0, 1, pid)])
    code += _when(found.pop("prlimit64"), [*_argument(2), (EQUAL, 0, 3, 0), *_argument(2, high=4), (EQUAL, 0, 1, 0)])
    for name, (which, values) in ARGUMENTS.items():
        tests = [
            (EQUAL, len(values) - 1 - at, 0 if at + 1 < len(values) else 1, value) for at, value in enumerate(values)
        ]
        code += _when(found.pop(name), [*_argument(which), *tests])
    for number in found.values():
        code += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    return [*code, (RETURN, 0, 0, ERRNO | errno.EPERM)]


def _argument(which: int, high: int = 0) -> Iterator[Instruction]:
    yield (LOAD, 0, 0, ARGUMENTS_AT + 8 * which + high)


def _when(number: int, tests: list[Instruction]) -> list[Instruction]:
    """For the call `number`: allow if the tests fall through to their end, EPERM if they jump one beyond it."""
    inside = [*tests, (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ERRNO | errno.EPERM)]
    return [(EQUAL, 0, len(inside), number), *inside]


def no_new_privileges() -> None:
    """Nothing that this process starts gains rights; both Landlock and seccomp ask for it. Raises: OSError."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")


def restrict() -> None:
    """Put the filter on all threads of this process, for good. Raises: OSError: the kernel refuses."""
    machine = platform.machine()
    code = program(machine, os.getpid())
    filters = (Filter * len(code))(*(Filter(*one) for one in code))
    wanted = Program(len(code), filters)
    libc = ctypes.CDLL(None, use_errno=True)
    number = ctypes.c_long(SECCOMP[machine])
    if libc.syscall(number, SET_MODE_FILTER, FOR_ALL_THREADS, ctypes.byref(wanted)) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")
