"""Laws of a Trainer. `Make` is what the entry point names; `study` is a study of this kind of model (see `a_study`)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from consilium.algorithms import encode
from consilium.algorithms.base import LocalObjective
from consilium.core import survival
from consilium.core.errors import StudyInvalid
from consilium.core.study import Study
from consilium.core.tensors import Tensors, flatten, to_safetensors, unflatten
from consilium.core.timed import TIMED
from consilium.training.base import Floats, Trainer

Make = Callable[[], Trainer]
PATIENTS = 120


def a_study(label: str, model: dict[str, Any], **training: Any) -> Study:
    """A study with three numbers as features and a label of type `label`: binary, number, count or time-to-event."""
    number: dict[str, Any] = {"type": "number", "unit": "1", "range": [-3, 3], "missing": "forbidden"}
    features = [{"id": name, "meaning": name, **number} for name in ("a", "b", "c")]
    told: dict[str, Any] = {"id": "y", "meaning": "y", "type": label}
    told |= {"unit": "1", "range": [-99, 99]} if label == "number" else {}
    told |= {"unit": "d", "range": [0, 999]} if label == TIMED else {}
    return Study.model_validate({
        "consilium": 1, "name": "conformance", "title": "conformance",
        "purpose": {"code": "research", "text": "conformance", "requester": "conformance"},
        "contract": {"id": "conformance", "features": features, "label": told},
        "model": model, "training": {"epochs": 5, "learning_rate": 0.1, "seed": 7, **training},
        "rounds": 1, "quorum": 1, "privacy": {"recipe": "plain"},
    })  # fmt: skip


def _patients(study: Study) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, size=(PATIENTS, len(encode.names(study.contract))))
    score = 2.0 * x[:, 0] - 1.0 * x[:, 1]
    match study.contract.label.type:
        case "binary":
            return x, (score + rng.normal(scale=0.3, size=PATIENTS) > 0).astype(np.float64)
        case "count":
            return x, rng.poisson(np.exp(0.5 * score)).astype(np.float64)
        case "time-to-event":
            time = np.ceil(30 * rng.exponential(np.exp(-score)))  # whole days, of which some are the same
            return x, survival.joined(np.minimum(time, 90), (time < 90) & (rng.random(PATIENTS) < 0.8))
    return x, score + rng.normal(scale=0.1, size=PATIENTS)


def _trained(make: Make, study: Study, objective: LocalObjective | None = None, number: int = 1) -> Tensors:
    trainer, (x, y) = make(), _patients(study)
    model = trainer.initial(study, encode.names(study.contract))
    return trainer.train(study, model, x, y, objective or LocalObjective(), number)


def _loss(study: Study, predicted: Floats, y: Floats) -> float:
    match study.contract.label.type:
        case "binary":
            certain = np.clip(predicted, 1e-9, 1 - 1e-9)
            return float(-np.mean(y * np.log(certain) + (1 - y) * np.log(1 - certain)))
        case "count":
            return float(np.mean(predicted - y * np.log(np.maximum(predicted, 1e-9))))
        case "time-to-event":
            observed = survival.times(y)[None, :] >= survival.times(y)[:, None]
            share = predicted / (observed * predicted[None, :]).sum(axis=1)
            return float(-np.mean(np.log(share[survival.events(y)])))
    return float(np.mean((predicted - y) ** 2))


def begins_alike_everywhere(make: Make, study: Study) -> None:
    """The initial model follows from the study alone: the same bytes each time, all finite floating-point values."""
    names = encode.names(study.contract)
    first = make().initial(study, names)
    assert to_safetensors(first) == to_safetensors(make().initial(study, names))
    for array in first.values():
        assert np.issubdtype(array.dtype, np.floating) and np.all(np.isfinite(array))


def is_deterministic(make: Make, study: Study) -> None:
    """The same inputs give the same bytes, also from an object that has trained before."""
    trainer, (x, y) = make(), _patients(study)
    model = trainer.initial(study, encode.names(study.contract))
    results = [trainer.train(study, model, x, y, LocalObjective(), 1) for _ in range(2)]
    results.append(_trained(make, study))
    assert len({to_safetensors(result) for result in results}) == 1


def keeps_its_layout(make: Make, study: Study) -> None:
    """The trained model has the names, shapes and types of the initial one."""
    initial, after = make().initial(study, encode.names(study.contract)), _trained(make, study)
    assert {name: (a.shape, a.dtype) for name, a in initial.items()} == {
        name: (a.shape, a.dtype) for name, a in after.items()
    }


def leaves_its_input_alone(make: Make, study: Study) -> None:
    """Neither the model nor the patients are written to."""
    trainer, (x, y) = make(), _patients(study)
    model = trainer.initial(study, encode.names(study.contract))
    before = [array.copy() for array in (*model.values(), x, y)]
    trainer.train(study, model, x, y, LocalObjective(), 1)
    trainer.predict(study, model, x)
    for array, kept in zip((*model.values(), x, y), before, strict=True):
        assert np.array_equal(array, kept)


def learns(make: Make, study: Study) -> None:
    """Training lowers the loss on the patients it trains with."""
    trainer, (x, y) = make(), _patients(study)
    model = trainer.initial(study, encode.names(study.contract))
    before = _loss(study, trainer.predict(study, model, x), y)
    for number in range(1, 6):
        model = trainer.train(study, model, x, y, LocalObjective(), number)
    assert _loss(study, trainer.predict(study, model, x), y) < before


def predicts_one_number_per_patient(make: Make, study: Study) -> None:
    """(n,) finite values, in [0, 1] for a binary label, not negative for a count or time; none depends on others."""
    trainer, (x, _) = make(), _patients(study)
    model = _trained(make, study)
    found = trainer.predict(study, model, x)
    assert found.shape == (PATIENTS,) and np.all(np.isfinite(found))
    if study.contract.label.type in ("binary", "count", TIMED):
        assert np.all(found >= 0)
    if study.contract.label.type == "binary":
        assert np.all(found <= 1)
    order = np.random.default_rng(1).permutation(PATIENTS)
    assert np.allclose(trainer.predict(study, model, x[order]), found[order], rtol=1e-5)
    assert np.allclose(trainer.predict(study, model, x[:1]), found[:1], rtol=1e-5)
    assert trainer.predict(study, model, x[:0]).shape == (0,)


def is_held_by_its_anchor(make: Make, study: Study) -> None:
    """The strategy's proximal term is part of what is minimised: it holds the model near the anchor."""
    initial = flatten(make().initial(study, encode.names(study.contract))).astype(np.float64)
    free = np.linalg.norm(flatten(_trained(make, study)) - initial)
    held = np.linalg.norm(flatten(_trained(make, study, LocalObjective(anchor=initial, mu=5.0))) - initial)
    assert held < free


