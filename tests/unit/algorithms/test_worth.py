"""Figures from sums are those of the pooled patients, in all and by group; and what is too small is not shown."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import metrics as judge

from consilium.algorithms import appraisal, calibration, decisions, discrimination, evaluation, groups, worth
from consilium.algorithms.figure import CELL, FEW, FOLLOWS, Figure, difference
from consilium.algorithms.gaps import GAPS
from consilium.core.errors import Invalid
from unit.algorithms.judging import Patients, added, delong, fitted, spoiled, study, theirs

STUDY = study(threshold=0.3)
HOSPITALS = [
    Patients.drawn(900, 1),
    Patients.drawn(700, 2, intercept=-0.3, slope=1.3),
    Patients.drawn(500, 3, slope=1.8),
]
NAMES = ("north", "south", "west")
POOLED = Patients(
    np.concatenate([one.score for one in HOSPITALS]),
    np.concatenate([one.label for one in HOSPITALS]),
    {name: np.concatenate([one.columns[name] for one in HOSPITALS]) for name in ("age", "sex")},
)
PARTS = {(part.feature, part.name): part for part in groups.asked(STUDY)}
EXACT = {"brier", "observed_to_expected"}
"""To 1e-9."""
LOOSE = {"auroc": 1e-3, "auprc": 2e-3}
"""Of histograms, with as many patients as here; the second may be off by `auprc_within`, see below."""
INTERVAL = {"calibration_in_the_large": 1e-3}
"""Its robust variance is of histograms; the intervals of the other two are as exact as their values."""


@pytest.fixture(scope="module")
def found() -> appraisal.Json:
    sums = {name: one.sums(STUDY) for name, one in zip(NAMES, HOSPITALS, strict=True)}
    return appraisal.judged(STUDY, added(list(sums.values())), sums)


def same(told: appraisal.Json, patients: Patients) -> None:
    """Whether what is told is what other packages find on these patients."""
    figures = told["figures"]
    for name, value in theirs(patients.score, patients.label, 0.3).items():
        bound = 1e-9 if name in EXACT else LOOSE.get(name, 1e-7)
        assert figures[name]["value"] == pytest.approx(value, abs=bound), name
    value, error = delong(patients.score, patients.label)
    assert figures["auroc"]["low"] == pytest.approx(value - 1.959964 * error, abs=1e-3)
    assert figures["auroc"]["high"] == pytest.approx(value + 1.959964 * error, abs=1e-3)
    for name, (value, low, high) in fitted(patients.score, patients.label).items():
        got = figures[name]
        assert got["value"] == pytest.approx(value, abs=1e-6), name
        assert (got["low"], got["high"]) == pytest.approx((low, high), abs=INTERVAL.get(name, 1e-6)), name
    assert (told["n"], told["positives"]) == (len(patients.label), patients.label.sum())


def test_figures_of_all_are_those_of_the_pooled_patients(found: appraisal.Json) -> None:
    same(found["all"], POOLED)
    exact = judge.average_precision_score(POOLED.label, POOLED.score)
    assert found["all"]["figures"]["auprc"]["value"] == pytest.approx(exact, abs=2e-4)
    assert abs(found["all"]["figures"]["auprc"]["value"] - exact) <= found["auprc_within"] <= 1.5e-3


@pytest.mark.parametrize("group", PARTS, ids=lambda of: of[1].replace(" ", "-"))
def test_figures_of_a_group_are_those_of_its_patients(found: appraisal.Json, group: tuple[str, str]) -> None:
    chosen = PARTS[group].holds(POOLED.columns[group[0]])
    same(found["groups"][group[0]][group[1]], POOLED.of(chosen))


def test_the_auroc_of_a_group_of_a_hundred_patients_is_that_of_their_scores_to_a_thousandth() -> None:
    near, of = [], study(groups=[{"feature": "sex"}])
    for seed in range(100):
        one = Patients.drawn(200, seed)
        mine, told = one.of(one.columns["sex"] == 0), evaluation.part_of(one.sums(of), 0, 2)
        value = discrimination.auroc(told["positives"], told["negatives"], 0.95).value
        near.append(value == pytest.approx(judge.roc_auc_score(mine.label, mine.score), abs=1e-3))
    assert np.mean(near) >= 0.95


@pytest.mark.parametrize(("name", "patients"), list(zip(NAMES, HOSPITALS, strict=True)), ids=NAMES)
def test_figures_of_a_hospital_are_those_of_its_patients(found: appraisal.Json, name: str, patients: Patients) -> None:
    same(found["sites"][name], patients)


def test_the_table_of_thresholds_and_the_decision_curve_are_those_of_the_pooled_patients(found: appraisal.Json) -> None:
    rows = [row for row in found["all"]["thresholds"] if row["net_benefit"]["value"] is not None]
    assert len(rows) >= 12 and 0.3 in {row["threshold"] for row in rows}
    n, share = len(POOLED.label), POOLED.label.mean()
    for row in rows:
        at = row["threshold"]
        for name, value in theirs(POOLED.score, POOLED.label, at).items():
            if name in row:
                assert row[name]["value"] == pytest.approx(value, abs=1e-9), (at, name)
        assert row["net_benefit_of_all"]["value"] == pytest.approx(share - (1 - share) * at / (1 - at), abs=1e-9)
        assert row["hits"] + row["misses"] + row["alarms"] + row["rejections"] == n


def test_the_curve_has_the_observed_shares_of_the_pooled_patients(found: appraisal.Json) -> None:
    points = found["all"]["calibration_curve"]
    assert len(points) >= 8 and sum(point["n"] for point in points) == len(POOLED.label)
    for point in points:
        inside = (point["low"] <= POOLED.score) & (POOLED.score < point["high"])
        assert point["observed"]["value"] == pytest.approx(POOLED.label[inside].mean(), abs=1e-12)
        assert point["predicted"] == pytest.approx(POOLED.score[inside].mean(), abs=0.0005)


def test_gaps_between_groups_are_those_of_their_patients_and_are_counted(found: appraisal.Json) -> None:
    female = POOLED.columns["sex"] == 0
    parts = [POOLED.of(chosen) for chosen in (female, ~female)]
    apart = [theirs(part.score, part.label, 0.3) for part in parts]
    gaps = {gap["name"]: gap for gap in found["gaps"] if (gap["feature"], gap["group"]) == ("sex", "female")}
    for name in ("auroc", "sensitivity", "specificity", "ppv"):
        assert gaps[name]["value"] == pytest.approx(apart[0][name] - apart[1][name], abs=2e-3)
        assert gaps[name]["low"] < gaps[name]["value"] < gaps[name]["high"]
    made = sum(gap["low"] is not None for gap in found["gaps"])
    assert found["comparisons"]["made"] == made == (4 + 1 + 3) * len(GAPS["binary"]), (
        "four bands, two sexes, three hospitals"
    )
    assert found["comparisons"]["confidence_of_each"] == pytest.approx(1 - 0.05 / made)
    assert found["comparisons"]["by_chance"] == pytest.approx(0.05 * made)


def test_an_unfair_model_has_a_clear_gap_and_a_fair_one_has_none() -> None:
    fair = Patients.drawn(4000, 7)
    female = fair.columns["sex"] == 0
    chance = np.random.default_rng(1).permutation(np.flatnonzero(female))
    score = fair.score.copy()
    score[np.flatnonzero(female)] = fair.score[chance]  # for women the scores say nothing
    for patients, expected in ((fair, False), (Patients(score, fair.label, fair.columns), True)):
        total = patients.sums(STUDY)
        gaps = [
            gap
            for gap in appraisal.judged(STUDY, total, {})["gaps"]
            if gap["name"] == "auroc" and gap["feature"] == "sex"
        ]
        assert [gap["clear"] for gap in gaps] == [expected]


def test_fewer_than_ten_of_a_class_are_not_drawn_nor_compared() -> None:
    patients = POOLED.of(np.arange(300))
    few = np.flatnonzero((patients.columns["sex"] == 0) & (patients.label == 1))[9:]
    patients.label[few] = 0
    told = appraisal.judged(STUDY, patients.sums(STUDY), {})
    female = told["groups"]["sex"]["female"]
    assert female["note"] == FEW and not female["figures"] and female["n"] is None and female["positives"] is None
    male = told["groups"]["sex"]["male"]
    assert male["note"] == appraisal.FOLLOWS and not male["figures"], "the women's are the whole without the men's"
    assert told["all"]["figures"]["auroc"]["value"] is not None
    assert not [gap for gap in told["gaps"] if gap["feature"] == "sex"]


def lacking(*sizes: int) -> appraisal.Json:
    """What is told of patients, two in three of them women, of whom the sex of these is unknown: of positives at and
    above the threshold and below it, and of negatives likewise.
    """
    drawn = Patients.drawn(3000, 4)
    drawn.columns["sex"][:] = np.arange(3000) % 3 == 0
    above, sick = drawn.score >= STUDY.evaluation.threshold, drawn.label == 1
    for inside, size in zip((sick & above, sick & ~above, ~sick & above, ~sick & ~above), sizes, strict=True):
        drawn.columns["sex"][np.flatnonzero(inside)[:size]] = np.nan
    return appraisal.judged(STUDY, drawn.sums(STUDY), {})


def sex(told: appraisal.Json) -> dict[str, float | None]:
    return {gap["name"]: gap["value"] for gap in told["gaps"] if gap["feature"] == "sex"}


@pytest.mark.parametrize("sizes", [(1, 1, 1, 0), (3, 3, 12, 12), (12, 12, 0, 3)])
def test_a_gap_does_not_tell_of_a_group_that_is_withheld(sizes: tuple[int, ...]) -> None:
    """With the women's figure it would be the men's; the whole less both is of fewer than ten with unknown sex."""
    told = lacking(*sizes)
    assert told["groups"]["sex"]["male"]["note"] == appraisal.FOLLOWS and told["groups"]["sex"]["female"]["figures"]
    assert set(sex(told).values()) == {None}


def test_nor_of_its_share_at_the_threshold() -> None:
    told = sex(lacking(3, 12, 12, 12))
    assert {name for name, value in told.items() if value is None} == {"sensitivity", "specificity", "ppv"}
    assert None not in sex(lacking(0, 0, 0, 0)).values() and None not in sex(lacking(12, 12, 12, 12)).values()


def test_with_fewer_than_ten_of_a_class_in_all_nothing_is_drawn() -> None:
    patients = Patients(
        POOLED.score[:60], (np.arange(60) < 9).astype(float), {k: v[:60] for k, v in POOLED.columns.items()}
    )
    told = appraisal.judged(STUDY, patients.sums(STUDY), {})
    assert told["all"]["note"] == FEW and told["all"]["figures"] == {} and told["all"]["n"] == 60
    assert told["all"]["positives"] is None and not told["all"]["thresholds"] and not told["all"]["cuts"]
    assert all(one["note"] for parts in told["groups"].values() for one in parts.values())


def test_withheld_hospitals_are_said_to_be() -> None:
    told = appraisal.judged(STUDY, added([one.sums(STUDY) for one in HOSPITALS]), {}, "nobody knows them")
    assert told["sites"] == {} and told["sites_withheld"] == "nobody knows them"
    assert not [gap for gap in told["gaps"] if gap["feature"] == appraisal.HOSPITAL]


CELLS = ("hits", "misses", "alarms", "rejections")


def parted(told: appraisal.Json, bins: int) -> list[int]:
    """At which edges of a histogram all that is told of all patients parts them: matrix, table, and both curves."""
    rows = [row for row in (told["confusion"], *told["thresholds"]) if row["hits"] is not None is not row["alarms"]]
    scores = [0.0, 1.0, *(row["threshold"] for row in rows), *(cut["threshold"] for cut in told["cuts"])]
    scores += [point[end] for point in told["calibration_curve"] for end in ("low", "high")]
    return sorted({round(score * bins) for score in scores})


@settings(max_examples=25, deadline=None)
@given(st.integers(30, 400), st.integers(0, 999), st.floats(-3, 1))
@example(400, 1, -0.8)
@example(150, 2, -0.8)
def test_no_cell_of_one_to_nine_patients_is_shown_nor_follows_by_subtraction(n: int, seed: int, centre: float) -> None:
    patients = Patients.drawn(n, seed, centre=centre)
    total = patients.sums(STUDY)
    told = appraisal.judged(STUDY, total, {"a": total})
    everybody = told["all"]
    tables = [everybody["confusion"], *everybody["thresholds"], *(x["confusion"] for x in told["sites"].values())]
    tables += [x["confusion"] for parts in told["groups"].values() for x in parts.values()]
    counts = [row[name] for row in tables if row for name in CELLS if row[name] is not None]
    if everybody["confusion"]:
        below = [np.concatenate([[0], np.cumsum(total[name])]) for name in ("positives", "negatives")]
        for of in below:
            counts += np.diff(of[parted(everybody, len(of) - 1)]).tolist()
        for name, told_of, at in ((0, "hits", 0), (1, "alarms", 1)):  # of one outcome alone, where the other is hidden
            if everybody["confusion"][told_of] is not None:
                edge = round(STUDY.evaluation.threshold * (len(below[at]) - 1))
                counts += [abs(below[name][edge] - below[name][one]) for one in parted(everybody, len(below[at]) - 1)]
        whole = decisions.Counts.at(total, 0.3)
        for parts in told["groups"].values():
            for cell in (cell for cell in CELLS if everybody["confusion"][cell] is not None):
                mine = [x["confusion"][cell] for x in parts.values() if x["confusion"]]
                counts.append(getattr(whole, cell) - sum(count for count in mine if count is not None))
    assert not [count for count in counts if 0 < count < 10]


@pytest.mark.parametrize("seed", range(4))
def test_curves_lose_little_by_having_their_edges_together(seed: int) -> None:
    patients = Patients.drawn(2000, seed)
    told = worth.worth(patients.sums(STUDY), STUDY, whole=True)
    rates = [(cut.false_positive_rate, cut.sensitivity) for cut in told.cuts]
    area = sum((x - w) * (y + z) / 2 for (w, z), (x, y) in pairwise(rates))
    assert area == pytest.approx(judge.roc_auc_score(patients.label, patients.score), abs=2e-3)
    assert len(rates) > 40 and len(told.curve) >= 8
    assert sum(row.confusion.hits is not None for row in told.thresholds) >= 10


def test_a_count_is_hidden_with_that_of_another_group_from_which_it_would_follow() -> None:
    """Three women with the outcome are below the threshold: of men it is not told how many are, either."""
    label, score = np.repeat([1.0, 1.0, 0.0, 0.0], 60), np.tile(np.repeat([0.6, 0.1], 60), 2)
    columns = {"sex": np.tile([0.0, 1.0], 120), "age": np.full(240, 50.0)}
    columns["sex"][60:120] = 1.0
    columns["sex"][60:63] = 0.0
    told = appraisal.judged(STUDY, Patients(score, label, columns).sums(STUDY), {})
    female, male = (told["groups"]["sex"][name]["confusion"] for name in ("female", "male"))
    assert [female[cell] for cell in CELLS] == [None, None, 30, 30] == [male[cell] for cell in CELLS]
    assert told["all"]["confusion"]["misses"] == 60, "of which all but three are men"
    why = {name: told["groups"]["sex"][name]["figures"] for name in ("female", "male")}
    assert {why["female"][name]["note"] for name in ("sensitivity", "ppv", "net_benefit")} == {CELL}
    assert {why["male"][name]["note"] for name in ("sensitivity", "ppv", "net_benefit")} == {FOLLOWS}, "60 are not few"


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 300), st.integers(0, 9999), st.sampled_from([200, 1000]), st.floats(0.1, 3))
def test_the_auroc_of_histograms_is_as_close_as_is_said(n: int, seed: int, bins: int, spread: float) -> None:
    patients = Patients.drawn(n, seed, spread=spread)
    good, bad = patients.score[patients.label == 1], patients.score[patients.label == 0]
    if not good.size or not bad.size:
        return
    exact = np.mean((good[:, None] > bad[None, :]) + 0.5 * (good[:, None] == bad[None, :]))
    ours = discrimination.histograms(patients.score, patients.label == 1, bins)
    value = discrimination.auroc(*ours, 0.95).value
    assert value is not None and abs(value - exact) <= discrimination.within(*ours) + 1e-12


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 300), st.integers(0, 9999), st.sampled_from([200, 1000]), st.floats(0.1, 3), st.floats(-4, 0))
def test_the_auprc_of_histograms_is_as_close_as_is_said(n: int, seed: int, bins: int, spread: float, at: float) -> None:
    patients = Patients.drawn(n, seed, spread=spread, centre=at)
    if len(np.unique(patients.label)) == 1:
        return
    exact = judge.average_precision_score(patients.label, patients.score)
    ours = discrimination.histograms(patients.score, patients.label == 1, bins)
    value = discrimination.auprc(*ours, 0.95).value
    assert value is not None and abs(value - exact) <= discrimination.order_within(*ours) + 1e-8
    score = np.where(patients.label == 1, 0.4999, 0.4991)  # of one bin, the best order that there is
    alike = discrimination.histograms(score, patients.label == 1, bins)
    of_alike = discrimination.auprc(*alike, 0.95).value
    assert of_alike is not None and 0 < 1 - of_alike <= discrimination.order_within(*alike) + 1e-8


def test_the_auprc_of_200_bins_is_the_mean_over_all_orders_within_them() -> None:
    """And so within 1e-3 of the scores' own, with 3,000 patients."""
    patients = Patients.drawn(3000, 5)
    ours = discrimination.histograms(patients.score, patients.label == 1, 200)
    value = discrimination.auprc(*ours, 0.95).value
    place, rng = discrimination.places(patients.score, 200), np.random.default_rng(1)
    orders = [judge.average_precision_score(patients.label, place + 0.999 * rng.random(len(place))) for _ in range(25)]
    assert value == pytest.approx(np.mean(orders), abs=4 * np.std(orders) / 5) and np.std(orders) < 1e-3
    assert value == pytest.approx(judge.average_precision_score(patients.label, patients.score), abs=1e-3)


