"""Plots as SVG, drawn by few primitives. Each has its text alternative; colours are told apart by shape, too.

Colours: Okabe and Ito, "Color Universal Design" (2008), which readers with any colour vision tell apart.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from consilium.documents.estimate import Estimate
from consilium.documents.markup import Tag, tag, written
from consilium.documents.terms import interval, number

BLUE, ORANGE, GREEN, PURPLE, BLACK, SKY = "#0072b2", "#d55e00", "#007a5a", "#8f4f86", "#1d2b3a", "#56b4e9"
SERIES = (BLUE, ORANGE, GREEN, PURPLE)
SHAPES = ("circle", "diamond", "square", "triangle")
GRID, FAINT, INK, QUIET = "#dfe5ea", "#eef2f5", "#1d2b3a", "#52606d"
WIDTH = 760
LABEL, BESIDE = 27, 21
"""Letters of a label before it is cut, alone and beside a number; the table under the plot has it whole."""


@dataclass(frozen=True)
class Plot:
    """A drawing that stands alone, as an image or in a notebook."""

    image: Tag

    def svg(self) -> str:
        """The text of an SVG file."""
        return written(self.image).replace(
            "<svg ", '<svg xmlns="http://www.w3.org/2000/svg" font-family="system-ui, sans-serif" ', 1
        )

    def _repr_svg_(self) -> str:
        return self.svg()


def drawn(part: "Tag | str") -> Iterator[Plot]:
    """The plots in an element, in order."""
    if isinstance(part, Tag):
        if part.name == "svg":
            yield Plot(part)
        for child in part.children:
            yield from drawn(child)


@dataclass(frozen=True)
class Line:
    """One row of a forest: a label, a small word beside it, and an estimate for each series; None: not drawn."""

    label: str
    beside: str
    marks: tuple[Estimate | None, ...]


@dataclass(frozen=True)
class Axis:
    """From data to a length in the drawing."""

    low: float
    high: float
    begin: float
    end: float

    def at(self, value: float) -> float:
        """Where a value lies; what is beyond the ends lies at them."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.begin + share * (self.end - self.begin), 2)

    def ticks(self, wanted: int = 6) -> list[float]:
        """Round numbers between the ends.

        >>> Axis(0.61, 1.0, 0, 100).ticks(4)
        [0.7, 0.8, 0.9, 1.0]
        """
        step = _step((self.high - self.low) / max(wanted, 1))
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return [round(count * step, 10) for count in range(first, last + 1)]


def _step(least: float) -> float:
    size = 10.0 ** floor(log10(least)) if least > 0 else 1.0
    return next(size * factor for factor in (1, 2, 5, 10) if size * factor >= least * (1 - 1e-9))


