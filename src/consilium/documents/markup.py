"""HTML and SVG as values: whatever text is put in comes out as text.

There is no way to put markup in as a string, no script, no event attribute, no address outside of the page: who writes
a report cannot let a hostile name do anything, not even by mistake.
"""

import base64
import hashlib
import html
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from consilium.core.errors import Invalid

VOID = frozenset({"br", "col", "hr", "meta"})
"""Elements that have no end."""
ELEMENTS = VOID | {
    "html", "head", "title", "body", "header", "main", "footer", "nav", "section", "h1", "h2", "h3", "p", "a", "ul",
    "ol", "li", "dl", "dt", "dd", "div", "span", "strong", "em", "bdi", "code", "small", "figure", "figcaption",
    "table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary",
    "svg", "path", "rect", "circle", "line", "polyline", "polygon", "text",
}  # fmt: skip
"""What a page may consist of."""
ATTRIBUTE = re.compile(r"[a-z][A-Za-z0-9-]*")
FORBIDDEN = ("on", "style", "src", "srcset", "action", "formaction", "xlink")


@dataclass(frozen=True)
class Tag:
    """One element."""

    name: str
    attributes: tuple[tuple[str, str], ...]
    children: tuple["Tag | str", ...]


def tag(name: str, *children: object, **attributes: str | float | bool | None) -> Tag:
    """An element; `class_` becomes `class`, `aria_label` becomes `aria-label`. None and False are left out.

    Raises: Invalid: an element or attribute that could do something, or an address outside of the page.

    >>> written(tag("p", "a < b", class_="note"))
    '<p class="note">a &lt; b</p>'
    """
    if name not in ELEMENTS:
        raise Invalid(f"a page has no element {name}")
    kept = []
    for key, value in attributes.items():
        word = key.rstrip("_").replace("_", "-")
        if value is None or value is False:
            continue
        if ATTRIBUTE.fullmatch(word) is None or word.startswith(FORBIDDEN):
            raise Invalid(f"an element of a page has no attribute {word}")
        text = "" if value is True else f"{value:g}" if isinstance(value, float) else str(value)
        if word == "href" and not text.startswith("#"):
            raise Invalid("a page links to nothing outside of itself")
        kept.append((word, text))
    return Tag(name, tuple(kept), tuple(_flat(children)))


def _flat(children: Iterable[object]) -> Iterable["Tag | str"]:
    for child in children:
        if isinstance(child, Tag | str):
            yield child
        elif isinstance(child, int | float):
            yield str(child)
        elif isinstance(child, Iterable):
            yield from _flat(child)
        elif child is not None:
            raise Invalid(f"a page holds no {type(child).__name__}")


def name(text: str) -> Tag:
    """What others have named, set apart from the words around it, also where it is written from right to left."""
    return tag("bdi", text)


def prose(text: str) -> list[Tag | str]:
    """Text in which what stands between backticks is to be typed, as a command or a key of a file.

    >>> "".join(map(written, prose("see `site <figures>`, or `rounds")))
    'see <code>site &lt;figures&gt;</code>, or `rounds'
    """
    parts = re.split(r"`([a-z][^`\n]{0,60})`", text)
    return [tag("code", part) if place % 2 else part for place, part in enumerate(parts)]


def seen(text: str) -> str:
    """Text without what moves, hides or reorders letters; line breaks become blanks.

    >>> seen("a\\u202eb\\x00c\\nd")
    'abc d'
    """
    blank = "".join(" " if letter in "\t\n\r" else letter for letter in text)
    return "".join(letter for letter in blank if unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Co", "Cn"))


def written(node: "Tag | str") -> str:
    """The text of an element, with all that stands in it."""
    if isinstance(node, str):
        return html.escape(seen(node))
    attributes = "".join(f' {key}="{html.escape(seen(value))}"' for key, value in node.attributes)
    if node.name in VOID:
        return f"<{node.name}{attributes}>"
    return f"<{node.name}{attributes}>{''.join(map(written, node.children))}</{node.name}>"


def page(title: str, language: str, style: str, *body: object) -> str:
    """A whole document that loads nothing and runs nothing: its policy allows this one style sheet, named by its hash.

    Args:    style: CSS of ours, of which no word comes from outside.
    """
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"
    return (
        f'<!DOCTYPE html>\n<html lang="{html.escape(language)}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(seen(title))}</title>\n<style>{style}</style>\n</head>\n"
        f"{written(tag('body', *body))}\n</html>\n"
    )
