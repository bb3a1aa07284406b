"""Sums of clipped gradients are those of single patients, one by one; no patient adds more than the bound."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium.core.errors import ConsiliumError, Invalid, StudyInvalid, TrainingFailed
from unit.training.test_torch import BINARY, COUNT, NUMBER, study

pytest.importorskip("torch")

import torch
from torch import nn

from consilium.algorithms.base import LocalObjective
from consilium.core.tensors import flatten
from consilium.training import clipped, singly
from consilium.training import torch as trainer
from consilium.training.catalogue import named
from consilium.training.clipped import Clipper
from consilium.training.singly import gradients
from consilium.training.slopes import slope
from consilium.training.torch import TorchTrainer

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")
LABELS = {"binary": BINARY, "number": NUMBER, "count": COUNT}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small products, which threads would wait for each other in."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def image(**convolution: Any) -> Any:
    """A convolution of 12 x 12 values, with all that may stand about it."""
    first = nn.Conv2d(2, 4, 3, **convolution)
    side = first(torch.zeros(1, 2, 12, 12)).shape[-2:]
    return nn.Sequential(
        first, nn.GroupNorm(2, 4, eps=0.3), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Flatten(),
        nn.Linear(4 * (side[0] - 1) * (side[1] - 1), 1),
    )  # fmt: skip


ARCHITECTURES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "logistic": (lambda: named("logistic")(5, {}), (5,)),
    "mlp": (lambda: named("mlp")(5, {"hidden": [7, 3]}), (5,)),
    "wide mlp": (lambda: named("mlp")(300, {"hidden": [2048]}), (300,)),
    "deep mlp": (lambda: named("mlp")(5, {"hidden": [6, 6, 6]}), (5,)),
    "residual-mlp": (lambda: named("residual-mlp")(5, {"width": 6}), (5,)),
    "no bias": (lambda: nn.Sequential(nn.Linear(5, 4, bias=False), nn.ReLU(), nn.Linear(4, 1)), (5,)),
    "tanh": (lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)), (5,)),
    "rectified input": (lambda: nn.Sequential(nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1)), (5,)),
    "a frozen layer": (lambda: nn.Sequential(nn.Linear(5, 4).requires_grad_(False), nn.ReLU(), nn.Linear(4, 1)), (5,)),
    "scores of one dimension": (lambda: nn.Sequential(nn.Linear(5, 1), nn.Flatten(0)), (5,)),
    "cnn": (image, (2, 12, 12)),
    "cnn with steps": (lambda: image(stride=2, padding=(1, 2), dilation=(2, 1)), (2, 12, 12)),
    "cnn, no bias": (lambda: image(bias=False), (2, 12, 12)),
    "many outputs, few places": (
        lambda: nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 1)),
        (3, 5, 5),
    ),
    "cnn of series": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 5, 2, 1, dilation=2), nn.GroupNorm(2, 4), nn.ReLU(), nn.AvgPool1d(2), nn.Flatten(),
            nn.Linear(20, 1),
        ),
        (2, 27),
    ),
    "groups of an mlp": (lambda: nn.Sequential(nn.Linear(5, 6), nn.GroupNorm(2, 6), nn.ReLU(), nn.Linear(6, 1)), (5,)),
    "groups at first": (lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(20, 1)), (4, 5)),
    "an image of one channel": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.GroupNorm(3, 12), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(12, 4, 3, padding=1), nn.GroupNorm(4, 4), nn.Flatten(), nn.Linear(64, 1),
        ),
        (1, 8, 8),
    ),
    "a signal of one channel": (
        lambda: nn.Sequential(
            nn.Conv1d(1, 5, 3, 1, 1, dilation=2), nn.GroupNorm(1, 5), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(20, 1),
        ),
        (1, 10),
    ),
    "a norm over rows": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.LayerNorm(8), nn.Flatten(), nn.Linear(24, 1)),
        (2, 10),
    ),
    "cnn of the catalogue": (lambda: named("cnn")(72, {"shape": [2, 6, 6], "channels": [4, 8], "hidden": [5]}), (72,)),
    "cnn of the catalogue, signals": (
        lambda: named("cnn")(46, {"shape": [2, 23], "channels": [4], "groups": 2, "kernel": 5, "hidden": []}), (46,),
    ),
    "cnn of the catalogue, means": (
        lambda: named("cnn")(64, {"shape": [1, 8, 8], "channels": [4, 4], "pool": 1, "places": "mean"}), (64,),
    ),
    "a norm without parameters": (
        lambda: nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6, elementwise_affine=False), nn.Linear(6, 1)), (5,),
    ),
}  # fmt: skip

ALONE: dict[str, tuple[Any, tuple[int, ...]]] = {
    "cnn of the catalogue, volumes": (
        lambda: named("cnn")(128, {"shape": [2, 4, 4, 4], "channels": [4], "hidden": [3]}), (128,),
    ),
    "groups": (lambda: image(groups=2), (2, 12, 12)),
    "another padding": (lambda: image(padding="same"), (2, 12, 12)),
    "wraps around": (lambda: image(padding=1, padding_mode="circular"), (2, 12, 12)),
    "a slope that is learnt": (lambda: nn.Sequential(nn.Linear(5, 4), nn.PReLU(4), nn.Linear(4, 1)), (5,)),
    "rows of tokens": (
        lambda: nn.Sequential(nn.Linear(5, 6), nn.TransformerEncoderLayer(6, 2, 8, 0.0, batch_first=True),
        nn.Flatten(), nn.Linear(18, 1)), (3, 5),
    ),
    "works in place": (lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(inplace=True), nn.Linear(4, 1)), (5,)),
    "shares a weight": (lambda: tied(nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 1))), (5,)),
    "is trained in part": (lambda: in_part(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))), (5,)),
}  # fmt: skip
"""With layers whose gradients are made patient by patient."""


def tied(module: Any) -> Any:
    module[1].weight = module[0].weight
    return module


def in_part(module: Any) -> Any:
    module[0].bias.requires_grad_(False)
    return module


ARCHITECTURES |= ALONE
CATALOGUE = ("logistic", "mlp", "residual-mlp", "cnn", "cnn of the catalogue", "groups")
OFFERED = [(name, kind) for name in ARCHITECTURES for kind in LABELS if name in CATALOGUE or kind == "binary"]
"""Every kind of label with the models of the catalogue and with convolutions; the others with one kind."""


def one_by_one(module: Any, kind: str, x: Any, y: Any, bound: float) -> tuple[dict[str, Any], list[Any]]:
    """The slow way, in float64, by the losses that training has: the sum, and each patient's clipped gradient."""
    module, single = module.double(), []
    for at in range(len(x)):
        module.zero_grad()
        score = trainer._scores(module, x[at : at + 1].double())
        trainer._loss(study(label=LABELS[kind]), score, y[at : at + 1].double()).backward()
        told = {name: part.grad.clone() for name, part in module.named_parameters() if part.requires_grad}
        norm = float(torch.sqrt(sum((one**2).sum() for one in told.values())))
        single.append({name: one * min(1.0, bound / norm) if norm else one for name, one in told.items()})
    return {name: sum(one[name] for one in single) for name in single[0]}, single


