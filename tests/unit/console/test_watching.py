"""What people see of a run: one line for each round; keys agreed; figures, or that they are withheld."""

import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from consilium.api import Result
from consilium.console.cli import watching
from consilium.console.cli.watching import watch

ROUNDS = 5
AUROC = {"value": 0.9, "low": 0.8, "high": 1.0, "n": 90, "note": ""}
TOTALS = {site: {"rounds": 3, "bytes": 1000} for site in ("east", "north", "south")}


def result(figures: Any) -> Result:
    return Result(None, {"figures": figures, "sites": TOTALS, "rounds": 2})  # type: ignore[arg-type]


@pytest.mark.parametrize("sites", [{}, None], ids=["none", "not told"])
def test_figures_of_single_hospitals_that_nobody_has_are_withheld(sites: Any) -> None:
    figures = {"all": {"auroc": AUROC}, "clipped": 0, **({} if sites is None else {"sites": sites})}
    *singles, everyone = watching.result_rows(result(figures))
    assert [row["hospital"] for row in singles] == sorted(TOTALS)
    assert all(row["auroc"] == row["n"] == watching.WITHHELD and row["rounds"] == "3" for row in singles)
    assert everyone["n"] == "90" and everyone["auroc"].startswith("0.9")
    assert len({tuple(row) for row in (*singles, everyone)}) == 1, "one table"


def test_where_the_coordinator_sees_them_they_are_shown() -> None:
    figures = {"all": {"auroc": AUROC}, "sites": {site: {"auroc": AUROC} for site in ("east", "north")}}
    rows = {row["hospital"]: row for row in watching.result_rows(result(figures))}
    assert rows["east"]["n"] == "90" and rows["south"]["auroc"] == "" and "withheld" not in str(rows)


def test_what_hospitals_tell_of_themselves_stands_beside_the_words_of_those_that_do_not() -> None:
    found = result({"all": {"auroc": AUROC, "brier": AUROC}, "sites": {}})
    found.document["declared"] = {
        "east": {"word": "told", "figures": {"federated": {"auroc": {**AUROC, "value": 0.75, "n": 40}}}},
        "north": {"word": "too few", "figures": {}},
    }
    rows = {row["hospital"]: row for row in watching.result_rows(found)}
    assert rows["east"]["n"] == "40" and rows["east"]["auroc"].startswith("0.75")
    assert rows["east"]["brier"] == watching.WITHHELD
    assert rows["north"]["auroc"] == rows["north"]["n"] == "too few" and rows["south"]["auroc"] == watching.WITHHELD


def test_before_the_judging_nothing_is_said_to_be_withheld() -> None:
    assert "withheld" not in str(watching.result_rows(result(None)))


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
        "reason": "", "participation": rounds, "pairing": [], "events": [],
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
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["round"] for line in lines] == [1, 4, ROUNDS + 1]
    told = [[entry["round"] for entry in line["participation"]] for line in lines]
    assert told == [[1], [1, 2, 3, 4], [4, 5, 6]], "those that are new, and those that were open at the line before"


def test_while_keys_are_agreed_no_round_is_counted() -> None:
    pairing = {"round": 0, "kind": "PAIR", "closed": None, "took_part": ["east"]}
    reason = "agreeing on keys: 1 of the 3 needed sites"
    waiting = view(0) | {"status": "paused", "round": 0, "participation": [], "pairing": [pairing], "reason": reason}
    bar = watching._bar()
    watching.display(waiting, bar)
    assert bar.tasks[0].completed == 0 and bar.tasks[0].total == ROUNDS + 1
    assert watching._line(waiting) == f"r-1: paused, agreeing on keys · {reason}"
    heard = {"basel": time.time(), "va": time.time() - 3600}
    waiting |= {"comparing": {"until": "2026-12-06T21:49:07Z", "sites": heard}}
    assert watching._line(waiting) == f"r-1: paused, agreeing on keys · {reason}", "the time is over"
    asked = "whose words are to be compared by 2026-12-06 21:49 UTC at basel, va (its agent is not heard)"
    assert watching._line(waiting | {"status": "running", "reason": ""}).endswith(f"agreeing on keys, {asked}")
    lost = {"round": 3, "kind": "TRAIN", "closed": True, "cancelled": "lost its quorum", "took_part": []}
    after = view(2) | {"pairing": [pairing | {"closed": True}]}
    after["participation"] = [*after["participation"][:2], lost]
    watching.display(after, bar)
    assert bar.tasks[0].completed == 2, "an attempt that was given up is no round that is done"
    assert watching._line(after).startswith("r-1: running, round 3 of 5 · took part in round 2")


