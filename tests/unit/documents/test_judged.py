"""Calibration, thresholds, groups of patients: what the last round says is drawn, and what it hides stays hidden."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from consilium.algorithms import appraisal as algorithm
from consilium.algorithms import figure, metrics
from consilium.algorithms.gaps import GAPS
from consilium.core.study import Study
from consilium.documents.plots import BLACK, BLUE, ORANGE
from consilium.documents.report import Report
from consilium.documents.terms import number
from unit.algorithms.judging import Patients, added, study
from unit.algorithms.test_worth_of_numbers import counts, numbers, times
from unit.documents.runs import STUDY, Json, baseline, evaluation, gap, result, simulated, told, usual, worth

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HIDDEN = {"n": None, "positives": None, "negatives": None, "note": "too few: fewer than ten positives or negatives",
          "figures": {}, "confusion": None, "calibration_curve": [], "thresholds": [], "cuts": []}  # fmt: skip


def report(sites: dict[str, Json], groups: dict[str, Json] | None = None, gaps: list[Json] | None = None) -> Report:
    groups = groups if groups is not None else {"icu": worth(), "other": worth()}
    return Report.of({**result(usual(3)), "evaluation": evaluation(sites, groups, gaps or [])}, NOW, STUDY)


ALIKE = {site: worth() for site in usual(3)}


def seen(made: Report) -> dict[str, str]:
    return {one.id: one.text for one in made.findings.found}


def test_a_miscalibrated_hospital_is_named_and_the_others_are_not() -> None:
    assert "warning-miscalibrated" not in seen(report(ALIKE))
    for planted in (worth(large=0.8), worth(slope=0.4)):
        made = report({**ALIKE, "site-02": planted})
        told = seen(made)["warning-miscalibrated"]
        assert "site-02" in told and "site-01" not in told and "all hospitals" not in told
        page = made.html()
        assert page.index('id="warning-miscalibrated"') < page.index('id="worth"')


def test_where_a_model_says_0_or_1_the_mean_distance_tells_that_it_is_off() -> None:
    none = {**told(0.0), "value": None, "low": None, "high": None, "note": "beyond 30"}
    for distance, named in ((told(0.3), True), ({**told(0.06), "low": 0.0}, False), (told(0.3) | {"low": 0.0}, False)):
        sure = worth()
        sure["figures"] |= {"calibration_in_the_large": none, "calibration_slope": none, "calibration_error": distance}
        found = seen(report({**ALIKE, "site-02": sure}))
        assert ("warning-miscalibrated" in found) is named
        assert not named or "site-02: mean distance 0.30" in found["warning-miscalibrated"]


def test_what_is_off_by_little_or_by_chance_is_not_warned_of() -> None:
    sure_but_small = worth(large=0.15)
    large_but_unsure = worth(large=0.5)
    large_but_unsure["figures"]["calibration_in_the_large"] |= {"low": 0.02, "high": 0.98}
    made = report({**ALIKE, "site-01": sure_but_small, "site-02": large_but_unsure})
    assert "warning-miscalibrated" not in seen(made)
    assert made.findings.comparisons == 3 + 3 + 2 * 4, "others, chance, and calibration twice for each and all"


def test_a_group_that_is_served_worse_is_named() -> None:
    gaps = [gap("icu", "auroc", -0.1, True), gap("icu", "sensitivity", -0.3, False), gap("other", "ppv", -0.01, True)]
    told = seen(report(ALIKE, gaps=gaps))["warning-unfair-groups"]
    assert f"ward icu: AUROC differs by {number(-0.1)}" in told and "sensitivity" not in told and "PPV" not in told
    assert "at 95% each" in told and "at the 99% of each at which all 5" in told, "which interval it is"
    assert "warning-unfair-groups" not in seen(report(ALIKE, gaps=gaps[1:]))


@pytest.mark.parametrize("name", ["sensitivity", "specificity", "ppv"])
def test_a_threshold_that_treats_groups_otherwise_is_told_and_is_no_fault_of_the_model(name: str) -> None:
    made = report(ALIKE, gaps=[gap("icu", name, -0.3, True)])
    assert "warning-unfair-groups" not in seen(made) and 'id="no-warnings"' in made.html()
    told = seen(made)["note-groups-at-threshold"]
    assert "ward icu" in told and number(-0.3) in told and "At 0.5" in told
    both = seen(report(ALIKE, gaps=[gap("icu", name, -0.3, True), gap("icu", "calibration_in_the_large", 0.8, True)]))
    assert "in the large" in both["warning-unfair-groups"] and name not in both["warning-unfair-groups"]


def test_a_title_cannot_be_read_as_not_at_all_hospitals() -> None:
    given = evaluation({**ALIKE, "site-02": worth(slope=0.4)}, {}, [])
    (alone,) = (one for one in report({**ALIKE, "site-02": worth(slope=0.4)}).findings.warnings)
    assert alone.title == "At site-02 its predicted risks are off"
    given["all"] |= {"figures": worth(slope=0.5)["figures"]}
    made = Report.of({**result(usual(3)), "evaluation": given}, NOW, STUDY)
    (warning,) = (one for one in made.findings.found if one.id == "warning-miscalibrated")
    assert warning.title == "Over all hospitals together, and at site-02, its predicted risks are off"
    assert "all hospitals together: slope 0.5" in warning.text


def test_curves_and_tables_are_there_and_in_the_data() -> None:
    made = report(ALIKE, gaps=[gap("icu", "sensitivity", -0.3, True)])
    page, tables = made.html(), made.tables()
    for ident in ("groups", "calibration", "decisions", "roc"):
        part = page[page.index(f'<section id="{ident}"') :].split("</section>")[0]
        assert "<svg" in part and "<table" in part, ident
    assert {row["curve"] for row in tables["curves"]} == {"calibration", "roc", "net_benefit", "net_benefit_of_all"}
    assert tables["gaps"][0]["clear"] and {row["group"] for row in tables["groups"]} == {"icu", "other"}
    json.dumps(made.to_json())
    idents = re.findall(r' id="([^"]+)"', page)
    assert len(idents) == len(set(idents))
    (fairness,) = (one for one in made.items if one.number == "14")
    assert not fairness.open and "ward" in fairness.answer


def test_what_the_last_round_hides_is_shown_nowhere() -> None:
    """Of a hospital with small cells the headline has figures; the report takes those of the last round."""
    document = result(usual(3))
    known = document["figures"]["sites"]["site-03"]
    made = report({**ALIKE, "site-03": HIDDEN}, {"icu": worth(), "other": HIDDEN})
    rows = [row for row in made.tables()["figures"] if row["hospital"] == "site-03"]
    assert rows and all(row["value"] is None and row["low"] is None and row["n"] == 0 for row in rows)
    page = made.html()
    assert known["auroc"]["value"] is not None, "there is something to hide"
    cells = re.findall(r"site-03</bdi></th>(.*?)</tr>", page)
    assert "too few" in cells[0] and not re.search(r"0\.\d\d", cells[0])
    confusion = page[page.index('id="confusion"') :].split("</table>")[0]
    assert "fewer than 10" in confusion and "150" in confusion
    assert "note-few-patients" in seen(made)
    untold = re.sub("<.*?>", " ", page.partition('<table id="withheld-table"')[2].partition("</table>")[0])
    assert re.search(rf"site-03 in plots\W+{HIDDEN['note']}", untold) and re.search(
        rf"ward other\W+{HIDDEN['note']}", untold
    )


def test_where_no_group_is_told_nobody_says_that_it_is_and_bands_are_in_order() -> None:
    gaps = [{**gap("icu", "auroc", 0.0, False), "value": None, "low": None, "high": None, "note": "too few: cells"}]
    names = {"9 to 40": HIDDEN, "40 to 65": HIDDEN, "80 and above": HIDDEN, "below 9": HIDDEN}
    made = report(ALIKE, dict(sorted(names.items())), gaps)
    page = made.html()
    (fairness,) = (one.answer for one in made.items if one.number == "14")
    assert "not known" in fairness and "are told by" not in fairness
    body = page.partition('<table id="groups-0"')[2].partition("</table>")[0]
    assert re.findall(r"<bdi>(.*?)</bdi>", body) == ["below 9", "9 to 40", "40 to 65", "80 and above"]
    assert "not known" in page.partition('<table id="gaps"')[2].partition("</table>")[0]


def test_patients_of_hospitals_that_are_not_told_are_counted_in_the_whole() -> None:
    """A number for a paper: not the sum over the hospitals that are shown, with the share of all."""
    document = simulated(usual(3))
    document["evaluation"] = evaluation({**ALIKE, "site-03": HIDDEN}, {}, [])
    made = Report.of(document, NOW, STUDY)
    (flow,) = (one.answer for one in made.items if one.number == "20a")
    assert flow.startswith("500 held-out patients were evaluated, 0.40")
    table = made.html().partition('id="flow-table"')[2].partition("</table>")[0]
    assert re.findall(r">(\d+)<", table.partition('class="all"')[2])[-1] == "500"
    assert "stay there under this recipe" not in made.html(), "it is a simulation"


def test_nor_is_it_by_a_baseline() -> None:
    """The hospital's own model, and the pooled one, are judged on the very patients of whom nothing is told."""
    document = {**result(usual(3)), "evaluation": evaluation({**ALIKE, "site-03": HIDDEN}, {}, [])}
    made = Report.of(document, NOW, STUDY, baseline(usual(3)))
    rows = [row for row in made.tables()["figures"] if row["hospital"] == "site-03"]
    assert {row["model"] for row in rows} == {"federated", "own", "pooled"}
    assert all(row["value"] is None and row["n"] == 0 for row in rows)
    shown = [row for row in made.tables()["figures"] if row["hospital"] == "site-02" and row["model"] == "own"]
    assert all(row["value"] is not None for row in shown)


