"""FedPer, FedRep, FedBN, Ditto: what stays at a site stays, and each gets its own model."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from consilium.algorithms.base import Here, Local, LocalObjective, Strategy, parts_of, run, used
from consilium.algorithms.ditto import Ditto
from consilium.algorithms.fedavg import FedAvg
from consilium.algorithms.fedbn import FedBN
from consilium.algorithms.fedper import FedPer
from consilium.algorithms.fedrep import FedRep
from consilium.core.errors import StudyInvalid
from consilium.core.tensors import Tensors, flatten, unflatten
from consilium.testing.trainers import a_study
from unit.algorithms.quadratics import Floats, Site, distance, federate, optimum, unequal

PARTS = {"body": slice(0, 2), "head": slice(2, 3)}


def local(*after: list[float]) -> Local:
    return Local(tuple(map(np.array, after)), 10.0, 1, 0.1)


def test_fedper_sends_zeros_for_what_stays_and_trains_from_it_again() -> None:
    strategy, state = FedPer({"layers": ["he*"]}), {"model": np.array([1.0, 2.0, 3.0])}
    (first,) = strategy.passes(Here(state, parts=PARTS))
    assert np.array_equal(first.start, state["model"])
    sent, kept = strategy.contribution(Here(state, parts=PARTS), local([2.0, 2.0, 7.0]))
    assert np.array_equal(sent["update"], [10.0, 0.0, 0.0]) and np.array_equal(kept["personal"], [7.0])
    (again,) = strategy.passes(Here(state, kept, PARTS))
    assert np.array_equal(again.start, [1.0, 2.0, 7.0])


def test_whatever_a_site_has_for_itself_does_not_change_what_it_sends() -> None:
    strategy, state = FedPer({"layers": ["head"]}), {"model": np.zeros(3)}
    sent = [
        strategy.contribution(Here(state, {"personal": np.array([own])}, PARTS), local([1.0, 2.0, own + 5.0]))[0]
        for own in (0.0, 1e6)
    ]
    assert np.array_equal(sent[0]["update"], sent[1]["update"])


@pytest.mark.parametrize(
    ("layers", "words"), [(["tail"], "none of"), (["head", "tail"], "none of .* called tail"), (["*"], "all of")]
)
def test_layers_that_no_part_has_or_all_have_are_refused_by_name(layers: list[str], words: str) -> None:
    with pytest.raises(StudyInvalid, match=rf"layers: {words}.*its parts are: body, head"):
        FedPer({"layers": layers}).passes(Here({"model": np.zeros(3)}, parts=PARTS))
    usual = {"norm.weight": slice(3, 4), **PARTS}  # of the usual names most models have some alone
    assert FedBN({}).passes(Here({"model": np.zeros(4)}, parts=usual))


def test_fedper_needs_its_layers() -> None:
    with pytest.raises(StudyInvalid, match="layers"):
        FedPer({})


def test_with_an_own_head_every_site_reaches_its_own_optimum_and_the_body_the_common_one() -> None:
    """The paper's point: hospitals that agree but for their heads lose nothing, where one model for all must."""

    def sites() -> list[Site]:
        return [Site(one.curve, np.array([1.0, -2.0, 0.5, own]), one.patients)
                for one, own in zip(unequal(), (3.0, 0.0, -4.0), strict=True)]  # fmt: skip

    parts = {"body": slice(0, 3), "head": slice(3, 4)}
    mine, plain, strategy = sites(), sites(), FedPer({"layers": ["head"]})
    state = federate(strategy, mine, 200, parts=parts)
    np.testing.assert_allclose(state["model"][:3], [1.0, -2.0, 0.5], atol=1e-6)
    common = federate(FedAvg({}), plain, 200)["model"]
    for one in mine:
        (own,) = strategy.passes(Here(state, one.memory, parts))
        assert one.loss(own.start) < 1e-9 < 0.1 < one.loss(common)


