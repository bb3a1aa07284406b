"""A hospital that adds nothing to a secure sum leaves that of the others in it: it refuses, and is in no sum."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from consilium.core import state as chain
from consilium.core.errors import Conflict
from consilium.core.study import Plan
from consilium.simulation import local
from consilium.training import silence
from unit.site.circle import SEALED, Relay, circle, secure

FOUR = ("east", "north", "south", "west")
RUN = "sums-1"
NUMBER = {"type": "number", "unit": "1", "range": [-10, 10], "missing": "forbidden"}
CONTRACT = {
    "id": "sums", "features": [{"id": name, "meaning": name, **NUMBER} for name in "xy"],
    "label": {"id": "death", "meaning": "death", "type": "time-to-event", "unit": "d", "range": [0, 4000]},
}  # fmt: skip
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of n patients: values (n, 2), days (n,), and who had the event (n,)."""


def without_event(values: np.ndarray, days: np.ndarray, had: np.ndarray) -> Rows:
    return values, days, np.zeros_like(had)


def alike(values: np.ndarray, days: np.ndarray, had: np.ndarray) -> Rows:
    return np.tile(values[:1], (len(values), 1)), days, had


def only_the_last(values: np.ndarray, days: np.ndarray, had: np.ndarray) -> Rows:
    return values, days, days == days.max()


def kept(mapping: Path, seed: int, of: Callable[..., Rows]) -> None:
    """Patients of a hospital with times, in the place of those that it has."""
    rng, n = np.random.default_rng(seed), 60
    values, days, had = of(rng.normal(size=(n, 2)), rng.permutation(n) + 20.0, rng.random(n) < 0.6)
    rows = [
        f"p{at},{x!r},{y!r},{day},{int(it)}" for at, ((x, y), day, it) in enumerate(zip(values.tolist(), days, had))
    ]
    (mapping.parent / "table.csv").write_text("\n".join(["id,x,y,days,died", *rows]) + "\n")
    mapping.write_text(
        "mapping: 1\ncontract: sums\nsource: {type: csv, path: table.csv}\npatient: {column: id}\n"
        "features: {x: {column: x, unit: '1'}, y: {column: y, unit: '1'}}\n"
        "label: {column: died, codes: {'0': 0, '1': 1}, time: {column: days, unit: d}}\n"
    )


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with circle(tmp_path, *FOUR) as found:
        yield found


def begun(relay: Relay, of: Callable[..., Rows], **changes: Any) -> Plan:
    for seed, (name, hospital) in enumerate(relay.hospitals.items()):
        kept(hospital.mapping, seed, of if name == "north" else lambda *rows: rows)
    wanted = {"contract": CONTRACT, "model": {"kind": "cox"}, "strategy": {"name": "newton"}, "rounds": 1, **changes}
    plan = relay.approved(secure("sums", **wanted))
    relay.paired(plan)
    return plan


def simulated(relay: Relay, plan: Plan, names: tuple[str, ...], folder: Path) -> local.Outcome:
    folder.mkdir()
    mapped = {name: relay[name].mapping for name in names}
    initial = relay.blobs[relay.initial.digest]
    return local.run(plan, initial, local.tables(plan.study, mapped, folder), folder, RUN)


@pytest.mark.parametrize("of", [without_event, alike])
def test_of_three_hospitals_the_sum_is_that_of_one_where_another_adds_nothing(
    relay: Relay, of: Callable[..., Rows]
) -> None:
    """The attack, with agents that do not look at what they add: east takes its own part off, and reads south's."""
    plan, three = begun(relay, of), FOUR[:3]
    with mock.patch.object(silence, "asked", return_value=False):
        for phase in SEALED:
            assert set(relay.ask(plan, 1, phase, three).values()) == {"done"}
    east, south = (
        chain.read(relay[name].folder.run(RUN) / "update-1.safetensors").arrays for name in ("east", "south")
    )
    relay.opened(plan, 1)
    total = chain.read(relay.blobs[relay.sums[RUN, 1].digest]).arrays
    for name in ("update", "hessian", "loss"):
        np.testing.assert_allclose(total[name] - east[name], south[name], rtol=1e-6, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    ("of", "changes"),
    [
        (without_event, {}), (alike, {"model": {"kind": "cox", "l2": 0.1}}),
        (only_the_last, {"strategy": {"name": "scaffold"}}),
    ],
)  # fmt: skip
def test_who_adds_nothing_refuses_and_the_others_go_on_as_in_a_simulation(
    relay: Relay, of: Callable[..., Rows], changes: dict[str, Any], tmp_path: Path
) -> None:
    plan = begun(relay, of, **changes)
    assert relay.ask(plan, 1, "READY") == {**dict.fromkeys(FOUR, "done"), "north": "nothing"}
    others = tuple(name for name in FOUR if name != "north")
    for phase in SEALED[1:]:
        assert set(relay.ask(plan, 1, phase, others).values()) == {"done"}
    relay.opened(plan, 1)
    outcome = simulated(relay, plan, FOUR, tmp_path / "four")
    assert outcome.digest == relay.states[RUN, 1].digest
    with pytest.raises(Conflict, match=r"2 of the 3 hospitals.*north said: .*add nothing to the sum"):
        simulated(relay, plan, FOUR[:3], tmp_path / "three")
