"""Which patients are held out: by a hash of the patient, so that every run and every release holds out the same."""

import hashlib


def held_out(patient: str, seed: int, fraction: float) -> bool:
    """Whether `patient` (its key in the hospital's table) is a test patient; true for about `fraction` of all."""
    hashed = hashlib.sha256(f"{seed}:{patient}".encode()).digest()
    return int.from_bytes(hashed[:8], "big") < fraction * 2**64
