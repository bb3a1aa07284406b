"""What people accept, and what it shows: the same lying coordinator, on shipped agents of which nothing is taken out.

Each attack succeeds where every hospital has accepted, by name, the mode that allows it, and fails without.
"""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from consilium.core import state as chain
from consilium.core.ids import digest
from consilium.core.privacy import Privacy
from consilium.core.study import Plan, Study
from consilium.core.tensors import Tensors, to_safetensors
from consilium.data.cohort import held_out
from consilium.wire.messages import Answer, Refusal, Step
from e2e.federation import POLICY, Hospital, study
from e2e.lying import HOSPITALS, SECURE, Liar, Play, lying, read
from e2e.traps import Between, training

STEP: dict[str, Any] = {"training": {"epochs": 1, "learning_rate": 0.5, "seed": 1}}
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Liar]:
    with lying(tmp_path_factory.mktemp("traps")) as made:
        yield made


def beginning(liar: Liar, wanted: Study, first: Tensors, start: str) -> Plan:
    """A plan that begins at this model, and what it says of it."""
    weights = to_safetensors(first)
    liar.keep(weights)
    model = wanted.model.model_copy(update={"initial": digest(weights), "start": start})
    return liar.offered(Plan.of(wanted.model_copy(update={"model": model})))


def play(liar: Liar, plan: Plan) -> Play:
    made = Play(liar, plan, f"{plan.study.name}-{next(numbers)}", HOSPITALS)
    made.paired()
    return made


def sums(run: Play, number: int = 1, attempt: int = 1) -> dict[str, Any]:
    path = run.file(run.liar.keep(run.opened(number, attempt)).digest)
    return {what: np.array(one) for what, one in chain.read(path).arrays.items()}


def submitted(liar: Liar, plan: Plan, sites: tuple[str, ...] = HOSPITALS) -> dict[str, dict[str, Any]]:
    """What each hospital sends in the first round of a study under `plain`; nothing of those that refuse."""
    run, mark = Play(liar, plan, f"{plan.study.name}-{next(numbers)}", sites), len(liar.sent)
    for name in sites:
        liar.post(name, run.task("SUBMIT", 1, 1).model_copy(update={"cohort": ()}))

    def answers() -> dict[str, Answer | Refusal]:
        return {site: one for site, one, _ in liar.sent[mark:] if isinstance(one, Answer | Refusal)}

    liar.until(lambda: set(answers()) == set(sites), "every answer arrives")
    refused = {one.reason for one in answers().values() if isinstance(one, Refusal)}
    assert refused <= {"difference"}, refused
    told = {site: one for site, one in answers().items() if isinstance(one, Answer)}
    return {site: arrays(run, one.contribution.digest) for site, one in told.items()}


def masked(run: Play) -> dict[str, dict[str, Any]]:
    """What each hospital sends in the first round under `secure_sum`, read as if it were values."""
    named = {name: read(run.heard[1, 1, "MASK"][name]).vector.digest for name in HOSPITALS}
    words = {name: arrays(run, one) for name, one in named.items()}
    return {
        name: {what: one.view(one.dtype.str.replace("u", "i")).astype(float) for what, one in found.items()}
        for name, found in words.items()
    }


def arrays(run: Play, named: str) -> dict[str, Any]:
    return {what: np.array(one) for what, one in chain.read(run.file(named)).arrays.items()}


def ill(sent: dict[str, Any]) -> float:
    """A3: the share of ill patients, from the intercept of a first step from zero."""
    return float(sent["update"][0] / sent["weight"][0] / STEP["training"]["learning_rate"] + 0.5)


def test_how_many_are_ill_is_read_off_a_plain_update_and_pooled_off_a_secure_sum(liar: Liar) -> None:
    open_, closed = study("ill-plain", **STEP), study("ill", **SECURE, **STEP)
    true = {name: training(closed, hospital)[1] for name, hospital in liar.hospitals.items()}
    for name, sent in submitted(liar, beginning(liar, open_, _zeros(), "seed")).items():
        assert ill(sent) == pytest.approx(true[name].mean(), abs=1e-12) and sent["weight"][0] == len(true[name])
    run = play(liar, beginning(liar, closed, _zeros(), "seed"))
    run.through("UNMASK", 1, 1)
    for name, sent in masked(run).items():
        assert abs(ill(sent) - true[name].mean()) > 1e-3
    assert ill(sums(run)) == pytest.approx(np.concatenate(list(true.values())).mean(), abs=1e-8)


