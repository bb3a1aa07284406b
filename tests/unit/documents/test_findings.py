"""What a reader must see first is found where it was planted, and nowhere else."""

from datetime import UTC, datetime

import numpy as np
import pytest

from consilium.documents.findings import findings
from consilium.documents.gathered import gathered
from consilium.documents.report import Report
from unit.documents.runs import STUDY, baseline, judged, result, simulated, usual

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def seen(report: Report) -> dict[str, str]:
    return {one.id: one.text for one in report.findings.found}


def test_without_anything_planted_there_is_no_warning() -> None:
    report = Report.of(simulated(usual()), NOW, STUDY)
    assert report.findings.warnings == ()
    assert 'id="no-warnings"' in report.html() and "note-worst-hospital" in seen(report)


@pytest.mark.parametrize(
    "planted, apart, ident",
    [
        ("a hospital for which it is useless", 0.0, "warning-worst-hospital"),
        ("a hospital for which it is useless", 0.0, "warning-no-better-than-chance"),
        ("swapped classes", -1.2, "warning-swapped-classes"),
        ("test patients among the training patients", 4.0, "warning-too-good"),
    ],
)
def test_what_was_planted_is_named(planted: str, apart: float, ident: str) -> None:
    report = Report.of(simulated({**usual(), "west": judged(apart, seed=4)}), NOW, STUDY)
    assert "west" in seen(report)[ident], planted
    assert "site-" not in seen(report)[ident].split("Below the others")[0]
    page = report.html()
    assert page.index(f'id="{ident}"') < page.index('id="worth"')
    assert 'id="no-warnings"' not in page


def test_a_model_that_nothing_ties_to_the_contract_is_named() -> None:
    model = STUDY.model.model_copy(update={"start": "given", "untied": True})
    told = seen(Report.of(simulated(usual()), NOW, STUDY.model_copy(update={"model": model})))
    assert "the word of who gave it" in told["warning-untied"]


def test_a_leak_is_named_and_patients_who_are_alike_by_chance_are_not() -> None:
    document = simulated(usual())
    document["hospitals"]["site-03"] |= {"copies": 25, "elsewhere": 0}
    document["hospitals"]["site-04"] |= {"copies": 60, "elsewhere": 180}  # few inputs: many are alike
    document["hospitals"]["site-05"] |= {"copies": 1, "elsewhere": 0}
    told = seen(Report.of(document, NOW, STUDY))["warning-leak"]
    assert "site-03: 25 of 300" in told and "site-04" not in told and "site-05" not in told


@pytest.mark.parametrize("apart", [0.0, -1.2])
def test_beside_a_hospital_where_it_is_useless_or_swapped_no_other_one_is_too_good(apart: float) -> None:
    told = seen(Report.of(simulated({**usual(2), "west": judged(apart, 900)}), NOW, STUDY))
    assert "west" in told["warning-worst-hospital"] and "warning-too-good" not in told
    two = seen(Report.of(simulated({**usual(2), "west": judged(4.0, 900)}), NOW, STUDY))["warning-too-good"]
    assert two.startswith("west") and "site-01" not in two


def test_a_model_that_may_be_of_no_use_over_all_is_named_though_hospitals_are_few() -> None:
    document = simulated({"north": judged(1.2, 60), "south": judged(0.6, 18), "west": judged(0.0, 18)})
    assert "warning-no-better-than-chance" not in seen(Report.of(document, NOW, STUDY))
    document["figures"]["all"] = judged(0.1, 90)
    told = seen(Report.of(document, NOW, STUDY))["warning-no-better-than-chance"]
    assert told.startswith("all hospitals together: AUROC 0.") and "north" not in told


def test_a_swapped_hospital_is_not_told_as_one_without_use() -> None:
    told = seen(Report.of(simulated({**usual(), "west": judged(-1.2)}), NOW, STUDY))
    assert "warning-no-better-than-chance" not in told


def test_where_all_hospitals_are_swapped_the_model_may_be() -> None:
    one = seen(Report.of(simulated({**usual(), "west": judged(-1.2)}), NOW, STUDY))["warning-swapped-classes"]
    every = {name: judged(-1.2, seed=at) for at, name in enumerate(usual())}
    told = seen(Report.of(simulated(every), NOW, STUDY))["warning-swapped-classes"]
    assert "`positive`" in told and "`positive`" not in one and "in the mapping before" in one


def test_few_patients_are_not_compared() -> None:
    report = Report.of(simulated({**usual(), "west": judged(-3.0, patients=18)}), NOW, STUDY)
    assert "west" in seen(report)["note-few-patients"] and report.findings.warnings == ()
    assert report.findings.comparisons == 10, "of five hospitals, with the others and with chance; not of the sixth"


def test_chance_alone_gives_a_warning_in_few_reports() -> None:
    """Hospitals alike but for chance: at most 1 in 20 reports has a warning, however many hospitals are compared."""
    chance, warned = np.random.default_rng(1), 0
    for _ in range(60):
        error = chance.uniform(0.01, 0.04, 20)
        values = 0.8 + error * chance.normal(size=20)
        sites = {
            f"site-{k:02}": {
                "auroc": {"value": v, "low": v - 1.96 * e, "high": v + 1.96 * e, "n": 4000, "note": ""},
                "prevalence": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 4000, "note": ""},
            }
            for k, (v, e) in enumerate(zip(values.tolist(), error.tolist(), strict=True))
        }
        warned += bool(findings(gathered(simulated(sites), STUDY)).warnings)
    assert warned <= 8, "5 % of 60, and three standard errors"


