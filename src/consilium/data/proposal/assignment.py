"""Who gets which: each row at most one column, so that the sum of what they are worth is largest.

Source: Kuhn 1955 (the Hungarian method), by shortest augmenting paths as in Jonker and Volgenant 1987.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def assigned(worth: Floats) -> list[int | None]:
    """For each row the column that it gets, or None where no column that is left is worth more than nothing.

    Args:    worth: (rows, columns), finite; what is not above 0 is never given.

    >>> assigned(np.array([[0.9, 0.8], [0.8, 0.1]]))
    [1, 0]
    """
    rows, columns = worth.shape
    cost = np.concatenate([-np.maximum(worth, 0.0), np.zeros((rows, rows))], axis=1)  # beside: to get none
    whole = rows + columns
    of_row, of_column = np.zeros(rows + 1), np.zeros(whole + 1)
    owner, before = np.zeros(whole + 1, dtype=int), np.zeros(whole + 1, dtype=int)
    for row in range(1, rows + 1):
        owner[0], at = row, 0
        nearest, seen = np.full(whole + 1, np.inf), np.zeros(whole + 1, dtype=bool)
        while owner[at]:
            seen[at] = True
            reach = cost[owner[at] - 1] - of_row[owner[at]] - of_column[1:]
            nearer = ~seen[1:] & (reach < nearest[1:])
            nearest[1:][nearer], before[1:][nearer] = reach[nearer], at
            free = np.where(seen, np.inf, nearest)
            following = int(np.argmin(free))
            step = free[following]
            of_row[owner[seen]] += step
            of_column[seen] -= step
            nearest[~seen] -= step
            at = following
        while at:
            owner[at] = owner[before[at]]
            at = int(before[at])
    found: list[int | None] = [None] * rows
    for column in range(1, columns + 1):
        row = int(owner[column])
        if row and worth[row - 1, column - 1] > 0:
            found[row - 1] = column - 1
    return found
