"""The report as a page, as JSON and as data frames: all of it is there, whichever command the facts come from."""

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from consilium.algorithms.regression import Fit, Term, Tried
from consilium.console.cli.app import run
from consilium.core.errors import Invalid, Refused
from consilium.core.judging import judged_on
from consilium.core.preparing import Prepare
from consilium.core.privacy import Privacy
from consilium.core.study import Study
from consilium.documents.noise import Noise
from consilium.documents.report import Report
from consilium.documents.tripod import items
from unit.documents.runs import STUDY, Json, baseline, judged, result, simulated, usual

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_every_figure_stands_in_the_page_the_json_and_the_frames() -> None:
    report = Report.of(result(usual(3)), NOW, STUDY, baseline({"site-01": judged(0.9)}))
    rows = report.to_json()["figures"]
    assert {row["model"] for row in rows} == {"federated", "own", "pooled"}
    page, frames = report.html(), report.frames()
    for row in rows:
        if row["value"] is not None and (row["model"] == "federated" or row["metric"] == "auroc"):
            assert f"{row['value']:.2f}" in page
    frame = frames["figures"]
    assert len(frame) == len(rows) and set(frame["hospital"]) == {"all", "site-01", "site-02", "site-03"}
    auroc = frame[(frame.metric == "auroc") & (frame.model == "federated")].set_index("hospital")
    assert auroc.loc["site-02", "value"] == usual(3)["site-02"]["auroc"]["value"]
    assert json.loads(json.dumps(report.to_json()))["consilium_report"] == 1


def test_without_pandas_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(Refused) as told:
        Report.of(result(usual(3)), NOW, STUDY).frames()
    assert "notebook" in told.value.remedy


@pytest.mark.parametrize("document", [simulated(usual()), result(usual()), result(usual(), "secure_sum")])
def test_plots_have_words_and_tables_have_scope(document: dict[str, object]) -> None:
    page = Report.of(document, NOW, STUDY).html()
    plots = re.findall(r"<svg [^>]*>", page)
    assert plots and all('role="img"' in one and re.search(r'aria-label="[^"]{20,}"', one) for one in plots)
    tables = re.findall(r"<table.*?</table>", page, re.DOTALL)
    assert tables and all("<caption>" in one for one in tables)
    assert all('scope="' in head for head in re.findall(r"<th\b[^>]*>", page))
    assert len(re.findall(r'id="([^"]+)"', page)) == len(set(re.findall(r'id="([^"]+)"', page)))
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert links and links <= set(re.findall(r'id="([^"]+)"', page))


def test_the_flow_of_patients_adds_up() -> None:
    report = Report.of(simulated(usual(4)), NOW, STUDY)
    page = report.html()
    flow = page[page.index('id="flow-table"') :]
    last = re.search(r'<tr class="all">.*?</tr>', flow, re.DOTALL)
    assert last and re.findall(r"<td class=\"n\">(\d+)", last[0]) == ["2400", "1200", "1200"]
    assert "2400 patients trained the model" in page


def test_who_is_invited_and_was_never_there_is_counted_as_taking_no_part() -> None:
    """It said `all of those that there are` of a study that also invited a name that nobody has."""
    absent = {"site-1": "never joined", "site-03": "was removed from the federation"}  # of whom one was there, then
    given = result(usual(3)) | {"missing": [{"site": site, "why": why} for site, why in absent.items()]}
    page = Report.of(given, NOW, STUDY).html()
    assert "1 more took no part" in page and "invited, and never joined" in page
    assert "all of those that there are" in Report.of(result(usual(3)), NOW, STUDY).html()


def test_a_round_amid_which_a_run_was_stopped_is_none_that_hospitals_missed() -> None:
    given = result(usual(3)) | {"status": "stopped"}
    amid = {**given["participation"][2], "round": 4, "closed": None, "took_part": [], "figures": {}}
    made = Report.of({**given, "participation": [*given["participation"][:3], amid]}, NOW, STUDY)
    assert "participation" not in " ".join(one.id for one in made.findings.found)
    cards = made.html().partition('class="cards"')[2].partition("</dl>")[0]
    assert re.search(r"Rounds of training</dt><dd>3<", cards)
    assert len(made.facts.hospitals) == 3 and not any(one.out for one in made.facts.hospitals)


