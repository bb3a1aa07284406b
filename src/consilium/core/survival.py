"""A time and whether it ended with the event, as one number: the label of a patient of a study of survival.

The time stands with a minus where observation ended without the event (censored), and a zero keeps its sign. So a label
is one number per patient, whatever its type.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def joined(time: Floats, event: Flags) -> Floats:
    """Labels (n,) of times (n,), 0 or more, and whether each ended with the event (n,).

    >>> joined(np.array([3.0, 0.0]), np.array([True, False]))
    array([ 3., -0.])
    """
    return np.copysign(time, np.where(event, 1.0, -1.0))


def times(label: Floats) -> Floats:
    """How long each patient was observed."""
    return np.abs(label)


def events(label: Floats) -> Flags:
    """Whether each had the event at the end of that time."""
    found: Flags = ~np.signbit(label)
    return found
