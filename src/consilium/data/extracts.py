"""What was fetched from a hospital's server, kept in a folder that the hospital owns: files named by their content.

Of a folder, only what its index names is ever read, and only if its bytes are those that were written: whoever was
killed, or altered a file, makes a fetch anew, and never a shorter table.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

from consilium.core.errors import DataUnusable
from consilium.durable import replace_file

INDEX, LOCK, KEY, NEW, JOB = "extract.index", "extract.lock", "extract.key", "new", "job"
UNFILTERED = "extract.unfiltered"
"""Stands there while what is being fetched holds those who opted out, too."""


@dataclass(frozen=True)
class Index:
    """What stands in an extract: what it is `of` (a digest of what was asked), since when (`at`, ISO 8601), up to which
    moment at the server (`mark`), its files with their SHA-256, and how many who opted out are not in them; `linked`:
    whether one of these had several records.
    """

    of: str
    at: str
    mark: str
    files: dict[str, str]
    left_out: int = 0
    linked: bool = False


@dataclass(frozen=True)
class Extract:
    """One extract, held by one process at a time."""

    folder: Path

    @property
    def new(self) -> Path:
        """A folder for what is being fetched. It outlives the process: halves are fetched on."""
        path = self.folder / NEW
        path.mkdir(exist_ok=True, mode=0o700)
        return path

    def index(self, of: str) -> Index | None:
        """What is here of a request, if all of it is whole."""
        try:
            found = Index(**json.loads((self.folder / INDEX).read_bytes()))
            sound = found.of == of and all(_sha256(self.folder / name) == told for name, told in found.files.items())
        except (OSError, ValueError, TypeError, AttributeError):
            return None
        return found if sound else None

    def fresh(self, of: str, hours: float, now: datetime) -> bool:
        """Whether what is here is younger than so many hours."""
        found = self.index(of)
        if found is None:
            return False
        age_s = (now - datetime.fromisoformat(found.at)).total_seconds()
        return 0 <= age_s < hours * 3600

    def files(self, of: str) -> list[Path]:
        """The files of the index, by name."""
        found = self.index(of)
        return [] if found is None else [self.folder / name for name in sorted(found.files)]

    def forget_others(self, of: str) -> None:
        """Remove what was fetched for another request, such as before somebody opted out; halves stay."""
        with suppress(OSError, ValueError, TypeError, KeyError):  # an index that cannot be read is of nothing
            if json.loads((self.folder / INDEX).read_bytes())["of"] == of:
                return
        for path in self.folder.iterdir():
            if path.is_file() and path.name not in (LOCK, KEY):
                path.unlink(missing_ok=True)

    def put(
        self, of: str, made: list[Path], now: datetime, mark: str = "", left_out: int = 0, linked: bool = False
    ) -> None:
        """Take files in place of those that are here; their names begin with what they hold: `Patient.ndjson`."""
        named: dict[str, str] = {}
        for path in made:
            told = _sha256(path)
            stem, dot, rest = path.name.partition(".")
            name = f"{stem}-{told[:16]}{dot}{rest}"
            path.chmod(0o600)
            path.replace(self.folder / name)
            named[name] = told
        index = Index(of, now.isoformat(), mark, named, left_out, linked)
        replace_file(self.folder / INDEX, json.dumps(asdict(index)).encode(), 0o600)
        self.tidy(named)

    def unfiltered(self) -> None:
        """That what is being fetched from now on holds those who opted out, until it is put in place of what was."""
        (self.folder / UNFILTERED).touch(0o600)

    def spill(self) -> None:
        """Remove halves that hold those who opted out; the address of an export stays: the server has not ended it."""
        if not (self.folder / UNFILTERED).exists():
            return
        for path in self.new.iterdir():
            if path.name != JOB:
                path.unlink()
        (self.folder / UNFILTERED).unlink()

    def tidy(self, named: Mapping[str, str] | None = None) -> None:
        """Remove what the index does not name, and what was being fetched."""
        for path in self.folder.iterdir():
            if path.name == NEW:
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_file() and path.name not in (INDEX, LOCK, KEY, *(named or {})):
                path.unlink(missing_ok=True)


@contextmanager
def ended() -> Iterator[None]:
    """Within it SIGTERM ends a process as an exception does, so that nothing is left behind."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield  # whoever has set another handler, as the agent does, ends by it
        return

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def held(folder: Path | None, limit_s: float) -> Iterator[Extract]:
    """The extract in a folder; None: in one that is gone afterwards.

    Raises: DataUnusable: another process held it all the time.
    """
    if folder is None:
        with ended(), tempfile.TemporaryDirectory(prefix="consilium-") as made:
            yield Extract(Path(made))
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ends = time.monotonic() + limit_s
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() >= ends:
                raise DataUnusable(
                    "another process of this site has been fetching the same data all the time", "wait for it to end"
                )
            time.sleep(0.1)
        yield Extract(folder)
    finally:
        os.close(lock)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
