"""Every strategy between hospitals with journals: the bytes of a simulation; what a site keeps is durable and counted.

The hospitals are real but for their processes; see unit/site/circle.py.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium import plugins
from consilium.algorithms.made_up import made_up
from consilium.algorithms.regression import fitted
from consilium.console.cli.taking import whose
from consilium.core import state as chain
from consilium.core.errors import Refused
from consilium.core.ids import digest
from consilium.core.study import BUFFERED, SINGLE, Plan
from consilium.core.tensors import Tensors, flatten, from_safetensors
from consilium.core.timed import COMMON
from consilium.exported import Exported
from consilium.simulation import local
from consilium.site import memories, showing
from consilium.site.seats import layout_of
from consilium.training.work import Work
from unit.site.circle import POLICY, SEALED, Hospital, Relay, circle, secure

THREE = ("east", "north", "south")
EVERY = [name for name in plugins.names("consilium.strategies") if name != COMMON]
"""All but the one for times of events, which has hospitals of its own below."""
OPTIONS: dict[str, dict[str, Any]] = {
    "qfedavg": {"q": 2.0}, "feddyn": {"alpha": 0.5}, "fedper": {"layers": ["intercept"]},
    "fedrep": {"layers": ["intercept"], "head_passes": 2}, "fedbn": {"layers": ["intercept"]}, "krum": {"liars": 0},
    "ifca": {"spread": 0.5}, "fedbuff": {"enough": 3}, "newton-path": {"penalties": [{"l1": 0.1}, {"l2": 0.01}]},
}  # fmt: skip
KEEPS = ["scaffold", "afl", "feddyn", "fedper", "fedrep", "ditto"]
"""Strategies that keep something at a site."""
ALIKE = ("fedavgm", "fedadagrad", "fedyogi", "fedprox", "fedbn", "trimmed-mean")
"""Those that do at a site, and add up, what another does, too."""
PLAIN = [pytest.param(name, marks=pytest.mark.long if name in (*ALIKE, "newton-path") else ()) for name in EVERY]
SUMS = [pytest.param(name, marks=pytest.mark.long if name in (*ALIKE, "fedadam", "ditto") else ())
        for name in EVERY if name not in (*SINGLE, *BUFFERED)]  # fmt: skip
TRAINING = {"epochs": 2, "batch_size": 16, "learning_rate": 0.5}


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with circle(tmp_path_factory.mktemp("relay"), *THREE) as found:
        yield found


@pytest.fixture(scope="module")
def discreet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Hospitals that have shown nothing alone: at a model that did, a group that learns nothing stays."""
    with circle(tmp_path_factory.mktemp("discreet"), *THREE) as found:
        yield found


def begun(relay: Relay, study: str, name: str, recipe: str = "secure_sum", rounds: int = 2) -> Plan:
    strategy = {"name": name, "options": OPTIONS.get(name, {})}
    few = {"evaluation": {"test_fraction": 0.05}} if name == "newton-path" else {}  # a fifth of the others chooses
    wanted = secure(study, privacy={"recipe": recipe}, strategy=strategy, training=TRAINING, rounds=rounds, **few)
    plan = relay.approved(wanted)
    if recipe == "secure_sum":
        relay.paired(plan)
    return plan


def folder(hospital: Hospital, plan: Plan) -> Path:
    return hospital.folder.run(f"{plan.study.name}-1")


def simulated(relay: Relay, plan: Plan, path: Path) -> local.Outcome:
    tables = local.tables(plan.study, {site: one.mapping for site, one in relay.hospitals.items()}, path)
    return local.run(plan, relay.blobs[relay.initial.digest], tables, path, f"{plan.study.name}-1")


def judged_alike(relay: Relay, plan: Plan, outcome: local.Outcome) -> None:
    federated = chain.read(relay.file(relay.sums[f"{plan.study.name}-1", plan.study.rounds + 1])).arrays
    alone = chain.read(outcome.sums).arrays
    assert federated.keys() == alone.keys() >= {"weight", "metrics/brier"}
    assert all(np.array_equal(federated[one], alone[one]) for one in federated)


@pytest.mark.parametrize("name", PLAIN)
def test_a_simulated_and_a_plain_run_end_in_the_same_bytes(relay: Relay, tmp_path: Path, name: str) -> None:
    plan = begun(relay, f"plain-{name}", name, "plain")
    for number in (1, 2, 3):
        relay.submitted(plan, number)
    alone = simulated(relay, plan, tmp_path)
    assert alone.digest == relay.states[f"plain-{name}-1", 2].digest
    judged_alike(relay, plan, alone)


