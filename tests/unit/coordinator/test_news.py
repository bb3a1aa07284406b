"""The coordinator's log: a line for what is committed, whatever others wrote into it; attacks are seen, and bounded."""

import logging
from datetime import UTC, datetime
from math import log10
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consilium.coordinator import news
from consilium.coordinator.ledgers import record
from consilium.store.database import Database, Transaction

NOW = datetime(2030, 1, 1, tzinfo=UTC)
FIELDS = (
    "study",
    "run",
    "by",
    "reason",
    "round",
    "status",
    "site",
    "decision",
    "taken",
    "known",
    "count",
    "name",
    "role",
)


@given(st.sampled_from(sorted(news.LINES)), st.text(max_size=2000))
def test_what_others_wrote_is_one_short_line(kind: str, text: str) -> None:
    line = news.words(kind, dict.fromkeys(FIELDS, text))
    assert line.isprintable() and len(line) < 6 * news.LONGEST


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    found = [(one.levelname, one.getMessage()) for one in caplog.records if one.name == news.__name__]
    caplog.clear()
    return found


def test_what_is_undone_is_not_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    database = Database(f"sqlite:///{tmp_path / 'db.sqlite'}", lambda topic: None)
    database.prepare()

    def admitted(tx: Transaction) -> None:
        record(tx, "admit", {"site": "north", "by": "ada"}, NOW)
        assert said(caplog) == [], "it is not committed yet"

    def undone(tx: Transaction) -> None:
        record(tx, "remove", {"site": "north", "by": "ada"}, NOW)
        raise KeyError

    def both(tx: Transaction) -> None:
        tx.apart(undone)
        tx.apart(admitted)

    database.run_here(both)
    assert said(caplog) == [("INFO", "north is admitted by ada")]
    with pytest.raises(KeyError):
        database.run_here(undone)
    assert said(caplog) == []
    ends: list[dict[str, Any]] = [{"status": "finished", "reason": ""}, {"status": "stopped", "reason": "two\nlines"}]
    for end in ends:
        database.run_here(lambda tx, end=end: record(tx, "run-ended", {"run": "r-1", **end}, NOW))  # type: ignore[misc]
    assert said(caplog) == [("INFO", "run r-1 finished"), ("WARNING", "run r-1 stopped: two lines")]
    database.run_here(lambda tx: record(tx, "step", {"run": "r-1"}, NOW))
    assert said(caplog) == []
    database.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300), st.floats(0, 5)), max_size=400))
def test_an_attack_is_told_at_once_and_is_no_more_than_so_many_lines(
    caplog: pytest.LogCaptureFixture, tries: list[tuple[int, float]]
) -> None:
    caplog.clear()
    refusals, at, most = news.Refusals(), 1e9, news.MOST
    for number, (address, later) in enumerate(tries, 1):
        at += later
        refusals.add("wrong password", f"192.0.2.{address}", at)
        if number == 1:
            assert said(caplog) == [("WARNING", "wrong password, from 192.0.2." + str(address))]
    windows = 1 + (at - 1e9) / news.WINDOW_S
    assert len(said(caplog)) <= windows * (most + 1) * (1 + log10(len(tries) or 1))


def test_who_tries_again_and_again_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    refusals = news.Refusals()
    for number in range(1000):
        refusals.add("wrong password for ada", "192.0.2.1", 1e9 + number / 100)
    refusals.add("wrong password for ada", "192.0.2.1", 1e9 + 61)
    told = [line.partition("192.0.2.1")[2] for _, line in said(caplog)]
    assert told == ["", *(f", {count} times within a minute" for count in (10, 100, 1000)), ""]
