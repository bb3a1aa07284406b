"""Rounds with noise at hospitals: fresh chance for each attempt, the same bytes again, and the sum with its noise."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from consilium.algorithms.clipping import moved
from consilium.core import state as chain
from consilium.core.study import Plan
from consilium.privacy import masks, noise, recipe
from consilium.privacy.quantize import Noised
from consilium.privacy.secagg import Open
from consilium.site import memories, seats
from consilium.site.journal import Journal, Writing
from consilium.site.tables import prepare
from consilium.training.work import Work
from consilium.wire.messages import Ended
from unit.site.circle import Hospital, Relay, circle, secure

FOUR = ("east", "north", "south", "west")
PRIVACY = {"recipe": "secure_sum", "epsilon": 4.0, "delta": 1e-4, "expected_patients": 50, "most_patients": 200}
PRIVACY |= {"noise_multiplier": 8.0}  # more than is needed: a search for the least takes its time


OUTLASTS = {"coins", "ledger", "seats", "steps", "openings", "epochs", "chains", "pins", "answers"}
"""Tables of what must survive a power cut before anything follows from it: chance, charges, what was said."""
Put = set[tuple[str, bool]]
"""Tables into which something was put, and whether it is durable once it is committed."""


@pytest.fixture
def put() -> Iterator[Put]:
    seen: Put = set()
    write = Journal.write

    @contextmanager
    def watching(self: Journal, **how: Any) -> Iterator[Writing]:
        with write(self, **how) as tx:
            put = tx.put

            def noted(text: str, values: tuple[Any, ...]) -> Any:
                found = re.match(r"(?:INSERT(?: OR \w+)? INTO|UPDATE) (\w+)", text)
                if found:
                    seen.add((found[1], how.get("durable", True)))
                return put(text, values)

            with mock.patch.object(tx, "put", noted):
                yield tx

    with mock.patch.object(Journal, "write", watching):
        yield seen
    assert not OUTLASTS & {table for table, durable in seen if not durable}


@pytest.fixture
def relay(tmp_path: Path, put: Put) -> Iterator[Relay]:
    with circle(tmp_path, *FOUR) as found:
        yield found


def begun(relay: Relay, name: str = "noised", **privacy: Any) -> Plan:
    wanted = secure(name, privacy={**PRIVACY, **privacy}, training={"epochs": 1, "learning_rate": 1.0}, rounds=3)
    plan = relay.approved(wanted)
    relay.paired(plan)
    return plan


def update(hospital: Hospital, plan: Plan, number: int = 1) -> dict[str, np.ndarray]:
    path = hospital.folder.run(f"{plan.study.name}-1") / f"update-{number}.safetensors"
    return {name: np.array(array) for name, array in chain.read(path).arrays.items()}


def vector(hospital: Hospital, number: int, attempt: int) -> bytes:
    return (hospital.folder.run("noised-1") / f"masked-{number}-{attempt}.safetensors").read_bytes()


def coins(hospital: Hospital, number: int, attempt: int) -> list[bytes]:
    rows = [
        hospital.journal.row(f"SELECT coins FROM {table} WHERE round = ? AND attempt = ?", number, attempt)
        for table in ("coins", "seats")
    ]
    return [bytes(row["coins"]) for row in rows if row is not None]


def test_a_run_is_the_sum_of_updates_and_of_the_noise_of_their_coins(relay: Relay, put: Put) -> None:
    plan = begun(relay, sampling=0.5)
    for number in (1, 2, 3):
        for phase in ("READY", "MASK"):
            relay.ask(plan, number, phase)
        wanted, made = 0, None
        for hospital in relay.hospitals.values():
            row = hospital.journal.row("SELECT * FROM seats WHERE round = ?", number)
            assert row is not None
            state = relay.file(relay.states["noised-1", number - 1])
            made = seats.layout(plan, relay.task(plan, number, "MASK", FOUR), state).encodings["update"]
            assert isinstance(made, Noised)
            segments = update(hospital, plan, number)
            assert segments.keys() == {"update", "weight"} and segments["weight"] == 25.0
            key = recipe.noise_key(bytes(row["coins"]), Open.model_validate_json(row["open"]).sha256)
            share = noise.integers(masks.segment_key(key, "update/0"), 3, made.deviation)
            wanted = wanted + np.floor(segments["update"] * made.scale + 0.5) + share
        for phase in ("CONFIRM", "UNMASK"):
            relay.ask(plan, number, phase)
        relay.opened(plan, number)
        found = chain.read(relay.file(relay.sums["noised-1", number])).arrays
        assert made is not None and np.array_equal(np.array(found["update"]) * made.scale, wanted)
        assert found.keys() == {"update", "weight", "clamped"} and found["weight"] == 100.0 and found["clamped"] == 0
        relay.closed(plan, number, FOUR)
    relay.played(plan, 4)
    judged = chain.read(relay.file(relay.sums["noised-1", 4])).arrays
    assert judged["weight"] == 100.0, "the number of training patients leaves in no round"
    assert judged["metrics/n"] > 0
    assert {table for table, durable in put if durable} >= OUTLASTS, "else the fixture sees nothing"


def test_another_attempt_draws_other_patients_and_has_other_noise(relay: Relay) -> None:
    plan = begun(relay, sampling=0.5)
    north = relay["north"]
    relay.ask(plan, 1, "READY")
    relay.ask(plan, 1, "MASK")
    first, before = update(north, plan), vector(north, 1, 1)
    relay.ask(plan, 1, "READY", attempt=2)
    relay.ask(plan, 1, "MASK", attempt=2)
    second = update(north, plan)
    assert not np.array_equal(first["update"], second["update"]), "other patients were drawn"
    assert len({*coins(north, 1, 1), *coins(north, 1, 2)}) == 4 and before != vector(north, 1, 2)
    for phase in ("CONFIRM", "UNMASK"):
        assert set(relay.ask(plan, 1, phase, attempt=2).values()) == {"done"}


def test_what_died_before_it_answered_goes_on_with_the_same_coins(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Durable before use: an agent that ends in the middle of training draws the same patients when it is back."""
    plan = begun(relay, sampling=0.5)
    north, used = relay["north"], []
    kept = recipe.sample_key

    def dies(given: bytes) -> bytes:
        used.append(given)
        if len(used) == 1:
            assert coins(north, 1, 1) == [given], "it is on file before it is used"
            raise KeyboardInterrupt
        return kept(given)

    monkeypatch.setattr("consilium.site.updates.sample_key", dies)
    with pytest.raises(KeyboardInterrupt):
        relay.ask(plan, 1, "READY", ("north",))
    north.again()
    assert north.go_on() == "done"
    (made,) = north.journal.rows("SELECT digest FROM answers")
    assert used[0] == used[1] and coins(north, 1, 1) == [used[0], recipe.bound(used[0], made["digest"])]


