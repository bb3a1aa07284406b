"""What each defence of secure aggregation is for: without it, the same coordinator learns one hospital's update.

Over HTTPS, from agents that are the shipped ones but for the one defence that a test names (`defenceless`); the other
half of each, the refusal, is in `test_secagg_attacks.py`. Where people or time are the defence, nothing is taken out.
"""

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium.core import state as chain
from consilium.core.ids import SiteId
from consilium.core.privacy import Privacy
from consilium.core.study import Plan, Study
from consilium.privacy import opening, pairing, secagg
from consilium.privacy.pairing import Roster, Secrets
from consilium.privacy.secagg import Open, Seat
from consilium.wire.identity import Identity
from consilium.wire.messages import Answer
from e2e.defenceless.sitecustomize import stateless
from e2e.federation import study
from e2e.lying import Liar, Play, message
from e2e.processes import until
from e2e.sybils import Sybil
from e2e.traps import Between

HOSPITALS = ("east", "north", "south", "west")
REST = HOSPITALS[:3]
SECURE: dict[str, Any] = {"privacy": {"recipe": "secure_sum"}, "quorum": 3}
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Liar]:
    made = Liar(tmp_path_factory.mktemp("defenceless"))
    without = made.folder / "without"
    without.write_text("")
    try:
        for name in HOSPITALS:
            made.add(name, PYTHONPATH=str(Path(__file__).parent / "defenceless"), WITHOUT=str(without))
        yield made
        for hospital in made.hospitals.values():
            assert hospital.process.alive and "Traceback" not in hospital.process.said, hospital.process.said[-3000:]
    finally:
        made.close()


@pytest.fixture
def liar(made: Liar) -> Iterator[Liar]:
    yield made
    without(made)


def without(liar: Liar, *defences: str) -> None:
    """Take these out of every agent, and set all others back."""
    fresh = liar.folder / "without.new"
    fresh.write_text(" ".join(defences))
    fresh.replace(liar.folder / "without")


def play(liar: Liar, wanted: Study | None = None, sites: tuple[str, ...] = HOSPITALS) -> Play:
    """A run of a study with a first model of its own, whose keys are agreed."""
    found = Play(liar, liar.approved(wanted or study(f"leak-{next(numbers)}", **SECURE)), f"run-{next(numbers)}", sites)
    found.paired()
    return found


def secret(run: Play, name: str) -> dict[str, Any]:
    """What nobody but the hospital should know: its update of round 1, from its own disk."""
    path = run.liar.hospitals[name].home / "work" / run.run / "update-1.safetensors"
    return {what: np.array(one) for what, one in chain.read(path).arrays.items()}


def sums(run: Play, attempt: int, survivors: tuple[str, ...] | None = None, number: int = 1) -> dict[str, Any]:
    path = run.file(run.liar.keep(run.opened(number, attempt, survivors)).digest)
    return {what: np.array(one) for what, one in chain.read(path).arrays.items()}


def is_update(found: Any, wanted: Any) -> None:
    """The values of one hospital, to what rounding leaves; and they are no zeros."""
    assert np.abs(wanted["update"]).max() > 1e-3
    np.testing.assert_allclose(found["update"], wanted["update"], rtol=0, atol=1e-6)


def test_without_its_memory_two_runs_show_the_update_of_one_hospital(liar: Liar) -> None:
    without(liar, "difference")
    plan, told = liar.approved(study("leak", **SECURE)), []
    for sites in (HOSPITALS, REST):
        run = Play(liar, plan, f"leak-{len(told)}", sites)
        run.paired()
        run.through("UNMASK", 1, 1)
        told.append(sums(run, 1))
        if sites == HOSPITALS:
            alone = secret(run, "west")
    is_update({"update": told[0]["update"] - told[1]["update"]}, alone)
    assert told[0]["weight"][0] - told[1]["weight"][0] == alone["weight"][0]


@pytest.mark.long
def test_what_three_showed_alone_leaves_the_fourths_update_in_a_sum(liar: Liar) -> None:
    """A pilot of three under `plain`, then a secure sum with a fourth, at the same first model: nobody has lied."""
    without(liar, "difference")
    pilot = liar.approved(study("leak-pilot"))
    shown, wanted = submitted(Play(liar, pilot, "leak-pilot-1", REST)), {"name": "leak-joined", "quorum": 3}
    privacy = Privacy(recipe="secure_sum")
    run = Play(
        liar,
        liar.offered(Plan.of(pilot.study.model_copy(update={**wanted, "privacy": privacy}))),
        "joined-1",
        HOSPITALS,
    )
    run.paired()
    run.through("UNMASK", 1, 1)
    alone = secret(run, "west")
    is_update({"update": sums(run, 1)["update"] - sum(one["update"] for one in shown.values())}, alone)