def test_who_was_left_out_stands_in_the_flow_by_reason() -> None:
    document = simulated(usual(2))
    left = {"read": 1000, "without_label": 60, "incomplete": 30, "immature": 0, "excluded": 10}
    document["hospitals"]["site-01"] |= left
    document["hospitals"]["site-02"] |= {**left, "excluded": 0, "without_label": 70}
    page = Report.of(document, NOW, STUDY).html()
    rows = re.findall(r"site-0\d</bdi></th>(.*?)</tr>", page[page.index('id="flow-table"') :])
    assert [re.findall(r">(\d+)<", row)[:5] for row in rows] == [
        ["1000", "10", "60", "30", "600"], ["1000", "0", "70", "30", "600"],
    ]  # fmt: skip
    assert "10 not meant by the contract" in page and "130 without outcome" in page and "too early" not in page


def test_what_hospitals_attest_of_their_patients_stands_in_the_flow_in_tens() -> None:
    given = result(usual(3), "secure_sum")
    told = {"read": 900, "opted_out": 20, "excluded": 0, "immature": 0, "without_label": 60, "incomplete": None}
    given["checks"] = {
        "site-01": {"passed": True, "patients": 520, "flow": {**told, "held_out": 250}},
        "site-02": {"passed": True, "patients": 480, "flow": None}, "site-03": {"passed": True, "patients": 0},
    }  # fmt: skip
    report = Report.of(given, NOW, STUDY)
    page = report.html()
    columns = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', page[page.index('id="flow-table"') :])[1:7]
    assert columns == ["opted out", "in the table", "no outcome", "training", "held out", "rounds"]
    rows = re.findall(r"site-0\d</bdi></th>(.*?)</tr>", page[page.index('id="flow-table"') :])
    assert re.findall(r">([\d ]+to[\d ]+)<", rows[0]) == [
        "20 to 29", "900 to 909", "60 to 69", "520 to 529", "250 to 259",
    ]  # fmt: skip
    assert "480 to 489" in rows[1] and rows[1].count("not told") == 4 and rows[2].count("not told") == 5
    assert "which tells them in tens" in page and "tell_flow" in page
    (first, *_) = report.tables()["patients"]
    assert (first["training"], first["rounded"]) == (520, True)
    whole = {**given, "checks": {name: {"passed": True, "patients": 100} for name in given["checks"]}}
    page = Report.of(whole, NOW, STUDY).html()
    assert "at least 300 patients trained the model" in page and "At least 300 training patients" in page
    exact = Report.of(whole, NOW, STUDY, baseline(usual(3))).html()
    assert "1800 patients trained the model" in exact and "at least" not in exact[exact.index('id="flow"') :][:4000]


def test_what_a_check_does_not_tell_under_an_epsilon_is_withheld_in_the_flow() -> None:
    given = result(usual(3), "secure_sum")
    given["checks"] = {name: {"passed": True, "patients": None, "flow": None} for name in given["sites"]}
    report = Report.of(given, NOW, STUDY)
    page = report.html()
    table = page[page.index('id="flow-table"') :]
    rows = re.findall(r"site-0\d</bdi></th>(.*?)</tr>", table[: table.index("</table>")])
    assert len(rows) == 3 and all(">withheld<" in row and " to " not in row for row in rows)
    assert "under an epsilon a hospital’s signed check tells no number" in page and "in tens." not in page
    (first, *_) = report.tables()["patients"]
    assert (first["training"], first["withheld"], first["rounded"]) == (None, True, False)


def test_items_are_filled_by_facts_or_asked_of_the_authors() -> None:
    whole, bare = Report.of(result(usual(3)), NOW, STUDY), Report.of(result(usual(3)), NOW)
    assert len(whole.items) == 52 and len({one.number for one in whole.items}) == 52
    answered = {one.number for one in whole.items if not one.open}
    assert {"1", "4", "6a", "8a", "12a", "20a", "23a", "23b"} <= answered
    assert {"2", "3c", "17", "18a", "19", "25", "26"}.isdisjoint(answered), "no fact answers these"
    assert {one.number for one in bare.items if not one.open} < answered
    page = whole.html()
    page = page[page.index('id="tripod"') :]
    for one in items(whole.facts, whole.findings):
        assert page.count(f'<th scope="row"><bdi>{one.number}</bdi></th>') == 1


