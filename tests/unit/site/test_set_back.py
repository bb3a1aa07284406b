"""A hospital whose journal was set back, and whose table has changed since: nothing hides two updates.

The coordinator keeps what it got before. Were masks or noise the same, they would fall away in the difference, which
would be that of two updates: of the patients who came in between.
"""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from consilium.core import state as chain
from consilium.core.study import Plan
from consilium.privacy import recipe
from consilium.privacy.secagg import Ready
from consilium.site import seats
from consilium.site.folder import Folder
from consilium.site.steps import parsed
from consilium.site.tables import prepare
from consilium.training.work import Work
from unit.site.circle import SEALED, Hospital, Relay, circle, secure, step_of
from unit.site.test_noise import LOCALLY, PRIVACY, lost

MORE = "p999,3.5,-2.5,1\np998,1.5,2.5,0\np997,-3.0,2.0,1\n"
THREE = ("east", "north", "south")
Arrays = dict[str, np.ndarray]


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with circle(tmp_path, *THREE) as found:
        yield found


def begun(relay: Relay, **changes: Any) -> Plan:
    plan = relay.approved(secure("back", training={"epochs": 1, "learning_rate": 1.0}, **changes))
    if plan.study.privacy.recipe == "secure_sum":
        relay.paired(plan)
    return plan


def copied(hospital: Hospital) -> Path:
    """A copy of the journal as it stands."""
    path = hospital.folder.home.with_name("copy.sqlite")
    with (
        contextlib.closing(sqlite3.connect(path)) as copy,
        contextlib.closing(sqlite3.connect(hospital.folder.journal)) as of,
    ):
        of.backup(copy)
    return path


def copying(hospital: Hospital) -> Any:
    """Copy the journal as training begins, and coins are durable."""
    made = hospital.worker.updates._made

    def first(*given: Any) -> Any:
        copied(hospital)
        return made(*given)

    return mock.patch.object(hospital.worker.updates, "_made", first)


def restored(hospital: Hospital, rows: str = "") -> None:
    """The agent begins anew with the journal of the copy, without files under `work/`, and with more rows."""
    hospital.journal.close()
    for path in hospital.folder.home.glob("journal.sqlite*"):
        path.unlink()
    shutil.copy(hospital.folder.home.with_name("copy.sqlite"), hospital.folder.journal)
    shutil.rmtree(hospital.folder.work)
    hospital.folder = Folder.open(hospital.folder.home)
    table = hospital.mapping.parent / "table.csv"
    table.write_text(table.read_text() + rows)
    hospital.begin()


def read(hospital: Hospital, name: str) -> Arrays:
    path = hospital.folder.run("back-1") / f"{name}.safetensors"
    return {name: np.array(array) for name, array in chain.read(path).arrays.items()}


def read_bytes(hospital: Hospital, name: str) -> bytes:
    return (hospital.folder.run("back-1") / f"{name}.safetensors").read_bytes()


def said(hospital: Hospital, phase: str) -> list[bytes]:
    return [data for data in hospital.sent(phase) if step_of(data).round == 1]


def test_what_masks_were_laid_for_is_masked_once_more_and_nothing_else(relay: Relay) -> None:
    """The copy is of between READY and MASK, where coins are in the journal."""
    plan, north = begun(relay), relay["north"]
    relay.ask(plan, 1, "READY")
    copied(north)
    assert relay.ask(plan, 1, "MASK", ("north",)) == {"north": "done"}
    (first,), masked = said(north, "MASK"), read(north, "masked-1-1")
    restored(north, MORE)
    assert relay.ask(plan, 1, "MASK", ("north",)) == {"north": "update-changed"}
    assert not said(north, "MASK") and not list(north.folder.run("back-1").glob("masked*"))
    table = north.mapping.parent / "table.csv"
    table.write_text(table.read_text().removesuffix(MORE))
    restored(north)
    assert relay.ask(plan, 1, "MASK", ("north",)) == {"north": "done"}
    assert said(north, "MASK") == [first] and np.array_equal(read(north, "masked-1-1")["update"], masked["update"])


