"""A report of several models says which is which, and which patients a figure over several hospitals compares."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from consilium.documents import plots
from consilium.documents.page import _rounded_up
from consilium.documents.report import Report
from unit.documents.runs import STUDY, baseline, evaluation, judged, result, simulated, told, usual, worth

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DITTO = STUDY.model_copy(update={"strategy": type(STUDY.strategy).model_validate({"name": "ditto", "options": {}})})


def report(document: dict[str, Any], of: Any = None, beside: Any = None) -> Report:
    return Report.of(document, NOW, of, beside)


def text(of: Report, ident: str) -> str:
    page = of.html()
    if f'id="{ident}"' not in page:
        return ""
    part = page.split(f'id="{ident}"', 1)[1]
    return re.sub(r"<[^>]+>", " ", part[part.index(">") + 1 : part.index("</section>")])


def two(personal: float, common: float, sites: bool = True) -> dict[str, Any]:
    """A run with personal models: what they are worth, and what the common one is."""
    found = result(usual(3), "plain" if sites else "secure_sum")
    each = {f"site-0{at}": worth(personal) for at in (1, 2, 3)} if sites else {}
    more = {site: judged(common * 3, seed=at) for at, site in enumerate(each)}
    over = {
        "all": {**judged(1.0), "auroc": told(common)},
        "sites": {s: {**one, "auroc": told(common)} for s, one in more.items()},
    }
    last = evaluation(each, {}, [])
    last["all"]["figures"]["auroc"] = told(personal)
    return {**found, "evaluation": {**last, "common": over}}


@pytest.mark.parametrize("sites", [True, False])
def test_figures_of_personal_models_are_not_told_as_those_of_the_common_one(sites: bool) -> None:
    made = report(two(0.8, 0.7, sites), DITTO)
    (note,) = [one for one in made.findings.found if one.id == "note-personal-models"]
    assert "AUROC 0.70 (0.65 to 0.75) over all hospitals, where personal ones have 0.80 (0.75 to 0.85)" in note.text
    assert list(made.facts.models.values()) == ["personal model", "common model"]
    beside = text(made, "compared")
    assert "Personal beside common" in beside and "0.80" in beside and "0.70" in beside
    assert ("site-01" in beside) == sites
    items = {one.number: one.answer for one in made.items}
    assert "of each hospital’s personal model 0.80" in items["23a"] and items["22"].startswith(
        "Each hospital’s personal"
    )
    for ident in ("calibration", "roc", "decisions"):
        assert "common model" not in text(made, ident) and "personal model" in text(made, ident)
    rows = {(row["hospital"], row["model"]) for row in made.tables()["figures"] if row["metric"] == "auroc"}
    assert {("all", "federated"), ("all", "shared")} <= rows and (("site-02", "shared") in rows) == sites


@pytest.mark.parametrize(("personal", "common", "ident"), [
    (0.8, 0.7, None), (0.75, 0.77, "note-common-model-better"), (0.7, 0.85, "warning-common-model-better"),
])  # fmt: skip
@pytest.mark.parametrize("sites", [True, False])
def test_where_the_common_model_is_ahead_it_is_named(
    personal: float, common: float, ident: str | None, sites: bool
) -> None:
    found = [one for one in report(two(personal, common, sites), DITTO).findings.found if "common-model" in one.id]
    assert [one.id for one in found] == ([ident] if ident else [])
    assert not ident or ("site-01" if sites else "all hospitals") in found[0].text


def test_a_personal_model_that_stands_alone_is_called_so_and_any_other_run_has_none() -> None:
    alone = report(result(usual(3)), DITTO)
    assert list(alone.facts.models.values()) == ["personal model"] and "was not judged" in alone.html()
    plain = report({**result(usual(3)), "evaluation": {**evaluation({}, {}, []), "common": None}}, STUDY)
    assert list(plain.facts.models.values()) == ["common model"] and "ersonal model" not in plain.html()


def test_hospitals_that_tell_both_models_stand_there_with_both() -> None:
    found = two(0.8, 0.7, sites=False)
    both = {
        "federated": {"auroc": told(0.81), "accuracy": told(0.7)},
        "shared": {"auroc": told(0.71), "accuracy": told(0.6)},
    }
    found["declared"] = {
        "site-01": {"word": "told", "figures": both},
        "site-02": {"word": "told", "figures": {"shared": both["shared"]}},
        "site-03": {"word": "too few", "figures": {}},
    }
    beside = text(report(found, DITTO), "compared")
    assert "0.81" in beside and beside.count("0.71") >= 2 and "site-02" in beside


def test_a_model_on_file_that_a_baseline_judged_is_the_common_one() -> None:
    given = baseline(usual(3))
    for one in given["hospitals"].values():
        one["given"] = judged(0.5)
    found = {**simulated(usual(3)), "judged_on": given["judged_on"]}
    made = report(found, DITTO, given)
    assert made.facts.hospitals[0].figures["shared"]["auroc"].value == pytest.approx(judged(0.5)["auroc"]["value"])


@pytest.mark.parametrize(("within", "named"), [(0.795, False), (0.7, True), (0.86, True)])
def test_pairs_of_two_hospitals_are_told_apart_from_pairs_of_one(within: float, named: bool) -> None:
    found = result(usual(3), "secure_sum")
    last = evaluation({}, {}, [])
    last["all"]["figures"]["stratified_auroc"] = told(within)
    made = report({**found, "evaluation": last}, STUDY)
    assert ("note-between-hospitals" in {one.id for one in made.findings.found}) == named
    pairs = text(made, "pairs")
    assert "of whichever hospital" in pairs and "within hospitals" in pairs
    assert f"{within:.2f}" in text(made, "worth")


def test_how_far_histograms_may_take_a_figure_is_said() -> None:
    found = {**result(usual(3), "secure_sum"), "evaluation": evaluation({}, {}, [])}
    bounds = text(report(found, STUDY), "bounds")
    assert "AUROC by 0.0001" in bounds and "AUPRC by 0.001" in bounds
    assert text(report(result(usual(3)), STUDY), "bounds") == ""
    assert [_rounded_up(one) for one in (0.0, 0.00123, 0.0361, 0.5, 1.0)] == ["0", "0.0013", "0.037", "0.5", "1"]


def test_patients_at_two_hospitals_and_ensembles_are_said_to_be_unknown_or_counted() -> None:
    assert "patients who are at two hospitals" in text(report(result(usual(3), "secure_sum"), STUDY), "withheld")
    found = simulated(usual(3))
    found["hospitals"]["site-01"] |= {"copies": 0, "elsewhere": 7}
    made = report(found, STUDY)
    assert "7 held-out patients" in text(made, "flow") and "at two hospitals" not in text(made, "withheld")


def few(share: float, positives: int = 100, negatives: int = 200) -> dict[str, Any]:
    """Headline figures of a model that finds all but a few of those with the outcome."""
    hits, rejections = round(share * positives), negatives // 2
    n = positives + negatives
    counts = {
        "accuracy": (hits + rejections, n), "sensitivity": (hits, positives), "specificity": (rejections, negatives),
        "prevalence": (positives, n),
    }  # fmt: skip
    return {"auroc": told(0.8, n=n), **{name: told(of / every, n=every) for name, (of, every) in counts.items()}}


@pytest.mark.parametrize("model", ["own", "pooled", "ensemble"])
def test_small_cells_of_a_baseline_are_hidden_and_do_not_follow(model: str) -> None:
    given = baseline({site: few(0.6) for site in usual(3)})
    for one in given["hospitals"].values():
        one |= {"pooled": few(0.6), "ensemble": few(0.6)}
    given["all"] = {"pooled": few(0.6, 300, 600), "ensemble": few(0.6, 300, 600)}
    given["hospitals"]["site-02"][model] = few(0.97)
    given["hospitals"]["site-03"][model] = few(1.0, 4, 296)
    found = {**result(usual(3), "secure_sum"), "evaluation": None}
    figures = report({**found, "judged_on": given["judged_on"]}, STUDY, given).facts
    here = {one.name: one.figures[model] for one in figures.hospitals}
    assert here["site-01"]["sensitivity"].value == 0.6 and here["site-01"]["accuracy"].value is not None
    assert here["site-02"]["specificity"].value == 0.5 and here["site-02"]["auroc"].value == 0.8
    assert [here["site-02"][name].value for name in ("sensitivity", "accuracy")] == [None, None]
    assert all(one.value is None and one.n == 0 for one in here["site-03"].values()), "a class of four"
    if model != "own":
        assert figures.everyone[model]["sensitivity"].value == 0.6, "of two that are hidden none follows"
        given["hospitals"]["site-03"][model] = few(0.6)
        alone = report({**found, "judged_on": given["judged_on"]}, STUDY, given).facts.everyone[model]
        assert (alone["sensitivity"].value, alone["accuracy"].value) == (None, None)
        assert alone["specificity"].value is not None and alone["auroc"].value is not None


def test_more_models_than_there_are_colours_stand_in_the_table() -> None:
    given = baseline({site: few(0.6) for site in usual(3)})
    for one in given["hospitals"].values():
        one |= {"ensemble": few(0.6)}
    given["all"]["ensemble"] = few(0.6, 300, 600)
    made = report({**two(0.8, 0.7), "judged_on": given["judged_on"]}, DITTO, given)
    assert len(made.facts.models) == 5 and "ensemble of own models" in text(made, "compared")
    assert "The others stand in the table" in text(made, "compared")
    names = list(made.facts.models.values())[:4]
    places = [float(dict(one.attributes)["x"]) for one in plots.legend(names, 250, 16) if one.name == "text"]
    assert places == sorted(places) and places[-1] + 7.4 * len(names[-1]) <= plots.WIDTH, "none is cut off"
