"""A plan in plain words holds everything that a data steward decides on."""

from datetime import date
from typing import Any, get_args

import pytest

from consilium import studyfile
from consilium.core.gate import Kind
from consilium.core.study import Plan
from consilium.governance import declarable
from consilium.governance.approvals import WEAKER, weaker
from consilium.governance.learning import learns, protects
from consilium.governance.policy import Policy
from consilium.governance.words import explain
from unit.governance.conftest import WHEEL, by_time, make


def test_everything_that_is_decided_on_stands_in_the_words() -> None:
    study = make(
        model={"kind": "torch", "architecture": "their-network", "wheel": WHEEL},
        strategy={"name": "fedadam"},
        rounds=37,
        min_patients=91,
        training={"epochs": 13},
        evaluation={"test_fraction": 0.25},
    )
    purpose = study.purpose.model_copy(update={"expires": date(2031, 5, 4)})
    plan = Plan.of(study.model_copy(update={"purpose": purpose}))
    told = explain(plan)
    wanted = [
        study.title, study.name, study.purpose.requester, study.purpose.code, study.purpose.text, "torch",
        "their-network", WHEEL, "fedadam", "37 rounds", "13 passes", "25%", "fewer than 91", "2031-05-04", plan.digest,
        study.contract.label.meaning, "held out", "No record of a patient leaves",
    ]  # fmt: skip
    wanted += [WEAKER[mode] for mode in weaker(plan)]
    for feature in study.contract.features:
        wanted += [feature.id, feature.meaning, *(feature.categories or {}).values()]
        if feature.range is not None:
            wanted += [f"{feature.range[0]:g} to {feature.range[1]:g} {feature.unit}"]
    assert [words for words in wanted if words not in told] == []


def test_who_can_learn_what_is_said_for_every_recipe_with_the_numbers_of_the_plan() -> None:
    plain, secure = make(privacy={"recipe": "plain"}), {"recipe": "secure_sum"}
    assert "each hospital's changes of the model" in learns(plain) and "opened sum" not in learns(plain)
    for quorum in (3, 4, 5, 10):
        told = learns(make(privacy=secure, quorum=quorum))
        assert f"sums over at least {quorum} hospitals" in told
        assert f"honest hospitals in any opened sum: {quorum - 1}. " in told
        assert f"With fewer than {quorum} hospitals a round waits." in told
    assert "at least 6 hospitals" in learns(make(privacy={**secure, "min_sites": 6}, quorum=6))
    for study in (plain, make(privacy=secure)):
        assert explain(Plan.of(study)).count(learns(study)) == 1 and "\n" not in learns(study)
    assert "each hospital must" not in learns(plain) and WEAKER["plain"] in explain(Plan.of(plain))
    assert WEAKER["plain"] not in explain(Plan.of(make(privacy=secure)))


def test_under_an_epsilon_both_figures_and_what_they_do_not_cover_are_said() -> None:
    privacy = {
        "recipe": "secure_sum", "epsilon": 3.25, "delta": 1e-6, "expected_patients": 70, "noise_multiplier": 7.125,
        "all_honest": 2.0625, "sampling": 0.375, "clip_norm": 1.75, "colluding": 2,
    }  # fmt: skip
    study = make(privacy=privacy, quorum=7, training={"epochs": 1}, rounds=31)
    told, plain = learns(study), learns(make(quorum=7))
    for words in (
        "epsilon 3.25 at delta 1e-06", "as long as all but 2 of", "epsilon 2.0625 while 7 hospitals hold keys",
        "one patient is added or removed", "figures of held-out patients, which leave once", "add up",
    ):  # fmt: skip
        assert words in told and words not in plain, words
    assert "no noise is added" in plain and "no noise is added" not in told and "\n" not in told
    changing = "in one round and not in the next"
    assert changing in plain and changing not in told
    assert changing not in learns(make(quorum=3, sites=["east", "north", "west"])), "nobody may be missing"
    whole = explain(Plan.of(study))
    for words in ("chance of 0.375", "norm of 1.75", "7.125 times", "31 rounds", "no number of training patients"):
        assert words in whole and words not in explain(Plan.of(make(quorum=7))), words
    assert "epsilon 3.25 at delta 1e-06" in protects(study) and "2.0625" in protects(study)
    assert "epsilon" not in protects(make(quorum=7))


