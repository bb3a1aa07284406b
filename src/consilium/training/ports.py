"""What a foreign graph asks for and gives, as a contract has it: each input by name or by named columns, one output."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consilium.algorithms import encode
from consilium.core.contract import Contract
from consilium.core.errors import Invalid, StudyInvalid
from consilium.core.study import Study
from consilium.core.tensors import Array
from consilium.training.base import Floats
from consilium.training.graphs import classes
from consilium.training.judged import by_name, named

TEXT = "text"
KINDS = {
    TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64", TensorProto.INT64: "int64", TensorProto.INT32: "int32",
    TensorProto.BOOL: "bool", TensorProto.STRING: TEXT,
}  # fmt: skip
WHOLE = ("int64", "int32", "bool")
SLACK = 1e-6
"""By how much a probability in float32 may lie outside of [0, 1]."""


class Options(BaseModel):
    """`model.options` of kind onnx; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: dict[str, tuple[str, ...]] = Field(
        {}, description="input of the graph: its columns, in order; an image's name stands for its values"
    )
    output: str | None = Field(None, description="the output that predicts; none given: the only one that can")
    positive: int | str | None = Field(
        None, description="the class that is the label's 1, or the column of two, where no class is told"
    )


@dataclass(frozen=True)
class Port:
    """One input of a graph.

    Args:    kind: the type of numpy of its numbers, or `text`.   shape: of one patient.   columns: what fills it.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    columns: tuple[str, ...]

    def filled(self, values: Mapping[str, Floats], codes: Mapping[str, Array]) -> Array:
        """Its array for n patients. Raises: Invalid: it takes whole numbers, and a patient's is none."""
        if self.kind == TEXT:
            return np.stack([codes[name] for name in self.columns], axis=1).reshape(-1, *self.shape)
        found = np.stack([values[name] for name in self.columns], axis=1).reshape(-1, *self.shape)
        if self.kind in WHOLE and not np.array_equal(found, np.rint(found)):
            raise Invalid(
                f"the model's input {self.name} takes whole numbers only", "export it with floating-point inputs"
            )
        return found.astype(self.kind)


@dataclass(frozen=True)
class Output:
    """Where a prediction is found: in the column `place` of two, under the key `key` of a ZipMap, or alone.

    Args:    place: None: it is not known which of two.   second: whether the label's 1 is the second class, of which a
             column speaks that is alone.
    """

    name: str
    place: int | None = None
    key: int | str = 1
    second: bool = True