@pytest.mark.parametrize("name", SUMS)
def test_a_simulated_and_a_secure_run_end_in_the_same_bytes_and_nothing_is_cut(
    discreet: Relay, tmp_path: Path, name: str
) -> None:
    plan = begun(discreet, f"sealed-{name}", name)
    run = f"sealed-{name}-1"
    for number in (1, 2):
        for phase in SEALED:
            assert set(discreet.ask(plan, number, phase).values()) == {"done"}
        single = [
            dict(chain.read(folder(one, plan) / f"update-{number}.safetensors").arrays) for one in sites(discreet)
        ]
        discreet.opened(plan, number)
        discreet.closed(plan, number, THREE)
        exact(discreet, plan, number, single)
    discreet.played(plan, 3)
    alone = simulated(discreet, plan, tmp_path)
    assert alone.digest == discreet.states[run, 2].digest
    judged_alike(discreet, plan, alone)


@pytest.mark.parametrize("name", ["newton", pytest.param("fedadam", marks=pytest.mark.long)])
def test_folds_are_trained_in_the_same_secure_sums_and_end_in_the_bytes_of_a_simulation(
    discreet: Relay, tmp_path: Path, name: str
) -> None:
    relay = discreet
    asked = {"evaluation": {"folds": 5}, "min_patients": 1, "strategy": {"name": name}, "rounds": 2}
    for one in sites(relay):  # whose smallest folds have fewer patients than the policy of these tests asks for
        one.folder.policy_file.write_text(POLICY.replace("min_patients: 10", "min_patients: 1"))
    plan = relay.approved(secure(f"folds-{name}", training=TRAINING, **asked))
    relay.paired(plan)
    for number in (1, 2, 3):
        relay.played(plan, number)
    for one in sites(relay):
        one.folder.policy_file.write_text(POLICY)
    alone = simulated(relay, plan, tmp_path)
    assert alone.digest == relay.states[f"folds-{name}-1", 2].digest
    judged_alike(relay, plan, alone)
    total = chain.read(relay.file(relay.sums[f"folds-{name}-1", 2])).arrays
    without = [float(total[f"fold-{at}/weight"][0]) for at in range(1, 6)]
    assert sum(without) / 4 == float(total["weight"][0]) == float(total["metrics/n"][0]), "each is in one fold of five"
    state = chain.read(relay.file(relay.states[f"folds-{name}-1", 1])).arrays
    models = {str(digest(chain.raw(state[one]))) for one in ("model", *(f"fold-{at}/model" for at in range(1, 6)))}
    for one in sites(relay):
        rows = one.journal.rows("SELECT * FROM openings WHERE run = ? AND round = 2", f"folds-{name}-1")
        assert {row["model"] for row in rows} >= models and len(models) == 6, "a study may begin at each"
    assert not any(one.count("memories WHERE run = ?", f"folds-{name}-1") for one in sites(relay))


def sites(relay: Relay) -> list[Hospital]:
    return list(relay.hospitals.values())


def exact(relay: Relay, plan: Plan, number: int, single: list[Tensors]) -> None:
    """The sum of integers is the sum of the updates, to the precision of the ring, in every segment."""
    run = f"{plan.study.name}-1"
    total = chain.read(relay.file(relay.sums[run, number])).arrays
    encodings = layout_of(plan, "TRAIN", relay.file(relay.states[run, number - 1]), len(THREE)).encodings
    assert float(total["clamped"][0]) == 0
    for segment in single[0]:
        error = np.abs(total[segment] - np.sum([one[segment] for one in single], axis=0))
        assert np.all(error <= len(THREE) / encodings[segment].scale)


@pytest.mark.parametrize("name", KEEPS)
def test_what_a_site_keeps_holds_once_it_was_counted_and_survives_its_process(relay: Relay, name: str) -> None:
    plan = begun(relay, f"late-{name}", name, "plain", rounds=5)
    south = relay["south"]
    relay.submitted(plan, 1)
    assert memories.before(south.journal, f"late-{name}-1", 1) is None
    first = memories.before(south.journal, f"late-{name}-1", 2)
    assert first is not None and first.name == "memory-1.safetensors"
    relay.ask(plan, 2, "SUBMIT", ["south"], cohort=())  # its answer is made, and comes too late
    kept = (folder(south, plan) / "memory-2.safetensors").read_bytes()
    relay.submitted(plan, 2, [one for one in THREE if one != "south"])
    assert memories.before(south.journal, f"late-{name}-1", 3) == first, "what was not counted does not hold"
    south.again()
    relay.submitted(plan, 3)
    after = memories.before(south.journal, f"late-{name}-1", 4)
    assert after is not None and after.name == "memory-3.safetensors" and after.read_bytes() != kept
    after.unlink()
    assert memories.before(south.journal, f"late-{name}-1", 4) == after, "a small file is written anew from the journal"


