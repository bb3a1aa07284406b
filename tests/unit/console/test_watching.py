"""Lines about a run: one for each round, whenever somebody looks; one change, one line of JSON."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consilium.console.cli.watching import watch

ROUNDS = 5


@dataclass
class Run:
    """A run of which one sees `seen` views."""

    seen: list[dict[str, Any]]

    def views(self, wait_s: float = 0.0) -> Iterator[dict[str, Any]]:
        """What is seen, one after another."""
        yield from self.seen


def view(done: int) -> dict[str, Any]:
    """The run when so many rounds are done; the last one judges."""
    kinds = ["TRAIN"] * ROUNDS + ["EVALUATE"]
    rounds = [
        {"round": at + 1, "kind": kind, "closed": at < done, "took_part": ["north", "south"] if at < done else []}
        for at, kind in enumerate(kinds[: done + 1])
    ]
    over = done > ROUNDS
    at = min(done, ROUNDS) + 1
    return {
        "run": "r-1", "status": "finished" if over else "running", "round": at, "rounds": ROUNDS,
        "reason": "", "participation": rounds,
    }  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(0, ROUNDS), max_size=8))
def test_each_round_has_its_line_however_seldom_one_looks(capsys: pytest.CaptureFixture[str], at: list[int]) -> None:
    seen = [view(done) for done in [*sorted(at), ROUNDS + 1]]
    assert watch(Run(seen), False)["status"] == "finished"  # type: ignore[arg-type]
    lines = capsys.readouterr().out.splitlines()
    told = [line.rsplit(" · took part in ", 1)[1].split(":")[0] for line in lines if "took part" in line]
    assert told == [*(f"round {number}" for number in range(1, ROUNDS + 1)), "the judging"]
    assert lines[-1].startswith("r-1: finished, final model judged")
    assert all("running" in line for line in lines[:-1])


def test_json_is_one_line_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    watch(Run([view(0), view(0), view(3), view(ROUNDS + 1)]), True)  # type: ignore[arg-type]
    rounds = [json.loads(line)["round"] for line in capsys.readouterr().out.splitlines()]
    assert rounds == [1, 4, ROUNDS + 1]
