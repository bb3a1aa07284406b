"""Units: UCUM through ucumvert and pint, with the spellings of real tables, and what is known of common analytes.

What the two do not tell apart is told here: a gram of one thing from a gram of another, as an annotation says; moles
from equivalents; units of a laboratory's own; logarithms; and units of which they have another value than UCUM.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from consilium.core.errors import MappingInvalid
from consilium.data import usual
from consilium.data.analytes import ANALYTES, HBA1C, NGSP, Analyte

ALIASES = {
    "mEq/L": "meq/L", "mmHg": "mm[Hg]", "mm Hg": "mm[Hg]", "bpm": "/min", "K/uL": "10*3/uL", "years": "a", "year": "a",
    "yr": "a", "C": "Cel", "F": "[degF]", "degC": "Cel", "degF": "[degF]", "µm": "um", "μm": "um", "µmol/L": "umol/L",
    "°C": "Cel", "°F": "[degF]", "percent": "%",
}  # fmt: skip
SUCH_AS = "as in UCUM, such as mg/dL, mm[Hg], Cel, a (years), or 1 for a pure number"
ARBITRARY = frozenset((
    "[hp_X]", "[hp_C]", "[hp_M]", "[hp_Q]", "[kp_X]", "[kp_C]", "[kp_M]", "[kp_Q]", "[iU]", "[IU]", "[arb'U]",
    "[USP'U]", "[GPL'U]", "[MPL'U]", "[APL'U]", "[beth'U]", "[anti'Xa'U]", "[todd'U]", "[dye'U]", "[smgy'U]",
    "[bdsk'U]", "[ka'U]", "[knk'U]", "[mclg'U]", "[tb'U]", "[CCID_50]", "[TCID_50]", "[EID_50]", "[PFU]", "[FFU]",
    "[CFU]", "[IR]", "[BAU]", "[AU]", "[Amb'a'1'U]", "[PNU]", "[Lf]", "[D'ag'U]", "[FEU]", "[ELU]", "[EU]",
))  # fmt: skip
"""Units of a procedure of their own: none can be converted into anything else (UCUM, section 24)."""
SPECIAL = frozenset((
    "[p'diop]", "%[slope]", "[hp'_X]", "[hp'_C]", "[hp'_M]", "[hp'_Q]", "[pH]", "Np", "B", "B[SPL]", "B[V]",
    "B[mV]", "B[uV]", "B[10.nV]", "B[W]", "B[kW]", "[m/s2/Hz^(1/2)]", "bit_s",
))  # fmt: skip
"""Units on a scale that is bent, such as a logarithm: of these, too, each is converted into itself alone."""
UNLIKE = frozenset((
    "'", "''", "[cft_i]", "[cyd_i]", "[rd_br]", "[Cal]", "g%", "[LPF]", "[Btu]", "[in_i'H2O]", "[in_i'Hg]", "[G]",
))  # fmt: skip
"""Units of which pint has another value than UCUM."""
LONGEST = 100
"""Signs of a unit."""
HUGE = re.compile(r"(?<=[^\W\d]|[\]*^'\"%])[+-]?\d{3,}|\d{10,}")
"""Exponents and numbers that no unit of a table has: to raise 10 to one takes for ever."""
ANNOTATION = re.compile(r"\{[^{}]*\}")
LINEAR = 1e-9
MOLAR = frozenset(("[mass]", "[substance]", "eq"))
RATIO = "mol/mol"


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

    >>> fault("mm[Hg]"), fault("mmHg"), fault("µmol/L")
    ('', 'must be a UCUM unit; write mm[Hg]', 'must be a UCUM unit; write umol/L')
    """
    if unit in ALIASES:
        return f"must be a UCUM unit; write {ALIASES[unit]}"
    if unit in usual.UNITS:
        return ""
    return "" if _tree(unit) is not None else f"must be a UCUM unit; {_meant(unit)}"


