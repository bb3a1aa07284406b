"""How far something is, for a person who looks on: a bar in a terminal or in a notebook, and nothing elsewhere."""

import html
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

Tell = Callable[[int, int, str], None]
"""How many of how many are done, and what there is to say of it."""


@dataclass(frozen=True)
class State:
    """How far it is. Notebooks show it as a bar."""

    what: str
    done: int = 0
    total: int = 1
    words: str = ""

    def _repr_html_(self) -> str:
        what, words = html.escape(self.what), html.escape(self.words)
        return (
            f'<span>{what} <progress aria-label="{what}" value="{self.done}" max="{self.total}"></progress> '
            f"{self.done} of {self.total} {words}</span>"
        )

    def __repr__(self) -> str:
        return f"{self.what}: {self.done} of {self.total} {self.words}".rstrip()


@contextmanager
def bar(what: str, shown: bool | None = None) -> Iterator[Tell]:
    """A bar that begins empty, and is moved by what it gives.

    Args:    shown: False: no bar, whoever looks on.   None, True: where a person can see it.
    """
    if shown is False:
        yield _silent
    elif (display := _notebook()) is not None:
        handle = display(State(what), display_id=True)
        yield lambda done, total, words: handle.update(State(what, done, total, words))
    else:
        with _terminal(what) as tell:
            yield tell


def _silent(done: int, total: int, words: str) -> None:
    """Nobody looks on."""


def _notebook() -> Callable[..., Any] | None:
    """What shows a value in this notebook; None: this is no notebook."""
    module = sys.modules.get("IPython")  # a notebook has loaded it, and nothing else needs it
    shell = module.get_ipython() if module is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    found: Callable[..., Any] = display
    return found


@contextmanager
def _terminal(what: str) -> Iterator[Tell]:
    """On stderr, gone when it is over; silent where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    terminal = Console(stderr=True)
    if not terminal.is_terminal:
        yield _silent
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[words]}"), console=terminal, transient=True) as shown:
        task = shown.add_task(what, total=None, words="")
        yield lambda done, total, words: shown.update(task, completed=done, total=total, words=words)
