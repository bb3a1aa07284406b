"""Write the generated pages of the reference: `python docs/generate.py`, after a change of anything they describe."""

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click

import consilium
from consilium import studyfile
from consilium.config import COORDINATOR, SETTINGS
from consilium.console.cli.app import EXIT_CODES, exit_code, root
from consilium.console.cli.plugins import listed
from consilium.core import errors
from consilium.core import round as machine
from consilium.data.fhir.arrow import TYPES
from consilium.data.fhir.paths import FUNCTIONS, OPERATORS
from consilium.data.omop import circe
from consilium.plugins import GROUPS

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from cells import examples, page  # noqa: E402
from drawing import drawn  # noqa: E402

NOTE = "<!-- Written by docs/generate.py: change the code and run it again. -->\n"


def commands(
    command: click.Command, ctx: click.Context, path: str
) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command with its full name, groups before their members."""
    yield path, command, ctx
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            member = command.get_command(ctx, name)
            if member is not None and not member.hidden:
                yield from commands(member, click.Context(member, info_name=name, parent=ctx), f"{path} {name}")


def every_command() -> list[tuple[str, click.Command, click.Context]]:
    """Every command of the command line."""
    return list(commands(root, click.Context(root, info_name="consilium", **root.context_settings), "consilium"))


def commands_page() -> str:
    """docs/reference/commands.md."""
    parts = [f"# Commands\n\n{NOTE}\nEvery command takes `--help`. [Exit codes](exit-codes.md) are the same for all.\n"]
    for path, command, ctx in every_command():
        parts.append(f"{'##' if path.count(' ') < 2 else '###'} `{path}`\n\n```text\n{_help(command, ctx)}\n```\n")
    return "\n".join(parts)


def _help(command: click.Command, ctx: click.Context) -> str:
    formatter = click.HelpFormatter(width=100)
    command.format_help(ctx, formatter)
    return "\n".join(line.rstrip() for line in formatter.getvalue().rstrip().splitlines())


def errors_page() -> str:
    """docs/reference/errors.md."""
    rows = [
        f"| `{code}` | {(kind.__doc__ or '').strip().splitlines()[0]} | {exit_code(kind('', ''))} |"
        for code, kind in sorted(errors.every().items())
    ]
    head = (
        f"# Errors\n\n{NOTE}\nEvery error has a stable code, says what happened and what to do next, and never "
        "carries patient data. On the wire it is JSON with `code`, `message`, `remedy` and `reason`; commands print "
        "it, as JSON with `--json`.\n\n| Code | Meaning | Exit code |\n|---|---|---|\n"
    )
    refusals = "\n".join(f"| `{reason}` | {words} |" for reason, words in sorted(reasons().items()))
    tail = (
        "\n## Reasons of `refused`\n\nA refusal carries a stable reason code; a hospital's reasons reach the study's "
        "owner (`consilium study show`). Others are `declined`, `revoked`, `site-failure` and the codes above. `…` "
        "stands for what differs. What helps after `difference` is told "
        "[here](../how-to/fit-an-exact-regression.md#when-hospitals-refuse-difference).\n\n"
        "| Reason | What it says |\n|---|---|\n"
    )
    return head + "\n".join(rows) + "\n" + tail + refusals + "\n"


def reasons() -> dict[str, str]:
    """Every reason code that the package raises, with what is said where it is raised."""
    found: dict[str, dict[str, None]] = {}
    for path in sorted(Path(consilium.__file__).parent.rglob("*.py")):
        if "reason=" not in (text := path.read_text()):
            continue
        for node in ast.walk(ast.parse(text)):
            for key in node.keywords if isinstance(node, ast.Call) else ():
                if key.arg == "reason" and isinstance(key.value, ast.Constant) and key.value.value and node.args:
                    found.setdefault(str(key.value.value), {})[_said(node.args[0])] = None
    return {reason: "; ".join(words).replace("|", "\\|") for reason, words in found.items()}


def _said(node: ast.AST) -> str:
    """The text of a literal, with … for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_said(part) for part in node.values)
    return "…"