@pytest.mark.parametrize("seed", range(16))
def test_calibration_follows_from_sums_for_slopes_from_04_to_2(seed: int) -> None:
    rng = np.random.default_rng(seed)
    patients = Patients.drawn(
        int(rng.integers(250, 4000)),
        seed,
        rng.uniform(-1, 1),
        rng.uniform(0.5, 1.8),
        rng.uniform(-2, 1),
        rng.uniform(0.6, 1.8),
    )
    if min(patients.label.sum(), (1 - patients.label).sum()) < 10:
        return
    theirs_ = fitted(patients.score, patients.label)
    if not 0.4 < theirs_["calibration_slope"][0] < 2:
        return
    one = patients.sums(STUDY)
    rough = {name: one[name] for name in one if not name.startswith("groups/")}
    rough["positives"], rough["negatives"] = (
        one[name].reshape(200, 5).sum(axis=1) for name in ("positives", "negatives")
    )
    for total in (one, rough):
        for name, figure in calibration.fit(total, 0.95).items():
            assert figure.value == pytest.approx(theirs_[name][0], abs=1e-6)
            assert (figure.low, figure.high) == pytest.approx(theirs_[name][1:], abs=INTERVAL.get(name, 1e-6))


@pytest.mark.parametrize(("m", "n"), [(12, 30), (200, 40)])
def test_an_auroc_of_1_or_0_is_no_surer_than_its_patients_let_it_be(m: int, n: int) -> None:
    high, low = np.zeros(1000), np.zeros(1000)
    high[900], low[100] = m, n
    one, none = discrimination.auroc(high, low, 0.95), discrimination.auroc(low, high, 0.95)
    assert (one.value, one.high, none.value, none.low) == (1.0, 1.0, 0.0, 0.0)
    assert one.low is not None and one.low ** min(m, n) == pytest.approx(0.05)
    assert none.high == pytest.approx(1 - one.low)
    assert discrimination.auroc(high, high, 0.95).low == 0.5, "all scores alike say nothing, for sure"


