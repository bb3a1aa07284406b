"""A coordinator that lies gets nothing of one hospital: each attack is made over HTTPS, on the agents that are shipped.

Each answers an attack by a refusal with a stable reason, and nothing that would open a sum leaves.
"""

import contextlib
import itertools
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from consilium.core import state as chain
from consilium.core.errors import Invalid
from consilium.core.study import Plan, Study
from consilium.privacy.pairing import Secrets
from consilium.wire.envelope import seal
from consilium.wire.identity import Identity
from consilium.wire.messages import Step
from e2e.federation import POLICY, Hospital, study
from e2e.lying import HOSPITALS, SECURE, Envelopes, Liar, Play, forged, lying, message, read
from e2e.processes import imported, until

REST = HOSPITALS[:3]
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Liar]:
    with lying(tmp_path_factory.mktemp("liar")) as made:
        yield made


@pytest.fixture(scope="module")
def plan(liar: Liar) -> Plan:
    """The plan of runs of which no sum is ever opened."""
    return liar.approved(study("closed", **SECURE))


def play(liar: Liar, plan: Plan, sites: tuple[str, ...] = HOSPITALS) -> Play:
    return Play(liar, plan, f"{plan.study.name}-{next(numbers)}", sites)


@pytest.fixture(scope="module")
def run(liar: Liar, plan: Plan) -> Play:
    """A run whose keys are agreed: attacks on its first round, each in an attempt of its own."""
    made = play(liar, plan)
    made.paired()
    return made


@pytest.fixture
def attempt(run: Play) -> int:
    return int(next(run.attempts))


def all_refuse(found: dict[str, bytes | str], reason: str) -> None:
    assert set(found.values()) == {reason}, {s: one if isinstance(one, str) else "answered" for s, one in found.items()}


def vectors(liar: Liar, run: str) -> list[str]:
    """Masked vectors of a run that have left."""
    return [one.vector.digest for _, one, _ in liar.sent if isinstance(one, Step) and one.run == run and one.vector]


# agreeing on keys


@pytest.fixture
def fresh(liar: Liar, plan: Plan) -> Play:
    """A run in which everybody has sent keys."""
    made = play(liar, plan)
    made.ask("KEYS", 0, 1)
    return made


def thief(liar: Liar) -> Identity:
    return Identity.create(liar.folder / f"thief-{next(numbers)}.key")


def swapped(liar: Liar, fresh: Play, victim: str) -> Callable[[str, Envelopes], Envelopes]:
    """The coordinator stands between: everybody but the victim is shown other keys of it, under another identity."""
    between = thief(liar)
    secrets = Secrets(os.urandom(32), os.urandom(64), os.urandom(32))
    theirs = secrets.keys(fresh.run, 1, victim, between.public).model_dump(mode="json")  # type: ignore[arg-type]

    def lie(site: str, said: Envelopes) -> Envelopes:
        return said if site == victim else {**said, victim: forged(said[victim], between, **theirs)}

    return lie


def test_keys_that_the_coordinator_swaps_are_not_signed_by_their_site(liar: Liar, fresh: Play) -> None:
    other = X25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    by = thief(liar)
    all_refuse(
        fresh.ask("PAIR", 0, 1, REST, lambda _, said: {**said, "west": forged(said["west"], by, x25519=other)}),
        "forged",
    )


def test_a_swapped_identity_has_other_words_and_no_key_is_used(liar: Liar, run: Play, fresh: Play) -> None:
    fresh.ask("PAIR", 0, 1, REST, swapped(liar, fresh, "west"))
    between = fresh.heard[0, 1, "PAIR"]["east"]
    said = liar.shown["east", fresh.run, 0, 1, "KEYS"]["west"]
    assert read(between).phase == "PAIR" and message(said).identity != liar.hospitals["west"].identity.public
    fresh.ask("PAIR", 0, 1, ("west",))
    roster = message(fresh.heard[0, 1, "PAIR"]["west"]).roster
    assert roster != message(between).roster
    all_refuse(fresh.ask("PROVE", 0, 1, REST), "forged")  # what west itself answered is not signed by who is between
    all_refuse(fresh.ask("PROVE", 0, 1, ("west",)), "pairing")
    for name in HOSPITALS:
        assert fresh.run not in liar.hospitals[name].told("status")["compare"]
    all_refuse(fresh.ask("READY", 1, 1), "pairing")


