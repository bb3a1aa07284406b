"""Due work that touches files: the first state, and APPLY. Each is idempotent: the same inputs give the same bytes."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
from sqlalchemy import bindparam, select, update

from consilium import plugins
from consilium.algorithms import appraisal, evaluation, figure, headline, metrics, preparation
from consilium.algorithms.base import Single, fits
from consilium.algorithms.layout import METRICS
from consilium.coordinator import before, steps, withheld
from consilium.coordinator.conduct import Conduct
from consilium.core import round as machine
from consilium.core import run as runs
from consilium.core import state as chain
from consilium.core.errors import Invalid
from consilium.core.ids import Digest, RunId, SiteId, canonical
from consilium.core.study import Plan, Study
from consilium.core.tensors import Array
from consilium.privacy import question, recipe
from consilium.privacy.layout import CLAMPED
from consilium.store.blobs import Stored
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import contributions, effects, openings, results
from consilium.store.shelf import Shelf, size_of
from consilium.wire.identity import Identity

BATCH = 64
"""Small contributions that are in memory at once while they are summed."""
LITTLE = 4 << 20
"""So many bytes of contributions are summed in the transaction of the last answer; nobody else writes meanwhile."""
WITHHELD = "withheld: nobody has sums of single hospitals under secure_sum"
log = logging.getLogger(__name__)
_DONE = Hot(
    update(effects).where(effects.c.key == bindparam("of"))
    .values(done=bindparam("now"), leased_by=bindparam("by"), attempts=1)
)  # fmt: skip
_ROUND = Hot(
    select(contributions.c.site, contributions.c.digest, contributions.c.size).where(
        contributions.c.run == bindparam("run"), contributions.c.round == bindparam("round")
    )
)


@dataclass(frozen=True)
class Done:
    """What an effect computed. `opening`: the attempt and what opened its sum, under the recipe `secure_sum`; `models`:
    at which the next round's sum is, under that recipe.
    """

    run: RunId
    number: int
    kind: str
    state: Stored
    aggregate: Stored | None
    figures: dict[str, Any]
    opening: tuple[int, str] | None = None
    models: tuple[Digest, ...] = ()


class Needs:
    """What APPLY of the open round works on. Raises: Conflict by `machine.step` later, if the round has moved on.

    `sealed` is what opens the sum, under the recipe `secure_sum`.
    """

    def __init__(self, tx: Transaction, conduct: Conduct, shelf: Shelf) -> None:
        round_ = conduct.fold.round
        assert round_ is not None
        self.number, self.kind = round_.number, round_.kind
        answered = round_.counted
        rows = {row.site: row for row in tx.rows(_ROUND, run=conduct.run, round=self.number) if row.site in answered}
        assert rows.keys() == answered.keys()
        self.contributions = [(SiteId(site), Digest(rows[site].digest)) for site in sorted(rows)]
        self.largest = max(row.size for row in rows.values())
        self.state: Digest = tx.find(results, run=conduct.run, round=self.number - 1).state
        self.state_size = size_of(tx, self.state)
        self.strategy = strategy(conduct.plan.study)
        self.single = single(self.strategy)
        self.sealed: steps.Sealed | None = None
        if steps.secure(conduct.plan):
            model = chain.read(shelf.read(tx, self.state)).shape["model"]
            self.sealed = steps.Sealed.of(tx, conduct.plan, conduct.run, conduct.fold, self.state, model)

    def batches(self, small: int) -> list[list[tuple[SiteId, Digest]]]:
        """The contributions in sorted order of sites, in parts: small ones are read into memory."""
        # Masks fall away in the sum of all, and not before; and who looks at single updates looks at all of them.
        apart = self.largest <= small and self.sealed is None and self.single is None
        count = BATCH if apart else len(self.contributions)
        return [self.contributions[at : at + count] for at in range(0, len(self.contributions), count)]


class Performer:
    """Computes with blobs; what it found is committed by `commit`."""

    def __init__(self, identity: Identity, shelf: Shelf, name: str) -> None:
        self._identity, self.shelf, self._name = identity, shelf, name

    def begin(self, plan: Plan, run: RunId, initial: chain.Source) -> Done:
        """The state at round 0, from the plan's initial model."""
        state = self.shelf.make(partial(chain.begin, strategy(plan.study), initial, run), _size(initial))
        return Done(run, 0, "TRAIN", state, None, {}, models=self._models(plan, 1, state))

    def _models(self, plan: Plan, number: int, state: Stored) -> tuple[Digest, ...]:
        """At which models round `number` is, whose sites begin from this state."""
        if not steps.secure(plan):
            return ()
        first = plan.study.prepares
        kind = machine.Kind.TRAIN if first < number <= first + plan.study.rounds else machine.Kind.EVALUATE
        kind = machine.Kind.PREPARE if number <= first else kind
        return tuple({one for of in question.models(plan.study, kind, self._source(state)) for one in of})

    def sum(
        self, plan: Plan, run: RunId, needs: Needs, before: "Sum | None", sites: list[SiteId], parts: list[chain.Source]
    ) -> "Sum":
        """Add these contributions, the next in sorted order of sites, to what is summed `before`."""
        stamp = {"run": run, "round": str(needs.number), "kind": needs.kind.value}
        if needs.sealed is not None:
            return self._opened(plan, needs, needs.sealed, stamp, parts)
        files = list(map(chain.read, parts))
        total = [chain.read(self._source(before.total)), *files] if before else files
        made = self.shelf.make(lambda out: chain.fold(total, stamp, out, needs.single), needs.largest)
        # `plain` shows each hospital's sums to the coordinator, and each hospital signed that it knows.
        alone = {site: sums_of(file.arrays) for site, file in zip(sites, files, strict=True)}
        return Sum(made, alone={**(before.alone if before else {}), **alone})

    def _opened(
        self, plan: Plan, needs: Needs, sealed: steps.Sealed, stamp: dict[str, str], parts: list[chain.Source]
    ) -> "Sum":
        """The sum of masked vectors, opened."""
        opened = sealed.recover()
        made = self.shelf.make(lambda out: recipe.recover(sealed.layout, parts, opened, stamp, out), needs.largest)
        cut = clipped(plan.study, needs.number, len(parts), chain.read(self._source(made)).arrays)
        figures: dict[str, Any] = {"clipped": cut}
        if false := sealed.false_holders:  # others' shares served
            log.warning("round %s of %s: false shares came from %s", needs.number, stamp["run"], ", ".join(false))
            figures["false_shares"] = list(false)
        figures |= withheld.lacking(sealed.open, sealed.active.values(), plan.study)
        return Sum(made, figures, (sealed.open.attempt, steps.written(opened)))

    def apply(self, plan: Plan, run: RunId, needs: Needs, total: "Sum", before: chain.Source) -> Done:
        """Advance the state by the sum of the round."""
        state, models = Stored(needs.state, needs.state_size), tuple[Digest, ...]()
        sums = chain.read(self._source(total.total))
        if needs.kind is not machine.Kind.EVALUATE:
            study = plan.study
            how = (study, needs.strategy, before, needs.state, sums, run, needs.number)
            state = self.shelf.make(partial(preparation.advance, *how), needs.state_size)
            models = self._models(plan, needs.number + 1, state)
        arrays = sums.arrays
        told, hidden = None, withheld.KEY in total.more
        if not hidden:
            whole = sums_of(arrays, len(needs.contributions))
            told = possible(partial(headline.figures, plan.study, whole, total.alone))
        figures = {**(told or {"all": {}, "sites": {}}), **total.more}
        if needs.kind is machine.Kind.EVALUATE:
            least = needs.sealed.open.min_sites if needs.sealed else None
            worth_ = partial(judged, plan.study, arrays, total.alone, len(needs.contributions), least)
            figures["evaluation"] = None if hidden else possible(worth_)
        return Done(run, needs.number, needs.kind.value, state, total.total, figures, total.opening, models)

    def at_once(self, tx: Transaction, conduct: Conduct) -> Conduct:
        """If the round waits for its sum and little is to be summed, do it in the transaction of the last answer.

        What fails is undone and left to the driver, as is all that is large; the effect is recorded in either case.
        """
        round_ = conduct.fold.round
        if round_ is None or round_.phase is not machine.Phase.APPLY or conduct.fold.status in runs.OVER:
            return conduct
        done, error = tx.apart(partial(self._at_once, conduct))
        if error is not None:
            log.warning("the sum of round %s of %s is left to the driver: %s", round_.number, conduct.run, error)
            return conduct
        after: Conduct = done
        return after

    def _at_once(self, conduct: Conduct, tx: Transaction) -> Conduct:
        needs = Needs(tx, conduct, self.shelf)
        if len(needs.contributions) * needs.largest > LITTLE or max(needs.largest, needs.state_size) > self.shelf.small:
            return conduct
        parts = [self.shelf.read(tx, digest) for _, digest in needs.contributions]
        total = self.sum(conduct.plan, conduct.run, needs, None, [site for site, _ in needs.contributions], parts)
        done = self.apply(conduct.plan, conduct.run, needs, total, self.shelf.read(tx, needs.state))
        key = f"{conduct.run}/apply/{needs.number}"
        after = replace(conduct, tx=tx, soon=conduct.soon - {key})
        self._record(after, done)
        now = conduct.now.timestamp()
        tx.do(_DONE, of=key, by=self._name, now=now)
        return after

    def _source(self, stored: Stored) -> chain.Source:
        return self.shelf.files.path(stored.digest) if stored.data is None else stored.data

    def commit(self, tx: Transaction, done: Done, now: datetime) -> Conduct:
        """Record what was done, in the transaction that closes the round and opens the next."""
        conduct = Conduct.load(tx, self._identity, done.run, now)
        self._record(conduct, done)
        return conduct

    def _record(self, conduct: Conduct, done: Done) -> None:
        for stored in filter(None, (done.state, done.aggregate)):
            self.shelf.keep(conduct.tx, stored)
        outcome = done.aggregate.digest if done.aggregate else None
        if done.opening is not None:
            attempt, body = done.opening
            conduct.tx.put_once(openings, run=done.run, round=done.number, attempt=attempt, body=body)
        before.expect(conduct.tx, done.run, done.number + 1, done.models)
        conduct.performed(done.number, done.kind, done.state.digest, outcome, done.figures, self._name)


