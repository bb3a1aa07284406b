"""A sum of fractions tells their denominators: what a hospital adds is by no number that only it knows.

A curious hospital takes its own part off the sum that it computes anew, and knows how many patients are left. Of three
hospitals, two are unknown; it tries each way to divide those patients among them.
"""

from dataclasses import replace

import numpy as np
import pytest

from consilium.algorithms import concordance, evaluation, peto
from consilium.core import survival
from consilium.core.study import Study
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
    of = Study.model_validate(TIME.model_dump() | {"evaluation": {"figures": "headline"}})
    sent = [part.sums(of) for part in parts]
    left, unsure = of_others([np.array([one["pairs"][0], one["concordant"][0]]) for one in sent])
    assert SIZES[1:] not in divided(left, unsure)
    for name in concordance.SUMS:
        whole = np.sum([one[name] for one in sent]) * concordance.PARTS
        assert whole == np.round(whole), "multiples of one part for all"


def stays(n: int, seed: int) -> Patients:
    """All of whom have the event, as at the end of a stay, and no two of them at once."""
    part = times(n, seed)
    return replace(part, label=1.0 + np.argsort(np.argsort(np.abs(part.label), kind="stable")))


def test_numbers_of_pairs_do_not_tell_numbers_of_patients() -> None:
    """Where all have the event there are n (n - 1) / 2 of them; by the least power of two above n, as they once were
    sent, two hospitals' sum still tells both n. By the others of each patient they are half of n."""
    parts = [stays(n, seed) for seed, n in enumerate(SIZES)]

    def of_pairs(n: int) -> float:
        return n * (n - 1) / 2 / (1 << (n - 1).bit_length())

    left, unsure = of_others([by(1 << (n - 1).bit_length(), part) for n, part in zip(SIZES, parts, strict=True)])
    patients = sum(SIZES[1:])
    ways = [(n, patients - n) for n in range(1, patients // 2 + 1)]
    found = [way for way in ways if abs(sum(map(of_pairs, way)) - left[0]) < unsure]
    assert SIZES[1:] in found and len(found) < 3, "the leak"
    sent = [part.sums(TIME) for part in parts]
    assert not {"by_cells", "exact"} & {name.rpartition("/")[2] for name in sent[0]}, "pairs are told by patient alone"
    for part, one in zip(SIZES, sent, strict=True):
        assert (one["pairs"][0], one["both"][0]) == (part / 2, part), "no more than n tells"
        assert one["by_patient"][[0, 3, 4]].sum() == pytest.approx(part / 2, abs=3 / concordance.PARTS)


def last(n: int) -> Floats:
    """What the excess of a group goes by, where its one patient outlives all others, whose hazards are the same."""
    label, last = survival.joined(np.arange(1.0, n + 1), np.ones(n, dtype=bool)), np.arange(n) == n - 1
    found = peto.sums(np.ones(n), label, last[:, None])
    return np.concatenate([found[name] for name in peto.PARTS])


def test_what_the_excess_of_a_group_goes_by_hardly_tells_numbers_of_patients() -> None:
    """Equal hazards make fractions by how many are observed: who knows even which patient it is tries all divisions."""
    patients = sum(SIZES[1:])
    known = {n: last(n) for n in range(200, patients - 199)}
    ways = [(n, patients - n) for n in range(200, patients // 2 + 1)]

    def alone(parts: Floats) -> float:
        """In what share of the divisions the sum has no other one."""
        sent = {n: np.round(each * parts) for n, each in known.items()}
        left = np.array([sent[one] + sent[other] for one, other in ways])
        return float(np.sum(np.unique(left, axis=0, return_counts=True)[1] == 1)) / len(ways)

    names = np.repeat(list(peto.PARTS), [1, 1, 1, peto.MOVED])
    assert alone(np.full(len(names), float(concordance.PARTS))) > 0.9, "the leak"
    assert alone(np.array([float(peto.PARTS[name]) for name in names])) < 0.15
    one = times(90, 1).sums(TIME)
    for name, parts in peto.PARTS.items():
        assert np.array_equal(one[f"groups/{name}"] * parts, np.round(one[f"groups/{name}"] * parts)), name


@pytest.mark.parametrize("recipe", ["secure_sum", "plain"])
def test_pairs_within_hospitals_are_summed_where_each_one_s_are_seen_and_nowhere_else(recipe: str) -> None:
    of = study(groups=[])
    of = of.model_copy(update={"privacy": of.privacy.model_copy(update={"recipe": recipe})})
    assert (evaluation.STRATA in Patients.drawn(200, 1).sums(of)) == (recipe == "plain")
    assert (evaluation.STRATA in evaluation.nothing(of, "EVALUATE")) == (recipe == "plain")
    assert evaluation.STRATA not in evaluation.nothing(TIME, "EVALUATE")