def submitted(run: Play) -> dict[str, Any]:
    """What hospitals send in the first round of a run under `plain`."""
    mark = len(run.liar.sent)
    for site in run.sites:
        run.liar.post(site, run.task("SUBMIT", 1, 1).model_copy(update={"cohort": ()}))
    told = lambda: {site: one for site, one, _ in run.liar.sent[mark:] if isinstance(one, Answer)}  # noqa: E731
    run.liar.until(lambda: told().keys() == set(run.sites), "every update arrives")
    arrays = {site: chain.read(run.file(one.contribution.digest)).arrays for site, one in told().items()}
    return {site: {what: np.array(one) for what, one in found.items()} for site, found in arrays.items()}


@pytest.mark.long
def test_without_the_plans_quorum_one_hospital_is_left_out_and_nearly_shows(liar: Liar) -> None:
    """The plan that people approved says that nobody may be missing; three of four open a sum, all the same."""
    without(liar, "quorum")
    slow = {"epochs": 1, "learning_rate": 1e-3, "seed": 1}
    run = play(liar, study(f"leak-{next(numbers)}", **{**SECURE, "quorum": 4}, training=slow))
    run.through("UNMASK", 1, 1)
    whole, alone = sums(run, 1)["update"], secret(run, "west")["update"]
    run.advanced(1, run.opened(1, 1))
    for phase in ("READY", "MASK", "CONFIRM", "UNMASK"):
        found = run.ask(phase, 2, 1, REST)
        assert all(isinstance(one, bytes) for one in found.values()), found
    near = whole - sums(run, 1, REST, number=2)["update"]
    assert np.linalg.norm(near - alone) < 0.02 * np.linalg.norm(alone)


def test_without_its_own_sums_a_hospital_trains_wherever_the_coordinator_steers(liar: Liar) -> None:
    without(liar, "sum")
    run = play(liar)
    run.through("UNMASK", 1, 1)
    opened = run.opened(1, 1)
    true = np.array(chain.read(run.file(liar.keep(opened).digest)).arrays["update"])
    run.advanced(1, opened.replace(true.tobytes(), (true + 1).tobytes()))
    assert all(isinstance(one, bytes) for one in run.ask("READY", 2, 1).values())


def test_without_them_a_hospital_trains_at_a_state_of_a_round_that_never_was(liar: Liar) -> None:
    without(liar, "sum")
    run = play(liar)
    run.made_up(1)
    assert all(isinstance(one, bytes) for one in run.ask("READY", 2, 1).values())


def test_a_round_that_is_opened_twice_shows_who_was_left_out(liar: Liar) -> None:
    without(liar, "twice")
    run = play(liar)
    run.through("UNMASK", 1, 1)
    whole, alone = sums(run, 1), secret(run, "west")
    run.ask("READY", 1, 2)
    fewer = lambda _, said: {site: said[site] for site in REST}  # noqa: E731
    assert set(run.ask("MASK", 1, 2, REST, fewer).values()) == {"difference"}, "a second line of defence is there"
    without(liar, "twice", "difference")
    run.ask("READY", 1, 3, REST)
    for phase in ("MASK", "CONFIRM", "UNMASK"):
        found = run.ask(phase, 1, 3, REST)
        assert all(isinstance(one, bytes) for one in found.values()), found
    is_update({"update": whole["update"] - sums(run, 3, REST)["update"]}, alone)


def test_lists_of_survivors_that_are_believed_open_both_masks_of_one_hospital(liar: Liar) -> None:
    """`west` has survived for one question and was lost for the next: its late vector is then read alone."""
    without(liar, "lists", "difference")
    run = play(liar)
    run.through("UNMASK", 1, 1)
    asked, ready, masked = run.asked(1, 1), run._messages(1, 1, "READY"), run._messages(1, 1, "MASK")
    own = opening.recover(asked, ready.values(), masked, run._messages(1, 1, "UNMASK").values()).own[SiteId("west")]
    for site in REST:
        shown = liar.shown[site, run.run, 1, 1, "MASK"]
        liar.shown[site, run.run, 1, 1, "MASK"] = {name: one for name, one in shown.items() if name != "west"}
    run.ask("UNMASK", 1, 1, REST)
    told = [message(run.heard[1, 1, "UNMASK"][site]) for site in REST]
    left = {site: one for site, one in masked.items() if site != "west"}
    pairs = opening.recover(asked, ready.values(), left, told).pairs
    layers = [(own, -1), *((key, -secagg.sign(SiteId("west"), site)) for (site, _), key in pairs.items())]
    is_update(run.alone("west", 1, 1, layers), secret(run, "west"))


