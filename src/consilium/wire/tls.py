"""A private CA and a server certificate, for coordinators that have none of a public or institutional CA."""

import ipaddress
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from consilium.core.errors import Invalid, NotFound
from consilium.durable import replace_file

CA_YEARS, SERVER_DAYS, SOON_DAYS = 10, 825, 30


def make_authority(folder: Path, hosts: list[str], now: datetime) -> None:
    """Write ca.pem, ca.key, server.pem and server.key for `hosts` (names and addresses) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Consilium private CA of {hosts[0]}"[:64])])
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key(), now, timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    alternatives = x509.SubjectAlternativeName([_alternative(host) for host in dict.fromkeys(hosts)])
    until = now + timedelta(days=SERVER_DAYS)
    server = _server(name, alternatives, key.public_key(), (ca_name, ca_key), now, until)
    _write(folder / "ca.pem", ca.public_bytes(Encoding.PEM))
    _write(folder / "server.pem", server.public_bytes(Encoding.PEM))
    for path, private in ((folder / "ca.key", ca_key), (folder / "server.key", key)):
        _write(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def renew(folder: Path, now: datetime) -> datetime:
    """Write server.pem anew for the same names and key, signed by the same CA; until when it is good.

    Who trusts the CA notices nothing. It is never good for longer than the CA.

    Raises: NotFound: there is no CA of ours.   Invalid: a file cannot be read, is of another, or the CA is over.
    """
    try:
        ca, old = (x509.load_pem_x509_certificate((folder / name).read_bytes()) for name in ("ca.pem", "server.pem"))
        ca_key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
        key = load_pem_private_key((folder / "server.key").read_bytes(), None)
        alternatives = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no {error.filename}", "restore it, or renew the certificate where it was made"
        ) from error
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise Invalid(f"a file in {folder} is not as it was made", "restore it from your backup") from error
    until = min(now + timedelta(days=SERVER_DAYS), ca.not_valid_after_utc)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey) or not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Invalid(f"a key in {folder} is not as it was made", "restore it from your backup")
    if not _issued(old, ca) or old.public_key() != key.public_key():
        raise Invalid(
            f"{folder / 'server.pem'} is not of {folder / 'server.key'}, or not signed by {folder / 'ca.pem'}",
            "it is left as it is: renew it where it was made, or restore the files from your backup",
        )
    if until <= now or ca_key.public_key() != ca.public_key():
        raise Invalid(f"{folder / 'ca.pem'} has ended, or is not of its key", "make a coordinator with a new one")
    signed = _server(old.subject, alternatives, key.public_key(), (ca.subject, ca_key), now, until)
    _write(folder / "server.pem", signed.public_bytes(Encoding.PEM))
    return until


def ending(path: Path, now: datetime) -> str:
    """What is to be said of a server's certificate that has ended or ends soon; empty where it is good for longer."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return ""  # it is told elsewhere, before anything is served with it
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    way = "renew it with `consilium coordinator certificate`, or where it is from, and start the coordinator again"
    if now < begins:
        return f"the certificate {path} begins on {begins:%Y-%m-%d}: check this machine's clock"
    if now >= ends:
        return f"the certificate {path} ended on {ends:%Y-%m-%d}, and nobody can connect: {way}"
    return f"the certificate {path} ends on {ends:%Y-%m-%d}: {way}" if ends - now < timedelta(days=SOON_DAYS) else ""


def _issued(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _server(
    name: x509.Name, alternatives: x509.SubjectAlternativeName, key: ec.EllipticCurvePublicKey,
    by: tuple[x509.Name, ec.EllipticCurvePrivateKey], now: datetime, until: datetime,
) -> x509.Certificate:  # fmt: skip
    return (
        _builder(name, by[0], key, now, until - now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(alternatives, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by[1].public_key()), critical=False)
        .sign(by[1], hashes.SHA256())
    )


def _builder(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lasts: timedelta
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + lasts)


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign, key_cert_sign=sign, crl_sign=sign, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(path: Path, data: bytes) -> None:
    replace_file(path, data, 0o600)