@pytest.mark.long
def test_a_copy_without_work_goes_on_at_every_phase(relay: Relay) -> None:
    plan, north = begun(relay, rounds=2), relay["north"]
    for number in (1, 2, 3):
        for phase in SEALED:
            copied(north)
            restored(north)
            assert set(relay.ask(plan, number, phase).values()) == {"done"}, (number, phase)
            if phase == "MASK":
                vector = read_bytes(north, f"masked-{number}-1")
        (north.folder.run("back-1") / f"masked-{number}-1.safetensors").write_bytes(vector)  # the coordinator has it
        relay.opened(plan, number)
        relay.closed(plan, number, THREE)


def test_coins_that_come_back_give_another_update_other_masks_and_other_noise(relay: Relay) -> None:
    """With shares of noise coins are durable before training. The copy is of while it trained, then of after READY."""
    plan, north = begun(relay, privacy={**PRIVACY, "sampling": 0.5}), relay["north"]
    with copying(north):
        relay.ask(plan, 1, "READY", ("north",))
    relay.ask(plan, 1, "READY", ("east", "south"))
    relay.ask(plan, 1, "MASK", ("north",))
    (ready,), update, masked = said(north, "READY"), read(north, "update-1"), read(north, "masked-1-1")
    restored(north)
    relay.ask(plan, 1, "READY", ("north",))
    assert said(north, "READY") == [ready], "of the same table: the same bytes"
    lost(north, plan)
    relay.ask(plan, 1, "MASK", ("north",))
    assert np.array_equal(read(north, "masked-1-1")["update"], masked["update"]), "the same patients were drawn"
    restored(north, MORE)
    relay.ask(plan, 1, "READY", ("north",))
    copied(north)
    one, other = (parsed(step_of(data), Ready) for data in (ready, *said(north, "READY")))
    assert one.ctx == other.ctx and one.nonce != other.nonce and one.own_hash != other.own_hash
    assert relay.ask(plan, 1, "MASK", ("north",)) == {"north": "done"}
    found = seats.layout(plan, relay.task(plan, 1, "MASK", THREE), relay.file(relay.states["back-1", 0]))
    made, now = found.encodings["update"], read(north, "update-1")["update"]
    apart = (read(north, "masked-1-1")["update"] - masked["update"]).view(f"<i{made.bits // 8}") / made.scale
    assert np.all(np.abs(apart - (now - update["update"])) > 100 / made.scale), "masks and noise are others"
    restored(north, "p996,1.0,1.0,1\n")
    assert relay.ask(plan, 1, "MASK", ("north",)) == {"north": "update-changed"}
    assert relay.ask(plan, 1, "READY", attempt=2)["north"] == "done", "another attempt has coins of its own"
    assert relay.ask(plan, 1, "MASK", ("north",), attempt=2) == {"north": "done"}


def test_of_another_table_all_noise_of_a_hospital_is_other_noise(relay: Relay, tmp_path: Path) -> None:
    """Under `plain`, with all noise in what is sent."""
    plan = begun(relay, privacy={**PRIVACY, **LOCALLY, "recipe": "plain"}, strategy={"name": "fedprox"})
    north, chances = relay["north"], []
    train = Work.train

    def told(self: Work, state: Any, number: int, chance: bytes, *others: Any) -> Any:
        chances.append(chance)
        return train(self, state, number, chance, *others)

    with mock.patch.object(Work, "train", told):
        with copying(north):
            assert relay.ask(plan, 1, "SUBMIT", ("north",), cohort=()) == {"north": "done"}
        first = read(north, "update-1")
        for rows in ("", MORE):
            restored(north, rows)
            assert relay.ask(plan, 1, "SUBMIT", ("north",), cohort=()) == {"north": "done"}
            assert np.array_equal(read(north, "update-1")["update"], first["update"]) is (rows == "")
    once, again, other = chances
    assert once == again != other
    kept = tmp_path / "plan.json"
    kept.write_bytes(plan.payload)
    work = Work.load(kept, relay.file(relay.initial), prepare(plan.study, north.mapping, tmp_path).path)
    state = relay.file(relay.states["back-1", 0])
    update = {chance: train(work, state, 1, chance).segments["update"] for chance in (once, other)}
    assert np.array_equal(read(north, "update-1")["update"], update[other])
    assert not np.any(update[once] == update[other]), "of the same rows: what differs is who is drawn, and the noise"
    assert recipe.bound(once) not in chances
