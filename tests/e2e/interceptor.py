"""A real intercepting proxy (mitmproxy): it opens TLS under a CA of its own and, when told to, alters what passes."""

import socket
from pathlib import Path

from e2e.coordinator import Coordinator
from e2e.processes import Process, free_port

MITMDUMP = Path(__file__).parents[2] / ".venv-mitmproxy" / "bin" / "mitmdump"
SCRIPT = """
import base64, json, os
from pathlib import Path
from mitmproxy import http

HERE = Path(os.environ["INTERCEPTOR"])
TASK = "application/vnd.consilium.task+json"
old = []


def note(name, words):
    with (HERE / name).open("a") as file:
        file.write(words + "\\n")


def flipped(data):
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def mode():
    return (HERE / "mode").read_text()


def request(flow):
    note("seen", f"{flow.request.method} {flow.request.path}")
    if mode() == "upload" and flow.request.path.startswith("/v1/answers"):
        flow.request.content = flipped(flow.request.content)
        note("altered", "upload")


def response(flow):
    told, path, how = flow.response, flow.request.path, mode()
    if how == "portal":
        flow.response = http.Response.make(200, b"<html>please log in</html>", {"Content-Type": "text/html"})
        note("altered", how)
    elif how == "authority" and path == "/v1/ca":
        told.content = (HERE / "proxy" / "mitmproxy-ca-cert.pem").read_bytes()
        note("altered", how)
    elif how == "download" and flow.request.method == "GET" and path.startswith("/v1/blobs/") and told.content:
        told.content = flipped(told.content)
        note("altered", how)
    elif path.startswith("/v1/inbox") and told.status_code == 200:
        inbox(told, how)


def inbox(told, how):
    page = json.loads(told.content)
    fresh = [item["envelope"] for item in page["items"] if item["envelope"]["payloadType"] == TASK]
    if how == "replay" and old:
        for item in page["items"]:
            item["envelope"] = old[0]
    elif how == "download" and page["blobs"]:
        page["blobs"] = {n: base64.b64encode(flipped(base64.b64decode(t))).decode() for n, t in page["blobs"].items()}
        told.content = json.dumps(page).encode()
    elif how == "drop":
        page["items"] = page["items"][1:]
    elif how == "envelope":
        for item in page["items"]:
            payload = base64.b64decode(item["envelope"]["payload"])
            item["envelope"]["payload"] = base64.b64encode(flipped(payload)).decode()
    elif how == "number":
        for item in page["items"]:
            item["seq"] += 1000
    if how in ("replay", "drop", "envelope", "number") and fresh:
        told.content = json.dumps(page).encode()
        note("altered", how)
    elif not how:
        old.extend(fresh)
"""


def missing() -> str | None:
    """Why there is no proxy here, or None."""
    return None if MITMDUMP.exists() else f"{MITMDUMP} is missing: `make .venv-mitmproxy/ready` makes it"


class Interceptor:
    """A running proxy in front of one coordinator. `auth`: NAME:PASSWORD that it demands."""

    def __init__(self, folder: Path, coordinator: Coordinator, auth: str = "") -> None:
        folder.mkdir()
        self.folder, self.port = folder, free_port()
        self.ca = folder / "proxy" / "mitmproxy-ca-cert.pem"
        (folder / "alter.py").write_text(SCRIPT)
        self.become("")
        words: list[str | Path] = [
            MITMDUMP, "--listen-host", "127.0.0.1", "--listen-port", str(self.port), "--quiet",
            "--set", f"confdir={folder / 'proxy'}", "--set", f"ssl_verify_upstream_trusted_ca={coordinator.ca}",
            "--set", "connection_strategy=lazy", "--scripts", folder / "alter.py",
        ]  # fmt: skip
        if auth:
            words += ["--proxyauth", auth]
        self.process = Process(words, folder / "proxy.log", {"INTERCEPTOR": str(folder)})
        self.process.start()
        self.process.until(self._answers, "the proxy answers")

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0 and self.ca.exists()

    def variables(self, auth: str = "") -> dict[str, str]:
        """The environment of whoever is to use it and trusts it."""
        who = f"{auth}@" if auth else ""
        return {"HTTPS_PROXY": f"http://{who}127.0.0.1:{self.port}", "SSL_CERT_FILE": str(self.ca)}

    def become(self, how: str) -> None:
        """Alter messages in this way from now on; nothing when empty."""
        fresh = self.folder / "mode.new"
        fresh.write_text(how)
        fresh.replace(self.folder / "mode")

    def noted(self, name: str) -> list[str]:
        """What it has `seen`, or `altered`."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []
