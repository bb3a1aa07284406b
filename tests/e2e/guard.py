"""Stands beside a pytest and ends what it left running: one that a time limit kills ends nothing itself.

On its standard input come lines `+ PID` and `- PID`: leaders of process groups that live, and that have ended. When the
input ends, pytest has; then every group that was not taken back is killed. A death signal (PR_SET_PDEATHSIG) would be
less certain: it comes when the *thread* ends that started a process, and it is lost where a process changes its user.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path


def born(leader: int) -> str:
    """When a process was started, in ticks since boot; empty when there is none."""
    try:
        return Path(f"/proc/{leader}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def left(lines: Iterable[str]) -> dict[int, str]:
    """Leaders that were not taken back when the input ended, and when they were born."""
    living: dict[int, str] = {}
    for line in lines:
        sign, leader = line.split()
        if sign == "+":
            living[int(leader)] = born(int(leader))
        else:
            living.pop(int(leader), None)
    return living


def finish(living: dict[int, str]) -> None:
    """Kill these groups."""
    for leader, when in living.items():
        if born(leader) in (when, ""):  # else somebody else has the number since
            with contextlib.suppress(ProcessLookupError):
                os.killpg(leader, signal.SIGKILL)


if __name__ == "__main__":
    finish(left(sys.stdin))