def test_an_identity_swapped_throughout_waits_for_people_whose_words_differ(liar: Liar, run: Play, fresh: Play) -> None:
    """The coordinator plays `west` to all others, from its first message on: only words between people can tell."""
    between, secrets = thief(liar), Secrets(os.urandom(32), os.urandom(64), os.urandom(32))
    theirs = secrets.keys(fresh.run, 1, "west", between.public).model_dump(mode="json")  # type: ignore[arg-type]
    fresh.heard[0, 1, "KEYS"]["west"] = forged(fresh.heard[0, 1, "KEYS"]["west"], between, **theirs)
    fresh.ask("PAIR", 0, 1, REST)
    roster = message(fresh.heard[0, 1, "PAIR"]["east"]).roster
    paired = {"roster": roster.hex(), "site": "west", "nonce": secrets.nonce.hex(), "ciphertexts": {}}
    template = fresh.heard[0, 1, "PAIR"]["east"]
    step: Step = read(template)
    fresh.heard[0, 1, "PAIR"]["west"] = seal(Step.TYPE, step.model_copy(update={"body": paired}).encode(), between)
    fresh.tell("PROVE", 0, 1, REST)
    north = liar.hospitals["north"]
    until(lambda: fresh.run in north.told("status")["compare"], "north waits for a person, though it knew three names")
    known = {one["site"]: one["known"] for one in north.told("compare", fresh.run)["sites"]}
    assert known["west"] == "ANOTHER KEY than Vera compared" and known["east"] == "compared by Vera"
    code, said = north.says("compare", fresh.run, "--words", run.words("west"), "--person", "Vera")
    assert code == 3 and "not every hospital has the same roster" in said
    assert not any(isinstance(one, Step) and one.run == fresh.run and one.phase == "PROVE" for _, one, _ in liar.sent)
    all_refuse(fresh.ask("READY", 1, 1, REST), "pairing")


def test_a_site_is_shown_its_own_keys_as_it_sent_them(liar: Liar, fresh: Play) -> None:
    between = thief(liar)
    secrets = Secrets(os.urandom(32), os.urandom(64), os.urandom(32))
    theirs = secrets.keys(fresh.run, 1, "east", between.public).model_dump(mode="json")  # type: ignore[arg-type]
    found = fresh.ask(
        "PAIR", 0, 1, ("east",), lambda _, said: {**said, "east": forged(said["east"], between, **theirs)}
    )
    all_refuse(found, "roster")


def test_nobody_agrees_on_keys_in_a_cohort_of_two(liar: Liar, fresh: Play) -> None:
    two = HOSPITALS[:2]
    all_refuse(fresh.ask("PAIR", 0, 1, two, lambda _, said: {s: said[s] for s in two}, roster=two), "roster")


def test_the_roster_is_the_one_of_the_task(liar: Liar, fresh: Play) -> None:
    all_refuse(fresh.ask("PAIR", 0, 1, REST, lambda _, said: {s: said[s] for s in REST}), "roster")


def test_two_rosters_for_two_halves_never_become_keys(liar: Liar, fresh: Play) -> None:
    """A site that colludes signs two sets of keys, so that each half agrees on keys with another roster."""
    west, secrets = liar.hospitals["west"].identity, Secrets(os.urandom(32), os.urandom(64), os.urandom(32))
    other = secrets.keys(fresh.run, 1, "west", west.public).model_dump(mode="json")  # type: ignore[arg-type]
    found = fresh.ask(
        "PAIR",
        0,
        1,
        REST,
        lambda s, said: {**said, "west": forged(said["west"], west, **other)} if s == "east" else said,
    )
    assert len({message(one).roster for one in found.values() if isinstance(one, bytes)}) == 2
    fresh.ask("PAIR", 0, 1, ("west",))
    all_refuse(fresh.ask("PROVE", 0, 1), "pairing")


def test_an_altered_capsule_is_not_signed_by_its_site(liar: Liar, run: Play, fresh: Play) -> None:
    fresh.ask("PAIR", 0, 1)
    told = {site: one.hex() for site, one in message(fresh.heard[0, 1, "PAIR"]["east"]).ciphertexts.items()}
    told["north"] = "00" + told["north"][2:]
    by = thief(liar)
    lie = lambda _, said: {**said, "east": forged(said["east"], by, ciphertexts=told)}  # noqa: E731
    all_refuse(fresh.ask("PROVE", 0, 1, ("north", "south", "west"), lie), "forged")


