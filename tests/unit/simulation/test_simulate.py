"""Simulations: the same bytes whoever trains, the machine's rules when sites are silent or slow, and what is told."""

import json
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium import plugins
from consilium.api import freeze
from consilium.console.cli import app
from consilium.core import state as chain
from consilium.core.errors import Conflict, DataUnusable, Invalid, StudyInvalid
from consilium.core.round import Phase
from consilium.core.study import Plan, Study
from consilium.core.tensors import flatten, from_safetensors
from consilium.core.threshold import threshold
from consilium.simulation import local, rounds, sums
from consilium.simulation import simulate as command
from consilium.simulation.conditions import Conditions
from consilium.simulation.executors import AHEAD, Asked, Processes, Sent, Turn
from consilium.simulation.partition import Rule
from consilium.simulation.patients import Patients, Sites
from consilium.simulation.rounds import Simulation, Told
from consilium.simulation.scenario import Found, Wanted, simulate

Make = Callable[..., dict[str, Path]]


def changed(study: Study, **changes: Any) -> Study:
    return Study.model_validate({**study.model_dump(), **changes})


def secure(study: Study, **changes: Any) -> Study:
    return changed(study, **{"privacy": {"recipe": "secure_sum"}, "quorum": 3, **changes})


def begun(study: Study, **changes: Any) -> Study:
    """At first weights that are drawn."""
    return changed(study, model={**study.model.model_dump(), "start": "drawn"}, **changes)


def ran(study: Study, hospitals: dict[str, Path], **wanted: Any) -> Found:
    return simulate(study, hospitals, Wanted(**wanted), lambda told: None)


@pytest.mark.parametrize(
    ("protect", "strategy"),
    [
        pytest.param(begun, "fedavg", id="plain-fedavg-drawn"),
        pytest.param(changed, "fedavg", id="plain-fedavg", marks=pytest.mark.long),
        pytest.param(secure, "scaffold", id="secure_sum-scaffold"),
        pytest.param(changed, "scaffold", id="plain-scaffold", marks=pytest.mark.long),
        pytest.param(secure, "fedavg", id="secure_sum-fedavg", marks=pytest.mark.long),
    ],
)
def test_inline_and_in_processes_the_bytes_are_those_of_the_hospitals_own_tables(
    study: Study, make: Make, tmp_path: Path, protect: Callable[..., Study], strategy: str
) -> None:
    hospitals = make(north=(90, None), south=(70, None), west=(130, None))
    asked = protect(study, strategy={"name": strategy}, rounds=3)
    plan, weights = freeze(asked)
    alone = local.run(plan, weights, local.tables(plan.study, hospitals, tmp_path), tmp_path, "sums-1")
    for name in ("inline", "processes"):
        found = ran(asked, hospitals, executor=name, workers=2)
        assert (found.plan.digest, found.outcome.digest) == (plan.digest, alone.digest)
        assert found.outcome.figures == alone.figures
        given = chain.read(alone.state).arrays["model"]
        assert np.array_equal(flatten(from_safetensors(found.model)), given)


@pytest.mark.long
def test_many_sites_by_a_rule_give_the_same_bytes_in_processes_and_from_the_seed(study: Study, make: Make) -> None:
    hospitals = make(north=(90, None), south=(70, None))
    wanted = {"sites": 12, "partition": Rule("dirichlet", 0.5), "patients": 900, "conditions": Conditions(3, drop=0.2)}
    asked = changed(study, rounds=3, quorum=4)
    outcomes = [ran(asked, hospitals, **wanted, executor=name, workers=2) for name in ("inline", "processes", "inline")]
    assert len({found.outcome.digest for found in outcomes}) == 1
    assert [told.took_part for told in outcomes[0].rounds] == [told.took_part for told in outcomes[1].rounds]
    other = ran(asked, hospitals, **wanted, seed=2)
    assert other.outcome.digest != outcomes[0].outcome.digest