def test_an_update_that_came_too_late_is_kept_and_counts_for_less_in_the_next_round_that_its_site_is_asked_in(
    relay: Relay,
) -> None:
    """South answers round 1 too late, and has another process in round 2."""
    plan = begun(relay, "buffered", "fedbuff", "plain", rounds=4)
    south, run = relay["south"], "buffered-1"
    relay.ask(plan, 1, "SUBMIT", ["south"], cohort=())
    first = dict(chain.read(folder(south, plan) / "update-1.safetensors").arrays)
    relay.submitted(plan, 1, ["east", "north"])
    south.again()
    relay.submitted(plan, 2)
    later = chain.read(folder(south, plan) / "update-2.safetensors").arrays
    np.testing.assert_allclose(later["update"], first["update"] / np.sqrt(2), rtol=1e-15)
    assert (later["weight"], later["delay"]) == (first["weight"], first["weight"]), "one round late"
    north = chain.read(folder(relay["north"], plan) / "update-2.safetensors").arrays
    assert north["delay"] == 0 and not np.array_equal(north["update"], later["update"])
    assert not np.array_equal(later["metrics/brier"], first["metrics/brier"]), "figures are of the model of round 2"
    state = chain.read(relay.file(relay.states[run, 2])).arrays
    assert 0 < state["delay"][0] < 1
    relay.submitted(plan, 3)
    assert chain.read(folder(south, plan) / "update-3.safetensors").arrays["delay"] == 0, "it was counted once"
    assert memories.late(south.journal, run, 4) is None


def test_an_update_that_was_lost_while_it_waited_is_made_anew(relay: Relay) -> None:
    plan = begun(relay, "waited", "fedbuff", "plain")
    south = relay["south"]
    relay.ask(plan, 1, "SUBMIT", ["south"], cohort=())
    relay.submitted(plan, 1, ["east", "north"])
    (folder(south, plan) / "memory-1.safetensors").unlink()
    with south.journal.write() as tx:
        tx.do("DELETE FROM small WHERE path LIKE '%/waited-1/memory-1.safetensors'")
    relay.submitted(plan, 2)
    assert chain.read(folder(south, plan) / "update-2.safetensors").arrays["delay"] == 0


@pytest.mark.parametrize("name", ["scaffold", "fedper"])
def test_a_round_that_is_opened_again_goes_on_from_what_was_kept_before_it(discreet: Relay, name: str) -> None:
    relay = discreet
    plan = begun(relay, f"again-{name}", name)
    south, run = relay["south"], f"again-{name}-1"

    def made() -> tuple[str, str, int]:
        answer = south.journal.row("SELECT digest FROM answers WHERE run = ? AND round = 2", run)
        memory = south.journal.row("SELECT digest, counted FROM memories WHERE run = ? AND round = 2", run)
        assert answer is not None and memory is not None
        return answer["digest"], memory["digest"], memory["counted"]

    relay.played(plan, 1)
    relay.ask(plan, 2, "READY")
    update, memory, counted = made()
    assert not counted
    for what in ("update", "memory"):  # a crash between two openings, which took the files with it
        (folder(south, plan) / f"{what}-2.safetensors").unlink()
    with south.journal.write() as tx:
        tx.do("DELETE FROM small WHERE path LIKE ?", f"%/{run}/%-2.safetensors")
    south.again()
    relay.played(plan, 2, attempt=2)
    assert made() == (update, memory, 1), "trained once more, to the same bytes"
    assert memories.before(south.journal, run, 3) == folder(south, plan) / "memory-2.safetensors"


@pytest.mark.parametrize("name", KEEPS[:1])
def test_a_memory_that_was_lost_is_told_and_not_taken_for_a_first_round(relay: Relay, name: str) -> None:
    plan = begun(relay, "lost", name, "plain")
    relay.submitted(plan, 1)
    (folder(relay["south"], plan) / "memory-1.safetensors").unlink()
    with relay["south"].journal.write() as tx:
        tx.do("DELETE FROM small WHERE path LIKE '%/lost-1/memory-1.safetensors'")
    assert relay.ask(plan, 2, "SUBMIT", cohort=())["south"] == "memory"


