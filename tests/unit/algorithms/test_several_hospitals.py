"""What only several hospitals have: pairs of patients of one of them, and the common model beside personal ones."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from consilium.algorithms import appraisal, discrimination, evaluation
from consilium.core.errors import Invalid
from consilium.core.study import Study
from unit.algorithms.judging import Patients, added, delong, study
from unit.algorithms.test_worth_of_numbers import COUNT, NUMBER, TIME, counts, numbers, times

SECURE = study(groups=[])
STUDY = SECURE.model_copy(update={"privacy": SECURE.privacy.model_copy(update={"recipe": "plain"})})
DITTO = {"name": "ditto", "options": {}}


def hospitals(sizes: tuple[int, ...] = (400, 250, 150), apart: float = 1.5) -> list[Patients]:
    """Hospitals whose patients are the more ill the later they come; the model knows that, and little else."""
    return [Patients.drawn(n, at, centre=apart * at - 1.5, spread=0.7) for at, n in enumerate(sizes)]


def judged(parts: list[Patients], of: Study = STUDY, **given: Any) -> appraisal.Json:
    return appraisal.judged(of, added([one.sums(of) for one in parts]), {}, **given)


def test_within_hospitals_the_auroc_is_that_of_pairs_of_one_hospital_and_stands_beside_that_of_all() -> None:
    parts = hospitals()
    found = judged(parts)["all"]["figures"]
    pairs = np.array([np.sum(one.label) * np.sum(1 - one.label) / len(one.label) for one in parts])
    each = np.array([delong(one.score, one.label) for one in parts])
    value, error = pairs @ each[:, 0] / pairs.sum(), np.sqrt(pairs**2 @ each[:, 1] ** 2) / pairs.sum()
    within = found["stratified_auroc"]
    assert within["value"] == pytest.approx(value, abs=1e-12)
    assert within["high"] - within["value"] == pytest.approx(1.959964 * error, rel=1e-6)
    score, label = (np.concatenate([getattr(one, of) for one in parts]) for of in ("score", "label"))
    assert found["auroc"]["value"] == pytest.approx(roc_auc_score(label, score), abs=1e-3)
    assert found["auroc"]["value"] > within["value"] + 0.05, "which hospital it is says much here"


@pytest.mark.parametrize(("sizes", "least", "told"), [
    ((400, 250, 150), 3, True), ((400, 250, 12), 0, True), ((400, 250, 12), 3, False), ((400,), 0, False),
])  # fmt: skip
def test_it_is_not_that_of_one_hospital_nor_of_fewer_than_a_secure_sum_opens(
    sizes: tuple[int, ...], least: int, told: bool
) -> None:
    assert ("stratified_auroc" in judged(hospitals(sizes), least=least)["all"]["figures"]) == told


def test_hospitals_with_few_of_a_class_are_not_in_it() -> None:
    """Each one's sums are seen there, so what they are worth would follow."""
    rng, sent = np.random.default_rng(2), []
    for positives in (80, 9, 9):
        label = np.repeat([1.0, 0.0], [positives, 120])
        sent.append(Patients(rng.random(label.size), label, {}).sums(STUDY))
        evaluation.check(STUDY, "EVALUATE", sent[-1])
    large, total = sent[0][evaluation.STRATA], added(sent)[evaluation.STRATA]
    assert np.array_equal(total, large) and total[3] == 1
    assert "stratified_auroc" not in appraisal.judged(STUDY, added(sent), {}, "", 3)["all"]["figures"]


def test_a_class_of_nine_patients_has_no_pairs() -> None:
    assert discrimination.of_one(np.linspace(0, 1, 29), np.arange(29) < 10)[3] == 1
    for count in (0, 1, 9, 20, 29):
        assert not discrimination.of_one(np.linspace(0, 1, 29), np.arange(29) < count).any()


def test_it_holds_what_is_true_as_often_as_it_says() -> None:
    true = judged(hospitals((18_000, 12_000, 6_000)))["all"]["figures"]["stratified_auroc"]["value"]
    kept = 0
    for seed in range(200):
        parts = [
            Patients.drawn(n, 10 * seed + at, centre=1.5 * at - 1.5, spread=0.7) for at, n in enumerate((120, 80, 40))
        ]
        total = np.sum([discrimination.of_one(one.score, one.label == 1) for one in parts], axis=0)
        found = discrimination.within_hospitals(total, 240, 0.95)
        kept += (found.low or 0) <= true <= (found.high or 0)
    assert 0.92 <= kept / 200 <= 0.98


