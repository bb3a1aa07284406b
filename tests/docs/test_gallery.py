"""Every example of the gallery runs, prints what its page shows, and finds what it tells of."""

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium.documents.plots import Plot
from consilium.notebook.hospitals import mappings
from consilium.simulation.patients import Patients
from docs.pages import ROOT, script

NUMBER = re.compile(r"-?\d+\.\d+")
LIMIT_S = 120.0
"""Of one example, in seconds of this process: it is alone on a reader's machine, and not here."""


CELLS = script("cells")
TESTED = re.compile(r"^def test_(\w+)_example\(", re.MULTILINE)


def alike(kept: str, said: str, within: float) -> bool:
    """Whether two texts say the same, but for numbers with a point that differ a little: processors round apart."""
    numbers = [[float(one) for one in NUMBER.findall(text)] for text in (kept, said)]
    words = [NUMBER.sub("#", text).split() for text in (kept, said)]
    return words[0] == words[1] and all(abs(a - b) <= within for a, b in zip(*numbers, strict=True))


def ran(name: str, folder: Path, within: float = 0.011) -> dict[str, Any]:
    """Run an example as a reader would; the names that it made. Skips, saying so, where its data are absent."""
    path = ROOT / "gallery" / f"{name}.py"
    began = time.process_time()
    try:
        printed, names = CELLS.run(path, folder)
    except SystemExit as absent:
        pytest.skip(str(absent))
    assert time.process_time() - began < LIMIT_S
    for kept, said in zip(CELLS.kept(path), printed, strict=True):
        assert alike(kept, said, within), f"run docs/cells.py {name}: it prints\n{said}\nand its page shows\n{kept}"
    assert isinstance(names["plot"], Plot) and "<svg" in names["plot"].svg()
    made: dict[str, Any] = names
    return made


def test_every_example_has_a_test_a_page_and_a_line_in_the_index() -> None:
    names = {path.stem for path in CELLS.examples()}
    assert names and set(TESTED.findall(Path(__file__).read_text())) == names
    index, nav = (ROOT / "docs/gallery/index.md").read_text(), (ROOT / "mkdocs.yml").read_text()
    for name in names:
        assert f"({name.replace('_', '-')}.md)" in index and f"gallery/{name.replace('_', '-')}.md" in nav
        assert (ROOT / "docs/gallery" / f"{name}.svg").exists()


def test_texts_are_alike_but_for_the_last_digits() -> None:
    assert alike("AUROC 0.912 of 30", "AUROC  0.913 of 30", 0.002)
    assert not alike("AUROC 0.912 of 30", "AUROC 0.922 of 30", 0.002)
    assert not alike("AUROC 0.912 of 30", "AUROC 0.912 of 31", 0.002) and not alike("a 0.1", "b 0.1", 1.0)


@pytest.mark.long
def test_risk_score_example(tmp_path: Path) -> None:
    """Momentum trains to the end what stopped too early, so that chances come true; and nobody is better off alone."""
    found = ran("risk_score", tmp_path)
    chosen, study, simulated = found["chosen"], found["study"], found["simulated"]
    at = found["compared"].frame("brier")["value"]
    assert at["momentum"] == at.min() < at["as it is"] < at["5 rounds"]
    slope = next(one for one in simulated.frames()["figures"].to_dict("records")
                 if one["hospital"] == "all" and one["metric"] == "calibration_slope")  # fmt: skip
    assert slope["low"] < 1 < slope["high"]
    together = simulated.figures["all"]["brier"]["value"]
    alone = [facts["own_on_all"]["brier"]["value"] for facts in found["alone"]["hospitals"].values()]
    assert len(alone) == 4 and together < min(alone) and max(alone) > 3 * together
    assert chosen.strategy.name == "fedavgm" and chosen.contract == study.contract
    assert "is ahead" not in (tmp_path / "risk-score.html").read_text()


