"""Due work that touches files: the first state, and APPLY. Each is idempotent: the same inputs give the same bytes."""

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, Any

from sqlalchemy import bindparam, select

from consilium import plugins
from consilium.algorithms import metrics
from consilium.coordinator import steps
from consilium.coordinator.conduct import Conduct, keep_blob
from consilium.core import round as machine
from consilium.core import state as chain
from consilium.core.errors import Invalid, NotFound, StudyInvalid
from consilium.core.ids import Digest, RunId
from consilium.core.study import Plan, Study
from consilium.privacy import recipe
from consilium.privacy.layout import CLAMPED
from consilium.privacy.opening import Opened
from consilium.store.blobs import Directory, Stored
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import contributions, openings, results
from consilium.wire.identity import Identity

_ROUND = Hot(
    select(contributions.c.site, contributions.c.digest).where(
        contributions.c.run == bindparam("run"), contributions.c.round == bindparam("round")
    )
)


class Performer:
    """Computes with the blobs on file; what it found is committed by `commit`."""

    def __init__(self, identity: Identity, blobs: Directory, name: str) -> None:
        self._identity, self.blobs, self._name = identity, blobs, name

    def begin(self, plan: Plan, run: RunId) -> "Done":
        """The state at round 0, from the plan's initial model."""
        assert plan.study.model.initial is not None
        initial = self.blobs.path(Digest(plan.study.model.initial))
        state = self.blobs.make(partial(chain.begin, strategy(plan.study), initial, run))
        return Done(run, 0, "TRAIN", state, None, {})

    def apply(self, plan: Plan, run: RunId, needs: "Needs") -> "Done":
        """Sum the contributions in sorted order of sites, open the sum if it is sealed, and advance the state."""
        paths = [self.blobs.path(digest) for _, digest in needs.contributions]
        opened = needs.sealed.recover() if needs.sealed else None
        stamp = {"run": run, "round": str(needs.number), "kind": needs.kind.value}
        aggregate = self.blobs.make(lambda out: _summed(needs, opened, paths, stamp, out))
        sums = self.blobs.path(aggregate.digest)
        state = Stored(needs.state, self.blobs.path(needs.state).stat().st_size)
        if needs.kind is machine.Kind.TRAIN:
            before = self.blobs.path(needs.state)
            step = partial(chain.advance, strategy(plan.study), before, needs.state, sums, run, needs.number)
            state = self.blobs.make(step)
        singles = dict(zip((site for site, _ in needs.contributions), paths, strict=True))
        figures = self._figures(plan.study, sums, {} if needs.sealed else singles)
        if needs.sealed:
            figures |= {"clipped": clipped(plan.study, needs, sums)}
        done = Done(run, needs.number, needs.kind.value, state, aggregate, figures)
        if opened is not None:
            assert needs.sealed is not None
            done.opening = needs.sealed.open.attempt, steps.written(opened)
        return done

    def _figures(self, study: Study, sums: Path, singles: dict[str, Path]) -> dict[str, Any]:
        # `plain` shows each hospital's sums to the coordinator, and each hospital signed that it knows.
        read = partial(read_figures, study)
        return {"all": read(sums), "sites": {site: read(path) for site, path in singles.items()}}

    def commit(self, tx: Transaction, done: "Done", now: datetime) -> Conduct:
        """Record what was done, in the transaction that closes the round and opens the next."""
        conduct = Conduct.load(tx, self._identity, done.run, now)
        for stored in filter(None, (done.state, done.aggregate)):
            keep_blob(tx, stored.digest, stored.size)
        outcome = done.aggregate.digest if done.aggregate else None
        if done.opening is not None and tx.find(openings, run=done.run, round=done.number) is None:
            attempt, body = done.opening
            tx.put(openings, run=done.run, round=done.number, attempt=attempt, body=body)
        conduct.performed(done.number, done.kind, done.state.digest, outcome, done.figures, self._name)
        return conduct


class Done:
    """What an effect computed. `opening`: the attempt and what opened its sum, under the recipe `secure_sum`."""

    def __init__(
        self, run: RunId, number: int, kind: str, state: Stored, aggregate: Stored | None, figures: dict[str, Any]
    ) -> None:
        self.run, self.number, self.kind = run, number, kind
        self.state, self.aggregate, self.figures = state, aggregate, figures
        self.opening: tuple[int, str] | None = None


class Needs:
    """What APPLY of the open round works on. Raises: Conflict by `machine.step` later, if the round has moved on.

    `sealed` is what opens the sum, under the recipe `secure_sum`.
    """

    def __init__(self, tx: Transaction, conduct: Conduct, blobs: Directory) -> None:
        round_ = conduct.fold.round
        assert round_ is not None
        self.number, self.kind = round_.number, round_.kind
        answered = round_.counted
        rows = tx.rows(_ROUND, run=conduct.run, round=self.number)
        found = {row.site: row.digest for row in rows if row.site in answered}
        assert found.keys() == answered.keys()
        self.contributions = sorted(found.items())
        self.state: Digest = tx.find(results, run=conduct.run, round=self.number - 1).state
        self.sealed: steps.Sealed | None = None
        if steps.secure(conduct.plan):
            at = (self.state, blobs.path(self.state))
            self.sealed = steps.Sealed.of(tx, conduct.plan, conduct.run, conduct.fold, at)


def _summed(
    needs: Needs, opened: Opened | None, paths: list[Path], stamp: dict[str, str], out: IO[bytes]
) -> tuple[Digest, int]:
    if needs.sealed is None or opened is None:
        return chain.fold(paths, stamp, out)
    return recipe.recover(needs.sealed.layout, paths, opened, stamp, out)


def clipped(study: Study, needs: Needs, sums: Path) -> int:
    """How many values the sites cut. Raises: Invalid: more than the plan allows."""
    arrays = chain.read(sums).arrays
    count, values = int(arrays[CLAMPED][0]), sum(array.size for array in arrays.values())
    if count > study.privacy.most_clipped * values * len(needs.contributions):
        raise Invalid(
            f"{count} values were beyond privacy.clip in round {needs.number}",
            "raise privacy.clip, or lower training.learning_rate, in a new study",
        )
    return count


def strategy(study: Study) -> Any:
    """The study's strategy, with its options. Raises: StudyInvalid: it is not installed here, or not its options."""
    try:
        kind = plugins.load("consilium.strategies", study.strategy.name)
    except NotFound as error:
        raise StudyInvalid(error.message, error.remedy) from error
    return kind(study.strategy.options)


def read_figures(study: Study, path: Path) -> dict[str, Any]:
    """Figures from the metrics segments of a file of sums; empty when it holds none."""
    arrays = chain.read(path).arrays
    sums = {name.removeprefix("metrics/"): array for name, array in arrays.items() if name.startswith("metrics/")}
    if not sums:
        return {}
    found: dict[str, Any] = metrics.to_json(
        metrics.figures(study.contract.label.type, sums, study.evaluation.confidence)
    )
    return found