@pytest.mark.parametrize("name", KEEPS[:1])
def test_nothing_that_is_kept_outlasts_its_run_or_its_use(relay: Relay, name: str) -> None:
    plan = begun(relay, "uses", name, "plain", rounds=4)
    for number in (1, 2, 3, 4):
        relay.submitted(plan, number)
    for hospital in relay.hospitals.values():
        there = sorted(path.name for path in folder(hospital, plan).glob("memory-*"))
        assert there == ["memory-3.safetensors", "memory-4.safetensors"]
        assert hospital.count("memories WHERE run = 'uses-1'") == 4, "a loss is told from a first round"


def test_a_hospital_has_its_own_model_when_the_run_is_over(relay: Relay) -> None:
    for name in ("fedper", "ditto", "fedavg"):
        plan = begun(relay, f"own-{name}", name, "plain")
        for number in (1, 2, 3):
            relay.submitted(plan, number)
        common = chain.read(relay.file(relay.states[f"own-{name}-1", 2])).arrays["model"]
        for hospital in sites(relay):
            path = hospital.folder.models / f"own-{name}-1.safetensors"
            assert path.exists() is (name != "fedavg")
            if name == "fedper":
                own = flatten(from_safetensors(path.read_bytes()))
                assert np.array_equal(own[1:], common[1:]) and own[0] != common[0], "the intercept is its own"
            if name != "fedavg":
                told = [json.loads(entry) for entry in hospital.journal.entries()]
                (model,) = [
                    one["body"]["model"]
                    for one in told
                    if one["kind"] == "own-model" and one["body"]["run"] == f"own-{name}-1"
                ]
                assert model == digest(path.read_bytes())
                home = Exported.read(path)
                assert home.study == plan.study and home.metadata["personal"] == "true"
                rows = made_up(home.study.contract, 9, np.random.default_rng(1))
                assert np.isfinite(home.predict(rows)).all()
                common_one = {key: value for key, value in home.metadata.items() if key != "personal"}
                assert not whose(home.metadata) and "nobody trained" in whose(common_one)


def timed(relay: Relay, folder: Path) -> None:
    """Let every hospital have times of events, in days."""
    for seed, hospital in enumerate(sites(relay)):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=90).clip(-9, 9)
        time, event = np.ceil(40 * rng.exponential(np.exp(-x))).clip(0, 400), rng.random(90) < 0.6
        home = folder / hospital.name
        home.mkdir()
        rows = [f"p{i},{float(x[i])!r},{time[i]:g},{int(event[i])}" for i in range(90)]
        (home / "table.csv").write_text("\n".join(["id,x,days,died", *rows]) + "\n")
        hospital.mapping = home / "mapping.yaml"
        hospital.mapping.write_text(
            "mapping: 1\ncontract: times\nsource: {type: csv, path: table.csv}\npatient: {column: id}\n"
            "features: {x: {column: x, unit: '1'}}\n"
            "label: {column: died, codes: {'0': 0, '1': 1}, time: {column: days, unit: d}}\n"
        )


NUMBER = {"type": "number", "unit": "1", "range": [-10, 10], "missing": "forbidden"}
TIMES = {
    "id": "times", "features": [{"id": "x", "meaning": "x", **NUMBER}],
    "label": {"id": "death", "meaning": "death", "type": "time-to-event", "unit": "d", "range": [0, 400]},
}  # fmt: skip


