"""The rounds of a simulated run, by the machine of a real one (`core/round.py`, `core/run.py`).

Sites answer phase by phase; who falls silent or is late is not waited for beyond the deadline, unless the round is
below its quorum then: it waits, and those who are missing come back one by one until it can go on, as the machine says.
Only sites whose values are in the sum train: what another had trained would change nothing. But where a round closes
with as many answers as are enough, all that are free train, and come with what they made in a later round.
"""

import io
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any

from consilium.algorithms import absence, evaluation, preparation
from consilium.algorithms.base import Single
from consilium.algorithms.layout import METRICS
from consilium.coordinator.perform import clipped, figures_of, judged, single, strategy, sums_of
from consilium.core import round as machine
from consilium.core import run as runs
from consilium.core import state as chain
from consilium.core.errors import Conflict
from consilium.core.ids import COORDINATOR, Digest, SiteId, digest
from consilium.core.round import Answered, DeadlinePassed, Phase
from consilium.core.run import Run
from consilium.core.study import Plan, Study
from consilium.core.tensors import Array
from consilium.core.threshold import threshold
from consilium.core.timed import COMMON
from consilium.privacy.layout import CLAMPED
from consilium.simulation import sums
from consilium.simulation.buffer import Buffer, Waiting, rounds_late
from consilium.simulation.conditions import Conditions
from consilium.simulation.executors import Asked, Executor, Sent, Turn
from consilium.site.seats import layout_of

Figures = dict[str, Any]
Alone = dict[SiteId, dict[str, Array]]
"""What each site counted of its held-out patients."""
Lacks = Callable[[SiteId, str], Collection[str]]
"""Of what a site adds nothing to a sum of a round of a kind: see `absence.of`."""
Refusals = Mapping[SiteId, str]
"""Who refuses to be in a sum, and why."""
NOTHING = digest(b"")
"""What stands for the digest of an answer: no bytes travel here."""


@dataclass(frozen=True)
class Told:
    """What is to be said of a round.

    Args:    took_part: whose values are in the sum.   silent: who fell silent, late ones apart (`late`).
             waited: how many of them came back, because the round was below its quorum.   weight: of the sum: training
             patients, but under an epsilon.   counted: sums over held-out patients.
             clamped: values that were cut to `privacy.clip`.   withheld: parts to which nobody added anything, see
             `absence.withheld`.   seconds: that this round took here.
             lasted_s: that it would have lasted between hospitals, by what `Conditions` says of slow ones.
    """

    study: Study = field(repr=False)
    number: int
    kind: str
    took_part: tuple[str, ...]
    silent: int
    late: int
    waited: int
    weight: float
    counted: Mapping[str, Array] = field(repr=False)
    clamped: int
    withheld: frozenset[str]
    seconds: float
    lasted_s: float

    @cached_property
    def figures(self) -> Figures:
        """Of the model at which the round began; they are worked out when somebody looks. Empty where withheld."""
        return {} if absence.HELD_OUT in self.withheld else figures_of(self.study, self.counted, len(self.took_part))


@dataclass(frozen=True)
class Outcome:
    """What a run gave: its final state on file, who took part in the last round, and the figures of the final model.

    Figures of single sites, too, whatever the recipe: nobody's records are kept apart here. `sums`: of the last round,
    as the coordinator has them on file.
    """

    state: Path
    digest: Digest
    took_part: tuple[str, ...]
    figures: dict[str, Any]
    sums: bytes


