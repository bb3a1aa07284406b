"""The coordinator's port: never shared unawares with another process."""

import socket
from pathlib import Path

import pytest

from consilium.console.cli import app


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