LOCALLY = {"noise": "at_each_hospital", "sampling": 0.5}


def charged(hospital: Hospital) -> list[int]:
    return [one.trainings for one in hospital.worker.veto.ledger.book.accounts.values()]


def lost(hospital: Hospital, plan: Plan) -> None:
    path = hospital.folder.run(f"{plan.study.name}-1") / "update-1.safetensors"
    path.unlink()
    with hospital.journal.write() as tx:
        tx.do("DELETE FROM small WHERE path = ?", str(path))


def test_with_all_noise_at_each_hospital_another_attempt_sends_the_same_update_and_is_not_charged(relay: Relay) -> None:
    """The noise is in the update: masked anew, it says no more."""
    plan = begun(relay, **LOCALLY)
    north = relay["north"]
    relay.ask(plan, 1, "READY")
    relay.ask(plan, 1, "MASK")
    first, before = update(north, plan), vector(north, 1, 1)
    assert first.keys() == {"update", "weight"} and first["weight"] == 50.0
    for phase in ("READY", "MASK"):
        relay.ask(plan, 1, phase, attempt=2)
    assert np.array_equal(update(north, plan)["update"], first["update"]) and before != vector(north, 1, 2)
    assert charged(north) == [1]
    for phase in ("CONFIRM", "UNMASK"):
        assert set(relay.ask(plan, 1, phase, attempt=2).values()) == {"done"}
    relay.opened(plan, 1, 2)
    found = chain.read(relay.file(relay.sums["noised-1", 1])).arrays
    assert found.keys() == {"update", "weight", "clamped"} and found["weight"] == 200.0
    wanted = sum(update(hospital, plan)["update"] for hospital in relay.hospitals.values())
    np.testing.assert_allclose(found["update"], wanted, atol=1e-6)
    relay.closed(plan, 1, FOUR)
    relay.played(plan, 2)
    assert charged(north) == [2]


