"""Example hospitals with real patients: folders as a hospital would have them, each with its own table and mapping."""

import csv
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np

from consilium.core.errors import EXTRA, DataUnusable, Refused

UCI = ("cleveland", "hungarian", "switzerland", "va")
"""The four hospitals of UCI Heart Disease, by the names of their raw files."""
CASE_MIX = {"north-general": 0.10, "lakeside": 0.30, "st-anna": 0.55, "tumour-centre": 0.85}
"""Where on the scale from small to large tumours each hospital's patients lie: screening first, referral last."""
EXPECTED = {"breast_cancer": 100, "heart_disease": 160}
"""Training patients of an average hospital, as anybody may know: all patients of an example are public, and counted."""
SECURE = "secure_sum"
"""The recipe of the example studies, as they are shipped."""


def breast_cancer(folder: Path, recipe: str = SECURE, epsilon: float | None = None) -> list[str]:
    """Divide the Wisconsin breast-cancer patients (569, bundled with scikit-learn) among hospitals of unequal case mix.

    Each hospital writes its table in its own way: other column names, other units, other codes for the diagnosis. The
    study beside them protects updates by `recipe`, and patients by `epsilon`, if there is one.

    Raises: Refused: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_breast_cancer
    except ImportError as error:
        raise Refused("the bundled patients need scikit-learn", EXTRA.format("demo"), reason="extra") from error
    found = load_breast_cancer()
    names = [str(name).replace("mean ", "").replace(" ", "_") for name in found.feature_names[:10]]
    values, malignant = found.data[:, :10], 1 - found.target
    rank = np.argsort(np.argsort(values[:, 0])) / len(values)
    rng = np.random.default_rng(569)
    pull = np.stack([-np.square((rank - mix) / 0.25) for mix in CASE_MIX.values()], axis=1)
    chance = np.exp(pull) / np.exp(pull).sum(axis=1, keepdims=True)
    where = np.array([rng.choice(len(CASE_MIX), p=row) for row in chance])
    folder.mkdir(parents=True, exist_ok=True)
    _study("breast_cancer", folder, recipe, epsilon)
    for index, hospital in enumerate(CASE_MIX):
        mine = where == index
        _write_table(folder / hospital, HABITS[index], names, values[mine], malignant[mine])
    return list(CASE_MIX)


class Habit:
    """How one hospital keeps its table."""

    def __init__(self, rename: Callable[[str], str], millimetres: float, unit: str, codes: tuple[str, str]) -> None:
        self.rename, self.factor, self.unit, self.codes = rename, millimetres, unit, codes


HABITS = (
    Habit(lambda name: name, 1.0, "um", ("B", "M")),
    Habit(lambda name: name.upper(), 1.0, "um", ("benign", "malignant")),
    Habit(lambda name: f"fna_{name}", 0.001, "mm", ("0", "1")),
    Habit(lambda name: f"{name}_mean", 0.001, "mm", ("negative", "positive")),
)
LENGTHS = ("radius", "perimeter")


def _write_table(folder: Path, habit: Habit, names: list[str], values: np.ndarray, malignant: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scale = np.array([habit.factor if name in LENGTHS else 1.0 for name in names])
    with (folder / "fna.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", *map(habit.rename, names), "diagnosis"])
        for number, (row, label) in enumerate(zip(values * scale, malignant, strict=True)):
            writer.writerow([f"c{number:04d}", *(f"{value:.7g}" for value in row), habit.codes[int(label)]])
    lines = ["mapping: 1", "contract: breast-cancer", "source: {type: csv, path: fna.csv}", "patient: {column: case}"]
    lines.append("features:")
    for name in names:
        unit = habit.unit if name in LENGTHS else "um2" if name == "area" else "'1'"
        lines.append(f"  {name}: {{column: {habit.rename(name)}, unit: {unit}}}")
    benign, malign = habit.codes
    lines.append(f'label: {{column: diagnosis, codes: {{"{benign}": 0, "{malign}": 1}}}}')
    (folder / "mapping.yaml").write_text("\n".join(lines) + "\n")


def heart_disease(folder: Path, raw: Path, recipe: str = SECURE, epsilon: float | None = None) -> list[str]:
    """The four hospitals of UCI Heart Disease: their raw files as they are, each with its own mapping; and a study.

    Raises: DataUnusable: a raw file is missing.
    """
    demand_raw(raw)
    folder.mkdir(parents=True, exist_ok=True)
    _study("heart_disease", folder, recipe, epsilon)
    for hospital in UCI:
        source = raw / f"processed.{hospital}.data"
        (folder / hospital).mkdir(exist_ok=True)
        (folder / hospital / source.name).write_bytes(source.read_bytes())
        _copy(f"heart_disease/{hospital}.yaml", folder / hospital / "mapping.yaml")
    return list(UCI)


def demand_raw(raw: Path) -> None:
    """Raises: DataUnusable: a raw file of UCI Heart Disease is missing in `raw`."""
    for hospital in UCI:
        if not (raw / f"processed.{hospital}.data").is_file():
            raise DataUnusable(
                f"{raw} has no processed.{hospital}.data", "give the folder with the four processed.*.data files"
            )


def _study(example: str, folder: Path, recipe: str, epsilon: float | None) -> None:
    shipped = resources.files("consilium.examples").joinpath(f"{example}/study.yaml").read_text()
    text = shipped if recipe == SECURE else re.sub(f"recipe: {SECURE}.*", f"recipe: {recipe}}}", shipped)
    if epsilon is not None:
        # One step on clipped gradients a round, and larger ones, for there are few of them.
        asked = f"{{recipe: {recipe}, epsilon: {epsilon:g}, delta: 1.0e-4, expected_patients: {EXPECTED[example]}, "
        text = re.sub("^privacy: .*$", f"privacy: {asked}most_patients: 1000}}", text, flags=re.MULTILINE)
        text = re.sub("^training: .*$", "training: {epochs: 1, learning_rate: 4.0, seed: 1}", text, flags=re.MULTILINE)
    (folder / "study.yaml").write_text(text)


def _copy(name: str, to: Path) -> None:
    to.write_text(resources.files("consilium.examples").joinpath(name).read_text())
