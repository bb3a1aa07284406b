"""`pip install`, as uv does it: pip reads every release of every package there is, on one core; uv takes seconds.

Args:    as `pip install` takes them. Where the first is `--into PYTHON`, into that environment instead of this one's.

uv reads none of pip's settings (its indexes, folders, constraints, certificates), and so it is told them. Where it is
not to be had, or does not get to the end, pip does it: what is installed is the same, for `constraints.txt` names each
release.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

EACH = {
    "index-url": "--default-index", "extra-index-url": "--index", "find-links": "--find-links",
    "constraint": "--constraints", "trusted-host": "--allow-insecure-host",
}  # fmt: skip
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def settings(listed: str) -> dict[str, str]:
    """What pip is configured with: of `pip config list` (lines such as `global.cert='/a'`), the last word on each."""
    found: dict[str, str] = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        scope, _, key = name.rpartition(".")
        if scope in ("global", "install", ":env:"):
            found[key] = str(ast.literal_eval(value))
    return found


def options(pip: dict[str, str]) -> list[str]:
    """The same settings as words for `uv pip install`, which is to look for a release in every index, as pip does."""
    words = ["--index-strategy", "unsafe-best-match"]
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        words.append("--no-index")
    for key, option in EACH.items():
        for value in pip.get(key, "").split():
            words += [option, value]
    return words


def by_uv(python: str, wanted: list[str]) -> bool:
    """Install it by uv; whether that was possible."""
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        return False
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=True).stdout
    pip = settings(listed)
    certificates = {"SSL_CERT_FILE": pip["cert"]} if "cert" in pip else {}
    command = [uv, "pip", "install", "-q", "--python", python, *options(pip), *wanted]
    return subprocess.run(command, env={**os.environ, **certificates}).returncode == 0


def main(words: list[str]) -> int:
    """The exit status."""
    python = sys.executable
    if words[0] == "--into":
        python, words = words[1], words[2:]
    if by_uv(python, words):
        return 0
    return subprocess.run([*PIP, "--python", python, "install", "-q", "--no-compile", *words]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
