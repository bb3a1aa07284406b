"""Two hosts made of network namespaces, with a cable between them that can lose every packet without a word."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.processes import PATIENCE_S

NOWHERE = "02:00:00:00:de:ad"
"""A hardware address that nobody has: frames for it arrive and are thrown away, as in a network that loses them."""


@dataclass(frozen=True)
class Host:
    """One network namespace with one address."""

    name: str
    address: str
    peer: str

    def command(self, *words: str | Path) -> list[str | Path]:
        """A command line that runs `words` on this host."""
        return ["ip", "netns", "exec", self.name, *words]

    def do(self, *words: str | Path) -> str:
        """Run a command here; its output."""
        return _ip("netns", "exec", self.name, *map(str, words))


@dataclass(frozen=True)
class Cable:
    """What joins two hosts."""

    hosts: tuple[Host, Host]

    def cut(self) -> None:
        """From now on every packet is lost, in both directions, and nobody is told."""
        for host in self.hosts:
            host.do("ip", "neigh", "replace", host.peer, "lladdr", NOWHERE, "dev", "cable", "nud", "permanent")

    def mend(self) -> None:
        """Packets arrive again."""
        for host in self.hosts:
            host.do("ip", "neigh", "del", host.peer, "dev", "cable")

    def slow(self, rate: str) -> None:
        """Let at most `rate`, such as 100mbit, through, from the second host to the first."""
        self.hosts[1].do(
            "tc", "qdisc", "replace", "dev", "cable", "root", "tbf", "rate", rate, "burst", "256k", "latency", "50ms"
        )


def missing() -> str | None:
    """Why two hosts cannot be made here, or None."""
    if shutil.which("ip") is None:
        return "the command `ip` is missing (package iproute2)"
    name = f"consilium-{secrets.token_hex(3)}"
    try:
        _ip("netns", "add", name)
        _ip("link", "add", "cable", "netns", name, "type", "veth", "peer", "name", "other", "netns", name)
    except AssertionError as error:
        return f"network namespaces cannot be made here: {error}"
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return None


@contextlib.contextmanager
def two_hosts(first: str, second: str) -> Iterator[Cable]:
    """Two hosts at these addresses; everything in them is ended and removed at the end."""
    tag = secrets.token_hex(3)
    hosts = (Host(f"consilium-{tag}-1", first, second), Host(f"consilium-{tag}-2", second, first))
    try:
        for host in hosts:
            _ip("netns", "add", host.name)
        names = [host.name for host in hosts]
        _ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
        for host in hosts:
            host.do("ip", "address", "add", f"{host.address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                host.do("ip", "link", "set", device, "up")
        yield Cable(hosts)
    finally:
        for host in hosts:
            _remove(host.name)


def _remove(name: str) -> None:
    inside = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
    for pid in inside:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr.strip()}"
    return done.stdout