def test_with_too_few_patients_in_all_nothing_is_shown_nor_drawn() -> None:
    document = result(usual(3), "secure_sum")
    document["evaluation"] = evaluation({}, {}, []) | {"all": {**HIDDEN, "n": 60}}
    made = Report.of(document, NOW, STUDY, baseline(usual(3)))
    page, tables = made.html(), made.tables()
    for row in (*tables["figures"], *(row for row in tables["rounds"] if "metric" in row)):
        assert row["value"] is None and row["note"].startswith("too few")
        assert row["n"] == (60 if row.get("hospital", "all") == "all" else 0)
    assert {row["model"] for row in tables["figures"]} == {"federated", "own", "pooled"}
    assert 'id="rounds"' not in page and 'id="roc"' not in page and "too few" in page
    assert not re.search(r"0\.\d\d", page[page.index('id="worth"') :].split("</section>")[0])


def test_where_nothing_can_be_judged_that_is_the_first_warning() -> None:
    """All labels alike, by a code that is misspelt or the wrong column: nothing contradicts, of course."""
    nobody: Json = {"value": None, "low": None, "high": None, "n": 600, "note": "one class only"}
    headline = result(usual(3), "secure_sum")
    headline["figures"] = {"all": {**headline["figures"]["all"], "auroc": nobody}, "sites": {}}
    last = {**result(usual(3), "secure_sum"), "evaluation": evaluation({}, {}, []) | {"all": {**HIDDEN, "n": 600}}}
    for document, why in (headline, "one class only"), (last, "fewer than ten positives or negatives"):
        made = Report.of(document, NOW, STUDY)
        first = made.findings.found[0]
        assert first.id == "warning-nothing-judged" and why in first.text and "codes of the label" in first.text
        assert 'id="no-warnings"' not in made.html()
    assert "warning-nothing-judged" not in seen(report(ALIKE))
    lacking = simulated(usual(3))
    lacking["rounds"][-1] |= {"figures": {}, "withheld": ["held-out"]}
    lacking["figures"]["all"] = {}
    found = seen(Report.of(lacking, NOW, STUDY))
    assert "one could read another's" in found["warning-not-judged"] and "warning-nothing-judged" not in found

    def alike(n: int, seed: int) -> Patients:
        one = numbers(n, seed)
        one.label[:] = 50.0
        return one

    one_value = seen(of_outcome("number", alike))
    assert "one outcome" in one_value["warning-nothing-judged"] and "codes" not in one_value["warning-nothing-judged"]
    assert "with, or without" not in one_value["note-few-patients"]


