"""Examples of `gallery/` as cells: run as a notebook runs them, what they printed kept, and shown as pages.

`python docs/cells.py [NAME…]` runs examples and keeps what they printed and the plot that they end with, in
`docs/gallery`. Then `python docs/generate.py` makes pages of them.
"""

import contextlib
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GALLERY = HERE.parent / "gallery"
KEPT = HERE / "gallery"
MARK = re.compile(r"^# %%(.*)\n", re.MULTILINE)
PLOT = "plot"
"""The name of the plot with which an example ends."""


@dataclass(frozen=True)
class Cell:
    """One cell: prose in Markdown, or code."""

    prose: bool
    text: str


def cells(script: str) -> list[Cell]:
    """The cells of a script in the percent format. What stands before the first one is none.

    >>> cells("# %% [markdown]\\n# # Title\\n\\n# %%\\nprint(1)\\n")
    [Cell(prose=True, text='# Title'), Cell(prose=False, text='print(1)')]
    """
    _, *parts = MARK.split(script)
    found = []
    for kind, body in zip(parts[::2], parts[1::2], strict=True):
        prose = "[markdown]" in kind
        lines = [re.sub("^# ?", "", line) if prose else line for line in body.strip().splitlines()]
        found.append(Cell(prose, "\n".join(lines)))
    return found


def examples() -> list[Path]:
    """All scripts of the gallery."""
    return sorted(GALLERY.glob("*.py"))


@contextlib.contextmanager
def _in(folder: Path) -> Iterator[None]:
    """With another current folder, and the folder of data where it was."""
    before, name = Path.cwd(), "CONSILIUM_DATA"
    there = os.environ.get(name, str(GALLERY.parents[1] / "shared" / "data"))
    given = os.environ.get(name)
    os.environ[name] = there
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.pop(name)
        if given is not None:
            os.environ[name] = given


def run(path: Path, folder: Path) -> tuple[list[str], dict[str, Any]]:
    """Run a script in `folder`, cell by cell: what each cell of code printed, and the names that it made.

    Raises: SystemExit: the script ends early, as it does where its data are absent.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    with _in(folder):
        for cell in cells(path.read_text(encoding="utf-8")):
            if not cell.prose:
                with contextlib.redirect_stdout(io.StringIO()) as said:
                    exec(compile(cell.text, str(path), "exec"), names)  # noqa: S102  our own file
                printed.append(said.getvalue())
    return printed, names


def kept(path: Path) -> list[str]:
    """What each cell of code of a script printed when it was run last."""
    found: list[str] = json.loads((KEPT / f"{path.stem}.json").read_text(encoding="utf-8"))
    return found


def page(path: Path, note: str) -> str:
    """A script as a page: prose, code, and below it what it printed; at its end its plot."""
    printed, parts = iter(kept(path)), list[str]()
    for cell in cells(path.read_text(encoding="utf-8")):
        if cell.prose:
            parts.append(cell.text)
            continue
        parts.append(f"```python\n{cell.text}\n```")
        if said := next(printed):
            parts.append(f"```text\n{said.rstrip()}\n```")
    title, *rest = parts[0].split("\n", 1)
    source = f"This page is `gallery/{path.name}`, which runs as a script and opens as a notebook."
    plot = f"![{title.lstrip('# ')}]({path.stem}.svg)" if (KEPT / f"{path.stem}.svg").exists() else ""
    whole = [title, note.strip(), *(part.strip() for part in rest), *parts[1:], plot, source]
    return "\n\n".join(part for part in whole if part) + "\n"


def main() -> None:
    """Run examples and keep what they printed."""
    wanted = sys.argv[1:]
    for path in examples():
        if wanted and path.stem not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            printed, names = run(path, Path(folder))
        KEPT.mkdir(exist_ok=True)
        (KEPT / f"{path.stem}.json").write_text(json.dumps(printed, indent=1, ensure_ascii=False) + "\n")
        (KEPT / f"{path.stem}.svg").write_text(names[PLOT].svg())
        sys.stdout.write(f"kept {path.stem}\n")


if __name__ == "__main__":
    main()
