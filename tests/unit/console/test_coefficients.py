"""The table of a regression as a clinician reads it."""

from dataclasses import replace

import pytest

from consilium.algorithms.regression import Fit, Term
from consilium.console.cli import coefficients

AGE = Term("age", "age, per 1 a", 0.04, 0.014, 0.01256, 0.06744, 0.0043, (1.0408, 1.0126, 1.0698))
SEX = Term("sex=male", "sex male, against female", 1.5, 0.28, 0.95, 2.05, 1e-8, (4.48, 2.59, 7.77))
WARD = Term("ward=c", "ward c, against a", note="left out: no patient has it")
FIT = Fit("logistic", (AGE, SEX, WARD), (), 625, 622, 511.5, 0.95, "odds ratio", 0.0)


def test_ratios_come_first_and_what_was_left_out_says_why() -> None:
    assert coefficients.rows(FIT) == [
        {"term": "age, per 1 a", "odds ratio": "1.041", "95% interval": "1.013 to 1.070", "p": "0.004",
         "coefficient": "0.04", "standard error": "0.014"},
        {"term": "sex male, against female", "odds ratio": "4.480", "95% interval": "2.590 to 7.770",
         "p": "below 0.001", "coefficient": "1.500", "standard error": "0.280"},
        {"term": "ward c, against a", "odds ratio": "left out: no patient has it"},
    ]  # fmt: skip


def test_a_linear_model_has_no_ratio_and_a_penalised_one_no_interval() -> None:
    linear = replace(FIT, kind="linear", ratio="", confidence=0.99, terms=(replace(AGE, ratio=None),))
    assert coefficients.rows(linear) == [
        {"term": "age, per 1 a", "coefficient": "0.04", "99% interval": "0.0126 to 0.0674", "p": "0.004",
         "standard error": "0.014"}
    ]  # fmt: skip
    bare = Term("age", "age, per 1 a", 0.04, ratio=(1.0408, None, None))
    (row,) = coefficients.rows(replace(FIT, l2=0.01, terms=(bare,)))
    assert row["odds ratio"] == "1.041" and row["95% interval"] == row["p"] == row["standard error"] == ""


def test_a_fit_that_did_not_come_to_rest_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    coefficients.show(FIT)
    assert "Logistic regression of 625 patients, exact" in (said := capsys.readouterr().out) and "rest" not in said
    coefficients.show(replace(FIT, moving=("ward c, against a",), l2=0.01))
    said = capsys.readouterr().out
    assert "did not come to rest: ward c, against a still moved" in said and "ridge penalty of 0.01" in said


def test_a_cox_regression_tells_hazard_ratios_and_its_likelihood(capsys: pytest.CaptureFixture[str]) -> None:
    coefficients.show(cox := replace(FIT, kind="cox", ratio="hazard ratio", terms=(AGE, WARD), deviance=-422.575))
    said = capsys.readouterr().out
    likelihood = (
        "each hospital with a baseline hazard of its own. Log partial likelihood 211.29 above that without effects"
    )
    statistic = "likelihood ratio statistic 422.57 on 1 degree of freedom."
    assert f"{likelihood}: {statistic}" in said.replace("\n", " ") and "hazard ratio" in said
    assert cox.likelihood_ratio == cox.to_json()["likelihood_ratio"] == 422.575 and FIT.likelihood_ratio is None
    coefficients.show(penalised := replace(cox, l2=0.1))
    assert "above that without effects. " in capsys.readouterr().out.replace("\n", " ") + " "
    assert penalised.likelihood_ratio is None and replace(cox, groups=(0.0, 30.0)).likelihood_ratio is None
    coefficients.show(in_groups := replace(FIT, kind="cox", ratio="hazard ratio", terms=(AGE,), groups=(0.0, 30.0)))
    told = "with one baseline hazard for all hospitals, on times in 2 groups: so few draw coefficients towards 0"
    assert f"{told}, as times" in capsys.readouterr().out.replace("\n", " ") and told in in_groups.to_json()["baseline"]
    assert replace(in_groups, groups=tuple(range(20))).baseline.endswith("on times in 20 groups")
    assert in_groups.to_json()["groups"] == (0.0, 30.0) and FIT.to_json()["baseline"] == ""


def test_penalties_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    coefficients.show(replace(FIT, l1=0.01, l2=0.02))
    assert "With a ridge penalty of 0.02 and a lasso penalty of 0.01:" in capsys.readouterr().out


def test_json_has_every_digit_and_says_whether_it_converged() -> None:
    told = FIT.to_json()
    assert told["converged"] is True and told["problem"] == "" and told["patients"] == 625
    assert told["terms"][0]["ratio"] == {"value": 1.0408, "low": 1.0126, "high": 1.0698}
    assert told["terms"][2] | {} == {**vars(WARD), "ratio": None}
