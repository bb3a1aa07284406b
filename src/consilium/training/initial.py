"""The initial model of a study, as the bytes that a plan names by digest; and whether a model is that one.

One that is given as safetensors is tied to the study by what its file says of its inputs (`core.meaning`).
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from consilium import plugins
from consilium.algorithms import encode
from consilium.core.errors import Refused, StudyInvalid
from consilium.core.meaning import differences, meaning_digest
from consilium.core.study import Study
from consilium.core.tensors import Array, Tensors, from_safetensors, metadata, to_safetensors
from consilium.exported import Exported
from consilium.training import rehearsal, wheels
from consilium.training.base import Given, Trainer


def initial_model(
    study: Study, wheel: Path | None = None, model: Path | None = None, seed: Callable[..., Tensors] | None = None
) -> bytes:
    """Safetensors bytes of the initial model: from the plan's seed, or `model` where the study starts from a given one.

    The code of `wheel` runs here, as its author's own; or where `seed` lets it, which is as `from_seed`.

    Raises: StudyInvalid: the study names a wheel, or starts from a given model, and none is given, or the reverse; or
            the model is of another shape, or its inputs mean something else than the study's; or it does not say what
            they mean, and the study does not say `untied`.   DigestMismatch: another wheel, or the model's file is not
            what it says of itself.   Invalid: `model` is no safetensors file.
    """
    _as_named("wheel", wheel, study.model.wheel is not None, f"names the wheel {study.model.wheel}")
    _as_named("model", model, study.model.start == "given", "starts from a given model (`model.start`)")
    if wheel is None and model is not None:
        trainer = plugins.load("consilium.trainers", study.model.kind)()
        if isinstance(trainer, Given):
            if study.model.untied:
                raise StudyInvalid(f"a model of kind {study.model.kind} names its inputs itself", "leave `untied` out")
            return to_safetensors(trainer.read(study, model.read_bytes()))
    made = (seed or from_seed)(study, wheel)
    if model is None:
        return to_safetensors(made)
    data = model.read_bytes()
    given = from_safetensors(data)
    _tied(study, data, model.name)
    if _shapes(given) != _shapes(made):
        raise StudyInvalid(
            f"the model in {model.name} has other parameters than {study.model.kind} has here",
            "give one that was trained for the same features and architecture",
        )
    return to_safetensors(given)


def _tied(study: Study, data: bytes, name: str) -> None:
    """Whether the inputs of a model on file mean what the study's do. Raises: StudyInvalid, DigestMismatch."""
    if "plan" not in metadata(data):
        if study.model.untied:
            return
        raise StudyInvalid(
            f"{name} does not say by which plan it was trained: nothing tells whether it takes this study's inputs, in "
            "this order and on these scales",
            "give a file that `consilium study export` wrote; or, if you know how it was trained, write `untied: true` "
            "beside `start: given`, which each hospital and the report will say",
        )
    if study.model.untied:
        raise StudyInvalid(f"{name} says by which plan it was trained", "leave `untied` out")
    given = Exported.load(data, name)
    if given.metadata["inputs"] == meaning_digest(study):
        return
    what = f"{name} was trained for other inputs than this study has: {differences(given.study, study)}"
    if given.study.prepare is not None and study.judged_only:
        raise StudyInvalid(
            what,
            "what its training prepared is not done here: give it as an ONNX file, which has that inside (`consilium "
            "study export --from FILE --format onnx`), and write `kind: onnx`",
        )
    raise StudyInvalid(what, "write these in the study as the model has them, or give a model that was trained for it")


def _as_named(what: str, file: Path | None, named: bool, words: str) -> None:
    if named and file is None:
        raise StudyInvalid(f"the study {words}, but none is given", f"submit with --{what} FILE")
    if file is not None and not named:
        remedy = {"wheel": "name its digest in the study as model.wheel", "model": "write `start: given` under `model`"}
        raise StudyInvalid(f"a {what} is given, but the study names none", remedy[what])


def from_seed(study: Study, wheel: Path | None = None) -> Tensors:
    """The model that follows from the study's seed; a wheel's is tried on made-up patients. Raises: StudyInvalid."""
    names = encode.names(study.contract, study.prepare)
    kind = plugins.load("consilium.trainers", study.model.kind)
    if wheel is None:
        trainer: Trainer = kind()
        return trainer.initial(study, names)
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder).resolve() / "code"
        named = str(study.model.wheel), str(study.model.architecture)
        with rehearsal.heard(), wheels.opened(wheel, *named, code) as build:
            trainer = kind(build)
            made = trainer.initial(study, names)
            rehearsal.rehearse(study, trainer, made)
            return made


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
