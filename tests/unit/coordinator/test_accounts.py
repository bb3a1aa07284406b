"""Who may join: under a name of its own, once for each token, and never under another key."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from consilium.coordinator import accounts
from consilium.core.errors import Conflict, ConsiliumError, Invalid, Refused
from consilium.core.ids import SiteId
from consilium.store.database import Database

KEY, OTHER = "a" * 43, "b" * 43
T0 = 1e9


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'db.sqlite'}", lambda topic: None)
    made.prepare()
    yield made
    made.close()


def join(database: Database, token: str, site: str, key: str, now: float = T0) -> str:
    """The state of the site, or why it does not join."""
    try:
        return database.run_here(lambda tx: accounts.join(tx, token, site, key, "", now))
    except Refused as error:
        return f"{error.reason}"


def token(database: Database, site: str) -> str:
    return database.run_here(lambda tx: accounts.join_token(tx, site, T0)[0])


def refusal(database: Database, site: str) -> type[ConsiliumError]:
    with pytest.raises(ConsiliumError) as caught:
        token(database, site)
    return caught.type


def test_no_hospital_has_the_name_under_which_the_coordinator_keeps_its_log(database: Database) -> None:
    """What it signs of its log would stand among the heads of the coordinator's."""
    assert refusal(database, "coordinator") is Invalid


@pytest.mark.parametrize("state", ["pending", "admitted", "removed"])
def test_a_name_that_was_used_has_one_key_for_ever(database: Database, state: str) -> None:
    first, second = token(database, "north"), token(database, "north")
    assert join(database, first, "north", KEY) == "pending"
    database.run_here(lambda tx: accounts.set_state(tx, SiteId("north"), state))
    again = "token" if state == "removed" else state
    assert [join(database, one, "north", KEY) for one in (first, second)] == [again] * 2, "a retry, not a way back"
    assert [join(database, one, "north", OTHER) for one in (first, second)] == ["token"] * 2
    assert refusal(database, "north") is Conflict
    assert join(database, token(database, "south"), "south", KEY) == "key"


def test_a_token_serves_its_own_name_once_and_until_it_expires(database: Database) -> None:
    mine = token(database, "north")
    late = T0 + accounts.JOIN_TOKEN_S
    assert [join(database, mine, "south", KEY), join(database, mine, "north", KEY, late + 1)] == ["token"] * 2
    assert join(database, mine + "x", "north", KEY) == "token"
    database.run_here(lambda tx: accounts.cancel(tx, "north", T0))
    assert join(database, mine, "north", KEY) == "token"
    assert join(database, token(database, "north"), "north", KEY, late) == "pending"
