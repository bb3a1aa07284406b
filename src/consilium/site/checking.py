"""The opened sum is computed anew here, from all masked vectors: what the coordinator says of it is not believed.

A coordinator that alters a sum, or makes one up, steers the common model, and with it what later updates show. What is
checked: (1) the survivors are those that this site opened for; where it did not open the sum, those who signed that
they masked for it (`vouched.py`)   (2) what opened the sum is what each of them committed to   (3) the sum of their
vectors, as each of them signed it, without the masks, is the file that the coordinator names, to the last bit.
"""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from sqlite3 import Row
from threading import Event
from typing import IO, cast

from pydantic import ValidationError

from consilium.core import state as chain
from consilium.core.errors import Invalid, Unavailable
from consilium.core.ids import Digest, SiteId, digest
from consilium.core.study import Plan
from consilium.privacy import opening, recipe
from consilium.privacy.opening import Opened
from consilium.privacy.pairing import Roster
from consilium.privacy.secagg import Masked, Open, Ready, survivors_hash
from consilium.site.folder import Folder
from consilium.site.journal import Journal
from consilium.site.pairing import roster_of, signers
from consilium.site.room import checked
from consilium.site.seats import layout_of
from consilium.site.steps import Place, Steps
from consilium.site.vouched import Signed, made_up, signed
from consilium.wire.connection import Connection
from consilium.wire.messages import Task
from consilium.wire.requests import Opening
from consilium.wire.transfer import download, file_digest

IN_MEMORY = 16 << 20
"""Bytes of one masked vector up to which sums are made in memory, and not in a file."""


@dataclass
class Checking:
    """Sums of rounds that this site opened."""

    folder: Folder
    journal: Journal
    connection: Connection
    steps: Steps
    stop: Event

    def check(
        self, task: Task, plan: Plan, number: int, before: Path, named: Digest, into: Path
    ) -> chain.Source | None:
        """The sums of round `number` of the task's run, computed anew: they are the ones that are `named`.

        None: they are larger than this site's policy says (`limits.check_mb`).

        Args:    before: the state at which the round trained.   into: the file of large sums, made of them.
        Raises:  Refused: they are other sums, or nobody's (`sum`).   NotFound: what they are made of is not there any
                 more.   Unavailable.
        """
        seat = self.journal.row(
            "SELECT * FROM seats WHERE run = ? AND round = ? AND opened ORDER BY attempt DESC LIMIT 1", task.run, number
        )
        if seat is None:
            told = self._fetched(task.run, number)
            at, state = (number, told.attempt), (before, file_digest(before))
            found = signed(self.steps, task, plan, at, state, self._rosters(task.run, proved=True))
        else:
            found = self._seen(task, seat)
            told = self._told(task.run, number, {blob.digest for _, blob in found.survivors.values()})
        asked, survivors = found.open, found.survivors
        layout = layout_of(plan, asked.kind, before, len(asked.cohort))
        limits = self.folder.policy().limits
        if not checked(layout.size, limits):  # by the plan, and not by what others sign of theirs
            return None
        opened = _opened(told)
        masked = {site: message for site, (message, _) in survivors.items()}
        try:
            opening.check(asked, found.active, masked, opened)
            these = [Digest(blob.digest) for _, (_, blob) in sorted(survivors.items())]
            vectors = [self._vector(task.run, number, one, told.data, layout.size) for one in these]
            read = [chain.read(vector) for vector in vectors]
            sound = all(layout.fits(one) for one in read)
            stamp = {"run": task.run, "round": str(number), "kind": asked.kind}
            made = partial(recipe.recover, layout, read, opened, stamp)
            named_here, sums = _written(made, into if layout.size > IN_MEMORY else None) if sound else (None, b"")
        except Invalid as error:
            raise made_up(number) from error
        for vector in vectors:
            if isinstance(vector, Path):
                vector.unlink(missing_ok=True)
        if named_here != named:
            raise made_up(number)
        return sums

    def _seen(self, task: Task, seat: Row) -> Signed:
        """What this site saw of a round that it opened. Raises: Refused (`sum`): other survivors are shown now."""
        asked = Open.model_validate_json(seat["open"])
        roster = next((one for one in self._rosters(task.run) if one.digest == asked.roster), None)
        if roster is None:
            raise made_up(asked.round)
        of = Place(asked.kind, asked.round, asked.attempt, "MASK")
        found = self.steps.messages(task, of, signers(roster), Masked)
        if survivors_hash(found) != bytes(seat["survivors"]):
            raise made_up(asked.round)
        heard = self.steps.heard(task, of, signers(roster))
        survivors = {site: (found[site], step.vector) for site, step in heard.items() if step.vector is not None}
        return Signed(asked, [Ready.model_validate(one) for one in json.loads(seat["active"])], survivors)

    def _rosters(self, run: str, *, proved: bool = False) -> list[Roster]:
        """Those that this site accepted, the newest first. `proved`: on which it has agreed: people compared them."""
        rows = self.journal.rows("SELECT * FROM epochs WHERE run = ? AND length(roster) ORDER BY attempt DESC", run)
        said = {row["attempt"] for row in rows if self.steps.said(run, Place("PAIR", 0, row["attempt"], "PROVE"))}
        return [roster_of(row) for row in rows if not proved or row["attempt"] in said]

    def _told(self, run: str, number: int, vectors: set[str]) -> Opening:
        beside = self.steps.opening  # with the task, where it is small; whether it is of this round, its vectors tell
        if beside is not None and {blob.digest for blob in beside.vectors.values()} == vectors:
            return beside
        return self._fetched(run, number)

    def _fetched(self, run: str, number: int) -> Opening:
        try:
            return Opening.model_validate_json(self.connection.read(f"/v1/runs/{run}/opening", {"round": number}))
        except ValidationError as error:
            raise Unavailable("what came is not what opened a sum", "check the proxy") from error

    def _vector(self, run: str, number: int, named: Digest, given: Mapping[str, bytes], size: int) -> bytes | Path:
        data = given.get(named)
        if data is None:
            path = self.folder.run(run) / f"vector-{number}-{named[-16:]}"
            download(self.connection, named, path, self.stop, durable=False, most=size)
            return path
        if digest(data) != named:
            raise made_up(number)
        return data


def _written(make: Callable[[IO[bytes]], tuple[Digest, int]], into: Path | None) -> tuple[Digest, chain.Source]:
    """The digest of sums, and their bytes, or their file."""
    if into is None:
        out = io.BytesIO()
        return make(cast(IO[bytes], out))[0], out.getvalue()
    with into.open("wb", buffering=1 << 20) as file:
        return make(file)[0], into


def _opened(told: Opening) -> Opened:
    pairs = {(SiteId(site), SiteId(lost)): key for site, of in told.pairs.items() for lost, key in of.items()}
    own = {SiteId(site): bytes.fromhex(key) for site, key in told.own.items()}
    return Opened(own, {pair: bytes.fromhex(key) for pair, key in pairs.items()})
