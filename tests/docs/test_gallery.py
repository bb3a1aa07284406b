"""Every example of the gallery runs, prints what its page shows, and finds what it tells of."""

import importlib.util
import re
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from consilium.documents.plots import Plot
from docs.pages import ROOT

NUMBER = re.compile(r"-?\d+\.\d+")
LIMIT_S = 120.0
"""Of one example, in seconds of this process: it is alone on a reader's machine, and not here."""


def _cells() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cells", ROOT / "docs" / "cells.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cells"] = module
    spec.loader.exec_module(module)
    return module


CELLS = _cells()
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
    assert "st-anna is ahead" in (tmp_path / "risk-score.html").read_text()