def exit_codes_page() -> str:
    """docs/reference/exit-codes.md."""
    rows = "\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())
    return f"# Exit codes\n\n{NOTE}\nThe same for every command.\n\n| Code | Meaning |\n|---|---|\n{rows}\n"


def settings_page() -> str:
    """docs/reference/settings.md."""
    rows = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in sorted(SETTINGS.items()))
    keys = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in COORDINATOR.items())
    return (
        f"# Settings\n\n{NOTE}\nSettings are options of [commands](commands.md); these environment variables stand for "
        f"options, or reach all commands.\n\n| Variable | Meaning |\n|---|---|\n{rows}\n\n"
        "## coordinator.json\n\nIn the coordinator's folder, read when the coordinator starts. A key that is not here "
        f"is refused by name.\n\n| Key | Meaning |\n|---|---|\n{keys}\n"
    )


def plugins_page() -> str:
    """docs/reference/plug-ins.md."""
    parts = [
        f"# Plug-ins\n\n{NOTE}\nA package offers a plug-in as an entry point in one of these groups; "
        "`consilium plugins` lists what is installed. How to: [write a plug-in](../how-to/write-a-plug-in.md).\n"
    ]
    for group, purpose in GROUPS.items():
        rows = "\n".join(
            f"| `{row['name']}` | `{row['object']}` |"
            for row in listed()
            if f"consilium.{row['group']}" == group and row["package"] == "consilium"
        )
        parts.append(f"## `{group}`\n\n{purpose[0].upper()}{purpose[1:]}.\n\n| Name | Object |\n|---|---|\n{rows}\n")
    return "\n".join(parts)


def architectures_page() -> str:
    """docs/reference/architectures.md."""
    from consilium.training.catalogue import CATALOGUE

    parts = [f"# Architectures\n\n{NOTE}\n{ARCHITECTURES}"]
    parts.extend(_keys(f"`{name}`", kind.model_json_schema()) for name, (kind, _) in CATALOGUE.items())
    return "\n".join(parts)


ARCHITECTURES = """The catalogue of PyTorch models, `model.architecture` in [the study file](study-file.md), with their
`model.options`. They need the extra `torch`. Each gives one number per patient, which the label's type makes a
probability, a value or a rate. First values follow from `training.seed`.

All can have an [epsilon](../how-to/ask-for-an-epsilon.md): none of their layers mixes patients, and only weights are
averaged. A study can bring [an architecture of its own](../how-to/approve-a-wheel.md) otherwise.
"""


def views_page() -> str:
    """docs/reference/view-definitions.md."""
    rows = "\n".join(f"| `{kind}` | `{arrow}` |" for kind, arrow in sorted(TYPES.items()))
    functions = ", ".join(f"`{name}()`" for name in FUNCTIONS)
    operators = " ".join(f"`{sign}`" for sign in OPERATORS)
    return VIEWS.format(note=NOTE, functions=functions, operators=operators, rows=rows)