def test_a_round_that_prepares_inputs_is_none_of_training_and_the_report_says_what_was_learned() -> None:
    study = STUDY.model_copy(
        update={"prepare": Prepare.model_validate({"numbers": "standardise", "missing": "impute"})}
    )
    given = result(usual(3))
    rounds = [{**one, "round": one["round"] + 1} for one in given["participation"]]
    first = {**rounds[0], "round": 1, "kind": "PREPARE", "figures": {"all": {}, "sites": {}}}
    report = Report.of({**given, "participation": [first, *rounds], "rounds": 4, "round": 5}, NOW, study)
    page = report.html()
    assert "of 3 planned" in page and "scaled by the mean and standard deviation of all" in page
    assert "filled in by the patients of all hospitals" in page and "not by the data" not in page
    course = page[page.index('id="rounds-table"') :]
    assert re.findall(r'<th scope="row"><bdi>(\d+)</bdi></th>', course)[:4] == ["0", "1", "2", "3"]


def test_what_is_withheld_is_not_there() -> None:
    report = Report.of(result(usual(3), "secure_sum"), NOW, STUDY)
    assert {row["hospital"] for row in report.tables()["figures"]} == {"all"}
    page = report.html()
    assert "a single hospital’s figures stay there" in page
    calm = page.partition('id="no-warnings"')[2].partition("</p>")[0]
    assert "Hospitals were not compared" in calm and "lies apart" not in calm
    assert "lies apart" in Report.of(result(usual(3)), NOW, STUDY).findings.calm
    beside = Report.of(result(usual(3), "secure_sum"), NOW, STUDY, baseline(usual(3)))
    assert "note-withheld" in {one.id for one in beside.findings.found}, "own models say nothing of the common one"
    assert "n = 300<" in beside.html() and "n = <" not in beside.html()
    assert "0 to 120 years" in page and "2030-01-01 00:00 UTC" in page and "00:00:00Z" not in page
    assert "not done" in report.html(), "leave-one-hospital-out"