@pytest.mark.parametrize("size", [0, 7])
@pytest.mark.parametrize(
    ("protect", "strategy"), [(changed, "fedavg"), (secure, "fedavg"), (changed, "fedprox"), (secure, "fedadam")]
)
def test_many_sites_at_once_agree_with_one_after_the_other(
    study: Study, make: Make, protect: Callable[..., Study], strategy: str, size: int
) -> None:
    training = {**study.training.model_dump(), "batch_size": size}
    asked = protect(study, strategy={"name": strategy}, training=training, rounds=4)
    wanted = {"sites": 9, "partition": Rule("quantity", 0.7), "patients": 700, "least": 20}
    hospitals = make(north=(90, None), south=(70, None))
    one, many = (
        ran(asked, hospitals, **wanted, executor=name, conditions=Conditions(2, drop=0.1))
        for name in ("inline", "vectorised")
    )
    models = [flatten(from_safetensors(found.model)) for found in (one, many)]
    assert np.max(np.abs(models[0] - models[1])) <= 1e-9 * np.max(np.abs(models[0]))
    for told, other in zip(one.rounds, many.rounds, strict=True):
        assert (told.took_part, told.weight, told.clamped) == (other.took_part, other.weight, other.clamped)
        for name in ("auroc", "accuracy", "brier"):
            assert told.figures[name]["value"] == pytest.approx(other.figures[name]["value"], rel=1e-6)
            assert told.figures[name]["n"] == other.figures[name]["n"], (
                "each is counted once, however sites are stacked"
            )
    for site, figures in one.outcome.figures["sites"].items():
        single = many.outcome.figures["sites"][site]
        assert figures["brier"]["value"] == pytest.approx(single["brier"]["value"], rel=1e-6)


@pytest.mark.parametrize(("kind", "label"), [("linear", "number"), ("poisson", "count")])
def test_other_linear_models_train_at_once_too(study: Study, make: Make, kind: str, label: str) -> None:
    told = study.model_dump()
    told["contract"]["label"] |= {"type": label} | ({"unit": "1", "range": [0, 1]} if label == "number" else {})
    rate = {**told["training"], "learning_rate": 0.1}
    model = {"kind": kind, "start": "drawn"}
    asked = Study.model_validate({**told, "model": model, "training": rate, "rounds": 3})
    hospitals = make(north=(90, None), south=(70, None))
    for path in hospitals.values():
        path.write_text(path.read_text().replace("column: large,", "column: large, unit: '1',"))
    models = [
        flatten(from_safetensors(ran(asked, hospitals, executor=name).model)) for name in ("inline", "vectorised")
    ]
    np.testing.assert_allclose(models[1], models[0], rtol=1e-9)


def test_what_cannot_train_at_once_is_refused_by_name(study: Study, make: Make) -> None:
    hospitals = make(north=(90, None), south=(70, None), west=(80, None))
    with pytest.raises(Conflict, match="does not know the strategy scaffold"):
        ran(changed(study, strategy={"name": "scaffold"}), hospitals, executor="vectorised")
    with pytest.raises(Conflict, match="does not know the strategy median"):
        ran(changed(study, strategy={"name": "median"}, quorum=3), hospitals, executor="vectorised")


class Counts:
    """An executor that trains nothing, and counts who is asked."""

    def __init__(self, length: int) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.length = length

    def __call__(self, asked: Asked, turns: Sequence[Turn]) -> Iterator[Sent]:
        self.asked.append((asked.kind, tuple(turn.site for turn in turns)))
        for turn in turns:
            rows = {"weight": np.ones((1, 1)), "update": np.full((1, self.length), 0.5)}
            if asked.kind == "EVALUATE":
                del rows["update"]
            yield Sent((turn.site,), rows)


def counted(study: Study, folder: Path, sites: int, conditions: Conditions) -> tuple[Counts, list[Told]]:
    plan, weights = freeze(study)
    execute, told = Counts(3), list[Told]()
    names = [f"site-{number:03d}" for number in range(sites)]
    Simulation(plan, weights, names, execute, folder, "sums-1", bytes, lambda *_: (), conditions, told.append).run()
    return execute, told


def test_who_is_silent_is_not_in_the_sum_and_does_not_train(study: Study, tmp_path: Path) -> None:
    asked = changed(study, rounds=20, quorum=5)
    execute, told = counted(asked, tmp_path, 50, Conditions(7, drop=0.3))
    assert [sites for _, sites in execute.asked] == [one.took_part for one in told]
    shares = [len(one.took_part) / 50 for one in told]
    assert 0.6 < np.mean(shares) < 0.8 and len({one.took_part for one in told}) == 21, "each round has others"
    for one in told:
        assert len(one.took_part) == 50 - one.silent and one.weight == len(one.took_part)
        assert one.lasted_s == asked.deadlines.round_s, "the others waited until the deadline"


