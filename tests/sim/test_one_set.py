"""Hospitals are in sums over one set of hospitals at a model, and models repeat: a run waits for those, or says why."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, update

from consilium.coordinator import views
from consilium.coordinator.conduct import Conduct
from consilium.coordinator.whom import TRIES
from consilium.core import run as runs
from consilium.core.ids import Digest, RunId, SiteId, digest
from consilium.governance import participation
from consilium.privacy import question
from consilium.store.database import Transaction
from consilium.store.schema import audit, effects, events, sites, studies, told
from consilium.store.schema import runs as run_table
from consilium.wire.messages import Refusal, Task
from sim.world import COMPARE_S, ROUND_S, ROUNDS, RUN, SEALED, World, living

THREE = SEALED[:3]
EARLIER = RunId("sim-0")


class Resting(World):
    """The model stays as it is, round after round; each site remembers over whom it was in sums at it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "secure_sum")
        self.away: frozenset[str] = frozenset()
        self.memory: dict[tuple[str, Digest], frozenset[str]] = {}

    def arrays(self, name: str, task: Task) -> dict[str, Any]:
        found = super().arrays(name, task)
        return {key: np.zeros_like(array) if key == "update" else array for key, array in found.items()}

    def do_poll(self, name: str) -> None:
        if name not in self.away:
            super().do_poll(name)

    def do_send(self, name: str) -> None:
        if name not in self.away:
            super().do_send(name)

    def do_work(self, name: str) -> None:
        site = self.sites[SiteId(name)]
        task = site.task
        if name in self.away or task is None:
            return
        if task.phase in ("MASK", "UNMASK"):
            before = "READY" if task.phase == "MASK" else "MASK"
            over = frozenset(self._heard(task.run, task.round, task.attempt, before))
            groups = question.models(self.plan.study, task.kind, self._read(Digest(task.state.digest)))
            for model in (one for group in groups for one in group):
                if self.memory.get((name, model), over) != over:
                    site.task, about = None, {one: getattr(task, one) for one in PLACE}
                    site.outbox.append(site.seal(Refusal(**about, reason="difference", text="")))
                    return
                if task.phase == "UNMASK":
                    self.memory[name, model] = over
        super().do_work(name)

    async def hours(self, count: int = 6) -> runs.Run:
        """Everybody who is here does what there is to do, while the time of some deadlines passes."""
        here = sorted(set(self.sites) - self.away)
        for _ in range(count):
            self.look(lambda tx: tx.do(update(sites).where(sites.c.site.in_(here)).values(last_seen=self.now)))
            for name in here:
                self.look(partial(self._beat, name=name))
            await self.calm_once()
            self.now += 700
        return self.fold()

    def _beat(self, tx: Transaction, name: str) -> None:
        conduct = Conduct.load(tx, self.identity, RUN, datetime.fromtimestamp(self.now, UTC))
        if conduct.fold.status is runs.Status.PAUSED:
            conduct.returned(SiteId(name))

    def earlier(self, over: Iterable[str], remembers: bool = True, study: str = "sim") -> None:
        """There was another run of the study, or of another one, with a sum over these at the first model."""

        def keep(tx: Transaction) -> None:
            mine = tx.rows(select(told.c.model).where(told.c.run == RUN, told.c.round == 1))
            if study != "sim":
                whose = {"plan": digest(study.encode()), "payload": self.plan.payload, "owner": "olga"}
                tx.put(studies, study=study, since=datetime.fromtimestamp(self.now, UTC), **whose)
            tx.put(run_table, run=EARLIER, study=study, version=0, status=runs.Status.FINISHED.value)
            named = json.dumps(sorted(over))
            tx.put(told, *({"run": EARLIER, "round": 1, "model": row.model, "sites": named} for row in mine))
            self.memory |= {(site, Digest(row.model)): frozenset(over) for row in mine for site in over if remembers}

        self.look(keep)

    def view(self) -> dict[str, Any]:
        return dict(self.look(lambda tx: views.run_view(tx, RUN)))

    def attended(self) -> participation.Run:
        """The run, as its entries in the audit log tell it."""
        rows = self.look(lambda tx: tx.rows(select(audit.c.entry).order_by(audit.c.seq)))
        told = [{"kind": "study", "at": "", "body": {"study": "sim", "plan": self.plan.digest, "by": "olga"}},
                {"kind": "run", "at": "", "body": {"run": RUN, "by": "olga"}}]  # fmt: skip
        (found,) = participation.attended([*told, *(json.loads(row.entry) for row in rows)])
        return found.runs[0]

    def opened(self, kind: str) -> list[list[str]]:
        """Rosters of the rounds of a kind, in order."""
        rows = self.look(lambda tx: tx.rows(select(events.c.body).where(events.c.kind == "Opened")))
        return [body["roster"] for body in (json.loads(row.body) for row in rows) if body["kind"] == kind]


