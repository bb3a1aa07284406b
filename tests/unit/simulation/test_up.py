"""`consilium up` where its federation runs, or another has its port: nothing is started, and it says which."""

import json
import socket
from pathlib import Path

import pytest

from consilium.console.cli.app import run
from consilium.durable import locked


@pytest.mark.parametrize("runs", [True, False])
def test_what_keeps_a_federation_from_beginning_again_is_said(
    runs: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "coordinator"
    folder.mkdir()
    with socket.socket() as taken, (folder / "coordinator.lock").open("w") as lock:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (folder / "coordinator.json").write_text(json.dumps({"url": f"https://127.0.0.1:{port}"}))
        assert not runs or locked(lock)
        assert run(["up", "--home", str(tmp_path)]) == 6
    said = capsys.readouterr().err
    wanted = "runs already" if runs else f"port {port} of this machine is in use"
    assert wanted in said and "--port" not in said, "the port of a federation does not change"
