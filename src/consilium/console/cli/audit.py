"""`consilium audit`: take a log home, and check it offline."""

import json
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click

from consilium.console.cli import output, participating
from consilium.console.cli.session import federation
from consilium.core.errors import AuditBroken, Conflict, EnvelopeInvalid, Invalid
from consilium.core.ids import Digest
from consilium.durable import naming
from consilium.governance import audit as chain
from consilium.wire.envelope import UNKNOWN_KEY, payload_of, unseal
from consilium.wire.identity import Identity, fingerprint
from consilium.wire.messages import Checkpoint

Existing = click.Path(exists=True, path_type=Path)
COORDINATOR = "coordinator"
"""Name of the coordinator's log."""


@dataclass(frozen=True)
class Log:
    """A log to be checked. `marks` are the owner's own signed heads; `kept` are those it keeps of others."""

    name: str
    key: str
    entries: tuple[bytes, ...]
    marks: tuple[bytes, ...]
    kept: tuple[bytes, ...]


@click.group()
def audit() -> None:
    """Export and check the audit logs of the coordinator and of a hospital."""


@audit.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@output.as_json
def export(file: Path, as_json: bool) -> None:
    """Write the coordinator's whole audit log, its signed head, and the checkpoints of hospitals, to the new FILE."""
    if os.path.lexists(file):
        raise _there(file)
    log = _fetched()
    with naming(file), _new(file) as out:
        out.write(json.dumps(log, indent=1, ensure_ascii=False).encode() + b"\n")
    fact = {"file": str(file), "entries": len(log["entries"]), "fingerprint": fingerprint(log["key"])}
    output.say(fact, as_json, f"Wrote {fact['entries']} entries to {file}.")


def _fetched() -> dict[str, Any]:
    """The coordinator's log, as it is exported."""
    here = federation()
    entries: list[str] = []
    while True:
        page = here.get("/v1/audit", after=len(entries))
        entries += page["entries"]
        if not page["entries"]:
            break
    kept = here.get("/v1/checkpoints")["checkpoints"]
    return {
        "log": COORDINATOR,
        "key": page["key"],
        "entries": entries,
        "checkpoints": [page["checkpoint"]] if page["checkpoint"] else [],
        "kept": [one["envelope"] for one in kept],
    }


def _new(file: Path) -> IO[bytes]:
    """A new file of this person's alone. Raises: Conflict: there is one.   OSError."""
    try:
        return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except FileExistsError as error:
        raise _there(file) from error


def _there(file: Path) -> Conflict:
    return Conflict(f"there is a file {file} already, and a log may be evidence", "name a new one")


@audit.command()
@click.option("--file", type=Existing, help="An exported log.")
@click.option("--home", type=Existing, help="Folder of a site agent or of a coordinator on SQLite.")
@click.option(
    "--against", type=Existing, multiple=True, help="Export or folder of the other end: its checkpoints of this log."
)
@click.option("--key", help="Public key that the log's owner must have; without it compare the fingerprint shown.")
@output.as_json
def verify(file: Path | None, home: Path | None, against: tuple[Path, ...], key: str | None, as_json: bool) -> None:
    """Check a log offline: no entry edited, removed or reordered, and none missing that the other end has seen.

    Entries that came after the newest signed head hang together, too; but whoever has the log could have written them
    anew, and the other end does not hold them yet: how many there are is said.

    Exit code 1: it was altered; the message names the first entry that does not fit.
    """
    if (file is None) == (home is None):
        raise click.UsageError("give either --file or --home")
    log = _home(home) if home is not None else _file(Path(file or ""))
    if key is not None and key != log.key:
        raise AuditBroken(f"the log is not signed by the key {key}", "ask its owner for the key, by another way")
    fact = _verified(log, [_read(path) for path in against])
    words = (
        f"The audit log of {log.name} is intact: {fact['entries']} entries, {fact['checkpoints']} of its signed heads "
        f"and {fact['checkpoints_of_the_other_end']} heads that the other end kept agree.\n"
    )
    if fact["beyond"]:
        words += f"{fact['beyond']} of the entries came after the newest signed head: the other end does not hold them "
        words += "yet, and that they were changed could not be seen.\n"
    words += f"Its key: {fact['fingerprint']}"
    output.say(fact, as_json, words)


@audit.command()
@click.option("--file", type=Existing, help="The coordinator's log, exported. Default: ask the coordinator for it.")
@click.option("--home", type=Existing, help="Folder of a coordinator on SQLite.")
@click.option("--study", "name", help="This study alone.")
@output.as_json
def participation(file: Path | None, home: Path | None, name: str | None, as_json: bool) -> None:
    """Tell who took part in what, from the coordinator's log: what each hospital decided on each study, when and by
    whom, and of each run in which rounds it was, and in which not, since when and why.

    The log is checked first, as `audit verify` does without `--against`; exit code 1: it was altered. What a hospital
    decided, and who signed it there, is the coordinator's word: the hospital's own log has it, too.
    """
    if file is not None and home is not None:
        raise click.UsageError("give --file or --home, not both")
    log = _parsed(_fetched()) if (path := file or home) is None else _read(path)
    if log.name != COORDINATOR:
        remedy = "export the coordinator's: `consilium audit export`"
        raise Invalid(f"this is the log of {log.name}, and who took part stands in the coordinator's", remedy)
    output.say(*participating.told(log.entries, _verified(log, []), name, as_json))


