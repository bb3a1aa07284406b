"""The address of a coordinator, as a person wrote it: read in one way, wherever it is written."""

from typing import NamedTuple
from urllib.parse import urlsplit

from consilium.core.errors import Invalid

HTTPS = 443


class Address(NamedTuple):
    """Where a coordinator listens."""

    host: str
    port: int


def address(url: str) -> Address:
    """Read the address of a coordinator.

    Raises: Invalid: not https (a password would travel in the clear), no host, or no port from 1 to 65535.

    >>> address("https://fl.example.org:8443/consilium")
    Address(host='fl.example.org', port=8443)
    >>> address("https://[::1]")
    Address(host='::1', port=443)
    """
    wrong, remedy = f"{url!r} is not the address of a coordinator", "write it as https://HOST:PORT"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", HTTPS if parts.port is None else parts.port
    except ValueError as error:
        raise Invalid(wrong, remedy) from error
    if parts.scheme != "https" or not host or any(letter.isspace() for letter in host) or port == 0:
        raise Invalid(wrong, remedy)
    return Address(host, port)
