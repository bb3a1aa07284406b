"""An address of a coordinator is read, or refused in one sentence, whatever was written; wherever it is written."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.console.cli import app
from consilium.core.errors import Invalid
from consilium.wire.address import Address, address

WRONG = [
    "https://fl.example.org:99999", "https://fl.example.org:abc", "https://fl.example.org:-5", "https://[::1",
    "https://fl.example.org:0", "https://:8443", "https://", "http://fl.example.org", "fl.example.org:8443", "",
    "https://fl example.org",
]  # fmt: skip


@pytest.mark.parametrize("url", WRONG)
def test_what_is_no_address_is_refused_by_every_command(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "coordinator"
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "person"))
    for words in (["login", url, "--name", "ada"], ["coordinator", "init", "--url", url, "--home", str(home)]):
        assert app.run(words) == 5
        said = capsys.readouterr().err
        assert "is not the address of a coordinator" in said and "https://HOST:PORT" in said
    assert list(tmp_path.iterdir()) == [], "nothing was written"


def test_an_address_on_file_is_read_as_strictly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home" / "coordinator"
    assert app.run(["coordinator", "init", "--url", "https://fl.example.org:8443", "--home", str(home)]) == 0
    settings = home / "coordinator.json"
    settings.write_text(settings.read_text().replace(":8443", ":99999"))
    for words in (["coordinator", "run", "--home", str(home)], ["up", "--home", str(home.parent)]):
        assert app.run(words) == 5
        assert "is not the address of a coordinator" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["99999", "65536", "0", "-5"])
def test_what_is_no_port_is_a_usage_error(port: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["demo"], ["up", "--home", str(tmp_path / "up")], ["coordinator", "run", "--home", str(tmp_path)]):
        assert app.run([*words, "--port", port]) == 2
        assert "1<=x<=65535" in capsys.readouterr().err


@given(st.text() | st.text().map("https://{}".format) | st.from_regex(r"https://[a-z\[\]:@/0-9.-]*", fullmatch=True))
def test_whatever_is_written_is_an_address_or_invalid(url: str) -> None:
    try:
        host, port = address(url)
    except Invalid:
        return
    assert host and 1 <= port <= 65535


@given(st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{2,5}){0,2}", fullmatch=True), st.integers(1, 65535))
def test_host_and_port_come_back(host: str, port: int) -> None:
    assert address(f"https://{host}:{port}/base") == Address(host, port)
    assert address(f"https://{host}") == Address(host, 443)
