"""Results of runs that never were, as the commands write them, with what a test wants planted."""

from typing import Any

import numpy as np

from consilium.algorithms import figure, metrics
from consilium.core.judging import judged_on
from consilium.core.study import Study

Json = dict[str, Any]
STUDY = Study.model_validate(
    {
        "consilium": 1, "name": "sepsis", "title": "Sepsis within a day",
        "purpose": {"code": "research", "text": "To warn early.", "requester": "Nora Nowak, North"},
        "contract": {
            "id": "sepsis",
            "features": [
                {"id": "age", "meaning": "age", "type": "number", "unit": "a", "range": [0, 120]},
                {"id": "ward", "meaning": "ward", "type": "category", "categories": {"icu": "ICU", "other": "other"}},
            ],
            "label": {"id": "sepsis", "meaning": "sepsis within 24 hours", "type": "binary"},
        },
        "model": {"kind": "logistic"}, "rounds": 3, "quorum": 3,
    }
)  # fmt: skip


def judged(apart: float, patients: int = 300, seed: int = 0) -> Json:
    """Figures of scores whose classes lie `apart` standard deviations from each other; half of the patients each."""
    chance = np.random.default_rng(seed)
    label = (np.arange(patients) % 2).astype(np.float64)
    score = 1 / (1 + np.exp(-(chance.normal(size=patients) + apart * (label - 0.5))))
    return figure.to_json(metrics.figures("binary", metrics.sums("binary", score, label), 0.95))


def simulated(sites: dict[str, Json], rounds: int = 3) -> Json:
    """What `simulate` writes."""
    over = judged(1.2, 2000)
    told = {
        "kind": "TRAIN", "took_part": len(sites), "silent": 0, "late": 0, "waited": 0, "weight": 1.0, "clamped": 0,
        "seconds": 0.1, "lasted_s": 0.0, "figures": over,
    }  # fmt: skip
    n = {site: max(one["n"] for one in figures.values()) for site, figures in sites.items()}
    return {
        "study": "sepsis", "plan": "sha256:" + "0" * 64, "recipe": "secure_sum", "strategy": "fedavg",
        "partition": "natural", "seed": 1, "executor": "inline", "drop": 0.0, "slow": 0.0, "slow_s": 0.0,
        "hospitals": {
            site: {"training": 2 * n[site], "held_out": n[site], "rounds": rounds + 1, "asked": rounds + 1, "out": ""}
            for site in sites
        },
        "rounds": [
            *({**told, "round": number} for number in range(1, rounds + 1)),
            {**told, "round": rounds + 1, "kind": "EVALUATE"},
        ],
        "figures": {"all": over, "sites": sites, "between_sites": {}}, "model": "sha256:" + "1" * 64,
    }  # fmt: skip


def usual(count: int = 5) -> dict[str, Json]:
    """Hospitals of which none differs."""
    return {f"site-{number:02}": judged(1.2, seed=number) for number in range(1, count + 1)}


def result(sites: dict[str, Json], recipe: str = "plain") -> Json:
    """What `study result` writes, with the decisions that are added for a report."""
    names = sorted(sites)
    shown = sites if recipe == "plain" else {}
    entry = {
        "kind": "TRAIN", "attempt": 1, "roster": names, "opened": "2030-01-01T00:00:00Z", "took_part": names,
        "refused": {}, "closed": "2030-01-01T00:01:00Z", "state": "sha256:" + "1" * 64, "aggregate": None,
        "figures": {"all": judged(1.2, 2000), "sites": shown}, "performed_by": "coordinator",
    }  # fmt: skip
    return {
        "run": "sepsis-1", "study": "sepsis", "plan": "sha256:" + "0" * 64, "status": "finished", "reason": "",
        "round": 4, "rounds": 3, "kind": None, "waiting_for": [], "phase": None, "pairing": [],
        "state": {"digest": "sha256:" + "1" * 64, "size": 10},
        "sites": {site: {"rounds": 4, "bytes": 1000, "last_seen": 0.0, "activity": ""} for site in names},
        "participation": [
            *({**entry, "round": number} for number in (1, 2, 3)), {**entry, "round": 4, "kind": "EVALUATE"},
        ],
        "initial": {"digest": "sha256:" + "2" * 64, "size": 10}, "rounds_done": 4,
        "figures": entry["figures"], "judged": {"round": 4, "kind": "EVALUATE", "model_after_round": 3},
        "privacy": f"{recipe}: as it says", "learns": "The coordinator learns what is said here.",
        "decisions": {
            site: {"decision": "approve", "person": "steward", "at": "2030-01-01T00:00:00Z", "expires": None,
                   "reason": ""}
            for site in names
        },
        "refusals": [], "weaker": ["plain"] if recipe == "plain" else [], "audit": [],
    }  # fmt: skip


