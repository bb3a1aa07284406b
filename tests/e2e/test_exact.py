"""An exact regression between real processes, in a secure sum: the table of statsmodels on the pooled patients.

Before it, in a secure sum, too, the hospitals learn by what numbers are standardised.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from consilium.algorithms.regression import scaling
from consilium.api import freeze
from consilium.core.ids import digest
from consilium.simulation import local
from consilium.simulation.baseline import prepared
from e2e.federation import POLICY, federation, study
from e2e.processes import here, until

sm = pytest.importorskip("statsmodels.api", reason="statsmodels, of the extra `test`, is not installed")
HOSPITALS = ("north", "south", "west")


@pytest.mark.long
def test_three_hospitals_fit_the_regression_of_their_pooled_patients(tmp_path: Path) -> None:
    wanted = study(
        "exact", strategy={"name": "newton"}, rounds=9, quorum=3, privacy={"recipe": "secure_sum"},
        prepare={"numbers": "standardise"},
    )  # fmt: skip
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
        north.policy(f"{POLICY}strategies: [newton]\npreparation: {{allowed: false}}\n")
        plan = made.submit(wanted)
        until(lambda: north.offered(plan), "north is offered it")
        words = north.command("review", "exact")
        assert "scaled by the mean and standard deviation of all" in words and "fewer than 5 patients" in words, words
        code, said = north.says("approve", "exact", "--person", "Vera", "--mapping", north.mapping)
        assert code == 3 and "adds up nothing to prepare inputs" in said, said
        north.policy(f"{POLICY}strategies: [newton]\n")
        run = made.start(made.approved(wanted))
        made.compared(run)
        until(lambda: made.view(run)["round"] >= 3, f"round 3 of {run} begins")
        made.hospitals["south"].process.kill()
        made.hospitals["south"].process.start()
        view = made.until(run, "finished")
        assert [entry["took_part"] for entry in view["participation"]] == [list(HOSPITALS)] * 11
        assert [entry["kind"] for entry in view["participation"]] == ["PREPARE", *["TRAIN"] * 9, "EVALUATE"]
        assert view["participation"][0]["figures"] == {"all": {}, "sites": {}, "clipped": 0}, "sums, and no figures"
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
    works = list(local.works(plan, weights, tables, tmp_path).values())
    learned = prepared(plan.study, works)
    x, y = (np.concatenate(parts) for parts in zip(*(work.at(learned).training for work in works), strict=True))
    np.testing.assert_allclose(np.stack([x.mean(axis=0), x.std(axis=0)]), [[0, 0], [1, 1]], atol=1e-9)
    theirs = sm.GLM(y, np.column_stack([np.ones(len(x)), x]), family=sm.families.Binomial()).fit(tol=1e-14)
    turned = scaling(plan.study.contract, plan.study.prepare, learned)
    table = told["regression"]
    assert table["converged"] and table["patients"] == len(y)
    np.testing.assert_allclose([one["estimate"] for one in table["terms"]], turned @ theirs.params, rtol=1e-6)
    errors = np.sqrt(np.diag(turned @ theirs.cov_params() @ turned.T))
    np.testing.assert_allclose([one["error"] for one in table["terms"]], errors, rtol=1e-6)
