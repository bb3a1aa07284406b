"""Confine this process before foreign code runs in it: Landlock for files, seccomp for everything else. Linux only.

What confined code still has: this process's memory, the folders named here, and the files that are open already. What
it still learns: that a path exists, its size and times (neither mechanism hides them), and the clock. It may use up its
limits of time and memory. What it is given, the patients among them, it can put into what it writes: that is why a
person approves it, and why its answers are judged like anybody's.
"""

import json
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path

import consilium
from consilium.core.errors import Refused
from consilium.training.sandbox import landlock, seccomp

SYSTEM = (
    "/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo", "/dev/urandom",
    "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu",
)  # fmt: skip
"""Libraries, and what the processor can do: a library that cannot see it computes more slowly, and otherwise."""
NOWHERE = Path("/dev/null")
PROBE_S = 60.0
"""How long the probe may take, in seconds."""


def installation() -> list[Path]:
    """What Python, its packages and the C library read: libraries, and never a whole prefix, which may hold more."""
    paths = sysconfig.get_paths()
    found = {Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    found |= {Path(place) for place in sys.path if Path(place).name in {"site-packages", "dist-packages"}}
    found |= {Path(place) for place in SYSTEM} | {Path(consilium.__file__).parent, Path(sys.base_prefix) / "lib"}
    return sorted(found)


def confine(readable: Iterable[Path], writable: Iterable[Path]) -> None:
    """Confine this process for good: it reads the installation and `readable`, and writes plain files in `writable`.

    (1) one thread only, because Landlock binds the thread that asks for it, and another would stay free   (2) no new
    privileges   (3) Landlock   (4) seccomp   (5) both are seen to hold. Files that are open stay open.

    Raises: Refused: this host cannot (`cannot-confine`); the process must not go on to foreign code.
    """
    if not seccomp.supported():
        raise _cannot("only Linux on x86_64 and aarch64 can confine a process")
    try:
        threads = len(list(Path("/proc/self/task").iterdir()))
    except OSError as error:
        raise _cannot("/proc does not tell how many threads there are") from error
    if threads != 1:
        raise _cannot(f"the process has {threads} threads where it must have one; set OPENBLAS_NUM_THREADS=1")
    if (version := landlock.abi()) < landlock.LEAST:
        found = f"only version {version} of Landlock, under which" if version else "no Landlock, without which"
        needed = "Linux 6.2 or newer, with `landlock` among its security modules"
        raise _cannot(f"the kernel has {found} code could empty what it may read ({needed})")
    try:
        seccomp.no_new_privileges()
        landlock.restrict([*installation(), *readable], [*writable, NOWHERE])
        seccomp.restrict()
    except OSError as error:
        raise _cannot(f"the kernel refuses ({error.strerror})") from error
    _seen_to_hold()


def _seen_to_hold() -> None:
    """Try what must fail now. Raises: Refused: it did not fail."""
    for attempt, what in (
        (lambda: next(Path("/proc/self").iterdir()), "Landlock"),
        (lambda: socket.socket().close(), "the filter of system calls"),
    ):
        try:
            attempt()
        except PermissionError:
            continue  # refused, as it should be
        raise _cannot(f"{what} does not hold")


def _cannot(why: str) -> Refused:
    return Refused(
        f"this host cannot confine foreign code: {why}",
        "study models of the catalogue run without; the hospital's administrator can provide another host",
        reason="cannot-confine",
    )


def available() -> str | None:
    """None when this host can confine foreign code, as a process shows that confines itself and tries; else why not."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "work").mkdir()
        for name in ("secret", "given"):
            (folder / name).write_text(name)
        command = [sys.executable, "-P", "-m", "consilium.training.sandbox", str(folder)]
        try:
            done = subprocess.run(  # noqa: S603  our own program
                command, capture_output=True, text=True, timeout=PROBE_S, check=False, cwd=folder
            )
            told = json.loads(done.stdout)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            return "this host cannot confine foreign code: the process that tries it fails"
    if told["refused"]:
        return str(told["refused"])
    free = [name for name, denied in told["denied"].items() if not denied]
    if free or not told["works"]:
        return f"this host cannot confine foreign code: {', '.join(free) or 'writing the update'} is not as it must be"
    return None
