"""The filter of system calls, run by an interpreter of its own: laws for both architectures, on any machine."""

import errno
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.training.sandbox import landlock, seccomp
from consilium.training.sandbox.calls import ARCHITECTURES, numbers

PID = 4242
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
ON = pytest.mark.parametrize("machine", ARCHITECTURES)
NOT_ALLOWED = re.findall(
    r"\w+",
    """
    socket socketpair connect bind sendto sendmsg accept ptrace process_vm_readv process_vm_writev bpf io_uring_setup
    mount unshare setns keyctl execve execveat chroot pivot_root fchmodat fchownat setxattr linkat symlinkat mknodat
    truncate utimensat shmget msgget semget mq_open setuid setresuid setrlimit setpriority sched_setattr kcmp
    sched_setaffinity tkill pidfd_getfd pidfd_open pidfd_send_signal rt_sigqueueinfo open_by_handle_at userfaultfd
    perf_event_open init_module seccomp landlock_create_ruleset personality settimeofday reboot
    """,
)


def judged(machine: str, number: int, arguments: tuple[int, ...] = (0,) * 6, audit: int | None = None) -> int:
    """What the filter says: an interpreter of the few instructions it may use."""
    data = [number, seccomp.AUDIT[machine] if audit is None else audit, 0, 0]
    for argument in arguments:
        data += [argument & 0xFFFFFFFF, argument >> 32]
    code, at, accumulator = seccomp.program(machine, PID), 0, 0
    while True:
        kind, true, false, constant = code[at]
        at += 1
        match kind:
            case seccomp.LOAD:
                accumulator = data[constant // 4]
            case seccomp.EQUAL:
                at += true if accumulator == constant else false
            case seccomp.AT_LEAST:
                at += true if accumulator >= constant else false
            case seccomp.ANY_BIT:
                at += true if accumulator & constant else false
            case seccomp.RETURN:
                return constant
            case _:
                raise AssertionError(f"unknown instruction {kind:#x}")


def of_header(machine: str) -> dict[str, int]:
    if not HEADERS[machine].exists():
        pytest.skip(f"this machine has no {HEADERS[machine]}")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text())
    named = {name: int(number) for name, number in found}
    return named | ({"newfstatat": named["fstatat"]} if "fstatat" in named else {})


@ON
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    header = of_header(machine)
    assert {name: header[name] for name in numbers(machine)} == numbers(machine)
    assert seccomp.SECCOMP[machine] == header["seccomp"]
    assert header["clone3"] == seccomp.CLONE3
    assert header["landlock_create_ruleset"] == landlock.CREATE_RULESET
    assert header["landlock_restrict_self"] == landlock.RESTRICT_SELF


@ON
def test_what_reaches_others_is_refused(machine: str) -> None:
    header = of_header(machine)
    allowed = [name for name in NOT_ALLOWED if judged(machine, header[name]) == seccomp.ALLOW]
    assert not allowed
    assert "connect" in header and "execve" in header, "the header was read"


@ON
@given(number=st.integers(0, 2**32 - 1), arguments=st.tuples(*[st.integers(0, 2**64 - 1)] * 6))
def test_a_call_that_is_not_listed_is_refused_whatever_its_arguments(
    machine: str, number: int, arguments: tuple[int, ...]
) -> None:
    told = judged(machine, number, arguments)
    if number not in numbers(machine).values():
        assert told != seccomp.ALLOW
        assert told in {seccomp.ERRNO | errno.EPERM, seccomp.ERRNO | errno.ENOSYS, seccomp.KILL}


@ON
@given(data=st.data(), audit=st.integers(0, 2**32 - 1))
def test_numbers_of_another_architecture_end_the_process(machine: str, data: st.DataObject, audit: int) -> None:
    number = data.draw(st.sampled_from(sorted(numbers(machine).values())))
    if audit != seccomp.AUDIT[machine]:
        assert judged(machine, number, audit=audit) == seccomp.KILL
    if machine == "x86_64":
        assert judged(machine, number | seccomp.X32) == seccomp.KILL


@ON
def test_some_calls_depend_on_their_arguments(machine: str) -> None:
    known = numbers(machine)

    def allowed(name: str, *arguments: int) -> bool:
        return judged(machine, known[name], (*arguments, 0, 0, 0, 0, 0, 0)[:6]) == seccomp.ALLOW

    vfork, thread = 0x4111, 0x3D0F00
    assert allowed("clone", thread) and not allowed("clone", vfork) and not allowed("clone", 17)
    for name in ("kill", "tgkill"):
        assert allowed(name, PID) and not allowed(name, PID + 1) and not allowed(name, 0)
        assert not allowed(name, 2**32 - 1), "-1 is everybody"
    assert allowed("prlimit64", 0, 9, 0)
    assert not allowed("prlimit64", 0, 9, 1) and not allowed("prlimit64", 0, 9, 1 << 32), "limits are not set"
    for name, (which, values) in seccomp.ARGUMENTS.items():
        for value in values:
            assert allowed(name, *[0] * which, value), (name, value)
    assert not allowed("fcntl", 0, 8) and not allowed("fcntl", 0, 15), "no owner for signals"
    assert not allowed("ioctl", 0, 0x5412), "nothing is typed into a terminal"
    assert not allowed("prctl", 22) and not allowed("prctl", 0x59616D61)
    assert judged(machine, seccomp.CLONE3) == seccomp.ERRNO | errno.ENOSYS, "so that threads are made with clone"


@ON
def test_every_listed_call_without_conditions_is_allowed(machine: str) -> None:
    conditional = {"clone", "kill", "tgkill", "prlimit64", *seccomp.ARGUMENTS}
    refused = [
        name
        for name, number in numbers(machine).items()
        if name not in conditional and judged(machine, number) != seccomp.ALLOW
    ]
    assert not refused
