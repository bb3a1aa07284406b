"""Where simulated sites train: in this process, one after the other, or in others beside it. Both give the same bytes.

What a site gives is passed on as soon as it is its turn, in sorted order, so that no more than a few updates are in
memory, whatever the number of sites. What a strategy keeps at a site lies on file.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

from consilium.core import state as chain
from consilium.core.errors import Refused, TrainingFailed
from consilium.core.tensors import Array
from consilium.core.update import Segments, Update
from consilium.training.limits import end_with
from consilium.training.work import Work

AHEAD = 2
"""So many sites for each process are begun before the first of them is taken."""
Works = Callable[[str], Work]


class Turn(NamedTuple):
    """What one site does in a round.

    Args:    sample: key by which patients are drawn, under an epsilon.   memory: what the strategy kept here.
             late: what it kept with an answer that was not counted.
    """

    site: str
    sample: bytes = b""
    memory: chain.Source | None = None
    late: chain.Source | None = None


@dataclass(frozen=True)
class Asked:
    """A round: kind, number, the state on file at which it begins, and the folder for what strategies keep at sites."""

    kind: str
    number: int
    state: Path
    folder: Path

    @cached_property
    def begins(self) -> chain.Vectors:
        """The state, which is mapped once in a process."""
        return chain.read(self.state)

    def __reduce__(self) -> tuple[type["Asked"], tuple[str, int, Path, Path]]:
        """What is mapped here does not go to another process."""
        return Asked, (self.kind, self.number, self.state, self.folder)


@dataclass(frozen=True)
class Sent:
    """What came of some sites, of one or of many at once.

    Args:    rows: per segment (sites, length), a row for each.   added: segments that were added up over them already.
             kept: what a strategy keeps at a site from now on.   refuses: why these are in no sum.
    """

    sites: tuple[str, ...]
    rows: Mapping[str, Array]
    added: Segments = field(default_factory=dict)
    kept: Mapping[str, Path] = field(default_factory=dict)
    refuses: str = ""


class Executor(Protocol):
    """Trains and judges at sites."""

    def __call__(self, asked: Asked, turns: Sequence[Turn]) -> Iterator[Sent]:
        """What comes of each, in the order of `turns`. Raises: TrainingFailed."""
        ...


def one(work: Work, asked: Asked, turn: Turn) -> Sent:
    """One site's turn, as its child process would take it."""
    try:
        made = update(work, asked.kind, asked.number, asked.state, turn)
    except Refused as refusal:
        return Sent((turn.site,), {}, refuses=refusal.message)
    return sent(asked, turn.site, made)


def update(work: Work, kind: str, number: int, state: chain.Source, turn: Turn) -> Update:
    """What one site makes in a round of a kind that begins at a state."""
    memory, late = (chain.read(source).arrays if source is not None else {} for source in (turn.memory, turn.late))
    if kind == "TRAIN":
        return work.train(state, number, turn.sample, memory, late)
    return work.prepare() if kind == "PREPARE" else work.evaluate(state, memory)


def sent(asked: Asked, site: str, made: Update) -> Sent:
    """The same as it is passed on, with what is kept at the site on file."""
    kept = {}
    if made.memory:
        kept[site] = asked.folder / f"memory-{site}-{asked.number}"
        with kept[site].open("wb") as file:
            chain.write(made.memory, {}, file)
    return Sent((site,), {name: array[None] for name, array in made.segments.items()}, {}, kept)


class Inline:
    """One site after the other, in this process."""

    def __init__(self, works: Works) -> None:
        self._works, self._known = works, dict[str, Work]()

    def __call__(self, asked: Asked, turns: Sequence[Turn]) -> Iterator[Sent]:
        """In the order of `turns`."""
        for turn in turns:
            yield one(self.at(turn.site), asked, turn)

    def at(self, site: str) -> Work:
        """The plan at one site, which is made once."""
        if site not in self._known:
            self._known[site] = self._works(site)
        return self._known[site]


_here: Inline | None = None


def _begin(works: Works, parent: int) -> None:
    global _here
    end_with(parent)
    _here = Inline(works)


def _turn(asked: Asked, turn: Turn) -> Sent:
    assert _here is not None
    return next(iter(_here(asked, [turn])))


class Processes:
    """Sites in so many processes, each of which takes the next site as it is free. `begun`: turns so far."""

    def __init__(self, works: Works, workers: int) -> None:
        fresh = multiprocessing.get_context("spawn")  # torch and BLAS hold threads, which a fork would lose
        begin = (works, os.getpid())
        self._pool, self._ahead = ProcessPoolExecutor(workers, fresh, _begin, begin), AHEAD * workers
        self.begun = 0

    def __call__(self, asked: Asked, turns: Sequence[Turn]) -> Iterator[Sent]:
        """In the order of `turns`, whoever is ready first. Raises: TrainingFailed: a process ended."""
        begun: deque[Future[Sent]] = deque()
        waiting = iter(turns)
        try:
            for turn in waiting:
                begun.append(self._pool.submit(_turn, asked, turn))
                self.begun += 1
                if len(begun) >= self._ahead:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        except BrokenProcessPool as error:
            raise TrainingFailed(
                "a process of the simulation ended before its time",
                "ask for fewer with --workers: memory may lack; a script, which each process reads anew, does what it "
                "does below `if __name__ == '__main__':`",
            ) from error
        finally:
            for future in begun:
                future.cancel()

    def end(self) -> None:
        """End the processes."""
        self._pool.shutdown(cancel_futures=True)
