"""What was spent of a patient's privacy, across studies: charges, what is reserved, and the filter that admits more.

A *load* is what releases say of one patient at most: a Renyi curve, and what holds only up to a small delta beside it.
Loads add up. The filter admits one more load if some order keeps the sum within the limit; it may be asked again and
again, by studies that were chosen after the figures of others were seen. Sources: Rogers et al., NeurIPS 2016; Feldman
and Zrnic, NeurIPS 2021; Lecuyer, 2021 (Renyi filters); conversion as in `accountant.py`. Filters of privacy loss
distributions are not known to be sound (arXiv 2602.15815): these are for a single plan.

A ledger is a list of entries, each chained to the one before (`governance/audit.py`): *reserve* for a whole run at its
start, *charge* before each training, *close* at its end, which gives back what nothing left by, and *said* where a
person says what was spent. A `Book` is the fold of them.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from consilium.core.errors import Invalid
from consilium.core.ids import EVERYBODY
from consilium.privacy import accountant
from consilium.privacy.accountant import ORDERS, Curve

"""The population of every source that the hospital's policy does not name apart."""
EVERY = ""
"""Where nobody knows whose privacy was spent: it counts for each population."""


@dataclass(frozen=True)
class Load:
    """A Renyi curve at `accountant.ORDERS`, which holds but for a chance of `loose`."""

    curve: Curve
    loose: float = 0.0

    def __add__(self, other: "Load") -> "Load":
        return Load(self.curve + other.curve, self.loose + other.loose)

    def __mul__(self, times: int) -> "Load":
        return Load(self.curve * times, self.loose * times)

    @property
    def empty(self) -> bool:
        """Whether nothing is released."""
        return self.loose == 0 and not np.any(self.curve)

    def epsilon(self, delta: float) -> float:
        """The least epsilon at `delta`; infinite where `loose` alone is more."""
        if self.empty:
            return 0.0
        return accountant.epsilon(self.curve, delta - self.loose) if self.loose < delta else float("inf")


NOTHING = Load(np.zeros_like(ORDERS))


@dataclass(frozen=True)
class Limit:
    """The most that a patient's privacy may be spent: (epsilon, delta)."""

    epsilon: float
    delta: float

    def admits(self, *loads: Load) -> bool:
        """Whether these loads together stay within the limit."""
        return total(loads).epsilon(self.delta) <= self.epsilon

    def left(self, *loads: Load) -> float:
        """What these loads leave of epsilon, by the same count."""
        return max(self.epsilon - total(loads).epsilon(self.delta), 0.0)


def total(loads: Iterable[Load]) -> Load:
    """The sum of loads."""
    return sum(loads, NOTHING)


def claimed(epsilon: float, delta: float) -> Load:
    """The load of whatever is (epsilon, delta)-private and of which no more is known.

    Source: Bun and Steinke, TCC 2016, Proposition 3.3: pure epsilon has the curve min(epsilon, order epsilon^2 / 2).
    """
    return Load(np.minimum(epsilon, ORDERS * epsilon**2 / 2), delta)


@dataclass(frozen=True)
class Cost:
    """What a plan costs each patient of a source: one round's load, and figures of a whole run.

    Args:    each: one training, for the fewest honest hospitals.   honest: the same while all are honest.
             epsilon, all_honest: of a whole run at `delta`, as the plan promises them.   event: what it is, in words.
    """

    rounds: int
    each: Load
    honest: Load
    epsilon: float
    all_honest: float
    delta: float
    event: str

    @property
    def whole(self) -> Load:
        """All rounds of a run."""
        return self.each * self.rounds

    def told(self) -> dict[str, Any]:
        """Plain values, for an entry."""
        return {
            "rounds": self.rounds, "rdp": self.each.curve.tolist(), "loose": self.each.loose,
            "rdp_honest": self.honest.curve.tolist(), "loose_honest": self.honest.loose, "epsilon": self.epsilon,
            "all_honest": self.all_honest, "delta": self.delta, "event": self.event,
        }  # fmt: skip

    @classmethod
    def heard(cls, told: Mapping[str, Any]) -> "Cost":
        """The same, from an entry."""
        each, honest = (
            Load(_curve(told[curve]), float(told[loose]))
            for curve, loose in (("rdp", "loose"), ("rdp_honest", "loose_honest"))
        )
        epsilon, all_honest, delta = (float(told[name]) for name in ("epsilon", "all_honest", "delta"))
        return cls(int(told["rounds"]), each, honest, epsilon, all_honest, delta, str(told["event"]))


def _curve(values: Any) -> Curve:
    found = np.array(values, dtype=np.float64)
    if found.shape != ORDERS.shape:
        raise Invalid("a curve of the ledger has other orders than this release", "use the release that wrote it")
    return found


@dataclass(frozen=True)
class Whose:
    """Whose privacy is spent, by what the policy and the mapping said at the time, and the table.

    Args:    population: to which budget it goes, or `EVERY`.   patients: how the mapping names them, or empty.
             source: digest of which table it is, or empty.   purpose: of the study; empty counts for each.
    """

    population: str
    patients: str
    source: str
    purpose: str


