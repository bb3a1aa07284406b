"""A sum of fractions tells their denominators: what a hospital adds is by no number that only it knows.

A curious hospital takes its own part off the sum that it computes anew, and knows how many patients are left. Of three
hospitals, two are unknown; it tries each way to divide those patients among them.
"""

import numpy as np
import pytest

from consilium.algorithms import concordance, evaluation
from consilium.core import survival
from consilium.core.survival import Floats
from consilium.privacy.quantize import Encoding
from unit.algorithms.judging import Patients, study
from unit.algorithms.test_worth_of_numbers import TIME, times

SIZES = (640, 409, 723)
SECURE = Encoding(64, 100_000.0, 3)


def of_others(parts: list[Floats]) -> tuple[Floats, float]:
    """What the sum says of the others to the first one; and how far it may be from it, of what is encoded."""
    total = SECURE.decode(np.sum([SECURE.encode(part)[0] for part in parts], axis=0))
    return total - parts[0], 4 / SECURE.scale


def divided(left: Floats, unsure: float) -> list[tuple[int, int]]:
    """Numbers of patients of the two, of which this can be a sum of halves of whole numbers over them."""
    found, patients = [], SIZES[1] + SIZES[2]
    for one in range(20, patients // 2 + 1):
        whole = 2 * left * one * (patients - one)
        if np.all(np.abs(whole - np.round(whole)) < 2 * unsure * one * (patients - one)):
            found.append((one, patients - one))
    return found


def by(size: int, part: Patients) -> Floats:
    """Pairs of a hospital and those in order, by a size."""
    counted, agreed = concordance.compared(part.score, concordance.ranks(part.label), survival.events(part.label))
    return np.array([counted.sum(), agreed.sum()]) / 2 / size


def test_pairs_by_the_number_of_patients_tell_that_number_and_those_that_are_sent_do_not() -> None:
    parts = [times(n, seed) for seed, n in enumerate(SIZES)]
    assert divided(*of_others([by(len(part.label), part) for part in parts])) == [SIZES[1:]], "the leak"
    sent = [concordance.sums(part.score, part.label) for part in parts]
    assert SIZES[1:] not in divided(*of_others([np.array([one["pairs"][0], one["concordant"][0]]) for one in sent]))
    for name, part in (
        ("pairs", 2048),
        ("concordant", 4096),
        ("squares", 4 << 20),
        ("products", 4 << 20),
        ("both", 1 << 20),
    ):
        whole = np.sum([one[name] for one in sent]) * part
        assert whole == np.round(whole), "whole numbers of one part, whoever adds them"


@pytest.mark.parametrize("recipe", ["secure_sum", "plain"])
def test_pairs_within_hospitals_are_summed_where_each_one_s_are_seen_and_nowhere_else(recipe: str) -> None:
    of = study(groups=[])
    of = of.model_copy(update={"privacy": of.privacy.model_copy(update={"recipe": recipe})})
    assert (evaluation.STRATA in Patients.drawn(200, 1).sums(of)) == (recipe == "plain")
    assert (evaluation.STRATA in evaluation.nothing(of, "EVALUATE")) == (recipe == "plain")
    assert evaluation.STRATA not in evaluation.nothing(TIME, "EVALUATE")
