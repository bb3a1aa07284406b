"""Sites whose study brings its own code, in a wheel: each trains in a child that is confined, as at a hospital.

It is the child of an agent, with the same words, limits and checks of what it made: what a simulation comes to is what
a federation would. Where this host cannot confine it, the study is not simulated. The first model is made so, too.
"""

import os
import shutil
import tempfile
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from consilium.algorithms import layout
from consilium.core import state as chain
from consilium.core.errors import ConsiliumError, Refused
from consilium.core.study import Plan, Study
from consilium.core.tensors import Array, Tensors, from_safetensors
from consilium.governance.policy import Limits
from consilium.simulation.executors import AHEAD, Asked, Sent, Turn
from consilium.simulation.patients import Sites
from consilium.site import failures
from consilium.site.child import Child
from consilium.site.pipeline import DO, fits

WARM = 16
"""So many children that have nothing to do are kept at most: each holds Python, torch and a site's patients."""


def first(study: Study, wheel: Path | None) -> Tensors:
    """The model that follows from the study's seed, by the wheel's code, which is tried on made-up patients as well.

    Raises: as `Child.ask`: in words of our own; what the code said is in a file that is named.
    """
    assert wheel is not None
    with tempfile.TemporaryDirectory(prefix="consilium-wheel-") as name:
        folder = Path(name).resolve() / "first"
        child, about = _child(folder, Plan.of(study).payload, wheel)
        try:
            child.ask({"do": "first", **about, "out": str(folder / "out" / "first.safetensors")})
        except ConsiliumError as error:
            raise _told(error, child, folder) from error
        finally:
            child.close()
        return from_safetensors(_taken(folder, "first.safetensors").read_bytes())


class Confined:
    """So many sites at once, each in a child of its own, which lives on between rounds."""

    def __init__(self, sites: Sites, wheel: Path, workers: int) -> None:
        self._sites, self._wheel = sites, wheel
        self._place = tempfile.TemporaryDirectory(prefix="consilium-wheel-")
        self._warm, self._lock = OrderedDict[str, Child](), Lock()
        self._pool, self._ahead = ThreadPoolExecutor(workers), AHEAD * workers

    def __call__(self, asked: Asked, turns: Sequence[Turn]) -> Iterator[Sent]:
        """In the order of `turns`, whoever is ready first. Raises: as `Child.ask`."""
        begun: deque[Future[Sent]] = deque()
        try:
            for turn in turns:
                begun.append(self._pool.submit(self._turn, asked, turn))
                if len(begun) >= self._ahead:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()

    def end(self) -> None:
        """End the children, and remove what they had."""
        self._pool.shutdown(cancel_futures=True)
        while self._warm:
            self._warm.popitem()[1].close()
        self._place.cleanup()

    def _turn(self, asked: Asked, turn: Turn) -> Sent:
        folder = Path(self._place.name).resolve() / turn.site
        with self._lock:
            child = self._warm.pop(turn.site, None)
        child = child or self._begun(turn.site, folder)
        try:
            found = self._made(child, folder, asked, turn)
        except Refused as refusal:
            found = Sent((turn.site,), {}, refuses=refusal.message)
        except ConsiliumError as error:
            raise _told(error, child, folder) from error
        except BaseException:
            child.close()
            raise
        with self._lock:
            self._warm[turn.site] = child
            over = self._warm.popitem(last=False)[1] if len(self._warm) > WARM else None
        if over is not None:
            over.close()
        return found

    def _begun(self, site: str, folder: Path) -> Child:
        """A site's child, which has read its plan and its patients. Raises: as `Child.ask`."""
        child, about = _child(folder, self._sites.plan.payload, self._wheel)
        table, initial = folder / "table.npz", folder / "initial.safetensors"
        initial.write_bytes(self._sites.initial)
        arrays: dict[str, Any] = self._sites.table(site)
        try:
            with table.open("wb") as file:
                np.savez(file, **arrays)
            child.ask({"do": "load", **about, "initial": str(initial), "table": str(table)})
        except ConsiliumError as error:
            raise _told(error, child, folder) from error
        except BaseException:
            child.close()
            raise
        finally:
            table.unlink(missing_ok=True)
        return child

    def _made(self, child: Child, folder: Path, asked: Asked, turn: Turn) -> Sent:
        """What the child makes in a round. Raises: as `Child.ask`; Refused: it is more than an update."""
        names = {"out": "update", "keep": "memory", "harmony": "harmony"}
        there = {name: folder / "out" / file for name, file in names.items()}
        for one in there.values():
            one.unlink(missing_ok=True)
        command = {name: str(path) for name, path in there.items()}
        for name, source in (("state", asked.state), ("memory", turn.memory), ("late", turn.late)):
            if source is not None:
                command[name] = str(_laid(folder / f"{name}.safetensors", source))
        child.ask({"do": DO[asked.kind], "round": asked.number, **command})
        study, update = self._sites.plan.study, _taken(folder, "update")
        fits(study, asked.kind, layout.model_of(asked.begins), update)
        kept = {}
        if asked.kind == "TRAIN" and there["keep"].exists():
            kept[turn.site] = asked.folder / f"memory-{turn.site}-{asked.number}"
            shutil.move(_taken(folder, "memory"), kept[turn.site])
        arrays: dict[str, Array] = dict(chain.read(update.read_bytes()).arrays)
        return Sent((turn.site,), {name: array[None] for name, array in arrays.items()}, {}, kept)


def _child(folder: Path, plan: bytes, wheel: Path) -> tuple[Child, dict[str, Any]]:
    """A child that has read nothing yet, in a folder that it may read; and what it is to be told of plan and wheel."""
    out = folder / "out"
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "plan.json").write_bytes(plan)
    code = Path(shutil.copyfile(wheel, folder / "code.whl"))
    about = {"plan": str(folder / "plan.json"), "wheel": str(code)}
    return Child(folder, Limits(), foreign=True), {**about, "confine": {"read": [str(folder)], "write": [str(out)]}}


def _laid(path: Path, source: chain.Source) -> Path:
    """A file where the child may read it."""
    if isinstance(source, Path):
        shutil.copyfile(source, path)
    else:
        path.write_bytes(source)
    return path


def _taken(folder: Path, name: str) -> Path:
    """What foreign code wrote, as a copy beyond its reach: it may hold its own file open."""
    shutil.copyfile(folder / "out" / name, folder / name, follow_symlinks=False)
    return folder / name


def _told(error: ConsiliumError, child: Child, folder: Path) -> ConsiliumError:
    """The error, with the file in which what the child said is kept: for who may see all these patients."""
    child.close()
    with suppress(OSError):
        handle, name = tempfile.mkstemp(prefix="consilium-wheel-", suffix=".log")  # for its user alone
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(failures.tail(folder / failures.LOG))
        error.remedy = f"what it said is in {name}, and may quote patients: remove that once you have read it"
    return error
