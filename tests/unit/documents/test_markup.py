"""Nothing that others have named becomes more than text: attacks first."""

from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.errors import Invalid
from consilium.core.judging import judged_on
from consilium.documents import markup, style
from consilium.documents.markup import tag, written
from consilium.documents.report import Report
from unit.documents.runs import STUDY, baseline, judged, result, usual

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOSTILE = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><script>alert(1)</script>",
    "</title><svg onload=alert(1)>", "' onmouseover='alert(1)", "<!--", "-->", "]]>", "&lt;b&gt;",
    "javascript:alert(1)", "</text></svg><iframe srcdoc=x>", "\x00<\x08b>", "\u202egnp.exe", "{{7*7}}",
    "url(//evil.example/x)",
)  # fmt: skip


class Read(HTMLParser):
    """The elements with their attributes' names, and all text, as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_comment(self, data: str) -> None:
        self.elements.append(("comment", ()))


def named(word: str) -> Report:
    """A report in which all that others may name is `word`."""
    document: dict[str, Any] = result({f"{word}{number}": one for number, one in enumerate(usual(3).values())})
    document |= {"reason": word, "privacy": word, "learns": word, "run": word, "status": word, "weaker": [word]}
    document["participation"][0]["refused"] = {f"{word}0": word}
    document["refusals"] = [{"site": word, "run": word, "round": 1, "reason": word, "text": word}]
    document["audit"] = [{"log": word, "entries": 1, "head": word, "intact": False, "problem": word}]
    document["regression"] = {
        "kind": "logistic", "patients": 10, "problem": word, "ratio": "", "baseline": word,
        "terms": [{"words": word, "note": word, "estimate": None, "low": None, "high": None, "p": None, "error": None}],
    }  # fmt: skip
    for said in document["decisions"].values():
        said |= {"reason": word, "person": word}
    shown = STUDY.purpose.model_copy(update={"text": word, "requester": word})
    inputs = tuple(one.model_copy(update={"meaning": word}) for one in STUDY.contract.features)
    label = STUDY.contract.label.model_copy(update={"meaning": word})
    contract = STUDY.contract.model_copy(update={"features": inputs, "label": label})
    study = STUDY.model_copy(update={"title": word, "purpose": shown, "contract": contract})
    own = {f"{word}{number}": judged(1.0, seed=number) for number in range(3)}
    return Report.of(document, NOW, study, {**baseline(own), "judged_on": judged_on(study)})


PLAIN = Read(named("north").html())


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_names_add_no_element_and_no_attribute(word: str) -> None:
    page = Read(named(word).html())
    assert page.elements == PLAIN.elements
    assert all(address.startswith("#") for address in page.addresses)
    assert word.replace("\x00", "").replace("\x08", "").replace("\u202e", "") in "".join(page.words)


@settings(max_examples=40)
@given(st.text("<>&\"'/=;-! \n\x00\u202eaé", max_size=40))
def test_any_text_comes_out_as_text(word: str) -> None:
    page = Read(written(tag("p", word, title=word, aria_label=word)))
    assert page.elements == [("p", ("title", "aria-label"))]
    assert "".join(page.words) == markup.seen(word)


def test_there_is_something_to_attack() -> None:
    """The word really stands in every part of the page, so that the tests above look at all of it."""
    count = "".join(PLAIN.words).count("north")
    assert count > 60
    assert {"svg", "table", "bdi", "details"} <= {element for element, _ in PLAIN.elements}


@pytest.mark.parametrize(
    "name, attributes",
    [
        ("script", {}), ("iframe", {}), ("img", {}), ("a", {"href": "https://evil.example"}), ("p", {"onclick": "x"}),
        ("p", {"style": "x"}), ("a", {"href": "javascript:x"}), ("svg", {"xlink:href": "#x"}), ("object", {}),
        ("p", {'a"b': "x"}), ("p", {"src": "x"}), ("form", {}),
    ],
)  # fmt: skip
def test_what_could_do_something_cannot_be_written(name: str, attributes: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        tag(name, **attributes)


def test_the_page_allows_its_own_style_sheet_and_nothing_else() -> None:
    page = named("north").html()
    (policy,) = [line for line in page.splitlines() if "Content-Security-Policy" in line]
    assert "default-src 'none'; style-src 'sha256-" in policy and "unsafe" not in policy and "http" not in policy[60:]
    assert "//" not in style.SHEET and "@import" not in style.SHEET and "url(" not in style.SHEET
    assert "<script" not in page and " style=" not in page and page.count("<style>") == 1