VIEWS = """# View definitions

{note}
A ViewDefinition of [SQL on FHIR v2](https://sql-on-fhir.org) says which rows and columns FHIR resources become. All of
it is taken: `resource`, `constant`, `where`, `select` with `column`, `forEach`, `forEachOrNull`, `repeat`, `unionAll`
and nested selects, and `%rowIndex`; other keys, such as `url` and `status`, say nothing about rows and are passed over.
The official tests pass, 134 of 134 (`python -m consilium.testing.sql_on_fhir FOLDER` writes the official report).

What is wrong with a definition is said before anything is read, by place and path (`view-invalid`). Data that do not
fit, such as two values where a column holds one, or a text in a column of numbers, end in a finding with file and line
(`data-unusable`), and never in another value.

## Paths

Paths are FHIRPath. Literals: texts, numbers, `true`, `false`, dates and times (`@2018-03-01T10:30:00Z`), `{{}}`.
Constants: those of the definition, `%rowIndex`, `%ucum`, `%loinc` and `%sct`.

Operators: {operators}, and signs before a term.

Functions: {functions}.

**What lies outside, and is refused**: quantities in a path (`4 'mg'`), `~` and `!~`, `is` and `as`, `$index` and
`$total`, and every function that is not named here, such as those with patterns (`matches()`), with the present time
(`now()`), and boundaries to a given precision; `hasValue()`, for an element that has extensions in place of a value is
nothing here, as a `null` in JSON is; `ofType()` with a simple type other than boolean, of an element that is no choice,
for in JSON a code, an id and a string are all text (`testFHIRPathAsFunction16` to `20`); names that are no type of
FHIR, or almost one. The strict mode lies outside, too, in which names of elements are checked against FHIR's
definitions: `testSimpleFail`, `testSimpleWithWrongContext`, `testPolymorphismB` and `testPolymorphicsB`. Here a path
with a misspelt element is empty, and `valueQuantity` is taken for `value.ofType(Quantity)`.

471 of the 935 official tests of FHIRPath for R4, and 527 of the 1051 for R5, lie within the subset, and all of them
pass. All others are refused before anything is read, but the four of the strict mode and those whose resource the suite
has in XML alone.

**What is answered otherwise** than FHIRPath has it, for types of elements are not known, only JSON:

- `value`, without `ofType()`, is any of its types.
- A text that has the shape of a date is compared as a date with a date, and with another such text. A day is a
  dateTime for `lowBoundary()`, unless its element is always a date (`birthDate`), its choice says so, or its column.
- Two dates that are not known to the same precision, or of which one has no time zone, may be neither equal nor
  unequal: the answer is empty.

## Columns

As Arrow, a column is a list where `collection` is true, and has one of these types; every other type is text as FHIR
writes it, dates and times too, for they are known to some precision only. A column without `type` has the type that its
path tells, or is text.

| FHIR type | Arrow type |
|---|---|
{rows}
"""


def atlas_page() -> str:
    """docs/reference/atlas-cohorts.md: every part of a cohort definition that is supported."""
    known: dict[str, type[circe.Json]] = {"definition": circe.Expression}
    _parts(circe.Expression, known)
    rows = "\n".join(
        f"| {_place(name)} | {_sentence({'description': part.__doc__ or ''})} | {_supported(part)} |"
        for name, part in known.items()
    )
    return ATLAS.format(note=NOTE, rows=rows)


def _parts(part: type[circe.Json], known: dict[str, type[circe.Json]]) -> None:
    """The parts within a part, in the order in which they stand there; of each kind the first by its key."""
    for name, field in part.model_fields.items():
        for inner in _models(field.annotation):
            if issubclass(inner, circe.Json) and inner not in known.values() and inner.model_fields:
                known[name if name in circe.DOMAIN_OF or inner is not circe.Criterion else "criterion"] = inner
                _parts(inner, known)


def _models(kind: Any) -> Iterator[type[circe.Json]]:
    if isinstance(kind, type) and issubclass(kind, circe.Json):
        yield kind
    for inner in get_args(kind):
        yield from _models(inner)


def _place(name: str) -> str:
    return {"criterion": "a criterion", "definition": "the definition"}.get(name, f"`{name}`")


def _supported(part: type[circe.Json]) -> str:
    """The keys of a part; those that may only say no stand so."""
    words = []
    for name, field in part.model_fields.items():
        no = any(getattr(one, "le", None) is False for one in field.metadata)
        empty = any(getattr(one, "max_length", None) == 0 for one in field.metadata) or field.annotation is circe.Empty
        words.append(f"`{name}`{' (false)' if no else ' (empty)' if empty else ''}")
    return ", ".join(words)


ATLAS = """# Cohorts of ATLAS

{note}
A cohort definition that ATLAS exports (Circe JSON) can say which persons of [an OMOP database](../how-to/omop.md)
count, and from which day on. These parts of it are supported. Any other part is refused by its name before the database
is asked (`mapping-invalid`), and never passed over; a key that holds `null` says nothing. It means what it means to
OHDSI's circe-be. Concept sets have `items` with `concept`, `isExcluded`, `includeDescendants`; `includeMapped` only as
false. Names and codes of concepts are for people; what counts is `CONCEPT_ID`.

| Part | What it is | Keys |
|---|---|---|
{rows}

Ages are years of the calendar: the year of the event less the year of birth. `First` is the first record of a person in
the whole database. Entries of a person that touch are one. Where a person has several entries, the mapping says whether
the first or the last counts (`entry`).

What lies outside, among others: criteria with criteria of their own (`CorrelatedCriteria`), source concepts, types of
records and providers, `RestrictVisit`, distinct counts (`IsDistinct`), custom eras, events that censor, and a
`CensorWindow`. Write such a cohort as `query`.
"""