@pytest.fixture
def lonely(liar: Liar) -> Iterator[Liar]:
    """Hospitals that train on one patient each, and that allow it; their policies say that it is none of the others."""
    before = {name: hospital.mapping for name, hospital in liar.hospitals.items()}
    for number, hospital in enumerate(liar.hospitals.values()):
        folder = hospital.mapping.parent
        trains, judges = (next(f"z{at}" for at in range(99) if held_out(f"z{at}", 1, 0.3) == test) for test in (0, 1))
        (folder / "alone.csv").write_text(f"id,x,y,large\n{trains},{1.5 + number},-2.25,1\n{judges},0.5,0.5,0\n")
        hospital.mapping = folder / "alone.yaml"
        text = (folder / "mapping.yaml").read_text().replace("table.csv", "alone.csv")
        hospital.mapping.write_text(f"{text}patients: alone\n")
        policy = POLICY.replace("min_patients: 10", "min_patients: 1")
        hospital.policy(f"{policy}privacy: {{populations: {{alone: {{epsilon: 1}}}}}}\n")
    yield liar
    for name, hospital in liar.hospitals.items():
        hospital.mapping = before[name]
        hospital.policy(POLICY)


def inverted(sent: dict[str, Any]) -> Any:
    """A1: a gradient by weights over the one by the intercept is the patient, if there is but one."""
    return sent["update"][1:] / sent["update"][0]


def test_the_only_patient_of_a_hospital_is_read_off_a_plain_update_and_off_no_masked_one(lonely: Liar) -> None:
    open_, closed = study("one-plain", min_patients=1, **STEP), study("one", min_patients=1, **SECURE, **STEP)
    true = {name: training(closed, hospital)[0] for name, hospital in lonely.hospitals.items()}
    assert all(one.shape == (1, 2) for one in true.values())
    shown = submitted(lonely, beginning(lonely, open_, _zeros(), "seed"))
    assert set(shown) == set(HOSPITALS)
    for name, sent in shown.items():
        np.testing.assert_allclose(inverted(sent), true[name][0], rtol=0, atol=1e-14)
    run = play(lonely, beginning(lonely, closed, _zeros(), "seed"))
    run.through("UNMASK", 1, 1)
    for name, sent in masked(run).items():
        assert np.abs(inverted(sent) - true[name][0]).max() > 1e-3
    mean = np.mean([one[0] for one in true.values()], axis=0)
    np.testing.assert_allclose(inverted(sums(run)), mean, rtol=0, atol=1e-8)


def test_a_first_model_that_is_given_may_show_one_patient_of_a_sum_over_all(liar: Liar) -> None:
    """Each hospital has accepted that the model was made elsewhere. So was it: to keep patients apart."""
    trap, found = Between.of(study("given", **SECURE, **STEP), liar.hospitals.values()), []
    for wall in range(2):
        run = play(liar, beginning(liar, study(f"given-{wall}", **SECURE, **STEP), trap.model(wall), "given"))
        run.through("UNMASK", 1, 1)
        found.append(sums(run)["update"])
    np.testing.assert_allclose(trap.shown(found), trap.patient, rtol=0, atol=1e-6)


def test_a_first_model_that_does_not_follow_from_the_seed_is_not_trained(liar: Liar) -> None:
    """The same one, in a plan that says nothing of it: people approve it, and every agent refuses."""
    trap = Between.of(study("seed", **SECURE, **STEP), liar.hospitals.values())
    run = play(liar, beginning(liar, study("seed", **SECURE, **STEP), trap.model(0), "seed"))
    assert set(run.ask("READY", 1, 1).values()) == {"initial-model"}
    assert not any(isinstance(one, Step) and one.vector and one.run == run.run for _, one, _ in liar.sent)


def _zeros() -> Tensors:
    return {"weights": np.zeros(2), "intercept": np.zeros(1)}


def test_trap_weights_in_a_state_are_refused_though_everybody_is_told_the_same(liar: Liar) -> None:
    """Before the first round, and in mid-run, after a sum that was opened honestly."""
    wanted = study("walls", **SECURE, **STEP)
    trap, run = Between.of(wanted, liar.hospitals.values()), play(liar, liar.approved(wanted))
    assert set(run.ask("READY", 1, 1, state=run.crafted(0, trap.model(0))).values()) == {"state-mismatch"}
    run.through("UNMASK", 1, 2)
    run.advanced(1, run.opened(1, 2))
    assert set(run.ask("READY", 2, 1, state=run.crafted(1, trap.model(1))).values()) == {"state-mismatch"}
    assert all(isinstance(one, bytes) for one in run.ask("READY", 2, 2).values()), "the true one is trained"
    left = {(one.round, one.attempt) for _, one, _ in liar.sent if isinstance(one, Step) and one.run == run.run}
    assert not left & {(1, 1), (2, 1)}


