"""Baselines: what a direct computation gives, on the patients that they say."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from consilium.api import freeze
from consilium.console.cli.app import run
from consilium.core.errors import Invalid
from consilium.core.judging import judged_on
from consilium.core.study import Plan, Study
from consilium.core.tensors import to_safetensors
from consilium.exported import origin
from consilium.simulation import baseline, local
from consilium.training.work import Work

Make = Callable[..., dict[str, Path]]


def works(study: Study, hospitals: dict[str, Path], folder: Path) -> dict[str, Work]:
    plan, weights = freeze(study)
    return local.works(plan, weights, local.tables(plan.study, hospitals, folder), folder)


def joined(here: dict[str, Work], *, test: bool) -> tuple[np.ndarray, np.ndarray]:
    rows = {site: work.examples.test == test for site, work in here.items()}
    x = np.concatenate([work.examples.x[rows[site]] for site, work in here.items()])
    return x, np.concatenate([work.examples.y[rows[site]] for site, work in here.items()])


def test_the_pooled_model_is_that_of_scikit_learn(study: Study, make: Make, tmp_path: Path) -> None:
    hospitals = make(north=(150, None), south=(60, None), west=(90, None))
    long = study.model_copy(update={"rounds": 400})  # to the optimum
    here = works(long, hospitals, tmp_path)
    x, y = joined(here, test=False)
    theirs = LogisticRegression(C=1 / (len(y) * study.model.l2), tol=1e-10, max_iter=10_000).fit(x, y)
    first = here["north"]
    ours = baseline.Bench(first.plan.study, first.trainer, first.like).trained(x, y)
    np.testing.assert_allclose(ours["weights"], theirs.coef_[0], rtol=1e-4)
    np.testing.assert_allclose(ours["intercept"], theirs.intercept_, rtol=1e-3)
    told = baseline.compare(long, hospitals)["all"]["pooled"]
    held_x, held_y = joined(here, test=True)
    score = theirs.predict_proba(held_x)[:, 1]
    assert told["auroc"]["value"] == pytest.approx(roc_auc_score(held_y, score), abs=2e-3)
    assert told["accuracy"]["value"] == pytest.approx(np.mean((score >= 0.5) == held_y), abs=0.02)
    assert told["auroc"]["n"] == len(held_y)


def test_an_own_model_does_not_depend_on_the_others(study: Study, make: Make, tmp_path: Path) -> None:
    hospitals = make(north=(120, None), south=(80, None))
    together = baseline.compare(study, hospitals)["hospitals"]["north"]
    alone = baseline.compare(study, {"north": hospitals["north"]})["hospitals"]["north"]
    assert alone["own"] == together["own"] == alone["pooled"] == alone["own_on_all"]
    assert together["pooled"] != together["own"]
    assert (together["training"] + together["test"], together["own"]["auroc"]["n"]) == (120, together["test"])


def test_a_model_that_cannot_be_judged_says_so(study: Study, make: Make) -> None:
    found = baseline.compare(study, make(north=(90, None), healthy=(60, 0)))["hospitals"]["healthy"]
    for model in ("own", "pooled"):
        assert (found[model]["auroc"]["value"], found[model]["auroc"]["note"]) == (None, "one class only")
        assert found[model]["accuracy"]["value"] is not None
    assert found["own_on_all"]["auroc"]["value"] is not None


def test_a_model_that_is_given_is_judged_as_every_other(study: Study, make: Make, tmp_path: Path) -> None:
    hospitals = make(north=(120, None), south=(80, None))
    here = works(study, hospitals, tmp_path)
    first = here["north"]
    pooled = baseline.Bench(first.plan.study, first.trainer, first.like).trained(*joined(here, test=False))
    told = origin(first.plan, "sums-1", "sha256:0", pooled, {})
    (file := tmp_path / "pooled.safetensors").write_bytes(to_safetensors(pooled, told))
    found = baseline.compare(study, hospitals, file)
    assert [facts["given"] for facts in found["hospitals"].values()] == [
        facts["pooled"] for facts in found["hospitals"].values()
    ]
    assert found["all"]["given"] == found["all"]["pooled"]
    wider = study.contract.features[0].model_copy(update={"range": (-40.0, 40.0)})
    contract = study.contract.model_copy(update={"features": (wider, study.contract.features[1])})
    other = Plan.of(study.model_copy(update={"contract": contract}))
    file.write_bytes(to_safetensors(pooled, origin(other, "sums-1", "sha256:0", pooled, {})))
    with pytest.raises(Invalid, match=r"x: range is \[-40, 40\] in the model and \[-4, 4\] in the study"):
        baseline.compare(study, hospitals, file)
    file.write_bytes(to_safetensors(pooled))
    with pytest.raises(Invalid, match="does not hold its plan"):
        baseline.compare(study, hospitals, file)


def test_an_ensemble_is_the_mean_of_what_own_models_predict_and_is_judged_only_where_it_is_asked_for(
    study: Study, make: Make, tmp_path: Path
) -> None:
    hospitals = make(north=(120, None), south=(80, None), west=(60, None))
    here = works(study, hospitals, tmp_path)
    first = here["north"]
    bench = baseline.Bench(first.plan.study, first.trainer, first.like)
    x, y = joined(here, test=True)
    told = [
        (int(np.sum(~work.examples.test)), first.trainer.predict(study, bench.made([work]).model, x))
        for work in here.values()
    ]
    mean = sum(size * score for size, score in told) / sum(size for size, _ in told)
    found = baseline.compare(study, hospitals, ensemble=True)
    assert found["all"]["ensemble"]["auroc"]["value"] == pytest.approx(roc_auc_score(y, mean), abs=2e-3)
    assert found["all"]["ensemble"]["brier"]["value"] == pytest.approx(np.mean((mean - y) ** 2), abs=1e-12)
    assert {site: one["ensemble"]["auroc"]["n"] for site, one in found["hospitals"].items()} == {
        site: one["test"] for site, one in found["hospitals"].items()
    }
    alone = baseline.compare(study, {"north": hospitals["north"]}, ensemble=True)["hospitals"]["north"]
    assert alone["ensemble"] == alone["own"]
    without = baseline.compare(study, hospitals)
    assert "ensemble" not in without["all"]


def test_as_many_passes_as_the_federation_makes(study: Study, make: Make, tmp_path: Path) -> None:
    """All patients at once: only the product of rounds and epochs matters."""
    hospitals = make(north=(90, None), south=(60, None))
    other = study.model_copy(update={"rounds": 12, "training": study.training.model_copy(update={"epochs": 5})})
    assert baseline.compare(study, hospitals) == baseline.compare(other, hospitals)
    assert baseline.compare(study, hospitals)["judged_on"] == judged_on(study)
    more = study.model_copy(update={"rounds": 7})
    assert baseline.compare(study, hospitals)["all"] != baseline.compare(more, hospitals)["all"]


def test_the_command_says_the_same_as_data_and_in_words(
    study: Study, make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hospitals = make(north=(90, None), healthy=(60, 0))
    (tmp_path / "study.yaml").write_text(json.dumps(study.model_dump(mode="json")))  # JSON is YAML
    words = ["baseline", str(tmp_path / "study.yaml"), "--hospitals", str(tmp_path)]
    assert run([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == baseline.compare(study, hospitals)
    assert run(words) == 0
    said = capsys.readouterr().out
    assert baseline.LABEL in said and "one class only" in said
    assert f"{told['all']['pooled']['auroc']['value']:.3f}" in said