@pytest.mark.parametrize("apart", [3.0, 5.0])
def test_calibration_follows_where_predictions_are_far_too_extreme(apart: float) -> None:
    """As those of a model that was fitted to noise: a first step of Newton's then goes far beyond the best values."""
    for seed, spread in ((0, 1.0), (1, 1.3), (2, 1.3), (3, 2.0)):
        rng = np.random.default_rng(seed)
        x = spread * rng.normal(size=900) - 0.4
        label = (rng.random(900) < calibration.expit(x)).astype(float)
        patients = Patients(calibration.expit(apart * x), label, {"age": np.full(900, 50.0), "sex": np.zeros(900)})
        found = calibration.fit(patients.sums(STUDY), 0.95)
        for name, expected in fitted(patients.score, patients.label).items():
            assert found[name].value == pytest.approx(expected[0], abs=2e-3), (name, seed)


def test_a_model_that_says_0_or_1_has_no_log_odds_and_one_that_expects_nobody_no_ratio() -> None:
    label, columns = np.tile([0.0, 1.0, 1.0, 1.0], 25), {"age": np.full(100, 50.0), "sex": np.zeros(100)}
    sure = Patients(np.repeat([0.0, 1.0], 50), label, columns).sums(STUDY)
    assert {one.note for one in calibration.fit(sure, 0.95).values()} == {calibration.BEYOND}
    assert calibration.observed_to_expected(sure, 0.95).value == pytest.approx(1.5)
    assert (calibration.distance(sure, 0.95).low or 0) > 0.3, "the only figure that tells it"
    never = calibration.observed_to_expected(Patients(np.zeros(100), label, columns).sums(STUDY), 0.95)
    assert never.value is None and "expects nobody" in never.note