def test_nobody_approves_a_model_that_is_given_without_saying_so(liar: Liar) -> None:
    trap = Between.of(study("silent", **SECURE, **STEP), liar.hospitals.values())
    plan = beginning(liar, study("silent", **SECURE, **STEP), trap.model(0), "given")
    north = liar.hospitals["north"]
    words = ("approve", plan.study.name, "--person", "Vera", "--mapping", north.mapping)
    code, said = north.says(*words, "--accept", "plain")
    assert code == 3 and "given-model" in said and "made elsewhere" in north.command("review", "silent")
    assert north.says(*words, "--accept", "given-model")[0] == 0


SLOW: dict[str, Any] = {"training": {"epochs": 1, "learning_rate": 1e-3, "seed": 1}}
REST = HOSPITALS[:3]


def changed(run: Play, attempt: int, last: str) -> dict[str, bytes | str]:
    """A second round in which `west` is away, up to a phase; what was answered there."""
    found: dict[str, bytes | str] = {}
    for phase in ("READY", "MASK", "CONFIRM", "UNMASK"):
        found = run.ask(phase, 2, attempt, REST)
        if phase == last:
            break
    return found


def solved(hospital: Hospital, run: str) -> list[list[str]]:
    """What the hospital's audit log says of hospitals that sums of a run could be solved for."""
    entries = (json.loads(row[0]) for row in hospital.journal("SELECT entry FROM audit ORDER BY seq"))
    return [one["body"]["sites"] for one in entries if one["kind"] == "solved" and one["body"]["run"] == run]


def test_a_hospital_that_is_away_in_one_round_is_the_difference_of_two_sums_and_the_others_are_warned(
    liar: Liar,
) -> None:
    """Nothing is taken out: by default a hospital's log says so, and the round goes on."""
    run = play(liar, liar.approved(study("changing", **SECURE, **SLOW)))
    run.through("UNMASK", 1, 1)
    first = sums(run)
    path = liar.hospitals["west"].home / "work" / run.run / "update-1.safetensors"
    alone = {what: np.array(one) for what, one in chain.read(path).arrays.items()}
    run.advanced(1, run.opened(1, 1))
    assert all(isinstance(one, bytes) for one in changed(run, 1, "UNMASK").values())
    second = sums(run, 2)
    near = first["update"] - second["update"]
    assert np.linalg.norm(near - alone["update"]) < 0.02 * np.linalg.norm(alone["update"])
    assert first["weight"][0] - second["weight"][0] == alone["weight"][0], "and how many patients it has, exactly"
    for name in REST:
        assert solved(liar.hospitals[name], run.run) == [["west"]]
        assert "can be solved for west alone" in liar.hospitals[name].process.said
    assert solved(liar.hospitals["west"], run.run) == []


def test_a_hospital_that_minds_opens_no_sum_that_others_let_solve(liar: Liar) -> None:
    """Neither when it is away from the roll-call, nor when its vector does not arrive; with all of them, they go on."""
    run = play(liar, liar.approved(study("minded", **SECURE, **SLOW)))
    for hospital in liar.hospitals.values():
        hospital.policy(POLICY + "changing_rosters: refuse\n")
    try:
        run.through("UNMASK", 1, 1)
        run.advanced(1, run.opened(1, 1))
        assert set(changed(run, 1, "MASK").values()) == {"rosters"}
        run.ask("READY", 2, 2)
        run.ask("MASK", 2, 2)
        fewer = lambda _, said: {site: said[site] for site in REST}  # noqa: E731
        assert set(run.ask("CONFIRM", 2, 2, REST, fewer).values()) == {"rosters"}
        for phase in ("READY", "MASK", "CONFIRM", "UNMASK"):
            assert all(isinstance(one, bytes) for one in run.ask(phase, 2, 3).values()), phase
        assert all(solved(hospital, run.run) == [] for hospital in liar.hospitals.values())
    finally:
        for hospital in liar.hospitals.values():
            hospital.policy(POLICY)


