"""When the coordinator was heard last, and why a token is refused: in the agent's log and in `site status`."""

import json
import logging
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consilium.core.errors import ConsiliumError, Unauthenticated, Unavailable
from consilium.site import contact, line, showing
from consilium.site.agent import Agent
from consilium.site.contact import Contact
from consilium.site.deciding import Desk
from consilium.site.folder import Folder, Membership
from consilium.site.journal import Journal

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
        "name": "consilium-coordinator", "version": "1", "protocols": [1], "public_key": key,
        "now": (NOW + timedelta(seconds=ahead_s)).isoformat(),
    }  # fmt: skip
    anonymous: Any = SimpleNamespace(get=lambda path: json.loads(json.dumps(hello)))
    told = line.why(folder.membership(), anonymous, NOW)
    assert told is None if words is None else isinstance(told, Unauthenticated) and words in told.message
    anonymous = SimpleNamespace(get=lambda path: {})
    assert line.why(folder.membership(), anonymous, NOW) is None


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
