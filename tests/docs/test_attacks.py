"""The table of attacks is whole: every row has a test of the leak and one of the refusal; every leak has its row."""

import ast
import re
from pathlib import Path

from docs.pages import ROOT

PAGE = ROOT / "docs" / "explanation" / "attacks.md"
NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
LEAKS = (
    "tests/e2e/test_secagg_leaks.py",
    "tests/e2e/test_secagg_traps.py",
    *(f"tests/attacks/test_{one}.py" for one in ("inversion", "inference", "seeds")),
)
WANTED = (
    "A1", "A2", "A3", "A4", "A5", "A6", "A8", "Keys swapped", "Invented", "Lies about who dropped out",
    "A sum over one", "An approved plan", "several sets of hospitals",
    "by another name", "What some showed alone", "Another model for each", "Trap weights", "A trap from the beginning",
    "Trap sum", "round that never was", "Keystream reuse", "All but one",
    "Two cohorts", "Leave one out", "rosters that change", "who comes for another", "Rows",
    "late vector", "False shares", "Keys stolen later",
    "Overflow", "Rollback", "Figures of one hospital", "Sums of fractions", "A hospital that adds nothing",
    "A hospital whose patients add nothing", "Events of a common baseline", "Zeros in figures", "Zeros in preparation",
    "Zeros in what is harmonised",
    "Few missing values", "Numbers of pairs", "Steps by patients", "Numbers of a hospital as a whole",
    "Two sums of the same updates", "A group of times", "Two models judged at once",
)  # fmt: skip


def rows() -> list[list[str]]:
    found = [line.strip("|").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [row for row in found if row[0].strip() != "Attack"]


def functions_of(path: Path) -> set[str]:
    return {one.name for one in ast.parse(path.read_text()).body if isinstance(one, ast.FunctionDef)}


def test_every_row_names_a_leak_and_a_refusal_that_exist() -> None:
    wrong = []
    for row in rows():
        assert len(row) == 4, row
        leak, refusal = NAME.findall(row[2]), NAME.findall(row[3])
        if not leak or not (refusal or "the same" in row[3]):
            wrong.append(row[0])
        wrong += [f"{path}::{name}" for path, name in leak + refusal if name not in functions_of(ROOT / path)]
    assert not wrong


def test_every_attack_has_its_row_and_every_leak_is_in_one() -> None:
    told = [row[0] for row in rows()]
    assert [one for one in WANTED if not any(one in attack for attack in told)] == []
    assert len(told) == len(WANTED)
    text = PAGE.read_text()
    lost = [f"{path}::{name}" for path in LEAKS for name in functions_of(ROOT / path) if name.startswith("test_")]
    assert [one for one in lost if f"`{one}`" not in text] == []
