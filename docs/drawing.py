"""Draw the round from the transitions that `consilium.core.round.diagram` tells: an SVG that needs no script."""

import re

WIDTH, BOX_W, BOX_H, TOP = 900, 130, 50, 90
EDGE = re.compile(r"\s*(\S+) --> (\S+?)(?:: (.*))?$")


def drawn(diagram: str) -> str:
    """The SVG of a state diagram whose states stand in a row, from the first to the end."""
    edges = [match.groups("") for line in diagram.splitlines() if (match := EDGE.match(line))]
    states = list(dict.fromkeys(source for source, _, _ in edges if source != "[*]"))
    step = (WIDTH - 120 - BOX_W) / len(states)
    left = {state: 90 + index * step for index, state in enumerate(states)}
    height = TOP + BOX_H + 90
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#1d2b3a" text-anchor="middle">',
        "<title>The phases of a round</title>",
        '<defs><marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="#2f6f8f"/></marker></defs>',
        f'<rect x="1" y="1" width="{WIDTH - 2}" height="{height - 2}" rx="12" fill="#ffffff" stroke="#d5dde4"/>',
        f'<circle cx="50" cy="{TOP + BOX_H / 2}" r="9" fill="#1d2b3a"/>',
        f'<circle cx="{WIDTH - 45}" cy="{TOP + BOX_H / 2}" r="12" fill="none" stroke="#1d2b3a" stroke-width="2"/>',
        f'<circle cx="{WIDTH - 45}" cy="{TOP + BOX_H / 2}" r="7" fill="#1d2b3a"/>',
    ]
    parts += [_box(state, x) for state, x in left.items()]
    parts += [_edge(source, target, label, left, height) for source, target, label in edges]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _box(state: str, x: float) -> str:
    return (
        f'<rect x="{x:g}" y="{TOP}" width="{BOX_W}" height="{BOX_H}" rx="8" fill="#f4f9fb" stroke="#2f6f8f" '
        f'stroke-width="1.5"/><text x="{x + BOX_W / 2:g}" y="{TOP + 31}" font-size="16" font-weight="bold">'
        f"{state}</text>"
    )


def _edge(source: str, target: str, label: str, left: dict[str, float], height: int) -> str:
    """One arrow: a loop above its state, a way out below, or a straight line to the next."""
    line = '<path d="{}" fill="none" stroke="#2f6f8f" stroke-width="2" marker-end="url(#a)"/>'
    words = '<text x="{:g}" y="{:g}">{}</text>'
    middle, end = TOP + BOX_H / 2, WIDTH - 45
    if source == target:
        x = left[source] + BOX_W / 2
        loop = f"M{x - 30:g} {TOP} C{x - 50:g} {TOP - 50} {x + 50:g} {TOP - 50} {x + 30:g} {TOP - 2}"
        return line.format(loop) + words.format(x, TOP - 48, label)
    if label == "cancelled":
        x, below = left[source] + BOX_W / 2, height - 40
        way = f"M{x:g} {TOP + BOX_H} V{below} H{end} V{middle + 14:g}"
        return line.format(way) + words.format(x + 45, below - 8, label)
    begin = left[source] + BOX_W if source != "[*]" else 60
    until = left[target] - 2 if target != "[*]" else end - 14
    lines = re.sub(r", | (?=at )|(?<=coordinator) ", "\n", label).split("\n") if label else []
    centre = (begin + until) / 2
    shown = [words.format(centre, middle - 8 - 15 * (len(lines) - 1 - row), text) for row, text in enumerate(lines)]
    return line.format(f"M{begin:g} {middle:g} H{until:g}") + "".join(shown)
