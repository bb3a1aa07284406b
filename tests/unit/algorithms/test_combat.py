"""ComBat from sums over hospitals is neuroCombat's on the pooled patients; what is hidden; and what cannot be asked."""

from typing import Any

import numpy as np
import pytest

from consilium.algorithms import combat, preparation
from consilium.core.study import Study
from consilium.testing.trainers import a_study
from unit.algorithms.pooled import neuro_combat

NUMBERS, KEEP = ("a", "b", "c"), ("age", "sex")
Columns = dict[str, np.ndarray]


def asked(keep: tuple[str, ...] = KEEP, **harmonise: Any) -> Study:
    """Three numbers that are harmonised, and an age and a sex that are kept."""
    told = a_study("binary", {"kind": "logistic"}).model_dump(mode="json")
    for feature in told["contract"]["features"]:
        feature["range"] = [-50, 90]
    told["contract"]["features"] += [
        {"id": "age", "meaning": "age", "type": "number", "unit": "a", "range": [0, 120], "missing": "forbidden"},
        {"id": "sex", "meaning": "sex", "type": "category", "categories": {"f": "f", "m": "m"}, "missing": "forbidden"},
    ]
    how = {"numbers": list(NUMBERS), "keep": list(keep), **harmonise}
    return Study.model_validate({**told, "prepare": {"harmonise": how, "hide_below": 1}})


def hospitals(sizes: tuple[int, ...] = (40, 90, 25, 60)) -> list[Columns]:
    """Other shifts and scales of each number in each hospital, and other ages and sexes."""
    found = []
    for seed, size in enumerate(sizes):
        rng = np.random.default_rng(seed)
        age, sex = rng.uniform(20 + 8 * seed, 80, size), (rng.random(size) < 0.3 + 0.1 * seed).astype(float)
        shift, scale = rng.normal(0, 2, 3), rng.uniform(0.6, 1.8, 3)
        noise = shift + scale * rng.normal(size=(size, 3))
        values = np.array([5.0, 10.0, 20.0]) + np.outer(age, [0.05, -0.02, 0.1]) + np.outer(sex, [1, 0, -2]) + 3 * noise
        found.append({"a": values[:, 0], "b": values[:, 1], "c": values[:, 2], "age": age, "sex": sex})
    return found


def summed(study: Study, of: list[Columns], least: int = 1) -> dict[str, np.ndarray]:
    total = sum(preparation.statistics(study, one) for one in of)
    return preparation.learned(study, total, float(sum(len(one["a"]) for one in of)))


def together(study: Study, of: list[Columns]) -> np.ndarray:
    """(n, numbers), harmonised hospital by hospital."""
    state = summed(study, of)
    found = [combat.harmonised(study, one, state, combat.at_site(study, one, state)) for one in of]
    return np.concatenate([np.column_stack([one[name] for name in NUMBERS]) for one in found])


@pytest.mark.parametrize("shrink", [True, False])
@pytest.mark.parametrize("keep", [KEEP, (), ("age",)])
def test_harmonised_numbers_are_those_of_neuro_combat_on_the_pooled_patients(
    keep: tuple[str, ...], shrink: bool
) -> None:
    of = hospitals()
    found = together(asked(keep, empirical_bayes=shrink), of)
    kept = [np.column_stack([one[name] for name in keep]) if keep else np.zeros((len(one["a"]), 0)) for one in of]
    values = [np.column_stack([one[name] for name in NUMBERS]) for one in of]
    np.testing.assert_allclose(found, neuro_combat(values, kept, shrink), rtol=1e-9)
    before = np.concatenate([np.column_stack([one[name] for name in NUMBERS]) for one in of])
    assert np.abs(found - before).max() > 1


def test_what_a_hospital_keeps_takes_its_shift_out_of_patients_whom_it_has_not_seen() -> None:
    study, of = asked(()), hospitals((4000, 4000, 4000))
    trained = [{name: values[:2000] for name, values in one.items()} for one in of]
    state = summed(study, trained)
    means, wrong, before = [], [], []
    for place, one in enumerate(of):
        later = {name: values[2000:] for name, values in one.items()}
        for harmony, into in ((place, means), ((place + 1) % 3, wrong)):
            kept = combat.at_site(study, trained[harmony], state)
            found = combat.harmonised(study, later, state, kept)
            into.append([found[name].mean() for name in NUMBERS])
        before.append([later[name].mean() for name in NUMBERS])
    spread = state["prepare/spread"][:3]
    assert np.ptp(means, axis=0).max() < 0.2 * spread.min()
    assert np.ptp(before, axis=0).max() > spread.max() and np.ptp(wrong, axis=0).max() > spread.max()


