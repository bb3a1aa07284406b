"""Cox regression over hospitals, in secure sums, against lifelines and statsmodels on the pooled patients."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium.algorithms.regression import EVENTLESS, NARROW, Fit, fitted
from consilium.api import freeze
from consilium.core import state as chain
from consilium.core.errors import Conflict
from consilium.core.study import Study
from consilium.core.tensors import to_safetensors
from consilium.core.timed import TIES
from consilium.data import contract
from consilium.simulation import local
from unit.simulation import multicentre
from unit.simulation.multicentre import LAST, Row

phreg: Any = pytest.importorskip("statsmodels.duration.hazard_regression").PHReg
RTOL = 1e-6
COHORTS = {"lung": (multicentre.lung, multicentre.LUNG), "breast": (multicentre.breast, multicentre.BREAST)}
KNOWN = json.loads((Path(__file__).parents[2] / "vectors" / "cox.json").read_text())
"""What lifelines says of these patients: bench/cox.py wrote it."""


@pytest.fixture(autouse=True)
def everybody_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the tables of the others: no study can ask for that."""
    monkeypatch.setattr(contract, "held_out", lambda *_: False)


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
    assert theirs.llf == pytest.approx(known["log_likelihood"], rel=RTOL)
    without = theirs.model.loglike(np.zeros_like(theirs.params))
    assert fit.deviance == pytest.approx(-2 * (known["log_likelihood"] - without), rel=RTOL), "less that of no effects"
    assert fit.likelihood_ratio == -fit.deviance
    np.testing.assert_allclose([term.p for term in fit.terms], known["p"], rtol=1e-4, atol=1e-12)
    for term in fit.terms:
        assert term.ratio is not None and term.ratio == pytest.approx(
            tuple(
                np.exp([term.estimate, term.estimate - 1.959964 * term.error, term.estimate + 1.959964 * term.error])
            ),
            rel=1e-6,
        )


def test_without_any_event_nothing_is_fitted_and_that_is_said(tmp_path: Path) -> None:
    sites, features = cohort("lung")
    alive = {site: [{**row, "event": 0} for row in rows] for site, rows in sites.items()}
    told = multicentre.study(features, len(sites)) | {"rounds": 2}
    mapped = multicentre.tables(tmp_path / "h", alive, features)
    with pytest.raises(Conflict, match="add nothing to the sum"):
        ran(told, mapped, tmp_path / "sum")
    fit = ran(told | {"privacy": {"recipe": "plain"}}, mapped, tmp_path / "run")
    assert {term.note for term in fit.terms} == {EVENTLESS}
    assert fit.problem.startswith("Nothing could be fitted: no training patient had the event")


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


def common(every: float, until: float, least: int) -> dict[str, Any]:
    return {"strategy": {"name": "webdisco", "options": {"every": every, "until": until, "least": least}}}


@pytest.mark.long
@pytest.mark.parametrize("name", COHORTS)
def test_with_a_common_baseline_and_nothing_hidden_it_is_that_of_lifelines(name: str, tmp_path: Path) -> None:
    sites, features = cohort(name)
    until = max(row["time"] for patients in sites.values() for row in patients)
    told = multicentre.study(features, len(sites), **common(1, until, 1))
    fit = ran(told, multicentre.tables(tmp_path / "h", sites, features), tmp_path / "run")
    known = KNOWN[name]["common"]
    is_that(fit, known["coefficients"], known["errors"])
    assert fit.deviance == pytest.approx(-2 * known["log_likelihood"], rel=RTOL)
    np.testing.assert_allclose([term.p for term in fit.terms], known["p"], rtol=1e-4, atol=1e-12)
    theirs = pooled(sites, features, ties="efron")
    is_that(fit, theirs.params, theirs.bse)


@pytest.mark.parametrize("every", [None, 60], ids=["by hospital", "one baseline"])
def test_a_number_within_a_far_wider_range_is_told_and_never_wrong_without_a_word(
    every: int | None, tmp_path: Path
) -> None:
    """Each coefficient and error is as near to that of statsmodels as its `precision` says."""
    sites, _ = cohort("breast")
    sites = {site: [row | {"time": _rounded(row["time"], every)} for row in rows[::12]] for site, rows in sites.items()}
    ranges = {name: multicentre.BREAST[name] for name in ("age", "nodes", "pgr")}
    theirs = pooled(sites, ranges, ties="efron", strata=None if every else strata(sites))
    asked = common(every, LAST, 1) if every else {}
    for times, name in ((1e4, "wide"), (1e6, "wider")):
        wide = ranges | {"pgr": [0, int(6000 * times)]}
        told = multicentre.study(wide, 3, **asked) | {"rounds": 7}
        fit = ran(told, multicentre.tables(tmp_path / name / "h", sites, wide), tmp_path / name / "run")
        if name == "wider":
            assert fit.terms[2].note == NARROW and "pgr, per 1 (left out)" in fit.problem
            return
        assert "pgr, per 1 (about " in fit.problem and fit.terms[2].precision is not None
        assert 1e-5 < fit.terms[2].precision < 0.2
        for term, coefficient, error in zip(fit.terms, theirs.params, theirs.bse, strict=True):
            assert term.estimate is not None and term.error is not None and term.precision is not None
            within = max(term.precision, RTOL)
            assert abs(term.estimate - coefficient) <= within * max(abs(coefficient), error)
            assert abs(term.error / error - 1) <= within


def _rounded(time: float, every: int | None) -> float:
    return time if every is None else every * float(np.floor(time / every + 0.5))


