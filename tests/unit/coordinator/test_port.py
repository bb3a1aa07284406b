"""The coordinator's port and folder: never shared unawares with another process."""

import contextlib
import socket
from collections.abc import Coroutine
from pathlib import Path

import pytest

from consilium.console.cli import app
from consilium.coordinator import cli
from consilium.coordinator.app import Settings


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_in_use_is_refused_by_name(shared: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = str(tmp_path / "coordinator")
    with socket.create_server(("127.0.0.1", 0), reuse_port=shared) as other:
        port = other.getsockname()[1]
        assert app.run(["coordinator", "init", "--home", home, "--url", f"https://127.0.0.1:{port}"]) == 0
        assert app.run(["coordinator", "run", "--home", home, "--host", "127.0.0.1"]) == 6
        assert f"port {port} of 127.0.0.1 is in use" in capsys.readouterr().err


def test_an_address_of_another_machine_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = str(tmp_path / "coordinator")
    assert app.run(["coordinator", "init", "--home", home, "--url", "https://fl.example.org:8443"]) == 0
    assert app.run(["coordinator", "run", "--home", home, "--host", "192.0.2.1"]) == 5
    assert "nothing can listen on port 8443 of 192.0.2.1" in capsys.readouterr().err


def test_a_second_coordinator_of_one_folder_is_refused_whatever_its_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On SQLite it would take the leases of the first for those of a dead process; PostgreSQL's are shared."""
    home, served = str(tmp_path / "coordinator"), list[str]()

    async def serve(settings: Settings) -> None:
        served.append(settings.database)
        if len(served) == 1:
            assert app.run(["coordinator", "run", "--home", home, "--host", "127.0.0.1", "--port", second]) == 6
            monkeypatch.setenv("CONSILIUM_DATABASE", "postgresql://db.example.org/consilium")
            assert app.run(["coordinator", "run", "--home", home, "--host", "127.0.0.1", "--port", second]) == 0

    def run(coroutine: Coroutine[None, None, None]) -> None:
        with contextlib.suppress(StopIteration):
            coroutine.send(None)

    monkeypatch.setattr(cli, "serve", serve)
    monkeypatch.setattr(cli.asyncio, "run", run)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        first, second = (str(line.getsockname()[1]) for line in (one, two))
    assert app.run(["coordinator", "init", "--home", home, "--url", f"https://127.0.0.1:{first}"]) == 0
    assert app.run(["coordinator", "run", "--home", home, "--host", "127.0.0.1"]) == 0
    assert f"a coordinator already runs in {home}" in capsys.readouterr().err
    assert [url.partition(":")[0] for url in served] == ["sqlite", "postgresql"]
