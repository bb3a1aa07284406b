"""What people see of a run under each recipe: figures of single hospitals, or that they are withheld; keys agreed."""

from typing import Any

import pytest

from consilium.api import Result
from consilium.console.cli import watching

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


def test_before_the_judging_nothing_is_said_to_be_withheld() -> None:
    assert "withheld" not in str(watching.result_rows(result(None)))


def view(*rounds: dict[str, Any], status: str = "running", number: int = 0) -> dict[str, Any]:
    known = {"roster": ["east"], "took_part": [], "refused": {}, "attempt": 1}
    told = [{**known, **one} for one in rounds]
    return {"run": "s-1", "status": status, "round": number, "rounds": 2, "participation": told, "sites": TOTALS}


def test_while_keys_are_agreed_no_round_is_counted() -> None:
    pairing = {"round": 0, "kind": "PAIR", "closed": None, "took_part": ["east"]}
    waiting = view(pairing, status="paused") | {"reason": "agreeing on keys: 1 of the 3 needed sites"}
    bar = watching._bar()
    watching.display(waiting, bar)
    assert bar.tasks[0].completed == 0 and bar.tasks[0].total == 3
    assert "agreeing on keys" in watching._line(waiting) and "took part" not in watching._line(waiting)
    pairing["closed"] = "2030-01-01T00:00:00Z"
    train = {"round": 1, "kind": "TRAIN", "closed": "2030-01-01T00:00:00Z", "took_part": ["east"]}
    lost = {"round": 2, "kind": "TRAIN", "closed": "2030-01-01T00:00:00Z", "cancelled": "lost its quorum"}
    after = view(pairing, train, lost, number=2)
    watching.display(after, bar)
    assert bar.tasks[0].completed == 1, "an attempt that was given up is no round that is done"
    assert watching._line(after).startswith("s-1: running, round 2 of 2") and "took part in round 1" in watching._line(
        after
    )