@dataclass
class Simulation:
    """One run of a plan at these sites.

    Args:    name: stands in the state, as a run's name does.   coins: gives so many bytes by chance: by them patients
             are drawn and noise is added, under an epsilon.   lacks: of what a site adds nothing; nobody adds to it
             where few do, under `secure_sum`, as in a federation.   each: is told of every round.
    """

    plan: Plan
    initial: bytes
    sites: Sequence[str]
    execute: Executor
    folder: Path
    name: str
    coins: Callable[[int], bytes]
    lacks: Lacks
    conditions: Conditions = field(default_factory=Conditions)
    each: Callable[[Told], None] = lambda told: None
    _kept: dict[str, Path] = field(default_factory=dict)
    _same: tuple[Sequence[str], Sequence[Turn]] = ((), ())
    _buffer: Buffer = field(default_factory=Buffer)
    _lacking: dict[str, dict[SiteId, Collection[str]]] = field(default_factory=dict)

    def run(self) -> Outcome:
        """Train the plan's rounds and judge the final model.

        Raises: Conflict: fewer sites than the quorum.   Invalid, TrainingFailed: as a run would.
        """
        study, secure = self.plan.study, self.plan.study.privacy.recipe == "secure_sum"
        sites = self._sorted
        if len(sites) < study.quorum:
            raise Conflict(
                f"{len(sites)} hospitals have enough patients, and the study's `quorum` is {study.quorum}",
                "lower `quorum` or `min_patients` in the study",
            )
        slow, learns = self.conditions.slow_ones(sites), strategy(study)
        fold, least = Run(study.rounds, study.quorum, secure, prepares=study.prepares, enough=study.enough), 1
        if secure:
            fold = _paired(fold, sites)
            least = max(threshold(len(sites)), study.privacy.min_sites)
        state, figures, sums_ = self.folder / "state-0", dict[str, Any](), io.BytesIO()
        named = _file(state, partial(chain.begin, learns, self.initial, self.name))
        while (following := fold.following) is not None:
            began, (number, kind) = time.perf_counter(), following
            quorum = max(study.quorum, least)
            fold, _ = runs.step(fold, runs.Opened(number, kind, tuple(sites), 1, quorum, least, direct=secure))
            opened, refusing = fold, self._untrained(fold.round)
            while True:  # a site may refuse once it has trained: then the round is as if it had said so before
                fold, seen = self._gathered(opened, slow, refusing)
                took_part = self._in_order(fold.round.counted if fold.round is not None else ())
                asked, withheld = Asked(kind.value, number, state, self.folder), self._withheld(fold)
                if study.enough and kind is machine.Kind.TRAIN:
                    self._begin(asked, fold, slow)
                single_, alone, total, against = self._summed(asked, took_part, len(sites), withheld)
                if not against:
                    break
                refusing = {**refusing, **against}
            if kind is not machine.Kind.EVALUATE:
                after = self.folder / f"state-{number}"
                step = partial(preparation.advance, study, learns, asked.begins, named, total, self.name, number)
                named = _file(after, step)
                state.unlink()
                state = after
            fold, _ = runs.step(fold, Answered(COORDINATOR, Phase.APPLY, named))
            if kind is machine.Kind.EVALUATE:
                hidden = absence.HELD_OUT in withheld
                chain.write(total.arrays, total.metadata, sums_)
                figures = {"all": {} if hidden else figures_of(study, total.arrays, len(took_part)), "sites": single_}
                figures["evaluation"] = None if hidden else judged(study, total.arrays, alone, len(took_part))
            self.each(_told(study, fold, seen, total.arrays, withheld, time.perf_counter() - began))
        return Outcome(state, named, tuple(fold.took_part[fold.number]), figures, sums_.getvalue())

    def _gathered(self, fold: Run, slow: frozenset[str], refusing: Refusals) -> tuple[Run, "_Seen"]:
        """Every phase that asks sites, until the coordinator is asked for the sum.

        Raises: Conflict: too few are left where some refuse, for whom a run of a federation would wait.
        """
        round_ = fold.round
        assert round_ is not None
        for site, why in sorted(refusing.items()):
            fold, _ = runs.step(fold, machine.Withdrew(site, why))
        if refusing and fold.round is not None and fold.round.short:
            who = {why: [site for site in sorted(refusing) if refusing[site] == why] for why in refusing.values()}
            raise Conflict(
                f"round {round_.number} has {len(fold.round.roster)} of the {round_.quorum} hospitals that it needs; "
                + "; ".join(f"what {', '.join(sites)} said: {why}" for why, sites in who.items()),
                "lower `quorum` as far as `privacy.min_sites` allows, or ask other hospitals",
            )
        phases = [phase for phase in round_.phases if phase is not Phase.APPLY]
        silent = self.conditions.silent(round_.roster, round_.number, phases)
        silent = {site: phase for site, phase in silent.items() if site not in refusing}
        seen, limit = _Seen(len(silent) + len(refusing)), self.plan.study.deadlines.round_s
        left = frozenset[Phase]()
        for phase in phases:
            if fold.round is None or phase not in fold.round.phases:
                left |= {phase}  # CONFIRM (`Round.direct`): who would have been silent there is in the next
                continue
            asked = fold.round.asked(phase)
            behind = asked & slow if phase is phases[0] else frozenset[str]()
            late = behind if self.conditions.slow_s > limit else frozenset[str]()
            gone = {site for site, at in silent.items() if at in left | {phase}}
            there = asked.difference(late, gone) if late or gone else asked
            on_time = dict.fromkeys(self._in_order(there), NOTHING)
            if round_.enough:
                on_time = dict.fromkeys(self._first(round_, asked - gone, slow), NOTHING)
                late, behind = asked - on_time.keys(), frozenset()
            fold, _ = runs.together(fold, phase, on_time) if on_time else (fold, [])
            took_s = self.conditions.slow_s if behind - gone else 0.0
            seen = replace(seen, late=seen.late + len(late - gone))
            if fold.round is not None and fold.round.phase is phase:
                fold, _ = runs.step(fold, DeadlinePassed(phase))
                took_s = limit
            for site in sorted(asked - on_time.keys()) if len(on_time) < len(asked) else ():
                if fold.round is None or fold.round.phase is not phase:
                    break
                fold, _ = runs.step(fold, Answered(site, phase, NOTHING))
                seen = replace(seen, waited=seen.waited + 1)
                took_s = max(took_s, self.conditions.slow_s if site in late else 0.0)
            seen = replace(seen, lasted_s=seen.lasted_s + took_s)
        return fold, seen

    def _withheld(self, fold: Run) -> frozenset[str]:
        """To which parts of a secure sum nobody adds anything; see `site.seats.unsaid`."""
        round_, study = fold.round, self.plan.study
        if round_ is None or study.privacy.recipe != "secure_sum":
            return frozenset()
        of = "PREPARE" if round_.kind is machine.Kind.PREPARE else "EVALUATE"
        if of not in self._lacking:
            every = {site: self.lacks(site, of) for site in self._sorted}
            self._lacking[of] = {site: names for site, names in every.items() if names}
        called = round_.answered(Phase.READY)
        lacking = [names for site, names in self._lacking[of].items() if site in called]
        return absence.withheld(lacking, round_.quorum, study.privacy.min_sites)

    def _untrained(self, round_: machine.Round | None) -> Refusals:
        """Who refuses to judge the common model beside one of its own, because it has none; see `site.updates`."""
        study = self.plan.study
        if round_ is None or study.privacy.recipe != "secure_sum" or not evaluation.both(study, round_.kind.value):
            return {}
        return dict.fromkeys(round_.roster - self._kept.keys(), "this hospital was in no round of training")

    def _first(self, round_: machine.Round, asked: frozenset[SiteId], slow: frozenset[str]) -> list[SiteId]:
        """Who answers a round that closes with as many as are enough; sorted."""
        behind = slow if self.conditions.slow_s > 0 else frozenset[str]()
        order = self.conditions.order(sorted(round_.roster), round_.number)
        first = self._buffer.first(asked, behind, order, round_.number)
        return [SiteId(site) for site in sorted(first[: round_.enough])]

    def _begin(self, asked: Asked, fold: Run, slow: frozenset[str]) -> None:
        """Let those train who were not among the first: what they make waits for a later round."""
        round_, limit = fold.round, self.plan.study.deadlines.round_s
        assert round_ is not None
        silent = self.conditions.silent(round_.roster, round_.number, round_.phases[:-1])
        sites = self._buffer.beginning(round_.roster - silent.keys(), round_.counted)
        for sent in self.execute(asked, list(map(self._turn, sites))):
            for site, made in sent.kept.items():
                rounds = rounds_late(self.conditions.slow_s, limit) if site in slow else 1
                self._buffer.waits[site] = Waiting(made, asked.number + max(rounds, 1))

    def _summed(
        self, asked: Asked, sites: Sequence[str], cohort: int, withheld: Collection[str]
    ) -> tuple[Figures, Alone, chain.Vectors, Refusals]:
        """Let these train or judge, and add up what comes of it; or who refuses to be in the sum, and then nothing.

        When the model is judged, figures of single sites, and the sums of each, as far as they are asked for.
        """
        study, found = self.plan.study, Figures()
        alone: Alone = {}
        lacking: list[Collection[str]] = []
        kept, refusing = dict[str, Path](), dict[SiteId, str]()
        growing = self._sum(asked, cohort)
        for sent in self.execute(asked, self._turns(sites)):
            if sent.refuses:
                refusing |= dict.fromkeys(map(SiteId, sent.sites), sent.refuses)
            if refusing:
                continue
            growing.add(self._said(sent, withheld))
            kept |= sent.kept
            if asked.kind == "TRAIN" and study.strategy.name == COMMON and study.privacy.recipe == "secure_sum":
                lacking += [
                    absence.of(study, {name: rows[at] for name, rows in sent.rows.items()})
                    for at in range(len(sent.sites))
                ]
            if asked.kind == "EVALUATE":
                for at, site in enumerate(sent.sites):
                    mine = {name: rows[at] for name, rows in sent.rows.items()}
                    found[site] = figures_of(study, mine)
                    if evaluation.full(study):
                        alone[SiteId(site)] = sums_of(mine)
        if refusing:
            return {}, {}, chain.Vectors({}, {}, b""), refusing
        few = absence.withheld(lacking, len(lacking), study.privacy.min_sites)  # all of its quorum are there
        absence.trains(study, asked.kind, few)
        for site, path in kept.items():
            if (before := self._kept.get(site)) is not None:
                before.unlink()
            self._kept[site] = path
        self._buffer.counted(sites if asked.kind == "TRAIN" else ())
        total = growing.total({"run": self.name, "round": str(asked.number), "kind": asked.kind})
        if study.privacy.recipe == "secure_sum":
            clipped(study, asked.number, len(sites), total.arrays)  # a run of a federation would end here, too
        return found, alone, total, {}

    def _said(self, sent: Sent, withheld: Collection[str]) -> Sent:
        study = self.plan.study
        rows, added = (absence.blanked(study, of, withheld) for of in (sent.rows, sent.added))
        return replace(sent, rows=rows, added=added) if withheld else sent

    def _sum(self, asked: Asked, cohort: int) -> sums.Sum:
        if self.plan.study.privacy.recipe == "secure_sum":
            return sums.Sealed(layout_of(self.plan, asked.kind, asked.state, cohort), self.coins)
        look = self._single if asked.kind == "TRAIN" else None
        return sums.Plain() if look is None else sums.Apart(self.folder, look)

    @cached_property
    def _sorted(self) -> list[SiteId]:
        return sorted(SiteId(site) for site in self.sites)

    def _in_order(self, some: Collection[SiteId]) -> list[SiteId]:
        """Sites, sorted: of many, to sort them takes longer than what else a round does with them."""
        everybody = self._sorted
        return everybody if len(some) == len(everybody) else [site for site in everybody if site in some]

    @cached_property
    def _single(self) -> Single | None:
        return single(strategy(self.plan.study))

    def _turns(self, sites: Sequence[str]) -> Sequence[Turn]:
        """What each does: the same as before, where nothing is drawn or kept, and nobody comes late."""
        if self._kept or self.plan.study.enough or self.plan.study.privacy.epsilon is not None:
            return list(map(self._turn, sites))
        if self._same[0] != sites:
            self._same = sites, list(map(Turn, sites))
        return self._same[1]

    def _turn(self, site: str) -> Turn:
        drawing = self.plan.study.privacy.epsilon is not None
        return Turn(site, self.coins(32) if drawing else b"", self._kept.get(site), self._buffer.late(site))