def _meant(unit: str) -> str:
    """What to write instead: UCUM has no Greek letter."""
    latin = unit.replace("\u00b5", "u").replace("\u03bc", "u")
    return f"write {latin}" if latin != unit and _tree(latin) is not None else f"write it {SUCH_AS}"


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
        raise MappingInvalid(f"{unit!r} cannot be converted into {wanted!r}", error.remedy) from error


@lru_cache(maxsize=8192)
def kin(unit: str, wanted: str) -> str:
    """How two units belong together: `same` dimension, `molar` where a conversion depends on the analyte, or `none`.

    Quick where many units are compared: of what does not belong together, no conversion is tried.

    >>> kin("mg/dL", "g/L"), kin("mg/dL", "mmol/L"), kin("mg/dL", "Cel")
    ('same', 'molar', 'none')
    """
    source, target = ALIASES.get(unit, unit), ALIASES.get(wanted, wanted)
    known = usual.lines(source, target)
    if known is not None:
        return ("same" if "" in known else "molar") if known else "none"
    return _related(_gap(_parse(source), _parse(target)))


def computed(unit: str, wanted: str) -> dict[str, usual.Line]:
    """What the lines of `usual` are, computed."""
    gap = _gap(_parse(unit), _parse(wanted))
    analytes = {"same": ("",), "molar": tuple(_known(gap)), "none": ()}[_related(gap)]
    return {analyte: _line(unit, wanted, analyte or None) for analyte in analytes}


class _Apart(Exception):
    """One unit cannot be converted into the other; with what to do."""

    def __init__(self, remedy: str) -> None:
        super().__init__(remedy)
        self.remedy = remedy


@dataclass(frozen=True)
class _Unit:
    """A number of a unit of pint, and how often what pint does not tell apart is in it.

    apart: equivalents, units that are converted into themselves alone, amounts per amount, and annotations.
    """

    number: float
    unit: Any
    apart: Mapping[str, int]


Gap = Mapping[str, float]
"""By dimension, and by what pint does not tell apart: the exponent in one unit less that in another; where not 0."""


def _gap(first: _Unit, second: _Unit) -> Gap:
    gap: Counter[str] = Counter()
    for one, sign in ((first, 1), (second, -1)):
        for dimension, power in {**one.unit.dimensionality, **one.apart}.items():
            gap[dimension] += sign * power
        gap["[substance]"] -= sign * one.apart.get("eq", 0)  # which pint takes for a mole
    return {name: power for name, power in gap.items() if power}


def _related(gap: Gap) -> str:
    if not gap:
        return "same"
    swapped = MOLAR.issuperset(gap) and sorted(gap.values()) == [-1, 1]
    return "molar" if swapped or (set(gap) == {RATIO} and abs(gap[RATIO]) == 1) else "none"


def _known(gap: Gap) -> dict[str, Analyte]:
    """Analytes of which what such a conversion needs is known."""
    if RATIO in gap:
        return {HBA1C: ANALYTES[HBA1C]}
    return {
        name: one for name, one in ANALYTES.items()
        if not ("[mass]" in gap and one.g_per_mol is None) and not ("eq" in gap and one.eq_per_mol is None)
        and name != HBA1C
    }  # fmt: skip


def _of(known: usual.Lines, analyte: str | None) -> usual.Line:
    line = known.get("") or known.get(analyte or "")
    if line is None:
        raise _Apart(_name_it(known))
    return line


def _name_it(known: Mapping[str, Any]) -> str:
    names = f"; or name the `analyte`, one of {', '.join(known)}" if known else ""
    return f"check the unit{names}"


def _line(unit: str, wanted: str, analyte: str | None) -> usual.Line:
    first, second = _parse(unit), _parse(wanted)
    gap = _gap(first, second)
    related = _related(gap)
    known = _known(gap) if related == "molar" else {}
    if related == "none" or (related == "molar" and analyte not in known):
        said = sorted(name for name in gap if name.startswith("{"))
        raise _Apart(_same_thing(said) if said else _name_it(known))
    of = known.get(analyte or "")
    if RATIO in gap:
        return _ngsp(unit, wanted, gap[RATIO])
    try:
        zero, one, two = (_converted(value, first, second, gap, of) for value in (0.0, 1.0, 2.0))
    except Exception as error:
        raise _Apart(_name_it(known)) from error
    factor = one - zero
    straight = math.isclose(two - one, factor, rel_tol=LINEAR, abs_tol=LINEAR * abs(zero))
    if not straight or not factor or not math.isfinite(factor):
        raise _Apart("convert the values in the source's query: the one is no multiple of the other")
    return factor, zero


