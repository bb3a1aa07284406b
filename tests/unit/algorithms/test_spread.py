"""A group of patients that is at one hospital is that hospital: it is not told where single ones are not shown."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consilium.algorithms import appraisal, evaluation, groups
from consilium.algorithms.groups import Spread
from consilium.coordinator.perform import judged
from consilium.core.errors import Invalid
from consilium.core.study import Study
from unit.algorithms.judging import Patients, added, study

AGES = {"feature": "age", "edges": [40, 65]}
STUDY = study(groups=[{"feature": "sex"}, AGES])
BANDS = {"below 40": 30.0, "40 to 65": 50.0, "65 and above": 80.0}
SEXES = {"female": 0.0, "male": 1.0}
NOWHERE = "none of these"


def hospital(seed: int, **counts: tuple[int, ...]) -> Patients:
    """Patients of whom so many are in each group of a feature, in its order, and the others in none."""
    n = max(map(sum, counts.values()))
    drawn = Patients.drawn(n, seed)
    drawn.label[:] = np.arange(n) % 2
    for feature, values in (("age", BANDS), ("sex", SEXES)):
        given = counts.get(feature, (0,) * len(values))
        column = np.repeat([*values.values(), np.nan], [*given, n - sum(given)])
        drawn.columns[feature] = column
    return drawn


def told(hospitals: list[Patients], of: Study = STUDY, least: int | None = None) -> appraisal.Json:
    sums = added([one.sums(of) for one in hospitals])
    found = judged(of, {f"metrics/{name}": array for name, array in sums.items()}, {}, len(hospitals), least)
    assert found is not None
    return found


def spread(counts: np.ndarray) -> bool:
    """Whether figures of so many patients of each hospital are of no hospital more than of two others; or of nobody."""
    large = int(np.sum(counts >= 10))
    return not counts.any() or large >= 3 or (large == 0 and int(np.sum(counts > 0)) >= 3)


def test_a_band_of_age_that_one_hospital_has_is_not_told_nor_what_it_follows_from() -> None:
    found = told([hospital(at, age=(300, 0, 0) if at == 0 else (0, 200, 100)) for at in range(4)])
    ages = found["groups"]["age"]
    assert ages["below 40"]["note"] == appraisal.FEW_HOSPITALS.format(3)
    assert ages["below 40"]["n"] is None and ages["below 40"]["confusion"] is None and not ages["below 40"]["figures"]
    assert ages["65 and above"]["note"] == appraisal.FOLLOWS, "else the young are the whole without all others"
    assert ages["40 to 65"]["n"] == 600
    plain = appraisal.judged(STUDY, added([hospital(at, age=(300, 0, 0)).sums(STUDY) for at in range(1)]), {})
    assert plain["groups"]["age"]["below 40"]["n"] == 300, "where each hospital is shown, nothing of it is hidden so"


def test_a_group_is_told_of_as_many_hospitals_as_the_strictest_of_them_asks_for() -> None:
    """Its policy may say more than the study; a lower number changes nothing."""
    hospitals = [hospital(at, age=(100, 100, 100) if at < 3 else (0, 200, 100)) for at in range(5)]
    for least, said in ((None, True), (2, True), (3, True), (4, False)):
        assert bool(told(hospitals, least=least)["groups"]["age"]["below 40"]["figures"]) is said


def test_nor_a_category_that_two_hospitals_have_beside_strays_at_others() -> None:
    found = told([hospital(at, sex=(90, 60) if at < 2 else (1, 150)) for at in range(5)])
    assert found["groups"]["sex"]["female"]["figures"] == {} and found["groups"]["sex"]["male"]["figures"] == {}
    assert not [gap for gap in found["gaps"] if gap["feature"] == "sex"]


def test_a_gap_does_not_tell_of_a_group_beside_patients_who_are_in_none() -> None:
    """Men are at one hospital; the sex of so many is unknown everywhere that the women alone tell nothing of men."""
    found = told([hospital(at, sex=(60, 60) if at == 0 else (60, 0), age=(150, 0, 0)) for at in range(4)])
    assert found["groups"]["sex"]["female"]["figures"] and not found["groups"]["sex"]["male"]["figures"]
    assert {gap["value"] for gap in found["gaps"] if gap["feature"] == "sex"} == {None}


def test_a_rare_group_that_no_hospital_has_ten_of_is_told() -> None:
    found = told([hospital(at, sex=(6, 60)) for at in range(8)])
    assert found["groups"]["sex"]["female"]["n"] == 48 and found["groups"]["sex"]["male"]["n"] == 480
    assert None not in {gap["value"] for gap in found["gaps"] if (gap["feature"], gap["name"]) == ("sex", "auroc")}


SIZES = st.sampled_from([0, 0, 1, 9, 11, 25, 40])
OF_ONE = st.tuples(SIZES, SIZES, SIZES, SIZES)


@settings(max_examples=40, deadline=None)
@given(st.lists(OF_ONE, min_size=3, max_size=6))
@example([(40, 25, 0, 0), (0, 25, 0, 0), (0, 25, 25, 0), (0, 0, 25, 0)])
def test_what_is_told_and_what_follows_is_of_three_hospitals_and_more(sizes: list[tuple[int, ...]]) -> None:
    """Each group, all that are left unsaid, and with a gap the groups among these and who is in none, each apart."""
    counts, names = np.array(sizes), list(BANDS)
    large, n = (dict(zip(names, of.sum(axis=0).tolist(), strict=False)) for of in (counts >= 10, counts))
    there = Spread(3, large, n, (np.sum(counts[:, 3] >= 10), counts[:, 3].sum()))
    shown = groups.apart({name: (n[name],) for name in names}, (counts.sum(),), 10, there)
    unsaid = [at for at, name in enumerate(names) if name not in shown]
    assert all(spread(counts[:, names.index(name)]) for name in shown)
    assert not shown or spread(counts[:, [*unsaid, 3]].sum(axis=1))
    if there.compared(shown):
        assert spread(counts[:, 3]) and spread(counts[:, unsaid].sum(axis=1))


def test_of_several_left_unsaid_one_must_be_at_enough_hospitals() -> None:
    """Ten of each at another hospital are together at three of them; but that nobody has told."""
    few = Spread(3, {"a": 2, "b": 2, "c": 4}, {"a": 80, "b": 80, "c": 200}, (0, 0))
    assert not few.unsaid(["c"]) and few.unsaid(["a", "b"]) and few.unsaid(["a", "b", "c"])


@pytest.mark.parametrize("of", ["binary", "number", "count", "time-to-event"])
def test_a_hospital_that_says_otherwise_of_itself_is_refused(of: str) -> None:
    asked = study(of)
    one = hospital(1, age=(30, 9, 10), sex=(12, 7))
    one.label[:] = 60 + one.label
    if of in ("binary", "time-to-event"):
        one.label[:] = np.arange(len(one.label)) % 2 + (0 if of == "binary" else 5)
    sums = one.sums(asked)
    evaluation.check(asked, "EVALUATE", sums)
    assert evaluation.nothing(asked, "EVALUATE")["hospitals"].shape == sums["hospitals"].shape
    for at in (0, -1):
        here = sums["hospitals"].copy()
        here[at] = 2
        with pytest.raises(Invalid, match="not sums over patients"):
            evaluation.check(asked, "EVALUATE", {**sums, "hospitals": here})
    assert "hospitals" not in evaluation.nothing(asked.model_copy(update={"privacy": plain(asked)}), "EVALUATE")


def plain(of: Study) -> object:
    return of.privacy.model_copy(update={"recipe": "plain"})
