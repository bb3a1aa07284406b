"""Torch models: equal inputs give equal bytes, objectives pull, toys are learnt, and unknown options are refused."""

import math
import subprocess
import sys
from fnmatch import fnmatch
from typing import Any

import numpy as np
import pytest

from consilium.algorithms.base import LocalObjective
from consilium.core.errors import StudyInvalid, TrainingFailed
from consilium.core.study import Study
from consilium.core.tensors import Tensors, flatten, to_safetensors

pytest.importorskip("torch")

import torch

from consilium.algorithms.fedbn import USUAL
from consilium.training import catalogue
from consilium.training import torch as trainer
from consilium.training.initial import initial_model
from consilium.training.linear import Logistic
from consilium.training.torch import TorchTrainer

PLAIN = LocalObjective()
BINARY = {"id": "ill", "meaning": "is ill", "type": "binary"}
NUMBER = {"id": "days", "meaning": "days in hospital", "type": "number", "unit": "d", "range": [0, 100]}
COUNT = {"id": "visits", "meaning": "visits in a year", "type": "count"}


def study(
    architecture: str | None = "mlp",
    options: dict[str, Any] | None = None,
    *,
    label: dict[str, Any] = BINARY,
    l2: float = 0.0,
    kind: str = "torch",
    **training: Any,
) -> Study:
    feature = {"meaning": "x", "type": "number", "unit": "1", "range": [-1, 1], "missing": "forbidden"}
    return Study.model_validate({
        "consilium": 1, "name": "toy", "title": "Toy",
        "purpose": {"code": "research", "text": "test", "requester": "test"},
        "contract": {"id": "toy", "features": [{"id": name, **feature} for name in ("a", "b")], "label": label},
        "model": {"kind": kind, "architecture": architecture, "options": options or {}, "l2": l2},
        "training": {"epochs": 3, "batch_size": 16, "learning_rate": 0.1, "seed": 5} | training,
        "rounds": 1, "quorum": 1, "privacy": {"recipe": "plain"},
    })  # fmt: skip


@pytest.fixture
def toy() -> tuple[np.ndarray, np.ndarray]:
    """Patients whose label is the sign of a product: no linear model learns it."""
    x = np.random.default_rng(3).uniform(-1, 1, size=(400, 2))
    return x, (x[:, 0] * x[:, 1] > 0).astype(float)


def begin(a_study: Study) -> Tensors:
    return TorchTrainer().initial(a_study, ["a", "b"])


def bytes_of(tensors: Tensors) -> bytes:
    return to_safetensors(tensors)


SMALL = {"shape": [1, 2], "channels": [8], "pool": 1, "groups": 2, "hidden": [16]}
"""Options of a `cnn` for the two features."""


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("mlp", {}), ("mlp", {"dropout": 0.3}), ("residual-mlp", {}), ("residual-mlp", {"dropout": 0.3}),
        ("cnn", SMALL), ("cnn", SMALL | {"shape": [1, 1, 2]}), ("cnn", SMALL | {"shape": [2, 1, 1, 1]}),
    ],
)  # fmt: skip
def test_the_same_inputs_give_the_same_bytes(toy: Any, architecture: str, options: dict[str, Any]) -> None:
    a_study = study(architecture, options)
    model = begin(a_study)
    assert bytes_of(model) == bytes_of(begin(a_study))
    first = TorchTrainer().train(a_study, model, *toy, PLAIN, 2)
    torch.rand(7)  # chance that others draw in this process changes nothing
    assert bytes_of(first) == bytes_of(TorchTrainer().train(a_study, model, *toy, PLAIN, 2))
    assert bytes_of(first) != bytes_of(TorchTrainer().train(a_study, model, *toy, PLAIN, 3)), "rounds draw anew"
    assert {array.dtype for array in first.values()} == {np.dtype(np.float32)}


def test_the_chance_of_others_in_this_process_is_left_as_it_was(toy: Any) -> None:
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    TorchTrainer().train(study("mlp", {"dropout": 0.5}), begin(study()), *toy, PLAIN, 1)
    assert torch.equal(torch.rand(3), wanted)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("architecture", "options"), [("mlp", {}), ("residual-mlp", {}), ("cnn", SMALL)])
def test_what_no_line_separates_is_learnt(toy: Any, architecture: str, options: dict[str, Any]) -> None:
    x, y = toy
    a_study = study(architecture, options, epochs=60, learning_rate=0.1)
    after = TorchTrainer().train(a_study, begin(a_study), x, y, PLAIN, 1)
    score = TorchTrainer().predict(a_study, after, x)
    assert score.dtype == np.float64 and np.all((score > 0) & (score < 1))
    assert np.mean((score > 0.5) == (y > 0.5)) > 0.95


