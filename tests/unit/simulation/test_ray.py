"""Sites on a cluster of two machines, which are processes of this one: the same bytes, whoever trains or dies."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium import plugins
from consilium.api import freeze
from consilium.core import state as chain
from consilium.core.errors import Conflict, Invalid, TrainingFailed, Unavailable
from consilium.core.study import Study
from consilium.simulation.executors import AHEAD, Asked, Inline, Sent, Turn
from consilium.simulation.partition import Rule
from consilium.simulation.patients import Patients, Sites
from consilium.simulation.scenario import Found, Wanted, simulate
from consilium.training.work import Work

ray: Any = pytest.importorskip("ray", reason="ray, of the extra `ray`, is not installed")
pytestmark = pytest.mark.long

from ray.cluster_utils import Cluster as Machines  # noqa: E402

from consilium.simulation import ray as on_ray  # noqa: E402
from consilium.simulation.admission import Admission  # noqa: E402

Make = Callable[..., dict[str, Path]]
STORE = {"object_store_memory": 80 << 20}
"""Of a machine; Ray takes no less."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where no token lies but what a test puts there."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """Two machines with a core each, the second with a GPU, as far as Ray knows."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    both = Machines(True, head_node_args={"num_cpus": 1, "include_dashboard": False, **STORE})
    both.add_node(num_cpus=1, num_gpus=1, **STORE)
    yield both
    both.shutdown()


def changed(study: Study, **changes: Any) -> Study:
    return Study.model_validate({**study.model_dump(), **changes})


def ran(study: Study, hospitals: dict[str, Path], **wanted: Any) -> Found:
    return simulate(study, hospitals, Wanted(**wanted), lambda told: None)


@dataclass
class Telling:
    """The plan at sites, which writes where each is made; the process that makes `ends` ends so many times.

    Args:    machines: a site waits until so many train: the first one could make all of them before others have begun.
    """

    sites: Sites
    folder: Path
    ends: str = ""
    times: int = 0
    machines: int = 1

    def __call__(self, site: str) -> Work:
        node = ray.get_runtime_context().get_node_id()
        (self.folder / f"{site}-{os.getpid()}").write_text(f"{node} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}")
        if site == self.ends and len(list(self.folder.glob(f"{site}-*"))) <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        until = time.monotonic() + 60
        while len(self.nodes) < self.machines and time.monotonic() < until:
            time.sleep(0.05)
        return self.sites(site)

    @property
    def nodes(self) -> set[str]:
        """Machines that trained."""
        return {told[0] for told in self.told if told}  # one may be written just now

    @property
    def told(self) -> set[tuple[str, ...]]:
        """(node, GPU) of each site and process."""
        return {tuple(path.read_text().split()) for path in self.folder.glob("s*-*")}


@pytest.fixture
def forty(study: Study, make: Make, tmp_path: Path) -> tuple[Sites, Asked]:
    """Forty sites of ten patients each, and their first round."""
    patients = Patients.read(study, make(north=(400, None)))
    plan, weights = freeze(study)
    rows = {f"s{number:02d}": np.arange(number * 10, number * 10 + 10) for number in range(40)}
    (tmp_path / "told").mkdir()
    with (tmp_path / "state").open("wb") as out:
        chain.begin(plugins.strategy_of(plan.study), weights, "sums-1", out)
    return Sites(plan, weights, patients, rows), Asked("TRAIN", 1, tmp_path / "state", tmp_path)


def same(found: list[Sent], sites: Sites, asked: Asked) -> None:
    """What came of all sites is, to the bit and in order, what comes of them one after the other."""
    wanted = list(Inline(sites)(asked, [Turn(site) for site in sites.rows]))
    assert [one.sites for one in found] == [one.sites for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one.rows.keys() == other.rows.keys()
        assert all(np.array_equal(one.rows[name], other.rows[name]) for name in other.rows)


@pytest.mark.parametrize(("recipe", "strategy"), [("plain", "scaffold"), ("secure_sum", "scaffold"), ("plain", "krum")])
def test_two_machines_give_the_bytes_of_processes(
    study: Study, make: Make, machines: Machines, recipe: str, strategy: str
) -> None:
    """Also where a strategy keeps something at a site, or sites are silent and inputs prepared."""
    hospitals = make(north=(90, None), south=(70, None), west=(130, None))
    asked = changed(
        study, privacy={"recipe": recipe}, strategy={"name": strategy}, rounds=3, quorum=5,
        prepare={"numbers": "standardise"},
    )  # fmt: skip
    wanted = {"sites": 9, "partition": Rule("dirichlet", 0.9), "patients": 900}
    one = ran(asked, hospitals, **wanted, executor="processes", workers=2)
    other = ran(asked, hospitals, **wanted, executor="ray", cluster=machines.address)
    assert (one.plan.digest, one.outcome.digest) == (other.plan.digest, other.outcome.digest)
    assert one.outcome.figures == other.outcome.figures


def test_a_cluster_of_this_machines_own_begins_and_ends_and_leaves_nothing(
    study: Study, make: Make, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dict(os.environ)
    short = Path("/tmp") / f"own-{os.getpid()}"  # names of sockets are short
    short.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(short))
    hospitals = make(north=(90, None), south=(70, None))
    found = [ran(study, hospitals, executor=name, workers=2) for name in ("inline", "ray")]
    assert found[0].outcome.digest == found[1].outcome.digest
    assert not ray.is_initialized() and list(short.iterdir()) == list(home.iterdir()) == []
    assert dict(os.environ) == before
    short.rmdir()


def test_a_cluster_that_asks_for_a_token_is_joined_by_it_alone(
    forty: tuple[Sites, Asked], machines: Machines, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites, asked = forty
    began = Admission()
    began.own(tmp_path)
    asking = Machines(True, head_node_args={"num_cpus": 1, "include_dashboard": False, **STORE})
    began.end()
    try:
        with pytest.raises(Unavailable, match="asks for a token, and none lies here"):
            on_ray.Cluster(sites, 1, asking.address)
        (home / ".ray").mkdir()
        (home / ".ray" / "auth_token").write_text("ab" * 32)
        with pytest.raises(Unavailable, match="asks for another token than the one that lies here"):
            on_ray.Cluster(sites, 1, asking.address)
        (home / ".ray" / "auth_token").write_text((tmp_path / "token").read_text())
        for address in (
            asking.address,
            machines.address,
        ):  # with a token at hand, one that asks for none is joined, too
            execute = on_ray.Cluster(sites, 1, address)
            try:
                same(list(execute(asked, [Turn(site) for site in sites.rows])), sites, asked)
                with pytest.raises(Conflict, match="in a cluster of Ray's already"):
                    on_ray.Cluster(sites, 1, address)
                assert ray.is_initialized()
            finally:
                execute.end()
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        with pytest.raises(Unavailable, match="asks for no token, and RAY_AUTH_MODE=token wants one"):
            on_ray.Cluster(sites, 1, machines.address)
    finally:
        asking.shutdown()


def test_all_machines_train_and_few_sites_are_begun_ahead(
    forty: tuple[Sites, Asked], machines: Machines, tmp_path: Path
) -> None:
    sites, asked = forty
    works = Telling(sites, tmp_path / "told", machines=2)
    execute = on_ray.Cluster(works, 1, machines.address)
    try:
        given = execute(asked, [Turn(site) for site in sites.rows])
        first = next(given)
        assert execute.begun <= AHEAD * 2
        same([first, *given], sites, asked)
    finally:
        execute.end()
    assert len(works.nodes) == 2


def test_sites_that_take_a_gpu_train_where_there_is_one_and_what_nobody_has_is_refused(
    forty: tuple[Sites, Asked], machines: Machines, tmp_path: Path
) -> None:
    sites, asked = forty
    works = Telling(sites, tmp_path / "told")
    execute = on_ray.Cluster(works, 1, machines.address, gpus=0.5)
    try:
        same(list(execute(asked, [Turn(site) for site in sites.rows])), sites, asked)
        having = {node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")}
    finally:
        execute.end()
    assert works.told == {(node, "0") for node in having} and len(having) == 1
    with pytest.raises(Conflict, match="no machine of the cluster has a core and 2 GPUs"):
        on_ray.Cluster(works, 1, machines.address, gpus=2)
    assert not ray.is_initialized()


@pytest.mark.parametrize("times", [1, on_ray.DEATHS + 1])
def test_a_turn_whose_process_ends_is_taken_anew_and_not_for_ever(
    forty: tuple[Sites, Asked], machines: Machines, tmp_path: Path, times: int
) -> None:
    sites, asked = forty
    works = Telling(sites, tmp_path / "told", "s07", times)
    execute = on_ray.Cluster(works, 1, machines.address)
    try:
        given = execute(asked, [Turn(site) for site in sites.rows])
        if times == 1:
            same(list(given), sites, asked)
            assert len(list(works.folder.glob("s07-*"))) == 2
        else:
            with pytest.raises(TrainingFailed, match="ended 4 times as it trained s07"):
                list(given)
    finally:
        execute.end()


def test_a_machine_that_ends_in_the_middle_of_a_round_changes_nothing(
    forty: tuple[Sites, Asked], machines: Machines, tmp_path: Path
) -> None:
    sites, asked = forty
    third = machines.add_node(num_cpus=1, **STORE)
    works = Telling(sites, tmp_path / "told", machines=3)
    execute = on_ray.Cluster(works, 1, machines.address)
    try:
        given = execute(asked, [Turn(site) for site in sites.rows])
        found = [next(given) for _ in range(12)]
        machines.remove_node(third, allow_graceful=False)
        same([*found, *given], sites, asked)
    finally:
        execute.end()
    assert len(works.nodes) == 3


def test_a_machine_with_another_release_is_refused(
    forty: tuple[Sites, Asked], machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites, asked = forty
    monkeypatch.setattr(on_ray, "__version__", "0.0.7")
    execute = on_ray.Cluster(sites, 1, machines.address)
    try:
        with pytest.raises(Conflict, match=r"a machine of the cluster has Consilium .*, and this one 0\.0\.7"):
            list(execute(asked, [Turn("s00")]))
    finally:
        execute.end()


def test_a_cluster_that_is_none_and_options_that_do_not_go_together_are_refused(study: Study, make: Make) -> None:
    hospitals = make(north=(90, None), south=(70, None))
    with pytest.raises(Unavailable, match=r"no cluster of Ray's answers at 127\.0\.0\.1:9"):
        ran(study, hospitals, executor="ray", cluster="127.0.0.1:9")
    with pytest.raises(Conflict, match="leave --workers out"):
        ran(study, hospitals, executor="ray", cluster="127.0.0.1:9", workers=2)
    with pytest.raises(Conflict, match="the executor inline has no cluster and no GPUs"):
        ran(study, hospitals, gpus=1.0)
    with pytest.raises(Invalid, match="--gpus: nan is no number of GPUs"):
        ran(study, hospitals, executor="ray", gpus=float("nan"))
