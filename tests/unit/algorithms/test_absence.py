"""What a hospital has nothing of: whoever of the others takes its own part off the sum reads what the third one has."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from consilium.algorithms import absence, evaluation, preparation
from consilium.core import survival
from consilium.core.study import Study
from consilium.core.update import Sum
from consilium.testing.trainers import a_study
from unit.algorithms.test_two_others import SIZES, Floats, of_others, prepared

KIND = {"binary": "logistic", "number": "linear", "count": "poisson", "time-to-event": "cox"}


def judging(label: str) -> Study:
    base = a_study(label, {"kind": KIND[label]})
    return base.model_copy(update={"privacy": base.privacy.model_copy(update={"recipe": "secure_sum"})})


def outcomes(label: str, n: int, lacks: str = "") -> Floats:
    """Labels of n held-out patients; `lacks`: `all` of them, or who has (`some`), or has not (`rest`), the outcome."""
    rng = np.random.default_rng(n)
    had = rng.random(n) < 0.4 if not lacks else np.full(n, lacks == "rest")
    match label:
        case "binary":
            found = had.astype(float)
        case "number":
            found = rng.normal(size=n)
        case "count":
            found = had * (1.0 + rng.poisson(2.0, n))
        case _:
            found = survival.joined(rng.permutation(n) + 1.0, had)
    return found[: 0 if lacks == "all" else n]


def counted(study: Study, label: Floats) -> dict[str, Floats]:
    """What a hospital adds of these patients, by some model."""
    score = np.random.default_rng(len(label)).random(len(label))
    found = evaluation.sums(study, "EVALUATE", score, label, np.zeros((len(label), 0), dtype=bool))
    return {f"metrics/{name}": array for name, array in found.items()}


@pytest.mark.parametrize(
    ("label", "lacks", "read"),
    [
        ("binary", "all", ("n", "brier", "positives", "negatives")), ("binary", "some", ("positives",)),
        ("binary", "rest", ("negatives",)), ("number", "all", ("n", "sse", "sy")), ("count", "some", ("sy", "syy")),
        ("time-to-event", "all", ("n", "events", "cells")),
        ("time-to-event", "some", ("events", "concordant", "likelihood")),
    ],
)  # fmt: skip
def test_of_three_hospitals_figures_are_of_two_where_another_holds_out_nobody_of_an_outcome(
    label: str, lacks: str, read: tuple[str, ...]
) -> None:
    """The curious one takes its own part off, and reads that of the third: how many had the event, and their scores."""
    study = judging(label)
    parts = [counted(study, outcomes(label, n, lacks if at == 1 else "")) for at, n in enumerate(SIZES)]
    sums = {name: Sum(1e6, each=False) for name in parts[0]}
    leak = of_others(parts, sums)
    for name in read:
        np.testing.assert_allclose(leak[f"metrics/{name}"], parts[2][f"metrics/{name}"], atol=1e-4, err_msg="the leak")
    said = [absence.of(study, part) for part in parts]
    assert said == [(), (absence.HELD_OUT,), ()]
    hidden = absence.withheld(said, least=3, fewest=3)
    left = of_others([dict(absence.blanked(study, part, hidden)) for part in parts], sums)
    assert not any(np.any(array) for array in left.values()), "nobody adds anything"
    assert absence.withheld([*said, ()], least=4, fewest=3) == frozenset(), "of four hospitals three others have some"


@pytest.mark.parametrize("label", list(KIND))
@settings(max_examples=15)
@given(codes=st.lists(st.integers(0, 2), max_size=6), seed=st.integers(0, 9))
def test_what_lacks_hangs_on_no_model(label: str, codes: list[int], seed: int) -> None:
    """A simulation knows by the labels what a hospital tells by its sums, in a round as in the last one."""
    study, code = judging(label), np.array(codes, dtype=float)
    if label == "binary":
        code = np.minimum(code, 1)
    elif label == "time-to-event":
        code = survival.joined(1 + code // 2, code % 2 == 0)
    score, nobody = np.random.default_rng(seed).random(len(code)), np.zeros((len(code), 0), dtype=bool)
    for kind in ("TRAIN", "EVALUATE"):
        told = {f"metrics/{name}": array for name, array in evaluation.sums(study, kind, score, code, nobody).items()}
        assert absence.of(study, told) == absence.of_held_out(study, code)


@settings(max_examples=40)
@given(
    lacking=st.lists(st.sets(st.sampled_from(["age", "bmi"])), min_size=3, max_size=6),
    fewest=st.integers(3, 4), more=st.integers(0, 2),
)  # fmt: skip
def test_whoever_falls_silent_enough_hospitals_have_something_of_what_is_summed(
    lacking: list[set[str]], fewest: int, more: int
) -> None:
    """And nothing is withheld that any sum that may be opened has enough hospitals for."""
    least = fewest + more
    assume(least <= len(lacking))
    hidden = absence.withheld(lacking, least, fewest)
    sums = [over for size in range(least, len(lacking) + 1) for over in combinations(lacking, size)]
    for name in ("age", "bmi"):
        assert (name in hidden) == any(sum(name not in names for names in over) < fewest for over in sums)


def features(**prepare: Any) -> Study:
    """Two numbers and a category, of which a hospital may lack values."""
    base = prepared().model_dump(mode="json")
    age = base["contract"]["features"][0]
    side = {
        "id": "side",
        "meaning": "side",
        "type": "category",
        "missing": "allowed",
        "categories": {"l": "l", "r": "r"},
    }
    made = [age, {**age, "id": "weight"}, side]
    asked = {"missing": "impute", "hide_below": 5, **prepare}
    return Study.model_validate(base | {"contract": {**base["contract"], "features": made}, "prepare": asked})


@pytest.mark.parametrize("prepare", [{}, {"numbers": "standardise"}, {"bins": {"age": 4}}])
def test_a_feature_that_few_have_at_one_hospital_is_prepared_by_nobody(prepare: dict[str, Any]) -> None:
    """Four patients with a value are hidden, and zeros stand in their place: what the curious one has left is the
    number, the sum and the squares of the third. So of that feature nothing is told, and nothing is learned.
    """
    study, rng = features(**prepare), np.random.default_rng(1)
    columns = [{name: rng.integers(18, 101, n).astype(float) for name in ("age", "weight")} for n in SIZES]
    for here in columns:
        here["side"] = rng.integers(0, 2, here["age"].size).astype(float)
    columns[1]["age"][4:] = np.nan
    parts = [{"prepare": preparation.statistics(study, here)} for here in columns]
    sums = preparation.sums(study)
    of = {name: places for name, _, places in preparation.parts(study)}
    age = of.pop("age")
    leak = of_others(parts, sums)["prepare"]
    np.testing.assert_allclose(leak[age], parts[2]["prepare"][age], rtol=1e-9, err_msg="the leak")
    said = [absence.of(study, part) for part in parts]
    assert said == [(), ("age",), ()]
    blank = [dict(absence.blanked(study, part, absence.withheld(said, 3, 3))) for part in parts]
    left = of_others(blank, sums)["prepare"]
    assert not np.any(left[age]) and all(np.array_equal(left[part], leak[part]) for part in of.values())
    total = np.sum([part["prepare"] for part in blank], axis=0)
    learned = preparation.learned(study, total, float(sum(SIZES)))
    assert (learned["prepare/centre"][0], learned["prepare/spread"][0]) == (59, 41), "the contract's range"
    both = np.concatenate([here["weight"] for here in columns])
    assert learned["prepare/fill"][0] == 59 and learned["prepare/fill"][1] == pytest.approx(both.mean())


KEPT = ("to-harmonise-kind", "to-harmonise-sex")
"""Of what is kept the single codes are not looked for: of `kind` a hospital may lack one of three."""


def harmonising(**prepare: Any) -> tuple[Study, list[dict[str, Floats]]]:
    """A study that harmonises two numbers, but for a sex and a kind; and columns of three hospitals."""
    base, rng = prepared().model_dump(mode="json"), np.random.default_rng(3)
    number = {**base["contract"]["features"][0], "missing": "forbidden"}
    codes = {"type": "category", "missing": "forbidden"}
    made = [{**number, "id": name} for name in ("age", "weight")]
    made += [{**codes, "id": "sex", "meaning": "sex", "categories": {"f": "f", "m": "m", "x": "nobody has it"}}]
    made += [{**codes, "id": "kind", "meaning": "kind", "categories": {"a": "a", "b": "b", "c": "c"}}]
    asked = {"harmonise": {"numbers": ["age", "weight"], "keep": ["sex", "kind"]}, "hide_below": 5, **prepare}
    study = Study.model_validate(base | {"contract": {**base["contract"], "features": made}, "prepare": asked})
    columns = [
        {name: rng.integers(18, 101, n).astype(float) for name in ("age", "weight")}
        | {"sex": rng.integers(0, 2, n).astype(float), "kind": rng.integers(0, 3, n).astype(float)}
        for n in SIZES
    ]
    return study, columns


@pytest.mark.parametrize(
    ("changes", "lacks"),
    [
        ({"sex": 4}, ("to-harmonise", "to-harmonise-age", *KEPT, "to-harmonise-weight")),
        ({"sex": 0}, ("to-harmonise-sex",)), ({"age": 0}, ("to-harmonise-age",)),
    ],
)  # fmt: skip
def test_what_a_hospital_does_not_add_to_be_harmonised_is_of_two_and_then_of_nobody(
    changes: dict[str, int], lacks: tuple[str, ...]
) -> None:
    """Four patients with a code, and a hospital adds nothing; one code for all, and what goes with it is of the others.
    The curious one reads the number of patients of the third, its means and its squares.
    """
    study, columns = harmonising()
    for name, few in changes.items():
        columns[1][name] = (np.arange(SIZES[1]) < few) + (0.0 if name == "sex" else 40.1)
    parts = [{"prepare": preparation.statistics(study, here)} for here in columns]
    sums, places = preparation.sums(study), {name: found for name, _, found in preparation.parts(study)}
    said = [absence.of(study, part) for part in parts]
    assert said == [(), lacks, ()], "what nobody has, as a code of the contract, is of nobody"
    shown, hidden = np.unique(np.concatenate([places[name] for name in lacks])), absence.withheld(said, 3, 3)
    leak, alone = of_others(parts, sums)["prepare"], parts[2]["prepare"]
    there = [at for at in shown if alone[at] and abs(parts[1]["prepare"][at]) < 1e-9]
    assert there and np.allclose(leak[there], alone[there], rtol=1e-9), "the leak"
    blank = [dict(absence.blanked(study, part, hidden)) for part in parts]
    left = of_others(blank, sums)["prepare"]
    rest = np.setdiff1d(np.arange(left.size), shown)
    assert not np.any(left[shown]) and np.array_equal(left[rest], leak[rest])
    total = np.sum([part["prepare"] for part in blank], axis=0)
    learned = preparation.learned(study, total, float(sum(SIZES)))
    assert all(np.all(np.isfinite(array)) for array in learned.values())
    slopes = learned["prepare/slopes"].reshape(4, 2)
    if "to-harmonise" in lacks:
        assert not learned["prepare/varies"].any() and not slopes.any(), "numbers stay as they are"
    else:
        assert list(learned["prepare/varies"]) == [0.0 if "age" in changes else 1.0, 1.0]
        assert bool(slopes[0, 1]) is ("sex" not in changes) and slopes[2, 1], "kind is kept"
    assert absence.withheld([*said, ()], 4, 3) == frozenset()


def test_of_a_category_of_which_nobody_tells_no_code_counts() -> None:
    """Else who says that it lacks the feature would have codes counted that `rare_below` hides, of a patient each."""
    study = features(rare_below=10)
    total = np.zeros(preparation.sums(study)["prepare"].length)
    assert list(preparation.learned(study, total, 100.0)["prepare/kept"]) == [0, 0]
