"""What the doctor says of a proxy, and of what breaks a check: one finding more, and the other checks go on."""

import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consilium.site import doctor
from consilium.site.folder import Folder, Membership

NOW = datetime(2030, 1, 1, tzinfo=UTC)
Address = tuple[str, int]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A site that joined, looked at from a machine without a proxy."""
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    folder = Folder.create(tmp_path / "site")
    folder.keep_membership(Membership("north", "https://fl.example.org:8443", folder.identity().public))
    return folder


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Address]]:
    """Where the doctor knocked: everybody answers, and no line leaves this machine."""
    asked: list[Address] = []
    with closing(socket.socket()) as line:

        def dial(to: Address, limit_s: float) -> socket.socket:
            asked.append(to)
            return line

        monkeypatch.setattr(doctor.socket, "create_connection", dial)
        yield asked


def told(folder: Folder) -> list[tuple[str, str, str]]:
    """Of the proxy, and of what comes after it."""
    found = (doctor._proxy, doctor._policy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "CHECKS", found)
        findings = list(doctor.examine(folder, NOW))
    assert [one.check for one in findings] == ["proxy", "policy"], "the other checks go on"
    return [(one.level, one.words, one.remedy) for one in findings[:1]]


@pytest.mark.parametrize(
    "proxy", ["http://proxy.example:abc", "http://[::1", "proxy.example:3128", "socks5://proxy.example:1080", "http://"]
)
def test_a_mistyped_proxy_is_a_finding_with_its_remedy(
    folder: Folder, dialled: list[Address], monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    ((level, words, remedy),) = told(folder)
    assert (level, dialled) == ("problem", [])
    assert words == "HTTPS_PROXY is not the address of a proxy" and "http://[NAME:PASSWORD@]HOST:PORT" in remedy


@pytest.mark.parametrize(
    ("proxy", "to"),
    [
        ("https://proxy.example", ("proxy.example", 443)),
        ("http://proxy.example", ("proxy.example", 80)),
        ("http://nora:secret@proxy.example:3128", ("proxy.example", 3128)),
        ("http://[::1]:3128", ("::1", 3128)),
    ],
)
def test_the_doctor_knocks_where_the_agent_dials(
    folder: Folder, dialled: list[Address], monkeypatch: pytest.MonkeyPatch, proxy: str, to: Address
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    assert told(folder) == [("ok", f"{to[0]}:{to[1]} answers", "")]
    assert dialled == [to]


def test_a_check_that_breaks_on_what_it_reads_is_a_finding_without_what_it_read(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(url: str) -> str:
        raise ValueError("a password that stood in it")

    monkeypatch.setattr(doctor, "proxy_for", breaks)
    ((level, words, remedy),) = told(folder)
    assert level == "problem" and "ValueError" in words and "password" not in words and str(folder.home) in remedy
