"""Two hosts that share nothing but a cable: the tutorial as it is written, and an upload while packets get lost."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.pages import MARK, ROOT, Block, blocks, missing
from e2e.namespaces import Cable, Host, two_hosts
from e2e.namespaces import missing as no_namespaces
from e2e.processes import CONSILIUM, PATIENCE_S, Process, begin, end, environment, until

PAGE = ROOT / "docs" / "tutorial" / "two-machines.md"
COORDINATOR, HOSPITALS = "10.77.0.1", "10.77.0.2"
SIZE, RATE = 24 << 20, "64mbit"
MORE_S = 5.0


@pytest.fixture(scope="module")
def cable() -> Iterator[Cable]:
    why = no_namespaces()
    if why is not None:
        pytest.skip(why)
    with two_hosts(COORDINATOR, HOSPITALS) as made:
        yield made


class Shell:
    """A shell on one host, in which somebody types one block after the other."""

    def __init__(self, host: Host, folder: Path, post: Path) -> None:
        folder.mkdir()
        (folder / "post").symlink_to(post)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        variables = environment(HOME=str(folder), PATH=path, COLUMNS="200")
        self.folder = folder
        self._process = begin(
            host.command("bash", "-e"), cwd=folder, env=variables, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def type(self, text: str) -> str:
        """Type a block; all that it printed."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(f"{text}\necho '{MARK} done'\n")
        stdin.flush()
        said = ""
        for line in stdout:
            if line == f"{MARK} done\n":
                return said
            said += line
        logs = "".join(f"\n--- {log.name}\n{log.read_text()[-1500:]}" for log in self.folder.glob("*.log"))
        raise AssertionError(f"the shell ended in\n{text}\nit printed: {said}{logs}")

    def close(self) -> None:
        end(self._process.pid)
        self._process.wait()


def machine(block: Block) -> str:
    """At which machine the heading above a block says that one sits."""
    above = [line for line in PAGE.read_text().splitlines()[: block.line] if line.startswith("## At the ")]
    return above[-1].removeprefix("## At the ").split(" ")[0]


@pytest.mark.long
def test_the_tutorial_runs_as_it_is_written(cable: Cable, tmp_path: Path) -> None:
    (tmp_path / "post").mkdir()
    names = ("coordinator's", "hospitals'")
    shells = {name: Shell(host, tmp_path / name[:4], tmp_path / "post") for name, host in zip(names, cable.hosts)}
    told = blocks(PAGE)
    try:
        said = {n: shells[machine(block)].type(block.text) for n, block in enumerate(told) if block.language == "sh"}
    finally:
        for shell in shells.values():
            shell.close()
    wrong = [f"line {block.line}: not seen: {line}" for block, lines in missing(told, said) for line in lines]
    assert not wrong, "\n".join(wrong)
    assert {machine(block) for block in told} == set(names)


UPLOAD = """
import json, sys, threading, time
from pathlib import Path
from consilium.api import Federation
from consilium.wire.connection import SOON_S, Connection
from consilium.wire.transfer import file_digest, upload
url, ca, path = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
token = Federation.login(url, "ada", "correct horse battery", ca=ca).token
connection = Connection(url, ca, lambda: token, limit_s=SOON_S)
began = time.monotonic()
sent = upload(connection, path, file_digest(path), threading.Event())
print(json.dumps({"s": time.monotonic() - began, "sent": sent}))
"""


@pytest.fixture(scope="module")
def url(cable: Cable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    home, host = tmp_path_factory.mktemp("two") / "coordinator", cable.hosts[0]
    url = f"https://{COORDINATOR}:9443"
    variables = environment(CONSILIUM_PASSWORD="correct horse battery")
    for words in (("init", "--url", url), ("person", "ada", "--role", "admin")):
        subprocess.run([CONSILIUM, "coordinator", *words, "--home", home], env=variables, check=True)
    process = Process(host.command(CONSILIUM, "coordinator", "run", "--home", home), home / "log")
    process.start()
    try:
        process.until(lambda: "listening" in process.said, "the coordinator listens")
        yield url, home
    finally:
        process.kill()


def moved(cable: Cable, url: tuple[str, Path], folder: Path, cut_s: float) -> float:
    """Upload a file that the coordinator has not; the seconds that it took, with a cut of `cut_s` in its middle."""
    address, home = url
    path = folder / f"blob-{cut_s:g}"
    path.write_bytes(os.urandom(SIZE))
    words = cable.hosts[1].command(sys.executable, "-c", UPLOAD, address, home / "tls" / "ca.pem", path)
    process = begin(words, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        if cut_s:
            here = home / "blobs" / "incoming"
            until(lambda: sum(part.stat().st_size for part in here.glob("*/*")) > SIZE * 0.4, "40 % have arrived")
            cable.cut()
            threading.Event().wait(cut_s)
            cable.mend()
        said, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        end(process.pid)
    told = json.loads(said)
    assert told["sent"] <= SIZE, "what had arrived was not sent again"
    return float(told["s"])


@pytest.mark.alone
@pytest.mark.parametrize("seconds", [3.0, *(pytest.param(s, marks=pytest.mark.long) for s in (30.0, 120.0))])
def test_lost_packets_cost_an_upload_their_time_and_little_more(
    cable: Cable, url: tuple[str, Path], tmp_path: Path, seconds: float
) -> None:
    cable.slow(RATE)
    began = time.monotonic()
    plain = moved(cable, url, tmp_path, 0.0)
    took = moved(cable, url, tmp_path, seconds)
    print(
        f"all packets lost for {seconds:g} s: {took - plain - seconds:+.2f} s beyond, in {time.monotonic() - began:.0f}"
    )
    assert took <= plain + seconds + MORE_S