NOISE = {"epsilon": 3.25, "delta": 1e-6, "expected_patients": 70, "sampling": 0.5, "clip_norm": 1.0}


@pytest.mark.parametrize(("noise", "recipe"), [
    (None, "plain"), (None, "secure_sum"), ({}, "secure_sum"), ({"unit": "hospital", "sampling": 1.0}, "secure_sum"),
    ({"noise": "at_each_hospital"}, "plain"), ({"noise": "at_each_hospital"}, "secure_sum"),
])  # fmt: skip
def test_what_a_check_tells_agrees_with_what_else_is_promised(noise: dict[str, Any] | None, recipe: str) -> None:
    privacy = {"recipe": recipe, **({} if noise is None else {**NOISE, **noise})}
    asked: dict[str, Any] = {"privacy": privacy, "quorum": 4, "training": {"epochs": 1}}
    study, bare = make(**asked, gate={}), make(**asked, gate="none")
    told, found = explain(Plan.of(study)), "whether its data pass the check, and which kinds of findings"
    assert "Whether the data pass the study's check" in told
    for words in ("number of training patients in tens", "what percent of patients", "tell_flow"):
        assert (words in told) is (noise is None), words
    assert ("No percent and no number of patients is told" in told) is (noise is not None)
    assert (found in learns(study)) is (noise is not None) and found not in explain(Plan.of(bare))
    assert ("their data pass the check" in protects(study)) is (noise is not None)
    assert "pass the check" not in protects(bare)
    own = "what such a sum says of it, and what it tells of its check"
    assert (own in told) is (recipe == "secure_sum") and own not in explain(Plan.of(bare))


def test_what_a_gate_lets_pass_that_blocks_elsewhere_is_named_and_one_that_lets_all_pass_is_none() -> None:
    usual = explain(Plan.of(make(gate={"unmapped_max": 0.01, "advisory": ["sparse"]})))
    assert "Told alone" not in usual and "More than usual" not in usual and "pass no check" not in usual
    softer = explain(Plan.of(make(gate={"advisory": ["unit", "label-codes", "sparse"], "out_of_range_max": 0.5})))
    assert "in a study that does not say otherwise: label-codes, unit." in softer and "pass no check" not in softer
    assert "let pass: values out of range of up to 50% of the patients (else 20%)." in softer
    kinds = [kind for kind in get_args(Kind) if kind != "few-patients"]
    limits = {"unmapped_max": 1, "not_a_number_max": 1, "out_of_range_max": 1}
    by_limits = [kind for kind in kinds if kind not in ("not-a-number", "bound", "unread", "out-of-range")]
    for gate in ({"advisory": kinds}, {"advisory": by_limits, **limits}):
        told = explain(Plan.of(make(gate=gate)))
        assert "The data need pass no check before a round: nothing that is found in them blocks." in told
        assert "Values in a wrong unit, or with a wrong code, would be learned from" in told
    assert "let pass: codes without meaning of up to 100% of the patients (else 5%); values that are no numbers" in told
    assert "pass no check" not in explain(
        Plan.of(make(gate={"advisory": by_limits, **limits, "out_of_range_max": 0.9}))
    )