@pytest.mark.parametrize(("last", "most", "waits"), [(Phase.UNMASK, 9, 1), (Phase.MASK, 8, 2)])
def test_who_falls_silent_once_all_have_masked_is_waited_for_once(
    study: Study, make: Make, monkeypatch: pytest.MonkeyPatch, last: Phase, most: int, waits: int
) -> None:
    """Nobody is asked to confirm then, between hospitals or here: who would not have, does not open."""
    monkeypatch.setattr(
        Conditions, "silent", lambda self, sites, *_: dict(zip(sorted(sites), (Phase.CONFIRM, last), strict=False))
    )
    asked = secure(study, rounds=1)
    found = ran(asked, make(north=(300, None)), sites=9, partition=Rule("even"))
    whole = [(len(one.took_part), one.lasted_s) for one in found.rounds]
    assert whole == [(most, waits * asked.deadlines.round_s)] * 2


def test_below_quorum_a_round_waits_for_as_many_as_it_needs(study: Study, tmp_path: Path) -> None:
    _, told = counted(changed(study, rounds=5, quorum=40), tmp_path, 50, Conditions(7, drop=0.5))
    assert all(len(one.took_part) == 40 for one in told) and all(one.waited > 0 for one in told)
    assert all(one.silent - one.waited == 10 for one in told)


@pytest.mark.parametrize(("seconds", "late"), [(60.0, False), (7200.0, True)])
def test_who_is_slower_than_the_deadline_is_left_out_and_who_is_not_is_waited_for(
    study: Study, tmp_path: Path, seconds: float, late: bool
) -> None:
    asked = changed(study, rounds=3, quorum=5, deadlines={"round_s": 3600})
    _, told = counted(asked, tmp_path, 40, Conditions(3, slow=0.25, slow_s=seconds))
    parts = {one.took_part for one in told}
    assert len(parts) == 1, "the same ones are slow in every round"
    assert (len(parts.pop()) < 40) is late
    assert all(one.lasted_s == (3600 if late else 60) and bool(one.late) is late and not one.waited for one in told)


def test_a_round_that_needs_who_is_late_lasts_until_they_are_ready(study: Study, tmp_path: Path) -> None:
    asked = changed(study, rounds=2, quorum=40, deadlines={"round_s": 3600})
    _, told = counted(asked, tmp_path, 40, Conditions(3, slow=0.25, slow_s=7200.0))
    assert all(len(one.took_part) == 40 and one.waited == one.late > 0 and one.lasted_s == 7200 for one in told)


def buffered(study: Study, enough: int, **options: float) -> Study:
    """A study whose rounds close with so many answers."""
    strategy = {"name": "fedbuff", "options": {"enough": enough, **options}}
    return changed(study, strategy=strategy, deadlines={"round_s": 3600}, quorum=2)


def test_slow_sites_hold_up_no_round_and_what_they_made_is_counted_later_and_for_less(study: Study, make: Make) -> None:
    """The paper's point: three quarters of the rounds' time would be spent waiting, and nothing of it is."""
    hospitals = make(north=(400, None), south=(300, None))
    wanted = {"sites": 8, "partition": Rule("even"), "conditions": Conditions(3, slow=0.3, slow_s=3 * 3600.0)}
    waited = ran(changed(study, quorum=8, deadlines={"round_s": 3600}), hospitals, **wanted)
    assert all(one.lasted_s == 3 * 3600 for one in waited.rounds[:-1])
    found = ran(buffered(study, 4), hospitals, **wanted)
    slow = Conditions(3, slow=0.3).slow_ones([f"site-{number}" for number in range(1, 9)])
    assert 0 < len(slow) < 4
    rounds = found.rounds[:-1]
    assert all(len(one.took_part) == 4 and one.lasted_s == 0 for one in rounds)
    assert not any(slow & set(one.took_part) for one in rounds[:3])
    assert slow <= {site for one in rounds[3:] for site in one.took_part}, "three rounds later they are counted"
    full = ran(buffered(study, 4, discount=0.0), hospitals, **wanted)
    assert [one.took_part for one in full.rounds] == [one.took_part for one in found.rounds]
    assert full.outcome.digest != found.outcome.digest


