"""Cox regression over hospitals, in secure sums, against lifelines and statsmodels on the pooled patients."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium.algorithms.regression import Fit, fitted
from consilium.api import freeze
from consilium.core import state as chain
from consilium.core.study import Study
from consilium.simulation import local
from unit.simulation import multicentre
from unit.simulation.multicentre import Row

phreg: Any = pytest.importorskip("statsmodels.duration.hazard_regression").PHReg
RTOL = 1e-6
COHORTS = {"lung": (multicentre.lung, multicentre.LUNG), "breast": (multicentre.breast, multicentre.BREAST)}
KNOWN = json.loads((Path(__file__).parents[2] / "vectors" / "cox.json").read_text())
"""What lifelines says of these patients: bench/cox.py wrote it."""


def cohort(name: str) -> tuple[dict[str, list[Row]], dict[str, list[int]]]:
    if not multicentre.FOLDER.is_dir():
        pytest.skip("the multicentre data are not here")
    read, features = COHORTS[name]
    return read(), features


def ran(told: dict[str, Any], mappings: dict[str, Path], folder: Path) -> Fit:
    folder.mkdir()
    plan, weights = freeze(Study.model_validate(told))
    outcome = local.run(plan, weights, local.tables(plan.study, mappings, folder), folder, "survival-1")
    fit = fitted(plan.study, chain.read(outcome.state).arrays)
    assert fit is not None
    return fit


def pooled(sites: dict[str, list[Row]], features: dict[str, list[int]], **how: Any) -> Any:
    """Statsmodels on all patients in one table."""
    rows = [row for patients in sites.values() for row in patients]
    x = np.array([[row[name] for name in features] for row in rows])
    time, event = (np.array([row[name] for row in rows]) for name in ("time", "event"))
    return phreg(time, x, status=event, **how).fit(tol=1e-14)


def strata(sites: dict[str, list[Row]]) -> np.ndarray:
    return np.repeat(np.arange(len(sites)), [len(patients) for patients in sites.values()])


def is_that(fit: Fit, coefficients: Any, errors: Any) -> None:
    assert fit.converged and fit.ratio == "hazard ratio"
    np.testing.assert_allclose([term.estimate for term in fit.terms], coefficients, rtol=RTOL)
    np.testing.assert_allclose([term.error for term in fit.terms], errors, rtol=RTOL)


@pytest.mark.parametrize("name", [pytest.param("lung"), pytest.param("breast", marks=pytest.mark.long)])
def test_stratified_by_hospital_it_is_that_of_lifelines_and_statsmodels(name: str, tmp_path: Path) -> None:
    sites, features = cohort(name)
    told = multicentre.study(features, len(sites))
    fit = ran(told, multicentre.tables(tmp_path / "h", sites, features), tmp_path / "run")
    known = KNOWN[name]["stratified"]
    is_that(fit, known["coefficients"], known["errors"])
    theirs = pooled(sites, features, ties="efron", strata=strata(sites))
    is_that(fit, theirs.params, theirs.bse)
    assert fit.deviance == pytest.approx(-2 * known["log_likelihood"], rel=RTOL) == -2 * theirs.llf
    np.testing.assert_allclose([term.p for term in fit.terms], known["p"], rtol=1e-4, atol=1e-12)
    for term in fit.terms:
        assert term.ratio is not None and term.ratio == pytest.approx(
            tuple(
                np.exp([term.estimate, term.estimate - 1.959964 * term.error, term.estimate + 1.959964 * term.error])
            ),
            rel=1e-6,
        )


def test_breslows_ties_are_those_of_statsmodels(tmp_path: Path) -> None:
    """On times by the month, so that many are tied: Efron's are others."""
    sites, features = cohort("breast")
    months = {
        site: [row | {"time": float(np.ceil(row["time"] / 30) * 30)} for row in patients[:120]]
        for site, patients in sites.items()
    }
    mappings = multicentre.tables(tmp_path / "h", months, features)
    for ties in ("breslow", "efron"):
        told = multicentre.study(features, 3, model={"kind": "cox", "options": {"ties": ties}})
        theirs = pooled(months, features, ties=ties, strata=strata(months))
        is_that(ran(told, mappings, tmp_path / ties), theirs.params, theirs.bse)