@dataclass
class Products:
    """A site whose patients' outcome is a product of what all share, `body` (d, k), and of its own `head` (k,)."""

    x: Floats
    y: Floats
    k: int
    memory: Tensors = field(default_factory=dict)

    def loss(self, w: Floats) -> float:
        body, head = w[: -self.k].reshape(-1, self.k), w[-self.k :]
        return float(np.mean((self.x @ body @ head - self.y) ** 2)) / 2

    def trained(self, start: Floats, objective: LocalObjective) -> Floats:
        w = start
        for _ in range(5):
            body, head = w[: -self.k].reshape(-1, self.k), w[-self.k :]
            slope = self.x.T @ (self.x @ body @ head - self.y) / len(self.y)
            gradient = np.concatenate([np.outer(slope, head).ravel(), slope @ body])
            w = w - objective.step(0.1 * gradient)
        return w


def products(sites: int, patients: int, d: int = 12, k: int = 2) -> tuple[list[Products], Floats]:
    """Sites with fewer patients than a patient has features, and the body (d, k) that is true of them all."""
    rng = np.random.default_rng(4)
    body, _ = np.linalg.qr(rng.normal(size=(d, k)))
    found = []
    for _ in range(sites):
        x = rng.normal(size=(patients, d))
        found.append(Products(x, x @ body @ rng.normal(size=k), k))
    return found, body


@pytest.mark.long
def test_fedrep_finds_what_all_share_where_no_site_has_patients_enough_to_learn_alone() -> None:
    """The paper's point: twelve features and ten patients each. One model for all fits nobody, and one of each site's
    own only those patients whom it has seen."""
    sites, body = products(20, 10)
    begin = 0.3 * np.random.default_rng(5).normal(size=12 * 2 + 2)
    parts = {"body": slice(0, 24), "head": slice(24, 26)}

    def federated(strategy: Strategy) -> tuple[Floats, list[float]]:
        state, memories = strategy.init(begin), [dict[str, Any]() for _ in sites]
        for _ in range(150):
            total: dict[str, Any] = {}
            for at, one in enumerate(sites):
                here = Here(state, memories[at], parts)
                local = Local(run(strategy.passes(here), one.trained), 10.0, 5, 0.1)
                sent, memories[at] = strategy.contribution(here, local)
                total = {name: total.get(name, 0.0) + array for name, array in sent.items()}
            state = strategy.apply_chunk(state, total, float(total["weight"][0]))
        own = [used(strategy.passes(Here(state, memory, parts))) for memory in memories]
        return state["model"], [one.loss(w) for one, w in zip(sites, own, strict=True)]

    def angle(found: Floats) -> float:
        """The sine of the largest angle between two bodies' columns."""
        basis, _ = np.linalg.qr(found[:24].reshape(12, 2))
        return float(np.linalg.norm(basis - body @ (body.T @ basis), 2))

    model, losses = federated(FedRep({"layers": ["head"], "head_passes": 4}))
    assert angle(model) < 0.01 and max(losses) < 1e-3
    common, of_all = federated(FedAvg({}))
    assert angle(begin) > 0.5 and angle(common) > 0.1 and min(of_all) > 1e-2
    alone = np.linalg.lstsq(sites[0].x, sites[0].y, rcond=None)[0]
    assert np.linalg.norm(alone - body @ (body.T @ alone)) > 0.1 * np.linalg.norm(alone)


def test_fedrep_trains_what_stays_first_and_then_the_rest_from_there() -> None:
    here = Here({"model": np.array([1.0, 2.0, 3.0])}, {"personal": np.array([7.0])}, PARTS)
    first, second, last = FedRep({"layers": ["head"], "head_passes": 2}).passes(here)
    assert np.array_equal(used([first, second, last]), [1.0, 2.0, 7.0]) and second.start is None is last.start
    after = run([first, second, last], lambda start, objective: start + objective.step(np.ones(3)))
    assert [list(one) for one in after] == [[1.0, 2.0, 8.0], [1.0, 2.0, 9.0], [2.0, 3.0, 9.0]]