def test_with_noise_at_each_hospital_nobody_need_be_trusted_and_it_is_said_what_leaves_without_any() -> None:
    privacy = {
        "noise": "at_each_hospital", "epsilon": 3.25, "delta": 1e-6, "expected_patients": 70, "noise_multiplier": 7.125,
        "sampling": 0.25, "clip_norm": 1.75,
    }  # fmt: skip
    changes = {"training": {"epochs": 3}, "rounds": 31, "quorum": 3}
    plain, secure = (make(privacy={**privacy, "recipe": recipe}, **changes) for recipe in ("plain", "secure_sum"))
    for study in (plain, secure):
        told = learns(study)
        for words in (
            "epsilon 3.25 at delta 1e-06, whoever sees it", "even if the coordinator and all other hospitals work",
            "one patient is added or removed", "figures of held-out patients, which leave once", "add up",
        ):  # fmt: skip
            assert words in told, words
        assert "no noise is added" not in told and "hospitals in an opened sum add their" not in told
        whole = explain(Plan.of(study))
        for words in (
            "each of the 12 steps of a round", "chance of 0.25", "norm of 1.75", "7.125 times", "all the noise",
            "no number of training patients",
        ):  # fmt: skip
            assert words in whole, words
        assert "epsilon 3.25 at delta 1e-06 (with noise that each hospital added itself)" in protects(study)
    assert "of each hospital on its own, histograms" in learns(plain) and "withheld" not in learns(plain)
    assert "sums over at least 3 hospitals" in learns(secure)
    assert WEAKER["plain"] not in explain(Plan.of(plain)), "it is not true that nothing is protected"
    assert "its figures on held-out patients on their own, without noise" in explain(Plan.of(plain))
    assert weaker(Plan.of(plain)) == ("plain",), "and it is accepted by name as ever"


def test_for_hospitals_as_a_whole_it_is_said_that_few_of_them_get_hygiene_and_no_guarantee() -> None:
    privacy = {
        "unit": "hospital", "epsilon": 3.25, "delta": 1e-6, "noise_multiplier": 7.125, "all_honest": 2.0625,
        "clip_norm": 1.75, "clip_quantile": 0.4, "colluding": 2,
    }  # fmt: skip
    few, many = (make(privacy=privacy, quorum=quorum, training={"epochs": 3}, rounds=31) for quorum in (49, 150))
    for study in (few, many):
        told, whole = learns(study), explain(Plan.of(study))
        for words in (
            "of one hospital as a whole", "epsilon 3.25 at delta 1e-06", "as long as all but 2", "twice the distance",
            "that this hospital takes part", f"while {study.quorum} hospitals hold keys",
        ):  # fmt: skip
            assert words in told, words
        for words in ("3 passes", "norm of 1.75 at first", "40% of the hospitals", "7.125 times", "share of noise"):
            assert words in whole, words
        assert "differential privacy per hospital" in protects(study)
    assert "hygiene and not for a guarantee" in learns(few) and "hygiene" in protects(few)
    assert (
        "hygiene" not in learns(many) and "hygiene" not in protects(many) and "150 hospitals and more" in learns(many)
    )


def test_that_groups_may_be_small_is_said_in_review_and_result() -> None:
    secure = make(privacy={"recipe": "secure_sum", "min_sites": 4}, quorum=7)
    grouped = secure.model_copy(update={"strategy": secure.strategy.model_copy(update={"name": "ifca"})})
    told = explain(Plan.of(grouped))
    assert "fewer than 4 hospitals: the sum of a group of one is that hospital's update" in learns(grouped)
    assert WEAKER["small-groups"] in told and learns(grouped) in told and "may have been of one" in protects(grouped)
    assert "group" not in explain(Plan.of(secure)) and "group" not in protects(secure)
    plain = make(privacy={"recipe": "plain"}).model_copy(update={"strategy": grouped.strategy})
    assert "group" not in learns(plain) and "group" not in protects(plain)


def test_the_shipped_study_is_explained_whole() -> None:
    from pathlib import Path

    study = studyfile.read(Path(studyfile.__file__).parent / "examples/heart_disease/study.yaml")
    told = explain(Plan.of(study))
    for feature in study.contract.features:
        assert f"- {feature.id}: {feature.meaning}" in told
    assert "foreign code" not in told and "when its rounds are done" in told


