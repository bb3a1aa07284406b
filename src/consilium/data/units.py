"""Units: UCUM through ucumvert and pint, with the spellings of real tables, and molar masses of common analytes."""

from functools import lru_cache
from typing import Any

from consilium.core.errors import MappingInvalid
from consilium.data import usual

ALIASES = {
    "mEq/L": "meq/L", "mmHg": "mm[Hg]", "mm Hg": "mm[Hg]", "bpm": "/min", "K/uL": "10*3/uL", "years": "a", "year": "a",
    "yr": "a", "C": "Cel", "F": "[degF]", "degC": "Cel", "degF": "[degF]", "µm": "um", "μm": "um", "µmol/L": "umol/L",
    "°C": "Cel", "°F": "[degF]", "percent": "%",
}  # fmt: skip
MOLAR_MASS = {
    "glucose": 180.16, "creatinine": 113.12, "bilirubin": 584.66, "urea": 60.06, "bun": 28.01, "cholesterol": 386.65,
    "calcium": 40.08, "lactate": 90.08, "triglycerides": 885.4, "uric acid": 168.11,
}  # fmt: skip
"""g/mol; for BUN the two nitrogen atoms of urea count."""
SUCH_AS = "as in UCUM, such as mg/dL, mm[Hg], Cel, a (years), or 1 for a pure number"


@lru_cache(maxsize=1)
def _registry() -> Any:
    from ucumvert import PintUcumRegistry

    return PintUcumRegistry()


@lru_cache(maxsize=1)
def _grammar() -> Any:
    from ucumvert import get_ucum_parser

    return get_ucum_parser()


@lru_cache(maxsize=512)
def fault(unit: str) -> str:
    """Why `unit` is no UCUM unit, with the remedy; empty where it is one.

    A contract is read by many hospitals: spellings of real tables, which a mapping may have, are refused in it. So is
    C, which is the coulomb in UCUM, and in tables a temperature.

    >>> fault("mm[Hg]"), fault("mmHg")
    ('', 'must be a UCUM unit; write mm[Hg]')
    """
    if unit in ALIASES:
        return f"must be a UCUM unit; write {ALIASES[unit]}"
    if unit in usual.UNITS:
        return ""
    from ucumvert import InvalidUcumError, parse_ucum

    try:
        parse_ucum(unit, _grammar())
    except InvalidUcumError:
        return f"must be a UCUM unit; write it {SUCH_AS}"
    return ""


@lru_cache(maxsize=512)
def conversion(unit: str, wanted: str, analyte: str | None) -> tuple[float, float]:
    """Factor and offset: value in `wanted` = factor * value in `unit` + offset.

    Raises: MappingInvalid: a unit is not UCUM, or one cannot be converted into the other.
    """
    source, target = ALIASES.get(unit, unit), ALIASES.get(wanted, wanted)
    if source == target:
        return 1.0, 0.0
    known = usual.lines(source, target)
    try:
        return _line(source, target, analyte) if known is None else _of(known, analyte)
    except _Apart as error:
        raise MappingInvalid(
            f"{unit!r} cannot be converted into {wanted!r}",
            f"check the unit; between mass and amount name the `analyte`, one of {', '.join(MOLAR_MASS)}",
        ) from error


@lru_cache(maxsize=8192)
def kin(unit: str, wanted: str) -> str:
    """How two units belong together: `same` dimension, `molar` where one is of mass and one of amount, or `none`.

    Quick where many units are compared: of what does not belong together, no conversion is tried.

    >>> kin("mg/dL", "g/L"), kin("mg/dL", "mmol/L"), kin("mg/dL", "Cel")
    ('same', 'molar', 'none')
    """
    source, target = ALIASES.get(unit, unit), ALIASES.get(wanted, wanted)
    known = usual.lines(source, target)
    if known is not None:
        return ("same" if "" in known else "molar") if known else "none"
    return _related(source, target)


def computed(unit: str, wanted: str) -> dict[str, usual.Line]:
    """What the lines of `usual` are, computed."""
    analytes = {"same": ("",), "molar": tuple(MOLAR_MASS), "none": ()}[_related(unit, wanted)]
    return {analyte: _line(unit, wanted, analyte or None) for analyte in analytes}


def _related(unit: str, wanted: str) -> str:
    registry = _registry()
    first, second = (_parse(registry, one).dimensionality for one in (unit, wanted))
    if first == second:
        return "same"
    apart = {**(first / second)}
    return "molar" if apart in ({"[mass]": 1, "[substance]": -1}, {"[mass]": -1, "[substance]": 1}) else "none"


class _Apart(Exception):
    """One unit cannot be converted into the other."""


def _of(known: usual.Lines, analyte: str | None) -> usual.Line:
    line = known.get("") or known.get(analyte or "")
    if line is None:
        raise _Apart
    return line


def _line(unit: str, wanted: str, analyte: str | None) -> usual.Line:
    registry = _registry()
    first, second = _parse(registry, unit), _parse(registry, wanted)
    try:
        zero, one = (_converted(registry, value, first, second, analyte) for value in (0.0, 1.0))
    except Exception as error:
        raise _Apart from error
    return one - zero, zero


def _converted(registry: Any, value: float, first: Any, second: Any, analyte: str | None) -> float:
    amount = registry.Quantity(value, first)
    if first.dimensionality == second.dimensionality or analyte is None:
        return float(amount.to(second).magnitude)
    molar = registry.Quantity(MOLAR_MASS[analyte], "g/mol")
    per_mole = amount / molar
    if per_mole.dimensionality == second.dimensionality:
        return float(per_mole.to(second).magnitude)
    return float((amount * molar).to(second).magnitude)


@lru_cache(maxsize=512)
def _parse(registry: Any, unit: str) -> Any:
    try:
        return registry.from_ucum(unit).units
    except Exception as error:
        raise MappingInvalid(f"{unit!r} is not a UCUM unit", f"write it {SUCH_AS}") from error