def baseline(sites: dict[str, Json]) -> Json:
    """What `baseline` writes."""
    return {
        "study": "sepsis", "label": "trained in one process", "epochs": 3, "judged_on": judged_on(STUDY),
        "hospitals": {
            site: {"training": 600, "test": 300, "own": own, "own_on_all": own, "pooled": judged(1.2)}
            for site, own in sites.items()
        },
        "all": {"pooled": judged(1.2, 2000)},
    }  # fmt: skip


def told(value: float, apart: float = 0.05, n: int = 500) -> Json:
    """One figure, with its interval."""
    return {"value": value, "low": value - apart, "high": value + apart, "n": n, "note": ""}


def worth(auroc: float = 0.8, large: float = 0.0, slope: float = 1.0, **more: Any) -> Json:
    """What the last round says of some patients, as `docs/explanation/figures.md` has it."""
    figures = {
        "auroc": told(auroc), "auprc": told(0.7), "brier": told(0.15), "logloss": told(0.4), "prevalence": told(0.4),
        "observed_to_expected": told(1.0), "calibration_in_the_large": told(large, 0.1),
        "calibration_intercept": told(large), "calibration_slope": told(slope, 0.1), "calibration_error": told(0.06),
        "sensitivity": told(0.75), "specificity": told(0.72), "ppv": told(0.6), "npv": told(0.85),
        "flagged": told(0.45), "accuracy": told(0.74), "net_benefit": told(0.2),
    }  # fmt: skip
    counts = {"threshold": 0.5, "hits": 150, "misses": 50, "alarms": 84, "rejections": None}
    return {
        "n": 500, "positives": 200, "negatives": 300, "note": "", "figures": figures, "confusion": counts,
        "calibration_curve": [
            {"low": k / 5, "high": (k + 1) / 5, "n": 100, "predicted": k / 5 + 0.1, "observed": told(k / 5 + 0.09)}
            for k in range(5)
        ],
        **more,
    }  # fmt: skip


def evaluation(sites: dict[str, Json], groups: dict[str, Json], gaps: list[Json]) -> Json:
    """What the last round says of the final model."""
    table = [
        {"threshold": at, "hits": 150, "misses": 50, "alarms": 84, "rejections": 216, "sensitivity": told(0.75),
         "net_benefit": told(0.3 - at / 4), "net_benefit_of_all": told(0.3 - at)}
        for at in (0.25, 0.5, 0.75)
    ]  # fmt: skip
    cuts = [
        {"threshold": 1 - k / 4, "false_positive_rate": k / 4, "sensitivity": (k / 4) ** 0.5, "precision": None}
        for k in range(5)
    ]
    return {
        "version": 1, "confidence": 0.95, "threshold": 0.5, "smallest_cell": 10, "auroc_within": 1e-4,
        "auprc_within": 1e-3,
        "all": worth(thresholds=table, cuts=cuts), "groups": {"ward": groups}, "sites": sites, "sites_withheld": "",
        "gaps": gaps, "comparisons": {"made": 5, "by_chance": 0.25, "clear": 1, "confidence_of_each": 0.99},
    }  # fmt: skip


def gap(group: str, name: str, value: float, clear: bool) -> Json:
    """A difference between a group and the others."""
    return {"feature": "ward", "group": group, "name": name, **told(value), "clear": clear}