def spanning(values: Sequence[float], begin: float, end: float, limits: tuple[float, float] | None = None) -> Axis:
    """An axis that has room for all values, to round numbers; within `limits`, if there are any."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    step = _step((high - low) / 6)
    low, high = floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step
    if limits is not None:
        low, high = max(low, limits[0]), min(high, limits[1])
        if high - low < 1e-9:
            low, high = limits
    return Axis(low, high, begin, end)


def drawing(width: float, height: float, title: str, told: str, *parts: object) -> Tag:
    """One SVG with its text alternative."""
    return tag(
        "svg", parts, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=f"{title}. {told}",
        class_="plot" if width >= WIDTH else "plot narrow", preserveAspectRatio="xMidYMid meet",
    )  # fmt: skip


def words(
    x: float, y: float, text: str, anchor: str = "start", size: int = 13, fill: str = INK, bold: bool = False
) -> Tag:
    """Text at a place."""
    return tag(
        "text", text, x=x, y=y, text_anchor=anchor, font_size=size, fill=fill, font_weight="bold" if bold else None
    )


def cut(label: str, most: int = LABEL) -> str:
    """A label that fits.

    >>> cut("a hospital of many words and letters", 12)
    'a hospital …'
    """
    return label if len(label) <= most else f"{label[: most - 1]}…"


def mark(shape: str, x: float, y: float, colour: str, size: float = 5) -> Tag:
    """One point."""
    if shape == "circle":
        return tag("circle", cx=x, cy=y, r=size, fill=colour)
    if shape == "square":
        return tag("rect", x=x - size, y=y - size, width=2 * size, height=2 * size, fill="#ffffff", stroke=colour,
                   stroke_width=2)  # fmt: skip
    s = size * 1.3
    ways = {"diamond": ((0, -s), (s, 0), (0, s), (-s, 0)), "triangle": ((0, -s), (s, s), (-s, s))}
    return tag("polygon", points=" ".join(f"{x + dx:g},{y + dy:g}" for dx, dy in ways[shape]), fill=colour)


def legend(series: Sequence[str], x: float, y: float) -> list[Tag]:
    """What each shape and colour stands for; further to the left where it would not end within the plot."""
    wide = [44 + 7.4 * len(label) for label in series]
    parts, x = [], max(0.0, min(x, WIDTH - sum(wide)))
    for place, label in enumerate(series):
        parts += [
            mark(SHAPES[place], x + 6, y - 4, SERIES[place]),
            words(x + 17, y, label, size=13),
        ]
        x += wide[place]
    return parts


def forest(
    rows: Sequence[Line], series: Sequence[str], axis: str, title: str, told: str,
    reference: tuple[float, str] | None = None, limits: tuple[float, float] | None = None,
) -> Tag:  # fmt: skip
    """Estimates with their intervals, one row each; the first series' figures stand beside it in words.

    Args:    reference: a value to compare with, and its word.   limits: least and most that the axis may show.
    """
    left, right, top = 250, WIDTH - 150, 34 if len(series) > 1 or reference else 10
    tall = max(28, 15 * len(series) + 10)
    ends = [end for row in rows for one in row.marks if one is not None for end in (one.low, one.value, one.high)]
    values = [end for end in ends if end is not None] + ([reference[0]] if reference else [])
    scale = spanning(values, left, right, limits)
    bottom = top + tall * len(rows)
    parts: list[object] = list(legend(series, left, 18)) if len(series) > 1 else []
    for tick in scale.ticks():
        x = scale.at(tick)
        parts += [
            tag("line", x1=x, x2=x, y1=top, y2=bottom, stroke=GRID),
            words(x, bottom + 18, f"{tick:g}", "middle", 12, QUIET),
        ]
    if reference:
        x = scale.at(reference[0])
        parts += [
            tag("line", x1=x, x2=x, y1=top - 6, y2=bottom, stroke=INK, stroke_dasharray="4 3"),
            words(min(max(x, left + 40), right - 40), top - 14, reference[1], "middle", 12, QUIET),
        ]
    for place, row in enumerate(rows):
        parts += _row(row, top + tall * place, tall, scale, left)
    parts.append(words((left + right) / 2, bottom + 38, axis, "middle", 13))
    return drawing(WIDTH, bottom + 48, title, told, parts)


def _row(row: Line, y: float, tall: float, scale: Axis, left: float) -> list[Tag]:
    middle = y + tall / 2
    parts = [
        tag("line", x1=0, x2=WIDTH, y1=y, y2=y, stroke=FAINT),
        words(0, middle + 4.5, cut(row.label, BESIDE), bold=True),
        words(left - 14, middle + 4.5, row.beside, "end", 12, QUIET),
    ]
    gap = 15
    first = middle - gap * (len(row.marks) - 1) / 2
    for place, one in enumerate(row.marks):
        at = first + gap * place
        if one is None or one.value is None:
            continue
        colour = SERIES[place]
        if one.low is not None and one.high is not None:
            ends = scale.at(one.low), scale.at(one.high)
            parts.append(tag("line", x1=ends[0], x2=ends[1], y1=at, y2=at, stroke=colour, stroke_width=2))
            parts += [tag("line", x1=x, x2=x, y1=at - 4, y2=at + 4, stroke=colour, stroke_width=2) for x in ends]
        parts.append(mark(SHAPES[place], scale.at(one.value), at, colour))
    shown = row.marks[0] if row.marks else None
    parts.append(
        words(WIDTH, middle + 4.5, interval(shown) if shown else "not drawn", "end", 12, INK if shown else QUIET)
    )
    return parts


def course(
    points: Sequence[tuple[float, Estimate]], across: str, up: str, title: str, told: str,
    limits: tuple[float, float] | None = None,
) -> Tag:  # fmt: skip
    """A figure over rounds, with its interval as a band."""
    left, right, top, bottom = 60, WIDTH - 20, 16, 246
    known = [(x, one) for x, one in points if one.value is not None]
    ends = [end for _, one in known for end in (one.low, one.value, one.high) if end is not None]
    xs, ys = spanning([x for x, _ in known], left, right), spanning(ends, bottom, top, limits)
    xs = Axis(min(x for x, _ in known), max(max(x for x, _ in known), min(x for x, _ in known) + 1), left, right)
    parts: list[object] = _grid(xs, ys, left, right, top, bottom, across, up)
    sure = [(x, one) for x, one in known if one.low is not None and one.high is not None]
    if len(sure) > 1:
        above = [(xs.at(x), ys.at(one.high or 0)) for x, one in sure]
        below = [(xs.at(x), ys.at(one.low or 0)) for x, one in reversed(sure)]
        parts.append(tag("polygon", points=_points([*above, *below]), fill=BLUE, fill_opacity=0.16))
    parts.append(
        tag("polyline", points=_points([(xs.at(x), ys.at(one.value or 0)) for x, one in known]), fill="none",
            stroke=BLUE, stroke_width=2)
    )  # fmt: skip
    if len(known) <= 60:
        parts += [mark("circle", xs.at(x), ys.at(one.value or 0), BLUE, 3) for x, one in known]
    return drawing(WIDTH, bottom + 48, title, told, parts)


def _grid(
    xs: Axis, ys: Axis, left: float, right: float, top: float, bottom: float, across: str, up: str
) -> list[object]:
    """Lines, ticks and names of both axes."""
    parts: list[object] = []
    for tick in ys.ticks(5):
        y = ys.at(tick)
        parts += [
            tag("line", x1=left, x2=right, y1=y, y2=y, stroke=GRID),
            words(left - 8, y + 4, f"{tick:g}", "end", 12, QUIET),
        ]
    for tick in xs.ticks(10):
        x = xs.at(tick)
        parts += [
            tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 5, stroke=QUIET),
            words(x, bottom + 20, f"{tick:g}", "middle", 12, QUIET),
        ]
    middle = (top + bottom) / 2
    parts += [
        tag("line", x1=left, x2=right, y1=bottom, y2=bottom, stroke=QUIET),
        words((left + right) / 2, bottom + 40, across, "middle"),
        tag("text", up, x=14, y=middle, text_anchor="middle", font_size=13, fill=INK,
            transform=f"rotate(-90 14 {middle:g})"),
    ]  # fmt: skip
    return parts


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)


PART = {"training": (BLUE, "training"), "held_out": (SKY, "held out"), "excluded": ("#b8c2cc", "excluded")}


def bars(rows: Sequence[tuple[str, Mapping[str, int]]], title: str, told: str) -> Tag:
    """Patients of each hospital by what became of them, as bars that are divided."""
    left, right, top, tall = 220, WIDTH - 70, 34, 26
    most = max((sum(parts.values()) for _, parts in rows), default=1)
    scale, shown = Axis(0, max(most, 1), left, right), [key for key in PART if any(row.get(key) for _, row in rows)]
    parts: list[object] = []
    x = float(left)
    for key in shown:
        colour, word = PART[key]
        parts += [tag("rect", x=x, y=8, width=13, height=13, fill=colour), words(x + 19, 19, word, size=13)]
        x += 44 + 7.0 * len(word)
    for place, (label, counts) in enumerate(rows):
        y, begin = top + tall * place, float(left)
        parts.append(words(0, y + 17, cut(label), bold=True))
        for key in shown:
            wide = scale.at(counts.get(key, 0)) - left
            parts.append(tag("rect", x=begin, y=y + 4, width=round(wide, 2), height=tall - 8, fill=PART[key][0]))
            begin = round(begin + wide, 2)
        parts.append(words(begin + 6, y + 17, str(sum(counts.values())), size=12, fill=QUIET))
    return drawing(WIDTH, top + tall * len(rows) + 6, title, told, parts)


STATES = {"in": (BLUE, "part of the sum"), "refused": (ORANGE, "refused"), "missing": ("#ffffff", "asked, no answer")}


def attendance(rows: Sequence[tuple[str, str]], rounds: Sequence[int], title: str, told: str) -> Tag:
    """Who was in which round: a row per hospital, a cell per round.

    Args:    rows: label, and a letter for each round: i in the sum, r refused, m asked and missing, n not asked.
    """
    left, top, tall = 220, 34, 22
    wide = min(22.0, (WIDTH - left) / max(len(rounds), 1))
    parts: list[object] = []
    x = float(left)
    for colour, word in STATES.values():
        parts += [
            tag("rect", x=x, y=8, width=13, height=13, fill=colour, stroke=INK, stroke_width=1),
            words(x + 19, 19, word, size=13),
        ]
        x += 44 + 7.0 * len(word)
    gap = 2 if wide > 8 else 0
    for place, (label, states) in enumerate(rows):
        y = top + tall * place
        parts.append(words(0, y + 15, cut(label), bold=True))
        parts += _cells(states, left, y + 2, wide, tall - 4, gap)
    bottom = top + tall * len(rows)
    every = max(1, ceil(len(rounds) / 12))
    parts += [
        words(round(left + wide * (place + 0.5), 2), bottom + 16, str(one), "middle", 12, QUIET)
        for place, one in enumerate(rounds)
        if place % every == 0
    ]
    parts.append(words(0, bottom + 16, "round", size=12, fill=QUIET))
    return drawing(WIDTH, bottom + 26, title, told, parts)


def _cells(states: str, left: float, y: float, wide: float, tall: float, gap: float) -> list[Tag]:
    """Cells of one row; those alike side by side become one, where they are too narrow to be apart."""
    parts: list[Tag] = []
    place = 0
    while place < len(states):
        until = place + 1
        while gap == 0 and until < len(states) and states[until] == states[place]:
            until += 1
        kind = {"i": "in", "r": "refused", "m": "missing"}.get(states[place])
        if kind is not None:
            x, width = round(left + wide * place, 2), round(wide * (until - place) - gap, 2)
            hollow = {"stroke": QUIET, "stroke_width": 1} if kind == "missing" else {}
            parts.append(tag("rect", x=x, y=y, width=width, height=tall, fill=STATES[kind][0], **hollow))  # type: ignore[arg-type]
            if kind == "refused" and gap:
                parts.append(words(x + width / 2, y + tall - 5, "×", "middle", 13, "#ffffff"))
        place = until
    return parts


@dataclass(frozen=True)
class Box:
    """One box of a flow: its lines, the first of them bold; what leaves the way beside it."""

    lines: tuple[str, ...]
    beside: tuple[str, ...] = ()


def flow(boxes: Sequence[Box], title: str, told: str) -> Tag:
    """Boxes from top to bottom; beside some of them what left the way there."""
    x, wide, y = 2, 350, 4
    parts: list[object] = []
    for place, box in enumerate(boxes):
        if place:
            at = x + wide / 2
            parts += [
                tag("line", x1=at, x2=at, y1=y - 34, y2=y - 8, stroke=QUIET, stroke_width=1.5),
                tag("polygon", points=_points([(at - 5, y - 10), (at + 5, y - 10), (at, y - 1)]), fill=QUIET),
            ]
        lines, beside = _wrapped(box.lines), _wrapped(box.beside)
        tall = 18 + 19 * max(len(lines), len(beside))
        parts += [_box(x, y, wide, tall, BLUE, "#f4f9fb"), *_lines(lines, x + 14, y)]
        if beside:
            side = x + wide + 46
            middle = y + tall / 2
            parts.append(tag("line", x1=x + wide, x2=side, y1=middle, y2=middle, stroke=QUIET, stroke_width=1.5))
            parts += [_box(side, y, WIDTH - side - 2, tall, "#9aa5b1", "#ffffff"), *_lines(beside, side + 14, y)]
        y += tall + 34
    return drawing(WIDTH, y - 28, title, told, parts)


def _box(x: float, y: float, wide: float, tall: float, colour: str, fill: str) -> Tag:
    return tag("rect", x=x, y=y, width=wide, height=tall, rx=6, fill=fill, stroke=colour)


def _wrapped(lines: Sequence[str]) -> list[str]:
    return [part for line in lines for part in textwrap.wrap(line, 44) or [""]]


def _lines(lines: Sequence[str], x: float, y: float) -> list[Tag]:
    return [words(x, y + 24 + 19 * place, line, bold=place == 0) for place, line in enumerate(lines)]


def summary(rows: Sequence[Line], series: Sequence[str]) -> str:
    """A forest in one or two sentences: how many rows, and from where to where the first series goes."""
    known = [
        (float(one.value), row.label) for row in rows if row.marks and (one := row.marks[0]) and one.value is not None
    ]
    if not known:
        return "Nothing is drawn."
    (least, lowest), (most, highest) = min(known), max(known)
    return (
        f"{len(known)} rows, {series[0]}: from {number(least)} at {lowest} to {number(most)} at {highest}. The table "
        "that follows has all figures."
    )
