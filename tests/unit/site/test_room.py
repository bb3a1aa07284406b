"""No task begins for which policy or disk have no room; what is fetched is never more than was announced."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.core.errors import Refused
from consilium.core.ids import digest
from consilium.core.model import Model
from consilium.core.study import Strategy
from consilium.governance.policy import Limits
from consilium.site import room
from consilium.site.folder import Folder
from consilium.testing.trainers import a_study
from consilium.wire.messages import Blob, Task

GB = 1 << 30
SIZES = st.integers(0, 8).map(lambda eighths: eighths * GB // 8)


def task(kind: str, state: int, initial: int, aggregate: int | None, number: int = 3) -> Task:
    def blob(size: int) -> Blob:
        return Blob(digest=digest(b""), size=size)

    return Task.model_validate({
        "study": "sums", "run": "sums-1", "plan": digest(b""), "round": number, "kind": kind, "phase": "SUBMIT",
        "roster": ["north"], "state": blob(state), "initial": blob(initial), "deadline": datetime.now(UTC),
        "aggregate": None if aggregate is None else blob(aggregate),
    })  # fmt: skip


def file(path: Path, size: int) -> None:
    """A file of so many bytes, of which the disk keeps none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        out.truncate(size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder.create(tmp_path_factory.mktemp("room") / "site")


@given(SIZES, SIZES, SIZES | st.none(), SIZES, st.integers(1, 40), st.sampled_from(["TRAIN", "EVALUATE"]))
def test_a_task_is_refused_if_and_only_if_it_would_exceed_the_policy(
    folder: Folder, state: int, initial: int, aggregate: int | None, other: int, eighths: int, kind: str
) -> None:
    file(folder.work / "other-1" / "state-0.safetensors", other)
    updates = 2 * initial if kind == "TRAIN" else 0
    fits = other + state + initial + (aggregate or 0) + updates <= eighths * GB // 8
    limits = Limits(disk_gb=eighths / 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "free", lambda folder: 1 << 50)
        try:
            room.check(task(kind, state, initial, aggregate), folder, limits)
        except Refused as error:
            assert not fits and error.reason == "disk" and "disk_gb" in error.remedy
        else:
            assert fits


def test_what_is_there_already_needs_no_more_room(folder: Folder) -> None:
    asked, limits = task("EVALUATE", GB, GB, GB), Limits(disk_gb=3)
    for path in folder.work.rglob("*.safetensors"):
        path.unlink()
    for name in ("initial", "state-2", "sums-2"):
        room.check(asked, folder, limits)
        file(folder.work / "sums-1" / f"{name}.safetensors", GB)
    room.check(asked, folder, limits)
    file(folder.work / "sums-1" / "state-1.safetensors", 1)
    with pytest.raises(Refused):
        room.check(asked, folder, limits)


def test_what_a_strategy_adds_up_and_keeps_is_counted(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """SCAFFOLD has two arrays in its state and in an update, and keeps one: an update of 2 and a memory of 1, twice."""
    asked = a_study("binary", {"kind": "logistic"})
    copies = room.Copies.of(asked.model_copy(update={"strategy": Strategy(name="scaffold")}))
    assert (room.Copies.of(asked), copies) == (room.Copies(1, 1, 0), room.Copies(2, 2, 1))
    whole = asked.model_copy(update={"strategy": Strategy(name="newton"), "model": Model(kind="logistic")})
    assert room.Copies.of(whole) == room.Copies(255, 252, 0), "a Hessian of 500 parameters is 250.5 times as long"
    times = a_study("time-to-event", {"kind": "cox"}).model_copy(
        update={"strategy": Strategy(name="webdisco", options={"every": 1, "until": 9, "least": 1})}
    )
    assert room.Copies.of(times) == room.Copies(13, 104, 0), "10 times of 10 numbers, twice, and more, for 3"
    for path in folder.work.rglob("*.safetensors"):
        path.unlink()
    monkeypatch.setattr(room, "free", lambda folder: 1 << 50)
    training = task("TRAIN", 0, GB, None, number=9)
    room.check(training, folder, Limits(disk_gb=7), copies)
    with pytest.raises(Refused):
        room.check(training, folder, Limits(disk_gb=6), copies)


@pytest.mark.parametrize(("check_mb", "need"), [(0, 3), (511, 3), (1024, 7), (2048, 11), (9999, 11)])
def test_vectors_of_all_need_room_where_their_sum_is_checked(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, check_mb: float, need: int
) -> None:
    """A model of 1 GB, whose masked vector has 0.5 to 2 GB, and four hospitals."""
    for path in folder.work.rglob("*.safetensors"):
        path.unlink()
    monkeypatch.setattr(room, "free", lambda folder: 1 << 50)
    asked = task("EVALUATE", 0, GB, None, number=9).model_copy(update={"cohort": ("a", "b", "c", "d")})
    room.check(asked, folder, Limits(disk_gb=need, check_mb=check_mb))
    with pytest.raises(Refused):
        room.check(asked, folder, Limits(disk_gb=need - 0.5, check_mb=check_mb))


def test_the_disk_is_not_filled_to_its_last_byte(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = task("EVALUATE", 5, 0, None, number=9)
    monkeypatch.setattr(room, "used", lambda folder: 0)
    monkeypatch.setattr(room, "free", lambda folder: room.LEFT_BYTES + 5)
    room.check(asked, folder, Limits())
    monkeypatch.setattr(room, "free", lambda folder: room.LEFT_BYTES + 4)
    with pytest.raises(Refused, match="left free") as caught:
        room.check(asked, folder, Limits())
    assert caught.value.reason == "disk"


def test_small_tasks_are_added_up_and_never_exceed_what_there_is(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred tasks of 4 MB, of which each stays: 64 fit, whenever the disk was looked at; it is, seldom."""
    for path in folder.work.rglob("*.safetensors"):
        path.unlink()
    there, looked, limits = [0], [0], Limits(disk_gb=256 / 1024)

    def used(_: Path) -> int:
        looked[0] += 1
        return there[0]

    monkeypatch.setattr(room, "used", used)
    monkeypatch.setattr(room, "free", lambda folder: 1 << 50)
    asked, done = task("EVALUATE", 4 << 20, 0, None, number=9), room.Room(folder)
    for _ in range(64):
        done.check(asked, limits, room.Copies(), 1.0)
        there[0] += 4 << 20
    assert looked[0] == 2, "once to decide, once to know from then on"
    for seconds in (1.0, 1000.0):
        with pytest.raises(Refused):
            done.check(asked, limits, room.Copies(), seconds)
    there[0] = 0
    done.check(asked, limits, room.Copies(), 1000.0)
    with pytest.raises(Refused):
        done.check(asked, Limits(disk_gb=1 / 1024), room.Copies(), 1000.0)
