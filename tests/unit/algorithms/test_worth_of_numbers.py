"""Figures of outcomes that are numbers, counts and times, of all and by group, are those of the pooled patients."""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as judge
from statsmodels.duration.hazard_regression import PHReg
from statsmodels.duration.survfunc import survdiff

from consilium.algorithms import appraisal, coarse, evaluation, groups, hazards, peto, residuals, worth
from consilium.algorithms.figure import Figure
from consilium.algorithms.gaps import GAPS
from consilium.core import state as chain
from consilium.core import survival
from consilium.core.errors import Invalid
from consilium.core.study import Study
from consilium.privacy.layout import Layout
from unit.algorithms.judging import Patients, added, spoiled, study

NUMBER, COUNT, TIME = (study(of) for of in ("number", "count", "time-to-event"))
SEEN = Study.model_validate(TIME.model_dump() | {"privacy": {"recipe": "plain"}})
"""Where each hospital's sums are seen, and are as exact as they are."""
NAMES = ("north", "south", "west")
SIZES = (240, 200, 160)


def columns(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    return {"age": rng.uniform(18, 100, n), "sex": rng.integers(0, 2, n).astype(float)}


def numbers(n: int, seed: int) -> Patients:
    """Blood pressures whose errors spread with the prediction, and a calibration line that is not the diagonal."""
    rng = np.random.default_rng(seed)
    predicted = rng.normal(140, 20, n)
    outcome = 20 + 0.85 * predicted + rng.normal(size=n) * 0.07 * predicted
    return Patients(predicted, outcome, columns(rng, n))


def counts(n: int, seed: int) -> Patients:
    rng = np.random.default_rng(seed)
    predicted = rng.gamma(2.0, 1.5, n) + 0.05
    return Patients(predicted, rng.poisson(1.2 * predicted * rng.gamma(4, 0.25, n)).astype(float), columns(rng, n))


def times(n: int, seed: int, slope: float = 0.8) -> Patients:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    time = rng.exponential(500 * np.exp(-slope * x))
    end = rng.uniform(100, 1500, n)
    return Patients(np.exp(x), survival.joined(np.ceil(np.minimum(time, end)), time <= end), columns(rng, n))


def pooled(hospitals: list[Patients]) -> Patients:
    return Patients(
        np.concatenate([one.score for one in hospitals]), np.concatenate([one.label for one in hospitals]),
        {name: np.concatenate([one.columns[name] for one in hospitals]) for name in ("age", "sex")},
    )  # fmt: skip


def told(of: Study, hospitals: list[Patients]) -> appraisal.Json:
    sums = {name: one.sums(of) for name, one in zip(NAMES, hospitals, strict=True)}
    return appraisal.judged(of, added(list(sums.values())), {name: added([one]) for name, one in sums.items()})


def near(figure: appraisal.Json, value: float, low: float, high: float, bound: float = 1e-6) -> None:
    got = (figure["value"], figure["low"], figure["high"])
    assert got == pytest.approx((value, low, high), rel=bound, abs=bound)


def line(score: np.ndarray, label: np.ndarray) -> sm.regression.linear_model.RegressionResults:
    return sm.OLS(label, sm.add_constant(score)).fit(cov_type="HC1", use_t=True)


def same_numbers(one: appraisal.Json, patients: Patients) -> None:
    """Whether figures are those of scikit-learn and statsmodels, and their intervals by definition."""
    score, label, found = patients.score, patients.label, one["figures"]
    n, error = len(label), label - score
    assert (one["n"], one["positives"], one["note"]) == (n, None, "")
    assert found["rmse"]["value"] == pytest.approx(judge.root_mean_squared_error(label, score), rel=1e-9)
    assert found["mae"]["value"] == pytest.approx(judge.mean_absolute_error(label, score), rel=1e-9)
    assert found["r2"]["value"] == pytest.approx(judge.r2_score(label, score), abs=1e-9)
    mean = sm.OLS(error, np.ones(n)).fit()
    near(found["mean_error"], mean.params[0], *mean.conf_int()[0])
    fitted = line(score, label)
    far, left = score - score.mean(), label - fitted.fittedvalues
    weighs = (1 - score.mean() * far / far.var(), far)
    for at, name in enumerate(("calibration_intercept", "calibration_slope")):
        tails = tailed(weighs[at]) * tailed(left)
        wide = stats.t.isf(0.025, min(2 * n / (tails - 1), n - 2)) * fitted.bse[at]
        near(found[name], fitted.params[at], fitted.params[at] - wide, fitted.params[at] + wide)
    near(found["r2"], judge.r2_score(label, score), *explained(error, label))
    factor = math.exp(relative(np.abs(error), n))
    near(found["mae"], np.abs(error).mean(), np.abs(error).mean() / factor, np.abs(error).mean() * factor)
    wide = relative(error**2, n)
    most = 1 / (1 - wide) if wide < 0.5 else 2 * math.exp(wide - 0.5)
    near(found["rmse"], *(np.mean(error**2) * np.array([1, 1 / (1 + wide), most])) ** 0.5)


def explained(error: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """The interval of R², by what each patient moves the logarithm of 1 - R² by, less the bias of second order."""
    n, a, b = len(label), error**2 / np.mean(error**2), (label - label.mean()) ** 2 / label.var()
    middle = math.log(np.mean(error**2) / label.var()) - (2 + b.var() - a.var()) / (2 * n)
    wide = stats.t.isf(0.025, n / (1 + 1.5 * max(a.var(), b.var()))) * (a - b).std() / (n - 1) ** 0.5
    return 1 - math.exp(middle + wide), 1 - math.exp(middle - wide)


def tailed(values: np.ndarray) -> float:
    """Their fourth moment by the square of their second one."""
    return float(np.mean(values**4) / np.mean(values**2) ** 2)


def relative(values: np.ndarray, n: int) -> float:
    """How far the interval of their mean reaches, as a share of it: Student's t, by the spread of gamma variables."""
    error = values.std() / (n - 1) ** 0.5 / values.mean()
    return float(stats.t.isf(0.025, n / (1 + 3 * n * error**2)) * error)


def each(of: Study, one: appraisal.Json, patients: Patients, same: Callable[[appraisal.Json, Patients], None]) -> None:
    same(one["all"], patients)
    for part in groups.asked(of):
        same(one["groups"][part.feature][part.name], patients.of(part.holds(patients.columns[part.feature])))


def test_figures_of_numbers_are_those_of_the_pooled_patients_of_all_and_of_each_group_and_hospital() -> None:
    hospitals = [numbers(n, seed) for seed, n in enumerate(SIZES)]
    found = told(NUMBER, hospitals)
    each(NUMBER, found, pooled(hospitals), same_numbers)
    for name, one in zip(NAMES, hospitals, strict=True):
        same_numbers(found["sites"][name], one)
    json.dumps(found, allow_nan=False)


def test_the_interval_of_a_gap_of_means_is_welchs() -> None:
    for seed in range(10):
        one = numbers(40 + 9 * seed, seed)
        one.columns["sex"][:] = np.arange(len(one.label)) % 4 > 0
        error, female = one.label - one.score, one.columns["sex"] == 0
        theirs = stats.ttest_ind(error[female], error[~female], equal_var=False).confidence_interval(0.95)
        gaps = {(g["feature"], g["name"]): g for g in appraisal.judged(NUMBER, one.sums(NUMBER), {})["gaps"]}
        near(gaps["sex", "mean_error"], error[female].mean() - error[~female].mean(), *theirs)


def test_what_a_patient_moves_r2_by_has_the_tails_that_its_degrees_of_freedom_suppose() -> None:
    """Nine of a normal variable's fourth moment, however errors and outcomes go together: 2 n / (9 - 1) degrees."""
    rng, n = np.random.default_rng(1), 60_000
    for at in range(10):
        predicted = rng.normal(150, 10, n)
        outcome = 150 + (0.2 * at - 0.5) * (predicted - 150) + rng.normal(0, 6 + at, n)
        a, b = (outcome - predicted) ** 2, (outcome - outcome.mean()) ** 2
        assert tailed(a / a.mean() - b / b.mean()) == pytest.approx(9, rel=0.1)
        total = {
            name: rows.sum(axis=1) for name, rows in residuals.terms(NUMBER.contract.label, predicted, outcome).items()
        }
        found = residuals.figures(NUMBER.contract.label, {"n": np.array([float(n)]), **total}, 0.95)["r2"]
        assert found.freedom == pytest.approx(n / 4, rel=0.06)


def test_figures_of_counts_are_those_of_the_pooled_patients_of_all_and_of_each_group() -> None:
    def same(one: appraisal.Json, patients: Patients) -> None:
        same_numbers(one, patients)
        score, label, n = patients.score, patients.label, len(patients.label)
        deviance = 2 * (np.where(label > 0, label * np.log(np.maximum(label, 1e-9) / score), 0) - (label - score))
        assert deviance.mean() == pytest.approx(judge.mean_poisson_deviance(label, score))
        factor = math.exp(relative(deviance, n))
        near(one["figures"]["deviance"], deviance.mean(), deviance.mean() / factor, deviance.mean() * factor)
        share = label.sum() / score.sum()
        factor = math.exp(1.959964 * (np.mean((label - share * score) ** 2) / (n - 1)) ** 0.5 / label.mean())
        near(one["figures"]["observed_to_expected"], share, share / factor, share * factor)

    hospitals = [counts(n, seed) for seed, n in enumerate(SIZES)]
    each(COUNT, told(COUNT, hospitals), pooled(hospitals), same)


def test_counts_without_a_range_have_the_same_values_and_say_which_intervals_they_lack() -> None:
    free, hospitals = study("count", {"type": "count"}), [counts(n, seed) for seed, n in enumerate(SIZES)]
    with_, without = (told(of, hospitals)["all"]["figures"] for of in (COUNT, free))
    for name, figure in without.items():
        assert figure["value"] == pytest.approx(with_[name]["value"], abs=1e-9), name
        lacking = name in ("rmse", "r2", "calibration_slope", "calibration_intercept")
        assert (figure["low"] is None) == lacking and ("no range" in figure["note"]) == lacking, name


def stratified(hospitals: list[Patients]) -> tuple[float, float]:
    """Slope of a Cox regression on the log hazard, by hospital, and its standard error."""
    everybody = pooled(hospitals)
    strata = np.repeat(np.arange(len(hospitals)), [len(one.label) for one in hospitals])
    model = PHReg(
        survival.times(everybody.label), np.log(everybody.score)[:, None], survival.events(everybody.label).astype(int),
        strata=strata, ties="efron",
    )  # fmt: skip
    found = model.fit(method="newton", maxiter=100, disp=0)
    return float(found.params[0]), float(found.bse[0])


def concordance(hospitals: list[Patients]) -> tuple[float, float]:
    """Harrell's, of all pairs; and of pairs of one hospital, each hospital's by its size less one."""

    def counted(one: Patients) -> np.ndarray:
        time, event = survival.times(one.label), survival.events(one.label)
        first = event[:, None] & ((time[:, None] < time) | ((time[:, None] == time) & ~event))
        higher = (one.score[:, None] > one.score) + 0.5 * (one.score[:, None] == one.score)
        return np.array([np.sum(first * higher), first.sum()])

    of_one = sum(counted(one) / (len(one.label) - 1) for one in hospitals)
    every, within = counted(pooled(hospitals)), of_one
    return float(every[0] / every[1]), float(within[0] / within[1])


def test_figures_of_times_are_those_of_the_pooled_patients_of_all_and_of_each_group() -> None:
    hospitals = [times(n, seed) for seed, n in enumerate(SIZES)]
    found = told(SEEN, hospitals)
    inside = {(part.feature, part.name): part for part in groups.asked(SEEN) if part.name in ("female", "40 to 65")}
    parts = {name: [one.of(part.holds(one.columns[name[0]])) for one in hospitals] for name, part in inside.items()}
    for one, patients in (
        (found["all"], hospitals), *((found["groups"][f][name], parts[f, name]) for f, name in parts)
    ):  # fmt: skip
        had = int(survival.events(pooled(patients).label).sum())
        n = len(pooled(patients).label)
        assert (one["n"], one["positives"], one["negatives"]) == (n, had, n - had)
        every, within = concordance(patients)
        assert one["figures"]["stratified_concordance"]["value"] == pytest.approx(within, abs=1e-12)
        assert one["figures"]["concordance"]["value"] == pytest.approx(every, abs=1e-3 if one is found["all"] else 3e-3)
        if one is found["all"]:
            assert abs(one["figures"]["concordance"]["value"] - every) < found["concordance_within"] < 0.03
        value, error = stratified(patients)
        near(one["figures"]["calibration_slope"], value, value - 1.959964 * error, value + 1.959964 * error)
    for name, hospital in zip(NAMES, hospitals, strict=True):
        alone = found["sites"][name]["figures"]
        assert "stratified_concordance" not in alone
        assert alone["concordance"]["value"] == pytest.approx(concordance([hospital])[0], abs=1e-12)
    assert "observed_to_expected" not in found["all"]["figures"], "each hospital has the baseline of its own patients"


@pytest.mark.parametrize(("least", "hidden"), [(5, True), (1, False)])
def test_where_a_plan_hides_small_cells_of_times_none_are_counted(least: int, hidden: bool) -> None:
    """Pairs of one hospital are known all the same, and groups are compared by them."""
    options = {"every": 30, "until": 1500, "least": least}
    plan = TIME.model_dump() | {"strategy": {"name": "webdisco", "options": options}, "sites": NAMES, "rounds": 2}
    of, hospitals = Study.model_validate(plan), [times(n, seed) for seed, n in enumerate(SIZES)]
    assert ("cells" in hospitals[0].sums(of)) is not hidden
    found = told(of, hospitals)
    names = {"stratified_concordance", *([] if hidden else ["concordance"])}
    assert {name for name in found["all"]["figures"] if "concordance" in name} == names
    assert (found["concordance_within"] is None) is hidden
    gaps = {gap["name"] for gap in found["gaps"] if gap["low"] is not None and "concordance" in gap["name"]}
    assert gaps == {"stratified_concordance" if hidden else "concordance"}


def test_the_slope_is_where_the_likelihood_is_highest_whoever_the_patients_are() -> None:
    for seed in range(30):
        one = times(60, seed)
        total = {"n": np.array([60.0]), "likelihood": hazards.likelihood(one.score, one.label)}
        found = hazards.slope(total, 0.95)
        if found.value is None:
            continue
        time, event, x = survival.times(one.label), survival.events(one.label), np.log(one.score)
        hazard, left = np.exp(found.value * x), 0.0
        for at in np.unique(time[event]):
            tied = event & (time == at)
            weight = hazard * ((time >= at) - np.arange(tied.sum())[:, None] / tied.sum() * tied)
            left += float(x[tied].sum() - np.sum(weight @ x / weight.sum(axis=1)))
        assert abs(left) < 1e-6, seed


def test_where_all_hazards_are_equal_a_group_is_compared_by_the_test_of_log_ranks() -> None:
    one = times(300, 5)
    equal = Patients(np.ones(300), one.label, one.columns)
    sums = equal.sums(SEEN)
    at = [(part.feature, part.name) for part in groups.asked(SEEN)].index(("sex", "male"))
    male = evaluation.part_of(sums, at, len(groups.asked(SEEN)))
    statistic, _ = survdiff(
        survival.times(one.label), survival.events(one.label).astype(int), one.columns["sex"].astype(int)
    )
    more = float(male["events"][0] - male["expected"][0])
    assert more**2 / float(male["variance"][0]) == pytest.approx(statistic, rel=1e-9)
    excess = peto.excess(male, 0.95)
    assert excess.value == pytest.approx(more / float(male["variance"][0])) and excess.low < excess.value


def test_a_group_that_has_events_more_often_than_the_model_says_has_a_clear_gap_and_a_fair_model_has_none() -> None:
    for more, clear in ((0.0, False), (0.7, True)):
        hospitals = []
        for seed, n in enumerate(SIZES):
            one = times(n, seed + 10, slope=1.0)
            time = survival.times(one.label) / np.exp(more * one.columns["sex"])
            hospitals.append(Patients(one.score, survival.joined(time, survival.events(one.label)), one.columns))
        gaps = {(g["feature"], g["name"]): g for g in told(TIME, hospitals)["gaps"]}
        gap = gaps["sex", "calibration_in_the_large"]
        assert gap["clear"] == clear and gap["group"] == "female"
        assert not clear or gap["value"] == pytest.approx(-0.7, abs=0.2)
        assert ("hospital", "calibration_in_the_large") not in gaps


def test_a_group_whose_values_are_told_too_high_has_a_clear_gap() -> None:
    hospitals = [numbers(n, seed) for seed, n in enumerate(SIZES)]
    for one in hospitals:
        one.label[one.columns["sex"] == 0] -= 12.0
    gaps = {(g["feature"], g["name"]): g for g in told(NUMBER, hospitals)["gaps"]}
    everybody = pooled(hospitals)
    error, female = everybody.label - everybody.score, everybody.columns["sex"] == 0
    gap = gaps["sex", "mean_error"]
    assert gap["clear"] and gap["value"] == pytest.approx(error[female].mean() - error[~female].mean(), abs=1e-9)


@pytest.mark.parametrize(("of", "drawn"), [(NUMBER, numbers), (COUNT, counts), (TIME, times)])
def test_a_gap_does_not_tell_of_a_group_that_is_withheld(of: Study, drawn: Callable[[int, int], Patients]) -> None:
    """200 women and 97 men, and of three nobody knows it: with the women's figure, the gap would give the men's."""
    one = drawn(300, 3)
    one.columns["sex"][:] = np.repeat([0.0, 1.0, np.nan], [200, 97, 3])
    found = appraisal.judged(of, added([one.sums(of)]), {})
    assert found["groups"]["sex"]["male"]["note"] == appraisal.FOLLOWS and found["groups"]["sex"]["female"]["figures"]
    gaps = {gap["name"]: gap["value"] for gap in found["gaps"] if gap["feature"] == "sex"}
    assert gaps and {gaps[name] for name in GAPS[of.contract.label.type]} == {None}


def test_where_the_number_of_events_is_hidden_it_does_not_follow_from_how_many_are_expected() -> None:
    """O / E and its interval, and (O - E) / V and its own, are each two equations for O and E."""
    one = times(300, 3)
    one.columns["sex"][:] = np.arange(300) % 3 == 0
    female = np.flatnonzero(one.columns["sex"] == 0)
    had = np.ones(300, dtype=bool)
    had[one.columns["sex"] == 1] = survival.events(one.label)[one.columns["sex"] == 1]
    for lived, hides in ((5, True), (20, False)):
        had[female[:lived]] = False
        total = Patients(one.score, survival.joined(survival.times(one.label), had), one.columns).sums(TIME)
        found = appraisal.judged(TIME, added([total]), {})
        mine = found["groups"]["sex"]["female"]
        gaps = {gap["name"]: gap for gap in found["gaps"] if gap["feature"] == "sex"}
        assert (mine["positives"] is None, mine["figures"]["concordance"]["value"] is None) == (hides, False)
        for told_ in (mine["figures"]["observed_to_expected"], gaps["calibration_in_the_large"]):
            assert (told_["value"] is None, told_["low"] is None) == (hides, hides)


@pytest.mark.parametrize(("of", "drawn", "few"), [
    (NUMBER, numbers, "fewer than ten patients"), (COUNT, counts, "fewer than ten patients"),
    (TIME, times, "fewer than ten with the event"),
])  # fmt: skip
def test_of_a_group_that_is_too_small_nothing_is_said_nor_follows(
    of: Study, drawn: Callable[[int, int], Patients], few: str
) -> None:
    one = drawn(120, 3)
    hers = np.flatnonzero(survival.events(one.label))[:9] if of is TIME else np.arange(9)
    one.columns["sex"][:] = 1.0
    one.columns["sex"][hers] = 0.0
    found = appraisal.judged(of, added([one.sums(of)]), {})
    female, male = found["groups"]["sex"]["female"], found["groups"]["sex"]["male"]
    assert few in female["note"] and not female["figures"] and female["n"] is None
    assert male["note"] == appraisal.FOLLOWS and not male["figures"], "hers are the whole less his"
    assert found["all"]["figures"] and not [gap for gap in found["gaps"] if gap["feature"] == "sex"]
    nobody = appraisal.judged(of, added([drawn(9, 1).sums(of)]), {})
    assert nobody["all"]["n"] is None and few in nobody["all"]["note"] and not nobody["all"]["figures"]


@settings(max_examples=10, deadline=None)
@given(st.integers(15, 200), st.integers(0, 999), st.floats(0.02, 0.98))
def test_no_number_of_one_to_nine_with_or_without_the_event_is_told(n: int, seed: int, share: float) -> None:
    one = times(n, seed)
    event = np.random.default_rng(seed).random(n) < share
    total = Patients(one.score, survival.joined(survival.times(one.label), event), one.columns).sums(TIME)
    found = appraisal.judged(TIME, added([total]), {"a": added([total])})
    for parts in (*found["groups"].values(), found["sites"]):
        known = [x for x in parts.values() if x["n"] is not None]
        left = [n - sum(x["n"] for x in known)]
        counted = [x for x in known if x["positives"] is not None]
        left += [x[name] for x in counted for name in ("positives", "negatives")]
        if counted:
            left += [event.sum() - sum(x["positives"] for x in counted)]
            left += [n - event.sum() - sum(x["negatives"] for x in counted)]
        assert not [count for count in left if 0 < count < 10]


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([NUMBER, COUNT, TIME]), st.integers(0, 60), st.data())
def test_whatever_a_site_sends_is_refused_or_gives_figures(of: Study, n: int, data: st.DataObject) -> None:
    drawn = {"number": numbers, "count": counts}.get(of.contract.label.type, times)
    sent = drawn(n, 1).sums(of)
    evaluation.check(of, "EVALUATE", sent)
    sent = spoiled(data, sent)
    try:
        evaluation.check(of, "EVALUATE", sent)
    except Invalid:
        return
    total = added([sent, drawn(120, 2).sums(of)])
    json.dumps(appraisal.judged(of, total, {"a": added([sent])}), allow_nan=False)


@pytest.mark.parametrize(("of", "drawn"), [(NUMBER, numbers), (COUNT, counts), (TIME, times)])
def test_a_secure_sum_keeps_the_digits_that_figures_need(of: Study, drawn: Callable[[int, int], Patients]) -> None:
    parts = [drawn(n, seed).sums(of) for seed, n in enumerate(SIZES)]
    shapes = {name: (chain.kind(array), array.size) for name, array in evaluation.nothing(of, "EVALUATE").items()}
    layout, total = Layout.of(of, "EVALUATE", ("F64", 3), shapes, len(parts)), {}
    for name in shapes:
        encoding = layout.encodings[f"metrics/{name}"]
        assert not sum(encoding.clamped(part[name]) for part in parts), name
        total[name] = encoding.decode(sum(encoding.encode(part[name])[0] for part in parts))
    sealed, plain = (appraisal.judged(of, each, {}) for each in (evaluation.among(total, len(parts)), added(parts)))
    for group, one in plain["groups"]["sex"].items():
        for name, figure in one["figures"].items():
            ends = (figure[end] for end in ("value", "low", "high"))
            near(sealed["groups"]["sex"][group]["figures"][name], *ends, bound=1e-5)


def secured(of: Study, parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The sums of hospitals as they come out of a secure sum."""
    shapes = {name: (chain.kind(array), array.size) for name, array in parts[0].items()}
    ways = Layout.of(of, "EVALUATE", ("F64", 3), shapes, len(parts)).encodings
    return {
        name: ways[f"metrics/{name}"].decode(sum(ways[f"metrics/{name}"].encode(part[name])[0] for part in parts))
        for name in shapes
    }


@pytest.mark.parametrize("drawn", [numbers, counts])
@pytest.mark.parametrize("recipe", ["plain", "secure_sum"])
def test_no_figure_and_no_interval_is_told_that_rounding_has_moved(
    drawn: Callable[[int, int], Patients], recipe: str
) -> None:
    """Of labels whose range is up to a hundred thousand times as wide as their values."""
    kind, told = ("number" if drawn is numbers else "count"), set[int]()
    hospitals = [drawn(n, seed) for seed, n in enumerate(SIZES)]
    label = {"id": "y", "meaning": "outcome", "type": kind, "unit": "1"}
    right: dict[str, Figure] | None = None
    for at, wide in enumerate(300.0 * 10.0 ** np.arange(0, 5.5, 0.5)):
        of = study(kind, label | {"range": [0, float(wide)]})
        of = Study.model_validate(of.model_dump() | {"privacy": {"recipe": recipe}})
        parts = [one.sums(of) for one in hospitals]
        found = worth.figures(of, secured(of, parts) if recipe == "secure_sum" else added(parts), 0.95)
        right = right or worth.figures(of, added(parts), 0.95)
        for name, one in found.items():
            true = right[name]
            assert true.low is not None and true.high is not None and true.value is not None
            if one.value is None or one.low is None:
                assert at and one.note in (coarse.COARSE, residuals.ALIKE), name
            width = true.high - true.low
            assert one.value is None or abs(one.value - true.value) < 0.1 * width, (name, wide)
            assert one.low is None or (one.high or 0) - one.low == pytest.approx(width, rel=0.2), (name, wide)
            told |= {at} if one.low is None else set()
    assert told or recipe == "plain", "there is something to hide"


@pytest.mark.parametrize("most", [240, 10**5, 10**9])
def test_pairs_come_out_of_a_secure_sum_as_they_were_however_many_patients_a_plan_allows(most: int) -> None:
    of = Study.model_validate(TIME.model_dump() | {"privacy": {"recipe": "secure_sum", "most_patients": most}})
    sent = times(240, 1).sums(of)
    layout = Layout.of(of, "EVALUATE", ("F64", 3), {name: ("F64", array.size) for name, array in sent.items()}, 4)
    for name in ("by_patient", "pairs", "both", "cells"):
        encoding = layout.encodings[f"metrics/{name}"]
        assert not encoding.clamped(sent[name]), name
        np.testing.assert_array_equal(encoding.decode(encoding.encode(sent[name])[0]), sent[name], name)


def test_pairs_that_are_rounded_and_told_by_patient_say_nearly_the_same() -> None:
    hospitals = [times(n, seed) for seed, n in enumerate(SIZES)]
    sealed, seen = (appraisal.judged(of, added([one.sums(of) for one in hospitals]), {}) for of in (TIME, SEEN))
    for kind, groups_ in {"all": {"all": seen["all"]}, **seen["groups"]}.items():
        for name, one in groups_.items():
            other = sealed["all"] if kind == "all" else sealed["groups"][kind][name]
            for figure, told_ in one["figures"].items():
                ends = [(told_[end], other["figures"][figure][end]) for end in ("value", "low", "high")]
                width = (told_["high"] or 0) - (told_["low"] or 0)
                assert all(a == b or abs(a - b) < 0.05 * width for a, b in ends), (name, figure)


def test_sums_of_hospitals_are_the_sums_of_all_their_patients_where_no_patients_are_compared() -> None:
    for of, drawn in ((NUMBER, numbers), (COUNT, counts)):
        hospitals = [drawn(n, seed) for seed, n in enumerate(SIZES)]
        whole = pooled(hospitals).sums(of)
        for name, array in added([one.sums(of) for one in hospitals]).items():
            if name == evaluation.HOSPITALS:
                assert (array == len(SIZES) * whole[name]).all(), "not of patients, but of hospitals"
                continue
            assert np.allclose(array, whole[name], rtol=1e-11, atol=1e-9), name