PLACE = ("study", "plan", "run", "round", "attempt")


async def agreed_without_west(world: Resting) -> None:
    """West approves and is away since; the others hold keys."""
    world.do_send("west")
    world.do_deliver(0, 0)
    world.away = frozenset({"west"})
    while not world.fold().cohort:
        await world.hours(1)


def play(story: Callable[[Resting], Awaitable[None]]) -> None:
    with living(Resting) as world:
        asyncio.run(story(world))  # type: ignore[arg-type]
        told = {one.hospital: set(one.part_of) for one in world.attended().hospitals}
        ours = world.fold().took_part
        assert set().union(*told.values()) <= set(ours)
        for number, over in ours.items():
            assert {site for site, numbers in told.items() if number in numbers} == set(over), "the log tells the same"


def going(world: Resting) -> runs.Run:
    """The run, which is not over: who waits for something to come of it would wait for ever."""
    fold = world.fold()
    assert fold.status not in runs.OVER, fold.reason
    return fold


async def paired(world: Resting) -> None:
    while not going(world).cohort:
        await world.calm_once()


async def begun(world: Resting) -> None:
    while not world.look(lambda tx: tx.rows(select(told.c.model).where(told.c.run == RUN))):
        await world.calm_once()


async def after_one_round(world: Resting) -> None:
    while not going(world).took_part:
        await world.calm_once()


def test_a_round_at_a_model_of_before_waits_for_those_who_were_in_its_sum_and_says_for_whom() -> None:
    async def story(world: Resting) -> None:
        await after_one_round(world)
        world.away = frozenset({"west"})
        fold = await world.hours(2)
        assert (fold.status, fold.number, fold.attempt) == (runs.Status.PAUSED, 2, 1), "nobody was asked in vain"
        view = world.view()
        assert view["reason"].startswith("round 2 waits for west: at its model hospitals were in a sum with west")
        assert "another model" in view["reason"] and "`start: drawn`" in view["reason"]
        assert view["waiting_for"] == ["west"]
        world.away = frozenset()
        while len(world.fold().took_part) < 2:
            await world.calm_once()
        assert set(world.fold().took_part.values()) == {SEALED} and not world.refused

    play(story)


@pytest.mark.long
def test_who_was_late_for_the_first_sum_at_a_model_is_not_asked_for_the_next_one() -> None:
    async def story(world: Resting) -> None:
        await paired(world)
        world.away = frozenset({"west"})
        while not world.fold().took_part:
            await world.hours(1)
        world.away = frozenset()
        fold = await world.hours(10)
        assert fold.status is runs.Status.FINISHED and set(fold.took_part.values()) == {THREE}, fold.reason
        assert world.opened("TRAIN")[1:] == [list(THREE)] * (ROUNDS - 1)

    play(story)