def test_a_table_at_a_threshold_names_that_of_the_plan() -> None:
    told = Study.model_validate(STUDY.model_dump() | {"evaluation": {"figures": "headline", "threshold": 0.2}})
    assert "At a threshold of 0.2, by the plan" in Report.of(result(usual(3)), NOW, told).html()
    assert "At a threshold of 0.5, by the plan" in Report.of(result(usual(3)), NOW, STUDY).html()


def of_outcome(kind: str, drawn: Callable[[int, int], Patients], label: Json | None = None) -> Report:
    """The report of three hospitals with patients who were drawn so."""
    of, parts = study(kind, label), {f"site-{at}": drawn(260, at) for at in (1, 2, 3)}
    total = added([one.sums(of) for one in parts.values()])
    sums = {site: added([one.sums(of)]) for site, one in parts.items()}
    figures = {name: figure.to_json(metrics.figures(kind, one, 0.95, single=True)) for name, one in sums.items()}
    told = {"all": figure.to_json(metrics.figures(kind, total, 0.95)), "sites": figures}
    document = {**result(figures), "figures": told, "evaluation": algorithm.judged(of, total, sums)}
    return Report.of(document, NOW, of)


@pytest.mark.parametrize(
    ("kind", "drawn", "shown", "calibrated"),
    [
        ("number", numbers, ("MAE", "RMSE", "R²", "mean error"), ("mean error", "slope")),
        ("count", counts, ("deviance", "O:E", "mean error", "MAE"), ("mean error", "O:E", "slope")),
        ("time-to-event", times, ("concordance", "O:E", "slope"), ("slope",)),
    ],
)
def test_groups_of_patients_are_shown_whatever_the_outcome_is(
    kind: str, drawn: Callable[[int, int], Patients], shown: tuple[str, ...], calibrated: tuple[str, ...]
) -> None:
    made = of_outcome(kind, drawn)
    page, tables = made.html(), made.tables()
    groups = page[page.index('<section id="groups"') :].split("</section>")[0]
    assert "<svg" in groups and "female" in groups and "40 to 65" in groups
    assert all(f">{word}</th>" in groups for word in shown) and "AUROC" not in groups
    part = page[page.index('id="calibration-table"') :].split("</table>")[0]
    assert all(f">{word}</th>" in part for word in calibrated) and "Whether its predictions come true" in page
    rows = [row for row in tables["groups"] if (row["feature"], row["group"]) == ("sex", "female")]
    assert all(row["low"] < row["value"] < row["high"] for row in rows) and len(rows) >= 3
    assert {row["metric"] for row in tables["gaps"]} >= {*GAPS[kind]}
    assert len(made.frames()["groups"]) == len(tables["groups"]) and json.dumps(made.to_json())
    (fairness,) = (one for one in made.items if one.number == "14")
    assert "sex" in fairness.answer


