"""A hospital's states: what it computed and kept is what it goes on from; what it is sent is looked at first."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, cast

import numpy as np
import pytest

from consilium import plugins
from consilium.algorithms import preparation
from consilium.api import freeze
from consilium.core import state as chain
from consilium.core.errors import Refused
from consilium.core.ids import Digest, RunId, digest
from consilium.core.tensors import from_safetensors
from consilium.site.folder import Folder
from consilium.site.journal import Journal
from consilium.site.states import States
from consilium.wire.messages import Blob, Task
from e2e import studies as made
from e2e.federation import study

NOW = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
RUN, ROUNDS = RunId("sums-1"), 4


class Chain:
    """What the coordinator has: the states of a run, and the sums between them; and a hospital that computes them."""

    def __init__(self, folder: Path) -> None:
        self.plan, weights = freeze(study("sums", rounds=ROUNDS, quorum=2, privacy={"recipe": "plain"}))
        size = sum(array.size for array in from_safetensors(weights).values())
        strategy = plugins.strategy_of(self.plan.study)
        self.blobs, self.fetched = {digest(weights): weights}, list[str]()
        self.states = [self.write(partial(chain.begin, strategy, weights, RUN))]
        self.sums = list[Digest]()
        for number in range(1, ROUNDS + 1):
            update = made.vectors({"weight": np.array([10.0]), "update": np.full(size, float(number))})
            stamp = {"run": RUN, "round": str(number), "kind": "TRAIN"}
            self.sums.append(self.write(partial(chain.fold, [update, update], stamp)))
            before, sums = self.states[-1], self.blobs[self.sums[-1]]
            how = (self.plan.study, strategy, self.blobs[before], before, sums, RUN, number)
            self.states.append(self.write(partial(preparation.advance, *how)))
        self.folder = Folder.create(folder / "north")
        self.begin()

    def begin(self) -> None:
        """Begin as a process does: all that it knows is in its folder."""
        self.journal = Journal(self.folder.journal)
        self.site = States(self.folder, self.journal, cast(Any, self), Event())

    def again(self) -> None:
        self.journal.close()
        self.begin()

    def write(self, write: Any) -> Digest:
        out = io.BytesIO()
        named, _ = write(out)
        self.blobs[named] = out.getvalue()
        return Digest(named)

    def blob(self, named: str) -> Blob:
        return Blob(digest=named, size=len(self.blobs[Digest(named)]))

    def task(self, number: int, state: Digest | None = None, sums: Digest | None = None) -> Task:
        """To train round `number`, from the state before it."""
        before = sums or (self.sums[number - 2] if number > 1 else None)
        return Task(
            study="sums", run=RUN, plan=self.plan.digest, round=number, kind="TRAIN", phase="SUBMIT", deadline=NOW,
            roster=("north",), initial=self.blob(str(self.plan.study.model.initial)),
            state=self.blob(state or self.states[number - 1]), aggregate=self.blob(before) if before else None,
        )  # fmt: skip

    def trains(self, number: int, **of: Digest) -> bytes:
        return self.site.ensure(self.task(number, **of), self.plan, NOW).read_bytes()

    def closed(self, number: int) -> None:
        with self.journal.write() as tx:
            row = (RUN, number, self.sums[number - 1], self.states[number])
            tx.do("INSERT OR REPLACE INTO closings VALUES (?, ?, ?, ?)", *row)

    def how(self) -> list[str]:
        return [row["how"] for row in map(_body, self.journal.entries()) if "how" in row]


def _body(entry: bytes) -> dict[str, Any]:
    return dict(json.loads(entry)["body"])


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chain]:
    it = Chain(tmp_path)

    def download(_: object, named: Digest, path: Path, *__: object, **___: object) -> None:
        it.fetched.append(named)
        path.write_bytes(it.blobs[named])

    monkeypatch.setattr("consilium.site.states.download", download)
    yield it
    it.journal.close()


def test_each_state_is_computed_from_the_one_before_by_this_and_by_the_next_process(line: Chain) -> None:
    for number in range(1, ROUNDS + 1):
        assert line.trains(number) == line.blobs[line.states[number - 1]]
        line.again()
    kept = {f"state-{number}.safetensors" for number in range(ROUNDS)}
    assert kept <= {path.name for path in line.folder.run(RUN).iterdir()}, "until `forget`: they are in the journal"
    assert line.how() == ["computed"] * ROUNDS and not set(line.fetched) & set(line.states)


def test_a_state_that_the_disk_has_changed_since_is_not_trained_at(line: Chain) -> None:
    """This process remembers what it wrote; the next one looks."""
    line.trains(1)
    line.trains(2)
    kept = line.folder.run(RUN) / "state-1.safetensors"
    kept.write_bytes(kept.read_bytes()[:-1] + b"\xff")
    with line.journal.write() as tx:
        tx.do("DELETE FROM small")
    line.again()
    assert line.trains(2) == line.blobs[line.states[1]]


def test_who_missed_rounds_says_that_it_did_not_compute_what_it_goes_on_from(line: Chain) -> None:
    line.trains(1)
    line.closed(1)
    line.closed(2)
    assert line.trains(4) == line.blobs[line.states[3]] and line.how() == ["computed", "adopted"]
    assert line.fetched == [line.plan.study.model.initial, line.states[3]], "not the sums between"


def test_what_is_adopted_is_a_state_of_this_place(line: Chain) -> None:
    """The digest alone says nothing of where it belongs."""
    with pytest.raises(Refused) as told:
        line.trains(4, state=line.states[2])
    assert told.value.reason == "state-mismatch" and line.how() == []


def test_sums_are_of_the_round_before(line: Chain) -> None:
    line.trains(1)
    with pytest.raises(Refused) as told:
        line.trains(2, sums=line.sums[1])
    assert told.value.reason == "state-mismatch"


def test_another_state_than_follows_is_not_trained_at(line: Chain) -> None:
    line.trains(1)
    with pytest.raises(Refused) as told:
        line.trains(2, state=line.states[2])
    assert told.value.reason == "state-mismatch"


def test_what_comes_with_a_task_is_what_its_name_says_or_is_not_used(line: Chain) -> None:
    initial = Digest(str(line.plan.study.model.initial))
    line.site.offer({initial: b"another model"})
    assert line.trains(1) == line.blobs[line.states[0]] and line.fetched == [initial]
    line.site.offer({line.sums[0]: line.blobs[line.sums[0]]})
    assert line.trains(2) == line.blobs[line.states[1]] and line.fetched == [initial], "it was at hand"


def test_what_rounds_left_is_removed_and_the_newest_state_stays(line: Chain) -> None:
    for number in range(1, ROUNDS + 1):
        line.trains(number)
    folder = line.folder.run(RUN)
    for name in ("update-3", "update-4-1", "permit-3", "masked-4"):
        (folder / f"{name}.x").write_bytes(b"")
    line.site.forget(RUN, 4)
    left = sorted(path.name for path in folder.iterdir())
    assert [name for name in left if name.startswith(("update", "permit", "masked"))] == ["masked-4.x", "update-4-1.x"]
    assert "state-3.safetensors" in left and "state-1.safetensors" not in left
    with line.journal.write() as tx:
        seats = len(tx.rows("SELECT * FROM pragma_table_info('seats')"))
        tx.do(f"INSERT INTO seats VALUES ({', '.join(['?'] * seats)})", RUN, *[1] * (seats - 1))
    assert not line.site.may_stay(RUN), "nothing of a secure sum stays"
    line.site.forget(RUN, 4)
    assert not [path.name for path in folder.iterdir() if path.name.startswith(("update", "permit", "masked"))]
