"""What every endpoint needs, made once per process."""

import asyncio
import base64
import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from consilium.coordinator import steps
from consilium.coordinator.bell import Bell
from consilium.coordinator.conduct import Conduct
from consilium.coordinator.gate import Gate
from consilium.coordinator.ingest import Ingest
from consilium.coordinator.news import Refusals
from consilium.coordinator.perform import Performer
from consilium.coordinator.retention import Keeping
from consilium.core import round as machine
from consilium.core.errors import NotFound
from consilium.core.ids import Digest, SiteId, canonical
from consilium.store.blobs import Directory
from consilium.store.database import Database, Transaction
from consilium.store.shelf import Shelf
from consilium.wire.identity import Identity

JOIN_PREFIX = "consilium-join:"
MEMBERS = 8
OPENINGS = 2
"""So many of the newest opened sums are kept at hand, with small vectors."""
HEARD = 8
"""Phases whose answers are kept at hand: all sites of a round ask for the same."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class Services:
    """Database, blobs (files alone; with the small ones, their shelf), bell, identity, and the PEM of
    the private CA if the coordinator made one. `uploads`: one object for each that is under way.
    """

    name: str
    database: Database
    blobs: Directory
    shelf: Shelf
    bell: Bell
    gate: Gate
    identity: Identity
    ingest: Ingest
    performer: Performer
    url: str
    ca: bytes | None
    keeping: Keeping = field(default_factory=Keeping)
    refusals: Refusals = field(default_factory=Refusals)
    uploads: set[object] = field(default_factory=set, repr=False)
    heard: dict[tuple[str, int, int, str], bytes] = field(default_factory=dict, repr=False)
    _openings: dict[tuple[str, int], bytes] = field(default_factory=dict, repr=False)
    _members: dict[Digest, bytes] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _making: dict[object, asyncio.Task[bytes]] = field(default_factory=dict, repr=False)

    def seconds(self) -> float:
        """Now, in seconds since the epoch."""
        return time.time()

    def now(self) -> datetime:
        """Now, with time zone."""
        return datetime.now(UTC)

    async def to_thread(self, act: Callable[[], Result]) -> Result:
        """Run `act`, which touches files, outside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(None, act)

    async def _once(self, what: object, make: Callable[[], Coroutine[Any, Any, bytes]]) -> bytes:
        """What all sites of a round ask for in the same moment is made for the first of them, and given to all."""
        making = self._making.get(what)
        if making is None:
            making = self._making[what] = asyncio.create_task(make())
            making.add_done_callback(lambda _: self._making.pop(what, None))
        return await asyncio.shield(making)  # whoever asks may go

    async def small(self, digest: Digest) -> bytes:
        """A small blob as a member of a JSON object: its digest, and its bytes in base64."""
        member = self._members.get(digest)
        if member is None:
            found: bytes | Path | None = self.shelf.lately(digest)
            if found is None:
                found = await self.database.run(lambda tx: self.shelf.read(tx, digest))
            data = found if isinstance(found, bytes) else found.read_bytes()
            if len(self._members) >= MEMBERS:
                self._members.clear()
            member = self._members[digest] = b'"%b":"%b"' % (digest.encode(), base64.b64encode(data))
        return member

    async def said(self, run: str, number: int, attempt: int, phase: str) -> bytes:
        """What was said in a phase that is over, as members of a JSON object: envelopes by site."""
        key = (run, number, attempt, phase)
        found = self.heard.get(key)
        return await self._once(key, lambda: self._said(key)) if found is None else found

    async def _said(self, key: tuple[str, int, int, str]) -> bytes:
        return self._kept(self.heard, HEARD, key, _members(await self.database.run(lambda tx: steps.said(tx, *key))))

    async def opening(self, run: str, number: int) -> bytes:
        """What opened the sum of a round, as JSON: every site of it asks. With the vectors, where they are small.

        Raises: NotFound: no sum of this round was opened.
        """
        key = (run, number)
        found = self._openings.get(key)
        return await self._once(key, lambda: self._opening(key)) if found is None else found

    async def _opening(self, key: tuple[str, int]) -> bytes:
        found = await self.database.run(lambda tx: steps.opening(tx, self.shelf, *key))
        return self._kept(self._openings, OPENINGS, key, found)

    def ahead(self, tx: Transaction, conduct: Conduct) -> None:
        """Have at hand, once this is committed, what goes with the tasks of a phase that opens with it: all sites of it
        ask at once.
        """
        round_, (number, attempt) = conduct.fold.round, conduct.fold.current
        if round_ is None or round_.phase is None or round_.answered(round_.phase):
            return
        before = steps.before(round_.phase)
        if before is not None:
            for of in {before, round_.phases[round_.at - 1]}:  # of CONFIRM it is known, too, that it was left out
                said = (conduct.run, number, attempt, of.value)
                tx.then(partial(self._kept, self.heard, HEARD, said, _members(steps.said(tx, *said))))
        elif round_.phase is machine.Phase.READY and number > 1:
            opened = (conduct.run, number - 1)
            with contextlib.suppress(NotFound):
                found = steps.opening(tx, self.shelf, *opened)
                tx.then(partial(self._kept, self._openings, OPENINGS, opened, found))

    def _kept(self, known: dict[Any, bytes], most: int, key: object, found: bytes) -> bytes:
        """Keep what was read, and the newest of the others; in whichever thread."""
        with self._lock:
            known.pop(key, None)
            while len(known) >= most:
                del known[next(iter(known))]
            known[key] = found
        return found

    def join_string(self, site: str, secret: str) -> str:
        """What a person gives to a site: where to dial, whom to trust, and a secret that serves once."""
        ca = hashlib.sha256(self.ca).hexdigest() if self.ca else ""
        told = {"url": self.url, "ca": ca, "key": self.identity.public, "site": site, "secret": secret}
        return JOIN_PREFIX + base64.urlsafe_b64encode(canonical(told)).decode()


def _members(told: dict[SiteId, bytes]) -> bytes:
    """Envelopes by site, as members of a JSON object."""
    return b",".join(b'"%b":%b' % (site.encode(), said) for site, said in told.items())