def made(name: str, seed: int) -> tuple[Any, Any]:
    torch.manual_seed(seed)
    build, shape = ARCHITECTURES[name]
    module = build()
    with torch.no_grad():
        for part in module.parameters():  # a scale of one and a shift of zero would hide what is left out of a norm
            part.add_(torch.randn_like(part) * 0.3)
    return module, shape


def labels(kind: str, patients: int) -> Any:
    return (torch.rand(patients) < 0.5).float() if kind == "binary" else torch.rand(patients) * 4


@pytest.mark.parametrize(("name", "kind"), OFFERED)
def test_the_sum_is_that_of_single_patients(name: str, kind: str) -> None:
    for seed, bound in enumerate([0.5, 1e4]):
        module, shape = made(name, seed)
        x, y = torch.randn(9, *shape, dtype=torch.float64) * 2, labels(kind, 9).double()
        wanted, single = one_by_one(module, kind, x, y, bound)
        found = Clipper(module).sum(x, lambda score, here, y=y: slope(kind, score, y.numpy()[here]), bound)  # type: ignore[misc]
        assert found.keys() == wanted.keys()
        for part, value in wanted.items():
            assert found[part].shape == value.shape
            most = float(sum(one[part].abs().max() for one in single))
            np.testing.assert_allclose(found[part], value.numpy(), rtol=0, atol=2 * clipped.SLACK * most + 1e-12)