@dataclass(frozen=True)
class Account:
    """One run at this hospital, or what a person said was spent.

    Args:    charged: by round: how many trainings stand as charged; 0: all were given back.   open: more may come.
             found: rounds that were charged by another's record, after a loss: what this journal knows of them is not
             all, so none is given back.
    """

    number: int
    study: str
    plan: str
    run: str
    whose: Whose
    cost: Cost
    charged: Mapping[int, int] = field(default_factory=dict)
    open: bool = True
    found: frozenset[int] = frozenset()

    @property
    def trainings(self) -> int:
        """How many trainings are charged."""
        return sum(self.charged.values())

    @property
    def ahead(self) -> int:
        """How many rounds are reserved that are not charged."""
        return max(self.cost.rounds - len(self.charged), 0) if self.open else 0

    @property
    def spent(self) -> Load:
        """What was charged."""
        return self.cost.each * self.trainings

    @property
    def spent_honest(self) -> Load:
        """The same, while all hospitals were honest."""
        return self.cost.honest * self.trainings

    @property
    def held(self) -> Load:
        """What is charged or reserved."""
        return self.cost.each * (self.trainings + self.ahead)


@dataclass(frozen=True)
class Book:
    """All accounts, by the number of the entry that opened each; `seq`: the newest entry in it."""

    accounts: Mapping[int, Account] = field(default_factory=dict)
    seq: int = 0

    def after(self, entries: Iterable[Mapping[str, Any]]) -> "Book":
        """The book once these entries follow. Raises: Invalid: one is not an entry that this release knows."""
        accounts, seq = dict(self.accounts), self.seq
        for entry in entries:
            seq = int(entry["seq"])
            _enter(accounts, seq, str(entry["kind"]), entry["body"])
        return replace(self, accounts=accounts, seq=seq)

    def of_run(self, run: str) -> list[Account]:
        """The accounts that are open for a run: one, or more if it went on with another table."""
        return [one for one in self.accounts.values() if one.run == run and one.open]

    def charged(self, run: str, number: int) -> int:
        """How many trainings of a round stand as charged."""
        return sum(one.charged.get(number, 0) for one in self.accounts.values() if one.run == run)

    def of(self, whose: Whose, named: Collection[str], purpose: str | None = None) -> list[Account]:
        """The accounts that count for these patients; of one purpose, or of all.

        An account counts if it went to this population, or would by today's policy, or if one of the tables from which
        the population's patients came is its table. So a new extract inherits, and a table takes along what was spent
        on it under any name. But who is in a table the ledger does not know: a population that the policy newly names
        apart, and that is read from another table, inherits nothing; `not_inherited` is what it may owe.

        Args:    named: the populations that the policy names apart today.
        """

        def belongs(one: Account) -> bool:
            now = one.whose.patients if one.whose.patients in named else EVERYBODY
            return whose.population in (now, one.whose.population) or one.whose.population == EVERY

        sources = {one.whose.source for one in self.accounts.values() if belongs(one)} | {whose.source}
        sources.discard("")
        found = [one for one in self.accounts.values() if belongs(one) or one.whose.source in sources]
        return [one for one in found if purpose is None or one.whose.purpose in (purpose, "")]

    def not_inherited(self, population: str, named: Collection[str]) -> list[Account]:
        """What was spent on patients who may be of a population, and does not count for it.

        That is what was spent before the population's first account, under no name that is apart today; until a person
        says what of it the population spent.

        Args:    named: the populations that the policy names apart today.
        """
        own = [one for one in self.accounts.values() if one.whose.population == population]
        counted = {one.number for one in self.of(Whose(population, population, "", ""), named)}
        first = min((one.number for one in own if one.run), default=self.seq + 1)
        answered = max((one.number for one in own if not one.run), default=0)
        return [
            one
            for number, one in self.accounts.items()
            if answered < number < first and number not in counted and one.trainings and one.whose.patients not in named
        ]


def _enter(accounts: dict[int, Account], seq: int, kind: str, body: Mapping[str, Any]) -> None:
    match kind:
        case "reserve":
            whose = Whose(*(str(body[name]) for name in ("population", "patients", "source", "purpose")))
            study, plan, run = (str(body[name]) for name in ("study", "plan", "run"))
            accounts[seq] = Account(seq, study, plan, run, whose, Cost.heard(body))
        case "charge":
            one = accounts[body["account"]]
            times = one.charged.get(body["round"], 0) + int(body["times"])
            found = one.found | ({body["round"]} if body["found"] else frozenset())
            accounts[one.number] = replace(one, charged={**one.charged, body["round"]: times}, found=found)
        case "close":
            one = accounts[body["account"]]
            back = {int(number): int(times) for number, times in body["unsent"]}
            kept = {number: max(times - back.get(number, 0), 0) for number, times in one.charged.items()}
            accounts[one.number] = replace(one, charged=kept, open=False)
        case "said":
            whose = Whose(str(body["population"]), str(body["population"]), "", "")
            epsilon, delta = float(body["epsilon"]), float(body["delta"])
            each = claimed(epsilon, delta)
            cost = Cost(0, each, each, epsilon, epsilon, delta, "said by a person")
            accounts[seq] = Account(seq, "", "", "", whose, cost, {0: 1}, open=False)
        case _:
            raise Invalid(f"the ledger has an entry of kind {kind}", "use the release that wrote it")