@dataclass(frozen=True)
class Ports:
    """All inputs, and the output that predicts."""

    inputs: tuple[Port, ...]
    output: Output

    @classmethod
    def of(cls, study: Study, model: Any) -> "Ports":
        """Match a graph with a study. Raises: StudyInvalid: they do not match, and how."""
        asked = _options(study)
        constant = {tensor.name for tensor in model.graph.initializer}
        taken = [value for value in model.graph.input if value.name not in constant]
        if strange := asked.inputs.keys() - {value.name for value in taken}:
            raise StudyInvalid(
                f"model.options.inputs: the graph has no input {', '.join(sorted(strange))}",
                f"it has {', '.join(value.name for value in taken) or 'none'}",
            )
        if not taken:
            raise StudyInvalid("the graph has no input", "export it with what it takes of a patient")
        found = tuple(_port(study.contract, value, asked.inputs.get(value.name)) for value in taken)
        return cls(found, _output(study, model, asked))

    def feed(self, contract: Contract, x: Floats) -> dict[str, Array]:
        """Encoded patients (n, p) as the graph's inputs. Raises: Invalid: as `Port.filled`."""
        values, codes = by_name(contract, x), dict[str, Array]()
        decoded = encode.decode(contract, x)
        for feature in contract.features:
            if feature.categories is not None:
                texts = np.array([*feature.categories, ""], dtype=object)
                place = decoded[feature.id]
                codes[feature.id] = texts[np.where(np.isnan(place), len(texts) - 1, place).astype(np.int64)]
        return {one.name: one.filled(values, codes) for one in self.inputs}

    def predicted(self, label: str, found: Any, n: int) -> Floats:
        """Predictions (n,) of what the graph gave. Raises: Invalid: it is not one number per patient, or impossible."""
        if isinstance(found, list):
            wrong = [one for one in found if not isinstance(one, dict) or self.output.key not in one]
            values = np.zeros(0) if wrong else np.array([one[self.output.key] for one in found], dtype=np.float64)
        else:
            values = np.asarray(found)
            if values.ndim == 2 and values.shape[1] == 2 and label == "binary":
                if self.output.place is None:
                    raise Invalid(
                        "the graph gives two columns, and does not tell its classes",
                        "write `model: {options: {positive: 0}}` or 1: the column of the label's 1",
                    )
                values = values[:, self.output.place]
            elif not self.output.second:
                raise Invalid(
                    "the graph gives one column, which speaks of its second class, and the label's 1 is another one",
                    "export it with a column for each class, or leave `positive` out",
                )
        if values.shape not in {(n,), (n, 1)} or values.dtype.kind != "f":
            raise Invalid(f"the graph gives {values.shape} and not one number per patient", "export it anew")
        values = values.reshape(n).astype(np.float64)
        if not np.all(np.isfinite(values)):
            raise Invalid(
                "the graph gives no number for some patients",
                "it must know what to do with a missing value (NaN, or an empty text), or the contract forbid them",
            )
        least, most = 0.0 if label != "number" else -np.inf, 1.0 if label == "binary" else np.inf
        if np.any(values < least - SLACK) or np.any(values > most + SLACK):
            raise Invalid(
                f"the graph gives what no {label} label can have",
                "name the output of probabilities or rates, or let the graph end in them, by a Sigmoid or Softmax",
            )
        return np.clip(values, least, most)


def _options(study: Study) -> Options:
    try:
        return Options.model_validate(study.model.options)
    except ValidationError as error:
        what = "; ".join(
            f"{'.'.join(('model.options', *map(str, one['loc'])))}: {one['msg']}"
            for one in error.errors(include_url=False)
        )
        raise StudyInvalid(what, f"options of onnx are: {', '.join(Options.model_fields)}") from error


def _port(contract: Contract, value: Any, columns: tuple[str, ...] | None) -> Port:
    name, known = value.name, named(contract)
    texts = [feature.id for feature in contract.features if feature.categories is not None]
    kind = KINDS.get(value.type.tensor_type.elem_type) if value.type.HasField("tensor_type") else None
    if kind is None or not value.type.tensor_type.HasField("shape"):
        raise StudyInvalid(f"the graph's input {name} is no tensor of numbers or texts with a shape", "export it anew")
    given = _whole_image(contract, columns) or _usual(contract, name, texts if kind == TEXT else known)
    shape = _shape(value, given)
    if given is None or len(given) != int(np.prod(shape)):
        said = "the study does not say which" if given is None else f"{len(given)} are named"
        image = contract.image
        one, order = (
            (image.id, "for the contract's image") if image else ("first, second", "in the order of its columns")
        )
        raise StudyInvalid(
            f"the graph's input {name} takes {int(np.prod(shape))} values of a patient, and {said}",
            f"write `model: {{options: {{inputs: {{{name}: [{one}]}}}}}}`, {order}",
        )
    if double := [one for one in given if given.count(one) > 1]:
        raise StudyInvalid(f"the graph's input {name} is given {double[0]} twice", "name each of its columns once")
    possible = texts if kind == TEXT else known
    if strange := [one for one in given if one not in possible]:
        raise StudyInvalid(
            f"the graph's input {name} cannot be filled with {', '.join(strange[:5])}",
            f"as {'texts' if kind == TEXT else 'numbers'} the contract has {', '.join(possible[:40]) or 'none'}",
        )
    allowed = {feature.id for feature in contract.features if feature.missing == "allowed"}
    if kind in WHOLE and (missing := [one for one in given if one.partition("=")[0] in allowed]):
        raise StudyInvalid(
            f"the graph's input {name} takes whole numbers, which cannot say that {missing[0]} is missing",
            "export it with floating-point inputs, or write `missing: forbidden` in the contract",
        )
    if kind in WHOLE and (parts := [one for one in given if one not in _whole(contract)]):
        raise StudyInvalid(
            f"the graph's input {name} takes whole numbers, and {parts[0]} may have a fraction",
            "export it with floating-point inputs, or write `resolution: 1` in the contract",
        )
    return Port(name, kind, shape, given)