OUT = {"site": "west", "since": 1, "why": "east, north refused a sum with it (difference)", "next": "start: drawn"}


def test_an_attempt_that_was_given_up_is_no_round_in_which_anybody_took_part() -> None:
    """Also where an older coordinator tells who had answered it as taking part."""
    lost = {"round": 1, "kind": "TRAIN", "closed": True, "cancelled": "lost its quorum", "took_part": ["west"]}
    seen = view(0) | {"participation": [lost, *view(0)["participation"]]}
    assert watching._line(seen) == "r-1: running, round 1 of 5"
    seen = view(1) | {"participation": [lost, *view(1)["participation"]]}
    assert watching._line(seen).endswith("took part in round 1: north, south")


def test_of_what_nothing_is_learned_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    seen = [view(done) for done in (1, 2, 3, ROUNDS + 1)]
    for one in seen:
        one["participation"][0] |= {"kind": "PREPARE", "figures": {"all": {}, "not_learned": ["age"]}}
    watch(Run(seen), False)  # type: ignore[arg-type]
    assert capsys.readouterr().out.count("r-1: Nothing is learned of age: so few hospitals have values of it") == 1


def test_who_is_left_out_is_told_once_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    seen = [view(done) | {"left_out": [OUT]} for done in (1, 2, 3, ROUNDS + 1)]
    watch(Run(seen), False)  # type: ignore[arg-type]
    line = "r-1: west is left out since round 1: east, north refused a sum with it (difference). Next: start: drawn"
    assert capsys.readouterr().out.splitlines().count(line) == 1
    assert watching.left_out(view(1) | {"left_out": [OUT | {"since": 0}]})[0].startswith(
        "r-1: west is left out for want of keys: "
    )
    terminal = Console(width=200, record=True, file=io.StringIO())
    terminal.print(watching.display(seen[0], watching._bar()))
    assert line in terminal.export_text()


def test_a_refusal_that_is_repeated_is_one_row() -> None:
    told = [
        {"site": site, "run": "r-1", "round": number, "reason": "difference", "text": "it would show"}
        for number in range(1, 32) for site in ("va", "east", "north")
    ]  # fmt: skip
    odd = [{"site": "va", "run": "r-1", "round": number, "reason": "disk", "text": "full"} for number in (2, 5)]
    early = {"site": "va", "run": None, "round": None, "reason": "expired", "text": ""}
    rows = watching.refusals([*told, *odd, early])
    assert [(row["reason"], row["sites"], row["times"], row["rounds"]) for row in rows] == [
        ("expired", "va", 1, ""), ("difference", "east, north, va", 93, "1 to 31"),
        ("disk", "va", 2, "2 to 5, 2 of them"),
    ]  # fmt: skip


def test_who_is_invited_and_not_there_is_told_once_before_the_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    absent = {"site": "clevland", "why": "never joined", "near": ["cleveland"], "next": "is the name right?"}
    watch(Run([view(done) | {"study": "r", "missing": [absent]} for done in (0, 1, ROUNDS + 1)]), False)  # type: ignore[arg-type]
    lines = capsys.readouterr().out.splitlines()
    told = "clevland is invited and never joined (there is cleveland): r goes on without it. Next: is the name right?"
    assert lines[0] == told and lines.count(told) == 1


def test_of_a_run_that_is_over_nobody_is_said_to_be_gone_without() -> None:
    """A hospital that was in every round, and was removed after it, was said to be missing in it."""
    fact = {"study": "r", "missing": [{"site": "va", "why": "was removed", "next": "submit another"}]}
    for over in ("finished", "failed", "stopped"):
        assert not watching.missing(fact | {"status": over}) and not watching.missing(
            fact | {"runs": [{"status": over}]}
        )
    told = ["va is invited and was removed: r goes on without it. Next: submit another"]
    assert watching.missing(fact | {"status": "paused"}) == watching.missing(fact | {"runs": []}) == told
    assert watching.missing(fact | {"runs": [{"status": "finished"}, {"status": "running"}]}) == told