def test_another_plan_has_other_words() -> None:
    assert explain(Plan.of(make())) != explain(Plan.of(make(rounds=21)))


def test_where_the_first_model_comes_from_is_said() -> None:
    seed = make()
    given, drawn = (
        seed.model_copy(update={"model": seed.model.model_copy(update={"start": start})})
        for start in ("given", "drawn")
    )
    told, open_ = explain(Plan.of(seed)), explain(Plan.of(given))
    another = explain(Plan.of(drawn))
    assert "drawn by the study's seed" in another and "may have been over other hospitals" in another
    assert "makes them anew" in another and "drawn by" not in told + open_
    assert "this hospital makes them anew" in told and "made elsewhere" not in told
    assert (
        "a model that was made elsewhere" in open_ and WEAKER["given-model"] in open_ and "makes them anew" not in open_
    )
    untied = given.model_copy(update={"model": given.model.model_copy(update={"untied": True})})
    assert "Nothing ties it to this contract" in explain(Plan.of(untied)) and "Nothing ties it" not in open_


def test_a_graph_that_was_made_elsewhere_is_named_and_so_is_where_it_runs() -> None:
    seed = make()
    change = {
        "model": seed.model.model_copy(update={"kind": "onnx", "start": "given", "options": {
            "inputs": {"X": ["age", "sex=male"]}, "positive": "died\nand not a line of ours",
        }}), "rounds": 0,
        "evaluation": seed.evaluation.model_copy(update={"test_fraction": 1}),
    }  # fmt: skip
    told = explain(Plan.of(seed.model_copy(update=change)))
    assert (
        "A model of kind onnx that was made elsewhere is judged, by the graph of an ONNX file, which runs confined"
        in told
    )
    assert "Its options: inputs (X (age, sex=male)); positive (died and not a line of ours)." in told


def test_an_exact_regression_says_that_counts_follow_from_what_is_summed() -> None:
    for recipe, among in (
        ("plain", "each hospital's sums of first and second"),
        ("secure_sum", "least 3 hospitals: of first"),
    ):
        study = make(privacy={"recipe": recipe}, quorum=3, strategy={"name": "newton"})
        told = explain(Plan.of(study))
        assert among in learns(study) and "how many patients have each two codes together" in told
        assert "changes of the model" not in learns(study) and "passes over" not in told


def test_a_cox_regression_says_that_patients_are_compared_within_their_hospital() -> None:
    label = {"id": "death", "meaning": "death", "type": "time-to-event", "unit": "d", "range": [0, 4000]}
    features = [{"id": "x", "meaning": "x", "type": "number", "unit": "1", "range": [0, 9]}]
    about = {"contract": {"id": "survival", "features": features, "label": label}, "model": {"kind": "cox"}}
    exact = make(**about, strategy={"name": "newton"}, quorum=3)
    told = explain(Plan.of(exact))
    assert "each hospital compares its own patients with one another" in learns(exact) and "two codes" not in told
    assert "or until when it had not happened" in told and "scores order as their times do" in told
    assert "histograms" not in told and "changes of the model" not in told
    spans, less = (
        "a time and a score in each of 128 by 200 spans",
        make(**about, strategy={"name": "newton"}, quorum=3, evaluation={"figures": "headline"}),
    )
    assert spans in learns(exact) and told.count(spans) == 2 and "of a training patient" in told
    assert spans not in explain(Plan.of(less))
    averaged = make(**about, quorum=3)
    assert "changes of the model, numbers of patients and numbers of pairs" in learns(averaged)
    assert "first and second derivatives of the log partial" in learns(make(
        **about, strategy={"name": "newton"}, privacy={"recipe": "plain"}
    ))  # fmt: skip