def test_with_no_fewest_number_a_sum_is_opened_over_one_hospital(liar: Liar) -> None:
    without(liar, "floor", "quorum")
    run = play(liar)
    run.ask("READY", 1, 1)
    alone = lambda _, said: {"west": said["west"]}  # noqa: E731
    for phase in ("MASK", "CONFIRM", "UNMASK"):
        found = run.ask(phase, 1, 1, ("west",), alone)
        assert isinstance(found["west"], bytes), found
    share = message(run.heard[1, 1, "UNMASK"]["west"]).own[SiteId("west")]  # of a threshold of one: the key itself
    is_update(run.alone("west", 1, 1, [(share[-32:], -1)]), secret(run, "west"))


def test_a_model_of_ones_own_for_each_hospital_leaves_one_update_in_the_sum(liar: Liar) -> None:
    """So large a model that no step of the others changes it: their part of the sum is zero (after Pasquini 2022).

    But for one value, for who adds nothing at all refuses.
    """
    run = play(liar)
    without(liar, "state")
    true = liar.blobs[run.states[0].digest]
    model = np.array(chain.read(run.file(run.states[0].digest)).arrays["model"])
    large = np.append(np.full_like(model[:-1], 1e18), model[-1:])
    trap = liar.keep(true.replace(model.tobytes(), large.tobytes()))
    before = stateless(Open, lambda: True)
    try:
        for phase in ("READY", "MASK", "CONFIRM", "UNMASK"):
            marks = run.tell(phase, 1, 1, REST, state=trap), run.tell(phase, 1, 1, ("west",))
            found = run.answers(min(marks), phase, 1, 1, HOSPITALS)
            assert all(isinstance(one, bytes) for one in found.values()), found
        is_update(*({"update": one["update"][:-1]} for one in (sums(run, 1), secret(run, "west"))))
    finally:
        del Open.sha256
        if before is not None:
            Open.sha256 = before


def test_states_that_are_believed_keep_patients_apart_and_one_shows_in_sums_over_all(liar: Liar) -> None:
    """Trap weights, the same for everybody: two walls in two rounds, and one patient of one hospital between them."""
    wanted = study(f"leak-{next(numbers)}", **SECURE, training={"epochs": 1, "learning_rate": 0.5, "seed": 1})
    trap, run = Between.of(wanted, liar.hospitals.values()), play(liar, wanted)
    without(liar, "state")
    run.states = [run.crafted(number, trap.model(number)) for number in range(2)]
    before, found = stateless(Open, lambda: True), []
    try:
        for number in (1, 2):
            run.through("UNMASK", number, 1)
            found.append(sums(run, 1, number=number)["update"])
            run.sums.append(liar.keep(run.opened(number, 1)))
    finally:
        del Open.sha256
        if before is not None:
            Open.sha256 = before
    np.testing.assert_allclose(trap.shown(found), trap.patient, rtol=0, atol=1e-6)


def test_values_that_are_not_cut_go_around_the_ring_and_nobody_is_told(liar: Liar) -> None:
    """Overflow: with far too small a limit the sum is another one, in every value, and no count says so."""
    without(liar, "cut")
    privacy = {"recipe": "secure_sum", "clip": 1e-7, "most_patients": 100, "bits": 16}
    run = play(liar, study(f"leak-{next(numbers)}", privacy=privacy, quorum=3))
    run.through("UNMASK", 1, 1)
    true, found = sum(secret(run, name)["update"] for name in HOSPITALS), sums(run, 1)
    encoding = run.layout(1).encodings["update"]
    assert np.all(np.abs(true) > 2 * encoding.limit * len(HOSPITALS)) and found["clamped"][0] == 0
    ring = 2.0**encoding.bits / encoding.scale
    around = np.remainder(true + ring / 2, ring) - ring / 2
    np.testing.assert_allclose(found["update"], around, rtol=0, atol=len(HOSPITALS) / encoding.scale)


