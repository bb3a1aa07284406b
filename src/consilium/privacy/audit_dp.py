"""An audit of epsilon from one run: what guesses about planted canaries prove against a claim.

Source: Steinke, Nasr and Jagielski, NeurIPS 2023 (one training run). Of m canaries, each was in by a fair coin; an
auditor guesses r of them, v rightly. A mechanism with (epsilon, delta) seldom lets that many be right.
"""

import math
from typing import Any

import numpy as np

from consilium.core.errors import Invalid


def lower_bound(canaries: int, guesses: int, right: int, delta: float, significance: float = 0.05) -> float:
    """The largest epsilon that these guesses refute, with an error of at most `significance`; 0: they refute none.

    Raises: Invalid: the counts contradict one another.
    """
    if not (0 <= right <= guesses <= canaries and canaries > 0 and 0 <= delta < 1 and 0 < significance < 1):
        raise Invalid(f"{right} of {guesses} guesses about {canaries} canaries are no audit", "correct the counts")
    low, high = 0.0, 60.0
    if _chance(canaries, guesses, right, delta, low) > significance:
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2
        refuted = _chance(canaries, guesses, right, delta, middle) <= significance
        low, high = (middle, high) if refuted else (low, middle)
    return low


def _chance(canaries: int, guesses: int, right: int, delta: float, epsilon: float) -> float:
    """Upper bound on the probability of so many right guesses under (epsilon, delta)."""
    p = 1 / (1 + math.exp(-epsilon))
    mass = np.exp(_log_binomial(guesses, p))
    tail = np.concatenate([np.cumsum(mass[::-1])[::-1], [0.0]])  # tail[k] = P[at least k]
    beyond = [(tail[right - i] - tail[right]) / i for i in range(1, right + 1)]
    return float(min(tail[right] + 2 * canaries * delta * max(beyond, default=0.0), 1.0))


def _log_binomial(n: int, p: float) -> Any:
    k = np.arange(n + 1)
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))]) if n else np.zeros(1)
    q = max(1 - p, 1e-300)
    return factorial[n] - factorial[k] - factorial[n - k] + k * math.log(p) + (n - k) * math.log(q)
