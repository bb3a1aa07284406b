"""Torch models, on the processor: plain gradient descent on the mean loss, with the strategy's terms beside it.

The model that is averaged is what the module names: its parameters and its floating-point buffers, all float32. They
lie in one flat vector, in the order of `core.tensors.flatten`, so that one step is one operation on that vector. No
file of torch's own format is read or written: values come and go as named arrays, and nothing is unpickled.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consilium.algorithms.base import LocalObjective
from consilium.core.errors import EXTRA, Refused, StudyInvalid, TrainingFailed
from consilium.core.study import Study
from consilium.core.tensors import Tensors, flatten, unflatten
from consilium.training.base import Architecture, Floats
from consilium.training.linear import batches, least_poisson
from consilium.training.slopes import MAX_RATE, slope

try:
    import torch

    from consilium.training import catalogue
    from consilium.training.clipped import Clipper
except ImportError as error:
    raise Refused("torch models need the extra", EXTRA.format("torch"), reason="extra") from error

VALUES = 1 << 20
"""Inputs that go through a model at once: a bound on memory that does not depend on the number of patients."""


@contextmanager
def _settled(*seed: int) -> Iterator[None]:
    """As `_steady`, with the processor's chance from `seed` alone; torch's own state is as before afterwards."""
    with torch.random.fork_rng(devices=[]), _steady():
        torch.default_generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        yield


@contextmanager
def _steady() -> Iterator[None]:
    """One thread, deterministic operations."""
    threads, strictness = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms(True), without loading a compiler
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(strictness)
        torch.set_num_threads(threads)


def _parts(module: Any) -> dict[str, Any]:
    """Parameters and floating-point buffers by sorted name."""
    parts = dict(module.named_parameters()) | dict(module.named_buffers())
    return {name: parts[name] for name in sorted(parts) if parts[name].is_floating_point()}


class _Flat:
    """A module whose parts are views of one vector, and their gradients views of another."""

    def __init__(self, module: Any, model: Tensors) -> None:
        self.module = module.float()
        parts = _parts(self.module)
        if {name: tuple(part.shape) for name, part in parts.items()} != {k: v.shape for k, v in model.items()}:
            raise TrainingFailed(
                "the architecture's parameters are not those of the initial model",
                "submit the study again: its architecture has changed since",
            )
        size = sum(part.numel() for part in parts.values())
        self.values = torch.empty(size)
        self.gradient = torch.zeros(size)
        self.moves = torch.zeros(size)
        self.decays = torch.zeros(size)
        at = 0
        for part in parts.values():
            here = slice(at, at + part.numel())
            at = here.stop
            part.data = self.values[here].view(part.shape)
            if part.requires_grad:
                part.grad = self.gradient[here].view(part.shape)
                self.moves[here] = 1.0
                self.decays[here] = float(part.dim() > 1)
        self.values[:] = torch.from_numpy(flatten(model).astype(np.float32))

    def tensors(self) -> Tensors:
        """Values as named arrays. Read from the module: a layer may have replaced a buffer."""
        return {name: part.detach().numpy().copy() for name, part in _parts(self.module).items()}


@dataclass(frozen=True)
class _Clipped:
    """A study's module, made once: there are many steps, and a small one takes less time than this.

    Args:    values, decays: (d,) float32: where its parameters lie, and their penalties.
    """

    study: Study
    values: NDArray[np.float32]
    decays: NDArray[np.float32]
    clipper: Clipper


@dataclass(frozen=True)
class TorchTrainer:
    """Trains the architecture that the study names: one of the catalogue, or `build`, which came with its wheel."""

    build: Architecture | None = None
    _idle: list[_Clipped] = field(default_factory=list, init=False, repr=False, compare=False)

    def initial(self, study: Study, names: list[str]) -> Tensors:
        """The architecture's own initial values, drawn from the plan's seed.

        Raises: StudyInvalid: unknown architecture or option, or one that the contract's features do not fit.
        """
        with _settled(study.training.seed):
            parts = _parts(self._module(study, len(names)).float())
        if not parts:
            raise StudyInvalid(f"the architecture {study.model.architecture!r} has no parameters", "give it some")
        return {name: part.detach().numpy().copy() for name, part in parts.items()}

    def train(
        self, study: Study, model: Tensors, x: Floats, y: Floats, objective: LocalObjective, number: int
    ) -> Tensors:
        """SGD at the plan's rate over the plan's batches. The L2 penalty is on weights (two or more dimensions), and
        spares biases and scales.

        Raises: TrainingFailed: the parameters ran away, or the architecture does not fit the initial model.
        """
        moves = None if objective.trains is None else torch.from_numpy(objective.trains.astype(np.float32))
        beside = objective.linear is not None or (objective.mu != 0 and objective.anchor is not None)
        inputs, labels = torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y.astype(np.float32))
        with _settled(study.training.seed, number):
            flat = _Flat(self._module(study, x.shape[1]), model)
            flat.module.train()
            penalty = study.model.l2 * flat.decays
            for batch in batches(study, len(y), number):
                part = slice(None) if batch is None else torch.from_numpy(batch)
                flat.gradient.zero_()
                self._descend(study, flat.module, inputs[part], labels[part])
                step = flat.gradient + penalty * flat.values
                if beside:
                    more = np.asarray(objective.gradient(flat.values.numpy()), dtype=np.float32)
                    step += torch.from_numpy(more) * flat.moves
                flat.values -= study.training.learning_rate * (step if moves is None else step * moves)
            found = flat.tensors()
        if moves is not None:  # what a layer counts as patients pass stays, too
            found = unflatten(np.where(moves.numpy() == 0, flatten(model), flatten(found)), model)
        if not all(np.all(np.isfinite(array)) for array in found.values()):
            raise TrainingFailed("the parameters grew without bound", "lower training.learning_rate in the study")
        return found

    def _descend(self, study: Study, module: Any, x: Any, y: Any) -> None:
        """Add the gradient of a batch's mean loss: piece by piece, but for foreign layers, which may mix patients."""
        for piece in [slice(None)] if self.build is not None else _pieces(x):
            share = len(y[piece]) / len(y)
            (_loss(study, _scores(module, x[piece]), y[piece]) * share).backward()

    def clipped(self, study: Study, model: Tensors, x: Floats, y: Floats, bound: float) -> tuple[Floats, Floats]:
        """Sum over patients of gradients, each of a norm of at most `bound`; and the gradient of the penalty; flat.

        Raises: TrainingFailed: the parameters ran away, whoever the patients are.
                StudyInvalid: a layer is not known to treat patients alone.
        """
        w = flatten(model).astype(np.float32)
        if not np.all(np.isfinite(w)):
            raise TrainingFailed("the parameters grew without bound", "lower training.learning_rate in the study")
        inputs, labels, kind = torch.from_numpy(x.astype(np.float32)), y.astype(np.float32), study.contract.label.type
        one = self._clipper(study, x.shape[1], model, w)
        with _steady():  # no layer goes by chance that clips
            known = one.clipper.sum(inputs, lambda score, here: slope(kind, score, labels[here]), bound)
        self._idle[:] = [one]
        parts = [known[name].ravel() if name in known else np.zeros(model[name].size) for name in sorted(model)]
        return np.concatenate(parts, dtype=np.float64), (one.decays * w).astype(np.float64)

    def _clipper(self, study: Study, inputs: int, model: Tensors, w: NDArray[np.float32]) -> _Clipped:
        """What clips at a model, whose values in a row are `w`; nobody else has it meanwhile."""
        with suppress(IndexError):
            one = self._idle.pop()
            if one.study is study and one.values.shape == w.shape:
                one.values[:] = w
                return one
        with _settled(study.training.seed):
            flat = _Flat(self._module(study, inputs), model)
        decays = (study.model.l2 * flat.decays).numpy()
        return _Clipped(study, flat.values.numpy(), decays, Clipper(flat.module))

    def loss(self, study: Study, model: Tensors, x: Floats, y: Floats) -> float:
        """Mean loss over patients, with nothing left out at random; of a count, above the least that it can be."""
        with _settled(study.training.seed), torch.no_grad():
            found = float(_loss(study, self._score(study, model, x), torch.from_numpy(y.astype(np.float64))))
        return found - float(np.mean(least_poisson(y))) if study.contract.label.type == "count" else found

    def predict(self, study: Study, model: Tensors, x: Floats) -> Floats:
        """The mean of the label given x: a probability, a value or a rate."""
        with _settled(study.training.seed), torch.no_grad():
            score = self._score(study, model, x)
            match study.contract.label.type:
                case "binary":
                    score = torch.sigmoid(score)
                case "count":
                    score = torch.exp(score.clamp(max=MAX_RATE))
        found: Floats = score.numpy()
        return found

    def _score(self, study: Study, model: Tensors, x: Floats) -> Any:
        inputs = torch.from_numpy(x.astype(np.float32))
        module = _Flat(self._module(study, x.shape[1]), model).module.eval()
        scores = [_scores(module, inputs[piece]) for piece in _pieces(inputs)]
        return torch.cat(scores).double() if scores else torch.zeros(0).double()

    def _module(self, study: Study, inputs: int) -> Any:
        if study.model.wheel is not None and self.build is None:
            raise StudyInvalid("the architecture is in a wheel, which is not here", "submit with --wheel FILE")
        if self.build is not None:
            made = self.build(inputs, dict(study.model.options))
            if not isinstance(made, torch.nn.Module):
                raise StudyInvalid("the function of the wheel returns no torch.nn.Module", "return one")
            return made
        catalogue.check(study)
        return catalogue.named(str(study.model.architecture))(inputs, dict(study.model.options))


def _pieces(x: Any) -> Iterator[slice]:
    """Patients of (n, p) inputs in turn, as many at once as have `VALUES` inputs."""
    size = max(1, VALUES // max(1, x.shape[1]))
    return (slice(at, at + size) for at in range(0, len(x), size))


def _scores(module: Any, x: Any) -> Any:
    """One number per patient (n,)."""
    found = module(x)
    if not isinstance(found, torch.Tensor) or tuple(found.shape) not in {(len(x),), (len(x), 1)}:
        raise TrainingFailed(
            "the architecture does not give one number per patient", "its output must have the shape (n,) or (n, 1)"
        )
    return found.reshape(len(x))


def _loss(study: Study, score: Any, label: Any) -> Any:
    """Mean loss of scores and labels (n,): the negative log-likelihood of the label's type."""
    match study.contract.label.type:
        case "binary":
            return torch.nn.functional.binary_cross_entropy_with_logits(score, label)
        case "number":
            return torch.nn.functional.mse_loss(score, label)
        case "count":
            return torch.nn.functional.poisson_nll_loss(score.clamp(max=MAX_RATE), label, log_input=True)
