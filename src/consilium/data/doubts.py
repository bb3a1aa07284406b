"""What speaks against a mapping though every value fits: another unit, a column's name, words that codes are.

By units, ranges and general words alone; nothing here knows a data set. A doubt is a question to a person.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from consilium.core.contract import Feature, Label
from consilium.core.errors import MappingInvalid
from consilium.core.gate import Kind
from consilium.data.analytes import ANALYTES
from consilium.data.base import Floats
from consilium.data.mapping import FeatureMap
from consilium.data.proposal.codes import by_words
from consilium.data.proposal.names import unit_words
from consilium.data.traps import LEAST, inside, others, shaped
from consilium.data.units import conversion, kin

Codes = Mapping[str, str]
ALL = 0.99
"""Share of the values that must lie within the contract's range in the other unit, too."""
LIKELIER = math.log(3.0)
"""By so much, in logarithms, the middle of the values comes closer to the middle of the range in the other unit."""
ALIKE = 1e-9
MIXED_LEAST = 20
"""Fewest values of which it is seen that they are of two groups."""
MIXED_SHARE = 0.05
"""Of all values, what is a group at least; and `LEAST` values."""
MIXED_NEAR = 0.15
"""By so much, in logarithms, the ratio of the middles of two groups may differ from that of two units."""
MIXED_APART = {"molar": 0.25, "same": 0.5}
"""Share of the way between the middles of two groups in which hardly a value lies, if they are of two units: between
mass and amount, whose ratio is that of a substance, and of one kind, where it may be a plain 10 or 100."""
MIXED_WIDTH = (0.05, 2.5)
"""How wide, in logarithms, the middle half of a group is at least, and how often as wide as the other's at most."""
GAP = 5.0
THOUSANDS = re.compile(r"\s*[-+]?\d{1,3}\.\d{3}\s*", re.ASCII)
UREA = frozenset(("urea", "bun"))
"""Both are told in words with `urea`."""


@dataclass(frozen=True)
class Doubt:
    """What is doubted, and what to do; `write`: what to write in the mapping if it is so, in YAML."""

    kind: Kind
    words: str
    remedy: str
    write: str = ""


def of_number(feature: Feature, given: FeatureMap, found: Floats) -> Iterator[Doubt]:
    """Doubts about the unit of a column.

    Args:    found: (n,) in the contract's unit; NaN where there is no value, or one outside of the range.
    """
    assert feature.unit is not None and given.unit is not None
    units = (given.unit, feature.unit, given.analyte or feature.analyte)
    if given.analyte and (other := _substance(feature, given)):
        yield Doubt(
            "named-unit", f"the mapping has the analyte {given.analyte}, and the contract speaks of {other}",
            "check `analyte`: its molar mass converts the values", _written(given.unit, other),
        )  # fmt: skip
        return
    values = found[~np.isnan(found)]
    if len(values) < LEAST:
        return
    factor, offset = conversion(*units)
    told = (values - offset) / factor
    named = _named(feature, given.column, units, told)
    if named is not None:
        unit, analyte, fits = named
        if fits:
            yield Doubt(
                "named-unit", f"the name of this column says {unit}, and the mapping {given.unit}",
                "look up its unit", _written(unit, analyte),
            )  # fmt: skip
        return
    if mix := _mixed(feature, given.column, units, values):
        unit, often = mix
        yield Doubt(
            "other-unit",
            f"the values are of two groups, of which one is about {often:.3g} times the other: so they would be if "
            f"some were in {unit}, and others in {given.unit}",
            "see whether the source has several units, and convert one of them by a CASE in its query",
        )  # fmt: skip
        return
    likelier = _likelier(feature, given.column, units, values, told)
    if likelier is not None:
        unit, analyte = likelier
        also = f" of {analyte}" if analyte else ""
        yield Doubt(
            "other-unit",
            f"all values lie within the contract's range in {unit}{also}, too, and nearer to what is usual than in "
            f"{given.unit}",
            "look up the unit of this column", _written(unit, analyte),
        )  # fmt: skip


