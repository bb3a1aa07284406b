"""Noise in secure sums: the sum that is opened is that of the sites' integers and their noise, exactly; and its noise
is as much as the plan promises, whoever stays away.
"""

import math
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from consilium.core.errors import Invalid
from consilium.core.study import Study
from consilium.privacy import masks, noise, recipe
from consilium.privacy.layout import CLAMPED, Layout
from consilium.privacy.mechanism import Mechanism
from consilium.privacy.opening import Opened
from consilium.privacy.quantize import EXACT, Noised
from property.rosters import opened, paired, seats
from property.test_layout import cover, file, folder, layout, study, uncovered

Z, CLIP = 2.5, 0.75
ASKED: dict[str, Any] = {
    "epsilon": 4.0, "expected_patients": 40, "noise_multiplier": Z, "all_honest": 3.0, "clip_norm": CLIP,
    "most_patients": 500,
}  # fmt: skip


def noised(**privacy: Any) -> Study:
    return study("number", **{**ASKED, **privacy})


def encoding(found: Layout) -> Noised:
    made = found.encodings["update"]
    assert isinstance(made, Noised)
    return made


def part(rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    return {"update": rng.uniform(-3, 3, size), "weight": np.array([40.0])}


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 7), st.integers(1, 60), st.sampled_from(["F64", "F32"]), st.integers(0, 2**31), st.data())
def test_the_opened_sum_is_that_of_integers_and_noise(
    count: int, size: int, model: str, seed: int, data: st.DataObject
) -> None:
    """Through keys, masks and shares of the protocol; worked out with fractions and the noise of each key."""
    rng, plan = np.random.default_rng(seed), noised()
    found = layout(plan, size, count, model)
    made = encoding(found)
    seated = seats(found, *paired(count, seed))
    stay = data.draw(st.sampled_from([sorted(seated), sorted(seated)[: 2 * count // 3 + 1]]))
    parts = [part(rng, size) for _ in stay]
    wanted = np.zeros(size, dtype=object)
    with folder() as here:
        vectors = []
        for site, values in zip(stay, parts, strict=True):
            covered = recipe.mask(seated[site], found, file(here, f"{site}.update", values), here / site)
            again = recipe.mask(seated[site], found, here / f"{site}.update", here / "again")
            assert covered.digest == again.digest, "a retry sends the same bytes"
            vectors.append(covered.path)
            key = masks.segment_key(recipe.noise_key(seated[site].coins, seated[site].ctx), "update/0")
            exact = [floor(Fraction(v) * Fraction(made.scale) + Fraction(1, 2)) for v in map(float, values["update"])]
            wanted += np.array(exact, dtype=object) + noise.integers(key, size, made.deviation)
        sums = uncovered(found, vectors, opened(seated, stay))
    kind = np.float32 if model == "F32" else np.float64
    expected = np.array([float(Fraction(int(value)) / Fraction(made.scale)) for value in wanted]).astype(kind)
    assert np.array_equal(sums["update"], expected) and sums["update"].dtype == kind
    assert sums["weight"] == 40.0 * len(stay) and sums[CLAMPED] == 0
    assert sums.keys() == {"update", "weight", CLAMPED}, "no figure of a round leaves"


@pytest.mark.parametrize(("sites", "stay"), [(3, 3), (5, 5), (5, 4), (10, 7)])
def test_the_noise_of_an_opened_sum_is_what_the_plan_promises(sites: int, stay: int) -> None:
    """Its deviation is z times what a patient adds at most, times sqrt(stay / honest); and it is normal."""
    size, plan = 40_000, noised(most_patients=5)
    found = layout(plan, size, sites)
    with folder() as here:
        update = file(here, "update", {"update": np.zeros(size), "weight": np.array([40.0])})
        vectors = []
        for site in range(stay):
            vectors.append(here / f"{site}")
            with vectors[-1].open("wb") as out:
                found.cover(update, (), out, bytes([site + 1]) * 32)
        sums = uncovered(found, vectors, Opened({}, {}))["update"]
    honest = 2 * sites // 3 + 1 - 1
    bound = CLIP * plan.training.learning_rate + math.sqrt(size) / encoding(found).scale
    promised = Z * bound * math.sqrt(stay / honest)
    assert sums.std() == pytest.approx(promised, rel=0.015)
    assert stats.kstest(sums / promised, "norm").pvalue > 0.01
    assert promised >= Z * CLIP * plan.training.learning_rate, "never less than promised"


@settings(max_examples=200)
@given(
    st.integers(3, 60), st.integers(1, 10**6), st.sampled_from([16, 32, 64]), st.floats(0.3, 500),
    st.integers(1, 10**6), st.floats(1e-3, 1e3),
)  # fmt: skip
def test_no_sum_with_its_noise_overflows_and_rounding_is_paid_for(
    sites: int, size: int, bits: Any, z: float, most: int, clip: float
) -> None:
    plan = noised(bits=bits, noise_multiplier=z, most_patients=most, clip_norm=clip)
    try:
        made = encoding(layout(plan, size, sites))
    except Invalid as error:
        assert "bits are too few for noised sums" in error.message and bits < 64
        return
    mechanism = Mechanism.of(plan)
    assert mechanism is not None
    one = plan.training.learning_rate * clip
    share = made.deviation
    assert math.log2(made.scale).is_integer()
    assert sites * (made.limit * made.scale + 1) + 8 * share * math.sqrt(sites) < 2 ** (min(bits, EXACT) - 1)
    assert made.limit >= one * most, "a hospital of the largest size is never cut"
    honest = mechanism.shares(sites)
    assert share * math.sqrt(honest.opening - 1) == pytest.approx(z * (made.scale * one + math.sqrt(size)))
    assert made.scale * one * z / math.sqrt(honest.opening - 1) >= 256


def test_the_plans_of_real_studies_lose_little_by_rounding() -> None:
    for size, bits in ((31, None), (100_000, None), (1_000_000, 64)):
        made = encoding(layout(noised(most_patients=10_000, bits=bits), size, 10))
        assert math.sqrt(size) / (made.scale * made.bound) < 0.03


def test_without_a_key_nothing_is_written_and_another_key_gives_other_noise() -> None:
    found = layout(noised(), 50, 3)
    with folder() as here:
        update = file(here, "update", part(np.random.default_rng(1), 50))
        with pytest.raises(Invalid, match="no key"):
            cover(found, update, [])
        written = []
        for key in (b"a" * 32, b"a" * 32, b"b" * 32):
            with (here / "vector").open("wb") as out:
                found.cover(update, (), out, key)
            written.append((here / "vector").read_bytes())
        assert written[0] == written[1] != written[2]
        with_figures = {**part(np.random.default_rng(1), 50), "metrics/n": np.array([30.0])}
        with pytest.raises(Invalid, match="not those of the plan"), (here / "more").open("wb") as out:
            found.cover(file(here, "figures", with_figures), (), out, b"a" * 32)


def test_how_many_values_of_a_noised_sum_were_cut_is_told_to_nobody() -> None:
    """The count would be exact, and of patients: it has no noise."""
    found = layout(noised(), 50, 3)
    beyond = {**part(np.random.default_rng(1), 50), "update": np.full(50, 7 * encoding(found).limit)}
    with folder() as here:
        with (here / "vector").open("wb") as out:
            found.cover(file(here, "update", beyond), (), out, b"a" * 32)
        sums = uncovered(found, [here / "vector"], Opened({}, {}))
    assert sums["clamped"] == 0 and np.all(sums["update"] < 2 * encoding(found).limit)


def test_a_long_vector_has_noise_of_its_own_in_each_piece() -> None:
    size = (1 << 16) + 4096
    found = layout(noised(bits=64), size, 3)
    with folder() as here:
        update = file(here, "update", {"update": np.zeros(size), "weight": np.array([40.0])})
        with (here / "vector").open("wb") as out:
            found.cover(update, (), out, b"a" * 32)
        sums = uncovered(found, [here / "vector"], Opened({}, {}))["update"]
    assert not np.array_equal(sums[:4096], sums[1 << 16 :])
    assert abs(np.corrcoef(sums[:4096], sums[1 << 16 :])[0, 1]) < 0.06
