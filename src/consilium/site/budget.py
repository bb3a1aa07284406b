"""`consilium site budget`: what is spent, reserved and left of patients' privacy, for people who decide."""

import json
import math
from typing import Any

import click

from consilium.core.errors import Invalid, MappingInvalid, NotFound
from consilium.core.ids import EVERYBODY
from consilium.core.study import Plan
from consilium.governance.policy import Budget, Policy
from consilium.privacy.ledger import Account, Book, Limit, Whose, total
from consilium.site import sources
from consilium.site.deciding import Desk
from consilium.site.journal import BEHIND
from consilium.site.ledger import Ledger, budget_of, cost_of
from consilium.site.showing import table

Json = dict[str, Any]
MEANS = (
    "Epsilon bounds what all that left says of one patient: at epsilon 1, nothing seen outside is more than 2.7 times "
    "as likely with this patient in the table as without, at 4 no more than 55 times, but for a chance of about delta. "
    "`spent` counts on the fewest honest hospitals of each study; `all honest` is what it is while a quorum hold keys, "
    "and all of them add their noise; both are one where this hospital adds it all. Studies together are counted by "
    "Renyi curves, which is less than their epsilons added up."
)
MOST = 1e6
"""Shown where nothing bounds what was spent. JSON has no infinity."""


def facts(desk: Desk) -> Json:
    """All populations with their budgets, purposes and studies; and why no round is trained, if that is so."""
    ledger, policy = Ledger(desk.folder, desk.journal), desk.folder.policy()
    book, behind = ledger.book, desk.journal.meta(BEHIND)
    spent = {one.whose.population for one in book.accounts.values()} - {"", EVERYBODY}
    names = [EVERYBODY, *sorted(spent | set(policy.privacy.populations))]
    return {
        "require_epsilon": policy.privacy.require_epsilon,
        "behind": json.loads(behind)["why"] if behind else "",
        "warnings": {name: words for name in names if (words := anew(book, policy, name)[1])},
        "populations": [_population(name, book, policy) for name in names],
    }


def countable(desk: Desk, population: str, epsilon: float, delta: float) -> None:
    """Whether a person's word of what was spent can be counted: an entry of the ledger stays for ever.

    Args:    population: empty for each.
    Raises:  NotFound: there is no such population.   Invalid: not a number; or the deltas that people said would reach
             the budget's own, and then no epsilon bounds what was spent.
    """
    policy, book = desk.folder.policy(), Ledger(desk.folder, desk.journal).book
    names = [EVERYBODY, *policy.privacy.populations]
    if population and population not in names:
        raise NotFound(f"the policy names no population {population}", f"choose one of {', '.join(names)}, or none")
    if not (math.isfinite(epsilon) and math.isfinite(delta)):
        raise Invalid("epsilon and delta are numbers", "write for instance --epsilon 2.5 --delta 1e-6")
    deltas = {name: budget_of(policy, name).delta for name in ([population] if population else names)}
    left = {name: most - total(one.held for one in _held(book, policy, name)).loose for name, most in deltas.items()}
    name = min(left, key=lambda one: left[one])
    if delta >= left[name]:
        largest = f"take {left[name] * 0.99:.3g} at most" if left[name] > 0 else "none can be counted any more"
        raise Invalid(
            f"with a delta of {delta:g} nothing would bound what was spent of {name}, whose budget has a delta of "
            f"{deltas[name]:g}: {largest}",
            "say a smaller --delta, and a larger --epsilon for it; or write a larger `delta` into the budget",
        )


def _held(book: Book, policy: Policy, name: str) -> list[Account]:
    return book.of(Whose(name, "", "", ""), policy.privacy.populations)


def anew(book: Book, policy: Policy, population: str) -> tuple[float, str]:
    """What was spent, by whoever may be of a population, that does not count for it: an epsilon, and a warning."""
    before = book.not_inherited(population, policy.privacy.populations) if population != EVERYBODY else []
    if not before:
        return 0.0, ""
    epsilon = _round(total(one.spent for one in before).epsilon(budget_of(policy, population).delta))
    return epsilon, (
        f"{population} begins anew: epsilon {epsilon:.3g} was spent on patients whom the policy had not named apart, "
        f"and of that nothing counts for {population}. Say what was spent on any of its patients, with `consilium site "
        f"recount --population {population} --epsilon ...`; --epsilon 0 says that none of them was there."
    )


def warning(desk: Desk, plan: Plan) -> str:
    """The warning of `anew` for the patients with whom a plan is trained; empty: there is none."""
    policy = desk.folder.policy()
    if cost_of(plan.study) is None or not policy.privacy.populations:
        return ""
    ledger = Ledger(desk.folder, desk.journal)
    return anew(ledger.book, policy, ledger.whose(plan).population)[1]


def _population(name: str, book: Book, policy: Policy) -> Json:
    budget, named = budget_of(policy, name), policy.privacy.populations
    whose, limit = Whose(name, "", "", ""), Limit(budget.epsilon, budget.delta)
    accounts = _held(book, policy, name)
    purposes = sorted({one.whose.purpose for one in accounts} - {""} | set(budget.purposes))
    return {
        "population": name, "delta": budget.delta, **_figures(accounts, limit),
        "purposes": [{"purpose": one, **_figures(book.of(whose, named, one), _limit(budget, one))} for one in purposes],
        "studies": [_study(one, budget.delta) for one in accounts], "anew": anew(book, policy, name)[0],
    }  # fmt: skip


