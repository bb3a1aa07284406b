"""Newton's method over hospitals against statsmodels on their pooled patients, in both recipes."""

import csv
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from consilium import studyfile
from consilium.algorithms.regression import NARROW, Fit, fitted, scaling
from consilium.api import freeze
from consilium.core import state as chain
from consilium.core.errors import Invalid
from consilium.core.study import Study
from consilium.simulation import baseline, hospitals, local
from consilium.simulation.partition import Rule
from consilium.simulation.scenario import Wanted, simulate
from consilium.training.linear import Linear, Logistic
from unit.simulation import multicentre

sm: Any = pytest.importorskip("statsmodels.api", reason="statsmodels, of the extra `test`, is not installed")
HEART = Path(__file__).parents[4] / "shared" / "data" / "heart_disease"
FEATURES = ("age", "sex", "cp", "trestbps", "thalach", "exang", "oldpeak")
"""Of heart disease: those that all four hospitals have measured in most patients."""
LIKE = {"weights": np.zeros(6), "intercept": np.zeros(1)}
RECIPES = ("plain", "secure_sum")
RTOL = 1e-6
Draw = Callable[[np.random.Generator, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Ran:
    """A simulated run: its table, and the pooled training patients, (n, d) with a column of ones, and (n,)."""

    fit: Fit
    study: Study
    x: np.ndarray
    y: np.ndarray

    def agrees_with(self, theirs: Any, columns: Any = slice(None)) -> None:
        """Whether coefficients, standard errors, intervals and p-values are theirs, in the contract's units."""
        turned = scaling(self.study.contract)[:, columns]
        kept = [term for term in self.fit.terms if term.estimate is not None]
        rows = [index for index, term in enumerate(self.fit.terms) if term.estimate is not None]
        estimates = (turned @ theirs.params)[rows]
        errors = np.sqrt(np.diag(turned @ theirs.cov_params() @ turned.T))[rows]
        np.testing.assert_allclose([term.estimate for term in kept], estimates, rtol=RTOL)
        np.testing.assert_allclose([term.error for term in kept], errors, rtol=RTOL)
        for index, term in zip(rows, kept, strict=True):
            told = theirs.t_test(turned[[index]])
            assert term.p == pytest.approx(float(np.squeeze(told.pvalue)), rel=1e-4, abs=1e-12)
            assert (term.low, term.high) == pytest.approx(tuple(np.squeeze(told.conf_int(alpha=0.05))), rel=1e-5)


def ran(study: Study, mappings: dict[str, Path], folder: Path) -> Ran:
    folder.mkdir()
    plan, weights = freeze(study)
    tables = local.tables(plan.study, mappings, folder)
    outcome = local.run(plan, weights, tables, folder, f"{study.name}-1")
    works = local.works(plan, weights, tables, folder).values()
    x = np.concatenate([work.examples.x[~work.examples.test] for work in works])
    y = np.concatenate([work.examples.y[~work.examples.test] for work in works])
    fit = fitted(plan.study, chain.read(outcome.state).arrays)
    assert fit is not None and fit.patients == len(y)
    return Ran(fit, plan.study, np.column_stack([np.ones(len(x)), x]), y)


def exact(kind: str, recipe: str, **changes: Any) -> Study:
    """A regression on three numbers and a code, of which one number has a typical range, and one is often missing."""
    number = {"type": "number", "unit": "1", "missing": "forbidden"}
    label: dict[str, dict[str, Any]] = {
        "linear": {"type": "number", "unit": "mm[Hg]", "range": [0, 300]}, "logistic": {"type": "binary"},
        "poisson": {"type": "count", "range": [0, 400]},
    }  # fmt: skip
    told: dict[str, Any] = {
        "consilium": 1, "name": "exact", "title": "Exact",
        "purpose": {"code": "research", "text": "a test", "requester": "the tests"},
        "contract": {
            "id": "exact",
            "features": [
                {"id": "age", "meaning": "age", **number, "range": [0, 120], "unit": "a"},
                {"id": "crp", "meaning": "crp", **number, "range": [0, 500], "typical": [0, 50], "unit": "mg/L"},
                {"id": "bmi", "meaning": "bmi", **number, "range": [10, 80], "missing": "allowed"},
                {"id": "ward", "meaning": "ward", "type": "category", "missing": "forbidden",
                 "categories": {"a": "a", "b": "b", "c": "c"}},
            ],
            "label": {"id": "y", "meaning": "y", **label[kind]},
        },
        "model": {"kind": kind}, "strategy": {"name": "newton"}, "rounds": 10, "quorum": 3, "min_patients": 10,
        "privacy": {"recipe": recipe},
    }  # fmt: skip
    return Study.model_validate({**told, **changes})


DRAWS: dict[str, Draw] = {
    "linear": lambda rng, z: 120 + 20 * z + rng.normal(scale=9, size=z.size),
    "logistic": lambda rng, z: (rng.random(z.size) < 1 / (1 + np.exp(-z))).astype(float),
    "poisson": lambda rng, z: rng.poisson(np.exp(3 + 0.5 * z)).astype(float),
}


def tables(folder: Path, draw: Draw, wards: str = "abc", missing: float = 0.2) -> dict[str, Path]:
    """Three hospitals of unequal size and case mix."""
    found = {}
    for seed, (name, patients) in enumerate({"east": 150, "north": 90, "south": 260}.items()):
        rng = np.random.default_rng(seed)
        age, crp = rng.uniform(20 + 10 * seed, 90, patients), rng.exponential(12, patients).clip(0, 400)
        bmi, ward = rng.normal(26, 4, patients).clip(12, 70), rng.choice(list(wards), patients)
        score = 0.03 * (age - 60) + 0.02 * (crp - 12) - 0.05 * (bmi - 26) + 0.4 * (ward == "b") - 0.2 * seed
        label, lacks = draw(rng, score), rng.random(patients) < missing
        home = folder / name
        home.mkdir(parents=True)
        with (home / "table.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "age", "crp", "bmi", "ward", "y"])
            for i in range(patients):
                value = "" if lacks[i] else repr(float(bmi[i]))
                writer.writerow([f"p{i}", repr(float(age[i])), repr(float(crp[i])), value, ward[i], f"{label[i]:.10g}"])
        codes = "{" + ", ".join(f"{code}: {code}" for code in "abc") + "}"
        (home / "mapping.yaml").write_text(
            "mapping: 1\ncontract: exact\nsource: {type: csv, path: table.csv}\npatient: {column: id}\nfeatures:\n"
            "  age: {column: age, unit: a}\n  crp: {column: crp, unit: mg/L}\n  bmi: {column: bmi, unit: '1'}\n"
            f"  ward: {{column: ward, codes: {codes}}}\nlabel: {{column: y%s}}\n"
        )
        found[name] = home / "mapping.yaml"
    return found


def labelled(mappings: dict[str, Path], kind: str) -> dict[str, Path]:
    """The mappings, with what a label of this kind needs in them."""
    more = {"linear": ", unit: 'mm[Hg]'", "logistic": ", codes: {'0': 0, '1': 1}", "poisson": ""}[kind]
    for path in mappings.values():
        path.write_text(path.read_text() % more)
    return mappings


FAMILIES = {"logistic": sm.families.Binomial, "poisson": sm.families.Poisson}


def theirs(kind: str, x: np.ndarray, y: np.ndarray) -> Any:
    if kind == "linear":
        return sm.OLS(y, x).fit()
    return sm.GLM(y, x, family=FAMILIES[kind]()).fit(tol=1e-14, maxiter=100)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("kind", DRAWS)
def test_every_regression_is_that_of_statsmodels_on_the_pooled_patients(kind: str, recipe: str, tmp_path: Path) -> None:
    mappings = labelled(tables(tmp_path / "h", DRAWS[kind]), kind)
    found = ran(exact(kind, recipe), mappings, tmp_path / "run")
    assert found.fit.converged and not found.fit.problem
    their = theirs(kind, found.x, found.y)
    found.agrees_with(their)
    deviance = their.ssr if kind == "linear" else their.deviance
    assert found.fit.deviance == pytest.approx(deviance, rel=RTOL) and found.fit.freedom == their.df_resid


@pytest.mark.skipif(not HEART.is_dir(), reason="the raw files of UCI Heart Disease are not here")
@pytest.mark.parametrize("recipe", RECIPES)
def test_coronary_disease_in_four_real_hospitals_is_that_of_statsmodels(recipe: str, tmp_path: Path) -> None:
    hospitals.heart_disease(tmp_path / "h", HEART)
    told = studyfile.read(tmp_path / "h/study.yaml").model_dump()
    features = [one | {"missing": "forbidden"} for one in told["contract"]["features"] if one["id"] in FEATURES]
    privacy = {"recipe": recipe, "bits": 16}  # for changes of a model; a regression's sums have 64 whatever stands here
    told |= {"contract": told["contract"] | {"features": features}, "privacy": privacy, "rounds": 8}
    mappings = local.mappings(tmp_path / "h")
    for path in mappings.values():
        mapping = yaml.safe_load(path.read_text())
        mapping["features"] = {name: value for name, value in mapping["features"].items() if name in FEATURES}
        path.write_text(yaml.safe_dump(mapping))
    study = Study.model_validate({**told, "model": {"kind": "logistic"}, "strategy": {"name": "newton"}})
    found = ran(study, mappings, tmp_path / "run")
    assert found.fit.converged and found.fit.patients == 625
    found.agrees_with(theirs("logistic", found.x, found.y))


@pytest.mark.skipif(not multicentre.FOLDER.is_dir(), reason="the multicentre data are not here")
def test_positive_nodes_in_three_real_cohorts_are_those_of_statsmodels(tmp_path: Path) -> None:
    """Poisson: how many lymph nodes a breast cancer had reached, by what else was known when it was found."""
    found = ran(nodes("secure_sum"), breast(tmp_path / "h"), tmp_path / "run")
    assert found.fit.converged and not found.fit.problem
    assert found.fit.patients == 2557 and len(set(found.y)) > 30, "counts of many sizes"
    their = theirs("poisson", found.x, found.y)
    found.agrees_with(their)
    assert found.fit.deviance == pytest.approx(their.deviance, rel=RTOL) and found.fit.freedom == their.df_resid
    ratios = {term.term: term.ratio for term in found.fit.terms}
    assert found.fit.ratio == "rate ratio" and ratios["large"] is not None and ratios["large"][1] > 1  # type: ignore[operator]


NODES = ("age", "large", "pgr", "er")
"""What was known of each patient when the nodes were counted; treatment came after."""


def nodes(recipe: str) -> Study:
    """A regression of the number of positive nodes; receptors are mostly far below the largest that is plausible."""
    number = {"type": "number", "unit": "1", "missing": "forbidden"}
    features = [{"id": name, "meaning": name, **number, "range": multicentre.BREAST[name]} for name in NODES]
    contract = {
        "id": "nodes", "features": features,
        "label": {"id": "nodes", "meaning": "nodes", "type": "count", "range": multicentre.BREAST["nodes"]},
    }  # fmt: skip
    privacy = {"recipe": recipe, "most_patients": 2000}
    return Study.model_validate({**exact("poisson", recipe).model_dump(), "contract": contract, "privacy": privacy})


def breast(folder: Path) -> dict[str, Path]:
    """The Rotterdam tumour bank, split in two, and the trial of the German group."""
    found = {}
    for site, patients in multicentre.breast().items():
        home = folder / site
        home.mkdir(parents=True)
        rows = [
            [f"p{number}", *(f"{row[name]:g}" for name in (*NODES, "nodes"))] for number, row in enumerate(patients)
        ]
        with (home / "table.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["id", *NODES, "nodes"], *rows])
        mapping: dict[str, Any] = {
            "mapping": 1, "contract": "nodes", "source": {"type": "csv", "path": "table.csv"},
            "patient": {"column": "id"}, "features": {name: {"column": name, "unit": "1"} for name in NODES},
            "label": {"column": "nodes"},
        }  # fmt: skip
        (home / "mapping.yaml").write_text(yaml.safe_dump(mapping))
        found[site] = home / "mapping.yaml"
    return found


def test_what_no_patient_has_is_left_out_and_named(tmp_path: Path) -> None:
    """Nobody lies in ward c, and bmi is never missing: the rest is as if both were not there."""
    mappings = labelled(tables(tmp_path / "h", DRAWS["logistic"], wards="ab", missing=0), "logistic")
    found = ran(exact("logistic", "secure_sum"), mappings, tmp_path / "run")
    left_out = {term.term: term.note for term in found.fit.terms if term.estimate is None}
    assert left_out == dict.fromkeys(("bmi?", "ward=c"), "left out: no patient has it") and found.fit.converged
    columns = [index for index, term in enumerate(found.fit.terms) if term.estimate is not None]
    found.agrees_with(theirs("logistic", found.x[:, columns], found.y), columns)


def ranged(recipe: str, most: float, **changes: Any) -> Study:
    """With a wide range of crp, of which most patients have less than 50."""
    told = exact("logistic", recipe, **changes).model_dump()
    told["contract"]["features"][1] |= {"range": (0, most), "typical": None}
    return Study.model_validate(told)


def test_a_number_within_a_far_wider_range_is_fitted_or_named_and_never_wrong_without_a_word(tmp_path: Path) -> None:
    mappings = labelled(tables(tmp_path / "h", DRAWS["logistic"]), "logistic")
    found = ran(ranged("plain", 1e6), mappings, tmp_path / "plain")
    their = theirs("logistic", found.x, found.y)
    found.agrees_with(their)
    assert found.fit.converged and not found.fit.problem and found.fit.terms[2].estimate is not None
    rough = ran(ranged("secure_sum", 1e5), mappings, tmp_path / "rough").fit
    for term, known in zip(rough.terms, found.fit.terms, strict=True):
        assert term.error is not None and known.error is not None and term.precision is not None
        assert abs(term.error / known.error - 1) <= max(term.precision, RTOL), term
    assert 1e-6 < rough.terms[2].precision < 0.01 and "crp, per 1 mg/L (about " in rough.problem  # type: ignore[operator]
    assert "numbers: standardise" in rough.problem and rough.to_json()["problem"] == rough.problem
    tried = {"strategy": {"name": "newton-path", "options": {"penalties": [{"l1": 0.05, "l2": 0.1}, {}]}}}
    chosen = ran(ranged("secure_sum", 1e6, **tried), mappings, tmp_path / "path").fit
    assert chosen.path[1].chosen and 1e-7 < chosen.terms[2].precision < RTOL  # type: ignore[operator]
    for term, known in zip(chosen.terms, found.fit.terms, strict=True):  # of the estimate: a path tells no errors
        assert term.estimate is not None and term.precision is not None
        assert known.estimate is not None and known.error is not None
        assert abs(term.estimate - known.estimate) <= term.precision * max(abs(known.estimate), known.error)
    gone = ran(ranged("secure_sum", 1e9), mappings, tmp_path / "gone").fit
    assert gone.terms[2].note == NARROW and "crp, per 1 mg/L (left out)" in gone.problem


@pytest.mark.parametrize(("recipe", "rounds"), [("plain", 40), ("secure_sum", 8), ("secure_sum", 40)])
def test_separation_is_told_by_name_however_many_rounds_there_are(recipe: str, rounds: int, tmp_path: Path) -> None:
    """All patients in ward c have the disease."""
    mappings = labelled(tables(tmp_path / "h", DRAWS["logistic"]), "logistic")
    for path in mappings.values():
        table = path.parent / "table.csv"
        lines = [line.split(",") for line in table.read_text().split()]
        table.write_text("\n".join(",".join([*line[:5], "1" if line[4] == "c" else line[5]]) for line in lines) + "\n")
    study = exact("logistic", recipe, rounds=rounds)
    found = ran(study, mappings, tmp_path / "run")
    assert not found.fit.converged and found.fit.moving == ("ward c, against a",)
    assert "ward c, against a" in found.fit.problem and "model.l2" in found.fit.problem
    penalised = ran(exact("logistic", recipe, model={"kind": "logistic", "l2": 0.01}), mappings, tmp_path / "ridge")
    assert penalised.fit.converged and all(term.error is term.p is None for term in penalised.fit.terms)


def test_a_ridge_is_the_optimum_of_the_penalised_loss(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    mappings = labelled(tables(tmp_path / "h", DRAWS["logistic"]), "logistic")
    study = exact("logistic", "secure_sum", model={"kind": "logistic", "l2": 0.02})
    found = ran(study, mappings, tmp_path / "run")
    them = LogisticRegression(C=1 / (0.02 * len(found.y)), tol=1e-12, max_iter=10_000, solver="newton-cholesky")
    them.fit(found.x[:, 1:], found.y)
    wanted = scaling(found.study.contract) @ [float(them.intercept_[0]), *them.coef_[0]]
    np.testing.assert_allclose([term.estimate for term in found.fit.terms], wanted, rtol=RTOL)
    assert all(term.precision is not None and 0 < term.precision < RTOL for term in found.fit.terms)


@pytest.mark.parametrize(
    ("kind", "l1", "l2"), [("linear", 1.5, 0.02), ("logistic", 0.01, 0.0), ("logistic", 0.01, 0.01)]
)
def test_a_lasso_and_an_elastic_net_are_those_of_scikit_learn(kind: str, l1: float, l2: float, tmp_path: Path) -> None:
    from sklearn.linear_model import ElasticNet, LogisticRegression

    mappings = labelled(tables(tmp_path / "h", DRAWS[kind]), kind)
    how = {"model": {"kind": kind, "l2": l2}, "strategy": {"name": "newton", "options": {"l1": l1}}, "rounds": 12}
    found = ran(exact(kind, "secure_sum", **how), mappings, tmp_path / "run")
    both, n = l1 + l2, len(found.y)
    if kind == "linear":
        them = ElasticNet(alpha=both, l1_ratio=l1 / both, tol=1e-14, max_iter=100_000).fit(found.x[:, 1:], found.y)
        wanted = [float(them.intercept_), *them.coef_]
    else:
        part = {"l1_ratio": l1 / both, "C": 1 / (both * n), "solver": "saga"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            them = LogisticRegression(penalty="elasticnet", **part, tol=1e-12, max_iter=20_000).fit(
                found.x[:, 1:], found.y
            )
        wanted = [float(them.intercept_[0]), *them.coef_[0]]
    estimates = [term.estimate for term in found.fit.terms]
    turned = scaling(found.study.contract) @ wanted
    np.testing.assert_allclose(estimates, turned, rtol=RTOL, atol=1e-9)
    assert found.fit.converged and found.fit.l1 == l1 and all(term.error is None for term in found.fit.terms)
    rough = [term.precision for term in found.fit.terms if term.estimate != 0]
    assert all(one is not None and one < RTOL for one in rough), "of what the lasso left at zero there is none"
    known = baseline.Bench(found.study, Logistic() if kind == "logistic" else Linear(), LIKE)
    same = known.trained(found.x[:, 1:], found.y)
    again = scaling(found.study.contract) @ [same["intercept"][0], *same["weights"]]
    np.testing.assert_allclose(again, estimates, rtol=RTOL, atol=1e-9)
    assert 0 < sum(estimate == 0 for estimate in estimates) < len(estimates) - 2, "some are zero, and most are not"


@pytest.mark.parametrize(("l1", "l2"), [(2.0, 0.5), (0.1, 0.1)])
def test_an_elastic_net_of_counts_is_at_the_optimum_of_the_pooled_penalised_loss(
    l1: float, l2: float, tmp_path: Path
) -> None:
    """Its slope is that of the penalty. Counts have a wide range: losses are rounded to more than the last steps lower
    them by, and a step that was halved for it would leave the slope at 2e-5."""
    how = {"model": {"kind": "poisson", "l2": l2}, "strategy": {"name": "newton", "options": {"l1": l1}}, "rounds": 14}
    mappings = labelled(tables(tmp_path / "h", DRAWS["poisson"]), "poisson")
    found = ran(exact("poisson", "secure_sum", **how), mappings, tmp_path / "run")
    b = np.linalg.solve(scaling(found.study.contract), [term.estimate for term in found.fit.terms])
    slope = found.x.T @ (found.y - np.exp(found.x @ b)) / len(found.y)
    off, some = slope[1:] - l2 * b[1:], np.abs(b[1:]) > 1e-12
    assert found.fit.converged and abs(slope[0]) < 1e-7, "nothing holds the intercept"
    np.testing.assert_allclose(off[some], l1 * np.sign(b[1:][some]), atol=1e-7)
    assert np.all(np.abs(off) <= l1 + 1e-7) and np.sum(some) < len(some)


def test_a_hospital_with_more_patients_than_the_study_says_is_told(tmp_path: Path) -> None:
    mappings = labelled(tables(tmp_path / "h", DRAWS["logistic"]), "logistic")
    study = exact("logistic", "secure_sum", privacy={"recipe": "secure_sum", "most_patients": 1})
    with pytest.raises(Invalid, match=r"2 hospitals have sums beyond what privacy\.most_patients"):
        ran(study, mappings, tmp_path / "run")


def test_too_few_rounds_are_told(tmp_path: Path) -> None:
    mappings = labelled(tables(tmp_path / "h", DRAWS["poisson"]), "poisson")
    assert not ran(exact("poisson", "plain", rounds=1), mappings, tmp_path / "one").fit.converged
    assert not ran(exact("poisson", "plain", rounds=2), mappings, tmp_path / "two").fit.converged
    assert ran(exact("poisson", "plain", rounds=7), mappings, tmp_path / "seven").fit.converged


def test_hospitals_divided_anew_and_a_baseline_have_the_same_coefficients(tmp_path: Path) -> None:
    """How patients lie among sites does not matter; and the limits of one site are none for a pooled model."""
    mappings = labelled(tables(tmp_path / "h", DRAWS["poisson"]), "poisson")
    study = exact("poisson", "secure_sum", quorum=3, privacy={"recipe": "secure_sum", "most_patients": 200})
    found = ran(study, mappings, tmp_path / "run")
    wanted = {term.term: term.estimate for term in found.fit.terms}
    divided = simulate(study, mappings, Wanted(sites=6, partition=Rule.parse("shift")), lambda told: None)
    assert divided.fit is not None and divided.fit.converged and divided.fit.patients == found.fit.patients
    assert {term.term: term.estimate for term in divided.fit.terms} == pytest.approx(wanted, rel=RTOL)
    pooled = tmp_path / "pooled.safetensors"
    pooled.write_bytes(divided.model)
    told = baseline.compare(study, mappings, pooled)["all"]
    for name, figure in told["pooled"].items():
        assert figure["value"] == pytest.approx(told["given"][name]["value"], rel=RTOL), name
