"""What of a round goes into a secure sum and comes out of it: the exact sum of integers, and not a byte more."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from math import floor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consilium import studyfile
from consilium.algorithms import evaluation, groups
from consilium.core import state as chain
from consilium.core.errors import ConsiliumError, Invalid, Refused
from consilium.core.study import Study
from consilium.privacy import layout as pieces
from consilium.privacy import recipe, secagg
from consilium.privacy.layout import CLAMPED, Layout
from consilium.privacy.opening import Opened
from property.rosters import opened, paired, seats

Arrays = dict[str, np.ndarray]
LABELS = {
    "binary": {"id": "disease", "meaning": "m", "type": "binary"},
    "number": {"id": "disease", "meaning": "m", "type": "number", "unit": "1", "range": [-20, 90]},
    "count": {"id": "disease", "meaning": "m", "type": "count", "range": [0, 60]},
}
MODELS = {"binary": "logistic", "number": "linear", "count": "poisson"}


def study(label: str = "number", **privacy: Any) -> Study:
    values = yaml.safe_load(studyfile.template("s"))
    values["contract"]["label"] = LABELS[label]
    values |= {"model": {"kind": MODELS[label]}, "privacy": {"recipe": "secure_sum", **privacy}}
    return Study.model_validate(values)


def shapes(plan: Study, kind: str) -> dict[str, tuple[str, int]]:
    """Type and length of each sum that is judged by."""
    return {name: (chain.kind(array), array.size) for name, array in evaluation.nothing(plan, kind).items()}


def layout(plan: Study, size: int, sites: int, model: str = "F64", kind: str = "TRAIN") -> Layout:
    return Layout.of(plan, kind, (model, size), shapes(plan, kind), sites)


def file(folder: Path, name: str, arrays: Arrays) -> Path:
    with (folder / name).open("wb") as out:
        chain.write(arrays, {}, out)
    return folder / name


def cover(one: Layout, update: Path, layers: list[tuple[bytes, int]]) -> bytes:
    out = io.BytesIO()
    one.cover(update, layers, out)
    return out.getvalue()


def contribution(found: Layout, rng: np.random.Generator, beyond: float = 2.0) -> Arrays:
    """An update, some of whose values are beyond their limit."""
    made = {}
    for name, (kind, size) in found.shape.items():
        if name != CLAMPED:
            values = rng.uniform(-beyond, beyond, size) * found.encodings[name].limit
            made[name] = values.astype(chain.dtype(kind))
    return made


@contextmanager
def chunks(size: int) -> Iterator[None]:
    kept, pieces.PIECE = pieces.PIECE, size
    try:
        yield
    finally:
        pieces.PIECE = kept


@contextmanager
def folder() -> Iterator[Path]:
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as path:
        yield Path(path)


def integers(found: Layout, arrays: Arrays) -> dict[str, list[int]]:
    """What a site adds, in whole numbers, worked out with fractions."""
    told: dict[str, list[int]] = {}
    clamped = 0
    for name, values in arrays.items():
        limit, scale = Fraction(found.encodings[name].limit), Fraction(found.encodings[name].scale)
        exact = [Fraction(float(value)) for value in values]
        clamped += sum(abs(value) > limit for value in exact) if name in found.counted else 0
        told[name] = [floor(max(-limit, min(limit, value)) * scale + Fraction(1, 2)) for value in exact]
    return {**told, CLAMPED: [floor(clamped * Fraction(found.encodings[CLAMPED].scale))]}


def uncovered(found: Layout, vectors: list[Path], keys: Opened) -> Arrays:
    out = io.BytesIO()
    recipe.recover(found, vectors, keys, {"run": "run-1"}, out)
    with folder() as here:
        (here / "sums").write_bytes(out.getvalue())
        return {name: np.array(array) for name, array in chain.read(here / "sums").arrays.items()}


def expect_sum(found: Layout, parts: list[Arrays], sums: Arrays) -> None:
    whole = [integers(found, part) for part in parts]
    assert {name: (chain.kind(array), array.size) for name, array in sums.items()} == dict(found.shape)
    for name, (kind, size) in found.shape.items():
        scale = Fraction(found.encodings[name].scale)
        wanted = [Fraction(sum(one[name][at] for one in whole)) / scale for at in range(size)]
        expected = np.array([float(value) for value in wanted]).astype(chain.dtype(kind))
        assert np.array_equal(sums[name], expected), name


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, int, str, int | None, str, int, int]:
    count = draw(st.integers(3, 7))
    lost = draw(st.integers(0, count - secagg.threshold(count)))
    bits = draw(st.sampled_from([None, 16, 32, 64]))
    return (
        count, lost, draw(st.sampled_from(["F32", "F64"])), bits, draw(st.sampled_from(["number", "count"])),
        draw(st.integers(1, 40)), draw(st.integers(0, 2**31)),
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from([8, 24, 1 << 18]))
def test_what_is_uncovered_is_the_exact_sum_of_integers(case: tuple[Any, ...], chunk: int) -> None:
    """Keys from pairing, seats from READY, shares from UNMASK; whoever is lost after READY, and whatever is clamped."""
    count, lost, model, bits, label, size, seed = case
    rng = np.random.default_rng(seed)
    found = layout(study(label, bits=bits), size, count, model)
    seated = seats(found, *paired(count, seed))
    stay = sorted(rng.choice(sorted(seated), count - lost, replace=False).tolist())
    parts = [contribution(found, rng) for _ in stay]
    with folder() as here, chunks(chunk):
        vectors = []
        for site, part in zip(stay, parts, strict=True):
            made = recipe.mask(seated[site], found, file(here, f"{site}.update", part), here / site)
            assert made.recipe == "secure_sum" and found.fits(made.path)
            vectors.append(made.path)
        expect_sum(found, parts, uncovered(found, vectors, opened(seated, stay)))


@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("sites", [3, 10, 200])
@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_all_sites_beyond_every_limit_do_not_overflow_and_are_counted(bits: int, sites: int, side: float) -> None:
    found = layout(study("count", bits=bits), 5, sites)
    part = {name: np.full(size, side * 1e30) for name, (_, size) in found.shape.items() if name != CLAMPED}
    with folder() as here:
        vector = here / "vector"
        vector.write_bytes(cover(found, file(here, "update", part), []))
        sums = uncovered(found, [vector] * sites, Opened({}, {}))
    for name, encoding in found.encodings.items():
        if name == CLAMPED:
            assert found.counted == ["update"] and sums[name] == sites * 5, "counts of patients stand for no update"
        else:
            assert np.all(side * sums[name] > 0.49 * sites * encoding.limit), "it has not wrapped around"
            rounding = 0.5 / encoding.scale
            assert np.all(np.abs(sums[name]) <= sites * (encoding.limit * (1 + 1e-9) + rounding))


def test_the_limits_leave_the_values_of_a_plan_alone() -> None:
    """A hospital of the largest size whose parameters all change by `clip`: nothing is cut, counts are exact."""
    plan = study("binary", most_patients=50_000, clip=2.0)
    found = layout(plan, 3, 10)
    for change, cut in ((2.0, 0), (2.0001, 3)):
        part = {name: np.zeros(size) for name, (_, size) in found.shape.items() if name != CLAMPED}
        part |= {"weight": np.array([50_000.0]), "update": np.full(3, -change * 50_000)}
        part["metrics/n"] = part["weight"]
        with folder() as here:
            vector = here / "vector"
            vector.write_bytes(cover(found, file(here, "update", part), []))
            sums = uncovered(found, [vector], Opened({}, {}))
        assert sums[CLAMPED] == cut and sums["weight"] == sums["metrics/n"] == 50_000.0
        np.testing.assert_allclose(sums["update"], -2.0 * 50_000, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(LABELS)), st.integers(0, 300), st.integers(0, 2**31), st.sampled_from(["TRAIN", "EVALUATE"])
)
@example("binary", 1, 9, "EVALUATE")  # a patient of whom the model is certain, and wrong
@example("count", 3, 2, "EVALUATE")
def test_metrics_of_every_type_of_label_fit_and_are_never_clamped(label: str, n: int, seed: int, kind: str) -> None:
    rng, plan = np.random.default_rng(seed), study(label, most_patients=300)
    low, high = plan.contract.label.range or (0.0, 1.0)
    truth = rng.choice([low, high], n) if seed % 2 else rng.integers(int(low), int(high) + 1, n).astype(float)
    predicted = {
        "binary": rng.choice([0.0, 0.5, 1.0], n), "number": rng.uniform(-180, 180, n),
        "count": 10 ** rng.uniform(-9, 2, n),
    }[label]  # fmt: skip
    found = layout(plan, 4, 5, kind=kind)
    members = rng.random((n, len(groups.asked(plan)))) < 0.5
    counted = evaluation.sums(plan, kind, predicted, truth, members)
    sums = {f"metrics/{name}": array for name, array in counted.items()}
    part = {**sums, "weight": np.array([float(n)])} | ({"update": np.zeros(4)} if kind == "TRAIN" else {})
    with folder() as here:
        vector = here / "vector"
        vector.write_bytes(cover(found, file(here, "update", part), []))
        opened_ = uncovered(found, [vector], Opened({}, {}))
    assert opened_[CLAMPED] == 0
    for name, array in sums.items():
        np.testing.assert_allclose(opened_[name], array, rtol=1e-6, atol=max(1e-6, 1 / found.encodings[name].scale))
        if name.removeprefix("metrics/").removeprefix("groups/") in ("n", "positives", "negatives"):
            assert np.array_equal(opened_[name], array), "counts are exact"
    evaluation.check(plan, kind, {name: opened_[f"metrics/{name}"] for name in counted})


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([16, 32, 64]), st.integers(1, 200), st.integers(0, 999))
def test_chunk_by_chunk_or_whole_the_bytes_are_the_same(bits: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = layout(study(bits=bits), size, 3)
    layers = [(rng.bytes(32), sign) for sign in (1, 1, -1)]
    with folder() as here:
        update = file(here, "update", contribution(found, rng))
        whole = cover(found, update, layers)
        for chunk in (8, 16, 104):
            with chunks(chunk):
                assert cover(found, update, layers) == whole


@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("zero", [True, False], ids=["zeros", "values"])
def test_every_chunk_of_every_segment_is_masked(bits: int, zero: bool) -> None:
    """A row that no patient touched looks like any other: nothing is sent sparsely, and nothing unmasked."""
    rng = np.random.default_rng(bits)
    found = layout(study("binary", bits=bits), 4096, 3)
    part = contribution(found, rng)
    if zero:
        part = {name: np.zeros_like(array) for name, array in part.items()}
    seated = seats(found, *paired(3))
    with folder() as here, chunks(256):
        update = file(here, "update", part)
        made = {}
        for site, seat in seated.items():
            recipe.mask(seat, found, update, here / site)
            made[site] = chain.read(here / site).arrays
        (here / "bare").write_bytes(cover(found, update, []))
        bare = chain.read(here / "bare").arrays
        for site, arrays in made.items():
            for name, array in arrays.items():
                for start in range(0, array.size, 256 if array.size > 1 else 1):
                    masked, plain = array[start : start + 256], bare[name][start : start + 256]
                    same = np.count_nonzero(masked == plain)
                    assert same <= 2 if bits == 16 else same == 0, f"{site} {name} {start}"
        for name in bare:
            assert not np.array_equal(made["s00"][name], made["s01"][name]), "no two sites have one mask"


def other_files(found: Layout, part: Arrays) -> dict[str, Arrays]:
    last = sorted(part)[-1]
    return {
        "one lacks": {name: array for name, array in part.items() if name != last},
        "one too many": {**part, "more": np.zeros(1)},
        "counted already": {**part, CLAMPED: np.zeros(1)},
        "longer": {**part, "update": np.zeros(part["update"].size + 1)},
        "of another type": {**part, "update": part["update"].astype(np.float32)},
        "not finite": {**part, "update": np.full_like(part["update"], np.nan)},
        "infinite": {**part, "weight": np.array([np.inf])},
    }


def test_an_update_or_a_vector_with_other_segments_is_refused() -> None:
    found = layout(study(), 6, 3)
    part = contribution(found, np.random.default_rng(1))
    with folder() as here:
        for name, arrays in other_files(found, part).items():
            with pytest.raises(Invalid):
                cover(found, file(here, name, arrays), [])
        (here / "good").write_bytes(cover(found, file(here, "update", part), []))
        assert found.fits(here / "good") and not found.fits(here / "update"), "what is not covered does not pass for it"
        good = {name: np.array(array) for name, array in chain.read(here / "good").arrays.items()}
        for at, bad in enumerate((
            {name: array for name, array in good.items() if name != "weight"},
            {**good, "more": np.zeros(1, dtype=np.uint64)},
            {**good, "update": good["update"][:-1]},
            {**good, "update": good["update"].astype(np.uint32)},
        )):  # fmt: skip
            assert not found.fits(file(here, f"bad{at}", bad))
        (here / "noise").write_bytes(b"\xff" * 99)
        with pytest.raises(Invalid):
            found.fits(here / "noise")


def test_a_seat_of_another_round_or_without_roll_call_masks_nothing() -> None:
    found, other = layout(study(), 6, 3), layout(study(), 7, 3)
    roster, chains = paired(3)
    seat = seats(found, roster, chains)["s00"]
    with folder() as here:
        for wrong, one in ((seat, other), (secagg.replace(seat, active=()), found)):
            update = file(here, "update", contribution(one, np.random.default_rng(1)))
            with pytest.raises(Refused) as caught:
                recipe.mask(wrong, one, update, here / "covered")
            assert caught.value.reason == "segments" and not (here / "covered").exists()
        with pytest.raises(ConsiliumError):
            recipe.protect("secure_sum", update, "sha256:" + "0" * 64, 1)  # type: ignore[arg-type]


def bound(found: Layout, sites: int) -> float:
    """Rounding of one coordinate of a sum: half an integer for each site at most."""
    return sites * 0.5 / found.encodings["update"].scale


@pytest.mark.parametrize(
    ("model", "bits", "most"),
    [
        pytest.param("F64", None, 1e-6, marks=pytest.mark.long),
        pytest.param("F32", 64, 1e-6, marks=pytest.mark.long),
        pytest.param("F32", None, 1e-5, marks=pytest.mark.long),
    ],
)
def test_500_rounds_in_a_row_with_ten_sites_are_those_without_masks(model: str, bits: int | None, most: float) -> None:
    """Each mean is right to a millionth, and so is the model that they add up to.

    Values are up to a twentieth of their limit. Where a float32 of so few bits is in the middle between two integers,
    which it often is in 32 bits, it is rounded up, so that the model is right to a hundred-thousandth only.
    """
    rng, plan = np.random.default_rng(2), study(bits=bits, most_patients=1_000, clip=1.0)
    found = Layout.of(plan, "TRAIN", (model, 16), {}, 10)  # metrics are masked like all else, and take most of the time
    roster, chains = paired(10)
    total, exact = np.zeros(16), np.zeros(16)
    with folder() as here:
        for number in range(1, 501):
            seated, vectors, wanted = seats(found, roster, chains, number), [], np.zeros(16)
            for site, seat in seated.items():
                part = contribution(found, rng, beyond=0.05)
                part["weight"] = np.array([float(rng.integers(50, 900))])
                wanted += part["update"].astype(np.float64)
                vectors.append(recipe.mask(seat, found, file(here, "update", part), here / site).path)
            sums = uncovered(found, vectors, Opened({site: seat.own for site, seat in seated.items()}, {}))
            weight = float(sums["weight"][0])
            assert np.max(np.abs(sums["update"] - wanted)) <= bound(found, 10) + 1e-6 * np.max(np.abs(wanted))
            assert np.linalg.norm(sums["update"] - wanted) <= 1e-6 * np.linalg.norm(wanted)
            total, exact = total + sums["update"] / weight, exact + wanted / weight
    assert np.linalg.norm(total - exact) <= most * np.linalg.norm(exact)


def test_the_segments_of_an_open_are_those_of_the_plan_at_both_ends() -> None:
    """Whoever computes them gives the same bytes, which the OPEN's hash holds."""
    one, other = layout(study("binary"), 9, 4), layout(study("binary"), 9, 4)
    assert one.segments == other.segments and [s.name for s in one.segments] == sorted(one.shape)
    assert layout(study("binary", bits=16), 9, 4).segments != one.segments
    assert "update" not in layout(study("binary"), 9, 4, kind="EVALUATE").shape
    assert json.dumps([s.model_dump() for s in one.segments]) and {s.bits for s in one.segments} == {64}
    assert {s.name: s.bits for s in layout(study(), 9, 4, "F32").segments}["update"] == 32