def coefficients(*terms: Term, ratio: str) -> list[list[str]]:
    """Cells of the table of coefficients, of a regression as the program itself writes it."""
    fit = Fit("cox", terms, (), 2087, 0, -422.6, 0.95, ratio, 0.0)
    page = Report.of({**simulated(usual(3)), "regression": json.loads(json.dumps(fit.to_json()))}, NOW, STUDY).html()
    body = page[page.index('id="coefficients-table"') :].split("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    return [[re.sub("<.*?>", "", one) for one in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


def test_a_regression_tells_its_ratios_and_small_coefficients_with_digits_that_say_something() -> None:
    age = Term("age", "age, per 1 a", 0.0130, 0.0045, 0.0041, 0.0218, 0.0041, (1.0131, 1.0041, 1.0221))
    pgr = Term("pgr", "pgr, per 1 fmol/mg", -0.000301, 0.00014, -0.00057, -2.7e-05, 0.031, (0.9997, 0.99943, 0.99997))
    lasso = Term("nodes", "nodes, per 1", 0.08, ratio=(1.0833, None, None))
    out = Term("grade=g4", "grade g4, against g2", note="left out: no patient has it")
    heading, *rows = coefficients(age, pgr, lasso, out, ratio="hazard ratio")
    assert heading[1] == "hazard ratio (95% interval)"
    assert rows == [
        ["age, per 1 a", "1.013 (1.004 to 1.022)", "0.004", "0.013", "0.0045"],
        ["pgr, per 1 fmol/mg", "0.99970 (0.99943 to 0.999970)", "0.031", "−0.000301", "0.00014"],
        ["nodes, per 1", "1.083", "", "0.08", ""],
        ["grade g4, against g2", "left out: no patient has it", "", "", ""],
    ]
    heading, row = coefficients(pgr, ratio="")
    assert heading[1] == "coefficient (95% interval)" and row[1] == "−0.000301 (−0.00057 to −2.7e−05)"


def study_by(strategy: str, kind: str = "logistic", **options: object) -> Study:
    """The study, fitted by a strategy; all of its inputs are demanded."""
    given = STUDY.model_dump(mode="json") | {"strategy": {"name": strategy, "options": options}}
    given["model"] = {"kind": kind}
    for one in given["contract"]["features"]:
        one["missing"] = "forbidden"
    if kind == "cox":
        given["contract"]["label"] |= {"type": "time-to-event", "unit": "d", "range": [0, 4000]}
        given["sites"] = ["a", "b", "c"]
    return Study.model_validate(given)


def answers(study: Study, fit: Fit | None = None) -> dict[str, str]:
    """What the items of TRIPOD+AI say of a study; and under `page` its coefficients' section."""
    document = simulated(usual(3)) | ({"regression": json.loads(json.dumps(fit.to_json()))} if fit else {})
    report = Report.of(document, NOW, study)
    page = report.html().partition('<section id="coefficients"')[2].partition("</section>")[0]
    return {one.number: one.answer for one in report.items} | {"page": re.sub("<.*?>", "|", page)}


def test_a_penalty_and_who_chose_it_are_told_beside_the_coefficients_and_in_the_methods() -> None:
    age = Term("age", "age, per 1 a", 0.013)
    tried = tuple(Tried(l1, l2, 0.4, (0.013,), 1, l1 < 0.2, l1 == 0.1) for l1, l2 in ((0.5, 0.0), (0.1, 0.02)))
    fit = Fit("logistic", (age,), (), 500, 498, 400.0, 0.95, "", 0.02, l1=0.1, path=tried, judged=120)
    path = answers(study_by("newton-path", penalties=[{"l1": 0.5}, {"l1": 0.1, "l2": 0.02}]), fit)
    assert "one of 2 penalties" in path["12c"] and path["12c"].count("L1 penalty 0.1 and L2 penalty 0.02") == 1
    assert "no standard errors" in path["page"] and "120 validation patients" in path["page"]
    assert re.search(r"0\.5\W+0\W+0\.400\W+1\W+did not come to rest", path["page"])
    given = {**simulated(usual(3)), "regression": {"problem": "age still moved", "terms": [], "kind": "logistic"}}
    for rests, ident in ((False, "warning-regression"), (True, "note-regression")):
        given["regression"] |= {"converged": rests, "patients": 9}
        found = Report.of(given, NOW, STUDY).findings.found
        assert [one.text for one in found if one.id == ident] == ["age still moved"]
    assert re.search(r"0\.1\W+0\.02\W+0\.400\W+1\W+chosen\W", path["page"])
    lasso = answers(study_by("newton", l1=0.1))
    assert "L1 penalty 0.1." in lasso["12c"] and "L2 penalty 0" not in lasso["12c"]
    assert "L2 penalty 0." in answers(study_by("fedavg"))["12c"]


def test_methods_say_of_times_and_of_missing_values_what_was_done() -> None:
    common = answers(study_by("webdisco", "cox", every=30, until=3650))["12c"]
    assert "one baseline hazard" in common and "rounded to multiples of 30 d" in common
    told = answers(study_by("newton", "cox"))
    assert "each hospital with a baseline hazard of its own" in told["12c"]
    assert told["11"] == "No value is missing: a patient without age or ward is excluded."
    assert "missing" not in told["12b"] and "an indicator of its own" in answers(STUDY)["12b"]


@pytest.mark.parametrize(
    "given", [{}, {"study": "x"}, {"participation": [], "state": {}}, {"partition": 1, "executor": 2}]
)
def test_what_is_no_result_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        Report.of(given, NOW)


def test_a_baseline_of_another_study_is_refused() -> None:
    with pytest.raises(Invalid, match="is of the study other"):
        Report.of(result(usual(3)), NOW, STUDY, {**baseline({}), "study": "other"})


HELD_OUT = judged_on(STUDY)
OTHERS: dict[str, tuple[Json, Json, str]] = {
    "another split seed": (HELD_OUT, {**HELD_OUT, "split_seed": 2}, "split_seed is 2 in the baseline and 1 in the res"),
    "another share": (HELD_OUT, {**HELD_OUT, "test_fraction": 0.5}, "test_fraction is 0.5 in the baseline and 0.3 in"),
    "another contract": (HELD_OUT, {**HELD_OUT, "contract": "sha256:0"}, "contract is sha256:0 in the baseline"),
    "a simulation's own": ({}, HELD_OUT, "a simulation drew them"),
    "a file of before": (HELD_OUT, {}, "does not say which patients"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_baseline_of_other_held_out_patients_is_refused(what: str) -> None:
    """All models of a report are judged on the same patients; whether its study is at hand or not."""
    known, compared, words = OTHERS[what]
    beside = {**baseline(usual(3)), "judged_on": compared or None}
    document = {**simulated(usual(3)), "judged_on": known or None}
    for study in (STUDY, None):
        assert Report.of({**document, "judged_on": HELD_OUT}, NOW, study, {**beside, "judged_on": HELD_OUT})
        with pytest.raises(Invalid, match=words):
            Report.of(document, NOW, study, beside)


def alone(value: float, n: int = 100) -> dict[str, dict[str, Any]]:
    """What a hospital tells of one model of itself."""
    auroc = {"value": value, "low": value - 0.1, "high": value + 0.1, "n": n, "note": ""}
    few = {"value": None, "low": None, "high": None, "n": n, "note": "too few: between one and nine patients in a cell"}
    return {"auroc": auroc, "accuracy": few}


def test_hospitals_that_tell_what_it_is_worth_there_stand_in_the_table_and_others_with_a_word() -> None:
    """Rounded, as they told it; and a hospital that would be better off alone is seen."""
    document, silent = result(usual(3), "secure_sum"), {"word": "withheld", "figures": {}}
    one, two, three = document["decisions"]
    none = Report.of({**document, "declared": dict.fromkeys((one, two, three), silent)}, NOW, STUDY)
    assert not [row for row in none.tables()["figures"] if row["hospital"] != "all"]
    assert none.html().count("withheld: its policy, the kind of study") == 3
    document["declared"] = {
        one: {"word": "told", "figures": {"federated": alone(0.62), "own": alone(0.81)}},
        two: {"word": "too few", "figures": {}}, three: silent,
    }  # fmt: skip
    report = Report.of(document, NOW, STUDY)
    rows = {(row["hospital"], row["model"], row["metric"]): row for row in report.tables()["figures"]}
    assert rows[one, "federated", "auroc"]["value"] == 0.62 and rows[one, "own", "auroc"]["value"] == 0.81
    assert rows[two, "federated", "auroc"]["value"] is None and rows[two, "federated", "auroc"]["note"] == "too few"
    assert rows[three, "federated", "auroc"]["note"] == "withheld"
    page = report.html()
    assert f"{one} is ahead with its own model" in page and "rounded, as their policies allow" in page
    assert "tens of each class, rounded down" in page and "0.62" in page


def test_beside_a_baseline_each_figure_is_said_to_come_from_where_it_comes_from() -> None:
    """What a hospital tells stays as it told it; one that tells none is judged outside, if it is judged at all."""
    document, silent = result(usual(3), "secure_sum"), {"word": "withheld", "figures": {}}
    one, two, three = document["decisions"]
    document["declared"] = {
        one: {"word": "told", "figures": {"federated": alone(0.62), "own": alone(0.81)}}, two: silent, three: silent,
    }  # fmt: skip
    outside = baseline(usual(3))
    outside["hospitals"][two]["given"] = judged(1.2)
    report = Report.of(document, NOW, STUDY, outside)
    rows = {(row["hospital"], row["model"], row["metric"]): row for row in report.tables()["figures"]}
    assert rows[one, "federated", "auroc"]["value"] == 0.62 and rows[one, "own", "auroc"]["value"] == 0.81
    assert rows[two, "federated", "auroc"]["value"] == judged(1.2)["auroc"]["value"]
    assert rows[three, "federated", "auroc"]["note"] == "withheld" and rows[three, "own", "auroc"]["value"]
    page = report.html()
    assert "as their policies allow; of others, and of models that they do not tell, from one process outside" in page
    assert f"figures of {three} alone" in page and f"figures of {two} alone" not in page
    assert "Patients of those that tell theirs are counted in tens" in page
    del outside["hospitals"][two]["given"]
    page = Report.of(document, NOW, STUDY, outside).html()
    assert "rounded, as their policies allow." in page and "of models that they do not tell" not in page


NOISED = STUDY.model_copy(
    update={
        "privacy": Privacy(epsilon=2.0, delta=1e-4, sampling=0.25, expected_patients=200, noise_multiplier=9.4997),
    }
)


@pytest.mark.parametrize("document", [result(usual(3), "secure_sum"), simulated(usual(3))])
def test_noise_is_told_first_and_where_a_paper_wants_it_in_words_for_a_clinician(document: Json) -> None:
    made = Report.of(document, NOW, NOISED)
    (note,) = (one for one in made.findings.found if one.id == "note-noise")
    assert "on purpose" in note.title and "epsilon 2 at delta 0.0001" in note.text
    assert "noise of 9.5 times" in note.text and "0.25 of the patients drawn" in note.text and "secure_sum" in note.text
    page = made.html()
    headline = page.partition('id="headline"')[2].partition("</dl>")[0]
    assert "epsilon 2" in headline and "<dd>none" not in headline and "no noise" not in headline
    assert "epsilon 2 at delta 0.0001" in page.partition('id="noise"')[2].partition("</p>")[0]
    (method,) = (one.answer for one in made.items if one.number == "12c")
    assert "epsilon 2 at delta 0.0001" in method and "noise of 9.5 times" in method and "passes" not in method
    without = Report.of(document, NOW, STUDY)
    assert not {"note-noise"} & {one.id for one in without.findings.found} and "epsilon" not in without.html()


def test_noise_is_told_where_no_study_file_is_at_hand() -> None:
    noise = Noise.of(NOISED)
    assert noise is not None
    made = Report.of({**simulated(usual(3)), "noise": json.loads(json.dumps(noise.to_json()))}, NOW)
    assert "note-noise" in {one.id for one in made.findings.found} and "epsilon 2" in made.html()
    told = {**result(usual(3), "secure_sum"), "privacy": "secure_sum: x; differential privacy per patient, epsilon 2"}
    assert "no noise added" not in Report.of(told, NOW).html()


def test_what_becomes_of_own_models_is_said_as_the_recipe_has_it() -> None:
    plain, secure = (Report.of(result(usual(3), recipe), NOW, STUDY).html() for recipe in ("plain", "secure_sum"))
    assert "(<code>own_model</code>) stays at its hospital" in plain and "<code>release_figures</code>" not in plain
    assert "policies say both <code>own_model</code> and <code>release_figures</code>" in secure


def test_the_command_writes_a_page_and_the_same_as_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, page = tmp_path / "result.json", tmp_path / "report.html"
    source.write_text(json.dumps(simulated({**usual(), "west": judged(-1.2)})))
    assert run(["study", "report", "--from", str(source), "-o", str(page)]) == 0
    assert "Warning: Classes may be swapped at a hospital. west: AUROC" in capsys.readouterr().out
    assert 'id="warning-swapped-classes"' in page.read_text()
    assert run(["study", "report", "--from", str(source), "-o", str(page), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["file"] == str(page) and told["findings"][0]["id"] == "warning-swapped-classes"


def test_the_page_on_reports_names_every_element() -> None:
    root = Path(__file__).parents[3]
    source = "".join(
        (root / f"src/consilium/documents/{name}.py").read_text()
        for name in ("findings", "several", "unequal", "chance")
    )
    named = set(re.findall(r'f?"((?:warning|note|\{level\})-[a-z-]+)"', source))
    wanted = {one.replace("{level}", level) for one in named for level in ("warning", "note")}
    page = (root / "docs/how-to/report-a-study.md").read_text()
    assert len(wanted) == 31 and [one for one in sorted(wanted) if f"`{one}`" not in page] == []


@pytest.mark.parametrize(
    "words, code",
    [([], 2), (["x", "--from", "FILE"], 2), (["x", "--study", "FILE"], 2), (["--from", "FILE"], 5)],
)  # fmt: skip
def test_what_cannot_be_reported_is_said(words: list[str], code: int, tmp_path: Path) -> None:
    (tmp_path / "FILE").write_text("[]")
    assert run(["study", "report", *(word.replace("FILE", str(tmp_path / "FILE")) for word in words)]) == code
    assert not (tmp_path / "report.html").exists()