@pytest.mark.parametrize(("name", "kind"), OFFERED)
def test_no_patient_adds_more_than_the_bound(name: str, kind: str) -> None:
    """Each alone, at inputs and weights that make gradients huge; in float64, since float32 could hide an excess."""
    module, shape = made(name, 1)
    clipper, y = Clipper(module), labels(kind, 20)
    x = torch.randn(20, *shape) * 10 ** torch.linspace(-2, 2, 20).view(-1, *[1] * len(shape))
    reached = 0
    for at in range(20):
        here = y[at : at + 1].numpy()
        found = clipper.sum(x[at : at + 1], lambda score, _, here=here: slope(kind, score, here), 0.3)
        norm = float(np.sqrt(sum(np.sum(one.astype(np.float64) ** 2) for one in found.values())))
        assert norm <= 0.3
        reached += norm > 0.3 * (1 - 1e-5)
    assert reached > 5, "the bound is what clips, and it is used up"


@pytest.mark.parametrize("patients", [0, 1, clipped.PIECE, clipped.PIECE + 1, clipped.MANY + 3])
@pytest.mark.parametrize("name", ["mlp", "cnn", "cnn of the catalogue", "a slope that is learnt"])
def test_patients_come_in_pieces_and_none_twice(name: str, patients: int) -> None:
    module, shape = made(name, 2)
    x, y = torch.randn(patients, *shape), labels("binary", patients)
    clipper = Clipper(module)
    found = clipper.sum(x, lambda score, here: slope("binary", score, y.numpy()[here]), 0.5)
    singles = [
        clipper.sum(x[at : at + 1], lambda score, _, at=at: slope("binary", score, y[at : at + 1].numpy()), 0.5)
        for at in range(patients)
    ]
    for part, value in found.items():
        total = sum((one[part] for one in singles), start=np.zeros_like(value))
        np.testing.assert_allclose(value, total, atol=1e-5 * max(1.0, float(np.abs(total).max())))


def test_of_very_many_one_more_adds_no_more_than_the_bound() -> None:
    """All of one label: where sums are largest, what is rounded off them must not show who is there."""
    x = torch.rand(60_000, 2, generator=torch.Generator().manual_seed(3)) * 2 - 1
    clipper = Clipper(nn.Sequential(nn.Linear(2, 1)))

    def total(inputs: Any) -> Any:
        found = clipper.sum(inputs, lambda score, _: slope("binary", score, np.ones(1)), 0.1)
        return np.concatenate([found[part].astype(np.float64).ravel() for part in sorted(found)])

    whole = total(x)
    for at in (2, 100, 30_000):
        alone = np.linalg.norm(whole - total(torch.cat([x[:at], x[at + 1 :]])))
        assert alone <= 0.1 * 1.001, "a rounding to integers, which is paid for, is four times as much"


