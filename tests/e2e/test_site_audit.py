"""Both ends' logs after a real run: every alteration is found offline, and `sent` lists all that ever left."""

import contextlib
import functools
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from consilium.console.cli import app
from e2e.federation import Federation, federation, study
from e2e.processes import until


@dataclass
class Ended:
    """A federation whose run has ended, and its run."""

    made: Federation
    run: str


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    with federation(tmp_path_factory.mktemp("audit"), hospitals=("north", "south")) as made:
        run = made.start(made.approved(study("sums")))
        made.until(run, "finished")
        for hospital in made.hospitals.values():
            waits = functools.partial(hospital.told, "status")
            until(lambda waits=waits: waits()["waiting"] == 0 and kept(made), "both ends have the other's head")
            assert hospital.process.stop() == 0
        yield Ended(made, run)


def kept(made: Federation) -> bool:
    marks = [hospital.journal("SELECT count(*) FROM marks")[0][0] for hospital in made.hospitals.values()]
    return all(marks) and made.rows("SELECT count(DISTINCT site) FROM checkpoints") == [(len(marks),)]


def verify(home: Path, *against: Path) -> int:
    return app.run(["audit", "verify", "--home", str(home), *(w for path in against for w in ("--against", str(path)))])


@pytest.fixture
def copies(ended: Ended, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of north's folder, and one of the coordinator's, to be tampered with."""
    for name, home in (("north", ended.made.hospitals["north"].home), ("coordinator", ended.made.coordinator.home)):
        shutil.copytree(home, tmp_path / name, ignore=shutil.ignore_patterns("agent.bell", "blobs"))
    return tmp_path / "north", tmp_path / "coordinator"


def sql(home: Path, *statements: str) -> None:
    path = next(home.glob("*.sqlite"))
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)


EDIT = "UPDATE audit SET entry = CAST(replace(CAST(entry AS TEXT), '\"kind\":', '\"kind\": ') AS BLOB) WHERE seq = 3"
BODY = "UPDATE audit SET entry = CAST(replace(CAST(entry AS TEXT), 'north', 'nortH') AS BLOB)"
REMOVE = "DELETE FROM audit WHERE seq = 4"
SWAP = (
    "UPDATE audit SET seq = -3 WHERE seq = 3", "UPDATE audit SET seq = 3 WHERE seq = 4",
    "UPDATE audit SET seq = 4 WHERE seq = -3",
)  # fmt: skip
CUT = "DELETE FROM audit WHERE seq > (SELECT max(seq) - 3 FROM audit)"


def test_whole_logs_are_intact_at_both_ends(copies: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    north, coordinator = copies
    assert verify(north, coordinator) == 0
    assert "1 heads that the other end kept agree" in capsys.readouterr().out
    assert verify(coordinator, north) == 0
    assert "1 heads that the other end kept agree" in capsys.readouterr().out


@pytest.mark.parametrize("which", [0, 1], ids=["site", "coordinator"])
@pytest.mark.parametrize("how", [(EDIT,), (BODY,), (REMOVE,), SWAP], ids=["form", "body", "remove", "reorder"])
def test_what_was_edited_removed_or_reordered_is_found(
    copies: tuple[Path, Path], which: int, how: tuple[str, ...]
) -> None:
    sql(copies[which], *how)
    assert verify(copies[which]) == 1


@pytest.mark.parametrize("which", [0, 1], ids=["site", "coordinator"])
def test_a_log_that_was_cut_at_its_end_is_found_by_what_the_other_end_keeps(
    copies: tuple[Path, Path], which: int, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, other = copies[which], copies[1 - which]
    sql(mine, CUT)
    heads = "outbox WHERE type = 'checkpoint'", "inbox WHERE instr(envelope, CAST('checkpoint' AS BLOB))"
    sql(mine, f"DELETE FROM {heads[which]}")  # whoever cuts a log removes its own signed heads as well
    assert verify(mine) == 0, "a chain that was cut is whole in itself"
    capsys.readouterr()
    assert verify(mine, other) == 1
    assert "but what the other end saw is of entry" in capsys.readouterr().err


def test_sent_lists_every_byte_string_that_reached_the_coordinator(ended: Ended) -> None:
    for name, hospital in ended.made.hospitals.items():
        listed = hospital.told("sent")
        of: Callable[[str], set[Any]] = lambda what: {one["digest"] for one in listed if one["what"] == what}  # noqa: B023, E731
        rows = ended.made.rows(f"SELECT digest, size, round FROM contributions WHERE site = '{name}'")
        shown = {(o["digest"], o["size"], o["round"]) for o in listed if o["what"] == "contribution"}
        assert shown == set(rows) and len(rows) == 3
        blobs = ended.made.rows(f"SELECT digest FROM grants WHERE subject = 'site:{name}'")
        offered = {row[0] for row in hospital.journal("SELECT plan FROM studies")}
        initial = {json.loads(row[0])["model"]["initial"] for row in hospital.journal("SELECT payload FROM studies")}
        assert {row[0] for row in blobs} - offered - initial == of("contribution")
        decided = ended.made.rows(f"SELECT digest FROM decisions WHERE site = '{name}'")
        assert {row[0] for row in decided} == of("decision")
        assert len(of("answer")) == 3 and len(of("checkpoint")) == 1 and len(of("join")) == 1
        assert {one["became"] for one in listed} == {"sent"}
