"""Sites train on a cluster of Ray's: on this machine or on several, with GPUs where a model needs some. https://ray.io

A site's turn is one task of Ray's, which runs it where there is room, and anew where a process or a machine ended. It
depends on nothing but what it is given, so that the same comes of it. Patients lie once in the memory of each machine,
and so does the state of a round. Updates are taken in sorted order, and few are begun before they are: what a round
holds in memory does not grow with the number of sites.
"""

import math
import re
import socket
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from consilium import __version__
from consilium.core import state as chain
from consilium.core.errors import EXTRA, Conflict, ConsiliumError, Refused, TrainingFailed, Unavailable
from consilium.core.update import Update
from consilium.simulation.executors import AHEAD, Asked, Inline, Sent, Turn, Works, sent, update

try:
    import ray
    from ray.exceptions import RayError, RayTaskError

    from consilium.simulation.admission import Admission
except ImportError as error:
    raise Refused("the executor ray needs the extra", EXTRA.format("ray"), reason="extra") from error

DEATHS = 3
"""So often a turn is begun anew whose process or machine ended."""
LOOK_S, LOST_S = 5.0, 120.0
"""A turn is waited for as long as there are machines for it, and so long when there are none."""
SAME = "install the same release of Consilium, with its extras, on each machine of the cluster"

_here: tuple[Any, Inline] | None = None


def _turn(release: str, works: list[Any], kind: str, number: int, state: bytes, turn: Turn) -> Update:
    """A turn, within a process of the cluster. Args: works: a reference, in a list, lest it be read for each turn."""
    global _here
    if release != __version__:
        raise Conflict(f"a machine of the cluster has Consilium {__version__}, and this one {release}", SAME)
    if _here is None or _here[0] != works[0]:
        _here = works[0], Inline(ray.get(works[0]))
    return update(_here[1].at(turn.site), kind, number, state, turn)


class Cluster:
    """Sites on a cluster of Ray's. `begun`: turns so far.

    Args:    address: of a cluster that runs, as for `ray.init`; None: one begins on this machine, listens to it alone,
             and ends.   workers: processes of the latter.   gpus: that a site's training takes; of a part of one,
             others have the rest.
    Raises:  Unavailable: there is no such cluster, or it asks for a token that does not lie here.   Conflict: it has no
             room for a single site, or this process is in a cluster.
    """

    def __init__(self, works: Works, workers: int, address: str | None = None, gpus: float = 0.0) -> None:
        if ray.is_initialized():
            raise Conflict("this process is in a cluster of Ray's already", "leave it by `ray.shutdown()`")
        address = None if address == "local" else address
        self._gpus, self._folder = gpus, None if address else tempfile.TemporaryDirectory(prefix="ray-")
        self._admission = Admission()
        self.begun = 0
        try:
            self._connect(workers, address)
            if not self._room():
                raise Conflict(
                    f"no machine of the cluster has a core{f' and {gpus:g} GPUs' if gpus else ''} for a site",
                    "add one, or ask for less with --gpus",
                )
            self._works = ray.put(works)
        except BaseException:
            self.end()
            raise
        self._turn = ray.remote(_turn).options(num_cpus=1, num_gpus=gpus, max_retries=DEATHS)

    def _connect(self, workers: int, address: str | None) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        try:
            if self._folder is not None:
                folder = Path(self._folder.name)
                self._admission.own(folder)
                quiet |= {"_node_ip_address": "127.0.0.1", "_temp_dir": str(folder / "r")}  # names of sockets are short
                quiet |= {"num_cpus": workers, "include_dashboard": False}
            elif address:
                _reached(address)
                address = self._admission.join(address)
            ray.init(address=address or "local", **quiet)
        except (RayError, RuntimeError, ValueError, OSError) as error:
            told = str(error).strip().splitlines()[0]
            if address is None:
                raise Unavailable(
                    f"no cluster of Ray's begins on this machine ({told})",
                    "let the temporary folder (TMPDIR) be writable and its path short, or take --executor processes",
                ) from error
            raise Unavailable(
                f"no cluster of Ray's answers at {address} ({told})",
                "begin one with `ray start --head` on this machine, and with `ray start --address` on the others",
            ) from error

    def __call__(self, asked: Asked, turns: Sequence[Turn]) -> Iterator[Sent]:
        """In the order of `turns`, whoever is ready first. Raises: TrainingFailed: machines ended, and none is left."""
        state = ray.put(asked.state.read_bytes())
        begun: deque[tuple[str, Any]] = deque()
        try:
            for turn in turns:
                if len(begun) >= AHEAD * max(self._room(), 1):
                    yield self._taken(asked, *begun.popleft())
                given = turn._replace(memory=_bytes(turn.memory), late=_bytes(turn.late))
                whole = __version__, [self._works], asked.kind, asked.number, state, given
                begun.append((turn.site, self._turn.remote(*whole)))
                self.begun += 1
            while begun:
                yield self._taken(asked, *begun.popleft())
        finally:
            for _, reference in begun:
                ray.cancel(reference)

    def _taken(self, asked: Asked, site: str, reference: Any) -> Sent:
        alone_s = 0.0
        while not ray.wait([reference], timeout=LOOK_S)[0]:
            alone_s = 0.0 if self._room() else alone_s + LOOK_S
            if alone_s >= LOST_S:
                raise TrainingFailed("the machines of the cluster ended", "begin them again, and simulate once more")
        try:
            return sent(asked, site, ray.get(reference))
        except RayTaskError as error:
            if isinstance(error.cause, Refused):
                return Sent((site,), {}, refuses=error.cause.message)
            if isinstance(error.cause, ConsiliumError):
                raise error.cause from error
            raise TrainingFailed(f"{site} could not train on the cluster ({error.cause!r})", SAME) from error
        except RayError as error:
            raise TrainingFailed(
                f"a process of the cluster ended {DEATHS + 1} times as it trained {site} ({type(error).__name__})",
                "memory may lack: give machines more, or begin `ray start` with a smaller `--num-cpus`",
            ) from error

    def _room(self) -> int:
        """How many sites can train at once on the machines that are there now."""
        there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = [has.get("GPU", 0.0) / self._gpus if self._gpus else math.inf for has in there]
        return sum(int(min(has.get("CPU", 0.0), of)) for has, of in zip(there, gpus, strict=True))

    def end(self) -> None:
        """Leave the cluster, with the environment as it was; one of this machine's own ends."""
        ray.shutdown()
        self._admission.end()
        if self._folder is not None:
            self._folder.cleanup()


def _reached(address: str | None) -> None:
    """Raises: OSError: nobody listens at HOST:PORT. Ray would try for minutes."""
    if address and (found := re.fullmatch(r"\[?([^/\[\]]+)\]?:(\d+)", address)):
        socket.create_connection((found[1], int(found[2])), LOOK_S).close()


def _bytes(source: chain.Source | None) -> bytes | None:
    return source.read_bytes() if isinstance(source, Path) else source