def test_a_capsule_altered_by_its_own_site_fails_the_proof(liar: Liar, run: Play, fresh: Play) -> None:
    fresh.ask("PAIR", 0, 1)
    told = {site: one.hex() for site, one in message(fresh.heard[0, 1, "PAIR"]["east"]).ciphertexts.items()}
    told["north"] = told["south"]
    east = liar.hospitals["east"].identity
    fresh.ask(
        "PROVE",
        0,
        1,
        lie=lambda s, said: {**said, "east": forged(said["east"], east, ciphertexts=told)} if s == "north" else said,
    )
    found = fresh.ask("READY", 1, 1, ("east", "north"))
    all_refuse(found, "pairing")


def test_keys_are_not_agreed_anew_under_a_number_that_was_used(liar: Liar, fresh: Play) -> None:
    fresh.ask("KEYS", 0, 2)
    all_refuse(fresh.ask("PAIR", 0, 1), "replayed")


def test_a_plan_is_run_over_no_fewer_hospitals_than_the_quorum_that_was_approved(liar: Liar) -> None:
    """Three of four would open the sum; the plan that a person at each hospital approved says four."""
    plan = liar.approved(study("quorate", **{**SECURE, "quorum": 4}))
    fewer = lambda _, said: {site: said[site] for site in REST}  # noqa: E731
    all_refuse(play(liar, plan, REST).ask("KEYS", 0, 1), "quorum")
    made = play(liar, plan)
    made.ask("KEYS", 0, 1)
    all_refuse(made.ask("PAIR", 0, 1, REST, fewer, roster=REST), "quorum")
    made.paired(2)
    made.ask("READY", 1, 1)
    all_refuse(made.ask("MASK", 1, 1, REST, fewer), "quorum")
    made.through("MASK", 1, 2)
    all_refuse(made.ask("CONFIRM", 1, 2, REST, fewer), "quorum")
    made.through("UNMASK", 1, 3)


# a round


def test_a_cohort_that_is_not_the_roster_is_refused(run: Play, attempt: int) -> None:
    all_refuse(run.ask("READY", 1, attempt, REST, cohort=REST, roster=REST), "roster")
    all_refuse(run.ask("READY", 1, attempt, cohort=(*HOSPITALS, "zoe")), "roster")


def test_one_site_is_not_given_another_state(liar: Liar, run: Play, attempt: int) -> None:
    data = bytearray(liar.blobs[run.states[0].digest])
    data[-1] ^= 1
    all_refuse(run.ask("READY", 1, attempt, ("north",), state=liar.keep(bytes(data))), "state-mismatch")
    found = run.ask("READY", 1, attempt, ("north",))
    assert isinstance(found["north"], bytes), "the same task, told honestly"
    all_refuse(run.ask("MASK", 1, attempt, ("north",), state=liar.keep(bytes(data))), "state-mismatch")


@pytest.fixture
def ready(run: Play, attempt: int) -> int:
    """An attempt in which everybody is ready."""
    run.through("READY", 1, attempt)
    return attempt


def test_who_is_not_on_the_roster_is_not_in_the_roll_call(liar: Liar, run: Play, ready: int) -> None:
    by = thief(liar)
    lie = lambda _, said: {**said, "zoe": forged(said["west"], by, site="zoe")}  # noqa: E731
    all_refuse(run.ask("MASK", 1, ready, lie=lie), "roster")
    assert not vectors(liar, run.run)


def test_a_ready_that_its_site_did_not_sign_is_refused(liar: Liar, run: Play, ready: int) -> None:
    lie = lambda _, said: {**said, "west": forged(said["west"], liar.identity, nonce="00" * 32)}  # noqa: E731
    all_refuse(run.ask("MASK", 1, ready, REST, lie), "forged")


def test_two_active_sites_are_too_few(run: Play, ready: int) -> None:
    two = HOSPITALS[:2]
    all_refuse(run.ask("MASK", 1, ready, two, lambda _, said: {s: said[s] for s in two}), "roll-call")


def test_what_was_said_in_an_older_attempt_is_not_of_this_one(run: Play, ready: int) -> None:
    older = run.heard[1, ready, "READY"]
    following = int(next(run.attempts))
    run.through("READY", 1, following)
    all_refuse(run.ask("MASK", 1, following, REST, lambda _, said: {**said, "west": older["west"]}), "forged")
    all_refuse(run.ask("MASK", 1, ready), "replayed")


def test_two_roll_calls_never_reach_one_sum(run: Play, ready: int) -> None:
    """Each half masks for another set of active sites; neither takes the other's vectors for its own."""
    sets = {"east": REST, "north": REST, "south": HOSPITALS, "west": HOSPITALS}
    found = run.ask("MASK", 1, ready, lie=lambda site, said: {one: said[one] for one in sets[site]})
    assert all(isinstance(one, bytes) for one in found.values())
    assert len({message(one).ctx2 for one in found.values() if isinstance(one, bytes)}) == 2
    all_refuse(run.ask("CONFIRM", 1, ready), "survivors")


