"""A private Orthanc with its DICOMweb plug-in: own folder, own port of this machine, a password.

Without TLS: Debian's 1.10.1 ends by SIGSEGV at the first request over it. Over TLS, DICOMweb is played to us by
tests/unit/data/player.py.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import urllib3

from e2e.processes import free_port, until

PROGRAM = "Orthanc"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "reader", "SECRET-PASSWORD"


def missing() -> str | None:
    """Why there can be none here; None when there can."""
    if _program() is None:
        return "Orthanc is not installed (Debian's orthanc)"
    if not PLUGIN.exists():
        return "Orthanc has no DICOMweb (Debian's orthanc-dicomweb)"
    return None


def _program() -> str | None:
    return shutil.which(PROGRAM) or shutil.which(PROGRAM, path="/usr/sbin:/usr/local/sbin")


class Orthanc:
    """A server from `start` to `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        settings = {
            "Name": "test", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
            "Plugins": [str(PLUGIN)], "HttpPort": self.port, "DicomServerEnabled": False,
            "RemoteAccessAllowed": True, "ConcurrentJobs": 1,
            "AuthenticationEnabled": True, "RegisteredUsers": {USER: PASSWORD},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }  # fmt: skip
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self.url = f"http://127.0.0.1:{self.port}/dicom-web"
        self._pool = urllib3.PoolManager(headers=urllib3.make_headers(basic_auth=f"{USER}:{PASSWORD}"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        program = _program()
        assert program is not None
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen([program, str(self.folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            until(self._answers, "Orthanc answers")
        except TimeoutError:
            self.close()
            raise

    def _answers(self) -> bool:
        try:
            return bool(self._ask("GET", "/system").status == 200)
        except urllib3.exceptions.HTTPError:
            return False

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        return self._pool.request(method, f"http://127.0.0.1:{self.port}{path}", body=body, retries=False, timeout=10)

    def put(self, *files: bytes) -> None:
        """Store DICOM files."""
        for one in files:
            answer = self._ask("POST", "/instances", one)
            assert answer.status == 200, answer.data[:500]

    def access(self) -> dict[str, str]:
        """What a mapping says of who asks; the password stands in the environment."""
        return {"user": USER, "password": "${PACS_PASSWORD}"}

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
