"""Whether a study can be run as it asks, from the plan and its first model alone: before anybody is asked for it."""

from consilium import plugins
from consilium.algorithms import evaluation
from consilium.algorithms.base import Strategy, begins, fits
from consilium.core import state as chain
from consilium.core.study import Study
from consilium.core.tensors import Tensors, flatten
from consilium.privacy.layout import Layout
from consilium.training import private


def starts(study: Study, model: Tensors | None) -> None:
    """Whether the strategy, if it is installed here, can begin at the model, with the noise that the study asks for.

    Args:    model: None: it is not known yet, as that of a wheel which is not here.
    Raises:  StudyInvalid: says what it has, or lacks.
    """
    if study.strategy.name not in plugins.names("consilium.strategies"):
        return
    strategy: Strategy = plugins.strategy_of(study)
    fits(study, strategy)
    if model is None:
        return
    begins(strategy, model)
    private.check(study, strategy, model)
    strategy.sums(study, flatten(model).size)


def sums(study: Study, model: Tensors) -> None:
    """Whether the sums of all rounds have room for as many hospitals as may take part.

    Args:    study: of a plan: the noise of one with an epsilon is in it.
    Raises:  Invalid: they have too few bits.   StudyInvalid: the model is too large for the strategy.
    """
    if study.privacy.recipe != "secure_sum" or study.strategy.name not in plugins.names("consilium.strategies"):
        return
    flat = flatten(model)
    rounds = (("PREPARE", study.prepares), ("TRAIN", study.rounds), ("EVALUATE", 1))
    for kind in (name for name, count in rounds if count):
        judged = {name: (chain.kind(array), array.size) for name, array in evaluation.nothing(study, kind).items()}
        summed = plugins.sums_of(study, kind, flat.size)
        for sites in {study.quorum, max(study.quorum, len(study.sites))}:
            Layout.of(study, kind, (chain.kind(flat), flat.size), judged, sites, summed)
