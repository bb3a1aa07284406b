"""Every event of a run survives its stored form, and a stored log folds to the run it was written for."""

import random
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from consilium import studyfile
from consilium.core import round as machine
from consilium.core import run as runs
from consilium.core.errors import ConsiliumError, Unavailable
from consilium.core.ids import RunId, canonical, digest
from consilium.core.study import Plan, Study
from consilium.store import eventlog
from consilium.store.database import Database
from consilium.store.schema import runs as table
from consilium.store.schema import studies

names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8"), max_size=60)
digests = st.binary(max_size=8).map(digest)
stored: dict[type, st.SearchStrategy[runs.RunEvent]] = {
    machine.Answered: st.builds(machine.Answered, names, st.sampled_from(machine.Phase), digests),
    machine.Withdrew: st.builds(machine.Withdrew, names, texts),
    machine.DeadlinePassed: st.builds(machine.DeadlinePassed, st.sampled_from(machine.Phase)),
    machine.Cancelled: st.builds(machine.Cancelled, texts),
    runs.Opened: st.builds(
        runs.Opened,
        st.integers(0),
        st.sampled_from(machine.Kind),
        st.lists(names).map(tuple),
        st.integers(1),
        st.integers(0),
        st.integers(1),
        st.booleans(),
        st.booleans(),
    ),
    runs.Parted: st.builds(runs.Parted, texts),
    runs.Lacking: st.builds(runs.Lacking, st.integers(0)),
    runs.Stopped: st.builds(runs.Stopped, texts, st.booleans()),
}


def test_every_kind_of_event_is_drawn() -> None:
    assert set(stored) == set(get_args(runs.RunEvent)), "a new event needs its stored form, and a line here"


@settings(max_examples=150, deadline=None)
@given(st.one_of(*stored.values()))
def test_an_event_survives_its_stored_form(event: runs.RunEvent) -> None:
    again = eventlog.decode(type(event).__name__, canonical(asdict(event)).decode())
    assert again == event and type(again) is type(event)
    assert [type(value) for value in vars(again).values()] == [type(value) for value in vars(event).values()]


def test_a_round_that_a_release_of_before_opened_is_confirmed_as_it_began() -> None:
    body = '{"attempt":1,"kind":"TRAIN","least":3,"number":1,"quorum":3,"roster":["a","b","c"]}'
    assert eventlog.decode("Opened", body) == runs.Opened(1, machine.Kind.TRAIN, ("a", "b", "c"), 1, 3, 3, direct=False)  # type: ignore[arg-type]


RUN, NOW = RunId("s-1"), datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["plain", "secure_sum"])
def database(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty store with one study of three rounds under each recipe, and one run."""
    made = Database(f"sqlite:///{tmp_path / 'store.sqlite'}", lambda topic: None)
    made.prepare()
    values = yaml.safe_load(studyfile.template("s")) | {"rounds": 3, "privacy": {"recipe": request.param}}
    values["quorum"] = 2 if request.param == "plain" else 3
    plan = Plan.of(Study.model_validate(values))
    row = {"study": "s", "plan": plan.digest, "payload": plan.payload, "owner": "nora", "since": NOW}
    made.run_here(lambda tx: tx.do(insert(studies).values(**row)))
    made.run_here(lambda tx: tx.do(insert(table).values(run=RUN, study="s", version=0, status="paused")))
    eventlog._folds.clear()
    yield made
    eventlog._folds.clear()
    made.close()


def test_a_stored_log_folds_to_the_run_it_was_written_for(database: Database) -> None:
    chance, sites = random.Random(3), ("a", "b", "c")
    for _ in range(90):
        version, run = database.run_here(lambda tx: eventlog.load(tx, RUN))
        event = _any(run, chance, sites)
        try:
            version, after, _ = database.run_here(
                lambda tx, v=version, r=run, e=event: eventlog.append(tx, RUN, v, r, e, NOW)  # type: ignore[misc]
            )
        except ConsiliumError:
            after = run
        if chance.random() < 0.5:
            eventlog.remember(RUN, version, after)
        warm = database.run_here(lambda tx: eventlog.load(tx, RUN))
        eventlog._folds.clear()
        assert warm == database.run_here(lambda tx: eventlog.load(tx, RUN)) == (version, after), "the cache is a cache"
    assert len(after.took_part) >= 2, "the log has told of whole rounds"
    assert bool(after.cohort) == after.secure


def _any(run: runs.Run, chance: random.Random, sites: tuple[str, ...]) -> runs.RunEvent:
    if run.following is not None and chance.random() < 0.1:
        return runs.Lacking(0, awaits=sites[:1])
    if run.following is not None:
        roster = sites if run.secure else chance.choice([sites, sites[:2]])
        direct = run.secure and chance.random() < 0.5
        return runs.Opened(*run.following, roster, run.attempt + 1, least=3 if run.secure else 1, direct=direct)
    phase = run.round.phase if run.round is not None and run.round.phase is not None else machine.Phase.SUBMIT
    if phase is machine.Phase.APPLY and chance.random() < 0.7:
        return machine.Answered(machine.COORDINATOR, machine.Phase.APPLY, digest(b"state"))
    answers: list[runs.RunEvent] = [machine.Answered(site, phase, digest(b"x")) for site in sites]
    leaves = machine.Withdrew(sites[2], "left") if not run.secure else machine.Withdrew("stranger", "left")
    return chance.choice([*answers * 3, machine.DeadlinePassed(phase), leaves])


def test_of_two_processes_that_append_to_one_version_one_is_told_to_try_again(database: Database) -> None:
    version, run = database.run_here(lambda tx: eventlog.load(tx, RUN))
    for event in (runs.Lacking(1), runs.Lacking(0)):
        act = lambda tx, e=event: eventlog.append(tx, RUN, version, run, e, NOW)  # noqa: E731
        if event.present == 1:
            database.run_here(act)
        else:
            with pytest.raises(Unavailable, match="try again"):
                database.run_here(act)
    assert database.run_here(lambda tx: eventlog.load(tx, RUN))[1].reason.startswith("1 sites")


def test_a_step_that_changes_nothing_records_nothing(database: Database) -> None:
    def act(tx: object) -> tuple[int, int]:
        version, run = eventlog.load(tx, RUN)  # type: ignore[arg-type]
        once, run, _ = eventlog.append(tx, RUN, version, run, runs.Lacking(1), NOW)  # type: ignore[arg-type]
        twice, _, _ = eventlog.append(tx, RUN, once, run, runs.Lacking(1), NOW)  # type: ignore[arg-type]
        return once, twice

    assert database.run_here(act) == (1, 1)
