"""The site's durable journal (SQLite): offers, decisions, tasks, states, answers, the outbox, and the audit log.

Several processes use it: the agent, and the commands of people. Everything that leaves is in the audit log, durable,
before the first byte is sent.
"""

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from consilium.core.errors import Invalid
from consilium.core.ids import digest
from consilium.durable import PRAGMAS
from consilium.governance import audit
from consilium.wire.messages import SMALL

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS studies (
    id INTEGER PRIMARY KEY, study TEXT NOT NULL, plan TEXT NOT NULL UNIQUE, payload BLOB, title TEXT NOT NULL,
    at TEXT NOT NULL, model INTEGER NOT NULL DEFAULT 0, code INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS mappings (plan TEXT PRIMARY KEY, path TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS decisions (
    id INTEGER PRIMARY KEY, study TEXT NOT NULL, plan TEXT NOT NULL, envelope BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS checks (
    id INTEGER PRIMARY KEY, study TEXT NOT NULL, plan TEXT NOT NULL, at TEXT NOT NULL, passed INTEGER NOT NULL,
    report TEXT NOT NULL, envelope BLOB);
CREATE TABLE IF NOT EXISTS tasks (
    seq INTEGER PRIMARY KEY, plan TEXT NOT NULL, run TEXT NOT NULL, round INTEGER NOT NULL, kind TEXT NOT NULL,
    payload BLOB NOT NULL, status TEXT NOT NULL, note TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS tasks_plan ON tasks (plan, run);
CREATE INDEX IF NOT EXISTS tasks_run ON tasks (run, seq, plan);
CREATE INDEX IF NOT EXISTS tasks_status ON tasks (status, seq, run);
CREATE TABLE IF NOT EXISTS states (
    run TEXT NOT NULL, round INTEGER NOT NULL, digest TEXT NOT NULL, path TEXT NOT NULL, PRIMARY KEY (run, round));
CREATE TABLE IF NOT EXISTS answers (
    run TEXT NOT NULL, round INTEGER NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL, digest TEXT NOT NULL,
    size INTEGER NOT NULL, path TEXT NOT NULL, recipe TEXT NOT NULL, PRIMARY KEY (run, round, kind, state));
CREATE TABLE IF NOT EXISTS memories (
    run TEXT NOT NULL, round INTEGER NOT NULL, digest TEXT NOT NULL, path TEXT NOT NULL,
    counted INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (run, round));
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY, type TEXT NOT NULL, envelope BLOB NOT NULL, digest TEXT, path TEXT,
    run TEXT, round INTEGER, status TEXT NOT NULL DEFAULT 'waiting', note TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS outbox_waiting ON outbox (status, id);
CREATE TABLE IF NOT EXISTS figures (
    run TEXT PRIMARY KEY, study TEXT NOT NULL, at TEXT NOT NULL, figures TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS declarations (
    run TEXT PRIMARY KEY, study TEXT NOT NULL, plan TEXT NOT NULL, round INTEGER NOT NULL, state TEXT NOT NULL,
    made TEXT NOT NULL, ended INTEGER NOT NULL DEFAULT 0, word TEXT NOT NULL DEFAULT '', envelope BLOB);
CREATE TABLE IF NOT EXISTS promised (plan TEXT PRIMARY KEY);
CREATE INDEX IF NOT EXISTS outbox_round ON outbox (run, round);
CREATE TABLE IF NOT EXISTS small (path TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS closings (
    run TEXT NOT NULL, round INTEGER NOT NULL, aggregate TEXT, state TEXT NOT NULL, PRIMARY KEY (run, round));
CREATE TABLE IF NOT EXISTS steps (
    run TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, phase TEXT NOT NULL, envelope BLOB NOT NULL,
    digest TEXT, size INTEGER, path TEXT, PRIMARY KEY (run, round, attempt, phase));
CREATE TABLE IF NOT EXISTS epochs (
    run TEXT NOT NULL, attempt INTEGER NOT NULL, secrets BLOB NOT NULL, roster TEXT NOT NULL DEFAULT '',
    capsules TEXT NOT NULL DEFAULT '', roots TEXT NOT NULL DEFAULT '', words TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (run, attempt));
CREATE TABLE IF NOT EXISTS pins (site TEXT PRIMARY KEY, identity TEXT NOT NULL, person TEXT NOT NULL, at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS chains (
    run TEXT NOT NULL, site TEXT NOT NULL, opening INTEGER NOT NULL, chain BLOB NOT NULL, PRIMARY KEY (run, site));
CREATE TABLE IF NOT EXISTS seats (
    run TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, coins BLOB NOT NULL, open BLOB NOT NULL,
    about TEXT NOT NULL, active TEXT NOT NULL DEFAULT '', survivors BLOB NOT NULL DEFAULT x'',
    opened INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (run, round, attempt));
CREATE TABLE IF NOT EXISTS coins (
    run TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, coins BLOB NOT NULL,
    PRIMARY KEY (run, round, attempt));
CREATE TABLE IF NOT EXISTS openings (
    id INTEGER PRIMARY KEY, source TEXT NOT NULL, model TEXT NOT NULL, objective TEXT NOT NULL, sites TEXT NOT NULL,
    study TEXT NOT NULL, run TEXT NOT NULL, round INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS openings_model ON openings (model);
CREATE INDEX IF NOT EXISTS openings_study ON openings (study);
CREATE TABLE IF NOT EXISTS opened_of (opening INTEGER PRIMARY KEY, population TEXT NOT NULL, patients TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS opened_as (opening INTEGER PRIMARY KEY, exactly TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS opened_without (
    opening INTEGER PRIMARY KEY, lacking TEXT NOT NULL, withheld TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS opened_parts (opening INTEGER PRIMARY KEY, parts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS shown (opening INTEGER NOT NULL, answer INTEGER NOT NULL, PRIMARY KEY (opening, answer));
CREATE TABLE IF NOT EXISTS ledger (seq INTEGER PRIMARY KEY, entry BLOB NOT NULL);
CREATE TRIGGER IF NOT EXISTS ledger_stays BEFORE UPDATE ON ledger
    BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END;
CREATE TRIGGER IF NOT EXISTS ledger_is_whole BEFORE DELETE ON ledger
    BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END;
CREATE TABLE IF NOT EXISTS audit (seq INTEGER PRIMARY KEY, entry BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS marks (
    id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, head TEXT NOT NULL, envelope BLOB NOT NULL,
    stands INTEGER NOT NULL DEFAULT 1, UNIQUE (seq, head));
CREATE TABLE IF NOT EXISTS alarms (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, why TEXT NOT NULL, text TEXT NOT NULL, number INTEGER NOT NULL,
    note TEXT NOT NULL DEFAULT '', settled TEXT);
"""

OPENED_FROM = (
    "CREATE TABLE IF NOT EXISTS opened_from (source TEXT NOT NULL, population TEXT NOT NULL, patients TEXT NOT NULL,"
    " PRIMARY KEY (source, population, patients))",
    "INSERT OR IGNORE INTO opened_from SELECT source, population, patients FROM openings"
    " JOIN opened_of ON opening = id",
    "CREATE TRIGGER IF NOT EXISTS opened_from_grows AFTER INSERT ON opened_of BEGIN"
    " INSERT OR IGNORE INTO opened_from SELECT source, NEW.population, NEW.patients FROM openings"
    " WHERE id = NEW.opening; END",
)
"""From which tables something was told, of whom: a list that is whole from the moment in which it grows by itself, also
where releases of before, which know nothing of it, told something and tell more."""
_GROWS = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name = 'opened_from_grows'"

OPEN = "('todo', 'waits')"
"""Statuses of a task that is still to be answered; `waits`: until a person has compared the words of a roster."""
REOPENED = "reopened"
"""Of a run that was over here (`ended`, then `removed`), and goes on at a coordinator that was restored."""
MADE = "('answer', 'step')"
"""Types of messages that hold what was made of patients' data, or lead to it: they need a standing approval."""
BEHIND = "ledger/behind"
"""Kept value: why the privacy ledger is known to be older than what left; empty once a person told what was spent."""
FORGOTTEN = "declarations/forgotten"
"""Kept value: this journal was restored, and no person has said yet of how many plans figures were promised since."""


def damaged(path: Path, error: Exception | None = None) -> Invalid:
    """The error for a journal that SQLite cannot use; `error` says whether it is the disk, or somebody who holds it."""
    text = str(error).lower()
    if "locked" in text:
        return Invalid(f"the journal {path} is in use", "try again; if it stays so, end the command that holds it")
    if "full" in text or "disk i/o" in text:
        return Invalid(f"there is no room for the journal {path}", "make room on its disk; nothing was changed")
    if "readonly" in text or "unable to open" in text:
        return Invalid(f"the journal {path} cannot be written", "give its folder to the user that runs this")
    return Invalid(f"the journal {path} is damaged or out of reach", "keep that file, and restore it from your backup")


def uncompared(journal: "Journal") -> list[str]:
    """Runs that wait for the words of their roster to be compared."""
    return [str(row["run"]) for row in journal.rows("SELECT DISTINCT run FROM tasks WHERE status = 'waits'")]


class Journal:
    """One connection, one writer at a time; `synchronous=FULL`: what is committed survives a power cut.

    Raises: Invalid: the file is damaged, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._lock, self._durable, self._tip = threading.RLock(), True, audit.Tip()
        self._erases = True  # an earlier process may have been killed before it did
        try:
            for pragma in (*PRAGMAS, "secure_delete=FAST"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.executescript(SCHEMA)
            if self.row(_GROWS) is None:
                with self.write() as tx:  # all of it, whoever else opens this at the same moment
                    for statement in OPENED_FROM:
                        tx.do(statement)
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise damaged(path, error) from error
        path.chmod(0o600)

    @contextmanager
    def write(self, *, durable: bool = True, erases: bool = False, later: bool = False) -> Iterator["Writing"]:
        """One transaction: all of it is kept, or nothing.

        Args:    durable: whether it survives a power cut. Else it does once a later durable one is committed, and is
                 lost with all that came after it, or not at all: for what can be had again, and of which nothing left.
                 erases: what it deletes or replaces is in no file any more: neither in the journal nor in its log.
                 later: `erase` is called soon, when nobody waits for it.
        """
        with self._lock:
            if durable is not self._durable:
                self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield Writing(self._db, self._tip)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # on a full disk SQLite has ended it: a second error would hide that
                    self._db.execute("ROLLBACK")
                raise
            self._erases = self._erases or erases
        if erases and not later:
            self.erase()

    def erase(self) -> None:
        """What was deleted or replaced by transactions that erase is in no file any more, once nobody reads it."""
        with self._lock:
            if self._erases:
                busy, *_ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                self._erases = bool(busy)

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """All rows of a query."""
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def row(self, query: str, *values: Any) -> sqlite3.Row | None:
        """The first row, or None."""
        with self._lock:
            found: sqlite3.Row | None = self._db.execute(query, values).fetchone()
        return found

    def meta(self, key: str, default: str = "") -> str:
        """A kept value."""
        row = self.row("SELECT value FROM meta WHERE key = ?", key)
        return str(row["value"]) if row else default

    def entries(self) -> list[bytes]:
        """The audit log, oldest first."""
        return [bytes(row["entry"]) for row in self.rows("SELECT entry FROM audit ORDER BY seq")]

    def restore(self, path: Path, wanted: str) -> bool:
        """Write a small file that was lost again, if its bytes are here and have the digest that is `wanted`."""
        row = self.row("SELECT data FROM small WHERE path = ?", str(path))
        if row is None or digest(row["data"]) != wanted:
            return False
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_bytes(row["data"])
        return True

    def sound(self) -> bool:
        """Whether SQLite finds the file whole."""
        try:
            row = self.row("PRAGMA quick_check")
        except sqlite3.DatabaseError:
            return False
        return row is not None and row[0] == "ok"

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._db.close()


class Writing:
    """An open transaction."""

    def __init__(self, db: sqlite3.Connection, tip: audit.Tip) -> None:
        self._db, self._tip = db, tip

    def put(self, statement: str, values: tuple[Any, ...]) -> sqlite3.Cursor:
        """Execute what writes."""
        return self._db.execute(statement, values)

    def do(self, statement: str, *values: Any) -> int:
        """Execute; the number of rows that changed."""
        return self.put(statement, values).rowcount

    def add(self, statement: str, *values: Any) -> int:
        """Insert one row; its number."""
        return int(self.put(statement, values).lastrowid or 0)

    def row(self, query: str, *values: Any) -> sqlite3.Row | None:
        """The first row, or None, as this transaction sees it."""
        found: sqlite3.Row | None = self._db.execute(query, values).fetchone()
        return found

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """All rows, as this transaction sees them."""
        return self._db.execute(query, values).fetchall()

    def meta(self, key: str, default: str = "") -> str:
        """A kept value, as this transaction sees it."""
        row = self.row("SELECT value FROM meta WHERE key = ?", key)
        return str(row["value"]) if row else default

    def keep(self, key: str, value: str) -> None:
        """Set a kept value."""
        self.do("INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value)

    def record(self, kind: str, body: Mapping[str, Any], now: datetime) -> None:
        """Append to the audit log."""
        last = self.row("SELECT entry FROM audit ORDER BY seq DESC LIMIT 1")
        entry = self._tip.append(None if last is None else bytes(last["entry"]), kind=kind, body=body, at=now)
        self.do("INSERT INTO audit VALUES (?, ?)", entry.seq, entry.data)

    def hold(self, path: Path) -> None:
        """Keep the bytes of a small file in this transaction; a larger one is durable already."""
        if path.stat().st_size <= SMALL:
            self.do("INSERT OR REPLACE INTO small VALUES (?, ?)", str(path), path.read_bytes())

    def head(self, until: int = 1 << 62) -> audit.Head:
        """Head of the audit log, or the one that it had at an earlier entry."""
        last = self.row("SELECT entry FROM audit WHERE seq <= ? ORDER BY seq DESC LIMIT 1", until)
        return audit.START if last is None else audit.head_of(bytes(last["entry"]))

    def send(
        self, kind: str, envelope: bytes, about: Mapping[str, Any], now: datetime, blob: Mapping[str, Any] | None = None
    ) -> int:
        """Put something into the outbox, whose number of it is returned, and into the audit log: one transaction.

        Args:    about: study, run, round; what is known of them, and the phase of a step.
                 blob: digest, size and path of bulk that goes first.
        """
        told = {key: about.get(key) for key in ("study", "run", "round")}
        told |= {"phase": about["phase"]} if "phase" in about else {}
        if blob is not None:
            body = {"what": "contribution", "digest": blob["digest"], "size": blob["size"], **told}
            self.record("send", body, now)
        self.record("send", {"what": kind, "digest": digest(envelope), "size": len(envelope), **told}, now)
        return self.add(
            "INSERT INTO outbox (type, envelope, digest, path, run, round) VALUES (?, ?, ?, ?, ?, ?)",
            kind, envelope, blob["digest"] if blob else None, blob["path"] if blob else None,
            about.get("run"), about.get("round"),
        )  # fmt: skip