def test_scores_that_part_the_classes_have_no_slope_and_it_is_said() -> None:
    label = np.repeat([0.0, 1.0], 50)
    columns = {"age": np.full(100, 50.0), "sex": np.zeros(100)}
    total = Patients(np.where(label == 1, 0.9, 0.2) + np.arange(100) / 2000, label, columns).sums(STUDY)
    found = calibration.fit(total, 0.95)
    assert found["calibration_slope"].value is None and "part the classes" in found["calibration_slope"].note
    assert found["calibration_in_the_large"].value is not None


@pytest.mark.parametrize(("centre", "told"), [(0.0, False), (-5.0, True)])
def test_an_auroc_of_a_rare_outcome_says_how_far_its_bins_may_take_it(centre: float, told: bool) -> None:
    """Scores below a hundredth lie in few of the equal parts of [0, 1]."""
    rng = np.random.default_rng(4)
    x = rng.normal(centre, 0.5, 20000)
    score = 1 / (1 + np.exp(-x))
    positive = rng.random(20000) < score
    found = discrimination.auroc(*discrimination.histograms(score, positive, 200), 0.95)
    off, bound = abs(float(found.value or 0) - judge.roc_auc_score(positive, score)), found.note.rpartition(" ")[2]
    assert (bound != "") is told
    assert off <= (float(bound) + 0.005 if told else discrimination.NEAR)


