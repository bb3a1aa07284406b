"""The initial model of a study, as the bytes that a plan names by digest."""

from consilium import plugins
from consilium.algorithms import encode
from consilium.core.study import Study
from consilium.core.tensors import to_safetensors
from consilium.training.base import Trainer


def initial_model(study: Study) -> bytes:
    """Safetensors bytes of the initial model, from the plan's seed."""
    trainer: Trainer = plugins.load("consilium.trainers", study.model.kind)()
    return to_safetensors(trainer.initial(study, encode.names(study.contract)))
