"""An exact regression between real processes, in a secure sum: the table of statsmodels on the pooled patients."""

import json
from pathlib import Path

import numpy as np
import pytest

from consilium.algorithms.regression import scaling
from consilium.api import freeze
from consilium.core.ids import digest
from consilium.simulation import local
from e2e.federation import POLICY, federation, study
from e2e.processes import here, until

sm = pytest.importorskip("statsmodels.api", reason="statsmodels, of the extra `test`, is not installed")
HOSPITALS = ("north", "south", "west")


def test_three_hospitals_fit_the_regression_of_their_pooled_patients(tmp_path: Path) -> None:
    wanted = study("exact", strategy={"name": "newton"}, rounds=9, quorum=3, privacy={"recipe": "secure_sum"})
    with federation(tmp_path / "federation", hospitals=HOSPITALS) as made:
        refused = made.submit(study("unasked", strategy={"name": "newton"}, rounds=9, quorum=3))
        north = made.hospitals["north"]
        until(lambda: north.offered(refused), "north is offered it")
        code, said = north.says(
            "approve", "unasked", "--person", "Vera", "--mapping", north.mapping, "--accept", "plain"
        )
        assert code == 3 and "newton" in said, "a hospital allows it by name, or not at all"
        for hospital in made.hospitals.values():
            hospital.policy(f"{POLICY}strategies: [newton]\n")
        run = made.start(made.approved(wanted))
        made.compared(run)
        until(lambda: made.view(run)["round"] >= 3, f"round 3 of {run} begins")
        made.hospitals["south"].process.kill()
        made.hospitals["south"].process.start()
        view = made.until(run, "finished")
        assert [entry["took_part"] for entry in view["participation"]] == [list(HOSPITALS)] * 10
        about = {"URL": made.coordinator.url, "TOKEN": made.owner.token(), "CA": str(made.coordinator.ca)}
        session = {f"CONSILIUM_{name}": value for name, value in about.items()}
        code, words = here("study", "result", run, **session)
        assert code == 0 and "odds ratio" in words and "x, per 1" in words, words
        assert "how many patients have each two codes together" in words
        told = json.loads(here("study", "result", run, "--json", **session)[1])
        mappings, model = {name: one.mapping for name, one in made.hospitals.items()}, digest(made.model(run))

    plan, weights = freeze(wanted)
    tables = local.tables(plan.study, mappings, tmp_path)
    assert local.run(plan, weights, tables, tmp_path, run).digest == model
    works = local.works(plan, weights, tables, tmp_path).values()
    x = np.concatenate([work.examples.x[~work.examples.test] for work in works])
    y = np.concatenate([work.examples.y[~work.examples.test] for work in works])
    theirs = sm.GLM(y, np.column_stack([np.ones(len(x)), x]), family=sm.families.Binomial()).fit(tol=1e-14)
    turned = scaling(plan.study.contract)
    table = told["regression"]
    assert table["converged"] and table["patients"] == len(y)
    np.testing.assert_allclose([one["estimate"] for one in table["terms"]], turned @ theirs.params, rtol=1e-6)
    errors = np.sqrt(np.diag(turned @ theirs.cov_params() @ turned.T))
    np.testing.assert_allclose([one["error"] for one in table["terms"]], errors, rtol=1e-6)
