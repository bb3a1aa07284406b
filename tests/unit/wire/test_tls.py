"""A renewed certificate is good under the same CA, for the same names and key, and never for longer than the CA."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from consilium.core.errors import Invalid, NotFound
from consilium.wire.connection import _remedy
from consilium.wire.tls import CA_YEARS, SERVER_DAYS, ending, make_authority, renew

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOSTS = ["fl.example.org", "localhost", "127.0.0.1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_authority(tmp_path, HOSTS, NOW)
    return tmp_path


def read(folder: Path, name: str = "server.pem") -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / name).read_bytes())


def test_a_renewed_certificate_is_the_old_one_with_another_end(folder: Path) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    old, later = read(folder), NOW + timedelta(days=800)
    assert renew(folder, later) == later + timedelta(days=SERVER_DAYS)
    new = read(folder)
    new.verify_directly_issued_by(read(folder, "ca.pem"))
    assert new.not_valid_after_utc - new.not_valid_before_utc == old.not_valid_after_utc - old.not_valid_before_utc
    assert (new.not_valid_after_utc, new.serial_number != old.serial_number) == (later + timedelta(SERVER_DAYS), True)
    assert (new.subject, new.issuer, new.public_key()) == (old.subject, old.issuer, old.public_key())
    assert {one.oid: one for one in new.extensions} == {one.oid: one for one in old.extensions}
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / "server.pem", folder / "server.key")
    assert {path.name for path in folder.iterdir() if path.read_bytes() != files[path.name]} == {"server.pem"}
    assert (folder / "server.pem").stat().st_mode & 0o777 == 0o600


def test_no_certificate_outlasts_its_ca(folder: Path) -> None:
    ends = NOW + timedelta(days=365 * CA_YEARS)
    assert renew(folder, ends - timedelta(days=3)) == ends
    with pytest.raises(Invalid, match="has ended"):
        renew(folder, ends)


@pytest.mark.parametrize("name", ["ca.pem", "ca.key", "server.pem", "server.key"])
def test_what_is_missing_or_broken_is_named_and_changes_nothing(folder: Path, name: str) -> None:
    before = (folder / "server.pem").read_bytes()
    (folder / name).write_bytes(b"no PEM")
    with pytest.raises(Invalid):
        renew(folder, NOW)
    (folder / name).unlink()
    with pytest.raises(NotFound, match=name.replace(".", r"\.")):
        renew(folder, NOW)
    assert name == "server.pem" or (folder / "server.pem").read_bytes() == before


def test_another_cas_key_signs_nothing(folder: Path, tmp_path: Path) -> None:
    make_authority(tmp_path / "other", HOSTS, NOW)
    (folder / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    with pytest.raises(Invalid, match="not of its key"):
        renew(folder, NOW)


@pytest.mark.parametrize("name", ["ca.pem", "ca.key", "server.pem", "server.key"])
def test_what_is_of_another_authority_is_no_reason_to_overwrite_it(folder: Path, tmp_path: Path, name: str) -> None:
    make_authority(tmp_path / "other", HOSTS, NOW)
    (folder / name).write_bytes((tmp_path / "other" / name).read_bytes())
    before = (folder / "server.pem").read_bytes()
    with pytest.raises(Invalid):
        renew(folder, NOW)
    assert (folder / "server.pem").read_bytes() == before


@pytest.mark.parametrize(
    ("day", "words"),
    [
        (-1, "begins on 2029-12-31: check this machine's clock"), (0, ""), (SERVER_DAYS - 31, ""),
        (SERVER_DAYS - 29, "ends on 2032-04-05: renew it"),
        (SERVER_DAYS, "ended on 2032-04-05, and nobody can connect"),
    ],
)  # fmt: skip
def test_a_certificate_that_serves_no_longer_or_not_for_long_is_told(folder: Path, day: int, words: str) -> None:
    said = ending(folder / "server.pem", NOW + timedelta(days=day))
    assert words in said and bool(said) is bool(words)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (-SERVER_DAYS - 1, "the coordinator's certificate has ended"), (0, None), (1, "check this machine's clock"),
        (None, "name its CA in SSL_CERT_FILE"),
    ],
)  # fmt: skip
def test_a_certificate_that_is_not_taken_for_its_dates_is_told_as_such(
    tmp_path: Path, made: int | None, words: str | None
) -> None:
    """As OpenSSL says it, in a handshake without a line; None: it is of another CA."""
    for name, day in (("here", made or 0), ("other", 0)):
        make_authority(tmp_path / name, HOSTS, datetime.now(UTC) + timedelta(days=day))
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(tmp_path / "here" / "server.pem", tmp_path / "here" / "server.key")
    client.load_verify_locations(tmp_path / ("other" if made is None else "here") / "ca.pem")
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(back, there, server_hostname=HOSTS[0]), server.wrap_bio(there, back, server_side=True)
    why = ""
    for end in (*ends, *ends):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError as error:
            why = _remedy(error)
            break
    assert words in why if words else not why