@pytest.fixture
def masked(run: Play, ready: int) -> int:
    """An attempt in which everybody has masked."""
    run.ask("MASK", 1, ready)
    return ready


def test_two_survivors_are_too_few(run: Play, masked: int) -> None:
    two = HOSPITALS[:2]
    all_refuse(run.ask("CONFIRM", 1, masked, two, lambda _, said: {s: said[s] for s in two}), "survivors")


def test_a_site_confirms_no_sum_without_its_own_vector_as_it_sent_it(run: Play, masked: int) -> None:
    all_refuse(run.ask("CONFIRM", 1, masked, ("west",), lambda _, said: {s: said[s] for s in REST}), "survivors")


def test_an_altered_share_box_is_not_signed_by_its_site(liar: Liar, run: Play, masked: int) -> None:
    boxes = {site: box.hex() for site, box in message(run.heard[1, masked, "MASK"]["west"]).boxes.items()}
    boxes["north"] = "00" * (len(boxes["north"]) // 2)
    lie = lambda _, said: {**said, "west": forged(said["west"], liar.identity, boxes=boxes)}  # noqa: E731
    all_refuse(run.ask("CONFIRM", 1, masked, REST, lie), "forged")


def test_two_sets_of_survivors_for_two_halves_open_nothing(run: Play, masked: int) -> None:
    """Each half would open the masks that the other half keeps: together, one hospital's vector."""
    sets = {"east": REST, "north": REST, "south": HOSPITALS, "west": HOSPITALS}
    shown = run.heard[1, masked, "MASK"]
    found = run.ask("CONFIRM", 1, masked, lie=lambda site, said: {one: said[one] for one in sets[site]})
    assert len({message(one).survivors for one in found.values() if isinstance(one, bytes)}) == 2
    assert len(shown) == 4
    all_refuse(run.ask("UNMASK", 1, masked), "proofs")


def test_confirmations_that_the_coordinator_makes_up_open_nothing(liar: Liar, run: Play, masked: int) -> None:
    run.ask("CONFIRM", 1, masked)
    east = run.heard[1, masked, "CONFIRM"]["east"]
    lie = lambda _, said: {**said, "west": forged(east, liar.identity, site="west")}  # noqa: E731
    all_refuse(run.ask("UNMASK", 1, masked, ("north",), lie), "forged")
    copied = run.ask("UNMASK", 1, masked, ("south",), lambda _, said: {**said, "west": east})
    all_refuse(copied, "forged")


def test_who_opens_at_once_and_who_confirms_fewer_open_nothing_together(liar: Liar, run: Play) -> None:
    """One half is told that all have masked, and opens their sum; the other half that west is lost."""
    made = play(liar, liar.approved(study("halves", **SECURE)))
    made.paired()
    made.through("MASK", 1, 1)
    fewer = lambda _, said: {site: said[site] for site in REST}  # noqa: E731
    made.show(1, 1, "MASK", ("north",), fewer)
    all_refuse(made.ask("UNMASK", 1, 1, ("north",)), "out-of-phase")
    told = made.ask("UNMASK", 1, 1, ("south", "west"))
    assert not any(of for one in told.values() for of in message(one).pairs.values()), "of no mask with another"  # type: ignore[arg-type]
    assert isinstance(made.ask("CONFIRM", 1, 1, ("east",), fewer)["east"], bytes)
    all_refuse(made.ask("CONFIRM", 1, 1, ("south", "west"), fewer), "survivors")
    all_refuse(made.ask("UNMASK", 1, 1, ("east",)), "proofs")
    for survivors in (HOSPITALS, REST):
        with pytest.raises(Invalid):
            made.opened(1, 1, survivors)


def test_confirmations_of_too_few_open_nothing(run: Play, masked: int) -> None:
    run.ask("CONFIRM", 1, masked)
    all_refuse(run.ask("UNMASK", 1, masked, lie=lambda _, said: {s: said[s] for s in HOSPITALS[:2]}), "proofs")


def test_nothing_of_the_closed_runs_was_ever_opened(liar: Liar, run: Play, plan: Plan) -> None:
    assert not any(isinstance(one, Step) and one.study == "closed" and one.phase == "UNMASK" for _, one, _ in liar.sent)
    for hospital in liar.hospitals.values():
        assert hospital.journal("SELECT * FROM openings WHERE study = 'closed'") == []


# after a sum is opened


@pytest.fixture(scope="module")
def opened(liar: Liar) -> Play:
    """A run of which the sum of round 1 is open: here the coordinator told the truth."""
    made = play(liar, liar.approved(study("opened", **SECURE)))
    made.paired()
    made.through("UNMASK", 1, 1)
    made.advanced(1, made.opened(1, 1))
    return made


def test_an_honest_round_opens_the_sum_of_the_updates(liar: Liar, opened: Play) -> None:
    """The control of everything in this file: told the truth, the agents go all the way, and the sum is right."""
    assert opened.sums[1] is not None
    found = chain.read(opened.file(opened.sums[1].digest)).arrays
    updates = [chain.read(update(liar, opened, name)).arrays for name in HOSPITALS]
    assert np.allclose(found["update"], sum(one["update"] for one in updates), atol=1e-6)
    assert found["weight"][0] == sum(one["weight"][0] for one in updates)


def update(liar: Liar, run: Play, name: str) -> Path:
    """The update of round 1, which stays at the hospital while nothing closes the round."""
    return liar.hospitals[name].home / "work" / run.run / "update-1.safetensors"


def test_no_round_is_opened_twice(opened: Play) -> None:
    all_refuse(opened.ask("READY", 1, 2), "replayed")


def test_what_was_answered_once_is_answered_by_the_same_bytes(liar: Liar, opened: Play) -> None:
    """Asked again for UNMASK, with other survivors, an agent says what it said; also after a restart."""
    said = dict(opened.heard[1, 1, "UNMASK"])
    north = liar.hospitals["north"]
    assert north.process.stop() == 0
    north.process.start()
    for site in HOSPITALS:
        for phase in ("MASK", "CONFIRM"):
            key = (site, opened.run, 1, 1, phase)
            liar.shown[key] = {name: one for name, one in liar.shown[key].items() if name != "west"}
    assert opened.ask("UNMASK", 1, 1) == said
    for phase in ("MASK", "CONFIRM"):
        for site in HOSPITALS:
            liar.shown.pop((site, opened.run, 1, 1, phase))
            opened.show(1, 1, phase, (site,), None)


def test_an_answer_of_unmask_never_holds_both_masks_of_one_site(liar: Liar) -> None:
    """`west` is late: what covers it stays, so that its vector, which comes after all, tells nothing."""
    made = play(liar, liar.approved(study("late", **SECURE)))
    made.paired()
    made.ask("READY", 1, 1)
    made.ask("MASK", 1, 1)
    for site in REST:
        made.show(1, 1, "MASK", (site,), lambda _, said: {one: said[one] for one in REST})
    made.ask("CONFIRM", 1, 1, REST, lambda _, said: {one: said[one] for one in REST})
    found = made.ask("UNMASK", 1, 1, REST, lambda _, said: said)
    for one in found.values():
        assert isinstance(one, bytes)
        told = message(one)
        assert set(told.own) == set(REST) and all(set(pairs) == {"west"} for pairs in told.pairs.values())
    sums = made.opened(1, 1, REST)
    path = liar.folder / "late-sums"
    path.write_bytes(sums)
    updates = [chain.read(update(liar, made, name)).arrays["update"] for name in REST]
    assert np.allclose(chain.read(path).arrays["update"], sum(updates), atol=1e-6)
    # The late site, shown the honest set of all four afterwards, joins no second opening, and nobody else does.
    made.ask("CONFIRM", 1, 1, ("west",))
    all_refuse(made.ask("UNMASK", 1, 1, ("west",), lambda _, said: said), "proofs")
    # Nor is a sum over all four opened in another run at this model: the difference would be west's update.
    again = play(liar, made.plan)
    again.paired()
    again.ask("READY", 1, 1)
    all_refuse(again.ask("MASK", 1, 1, REST), "difference")


def test_another_state_after_a_sum_is_refused_and_the_true_one_is_trained(liar: Liar, opened: Play) -> None:
    true = opened.states[1]
    data = bytearray(liar.blobs[true.digest])
    data[-1] ^= 1  # one weight, in its last bit
    all_refuse(opened.ask("READY", 2, 1, ("east",), state=liar.keep(bytes(data))), "state-mismatch")
    all_refuse(opened.ask("READY", 2, 1, ("north",), state=opened.states[0]), "state-mismatch")
    found = opened.ask("READY", 2, 2)
    assert all(isinstance(one, bytes) for one in found.values()), found


def steered(liar: Liar, plan: Plan) -> Play:
    """A run whose sum of round 1 the coordinator alters: sum and state fit each other, and all are told the same.

    West works with it: it signs that its vector is larger than sums that hospitals look through by default.
    """
    made = play(liar, plan)
    made.paired()
    for phase in ("READY", "MASK"):
        made.ask(phase, 1, 1)
    shown = made.heard[1, 1, "MASK"]
    step = read(shown["west"])
    larger = step.vector.model_copy(update={"size": 17 << 20})
    told = step.model_copy(update={"vector": larger}).encode()
    shown["west"] = seal(Step.TYPE, told, liar.hospitals["west"].identity)
    for phase in ("CONFIRM", "UNMASK"):
        made.ask(phase, 1, 1)
    sums = made.opened(1, 1)
    true = np.array(chain.read(made.file(liar.keep(sums).digest)).arrays["update"])
    made.advanced(1, sums.replace(true.tobytes(), (true + 1).tobytes()))
    return made


def invented(liar: Liar, plan: Plan, last: str = "") -> Play:
    """A run whose round 1 ends with `last`, or never begins; its sum is made up all the same."""
    made = play(liar, plan)
    made.paired()
    for phase in ("READY", "MASK")[: 0 if not last else 1 if last == "READY" else 2]:
        found = made.ask(phase, 1, 1)
        assert all(isinstance(one, bytes) for one in found.values()), found
    made.made_up(1)
    return made


def test_a_state_that_follows_from_an_altered_sum_is_refused(liar: Liar) -> None:
    made = steered(liar, liar.approved(study("steered", **SECURE)))
    all_refuse(made.ask("READY", 2, 1), "sum")


def test_a_round_that_never_was_has_no_sum(liar: Liar, plan: Plan) -> None:
    """The coordinator names a sum, and the state that follows from it, of a round of which it asked nobody."""
    made = invented(liar, plan)
    all_refuse(made.ask("READY", 2, 1), "not-found")


def test_a_round_that_nobody_opened_has_no_sum(liar: Liar, plan: Plan) -> None:
    """Of which it asked only for READY; of which nobody opened what was masked; or it signs as if it were they."""
    all_refuse(invented(liar, plan, "READY").ask("READY", 2, 1), "sum")
    all_refuse(invented(liar, plan, "MASK").ask("READY", 2, 1), "sum")
    made, by = invented(liar, plan, "READY"), thief(liar)
    said = made.heard[1, 1, "READY"]
    for phase, of in (("READY", said), ("MASK", {})):
        made.show(1, 1, phase, made.sites, lambda _, __, of=of: {s: forged(o, by) for s, o in of.items()})  # type: ignore[misc]
    all_refuse(made.ask("READY", 2, 1), "not-found")


def test_a_second_run_over_one_hospital_less_shows_nothing(liar: Liar, opened: Play) -> None:
    less = play(liar, opened.plan, REST)
    less.paired()
    less.ask("READY", 1, 1)
    all_refuse(less.ask("MASK", 1, 1), "difference")
    assert not vectors(liar, less.run)


def test_nor_does_a_second_study_that_calls_the_same_question_by_another_name(liar: Liar, opened: Play) -> None:
    """Other names for contract, features and label, another mapping: the same patients, label and first model."""
    told = {**opened.plan.study.model_dump(mode="json", exclude_none=True), "gate": "none", "name": "renamed"}
    renamed = json.dumps(told).replace('"sums"', '"totals"').replace('"large"', '"great"')
    for hospital in liar.hospitals.values():
        text = hospital.mapping.read_text().replace("contract: sums", "contract: totals")
        hospital.mapping = hospital.mapping.with_name("totals.yaml")
        hospital.mapping.write_text(text)
    try:
        plan = liar.offered(Plan.of(Study.model_validate_json(renamed)))
    finally:
        for hospital in liar.hospitals.values():
            hospital.mapping = hospital.mapping.with_name("mapping.yaml")
    less = play(liar, plan, REST)
    less.paired()
    less.ask("READY", 1, 1)
    all_refuse(less.ask("MASK", 1, 1), "difference")


def test_the_roster_does_not_change_in_mid_run(liar: Liar, opened: Play) -> None:
    all_refuse(opened.ask("READY", 2, 3, REST, cohort=REST, roster=REST), "roster")


def test_a_journal_that_was_set_back_never_uses_a_mask_twice(liar: Liar, plan: Plan) -> None:
    """A hospital restores its backup of before READY: coins, nonces and masks of the same round are others."""
    made, north = play(liar, plan), liar.hospitals["north"]
    made.paired()
    made.ask("READY", 1, 1, REST)  # keys are kept
    assert north.process.stop() == 0
    backup = north.home.with_name("backup")
    shutil.copytree(north.home, backup, ignore=shutil.ignore_patterns("agent.bell"))
    found = []
    for _ in range(2):
        north.process.start()
        mark = len(liar.inboxes["north"])
        made.heard.pop((1, 2, "READY"), None)
        made.ask("READY", 1, 2)
        liar.shown.pop(("north", made.run, 1, 2, "READY"), None)
        made.ask("MASK", 1, 2, ("north",))
        masked = read(made.heard[1, 2, "MASK"]["north"])
        found.append((message(made.heard[1, 2, "READY"]["north"]), masked, liar.blobs[masked.vector.digest]))
        assert north.process.stop() == 0
        del liar.inboxes["north"][mark:]
        shutil.rmtree(north.home)
        shutil.copytree(backup, north.home)
    north.process.start()
    (ready, masked, vector), (ready_again, masked_again, again) = found
    assert ready.nonce != ready_again.nonce and ready.own_hash != ready_again.own_hash and ready.ctx == ready_again.ctx
    one, other = (chain.read(made.file(liar.keep(data).digest)).arrays for data in (vector, again))
    for name in one:  # the integers below are the same: where masks were, too, their difference would be zero
        assert np.all(one[name] != other[name]), name
    assert message_boxes(masked).isdisjoint(message_boxes(masked_again))


MORE = "p999,3.5,-2.5,1\np998,1.5,2.5,0\np997,-3.0,2.0,1\n"


def unlike(liar: Liar, made: Play, masked: list[Step], updates: list[np.ndarray]) -> None:
    """The difference of two masked vectors, which the coordinator has, is not that of the updates."""
    encoding = made.layout(1).encodings["update"]
    one, other = (
        np.array(chain.read(made.file(step.vector.digest)).arrays["update"]) for step in masked if step.vector
    )
    apart = (other - one).view(f"<i{encoding.bits // 8}") / encoding.scale
    assert np.all(np.abs(apart - (updates[1] - updates[0])) > 100 / encoding.scale)


@pytest.mark.long
def test_a_copy_of_after_ready_masks_the_same_update_or_none(liar: Liar) -> None:
    """A backup as the how-to makes it, without files under `work/`; then patients are added."""
    made, north = play(liar, liar.approved(study("backed", **SECURE))), liar.hospitals["north"]
    made.paired()
    made.ask("READY", 1, 1)
    assert north.process.stop() == 0
    backup, table = north.home.with_name("bare"), north.mapping.with_name("table.csv")
    shutil.copytree(north.home, backup, ignore=shutil.ignore_patterns("agent.bell", "work"))
    mark, rows, found = len(liar.inboxes["north"]), table.read_text(), []
    for more in ("", "", MORE):
        table.write_text(rows + more)
        north.process.start()
        found.append(made.ask("MASK", 1, 1, ("north",))["north"])
        assert north.process.stop() == 0
        del liar.inboxes["north"][mark:]
        shutil.rmtree(north.home)
        shutil.copytree(backup, north.home)
    table.write_text(rows)
    north.process.start()
    assert isinstance(found[0], bytes) and found == [found[0], found[0], "update-changed"]


@pytest.mark.long
def test_coins_of_a_copy_give_another_update_other_masks_and_other_noise(liar: Liar) -> None:
    """With shares of noise coins are durable before training: the journal is copied while north trains."""
    imported("dp_accounting.pld")
    for hospital in liar.hospitals.values():
        hospital.policy(POLICY + "privacy: {budget: {epsilon: 60}}\n")
    privacy = {
        "recipe": "secure_sum", "epsilon": 6.0, "delta": 1e-4, "expected_patients": 56, "sampling": 1.0,
        "noise_multiplier": 8.0, "all_honest": 6.0,
    }  # fmt: skip
    wanted = study(
        "noised", privacy=privacy, quorum=4, rounds=2, training={"epochs": 1, "learning_rate": 1.0, "seed": 1}
    )
    made, north = play(liar, liar.approved(wanted)), liar.hospitals["north"]
    made.paired()
    journal, copy, told = north.home / "journal.sqlite", north.home.with_name("copy.sqlite"), "coins WHERE run = ?"
    mark = made.tell("READY", 1, 1, ("north",))
    until(lambda: bool(north.journal(f"SELECT * FROM {told}", made.run)), "coins are durable")
    with contextlib.closing(sqlite3.connect(journal)) as of, contextlib.closing(sqlite3.connect(copy)) as to:
        of.backup(to)
    made.answers(mark, "READY", 1, 1, ("north",))
    made.ask("READY", 1, 1, ("east", "south", "west"))
    table, masked, ready, updates = north.mapping.with_name("table.csv"), [], [], []
    rows, inbox = table.read_text(), len(liar.inboxes["north"])
    for more in ("", MORE):
        if more:
            assert north.process.stop() == 0
            for path in north.home.glob("journal.sqlite*"):
                path.unlink()
            shutil.copy(copy, journal)
            table.write_text(rows + more)
            del liar.inboxes["north"][inbox:]  # READY is asked once more, by the task of the copy, and then MASK
            mark = len(liar.sent)
            north.process.start()
            made.answers(mark, "READY", 1, 1, ("north",))
            liar.shown.pop(("north", made.run, 1, 1, "READY"))
        ready.append(message(made.heard[1, 1, "READY"]["north"]))
        assert isinstance(made.ask("MASK", 1, 1, ("north",))["north"], bytes)
        masked.append(read(made.heard[1, 1, "MASK"]["north"]))
        updates.append(np.array(chain.read(update(liar, made, "north")).arrays["update"]))
    table.write_text(rows)
    assert ready[0].ctx == ready[1].ctx and ready[0].nonce != ready[1].nonce
    unlike(liar, made, masked, updates)


def message_boxes(step: Step) -> set[str]:
    return {box for box in step.body["boxes"].values() if box}


def test_keys_of_what_is_past_are_in_no_file_of_a_hospital(liar: Liar) -> None:
    """Who records what travels, and later steals a hospital's disk, opens nothing of it."""
    made, north = play(liar, liar.approved(study("stolen", **SECURE))), liar.hospitals["north"]
    made.ask("KEYS", 0, 1)
    secrets = bytes(north.journal("SELECT secrets FROM epochs WHERE run = ?", made.run)[0][0])
    made.paired()
    made.through("UNMASK", 1, 1)
    chains = [bytes(row[0]) for row in north.journal("SELECT chain FROM chains WHERE run = ?", made.run)]
    assert len(secrets) == 128 and len(chains) == 3 and all(one in disk(north) for one in chains)
    made.advanced(1, made.opened(1, 1))
    made.ask("READY", 2, 1)
    past = (secrets[:32], secrets[32:96], *chains)
    until(lambda: not any(one in disk(north) for one in past), "they are gone, once the agent has nothing to send")


def disk(hospital: Hospital) -> bytes:
    """All that a hospital has in files."""
    return b"".join(path.read_bytes() for path in sorted(hospital.home.rglob("*")) if path.is_file())


def test_what_is_beyond_the_plans_limit_is_cut_and_counted_and_never_goes_around(liar: Liar) -> None:
    """A plan whose limit is far too small, at the hospitals' true updates: the sum of all stays within the ring."""
    privacy = {"recipe": "secure_sum", "clip": 1e-7, "most_patients": 100, "bits": 16}
    made = play(liar, liar.approved(study("tight", privacy=privacy, quorum=3)))
    made.paired()
    made.through("UNMASK", 1, 1)
    found = chain.read(made.file(liar.keep(made.opened(1, 1)).digest)).arrays
    updates = [np.array(chain.read(update(liar, made, name)).arrays["update"]) for name in HOSPITALS]
    limit = 1e-7 * 100
    assert all(np.all(np.abs(one) > limit) for one in updates), "every value is beyond it"
    assert found["clamped"][0] == sum(one.size for one in updates)
    wanted = sum(np.clip(one, -limit, limit) for one in updates)
    assert np.allclose(found["update"], wanted, rtol=0, atol=1e-3 * limit)


@pytest.mark.long
def test_no_hospital_is_in_sums_over_two_sets_of_hospitals_though_they_differ_by_enough(liar: Liar) -> None:
    """Of sums over five hospitals' {a, b, c}, {c, d, e} and {a, b, d, e} follows c, and nobody knows of all three."""
    liar.add("upland")
    plan = liar.approved(study("apart", **SECURE))
    first, second = play(liar, plan, REST), play(liar, plan, ("south", "upland", "west"))
    first.paired()
    first.through("UNMASK", 1, 1)
    for phase in ("KEYS", "PAIR"):
        second.ask(phase, 0, 1)
    mark = second.tell("PROVE", 0, 1)
    second.compared()
    second.answers(mark, "PROVE", 0, 1, second.sites)
    second.ask("READY", 1, 1)
    found = second.ask("MASK", 1, 1)
    assert found["south"] == "difference" and all(isinstance(found[site], bytes) for site in ("upland", "west"))
    all_refuse(second.ask("CONFIRM", 1, 1, ("upland", "west")), "survivors")