@pytest.mark.long
def test_late_updates_are_the_same_in_processes(study: Study, make: Make) -> None:
    conditions = Conditions(3, drop=0.2, slow=0.3, slow_s=2 * 3600.0)
    wanted = {"sites": 8, "partition": Rule("even"), "conditions": conditions}
    hospitals = make(north=(400, None), south=(300, None))
    found = [ran(buffered(study, 4), hospitals, **wanted, executor=name, workers=2) for name in ("inline", "processes")]
    assert found[0].outcome.digest == found[1].outcome.digest


def test_where_all_are_waited_for_it_is_fedavg(study: Study, make: Make) -> None:
    hospitals = make(north=(90, None), south=(70, None), west=(130, None))
    plain, found = ran(study, hospitals), ran(buffered(study, 3), hospitals)
    assert np.array_equal(flatten(from_safetensors(plain.model)), flatten(from_safetensors(found.model)))


def test_a_secure_sum_is_never_of_fewer_than_its_threshold(study: Study, make: Make) -> None:
    hospitals = make(north=(300, None))
    asked = secure(study, rounds=6)
    found = ran(asked, hospitals, sites=9, partition=Rule("even"), conditions=Conditions(1, drop=0.4))
    sizes = [len(one.took_part) for one in found.rounds]
    assert min(sizes) >= threshold(9) and min(sizes) < 9 and any(one.waited for one in found.rounds)


