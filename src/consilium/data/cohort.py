"""Which patients are held out: by a hash of the patient, so that every run and every release holds out the same."""

import hashlib

VALIDATION = 0.2
"""Share of the training patients who choose among models, where a study asks for that."""


def held_out(patient: str, seed: int, fraction: float) -> bool:
    """Whether `patient` (its key in the hospital's table) is a test patient; true for about `fraction` of all."""
    return _below(f"{seed}:{patient}", fraction)


def validates(patient: str) -> bool:
    """Whether `patient` is a validation patient, if it is one for training; true for about a fifth of all.

    No study chooses another fifth: what sums over the others differ by would be patients of its choice.
    """
    return _below(f"validation:{patient}", VALIDATION)


def _below(text: str, fraction: float) -> bool:
    hashed = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(hashed[:8], "big") < fraction * 2**64
