"""Patients with scores, outcomes and groups for tests of figures, and other packages' figures of the same patients."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import statsmodels.api as sm
from hypothesis import strategies as st
from sklearn import metrics as judge

from consilium.algorithms import evaluation, groups
from consilium.algorithms.calibration import expit, logit
from consilium.core.study import Study

FEATURES = [
    {"id": "age", "meaning": "age", "type": "number", "unit": "a", "range": [18, 100]},
    {"id": "sex", "meaning": "sex", "type": "category", "categories": {"female": "female", "male": "male"}},
]


LABELS: dict[str, dict[str, Any]] = {
    "binary": {"type": "binary"},
    "number": {"type": "number", "unit": "mm[Hg]", "range": [60, 240]},
    "count": {"type": "count", "range": [0, 60]},
    "time-to-event": {"type": "time-to-event", "unit": "d", "range": [0, 4000]},
}
MODELS = {"binary": "logistic", "number": "linear", "count": "poisson", "time-to-event": "cox"}


def study(of: str = "binary", label: dict[str, Any] | None = None, **evaluated: Any) -> Study:
    """A study with an outcome of a type, of patients with age and sex."""
    label = {"id": "y", "meaning": "outcome", **(label or LABELS[of])}
    return Study.model_validate(
        {
            "consilium": 1, "name": "judged", "title": "t", "rounds": 1, "quorum": 3, "model": {"kind": MODELS[of]},
            "purpose": {"code": "research", "text": "t", "requester": "r"}, "evaluation": evaluated,
            "contract": {"id": "c", "features": FEATURES, "label": label},
        }
    )  # fmt: skip


@dataclass(frozen=True)
class Patients:
    """Scores, outcomes (n,), and the columns of their features."""

    score: np.ndarray
    label: np.ndarray
    columns: dict[str, np.ndarray]

    @classmethod
    def drawn(
        cls, n: int, seed: int, intercept: float = 0.2, slope: float = 0.8, centre: float = -0.8, spread: float = 1.2
    ) -> "Patients":
        """n patients whose chances are expit(intercept + slope x), where x is the logit of the score."""
        rng = np.random.default_rng(seed)
        x = rng.normal(centre, spread, n)
        label = (rng.random(n) < expit(intercept + slope * x)).astype(float)
        columns = {"age": rng.uniform(18, 100, n), "sex": rng.integers(0, 2, n).astype(float)}
        return cls(expit(x), label, columns)

    def of(self, chosen: np.ndarray) -> "Patients":
        """Some of them."""
        return Patients(
            self.score[chosen], self.label[chosen], {name: column[chosen] for name, column in self.columns.items()}
        )

    def sums(self, of: Study) -> dict[str, np.ndarray]:
        """What their hospital counts in the last round."""
        members = groups.members(of, self.columns, len(self.label))
        return evaluation.sums(of, "EVALUATE", self.score, self.label, members)


def added(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Sums over hospitals, as the coordinator looks at them."""
    total = {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}
    return evaluation.among(total, len(parts))


def delong(score: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """AUROC and its standard error by the definition of DeLong et al. 1988."""
    good, bad = score[label == 1], score[label == 0]
    psi = (good[:, None] > bad[None, :]) + 0.5 * (good[:, None] == bad[None, :])
    v10, v01 = psi.mean(axis=1), psi.mean(axis=0)
    return float(psi.mean()), float(v10.var(ddof=1) / len(good) + v01.var(ddof=1) / len(bad)) ** 0.5


def fitted(score: np.ndarray, label: np.ndarray) -> dict[str, tuple[float, float, float]]:
    """Calibration by statsmodels: (value, low, high)."""
    x = logit(score)
    joint = sm.Logit(label, sm.add_constant(x)).fit(disp=0, method="newton", maxiter=100, tol=1e-13)
    alone = sm.GLM(label, np.ones_like(x), family=sm.families.Binomial(), offset=x).fit(tol=1e-13, cov_type="HC0")
    names = ("calibration_intercept", "calibration_slope")
    found = {name: (joint.params[at], *joint.conf_int()[at]) for at, name in enumerate(names)}
    return {**found, "calibration_in_the_large": (alone.params[0], *alone.conf_int()[0])}


def theirs(score: np.ndarray, label: np.ndarray, threshold: float) -> dict[str, float]:
    """Other figures, by scikit-learn and by definition."""
    decided = (score >= threshold).astype(float)
    hits, alarms = np.sum(decided * label), np.sum(decided * (1 - label))
    n = len(label)
    return {
        "auroc": judge.roc_auc_score(label, score),
        "auprc": judge.average_precision_score(label, score),
        "brier": judge.brier_score_loss(label, score),
        "logloss": judge.log_loss(label, score),
        "observed_to_expected": label.sum() / score.sum(),
        "prevalence": label.mean(),
        "sensitivity": judge.recall_score(label, decided),
        "specificity": judge.recall_score(1 - label, 1 - decided),
        "ppv": judge.precision_score(label, decided),
        "npv": judge.precision_score(1 - label, 1 - decided),
        "accuracy": judge.accuracy_score(label, decided),
        "flagged": decided.mean(),
        "net_benefit": hits / n - alarms / n * threshold / (1 - threshold),
    }


def spoiled(data: st.DataObject, sent: dict[str, Any]) -> dict[str, Any]:
    """Sums of which one to three values are others, as a site could send them."""
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(sent)))
        changed = sent[name].copy()
        odd = [0.0, -1.0, 0.5, 1e300, -1e300, math.inf, math.nan, 3.0, 20.0, 1e20]
        changed[data.draw(st.integers(0, changed.size - 1))] = data.draw(st.sampled_from(odd))
        sent = {**sent, name: changed}
    return sent