@pytest.mark.long
def test_a_hospital_that_revokes_is_named_and_the_run_goes_on_when_it_approves_again() -> None:
    async def story(world: Resting) -> None:
        await after_one_round(world)
        world.do_decide("west", "revoke")
        fold = await world.hours()
        assert fold.status is runs.Status.PAUSED and "waits for west" in fold.reason
        before = world.look(lambda tx: len(tx.rows(select(events.c.seq))))
        await world.hours()
        assert world.look(lambda tx: len(tx.rows(select(events.c.seq)))) == before, "it waits, and does nothing else"
        world.do_decide("west", "approve")
        fold = await world.hours(10)
        assert fold.status is runs.Status.FINISHED and set(fold.took_part.values()) == {SEALED}, fold.reason

    play(story)


@pytest.mark.long
def test_who_is_lost_between_phases_of_such_a_round_is_waited_for() -> None:
    async def story(world: Resting) -> None:
        await after_one_round(world)
        while world.fold().round.phase != "MASK":  # type: ignore[union-attr]
            await world.calm_once()
        world.away = frozenset({"west"})
        fold = await world.hours()
        assert fold.status is runs.Status.PAUSED and "waits for west" in fold.reason, fold.reason
        world.away = frozenset()
        assert (await world.hours(10)).status is runs.Status.FINISHED

    play(story)


@pytest.mark.long
def test_who_masked_and_went_away_was_in_the_sum_though_others_opened_it() -> None:
    async def story(world: Resting) -> None:
        await paired(world)
        while world.fold().round.phase != "UNMASK":  # type: ignore[union-attr]
            await world.calm_once()
        world.away = frozenset({"west"})
        while not world.fold().took_part:
            await world.hours(1)
        assert world.memory.keys() == {(site, model) for site, model in world.memory if site != "west"}
        fold = await world.hours(3)
        assert fold.status is runs.Status.PAUSED and "waits for west" in fold.reason, fold.reason
        world.away = frozenset()
        fold = await world.hours(10)
        assert fold.status is runs.Status.FINISHED and set(fold.took_part.values()) == {SEALED}, fold.reason

    play(story)


@pytest.mark.long
@pytest.mark.parametrize("how", ["away", "revoked"])
def test_who_is_lost_in_a_round_over_those_of_an_earlier_run_is_waited_for_if_the_others_refuse(how: str) -> None:
    async def story(world: Resting) -> None:
        await begun(world)
        world.earlier(SEALED, remembers=how == "away")
        while world.fold().round is None or world.fold().round.phase != "READY":  # type: ignore[union-attr]
            await world.calm_once()
        assert world.fold().round.whole  # type: ignore[union-attr]
        if how == "away":
            world.away = frozenset({"west"})
        else:
            world.do_decide("west", "revoke")
        fold = await world.hours(14)
        if how == "away":
            assert fold.status is runs.Status.PAUSED and "waits for west" in fold.reason, fold.reason
            return
        assert fold.took_part and set(fold.took_part.values()) == {THREE}, fold.reason

    play(story)


@pytest.mark.long
def test_a_run_that_is_begun_again_begins_over_those_of_before() -> None:
    """West was late then: who was in time is in no sum with it at the first model, and it takes part from then on."""

    async def story(world: Resting) -> None:
        await begun(world)
        world.earlier(THREE)
        fold = await world.hours(20)
        assert world.opened("TRAIN")[0] == list(THREE), "nobody is asked in vain"
        assert fold.status is runs.Status.FINISHED and set(fold.took_part.values()) == {THREE}, fold.reason

    play(story)


@pytest.mark.long
@pytest.mark.parametrize("comes", [True, False])
def test_who_was_in_a_sum_of_before_and_has_no_keys_is_waited_for_and_agrees_on_them_when_it_is_back(
    comes: bool,
) -> None:
    async def story(world: Resting) -> None:
        world.away = frozenset({"west"})
        while not world.fold().cohort:
            await world.hours(1)
        world.earlier(SEALED)
        assert world.fold().cohort == THREE
        fold = await world.hours(8)
        assert fold.status is runs.Status.PAUSED and "waits for west" in fold.reason, fold.reason
        if not comes:
            return
        world.away = frozenset()
        fold = await world.hours(16)
        assert fold.status is runs.Status.FINISHED and set(fold.took_part.values()) == {SEALED}, fold.reason

    play(story)


