"""A federation in one process: laws of what it gives. tests/e2e/test_demo.py compares its bytes with a real one."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from consilium.api import freeze
from consilium.core import state as chain
from consilium.core.errors import Conflict, DataUnusable, MappingInvalid
from consilium.core.study import Study
from consilium.core.tensors import flatten
from consilium.simulation import local
from consilium.simulation.baseline import Bench
from consilium.simulation.patients import Patients

Make = Callable[..., dict[str, Path]]


def ran(study: Study, hospitals: dict[str, Path], folder: Path) -> local.Outcome:
    folder.mkdir()
    plan, weights = freeze(study)
    return local.run(plan, weights, local.tables(plan.study, hospitals, folder), folder, "sums-1")


def test_the_order_of_hospitals_does_not_matter(study: Study, make: Make, tmp_path: Path) -> None:
    hospitals = make(north=(90, None), south=(70, None), west=(130, None))
    outcomes = [
        ran(study, dict(order), tmp_path / str(number))
        for number, order in enumerate(itertools.permutations(hospitals.items()))
    ]
    assert len({outcome.digest for outcome in outcomes}) == 1
    assert len({outcome.state.read_bytes() for outcome in outcomes}) == 1
    assert all(outcome.figures == outcomes[0].figures for outcome in outcomes)


def test_a_hospital_alone_gets_its_own_model(study: Study, make: Make, tmp_path: Path) -> None:
    alone = study.model_copy(update={"quorum": 1})
    hospitals = make(north=(120, None))
    outcome = ran(alone, hospitals, tmp_path / "run")
    plan, weights = freeze(alone)
    (work,) = local.works(plan, weights, local.tables(plan.study, hospitals, tmp_path / "run"), tmp_path).values()
    rows = ~work.examples.test
    own = Bench(plan.study, work.trainer, work.like).trained(work.examples.x[rows], work.examples.y[rows])
    np.testing.assert_allclose(chain.read(outcome.state).arrays["model"], flatten(own), rtol=1e-9)


def test_every_hospital_counts_by_its_training_patients(study: Study, make: Make, tmp_path: Path) -> None:
    """One round of one pass from zero: the weighted mean of gradients is the gradient over all patients."""
    one = study.model_copy(
        update={"rounds": 1, "training": study.training.model_copy(update={"epochs": 1}), "quorum": 2}
    )
    hospitals = make(north=(200, None), south=(40, None))
    outcome = ran(one, hospitals, tmp_path / "run")
    plan, weights = freeze(one)
    works = local.works(plan, weights, local.tables(plan.study, hospitals, tmp_path / "run"), tmp_path).values()
    x = np.concatenate([work.examples.x[~work.examples.test] for work in works])
    y = np.concatenate([work.examples.y[~work.examples.test] for work in works])
    gradient = np.column_stack([np.ones(len(x)), x]).T @ (0.5 - y) / len(y)
    step = -one.training.learning_rate * gradient
    np.testing.assert_allclose(chain.read(outcome.state).arrays["model"], step, rtol=1e-12)


def test_a_hospital_with_too_few_patients_takes_no_part(study: Study, make: Make, tmp_path: Path) -> None:
    hospitals = make(north=(90, None), south=(70, None), tiny=(12, None))
    asked = study.model_copy(update={"min_patients": 20})
    assert ran(asked, hospitals, tmp_path / "with").took_part == ("north", "south")
    del hospitals["tiny"]
    assert ran(asked, hospitals, tmp_path / "without").took_part == ("north", "south")


def test_below_quorum_nothing_is_trained(study: Study, make: Make, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="1 hospitals have enough patients, and the study's `quorum` is 2"):
        ran(study, make(north=(90, None), tiny=(8, None)), tmp_path / "run")


def secure(study: Study) -> Study:
    privacy = study.privacy.model_copy(update={"recipe": "secure_sum"})
    return study.model_copy(update={"privacy": privacy, "quorum": 3})


def test_a_secure_sum_gives_the_model_and_the_figures_of_a_plain_one(study: Study, make: Make, tmp_path: Path) -> None:
    hospitals = make(north=(90, None), south=(70, None), west=(130, None))
    plain = ran(study, hospitals, tmp_path / "plain")
    sealed = ran(secure(study), hospitals, tmp_path / "secure")
    models = [chain.read(outcome.state).arrays["model"] for outcome in (plain, sealed)]
    assert 0 < np.max(np.abs(models[0] - models[1])) < 1e-8, "integers were summed, and of sums nothing is lost"
    assert sealed.figures["all"]["auroc"] == plain.figures["all"]["auroc"]
    for site, one in plain.figures["sites"].items():
        assert sealed.figures["sites"][site]["auroc"] == one["auroc"], "of each hospital, too"


def test_the_order_of_hospitals_does_not_matter_in_a_secure_sum(study: Study, make: Make, tmp_path: Path) -> None:
    hospitals = make(north=(90, None), south=(70, None), west=(130, None))
    orders = enumerate((hospitals, dict(reversed(hospitals.items()))))
    assert len({ran(secure(study), order, tmp_path / str(number)).digest for number, order in orders}) == 1


def noised_here(study: Study, recipe: str) -> Study:
    """With all noise at each hospital: two passes in steps of a tenth of the patients, and FedProx."""
    told = study.model_dump()
    privacy = {
        "recipe": recipe, "noise": "at_each_hospital", "epsilon": 20.0, "delta": 1e-3, "expected_patients": 200,
        "sampling": 0.1, "most_patients": 1000, "noise_multiplier": 1.0,
    }  # fmt: skip
    training = {**told["training"], "epochs": 2, "learning_rate": 0.5}
    return Study.model_validate(
        {**told, "privacy": privacy, "training": training, "strategy": {"name": "fedprox"}, "quorum": 3, "rounds": 4}
    )


def test_with_noise_at_each_hospital_a_model_is_learned_and_each_update_has_its_noise(
    study: Study, make: Make, tmp_path: Path
) -> None:
    """In both recipes: nothing but noised changes and the plan's weight leaves a round of training."""
    hospitals = make(north=(300, None), south=(270, None), west=(330, None))
    for recipe in ("plain", "secure_sum"):
        folder = tmp_path / recipe
        outcome = ran(noised_here(study, recipe), hospitals, folder)
        assert outcome.figures["all"]["auroc"]["value"] > 0.85
        again = ran(noised_here(study, recipe), hospitals, tmp_path / f"{recipe}-again")
        models = [np.array(chain.read(one.state).arrays["model"]) for one in (outcome, again)]
        assert np.abs(models[0] - models[1]).min() > 1e-6, "chance is fresh in every run"
    plan, weights = freeze(noised_here(study, "plain"))
    works = local.works(plan, weights, local.tables(plan.study, hospitals, tmp_path / "plain"), tmp_path)
    with (tmp_path / "begun").open("wb") as out:
        chain.begin(works["north"].strategy, weights, "sums-1", out)
    north = works["north"]
    updates = [north.train(tmp_path / "begun", 1, bytes([key]) * 32).segments for key in range(40)]
    assert all(one.keys() == {"update", "weight"} and one["weight"] == 200.0 for one in updates)
    # Twenty steps with noise: of one patient each step says so little that a whole round moves by chance above all.
    step = plan.study.training.learning_rate * plan.study.privacy.noise_multiplier / (0.1 * 200)
    spread = np.std([one["update"] / 200.0 for one in updates], axis=0)
    assert np.all(spread > 0.5 * step * np.sqrt(20)), "noise is added in every step"
    assert north.evaluate(tmp_path / "begun").segments["weight"] == 200.0, "as the plan says, at the end, too"


