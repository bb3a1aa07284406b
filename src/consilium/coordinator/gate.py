"""Whose token a request carries: asked of the database, and then known for a second, for one site asks many times.

A change of anybody's access, here or by another process of this coordinator, rings `ACCESS` and is known at once; where
that ring is lost with a connection, after a second.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from consilium.coordinator import accounts
from consilium.coordinator.accounts import ACCESS, Who
from consilium.coordinator.bell import Bell
from consilium.core.errors import Refused
from consilium.store.database import Database

KNOWN_S = 1.0
MOST = 10_000
AHEAD_S = 120.0
"""No request is heard of so much later than it came: what is, was written by a clock that has been set back since."""
QUEUE = 100
"""So many passwords may wait to be checked."""
WRONG, PAUSE_S = 10, 60.0
"""So many wrong passwords for one name within this time, in one process: then it waits."""


@dataclass
class Gate:
    """One per process."""

    database: Database
    bell: Bell
    _known: dict[str, tuple[Who, float]] = field(default_factory=dict)
    _failed: dict[str, list[float]] = field(default_factory=dict)
    _heard: dict[str, float] = field(default_factory=dict)
    _stretching: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "password"))
    _waiting: int = 0

    def __post_init__(self) -> None:
        """Forget what is known when access changes."""
        self.bell.on(ACCESS, self._known.clear)

    async def who(self, secret: str, now: float) -> Who:
        """Whose token this is. Raises: Unauthenticated."""
        known = self._known.get(secret)
        if known is not None and known[1] - KNOWN_S <= now < known[1]:  # the clock may have been set back
            return known[0]
        rings = self.bell.rings(ACCESS)
        found, expires = await self.database.run(lambda tx: accounts.who(tx, secret, now))
        if rings == self.bell.rings(ACCESS):  # else it may have changed while we looked
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[secret] = (found, min(expires, now + KNOWN_S))
        return found

    def may_try(self, name: str, now: float) -> None:
        """Whether a password for this name may be tried now; the try counts as wrong until `right` says otherwise, so
        that many at once are no more than many in a row. Raises: Refused: too many were wrong lately.
        """
        lately = [at for at in self._failed.get(name, ()) if abs(now - at) < PAUSE_S]
        if len(lately) >= WRONG:
            raise Refused("too many wrong passwords for this name", "wait a minute", reason="attempts")
        if len(self._failed) >= MOST:
            self._failed.clear()
        self._failed[name] = [*lately, now]

    async def right(self, name: str, password: str, kept: str, now: float) -> bool:
        """Whether the password of a try is right. It takes its time, in threads of its own: who guesses holds up nobody
        but who logs in.

        Raises: Refused: too many wait already.
        """
        if self._waiting >= QUEUE:
            raise Refused("too many log in at this moment", "try again soon", reason="attempts")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._stretching, accounts.fits, password, kept)
        finally:
            self._waiting -= 1
        if right and now in self._failed.get(name, ()):
            self._failed[name].remove(now)
        return right

    def heard_lately(self, site: str, at: float) -> bool:
        """Whether `site` was heard of less than a second before `at`, or since; not: by a clock that was ahead then."""
        return -AHEAD_S < at - self._heard.get(site, 0.0) < KNOWN_S

    def news(self, site: str, at: float) -> bool:
        """Whether it is worth a write that `site` spoke at `at`: once a second."""
        worth = not self.heard_lately(site, at)
        if worth:
            self._heard[site] = at
        return worth
