"""What a person saves is read whole: never empty, and never its first lines alone, which may allow more."""

import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from consilium import durable
from consilium.site import tables
from consilium.site.folder import Folder
from e2e.federation import table


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has other things to do is slow between two parts."""
    monkeypatch.setattr(durable, "REST_NS", 700_000_000)


FIRST, REST = "policy: 1\n", "min_patients: 300\nmax_rounds: 7\n"


def save(path: Path, *parts: str) -> None:
    """As an editor does that empties a file first, on a slow disk."""
    with path.open("w") as file:
        for part in parts:
            time.sleep(0.03)
            file.write(part)
            file.flush()


def during(saving: Callable[[], None], look: Callable[[], None]) -> int:
    """Look again and again, from before the first byte to after the last; how often."""
    thread, looks = Thread(target=saving), 0
    thread.start()
    while thread.is_alive() or not looks:
        look()
        looks += 1
    thread.join()
    return looks


def test_a_policy_that_is_just_being_saved_is_neither_broken_nor_more_lenient(tmp_path: Path, patient: None) -> None:
    folder = Folder.create(tmp_path / "north")
    folder.policy_file.write_text(FIRST + REST)

    def look() -> None:
        policy = folder.policy()
        assert (policy.min_patients, policy.max_rounds) == (300, 7)

    for _ in range(2):
        during(lambda: save(folder.policy_file, FIRST, REST), look)


def test_a_mapping_that_is_just_being_saved_counts_as_changed_once_it_is_whole(tmp_path: Path, patient: None) -> None:
    mapping, seen = table(tmp_path, seed=1), set[tuple[int, ...]]()
    text, before = mapping.read_text(), tables.stamp(mapping)
    during(lambda: save(mapping, text[:20], text[20:]), lambda: seen.add(tables.stamp(mapping)))
    assert seen <= {before, tables.stamp(mapping)}


@pytest.mark.parametrize("ahead_s", [0.0, 3600.0, -3600.0])
def test_a_file_that_rests_is_not_waited_for_whatever_the_clock_says(
    ahead_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now = tmp_path / "policy.yaml", time.time_ns() + int((ahead_s + 1) * 1e9)
    path.write_text(FIRST)
    monkeypatch.setattr(durable.time, "time_ns", lambda: now)
    monkeypatch.setattr(durable.time, "sleep", lambda _: pytest.fail("nobody saves it"))
    assert durable.rested(path) == FIRST.encode()


def test_a_file_that_is_saved_without_end_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, slept = tmp_path / "policy.yaml", list[float]()
    path.write_text(FIRST)
    monkeypatch.setattr(durable.time, "time_ns", lambda: path.stat().st_mtime_ns)
    monkeypatch.setattr(durable.time, "sleep", slept.append)
    assert durable.rested(path) == FIRST.encode()
    assert 0 < sum(slept) < 5
