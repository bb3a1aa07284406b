"""Newton's step under an L1 penalty: the least of a parabola and of absolute values, to the same bits everywhere.

Proximal Newton with coordinate descent: Friedman, Hastie and Tibshirani, J. Stat. Softw. 2010, 33(1). Once it has found
which parameters are zero, and the signs of the others, these are solved for exactly.
"""

import numpy as np

from consilium.algorithms import cholesky
from consilium.core.tensors import Array, Vector

SWEEPS, TRIES = 20, 100
"""So many sweeps over all coordinates come before each try to solve for those that are not zero."""
NEAR = 1e-10
"""By so much, relative to its penalty, a slope may be larger where a parameter is zero: sums are rounded."""


def step(hessian: Array, gradient: Vector, at: Vector, penalty: Vector) -> Vector:
    """s (d,) with the least g s + s'H s/2 + sum of penalty |at + s|; where the diagonal of H is zero, s is.

    Args:    hessian: (d, d).   gradient, at: (d,).   penalty: (d,) 0 or more; 0 where there is none.
    """
    used = np.diag(hessian) > 0
    now, slope = np.array(at), np.array(gradient)
    for _ in range(TRIES):
        for _ in range(SWEEPS):
            for k in np.flatnonzero(used):
                size = hessian[k, k]
                new = _shrunk(now[k] - slope[k] / size, penalty[k] / size)
                if new != now[k]:
                    slope = slope + hessian[:, k] * (new - now[k])
                    now[k] = new
        found = _exactly(hessian, gradient, at, penalty, now, used)
        if found is not None:
            return found - at
    return now - at


def _shrunk(value: float, by: float) -> float:
    return value - by if value > by else value + by if value < -by else 0.0


def _exactly(h: Array, gradient: Vector, at: Vector, penalty: Vector, now: Vector, used: Array) -> Vector | None:
    """The least where zeros and signs are those of `now`; None if they are others there, or it is not one point."""
    free = used & ((penalty == 0) | (now != 0))
    signs = np.where(penalty > 0, np.sign(now), 0.0)
    slope = _slope(h, gradient, np.where(used & ~free, -at, 0.0))
    lower, passed = cholesky.factor(h, ~free)
    if np.any(passed != ~free):
        return None
    found = np.where(free, at - cholesky.solve(lower, passed, slope + penalty * signs), np.where(used, 0.0, at))
    rest = np.abs(_slope(h, gradient, found - at))
    same = np.all((np.sign(found) == signs) | (penalty == 0) | ~free)
    return found if same and np.all(free | ~used | (rest <= penalty * (1 + NEAR))) else None


def _slope(h: Array, gradient: Vector, moved: Vector) -> Vector:
    found = np.array(gradient)
    for k in np.flatnonzero(moved):
        found = found + h[:, k] * moved[k]
    return found