def checked(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """What comes of checking these logs, each against all the others; of one that was altered, what does not fit.

    Args:    paths: exports, and folders of sites or of a coordinator on SQLite.
    Raises:  Invalid: there is no log.
    """
    logs, facts = [_read(path) for path in paths], list[dict[str, Any]]()
    for log in logs:
        try:
            facts.append(_verified(log, [other for other in logs if other is not log]))
        except AuditBroken as error:
            facts.append({"log": log.name, "entries": len(log.entries), "intact": False, "problem": error.message})
    return facts


def _read(path: Path) -> Log:
    return _home(path) if path.is_dir() else _file(path)


def _verified(log: Log, others: Iterable[Log]) -> dict[str, Any]:
    """Check one log against its own signed heads and those that others kept. Raises: AuditBroken."""
    own, seen = list(_heads(log, log.marks)), list(_heads(log, [kept for other in others for kept in other.kept]))
    head = chain.verify(log.entries, seen, own)
    return {
        "log": log.name,
        "entries": head.seq,
        "head": head.digest,
        "checkpoints": len(own),
        "checkpoints_of_the_other_end": len(seen),
        "beyond": head.seq - max((mark.seq for mark in (*own, *seen)), default=0),
        "fingerprint": fingerprint(log.key),
        "intact": True,
    }


def _heads(log: Log, envelopes: Iterable[bytes]) -> Iterable[chain.Head]:
    """The heads of this log that its owner signed; those of other logs are passed over.

    Raises: AuditBroken: one is damaged, or of this log and signed by another key: who has a log can make a key anew.
    """
    for envelope in envelopes:
        try:
            mark = Checkpoint.decode(payload_of(envelope, Checkpoint.TYPE))
            if mark.log != log.name:
                continue
            unseal(envelope, Checkpoint.TYPE, [log.key])
        except EnvelopeInvalid as error:
            if error.message == UNKNOWN_KEY:
                raise AuditBroken(
                    f"the log comes with the key {fingerprint(log.key)}, but a head of the log of {log.name} that was "
                    f"kept, at entry {mark.seq}, is signed by another key",
                    "compare both fingerprints with the one that its owner reads out: the log was written anew under "
                    "a key of its own, or is of another federation",
                ) from error
            raise AuditBroken(f"a checkpoint of the log is damaged: {error.message}") from error
        yield chain.Head(mark.seq, Digest(mark.head))


def _file(path: Path) -> Log:
    try:
        return _parsed(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(f"{path} is not an exported audit log", "make one with `consilium audit export`") from error


def _parsed(found: Any) -> Log:
    return Log(
        str(found["log"]),
        str(found["key"]),
        tuple(str(entry).encode() for entry in found["entries"]),
        tuple(json.dumps(one).encode() for one in found["checkpoints"]),
        tuple(json.dumps(one).encode() for one in found["kept"]),
    )


def _home(home: Path) -> Log:
    """The log in the folder of a site agent, or of a coordinator on SQLite; read, never written."""
    if (home / "coordinator.sqlite").exists():
        own = "SELECT envelope FROM inbox WHERE instr(envelope, CAST('vnd.consilium.checkpoint' AS BLOB))"
        return _database(home, home / "coordinator.sqlite", COORDINATOR, "SELECT envelope FROM checkpoints", own)
    if (home / "journal.sqlite").exists():
        name = _named(home / "site.json")
        own = "SELECT envelope FROM outbox WHERE type = 'checkpoint'"
        return _database(home, home / "journal.sqlite", name, "SELECT envelope FROM marks", own)
    raise Invalid(f"{home} holds no audit log", "give the folder of a site, or of a coordinator on SQLite")


def _named(member: Path) -> str:
    """The name of a site, which has none before it joined. Raises: Invalid."""
    if not member.exists():
        return "site"
    try:
        return str(json.loads(member.read_bytes())["site"])
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(f"{member} is damaged", "restore it from your backup") from error


def _database(home: Path, path: Path, name: str, kept: str, own: str = "") -> Log:
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        try:
            entries, others, marks = (
                tuple(bytes(row[0]) for row in database.execute(query)) if query else ()
                for query in ("SELECT entry FROM audit ORDER BY seq", kept, own)
            )
        except sqlite3.DatabaseError as error:
            raise AuditBroken(f"{path} cannot be read: {error}", "restore it from your backup") from error
    return Log(name, Identity.load(home / "identity.key").public, entries, marks, others)