def test_sums_by_time_say_which_cells_are_hidden_and_that_those_of_features_are_not() -> None:
    for least, hidden, open_ in ((None, "at least 5 patients", False), (9, "at least 9 patients", False),
                                 (3, "at least 3 patients", True), (1, "", True)):  # fmt: skip
        plan = Plan.of(by_time(least))
        told = explain(plan)
        assert (hidden or "have a code") in told and ("Times are put into groups" in told) is bool(hidden)
        assert ("of a single one, the time and each feature follow" in told) is open_
        assert ("cells of times of fewer than five" in protects(plan.study)) is open_
        assert ("a time and a score in each" in told) is (least == 1), "held-out patients are hidden as others are"
        assert weaker(plan) == (("small-cells",) if open_ else ()) and (WEAKER["small-cells"] in told) is open_
        assert "that may be one patient" in told and "Sums over training patients by groups of times" in told


def test_which_records_are_read_who_is_left_out_and_what_a_check_tells_stand_in_the_words() -> None:
    age = {"id": "age", "meaning": "age", "type": "number", "unit": "a", "range": [0, 120]}
    codes = [{"system": "http://loinc.org", "code": "2160-0"}]
    creatinine = {**age, "id": "crea", "unit": "mg/dL", "codes": codes, "window": ["-6h", None], "aggregate": "max"}
    label = {"id": "died", "meaning": "died", "type": "binary", "maturity_days": 30}
    contract = {
        "id": "c", "version": 2, "index": {"meaning": "admission"}, "features": [age, creatinine], "label": label,
        "exclude": [{"feature": "age", "below": 18, "above": 90}],
    }  # fmt: skip
    told = explain(Plan.of(make(contract=contract)))
    for words in ("max of records 2160-0 (http://loinc.org), from -6h to any time", "age below 18 or above 90",
                  "younger than 30 days", "Whether the data pass the study's check"):  # fmt: skip
        assert words in told
    without = explain(Plan.of(make(gate="none")))
    assert "study's check" not in without and "no check before a round: the study says `gate: none`" in without
    assert "gate: none" not in told


def test_what_leaves_of_held_out_patients_is_said_by_the_kind_of_outcome_and_so_is_a_cross_validation() -> None:
    value = {"id": "days", "meaning": "days in hospital", "type": "number", "unit": "d", "range": [0, 99]}
    contract: dict[str, Any] = {"id": "stay", "label": value}
    contract["features"] = [{"id": "x", "meaning": "x", "type": "number", "unit": "1", "range": [0, 9]}]
    told = explain(Plan.of(make(contract=contract, model={"kind": "linear"})))
    assert "sums over held-out patients of the model's errors" in told and "histograms" not in told
    assert "histograms of the model's scores" in explain(Plan.of(make()))
    crossed = explain(Plan.of(make(evaluation={"folds": 5}, min_patients=51)))
    assert "All patients train the model. Beside it 5 others are trained, each without one in 5" in crossed
    assert "they differ by sums over one in 5 of the patients of each hospital" in crossed and "30%" not in crossed
    assert "With fewer than 51 in the smallest part" in crossed


def test_the_review_says_whether_figures_of_this_hospital_alone_are_told_and_if_not_why() -> None:
    secure = make(privacy={"recipe": "secure_sum"}, quorum=3)
    silent, tells = Policy(policy=1), Policy(policy=1, release_figures=2, min_sites=4)
    assert "`release_figures: 0`" in declarable.words(secure, silent, 0)
    told = declarable.words(secure, tells, 1)
    for part in ("`release_figures: 2`; it was said for 1 other", "in hundredths,", "in tens", "only if all hospitals"):
        assert part in told, part
    own = declarable.words(secure, tells.model_copy(update={"own_model": True}), 0)
    assert "a model that is trained on this hospital's patients alone" in own
    assert "it was said for 2 other plans before" in declarable.words(secure, tells, 2)
    assert declarable.words(make(privacy={"recipe": "plain"}), tells, 0) == ""
    noised = secure.model_copy(update={"privacy": secure.privacy.model_copy(update={"epsilon": 3.0})})
    assert declarable.words(noised, tells, 0).startswith(
        "No figure of this hospital alone is told: it would leave with"
    )
