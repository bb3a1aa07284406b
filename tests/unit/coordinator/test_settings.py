"""What a person mistyped in coordinator.json, or what is not there, is told in one sentence, without any password."""

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from consilium.console.cli import app
from consilium.coordinator import cli

Json = dict[str, Any]
SECRET = "correct-horse"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CONSILIUM_DATABASE", raising=False)
    home = tmp_path / "coordinator"
    assert app.run(["coordinator", "init", "--home", str(home), "--url", "https://127.0.0.1:9443", "--json"]) == 0
    return home


def told(home: Path, capsys: pytest.CaptureFixture[str], command: str = "people") -> tuple[int, str]:
    """Exit code and the one sentence of a command that reads the settings."""
    capsys.readouterr()
    code, said = app.run(["coordinator", command, "--home", str(home)]), capsys.readouterr()
    assert "Traceback" not in said.err and SECRET not in said.err and "Next: " in said.err
    return code, said.err


def changed(home: Path, change: Callable[[Json], object]) -> None:
    path = home / "coordinator.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


CHANGES: dict[str, tuple[Json, str]] = {
    "a database of another kind": ({"database": f"mysql://nora:{SECRET}@db/x"}, "neither SQLite's nor PostgreSQL's"),
    "no URL of a database": ({"database": SECRET}, "neither SQLite's nor PostgreSQL's"),
    "a port that is none": ({"database": f"postgresql://nora:{SECRET}@db:port/x"}, "neither SQLite's nor PostgreSQL's"),
    "a database that is a number": ({"database": 7}, "has no text for database"),
    "no address": ({"url": None}, "has no text for url"),
    "an address that is none": ({"url": "fl.example.org"}, "is not the address of a coordinator"),
    "a CA that is a number": ({"ca": 7}, "neither a text nor null for ca"),
    "a setting that is none": ({"quota": 5}, "holds 'quota', which is no setting"),
    "a quota of nothing": ({"quota_gb": 0}, "quota_gb"),
    "an endless time": ({"keep_minutes": float("inf")}, "keep_minutes"),
    "a negative quota": ({"quota_gb": -1}, "quota_gb"),
    "a quota with more digits than any disk": ({"quota_gb": 10**400}, "write a number above 0, at most 1000000000"),
    "half a round": ({"keep_rounds": 2.5}, "write a whole number above 0"),
    "rounds that are no number": ({"keep_rounds": float("nan")}, "keep_rounds"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_mistyped_setting_is_named(home: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    values, words = CHANGES[name]
    changed(home, lambda known: known.update(values))
    code, said = told(home, capsys)
    assert code == 5 and words in said


@pytest.mark.parametrize("text", ["{", "[]", '{"url": "a",\n "database": "' + SECRET + '"\n "key": 1}', b"\xff", ""])
def test_a_file_of_settings_that_is_none_is_named(
    home: Path, capsys: pytest.CaptureFixture[str], text: str | bytes
) -> None:
    (home / "coordinator.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    code, said = told(home, capsys)
    assert code == 5 and str(home / "coordinator.json") in said


@pytest.mark.parametrize("command", ["people", "run"])
def test_a_database_that_is_away_is_told(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setenv("CONSILIUM_DATABASE", f"postgresql://nora:{SECRET}@127.0.0.1:9/consilium")
    code, said = told(home, capsys, command)
    assert code == 4 and "the database does not answer" in said


def test_a_database_that_is_none_is_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "coordinator.sqlite").write_bytes(b"no database" * 1000)
    code, said = told(home, capsys)
    assert code == 5 and "the database cannot be read" in said


@pytest.mark.parametrize(
    ("name", "words"), [("server.pem", "there is no certificate"), ("server.key", "there is no key")]
)
def test_a_certificate_that_is_not_there_is_named(
    home: Path, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    (home / "tls" / name).unlink()
    code, said = told(home, capsys, "run")
    assert code == 5 and f"{words}" in said and str(home / "tls" / name) in said


@pytest.mark.parametrize("data", [b"no PEM", b""])
def test_a_certificate_that_is_none_is_named(home: Path, capsys: pytest.CaptureFixture[str], data: bytes) -> None:
    (home / "tls" / "server.pem").write_bytes(data)
    code, said = told(home, capsys, "run")
    assert code == 5 and str(home / "tls" / "server.pem") in said


def test_a_certificate_of_the_coordinators_own_ca_is_renewed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (home / "tls" / "server.pem").read_bytes()
    capsys.readouterr()
    assert app.run(["coordinator", "certificate", "--home", str(home), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["certificate"] == str(home / "tls" / "server.pem") and datetime.fromisoformat(said["until"])
    assert (home / "tls" / "server.pem").read_bytes() != before


@pytest.mark.parametrize("other", [{"ca": None}, {"certificate": "tls/other.pem"}, {"key": "elsewhere/server.key"}])
def test_a_certificate_of_another_ca_or_elsewhere_is_left_as_it_is(
    home: Path, capsys: pytest.CaptureFixture[str], other: dict[str, str | None]
) -> None:
    before = (home / "tls" / "server.pem").read_bytes()
    changed(home, lambda known: known.update({name: at and str(home / at) for name, at in other.items()}))
    code, said = told(home, capsys, "certificate")
    assert code == 6 and str(home / (other.get("certificate") or "tls/server.pem")) in said
    assert (home / "tls" / "server.pem").read_bytes() == before


def copied(home: Path, before: Path) -> Json:
    """What a copy of the folder changes in the folder itself: accounts in its database, and its files."""
    shutil.copytree(home, before)
    assert app.run(["coordinator", "person", "ghost", "--role", "auditor", "--home", str(before)]) == 0
    assert app.run(["coordinator", "certificate", "--home", str(before)]) == 0
    return {one.name: one.read_bytes() for one in (home / "tls").iterdir()}


def test_a_copy_of_the_folder_is_a_coordinator_by_itself(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSILIUM_PASSWORD", SECRET)
    files = {one.name: one.read_bytes() for one in (home / "tls").iterdir()}
    assert copied(home, tmp_path / "backup") == files
    capsys.readouterr()
    assert (
        app.run(["coordinator", "people", "--home", str(home)]) == 0
        and capsys.readouterr().out == f"{cli.NO_ACCOUNT}\n"
    )
    moved = home.rename(tmp_path / "moved")
    assert app.run(["coordinator", "people", "--home", str(moved)]) == 0


@pytest.mark.parametrize("command", ["people", "run", "certificate"])
@pytest.mark.parametrize("name", ["database", "blobs", "certificate", "key", "ca"])
def test_a_copy_that_names_another_coordinators_files_is_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    """As those that were made before paths were from the folder on."""
    places = {"database": "coordinator.sqlite", "ca": "tls/ca.pem"}
    place = home / {**places, "certificate": "tls/server.pem", "key": "tls/server.key", "blobs": "blobs"}[name]
    changed(home, lambda known: known.update({name: f"sqlite:///{place}" if name == "database" else str(place)}))
    assert app.run(["coordinator", "people", "--home", str(home)]) == 0, "in its own folder it is its own"
    shutil.copytree(home, tmp_path / "backup")
    code, said = told(tmp_path / "backup", capsys, command)
    assert code == 6 and f"its {name} lies in {home}, the folder of another coordinator" in said


@pytest.mark.parametrize("command", ["people", "run"])
def test_a_database_that_is_gone_is_not_made_anew(home: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    for file in home.glob("coordinator.sqlite*"):
        file.unlink()
    for _ in range(2):
        code, said = told(home, capsys, command)
        assert code == 5 and "there is no database" in said and "backup" in said
        (home / "coordinator.sqlite").touch()


@pytest.mark.parametrize("command", ["people", "run"])
def test_a_database_that_is_damaged_further_on_is_told(home: Path, command: str) -> None:
    file = home / "coordinator.sqlite"
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        roots = "SELECT rootpage FROM sqlite_schema WHERE rootpage > 0 AND tbl_name != 'alembic_version'"
        pages = [row[0] for row in database.execute(roots)]
        size = database.execute("PRAGMA page_size").fetchone()[0]
    with file.open("r+b") as raw:
        for page in pages:
            raw.seek((page - 1) * size)
            raw.write(b"\xff" * size)
    words = ["consilium", "coordinator", command, "--home", str(home)]
    done = subprocess.run([str(Path(sys.executable).parent / words[0]), *words[1:]], capture_output=True, text=True)
    assert done.returncode == 5 and "Error (invalid): the database cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


BOTH_FAIL = """
import sqlite3
import sys
from granian.server.embed import Server
from sqlalchemy.exc import DatabaseError
from consilium.console.cli.app import main
from consilium.coordinator.driver import Driver
from consilium.coordinator.retention import Retention

async def fails(*given):
    raise DatabaseError("SELECT 1", None, sqlite3.DatabaseError("malformed"))

async def served(server, serve=Server.serve):
    await serve(server)
    print("the server has ended", file=sys.stderr)

Driver.drive, Retention.watch, Server.serve = fails, fails, served
main()
"""


def test_what_two_tasks_meet_at_the_same_moment_is_told_once(home: Path) -> None:
    """What works and what tidies both read the database that is damaged. It is told when the server has ended, too: one
    that is cut off as it stops says so with a traceback, now and then."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    words = ["coordinator", "run", "--home", str(home), "--host", "127.0.0.1", "--port", str(port)]
    done = subprocess.run([sys.executable, "-c", BOTH_FAIL, *words], capture_output=True, text=True)
    assert done.returncode == 5 and done.stderr.count("the database cannot be read") == 1
    assert "Traceback" not in done.stderr and "the server has ended" in done.stderr


def test_a_database_of_sqlite_may_lie_elsewhere(tmp_path: Path) -> None:
    words = ["coordinator", "init", "--home", str(tmp_path / "c"), "--url", "https://127.0.0.1:9443"]
    assert app.run([*words, "--database", f"sqlite:///{tmp_path / 'own.sqlite'}?timeout=5"]) == 0
    assert app.run(["coordinator", "people", "--home", str(tmp_path / "c")]) == 0 and (tmp_path / "own.sqlite").exists()