@pytest.mark.parametrize(("name", "options"), [("newton", {}), ("webdisco", {"every": 7, "until": 365})])
def test_a_cox_regression_between_sites_ends_in_the_bytes_of_a_simulation(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    with circle(tmp_path / "relay", *THREE) as relay:
        timed(relay, tmp_path)
        for hospital in sites(relay):
            hospital.folder.policy_file.write_text(f"policy: 1\nmin_patients: 10\nstrategies: [{name}]\n")
        plan = relay.approved(secure(
            "times", contract=TIMES, model={"kind": "cox"}, strategy={"name": name, "options": options}, rounds=3,
            sites=THREE,
        ))  # fmt: skip
        relay.paired(plan)
        for number_ in (1, 2, 3):
            relay.played(plan, number_)
        relay.played(plan, 4)
        (tmp_path / "alone").mkdir()
        alone = simulated(relay, plan, tmp_path / "alone")
        assert alone.digest == relay.states["times-1", 3].digest
        fit = fitted(plan.study, chain.read(alone.state).arrays)
        assert fit is not None and 0.5 < (fit.terms[0].estimate or 0) < 1.5, "a hazard of exp(x)"
        assert (len(fit.groups) > 2) is (name == "webdisco")


def test_of_a_common_baseline_nobody_masks_where_too_few_hospitals_have_the_event(tmp_path: Path) -> None:
    """North has none, and its patients are in sums of who was observed; east would read south's steps."""
    with circle(tmp_path / "relay", *THREE) as relay:
        timed(relay, tmp_path)
        table = relay[THREE[1]].mapping.parent / "table.csv"
        head, *rows = table.read_text().splitlines()
        table.write_text("\n".join([head, *(f"{row.rpartition(',')[0]},0" for row in rows)]) + "\n")
        for hospital in sites(relay):
            hospital.folder.policy_file.write_text("policy: 1\nmin_patients: 10\nstrategies: [webdisco]\n")
        options = {"every": 7, "until": 365}
        plan = relay.approved(secure(
            "few", contract=TIMES, model={"kind": "cox"}, strategy={"name": "webdisco", "options": options}, rounds=3,
            sites=THREE,
        ))  # fmt: skip
        relay.paired(plan)
        relay.played(plan, 1)
        assert set(relay.ask(plan, 2, "READY").values()) == {"done"}
        assert relay.ask(plan, 2, "MASK") == dict.fromkeys(THREE, "nothing")
        (tmp_path / "alone").mkdir()
        with pytest.raises(Refused, match="so few hospitals have training patients with the event"):
            simulated(relay, plan, tmp_path / "alone")


@pytest.mark.long
def test_of_a_common_baseline_no_sum_of_the_same_hospitals_is_one_over_others(tmp_path: Path) -> None:
    """Where one of five has no event. In the first round, in which they agree on times, nobody adds to who had it: as
    one to which all add it would be solved with those of later rounds, and `refuse` stopped the same five.
    """
    five = ("east", "north", "south", "west", "young")
    with circle(tmp_path / "relay", *five) as relay:
        timed(relay, tmp_path)
        table = relay["north"].mapping.parent / "table.csv"
        head, *rows = table.read_text().splitlines()
        table.write_text("\n".join([head, *(f"{row.rpartition(',')[0]},0" for row in rows)]) + "\n")
        for name in five:
            words = "policy: 1\nmin_patients: 10\nstrategies: [webdisco]\nchanging_rosters: refuse\n"
            relay[name].folder.policy_file.write_text(words)
        plan = relay.approved(secure(
            "five", contract=TIMES, model={"kind": "cox"}, rounds=2, sites=five, quorum=5,
            strategy={"name": "webdisco", "options": {"every": 7, "until": 365}},
        ))  # fmt: skip
        relay.paired(plan)
        for number_ in (1, 2, 3):
            relay.played(plan, number_)
        assert not any(b'"solved"' in one for name in five for one in relay[name].journal.entries())


def test_what_harmonises_a_hospitals_numbers_is_kept_there_and_leaves_in_nothing(
    discreet: Relay, tmp_path: Path
) -> None:
    relay = discreet  # what is shown alone at zero tells of the same inputs
    plan = relay.approved(secure("harmony", prepare={"harmonise": {"numbers": ["x", "y"]}}, rounds=1))
    relay.paired(plan)
    for number in (1, 2, 3):
        relay.played(plan, number)
    alone = simulated(relay, plan, tmp_path)
    assert alone.digest == relay.states["harmony-1", 2].digest
    state, kept = chain.read(alone.state).arrays, set[str]()
    learned = {"prepare/centre", "prepare/spread", "prepare/fill", "prepare/slopes", "prepare/varies"}
    assert {name for name in state if name.startswith("prepare/")} == learned, "of all hospitals, and of none alone"
    for hospital in sites(relay):
        path = hospital.folder.models / "harmony-1.harmony.json"
        files = [tmp_path / name for name in ("plan.json", "initial.safetensors", f"{hospital.name}/table.npz")]
        wanted = Work.load(*files).harmony(tmp_path / alone.state.name)
        assert wanted is not None and json.loads(path.read_text()) == wanted.to_json()
        assert digest(path.read_bytes()) not in {one["digest"] for one in showing.sent(hospital.journal)}
        kept.add(path.read_text())
    assert len(kept) == len(THREE)