def test_an_update_that_is_lost_after_it_left_is_made_with_other_noise_and_charged(relay: Relay) -> None:
    """Of another table by then, the same noise would fall away in the difference of both."""
    plan = begun(relay, **LOCALLY)
    north = relay["north"]
    relay.ask(plan, 1, "READY", ("north",))
    first = update(north, plan)["update"]
    lost(north, plan)
    relay.ask(plan, 1, "READY", attempt=2)
    assert np.array_equal(update(north, plan)["update"], first), "nothing left: it is made again, as it was"
    assert charged(north) == [1]
    relay.ask(plan, 1, "MASK", attempt=2)
    lost(north, plan)
    relay.ask(plan, 1, "READY", attempt=3)
    assert not np.array_equal(update(north, plan)["update"], first)
    assert charged(north) == [2]


def test_what_was_kept_in_a_round_of_which_nothing_left_is_used_by_no_other(relay: Relay) -> None:
    """A coordinator says that it was counted: its charge is given back, and the next update would tell of it."""
    wanted = secure(
        "noised", privacy={**PRIVACY, **LOCALLY}, strategy={"name": "scaffold"},
        training={"epochs": 1, "learning_rate": 1.0}, rounds=3,
    )  # fmt: skip
    plan, north = relay.approved(wanted), relay["north"]
    relay.paired(plan)
    relay.ask(plan, 1, "READY")
    for phase in ("MASK", "CONFIRM", "UNMASK"):
        relay.ask(plan, 1, phase, ("east", "south", "west"))
    relay.opened(plan, 1)
    relay.closed(plan, 1, FOUR)
    assert memories.of(north.journal, "noised-1", 1) is not None
    assert memories.before(north.journal, "noised-1", 2) is None, "nothing of it left"
    assert memories.before(relay["east"].journal, "noised-1", 2) is not None
    relay.played(plan, 2)
    assert memories.before(north.journal, "noised-1", 3) is not None and charged(north) == [2]
    north.told(Ended(study="noised", run="noised-1", status="stopped", reason="", state=None))
    assert charged(north) == [1], "so that one charge is enough"


def test_all_noise_at_each_hospital_serves_without_a_secure_sum(relay: Relay, tmp_path: Path) -> None:
    wanted = secure(
        "noised", privacy={**PRIVACY, **LOCALLY, "recipe": "plain"}, strategy={"name": "fedprox"},
        training={"epochs": 2, "learning_rate": 1.0}, rounds=3,
    )  # fmt: skip
    plan = relay.approved(wanted)
    north = relay["north"]
    assert relay.ask(plan, 1, "SUBMIT") == dict.fromkeys(FOUR, "done")
    first = update(north, plan)
    assert first.keys() == {"update", "weight"} and first["weight"] == 50.0
    assert relay.ask(plan, 1, "SUBMIT", ("north",), attempt=2) == {"north": "done"}
    assert np.array_equal(update(north, plan)["update"], first["update"]) and charged(north) == [1]
    sent = "SELECT digest FROM outbox WHERE type = 'answer' ORDER BY id"
    assert len({row["digest"] for row in north.journal.rows(sent)}) == 1
    row = north.journal.row("SELECT coins FROM coins WHERE run = 'noised-1' AND round = 1")
    assert row is not None
    kept = tmp_path / "plan.json"
    kept.write_bytes(plan.payload)
    rows, state = prepare(plan.study, north.mapping, tmp_path), relay.states["noised-1", 0]
    chance = recipe.bound(recipe.sample_key(bytes(row["coins"])), plan.digest, rows.digest, state.digest, "", "")
    again = Work.load(kept, relay.file(relay.initial), rows.path).train(relay.file(state), 1, chance)
    assert np.array_equal(again.segments["update"], first["update"]), "by coins that are on file, and by nothing else"