def test_a_group_whose_values_are_predicted_too_high_is_named_first() -> None:
    def unfair(n: int, seed: int) -> Patients:
        one = numbers(n, seed)
        one.label[one.columns["sex"] == 0] -= 12.0
        return one

    told = seen(of_outcome("number", unfair))["warning-unfair-groups"]
    assert told.startswith("Against others, sex female: mean error differs by") and "age" not in told
    assert "warning-unfair-groups" not in seen(of_outcome("number", numbers))


def test_a_hospital_whose_values_are_predicted_too_low_is_named() -> None:
    def higher(n: int, seed: int) -> Patients:
        one = numbers(n, seed)
        one.label[:] += 12.0 * (seed == 2)
        return one

    made = of_outcome("number", higher)
    (warning,) = (one for one in made.findings.found if one.id == "warning-miscalibrated")
    assert "predictions" in warning.title and "site-2" in warning.title and "mean error" in warning.text
    assert "site-1" not in warning.text and "20 %" not in warning.text
    assert "warning-miscalibrated" not in seen(of_outcome("number", numbers))


def test_hospitals_are_compared_by_a_figure_that_has_an_interval() -> None:
    """Of counts without a range R² has none; deviance has."""
    made = of_outcome("count", counts, {"id": "y", "meaning": "outcome", "type": "count"})
    assert "deviance" in seen(made)["note-worst-hospital"] and "note-few-patients" not in seen(made)
    assert "R²" in seen(of_outcome("count", counts))["note-worst-hospital"]


def test_predictions_that_are_worse_than_the_mean_are_named_and_have_no_classes_that_could_be_swapped() -> None:
    def far_off(n: int, seed: int) -> Patients:
        one = numbers(n, seed)
        one.label[:] += 60.0 * (seed == 2)
        return one

    told = seen(of_outcome("number", far_off))
    assert (
        "site-2: R² −" in told["warning-no-better-than-chance"]
        and "their mean" in told["warning-no-better-than-chance"]
    )
    assert "site-1" not in told["warning-no-better-than-chance"] and "warning-swapped-classes" not in told


