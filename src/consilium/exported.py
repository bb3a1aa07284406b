"""A model that was taken home: its file says where it comes from, and holds all that it takes to apply it to raw rows.

::

    from consilium.exported import Exported

    model = Exported.read("model.safetensors")
    model.predict({"age": [63, 58], "sex": ["male", "female"], "chol": [None, 221]})
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium import plugins
from consilium.algorithms import combat, encode, preparation
from consilium.algorithms.combat import Harmony
from consilium.core.contract import Feature, Image
from consilium.core.errors import DigestMismatch, Invalid
from consilium.core.meaning import meaning_digest
from consilium.core.preparing import Harmonise
from consilium.core.study import Plan, Study
from consilium.core.tensors import Array, Tensors, content, from_safetensors, metadata

Floats = npt.NDArray[np.float64]


def form_of(file: Path) -> str:
    """The form of a model's file, where nobody named one: as its name ends.

    >>> form_of(Path("model.ONNX")), form_of(Path("model.bin"))
    ('onnx', 'safetensors')
    """
    return "onnx" if file.suffix.casefold() == ".onnx" else "safetensors"


ENOUGH = 20
"""Fewest patients by whom a hospital's shifts and scales are told."""
NOBODY = (
    "the model takes numbers that are harmonised, and it is not said of which hospital these patients are",
    "give `harmony`: what that hospital kept (`Harmony.load`), or `harmony(rows)` of patients of another one",
)
NEEDLESS = "the model's study harmonises nothing", "leave `harmony` out"
Column = Sequence[float | str | None]


def origin(plan: Plan, run: str, state: str, model: Tensors, arrays: Mapping[str, Array]) -> dict[str, str]:
    """Metadata of a model's file: where it comes from, its plan, and what was learned to prepare inputs.

    `inputs` is the digest of what its inputs and its output mean; a study that judges it, or begins at it, compares it.

    `arrays` is that of the model's arrays and of what was learned: a file whose values were altered is refused.

    Args:    state: digest of the state that holds the model.   arrays: of that state.
    """
    told = {
        "consilium": "1", "study": plan.study.name, "run": run, "plan": plan.digest,
        "contract": plan.study.contract.digest, "inputs": meaning_digest(plan.study), "state": state,
        "kind": plan.study.model.kind, "payload": plan.payload.decode(),
    }  # fmt: skip
    if plan.study.prepare is not None:
        told["prepared"] = json.dumps(preparation.described(plan.study, arrays), sort_keys=True)
    return {**told, "arrays": content({**model, **_prepared(told)})}


def _prepared(told: Mapping[str, str]) -> Tensors:
    """What metadata say was learned, by the names of a state."""
    parts = json.loads(told.get("prepared", "{}"))
    return {f"prepare/{part}": np.array(values, np.float64) for part, values in parts.items()}


