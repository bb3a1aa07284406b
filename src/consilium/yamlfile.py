"""YAML files that people write: every problem is told with its line, its value and the remedy."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from consilium.core.errors import Invalid
from consilium.core.ids import SLUG
from consilium.core.parts import IDENTIFIER, STUDY_NAME

Model = TypeVar("Model", bound=BaseModel)
MAX_BYTES = 10 << 20
ELSEWHERE = {
    "ensemble": "no study makes one: hospitals' own models would have to leave them, which no recipe lets them. Where "
    "tables may lie together, `consilium baseline STUDY --ensemble` judges the mean of what these models predict"
}
"""What people ask a file for by a name that it does not have, and where it is."""
WITH_OPTIONS = ("model", "strategy")
"""Parts of a study file that hold options of what they name, which people write beside its name."""


FORMS = {
    IDENTIFIER: "must begin with a letter, and hold nothing but letters from a to z, digits and _, 63 at most",
    STUDY_NAME: "must hold small letters from a to z, digits and - alone, not begin with -, and be 50 long at most",
    SLUG: "must hold small letters from a to z, digits and - alone, not begin with -, and be 63 long at most",
}
"""What names look like, in words."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key that stands twice, and keeps dates as text.

    As in YAML 1.2, `no` and `on` are words, for codes of hospitals often are; so is a number with a zero before it.
    """


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    known = set[Any]()
    for given, _ in node.value:
        key = loader.construct_object(given)
        try:
            twice = key in known
            known.add(key)
        except TypeError:  # a list or a mapping, which is no key: `construct_mapping` says so
            break
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands twice", given.start_mark)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_TAG = "tag:yaml.org,2002:"
_FORMS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "float": (
        r"[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in pairs if tag in (f"{_TAG}null", f"{_TAG}merge")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, (_form, _first) in _FORMS.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"^(?:{_form})$"), list(_first))

FAST = bool(yaml.__with_libyaml__)
"""Whether there is libyaml."""
_ELSEWISE = re.compile(r"\t|\ufeff|---|[|>][-+0-9]*#|(?:^|[\s\[{,:-])!|\?(?:[\s,\]}]|$)", re.MULTILINE)
"""What libyaml reads in another way than PyYAML does, be it the line alone: tabs, marks, tags, keys after `?`."""
if FAST:
    from yaml._yaml import CParser

    class _Events(Composer, CParser, SafeConstructor, Resolver):
        """Nodes as `_Loader` makes them, of what libyaml reads: with the same lines, seven times as fast.

        libyaml's own nodes are made without a limit to their depth; these are not.
        """

        yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            Composer.__init__(self)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)


def load(path: Path, model: type[Model], error: type[Invalid]) -> Model:
    """Read a file. Raises: `error`: with all problems, one line each; NotFound is told as such."""
    try:
        text = path.read_text(encoding="utf-8")  # whatever the locale says
    except (OSError, UnicodeDecodeError) as cause:
        raise error(f"{path} cannot be read", "give the path of a YAML file in UTF-8") from cause
    return parse(text, model, error, path.name)


def _composed(text: str) -> yaml.Node | None:
    """The nodes of a text, and what is wrong in the same words, with libyaml or without.

    Raises: yaml.YAMLError, RecursionError, ValueError.
    """
    if FAST and not _ELSEWISE.search(text):
        with suppress(yaml.YAMLError, ValueError):
            return _Events(text).get_single_node()
    return yaml.compose(text, Loader=_Loader)


def parse(text: str, model: type[Model], error: type[Invalid], name: str) -> Model:
    """Read text; `name` stands in the messages."""
    if len(text) > MAX_BYTES:
        raise error(f"{name} is larger than {MAX_BYTES >> 20} MiB", "split it")
    try:
        root = _composed(text)
        values = None if root is None else _Loader("").construct_document(root)
    except (yaml.YAMLError, RecursionError, ValueError) as cause:
        mark = getattr(cause, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise error(f"{name}{line}: {getattr(cause, 'problem', None) or 'not YAML'}", "correct the YAML") from cause
    if truths := [_told(root, name, path, remedy) for path, remedy in _truths(values, [])]:
        raise complaint(error, truths)
    try:
        made = model.model_validate(values)
    except ValidationError as cause:
        raise complaint(error, [_problem(root, name, item) for item in cause.errors(include_url=False)]) from cause
    turned = [_told(root, name, *one) for one in _turned(values, made, []) if not _plain(root, one[0])]
    if turned:
        raise complaint(error, turned)
    return made


def complaint(error: type[Invalid], problems: list[str]) -> Invalid:
    """The error that tells all problems of a file, one line each."""
    return error("\n".join(problems), "" if len(problems) == 1 else f"{len(problems)} problems in all")


def _turned(value: Any, made: Any, path: list[Any]) -> Iterator[tuple[list[Any], str]]:
    """Where something else was made of what stands there: true became 1, or text a number; and the remedy."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(made, BaseModel):
                yield from _turned(inner, getattr(made, str(key), inner), [*path, key])
            elif isinstance(made, dict):
                yield from _turned(inner, made.get(key, inner), [*path, key])
    elif isinstance(value, list) and isinstance(made, list | tuple) and len(made) == len(value):
        for number, inner in enumerate(value):
            yield from _turned(inner, made[number], [*path, number])
    elif isinstance(value, bool) and not isinstance(made, bool):
        text = isinstance(made, str)
        yield path, f'quote it: "{_word(value)}"' if text else "is a truth value; write a number"
    elif isinstance(value, str) and isinstance(made, int | float):
        yield path, "is text; write it without quotes"


