"""A model that plain XGBoost trained elsewhere is judged at three hospitals, and reported; nothing is trained."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from consilium.algorithms.encode import encode
from consilium.console.cli.app import run
from consilium.core.study import Plan
from consilium.documents.report import Report
from consilium.governance.words import explain
from consilium.training.trees import Boosted
from vectors.test_xgboost import HERE, WARDS, study

SITES = {"north": 0, "south": 1, "west": 2}
MODEL = HERE / "logistic.json"


@pytest.fixture
def hospitals(tmp_path: Path) -> Path:
    for site, seed in SITES.items():
        rng, folder = np.random.default_rng(seed), tmp_path / "hospitals" / site
        folder.mkdir(parents=True)
        with (folder / "table.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "age", "crp", "ward", "ill"])
            for number in range(150):
                age, crp, ward = rng.uniform(20, 90), rng.gamma(2, 20), rng.choice(list(WARDS))
                ill = rng.random() < 1 / (1 + np.exp(-((age - 60) / 12 + (crp - 40) / 30 + (ward == "icu") * 1.2)))
                writer.writerow([number, f"{age:.2f}", f"{crp:.1f}" if rng.random() > 0.1 else "", ward, int(ill)])
        (folder / "mapping.yaml").write_text(
            "mapping: 1\ncontract: trees\nsource: {type: csv, path: table.csv}\npatient: {column: id}\n"
            "features:\n  age: {column: age, unit: '1'}\n  crp: {column: crp, unit: '1'}\n"
            f"  ward: {{column: ward, codes: {{{', '.join(f'{ward}: {ward}' for ward in WARDS)}}}}}\n"
            "label: {column: ill, codes: {'0': 0, '1': 1}}\n"
        )
    return tmp_path / "hospitals"


def test_it_is_judged_on_all_patients_and_reported(
    hospitals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = study("binary")
    (tmp_path / "study.yaml").write_text(asked.model_dump_json())
    words = ["simulate", str(tmp_path / "study.yaml"), "--hospitals", str(hospitals), "--json"]
    assert run(words) == 5 and "--given" in capsys.readouterr().err
    assert run([*words, "--given", str(MODEL)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(one["kind"], one["took_part"]) for one in told["rounds"]] == [("EVALUATE", 3)]
    model, scores, outcomes = Boosted().read(asked, MODEL.read_bytes()), [], []
    for site in SITES:
        with (hospitals / site / "table.csv").open() as file:
            rows = list(csv.DictReader(file))
        columns = {name: np.array([float(row[name] or "nan") for row in rows]) for name in ("age", "crp")}
        columns["ward"] = np.array([float(list(WARDS).index(row["ward"])) for row in rows])
        scores.append(Boosted().predict(asked, model, encode(asked.contract, columns)))
        outcomes.append(np.array([int(row["ill"]) for row in rows]))
        auroc = told["figures"]["sites"][site]["auroc"]
        assert auroc["n"] == 150 and auroc["value"] == pytest.approx(roc_auc_score(outcomes[-1], scores[-1]), abs=1e-3)
    everybody = told["figures"]["all"]["auroc"]
    assert everybody["n"] == 450
    assert everybody["value"] == pytest.approx(
        roc_auc_score(np.concatenate(outcomes), np.concatenate(scores)), abs=1e-3
    )
    report = Report.of(told, datetime(2030, 1, 1, tzinfo=UTC), asked)
    (aim,) = (one for one in report.items if one.number == "4")
    assert "was trained" in aim.answer and "elsewhere" in aim.answer
    page = report.html()
    assert (
        "Rounds of training" not in page
        and "patients trained the model" not in page
        and "450 patients judged it" in page
    )


def test_a_steward_reads_that_nothing_is_trained() -> None:
    told = explain(Plan.of(study("binary")))
    assert "Nothing is trained: one round judges the model." in told and "is judged" in told
    assert "changes of the model" not in told and "training patients" not in told
