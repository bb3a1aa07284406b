"""Pages of the documentation as what they promise: their code blocks, run as a reader would run them."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from e2e.processes import begin, end, environment, free_port

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```\s*$", re.MULTILINE | re.DOTALL)
TUTORIAL_S = 600.0
PORT = "8443"
MARK = "=== block"


def script(name: str) -> ModuleType:
    """A program of `docs/` as a module: the folder is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, the file that its title names, its text, and the line where it begins."""

    language: str
    title: str
    text: str
    line: int
    page: Path


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order, without the indentation of a list around them."""
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        info = match["info"].strip()
        title = re.search(r'title="([^"]+)"', info)
        indent = len(match["indent"])
        body = "".join(line[indent:] if line.strip() else line for line in match["text"].splitlines(keepends=True))
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(info.split(" ")[0], title[1] if title else "", body, line, page))
    return found


def pages() -> list[Path]:
    """README, CONTRIBUTING and every page under docs."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def outputs(told: list[Block], folder: Path) -> dict[int, str]:
    """Run the shell blocks in one shell, writing each titled file when its turn comes; what each block printed."""
    script = ["set -e"]
    for number, block in enumerate(told):
        if block.title:
            (folder / f".block-{number}").write_text(block.text)
            script.append(f"mkdir -p {Path(block.title).parent} && cp .block-{number} {block.title}")
        elif block.language == "sh":
            script += [f"echo '{MARK} {number}'", block.text]
    port = free_port()
    bin_ = Path(sys.executable).parent
    process = begin(
        ["bash", "-c", "\n".join(script).replace(PORT, str(port))], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=environment(HOME=str(folder), PATH=f"{bin_}:{os.environ['PATH']}", COLUMNS="200"),
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=TUTORIAL_S)
    finally:
        end(process.pid)
    logs = "".join(f"\n--- {log.name}\n{log.read_text()[-1500:]}" for log in folder.glob("*.log"))
    assert process.returncode == 0, f"the page stops with exit code {process.returncode}: …{said[-3000:]}{logs}"
    parts = re.split(rf"^{MARK} (\d+)\n", said.replace(str(port), PORT), flags=re.MULTILINE)
    return {int(number): text for number, text in zip(parts[1::2], parts[2::2], strict=True)}


def missing(told: list[Block], said: dict[int, str]) -> Iterator[tuple[Block, list[str]]]:
    """For each block of expected text: the lines that the block before it did not print, in that order."""
    last = -1
    for number, block in enumerate(told):
        if block.language == "sh":
            last = number
        elif block.language == "text" and last in said:
            lines = not_seen(block.text, said[last])
            if lines:
                yield block, lines


def not_seen(expected: str, said: str) -> list[str]:
    """Lines of `expected` that `said` does not hold, in order; blanks count once, and `…` stands for anything."""
    rest = [" ".join(line.split()) for line in said.splitlines()]
    lost = []
    for line in filter(None, (" ".join(one.split()) for one in expected.splitlines())):
        pattern = re.compile(".*".join(re.escape(part) for part in line.split("…")).replace(r"\ .*\ ", r"\ .*"))
        at = next((place for place, one in enumerate(rest) if pattern.fullmatch(one)), None)
        if at is None:
            lost.append(f"{line!r}; it printed: {said[-1500:]}")
        else:
            rest = rest[at + 1 :]
    return lost
