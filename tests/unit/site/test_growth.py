"""What a hospital has done before makes no round longer: its journal finds what a round asks for, and walks nothing."""

from pathlib import Path
from typing import Any

import pytest

from unit.site.circle import circle, secure

GROW = ("tasks", "answers", "outbox", "openings", "opened_of", "opened_as", "shown", "closings", "states", "steps")
"""Tables that have rows of every round, or of each that is not over."""


@pytest.mark.parametrize("recipe", ["plain", "secure_sum"])
def test_no_statement_of_a_round_walks_a_table_that_grows_with_rounds(tmp_path: Path, recipe: Any) -> None:
    asked: set[str] = set()
    with circle(tmp_path, "one", "two", "three") as relay:
        plan = relay.approved(secure("sums", rounds=2, privacy={"recipe": recipe}))
        if recipe == "secure_sum":
            relay.paired(plan)
        hospital = relay["one"]
        hospital.journal._db.set_trace_callback(asked.add)
        for number in (1, 2):
            (relay.played if recipe == "secure_sum" else relay.submitted)(plan, number)
            hospital.worker._clean()
            hospital.worker._rest()
            assert hospital.worker.active
        hospital.journal._db.set_trace_callback(None)
        walked = {
            (table, statement)
            for statement in asked
            if statement.startswith(("SELECT", "UPDATE", "DELETE", "INSERT"))
            for row in hospital.journal._db.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
            for table in GROW
            if row["detail"].split()[:2] == ["SCAN", table]
        }
    assert len(asked) > 50
    assert not walked
