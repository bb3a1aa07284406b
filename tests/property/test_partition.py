"""Laws of dividing patients among simulated hospitals."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.errors import DataUnusable, Invalid
from consilium.simulation.partition import DEFAULTS, Pool, Rule, classes, divide

RULES = [
    "natural", "even", "dirichlet:0.05", "dirichlet", "dirichlet:100", "label:1", "label:2", "quantity", "quantity:0.1",
    "shift", "shift:0.5",
]  # fmt: skip


def pool(patients: int, seed: int = 0, hospitals: int = 3, labels: int = 2) -> Pool:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(patients, 4)) * [3, 1, 1, 0]
    label = np.resize(np.arange(labels), patients).astype(float)
    names = tuple(f"hospital-{index}" for index in range(hospitals))
    return Pool(np.resize(np.arange(hospitals), patients), names, rng.permutation(label), x)


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=40, deadline=None)
@given(st.integers(4, 25), st.integers(0, 4), st.integers(0, 200), st.integers(2, 4), st.integers(0, 2**31))
def test_every_patient_is_in_one_site_and_no_site_is_smaller_than_asked(
    rule: str, sites: int, least: int, more: int, labels: int, seed: int
) -> None:
    given_ = pool(sites * (least + 4) + more, seed, labels=labels)
    try:
        found = divide(Rule.parse(rule), given_, sites, least, np.random.default_rng(seed))
    except DataUnusable:
        assert rule.startswith("label"), "only there may a site be one that nobody can give to"
        return
    assert len(found) == sites and list(found) == sorted(found)
    assert sorted(np.concatenate(list(found.values()))) == list(range(len(given_)))
    assert all(len(rows) >= least and list(rows) == sorted(rows) for rows in found.values())
    again = divide(Rule.parse(rule), given_, sites, least, np.random.default_rng(seed))
    assert all(np.array_equal(found[site], again[site]) for site in found), "the same chance gives the same sites"
    if rule.startswith("label"):
        most = int(rule.partition(":")[2])
        assert all(len(set(given_.label[rows])) <= most for rows in found.values())


def test_no_site_is_empty_unless_told() -> None:
    given_, rule = pool(200), Rule.parse("dirichlet:0.01")
    sizes = [min(map(len, divide(rule, given_, 20, least, np.random.default_rng(5)).values())) for least in (0, 1, 7)]
    assert sizes == [0, 1, 7]


def test_labels_differ_the_more_the_smaller_the_number() -> None:
    given_ = pool(4000)
    spread = {}
    for number in (0.1, 1, 1000):
        found = divide(Rule("dirichlet", number), given_, 10, 20, np.random.default_rng(2)).values()
        spread[number] = np.std([given_.label[rows].mean() for rows in found])
    assert spread[0.1] > 1.5 * spread[1] > 3 * spread[1000] and spread[1000] < 0.03


def test_sizes_differ_and_labels_do_not_by_quantity() -> None:
    given_ = pool(20_000)
    found = divide(Rule("quantity", 0.5), given_, 10, 100, np.random.default_rng(3)).values()
    assert max(map(len, found)) > 5 * min(map(len, found))
    assert all(abs(given_.label[rows].mean() - 0.5) < 0.2 for rows in found)


def test_features_differ_by_shift_and_by_nothing_else() -> None:
    """The first component is the first column, by far the widest once its companion is a copy of it."""
    given_ = pool(3000)
    x = np.array(given_.x)
    x[:, 1] = x[:, 0] + 0.1 * x[:, 1]
    given_ = Pool(given_.hospital, given_.names, given_.label, x)
    spread = {}
    for number in (0.01, 0.5, 1.0):
        found = list(divide(Rule("shift", number), given_, 6, 1, np.random.default_rng(4)).values())
        assert max(map(len, found)) - min(map(len, found)) <= 1
        spread[number] = np.ptp([x[rows, 0].mean() for rows in found])
        assert all(abs(given_.label[rows].mean() - 0.5) < 0.1 for rows in found)
    assert spread[1.0] > 1.2 * spread[0.5] > 5 * spread[0.01]
    means = [x[rows, 0].mean() for rows in found]
    assert all(one < other for one, other in pairwise(means))


def test_natural_hospitals_stay_as_they_are_and_are_cut_within() -> None:
    given_ = pool(90)
    whole = divide(Rule("natural"), given_, None, 1, np.random.default_rng(0))
    assert {name: list(rows) for name, rows in whole.items()} == {
        name: list(np.flatnonzero(given_.hospital == index)) for index, name in enumerate(given_.names)
    }
    cut = divide(Rule("natural"), given_, 7, 1, np.random.default_rng(0))
    for name, rows in cut.items():
        assert {given_.names[given_.hospital[row]] for row in rows} == {
            name.rpartition("-")[0] if name.count("-") > 1 else name
        }
    parts = [sum(name.startswith(f"{one}-") or name == one for name in cut) for one in given_.names]
    assert sum(parts) == 7 and max(parts) - min(parts) <= 1, "of hospitals alike, none is cut into many more"
    with pytest.raises(Invalid, match="3 hospitals are no 2 sites"):
        divide(Rule("natural"), given_, 2, 1, np.random.default_rng(0))
    without = Pool(np.where(given_.hospital == 2, 0, given_.hospital), given_.names, given_.label, given_.x)
    with pytest.raises(DataUnusable, match=f"{given_.names[2]} has 0 patients, and a site has 1 at least"):
        divide(Rule("natural"), without, None, 1, np.random.default_rng(0))


def test_more_than_ten_labels_are_divided_by_tenths() -> None:
    values = np.random.default_rng(0).normal(size=500)
    found = classes(values)
    assert np.all(np.bincount(found) == 50) and np.all(values[found == 0].max() < values[found == 9].min())
    assert list(classes(np.array([3.0, 5.0, 3.0]))) == [0, 1, 0]
    assert set(classes(np.r_[np.zeros(900), np.arange(1, 30)])) == {0, 1}, "tenths that are one value are one group"


def test_too_few_patients_are_told() -> None:
    with pytest.raises(DataUnusable, match="20 patients cannot give 30 sites at least 1 each"):
        divide(Rule("even"), pool(20), 30, 1, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dirichlet:0", "takes a number above 0"), ("dirichlet:x", "by 'x'"), ("label:0", "takes a whole number"),
        ("label:1.5", "takes a whole number"), ("shift:2", "up to 1;"), ("even:1", "takes no number"),
        ("other", "no partition"), ("quantity:nan", "takes a number above 0"),
    ],
)  # fmt: skip
def test_what_is_no_partition_is_refused_with_what_would_be_one(text: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        Rule.parse(text)


def test_a_rule_is_written_as_it_is_read() -> None:
    assert [str(Rule.parse(name)) for name in DEFAULTS] == [
        "natural", "even", "dirichlet:0.5", "label:1", "quantity:0.5", "shift:1",
    ]  # fmt: skip
