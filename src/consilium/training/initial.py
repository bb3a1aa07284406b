"""The initial model of a study, as the bytes that a plan names by digest."""

import tempfile
from pathlib import Path

from consilium import plugins
from consilium.algorithms import encode
from consilium.core.errors import StudyInvalid
from consilium.core.study import Study
from consilium.core.tensors import to_safetensors
from consilium.training import wheels
from consilium.training.base import Trainer


def initial_model(study: Study, wheel: Path | None = None) -> bytes:
    """Safetensors bytes of the initial model, from the plan's seed. The code of `wheel` runs here, as its author's own.

    Raises: StudyInvalid: the study names a wheel and none is given, or the reverse.   DigestMismatch: another wheel.
    """
    names = encode.names(study.contract)
    kind = plugins.load("consilium.trainers", study.model.kind)
    if (wheel is None) != (study.model.wheel is None):
        what, remedy = (
            (f"the study names the wheel {study.model.wheel}, but none is given", "submit with --wheel FILE")
            if wheel is None
            else ("a wheel is given, but the study names none", "name its digest in the study as model.wheel")
        )
        raise StudyInvalid(what, remedy)
    if wheel is None:
        trainer: Trainer = kind()
        return to_safetensors(trainer.initial(study, names))
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder).resolve() / "code"
        with wheels.opened(wheel, str(study.model.wheel), str(study.model.architecture), code) as build:
            trainer = kind(build)
            return to_safetensors(trainer.initial(study, names))