def test_fedbn_keeps_the_usual_names_of_normalisation_layers() -> None:
    model = {"0.weight": 4, "0.bias": 2, "norm.weight": 2, "1.bn2.bias": 2, "3.running_mean": 2, "3.running_var": 2}
    parts = parts_of({name: np.zeros(size) for name, size in model.items()})
    here = Here({"model": np.zeros(14)}, parts=parts)
    sent, _ = FedBN({}).contribution(here, local([1.0] * 14))
    shared = {name for name, part in parts.items() if np.all(sent["update"][part] != 0)}
    assert shared == {"0.weight", "0.bias"}


def test_fedbn_serves_hospitals_whose_scanners_shift_their_inputs_where_fedavg_does_not() -> None:
    torch = pytest.importorskip("torch")
    from consilium.training.torch import TorchTrainer

    def build(inputs: int, options: Any) -> Any:
        return torch.nn.Sequential(OrderedDict(norm=torch.nn.BatchNorm1d(inputs), last=torch.nn.Linear(inputs, 1)))

    study = a_study("binary", {"kind": "torch", "architecture": "x"}, epochs=5, learning_rate=0.3)
    trainer, rng = TorchTrainer(build), np.random.default_rng(1)
    sites = []
    for shift, scale in ((0.0, 1.0), (6.0, 0.3), (-4.0, 5.0)):
        x = rng.normal(size=(150, 3))
        sites.append((x * scale + shift, (x @ [2.0, -1.0, 1.0] > 0).astype(np.float64)))
    like = trainer.initial(study, ["a", "b", "c"])

    def losses(strategy: Strategy) -> list[float]:
        state, memories = strategy.init(flatten(like)), [dict[str, Any]() for _ in sites]
        for number in range(1, 9):
            total: dict[str, Any] = {}
            for site, (x, y) in enumerate(sites):
                here = Here(state, memories[site], parts_of(like))
                (one,) = strategy.passes(here)
                after = flatten(trainer.train(study, unflatten(one.start, like), x, y, one.objective, number))
                sent, memories[site] = strategy.contribution(here, Local((after,), 150.0, 5, 0.3))
                total = {name: total.get(name, 0.0) + array for name, array in sent.items()}
            state = strategy.apply_chunk(state, total, float(total["weight"][0]))
        used = [strategy.passes(Here(state, memory, parts_of(like)))[-1].start for memory in memories]
        return [trainer.loss(study, unflatten(w, like), x, y) for w, (x, y) in zip(used, sites, strict=True)]

    own, common = losses(FedBN({})), losses(FedAvg({}))
    assert max(own) < 0.5 * max(common) and all(one < other for one, other in zip(own, common, strict=True))


def test_ditto_without_penalty_trains_alone_and_with_a_large_one_is_held_at_the_common_model() -> None:
    sites = unequal()
    federate(Ditto({"penalty": 0.0}), sites, 300)
    for one in sites:
        np.testing.assert_allclose(one.memory["personal"], one.at, atol=1e-6)
    held = unequal()
    state = federate(Ditto({"penalty": 9.0}), held, 300)
    for one in held:
        assert np.linalg.norm(one.memory["personal"] - state["model"]) < 0.3 * np.linalg.norm(one.at - state["model"])


def test_ditto_ends_between_the_own_optimum_and_the_common_model() -> None:
    """The fixed point of the paper's objective: curve (v - at) + penalty (v - w) = 0."""
    sites = unequal()
    w = federate(Ditto({"penalty": 0.5}), sites, 400)["model"]
    for one in sites:
        wanted = (one.curve * one.at + 0.5 * w) / (one.curve + 0.5)
        np.testing.assert_allclose(one.memory["personal"], wanted, atol=1e-6)
    assert distance({"model": w}, sites) < np.linalg.norm(optimum(sites))