@pytest.mark.parametrize("batch_size", [0, 32])
@pytest.mark.parametrize("objective", [PLAIN, LocalObjective(np.ones(3), 0.7, np.array([0.1, -0.2, 0.3]))])
def test_one_linear_layer_is_the_logistic_regression_in_numpy(
    toy: Any, objective: LocalObjective, batch_size: int
) -> None:
    """Same batches, same penalty, same objective: `bias` and `weight` sort as `intercept` and `weights` do."""
    x, y = toy
    mine = study("logistic", l2=0.05, batch_size=batch_size, epochs=5)
    theirs = study(None, kind="logistic", l2=0.05, batch_size=batch_size, epochs=5)
    zeros = {name: np.zeros_like(array) for name, array in begin(mine).items()}
    got = TorchTrainer().train(mine, zeros, x, y, objective, 4)
    want = Logistic().train(theirs, Logistic().initial(theirs, ["a", "b"]), x, y, objective, 4)
    np.testing.assert_allclose(flatten(got), flatten(want), atol=1e-6)
    np.testing.assert_allclose(TorchTrainer().predict(mine, got, x), Logistic().predict(theirs, want, x), atol=1e-6)


def test_a_proximal_term_holds_the_model_near_its_anchor(toy: Any) -> None:
    a_study = study(epochs=20)
    model = begin(a_study)
    anchor = flatten(model)
    far = [
        float(
            np.linalg.norm(flatten(TorchTrainer().train(a_study, model, *toy, LocalObjective(anchor, mu), 1)) - anchor)
        )
        for mu in (0.0, 0.5, 5.0)
    ]
    assert far[0] > far[1] > far[2] > 0


def test_the_penalty_spares_biases_and_scales(toy: Any) -> None:
    x, y = toy
    model = begin(study("residual-mlp"))
    model = {name: np.full_like(array, 0.5) if array.ndim == 1 else array for name, array in model.items()}
    after = TorchTrainer().train(study("residual-mlp", l2=1e-9, epochs=1, batch_size=0), model, x, y, PLAIN, 1)
    more = TorchTrainer().train(study("residual-mlp", l2=1.0, epochs=1, batch_size=0), model, x, y, PLAIN, 1)
    for name in model:
        assert np.array_equal(after[name], more[name]) == (model[name].ndim == 1), name


@pytest.mark.long
def test_numbers_and_counts_are_learnt_on_their_own_scale() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, size=(2000, 2))
    number = study("logistic", label=NUMBER, epochs=30)
    after = TorchTrainer().train(number, begin(number), x, 3 + 2 * x[:, 0], PLAIN, 1)
    np.testing.assert_allclose(flatten(after), [3, 2, 0], atol=1e-3)
    count = study("logistic", label=COUNT, epochs=30)
    after = TorchTrainer().train(count, begin(count), x, rng.poisson(np.exp(0.5 + x[:, 1])).astype(float), PLAIN, 1)
    np.testing.assert_allclose(flatten(after), [0.5, 0, 1], atol=0.15)
    assert np.mean(TorchTrainer().predict(count, after, x)) == pytest.approx(np.mean(np.exp(0.5 + x[:, 1])), rel=0.1)


@pytest.mark.parametrize(
    ("architecture", "options", "named"),
    [
        ("mlp", {"hiden": [3]}, ["model.options.hiden", "hidden, dropout"]),
        ("mlp", {"hidden": [0]}, ["model.options.hidden.0"]),
        ("mlp", {"hidden": []}, ["model.options.hidden"]),
        ("logistic", {"width": 3}, ["model.options.width", "options of logistic are: none"]),
        ("residual-mlp", {"dropout": 1.0, "blocks": 0}, ["model.options.dropout", "model.options.blocks"]),
        ("transformer", {}, ["transformer", "logistic, mlp, residual-mlp, cnn"]),
        ("cnn", {}, ["model.options.shape", "shape, channels, kernel"]),
        ("cnn", {"shape": [2]}, ["model.options.shape"]),
        ("cnn", {"shape": [1, 1, 1, 1, 2]}, ["model.options.shape"]),
        ("cnn", SMALL | {"shape": [1, 3]}, ["model.options.shape", "3 values", "2 features"]),
        ("cnn", SMALL | {"kernel": 4}, ["`kernel` 4 must be odd"]),
        ("cnn", SMALL | {"groups": 3}, ["`groups` 3", "does not divide 8"]),
        ("cnn", SMALL | {"shape": [2, 1], "groups": 8}, ["`groups` 8 leaves one value in each group of convolution 1"]),
        ("cnn", SMALL | {"pool": 3}, ["nothing is left of [2]"]),
        ("cnn", SMALL | {"places": "some"}, ["model.options.places"]),
    ],
)
def test_what_the_catalogue_does_not_know_is_refused_by_name(
    architecture: str, options: dict[str, Any], named: list[str]
) -> None:
    with pytest.raises(StudyInvalid) as refusal:
        initial_model(study(architecture, options))
    assert all(word in str(refusal.value) for word in named), str(refusal.value)


