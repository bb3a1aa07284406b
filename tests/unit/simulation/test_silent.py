"""Sites that have nothing to add to a secure sum: a simulation refuses and withholds as hospitals would."""

from pathlib import Path

import numpy as np
import pytest

from consilium.api import freeze
from consilium.core import state as chain
from consilium.core.errors import Conflict
from consilium.core.study import Study
from consilium.simulation.executors import Inline
from consilium.simulation.patients import Patients, Sites
from consilium.simulation.rounds import Simulation, Told
from consilium.simulation.vectorised import Vectorised

NUMBER = {"type": "number", "unit": "1", "range": [-4, 4]}
STUDY = Study.model_validate({
    "consilium": 1, "name": "sums", "title": "Sums", "rounds": 1, "quorum": 3, "model": {"kind": "linear"},
    "purpose": {"code": "research", "text": "a test", "requester": "the tests"},
    "contract": {
        "id": "sums", "features": [{"id": "x", "meaning": "x", "missing": "forbidden", **NUMBER}],
        "label": {"id": "y", "meaning": "y", **NUMBER},
    },
    "privacy": {"recipe": "secure_sum"},
})  # fmt: skip
SIZE = 20


def sites_of(names: str) -> Sites:
    """Patients of `b` have a label of 0; `a` holds out nobody."""
    rng, size = np.random.default_rng(1), SIZE * len(names)
    x, y = rng.normal(size=(2, size)).clip(-4, 4)
    test = np.arange(size) % SIZE < 5
    y[SIZE : 2 * SIZE], test[:SIZE] = 0, False
    plan, weights = freeze(STUDY)
    patients = Patients({"x": x}, y, test, np.repeat(np.arange(len(names)), SIZE), tuple(names))
    return Sites(plan, weights, patients, {name: SIZE * at + np.arange(SIZE) for at, name in enumerate(names)})


@pytest.mark.parametrize("executor", [Inline, Vectorised])
def test_who_adds_zeros_refuses_whichever_way_sites_train(executor: type[Inline | Vectorised], tmp_path: Path) -> None:
    """By least squares from a model of zeros, labels of 0 change nothing: of three sites a sum of two would be left.

    Nor are there figures where of three one holds out nobody.
    """
    for names in ("abcd", "abc"):
        sites, told, folder = sites_of(names), list[Told](), tmp_path / names
        folder.mkdir()
        run = Simulation(
            sites.plan, sites.initial, tuple(names), executor(sites), folder, "sums-1", bytes, sites.lacks,
            each=told.append,
        )  # fmt: skip
        if names == "abc":
            with pytest.raises(Conflict, match=r"2 of the 3 hospitals.*b said: .*add nothing to the sum"):
                run.run()
            continue
        found = run.run()
        assert [one.took_part for one in told] == [("a", "c", "d"), tuple(names)]
        assert [one.withheld for one in told] == [{"held-out"}] * 2 and not any(one.figures for one in told)
        assert (
            found.figures["all"] == {}
            and found.figures["evaluation"] is None
            and not chain.read(found.sums).arrays["metrics/n"]
        )
        three = Simulation(
            sites.plan, sites.initial, ("a", "c", "d"), Inline(sites), folder, "sums-1", bytes, sites.lacks
        )
        wanted = chain.read(three.run().state).arrays["model"]
        np.testing.assert_allclose(chain.read(found.state).arrays["model"], wanted, rtol=1e-9)
