"""Which patients are held out, or in which fold: by a hash of the patient, the same in every run and release."""

import hashlib

WHOLE = 2**64
VALIDATION = 0.2
"""Share of the training patients who choose among models, where a study asks for that."""


def held_out(patient: str, seed: int, fraction: float) -> bool:
    """Whether `patient` (its key in the hospital's table) is a test patient; true for about `fraction` of all."""
    return _place(f"{seed}:{patient}") < fraction * WHOLE


def fold(patient: str, folds: int) -> int:
    """In which of `folds` parts `patient` is, counted from 0; about as many are in each.

    No study chooses others: what sums with and without a part differ by would be patients of its choice. Each of five
    parts is two of ten.
    """
    return _place(f"fold:{patient}") * folds // WHOLE


def validates(patient: str) -> bool:
    """Whether `patient` is a validation patient, if it is one for training; true for about a fifth of all.

    No study chooses another fifth: what sums over the others differ by would be patients of its choice.
    """
    return _place(f"validation:{patient}") < VALIDATION * WHOLE


def _place(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