def schema_page(what: str) -> str:
    """docs/reference/<what>.md: every key of a file that people write."""
    schema = studyfile.json_schema(what)
    title = f"The {what} file"
    parts = [
        f"# {title}\n\n{NOTE}\n{_sentence(schema)}\n\n"
        f"JSON Schema, for editors: [{what}.schema.json]({what}.schema.json)."
    ]
    if what == "study":
        parts.append(f"\n\nA study to start from (`consilium study new`):\n\n```yaml\n{studyfile.template()}```\n")
    parts.append("\n\n" + _keys("Top level", schema))
    parts.extend("\n" + _keys(name, part) for name, part in schema.get("$defs", {}).items() if "properties" in part)
    return "".join(parts)


def _keys(title: str, part: dict[str, Any]) -> str:
    if not part.get("properties"):
        return f"## {title}\n\n{_sentence(part)}\n\nIt has no options.\n"
    rows = []
    for name, key in part.get("properties", {}).items():
        need = "required" if name in part.get("required", []) else f"default `{json.dumps(key.get('default'))}`"
        words = str(key.get("description", "")).replace("\n", " ").replace("|", "\\|")
        rows.append(f"| `{name}` | {_kind(key)} | {need} | {words} |")
    table = "\n".join(rows)
    return f"## {title}\n\n{_sentence(part)}\n\n| Key | Value | Need | Meaning |\n|---|---|---|---|\n{table}\n"


def _sentence(part: dict[str, Any]) -> str:
    return " ".join(str(part.get("description", "")).split("\n\n")[0].split())


def _kind(key: dict[str, Any]) -> str:
    if "$ref" in key:
        return f"[{key['$ref'].split('/')[-1]}](#{key['$ref'].split('/')[-1].lower()})"
    if "anyOf" in key or "oneOf" in key:
        kinds = [_kind(option) for option in key.get("anyOf", key.get("oneOf", []))]
        return " or ".join(dict.fromkeys(kind for kind in kinds if kind != "null")) or "null"
    if "const" in key or "enum" in key:
        return ", ".join(f"`{value}`" for value in key.get("enum", [key.get("const")]))
    if key.get("type") == "array":
        return f"list of {_kind(key['items'])}" if key.get("items") else "list"
    limits = {"minimum": "from ", "exclusiveMinimum": "above ", "maximum": "up to ", "exclusiveMaximum": "below "}
    words = " ".join(f"{word}{key[name]:g}" for name, word in limits.items() if name in key)
    return f"{key.get('type', 'any')} {words}".strip()


def pages() -> dict[Path, str]:
    """Every generated file with its text."""
    reference = HERE / "reference"
    made = {
        reference / "commands.md": commands_page(),
        reference / "errors.md": errors_page(),
        reference / "exit-codes.md": exit_codes_page(),
        reference / "settings.md": settings_page(),
        reference / "plug-ins.md": plugins_page(),
        reference / "architectures.md": architectures_page(),
        reference / "view-definitions.md": views_page(),
        reference / "atlas-cohorts.md": atlas_page(),
        HERE / "images" / "round.svg": drawn(machine.diagram(machine.PLAIN)),
    }
    for path in examples():
        made[HERE / "gallery" / f"{path.stem.replace('_', '-')}.md"] = page(path, NOTE)
    for what in studyfile.SCHEMAS:
        made[reference / f"{what}-file.md"] = schema_page(what)
        made[reference / f"{what}.schema.json"] = json.dumps(studyfile.json_schema(what), indent=2) + "\n"
    return made


def main() -> None:
    """Write what has changed; with `--check`, name what has changed and end with 1."""
    made = pages()
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        sys.exit(f"not up to date: {', '.join(path.name for path in stale)}; run docs/generate.py" if stale else 0)
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made[path])
        sys.stdout.write(f"wrote {path.relative_to(HERE.parent)}\n")


if __name__ == "__main__":
    main()
