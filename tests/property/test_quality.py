"""Small cells stay hidden: no shown number lets a hidden one be computed by subtraction."""

import itertools
from collections import Counter

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consilium.core.study import Study
from consilium.data.base import Table
from consilium.data.contract import Column, Mapped
from consilium.data.counts import shown_counts
from consilium.data.findings import MIN_CELL, Count, hidden
from consilium.data.quality import Fit, check
from consilium.data.traps import Looks

counts = st.one_of(st.just(0), st.integers(1, 11), st.integers(10, 400))
cells = st.lists(counts, min_size=5, max_size=5)


def possible(shown: list[Count], total: int) -> list[set[int]]:
    """Per cell that shows `<10`: which values agree with everything that is shown, by trying them all."""
    rest = total - sum(count for count in shown if isinstance(count, int))
    small, large = shown.count(f"<{MIN_CELL}"), shown.count("hidden")
    found: list[set[int]] = [set() for _ in range(small)]
    for values in itertools.product(range(1, MIN_CELL), repeat=small):
        left = rest - sum(values)
        if left == 0 if large == 0 else left >= MIN_CELL * large:
            for known, value in zip(found, values, strict=True):
                known.add(value)
    return found


@settings(max_examples=400, deadline=None)
@given(cells, st.none() | st.integers(0, 4))
@example([300, 3, 0, 0, 0], 0)
@example([300, 1, 1, 0, 0], None)
@example([9, 9, 0, 0, 0], None)
@example([10, 1, 0, 0, 0], 0)
@example([10, 10, 1, 0, 0], None)
@example([5, 6, 0, 0, 0], 0)
def test_no_hidden_count_follows_from_the_shown_ones(cells: list[int], whole: int | None) -> None:
    shown, total = shown_counts(cells, whole), sum(cells)
    for count, told in zip(cells, shown, strict=True):
        assert told == count or isinstance(told, str)
        assert not 0 < count < MIN_CELL or isinstance(told, str), "a small count is shown"
        assert told != f"<{MIN_CELL}" or 0 < count < MIN_CELL
    if hidden(total) == total:
        for known in possible(shown, total):
            assert len(known) >= 2, (cells, shown, "a hidden count follows from the others")
    if whole is not None and total >= MIN_CELL and 0 < total - cells[whole] < MIN_CELL:
        assert isinstance(shown[whole], str), "the small rest follows from the whole"


@settings(max_examples=200, deadline=None)
@given(cells)
def test_large_counts_alone_are_all_shown(cells: list[int]) -> None:
    large = [count if count >= MIN_CELL else 0 for count in cells]
    assert shown_counts(large) == large


STUDY = {
    "consilium": 1, "name": "s", "title": "s", "purpose": {"code": "research", "text": "t", "requester": "r"},
    "contract": {
        "id": "c",
        "features": [{"id": "sex", "meaning": "sex", "type": "category", "categories": {"f": "f", "m": "m"}}],
        "label": {"id": "sick", "meaning": "sick", "type": "binary"},
    },
    "model": {"kind": "logistic"}, "rounds": 1, "quorum": 1, "privacy": {"recipe": "plain"}, "min_patients": 1,
}  # fmt: skip