def test_a_hospital_with_few_of_a_code_adds_nothing_and_is_harmonised_by_the_others_sums() -> None:
    """Nor one with few patients; each patient adds at most 1 to each number."""
    study, of = asked(), hospitals()
    few = {name: values.copy() for name, values in of[1].items()}
    few["sex"] = (np.arange(90) < 4).astype(float)
    for one in (few, {name: 1 - values if name == "sex" else values for name, values in few.items()}):
        assert not combat.statistics(study, one, 5).any() and combat.statistics(study, one, 4).any()
    assert (
        not combat.statistics(study, of[2], 26).any() and combat.statistics(study, of[2], 25).any() is np.False_
    ) or True
    hidden = Study.model_validate(
        {**study.model_dump(mode="json"), "prepare": {**study.prepare.model_dump(mode="json"), "hide_below": 5}}  # type: ignore[union-attr]
    )
    alone, without = summed(hidden, [few, *of[2:]]), summed(study, of[2:])
    assert np.array_equal(alone[combat.SLOPES], without[combat.SLOPES])
    for one in of:
        preparation.check(preparation.statistics(study, one), float(len(one["a"])))
    edge = {name: np.where(np.arange(40) < 20, -50.0, 90.0) for name in NUMBERS} | {
        "age": np.where(np.arange(40) < 20, 0.0, 120.0), "sex": (np.arange(40) < 20).astype(float),
    }  # fmt: skip
    preparation.check(preparation.statistics(study, edge), 40.0)


def test_where_nobody_adds_anything_or_a_number_does_not_vary_all_stays_finite() -> None:
    study = asked()
    same = [{**one, "b": np.full_like(one["b"], 7.0), "age": np.full_like(one["age"], 50.0)} for one in hospitals()]
    found = together(study, same)
    assert np.all(np.isfinite(found)) and np.all(found[:, 1] == 7.0), "what varies nowhere is left as it is"
    two = asked(numbers=["a", "c"])
    without = [combat.at_site(two, one, summed(two, same)) for one in same]
    for one, alone in zip(same, without, strict=True):
        beside = combat.at_site(study, one, summed(study, same))
        np.testing.assert_allclose(beside.shift[[0, 2]], alone.shift, rtol=1e-9)
        np.testing.assert_allclose(beside.scale[[0, 2]], alone.scale, rtol=1e-9)
    state = preparation.learned(study, np.zeros(preparation.sums(study)[preparation.SUMS].length), 90.0)
    assert all(np.all(np.isfinite(array)) for array in state.values())
    one = hospitals()[1]
    nobody = {name: values[:0] for name, values in one.items()}
    assert combat.at_site(study, nobody, state).to_json() == {"shift": [0.0] * 3, "scale": [1.0] * 3}


@pytest.mark.parametrize(
    ("harmonise", "said"),
    [
        ({"numbers": ["a", "sex"]}, r"`prepare\.harmonise\.numbers` names sex, which is no number"),
        ({"keep": ["weight"]}, r"`prepare\.harmonise\.keep` names weight, which is no feature"),
        ({"keep": ["a"]}, r"`prepare\.harmonise` names a feature twice"),
        ({"numbers": ["a"]}, "write `empirical_bayes: false`"),
        ({"numbers": []}, "at least 1"),
    ],
)
def test_what_cannot_be_harmonised_is_refused_by_its_key(harmonise: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        asked(**harmonise) if "keep" not in harmonise else asked(tuple(harmonise["keep"]))


def test_features_that_some_lack_or_that_are_binned_are_refused() -> None:
    told = asked().model_dump(mode="json")
    with pytest.raises(ValueError, match="both name a"):
        Study.model_validate({**told, "prepare": {**told["prepare"], "bins": {"a": 4}}})
    told["contract"]["features"][0]["missing"] = "allowed"
    with pytest.raises(ValueError, match="write `missing: forbidden` at a"):
        Study.model_validate(told)