def test_values_that_are_cut_end_a_run_or_are_told_however_many_counts_stand_beside_them(
    study: Study, make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hospitals = make(north=(90, None), south=(70, None), west=(130, None))
    tight = {"recipe": "secure_sum", "clip": 0.01, "most_patients": 150}
    with pytest.raises(Invalid, match=r"[5-9] values were beyond privacy\.clip in round 1"):
        ran(secure(study, privacy=tight), hospitals)
    asked = secure(study, privacy={**tight, "most_clipped": 1}, rounds=1)
    (tmp_path / "study.yaml").write_text(asked.model_dump_json())
    assert app.run(["simulate", str(tmp_path / "study.yaml"), "--hospitals", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "values cut" in said and "Values were cut to privacy.clip: lower training.learning_rate, or raise it" in said


def test_changes_that_rounding_hides_end_a_run_at_once_with_what_to_do(study: Study, make: Make) -> None:
    """By 16 bits, with room for ten million patients of a hospital, no change of a model is left."""
    hospitals = make(north=(90, None), south=(70, None), west=(130, None))
    coarse = {"recipe": "secure_sum", "bits": 16, "most_patients": 10**7}
    for more in ({}, {"prepare": {"numbers": "standardise"}}, {"strategy": {"name": "ifca"}}):
        first = 2 if "prepare" in more else 1
        with pytest.raises(Invalid, match=rf"in round {first} hospitals changed nothing .* rounding .*most_patients"):
            ran(secure(study, privacy=coarse, **more), hospitals)
    ran(secure(study, privacy={**coarse, "most_patients": 130, "clip": 1.0}, rounds=1), hospitals)
    ran(secure(study, privacy=coarse, strategy={"name": "newton"}, rounds=1), hospitals)  # whose sums have 64 bits


def test_sums_of_figures_beyond_their_room_have_a_remedy_of_their_own(study: Study, make: Make) -> None:
    told = study.model_dump()
    told["contract"]["label"] |= {"type": "count"}
    slow = {**told["training"], "learning_rate": 1e-6}
    counts = Study.model_validate({**told, "model": {"kind": "poisson"}, "rounds": 1, "quorum": 3, "training": slow})
    hospitals = make(north=(90, None), south=(70, None), west=(130, None))
    for path in hospitals.values():
        table = path.with_name("table.csv")
        table.write_text("".join(f"{line},900000\n" if line[0] == "p" else f"{line},many\n"
                                 for line in table.read_text().split()))  # fmt: skip
        path.write_text(path.read_text().replace("{column: large, codes: {'0': 0, '1': 1}}", "{column: many}"))
    tight = {"recipe": "secure_sum", "clip": 1e6, "most_clipped": 0}
    with pytest.raises(Invalid, match=r"sums over patients were beyond .* in round 2; .*ranges that hold"):
        ran(changed(counts, privacy=tight), hospitals)


def test_silence_falls_in_every_phase_alike_and_not_without_being_asked_for() -> None:
    phases = [Phase.READY, Phase.MASK, Phase.CONFIRM]
    sites = [f"site-{number}" for number in range(3000)]
    falls = Conditions(5, drop=0.5).silent(sites, 4, phases)
    assert abs(len(falls) - 1500) < 150
    assert all(abs(list(falls.values()).count(phase) - 500) < 100 for phase in phases)
    assert falls != Conditions(5, drop=0.5).silent(sites, 5, phases)
    assert Conditions(5).silent(sites, 4, phases) == {}


@pytest.mark.parametrize(
    ("drop", "slow", "words"),
    [
        (float("nan"), None, "--drop: nan is no chance"), (1.0, None, "--drop: 1 is no chance"),
        (0.0, "0.2", "no share and time"), (0.0, "nan:60", "no share and time"), (0.0, "0.2:inf", "no share and time"),
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused(drop: float, slow: str | None, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        Conditions.of(1, drop, slow)


def test_a_sum_holds_one_sum_whatever_the_number_of_sites() -> None:
    """Memory at its highest, of 10 and of 200 updates of 400 kB each."""
    peaks = []
    for count in (10, 200):
        tracemalloc.start()
        total = sums.Plain()
        for _ in range(count):
            total.add(Sent(("a",), {"update": np.ones((1, 50_000)), "weight": np.ones((1, 1))}))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] < 2_000_000


@pytest.mark.parametrize(("figures", "kept"), [("full", 2), ("headline", 0)])
def test_counts_of_single_sites_are_kept_only_where_figures_are_drawn_from_them(
    study: Study, make: Make, monkeypatch: pytest.MonkeyPatch, figures: str, kept: int
) -> None:
    seen = list[int]()
    monkeypatch.setattr(rounds, "judged", lambda study, arrays, alone, hospitals: seen.append(len(alone)))
    ran(changed(study, rounds=1, evaluation={"figures": figures}), make(north=(90, None), south=(70, None)))
    assert seen == [kept]


def test_processes_hold_no_more_than_a_few_updates(study: Study, make: Make, tmp_path: Path) -> None:
    """What is begun ahead of what is taken is bounded: asked for the first, few of 40 have been begun."""
    patients = Patients.read(study, make(north=(400, None)))
    plan, weights = freeze(study)
    rows = {f"s{number:02d}": np.arange(number * 10, number * 10 + 10) for number in range(40)}
    with (tmp_path / "state").open("wb") as out:
        chain.begin(plugins.strategy_of(plan.study), weights, "sums-1", out)
    started = Processes(Sites(plan, weights, patients, rows), 1)
    try:
        turns = [Turn(site) for site in rows]
        given = started(Asked("TRAIN", 1, tmp_path / "state", tmp_path), turns)
        assert next(given).sites == ("s00",)
        assert started.begun <= AHEAD
        assert [sent.sites[0] for sent in given] == list(rows)[1:]
    finally:
        started.end()


def test_patients_that_are_drawn_twice_are_held_out_at_both_sites_or_at_none(study: Study, make: Make) -> None:
    patients = Patients.read(study, make(north=(60, None)))
    many = patients.drawn(2000, np.random.default_rng(0))
    held = {}
    for x, y, test in zip(many.columns["x"], many.columns["y"], many.test, strict=True):
        assert held.setdefault((x, y), test) == test
    assert len(held) == 60 and 0 < many.test.mean() < 1


def test_what_cannot_be_simulated_is_told(study: Study, make: Make) -> None:
    hospitals = make(north=(60, None), south=(60, None))
    many = r"0 of 12 sites have the 10 training patients .* `quorum` is 2; lower `quorum` or `min_patients`"
    with pytest.raises(Conflict, match=many):
        ran(study, hospitals, sites=12)
    with pytest.raises(
        Conflict, match=r"^2 sites are simulated, .*`quorum` is 50; lower `quorum` in the study"
    ) as error:
        ran(changed(study, quorum=50), hospitals)
    assert "--patients" not in error.value.remedy
    with pytest.raises(Conflict, match=r"^1 site is simulated, and the study's `quorum` is 2"):
        ran(study, {"north": hospitals["north"]})
    few = {"recipe": "secure_sum", "most_patients": 59}
    with pytest.raises(
        Conflict, match=r"2 of 3 sites have more .* the 59 .* such as north with 60.* raise privacy\.most"
    ):
        ran(secure(study, privacy=few), {**hospitals, **make(west=(50, None))})
    wheel = {"kind": "torch", "architecture": "own", "wheel": "sha256:" + "0" * 64}
    with pytest.raises(StudyInvalid, match=r"names the wheel sha256:0.*--wheel FILE"):
        ran(changed(study, model=wheel), hospitals)
    with pytest.raises(StudyInvalid, match="a wheel is given, but the study names none"):
        ran(study, hospitals, wheel=hospitals["north"])
    for executor in ("vectorised", "ray"):
        with pytest.raises(Conflict, match="confines no code of a study's own; choose --executor inline or processes"):
            ran(changed(study, model=wheel), hospitals, wheel=hospitals["north"], executor=executor)
    with pytest.raises(StudyInvalid, match="starts from a given model"):
        ran(changed(study, model={"kind": "logistic", "start": "given"}), hospitals)
    for text in ("0.2", "x:1", "2:1", "0.1:-1", "0.1:inf"):
        with pytest.raises(Invalid, match="--slow"):
            Conditions.of(1, 0.0, text)
    assert Conditions.of(1, 0.1, "0.2:60") == Conditions(1, 0.1, 0.2, 60.0)


def test_what_a_gate_would_keep_a_hospital_out_for_is_told_and_the_simulation_goes_on(
    study: Study, make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A code of the label that one mapping has wrong: its patients with the outcome are passed over, as before."""
    hospitals = make(north=(90, None), south=(70, None), west=(130, None))
    wrong = hospitals["west"].read_text().replace("'1': 1", "'one': 1")
    hospitals["west"].write_text(wrong)
    (tmp_path / "study.yaml").write_text(study.model_dump_json())
    words = ["simulate", str(tmp_path / "study.yaml"), "--hospitals", str(tmp_path)]
    assert app.run([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["kind"] for one in told["blocked"]["west"]] == ["label-codes"] and set(told["blocked"]) == {"west"}
    assert told["hospitals"]["west"]["without_label"] > 30 and told["absent"] == {}
    assert app.run(words) == 0
    assert "west: a federation would not let it train, by the study's gate; here it does. large: some codes" in (
        " ".join(capsys.readouterr().out.split())
    )
    assert ran(changed(study, gate=None), hospitals).blocked == {}, "who asks for no gate is kept out by none"
    assert ran(study, hospitals, sites=4, partition=Rule("even")).blocked.keys() == {"west"}, "whoever has them then"


def test_a_hospital_of_whose_rows_none_takes_part_is_told_why(study: Study, make: Make) -> None:
    hospitals = make(north=(90, None), south=(70, None), west=(130, None))
    hospitals["west"].write_text(hospitals["west"].read_text().replace("{'0': 0, '1': 1}", "{'no': 0, 'yes': 1}"))
    why = r"^west: of 130 rows none takes part: large: .*codes"
    for asked in ({}, {"sites": 4}):
        with pytest.raises(DataUnusable, match=why) as error:
            ran(study, hospitals, **asked)
        assert "--least" not in error.value.remedy and "codes" in error.value.remedy
    with pytest.raises(DataUnusable, match=why):
        ran(study, {"west": hospitals["west"]}, partition=Rule("even"))
    assert ran(study, hospitals, least=0).sizes["west"] == (0, 0), "who asks for it gets it"


def test_invited_sites_are_those_of_the_study_where_they_are_here(study: Study, make: Make) -> None:
    hospitals = make(north=(90, None), south=(70, None), west=(130, None))
    invited = changed(study, sites=["north", "west"])
    assert ran(invited, hospitals).outcome.took_part == ("north", "west")
    assert ran(invited, hospitals, sites=4, partition=Rule("even")).outcome.took_part == tuple(
        f"site-{number}" for number in range(1, 5)
    )


def test_the_command_tells_rounds_and_sites_as_words_and_as_data(
    study: Study, make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hospitals = make(north=(90, None), south=(70, None), west=(130, None))
    (tmp_path / "study.yaml").write_text(study.model_dump_json())
    words = ["simulate", str(tmp_path / "study.yaml"), "--hospitals", str(tmp_path)]
    model = tmp_path / "model.safetensors"
    assert app.run([*words, "--json", "--model", str(model)]) == 0
    told = json.loads(capsys.readouterr().out)
    found = ran(study, hospitals)
    assert told["model"] == found.outcome.digest and model.read_bytes() == found.model
    assert [one["took_part"] for one in told["rounds"]] == [3] * 7
    assert told["study_file"] == Plan.of(study).digest, "by which its report demands the study's file"
    assert told["figures"]["all"] == json.loads(json.dumps(found.outcome.figures["all"]))
    single = [one["auroc"]["value"] for one in told["figures"]["sites"].values()]
    assert told["figures"]["between_sites"]["auroc"]["median"] == pytest.approx(np.median(single))
    assert app.run([*words, "--sites", "5", "--partition", "even", "--slow", "0.5:60"]) == 0
    said = capsys.readouterr().out
    assert "5 sites by even, 290 patients" in said and "would last" in said and "60 s" in said
    assert told["noise"] is None and "Noise" not in said
    asked = {"recipe": "secure_sum", "epsilon": 9, "expected_patients": 70, "noise_multiplier": 1.5, "all_honest": 7}
    epochs = {**study.training.model_dump(), "epochs": 1, "batch_size": 0}
    noised = command.document(replace(found, plan=Plan.of(secure(study, privacy=asked, training=epochs))), Wanted())
    within = {"stratified_concordance": {"value": 0.7, "low": 0.6, "high": 0.8}}
    last = {**noised["rounds"][-1], "figures": {**within, "concordance": {"value": 0.71, "low": 0.6, "high": 0.8}}}
    command.show({**told, "rounds": [{**one, "figures": within} for one in noised["rounds"][:-1]] + [last]})
    said = capsys.readouterr().out
    assert "0.710 (" in said and "one class only" not in said, "over hospitals it is computed in the last round alone"
    command.show(noised)
    assert noised["noise"]["multiplier"] == 1.5 and "Noise was added to the model on" in capsys.readouterr().out
    one = ["simulate", str(tmp_path / "study.yaml"), "--mapping", str(tmp_path / "west" / "mapping.yaml")]
    assert app.run([*one, "--sites", "3", "--partition", "label:1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sites"]["patients"] == 130
    assert app.run([*one, "--hospitals", str(tmp_path)]) == 5
    assert "give either --hospitals FOLDER or --mapping FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        ({"name": "fedavg"}, ""),
        ({"name": "fedper", "options": {"layers": ["weights"]}}, "The model of the run is the common one"),
        ({"name": "ifca"}, "The model of the run is the first of these"),
    ],
)
def test_figures_of_another_model_than_the_one_that_is_written_are_said_to_be(
    study: Study, make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], strategy: Any, said: str
) -> None:
    make(north=(60, None), south=(60, None))
    (tmp_path / "study.yaml").write_text(changed(study, strategy=strategy, rounds=1).model_dump_json())
    assert app.run(["simulate", str(tmp_path / "study.yaml"), "--hospitals", str(tmp_path)]) == 0
    words = capsys.readouterr().out
    assert said in words and ("Figures are of the one" in words or "that each hospital uses" in words) is bool(said)


def test_a_turn_keeps_nothing_that_a_later_one_needs(study: Study, make: Make, tmp_path: Path) -> None:
    """What a strategy keeps lies in one file for each site, whatever the number of rounds."""
    hospitals = make(north=(90, None), south=(70, None))
    plan, weights = freeze(changed(study, strategy={"name": "scaffold"}, rounds=4))
    local.run(plan, weights, local.tables(plan.study, hospitals, tmp_path / "run"), tmp_path / "run", "sums-1")
    kept = sorted(path.name for path in (tmp_path / "run").glob("memory-*"))
    assert kept == ["memory-north-4", "memory-south-4"]
