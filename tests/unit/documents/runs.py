"""Results of runs that never were, as the commands write them, with what a test wants planted."""

from typing import Any

import numpy as np

from consilium.algorithms import metrics
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
    return metrics.to_json(metrics.figures("binary", metrics.sums("binary", score, label), 0.95))


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
        "study": "sepsis", "label": "trained in one process", "epochs": 3, "split_seed": 1,
        "hospitals": {
            site: {"training": 600, "test": 300, "own": own, "own_on_all": own, "pooled": judged(1.2)}
            for site, own in sites.items()
        },
        "all": {"pooled": judged(1.2, 2000)},
    }  # fmt: skip
