"""The official tests of FHIRPath: which of them lie within the subset, and what is wrong with our answers."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec

from consilium.core.errors import ViewInvalid
from consilium.data.fhir.paths import Scope, compile_path, wants_digits
from consilium.data.fhir.values import Mismatch, items, text, truth

FOLDER = Path(__file__).parents[3] / "shared/suites/fhirpath_tests"


STRICT = ("testSimpleFail", "testSimpleWithWrongContext", "testPolymorphismB", "testPolymorphicsB")
"""Of the strict mode, in which names are checked against FHIR's definitions; the suite marks them `mode="strict"`, the
last one by the comment above it."""
REFUSED = {
    "testIif6": "what is no boolean is a wrong condition",
    "testFHIRPathAsFunction24": "there is no type string1",
}
"""Paths that the suite calls wrong, and not for their syntax, and that are refused for what is wrong."""


@dataclass(frozen=True)
class Case:
    """One test: an expression, and what it gives, or that it is invalid."""

    name: str
    expression: str
    invalid: str
    predicate: bool
    file: str
    outputs: tuple[tuple[str, str], ...]

    @property
    def title(self) -> str:
        """As the suite calls it."""
        return self.name.split("/")[1]


def cases(release: str) -> Iterator[Case]:
    """Every test of `r4` or `r5`."""
    for group in ElementTree.parse(FOLDER / f"tests-fhir-{release}.xml").getroot():
        for number, test in enumerate(group.findall("{*}test")):
            said = test.find("{*}expression")
            assert said is not None
            outputs = tuple((out.get("type") or "", out.text or "") for out in test.findall("{*}output"))
            name = f"{group.get('name')}/{test.get('name')}/{number}"
            predicate = test.get("predicate") == "true"
            yield Case(
                name, said.text or "", said.get("invalid") or "", predicate, test.get("inputfile") or "", outputs
            )


def resource(release: str, file: str, exact: bool) -> Any:
    """The resource of a test, in JSON; None where the suite has it in XML alone."""
    if not file:
        return {}
    for folder in (f"input_{release}", "input_r5"):
        path = FOLDER / folder / (file.rsplit(".", 1)[0] + ".json")
        if path.exists():
            return msgspec.json.Decoder(float_hook=Decimal if exact else None).decode(path.read_bytes())
    return None


def fault(release: str, case: Case) -> str | None:
    """What is wrong with our answer, "" where nothing is; None where the test lies outside of the subset."""
    try:
        exact = wants_digits(case.expression)
        path = compile_path(case.expression, Scope(exact=exact))
    except ViewInvalid:
        return "" if case.invalid == "syntax" or case.title in REFUSED else None
    if case.title in STRICT:
        return None
    if case.invalid == "syntax":
        return "it is taken for a path"
    node = resource(release, case.file, exact)
    if node is None:
        return None
    try:
        found = path.run(node)
    except Mismatch as error:
        return "" if case.invalid else f"Mismatch: {error}"
    if case.invalid:
        return f"there is no error, but {found}"
    if case.predicate:
        found = truth(found) if truth(found) is not None else False
    given = [_text(item) for item in items(found)]
    return "" if given == [_wanted(kind, value) for kind, value in case.outputs] else f"gives {given}"


def _text(item: Any) -> str:
    return _number(text(item) or str(item)) if not isinstance(item, bool | str) else text(item) or ""


def _wanted(kind: str, value: str) -> str:
    value = value.removeprefix("@").removeprefix("T") if kind in ("date", "dateTime", "time", "instant", "") else value
    return _number(value) if kind in ("decimal", "integer", "") else value


def _number(value: str) -> str:
    try:
        return str(Decimal(value).normalize() + 0)
    except InvalidOperation:
        return value
