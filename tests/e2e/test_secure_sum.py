"""Secure sums between real processes: the model is that of the plain recipe, and the coordinator saw no update."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from consilium import api, plugins
from consilium.core import state as chain
from consilium.core.study import Plan, Study
from consilium.core.tensors import from_safetensors
from consilium.exported import Exported
from consilium.simulation import local
from consilium.training.onnx import runtime
from e2e.coordinator import PASSWORD
from e2e.federation import POLICY as USUAL
from e2e.federation import Federation, study
from e2e.processes import until

VECTORS = Path(__file__).parents[1] / "vectors"
GIVEN = [
    pytest.param("xgboost", VECTORS / "xgboost" / "sums.json", {}, id="xgboost", marks=pytest.mark.long),
    pytest.param("onnx", VECTORS / "sklearn" / "sums.onnx", {"inputs": {"X": ["x", "y"]}}, id="onnx"),
]
"""What plain XGBoost and scikit-learn trained. Both go the same way; of ONNX, hospitals run a graph besides."""
POLICY = USUAL + "models: [logistic, xgboost, onnx]\n"
"""Who lets a graph run that was made elsewhere says so."""
HOSPITALS = ("east", "north", "south", "west")
SECURE: dict[str, Any] = {"privacy": {"recipe": "secure_sum"}, "quorum": 3}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("secure"))
    try:
        for name in HOSPITALS:
            made.add(name, policy=POLICY)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def secure(made: Federation) -> tuple[str, str]:
    """A plain run, and a secure one at which people compared words: once, for whatever comes after it.

    In this order: what a secure sum was over, no hospital shows alone any more.
    """
    plain = made.start(made.approved(study("plain", rounds=3)))
    made.until(plain, "finished")
    run = made.start(made.approved(study("secure", rounds=3, **SECURE)))
    made.compared(run)
    made.until(run, "finished")
    return plain, run


def test_a_secure_run_gives_the_model_of_the_plain_one(made: Federation, secure: tuple[str, str]) -> None:
    plain, run = secure
    view = made.view(run)
    assert [entry["took_part"] for entry in view["participation"]] == [list(HOSPITALS)] * 4
    wanted, found = (from_safetensors(made.model(one)) for one in (plain, run))
    assert np.allclose(found["model"], wanted["model"], rtol=0, atol=1e-8)
    figures = [made.view(one)["participation"][-1]["figures"] for one in (plain, run)]
    assert figures[1]["sites"] == {} and figures[1]["all"]["auroc"] == figures[0]["all"]["auroc"]
    told = [made.owner.connection.get(f"/v1/runs/{one}/result")["evaluation"] for one in (plain, run)]
    assert told[1]["sites"] == {} and told[1]["sites_withheld"].startswith("withheld"), "nobody has them"
    assert told[0]["sites"].keys() == set(HOSPITALS) and told[0]["sites_withheld"] == ""
    assert told[0]["all"]["n"] == told[1]["all"]["n"] > 60 and told[0]["all"]["calibration_curve"]
    for name, one in told[1]["all"]["figures"].items():  # `plain` has the AUROC within hospitals, too
        assert told[0]["all"]["figures"][name]["value"] == pytest.approx(one["value"], abs=1e-6), name
    for name, hospital in made.hospitals.items():  # each has its own, which under `plain` the coordinator has, too
        (kept,) = hospital.told("figures", "secure")
        for metric, wanted_ in figures[0]["sites"][name].items():
            if wanted_["value"] is not None:  # small cells are hidden there
                assert kept["figures"][metric]["value"] == pytest.approx(wanted_["value"], abs=1e-6), (name, metric)
        assert kept["run"] == run
        assert "AUROC" in hospital.command("figures")
        assert "No figure of this hospital alone is told" in hospital.command("review", "secure")
    silent = {name: {"word": "withheld", "figures": {}} for name in HOSPITALS}
    said = "SELECT count(*) FROM declarations WHERE word = 'withheld'"
    until(lambda: made.rows(said)[0][0] == len(HOSPITALS), "every hospital said that it tells nothing")
    assert made.owner.connection.get(f"/v1/runs/{run}/result")["declared"] == silent


@pytest.mark.long
@pytest.mark.usefixtures("secure")
def test_three_of_them_train_a_linear_model_of_their_own_from_a_start_that_is_drawn(
    made: Federation, tmp_path: Path
) -> None:
    """At zero they are in a sum over all four, and in none over three; and training forgets where it began."""
    asked = study(
        "three", rounds=2, sites=HOSPITALS[:3], **SECURE, model={"kind": "logistic", "l2": 0.1},
        training={"epochs": 300, "learning_rate": 2.0, "seed": 1},
    )  # fmt: skip
    three = {name: made.hospitals[name] for name in HOSPITALS[:3]}

    def run(of: Study) -> str:
        plan = made.submit(of)
        for hospital in three.values():
            hospital.approve(plan)
        arrived = f"SELECT count(DISTINCT site) FROM decisions WHERE study = '{of.name}'"
        until(lambda: made.rows(arrived)[0][0] == 3, f"every approval of {of.name} arrived")
        return made.start(plan)

    refused = run(asked)
    until(lambda: "`start: drawn`" in made.view(refused)["reason"], "hospitals refuse a sum over three at zero", 60.0)
    view = made.view(refused)
    assert view["status"] == "paused" and not [one for one in view["participation"] if one["took_part"]]
    assert {reason for _, reason in made.refusals(Plan.of(asked))} == {"difference"}
    made.owner.connection.post(f"/v1/runs/{refused}/stop", {"reason": "the same hospitals refuse"})
    model = asked.model.model_copy(update={"start": "drawn"})
    drawn = asked.model_copy(update={"name": "three-drawn", "model": model})
    done = run(drawn)
    view = made.until(done, "finished")
    assert [entry["took_part"] for entry in view["participation"]] == [list(HOSPITALS[:3])] * 3
    assert "drawn by the study's seed" in three["east"].command("review", "three-drawn")
    found = from_safetensors(made.model(done))["model"]
    plan, weights = api.freeze(asked)
    mapped = {name: hospital.mapping for name, hospital in three.items()}
    alone = local.run(plan, weights, local.tables(plan.study, mapped, tmp_path), tmp_path, "three-1")
    assert np.allclose(found, chain.read(alone.state).arrays["model"], rtol=0, atol=1e-6), "as from zero"


@pytest.mark.usefixtures("secure")
def test_hospitals_that_compared_once_need_no_words_again(made: Federation, tmp_path: Path) -> None:
    """And what they trained is taken home, as an ONNX file that says the same of the same rows.

    The report has the flow of patients as hospitals signed it, of who are left out where a policy says so; and what the
    model is worth at each, beside its own, rounded, for all of them tell that.
    """
    for name, hospital in made.hospitals.items():
        hospital.policy(POLICY + "release_figures: 1\nown_model: true\n" + "tell_flow: true\n" * (name == "east"))
    half = {"evaluation": {"test_fraction": 0.5}, "model": {"kind": "logistic", "start": "drawn"}}
    run = made.start(made.approved(study("again", rounds=1, gate={}, **half, **SECURE)))
    made.until(run, "finished")
    here = api.Federation.login(made.coordinator.url, "olga", PASSWORD, ca=made.coordinator.ca)
    result = here.run("again").result()
    result.save(tmp_path / "model.safetensors")
    result.save(tmp_path / "model.onnx")
    rows: dict[str, Any] = {"x": [1.5, -0.7, 9.9], "y": [0.1, 0.2, -9.9]}
    home = runtime((tmp_path / "model.onnx").read_bytes())
    (said,) = home.run(["prediction"], {name: np.array(values)[:, None] for name, values in rows.items()})
    assert np.allclose(said[:, 0], Exported.read(tmp_path / "model.safetensors").predict(rows), rtol=0, atol=1e-6)
    said = "SELECT count(*) FROM declarations WHERE word = 'told'"
    until(lambda: made.rows(said)[0][0] == len(HOSPITALS), "every hospital told what it is worth there", 60.0)
    result = here.run("again").result()
    for name, hospital in made.hospitals.items():
        (kept,) = hospital.told("figures", "again")
        for model, prefix in (("federated", ""), ("own", "own/")):
            found, exact = result.document["declared"][name]["figures"][model]["auroc"], f"{prefix}auroc"
            assert abs(found["value"] - kept["figures"][exact]["value"]) <= 0.005 + 1e-9 and found["n"] % 10 == 0
        (sent,) = (one for one in hospital.told("sent") if one["what"] == "figures" and one["run"] == run)
        assert sent["became"] == "sent"
        assert "own model: AUROC" in hospital.command("figures", "again")
    shown = {(row["hospital"], row["model"]) for row in result.report().tables()["figures"] if row["value"]}
    assert {(name, model) for name in HOSPITALS for model in ("federated", "own")} <= shown
    told = {row["hospital"]: row for row in result.report().tables()["patients"]}
    assert all(row["rounded"] and row["training"] in (20, 30, 40) and row["evaluated"] is None for row in told.values())
    assert {name: row["read"] for name, row in told.items()} == {**dict.fromkeys(HOSPITALS), "east": 80}
    assert told["east"]["held_out"] in (30, 40, 50) and told["east"]["without_label"] == 0


@pytest.mark.usefixtures("secure")
@pytest.mark.parametrize(("kind", "file", "options"), GIVEN)
def test_a_model_that_was_trained_elsewhere_is_judged_at_every_hospital(
    made: Federation, kind: str, file: Path, options: dict[str, Any]
) -> None:
    """Nothing is trained: on all patients of the hospitals, whose figures stay theirs."""
    judge = plugins.load("consilium.trainers", kind)()
    change = {"model": {"kind": kind, "start": "given", "options": options}, "rounds": 0}
    asked = study(f"judged-{kind}", **SECURE, **change, evaluation={"test_fraction": 1})
    here = api.Federation.login(made.coordinator.url, "olga", PASSWORD, ca=made.coordinator.ca)
    plan = here.submit(asked, model=file).plan
    assert plan is not None
    made.approve(plan)
    view = made.until(made.start(plan), "finished")
    (entry,) = view["participation"]
    assert (entry["kind"], entry["round"], entry["took_part"]) == ("EVALUATE", 1, list(HOSPITALS))
    result = here.run(asked.name).result()
    score, label = [], []
    model = judge.read(asked, file.read_bytes())
    for hospital in made.hospitals.values():
        table = np.genfromtxt(hospital.mapping.parent / "table.csv", delimiter=",", skip_header=1)[:, 1:]
        score.append(judge.predict(asked, model, table[:, :2] / 10))  # as encoded: by the range of the contract
        label.append(table[:, 2])
    auroc, joined = result.figures["all"]["auroc"], (np.concatenate(label), np.concatenate(score))
    assert auroc["n"] == len(joined[0]) == 320 and result.figures["sites"] == {}
    assert auroc["value"] == pytest.approx(roc_auc_score(*joined), abs=1e-3)
    assert all(np.array_equal(result.model()[name], array) for name, array in model.items())
    report = result.report()
    assert "judged, and not trained" in report.html() and report.facts.judged_only


def test_a_sum_that_the_coordinator_alters_is_refused_by_every_hospital(tmp_path: Path) -> None:
    made = Federation(tmp_path)
    try:
        for name in HOSPITALS:
            made.add(name)
        assert made.coordinator.stop() == 0
        made.coordinator.process.variables |= {"PYTHONPATH": str(Path(__file__).parent / "liar"), "LIE": "0.001"}
        made.coordinator.start()
        run = made.start(made.approved(study("trap", rounds=3, **SECURE)))
        made.compared(run)
        view = made.until(run, "paused")
        assert view["round"] == 2 and view["participation"][0]["took_part"] == list(HOSPITALS)
        until(lambda: len(made.view(run)["participation"][-1]["refused"]) == len(HOSPITALS), "all refuse")
        assert set(made.view(run)["participation"][-1]["refused"].values()) == {"sum"}
    finally:
        made.close()
