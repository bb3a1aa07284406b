"""From a study file's epsilon to noise in the plan: the table of privacy loss, calibration, and what is refused."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from consilium import plugins, studyfile
from consilium.api import freeze
from consilium.core.errors import Refused, StudyInvalid
from consilium.core.study import Plan, Study
from consilium.privacy.accountant import Sampled, curve, epsilon, tight
from consilium.privacy.layout import Layout
from consilium.privacy.mechanism import Mechanism, pinned, rounded_up
from consilium.privacy.quantize import Noised
from consilium.site import budget
from consilium.site.ledger import cost_of

WHEEL = "sha256:" + "ab" * 32
ASKED = {"recipe": "secure_sum", "epsilon": 8.0, "delta": 1e-4, "expected_patients": 100}
ALONE = {"noise": "at_each_hospital"}
TABLE = [
    # rate, noise, steps: epsilon at delta 1e-5 by privacy loss distributions, and by Renyi orders; where the least is
    # at an order between integers, that of the exact divergence (see test_accountant)
    (0.0025, 1.3, 6000, 0.640111, 0.724223),
    (0.01, 1.1, 6000, 3.899771, 4.246599),
    (256 / 60000, 1.1, 14062, 2.381686, 2.596556),
    (0.04, 1.5, 2250, 6.768787, 7.329111),
    (0.1, 1.0, 100, 7.046603, 7.899255),
    (0.2, 2.0, 200, 7.372283, 8.010305),
    (1.0, 10.0, 100, 4.377178, 4.728507),
    (1.0, 5.0, 50, 6.572970, 7.077392),
]


def written(folder: Path, privacy: dict[str, Any], **changes: Any) -> Path:
    """A study file with this `privacy`, and `changes` to other keys, on a line of its own each."""
    given = {**yaml.safe_load(studyfile.template("heart")), "quorum": 4, "rounds": 30, **changes, "privacy": privacy}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(given, sort_keys=False))
    return path


def asked(folder: Path, **privacy: Any) -> Study:
    return studyfile.read(written(folder, {**ASKED, **privacy}))


@pytest.mark.parametrize(("rate", "noise", "steps", "by_loss", "by_renyi"), TABLE)
def test_the_table_comes_out_of_a_study_file_and_its_plan(
    tmp_path: Path, rate: float, noise: float, steps: int, by_loss: float, by_renyi: float
) -> None:
    privacy = {**ASKED, "epsilon": 20.0, "delta": 1e-5, "sampling": rate, "noise_multiplier": noise}
    plan, _ = freeze(studyfile.read(written(tmp_path, privacy, rounds=steps)))
    mechanism = Mechanism.of(Plan.load(plan.payload).study)
    assert mechanism is not None and mechanism.prove() == mechanism
    assert tight(mechanism.event(), mechanism.delta) == pytest.approx(by_loss, abs=1e-4)
    assert epsilon(mechanism.rdp(), mechanism.delta) == pytest.approx(by_renyi, abs=1e-4)
    # four hospitals open a sum with three, of which one colludes: two shares are the promise, four are there
    assert mechanism.together().noise == pytest.approx(noise * math.sqrt(2))
    assert mechanism.all_honest == rounded_up(tight(mechanism.together(), mechanism.delta)) < by_loss


@pytest.mark.parametrize(("rate", "noise", "steps", "by_loss", "by_renyi"), TABLE[1:4])
def test_at_each_hospital_a_round_is_as_many_steps_as_pass_over_its_patients(
    tmp_path: Path, rate: float, noise: float, steps: int, by_loss: float, by_renyi: float
) -> None:
    """The same table: what counts is how many steps there are, and not how they are spread over rounds."""
    passes = round(1 / rate)
    rounds, rest = divmod(steps, 2 * passes)
    assert rest <= passes, "the row can be had, all but, in whole rounds of two passes"
    privacy = {
        "recipe": "plain", "noise": "at_each_hospital", "epsilon": 20.0, "delta": 1e-5, "sampling": rate,
        "noise_multiplier": noise, "expected_patients": 100,
    }  # fmt: skip
    asked = written(tmp_path, privacy, rounds=rounds, training={"epochs": 2}, strategy={"name": "fedprox"})
    plan, _ = freeze(studyfile.read(asked))
    mechanism = Mechanism.of(Plan.load(plan.payload).study)
    assert mechanism is not None and mechanism.prove() == mechanism
    assert (mechanism.rounds, mechanism.steps) == (rounds, 2 * passes)
    wanted = by_loss if rest == 0 else tight(Sampled(noise, rate, steps - rest), 1e-5)
    assert tight(mechanism.event(), mechanism.delta) == pytest.approx(wanted, abs=1e-4)
    assert mechanism.together() == mechanism.event() and mechanism.all_honest == mechanism.epsilon == 20.0
    assert mechanism.bound == 1.0, "gradients are summed, and not steps"
    cost = cost_of(plan.study)
    assert cost is not None and cost.rounds == rounds and np.array_equal(cost.each.curve, cost.honest.curve)
    assert np.allclose(cost.whole.curve, mechanism.rdp())
    if rest == 0:
        assert cost.whole.epsilon(1e-5) == pytest.approx(by_renyi, abs=1e-4)


@pytest.mark.long
def test_at_each_hospital_the_least_noise_is_found_for_all_steps_and_no_claim_is_believed(tmp_path: Path) -> None:
    privacy = {"noise": "at_each_hospital", "epsilon": 8.0, "delta": 1e-4, "expected_patients": 100}
    plan, _ = freeze(studyfile.read(written(tmp_path, privacy, rounds=10, training={"epochs": 3})))
    found = plan.study.privacy
    assert found.noise_multiplier == pytest.approx(2.975, abs=1.5e-3), "thirty steps with everybody, as in D1's table"
    assert found.all_honest is None, "whether others are honest is no matter"
    assert freeze(plan.study)[0].digest == plan.digest
    greedy = plan.study.model_copy(update={"privacy": found.model_copy(update={"epsilon": 7.9})})
    longer = plan.study.model_copy(update={"training": plan.study.training.model_copy(update={"epochs": 4})})
    for claimed in (greedy, longer):
        mechanism = Mechanism.of(claimed)
        assert mechanism is not None
        with pytest.raises(Refused, match="noise gives"):
            mechanism.prove()


WHOLE = {"unit": "hospital", "expected_patients": None}


@pytest.mark.parametrize(("noise", "steps", "by_loss", "by_renyi"), [row[1:] for row in TABLE[6:]])
def test_for_hospitals_as_a_whole_the_same_table_holds_and_patients_are_charged_for_twice_the_distance(
    tmp_path: Path, noise: float, steps: int, by_loss: float, by_renyi: float
) -> None:
    privacy = {**ASKED, **WHOLE, "epsilon": 20.0, "delta": 1e-5, "noise_multiplier": noise, "clip_quantile": 0.5}
    asked = written(tmp_path, privacy, rounds=steps, quorum=120, training={"epochs": 3}, strategy={"name": "fedprox"})
    plan, _ = freeze(studyfile.read(asked))
    mechanism = Mechanism.of(Plan.load(plan.payload).study)
    assert mechanism is not None and mechanism.prove() == mechanism and mechanism.bound == 1.0
    assert tight(mechanism.event(), mechanism.delta) == pytest.approx(by_loss, abs=1e-4)
    assert epsilon(mechanism.rdp(), mechanism.delta) == pytest.approx(by_renyi, abs=1e-4)
    assert mechanism.together().noise == pytest.approx(noise * math.sqrt(120 / 80)), "81 open, one of whom colludes"
    cost = cost_of(plan.study)
    assert cost is not None and cost.rounds == steps
    assert np.allclose(cost.whole.curve, 4 * mechanism.rdp()), "half the noise: four times the divergence"
    assert cost.epsilon == pytest.approx(cost.whole.epsilon(1e-5)) and cost.epsilon > 2 * by_loss


def test_the_number_of_hospitals_below_the_bound_takes_its_part_of_the_noise(tmp_path: Path) -> None:
    """Andrew et al. 2021, theorem 1, by numbers: the count has a deviation of 10, and z is 1: changes get 1.00125."""
    asked = {**ASKED, **WHOLE, "noise_multiplier": 1.0, "all_honest": 50.0, "epsilon": 50.0, "clip_quantile": 0.5}
    plan = studyfile.read(written(tmp_path, asked, quorum=200, rounds=2))
    mechanism = Mechanism.of(plan)
    assert mechanism is not None and mechanism.counting == 20.0
    sums = Layout.of(plan, "TRAIN", ("F64", 3), {}, 250, plugins.sums_of(plan, "TRAIN", 3)).encodings
    shares = [one.share for name in ("update", "within") if isinstance(one := sums[name], Noised)]
    honest = math.sqrt(167 - 1)  # of 250 who hold keys 167 open it, of whom one colludes
    assert shares == pytest.approx([mechanism.of_update / honest, 20.0 / honest])
    assert mechanism.of_update == pytest.approx(1.0012523, abs=1e-7)
    parts = sum(curve(Sampled(noise, 1.0, 1)) for noise in (mechanism.of_update, mechanism.counting))
    assert np.allclose(parts, curve(Sampled(1.0, 1.0, 1))), "both together are one mechanism of the promised noise"
    fixed = Mechanism.of(studyfile.read(written(tmp_path, {**asked, "clip_quantile": None}, quorum=200, rounds=2)))
    assert fixed is not None and fixed.of_update == 1.0


@pytest.mark.long
def test_few_hospitals_get_an_epsilon_that_bounds_little_or_no_count(tmp_path: Path) -> None:
    """Fifty rounds of ten hospitals: the noise that the design page names, at its own delta and at a sensible one."""
    assert tight(Sampled(2.34, 1.0, 50), 10**-1.1) == pytest.approx(8.0, abs=0.05)
    assert tight(Sampled(2.34, 1.0, 50), 1e-5) == pytest.approx(16.8, abs=0.05)
    few = {**ASKED, **WHOLE, "epsilon": 17.0, "delta": 1e-5, "noise_multiplier": 2.34}
    mechanism = Mechanism.of(pinned(studyfile.read(written(tmp_path, few, quorum=10, rounds=50))))
    assert mechanism is not None and mechanism.prove().of_update == 2.34
    with pytest.raises(StudyInvalid, match="10 hospitals are too few to count"):
        pinned(studyfile.read(written(tmp_path, {**few, "clip_quantile": 0.5}, quorum=10, rounds=50)))


@pytest.mark.parametrize(("wanted", "noise"), [(8.0, 2.975), (2.0, 9.499), (0.5, 32.282)])
def test_a_plan_holds_the_least_noise_that_gives_its_epsilon(tmp_path: Path, wanted: float, noise: float) -> None:
    plan, _ = freeze(asked(tmp_path, epsilon=wanted))
    found = plan.study.privacy
    assert found.noise_multiplier == pytest.approx(noise, abs=1.5e-3)
    assert tight(Sampled(found.noise_multiplier, 1.0, 30), 1e-4) <= wanted
    assert tight(Sampled(found.noise_multiplier * 0.9997, 1.0, 30), 1e-4) > wanted
    again, _ = freeze(plan.study)
    assert again.digest == plan.digest, "what is pinned stays, and is found alike anywhere"


def test_each_share_is_enough_for_the_cohort_as_it_is(tmp_path: Path) -> None:
    mechanism = Mechanism.of(pinned(asked(tmp_path, noise_multiplier=4.0)))
    assert mechanism is not None
    for sites, honest in ((3, 2), (4, 2), (5, 3), (10, 6), (30, 20)):
        assert mechanism.shares(sites).of_one(4.0) == pytest.approx(4.0 / math.sqrt(honest))
    assert mechanism.shares() == mechanism.shares(4)
    assert replace(mechanism, min_sites=5).shares(5).of_one(4.0) == 2.0, "five open it, where four would do"
    assert mechanism.bound == 0.5, "one patient's clipped gradient, times the learning rate"


def test_what_all_hospitals_add_is_the_claim_of_a_cohort_of_a_quorum_and_the_promise_of_others(
    tmp_path: Path,
) -> None:
    """By the shares as they are added: the second figure is of a quorum that holds keys, and of no larger cohort."""
    study = pinned(asked(tmp_path))
    made = Mechanism.of(study)
    assert made is not None
    added = {sites: made.shares(sites).of_one(made.noise) * math.sqrt(sites) for sites in range(study.quorum, 40)}
    assert added[study.quorum] == pytest.approx(made.together().noise) and min(added.values()) > made.noise
    assert tight(Sampled(added[10], made.rate, made.rounds), made.delta) > made.all_honest


def test_a_plan_that_claims_too_much_is_found_out(tmp_path: Path) -> None:
    known = pinned(asked(tmp_path))
    for change in ({"epsilon": 7.98}, {"all_honest": 1.0}, {"noise_multiplier": 2.9}, {"sampling": 1.0, "delta": 1e-6}):
        claimed = known.model_copy(update={"privacy": known.privacy.model_copy(update=change)})
        mechanism = Mechanism.of(Plan.load(Plan.of(claimed).payload).study)
        assert mechanism is not None
        with pytest.raises(Refused, match="noise gives"):
            mechanism.prove()
    with pytest.raises(Refused, match="noise gives"):
        pinned(asked(tmp_path, noise_multiplier=2.9))


def test_without_an_epsilon_there_is_no_mechanism_and_without_noise_no_plan(tmp_path: Path) -> None:
    plain = studyfile.read(written(tmp_path, {"recipe": "secure_sum"}))
    assert Mechanism.of(plain) is None and pinned(plain) is plain
    with pytest.raises(StudyInvalid, match="submit the study again"):
        Mechanism.of(asked(tmp_path))


@pytest.mark.parametrize(
    ("privacy", "changes", "key", "words"),
    [
        ({"recipe": "plain"}, {}, "recipe:", "only add up in a secure sum"),
        ({}, {"strategy": {"name": "fedprox"}}, "name: fedprox", "fedprox is not possible under `epsilon`"),
        ({}, {"training": {"epochs": 2}}, "epochs:", "each round is one step"),
        ({}, {"training": {"batch_size": 32}}, "batch_size:", "draw patients with `privacy.sampling`"),
        ({"expected_patients": None}, {}, "epsilon:", "a public estimate"),
        ({"delta": 0.0025}, {}, "delta:", "below 1/400"),
        ({"colluding": 2}, {}, "colluding:", "fewer than two honest hospitals of the 3"),
        ({"epsilon": None, "noise_multiplier": 1.0}, {}, "noise_multiplier:", "needs `privacy.epsilon`"),
        ({}, {"model": {"kind": "their-own"}}, "kind:", "their-own is not possible"),
        ({}, {"model": {"kind": "torch", "architecture": "a", "wheel": WHEEL}}, "wheel:", "what foreign code adds up"),
        ({"recipe": "plain"}, {}, "recipe:", "noise: at_each_hospital"),
        ({"noise_multiplier": 0.19}, {}, "noise_multiplier:", "0.2"),
        ({"noise_multiplier": 1.1e6}, {}, "noise_multiplier:", "1000000"),
        ({**ALONE, "epsilon": None}, {}, "noise:", "needs `privacy.epsilon`"),
        ({**ALONE, "delta": 0.01}, {}, "delta:", "below 1/100"),
        ({**ALONE, "most_patients": 99}, {}, "expected_patients:", "more than the 99"),
        ({"unit": "hospital", "epsilon": None}, {}, "unit:", "needs `privacy.epsilon`"),
        ({"unit": "hospital", "recipe": "plain"}, {}, "recipe:", "only add up in a secure sum"),
        ({"unit": "hospital", **ALONE}, {}, "noise:", "nothing of one would be left"),
        ({"unit": "hospital"}, {"strategy": {"name": "scaffold"}}, "name:", "scaffold is not possible"),
        ({"unit": "hospital", "sampling": 0.5}, {}, "sampling:", "hospitals are not drawn"),
        ({"unit": "hospital", "delta": 0.3}, {}, "delta:", "below 1/4: one over all hospitals"),
        ({"clip_quantile": 0.5}, {}, "clip_quantile:", "is for `unit: hospital`"),
        (
            {},
            {"model": {"kind": "torch", "architecture": "mlp", "options": {"dropout": 0.1}}},
            "dropout:",
            "of all others",
        ),
        (ALONE, {"training": {"batch_size": 32}}, "batch_size:", "draw patients with `privacy.sampling`"),
        (ALONE, {"model": {"kind": "their-own"}}, "kind:", "their-own is not possible"),
        (
            ALONE,
            {"model": {"kind": "torch", "architecture": "a", "wheel": WHEEL}},
            "wheel:",
            "what foreign code adds up",
        ),
    ],
)
def test_what_noise_cannot_bound_is_refused_at_its_line(
    tmp_path: Path, privacy: dict[str, Any], changes: dict[str, Any], key: str, words: str
) -> None:
    path = written(tmp_path, {**ASKED, **privacy}, **changes)
    with pytest.raises(StudyInvalid) as error:
        studyfile.read(path)
    line = int(error.value.message.split(":")[1])
    assert key in path.read_text().splitlines()[line - 1], error.value.message
    assert words in error.value.message and error.value.message.startswith("study.yaml:")


@pytest.mark.parametrize(("delta", "counts"), [(1e-5, 2.17), (1e-4, 2.54)])
def test_a_budget_counts_more_than_a_study_claims_and_by_its_own_delta(
    tmp_path: Path, delta: float, counts: float
) -> None:
    """As docs/how-to/keep-a-privacy-budget.md has it."""
    cost = cost_of(freeze(asked(tmp_path, epsilon=2.0, delta=delta))[0].study)
    assert cost is not None and (cost.epsilon, cost.delta) == (pytest.approx(2.0), delta)
    assert cost.whole.epsilon(1e-5) == pytest.approx(counts, abs=0.006)
    row = {"asked": cost.epsilon, "at": cost.delta}
    assert budget._asked(row, 1e-5) == ("2" if delta == 1e-5 else "2 at delta 0.0001")