def _limit(budget: Budget, purpose: str) -> Limit:
    most = {str(name): epsilon for name, epsilon in budget.purposes.items()}
    return Limit(most.get(purpose, budget.epsilon), budget.delta)


def _figures(accounts: list[Account], limit: Limit) -> Json:
    held = [one.held for one in accounts]
    spent, most = (min(total(one).epsilon(limit.delta), MOST) for one in ([one.spent for one in accounts], held))
    return {
        "epsilon": limit.epsilon, "spent": _round(spent),
        "all_honest": _round(total(one.spent_honest for one in accounts).epsilon(limit.delta)),
        "reserved": _round(most - spent), "left": _round(limit.left(*held)),
    }  # fmt: skip


def _study(one: Account, delta: float) -> Json:
    return {
        "study": one.study or one.cost.event, "run": one.run, "purpose": one.whose.purpose,
        "rounds": sum(1 for times in one.charged.values() if times) if one.run else 0, "of": one.cost.rounds,
        "state": "going on" if one.open else "over", "spent": _round(one.spent.epsilon(delta)),
        "all_honest": _round(one.spent_honest.epsilon(delta)), "asked": one.cost.epsilon, "at": one.cost.delta,
    }  # fmt: skip


def _round(value: float) -> float:
    """To three decimals: it is shown, and never compared."""
    return round(min(max(value, 0.0), MOST), 3)


def _shown(value: float) -> str:
    return f"{value:g}" if value < MOST else "without bound"


def _asked(row: Json, delta: float) -> str:
    """What a study claims, beside its delta where that is not the budget's: a smaller one makes a larger epsilon."""
    return f"{row['asked']:g}" if row["at"] == delta else f"{row['asked']:g} at delta {row['at']:g}"


def words(fact: Json) -> None:
    """The same, for people."""
    if fact["behind"]:
        click.echo(f"{click.style('No round is trained under a budget', fg='red')}: {fact['behind']}.")
        click.echo("Next: `consilium site recount --person NAME`, by a person who knows that this site was restored.\n")
    for one in fact["populations"]:
        what = "all patients that the policy does not name apart" if one["population"] == EVERYBODY else "named apart"
        click.echo(f"{one['population']} ({what}): epsilon {one['epsilon']:g} at delta {one['delta']:g}")
        click.echo(
            f"  spent {_shown(one['spent'])} (all honest {_shown(one['all_honest'])}), reserved {one['reserved']:g}, "
            f"left {one['left']:g}"
        )
        if one["spent"] >= MOST:
            click.echo(
                "  The deltas of what was spent reach the budget's: only a larger `delta` there bounds it again."
            )
        if one["anew"]:
            click.echo(f"  {click.style('begins anew', fg='yellow')}: {fact['warnings'][one['population']]}")
        for part in one["purposes"]:
            click.echo(f"  {part['purpose']}: spent {part['spent']:g} of {part['epsilon']:g}, left {part['left']:g}")
        if one["studies"]:
            rows = [
                {
                    **row,
                    "rounds": f"{row['rounds']} of {row['of']}" if row["run"] else "",
                    "spent": _shown(row["spent"]),
                    "asked": _asked(row, one["delta"]),
                }
                for row in one["studies"]
            ]
            table(rows, ("study", "run", "purpose", "rounds", "state", "spent", "all_honest", "asked"))
        click.echo()
    click.echo(MEANS)
    if not fact["require_epsilon"]:
        click.echo("Studies that ask for no epsilon are not counted here, and the policy allows them.")


def review(desk: Desk, plan: Plan) -> tuple[Json, str]:
    """What a study would take of the budget, as a fact and in one line."""
    cost, policy = cost_of(plan.study), desk.folder.policy()
    if cost is None:
        told = "It asks for no epsilon: what it says of a patient is not bounded, and no budget counts it."
        return {
            "epsilon": None
        }, f"{told} The policy does not demand one." if not policy.privacy.require_epsilon else told
    try:
        patients = sources.asked(sources.mapping(desk.folder, desk.journal, plan)).patients
    except (NotFound, MappingInvalid):  # there is none yet
        patients = ""
    population, budget = policy.privacy.of(patients)
    book = Ledger(desk.folder, desk.journal).book
    whose = Whose(population, patients, "", plan.study.purpose.code)
    held = [one.held for one in book.of(whose, policy.privacy.populations)]
    before, after = (total(loads).epsilon(budget.delta) for loads in (held, [*held, cost.whole]))
    fact = {
        "epsilon": cost.epsilon, "delta": cost.delta, "all_honest": cost.all_honest, "population": population,
        "budget": budget.epsilon, "before": _round(before), "after": _round(after),
        "anew": (warned := anew(book, policy, population))[0],
    }  # fmt: skip
    honest = "with noise that is all added here"
    if not plan.study.privacy.local:
        honest = f"{cost.all_honest:.4g} while a quorum hold keys, and all of them are honest"
    what = "For each patient, what it promises of the hospital is" if plan.study.privacy.whole else "It asks for"
    text = (
        f"{what} epsilon {cost.epsilon:.4g} at delta {cost.delta:g} ({honest}). By the ledger's count a run takes "
        f"the budget of {population} from {before:.3g} to {after:.3g} of {budget.epsilon:g}."
    )
    text += f"\n{warned[1]}" if warned[1] else ""
    return fact, text