@pytest.mark.parametrize("strange", ["some", "all"])
@pytest.mark.parametrize("name", ["mlp", "cnn", "a slope that is learnt"])
def test_whose_gradient_is_not_finite_adds_nothing_and_nobody_hears_of_it(name: str, strange: str) -> None:
    """A refusal would be an answer about one patient, without noise: whose model it is chooses who overflows."""
    module, shape = made(name, 6)
    x, clipper = torch.randn(9, *shape), Clipper(module)
    x[[1, 7] if strange == "some" else slice(None)] = 1e38
    y = labels("number", 9)
    rest = torch.isfinite(x.flatten(1).sum(1) * 100)
    assert int(rest.sum()) == (7 if strange == "some" else 0)
    found, wanted = (
        clipper.sum(given, lambda score, here, label=label: slope("number", score, label.numpy()[here]), 0.5)  # type: ignore[misc]
        for given, label in ((x, y), (x[rest], y[rest]))
    )
    for part, value in found.items():
        np.testing.assert_allclose(value, wanted[part], atol=1e-6)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_gradients_of_single_patients_are_made_where_a_layer_needs_them(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_alone = []
    monkeypatch.setattr(singly, "gradients", lambda *given: made_alone.append(1) or gradients(*given))
    module, shape = made(name, 4)
    Clipper(module).sum(torch.randn(3, *shape), lambda score, _: score, 1.0)
    assert bool(made_alone) == (name in ALONE)


def test_single_patients_gradients_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    module, shape = made("a slope that is learnt", 5)
    size, seen = sum(part.numel() for part in module.parameters()), []
    monkeypatch.setattr(singly, "MOST", 3 * size + 1)
    monkeypatch.setattr(singly, "gradients", lambda *given: seen.append(len(given[2])) or gradients(*given))
    Clipper(module).sum(torch.randn(7, *shape), lambda score, _: score, 1.0)
    assert seen == [3, 3, 1]


def test_slopes_are_the_derivatives_of_the_losses_that_training_has() -> None:
    for kind, label in LABELS.items():
        score = torch.tensor([-60.0, -2.0, 0.3, 4.0, 49.9, 50.5], dtype=torch.float64, requires_grad=True)
        y = torch.tensor([1.0, 0, 1, 0, 1, 1], dtype=torch.float64)
        each = [trainer._loss(study(label=label), score[at : at + 1], y[at : at + 1]) for at in range(len(y))]
        (wanted,) = torch.autograd.grad(sum(each), score)
        np.testing.assert_allclose(slope(kind, score.detach().numpy(), y.numpy()), wanted.numpy())
    with pytest.raises(StudyInvalid):
        slope("rank", np.zeros(1), np.zeros(1))


@pytest.mark.parametrize("kind", sorted(LABELS))
@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("logistic", {}), ("mlp", {}), ("residual-mlp", {}), ("cnn", {"shape": [1, 2], "channels": [4], "groups": 1}),
        ("cnn", {"shape": [1, 1, 2, 1], "channels": [4], "groups": 1, "pool": 1}),
    ],
)  # fmt: skip
def test_the_trainers_step_is_that_sum_in_the_order_of_the_model(
    architecture: str, options: dict[str, Any], kind: str
) -> None:
    """With a bound that cuts nothing it is the step that training takes."""
    asked = study(architecture, options, label=LABELS[kind], l2=0.3, epochs=1, batch_size=0, learning_rate=0.5)
    model = TorchTrainer().initial(asked, ["a", "b"])
    x, y = np.random.default_rng(2).normal(size=(30, 2)), labels(kind, 30).numpy().astype(float)
    total, rest = TorchTrainer().clipped(asked, model, x, y, 1e6)
    after = flatten(TorchTrainer().train(asked, model, x, y, LocalObjective(), 1))
    np.testing.assert_allclose(flatten(model) - 0.5 * (total / 30 + rest), after, rtol=0, atol=1e-5)
    short, same = TorchTrainer().clipped(asked, model, x[:1], y[:1], 0.01)
    assert 0.0099 < np.linalg.norm(short) <= 0.01 and np.array_equal(rest, same)


class Twice(nn.Sequential):
    """A layer that is used twice, in a way that no list of modules shows."""

    def forward(self, x: Any) -> Any:
        return super().forward(super().forward(x))


REFUSED = {
    "mixes patients": nn.BatchNorm1d(4),
    "mixes patients, and keeps nothing": nn.BatchNorm1d(4, track_running_stats=False),
    "mixes patients of other processes": nn.SyncBatchNorm(4),
    "goes by chance": nn.Dropout(0.1),
    "goes by chance of other places": nn.AlphaDropout(0.1),
    "goes by chance, bounded": nn.RReLU(),
    "keeps values from patient to patient": nn.InstanceNorm1d(4, track_running_stats=True),
    "is no layer of torch's own": Twice(nn.Linear(4, 4)),
}


@pytest.mark.parametrize("deep", [False, True], ids=["", "within others"])
@pytest.mark.parametrize("why", sorted(REFUSED))
def test_what_may_not_treat_each_patient_alone_is_refused_by_name(why: str, deep: bool) -> None:
    layer = REFUSED[why]
    module = nn.Sequential(nn.Linear(5, 4), nn.Sequential(nn.PReLU(), layer) if deep else layer, nn.Linear(4, 1))
    name = f"layer {'1.1' if deep else '1'} ({type(layer).__name__}) {why.split(',')[0].split(' of other')[0]}"
    with pytest.raises(StudyInvalid, match="cannot be clipped by patient") as refusal:
        Clipper(module)
    assert name in str(refusal.value)


