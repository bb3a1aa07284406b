"""When the coordinator was heard last, and why a token is refused: in the agent's log and in `site status`."""

import json
import logging
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consilium.core.errors import ConsiliumError, Invalid, Removed, Unauthenticated, Unavailable
from consilium.site import contact, doctor, line, showing
from consilium.site.agent import Agent
from consilium.site.contact import Contact
from consilium.site.deciding import Desk
from consilium.site.folder import Folder, Membership
from consilium.site.journal import Journal
from consilium.site.presence import alone
from consilium.site.worker import HELD, Worker
from consilium.wire.lines import Lines
from consilium.wire.messages import HEADER

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder.create(tmp_path / "north")
    folder.keep_membership(Membership("north", "https://localhost:1", folder.identity().public))
    return folder


def status(folder: Folder, capsys: pytest.CaptureFixture[str]) -> str:
    with closing(Journal(folder.journal)) as journal:
        showing.status_words(showing.status(Desk(folder, journal), True, NOW))
    return capsys.readouterr().out


def test_the_log_ends_in_no_warning_that_is_not_true_any_more(
    folder: Folder, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The agent's own loop, over a line that fails twice and then answers."""
    caplog.set_level(logging.INFO, "consilium.site")
    stop, away = Event(), Unavailable("refused", "check the network")
    said: Iterator[object] = iter([b"", away, away, b"", away])
    shown = []

    def following(after: int) -> bytes:
        shown.append(status(folder, capsys))
        one = next(said, None)
        stop.wait = lambda timeout=None: False  # type: ignore[method-assign]
        if one is None:
            stop.set()
        if isinstance(one, ConsiliumError):
            raise one
        return b""

    agent: Any = SimpleNamespace(
        stop=stop, _next=following, _contact=Contact(folder), _worker=SimpleNamespace(active=True),
        _inbox=SimpleNamespace(read=lambda answer, after: []), _journal=SimpleNamespace(meta=lambda *_: "0"),
        _outbox=SimpleNamespace(wake=SimpleNamespace(expect=lambda: None)),
    )  # fmt: skip
    Agent._receive(cast(Agent, agent))
    lost, again = "nothing is received: refused; check the network", "the coordinator answers again"
    assert caplog.messages == [lost, again, lost, again]
    assert "heard" not in shown[0], "never yet"
    for number, trouble in enumerate((False, True, True, False, True), start=1):
        assert "was heard last at" in shown[number] and (lost in shown[number]) is trouble
    assert lost not in status(folder, capsys)


def test_what_is_noted_is_this_users_alone_and_what_cannot_be_read_is_nothing(folder: Folder) -> None:
    assert contact.told(folder) == ("", "")
    Contact(folder).lost("away")
    Contact(folder).heard(NOW)
    assert contact.told(folder) == (NOW.isoformat(), "") and contact.place(folder).stat().st_mode & 0o077 == 0
    Contact(folder).lost("away")
    assert contact.told(folder) == (NOW.isoformat(), "away"), "by an agent that came after"
    contact.place(folder).write_text("[")
    assert contact.told(folder) == ("", "")


@pytest.mark.parametrize(
    ("other", "ahead_s", "words"),
    [(True, 0, "another key"), (False, 86400, "86400 s behind"), (False, -60, "60 s ahead of"), (False, 0, None)],
)
def test_a_token_that_is_refused_for_another_key_or_clock_says_so(
    folder: Folder, other: bool, ahead_s: int, words: str | None
) -> None:
    key = "A" * 43 if other else folder.identity().public
    hello = {
        "name": "consilium-coordinator", "version": "1", "protocols": [2], "public_key": key,
        "now": (NOW + timedelta(seconds=ahead_s)).isoformat(),
    }  # fmt: skip
    anonymous: Any = SimpleNamespace(get=lambda path: json.loads(json.dumps(hello)))
    told = line.why(folder.membership(), anonymous, NOW)
    assert told is None if words is None else isinstance(told, Unauthenticated) and words in told.message
    anonymous = SimpleNamespace(get=lambda path: {})
    assert line.why(folder.membership(), anonymous, NOW) is None


def test_a_site_that_was_removed_dials_once_in_minutes_whatever_asks(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its threads each dialled every second, for ever."""
    asked, clock = [], [1000.0]
    said: list[tuple[int, dict[str, Any]]] = [(200, {"access_token": "a", "expires_in": 300}), (200, {})]

    def ask(_: object, method: str, path: str, *__: object) -> Any:
        asked.append(path)
        status, told = said.pop(0) if said else (401, {"code": "removed", "message": "north is out", "remedy": "leave"})
        headers = {HEADER: "1"}
        return SimpleNamespace(status=status, headers=headers, data=json.dumps(told).encode(), close=lambda: None)

    monkeypatch.setattr(Lines, "ask", ask)
    monkeypatch.setattr(line, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    connection = line.connect(folder, folder.identity())
    assert connection.get("/v1/inbox") == {} and asked == ["/v1/token", "/v1/inbox"]
    for _ in range(9):
        with pytest.raises(Removed, match=r"north is out; leave[.] The agent asks again every 10 minutes"):
            connection.get("/v1/inbox")
        clock[0] += 60.0
    assert asked[2:] == ["/v1/inbox", "/v1/token"], "with the token that it had, and for another one"
    clock[0] += 61.0
    said += [(200, {"access_token": "b", "expires_in": 300}), (200, {})]
    assert connection.get("/v1/inbox") == {}, "whoever is let in again is heard"


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("policy: 1\nnonsense: 1\n", "every study is refused until the policy can be read"),
        ("policy: 1\nexpires: 2020-01-01\n", "every study is refused: the policy ended on 2020-01-01"),
        ("policy: 1\n", None),
    ],
)
def test_a_policy_that_lets_nothing_through_is_said_when_the_agent_starts(
    folder: Folder, caplog: pytest.LogCaptureFixture, policy: str, words: str | None
) -> None:
    folder.policy_file.write_text(policy)
    Agent._policy(cast(Any, SimpleNamespace(folder=folder)))
    assert [one for one in caplog.messages if words is None or words not in one] == []
    assert bool(caplog.messages) is (words is not None)


def test_two_agents_of_one_hospital_do_no_task_and_say_so_wherever_one_looks(
    folder: Folder, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = [{}, Invalid("unknown key"), {}, {"twin": True}, {"twin": True}, {"twin": False}]
    asked: list[dict[str, Any]] = []

    def post(path: str, body: dict[str, Any]) -> Any:
        asked.append(body)
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    worker = SimpleNamespace(activity="idle", held=False, wake=Event())
    agent = cast(Agent, SimpleNamespace(
        _connection=SimpleNamespace(post=post), _worker=worker, _instance="0" * 16, _contact=Contact(folder),
    ))  # fmt: skip
    for _ in range(2):
        Agent._beat(agent)
    assert not worker.held and "instance" not in asked[-1], "a coordinator of before is told what it knows"
    for _ in range(2):
        Agent._beat(agent)
    assert worker.held and worker.wake.is_set() and asked[-1]["instance"] == "0" * 16
    said = status(folder, capsys)
    assert "held since" in said and "no task is done here or there" in said
    with alone(folder.lock):
        assert [one.level for one in doctor.examine(folder, NOW) if one.check == "agent"] == ["problem"]
    Agent._beat(agent)
    assert not worker.held and "held" not in status(folder, capsys)
    told = [record.levelname for record in caplog.records if record.name == contact.__name__]
    assert told == ["ERROR"], "once"


def test_an_agent_that_is_held_takes_no_task() -> None:
    looked = Event()
    journal = SimpleNamespace(row=lambda *_: looked.set())
    parts = dict.fromkeys(("identity", "states", "veto", "steps", "updates", "pairing", "seats", "declaring"))
    worker = Worker(folder=cast(Any, None), journal=cast(Any, journal), stop=Event(), **cast(Any, parts))
    worker.held = True
    for rest in ("_clean", "_rest"):
        setattr(worker, rest, lambda: None)
    thread = Thread(target=worker.run)
    thread.start()
    assert worker.changed.wait(5) and worker.activity == HELD and not looked.wait(0.05)
    worker.held = False
    worker.wake.set()
    assert looked.wait(5)
    worker.stop.set()
    worker.wake.set()
    thread.join(5)
    assert not thread.is_alive()
