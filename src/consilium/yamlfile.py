"""YAML files that people write: every problem is told with its line, its value and the remedy."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from consilium.core.errors import Invalid

Model = TypeVar("Model", bound=BaseModel)
MAX_BYTES = 10 << 20


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key that stands twice, and keeps dates as text."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for index, key in enumerate(keys):
        if key in keys[:index]:
            raise yaml.constructor.ConstructorError(
                None, None, f"{key!r} stands twice", node.value[index][0].start_mark
            )
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in pairs if not tag.endswith(":timestamp")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(path: Path, model: type[Model], error: type[Invalid]) -> Model:
    """Read a file. Raises: `error`: with all problems, one line each; NotFound is told as such."""
    try:
        text = path.read_text(encoding="utf-8")  # whatever the locale says
    except (OSError, UnicodeDecodeError) as cause:
        raise error(f"{path} cannot be read", "give the path of a YAML file in UTF-8") from cause
    return parse(text, model, error, path.name)


def parse(text: str, model: type[Model], error: type[Invalid], name: str) -> Model:
    """Read text; `name` stands in the messages."""
    if len(text) > MAX_BYTES:
        raise error(f"{name} is larger than {MAX_BYTES >> 20} MiB", "split it")
    try:
        root = yaml.compose(text, Loader=_Loader)
        values = yaml.load(text, Loader=_Loader)  # noqa: S506  a subclass of SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError) as cause:
        mark = getattr(cause, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise error(f"{name}{line}: {getattr(cause, 'problem', None) or 'not YAML'}", "correct the YAML") from cause
    try:
        return model.model_validate(values)
    except ValidationError as cause:
        problems = [_problem(root, name, item, model) for item in cause.errors(include_url=False)]
        raise error("\n".join(problems), "" if len(problems) == 1 else f"{len(problems)} problems in all") from cause


def line(text: str, path: Sequence[str | int]) -> int:
    """The line of what stands at `path`, or of the nearest above it."""
    node, _ = _node(yaml.compose(text, Loader=_Loader), list(path))
    return node.start_mark.line + 1 if node is not None else 1


def _problem(root: yaml.Node | None, name: str, item: Any, model: type[BaseModel]) -> str:
    path = [part for part in item["loc"] if not str(part).startswith("function-")]
    named = re.match(r"`([a-z_.]+)`", _remedy(item))  # a rule about several keys says first which of them it is about
    if named and _node(root, inner := [*path, *named[1].split(".")])[1] == len(inner):
        path = inner
    node, known = _node(root, path)
    if (about := re.match(r"`([\w.]+)`", item["msg"].removeprefix("Value error, "))) is not None:
        further = [*path, *about[1].split(".")]  # a rule over several keys names first the one to correct
        found, deep = _node(root, further)
        if deep == len(further):
            path, node, known = further, found, deep
    line = node.start_mark.line + 1 if node is not None else 1
    field = ".".join(str(part) for part in path) or "file"
    told = ""
    if known == len(path) and isinstance(node, yaml.ScalarNode):
        told = f": {node.value[:60]!r}"
    return f"{name}:{line}: {field}{told}: {_remedy(item)}"


def _remedy(item: Any) -> str:
    match item["type"]:
        case "model_type" | "model_attributes_type":
            return "must hold `key: value` lines here"
        case "extra_forbidden":
            return "unknown key; correct its spelling or remove it"
        case "missing":
            return "is missing; add it"
        case "literal_error":
            return f"must be one of {item['ctx']['expected']}"
        case "value_error":
            return str(item["ctx"]["error"])
        case "string_pattern_mismatch":
            return f"does not have the form {item['ctx']['pattern']}"
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
