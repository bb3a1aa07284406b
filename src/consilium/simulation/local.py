"""A federation within this process: the very code of sites and coordinator, without wire, journal and people.

Training, the state chain, the sums and the figures are those of a federation, so that the same study on the same tables
gives the same bytes, unless it has an epsilon: noise is never the same. Under the recipe `secure_sum` the sums are of
the same integers, only that no masks are added that would fall away. What it lacks is what a federation is for:
nobody's records are kept apart here.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from consilium.core.errors import DataUnusable
from consilium.core.study import Plan, Study
from consilium.simulation import fitness
from consilium.simulation.executors import Inline
from consilium.simulation.rounds import Outcome, Simulation
from consilium.site.tables import Prepared, prepare
from consilium.training.work import Work


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
        with fitness.of(site, mapped):
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
    enough = {site: table for site, table in prepared.items() if table.counted >= plan.study.min_patients}
    here = works(plan, initial, enough, folder)
    return Simulation(
        plan, initial, tuple(here), Inline(here.__getitem__), folder, name, coins,
        lambda site, kind: here[site].lacks(kind),
    ).run()  # fmt: skip
