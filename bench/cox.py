"""What lifelines says of the patients of tests/unit/simulation/test_cox.py, in tests/vectors/cox.json. Run by hand:

    python -m venv ENV && ENV/bin/pip install lifelines==0.30.3 && ENV/bin/python bench/cox.py

lifelines is no dependency of the tests: it needs an older pandas than they have, and matplotlib and autograd.
"""

import json
import sys
from pathlib import Path
from typing import Any

import lifelines
import pandas as pd
from lifelines.utils import concordance_index

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from unit.simulation import multicentre  # noqa: E402

EXACT = {"precision": 1e-12}


def said(table: pd.DataFrame, **how: Any) -> dict[str, Any]:
    """Coefficients, standard errors and p-values by feature; Efron's ties."""
    fit = lifelines.CoxPHFitter().fit(table, "time", "event", fit_options=EXACT, **how)
    return {
        "coefficients": fit.params_.tolist(), "errors": fit.standard_errors_.tolist(),
        "p": fit.summary["p"].tolist(), "log_likelihood": fit.log_likelihood_,
    }  # fmt: skip


def of(sites: dict[str, list[multicentre.Row]], features: list[str]) -> dict[str, Any]:
    """All that is asked of one cohort."""
    rows = [row | {"site": site} for site, patients in sites.items() for row in patients]
    table = pd.DataFrame(rows)[["time", "event", "site", *features]]
    stratified = said(table, strata=["site"])
    hazard = table[features].to_numpy() @ stratified["coefficients"]
    return {
        "stratified": stratified, "common": said(table.drop(columns="site")),
        "concordance": float(concordance_index(table["time"], -hazard, table["event"])),
    }  # fmt: skip


def grouped() -> dict[str, Any]:
    """The same on grouped times, with a common baseline."""
    sites = multicentre.grouped(multicentre.breast(), multicentre.GROUPS)
    table = pd.DataFrame([row for patients in sites.values() for row in patients])
    return said(table[["time", "event", *multicentre.BREAST]])


if __name__ == "__main__":
    found = {
        "lifelines": lifelines.__version__,
        "lung": of(multicentre.lung(), list(multicentre.LUNG)),
        "breast": of(multicentre.breast(), list(multicentre.BREAST)),
        "grouped": grouped(),
    }
    out = ROOT / "tests" / "vectors" / "cox.json"
    out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{out.relative_to(ROOT)}: lifelines {lifelines.__version__}")