@pytest.mark.long
@pytest.mark.long
def test_for_hospitals_as_a_whole_a_model_is_learned_under_a_bound_that_moves(
    study: Study, make: Make, tmp_path: Path
) -> None:
    """Twelve small hospitals, several passes, and noise that a dozen can bear: an epsilon of hygiene."""
    hospitals = make(**{f"site-{number}": (40, None) for number in range(12)})
    told = study.model_dump()
    privacy = {
        "unit": "hospital", "epsilon": 100.0, "delta": 1e-3, "clip_norm": 20.0, "clip_quantile": 0.5,
        "noise_multiplier": 0.4,
    }  # fmt: skip
    asked = Study.model_validate({**told, "privacy": privacy, "quorum": 9, "rounds": 8})
    outcome = ran(asked, hospitals, tmp_path / "run")
    state = chain.read(outcome.state).arrays
    assert outcome.figures["all"]["auroc"]["value"] > 0.8
    assert state["bound"].size == 1 and 5.0 < state["bound"][0] < 19.0, "all were far below it at first"
    plan, weights = freeze(asked)
    works = local.works(plan, weights, local.tables(plan.study, hospitals, tmp_path / "run"), tmp_path)
    site = works["site-0"]
    with (tmp_path / "begun").open("wb") as out:
        chain.begin(site.strategy, weights, "sums-1", out)
    update = site.train(tmp_path / "begun", 1).segments
    assert update.keys() == {"update", "weight", "within"}, "no figure, and no number of patients"
    assert np.linalg.norm(update["update"]) <= 1 and update["within"] == 0.5 and update["weight"] == 1