def mapped(codes: dict[str, int], usable: int, missing: int, unlabelled: int, test: int) -> Mapped:
    read = usable + missing + sum(codes.values())
    unlabelled = min(unlabelled, read)
    kept = read - unlabelled
    held = np.arange(kept) < test
    label = np.arange(kept) % 2.0
    sex = Column(usable=usable, missing=missing, unmapped=Counter(codes))
    return Mapped(
        Table({"sex": np.zeros(kept)}, label, held), read, unlabelled, 0, {"sex": sex},
        Column(usable=kept, missing=unlabelled),
    )  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    st.dictionaries(st.sampled_from("ABCDE"), st.integers(1, 40), max_size=5),
    counts, counts, st.one_of(counts), counts,
)  # fmt: skip
def test_the_whole_report_gives_no_small_count_away(
    codes: dict[str, int], usable: int, missing: int, unlabelled: int, test: int
) -> None:
    given_ = mapped(codes, usable, missing, unlabelled, test)
    report = check(Study.model_validate(STUDY), given_)
    (sex,) = report.features
    rare = sum(sex_codes for code, sex_codes in codes.items() if code not in sex.unmapped)
    for code, count in sex.unmapped.items():
        if code in codes:
            assert count == codes[code] >= MIN_CELL, "a rare code is named"
    assert rare == 0 or "(rare codes)" in sex.unmapped
    if all(isinstance(cell, int) for cell in (sex.usable, sex.missing)) and sex.rows == given_.read >= MIN_CELL:
        assert rare == 0 or rare >= MIN_CELL, "the rare codes follow from rows less all others"
    # Label: usable is all that is labelled; the report's head counts the same patients.
    without = given_.without_label
    if 0 < without < MIN_CELL:
        assert not follows(report.read, report.kept, report.incomplete), "without = read - kept - incomplete"
        assert not follows(report.label.rows, report.label.usable), "without = rows - usable"
        assert isinstance(report.without_label, str) and isinstance(report.label.missing, str)
    held, training = int(given_.table.test.sum()), int((~given_.table.test).sum())
    if 0 < held < MIN_CELL or 0 < training < MIN_CELL:
        assert isinstance(report.kept, str) or report.kept == 0
    assert coverage_fits(sex) and coverage_fits(report.label)


def follows(*shown: Count) -> bool:
    return all(isinstance(count, int) for count in shown)


def coverage_fits(finding: Fit) -> bool:
    """A percentage stands beside a shown count only."""
    return finding.coverage == "hidden" or isinstance(finding.usable, int)


def test_the_worst_verdict_stands() -> None:
    """Half of the values are no numbers and a few are out of range: that is a problem, whatever comes later."""
    given_ = mapped({}, 50, 0, 0, 10)
    given_.features["sex"].not_a_number, given_.features["sex"].out_of_range = 50, 1
    report = check(Study.model_validate(STUDY), given_)
    assert report.features[0].level == "problem" and not report.usable


@settings(max_examples=80, deadline=None)
@given(counts, counts, st.tuples(counts, counts), st.tuples(counts, counts, counts), counts)
def test_no_finding_gives_a_small_count_away(
    usable: int, missing: int, outside: tuple[int, int], words: tuple[int, int, int], inside: int
) -> None:
    """Each shown count is large, and so is what is left of the shown count that it is a part of, or nothing is left."""
    number = {"id": "n", "meaning": "n", "type": "number", "unit": "1", "range": [5, 90]}
    wanted = Study.model_validate({**STUDY, "contract": {**STUDY["contract"], "features": [number]}})  # type: ignore[dict-item]
    told = Column(
        usable=usable + inside, missing=missing, out_of_range=sum(outside), not_a_number=sum(words),
        placeholders=Counter({"?": words[0]}), bounds=Counter({"<5": words[1]}),
        looks=Looks({"7": inside} if inside else {}, {"0": outside[0]}),
    )  # fmt: skip
    rows = usable + inside + missing + sum(outside) + sum(words)
    label = Column(usable=rows)
    report = check(
        wanted, Mapped(Table({}, np.arange(rows) % 2.0, np.zeros(rows, bool)), rows, 0, 0, {"n": told}, label)
    )
    (fit,) = report.features
    parts = [one.count for one in fit.findings if one.kind in ("not-a-number", "bound")]
    hiding = sum(isinstance(one, str) for one in parts)
    assert isinstance(fit.not_a_number, str) or hiding != 1, "the one that is hidden follows"
    wholes = {
        "not-a-number": fit.not_a_number,
        "bound": fit.not_a_number,
        "out-of-range": fit.out_of_range,
        "unit": fit.out_of_range,
    }
    for finding in fit.findings:
        assert not isinstance(finding.count, int) or finding.count >= MIN_CELL or finding.count == 0
        assert not finding.blocks or finding.count == "hidden" or isinstance(finding.count, int), "a small one blocks"
        whole = wholes.get(finding.kind)
        if isinstance(finding.count, int) and isinstance(whole, int):
            assert whole - finding.count == 0 or whole - finding.count >= MIN_CELL
        if finding.kind == "code-for-missing" and isinstance(finding.count, int):
            of = fit.usable if "add 7 to" in finding.remedy else fit.out_of_range
            assert isinstance(of, int) and (of == finding.count or of - finding.count >= MIN_CELL)
