"""Counts of patients as they may be shown: numbers, ``<10`` (1 to 9) or ``hidden`` (any number)."""

MIN_CELL = 10
Count = int | str


def hidden(count: int) -> Count:
    """A count, or ``<10`` for 1 to 9."""
    return f"<{MIN_CELL}" if 0 < count < MIN_CELL else count


def part(count: int, whole: int, shown: Count) -> Count:
    """What may be shown of a part of a count: nothing from which the rest follows, where the rest is small."""
    if 0 < count < MIN_CELL:
        return f"<{MIN_CELL}"
    return count if shown == whole and not 0 < whole - count < MIN_CELL else "hidden"