@dataclass(frozen=True)
class Exported:
    """A model by name, the study that it comes from, what was learned to prepare inputs, and the file's metadata."""

    study: Study
    model: Tensors
    learned: dict[str, Array]
    metadata: dict[str, str]

    @classmethod
    def read(cls, path: str | Path) -> "Exported":
        """Read a safetensors file that `study export`, `study result --model` or `Result.save` wrote.

        Raises: Invalid: it is no such file.   DigestMismatch: its plan, what this says of its inputs, or its arrays
                are not those that it names.
        """
        file = Path(path)
        return cls.load(file.read_bytes(), file.name)

    @classmethod
    def load(cls, data: bytes, name: str = "the model") -> "Exported":
        """Read the bytes of such a file; `name` is for errors. Raises: as `read`."""
        try:
            model, told = from_safetensors(data), metadata(data)
        except Invalid as error:
            raise Invalid(f"{name} is not a safetensors file", "give a model that this release wrote") from error
        if "payload" not in told:
            raise Invalid(f"{name} does not hold its plan", "export the model again with this release")
        plan = Plan.load(told["payload"].encode())
        if plan.digest != told.get("plan"):
            raise DigestMismatch(f"the plan in {name} is not the one that it names", "export the model again")
        if meaning_digest(plan.study) != told.get("inputs"):
            raise DigestMismatch(f"{name} names other inputs than its plan has", "export the model again")
        learned = _prepared(told)
        if content({**model, **learned}) != told.get("arrays"):
            raise DigestMismatch(
                f"the weights in {name}, or what was learned to prepare inputs, are not those that were written with "
                "its origin",
                "export the model again",
            )
        return cls(plan.study, model, learned, told)

    @property
    def names(self) -> list[str]:
        """Names of the columns of `inputs`."""
        return encode.names(self.study.contract, self.study.prepare)

    def inputs(self, rows: Mapping[str, Column], harmony: Harmony | None = None) -> Floats:
        """The model's inputs (n, p) for raw rows: scaled, filled in and cut as in training.

        Args:    rows: per feature of the contract n values: numbers in its unit, codes of categories; None: missing; of
                 its image (n, rows, columns) numbers.
                 harmony: of the hospital whose patients these are, where the study harmonises numbers.
        Raises:  Invalid: a feature is lacking, a code is unknown, a value is missing that must not be, columns are of
                 unequal length, or it is not said of which hospital the patients are.
        """
        columns = self._columns(rows)
        if (self._asked is None) != (harmony is None):
            raise Invalid(*(NOBODY if harmony is None else NEEDLESS))
        if harmony is not None:
            columns = combat.harmonised(self.study, columns, self.learned, harmony)
        return encode.encode(self.study.contract, columns, self.study.prepare, self.learned)

    def harmony(self, rows: Mapping[str, Column]) -> Harmony:
        """A hospital's shifts and scales, by raw rows of patients of its own, without their labels.

        One that took part keeps its own (`models/RUN.harmony.json` in its folder). These are for another one, of as
        many patients as there are, measured as those will be to whom the model is applied.

        Raises: Invalid: as `inputs`; the study harmonises nothing; fewer than `ENOUGH` patients.
        """
        columns = self._columns(rows)
        if self._asked is None:
            raise Invalid(*NEEDLESS)
        patients = min(len(values) for values in columns.values())
        if patients < ENOUGH:
            raise Invalid(f"{patients} patients do not show how a hospital measures", f"give {ENOUGH} or more")
        return combat.at_site(self.study, columns, self.learned)

    def predict(self, rows: Mapping[str, Column], harmony: Harmony | None = None) -> Floats:
        """Probabilities, values or rates (n,) for raw rows. Raises: as `inputs`; Invalid: its code is in a wheel."""
        if self.study.model.wheel is not None:
            raise Invalid("the model's code is in a wheel of its own", "give `inputs` to the module of that wheel")
        trainer: Any = plugins.load("consilium.trainers", self.study.model.kind)()
        found: Floats = trainer.predict(self.study, self.model, self.inputs(rows, harmony))
        return found

    @property
    def _asked(self) -> Harmonise | None:
        return combat.asked_of(self.study)

    def _columns(self, rows: Mapping[str, Column]) -> dict[str, Floats]:
        contract = self.study.contract
        columns = {feature.id: _column(feature, rows) for feature in contract.features}
        if contract.image is not None:
            columns[contract.image.id] = _pixels(contract.image, rows)
        if len({len(values) for values in columns.values()}) > 1:
            raise Invalid("the columns are of unequal length", "give one value per row, and None where there is none")
        return columns


def _column(feature: Feature, rows: Mapping[str, Column]) -> Floats:
    if feature.id not in rows:
        raise Invalid(f"{feature.id} is lacking", f"give {feature.id}: {feature.meaning}")
    found = np.array([_value(feature, value) for value in rows[feature.id]], dtype=np.float64)
    if feature.missing == "forbidden" and np.any(np.isnan(found)):
        raise Invalid(f"{feature.id} is missing, or outside of its range, in a row", "leave that row out")
    return found


def _pixels(image: Image, rows: Mapping[str, Any]) -> Floats:
    """(n, size) values of images."""
    if image.id not in rows:
        raise Invalid(f"{image.id} is lacking", f"give {image.id}: {image.meaning}")
    found = np.asarray(rows[image.id], dtype=np.float64)
    if found.shape[1:] not in ((image.rows, image.columns), (image.size,)):
        raise Invalid(f"{image.id}: the images are of another size", f"make them {image.rows} x {image.columns}")
    if not np.all((found >= image.range[0]) & (found <= image.range[1])):
        raise Invalid(f"{image.id} has a value that is none, or outside of its range", "leave that row out")
    return found.reshape(len(found), image.size)


def _value(feature: Feature, value: float | str | None) -> float:
    """A number within its range, or the index of a category; NaN where it is missing, or beyond the range."""
    if value is None or value != value:
        return np.nan
    if feature.categories is not None:
        if value not in feature.categories:
            raise Invalid(f"{feature.id}: {value!r} is no code of it", f"write one of {', '.join(feature.categories)}")
        return float(list(feature.categories).index(str(value)))
    assert feature.range is not None
    try:
        number = float(value)
    except ValueError as error:
        raise Invalid(f"{feature.id}: {value!r} is no number", f"write it in {feature.unit}") from error
    return number if feature.range[0] <= number <= feature.range[1] else np.nan