def _truths(value: Any, path: list[Any]) -> Iterator[tuple[list[Any], str]]:
    """Where `true` or `false` is a key, which no file here has: it was meant as a code."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in parts:
        if isinstance(key, bool):
            yield [*path, _word(key)], f'is a truth value; if it is a code, quote it: "{_word(key)}"'
        yield from _truths(inner, [*path, key])


def _plain(root: yaml.Node | None, path: list[Any]) -> bool:
    """Whether text stands there without quotes, as `1e-5` does, which YAML takes for text, and people for a number."""
    node, _ = _node(root, path)
    return isinstance(node, yaml.ScalarNode) and not node.style and node.tag == f"{_TAG}str"


def _word(value: bool) -> str:
    return str(value).lower()


def line(text: str, path: Sequence[str | int]) -> int:
    """The line of what stands at `path`, or of the nearest above it."""
    node, _ = _node(_composed(text), list(path))
    return node.start_mark.line + 1 if node is not None else 1


def word(text: str, path: Sequence[str | int]) -> str | None:
    """What stands at `path`, as it is written there; None: nothing does, or more than a word."""
    node, known = _node(_composed(text), list(path))
    return node.value if known == len(path) and isinstance(node, yaml.ScalarNode) else None


def _problem(root: yaml.Node | None, name: str, item: Any) -> str:
    path = _within(root, item["loc"])
    named = re.match(r"`([\w.]+)`", _remedy(item))  # a rule over several keys names first the one to correct
    if named and _node(root, inner := [*path, *named[1].split(".")])[1] == len(inner):
        path = inner
    node, known = _node(root, path)
    return _at(name, node, path, known, _remedy(item))


def _within(root: yaml.Node | None, loc: Sequence[Any]) -> list[Any]:
    """Where in the file something is wrong: without the names of our own that pydantic puts between its keys."""
    path: list[Any] = []
    for place, part in enumerate(loc):
        if place == len(loc) - 1 or _node(root, [*path, part])[1] > len(path):
            path.append(part)
    return [part for part in path if not str(part).startswith("function-")]


def _told(root: yaml.Node | None, name: str, path: list[Any], remedy: str) -> str:
    node, known = _node(root, path)
    return _at(name, node, path, known, remedy)


def _at(name: str, node: yaml.Node | None, path: list[Any], known: int, remedy: str) -> str:
    line = node.start_mark.line + 1 if node is not None else 1
    field = ".".join(str(part) for part in path) or "file"
    told = ""
    if known == len(path) and isinstance(node, yaml.ScalarNode):
        told = f": {node.value[:60]!r}"
    return f"{name}:{line}: {field}{told}: {remedy}"


def _remedy(item: Any) -> str:
    match item["type"]:
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must hold `key: value` lines here"
        case "extra_forbidden":
            of = item["loc"][0] if len(item["loc"]) > 1 else ""
            within = f", write it in `options` of `{of}`," if of in WITH_OPTIONS else ""
            return ELSEWHERE.get(str(item["loc"][-1]), f"unknown key; correct its spelling{within} or remove it")
        case "string_too_long" if item["loc"][-1] == "delimiter":
            return 'must be one character; a tab is written "\\t", in quotes'
        case "missing":
            return "is missing; add it"
        case "literal_error":
            expected = item["ctx"]["expected"]
            return f"must be {'one of ' if ' or ' in expected else ''}{expected}"
        case "value_error":
            return str(item["ctx"]["error"])
        case "tuple_type" | "list_type":
            if item["loc"][-1] in ("range", "typical"):
                return "must be two numbers, in brackets, as [18, 100]"
            return 'must be a list, in brackets, as ["-9"]'
        case "too_short":
            least, count = item["ctx"]["min_length"], item["ctx"]["actual_length"]
            return f"must have {least} or more entries, and has {count}"
        case "string_type" if item["loc"][-1] == "[key]":
            return "is a number, and no word; if it may be one, quote it: " + f'"{item["input"]}"'
        case "string_pattern_mismatch":
            pattern = item["ctx"]["pattern"]
            return FORMS.get(pattern, f"does not have the form {pattern}")
    message: str = item["msg"]
    return message[:1].lower() + message[1:]


def _node(root: yaml.Node | None, path: list[Any]) -> tuple[yaml.Node | None, int]:
    """The node at `path`, or the nearest one above it; and how many parts of the path it has."""
    node, known = root, 0
    for part in path:
        following = None
        if isinstance(node, yaml.MappingNode):
            following = next((v for k, v in node.value if k.value == str(part)), None)
            if following is None:
                key = next((k for k, _ in node.value if k.value == str(part)), None)
                following = key
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            following = node.value[part]
        if following is None:
            break
        node, known = following, known + 1
    return node, known