@dataclass(frozen=True)
class Sum:
    """Contributions of a round, summed so far. `opening`: see `Done`.

    `alone`: each site's sums over held-out patients, where they can be seen.
    """

    total: Stored
    more: dict[str, Any] = field(default_factory=dict)
    opening: tuple[int, str] | None = None
    alone: dict[SiteId, dict[str, Array]] = field(default_factory=dict)


def clipped(study: Study, number: int, sites: int, arrays: Mapping[str, Array]) -> int:
    """How many values so many sites cut in round `number`, by the segments of its sum.

    Raises: Invalid: more than the plan allows, of those that training makes: of them alone they are counted
            (`Layout.counted`); or rounding left nothing of what the first training made.
    """
    made = [array.size for name, array in arrays.items() if chain.added(name)]
    count, values = int(arrays[CLAMPED][0]), sum(made or [array.size for array in arrays.values()])
    if count > study.privacy.most_clipped * values * sites:
        if not made or preparation.SUMS in arrays:
            raise Invalid(
                f"{count} sums over patients were beyond what the study has room for in round {number}",
                "raise privacy.most_patients, or give label and features ranges that hold, in a new study",
            )
        raise Invalid(
            f"{count} values were beyond privacy.clip in round {number}",
            "raise privacy.clip, or lower training.learning_rate, in a new study",
        )
    if number == study.prepares + 1 and not study.exact and _nothing(study, arrays):
        raise Invalid(
            f"in round {number} hospitals changed nothing of the model, or nothing that rounding to integers leaves",
            "lower privacy.most_patients to what a hospital has at most, or write `privacy.bits: 64`, in a new study",
        )
    return count