@pytest.mark.long
def test_survival_example(tmp_path: Path) -> None:
    """Hazard ratios are those of statsmodels on the training patients of all hospitals in one table."""
    phreg: Any = pytest.importorskip("statsmodels.duration.hazard_regression").PHReg
    found = ran("survival", tmp_path)
    study, fit = found["study"], found["fit"]
    x, time_, event, strata = [], [], [], []
    with mappings(study, found["tables"]) as known:
        for place, (site, path) in enumerate(sorted(known.items())):
            training, table = ~Patients.read(study, {site: path}).test, found["tables"][site]
            columns = {name: np.array(values)[training] for name, values in table.items()}
            x.append(np.stack([columns[feature.id] for feature in study.contract.features], axis=1))
            time_.append(columns["relapse_time"])
            event.append(columns["relapse"])
            strata.append(np.full(int(training.sum()), place))
    parts = [np.concatenate(one) for one in (time_, x, event, strata)]
    theirs = phreg(parts[0], parts[1], status=parts[2], strata=parts[3], ties="efron").fit(tol=1e-14)
    assert fit.converged and fit.patients == len(parts[0])
    np.testing.assert_allclose([term.estimate for term in fit.terms], theirs.params, rtol=1e-6)
    np.testing.assert_allclose([term.error for term in fit.terms], theirs.bse, rtol=1e-6)
    nodes, hormon = (next(term.ratio for term in fit.terms if term.words.startswith(of)) for of in ("nodes", "hormon"))
    assert nodes[1] > 1 and hormon[2] < 1
    assert found["simulated"].figures["all"]["concordance"]["low"] > 0.6


@pytest.mark.long
def test_personalisation_example(tmp_path: Path) -> None:
    """A model of its own that leans on the common one serves best; alone, hospitals have too few patients."""
    found = ran("personalisation", tmp_path)
    rows = {row["way"]: row for row in found["compared"].rows("brier")}
    assert max(rows.values(), key=lambda row: row["value"])["way"] == "each alone"
    figure, common, personal = (found[name] for name in ("figure", "common", "personal"))
    assert figure(personal, "all", "brier") < figure(common, "all", "brier")
    expected = [abs(figure(one, "hungarian", "observed_to_expected") - 1) for one in (common, personal)]
    assert expected[1] < 0.6 * expected[0]


@pytest.mark.long
def test_fairness_example(tmp_path: Path) -> None:
    """The worst-off hospital gains under afl, others pay, and with the fault mended nobody has to."""
    found = ran("fairness", tmp_path)
    compared, notebook = found["compared"], found["notebook"]
    at = compared.frame("brier")
    assert at.loc["fedavg", "worst_hospital"] == "small"
    assert (
        at.loc["afl", "worst"] < 0.92 * at.loc["fedavg", "worst"] and at.loc["afl", "value"] > at.loc["fedavg", "value"]
    )
    worst = {}
    for name in ("fedavg", "afl"):
        sites = notebook.simulate(compared.ways[name].study, found["tables"]).figures["sites"]
        worst[name] = max(figures["brier"]["value"] for figures in sites.values())
    assert worst["afl"] < worst["fedavg"]
    (mended,) = notebook.compare(found["study"], found["mended"], ["fedavg"]).rows("brier")
    assert mended["value"] < at["value"].min() and mended["worst"] < at["worst"].min()


@pytest.mark.long
def test_chest_xrays_example(tmp_path: Path) -> None:
    """The network learns at all hospitals, and the report warns where chances do not come true."""
    pytest.importorskip("torch")
    found = ran("chest_xrays", tmp_path, within=0.05)
    simulated = found["simulated"]
    rounds = [told.figures["auroc"]["value"] for told in simulated.found.rounds]
    assert rounds[0] < 0.7 < 0.95 < rounds[-1] and len(rounds) == 13
    assert {site: figures["auroc"]["low"] > 0.9 for site, figures in simulated.figures["sites"].items()} == {
        "north": True, "south": True, "east": True,
    }  # fmt: skip
    assert {one.id for one in found["report"].findings.warnings} == {"warning-miscalibrated"}