def test_an_own_model_that_is_ahead_is_named() -> None:
    document, sites = result(usual(3)), list(usual(3))
    ahead = Report.of(document, NOW, STUDY, baseline({sites[0]: judged(3.0), sites[1]: judged(0.1)}))
    told = seen(ahead)["warning-own-model-better"]
    assert sites[0] in told and sites[1] not in told
    assert "warning-own-model-better" not in seen(Report.of(document, NOW, STUDY))


@pytest.mark.parametrize(
    ("apart", "ident"), [(-1.2, "warning-swapped-classes"), (0.0, "warning-no-better-than-chance")]
)
def test_where_no_hospital_can_be_looked_at_all_of_them_together_are(apart: float, ident: str) -> None:
    """By the default recipe nobody sees single hospitals, and classes that are swapped at all of them must be seen."""
    given = result(usual(3), "secure_sum")
    assert not {"warning-swapped-classes", "warning-no-better-than-chance"} & seen(Report.of(given, NOW, STUDY)).keys()
    given["figures"] = {"all": judged(apart, 2000), "sites": {}}
    report = Report.of(given, NOW, STUDY)
    assert "all hospitals" in seen(report)[ident]
    page = report.html()
    assert page.index(f'id="{ident}"') < page.index('id="worth"') and 'id="no-warnings"' not in page
    assert "with chance" in page and "other hospitals, chance" not in page


def test_withheld_figures_are_said_to_be() -> None:
    report = Report.of(result(usual(3), "secure_sum"), NOW, STUDY)
    assert "note-withheld" in seen(report) and not any("site-" in row["hospital"] for row in report.tables()["figures"])
    assert "a single hospital’s figures stay there" in report.html()


def test_a_run_that_ended_early_and_a_broken_log_come_first() -> None:
    document = {**result(usual(3)), "status": "stopped", "reason": "enough"}
    document |= {"judged": {"round": 3, "kind": "TRAIN", "model_after_round": 2}}
    document["audit"] = [{"log": "coordinator", "entries": 3, "intact": False}]
    told = seen(Report.of(document, NOW, STUDY))
    assert list(told)[:3] == ["warning-not-judged", "warning-unfinished", "warning-audit"]
    assert "after round 2" in told["warning-not-judged"] and "enough" in told["warning-unfinished"]


def test_who_missed_rounds_is_named() -> None:
    document = result(usual(3))
    for entry in document["participation"]:
        entry["took_part"] = ["site-01", "site-02"]
    assert "site-03 4" in seen(Report.of(document, NOW, STUDY))["warning-participation"]
    document["participation"][0]["took_part"] = ["site-01", "site-02", "site-03"]
    assert "site-03 3" in seen(Report.of(document, NOW, STUDY))["note-participation"]


@pytest.mark.parametrize("since", [0, 1])
def test_a_hospital_that_was_asked_and_is_in_no_sum_is_warned_of_and_why(since: int) -> None:
    """Of one that had answered for keys, and of one in 31 attempts that were given up: `asked in no round`."""
    document, left = (
        result(usual(3), "secure_sum"),
        {"site": "west", "since": since, "why": "so it was", "next": "wait"},
    )
    document["decisions"]["west"] = dict(document["decisions"]["site-01"])
    assert "warning-left-out" not in seen(Report.of(document, NOW, STUDY))
    lost = {**document["participation"][0], "cancelled": "lost", "took_part": ["west"]}
    lost["roster"] = ["west", *lost["roster"]]
    if since:
        document["participation"].insert(0, lost)
        document["sites"]["west"] = {"rounds": 0, "bytes": 10}
    else:
        document["pairing"] = [{**lost, "kind": "PAIR", "round": 0}]
    document["left_out"] = [left]
    report = Report.of(document, NOW, STUDY)
    told = seen(report)["warning-left-out"]
    assert told.startswith(f"west, from {'round 1' if since else 'the first round'} on: so it was.") and "wait" in told
    (west,) = (row for row in report.tables()["patients"] if row["hospital"] == "west")
    assert west["out"].startswith("approved and was asked") and "asked in no" not in report.html()
    assert "3 of 3 hospitals were part of all 4 rounds" in report.html()
    document["decisions"]["west"]["decision"] = "revoke"
    report = Report.of(document, NOW, STUDY)
    assert "warning-left-out" not in seen(report) and "revoked its approval" in report.html()


def test_a_refusal_of_each_round_is_one_row_of_the_report() -> None:
    document = result(usual(3), "secure_sum")
    document["refusals"] = [
        {"site": site, "run": "sepsis-1", "round": number, "reason": "difference", "text": "it would show single parts"}
        for number in range(1, 32) for site in ("site-01", "site-02", "site-03")
    ]  # fmt: skip
    page = Report.of(document, NOW, STUDY).html()
    assert page.count("it would show single parts") == 1 and "1 to 31" in page and "difference" in page


def test_figures_that_the_federation_withheld_are_said_to_come_from_elsewhere() -> None:
    """A baseline beside a secure sum judges single hospitals, where their records lie together."""
    own = {site: judged(1.0) for site in usual(3)}
    beside = baseline(own)
    for site, facts in beside["hospitals"].items():
        facts["given"] = usual(3)[site]
    page = Report.of(result(usual(3), "secure_sum"), NOW, STUDY, beside).html()
    assert "the recipe secure_sum; those that stand here are told by one process outside of the federation" in page
    assert "note-withheld" not in page