def test_a_layer_that_stands_twice_is_refused_where_patients_go_alone() -> None:
    """After one pass torch leaves something else in the place of its weights."""
    twice = nn.Linear(5, 5)
    with pytest.raises(StudyInvalid, match=r"layer 0 .* stands in the model twice"):
        Clipper(nn.Sequential(twice, nn.ReLU(), twice, nn.Linear(5, 1)))


def test_what_torch_cannot_vectorise_is_refused() -> None:
    module = nn.Sequential(nn.Embedding(5, 1))  # wants integers
    with pytest.raises(StudyInvalid, match="one by one"):
        Clipper(module).sum(torch.zeros(2, 1), lambda score, _: score, 1.0)


def test_numbers_that_are_not_one_per_patient_are_refused() -> None:
    """Losses over several patients are where others' clipping fails without a word."""
    x, y = torch.randn(6, 5), np.zeros(6)
    module, _ = made("mlp", 3)
    clipper = Clipper(module)
    good = lambda score, here: score - y[here]  # noqa: E731
    cases: list[tuple[type[ConsiliumError], Any, Any, float]] = [
        (TrainingFailed, clipper, lambda score, here: score[:, None] - y[None, here], 1.0),  # (n, n)
        (TrainingFailed, clipper, lambda score, here: (score - y[here])[:, None], 1.0),  # (n, 1)
        (TrainingFailed, clipper, lambda score, here: (score - y[here]).mean(), 1.0),
        (TrainingFailed, Clipper(nn.Sequential(nn.Linear(5, 2))), good, 1.0),
        *((Invalid, clipper, good, bound) for bound in (0.0, -1.0, float("inf"), float("nan"))),
    ]
    for error, one, slopes, bound in cases:
        with pytest.raises(error):
            one.sum(x, slopes, bound)
    assert clipper.sum(x, good, 1.0).keys() == dict(module.named_parameters()).keys(), "it goes on afterwards"


def test_the_benchmarks_models_are_those_of_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are written there once more, for Opacus's environment has no Consilium."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import dp_models as models

    options = {"mlp": {}, "image-cnn": {"shape": [1, 28, 28]}, "signal-cnn": {"shape": [2, 250]}}
    for name, told in options.items():
        mine = named(name.split("-")[-1])(models.SHAPES[name][0], told)
        layers = [
            [str(layer) for layer in one.children() if type(layer) is not nn.Dropout]
            for one in (mine, models.MODELS[name]())
        ]
        assert layers[0] == layers[1]


PEER = ROOT / ".venv-opacus" / "bin" / "python"


@pytest.mark.skipif(not PEER.exists(), reason="Opacus is not installed: `python bench/dp.py` makes .venv-opacus")
def test_gradients_are_those_of_opacus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For losses of one number per patient, for which it is right; its slowest and plainest mode."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import dp_models as models

    names = ("linear", "mlp", "cnn", "image-cnn", "signal-cnn")
    asked = [{"model": name, "mode": "hooks", "gradient": str(tmp_path / f"{name}.npz")} for name in names]
    told = subprocess.run(
        [PEER, ROOT / "bench" / "dp_peer.py"], input="".join(json.dumps(one) + "\n" for one in asked), text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    assert told.stdout == "{}\n" * len(names)
    for name in names:
        module, x, y = models.begin(name)
        x, y = torch.from_numpy(x[: models.EXPECTED]), torch.from_numpy(y[: models.EXPECTED])
        mine = Clipper(module).sum(x, lambda score, here, y=y: slope("binary", score, y.numpy()[here]), models.BOUND)  # type: ignore[misc]
        with np.load(tmp_path / f"{name}.npz") as theirs:
            assert set(theirs) == set(mine)
            largest = max(float(np.abs(theirs[part]).max()) for part in theirs)
            for part in theirs:
                np.testing.assert_allclose(mine[part], theirs[part], rtol=0, atol=1e-5 * largest)