@pytest.mark.long
def test_nor_one_that_was_masked_before_another_runs_sum_was_opened(liar: Liar) -> None:
    """Two runs of one plan take turns, so that neither has opened anything when west masks; west alone minds.

    It has no part in opening the first sum, so that it knows of none, and the second run is over the same hospitals.
    """
    plan = liar.approved(study("crossed", **SECURE, **SLOW))
    one, other, fewer = play(liar, plan), play(liar, plan), ("east", "north", "west")
    liar.hospitals["west"].policy(POLICY + "changing_rosters: refuse\n")
    try:
        one.through("CONFIRM", 1, 1)
        assert all(isinstance(told, bytes) for told in one.ask("UNMASK", 1, 1, REST).values())
        one.advanced(1, one.opened(1, 1))
        other.through("CONFIRM", 1, 1)
        for phase in ("READY", "MASK", "CONFIRM"):
            assert all(isinstance(told, bytes) for told in one.ask(phase, 2, 1, fewer).values()), phase
        assert all(isinstance(told, bytes) for told in other.ask("UNMASK", 1, 1).values())
        found = one.ask("UNMASK", 2, 1, fewer)
        assert found["west"] == "rosters" and isinstance(found["east"], bytes), "two shares open nothing"
        assert solved(liar.hospitals["east"], one.run) == [["south"]], "east had masked for all, and does not mind"
    finally:
        liar.hospitals["west"].policy(POLICY)


def under(plan: Plan, name: str, **privacy: Any) -> Plan:
    """The same study under another recipe, from the same first model."""
    changes = {"name": name, "quorum": 3, "privacy": Privacy(**privacy)}
    return Plan.of(plan.study.model_copy(update=changes))


def test_what_three_showed_in_a_pilot_is_not_taken_off_a_sum_with_a_fourth(liar: Liar) -> None:
    """They have accepted that the coordinator sees theirs; the fourth has not, and knows of no pilot."""
    pilot = liar.approved(study("pilot", **STEP))
    assert set(submitted(liar, pilot, REST)) == set(REST)
    run = play(liar, liar.offered(under(pilot, "joined", recipe="secure_sum")))
    assert all(isinstance(one, bytes) for one in run.ask("READY", 1, 1).values())
    assert set(run.ask("MASK", 1, 1).values()) == {"difference"}
    assert not any(isinstance(one, Step) and one.vector and one.run == run.run for _, one, _ in liar.sent)
    assert set(submitted(liar, pilot, ("west",))) == {"west"}
    run.through("UNMASK", 1, 2)  # where all four have shown theirs


@pytest.mark.long
def test_what_was_in_a_secure_sum_is_not_shown_alone_at_the_same_model(liar: Liar) -> None:
    plan = liar.approved(study("summed", **SECURE, **STEP))
    play(liar, plan).through("UNMASK", 1, 1)
    assert submitted(liar, liar.offered(under(plan, "unsummed", recipe="plain"))) == {}


WIDE: dict[str, Any] = {
    "model": {"kind": "torch", "architecture": "mlp", "options": {"hidden": [2048, 2048]}}, **STEP,
}  # fmt: skip


def steered(liar: Liar, wanted: Study) -> Play:
    """A run whose first sum the coordinator alters: sum and state fit each other, and all are told the same."""
    run = play(liar, liar.approved(wanted))
    run.through("UNMASK", 1, 1)
    opened = run.opened(1, 1)
    true = sums(run)["update"]
    run.advanced(1, opened.replace(true.tobytes(), (true + 1).tobytes()))
    return run


def limited(liar: Liar, size: float) -> None:
    """Let every hospital check sums of vectors up to so many MB."""
    for hospital in liar.hospitals.values():
        hospital.policy(POLICY + f"limits: {{check_mb: {size}}}\n")


@pytest.mark.long
def test_a_sum_that_no_policy_lets_check_is_believed_and_the_log_says_so(liar: Liar) -> None:
    run = steered(liar, study("believed", **SECURE, **STEP))
    limited(liar, 0)
    try:
        assert all(isinstance(one, bytes) for one in run.ask("READY", 2, 1).values())
    finally:
        limited(liar, 16)
    for hospital in liar.hospitals.values():
        entries = [json.loads(row[0]) for row in hospital.journal("SELECT entry FROM audit ORDER BY seq")]
        told = [one["body"] for one in entries if one["kind"] == "sum-not-checked"]
        assert [one["round"] for one in told if one["run"] == run.run] == [1]


