"""Pieces of a page: sections, tables with scope and caption, figures with their text alternative."""

from collections.abc import Iterable, Sequence

from consilium.documents.markup import Tag, name, tag

Cell = "Tag | str | int | None"


def section(ident: str, heading: str, *children: object) -> Tag:
    """A section that the contents link to."""
    title = f"{ident}-title"
    return tag("section", tag("h2", heading, id=title), children, id=ident, aria_labelledby=title)


def table(
    ident: str, caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[int] = (),
    last: Sequence[object] | None = None,
) -> Tag:  # fmt: skip
    """A table whose first column heads its rows; it scrolls by itself where a screen is narrow.

    Args:    numbers: columns that are aligned to the right.   last: a row for all, below a line.
    """
    head = tag("tr", (_head(text, place in numbers) for place, text in enumerate(columns)))
    body = [_row(row, numbers) for row in rows]
    if last is not None:
        body.append(_row(last, numbers, "all"))
    whole = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", body), id=ident)
    return tag("div", whole, class_="scroll", role="region", aria_label=caption, tabindex=0)


def _head(text: str, right: bool) -> Tag:
    return tag("th", text, scope="col", class_="n" if right else None)


def _row(row: Sequence[object], numbers: Sequence[int], kind: str | None = None) -> Tag:
    first, *others = row
    cells = [tag("th", name(first) if isinstance(first, str) else first, scope="row")]
    cells += [tag("td", other, class_="n" if place in numbers else None) for place, other in enumerate(others, 1)]
    return tag("tr", cells, class_=kind)


def figure(plot: Tag, caption: str) -> Tag:
    """A plot and its caption."""
    return tag(
        "figure", tag("div", plot, class_="scroll", role="region", aria_label=caption, tabindex=0),
        tag("figcaption", caption),
    )  # fmt: skip


def folded(summary: str, *children: object) -> Tag:
    """What is there for who asks; on paper it is always there."""
    return tag("details", tag("summary", summary), children)


def facts_of(pairs: Iterable[tuple[str, object]]) -> Tag:
    """Facts by name; those that are not known are left out."""
    return tag("dl", ((tag("dt", key), tag("dd", value)) for key, value in pairs if value is not None), class_="facts")
