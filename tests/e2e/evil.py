"""A study's own architecture that wants more than to train. It travels in a wheel; `WANTED` is filled in by the test.

Each attempt returns when it got what it wanted. The same attempts, run unconfined, show that they can.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

WANTED: dict[str, Any] = {}
KEY, OUT, RUN = (Path(WANTED.get(name, "/nowhere")) for name in ("key", "out", "run"))
PARENT = int(WANTED.get("parent", 0))
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *values: Any) -> int:
    """A function of the C library; raises as the kernel does."""
    ctypes.set_errno(0)
    found = int(getattr(libc, name)(*values))
    if found < 0:
        raise OSError(ctypes.get_errno(), name)
    return found


def tcp() -> None:
    socket.create_connection(("127.0.0.1", WANTED["port"]), timeout=5).sendall(b"patients")


def tcp_in_the_raw() -> None:
    call("syscall", ctypes.c_long(41 if os.uname().machine == "x86_64" else 198), 2, 1, 0)


def udp() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"patients", ("127.0.0.1", WANTED["port"]))


def unix() -> None:
    with socket.socket(socket.AF_UNIX) as there:
        there.connect(WANTED["unix"])


def pair() -> None:
    socket.socketpair()


def read_key() -> None:
    KEY.read_text()


def read_key_in_a_thread() -> None:
    failed: list[OSError] = []

    def attempt() -> None:
        try:
            read_key()
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def list_home() -> None:
    next(KEY.parent.iterdir())


def leave_a_link_for_the_reader() -> None:
    (OUT / "link").symlink_to(KEY)


def leave_a_hard_link() -> None:
    os.link(KEY, OUT / "hard")


def leave_a_pipe() -> None:
    os.mkfifo(OUT / "pipe")


def move_key() -> None:
    KEY.rename(OUT / "moved")
    (OUT / "moved").rename(KEY)


def write_outside() -> None:
    (KEY.parent / "planted").write_text("x")


def plant_a_module() -> None:
    (RUN / "json.py").write_text("")


def change_the_plan() -> None:
    with (RUN / "plan.json").open("ab") as file:
        file.write(b" ")


def cut_the_plan() -> None:
    os.truncate(RUN / "plan.json", 10_000)


def empty_the_plan() -> None:
    os.close(os.open(RUN / "plan.json", os.O_RDONLY | os.O_TRUNC))


def open_the_key_to_all() -> None:
    KEY.chmod(0o644)


def age_the_key() -> None:
    os.utime(KEY, (0, 0))


def shell() -> None:
    subprocess.run(["/bin/sh", "-c", "true"], check=True)


def fork_and_shell() -> None:
    child = os.fork()
    if child == 0:
        os.execv("/bin/sh", ["sh", "-c", "true"])
    os.waitpid(child, 0)


def environment_of_parent() -> None:
    Path(f"/proc/{PARENT}/environ").read_bytes()


def own_environment_through_proc() -> None:
    Path("/proc/self/environ").read_bytes()


def memory_of_parent() -> None:
    Path(f"/proc/{PARENT}/mem").open("rb").close()


def signal_to_parent() -> None:
    os.kill(PARENT, signal.SIGCONT)


def limits() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    except ValueError as error:  # so Python calls EPERM here
        raise PermissionError from error


def shared_memory() -> None:
    call("shmget", 4711, 4096, 0o1600)


def trace() -> None:
    call("ptrace", 16, PARENT, None, None)  # PTRACE_ATTACH
    os.waitpid(PARENT, 0)
    call("ptrace", 17, PARENT, None, None)  # PTRACE_DETACH


def namespace() -> None:
    call("unshare", 0x10000000)  # CLONE_NEWUSER


def keys_of_the_kernel() -> None:
    call("syscall", ctypes.c_long(250 if os.uname().machine == "x86_64" else 219), 0, -3, 1)


def ring() -> None:
    call("syscall", ctypes.c_long(425), 1, ctypes.create_string_buffer(120))


def files_left_open() -> None:
    for number in range(3, 256):
        try:
            kind = os.fstat(number).st_mode
        except OSError:
            continue
        if stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISSOCK(kind):
            return
    raise PermissionError("none")


ATTEMPTS: list[Callable[[], None]] = [
    tcp, tcp_in_the_raw, udp, unix, pair, read_key, read_key_in_a_thread, list_home, leave_a_link_for_the_reader,
    leave_a_hard_link, leave_a_pipe, move_key, write_outside, plant_a_module, change_the_plan, cut_the_plan,
    empty_the_plan, open_the_key_to_all, age_the_key, shell, fork_and_shell, environment_of_parent,
    own_environment_through_proc, memory_of_parent, signal_to_parent, limits, shared_memory, trace, namespace,
    keys_of_the_kernel, ring, files_left_open,
]  # fmt: skip


def attempt_all(when: str) -> None:
    told = {}
    for attempt in ATTEMPTS:
        try:
            attempt()
            told[attempt.__name__] = "got"
        except PermissionError:
            told[attempt.__name__] = "denied"
        except Exception as error:
            told[attempt.__name__] = f"failed: {type(error).__name__}: {error}"
    (OUT / f"{when}.json").write_text(json.dumps(told))


def net(inputs: int, options: dict[str, Any]) -> Any:
    from torch import nn

    class Net(nn.Sequential):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            if not (OUT / "forward.json").exists():
                attempt_all("forward")
            return super().forward(x)

    return Net(nn.Linear(inputs, 4), nn.ReLU(), nn.Dropout(0), nn.Linear(4, 1))


if WANTED:
    attempt_all("import")