def _same_thing(said: list[str]) -> str:
    return (
        f"{' and '.join(said)} may be another quantity: if it is none, write the unit as the contract has it; of "
        "records, as `units: {\"their unit\": the contract's}`; else convert the values in the source's query"
    )


def _ngsp(unit: str, wanted: str, ratio: float) -> usual.Line:
    """HbA1c between a share of haemoglobin, as of NGSP, and an amount per amount, as of IFCC."""
    factor, offset = NGSP
    if ratio > 0:
        (there, _), (back, _) = _line(unit, "mmol/mol", None), _line("%", wanted, None)
        return factor * there * back, offset * back
    (there, _), (back, _) = _line(unit, "%", None), _line("mmol/mol", wanted, None)
    return there * back / factor, -offset * back / factor


def _converted(value: float, first: _Unit, second: _Unit, gap: Gap, analyte: Analyte | None) -> float:
    registry = _registry()
    amount = registry.Quantity(value * first.number, first.unit)
    if "[mass]" in gap:
        assert analyte is not None
        molar = registry.Quantity(analyte.g_per_mol, "g/mol")
        per_mole = amount / molar
        amount = per_mole if per_mole.dimensionality == second.unit.dimensionality else amount * molar
    found = float(amount.to(second.unit).magnitude) / second.number
    return found if "eq" not in gap or analyte is None else found * float(analyte.eq_per_mol or math.nan) ** -gap["eq"]


@lru_cache(maxsize=512)
def _tree(unit: str) -> Any:
    """The parts of a UCUM unit; None where it is none."""
    from ucumvert import InvalidUcumError, parse_ucum

    if len(unit) > LONGEST or HUGE.search(ANNOTATION.sub("", unit)):
        return None
    try:
        return parse_ucum(unit, _grammar())
    except InvalidUcumError:
        return None


@lru_cache(maxsize=512)
def _parse(unit: str) -> _Unit:
    tree = _tree(unit)
    if tree is None:
        raise MappingInvalid(f"{unit!r} is not a UCUM unit", _meant(unit))
    over, under, said = Counter[str](), Counter[str](), set[str]()
    _count(tree, 1, over, under, said)
    if unlike := UNLIKE.intersection((*over, *under)):
        raise MappingInvalid(
            f"values in {unit!r} cannot be converted", f"convert those in {sorted(unlike)[0]} in the source's query"
        )
    try:
        made = _registry().from_ucum(unit)
        if not hasattr(made, "magnitude"):  # of annotations alone it makes no quantity
            made = _registry().Quantity(1.0)
        number = float(made.magnitude)
    except Exception as error:
        raise MappingInvalid(f"{unit!r} is not a UCUM unit", f"write it {SUCH_AS}") from error
    apart = {"[iU]" if one == "[IU]" else one: over[one] - under[one]
             for one in (*over, *under) if one == "eq" or one in ARBITRARY or one in SPECIAL}  # fmt: skip
    return _Unit(number, made.units, {**apart, RATIO: min(over["mol"], under["mol"]), **dict.fromkeys(said, 1)})


def _count(part: Any, power: int, over: Counter[str], under: Counter[str], said: set[str]) -> None:
    """How often each unit is above the line of division, and below; and what annotations say, wherever they stand."""
    if isinstance(part, str):  # a token of the grammar
        said.update([str(part)] if part.startswith("{") else [])
        return
    *before, last = part.children
    match part.data:
        case "simple_unit":
            (over if power > 0 else under)[str(last)] += abs(power)
        case "annotatable" if before:
            _count(before[0], power * int(last), over, under, said)
        case _:
            for one in before:
                _count(one, power, over, under, said)
            _count(last, -power if before and before[-1] == "/" else power, over, under, said)