@pytest.mark.parametrize("other", [{"missing": "allowed"}, {"type": "category", "categories": {"x": "x", "y": "y"}}])
def test_what_is_no_value_of_a_signal_is_refused(other: dict[str, Any]) -> None:
    """A flag of what is missing, or a category's column, would be taken for the next value, where the number fits."""
    told = study("cnn", SMALL | {"shape": [1, 3]}).model_dump(mode="json")
    feature = told["contract"]["features"][0]
    told["contract"]["features"][0] = feature | ({"unit": None, "range": None} if "type" in other else {}) | other
    with pytest.raises(StudyInvalid, match="a is no number, or may be missing"):
        initial_model(Study.model_validate(told))


@pytest.mark.parametrize(
    ("shape", "pool", "places", "seen"),
    [
        ([1, 28, 28], 2, "all", 32 * 7 * 7), ([3, 33], 2, "all", 32 * 8), ([2, 4, 9, 4], 2, "all", 32 * 1 * 2 * 1),
        ([1, 30, 2], 1, "all", 32 * 60), ([1, 28, 28], 2, "mean", 32),
    ],
)  # fmt: skip
def test_dense_layers_see_what_convolutions_leave(shape: list[int], pool: int, places: str, seen: int) -> None:
    module = catalogue.named("cnn")(math.prod(shape), {"shape": shape, "pool": pool, "places": places})
    parts = dict(module.named_parameters())
    assert parts["dense1.weight"].shape == (32, seen)
    assert parts["conv1.weight"].shape == (16, shape[0], *[3] * (len(shape) - 1))
    assert module(torch.zeros(5, math.prod(shape))).shape == (5, 1)


def test_values_stand_row_by_row_and_channel_after_channel() -> None:
    """A kernel that sees one neighbour: what it sees is what stands beside or below in the shape."""
    module = catalogue.named("cnn")(24, {"shape": [2, 3, 4], "channels": [1], "groups": 1, "pool": 1})
    with torch.no_grad():
        module.conv1.weight.zero_()
        module.conv1.bias.zero_()
        module.conv1.weight[0, 1, 2, 1] = 1.0  # of the second channel, what lies below
        values = torch.arange(24.0).reshape(1, 24)
        seen = module.conv1(module.shape(values))[0, 0]
    assert torch.equal(seen, torch.tensor([[16.0, 17, 18, 19], [20, 21, 22, 23], [0, 0, 0, 0]]))


def test_norms_of_the_catalogue_are_those_that_fedbn_keeps() -> None:
    names = list(begin(study("cnn", SMALL)))
    assert [name for name in names if any(fnmatch(name, usual) for usual in USUAL)] == ["norm1.bias", "norm1.weight"]


