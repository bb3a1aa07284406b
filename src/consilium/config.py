"""Settings from the environment, and of a coordinator's file: two tables, documented and tested.

A command's option goes before its variable.
"""

import os
from dataclasses import dataclass
from pathlib import Path

SETTINGS: dict[str, str] = {
    "CONSILIUM_COORDINATOR_HOME": "folder of a coordinator: key, certificate, database, blobs",
    "CONSILIUM_SITE_HOME": "folder of a site agent: key, policy, journal",
    "CONSILIUM_HOME": "folder in which `consilium login` keeps a person's session",
    "CONSILIUM_DATABASE": "database of the coordinator: a PostgreSQL URL; default: SQLite in its folder",
    "CONSILIUM_URL": "coordinator that a person's commands talk to",
    "CONSILIUM_TOKEN": "access token of a person, instead of `consilium login`",
    "CONSILIUM_CA": "PEM file of the CA that signed the coordinator's certificate",
    "CONSILIUM_PASSWORD": "password for `consilium login` and `coordinator person`, instead of typing it",
    "HTTPS_PROXY": "proxy through which a site or a person reaches the coordinator",
    "NO_PROXY": "hosts that are reached without the proxy",
    "SSL_CERT_FILE": "PEM file of the institution's own CAs, such as that of an intercepting proxy",
}
"""Every environment variable that Consilium reads."""
COORDINATOR: dict[str, str] = {
    "url": "address that sites and people dial; its port is listened on unless `--port` names another",
    "database": "database: a URL of SQLite, whose path is from the folder on, or of PostgreSQL; the variable "
    "`CONSILIUM_DATABASE` goes before it",
    "blobs": "folder of blobs; this and the next are from the coordinator's folder on, or whole paths",
    "certificate": "PEM file of the server's certificate",
    "key": "PEM file of its private key",
    "ca": "PEM file of the private CA that signed it, which join tokens vouch for; null: a public or institutional one",
    "quota_gb": "most bytes of one sender that are kept, in GB; by default 100",
    "keep_minutes": "minutes for which a contribution stays after its round was summed; by default 60",
    "keep_rounds": "newest rounds of each run whose sums and states stay, two at least; by default 10",
}
"""Every setting in the file `coordinator.json` of a coordinator's folder; it is read when the coordinator starts."""


@dataclass(frozen=True)
class Homes:
    """Default folders."""

    @staticmethod
    def coordinator() -> Path:
        """Folder of the coordinator."""
        return Path(os.environ.get("CONSILIUM_COORDINATOR_HOME", "~/.consilium/coordinator")).expanduser()

    @staticmethod
    def site() -> Path:
        """Folder of the site agent."""
        return Path(os.environ.get("CONSILIUM_SITE_HOME", "~/.consilium/site")).expanduser()

    @staticmethod
    def person() -> Path:
        """Folder of a person's session."""
        return Path(os.environ.get("CONSILIUM_HOME", "~/.config/consilium")).expanduser()