def test_each_penalty_of_a_path_is_at_the_optimum_of_the_pooled_penalised_likelihood(tmp_path: Path) -> None:
    """Its slope, by statsmodels, is that of the penalty: on scaled columns, and by patients. Of the same rounds."""
    sites, _ = cohort("breast")
    sites = {site: rows[::12] for site, rows in sites.items()}
    ranges = {name: multicentre.BREAST[name] for name in ("age", "nodes", "pgr", "hormon")}
    tried = [{"l1": 0.03}, {"l1": 0.01, "l2": 0.02}, {"l2": 0.05}]
    told = multicentre.study(ranges, 3, strategy={"name": "newton-path", "options": {"penalties": tried}}, rounds=12)
    fit = ran(told, multicentre.tables(tmp_path / "h", sites, ranges), tmp_path / "run")
    rows = [row for patients in sites.values() for row in patients]
    time, event, x = (np.array([[row[name] for name in of] for row in rows]) for of in (["time"], ["event"], ranges))
    theirs = phreg(time[:, 0], x, status=event[:, 0], ties="efron", strata=strata(sites))
    half = np.array([(high - low) / 2 for low, high in ranges.values()])
    zeros = set()
    for one, penalty in zip(fit.path, tried, strict=True):
        estimates = np.array(one.estimates)
        scaled, slope = estimates * half, theirs.score(estimates) / half / len(rows)
        lasso, off = penalty.get("l1", 0.0), slope - penalty.get("l2", 0.0) * scaled
        assert one.converged
        np.testing.assert_allclose(off[scaled != 0], lasso * np.sign(scaled[scaled != 0]), atol=1e-9)
        assert np.all(np.abs(off) <= lasso + 1e-9)
        zeros.add(int(np.sum(scaled == 0)))
    assert len(zeros) > 1, "the more, the stronger the lasso"


def in_groups(tmp_path: Path, sites: dict[str, list[Row]], ties: str) -> Fit:
    how = {"model": {"kind": "cox", "options": {"ties": ties}}, "sites": tuple(sites), "rounds": 9}
    told = multicentre.study(multicentre.BREAST, 3, **common(multicentre.EVERY, LAST, 5), **how)
    return ran(told, multicentre.tables(tmp_path / "h", sites, multicentre.BREAST), tmp_path / "run")


def test_with_small_cells_hidden_it_is_that_of_lifelines_on_the_same_groups(tmp_path: Path) -> None:
    sites, _ = cohort("breast")
    fit, known = in_groups(tmp_path, sites, "efron"), KNOWN["grouped"]
    assert fit.groups == multicentre.GROUPS
    is_that(fit, known["coefficients"], known["errors"])
    assert fit.deviance == pytest.approx(-2 * known["log_likelihood"], rel=RTOL)


@pytest.mark.parametrize("ties", TIES)
def test_no_cell_is_small_and_statsmodels_says_the_same_of_the_groups(ties: str, tmp_path: Path) -> None:
    """Of a third of the patients."""
    sites, features = cohort("breast")
    sites = {site: patients[::3] for site, patients in sites.items()}
    fit = in_groups(tmp_path, sites, ties)
    known = multicentre.grouped(sites, fit.groups)
    theirs = pooled(known, features, ties=ties)
    is_that(fit, theirs.params, theirs.bse)
    cells = Counter((row["time"], row["event"]) for patients in known.values() for row in patients)
    assert min(cells.values()) >= 10 and len(fit.groups) > 8
    assert {time for time, event in cells if event} == set(range(1, len(fit.groups) + 1)), "each group has events"


@pytest.mark.parametrize("name", [pytest.param("lung"), pytest.param("breast", marks=pytest.mark.long)])
def test_in_a_secure_sum_the_concordance_is_that_of_lifelines_on_the_pooled_patients(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a given model that is judged on all patients: by the institution, pairs of two are nearly all there are."""
    monkeypatch.setattr(contract, "held_out", lambda *_: True)
    sites, features = cohort(name)
    widths = np.array([(high - low) / 2 for low, high in features.values()])
    model = tmp_path / "model.safetensors"
    model.write_bytes(to_safetensors({"weights": widths * KNOWN[name]["stratified"]["coefficients"]}))
    told = multicentre.study(
        features, len(sites), multicentre.LUNG_LAST if name == "lung" else LAST, rounds=0, strategy={"name": "fedavg"},
        model={"kind": "cox", "start": "given", "untied": True}, evaluation={"test_fraction": 1, "groups": []},
    )  # fmt: skip
    plan, weights = freeze(Study.model_validate(told), model=model)
    mappings = multicentre.tables(tmp_path / "h", sites, features)
    (tmp_path / "run").mkdir()
    prepared = local.tables(plan.study, mappings, tmp_path / "run")
    outcome = local.run(plan, weights, prepared, tmp_path / "run", "judged-1")
    everybody, figures = outcome.figures["evaluation"]["all"], outcome.figures["all"]
    theirs = KNOWN[name]["concordance"]
    assert everybody["n"] == sum(map(len, sites.values()))
    assert everybody["figures"]["concordance"] == figures["concordance"]
    assert figures["concordance"]["value"] == pytest.approx(theirs, abs=1e-3)
    assert abs(figures["concordance"]["value"] - theirs) <= outcome.figures["evaluation"]["concordance_within"] < 0.03
    assert figures["concordance"]["low"] < theirs < figures["concordance"]["high"]
    assert abs(figures["stratified_concordance"]["value"] - theirs) > 2e-3, "of pairs of one hospital it is another"
