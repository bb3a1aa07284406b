"""The folder of a coordinator: what stands in its coordinator.json, and where its database, blobs and keys lie.

Paths in it are of the folder itself, unless a person put something elsewhere: so a copy, a backup that is looked into
and a folder that was moved never reach for what is another's.
"""

import json
import os
import ssl
from dataclasses import fields
from pathlib import Path
from typing import Any

from consilium.config import COORDINATOR
from consilium.coordinator.app import Settings
from consilium.coordinator.retention import MOST, Keeping
from consilium.core.errors import Conflict, Invalid, NotFound
from consilium.durable import present
from consilium.wire.address import address

FILE = "coordinator.json"
SQLITE = "sqlite:///"
DATABASE = f"{SQLITE}coordinator.sqlite"
"""Of a folder for which no other is named."""


def within(home: Path, path: Path) -> str:
    """A path as it is written down: from the folder on, where it lies in it."""
    whole = path.resolve()
    return str(whole.relative_to(home.resolve()) if whole.is_relative_to(home.resolve()) else whole)


def load(home: Path, host: str = "", port: int = 0, lease_s: float = 30.0) -> Settings:
    """Settings of the coordinator in `home`.

    Raises: NotFound.   Invalid: a person mistyped what stands in its file.   Conflict: it names what is of another
            coordinator's folder.
    """
    path = home / FILE
    if not path.exists():
        raise NotFound(
            f"{home} holds no coordinator",
            "make one with `consilium coordinator init`; if it was here, see whether its disk is mounted",
        )
    values = _values(path)
    places = {name: home / values[name] for name in ("blobs", "certificate", "key", "ca") if values.get(name)}
    database = os.environ.get("CONSILIUM_DATABASE") or whole(home, values["database"])
    for name, place in {**places, **({"database": file} if (file := sqlite(database)) else {})}.items():
        _own(home, name, place)
    return Settings(
        home=home,
        host=host or "0.0.0.0",  # noqa: S104  a server that sites reach
        port=port or address(values["url"]).port,
        url=values["url"],
        database=database,
        blobs=places["blobs"],
        certificate=places["certificate"],
        key=places["key"],
        ca=places.get("ca"),
        lease_s=lease_s,
        keeping=_keeping(values, path),
    )


def whole(home: Path, url: str) -> str:
    """The URL, of a file in the folder with its whole path."""
    return f"{SQLITE}{home.resolve() / url.removeprefix(SQLITE)}" if url.startswith(SQLITE) else url


def sqlite(url: str) -> Path | None:
    """The file of an SQLite database."""
    return Path(url.removeprefix(SQLITE).partition("?")[0]) if url.startswith(SQLITE) else None


def _own(home: Path, name: str, place: Path) -> None:
    """Raises: Conflict: this lies in the folder of another coordinator, of which this one is a copy."""
    mine, place = home.resolve(), place.resolve()
    of = next((one for one in (place, *place.parents) if (one / FILE).exists()), mine)
    if of != mine and not place.is_relative_to(mine):
        raise Conflict(
            f"{home / FILE} is that of a copy: its {name} lies in {of}, the folder of another coordinator",
            'to use the copy by itself, write paths of its own there, from the folder on, such as "blobs": "blobs" and '
            f'"database": "{DATABASE}"',
        )


def there(settings: Settings) -> None:
    """Raises: NotFound: the database on file is gone, and an empty one would be made in its place."""
    file = sqlite(settings.database)
    if file is not None and not present(file):
        raise NotFound(
            f"there is no database at {file}: accounts, studies, runs and the audit log stood in it",
            "see whether its disk is mounted; else restore it from your backup (docs/how-to/back-up-and-restore.md)",
        )


def _values(path: Path) -> dict[str, Any]:
    """What stands in coordinator.json; never in an error, for it may hold a password. Raises: Invalid."""
    remedy = "correct it, or write it anew as `consilium coordinator init` does in another --home"
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        where = f" in line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else ""
        raise Invalid(f"{path} is not JSON{where}", remedy) from error
    if not isinstance(values, dict):
        raise Invalid(f"{path} is not an object of JSON", remedy)
    texts = ("url", "database", "blobs", "certificate", "key")
    if unknown := sorted(values.keys() - COORDINATOR.keys()):
        raise Invalid(f"{path} holds {unknown[0]!r}, which is no setting", f"known are {', '.join(COORDINATOR)}")
    for name in texts:
        if not isinstance(values.get(name), str) or not values[name]:
            raise Invalid(f"{path} has no text for {name}", remedy)
    if not isinstance(values.get("ca"), str | None):
        raise Invalid(f"{path} has neither a text nor null for ca", remedy)
    return values


def served(settings: Settings) -> None:
    """Whether TLS can be served with the certificate and the key. Raises: NotFound, Invalid."""
    for what, path in (("certificate", settings.certificate), ("key of the certificate", settings.key)):
        if not path.is_file():
            raise NotFound(
                f"there is no {what} at {path}", f"put it there, or correct {settings.home}/coordinator.json"
            )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.certificate, settings.key, password="")
    except (OSError, ValueError) as error:
        what = f"{settings.certificate} and {settings.key} are no certificate and its key in PEM"
        raise Invalid(what, "both are of one pair, readable here, and the key without a password") from error


def _keeping(values: dict[str, Any], path: Path) -> Keeping:
    """What the administrator set of quota and retention. Raises: Invalid."""
    found = {one.name: values.get(one.name, one.default) for one in fields(Keeping)}
    for name, value in found.items():
        kinds = int if name == "keep_rounds" else int | float
        if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value <= MOST:
            what = "whole number" if kinds is int else "number"
            raise Invalid(f"{name} in {path} is {repr(value)[:60]}", f"write a {what} above 0, at most {MOST:.0f}")
    return Keeping(float(found["quota_gb"]), float(found["keep_minutes"]), int(found["keep_rounds"]))
