"""The session: readable by its owner alone; the environment goes before the file."""

import stat
from pathlib import Path

import pytest

from consilium.console.cli import app, session
from consilium.core.errors import Invalid, Unauthenticated, Unavailable
from consilium.wire.connection import UNTRUSTED, Connection


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CONSILIUM_URL", "CONSILIUM_TOKEN", "CONSILIUM_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


KEPT = session.Session("https://fl.example.org", "nora", "secret-token", "/tmp/ca.pem")


def test_what_is_stored_is_loaded() -> None:
    session.store(KEPT)
    assert session.load() == KEPT


def test_only_the_owner_can_read_it(home: Path) -> None:
    path = session.store(KEPT)
    session.store(KEPT)
    assert path.parent == home and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_environment_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    session.store(KEPT)
    monkeypatch.setenv("CONSILIUM_TOKEN", "other")
    assert session.load().token == "other" and session.load().url == KEPT.url


def test_nobody_is_logged_in() -> None:
    with pytest.raises(Unauthenticated, match="consilium login"):
        session.load()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": 1, "more": 2}'])
def test_a_damaged_file_is_said(home: Path, text: str) -> None:
    session.store(KEPT).write_text(text)
    with pytest.raises(Invalid, match="log in again"):
        session.load()


@pytest.mark.parametrize(("remedy", "named"), [(UNTRUSTED, True), ("check this machine's clock", False)])
def test_who_does_not_know_the_coordinators_ca_is_told_of_the_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], remedy: str, named: bool
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Unavailable("the certificate is not trusted", remedy)

    monkeypatch.setattr(session.Federation, "login", refuse)
    monkeypatch.setenv("CONSILIUM_PASSWORD", "secret-word")
    assert app.run(["login", "https://fl.example.org", "--name", "nora"]) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert remedy in said and ("its file with --ca" in said) is named


def test_so_is_who_writes_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Unavailable("the certificate is not trusted", UNTRUSTED)

    monkeypatch.setattr(Connection, "post", refuse)
    with pytest.raises(Unavailable, match="its file as `ca`"):
        session.Federation.login("https://fl.example.org", "nora", "secret-word")