@pytest.mark.parametrize(("at", "value"), [(0, 1.0), (1, 1e9), (3, 0.0), (3, 2.0), (2, np.nan), (2, -1.0)])
def test_a_hospital_cannot_say_that_it_has_other_pairs_than_its_patients_are(at: int, value: float) -> None:
    sent = Patients.drawn(200, 1).sums(STUDY)
    evaluation.check(STUDY, "EVALUATE", sent)
    sent[evaluation.STRATA] = sent[evaluation.STRATA].copy()
    sent[evaluation.STRATA][at] = value
    with pytest.raises(Invalid, match="not sums over patients"):
        evaluation.check(STUDY, "EVALUATE", sent)


def personal(of: Study) -> Study:
    return of.model_copy(update={"strategy": type(of.strategy).model_validate(DITTO)})


def sums(of: Study, patients: Patients, common: np.ndarray | None) -> dict[str, np.ndarray]:
    nobody = np.zeros((len(patients.label), 0), dtype=bool)
    return evaluation.sums(of, "EVALUATE", patients.score, patients.label, nobody, common)


@pytest.mark.parametrize(("of", "drawn", "metric"), [
    (STUDY, Patients.drawn, "auroc"), (NUMBER, numbers, "rmse"), (COUNT, counts, "deviance"),
    (TIME, times, "stratified_concordance"),
])  # fmt: skip
def test_where_hospitals_use_models_of_their_own_the_common_one_is_judged_on_the_same_patients(
    of: Study, drawn: Any, metric: str
) -> None:
    of = of.model_copy(update={"evaluation": of.evaluation.model_copy(update={"groups": ()})})
    study_, parts = personal(of), [drawn(200, seed) for seed in range(3)]
    rng = np.random.default_rng(5)
    worse = [rng.permutation(one.score) for one in parts]
    total = added([sums(study_, one, score) for one, score in zip(parts, worse, strict=True)])
    found = appraisal.judged(study_, total, {}, "withheld", 3)
    alone = appraisal.judged(of, added([sums(of, one, None) for one in parts]), {}, "withheld", 3)
    same = appraisal.judged(study_, added([sums(study_, one, one.score) for one in parts]), {}, "withheld", 3)
    assert {**found, "common": None} == alone, "what hospitals use is judged as ever"
    assert found["common"]["all"][metric]["value"] != same["common"]["all"][metric]["value"]
    assert found["common"]["sites"] == {} and alone["common"] is None
    if metric == "auroc":
        assert same["common"]["all"]["auroc"] == alone["all"]["figures"]["auroc"]


def test_the_common_model_is_judged_on_no_other_patients_and_small_cells_are_hidden_there_too() -> None:
    of, parts = personal(STUDY), [Patients.drawn(200, seed) for seed in range(3)]
    sent = [sums(of, one, np.clip(one.score, 0.501 * one.label, 1)) for one in parts]
    told = appraisal.judged(of, added(sent), dict(zip("abc", sent, strict=True)))["common"]
    assert told["sites"].keys() == {"a", "b", "c"} and told["all"]["auroc"]["value"] is not None
    few = {**sent[0], "common/positives": np.roll(sent[0]["common/positives"], 1)}
    few["common/positives"][-1] += 1
    for wrong in (few, {name: array for name, array in sent[0].items() if name != "common/n"}):
        with pytest.raises(Invalid):
            evaluation.check(of, "EVALUATE", wrong)
    evaluation.check(of, "EVALUATE", sent[0])
    with pytest.raises(Invalid, match="was not judged"):
        sums(of, parts[0], None)
    shapes = {name: array.size for name, array in evaluation.nothing(of, "EVALUATE").items()}
    assert shapes == {name: array.size for name, array in sent[0].items()}
    assert evaluation.nothing(of, "TRAIN").keys() == evaluation.nothing(STUDY, "TRAIN").keys()
