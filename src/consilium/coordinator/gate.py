"""Whose token a request carries: asked of the database, and then known for a second, for one site asks many times.

A change of anybody's access, here or by another process of this coordinator, rings `ACCESS` and is known at once; where
that ring is lost with a connection, after a second.
"""

from dataclasses import dataclass, field

from consilium.coordinator import accounts
from consilium.coordinator.accounts import ACCESS, Who
from consilium.coordinator.bell import Bell
from consilium.core.errors import Refused
from consilium.store.database import Database

KNOWN_S = 1.0
MOST = 10_000
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

    def __post_init__(self) -> None:
        """Forget what is known when access changes."""
        self.bell.on(ACCESS, self._known.clear)

    async def who(self, secret: str, now: float) -> Who:
        """Whose token this is. Raises: Unauthenticated."""
        known = self._known.get(secret)
        if known is not None and now < known[1]:
            return known[0]
        rings = self.bell.rings(ACCESS)
        found, expires = await self.database.run(lambda tx: accounts.who(tx, secret, now))
        if rings == self.bell.rings(ACCESS):  # else it may have changed while we looked
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[secret] = (found, min(expires, now + KNOWN_S))
        return found

    def may_try(self, name: str, now: float) -> None:
        """Whether a password for this name may be tried now. Raises: Refused: too many were wrong lately."""
        lately = [at for at in self._failed.get(name, ()) if now - at < PAUSE_S]
        if len(lately) >= WRONG:
            raise Refused("too many wrong passwords for this name", "wait a minute", reason="attempts")

    def failed(self, name: str, now: float) -> None:
        """A password was wrong."""
        if len(self._failed) >= MOST:
            self._failed.clear()
        self._failed[name] = [*self._failed.get(name, [])[1 - WRONG :], now]

    def heard_lately(self, site: str, at: float) -> bool:
        """Whether `site` was heard of less than a second before `at`."""
        return at - self._heard.get(site, 0.0) < KNOWN_S

    def news(self, site: str, at: float) -> bool:
        """Whether it is worth a write that `site` spoke at `at`: once a second."""
        worth = at - self._heard.get(site, 0.0) >= KNOWN_S
        if worth:
            self._heard[site] = at
        return worth
