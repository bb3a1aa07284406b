"""Codes that a contract's records are of, and the columns that views and queries give of them."""

from consilium.core.contract import Contract
from consilium.core.errors import StudyInvalid

COLUMNS = ("patient", "system", "code", "taken", "value", "unit")
"""What view and query give, one row per record: as `records` of a mapping wants them."""
CODED = (*COLUMNS, "value_system", "value_code")
"""The same, of a contract with categories made of records."""
Code = tuple[str, str]
"""A system and a code."""


def codes_of(contract: Contract, kind: str = "") -> list[Code]:
    """Codes of records of a kind; of all. Raises: StudyInvalid: there are none at all."""
    of = [one for one in contract.features if kind in ("", one.recorded or "observation")]
    found = sorted({(one.system, one.code) for feature in of for one in feature.codes})
    if not found and not kind:
        raise StudyInvalid("no feature of this contract is made of records", "give features `codes` and a `window`")
    return found


def values_of(contract: Contract) -> list[Code]:
    """Codes of values, of which the contract's categories are made."""
    made = (several for feature in contract.features for several in feature.values.values())
    return sorted({(one.system, one.code) for several in made for one in several})
