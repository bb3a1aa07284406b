"""A federation within this process: the very code of sites and coordinator, without wire, journal and people.

Training, the state chain, the sums and the figures are those of a federation, so that the same study on the same tables
gives the same bytes, unless it has an epsilon: noise is never the same. Under the recipe `secure_sum` the sums are of
the same integers, only that no masks are added that would fall away. What it lacks is what a federation is for:
nobody's records are kept apart here.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from consilium.coordinator import perform
from consilium.coordinator.perform import read_figures, strategy
from consilium.core import state as chain
from consilium.core.errors import Conflict, DataUnusable
from consilium.core.ids import Digest
from consilium.core.study import Plan, Study
from consilium.core.update import Segments, Update
from consilium.privacy import recipe
from consilium.privacy.opening import Opened
from consilium.site.seats import layout_of
from consilium.site.tables import Prepared, prepare
from consilium.training.work import Work

Write = Callable[[IO[bytes]], tuple[Digest, int]]


@dataclass(frozen=True)
class Outcome:
    """What a run gave: its final state on file, who took part in every round, and the figures of the final model.

    Figures of single sites, too, whatever the recipe: nobody's records are kept apart here.
    """

    state: Path
    digest: Digest
    took_part: tuple[str, ...]
    figures: dict[str, Any]


def mappings(folder: Path) -> dict[str, Path]:
    """The mapping of each hospital whose folder lies in `folder`, by the hospital's name.

    Raises: DataUnusable: there is none.
    """
    found = {path.parent.name: path for path in sorted(folder.glob("*/mapping.yaml"))}
    if not found:
        raise DataUnusable(f"{folder} holds no hospital", "give a folder of folders with a mapping.yaml in each")
    return found


def tables(study: Study, mapped: Mapping[str, Path], folder: Path) -> dict[str, Prepared]:
    """Each hospital's table as its agent would prepare it, in `folder`."""
    prepared = {}
    for site, mapping in sorted(mapped.items()):
        (folder / site).mkdir(parents=True, exist_ok=True)
        prepared[site] = prepare(study, mapping, folder / site)
    return prepared


def works(plan: Plan, initial: bytes, prepared: Mapping[str, Prepared], folder: Path) -> dict[str, Work]:
    """The plan at each hospital, as its child process would load it."""
    known, weights = folder / "plan.json", folder / "initial.safetensors"
    known.write_bytes(plan.payload)
    weights.write_bytes(initial)
    return {site: Work.load(known, weights, table.path) for site, table in sorted(prepared.items())}


def run(
    plan: Plan,
    initial: bytes,
    prepared: Mapping[str, Prepared],
    folder: Path,
    name: str,
    coins: Callable[[int], bytes] = os.urandom,
) -> Outcome:
    """Train the plan's rounds and judge the final model; `name` stands in the state, as a run's name does.

    Args:    coins: gives so many bytes by chance: by them patients are drawn and noise is added, under an epsilon.
    Raises:  Conflict: fewer hospitals than the quorum have enough patients.
    """
    enough = {site: table for site, table in prepared.items() if table.training >= plan.study.min_patients}
    if len(enough) < plan.study.quorum:
        raise Conflict(f"{len(enough)} hospitals have enough patients; {plan.study.quorum} are needed")
    here, federated = works(plan, initial, enough, folder), strategy(plan.study)
    state, digest = _file(folder / "state-0", lambda out: chain.begin(federated, initial, name, out))
    kept: dict[str, Segments] = {site: {} for site in here}
    for number in range(1, plan.study.rounds + 1):
        trained = {site: work.train(state, number, coins(32), kept[site]) for site, work in here.items()}
        kept = {site: update.memory for site, update in trained.items()}
        sums, _ = _sums(plan, folder, _Round(name, number, "TRAIN", state), trained, coins)
        step: Write = lambda out: chain.advance(federated, state, digest, sums, name, number, out)  # noqa: B023, E731
        after, digest = _file(folder / f"state-{number}", step)
        state.unlink()
        state = after
    judged = {site: work.evaluate(state, kept[site]) for site, work in here.items()}
    sums, single = _sums(plan, folder, _Round(name, plan.study.rounds + 1, "EVALUATE", state), judged, coins)
    sites = {site: read_figures(plan.study, path) for site, path in single.items()}
    return Outcome(state, digest, tuple(here), {"all": read_figures(plan.study, sums), "sites": sites})


@dataclass(frozen=True)
class _Round:
    run: str
    number: int
    kind: str
    state: Path


def _sums(
    plan: Plan, folder: Path, of: _Round, updates: Mapping[str, Update], coins: Callable[[int], bytes]
) -> tuple[Path, dict[str, Path]]:
    single, summed = {}, folder / "sums"
    for site, update in sorted(updates.items()):
        segments = update.segments
        single[site], _ = _file(folder / f"update-{site}", lambda out, s=segments: chain.write(s, {}, out))  # type: ignore[misc]
    stamp, paths = {"run": of.run, "round": str(of.number), "kind": of.kind}, list(single.values())
    if plan.study.privacy.recipe != "secure_sum":
        look = perform.single(plan.study)
        return _file(summed, lambda out: chain.fold(paths, stamp, out, look))[0], single
    layout = layout_of(plan, of.kind, of.state, len(updates))

    def whole(path: Path) -> Path:
        return _file(path.with_name(f"whole-{path.name}"), lambda out: layout.cover(path, (), out, coins(32)))[0]

    covered = [whole(path) for path in paths]
    return _file(summed, lambda out: recipe.recover(layout, covered, Opened({}, {}), stamp, out))[0], single


def _file(path: Path, write: Write) -> tuple[Path, Digest]:
    with path.open("wb") as file:
        digest, _ = write(file)
    return path, digest