def test_bytes_that_are_not_fresh_give_a_restored_hospital_its_old_masks(liar: Liar) -> None:
    """Two vectors of one round, before and after a patient was added: masks fall away, and the patient shows."""
    without(liar, "fresh")
    run, north = play(liar), liar.hospitals["north"]
    assert north.process.stop() == 0
    backup, table = north.home.with_name("backup"), north.mapping.with_name("table.csv")
    shutil.copytree(north.home, backup, ignore=shutil.ignore_patterns("agent.bell"))
    rows, found, updates = table.read_text(), [], []
    for more in ("", "p999,3.5,-2.5,1\np998,1.5,2.5,0\np997,-3.0,2.0,1\n"):
        table.write_text(rows + more)
        north.process.start()
        mark = len(liar.inboxes["north"])
        run.heard.pop((1, 2, "READY"), None)
        run.ask("READY", 1, 2)
        liar.shown.pop(("north", run.run, 1, 2, "READY"), None)
        run.ask("MASK", 1, 2, ("north",))
        found.append(np.array(run.alone("north", 1, 2, [])["update"]))
        updates.append(secret(run, "north")["update"])
        assert north.process.stop() == 0
        del liar.inboxes["north"][mark:]
        shutil.rmtree(north.home)
        shutil.copytree(backup, north.home)
    table.write_text(rows)
    north.process.start()
    ring = 2.0**64 / run.layout(1).encodings["update"].scale  # a difference of values may have gone around it
    apart = np.remainder(found[1] - found[0] + ring / 2, ring) - ring / 2
    is_update({"update": apart}, {"update": updates[1] - updates[0]})


def test_who_comes_before_the_keys_are_erased_reads_the_vector(liar: Liar) -> None:
    """With nothing taken out: the keys of a round are at the hospital until the next one begins, and no longer."""
    run, north = play(liar), liar.hospitals["north"]
    run.through("UNMASK", 1, 1)
    chains = north.journal("SELECT site, chain FROM chains WHERE run = ?", run.run)
    coins = north.journal("SELECT coins FROM seats WHERE run = ?", run.run)[0][0]
    keys = {SiteId(site): pairing.ratchet(bytes(one), 0)[1] for site, one in chains}
    active = tuple(run._messages(1, 1, "READY").values())
    stolen = Seat(SiteId("north"), keys, bytes(coins), run.asked(1, 1), active)
    is_update(run.alone("north", 1, 1, [(key, -plus) for key, plus in secagg.layers(stolen)]), secret(run, "north"))


def test_who_confirms_words_that_nobody_read_is_alone_among_invented_hospitals(liar: Liar) -> None:
    """With nothing taken out but what a person should do: all others on the roster are the coordinator's."""
    names = tuple(map(SiteId, ("alpha", "beta")))
    wanted = study(f"sybils-{next(numbers)}", **SECURE)
    run = Play(liar, liar.approved(wanted), f"run-{next(numbers)}", ("west",), (*names, "west"))
    (keys,) = run.ask("KEYS", 0, 1).values()
    assert isinstance(keys, bytes)
    sybils = [
        Sybil(run, name, Identity.create(liar.folder / f"{name}.key"), Secrets(*map(os.urandom, (32, 64, 32))))
        for name in names
    ]
    for one in sybils:
        one.say(keys, "KEYS", one.keys)
    roster = Roster(tuple(run._messages(0, 1, "KEYS").values()))
    (paired,) = run.ask("PAIR", 0, 1).values()
    for one in sybils:
        one.pair(roster, paired)  # type: ignore[arg-type]
    mark, west = run.tell("PROVE", 0, 1), liar.hospitals["west"]
    until(lambda: run.run in west.told("status")["compare"], "the agent waits for a person: this is the defence")
    assert not run.heard.get((0, 1, "PROVE"))
    west.command("compare", run.run, "--words", run.words("west"), "--person", "Vera")  # who read them to nobody
    (proved,) = run.answers(mark, "PROVE", 0, 1, ("west",)).values()
    shared = {one.name: one.prove(roster, proved) for one in sybils}  # type: ignore[arg-type]
    for phase in ("READY", "MASK", "CONFIRM", "UNMASK"):
        (like,) = run.ask(phase, 1, 1).values()
        assert isinstance(like, bytes), like
        for one in sybils:
            if phase == "READY":
                one.ready(run.asked(1, 1), shared[one.name], like)
            else:
                getattr(one, phase.lower())(like)
    asked, ready, masked = run.asked(1, 1), run._messages(1, 1, "READY"), run._messages(1, 1, "MASK")
    own = opening.recover(asked, ready.values(), masked, run._messages(1, 1, "UNMASK").values()).own[SiteId("west")]
    pairs = [(one.seat.pair(SiteId("west")), -secagg.sign(SiteId("west"), one.name)) for one in sybils]
    is_update(run.alone("west", 1, 1, [(own, -1), *pairs]), secret(run, "west"))
