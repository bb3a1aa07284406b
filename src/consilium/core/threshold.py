"""How many of a cohort open a sum. Of a training process it is all of a round's machine that is needed."""


def threshold(cohort: int) -> int:
    """How many sites open a sum of a cohort of this size: t = floor(2n/3) + 1, so that two sums need more than n."""
    return 2 * cohort // 3 + 1