def test_a_score_at_a_threshold_is_above_it_whatever_rounding_says() -> None:
    edges = np.arange(1001) / 1000
    assert np.array_equal(discrimination.places(edges, 1000), np.minimum(np.arange(1001), 999))
    below = np.nextafter(edges[1:], 0)
    assert np.array_equal(discrimination.places(below, 1000), np.arange(1000))


def test_sums_of_hospitals_are_the_sums_of_all_their_patients() -> None:
    whole = POOLED.sums(STUDY)
    for name, array in added([one.sums(STUDY) for one in HOSPITALS]).items():
        if name == evaluation.HOSPITALS:
            assert (array == 3 * whole[name]).all(), "not of patients, but of hospitals"
            continue
        if name == evaluation.STRATA:
            continue  # of pairs of one hospital; of all patients in one there are more
        assert np.allclose(array, whole[name], rtol=1e-11, atol=1e-9), name


def test_a_share_of_which_a_cell_is_small_has_an_interval_that_holds_every_share_it_may_be() -> None:
    told = decisions.confusion(decisions.Counts(96, 4, 50, 50), 0.5, 0.95)
    sensitivity = told.figures["sensitivity"]
    assert (told.hits, told.misses, sensitivity.value, sensitivity.note) == (None, None, None, CELL)
    assert sensitivity.low is not None and sensitivity.high is not None
    for misses in range(1, 10):
        alone = decisions.proportion(100.0 - misses, 100.0, 0.95)
        assert alone.low is not None and alone.high is not None
        assert sensitivity.low <= alone.low and alone.high <= sensitivity.high
    assert told.alarms == 50 and told.figures["ppv"].value is None