def _whole_image(contract: Contract, columns: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Columns, where an image's name stands for all its values."""
    image = contract.image
    if columns is None or image is None or image.id not in columns:
        return columns
    return tuple(name for one in columns for name in (image.names if one == image.id else (one,)))


def _whole(contract: Contract) -> set[str]:
    """Inputs that never have a fraction: categories, and numbers that every hospital rounds."""
    rounded = {one.id for one in contract.features if one.resolution is not None and one.resolution.is_integer()}
    return {name for name in named(contract) if "=" in name or name in rounded}


def _usual(contract: Contract, name: str, possible: list[str]) -> tuple[str, ...] | None:
    """What fills an input of this name, if the study says nothing."""
    if contract.image is not None and name == contract.image.id:
        return tuple(contract.image.names)
    return (name,) if name in possible else None


def _shape(value: Any, columns: tuple[str, ...] | None) -> tuple[int, ...]:
    """The shape of one patient's values. A side that a file leaves open has what is named."""
    first, *rest = value.type.tensor_type.shape.dim or [None]
    if first is None or first.HasField("dim_value"):
        raise StudyInvalid(
            f"the graph's input {value.name} does not take patients in any number, one per row",
            "export it with an open first dimension",
        )
    sides = [side.dim_value if side.HasField("dim_value") else 0 for side in rest]
    if sides == [0]:
        sides = [len(columns or ("",))]
    if any(side < 1 for side in sides):
        raise StudyInvalid(f"the graph's input {value.name} has open sides", "export it with the sides of one patient")
    return tuple(sides)


def _output(study: Study, model: Any, asked: Options) -> Output:
    binary = study.contract.label.type == "binary"
    able = [value.name for value in model.graph.output if _predicts(value, binary)]
    if asked.output is not None:
        if asked.output not in able:
            raise StudyInvalid(
                f"model.options.output: {asked.output} is no output of the graph that predicts",
                f"it has {', '.join(able) or 'none'}",
            )
        able = [asked.output]
    if len(able) != 1:
        raise StudyInvalid(
            f"{len(able)} outputs of the graph may be the prediction: {', '.join(able) or 'none is such a number'}",
            "write `model: {options: {output: NAME}}`, or export the model with one",
        )
    return Output(able[0], *_positive(classes(model), asked.positive)) if binary else Output(able[0])


def _predicts(value: Any, binary: bool) -> bool:
    """Whether an output can be one number per patient: alone, as the second of two probabilities, or in a ZipMap."""
    if value.type.HasField("sequence_type"):
        return bool(binary and value.type.sequence_type.elem_type.HasField("map_type"))
    of = value.type.tensor_type
    if of.elem_type not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        return False
    sides = [side.dim_value for side in of.shape.dim][1:]
    return not sides or (len(sides) == 1 and sides[0] in ((0, 1, 2) if binary else (0, 1)))


def _positive(known: list[list[int | str]], positive: int | str | None) -> tuple[int | None, int | str, bool]:
    """The rest of an `Output`: a swapped order is no trap where it is told, and where it is not, nobody guesses."""
    wanted = 1 if positive is None else positive
    if not known:
        if wanted in (0, 1):
            return None if positive is None else int(wanted), wanted, wanted == 1
        raise StudyInvalid("the graph does not tell its classes", "write `positive: 0` or `positive: 1`: the column")
    if len(known) > 1 or len(known[0]) != 2 or wanted not in known[0]:
        told = "; ".join(", ".join(map(str, one)) for one in known)
        raise StudyInvalid(
            f"the graph's classes are {told}, and it is not said which of two is the label's 1",
            "write `model: {options: {positive: CLASS}}`, of a model of two classes",
        )
    return known[0].index(wanted), wanted, known[0].index(wanted) == 1