def test_what_is_too_small_to_be_shown_is_not_shown_of_a_model_that_left_it_out_either() -> None:
    sites = usual(3)
    given = simulated(sites) | {"without": {**usual(3), "all": sites["site-01"]}}
    small = {**worth(), "n": None, "positives": None, "note": "too few: fewer than ten", "figures": {}}
    given["evaluation"] = evaluation({"site-01": small, "site-02": worth(), "site-03": worth()}, {}, [])
    rows = Report.of(given, NOW, STUDY).tables()["figures"]
    shown = {(row["hospital"], row["model"]) for row in rows if row["value"] is not None}
    assert {("site-02", "without"), ("site-02", "federated"), ("all", "without")} <= shown
    assert not {(site, model) for site, model in shown if site == "site-01"}


def test_a_cross_validation_says_so_and_counts_nobody_twice() -> None:
    told = STUDY.model_dump() | {"min_patients": 50, "evaluation": {"folds": 5}}
    sites = simulated(usual(3))
    sites["hospitals"] = {name: {**one, "held_out": one["training"]} for name, one in sites["hospitals"].items()}
    page = Report.of(sites, NOW, Study.model_validate(told)).html()
    assert "judged by one of 5 models" in page and "5-fold cross-validation" in page
    assert "each by a model that was trained without them" in page and "held out</text>" not in page
    assert "leave-one-hospital-out" in page and "not done" in page
    assert "judged by one of" not in Report.of(simulated(usual(3)), NOW, STUDY).html()


def test_of_a_model_that_was_made_elsewhere_nothing_is_told_of_scales_and_nobody_was_held_out() -> None:
    """An ONNX file takes values as they are, and what is missing as missing: what becomes of them is inside of it."""
    made_elsewhere = {"kind": "onnx", "start": "given", "options": {"inputs": {"x": ["age", "ward=icu"]}}}
    told = STUDY.model_dump() | {"model": made_elsewhere, "rounds": 0, "evaluation": {"test_fraction": 1}}
    document = simulated(usual(3), rounds=0) | {"evaluation": evaluation(ALIKE, {"icu": worth(), "other": worth()}, [])}
    made = Report.of(document, NOW, Study.model_validate(told))
    answers = {one.number: one.answer for one in made.items}
    said = " ".join(answers[item] for item in ("7", "11", "12b"))
    assert not re.search("scaled|encoded|indicator", said), said
    assert "as missing" in answers["11"] and "inside of it" in answers["12b"]
    assert "1 number in" in answers["7"] and "1 category with" in answers["7"] and "excluded" not in answers["11"]
    assert answers["9a"].startswith("2 predictors, those that the model asks for") and "kind: onnx" in answers["12c"]
    page = made.html()
    assert not re.search("held[- ]out", page.partition("<main")[2].partition('id="withheld"')[0], re.IGNORECASE)
    assert "held-out patients" in report(ALIKE).html()


def decision_curve(known: dict[float, float | None]) -> str:
    """The section on thresholds, of a model with such net benefits; a share of 0.1 has the outcome."""
    few: Json = {"value": None, "low": None, "high": None, "n": 0, "note": "too few: between one and nine patients"}
    given = evaluation(ALIKE, {}, [])
    given["all"]["figures"]["prevalence"] = told(0.1)
    given["all"]["thresholds"] = [
        {"threshold": at, "hits": None, "misses": None, "alarms": None, "rejections": None,
         "net_benefit": few if value is None else told(value), "net_benefit_of_all": told(0.1 - 0.9 * at / (1 - at))}
        for at, value in known.items()
    ]  # fmt: skip
    page = Report.of({**result(usual(3)), "evaluation": given}, NOW, STUDY).html()
    return page.partition('<section id="decisions"')[2].partition("</section>")[0]


