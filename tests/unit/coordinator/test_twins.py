"""Two agents of one hospital are found out, wherever they run; one that is started anew, however often, is not held."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count, groupby

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consilium.coordinator import twins, witness
from consilium.core.ids import SiteId
from consilium.store.database import Database
from consilium.store.schema import sites

NEW = count()
BEAT_S = 10.0


class Hospital:
    """One site at a coordinator, whose agents beat."""

    def __init__(self, database: Database) -> None:
        self.database, self.site, self.now = database, SiteId(f"site-{next(NEW)}"), 1e9
        row = {"site": self.site, "state": "admitted", "public_key": self.site, "about": "", "activity": ""}
        since = datetime.fromtimestamp(self.now, UTC)
        database.run_here(lambda tx: tx.put(sites, **row, since=since, last_seen=0.0))

    def beat(self, agent: int, after_s: float = BEAT_S) -> bool:
        self.now += after_s
        return self.database.run_here(lambda tx: twins.beats(tx, self.site, f"{agent:016x}", self.now))

    def alarms(self) -> list[str]:
        return [one["why"] for one in self.database.run_here(witness.view).get(self.site, [])]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path_factory.mktemp('twins') / 'db.sqlite'}", lambda topic: None)
    made.prepare()
    yield made
    made.close()


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 5), max_size=20), st.integers(0, 19), st.floats(-4000, 90))
def test_an_agent_that_is_started_anew_is_never_held(
    database: Database, beats: list[int], late: int, jump_s: float
) -> None:
    """Also where one heartbeat of an earlier start arrives late, and where the coordinator's clock is set back."""
    hospital, starts = Hospital(database), [len(list(same)) for _, same in groupby(beats)]
    for start, length in enumerate(starts):
        for number in range(length):
            assert not hospital.beat(start)
            if start and sum(starts[:start]) + number == late:
                assert not hospital.beat(start - 1, 0.1)
        hospital.now += jump_s if start == 1 else 0
    assert hospital.alarms() == []


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 5), st.floats(0, BEAT_S), st.sampled_from([0, 1]))
def test_two_at_once_are_both_told_and_the_one_that_is_left_goes_on(
    database: Database, alone: int, apart_s: float, stays: int
) -> None:
    hospital = Hospital(database)
    assert not any(hospital.beat(0) for _ in range(alone))
    told = [hospital.beat(agent, after) for _ in range(4) for agent, after in ((0, BEAT_S - apart_s), (1, apart_s))]
    assert not any(told[:4]) and all(told[4:]), "from the second time on that one comes back"
    assert hospital.alarms() == [witness.TWINS]
    left = [hospital.beat(stays) for _ in range(9)]
    assert not any(left[7:]), "a minute later"
    database.run_here(lambda tx: witness.settle(tx, hospital.site, "ada", datetime.fromtimestamp(hospital.now, UTC)))
    assert hospital.alarms() == [] and not hospital.beat(stays) and not hospital.beat(7)
