"""Held-out patients who stand among the training patients as well, under another key.

Patients are held out by their key, so that a table that has one of them twice, under two keys, may train on who is to
be judged. Rows that are equal in all inputs and in the outcome tell. Where inputs are few, patients who are alike are
equal, too: with training patients of other hospitals as often as with those of their own.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Copies:
    """Of `held_out` patients `copies` equal one of `training` patients of their hospital, and `elsewhere` one of the
    `others` that train at other hospitals."""

    held_out: int
    copies: int
    training: int
    elsewhere: int
    others: int


def copies(x: Floats, y: Floats, test: npt.NDArray[np.bool_], where: npt.NDArray[np.integer]) -> dict[int, Copies]:
    """How many held-out patients are training patients, by hospital.

    Args:    x: (n, p), y: (n,) or (n, k).   test: (n,) held out.   where: (n,) number of the hospital, from 0.

    >>> x, y = np.array([[1.0], [1.0], [2.0]]), np.array([0.0, 0.0, 1.0])
    >>> copies(x, y, np.array([False, True, True]), np.array([0, 0, 0]))[0]
    Copies(held_out=2, copies=1, training=1, elsewhere=0, others=0)
    """
    whole = np.ascontiguousarray(np.column_stack([x, y]) + 0.0)  # of two zeros one
    _, row = np.unique(whole.view(np.dtype((np.void, whole.itemsize * whole.shape[1]))).ravel(), return_inverse=True)
    _, pair = np.unique(row.astype(np.int64) * (int(where.max(initial=0)) + 1) + where, return_inverse=True)
    here, everywhere = (np.bincount(of[~test], minlength=of.max(initial=-1) + 1)[of] for of in (pair, row))
    own, other = test & (here > 0), test & (everywhere > here)
    total, found = int((~test).sum()), {}
    for at in np.unique(where):
        mine = where == at
        training = int((mine & ~test).sum())
        found[int(at)] = Copies(
            int((mine & test).sum()), int((mine & own).sum()), training, int((mine & other).sum()), total - training
        )
    return found