@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
def test_memory_is_bounded_and_a_batch_is_still_one(
    toy: Any, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patients go through in pieces, and the step is that of all of them: also the last piece's, which is smaller."""
    a_study = study(architecture, SMALL if architecture == "cnn" else {}, epochs=2, batch_size=0)
    model, seen, kept = begin(a_study), [], trainer._scores

    def scores(module: Any, x: Any) -> Any:
        seen.append(len(x))
        return kept(module, x)

    monkeypatch.setattr(trainer, "_scores", scores)
    whole = TorchTrainer().train(a_study, model, *toy, PLAIN, 1)
    predicted = TorchTrainer().predict(a_study, whole, toy[0])
    assert seen == [400] * 3
    monkeypatch.setattr(trainer, "VALUES", 2 * 150)
    pieces = TorchTrainer().train(a_study, model, *toy, PLAIN, 1)
    np.testing.assert_allclose(flatten(pieces), flatten(whole), rtol=0, atol=1e-6)
    np.testing.assert_allclose(TorchTrainer().predict(a_study, whole, toy[0]), predicted, atol=1e-6)
    assert seen[3:] == [150, 150, 100] * 3


def test_a_model_that_runs_away_is_no_update(toy: Any) -> None:
    a_study = study(label=NUMBER, learning_rate=1e6)
    with pytest.raises(TrainingFailed, match="learning_rate"):
        TorchTrainer().train(a_study, begin(a_study), *toy, PLAIN, 1)


def test_a_step_hangs_on_nothing_that_was_clipped_before(toy: Any) -> None:
    """A module is kept from step to step: each is that of one made anew, whatever came between, errors too."""
    x, y = toy
    studies = [study(l2=0.1), study(options={"hidden": [3]}, l2=0.2), study(l2=0.3, label=NUMBER)]
    kept = TorchTrainer()
    models = [kept.initial(one, ["a", "b"]) for one in studies]
    for times, at in enumerate((0, 0, 2, 0, 1, 1, 0, 2, 2, 1)):
        one, model = studies[at], {name: (1 + times) * values for name, values in models[at].items()}
        found, anew = (by.clipped(one, model, x[times:90], y[times:90], 0.7) for by in (kept, TorchTrainer()))
        assert [part.tobytes() for part in found] == [part.tobytes() for part in anew]
        if times > 5:
            with pytest.raises(TrainingFailed, match="initial model"):
                kept.clipped(one, {"0.bias": model["0.bias"]}, x, y, 0.7)
            with pytest.raises(TrainingFailed, match="without bound"):
                kept.clipped(one, {name: values * np.inf for name, values in model.items()}, x, y, 0.7)


def test_a_model_of_another_layout_is_refused(toy: Any) -> None:
    with pytest.raises(TrainingFailed, match="not those of the initial model"):
        TorchTrainer().train(study(), begin(study("logistic")), *toy, PLAIN, 1)


def test_without_torch_the_remedy_is_named() -> None:
    """In a process of its own, in which torch cannot be found."""
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from consilium.core.errors import Refused\n"
        "from consilium import plugins\n"
        "try:\n    plugins.load('consilium.trainers', 'torch')\n"
        "except Refused as error:\n    print(error.reason, '|', error)\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("extra | ") and "'.[torch]'" in told.stdout


MIXED: list[dict[str, Any]] = [
    {"id": "crp", "meaning": "CRP", "type": "number", "unit": "mg/L", "range": [0, 500]},
    {"id": "sex", "meaning": "sex", "type": "category", "categories": {"f": "F", "m": "M"}, "missing": "forbidden"},
]
PIXELS = {"id": "px", "meaning": "chest", "modality": ["CR"], "rows": 6, "columns": 4, "range": [0, 255]}
SIGNAL = [
    {"id": f"s{at}", "meaning": "s", "type": "number", "unit": "1", "range": [-2, 2], "missing": "forbidden"}
    for at in range(24)
]
EXPORTED: list[tuple[str, str, dict[str, Any], list[dict[str, Any]]]] = [
    ("binary", "mlp", {"hidden": [8, 4], "dropout": 0.5}, MIXED),
    ("number", "logistic", {}, MIXED),
    ("count", "residual-mlp", {"width": 8, "blocks": 2}, MIXED),
    ("binary", "cnn", {"shape": [2, 12], "channels": [4, 8], "groups": 2, "kernel": 5}, SIGNAL),
    ("binary", "cnn", {"shape": [1, 2, 3, 4], "channels": [4], "groups": 4, "places": "mean", "hidden": []}, SIGNAL),
    ("binary", "cnn", {"shape": [1, 6, 4], "channels": [4], "groups": 1, "pool": 2}, []),
]


@pytest.mark.parametrize(("label", "architecture", "options", "features"), EXPORTED)
def test_an_onnx_file_of_the_catalogue_says_what_the_product_says(
    label: str, architecture: str, options: dict[str, Any], features: list[dict[str, Any]]
) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX is an extra")
    from consilium.algorithms import encode
    from consilium.algorithms.made_up import made_up
    from property import test_onnx_export as files

    image = {"contract": {"id": "chest", "image": PIXELS, "label": BINARY}} if not features else {}
    of = files.study(features, {"kind": "torch", "architecture": architecture, "options": options}, label, **image)
    rng = np.random.default_rng(3)
    model = {
        name: (value + rng.normal(scale=0.2, size=value.shape)).astype(np.float32)
        for name, value in TorchTrainer().initial(of, encode.names(of.contract)).items()
    }
    files.says_the_same(files.exported(of, model), made_up(of.contract, 40, rng), 2e-6)
