"""Every code block is run or checked, every link leads somewhere, and every name in the pages exists."""

import ast
import configparser
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from pydantic import BaseModel, RootModel

from consilium import yamlfile
from consilium.console.cli.app import root
from consilium.core.contract import Contract
from consilium.core.errors import Invalid
from consilium.core.gate import Asked
from consilium.core.judging import Evaluation
from consilium.core.model import Model
from consilium.core.preparing import Prepare
from consilium.core.study import Strategy, Study
from consilium.data.fhir.views import compile_view
from consilium.data.mapping import Mapping, RecordsPart, load
from consilium.data.source import TableSource
from consilium.governance.policy import Policy
from consilium.studyfile import read
from consilium.testing import strategies
from docs.pages import ROOT, Block, blocks, pages

KNOWN = {"sh", "yaml", "json", "python", "toml", "ini", "sql", "text"}
FORMATS: dict[str, type[BaseModel]] = {"consilium": Study, "mapping": Mapping, "policy": Policy}


class Records(RootModel[dict[str, RecordsPart]]):
    """`records` of a mapping."""


class Gate(RootModel[Asked]):
    """`gate` of a study."""


PARTS: dict[str, type[BaseModel]] = {
    "source": TableSource, "model": Model, "strategy": Strategy, "gate": Gate, "contract": Contract, "records": Records,
    "evaluation": Evaluation, "prepare": Prepare,
}  # fmt: skip
OPERATORS = re.compile(r"[|;&<>()]+")
WHERE = re.compile(r"`((?:tests|src|docs|bench|\.ci)/[\w./-]+)(?:::(\w+))?`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def every(*languages: str) -> list[Block]:
    """All blocks of these languages, on all pages."""
    return [block for page in pages() for block in blocks(page) if block.language in languages]


def where(value: Any) -> str:
    if isinstance(value, Block):
        return f"{value.page.relative_to(ROOT)}:{value.line}"
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


def test_every_block_says_what_it_is() -> None:
    strange = [where(block) for page in pages() for block in blocks(page) if block.language not in KNOWN]
    assert not strange


@pytest.mark.parametrize("block", every("yaml"), ids=where)
def test_yaml_is_valid(block: Block) -> None:
    values = yaml.safe_load(block.text)
    first = next(iter(values))
    if first in FORMATS:
        yamlfile.parse(block.text, FORMATS[first], Invalid, where(block))
    else:
        assert len(values) == 1 and first in PARTS, "no model is known that checks this block"
        PARTS[first].model_validate(values[first])


def test_the_mapping_of_the_page_fits_the_contract_that_it_names(tmp_path: Path) -> None:
    study = read(ROOT / "src/consilium/examples/heart_disease/study.yaml")
    (text,) = (b.text for b in blocks(ROOT / "docs/how-to/map-your-tables.md") if b.title == "mapping.yaml")
    (tmp_path / "mapping.yaml").write_text(text)
    assert load(tmp_path / "mapping.yaml", study.contract).contract == study.name


@pytest.mark.parametrize("block", every("json"), ids=where)
def test_json_is_a_view(block: Block) -> None:
    compile_view(json.loads(block.text))


@pytest.mark.parametrize("block", every("python"), ids=where)
def test_python_compiles(block: Block) -> None:
    compile(block.text, where(block), "exec")


@pytest.mark.parametrize("law", strategies.LAWS, ids=lambda law: law.__name__)
def test_the_plug_in_of_the_page_keeps_the_laws(law: Any) -> None:
    page = blocks(ROOT / "docs/how-to/write-a-plug-in.md")
    module: dict[str, Any] = {"__name__": "cautious"}
    exec(next(block.text for block in page if block.title.endswith("/cautious.py")), module)
    law(module["Cautious"])


def tokens(text: str) -> list[str]:
    """Words and operators of a shell script; comments are gone."""
    lexer = shlex.shlex(text.replace("\\\n", " ").replace("\n", " ; "), posix=True, punctuation_chars="|;&<>()")
    lexer.whitespace_split = True
    lexer.commenters = ""
    return list(lexer)


def calls(text: str) -> Iterator[list[str]]:
    """The arguments of every `consilium` command in a shell script."""
    call: list[str] | None = None
    bare = "\n".join(re.sub(r"(^|\s)#.*$", "", line) for line in text.splitlines())
    for word in [*tokens(bare), ";"]:
        if OPERATORS.fullmatch(word):
            if call is not None:
                yield call
            call = None
        elif call is not None:
            call.append(word)
        elif word == "consilium" or word.endswith("/consilium"):
            call = []


def wrong(words: list[str], whole: bool = True) -> str:
    """What is wrong with one command line; empty when nothing is. `whole`: nothing that is required may be left out."""
    command: click.Command = root
    ctx = click.Context(root, info_name="consilium")
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(ctx, rest[0])
        if found is None:
            return f"there is no command {rest[0]}"
        ctx, command, rest = click.Context(found, info_name=rest[0], parent=ctx), found, rest[1:]
    try:
        given, left, _ = command.make_parser(ctx).parse_args(list(rest))
    except click.UsageError as error:
        return error.format_message()
    if left:
        return f"too many arguments: {left}"
    for param in command.params:
        value = given.get(str(param.name))
        if whole and param.required and value is None and "help" not in given:
            return f"{param.name} is missing"
        if isinstance(param.type, click.Choice) and isinstance(value, str) and value not in param.type.choices:
            return f"{value} is none of {param.type.choices}"
    return ""


@pytest.mark.parametrize("block", every("sh"), ids=where)
def test_every_command_in_a_block_exists_with_its_options(block: Block) -> None:
    assert {" ".join(call): wrong(call) for call in calls(block.text) if wrong(call)} == {}


def test_the_check_of_commands_finds_mistakes() -> None:
    assert wrong(["site", "approve", "s", "--person", "Vera"]) == ""
    assert "no command" in wrong(["site", "aprove"])
    assert "--persn" in wrong(["site", "approve", "s", "--persn", "Vera"])
    assert "person is missing" in wrong(["site", "approve", "s"])
    assert "none of" in wrong(["people", "add", "ann", "--role", "king"])
    found = list(
        calls("until consilium login URL; do sleep 1; done\nT=$(consilium sites token a | head -1) # consilium x")
    )
    assert found == [["login", "URL"], ["sites", "token", "a"]]


@pytest.mark.parametrize("page", pages(), ids=where)
def test_every_command_in_a_sentence_exists(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    found = [call for inline in re.findall(r"`(consilium [^`]+)`", prose) for call in calls(inline)]
    assert {" ".join(call): wrong(call, whole=False) for call in found if wrong(call, whole=False)} == {}


@pytest.mark.parametrize("block", every("ini"), ids=where)
def test_units_start_commands_that_exist(block: Block) -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read_string(block.text)
    assert {"Unit", "Service", "Install"} == set(unit.sections())
    (call,) = calls(unit["Service"]["ExecStart"])
    assert wrong(call) == "" and call[1] == "run"


@pytest.mark.parametrize("page", pages(), ids=where)
def test_links_and_names_lead_to_what_exists(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    lost = []
    for link in LINK.findall(text):
        target, _, anchor = link.partition("#")
        if not re.match(r"[a-z]+:", link) and not absent_or_anchored(page, target, anchor):
            lost.append(link)
    for name, function in WHERE.findall(text):
        if not (ROOT / name).exists() or (function and f"def {function}(" not in (ROOT / name).read_text()):
            lost.append(f"{name}::{function}")
    lost += [f"make {target}" for target in re.findall(r"`make ([a-z-]+)`", text) if target not in targets()]
    assert not lost


def absent_or_anchored(page: Path, target: str, anchor: str) -> bool:
    """Whether a relative link leads to a file and, in a page, to one of its headings."""
    path = (page.parent / target).resolve() if target else page
    if not path.exists():
        return False
    return not anchor or path.suffix != ".md" or anchor in {slug(line) for line in path.read_text().splitlines()}


def slug(line: str) -> str:
    return re.sub(r"[^\w -]", "", line.lstrip("#").strip().lower()).replace(" ", "-") if line.startswith("#") else ""


@cache
def targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_what_is_to_be_installed_exists() -> None:
    """Ours is in no index of packages: pages and remedies name a folder, extras that there are, and files."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
    page = (ROOT / "docs/how-to/install.md").read_text()
    assert set(re.findall(r"^\| `(\w+)`", page, flags=re.MULTILINE)) == extras - {"docs", "test", "check"}
    strange = []
    for path in (*pages(), *(ROOT / "src").rglob("*.py")):
        text = path.read_text()
        strange += [f"{where(path)}: {found}" for found in re.findall(r"(?:install|extra) .*(consilium\[.*)", text)]
        for told in re.findall(r"pip install ([^`\n]+)", text):
            named = {one for group in re.findall(r"\[(\w[\w,]*)\]", told) for one in group.split(",")}
            lost = [name for name in re.findall(r"-[cr] (\S+)", told) if not (ROOT / name).is_file()]
            strange += [f"{where(path)}: {name}" for name in (*sorted(named - extras), *lost)]
    assert not strange
    for told in (
        "README.md",
        "docs/tutorial/first-study.md",
        "docs/tutorial/two-machines.md",
        "docs/how-to/install.md",
    ):
        assert ".venv/bin/pip install -c constraints.txt '.[demo]'" in (ROOT / told).read_text(), told


def test_every_kind_of_entry_in_an_audit_log_is_explained() -> None:
    page = (ROOT / "docs/how-to/read-the-audit-log.md").read_text()
    kinds = {
        found
        for shell in ("site", "coordinator")
        for path in (ROOT / "src/consilium" / shell).glob("*.py")
        for found in recorded(ast.parse(path.read_text()))
    }
    assert {"send", "answer", "round-opened", "phase-opened", "roster-compared", "roster-differs"} <= kinds
    assert [kind for kind in sorted(kinds) if f"`{kind}`" not in page] == []


def recorded(tree: ast.AST) -> Iterator[str]:
    """The literal arguments of every call of a function or method named `record`, and those of which one is chosen."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "record":
            given = [part for a in node.args for part in ((a.body, a.orelse) if isinstance(a, ast.IfExp) else (a,))]
            yield from (a.value for a in given if isinstance(a, ast.Constant) and isinstance(a.value, str))
