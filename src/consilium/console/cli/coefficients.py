"""The table of a regression as people read it."""

from typing import TYPE_CHECKING

import click

from consilium.console.cli import output
from consilium.documents.terms import fine, shrunk

if TYPE_CHECKING:  # who prints computes nothing
    from consilium.algorithms.regression import Fit, Term

LEAST = 0.001
"""A p-value below this is said to be below it."""


def show(fit: "Fit") -> None:
    """Print the table, and what is to be known beside it."""
    click.echo(f"\n{_heading(fit)}")
    found = rows(fit)
    output.table(found, False, tuple(found[0]))
    if fit.path:
        click.echo(f"\nTried, by the loss on {fit.judged} validation patients, who are none of the held-out ones:")
        output.table(path(fit), False, tuple(path(fit)[0]))
    if fit.problem:
        click.echo(f"\n{fit.problem}")


def path(fit: "Fit") -> list[dict[str, str]]:
    """One row per penalty that was tried."""
    return [
        {
            "l1": f"{tried.l1:g}", "l2": f"{tried.l2:g}", "loss": _number(tried.loss),
            "coefficients": str(tried.coefficients),
            "": ("chosen" if tried.chosen else "") + ("" if tried.converged else " did not come to rest"),
        }
        for tried in fit.path
    ]  # fmt: skip


def rows(fit: "Fit") -> list[dict[str, str]]:
    """One row per coefficient: what a unit more of it means, how sure that is, and the coefficient itself."""
    interval = f"{fit.confidence:.0%} interval" if fit.confidence * 100 % 1 == 0 else f"{fit.confidence:g} interval"
    return [_row(fit, term, interval) for term in fit.terms]


def _row(fit: "Fit", term: "Term", interval: str) -> dict[str, str]:
    if term.estimate is None:
        return {"term": term.words, **({fit.ratio: term.note} if fit.ratio else {"coefficient": term.note})}
    row, bounds = {"term": term.words}, (term.low, term.high)
    if fit.ratio:
        value, *ends = term.ratio or (None, None, None)
        row[fit.ratio], bounds = _number(value), (ends[0], ends[1])
    else:
        row["coefficient"] = _number(term.estimate)
    row[interval] = "" if bounds[0] is None else f"{_number(bounds[0])} to {_number(bounds[1])}"
    row["p"] = _chance(term.p)
    if fit.ratio:
        row["coefficient"] = _number(term.estimate)
    row["standard error"] = _number(term.error)
    return row


def _heading(fit: "Fit") -> str:
    words = f"{fit.kind.capitalize()} regression of {fit.patients} patients, exact: as if they were in one table"
    words += f", {fit.baseline}." if fit.baseline else "."
    words += shrunk(fit.l1, fit.l2, len(fit.path))
    if fit.kind == "cox":
        likelihood = f"{words} Log partial likelihood {-fit.deviance / 2:.2f}"
        if fit.likelihood_ratio is None:
            return f"{likelihood}." if fit.groups else f"{likelihood} above that without effects."
        count = sum(term.estimate is not None for term in fit.terms)
        freedom = f"{count} degree{'s' if count != 1 else ''} of freedom"
        statistic = f"likelihood ratio statistic {fit.likelihood_ratio:.2f} on {freedom}"
        return f"{likelihood} above that without effects: {statistic}."
    return f"{words} Deviance {fit.deviance:.2f} on {fit.freedom} degrees of freedom."


def _number(value: float | None) -> str:
    return fine(value).replace("−", "-")


def _chance(p: float | None) -> str:
    if p is None:
        return ""
    return f"below {LEAST:g}" if p < LEAST else f"{p:.3f}"