@dataclass(frozen=True)
class _Seen:
    """What happened while answers were gathered: see `Told`."""

    silent: int
    late: int = 0
    waited: int = 0
    lasted_s: float = 0.0


def _told(
    study: Study, fold: Run, seen: _Seen, arrays: Mapping[str, Array], withheld: frozenset[str], seconds: float
) -> Told:
    assert fold.round is not None
    counted = {name: array.copy() for name, array in arrays.items() if name.startswith(METRICS)}
    return Told(
        study, fold.round.number, fold.round.kind.value, fold.took_part[fold.round.number], seen.silent, seen.late,
        seen.waited, float(arrays["weight"][0]), counted, int(arrays[CLAMPED][0]) if CLAMPED in arrays else 0,
        withheld, seconds, seen.lasted_s,
    )  # fmt: skip


def _paired(fold: Run, sites: Sequence[SiteId]) -> Run:
    """The run once all sites hold keys with one another: people see to that before it begins, and nobody is missing."""
    fold, _ = runs.step(fold, runs.Opened(0, machine.Kind.PAIR, tuple(sites), 1))
    for phase in machine.PAIRING:
        fold, _ = runs.together(fold, phase, dict.fromkeys(sites, NOTHING))
    return fold


def _file(path: Path, write: Callable[[IO[bytes]], tuple[Digest, int]]) -> Digest:
    with path.open("wb") as file:
        return write(file)[0]
