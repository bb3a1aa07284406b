"""Landlock: what of the file system a process may still reach, and no TCP. Linux 6.2 or newer.

https://docs.kernel.org/userspace-api/landlock.html. Whatever is not granted is denied, root or not; it cannot be undone
and holds for all that the process starts. Newer kernels can restrict more; what an older one cannot, the filter of
system calls denies in any case (sockets, signals to others, truncation by path). Not below `LEAST`: until then a file
that may be read may be emptied, by opening it with O_TRUNC, which no filter can tell from reading it.
"""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls, the same on every architecture."""
VERSION = 1 << 0
PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_REG, TRUNCATE = 1 << 8, 1 << 14
RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""ABI version: number of rights on files that it knows. Of these, all are handled, and so denied unless granted."""
LEAST = 3
"""Oldest version that confines: with it came `TRUNCATE`."""
TCP = 0b11
SCOPES = 0b11
"""ABI 6: abstract Unix sockets and signals reach no process outside."""

READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | TRUNCATE | MAKE_REG | REMOVE_FILE
"""Plain files in the folder only: a link or a pipe left there could lead the reader of the folder astray."""
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
"""Rights that a rule for a single file can have."""


class Ruleset(ctypes.Structure):
    """struct landlock_ruleset_attr."""

    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class Beneath(ctypes.Structure):
    """struct landlock_path_beneath_attr."""

    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *values: object) -> int:
    found: int = _libc.syscall(ctypes.c_long(number), *values)
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found


def abi() -> int:
    """The version that this kernel offers; 0: none."""
    try:
        return _call(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(VERSION))
    except OSError:
        return 0


def restrict(readable: Iterable[Path], writable: Iterable[Path]) -> None:
    """Restrict the calling thread for good. `no_new_privs` must be set. Paths that do not exist are left out.

    Raises: OSError: the kernel refuses.
    """
    version = abi()
    handled = (1 << max(count for since, count in RIGHTS.items() if since <= max(version, 1))) - 1
    attributes = Ruleset(handled, TCP if version >= 4 else 0, SCOPES if version >= 6 else 0)
    size = ctypes.c_size_t(24 if version >= 6 else 16 if version >= 4 else 8)
    rules = _call(CREATE_RULESET, ctypes.byref(attributes), size, ctypes.c_uint32(0))
    try:
        for paths, rights in ((readable, READ), (writable, WRITE)):
            for path in paths:
                _allow(rules, path, rights & handled)
        _call(RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0))
    finally:
        os.close(rules)


def _allow(rules: int, path: Path, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rule = Beneath(rights if path.is_dir() else rights & OF_FILES, parent)
        _call(ADD_RULE, ctypes.c_int(rules), ctypes.c_int(PATH_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0))
    finally:
        os.close(parent)