def test_a_gap_of_proportions_has_the_interval_of_newcombe() -> None:
    gap = difference(decisions.proportion(56, 70, 0.95), decisions.proportion(48, 80, 0.95), 0.95)
    assert (gap.value, gap.low, gap.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4), "Newcombe 1998, method 10"
    assert difference(gap, Figure(None, None, None, 3, "few"), 0.95).note == "few"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.data())
def test_whatever_a_site_sends_is_refused_or_gives_figures(n: int, data: st.DataObject) -> None:
    sent = Patients.drawn(n, 1).sums(STUDY)
    sent = spoiled(data, sent)
    try:
        evaluation.check(STUDY, "EVALUATE", sent)
    except Invalid:
        return
    total = added([sent, Patients.drawn(120, 2).sums(STUDY)])
    json.dumps(appraisal.judged(STUDY, total, {"a": sent}), allow_nan=False)


def test_sums_of_another_form_are_refused() -> None:
    good = HOSPITALS[0].sums(STUDY)
    evaluation.check(STUDY, "EVALUATE", good)
    headline = {name: good[name] for name in evaluation.nothing(STUDY, "TRAIN")}
    evaluation.check(STUDY, "TRAIN", headline)
    evaluation.check(study(figures="headline"), "EVALUATE", headline)
    group = good["groups/n"].copy()
    group[0] += 1
    for kind, bad in (
        ("EVALUATE", headline), ("TRAIN", good), ("EVALUATE", {**good, "more": np.zeros(1)}),
        ("EVALUATE", {**good, "moments": good["moments"][1:]}), ("EVALUATE", {**good, "groups/n": group}),
        ("EVALUATE", {**good, "expected": good["n"] + 1}),
    ):  # fmt: skip
        with pytest.raises(Invalid, match="not sums over patients"):
            evaluation.check(STUDY, kind, bad)