@pytest.mark.long
def test_who_beats_and_agrees_on_no_keys_is_not_asked_for_them_without_end() -> None:
    async def story(world: Resting) -> None:
        await agreed_without_west(world)
        world.earlier(SEALED)
        await world.hours(8)
        for _ in range(30):
            alive = update(sites).where(sites.c.site == "west").values(last_seen=world.now)
            world.look(lambda tx, alive=alive: (tx.do(alive), world._beat(tx, "west")))
            await world.hours(1)
        assert sum("west" in roster for roster in world.opened("PAIR")) == TRIES
        fold = world.fold()
        assert fold.status is runs.Status.PAUSED and "waits for west" in fold.reason, fold.reason

    play(story)


def remembered(world: Resting, sites: Iterable[str], over: Iterable[str]) -> None:
    """These were in a sum over those at the first model, of which this coordinator knows nothing."""
    mine = world.look(lambda tx: tx.rows(select(told.c.model).where(told.c.run == RUN, told.c.round == 1)))
    world.memory |= {(site, Digest(row.model)): frozenset(over) for row in mine for site in sites}


def test_who_approves_later_joins_those_that_refuse_a_sum_over_one_another() -> None:
    """They hold keys, and it has none; that they were in a sum with it the coordinator does not know."""

    async def story(world: Resting) -> None:
        world.away = frozenset({"west"})
        world.sites[SiteId("west")].outbox.clear()
        await begun(world)
        remembered(world, SEALED, SEALED)
        fold = await world.hours(6)
        assert fold.cohort == THREE and "refuse a sum over one another" in fold.reason, fold.reason
        before = world.look(lambda tx: len(tx.rows(select(events.c.seq))))
        await world.hours(2)
        assert world.look(lambda tx: len(tx.rows(select(events.c.seq)))) == before, "it waits, and does nothing else"
        world.away, world.sites[SiteId("west")].willing = frozenset(), False
        world.do_decide("west", "approve")
        while len(world.fold().took_part) < ROUNDS:
            await world.hours(1)
        assert set(world.fold().took_part.values()) == {SEALED} and len(world.opened("PAIR")) == 2

    play(story)


@pytest.mark.long
def test_who_is_back_after_all_others_refused_a_sum_without_it_is_asked() -> None:
    """The coordinator took a sum over three for the one to repeat, and they were in one over four."""

    async def story(world: Resting) -> None:
        await begun(world)
        world.earlier(THREE, remembers=False)
        remembered(world, SEALED, SEALED)
        while world.fold().round is None or world.fold().round.phase != "READY":  # type: ignore[union-attr]
            await world.calm_once()
        world.away = frozenset({"west"})
        fold = await world.hours(8)
        assert fold.status is runs.Status.PAUSED and "refuse a sum over one another" in fold.reason, fold.reason
        world.away = frozenset()
        fold = await world.hours(20)
        assert fold.status is runs.Status.FINISHED and set(fold.took_part.values()) == {SEALED}, fold.reason
        assert len(world.opened("PAIR")) == 1, "all of them had keys"

    play(story)


@pytest.mark.long
def test_who_refuses_keys_is_not_asked_for_them_without_end_by_those_that_refuse_a_sum_over_one_another() -> None:
    async def story(world: Resting) -> None:
        await agreed_without_west(world)
        remembered(world, SEALED, SEALED)
        await world.hours(8)
        for _ in range(20):
            alive = update(sites).where(sites.c.site == "west").values(last_seen=world.now)
            world.look(lambda tx, alive=alive: (tx.do(alive), world._beat(tx, "west")))
            await world.hours(1)
        assert sum("west" in roster for roster in world.opened("PAIR")) == TRIES
        assert "refuse a sum over one another" in world.fold().reason, world.fold().reason

    play(story)


