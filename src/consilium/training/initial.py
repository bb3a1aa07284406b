"""The initial model of a study, as the bytes that a plan names by digest; and whether a model is that one."""

import tempfile
from pathlib import Path

import numpy as np

from consilium import plugins
from consilium.algorithms import encode
from consilium.core.errors import Refused, StudyInvalid
from consilium.core.study import Study
from consilium.core.tensors import Array, Tensors, from_safetensors, to_safetensors
from consilium.training import wheels
from consilium.training.base import Given, Trainer


def initial_model(study: Study, wheel: Path | None = None, model: Path | None = None) -> bytes:
    """Safetensors bytes of the initial model: from the plan's seed, or `model` where the study starts from a given one.

    The code of `wheel` runs here, as its author's own.

    Raises: StudyInvalid: the study names a wheel, or starts from a given model, and none is given, or the reverse; or
            the model is of another shape.   DigestMismatch: another wheel.   Invalid: `model` is no safetensors file.
    """
    _as_named("wheel", wheel, study.model.wheel is not None, f"names the wheel {study.model.wheel}")
    _as_named("model", model, study.model.start == "given", "starts from a given model (`model.start`)")
    if wheel is None and model is not None:
        trainer = plugins.load("consilium.trainers", study.model.kind)()
        if isinstance(trainer, Given):
            return to_safetensors(trainer.read(study, model.read_bytes()))
    made = _from_seed(study, wheel)
    if model is None:
        return to_safetensors(made)
    given = from_safetensors(model.read_bytes())
    if _shapes(given) != _shapes(made):
        raise StudyInvalid(
            f"the model in {model.name} has other parameters than {study.model.kind} has here",
            "give one that was trained for the same features and architecture",
        )
    return to_safetensors(given)


def _as_named(what: str, file: Path | None, named: bool, words: str) -> None:
    if named and file is None:
        raise StudyInvalid(f"the study {words}, but none is given", f"submit with --{what} FILE")
    if file is not None and not named:
        remedy = {"wheel": "name its digest in the study as model.wheel", "model": "write `start: given` under `model`"}
        raise StudyInvalid(f"a {what} is given, but the study names none", remedy[what])


def _from_seed(study: Study, wheel: Path | None) -> Tensors:
    names = encode.names(study.contract, study.prepare)
    kind = plugins.load("consilium.trainers", study.model.kind)
    if wheel is None:
        trainer: Trainer = kind()
        return trainer.initial(study, names)
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder).resolve() / "code"
        with wheels.opened(wheel, str(study.model.wheel), str(study.model.architecture), code) as build:
            trainer = kind(build)
            return trainer.initial(study, names)


def check(study: Study, trainer: Trainer, model: Tensors) -> None:
    """Whether a plan's first model is the one that follows from its seed, to the last bit; if the plan says so.

    A model that was made to keep patients apart shows them in a sum over many hospitals; and two first models that
    differ by next to nothing would let sums over different hospitals be subtracted.

    Raises: Refused: `initial-model`.   StudyInvalid: unknown architecture or option.
    """
    if study.model.start == "given":
        return
    own = trainer.initial(study, encode.names(study.contract, study.prepare))
    if _shapes(own) != _shapes(model) or not all(_same(own[name], model[name]) for name in own):
        raise Refused(
            "the plan's first model is not the one that follows from its seed here",
            "submit the study with the release that hospitals run, or write `model: {start: given}`, which each must "
            "accept",
            reason="initial-model",
        )


def _shapes(model: Tensors) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (array.dtype.str, array.shape) for name, array in model.items()}


def _same(one: Array, other: Array) -> bool:
    return np.array_equal(_bits(one), _bits(other))


def _bits(array: Array) -> Array:
    return np.ascontiguousarray(array).view(np.uint8)
