"""Who follows a run gets each of its rounds once, and has at any moment all of what one sees who looks only then."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import pytest
from sqlalchemy import delete

from consilium.api import RemoteRun, _followed
from consilium.console.cli.watching import watch
from consilium.coordinator.views import participation
from consilium.core.ids import RunId
from consilium.store.database import Transaction
from consilium.store.schema import events
from consilium.wire.messages import Refusal
from sim import test_requests
from sim.test_at_once import answers, begun, task
from sim.test_requests import Coordinator

coordinator = test_requests.coordinator
ROUNDS = 24


@dataclass
class Owner:
    """What the watcher needs of `Federation`; counts the bytes of each answer."""

    of: Coordinator
    got: list[int] = field(default_factory=list)

    def get(self, path: str, **query: Any) -> Any:
        """An answer of the coordinator."""
        told = self.of.done("rita", "GET", f"{path}?{urlencode(query)}")
        self.got.append(len(json.dumps(told)))
        return told


def looked(owner: Owner, run: RemoteRun) -> Any:
    """The run as one sees it who looks now and never before; not counted."""
    before = len(owner.got)
    seen = run.show()
    del owner.got[before:]
    return seen


def refused(of: Coordinator, site: str) -> None:
    """A site withdraws from the round for which it has a task."""
    asked = task(of, site)
    values = {
        "study": asked.study,
        "run": asked.run,
        "plan": asked.plan,
        "round": asked.round,
        "attempt": asked.attempt,
    }
    assert of.says(site, Refusal.TYPE, {**values, "reason": "quota", "text": ""})[0] == 200


def test_the_bytes_that_a_watcher_gets_grow_linearly_with_the_rounds(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    update, owner = begun(coordinator, rounds=ROUNDS), Owner(coordinator)
    run = RemoteRun(owner, "sums-1")  # type: ignore[arg-type]
    follow = run.views(wait_s=0)
    bytes_by_round: list[int] = []
    whole: list[int] = []

    def steps() -> Iterator[Any]:
        yield next(follow)
        for _ in range(ROUNDS):
            for site in ("north", "south"):
                assert answers(coordinator, site, update)[0] == 200
            view = next(follow)
            bytes_by_round.append(sum(owner.got))
            owner.got.clear()
            assert {key: value for key, value in view.items() if key != "events"} == looked(owner, run)
            whole.append(len(view["participation"]))
            yield view

    monkeypatch.setattr(RemoteRun, "views", lambda self, wait_s=0.0: steps())
    watch(run, True)
    lines = capsys.readouterr().out.splitlines()
    assert whole == list(range(2, ROUNDS + 2)), "each view has all rounds"
    assert max(bytes_by_round[-5:]) < 1.1 * max(bytes_by_round[:5]), "a late round costs what an early one does"
    assert len(lines) == ROUNDS + 1 and max(map(len, lines[-5:])) < 1.1 * max(map(len, lines[1:6]))
    told = {(one["round"], one["attempt"]): one for line in lines for one in json.loads(line)["participation"]}
    assert [told[key] for key in sorted(told)] == looked(owner, run)["participation"], "the lines tell all of it"


def test_a_round_that_changes_after_it_was_seen_is_told_anew(coordinator: Coordinator) -> None:
    update, owner = begun(coordinator, rounds=3), Owner(coordinator)
    run = RemoteRun(owner, "sums-1")  # type: ignore[arg-type]
    follow = run.views(wait_s=0)
    for act in (
        lambda: answers(coordinator, "north", update),
        lambda: answers(coordinator, "south", update),
        lambda: refused(coordinator, "north"),
        lambda: answers(coordinator, "south", update),
        coordinator.drive,
    ):
        act()
        seen = next(follow)
        assert {key: value for key, value in seen.items() if key != "events"} == looked(owner, run)
    assert seen["participation"][0]["took_part"] == ["north", "south"] and seen["participation"][1]["refused"]


@pytest.mark.parametrize("since", [0, 1, 5, 2**31 - 1])
def test_the_newest_round_is_always_told(coordinator: Coordinator, since: int) -> None:
    update = begun(coordinator)
    for site in ("north", "south"):
        answers(coordinator, site, update)
    whole = coordinator.done("rita", "GET", "/v1/runs/sums-1")
    told = coordinator.done("rita", "GET", f"/v1/runs/sums-1?since={since}")
    rounds = whole["participation"]
    assert told == {**whole, "participation": told["participation"]} and told["participation"]
    assert told["participation"] == rounds[len(rounds) - len(told["participation"]) :]
    assert coordinator.ask("rita", "GET", f"/v1/runs/sums-1?since={2**31}")[0] == 422


OPENED = {"roster": ["north", "south"], "quorum": 2, "least": 2}
SECURE: list[tuple[str, dict[str, Any]]] = [
    ("Opened", {**OPENED, "number": 0, "kind": "PAIR", "attempt": 1}),
    ("Withdrew", {"site": "west", "reason": "quota"}),
    ("Answered", {"site": "north", "phase": "PROVE"}),
    ("Opened", {**OPENED, "number": 1, "kind": "TRAIN", "attempt": 1}),
    ("Answered", {"site": "north", "phase": "SUBMIT"}),
    ("Cancelled", {"reason": "lost its quorum"}),
    ("Parted", {"reason": "too few hold keys"}),
    ("Opened", {**OPENED, "number": 0, "kind": "PAIR", "attempt": 2}),
    ("Answered", {"site": "north", "phase": "PROVE"}),
    ("Answered", {"site": "south", "phase": "PROVE"}),
    ("Opened", {**OPENED, "number": 1, "kind": "TRAIN", "attempt": 2}),
    ("Withdrew", {"site": "south", "reason": "budget"}),
]
"""A run in which keys are agreed twice: a round of kind PAIR is number 0, whenever it is opened."""


@pytest.mark.parametrize("every", range(1, 6))
def test_keys_that_are_agreed_anew_between_rounds_are_followed_too(coordinator: Coordinator, every: int) -> None:
    begun(coordinator)
    run, database = RunId("sums-1"), coordinator.services.database
    database.run_here(lambda tx: tx.do(delete(events).where(events.c.run == run)))
    view: dict[str, Any] = {}

    def seen(tx: Transaction, since: int) -> dict[str, Any]:
        told = participation(tx, run, since)
        pairing = [one for one in told if one["kind"] == "PAIR"]
        return {"participation": [one for one in told if one["kind"] != "PAIR"], "pairing": pairing}

    after = 0
    for seq, (kind, body) in enumerate(SECURE, 1):
        row = {"run": run, "seq": seq, "at": coordinator.services.now(), "kind": kind, "body": json.dumps(body)}
        database.run_here(lambda tx, row=row: tx.put(events, **row))
        if seq % every == 0:
            view = _followed(view, database.run_here(lambda tx, after=after: seen(tx, after)))
            after = seq
            assert view == database.run_here(lambda tx: seen(tx, 0))
    assert len(view["pairing"]) == 2 or every == 5
