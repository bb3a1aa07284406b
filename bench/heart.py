"""Federated against pooled and local training on the four UCI Heart Disease hospitals, over ten splits.

The splits are fixed beforehand: `evaluation.split_seed` 1 to 10 of the example study. Everything runs in this process
by the code of a federation (`consilium.simulation.local`, whose bytes a test compares with a real one).

    make bench-heart                         (or: .venv/bin/python bench/heart.py --data FOLDER [--json FILE])

Criterion: over the splits, the mean absolute difference between the AUROC of the federated and of the pooled model, on
the held-out patients of all hospitals, is at most 0.01; and in every split the federated model is above the mean of the
hospitals' own models on the same patients. Exit code 1: it does not hold.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from consilium import studyfile
from consilium.api import freeze
from consilium.core.study import Study
from consilium.simulation import baseline, local
from consilium.simulation.hospitals import heart_disease

SPLITS = range(1, 11)
MOST = 0.01
COLUMNS = ("split", "n", "federated", "pooled", "difference", "own, mean", "own, best", "above")


def split(study: Study, hospitals: Path, folder: Path) -> dict[str, Any]:
    """One split: AUROC on the held-out patients of all hospitals, of each kind of model."""
    plan, weights = freeze(study)
    mapped = local.mappings(hospitals)
    outcome = local.run(plan, weights, local.tables(plan.study, mapped, folder), folder, f"{study.name}-1")
    compared = baseline.compare(study, mapped)
    federated = outcome.figures["all"]["auroc"]
    own = {site: facts["own_on_all"]["auroc"]["value"] for site, facts in compared["hospitals"].items()}
    mean = sum(own.values()) / len(own)
    return {
        "split": study.evaluation.split_seed,
        "n": federated["n"],
        "took_part": list(outcome.took_part),
        "federated": federated,
        "pooled": compared["all"]["pooled"]["auroc"],
        "difference": federated["value"] - compared["all"]["pooled"]["auroc"]["value"],
        "own": own,
        "own_mean": mean,
        "above": federated["value"] > mean,
        "per_hospital": {
            site: {
                "federated": outcome.figures["sites"][site]["auroc"],
                "pooled": facts["pooled"]["auroc"],
                "own": facts["own"]["auroc"],
            }
            for site, facts in compared["hospitals"].items()
        },
        "model": outcome.digest,
    }


def measure(study: Study, hospitals: Path) -> list[dict[str, Any]]:
    """All splits of a study."""
    found = []
    for seed in SPLITS:
        evaluation = study.evaluation.model_copy(update={"split_seed": seed})
        with tempfile.TemporaryDirectory() as folder:
            found.append(split(study.model_copy(update={"evaluation": evaluation}), hospitals, Path(folder)))
    return found


def judged(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether the criterion holds."""
    mean = sum(abs(row["difference"]) for row in rows) / len(rows)
    above = all(row["above"] for row in rows)
    four = all(len(row["took_part"]) == 4 for row in rows)
    return {
        "mean_absolute_difference": mean, "at_most": MOST, "above_own_in_every_split": above,
        "all_took_part": four, "holds": mean <= MOST and above and four,
    }  # fmt: skip


def lines(row: dict[str, Any]) -> str:
    """A row of the table."""
    values = (
        row["split"], row["n"], f"{row['federated']['value']:.4f}", f"{row['pooled']['value']:.4f}",
        f"{row['difference']:+.4f}", f"{row['own_mean']:.4f}", f"{max(row['own'].values()):.4f}",
        "yes" if row["above"] else "NO",
    )  # fmt: skip
    return "  ".join(str(value).rjust(len(name)) for value, name in zip(values, COLUMNS, strict=True))


def main() -> None:
    """Measure, print, write."""
    words = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    words.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data/heart_disease")
    words.add_argument("--json", type=Path, help="write all figures to this file")
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as name:
        hospitals = Path(name)
        heart_disease(hospitals, asked.data)
        study = studyfile.read(hospitals / "study.yaml")
        rows = measure(study, hospitals)
    verdict = judged(rows)
    print("AUROC on the held-out patients of all four hospitals\n")
    print("  ".join(COLUMNS), *(lines(row) for row in rows), sep="\n")
    print(f"\nmean absolute difference {verdict['mean_absolute_difference']:.4f} (at most {MOST}); ", end="")
    print("the criterion holds" if verdict["holds"] else "THE CRITERION DOES NOT HOLD")
    if asked.json:
        what = {"study": study.model_dump(mode="json", exclude={"contract"}), "splits": rows, "criterion": verdict}
        asked.json.write_text(json.dumps(what, indent=2) + "\n")
    sys.exit(0 if verdict["holds"] else 1)


if __name__ == "__main__":
    main()