def of_points(texts: Sequence[str | None], found: Floats, allowed: tuple[float, float] | None) -> Iterator[Doubt]:
    """A doubt about points that may separate thousands: all values have three digits behind theirs, and a thousand
    times as much is within the range, too.

    Args:    texts: (n,) as they stand in the table.   found: (n,) in the contract's unit; NaN where there is none.

    >>> [bool(list(of_points(["250.000"] * 20, np.full(20, 250.0), (1, most)))) for most in (1e6, 1e4)]
    [True, False]
    """
    known = ~np.isnan(found)
    if allowed is None or known.sum() < LEAST or inside(found[known] * 1000, allowed) < ALL:
        return
    if all(THOUSANDS.fullmatch(text or "") for text, one in zip(texts, known, strict=True) if one):
        yield Doubt(
            "other-unit", "every value has three digits behind its point, as where a point separates thousands",
            "if 250.000 is a quarter of a million there, write replace(COLUMN, '.', '') in the source's query",
        )  # fmt: skip


def _mixed(
    feature: Feature, column: str, units: tuple[str, str, str | None], values: Floats
) -> tuple[str, float] | None:
    """Another unit, in which some of the values may be, and how many times as large these are, or the others."""
    parts, middles = parted(values), gapped(values)
    ratio, way = (0.0, 1.0) if parts is None else parts[:2]
    if parts is not None:
        middles = middles or parts[2]
    if middles is None:
        return None
    known = conversion(*units)
    for unit, _, factor, offset in others(units, feature.range, f"{feature.id} {feature.meaning} {column}"):
        if factor <= 0:
            continue
        if offset or known[1]:  # such as of temperatures, of which no ratio is that of two units
            brought = _brought(middles, known, (factor, offset))
            near = any(abs(math.log(one / two)) < MIXED_NEAR for one, two in brought)
        else:
            near = parts is not None and abs(abs(math.log(factor / known[0])) - math.log(ratio)) < MIXED_NEAR
        if near and way >= MIXED_APART.get(kin(unit, units[0]), 1.0):
            return unit, ratio or middles[1] / middles[0]
    return None


def _brought(middles: tuple[float, float], known: tuple[float, float], other: tuple[float, float]
             ) -> Iterator[tuple[float, float]]:  # fmt: skip
    """The middle of one group, as if it stood in another unit, beside that of the other group."""
    for here, there in (middles, middles[::-1]):
        as_read = (here - known[1]) / known[0] * other[0] + other[1]
        if as_read > 0:
            yield as_read, there


def gapped(values: Floats) -> tuple[float, float] | None:
    """The middles of two groups with a gap between them that is wider than `GAP` times each is; None: there is none.

    >>> gapped(np.concatenate([np.linspace(36, 39, 50), np.linspace(97, 102, 20)]))
    (37.5, 99.5)
    """
    given = np.sort(values)
    least = max(LEAST, math.ceil(MIXED_SHARE * len(given)))
    if len(given) < max(MIXED_LEAST, 2 * least):
        return None
    gaps = np.diff(given[least - 1 : len(given) - least + 1])
    at = int(np.argmax(gaps)) + least
    low, high = given[:at], given[at:]
    width = max(float(np.subtract(*np.quantile(one, (0.75, 0.25)))) for one in (low, high))
    return (float(np.median(low)), float(np.median(high))) if low[0] > 0 and gaps.max() > GAP * width else None


def parted(values: Floats) -> tuple[float, float, tuple[float, float]] | None:
    """Of values that are of two groups, one many times the other: how many times, by their middles, which share of the
    way between these is without values but for a twentieth of each, and the middles; None: they are not.

    >>> low, high = np.linspace(4, 9, 50), np.linspace(70, 160, 50)
    >>> parted(low), parted(np.concatenate([low, high]))[0] > 17
    (None, True)
    """
    given = np.sort(np.log(values[values > 0]))
    count = len(given)
    if count < MIXED_LEAST:
        return None
    least = max(LEAST, math.ceil(MIXED_SHARE * count))
    at = np.arange(least, count - least + 1)
    if not len(at):
        return None
    sums, squares = np.cumsum(given), np.cumsum(given**2)
    below, above = sums[at - 1], sums[-1] - sums[at - 1]
    spread = squares[-1] - below**2 / at - above**2 / (count - at)
    low, high = np.split(given, [int(at[np.argmin(spread)])])
    apart = float(np.median(high) - np.median(low))
    widths = sorted(float(np.subtract(*np.quantile(one, (0.75, 0.25)))) for one in (low, high))
    if apart < LIKELIER or widths[0] < MIXED_WIDTH[0] or widths[1] > MIXED_WIDTH[1] * widths[0]:
        return None
    middles = float(np.exp(np.median(low))), float(np.exp(np.median(high)))
    return math.exp(apart), float(np.quantile(high, 0.05) - np.quantile(low, 0.95)) / apart, middles


