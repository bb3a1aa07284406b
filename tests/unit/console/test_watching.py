"""What a result shows of single hospitals: figures under `plain`; that they are withheld under `secure_sum`."""

from typing import Any, cast

import pytest

from consilium.api import Federation, Result
from consilium.console.cli import watching

FIGURES = {"auroc": {"value": 0.8, "low": 0.7, "high": 0.9, "n": 50}}


def result(figures: dict[str, Any] | None) -> Result:
    sites = {name: {"rounds": 3, "bytes": 100} for name in ("east", "north", "south")}
    return Result(cast(Federation, None), {"figures": figures, "sites": sites, "rounds_done": 3})


def test_without_figures_of_single_hospitals_each_is_withheld_and_that_of_all_is_shown() -> None:
    *singles, everybody = watching.result_rows(result({"all": FIGURES, "sites": {}}))
    assert [(row["hospital"], row["n"], row["auroc"]) for row in singles] == [
        (name, "withheld", "withheld") for name in ("east", "north", "south")
    ]
    assert all(row["rounds"] == "3" for row in singles)
    assert (everybody["n"], everybody["auroc"][:4]) == ("50", "0.80")


def test_figures_of_single_hospitals_are_shown_and_one_that_sent_none_is_not_called_withheld() -> None:
    rows = watching.result_rows(result({"all": FIGURES, "sites": {"east": FIGURES}}))
    assert [row["auroc"][:4] for row in rows] == ["0.80", "", "", "0.80"]


@pytest.mark.parametrize("figures", [None, {}, {"all": {}, "sites": {}}])
def test_a_run_without_figures_withholds_nothing(figures: dict[str, Any] | None) -> None:
    assert "withheld" not in str(watching.result_rows(result(figures)))
