"""Plots of one figure against another: calibration, ROC, decision curve."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from consilium.documents.estimate import Estimate
from consilium.documents.markup import Tag, tag
from consilium.documents.plots import (
    BLACK,
    BLUE,
    GRID,
    ORANGE,
    QUIET,
    WIDTH,
    Axis,
    drawing,
    mark,
    spanning,
    words,
)  # fmt: skip

DASHES = (None, "7 4", "2 3")
COLOURS = (BLUE, ORANGE, BLACK)
LEGEND, LETTER = 58, 7.4
"""How wide an entry of the legend is without its words, and each letter of them."""


@dataclass(frozen=True)
class Curve:
    """A line through points, with a gap where one is None; `bars` stand on their own, each with its interval.

    marks: whether each point has a mark: between two of them nothing is known.
    """

    label: str
    points: tuple[tuple[float, float | None], ...] = ()
    bars: tuple[tuple[float, Estimate], ...] = field(default=())
    marks: bool = False

    @property
    def known(self) -> list[tuple[float, float]]:
        """Its points."""
        return [(x, y) for x, y in self.points if y is not None]

    @property
    def pieces(self) -> list[list[tuple[float, float]]]:
        """Points in a row, from gap to gap.

        >>> Curve("model", ((0.1, 0.3), (0.2, None), (0.3, 0.2), (0.4, 0.1))).pieces
        [[(0.1, 0.3)], [(0.3, 0.2), (0.4, 0.1)]]
        """
        rows = groupby(self.points, lambda point: point[1] is None)
        return [[(x, y) for x, y in row if y is not None] for gap, row in rows if not gap]


def plane(
    curves: Sequence[Curve], across: str, up: str, title: str, told: str, *,
    xs: tuple[float, float] | None = None, ys: tuple[float, float] | None = None, diagonal: str = "",
) -> Tag:  # fmt: skip
    """Curves over a plane.

    Args:    xs, ys: ends of the axes; by the points, if none are given.   diagonal: the word of a line y = x.
    """
    square = bool(diagonal)
    left, top, bottom = 70, 34, 414 if square else 300
    right = left + (bottom - top) if square else WIDTH - 20
    across_ = _axis([x for one in curves for x, _ in one.known], left, right, xs)
    up_ = _axis([y for one in curves for _, y in one.known], bottom, top, ys)
    parts: list[object] = _frame(across_, up_, across, up)
    if diagonal:
        parts.append(_line([(across_.low, up_.low), (across_.high, up_.high)], across_, up_, QUIET, "3 4", 1.5))
    for place, one in enumerate(curves):
        lines = [piece for piece in one.pieces if len(piece) > 1]
        parts += [_line(piece, across_, up_, COLOURS[place], DASHES[place], 2.2) for piece in lines]
        if one.marks:
            parts += [mark("circle", across_.at(x), up_.at(y), COLOURS[place], 4) for x, y in one.known]
        parts += [part for x, estimate in one.bars for part in _bar(x, estimate, across_, up_, COLOURS[place])]
    labels = [(one.label, COLOURS[at], DASHES[at], bool(one.points)) for at, one in enumerate(curves)]
    labels += [(diagonal, QUIET, "3 4", True)] if diagonal else []
    parts += _legend(labels, left)
    wide = max(right + 20, left + sum(LEGEND + LETTER * len(label) for label, *_ in labels))
    return drawing(min(wide, WIDTH), bottom + 48, title, told, parts)


def _axis(values: Sequence[float], begin: float, end: float, given: tuple[float, float] | None) -> Axis:
    return Axis(*given, begin, end) if given is not None else spanning(values, begin, end)


def _frame(xs: Axis, ys: Axis, across: str, up: str) -> list[object]:
    parts: list[object] = []
    for tick in ys.ticks(5):
        y = ys.at(tick)
        parts += [
            tag("line", x1=xs.begin, x2=xs.end, y1=y, y2=y, stroke=GRID),
            words(xs.begin - 8, y + 4, f"{tick:g}", "end", 12, QUIET),
        ]
    for tick in xs.ticks(5 if xs.end - xs.begin < 500 else 10):
        x = xs.at(tick)
        parts += [
            tag("line", x1=x, x2=x, y1=ys.begin, y2=ys.end, stroke=GRID),
            words(x, ys.begin + 18, f"{tick:g}", "middle", 12, QUIET),
        ]
    middle = (ys.begin + ys.end) / 2
    parts += [
        words((xs.begin + xs.end) / 2, ys.begin + 40, across, "middle"),
        tag("text", up, x=16, y=middle, text_anchor="middle", font_size=13, fill=BLACK,
            transform=f"rotate(-90 16 {middle:g})"),
    ]  # fmt: skip
    return parts


def _line(
    points: Sequence[tuple[float, float]], xs: Axis, ys: Axis, colour: str, dash: str | None, width: float
) -> Tag:
    shown = " ".join(f"{xs.at(x):g},{ys.at(y):g}" for x, y in points)
    return tag("polyline", points=shown, fill="none", stroke=colour, stroke_width=width, stroke_dasharray=dash)


def _bar(x: float, one: Estimate, xs: Axis, ys: Axis, colour: str) -> list[Tag]:
    if one.value is None:
        return []
    at, parts = xs.at(x), list[Tag]()
    if one.low is not None and one.high is not None:
        ends = ys.at(one.low), ys.at(one.high)
        parts.append(tag("line", x1=at, x2=at, y1=ends[0], y2=ends[1], stroke=colour, stroke_width=2))
        parts += [tag("line", x1=at - 4, x2=at + 4, y1=y, y2=y, stroke=colour, stroke_width=2) for y in ends]
    return [*parts, mark("circle", at, ys.at(one.value), colour)]


def _legend(labels: Sequence[tuple[str, str, str | None, bool]], x: float) -> list[Tag]:
    parts = []
    for label, colour, dash, line in labels:
        shape = (
            tag("line", x1=x, x2=x + 24, y1=14, y2=14, stroke=colour, stroke_width=2.2, stroke_dasharray=dash)
            if line else mark("circle", x + 12, 14, colour)
        )  # fmt: skip
        parts += [shape, words(x + 31, 18, label)]
        x += LEGEND + LETTER * len(label)
    return parts