def _substance(feature: Feature, given: FeatureMap) -> str:
    """The substance of which a contract speaks, where the mapping converts by the molar mass of another one."""
    about = f"{feature.id} {feature.meaning}".casefold()
    meant = {feature.analyte} if feature.analyte else {name for name in ANALYTES if name in about}
    if given.analyte in meant or len(meant) != 1 or {given.analyte, *meant} <= UREA:
        return ""
    assert feature.unit is not None and given.unit is not None
    return str(*meant) if kin(given.unit, feature.unit) == "molar" else ""


def _named(
    feature: Feature, column: str, units: tuple[str, str, str | None], told: Floats
) -> tuple[str, str, bool] | None:
    """The unit that a column's name ends with, if it is one for this feature: with its analyte, and whether it is
    another one than the mapping's, in which the values are plausible.
    """
    for unit, _ in unit_words(column):
        if unit == units[0] or (how := kin(unit, units[1])) == "none":
            if unit == units[0]:
                return unit, "", False
            continue
        analyte = units[2] if how == "molar" else None
        try:
            factor, offset = conversion(unit, units[1], analyte)
        except MappingInvalid:  # between mass and amount, of no known substance
            return unit, "", True
        known = conversion(*units)
        other = abs(factor - known[0]) > ALIKE * abs(factor) or abs(offset - known[1]) > ALIKE
        plausible = feature.range is None or inside(told * factor + offset, feature.range) >= 0.5
        return unit, analyte or "", other and plausible
    return None


def _likelier(
    feature: Feature, column: str, units: tuple[str, str, str | None], values: Floats, told: Floats
) -> tuple[str, str] | None:
    """The unit, with its analyte, in which all values are within the range, and nearer to what is usual."""
    allowed = feature.range
    if allowed is None or (here := _away(feature, float(np.median(values)))) < LIKELIER:
        return None
    best: tuple[float, str, str] | None = None
    for unit, analyte, factor, offset in others(units, allowed, f"{feature.id} {feature.meaning} {column}"):
        as_read = told * factor + offset
        if inside(as_read, allowed) < ALL or not shaped(as_read, allowed):
            continue
        there = _away(feature, float(np.median(as_read)))
        if here - there >= LIKELIER and (best is None or there < best[0]):
            best = there, unit, analyte
    return None if best is None else best[1:]


def _away(feature: Feature, middle: float) -> float:
    """How far from what is usual: in logarithms, from the nearer end of the typical range, or the range's middle.

    0 where a range says nothing of it, for it begins at 0 or below.
    """
    low, high = feature.typical or feature.range or (0.0, 0.0)
    if low <= 0 or middle <= 0:
        return 0.0
    if feature.typical is not None:
        return max(math.log(low / middle), math.log(middle / high), 0.0)
    return abs(math.log(middle / math.sqrt(low * high)))


def _written(unit: str, analyte: str) -> str:
    return f"{{unit: {json.dumps(unit)}" + (f", analyte: {analyte}}}" if analyte else "}")


def of_codes(of: Feature | Label, column: str, given: Mapping[str, str]) -> Iterator[Doubt]:
    """A doubt about codes that are words for another category than the one they are mapped to.

    Args:    given: the hospital's code and its category; of a label 0 or 1, as text.
    """
    label = isinstance(of, Label)
    targets = {"0": "", "1": of.meaning} if isinstance(of, Label) else of.categories or {}
    meant = by_words(column, list(given), targets, label)
    against = {code: other for code, other in sorted(meant.items()) if other != given[code]}
    if against:
        told = ", ".join(f'"{code}" looks like {other} and is {given[code]}' for code, other in against.items())
        yield Doubt("swapped-codes", f"codes and what they mean look swapped: {told}", "check them in `codes`")