@pytest.mark.long
def test_large_sums_are_checked_where_the_policy_says_so(liar: Liar) -> None:
    """A vector above 16 MB: by default what the coordinator names is believed, and trained at."""
    pytest.importorskip("torch")
    limited(liar, 64)
    try:
        run = steered(liar, study("wide", **SECURE, **WIDE))
        assert max(len(one) for one in liar.blobs.values()) > 16 << 20
        assert set(run.ask("READY", 2, 1, ("east", "north")).values()) == {"sum"}
        limited(liar, 16)
        assert all(isinstance(one, bytes) for one in run.ask("READY", 2, 2, ("south", "west")).values())
        limited(liar, 64)
        honest = play(liar, liar.approved(study("wide-honest", **SECURE, **WIDE)))
        honest.through("UNMASK", 1, 1)
        honest.advanced(1, honest.opened(1, 1))
        assert all(isinstance(one, bytes) for one in honest.ask("READY", 2, 1).values())
    finally:
        limited(liar, 16)


HAVE = {"east": (0, 1, 2), "north": (0, 2, 3), "south": (0, 3, 4), "west": (0, 4, 5, 9)}
"""Which of ten diagnoses patients of a hospital have; three of them nobody has."""
TOUCHED = {site: np.isin(np.arange(10), codes) for site, codes in HAVE.items()}


def diagnoses(name: str, **changes: Any) -> Study:
    """Whether somebody is ill, by a diagnosis: each has a row of its own in the model."""
    values = study(name, **STEP, **changes).model_dump(mode="json", exclude_none=True)
    codes = {f"d{code}": f"diagnosis {code}" for code in range(10)}
    values["gate"] = "none"
    values["contract"] = {
        "id": "codes", "label": {"id": "ill", "meaning": "is ill", "type": "binary"},
        "features": [{"id": "dx", "meaning": "diagnosis", "type": "category", "categories": codes,
                      "missing": "forbidden"}],
    }  # fmt: skip
    return Study.model_validate(values)


def coded(hospital: Hospital) -> None:
    """Map the hospital's table of diagnoses; every one that it has is among its training patients."""
    folder, has = hospital.mapping.parent, HAVE[hospital.name]
    rows = [f"q{at},D{has[at % len(has)]},{int(at % 3 == 0)}" for at in range(90)]
    (folder / "codes.csv").write_text("\n".join(["id,dx,ill", *rows]) + "\n")
    codes = ", ".join(f"D{code}: d{code}" for code in range(10))
    hospital.mapping = folder / "codes.yaml"
    hospital.mapping.write_text(
        "mapping: 1\ncontract: codes\nsource: {type: csv, path: codes.csv}\npatient: {column: id}\n"
        f"features: {{dx: {{column: dx, codes: {{{codes}}}}}}}\nlabel: {{column: ill, codes: {{'0': 0, '1': 1}}}}\n"
    )


@pytest.fixture
def diagnosed(liar: Liar) -> Iterator[Liar]:
    """The hospitals with their tables of diagnoses."""
    before = {name: hospital.mapping for name, hospital in liar.hospitals.items()}
    for hospital in liar.hospitals.values():
        coded(hospital)
    yield liar
    for name, hospital in liar.hospitals.items():
        hospital.mapping = before[name]


def test_rows_that_nobody_touched_tell_the_diagnoses_of_a_hospital_under_plain(diagnosed: Liar) -> None:
    plan = diagnosed.approved(diagnoses("rows-plain", privacy={"recipe": "plain"}))
    for name, sent in submitted(diagnosed, plan).items():
        assert np.array_equal(sent["update"][1:] != 0, TOUCHED[name][1:]), "intercept first, then a row for each"


def test_rows_that_nobody_touched_are_masked_and_their_sum_is_of_all(diagnosed: Liar) -> None:
    """What remains: a row that one hospital alone has touched is in the sum as that hospital made it."""
    run = play(diagnosed, diagnosed.approved(diagnoses("rows", **SECURE)))
    run.through("UNMASK", 1, 1)
    for name in HOSPITALS:
        words = np.array(chain.read(run.file(read(run.heard[1, 1, "MASK"][name]).vector.digest)).arrays["update"])
        assert np.all(words != 0) and len(set(words.tolist())) == words.size == 10
    found = sums(run)["update"]
    assert np.array_equal(found[1:] != 0, np.any(list(TOUCHED.values()), axis=0)[1:])
    path = diagnosed.hospitals["west"].home / "work" / run.run / "update-1.safetensors"
    alone = np.array(chain.read(path).arrays["update"])
    np.testing.assert_allclose(found[[5, 9]], alone[[5, 9]], rtol=0, atol=1e-8)