@pytest.mark.long
@pytest.mark.parametrize("study", ["sim", "another"])
def test_of_another_study_the_owner_hears_of_no_hospital_that_does_not_approve_this_one(study: str) -> None:
    async def story(world: Resting) -> None:
        await paired(world)
        world.earlier(SEALED, study=study)
        world.do_decide("west", "revoke")
        fold = await world.hours(8)
        assert fold.status is runs.Status.PAUSED and ("west" in fold.reason) is (study == "sim"), fold.reason

    play(story)


class AtOnce(Resting):
    """A hospital that has shown its part refuses before it trains."""

    def do_work(self, name: str) -> None:
        site = self.sites[SiteId(name)]
        task = site.task
        if name in self.away or task is None or task.phase != "READY":
            super().do_work(name)
            return
        site.task, about = None, {one: getattr(task, one) for one in PLACE}
        site.outbox.append(site.seal(Refusal(**about, reason="difference", text="")))


@pytest.mark.parametrize("when", ["READY", pytest.param("MASK", marks=pytest.mark.long)])
def test_a_run_that_nothing_known_explains_says_that_a_sum_is_refused(when: str) -> None:
    async def story(world: Resting) -> None:
        await begun(world)
        remembered(world, THREE, {*THREE, "elsewhere"})
        fold = await world.hours(6)
        assert fold.status is runs.Status.PAUSED and "refuse a sum over one another" in fold.reason, fold.reason
        before = world.look(lambda tx: len(tx.rows(select(events.c.seq))))
        fold = await world.hours(3)
        assert world.look(lambda tx: len(tx.rows(select(events.c.seq)))) == before
        assert world.view()["reason"].startswith(fold.reason)

    with living(AtOnce if when == "READY" else Resting) as world:
        asyncio.run(story(world))


@pytest.mark.long
def test_what_an_earlier_run_was_over_is_a_guess_that_hospitals_may_contradict() -> None:
    """None of them remembers it: with the only one missing, the others go on without it."""

    async def story(world: Resting) -> None:
        await paired(world)
        world.earlier(SEALED, remembers=False)
        world.away = frozenset({"west"})
        fold = await world.hours(14)
        assert fold.took_part and set(fold.took_part.values()) == {THREE}, fold.reason

    play(story)


class Unread(Resting):
    """Nobody at west compares the words of the roster."""

    def do_work(self, name: str) -> None:
        task = self.sites[SiteId(name)].task
        if name != "west" or task is None or task.phase != "PROVE":
            super().do_work(name)


def proving(world: World, attempt: int, phase: str = "PROVE") -> tuple[float, list[str]]:
    """Until when keys are proved, in seconds since the epoch, and whose people are waited for."""
    row = world.look(lambda tx: tx.find(effects, key=f"{RUN}/deadline/0/{attempt}/{phase}"))
    return row.due, json.loads(row.body)["people"]


def test_who_falls_silent_where_all_have_compared_before_is_waited_for_as_long_as_for_machines() -> None:
    """It held a run for days, and people were asked to compare what they had compared."""

    async def story(world: Resting) -> None:
        def keep(tx: Transaction) -> None:
            tx.put(run_table, run=EARLIER, study="sim", version=0, status=runs.Status.FINISHED.value)
            told = [("Opened", {"kind": "PAIR", "roster": list(SEALED)})]
            told += [
                ("Answered", {"phase": phase, "site": one}) for phase in ("KEYS", "PAIR", "PROVE") for one in SEALED
            ]
            at = datetime.fromtimestamp(world.now - 1, UTC)
            rows = ((seq, kind, json.dumps(body)) for seq, (kind, body) in enumerate(told, 1))
            tx.put(
                events,
                *({"run": EARLIER, "seq": seq, "at": at, "kind": kind, "body": body} for seq, kind, body in rows),
            )

        world.look(keep)
        began = world.now
        for _ in range(5):
            await world.calm_once()
        assert world.view()["phase"] == "PROVE" and world.view()["waiting_for"] == ["west"]
        assert world.view()["comparing"] is None
        due, people = proving(world, 1)
        assert due < began + 2 * ROUND_S < began + COMPARE_S and people == []
        while not going(world).took_part:
            await world.hours(1)
        (told,) = world.view()["left_out"]
        assert told["site"] == "west" and "fell silent" in told["why"] and "compare" not in told["why"] + told["next"]

    with living(Unread) as world:
        asyncio.run(story(world))


