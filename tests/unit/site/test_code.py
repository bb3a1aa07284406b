"""A study's code, fetched to be read: no more of it than was announced, and not for ever."""

from pathlib import Path
from threading import Event

import pytest

from consilium.core.errors import TooLarge, Unavailable
from consilium.core.ids import digest
from consilium.core.study import Plan
from consilium.site import code
from consilium.site.code import fetch_code
from consilium.site.folder import Folder, Membership
from consilium.site.journal import Journal
from consilium.site.options import opened
from consilium.wire import connection
from e2e.federation import study

WHEEL = b"a wheel of some bytes"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Of a site whose coordinator does not answer: nobody listens at this port."""
    folder = Folder.create(tmp_path / "site")
    folder.keep_membership(Membership("north", "https://127.0.0.1:9", folder.identity().public))
    return folder


def offered(journal: Journal, size: int) -> Plan:
    """A study with code of so many bytes, as it was announced."""
    made = study("sums")
    model = made.model.model_copy(update={"kind": "torch", "architecture": "net", "wheel": digest(WHEEL)})
    plan = Plan.of(made.model_copy(update={"model": model}))
    row = (plan.study.name, plan.digest, plan.payload, "", "", size)
    with journal.write() as tx:
        tx.do("INSERT INTO studies (study, plan, payload, title, at, code) VALUES (?, ?, ?, ?, ?, ?)", *row)
    return plan


def test_with_the_coordinator_away_it_ends_and_says_so(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[float | None] = []
    monkeypatch.setattr(Event, "wait", lambda self, timeout=None: tries.append(timeout))
    with opened(folder.home) as desk, pytest.raises(Unavailable, match=r"127\.0\.0\.1:9 cannot be reached"):
        fetch_code(desk, offered(desk.journal, len(WHEEL)), folder.home / "code")
    assert len(tries) == connection.TRIES - 1


@pytest.mark.parametrize(("announced", "most"), [(7, 7), (0, 16 << 30), (1 << 50, 16 << 30)])
def test_no_more_is_taken_than_was_announced_and_the_policy_takes(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, announced: int, most: int
) -> None:
    asked: list[int] = []

    def download(*_: object, most: int) -> int:
        asked.append(most)
        raise TooLarge("more than the bytes that were announced came")

    monkeypatch.setattr(code, "download", download)
    with opened(folder.home) as desk, pytest.raises(TooLarge):
        fetch_code(desk, offered(desk.journal, announced), folder.home / "code")
    assert asked == [most]
