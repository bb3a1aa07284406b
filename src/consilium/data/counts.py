"""Counts of patients as they may be shown: numbers, ``<10`` (1 to 9) or ``hidden`` (any number)."""

MIN_CELL = 10
Count = int | str


def hidden(count: int) -> Count:
    """A count, or ``<10`` for 1 to 9."""
    return f"<{MIN_CELL}" if 0 < count < MIN_CELL else count


def parts(counts: list[int], shown: Count) -> list[Count]:
    """What may be shown of the parts of a count that is shown so: nothing from which a small sum of them follows."""
    if isinstance(shown, int):
        found = shown_counts(counts)
        for _, index in sorted((count, index) for index, count in enumerate(counts) if count >= MIN_CELL):
            if 0 < sum(one for one, told in zip(counts, found, strict=True) if isinstance(told, str)) < MIN_CELL:
                found[index] = "hidden"
        return found
    return [0 if not count else hidden(count) if count < MIN_CELL else "hidden" for count in counts]


def part(count: int, whole: int, shown: Count) -> Count:
    """What may be shown of a part of a count: nothing from which the rest follows, where the rest is small."""
    if 0 < count < MIN_CELL:
        return f"<{MIN_CELL}"
    return count if shown == whole and not 0 < whole - count < MIN_CELL else "hidden"


def shown_counts(counts: list[int], whole: int | None = None) -> list[Count]:
    """What may be shown of counts whose sum is known.

    Args:    whole: index of the count that is the complement of all others together, if one is.
    """
    total = sum(counts)
    if total < MIN_CELL:
        return [hidden(count) for count in counts]
    small = {index for index, count in enumerate(counts) if 0 < count < MIN_CELL}
    away = set(small)
    if whole is not None and 0 < total - counts[whole] < MIN_CELL:
        away.add(whole)
    others = sorted((count, index) for index, count in enumerate(counts) if count and index not in away)
    while small and _determined(counts, small, away):
        if not others:
            return ["hidden"] * len(counts)
        away.add(others.pop(0)[1])
    return [
        count if index not in away else f"<{MIN_CELL}" if index in small else "hidden"
        for index, count in enumerate(counts)
    ]


def _determined(counts: list[int], small: set[int], away: set[int]) -> bool:
    """Whether the small counts follow from the sum of what is not shown: all must be 1, or all must be 9."""
    rest, large = sum(counts[index] for index in away), len(away) - len(small)
    least, most = len(small), (MIN_CELL - 1) * len(small)
    if large:  # each of them is at least MIN_CELL
        return rest - MIN_CELL * large == least
    return least == 1 or rest in (least, most)
