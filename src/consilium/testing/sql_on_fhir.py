"""The official tests of SQL on FHIR v2 on the compiler of views, and the report that the registry of runners asks for.

    python -m consilium.testing.sql_on_fhir FOLDER > test_report.json

FOLDER is `tests` of https://github.com/FHIR/sql-on-fhir-v2. A test that expects an error passes on ours alone
(ConsiliumError), not on whatever went wrong.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from consilium.core.errors import ConsiliumError
from consilium.data.fhir import ndjson
from consilium.data.fhir.views import compile_view

Case = dict[str, Any]
SCHEMAS = ("tests.schema.json", "test-report.schema.json")


def suites(folder: Path) -> dict[str, Case]:
    """The files of tests by name."""
    return {
        path.name: json.loads(path.read_text()) for path in sorted(folder.glob("*.json")) if path.name not in SCHEMAS
    }


def fault(suite: Case, case: Case) -> str:
    """What is wrong with what our compiler gives for a test, or ""."""
    try:
        names, rows = _answer(suite["resources"], case["view"])
    except ConsiliumError as error:
        return "" if case.get("expectError") else f"{error.code}: {error}"
    if case.get("expectError"):
        return "there is no error where one is expected"
    if "expectColumns" in case and names != case["expectColumns"]:
        return f"columns are {names}"
    if "expectCount" in case:
        return "" if len(rows) == case["expectCount"] else f"there are {len(rows)} rows"
    return "" if _sorted(rows) == _sorted(case["expect"]) else f"rows are {rows}"


def _answer(resources: list[Any], given: Any) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of a view, read from a file as a hospital's are."""
    view = compile_view(given)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resources.ndjson"
        path.write_text("".join(json.dumps(resource) + "\n" for resource in resources))
        rows = [
            dict(zip(batch.columns, row))
            for batch in view.batches(ndjson.pages(path, view.exact), path.name, size=2)
            for row in zip(*batch.columns.values())
        ]
    return [column.name for column in view.columns], rows


def _sorted(rows: list[dict[str, Any]]) -> list[str]:
    """Rows in any order: true is not 1, but 5 is 5.0."""
    return sorted(
        json.dumps({name: float(value) if type(value) is int else value for name, value in row.items()}, sort_keys=True)
        for row in rows
    )


def report(folder: Path) -> dict[str, Any]:
    """The official report."""
    made: dict[str, Any] = {}
    for name, suite in suites(folder).items():
        results = [(case["title"], fault(suite, case)) for case in suite["tests"]]
        tests = [{"name": title, "result": _result(wrong)} for title, wrong in results]
        made[name] = {"tests": tests}
    return made


def _result(wrong: str) -> dict[str, Any]:
    return {"passed": False, "error": wrong} if wrong else {"passed": True}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(report(Path(sys.argv[1])), indent=2) + "\n")