def test_an_error_of_a_mapping_or_of_rows_names_the_hospital_of_several(
    study: Study, make: Make, tmp_path: Path
) -> None:
    hospitals = make(north=(60, None), south=(60, None), west=(60, None))
    said, rows = hospitals["south"].read_text(), hospitals["west"].parent / "table.csv"
    for wrong in (said.replace("column: x,", "column: xx,"), said.replace("  x:", "  xx:").replace("{x:", "{xx:")):
        hospitals["south"].write_text(wrong)
        for read in (lambda these: Patients.read(study, these), lambda these: local.tables(study, these, tmp_path)):
            with pytest.raises(MappingInvalid) as error:
                read(hospitals)
            assert all(line.startswith("south: ") for line in error.value.message.splitlines())
            with pytest.raises(MappingInvalid) as alone:
                read({"all": hospitals["south"]})
            assert "all: " not in alone.value.message
    hospitals["south"].write_text(said)
    rows.write_text(rows.read_text().replace("p7,", "p6,"))
    with pytest.raises(DataUnusable, match=r"^west: .*more than one row"):
        Patients.read(study, hospitals)


def test_a_folder_without_hospitals_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match="holds no hospital"):
        local.mappings(tmp_path)


LOOKING = {
    "fedavg": {}, "qfedavg": {}, "afl": {}, "ditto": {}, "ifca": {"clusters": 2}, "newton": {}, "prepared": {},
}  # fmt: skip
"""Strategies that look at patients: for training, for a loss by which hospitals weigh, for a choice, for sums."""


@pytest.mark.parametrize("name", LOOKING)
def test_held_out_patients_change_no_bit_of_the_model(study: Study, make: Make, tmp_path: Path, name: str) -> None:
    """No strategy, no weight, no choice and no preparation sees them: they are judged, and that is all."""
    wanted = study.model_dump(mode="json")
    wanted |= {"rounds": 3, "strategy": {"name": "fedavg" if name == "prepared" else name, "options": LOOKING[name]}}
    wanted["prepare"] = {"numbers": "standardise"} if name == "prepared" else None
    (tmp_path / "tables").mkdir()
    plan, weights = freeze(Study.model_validate(wanted))
    tables = local.tables(plan.study, make(north=(90, None), south=(70, None)), tmp_path / "tables")
    before = local.run(plan, weights, tables, tmp_path / "tables", "sums-1")
    for table in tables.values():
        arrays = dict(np.load(table.path))
        test = arrays["test"]
        arrays["label"][test] = 1 - arrays["label"][test]
        arrays["feature/x"][test] = -3.5
        with table.path.open("wb") as file:
            np.savez(file, **arrays)
    (tmp_path / "again").mkdir()
    after = local.run(plan, weights, tables, tmp_path / "again", "sums-1")
    assert after.digest == before.digest and after.took_part == before.took_part
    assert after.figures["all"] != before.figures["all"], "they are judged"


def test_the_last_round_tells_the_same_under_a_secure_sum(study: Study, make: Make, tmp_path: Path) -> None:
    hospitals = make(north=(300, None), south=(300, None), west=(300, None))
    plain = ran(study, hospitals, tmp_path / "plain").figures["evaluation"]
    sealed = ran(secure(study), hospitals, tmp_path / "secure").figures["evaluation"]
    assert plain["all"]["n"] == sealed["all"]["n"] > 200 and plain["all"]["thresholds"] and plain["all"]["cuts"]
    assert plain["all"]["figures"].keys() - sealed["all"]["figures"] == {"stratified_auroc"}
    for name, found in sealed["all"]["figures"].items():
        one = plain["all"]["figures"][name]
        assert (found["value"], found["low"], found["high"]) == pytest.approx(
            (one["value"], one["low"], one["high"]), abs=1e-6
        ), name


def test_a_study_may_ask_for_the_headline_alone(study: Study, make: Make, tmp_path: Path) -> None:
    headline = study.model_copy(update={"evaluation": study.evaluation.model_copy(update={"figures": "headline"})})
    outcome = ran(headline, make(north=(90, None), south=(70, None)), tmp_path / "run")
    assert outcome.figures["evaluation"] is None and outcome.figures["all"]["auroc"]["value"] > 0.7