def test_who_compared_no_words_in_time_is_told_as_left_out_and_why() -> None:
    """It was asked, answered, waited for its people, and stood nowhere: not in the view, not in the report."""

    async def story(world: Resting) -> None:
        began = world.now
        for _ in range(5):
            await world.calm_once()
        told = world.view()["comparing"]
        assert list(told["sites"]) == ["west"], "the others have compared"
        until = datetime.fromisoformat(told["until"]).timestamp()
        assert began + COMPARE_S <= until < began + COMPARE_S + ROUND_S, "people have other deadlines than machines"
        while not going(world).took_part:
            await world.hours(1)
        assert world.now > until and world.view()["comparing"] is None
        (told,), (lost, agreed) = world.view()["left_out"], world.view()["pairing"]
        assert (told["site"], told["since"]) == ("west", 0)
        assert "answered for keys, and nobody there is known to have compared the words" in told["why"]
        assert "by 2030-03-17 " in told["why"] and "compare_s" in told["next"] and "next run" in told["next"]
        (first, people), (second, nobody) = (proving(world, attempt) for attempt in (1, 2))
        assert first == until and people == list(SEALED) and nobody == []
        within = second - proving(world, 2, "PAIR")[0]
        assert within <= 700 < COMPARE_S - ROUND_S, "the others have compared: machines alone are waited for"
        assert lost["cancelled"] and lost["took_part"] == [] and lost["answered"] == list(THREE)
        assert agreed["took_part"] == list(THREE) and "cancelled" not in agreed
        (run,) = world.look(lambda tx: views.study_view(tx, "sim"))["runs"]
        assert run["left_out"] == [told]
        world.do_decide("west", "revoke")
        await world.hours(1)
        assert "approve the study no more" in world.view()["left_out"][0]["why"]
        (west,) = (one for one in world.attended().hospitals if one.hospital == "west")
        assert (west.keys, west.part_of) == (False, ()) and west.left_out[0].why == participation.KEYLESS

    with living(Unread) as world:
        asyncio.run(story(world))


def test_an_attempt_that_was_given_up_counts_nowhere_and_who_is_refused_is_told_once() -> None:
    """West was told as taking part in rounds, of which each was opened without it after the others had refused."""

    async def story(world: Resting) -> None:
        world.sites = {name: world.sites[name] for name in sorted(world.sites, reverse=True)}  # west masks first
        await begun(world)
        world.earlier(THREE, study="before")
        assert world.view()["left_out"] == []
        while len(going(world).took_part) < 2:
            await world.hours(1)
        view = world.view()
        given_up = [one for one in view["participation"] if "cancelled" in one]
        assert given_up and all(one["took_part"] == [] and one["refused"] for one in given_up)
        assert "west" in given_up[0]["roster"] and "west" in given_up[0]["answered"]
        (told,) = view["left_out"]
        assert (told["site"], told["since"]) == ("west", 1) and "`start: drawn`" in told["next"]
        assert told["why"].endswith("refused a sum with it (difference)")
        assert {site: one["rounds"] for site, one in view["sites"].items() if site in THREE} == dict.fromkeys(THREE, 2)
        assert view["sites"]["west"]["rounds"] == 0 and view["sites"]["west"]["bytes"] > 0

    play(story)