def _nothing(study: Study, arrays: Mapping[str, Array]) -> bool:
    """Whether models were trained, and all changes of them add up to zero; 64 bits leave what there is."""
    changes = [array for name, array in arrays.items() if name.rpartition("/")[2].startswith("update")]
    few = (study.privacy.bits or 8 * max((array.itemsize for array in changes), default=0)) < 64
    return bool(changes) and few and not any(np.any(array) for array in changes)


def _size(source: chain.Source) -> int:
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def strategy(study: Study) -> Any:
    """The study's strategy, with its options. Raises: StudyInvalid: it is not installed here, or not its options."""
    made = plugins.strategy_of(study)
    fits(study, made)
    return made


def single(made: Any) -> Single | None:
    """A strategy, if it looks at single updates."""
    return made if isinstance(made, Single) else None


def possible(figures: Callable[[], Any]) -> Any:
    """Figures, or None where the sums are of no patients: what one hospital makes up must not hold up a run.

    Under `secure_sum` nobody can check what a single hospital sums.
    """
    try:
        found = figures()
        canonical(found)
        return found
    except (ArithmeticError, ValueError, TypeError, LookupError) as error:
        log.warning("sums that no patients can have: there are no figures of this round (%s)", type(error).__name__)
        return None


def figures_of(study: Study, arrays: Mapping[str, Array], hospitals: int | None = None) -> dict[str, Any]:
    """Figures from the metrics segments of a file of sums, of patients who lie together: nothing is hidden.

    Args:    hospitals: of how many they are sums; None: they are one hospital's own.
    """
    sums = sums_of(arrays, hospitals or 1)
    if not sums:
        return {}
    asked = study.evaluation
    found: dict[str, Any] = figure.to_json(
        metrics.figures(study.contract.label.type, sums, asked.confidence, hospitals is None, asked.threshold)
    )
    return found


def sums_of(arrays: Mapping[str, Array], hospitals: int = 1) -> dict[str, Array]:
    """The metrics among segments that so many hospitals added up, under their own names."""
    found = {name.removeprefix(METRICS): np.array(array) for name, array in arrays.items() if name.startswith(METRICS)}
    return evaluation.among(found, hospitals)


def judged(
    study: Study,
    arrays: Mapping[str, Array],
    alone: Mapping[SiteId, Mapping[str, Array]],
    hospitals: int,
    least: int | None = None,
) -> dict[str, Any] | None:
    """What the final model is worth, by the segments of the last round's sum; None where the study asks for less.

    Args:    hospitals: whose sums these are.   least: at so many a group of patients must be, where single ones are not
             shown: the most that a policy asks for, as all agreed (`Roster.min_sites`). None: as the study says.
    """
    sums = sums_of(arrays, hospitals)
    if not evaluation.full(study) or not sums:
        return None
    sites = {str(site): counted for site, counted in alone.items() if counted}
    if sites:
        return appraisal.judged(study, sums, sites)
    return appraisal.judged(study, sums, {}, WITHHELD, max(least or 0, study.privacy.min_sites))