def test_a_decision_curve_has_gaps_where_nothing_is_told_and_says_at_which_thresholds_it_is_worth_it() -> None:
    part = decision_curve({0.05: None, 0.1: 0.02, 0.2: 0.016, 0.25: None, 0.3: 0.01, 0.5: None, 0.7: 0.0, 0.8: 0.0})
    lines = re.findall(r'<polyline points="(.*?)"[^>]*stroke="(.*?)"', part)
    model, everybody = ([line for line, colour in lines if colour == of] for of in (BLUE, ORANGE))
    assert [line.count(",") for line in model] == [2, 2], "0.1 to 0.2, and 0.7 to 0.8: nothing across a gap"
    assert part.count("<circle") == 5, "each that is known has a mark"
    (drawn,) = everybody
    points = [tuple(map(float, one.split(","))) for one in drawn.split()]
    nobody = float(next(line for line, colour in lines if colour == BLACK).split()[0].split(",")[1])
    assert points[0][1] < nobody < points[-1][1], "from above nobody to below"
    caption = part.partition("<figcaption>")[2].partition("</figcaption>")[0]
    assert "known at 5 of the plan’s 8 thresholds" in caption
    assert "Above both at 0.1, 0.2 and 0.3." in caption
    whole = decision_curve({0.1: 0.05, 0.2: 0.04, 0.3: 0.02, 0.4: 0.0})
    assert "Above both at 0.1 to 0.3." in whole and "gaps" not in whole
    assert "<svg" not in decision_curve({0.1: None, 0.2: None})


def test_a_title_says_among_how_many_hospitals_one_is_the_worst() -> None:
    """A title alone must not say more than is known: of those with few patients nothing is."""
    sites = usual(5)
    few = dict.fromkeys(("site-03", "site-04", "site-05"), HIDDEN)
    for worths, among in (
        ({s: worth() for s in sites}, "all 5 hospitals"),
        ({**ALIKE, **few}, "the 2 of 5 hospitals that"),
    ):
        for auroc, ident in (0.75, "note"), (0.5, "warning"):
            planted = {**worths, "site-02": worth(auroc)}
            given = {**result(sites), "evaluation": evaluation(planted, {}, [])}
            titles = {one.id: one.title for one in Report.of(given, NOW, STUDY).findings.found}
            title = titles[f"{ident}-worst-hospital"]
            assert title.startswith(f"Of {among}") and title.endswith("at site-02"), title


FOLLOWS = {**HIDDEN, "note": "withheld: what is too small to be shown would follow from it"}


def rare(auroc: float, share: float, n: int, apart: float) -> dict[str, Json]:
    """Headline figures of a hospital where such a share has the outcome."""
    return {"auroc": told(auroc, apart, n), "prevalence": told(share, 0.02, n)}


def turned(origin: Callable[[dict[str, Json]], Json], west: dict[str, Json], hidden: bool) -> Report:
    """Of 600 patients a fifth have the outcome; figures of one hospital of three are hidden, or not."""
    sites = {"north": rare(0.7, 0.07, 250, 0.1), "south": rare(0.68, 0.06, 250, 0.1), "west": west}
    known = {site: worth() | {"figures": figures} for site, figures in sites.items()}
    last = evaluation({**known, "west": FOLLOWS if hidden else known["west"]}, {}, [])
    last["all"]["figures"] |= {"prevalence": told(0.2, 0.02, 600)}
    return Report.of({**origin(sites), "evaluation": last}, NOW, STUDY)


SWAPPED = rare(0.33, 0.88, 100, 0.17)
"""Not surely below chance, with a dozen patients without the outcome: but nearly all have it."""


@pytest.mark.parametrize("hidden", [True, False])
def test_a_rare_outcome_that_is_the_wrong_way_round_is_seen_first(hidden: bool) -> None:
    """In a simulation the hospital is named, and no more is told of it than that."""
    made = turned(simulated, SWAPPED, hidden)
    first = made.findings.found[0]
    assert (
        first.id == "warning-swapped-classes" and "west: AUROC" in first.text and "as lack it elsewhere" in first.text
    )
    assert "north" not in first.text and "south" not in first.text
    page = made.html()
    assert ("0.33" in page) is not hidden and "0.88" not in first.text and ("0.88" in page) is not hidden


def test_of_a_federation_it_is_said_of_one_that_is_not_told_without_its_name() -> None:
    made = turned(result, SWAPPED, hidden=True)
    first = made.findings.found[0]
    assert (
        first.id == "warning-swapped-classes" and "1 of the hospitals that are not told: AUROC below 0.5" in first.text
    )
    assert "west" not in first.text and "0.33" not in made.html() and "0.88" not in made.html()


@pytest.mark.parametrize("west", [rare(0.7, 0.88, 100, 0.1), rare(0.45, 0.12, 100, 0.17), rare(0.45, 0.45, 100, 0.17)])
def test_a_hospital_with_other_patients_or_a_model_of_little_worth_is_none_with_a_swapped_label(west: Json) -> None:
    for hidden in (True, False):
        assert "warning-swapped-classes" not in seen(turned(simulated, west, hidden))