def is_moved_by_a_linear_term(make: Make, study: Study) -> None:
    """The strategy's linear term is part of what is minimised: it moves the model against itself."""
    plain = flatten(_trained(make, study)).astype(np.float64)
    linear = np.full(plain.size, 0.05)
    moved = flatten(_trained(make, study, LocalObjective(linear=linear))).astype(np.float64)
    assert float((moved - plain) @ linear) < 0


def leaves_what_does_not_train(make: Make, study: Study) -> None:
    """Parameters that the strategy does not let train stay as they are, to the bit, and the others learn."""
    before = flatten(make().initial(study, encode.names(study.contract)))
    for trains in (np.arange(before.size) % 2 == 0, np.arange(before.size) % 2 == 1):
        after = flatten(_trained(make, study, LocalObjective(trains=trains.astype(before.dtype))))
        assert np.array_equal(after[~trains], before[~trains]) and np.any(after[trains] != before[trains])


def goes_on_from_the_model_it_is_given(make: Make, study: Study) -> None:
    """Training starts at the given model, not at one of its own: with no step it would give that model back."""
    trainer, (x, y) = make(), _patients(study)
    model = trainer.initial(study, encode.names(study.contract))
    shifted = unflatten(flatten(model) + 0.25, model)
    tiny = study.model_copy(update={"training": study.training.model_copy(update={"learning_rate": 1e-12})})
    after = trainer.train(tiny, shifted, x, y, LocalObjective(), 1)
    assert np.allclose(flatten(after), flatten(shifted), atol=1e-3)


def clips_each_patient(make: Make, study: Study) -> None:
    """The clipped sum is that of single patients, none of whom adds more than the bound; without one, of gradients.

    And that is what training follows: a tiny step of training goes along it. A loss that compares patients with one
    another has none of one patient, and says so.
    """
    trainer, (x, y) = make(), _patients(study)
    model = _trained(make, study)
    bound = 0.5
    if study.contract.label.type == TIMED:
        assert _refuses(lambda: trainer.clipped(study, model, x, y, bound)), "patients were compared"
        return
    whole, rest = trainer.clipped(study, model, x, y, bound)
    single = [trainer.clipped(study, model, x[at : at + 1], y[at : at + 1], bound)[0] for at in range(PATIENTS)]
    assert max(np.linalg.norm(one) for one in single) <= bound
    assert np.allclose(np.sum(single, axis=0), whole, atol=1e-4)
    free, _ = trainer.clipped(study, model, x, y, 1e6)
    assert np.linalg.norm(free) > np.linalg.norm(whole)
    part = {"learning_rate": 1e-3, "epochs": 1, "batch_size": 0}
    slow = study.model_copy(update={"training": study.training.model_copy(update=part)})
    after = flatten(trainer.train(slow, model, x, y, LocalObjective(), 1)).astype(np.float64)
    moved = (flatten(model).astype(np.float64) - after) / 1e-3
    assert np.allclose(moved, free / PATIENTS + rest, atol=2e-3)


def _refuses(ask: Callable[[], Any]) -> bool:
    try:
        ask()
    except StudyInvalid:
        return True
    return False


def descends_its_loss(make: Make, study: Study) -> None:
    """The loss is never negative, and a step of training without a penalty goes down its gradient."""
    trainer, (x, y) = make(), _patients(study)
    part = {"learning_rate": 1e-3, "epochs": 1, "batch_size": 0}
    slow = study.model_copy(update={
        "training": study.training.model_copy(update=part), "model": study.model.model_copy(update={"l2": 0.0}),
    })  # fmt: skip
    model = _trained(make, study)
    assert trainer.loss(slow, model, x, y) >= 0
    flat = flatten(model).astype(np.float64)
    after = flatten(trainer.train(slow, model, x, y, LocalObjective(), 1)).astype(np.float64)
    slope = (flat - after) / 1e-3

    def loss(at: Floats) -> float:
        return trainer.loss(slow, unflatten(at, model), x, y)

    way = 1e-2 * slope / np.linalg.norm(slope)
    assert np.isclose((loss(flat + way) - loss(flat - way)) / 2, way @ slope, rtol=0.02)


LAWS: tuple[Callable[[Make, Study], None], ...] = (
    begins_alike_everywhere, is_deterministic, keeps_its_layout, leaves_its_input_alone, learns,
    predicts_one_number_per_patient, is_held_by_its_anchor, is_moved_by_a_linear_term, leaves_what_does_not_train,
    goes_on_from_the_model_it_is_given, clips_each_patient, descends_its_loss,
)  # fmt: skip