@pytest.mark.long
def test_for_hospitals_as_a_whole_changes_and_their_count_are_opened_with_the_noise_of_both(relay: Relay) -> None:
    for hospital in relay.hospitals.values():
        hospital.folder.policy_file.write_text("policy: 1\nmin_patients: 10\nprivacy: {budget: {epsilon: 999}}\n")
    privacy = {
        "unit": "hospital", "epsilon": 100.0, "delta": 1e-2, "noise_multiplier": 0.25, "clip_quantile": 0.5,
        "clip_norm": 0.05,
    }  # fmt: skip
    plan = relay.approved(secure("noised", privacy=privacy, training={"epochs": 4, "learning_rate": 1.0}, rounds=2))
    relay.paired(plan)
    for phase in ("READY", "MASK"):
        relay.ask(plan, 1, phase)
    wanted: dict[str, Any] = {}
    found = seats.layout(plan, relay.task(plan, 1, "MASK", FOUR), relay.file(relay.states["noised-1", 0]))
    assert found.names == ["clamped", "update", "weight", "within"]
    for hospital in relay.hospitals.values():
        row = hospital.journal.row("SELECT * FROM seats WHERE round = 1")
        assert row is not None
        key, made = (
            recipe.noise_key(bytes(row["coins"]), Open.model_validate_json(row["open"]).sha256),
            update(hospital, plan),
        )
        assert np.linalg.norm(made["update"]) == pytest.approx(1) and made["within"] == -0.5, "all are shortened here"
        for name in ("update", "within"):
            encoding = found.encodings[name]
            assert isinstance(encoding, Noised)
            share = noise.integers(masks.segment_key(key, f"{name}/0"), made[name].size, encoding.deviation)
            wanted[name] = wanted.get(name, 0) + np.floor(made[name] * encoding.scale + 0.5) + share
    for phase in ("CONFIRM", "UNMASK"):
        relay.ask(plan, 1, phase)
    relay.opened(plan, 1)
    sums = chain.read(relay.file(relay.sums["noised-1", 1])).arrays
    assert sums.keys() == {"update", "weight", "within", "clamped"} and sums["weight"] == 4.0
    for name, integers in wanted.items():
        assert np.array_equal(np.array(sums[name]) * found.encodings[name].scale, integers)
    before, after = (chain.read(relay.file(relay.states["noised-1", number])).arrays for number in (0, 1))
    assert after["bound"] == moved(float(before["bound"][0]), float(sums["within"][0]) / 4 + 0.5, 0.5)
    np.testing.assert_allclose(after["model"], before["model"] + np.array(sums["update"]) * 0.05 / 4, rtol=1e-12)
    relay.closed(plan, 1, FOUR)
    relay.played(plan, 2)
    relay.played(plan, 3)
    assert charged(relay["north"]) == [2]


def test_a_plan_that_claims_too_small_an_epsilon_is_refused(relay: Relay) -> None:
    honest = begun(relay)
    privacy = honest.study.privacy.model_copy(update={"noise_multiplier": 1.0})
    plan = Plan.of(honest.study.model_copy(update={"name": "greedy", "privacy": privacy}))
    relay.states["greedy-1", 0] = relay.states["noised-1", 0]
    for hospital in relay.hospitals.values():
        hospital.folder.policy_file.write_text("policy: 1\nmin_patients: 10\nprivacy: {budget: {epsilon: 99}}\n")
        hospital.offered(plan)
    assert set(relay.ask(plan, 0, "KEYS").values()) == {"epsilon"}
