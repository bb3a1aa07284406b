"""A hospital where chances do not come true, and patients who are served worse, are on the report's first screen."""

import csv
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from consilium.core.study import Study
from consilium.documents.report import Report
from consilium.simulation.scenario import Wanted, simulate
from consilium.simulation.simulate import document

STUDY = Study.model_validate(
    {
        "consilium": 1, "name": "planted", "title": "Planted",
        "purpose": {"code": "research", "text": "a test", "requester": "the tests"},
        "contract": {
            "id": "planted",
            "features": [
                {"id": "x", "meaning": "x", "type": "number", "unit": "1", "range": [-5, 5], "missing": "forbidden"},
                {"id": "sex", "meaning": "sex", "type": "category", "categories": {"f": "female", "m": "male"},
                 "missing": "forbidden"},
            ],
            "label": {"id": "ill", "meaning": "ill", "type": "binary"},
        },
        "model": {"kind": "logistic"}, "strategy": {"name": "newton"}, "rounds": 6, "quorum": 2,
        "privacy": {"recipe": "plain"},
    }
)  # fmt: skip


def hospital(folder: Path, seed: int, shift: float = 0.0, of_women: float = 1.5) -> Path:
    """Its mapping. Patients are ill by x; `shift`: log odds of all; `of_women`: how much x says of women."""
    folder.mkdir()
    chance = np.random.default_rng(seed)
    x, woman = np.clip(chance.normal(size=1200), -5, 5), chance.random(1200) < 0.4
    ill = chance.random(1200) < 1 / (1 + np.exp(-(np.where(woman, of_women, 1.5) * x + shift)))
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "x", "sex", "ill"])
        writer.writerows([i, f"{x[i]:.4f}", "f" if woman[i] else "m", int(ill[i])] for i in range(1200))
    (folder / "mapping.yaml").write_text(
        "mapping: 1\ncontract: planted\nsource: {type: csv, path: table.csv}\npatient: {column: id}\n"
        "features: {x: {column: x, unit: '1'}, sex: {column: sex, codes: {f: f, m: m}}}\n"
        "label: {column: ill, codes: {'0': 0, '1': 1}}\n"
    )
    return folder / "mapping.yaml"


def seen(hospitals: dict[str, Path]) -> dict[str, str]:
    wanted = Wanted()
    told = document(simulate(STUDY, hospitals, wanted, lambda told: None), wanted)
    report = Report.of(told, datetime(2030, 1, 1, tzinfo=UTC), STUDY)
    first = report.html().partition('id="headline"')[0]
    assert all(f'id="{one.id}"' in first for one in report.findings.found)
    return {one.id: one.text for one in report.findings.warnings}


def test_without_anything_planted_there_is_no_warning(tmp_path: Path) -> None:
    assert seen({name: hospital(tmp_path / name, seed) for seed, name in enumerate(("north", "south", "west"))}) == {}


def test_a_miscalibrated_hospital_is_seen(tmp_path: Path) -> None:
    shifts = {"north": 0.0, "south": 0.0, "west": 2.0}
    told = seen({name: hospital(tmp_path / name, seed, shift) for seed, (name, shift) in enumerate(shifts.items())})
    assert "west: in the large" in told["warning-miscalibrated"]


def test_a_model_that_says_little_of_women_is_seen(tmp_path: Path) -> None:
    sites = ("north", "south", "west")
    told = seen({name: hospital(tmp_path / name, seed, of_women=-0.2) for seed, name in enumerate(sites)})
    assert "sex f" in told["warning-unfair-groups"] and "AUROC" in told["warning-unfair-groups"]
