"""YAML that people write is read alike with libyaml and without: the same nodes and lines, or the same words."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium import studyfile, yamlfile
from consilium.core.errors import StudyInvalid
from consilium.core.study import Study

TOKENS = (
    "a", "b", "x: y", "k: [1, 2]", "k: {a: 1, b: 2}", ": ", ":", "- ", "-", "\n", "\n  ", "\n    ", " ", "\t", "{",
    "}", "[", "]", ", ", ",", "'", '"', "#", " # c", "|", ">", "|-", "&x ", "*x", "!", "!!str ", "?", "? ", "1", "0x1",
    "1.0", "yes", "true", "~", "null", "<<", "é", "\u2028", "\x85", "%", "---\n", "...\n", "@", "`", "\\n", "\r\n",
    "\ufeff", "😀",
)  # fmt: skip
SHIPPED = sorted((Path(studyfile.__file__).parent / "examples").glob("*/*.yaml"))
pytestmark = pytest.mark.skipif(not yamlfile.FAST, reason="there is no libyaml")


def told(node: Any) -> Any:
    """All that is made of a node."""
    if node is None or isinstance(node, str):
        return node
    if isinstance(node, tuple):
        return tuple(map(told, node))
    value = node.value if isinstance(node, yaml.ScalarNode) else [told(one) for one in node.value]
    return node.tag, value, node.start_mark.line, bool(getattr(node, "style", None)) and node.tag != yamlfile._TAG


def read(text: str, fast: bool) -> Any:
    yamlfile.FAST, before = fast, yamlfile.FAST
    try:
        return told(yamlfile._composed(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return getattr(error, "problem", None), mark and mark.line
    finally:
        yamlfile.FAST = before


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=14).map("".join))
def test_any_text_is_read_alike(text: str) -> None:
    assert read(text, True) == read(text, False)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_files_that_are_shipped_are_read_alike(path: Path) -> None:
    text = path.read_text()
    assert read(text, True) == read(text, False) and not yamlfile._ELSEWISE.search(text)


def test_what_is_wrong_is_told_at_its_line_in_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = (
        "consilium: 1\nname: [a\n", "a: b: c\n", "a: 1\nb: 2\na: 3\n", "[" * 500,
        "consilium: 1\nname: 7\nrounds: '3'\n",        "rounds: yes\nquorum: true\n", "a: {[1]: 2}\n", "a: \x01",
    )  # fmt: skip
    for one in wrong:
        said = []
        for fast in (True, False):
            monkeypatch.setattr(yamlfile, "FAST", fast)
            with pytest.raises(StudyInvalid) as raised:
                yamlfile.parse(one, Study, StudyInvalid, "study.yaml")
            said.append(str(raised.value))
        assert said[0] == said[1] and "study.yaml" in said[0]
