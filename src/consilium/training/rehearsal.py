"""A study's own architecture, tried by its author on made-up patients, before a hospital is asked for anything.

It runs here as it does at a hospital, but unconfined, and what it says in an error may be shown: there is no patient.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from consilium.algorithms import encode
from consilium.algorithms.base import LocalObjective
from consilium.algorithms.made_up import coded, made_up
from consilium.core.errors import ConsiliumError, StudyInvalid, TrainingFailed
from consilium.core.study import Study
from consilium.core.tensors import Tensors
from consilium.training.base import Floats, Trainer
from consilium.training.linear import fewest

MOST, VALUES = 16, 1 << 20
"""Patients, and their inputs together: fewer patients where an image is large."""
NEAR = 1e-4
"""How far, absolutely and relatively, float32 may differ between patients who go together and who go alone."""
SLOW = 1e-6
"""Learning rate: whether the study's own one is too large, made-up patients do not tell."""
LENGTH = 300
LARGE = np.float32(30.0)
"""Times the first weights: beyond it what is not bounded lies outside of 0 to 1."""
TWICE = 0.732
"""A little more than the sigmoid of 1."""


@contextmanager
def heard() -> Iterator[None]:
    """What foreign code fails with, in words that its author reads. Raises: StudyInvalid."""
    try:
        yield
    except TrainingFailed as error:
        raise StudyInvalid(f"tried on made-up patients of the contract: {error.message}", error.remedy) from error
    except StudyInvalid as error:
        if error.__cause__ is None:
            raise
        raise StudyInvalid(f"{error.message}: {str(error.__cause__)[:LENGTH]}", error.remedy) from error
    except (ConsiliumError, OSError):
        raise
    except Exception as error:
        raise StudyInvalid(
            f"tried on made-up patients of the contract, the wheel's code failed: {type(error).__name__}: "
            f"{str(error)[:LENGTH]}",
            "correct it, build the wheel anew, and write its new digest in the study",
        ) from error


def rehearse(study: Study, trainer: Trainer, model: Tensors) -> None:
    """One prediction and one step of training on made-up patients, and one on the fewest that a batch may have.

    Raises: StudyInvalid: a prediction is no number, or hangs on who else is predicted; or training needs more patients.
            TrainingFailed: as `train`.
    """
    chance = np.random.default_rng(1)
    x = _rows(study, max(2, min(MOST, VALUES // max(1, study.contract.size))), chance)
    together = trainer.predict(study, model, x)
    singly = np.concatenate([trainer.predict(study, model, x[at : at + 1]) for at in range(len(x))])
    if not (np.all(np.isfinite(together)) and np.all(np.isfinite(singly))):
        raise StudyInvalid("of made-up patients of the contract the architecture predicts no number", "see its forward")
    if not np.allclose(together, singly, rtol=NEAR, atol=NEAR):
        raise StudyInvalid(
            "a prediction depends on other patients: of those who were made up it is another one for each alone",
            "let the module predict for each patient on its own in its mode of inference (`eval`)",
        )
    if study.model.wheel is not None and study.contract.label.type == "binary":
        _unbounded(study, trainer, model, x)
    for some in (len(x), *(one for one in [fewest(study)] if one < len(x))):
        _step(study, trainer, model, x[:some])


def _unbounded(study: Study, trainer: Trainer, model: Tensors, x: Floats) -> None:
    """That it gives log odds. With a sigmoid of its own no weights, however large, leave 0 to 1, of which the one that
    is applied here makes 0.5 to 0.73; without one they do, unless a last layer begins at zero: then all are 0.5."""
    found = trainer.predict(study, {name: LARGE * array for name, array in model.items()}, x)
    if np.all((found >= 0.5) & (found <= TWICE)) and np.any(found != 0.5):
        raise StudyInvalid(
            "the architecture gives values from 0 to 1, as after a sigmoid, which is applied to what it gives: every "
            "probability would lie between 0.5 and 0.73",
            "let it give the log odds: leave out its last sigmoid or softmax",
        )


def _step(study: Study, trainer: Trainer, model: Tensors, x: Floats) -> None:
    gently = study.training.model_copy(update={"epochs": 1, "batch_size": 0, "learning_rate": SLOW})
    label = np.arange(len(x), dtype=np.float64) % 2
    try:
        trainer.train(study.model_copy(update={"training": gently}), model, x, label, LocalObjective(), 1)
    except ValueError as error:
        if len(x) > 1:
            raise
        raise StudyInvalid(
            f"one patient alone cannot be trained on, and a batch may be one: {str(error)[:LENGTH]}",
            "write `training.batch_size` and `min_patients` 2 or more; or use layers that take each patient alone, "
            "such as LayerNorm or GroupNorm",
        ) from error
    except TrainingFailed as error:
        raise TrainingFailed(f"in one small step of training {error.message}", "see its forward in training") from error


def _rows(study: Study, n: int, chance: np.random.Generator) -> Floats:
    """Inputs (n, p): as the contract makes them, or where hospitals learn to prepare them, of the same number."""
    if study.prepare is None:
        return encode.encode(study.contract, coded(study.contract, made_up(study.contract, n, chance)))
    return chance.uniform(0.0, 1.0, size=(n, len(encode.names(study.contract, study.prepare))))
