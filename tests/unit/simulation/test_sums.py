"""What a plain sum of simulated sites is: what the coordinator would have on file, or its refusal."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.core import state as chain
from consilium.core.errors import Invalid
from consilium.simulation.executors import Sent
from consilium.simulation.sums import Plain

ONE, THREE = ({"min_size": size, "max_size": size} for size in (1, 3))
SEGMENTS = {"weight": st.lists(st.floats(1, 1e6), **ONE), "update": st.lists(st.floats(), **THREE)}
MAYBE = {"metrics/n": st.lists(st.floats(0, 50), **ONE)}
SITES = st.lists(st.fixed_dictionaries(SEGMENTS, optional=MAYBE), max_size=5)


def _folded(files: list[bytes]) -> chain.Vectors:
    out = io.BytesIO()
    chain.fold(files, {"run": "r"}, out)
    return chain.read(out.getvalue())


def _grown(sites: list[dict[str, Any]]) -> chain.Vectors:
    total = Plain()
    for at, site in enumerate(sites):
        total.add(Sent((f"s{at}",), {name: np.array([values]) for name, values in site.items()}))
    return total.total({"run": "r"})


@given(sites=SITES)
def test_a_plain_sum_is_what_the_coordinator_folds_or_is_refused_as_there(sites: list[dict[str, Any]]) -> None:
    files = []
    for site in sites:
        file = io.BytesIO()
        chain.write({name: np.array(values) for name, values in site.items()}, {}, file)
        files.append(file.getvalue())
    with np.errstate(all="ignore"):
        try:
            expected = _folded(files)
        except Invalid as refusal:
            with pytest.raises(Invalid) as refused:
                _grown(sites)
            assert not sites or refused.value.message == refusal.message
            return
        found = _grown(sites)
    assert found.metadata == expected.metadata and found.shape == expected.shape
    assert all((found.arrays[name] == array).all() for name, array in expected.arrays.items())
